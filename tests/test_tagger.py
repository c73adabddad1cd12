"""The tagger: ragged labels, windows with the state carried on, and that gradients are those of the loss."""

import doctest

import numpy as np
import pytest

import fastrnn
from fastrnn.data import Examples, Sequences
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models import SequenceTagger, tagger
from fastrnn.models.networks import network_of
from fastrnn.training.learning import Supervised

TINY = {"hidden_size": 8, "epochs": 20, "learning_rate": 0.03, "seed": 0}


def signs(count=60, seed=0):
    """Ragged sequences, and for each step whether the sum so far is positive."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(size=(rng.integers(3, 15), 1)) for _ in range(count)]
    return X, [np.where(np.cumsum(x[:, 0]) > 0, "plus", "minus") for x in X]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": False},
        {"cell": "gru", "bidirectional": False, "bptt_steps": 4},
        {"dropout": 0.1},
    ],
    ids=str,
)
def test_learns(options):
    (X, y), (unseen, truth) = signs(), signs(seed=1)
    model = SequenceTagger(**{**TINY, **options}).fit(X, y)
    assert model.score(unseen, truth) > 0.9
    predicted, probabilities = model.predict(unseen), model.predict_proba(unseen)
    assert [len(found) for found in predicted] == [len(x) for x in unseen]
    for labels, shares in zip(predicted, probabilities, strict=True):
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_array_equal(model.classes_[shares.argmax(axis=1)], labels)
    right = sum((a == b).sum() for a, b in zip(predicted, truth, strict=True))
    assert model.score(unseen, truth) == right / sum(map(len, truth))


def test_two_directions_see_what_comes():
    """The label is the sign of the next step: one direction cannot know."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8, 1))
    y = np.roll(X[:, :, 0], -1, axis=1) > 0
    y[:, -1] = False
    both = SequenceTagger(**{**TINY, "epochs": 40}).fit(X, y).score(X, y)
    one = SequenceTagger(**{**TINY, "epochs": 40}, bidirectional=False).fit(X, y).score(X, y)
    assert both > 0.9 and one < 0.8


def test_padded_labels_are_cut_like_their_sequences():
    X, y = signs(6)
    padded, labels = np.full((6, 14, 1), np.nan), np.full((6, 14), "?????")
    for place, (x, known) in enumerate(zip(X, y, strict=True)):
        padded[place, : len(x)], labels[place, : len(x)] = x, known
    lengths = [len(x) for x in X]
    options = {**TINY, "epochs": 2, "validation_fraction": 0}
    by_list = SequenceTagger(**options).fit(X, y)
    by_array = SequenceTagger(**options).fit(padded, labels, lengths)
    assert by_array.classes_.tolist() == by_list.classes_.tolist() == ["minus", "plus"]
    for a, b in zip(by_list.predict_proba(X), by_array.predict_proba(padded, lengths), strict=True):
        np.testing.assert_array_equal(a, b)
    assert by_array.score(padded, labels, lengths) == by_list.score(X, y)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_are_those_of_the_loss(backend, bidirectional):
    rng = np.random.default_rng(0)
    layer = fastrnn.GRU(2, 3, 2, bidirectional=bidirectional, dtype="float64", seed=rng)
    network = network_of(layer, 4, dropout=0.0, rng=rng)
    learn = Supervised(network, softmax_cross_entropy, stateful=False)
    lengths = (3, 6, 1)
    x = Sequences([rng.normal(size=(length, 2)) for length in lengths], "float64")
    batch = Examples(x, Sequences([rng.integers(0, 4, length) for length in lengths]))
    loss, count, _ = learn(batch, None, training=True)
    assert count == 10 and loss == pytest.approx(learn(batch, None, training=False)[0], rel=1e-12)
    for name, parameter in network.parameters.items():
        direction = rng.standard_normal(parameter.shape)
        parameter += 1e-6 * direction
        above = learn(batch, None, training=False)[0]
        parameter -= 2e-6 * direction
        slope = (above - learn(batch, None, training=False)[0]) / 2e-6
        parameter += 1e-6 * direction
        assert slope == pytest.approx((network.gradients[name] * direction).sum(), rel=1e-5, abs=1e-8), name


def test_windows_carry_the_state_on(monkeypatch):
    """So that prediction by windows is that of the whole."""
    X, y = signs()
    model = SequenceTagger(**{**TINY, "epochs": 2}, bidirectional=False).fit(X, y)
    whole = model.predict_proba(X)
    monkeypatch.setattr(tagger, "WINDOW", 3)
    for a, b in zip(whole, model.predict_proba(X), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_loss_by_windows_is_that_of_the_whole():
    X, y = signs()
    whole, cut = (
        SequenceTagger(**{**TINY, "epochs": 0}, bidirectional=False, bptt_steps=steps).fit(X, y)
        for steps in (None, 4)
    )
    examples = whole._read(X, y, None, learn=False)
    assert whole._mean_loss(examples) == pytest.approx(cut._mean_loss(examples), rel=1e-6)


def test_of_a_single_sequence_the_end_is_held_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 200, 1))
    y = np.cumsum(x[:, :, 0], axis=1) > 0
    options = {**TINY, "epochs": 2, "bidirectional": False, "bptt_steps": 10}
    model = SequenceTagger(**options).fit(x, y)
    assert model.history_[-1]["samples"] == 2 * 180
    held_out = model._read(x[:, 180:], y[:, 180:], None, learn=False)
    assert model._mean_loss(held_out) == model.history_[model.best_epoch_ - 1]["validation_loss"]


@pytest.mark.parametrize(
    ("y", "error"),
    [
        (None, "SequenceTagger requires y to be passed"),
        ([[0, 1, 0]], "y must have labels for each of 2 sequences, got 1 members"),
        ([[0, 1, 0], [0, 1]], r"y\[1\] must have a label for each of 3 steps, shape \(3,\), got \(2,\)"),
        ([[0, 1, 0], 1], r"y\[1\] must have a label for each of 3 steps"),
        ([[0, 1, 0], [0.5, 1, 0]], r"continuous. y\[1\] must hold labels"),
    ],
)
def test_bad_labels_are_refused(y, error):
    with pytest.raises(ValueError, match=error):
        SequenceTagger().fit(np.zeros((2, 3)), y)


def test_labels_not_seen_in_fit_are_named():
    X, y = signs(10)
    model = SequenceTagger(**{**TINY, "epochs": 1}).fit(X, y)
    with pytest.raises(ValueError, match=r"labels seen in fit, \['minus', 'plus'\], got 'nought'"):
        model.partial_fit(X, [np.full(len(x), "nought") for x in X])
    with pytest.raises(ValueError, match="labels"):
        model.partial_fit(X, [np.full(len(x), 3) for x in X])


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(tagger)
    assert results.attempted and not results.failed
