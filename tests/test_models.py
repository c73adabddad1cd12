"""The models learn, score, write and come back from disk; the n-gram baseline counts as its formula says."""

import doctest
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

import fastrnn
from fastrnn import checkpoint
from fastrnn.backend import BACKENDS, use_backend
from fastrnn.examples.ngram import NGram
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models import (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
)
from fastrnn.models import text as text_module
from fastrnn.models.sampling import Sampler


class TestNGram:
    def test_a_bigram_computed_by_hand(self):
        """In "abac": 4 characters of 3 types; after a, b and c once each; after b, a; after c, none."""
        unigram = {"a": (2 + 3 / 3) / 7, "b": (1 + 3 / 3) / 7, "c": (1 + 3 / 3) / 7}
        after_a = {"a": (0 + 2 * unigram["a"]) / 4, "b": (1 + 2 * unigram["b"]) / 4}
        after_b = {"a": (1 + unigram["a"]) / 2}
        model = NGram("abac", order=2)
        expected = -(math.log2(after_a["b"]) + math.log2(after_b["a"]) + math.log2(after_a["a"])) / 3
        assert model.bits_per_character("abaa") == pytest.approx(expected, rel=1e-12)
        assert model.bits_per_character("cb") == pytest.approx(-math.log2(unigram["b"]), rel=1e-12)

    @pytest.mark.parametrize("order", [1, 2, 3, 5])
    @pytest.mark.parametrize("context", ["", "a", "ab", "abcab", "zzz", "bz"])
    def test_probabilities_add_up_to_one(self, order, context):
        model = NGram("abcabcbbbacab", order, vocabulary="abcz")
        total = sum(model._probability(context + character, len(context)) for character in "abcz")
        assert total == pytest.approx(1, rel=1e-12)

    def test_a_character_never_counted_has_a_probability(self):
        assert NGram("abababab", vocabulary="abc").bits_per_character("abc") < math.inf

    def test_a_higher_order_sees_more_of_a_pattern(self):
        text = "abcd abdc " * 30
        low, high = (NGram(text, order).bits_per_character(text) for order in (2, 4))
        assert high < low - 0.1

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="order must be a positive integer, got 0"):
            NGram("abc", order=0)
        with pytest.raises(ValueError, match="text must have at least one character"):
            NGram("")
        with pytest.raises(ValueError, match=r"text must use the vocabulary's 2 characters, got 'c'"):
            NGram("abc", vocabulary="ab")
        with pytest.raises(ValueError, match=r"got 'x'"):
            NGram("abc").bits_per_character("ax")
        with pytest.raises(ValueError, match="text must have at least 2 characters, got 1"):
            NGram("abc").bits_per_character("a")


PATTERN = "the cat sat on the mat. "
TEXT = PATTERN * 20
TINY = {
    "hidden_size": 16,
    "dropout": 0.0,
    "epochs": 30,
    "batch_size": 4,
    "bptt_steps": 12,
    "learning_rate": 0.03,
    "seed": 0,
}
OPTIONS = (
    {},
    {"cell": "gru"},
    {"cell": "rnn"},
    {"num_layers": 2, "dropout": 0.1},
    {"dtype": "float64"},
    {"embedding_size": 4},
)


