"""One to many: the network's gradients, the loss taken step by step, what is drawn, and what is refused."""

import doctest
import math
from collections import Counter

import numpy as np
import pytest

from fastrnn.data import Examples, Sequences
from fastrnn.models import SequenceGenerator, generator
from fastrnn.models.decoding import BOUNDARY, log_softmax
from fastrnn.models.generator import ConditionedDecoder

TINY = {
    "hidden_size": 16,
    "epochs": 60,
    "batch_size": 8,
    "learning_rate": 0.03,
    "validation_fraction": 0,
    "seed": 0,
}
CLASSES = ["up", "down", "flat"] * 8
RUNS = ["abcd", "dcba", "bb"] * 8


def network(cell="lstm", num_layers=1, dropout=0.0):
    """3 features, 4 symbols and the boundary."""
    model = SequenceGenerator(
        cell=cell, hidden_size=6, num_layers=num_layers, dropout=dropout, dtype="float64"
    )
    return ConditionedDecoder(model, 3, 5, np.random.default_rng(0))


@pytest.fixture
def batch(rng):
    vectors = Sequences(list(rng.standard_normal((3, 1, 3))), "float64")
    return Examples(vectors, Sequences([rng.integers(1, 5, length) for length in (3, 5, 0)]))


@pytest.fixture(scope="module")
def fitted():
    return SequenceGenerator(**TINY).fit(CLASSES, RUNS)


def log_probability(net, vector, target):
    """Of a sequence, one token at a time."""
    state, total = net.start(vector), 0.0
    for token, following in zip([BOUNDARY, *target], [*target, BOUNDARY], strict=True):
        logits, state = net.step(np.array([token]), state)
        total += log_softmax(logits)[0, following]
    return total


