"""Sequence to sequence: the network's gradients, the loss taken step by step, and what the model learns."""

import doctest
import itertools
import re

import numpy as np
import pytest

from fastrnn.data import Examples, Sequences
from fastrnn.metrics import error_rate
from fastrnn.models import SequenceToSequence, seq2seq
from fastrnn.models.decoding import BOUNDARY, log_softmax
from fastrnn.models.seq2seq import EncoderDecoder

WORDS = ["abc", "bd", "dacb", "a", "cab", "ddb", "bacd", "cb", "adab", "bbd"]
REVERSED = [word[::-1].upper() for word in WORDS]
TINY = {
    "hidden_size": 24,
    "epochs": 60,
    "batch_size": 5,
    "learning_rate": 0.02,
    "validation_fraction": 0,
    "seed": 0,
}
OPTIONS = (
    {},
    {"cell": "gru", "bidirectional": False},
    {"cell": "rnn", "num_layers": 2},
    {"num_layers": 2, "dtype": "float64"},
)


def network(cell="lstm", num_layers=1, bidirectional=True, dropout=0.0, dtype="float64"):
    """5 tokens in, 4 and the boundary out."""
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "dropout": dropout, "dtype": dtype}
    model = SequenceToSequence(cell=cell, hidden_size=6, **options)
    return EncoderDecoder(model, 5, 5, np.random.default_rng(0))


@pytest.fixture
def batch(rng):
    x = Sequences([rng.integers(0, 5, length) for length in (4, 1, 6)])
    return Examples(x, Sequences([rng.integers(1, 5, length) for length in (3, 5, 0)]))


@pytest.fixture(scope="module")
def fitted():
    """A model that has learned to reverse some words; tests only read it."""
    return SequenceToSequence(**TINY).fit(WORDS, REVERSED)


def log_probability(net, source, target):
    """Of a sequence, one token at a time."""
    memory, state = net.encode(source[:, None], np.array([len(source)]))
    total = 0.0
    for token, following in zip([BOUNDARY, *target], [*target, BOUNDARY], strict=True):
        hidden, state = net.decoder(np.array([[token]]), state)
        total += log_softmax(net.head(net.attention(hidden, memory)))[0, 0, following]
    return total


class TestNetwork:
    OPTIONS = (
        {},
        {"cell": "gru", "bidirectional": False, "num_layers": 2},
        {"cell": "rnn", "num_layers": 2},
    )

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_gradients_are_those_of_finite_differences(self, backend, rng, batch, options):
        net = network(**options)
        net.loss(batch, training=True)
        gradients = {name: array.copy() for name, array in net.gradients.items()}
        assert list(gradients) == list(net.parameters)
        for name, array in net.parameters.items():
            place = tuple(rng.integers(array.shape))
            losses, before = [], array[place]
            for change in (1e-6, -1e-6):
                array[place] = before + change
                losses.append(net.loss(batch, training=False)[0])
            array[place] = before
            difference = (losses[0] - losses[1]) / 2e-6
            assert gradients[name][place] == pytest.approx(difference, rel=1e-5, abs=1e-8), name

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_teacher_forcing_is_the_decoder_step_by_step(self, backend, batch, options):
        net = network(**options)
        loss, count, _ = net.loss(batch, training=False)
        total = sum(log_probability(net, x, y) for x, y in zip(batch.x.items, batch.y.items, strict=True))
        assert count == 3 + 5 + 0 + 3
        assert loss == pytest.approx(-total / count, rel=1e-12)
        assert net.loss(batch, training=True)[0] == pytest.approx(loss, rel=1e-12)

    def test_dropout_is_for_training_only(self, batch):
        net = network(dropout=0.5)
        first, second = (net.loss(batch, training=True)[0] for _ in range(2))
        assert first != second
        assert net.loss(batch, training=False)[0] == network().loss(batch, training=False)[0]

    def test_what_the_decoder_starts_from_and_its_gradient_are_transposed(self, rng):
        net = network(num_layers=2)
        state, dstart = rng.standard_normal((4, 3, 3)), rng.standard_normal((2, 3, 6))
        start = net._across(state)
        np.testing.assert_array_equal(start[1, 2], [*state[2, 2], *state[3, 2]])
        assert (start * dstart).sum() == pytest.approx((state * net._back(dstart)).sum())

    @pytest.mark.parametrize("beam_size", [1, 4])
    def test_inputs_are_decoded_as_they_would_be_alone(self, batch, beam_size):
        net = network()
        together = net.decode(*batch.x.padded(), beam_size, 5)
        for place, found in enumerate(together):
            alone = net.decode(*batch.x[[place]].padded(), beam_size, 5)[0]
            assert [tokens.tolist() for tokens in alone] == [tokens.tolist() for tokens in found]

    def test_a_wide_beam_is_a_search_through_everything(self, backend, batch):
        net = network()
        sequences = [p for length in range(3) for p in itertools.product(range(1, 5), repeat=length)]
        found = net.decode(*batch.x.padded(), 40, 2)
        for source, hypotheses in zip(batch.x.items, found, strict=True):
            means = [-log_probability(net, source, target) / (len(target) + 1) for target in sequences]
            expected = [sequences[place] for place in np.argsort(means)]
            assert [tuple(tokens) for tokens in hypotheses] == expected