def entropy(text):
    """Bits per character of a model that knows the frequencies alone."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


@pytest.fixture(scope="module")
def fitted():
    """A model that has learned the pattern; tests only read it."""
    return TextGenerator(**TINY, validation_fraction=0).fit(TEXT)


@pytest.fixture
def quick():
    """A model that is fitted in no time."""
    return TextGenerator(**{**TINY, "epochs": 1, "hidden_size": 5})


class TestTextGenerator:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_learns_a_pattern(self, options):
        model = TextGenerator(**{**TINY, **options}, validation_fraction=0).fit(TEXT)
        first, last = model.history_[0], model.history_[-1]
        assert last["train_loss"] < first["train_loss"] / 2
        assert model.bits_per_character(TEXT) < 0.3 < entropy(TEXT) / 5

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_backends_agree(self, quick, options):
        pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
        bits = []
        for backend in BACKENDS:
            with fastrnn.use_backend(backend):
                bits.append(quick.set_params(epochs=2, **options).fit(TEXT).bits_per_character(TEXT))
        assert bits[0] == pytest.approx(bits[1], rel=1e-5)

    def test_writes_what_it_learned(self, fitted):
        assert fitted.generate("the cat sat", 13, temperature=0) == " on the mat. "
        assert fitted.generate("the cat", 48, temperature=0.2, seed=3) == (PATTERN * 3)[7:55]

    def test_same_seed_same_model_and_text(self, quick):
        models = [TextGenerator(**quick.get_params()).set_params(dropout=0.5).fit(TEXT) for _ in range(2)]
        assert models[0].bits_per_character(TEXT) == models[1].bits_per_character(TEXT)
        texts = [model.generate("the", 200, seed=5) for model in models]
        assert texts[0] == texts[1] == models[0].generate("the", 200, seed=5)
        assert texts[0] != models[0].generate("the", 200, seed=6)
        assert quick.set_params(seed=1).fit(TEXT).generate("the", 200, seed=5) != texts[0]

    def test_text_comes_as_a_stream_without_the_prompt(self, fitted):
        written = fitted.stream("the", 20, seed=1)
        assert next(written) + "".join(written) == fitted.generate("the", 20, seed=1)
        assert len(fitted.generate("t", 17)) == 17
        assert fitted.generate("the", 0) == ""

    def test_generation_carries_the_state_on(self, fitted):
        """Writing 10 characters, and 10 more after those, is writing 20."""
        text = fitted.generate("the", 20, temperature=0)
        assert fitted.generate("the" + text[:10], 10, temperature=0) == text[10:]

    def test_windows_with_carried_state_equal_one_long_sequence(self, fitted):
        tokens = fitted.vocabulary_.encode(TEXT[:101])[:, None]
        whole, state = fitted.network_(tokens, return_state=True)
        parts, carried = [], None
        for start in range(0, 101, 7):
            window = tokens[start : start + 7]
            logits, carried = fitted.network_(window, state=carried, return_state=True)
            parts.append(logits)
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-5)
        np.testing.assert_allclose(carried[0][0], state[0][0], rtol=0, atol=1e-5)

    def test_bits_per_character_is_the_mean_over_all_but_the_first(self, fitted, monkeypatch):
        text = TEXT[:50] + "mat hat the"
        logits = fitted.network_(fitted.vocabulary_.encode(text)[:, None])
        scores = logits[:-1, 0].astype(float)
        scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        bits = -scores[np.arange(len(text) - 1), fitted.vocabulary_.encode(text)[1:]].mean() / math.log(2)
        assert fitted.bits_per_character(text) == pytest.approx(bits, rel=1e-5)
        monkeypatch.setattr("fastrnn.models.text.SCORING_STEPS", 7)
        assert fitted.bits_per_character(text) == pytest.approx(bits, rel=1e-5)

    @pytest.mark.parametrize("embedding_size", [None, 3])
    def test_gradients_are_those_of_the_loss(self, quick, embedding_size):
        """Through dropout-free network and cross-entropy, against central differences in float64."""
        rng = np.random.default_rng(0)
        options = {"dtype": "float64", "num_layers": 2, "epochs": 0, "embedding_size": embedding_size}
        model = quick.set_params(**options).fit("abcde")
        network = model.network_
        tokens, targets = rng.integers(5, size=(2, 6, 3))

        def loss():
            return softmax_cross_entropy(network(tokens), targets)[0]

        batch = text_module.Window(tokens, targets, False)
        assert model._learner()(batch, None, training=True)[:2] == (pytest.approx(loss()), 18)
        assert network.gradients.keys() == network.parameters.keys()
        for name, parameter in network.parameters.items():
            direction = rng.standard_normal(parameter.shape)
            parameter += 1e-5 * direction
            above = loss()
            parameter -= 2e-5 * direction
            slope = (above - loss()) / 2e-5
            parameter += 1e-5 * direction
            assert slope == pytest.approx((network.gradients[name] * direction).sum(), rel=1e-6, abs=1e-8), (
                name
            )

    @pytest.mark.parametrize("embedding_size", [None, 3])
    def test_columns_that_tokens_select_learn_at_ten_times_the_rate(self, quick, embedding_size):
        """Adam's first step is the rate, whatever the gradient; a vector of an embedding has many weights."""
        quick.set_params(embedding_size=embedding_size, epochs=0, learning_rate=1e-3, schedule="constant")
        before = quick.fit(TEXT).network_.state_dict()
        quick.set_params(epochs=None, max_steps=1, validation_fraction=0)
        after = quick.fit(TEXT).network_.parameters
        steps = {name: np.abs(after[name] - before[name]).max() for name in before}
        fast = {} if embedding_size else {"recurrent.weight_ih_l0": 1e-2}
        assert steps == pytest.approx({**dict.fromkeys(before, 1e-3), **fast}, rel=1e-2)

    def test_parameters_are_stored_and_set_like_scikit_learns(self):
        model = TextGenerator(hidden_size=7)
        assert model.get_params()["hidden_size"] == 7
        assert TextGenerator(**model.get_params()).get_params() == model.get_params()
        assert model.set_params(cell="gru", epochs=3) is model
        assert repr(model) == "TextGenerator(cell='gru', hidden_size=7, epochs=3)"
        with pytest.raises(
            ValueError, match="TextGenerator has no parameter 'hiden_size'; it has cell, hidden_size"
        ):
            model.set_params(hiden_size=3)
        with pytest.raises(TypeError):
            TextGenerator("lstm")

    def test_without_validation_all_text_is_trained_on(self, quick):
        quick.set_params(validation_fraction=0, epochs=2).fit(TEXT)
        assert quick.best_epoch_ is None and quick.best_bits_per_character_ is None
        assert "validation_loss" not in quick.history_[0]

    def test_without_epochs_it_guesses(self, quick):
        bits = quick.set_params(epochs=0).fit(TEXT).bits_per_character(TEXT)
        assert quick.history_ == []
        assert abs(bits - math.log2(len(quick.vocabulary_))) < 0.5

    def test_the_vocabulary_can_be_larger_than_the_text(self, quick):
        quick.set_params(vocabulary="zyx" + TEXT).fit(TEXT)
        assert len(quick.vocabulary_) == len(set(TEXT)) + 3
        assert quick.bits_per_character("xyz") > 1

    @pytest.mark.parametrize("text", ["abcd", "abcdefgh", "ab" * 30])
    def test_short_texts_are_cut_into_fewer_streams(self, quick, text):
        assert 0 < quick.fit(text).bits_per_character(text) < 10

    def test_windows_of_all_streams_are_the_text(self):
        """Each token once, in its stream and in order, with the next one as its target."""
        tokens = np.arange(1, 104, dtype=np.uint8)
        data = text_module.Streams(tokens, batch_size=5, bptt_steps=8)
        windows = list(data.batches(np.random.default_rng(0)))
        x, y = (np.concatenate([getattr(window, part) for window in windows]) for part in "xy")
        assert x.shape == (20, 5) and data.samples == 100
        np.testing.assert_array_equal(x.T.ravel(), tokens[:100])
        np.testing.assert_array_equal(y, x + 1)
        assert [window.follows for window in windows] == [False, True, True]
        assert [len(window.x) for window in windows] == [8, 8, 4]
        assert all(np.shares_memory(window.y, tokens) for window in windows)

    @pytest.mark.parametrize("level", ["character", "word", "byte"])
    def test_a_text_takes_little_memory_besides_itself(self, level):
        text = PATTERN * 20_000  # 480,000 characters
        model = TextGenerator(level=level, hidden_size=4, max_steps=1, validation_fraction=0, seed=0)
        model.fit(text[:500])
        tracemalloc.start()
        model.fit(text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * len(text)

    def test_a_memory_mapped_text(self, quick, tmp_path):
        path = tmp_path / "text"
        path.write_text(TEXT)
        quick.set_params(level="byte", epochs=2)
        bits = [quick.fit(text).bits_per_character(TEXT) for text in (TEXT, np.memmap(path, np.uint8, "r"))]
        assert bits[0] == bits[1]

    def test_an_epoch_is_reported_with_a_model_that_works(self, quick, tmp_path):
        path, seen = tmp_path / "model.safetensors", []

        def on_epoch(model):
            model.save(path)
            seen.append((len(model.history_), model.best_epoch_, model.generate("the", 5, seed=1)))
            assert TextGenerator.load(path).generate("the", 5, seed=1) == seen[-1][2]

        quick.set_params(epochs=3).fit(TEXT, callbacks=on_epoch)
        assert [epoch for epoch, _, _ in seen] == [1, 2, 3]
        assert seen[-1][1] == quick.best_epoch_


class TestFailingFit:
    """Whatever goes wrong in `fit`, what the model had learned before is still there."""

    @pytest.fixture
    def text(self, quick):
        return quick.fit(TEXT).generate("the", 30, seed=0)

    def test_bad_text(self, quick, text):
        with pytest.raises(ValueError, match="text must have at least one character"):
            quick.fit("")
        assert quick.generate("the", 30, seed=0) == text

    def test_divergence(self, quick, text):
        quick.set_params(learning_rate=1e300, clip_norm=None, epochs=10, cell="rnn")
        with (
            np.errstate(all="ignore"),
            pytest.raises(FloatingPointError, match=r"became .* at step \d+"),
        ):
            quick.fit(TEXT)
        assert quick.generate("the", 30, seed=0) == text

    def test_an_interrupt_leaves_the_best_so_far(self, quick):
        best = []

        def interrupt(model):
            if model.best_epoch_ == len(model.history_):
                best[:] = [model.generate("the", 30, seed=0)]
            if len(model.history_) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            quick.set_params(epochs=10).fit(TEXT, callbacks=interrupt)
        assert len(quick.history_) == 3
        assert quick.generate("the", 30, seed=0) == best[0]


class TestSampling:
    LOGITS = np.log([0.1, 0.5, 0.15, 0.25])

    def shares(self, **options):
        draw = Sampler(**options, seed=0)
        chosen = [draw(self.LOGITS) for _ in range(4000)]
        return np.bincount(chosen, minlength=4) / 4000

    def test_temperature_raises_probabilities_to_a_power(self):
        np.testing.assert_allclose(self.shares(), [0.1, 0.5, 0.15, 0.25], atol=0.03)
        squares = np.exp(2 * self.LOGITS)
        np.testing.assert_allclose(self.shares(temperature=0.5), squares / squares.sum(), atol=0.03)

    @pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-6])
    def test_no_temperature_takes_the_likeliest(self, temperature):
        np.testing.assert_array_equal(self.shares(temperature=temperature), [0, 1, 0, 0])

    def test_top_k(self):
        np.testing.assert_allclose(self.shares(top_k=2), [0, 2 / 3, 0, 1 / 3], atol=0.03)
        np.testing.assert_array_equal(self.shares(top_k=1), [0, 1, 0, 0])
        np.testing.assert_allclose(self.shares(top_k=9), [0.1, 0.5, 0.15, 0.25], atol=0.03)

    def test_top_p_takes_the_fewest_that_reach_it(self):
        np.testing.assert_array_equal(self.shares(top_p=0.45), [0, 1, 0, 0])
        np.testing.assert_allclose(self.shares(top_p=0.7), [0, 2 / 3, 0, 1 / 3], atol=0.03)
        np.testing.assert_allclose(self.shares(top_p=1.0), [0.1, 0.5, 0.15, 0.25], atol=0.03)

    def test_top_p_counts_within_top_k(self):
        np.testing.assert_array_equal(self.shares(top_k=2, top_p=0.66), [0, 1, 0, 0])


