"""Scaling: the mean and deviation of all that was seen, by NumPy at once; units of inputs do not matter to a
model, and what it was not trained on has no part in them."""

import copy

import numpy as np
import pytest

from fastrnn.data import Scaling, Sequences, sequence
from fastrnn.models import SequenceClassifier, SequenceRegressor, SequenceTagger

TINY = {"hidden_size": 6, "epochs": 3, "learning_rate": 0.02, "dtype": "float64", "seed": 0}
UNITS = (
    np.array([1e-6, 1.0, 1e6]),
    np.array([0.0, 300.0, 1e8]),
)  # by which three features are multiplied, and moved


def data(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(3, 9), 3)) for _ in range(count)]


def per_sequence(X):
    return np.array([x[:, 0].mean() + x[-1, 2] for x in X])


def in_units(X):
    return [x * UNITS[0] + UNITS[1] for x in X]


MODELS = {
    "classifier": (SequenceClassifier, lambda X: per_sequence(X) > 0),
    "regressor": (SequenceRegressor, per_sequence),
    "tagger": (SequenceTagger, lambda X: [(x[:, 0] > 0).astype(int) for x in X]),
}
EACH_MODEL = pytest.mark.parametrize(("model", "truth"), MODELS.values(), ids=MODELS)


def outputs(model, X):
    found = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    return np.concatenate([np.atleast_2d(part) for part in found])