@pytest.mark.parametrize("options", [{}, {"cell": "gru", "num_layers": 2}, {"num_layers": 2}], ids=str)
def test_gradients_and_loss_of_the_network(backend, rng, batch, options):
    net = network(**options)
    loss, count, _ = net.loss(batch, training=True)
    total = sum(log_probability(net, x, y) for x, y in zip(batch.x.items, batch.y.items, strict=True))
    assert count == 11 and loss == pytest.approx(-total / count, rel=1e-12)
    assert list(net.gradients) == list(net.parameters)
    for name, array in net.parameters.items():
        place = tuple(rng.integers(array.shape))
        losses, before = [], array[place]
        for change in (1e-6, -1e-6):
            array[place] = before + change
            losses.append(net.loss(batch, training=False)[0])
        array[place] = before
        difference = (losses[0] - losses[1]) / 2e-6
        assert net.gradients[name][place] == pytest.approx(difference, rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("options", [{}, {"cell": "gru"}, {"cell": "rnn", "num_layers": 2}], ids=str)
def test_learns_what_goes_with_a_class(options):
    model = SequenceGenerator(**{**TINY, **options}).fit(CLASSES, RUNS)
    assert model.predict(["flat", "up", "down"]) == ["bb", "abcd", "dcba"]
    assert model.generate(["down", "flat"], 2, temperature=0) == [["dcba"] * 2, ["bb"] * 2]
    assert model.bits_per_symbol(CLASSES, RUNS) < 0.05


def test_learns_what_goes_with_a_vector(rng):
    X = rng.uniform(-1000, 1000, (200, 2)) + [5000, 0]
    y = [["left" if a < 5000 else "right", 1 if b > 0 else 2] for a, b in X]
    model = SequenceGenerator(**{**TINY, "epochs": 20}).fit(X, y)
    assert model.n_features_in_ == 2 and model.classes_ is None
    assert sum(a == b for a, b in zip(model.predict(X), y, strict=True)) > 190


def test_the_scale_of_vectors_follows_chunks_without_a_change_of_predictions(rng):
    X, y = rng.normal(size=(40, 3)), ["ab", "b"] * 20
    X[:, 2] = 7  # says nothing in the first chunk
    model = SequenceGenerator(**TINY, dtype="float64").partial_fit(X, y)
    away = X + [0, 0, 1e6]
    assert model.score(away, y) == model.score(X, y)
    before = model.score(X, y)
    model._learn_scale(model._read(1000 + 50 * rng.normal(size=(60, 3)), ["a"] * 60, None, learn=False))
    assert model.score(X, y) == pytest.approx(before, rel=1e-9)
    np.testing.assert_array_less(100, model.scaling_.deviation)


def test_the_scale_of_vectors_is_that_of_what_is_trained_on(rng):
    X, y = rng.normal(size=(20, 2)), ["ab"] * 20
    model = SequenceGenerator(**{**TINY, "epochs": 1}).fit(X, y, validation_data=(1e6 + X, y))
    np.testing.assert_allclose(model.scaling_.mean, X.mean(axis=0))
    split = SequenceGenerator(**{**TINY, "epochs": 1, "validation_fraction": 0.5}).fit(X, y)
    assert split.scaling_.count == 10


def test_classes_may_be_integers(fitted):
    model = SequenceGenerator(**{**TINY, "epochs": 2}).fit(np.array([3, 7, 9] * 8), RUNS)
    assert model.classes_.tolist() == [3, 7, 9] and model.n_features_in_ == 3
    assert fitted.classes_.tolist() == ["down", "flat", "up"]


def test_what_is_drawn_has_the_frequencies_of_the_data():
    y = ["aa"] * 60 + ["ab"] * 30 + ["b"] * 10
    model = SequenceGenerator(**{**TINY, "epochs": 60, "batch_size": 20}).fit(["x"] * 100, y)
    shares = Counter(model.generate(["x"], 4000, seed=0)[0])
    for word, share in {"aa": 0.6, "ab": 0.3, "b": 0.1}.items():
        assert shares[word] / 4000 == pytest.approx(share, abs=0.04)
        assert model.score(["x"], [word]) == pytest.approx(math.log(share), abs=0.15)
    entropy = -sum(share * math.log2(share) for share in (0.6, 0.3, 0.1))
    assert model.bits_per_symbol(["x"] * 100, y) * 2.9 == pytest.approx(entropy, abs=0.05)


def test_drawing(fitted):
    first = fitted.generate(["up", "flat"], 3, seed=1, temperature=3.0)
    assert [len(found) for found in first] == [3, 3]
    assert first == fitted.generate(["up", "flat"], 3, seed=1, temperature=3.0)
    assert first != fitted.generate(["up", "flat"], 3, seed=2, temperature=3.0)
    assert max(map(len, fitted.generate(["up"], 50, temperature=50.0, max_length=6, seed=0)[0])) == 6
    assert fitted.generate(["up"], top_k=1) == [["abcd"]] == fitted.generate(["up"], top_p=0.01)


@pytest.mark.parametrize(
    "X", [CLASSES, np.arange(24) % 3, np.eye(3)[np.arange(24) % 3]], ids=["str", "int", "float"]
)
def test_a_file_brings_it_back(X, tmp_path):
    model = SequenceGenerator(**{**TINY, "epochs": 3}).fit(X, RUNS)
    model.save(tmp_path / "model")
    loaded = SequenceGenerator.load(tmp_path / "model")
    assert (loaded.n_features_in_, loaded.history_) == (3, model.history_)
    np.testing.assert_array_equal(loaded.classes_, model.classes_)
    assert loaded.generate(X, 2, seed=0) == model.generate(X, 2, seed=0)
    assert loaded.score(X, RUNS) == model.score(X, RUNS)


def test_parameters_set_after_fitting_do_not_change_the_model():
    model = SequenceGenerator(**{**TINY, "epochs": 2}).fit(CLASSES, RUNS)
    before = model.score(CLASSES, RUNS), model.predict(CLASSES[:3])
    model.set_params(hidden_size=9, dtype="float64", cell="gru", num_layers=2)
    assert (model.score(CLASSES, RUNS), model.predict(CLASSES[:3])) == before


def test_refuses_what_does_not_fit(fitted):
    with pytest.raises(ValueError, match=r"X must hold labels seen in fit.*got"):
        fitted.predict(["left"])
    with pytest.raises(ValueError, match="X must have a label for each of 2 sequences"):
        fitted.predict(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"X must be an array of shape \(N, F\), or of N classes"):
        SequenceGenerator(**TINY).fit(np.ones((2, 3, 4)), ["a", "b"])
    with pytest.raises(ValueError, match=r"or of N classes, got shape \(2, 0\)"):
        SequenceGenerator(**TINY).fit(np.ones((2, 0)), ["a", "b"])
    with pytest.raises(ValueError, match="X must hold labels, got numbers that are no integers"):
        SequenceGenerator(**TINY).fit([0.5, 1.5], ["a", "b"])
    with pytest.raises(ValueError, match="X must be numbers that can be squared"):
        SequenceGenerator(**TINY).fit([[1e200], [0.0]], ["a", "b"])
    with pytest.raises(ValueError, match=r"X must be finite, got NaN in X\[1, 0\]"):
        SequenceGenerator(**TINY).fit([[0.5], [np.nan]], ["a", "b"])
    with pytest.raises(TypeError, match=r"X must be an array of numbers, got 'x' .* in X\[1, 1\]"):
        SequenceGenerator(**TINY).fit(np.array([[0.5, 1], [1.5, "x"]], object), ["a", "b"])
    vectors = SequenceGenerator(**{**TINY, "epochs": 1}).fit([[0.5], [1.5]], ["a", "b"])
    with pytest.raises(ValueError, match=r"X must have shape \(N, 1\), got \(1, 2\)"):
        vectors.predict([[0.5, 1.0]])
    with pytest.raises(ValueError, match="temperature must be a non-negative finite number"):
        fitted.generate(["up"], temperature=-1)
    with pytest.raises(RuntimeError, match="not fitted yet"):
        SequenceGenerator().generate(["up"])


def test_examples():
    assert doctest.testmod(generator).failed == 0