class TestModelFile:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "model.safetensors"

    @pytest.mark.parametrize("options", [{}, {"cell": "gru", "num_layers": 2, "dtype": "float64"}], ids=str)
    def test_what_comes_back_is_bit_equal(self, quick, path, options):
        quick.set_params(**options).fit(TEXT).save(path)
        loaded = TextGenerator.load(path)
        assert loaded.get_params() == quick.get_params()
        assert loaded.history_ == quick.history_
        assert loaded.best_bits_per_character_ == quick.best_bits_per_character_
        assert loaded.vocabulary_ == quick.vocabulary_
        assert loaded.bits_per_character(TEXT) == quick.bits_per_character(TEXT)
        assert loaded.generate("the", 100, seed=1) == quick.generate("the", 100, seed=1)

    def test_parameters_of_numpy_types_can_be_saved(self, quick, path):
        quick.set_params(
            hidden_size=np.int64(4), learning_rate=np.float32(0.01), dtype=np.float32, seed=np.uint8(3)
        )
        quick.fit(TEXT).save(path)
        assert TextGenerator.load(path).get_params()["dtype"] == "float32"

    def test_parameters_set_after_fitting_are_not_the_files(self, quick, path):
        quick.fit(TEXT).set_params(hidden_size=99).save(path)
        assert TextGenerator.load(path).hidden_size == 5

    def test_any_character_can_be_in_the_vocabulary(self, quick, path):
        text = '\0\ud800\U0001f600é"\\\n\r' * 9
        quick.fit(text).save(path)
        assert TextGenerator.load(path).generate("é", 20, seed=1) == quick.generate("é", 20, seed=1)

    def test_a_file_of_something_else_is_refused(self, path):
        checkpoint.save(path, {"w": np.zeros(2)}, {"model": "SequenceTagger"})
        with pytest.raises(
            ValueError, match=r"model\.safetensors' holds no TextGenerator, but 'SequenceTagger'"
        ):
            TextGenerator.load(path)
        path.write_text("once upon a time")
        with pytest.raises(ValueError, match=r"model\.safetensors' is not a readable model file"):
            TextGenerator.load(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda tensors, metadata: tensors.pop("head.bias"),
            lambda tensors, metadata: tensors.update(extra=np.zeros(1)),
            lambda tensors, metadata: tensors.update({"head.bias": np.zeros((1, 1), "float32")}),
            lambda tensors, metadata: metadata.pop("vocabulary"),
            lambda tensors, metadata: metadata["parameters"].update(depth=3),
            lambda tensors, metadata: metadata["parameters"].update(hidden_size=-1),
            lambda tensors, metadata: metadata["parameters"].update(cell="elman"),
            lambda tensors, metadata: metadata.update(parameters=None),
        ],
    )
    def test_a_file_that_does_not_fit_together_is_refused(self, quick, path, change):
        quick.fit(TEXT).save(path)
        tensors, metadata = checkpoint.load(path)
        change(tensors, metadata)
        checkpoint.save(path, tensors, metadata)
        with pytest.raises(ValueError, match=r"model\.safetensors' holds an inconsistent TextGenerator"):
            TextGenerator.load(path)

    def test_an_unfitted_model_cannot_be_saved(self, quick, path):
        with pytest.raises(RuntimeError, match="this TextGenerator is not fitted yet"):
            quick.save(path)
        assert not path.exists()