class TestModel:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_learns_to_reverse(self, options):
        model = SequenceToSequence(**{**TINY, **options}).fit(WORDS, REVERSED)
        assert model.predict(WORDS) == REVERSED
        assert model.score(WORDS, REVERSED) == 1.0
        assert model.history_[-1]["train_loss"] < model.history_[0]["train_loss"] / 4

    def test_generalises(self, rng):
        words = sorted({"".join(rng.choice(list("abc"), rng.integers(2, 6))) for _ in range(400)})
        order = rng.permutation(len(words))
        seen, unseen = ([words[place] for place in part] for part in (order[40:], order[:40]))
        model = SequenceToSequence(hidden_size=32, epochs=25, batch_size=16, learning_rate=0.02, seed=0)
        model.fit(seen, [word[::-1] for word in seen])
        assert model.score(unseen, [word[::-1] for word in unseen]) > 0.8
        assert model.best_epoch_ is not None
        assert error_rate(unseen, [w[::-1] for w in model.predict(unseen, beam_size=4)]) < 0.1

    def test_outputs_are_what_they_were_in_fit(self, fitted):
        assert (fitted.input_symbols_, fitted.symbols_, fitted.longest_) == (list("abcd"), list("ABCD"), 4)
        assert all(type(word) is str for word in fitted.predict(WORDS))
        lists = [[word, 7] for word in WORDS]
        model = SequenceToSequence(**{**TINY, "epochs": 1}).fit(lists, [np.array([3, 1])] * len(WORDS))
        assert all(type(symbol) is int for found in model.predict(lists) for symbol in found)

    def test_predictions_do_not_depend_on_the_batch(self, fitted):
        for beam_size in (1, 3):
            together = fitted.predict(WORDS, beam_size=beam_size)
            assert together == [fitted.predict([word], beam_size=beam_size)[0] for word in WORDS]

    def test_max_length(self, fitted):
        assert fitted.predict(["dacb"], max_length=2) == ["BC"]
        assert max(map(len, fitted.predict(["abcdabcd"], max_length=30))) <= 30

    def test_a_file_brings_it_back(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        loaded = SequenceToSequence.load(tmp_path / "model")
        assert loaded.get_params() == fitted.get_params()
        assert (loaded.symbols_, loaded.history_) == (fitted.symbols_, fitted.history_)
        assert loaded.predict(WORDS, beam_size=3) == fitted.predict(WORDS, beam_size=3)
        again = SequenceToSequence(**{**TINY, "epochs": 1}).fit([[3, "x"], [4]], [["y", 5], []])
        again.save(tmp_path / "other")
        assert SequenceToSequence.load(tmp_path / "other").symbols_ == [5, "y"]

    def test_a_seed_gives_the_same_model(self):
        options = {**TINY, "epochs": 3, "dropout": 0.2, "validation_fraction": 0.2}
        first, again, other = (
            SequenceToSequence(**{**options, "seed": seed}).fit(WORDS, REVERSED) for seed in (1, 1, 2)
        )
        losses = [[record["train_loss"] for record in model.history_] for model in (first, again, other)]
        assert losses[0] == losses[1] != losses[2]

    def test_training_goes_on_from_a_checkpoint(self, tmp_path):
        options = {**TINY, "epochs": 4, "dropout": 0.2, "validation_fraction": 0.2, "schedule": "constant"}
        whole = SequenceToSequence(**options).fit(WORDS, REVERSED)
        path = tmp_path / "checkpoint"
        SequenceToSequence(**{**options, "epochs": 2}).fit(WORDS, REVERSED, checkpoint=path)
        resumed = SequenceToSequence(**options).fit(WORDS, REVERSED, resume=path)
        assert [r["train_loss"] for r in resumed.history_] == [r["train_loss"] for r in whole.history_]

    def test_partial_fit_goes_on(self):
        model = SequenceToSequence(**TINY)
        for _ in range(40):
            model.partial_fit(WORDS, REVERSED)
        assert model.score(WORDS, REVERSED) > 0.8

    def test_losses_are_per_symbol(self):
        model = SequenceToSequence(**{**TINY, "epochs": 1}).fit(
            WORDS, REVERSED, validation_data=(WORDS, REVERSED)
        )
        record = model.history_[0]
        assert record["samples"] == sum(map(len, REVERSED)) + len(REVERSED)
        items = zip(WORDS, REVERSED, strict=True)
        total = sum(log_probability(model.network_, *(a[0] for a in pair(model, *item))) for item in items)
        assert record["validation_loss"] == pytest.approx(-total / record["samples"], rel=1e-5)


def pair(model, word, output):
    examples = model._read([word], [output], None, learn=False)
    return examples.x.items, examples.y.items


REFUSED = [
    ({}, ("abc", REVERSED), "X must be a list of sequences of symbols"),
    ({}, (["abc", ""], ["a", "b"]), r"X\[1\] must have at least 1 symbol"),
    ({}, (WORDS, None), "y must be a list of sequences of symbols.*got None"),
    ({}, (WORDS, REVERSED[1:]), "y must have as many sequences as X, 10, got 9"),
    ({}, (["a", "b"], ["", ""]), "y must have at least one symbol, got empty sequences only"),
    ({}, (WORDS, REVERSED, [3] * 10), "lengths must be None"),
    ({"hidden_size": 7}, (WORDS, REVERSED), "hidden_size must be even if bidirectional.*got 7"),
    (
        {"layer_options": {"proj_size": 3}},
        (WORDS, REVERSED),
        "proj_size must be even if bidirectional.*got 3",
    ),
    ({"bptt_steps": 5}, (WORDS, REVERSED), "bptt_steps must be None"),
    ({"bidirectional": 1}, (WORDS, REVERSED), "bidirectional must be True or False, got 1"),
]


@pytest.mark.parametrize("options, arguments, message", REFUSED, ids=lambda value: None)
def test_refuses_what_it_cannot_learn_from(options, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SequenceToSequence(**{**TINY, **options}).fit(*arguments)


def test_refuses_what_it_cannot_predict(fitted):
    with pytest.raises(ValueError, match=re.escape("X[1] must use the 4 symbols")):
        fitted.predict(["ab", "xyz"])
    with pytest.raises(ValueError, match="beam_size must be a positive integer, got 0"):
        fitted.predict(["ab"], beam_size=0)
    with pytest.raises(ValueError, match="y must have as many sequences as X, 1, got 2"):
        fitted.score(["ab"], ["ab", "c"])
    with pytest.raises(RuntimeError, match="not fitted yet"):
        SequenceToSequence().predict(["ab"])


def test_examples():
    assert doctest.testmod(seq2seq).failed == 0