def assert_equal_scaling(scaling, values, weights=None):
    mean = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(scaling.mean, mean, rtol=1e-12)
    variance = np.average((values - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(scaling.deviation, np.sqrt(variance), rtol=1e-9)


# -- what is learned


@pytest.mark.parametrize("chunk", [4, 60, 1 << 17])
def test_parts_together_are_the_whole(chunk, monkeypatch):
    monkeypatch.setattr(sequence, "CHUNK", chunk)
    X, weights = in_units(data()), np.random.default_rng(0).integers(1, 4, 40).astype(float)
    x = Sequences(X)
    parts = [values for values, _ in x.rows()]
    assert max(map(len, parts)) <= max(1, chunk // 3) + 8 and all(part.dtype == np.float64 for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(X))
    assert_equal_scaling(Scaling.learned(None, "X", x.rows()), np.concatenate(X))
    weighted = Scaling.learned(None, "X", x.rows(weights))
    assert_equal_scaling(weighted, np.concatenate(X), np.repeat(weights, [len(item) for item in X]))
    repeated = Sequences([item for item, times in zip(X, weights, strict=True) for _ in range(int(times))])
    again = Scaling.learned(Scaling.learned(None, "X", repeated[:7].rows()), "X", repeated[7:].rows())
    assert again.count == weighted.count
    np.testing.assert_allclose(again.deviation, weighted.deviation, rtol=1e-9)


def test_padding_has_no_part_and_is_0():
    items = [np.full((2, 1), 7.0), np.array([[5.0], [9.0], [7.0]])]
    x, _ = Sequences(items, "float64", Scaling.learned(None, "X", Sequences(items).rows())).padded()
    np.testing.assert_allclose(x[:, 1, 0], [-np.sqrt(2.5), np.sqrt(2.5), 0])
    np.testing.assert_array_equal(x[:, 0, 0], 0)


# -- in models


@EACH_MODEL
def test_units_of_inputs_do_not_matter(model, truth):
    X = data()
    plain, other = (model(**TINY).fit(given, truth(X)) for given in (X, in_units(X)))
    np.testing.assert_allclose(outputs(other, in_units(X)), outputs(plain, X), rtol=1e-5, atol=1e-6)
    assert_equal_scaling(
        model(**TINY, validation_fraction=0).fit(in_units(X), truth(X)).scaling_, np.concatenate(in_units(X))
    )


def test_what_is_learned_does_not_depend_on_an_offset_or_unit():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(40, 5, 1))
    z = Z[:, :, 0].mean(axis=1)
    model = SequenceRegressor(hidden_size=8, epochs=30, learning_rate=0.02, seed=0)
    scores = [model.fit(X, z).score(X, z) for X in (Z, 1e4 + Z, 1e6 * Z, 1e-6 * Z)]
    assert scores[0] > 0.9
    np.testing.assert_allclose(scores, scores[0], atol=1e-3)
    assert model.set_params(scale=False).fit(1e4 + Z, z).score(1e4 + Z, z) < 0.1
    assert model.scaling_ is None


@EACH_MODEL
def test_the_scale_is_that_of_what_is_trained_on(model, truth):
    X = data()
    far = [x + 1e6 for x in X]
    fitted = model(**TINY).fit(X, truth(X), validation_data=(far, truth(X)))
    assert_equal_scaling(fitted.scaling_, np.concatenate(X))
    part = model(**TINY, validation_fraction=0.5).fit(X, truth(X))
    assert part.scaling_.count < 0.8 * sum(map(len, X))


@EACH_MODEL
def test_padded_arrays_and_channels_first_are_scaled_alike(model, truth):
    X, y = in_units(data()), truth(data())
    padded = np.full((40, 9, 3), 1e12)
    for row, x in zip(padded, X, strict=True):
        row[: len(x)] = x
    lengths = [len(x) for x in X]
    fitted = model(**TINY).fit(X, y)
    again = model(**TINY).fit(padded, y, lengths)
    np.testing.assert_array_equal(outputs(again, X), outputs(fitted, X))
    turned = model(**TINY, layout="NCT").fit([x.T for x in X], y)
    np.testing.assert_allclose(outputs(turned, [x.T for x in X]), outputs(fitted, X), rtol=1e-12)


@EACH_MODEL
def test_a_file_has_the_scale(model, truth, tmp_path):
    X = in_units(data())
    fitted = model(**TINY).fit(X, truth(data()))
    fitted.save(tmp_path / "model")
    loaded = model.load(tmp_path / "model")
    np.testing.assert_array_equal(outputs(loaded, X), outputs(fitted, X))
    np.testing.assert_array_equal(loaded.scaling_.mean, fitted.scaling_.mean)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@EACH_MODEL
def test_the_scale_follows_chunks_without_a_change_of_predictions(model, truth, cell):
    X, far = data(), [5 + 7 * x for x in data(30, seed=1)]
    for x in X:
        x[:, 1] = 3.0  # says nothing in the first chunk
    fitted = model(**TINY, cell=cell, num_layers=2, bidirectional=True).partial_fit(X, truth(X))
    before = copy.deepcopy(fitted)
    fitted._learn_scale(fitted._read(far, truth(data(30, seed=1)), None, learn=False))
    assert_equal_scaling(fitted.scaling_, np.concatenate(X + far))
    if model is not SequenceRegressor:  # whose outputs follow y too
        np.testing.assert_allclose(outputs(fitted, X), outputs(before, X), rtol=1e-9)
    fitted.partial_fit(far, truth(data(30, seed=1)))


def test_without_biases_the_scale_stays_that_of_the_first_chunk():
    X, far = data(), [5 + 7 * x for x in data()]
    model = SequenceClassifier(**TINY, layer_options={"bias": False})
    model.partial_fit(X, per_sequence(X) > 0).partial_fit(far, per_sequence(X) > 0)
    assert_equal_scaling(model.scaling_, np.concatenate(X))


def test_a_feature_that_does_not_vary_is_0():
    X = data()
    for x in X:
        x[:, 1] = 0.1
    fitted = SequenceRegressor(**TINY).fit(X, per_sequence(X))
    assert not fitted.scaling_.apply(np.concatenate(X))[:, 1].any()
    for x in X:
        x[:, 1] = 1e9
    assert np.isfinite(fitted.predict(X)).all()


def test_tokens_have_no_scale():
    tokens = [np.arange(4) % 3, np.arange(6) % 3] * 10
    assert SequenceClassifier(**TINY, n_tokens=3).fit(tokens, [0, 1] * 10).scaling_ is None


def test_squares_that_overflow_are_refused():
    X = data()
    X[3][0, 0] = 1e200
    with pytest.raises(ValueError, match="X must be numbers that can be squared"):
        SequenceRegressor(**TINY).fit(X, per_sequence(data()))