class TestBadInput:
    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [
            ("cell", "elman", "one of 'lstm', 'gru', 'rnn'"),
            ("hidden_size", 0, "a positive integer"),
            ("hidden_size", 2.5, "a positive integer"),
            ("num_layers", None, "a positive integer"),
            ("dropout", 1.0, "a number from 0 to below 1"),
            ("epochs", -1, "a non-negative integer"),
            ("batch_size", True, "a positive integer"),
            ("bptt_steps", "12", "a positive integer"),
            ("learning_rate", float("nan"), "a positive finite number"),
            ("learning_rate", 0.0, "a positive finite number"),
            ("clip_norm", float("nan"), "a positive finite number"),
            ("validation_fraction", float("nan"), "a number from 0 to below 1"),
            ("patience", 0, "a positive integer"),
            ("max_seconds", -1.0, "a positive finite number"),
            ("vocabulary", b"abc", "a str"),
            ("dtype", "float16", '"float32" or "float64"'),
            ("seed", -1, "a non-negative integer"),
            ("seed", 1.5, "a non-negative integer"),
            ("verbose", 2, "True or False"),
        ],
    )
    def test_parameters(self, quick, option, value, expected):
        with pytest.raises((TypeError, ValueError), match=f"{option} must be {expected}, got"):
            quick.set_params(**{option: value}).fit(TEXT)

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "text must have at least one character"),
            ("abc", "text must have at least 4 characters to train and"),
            (b"abcdef", "text must be a str, got bytes: decode it first"),
            (None, "text must be a str"),
            (["a", "b"], "text must be a str, got list"),
        ],
    )
    def test_text_to_fit(self, quick, text, error):
        with pytest.raises((TypeError, ValueError), match=error):
            quick.fit(text)

    def test_text_outside_the_vocabulary(self, quick):
        with pytest.raises(
            ValueError, match=r"text must use the vocabulary's 3 characters, got 't' \(U\+0074\)"
        ):
            quick.set_params(vocabulary="abc").fit(TEXT)

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "text must have at least 2 characters, got 0"),
            ("t", "text must have at least 2 characters, got 1"),
            ("thé", r"got 'é' \(U\+00E9\)"),
            (3, "text must be a str"),
        ],
    )
    def test_text_to_score(self, fitted, text, error):
        with pytest.raises((TypeError, ValueError), match=error):
            fitted.bits_per_character(text)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"prompt": ""}, "prompt must have at least one character"),
            ({"prompt": "Hé"}, r"prompt must use .*, got 'H' \(U\+0048\), 'é' \(U\+00E9\)"),
            ({"prompt": b"the"}, "prompt must be a str, got bytes"),
            ({"n": -1}, "n must be a non-negative integer, got -1"),
            ({"temperature": float("nan")}, "temperature must be a non-negative finite number, got nan"),
            ({"temperature": -0.5}, "temperature must be a non-negative finite number, got -0.5"),
            ({"top_k": 0}, "top_k must be a positive integer, got 0"),
            ({"top_p": 0.0}, "top_p must be greater than 0, got 0.0"),
            ({"top_p": 1.5}, "top_p must be a number from 0 to 1, got 1.5"),
            ({"seed": -1}, "seed must be a non-negative integer, got -1"),
        ],
    )
    def test_generation(self, fitted, arguments, error):
        with pytest.raises((TypeError, ValueError), match=error):
            fitted.stream(**{"prompt": "the", "n": 3, **arguments})  # at the call, not at the first character

    def test_use_before_fit(self, quick):
        for use in (lambda: quick.generate("a", 1), lambda: quick.bits_per_character("ab")):
            with pytest.raises(RuntimeError, match="this TextGenerator is not fitted yet: call fit first"):
                use()


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(text_module)
    assert results.attempted and not results.failed


FORMS = [
    ("lstm", {"proj_size": 4}),
    ("lstm", {"peephole": True, "clip": 2.0, "gate_activation": "hard_sigmoid"}),
    ("lstm", {"layer_norm": True}),
    ("gru", {"reset_after": False}),
    ("rnn", {"nonlinearity": "hard_sigmoid_6"}),
]


@pytest.mark.parametrize(("cell", "options"), FORMS)
def test_every_model_takes_every_form_of_a_cell(cell, options, tmp_path):
    """Trained, used, and back from a file."""
    rng = np.random.default_rng(0)
    X, y = [rng.normal(size=(length, 3)) for length in (5, 7, 9, 6) * 5], list("abab") * 5
    given = {"cell": cell, "hidden_size": 8, "layer_options": options, "epochs": 1, "seed": 0}
    words, others = ["abc", "cba"] * 10, ["xyz", "zzx"] * 10
    series = np.sin(np.arange(100) / 3)
    with use_backend("reference"):
        text = TextGenerator(**given).fit("hello world " * 60)
        text.save(tmp_path / "text")
        assert TextGenerator.load(tmp_path / "text").generate("he", 5, seed=1) == text.generate(
            "he", 5, seed=1
        )
        SequenceClassifier(bidirectional=True, **given).fit(X, y).predict(X)
        SequenceRegressor(num_layers=2, **given).fit(X, np.arange(20.0)).predict(X)
        SequenceTagger(bidirectional=True, **given).fit(X, [[0] * len(x) for x in X]).predict(X)
        SequenceGenerator(**given).fit(["a", "b"] * 10, others).generate(["a"])
        for both in (False, True):
            model = SequenceToSequence(bidirectional=both, num_layers=2, **given).fit(words, others)
            assert len(model.predict(["abc"])) == 1
        assert len(Forecaster(horizon=3, context=10, **given).fit(series).predict()) == 3
