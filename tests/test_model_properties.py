"""What holds for every model whatever it is given: random small data of all forms, one sample, constants."""

import copy
import pickle
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.models import (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
)

LABELS = ([3, 7, -1], ["a", "bcd", ""], [True, False], [1.0, 2.0, 5.0])

some = settings(max_examples=10)
seeds = st.integers(0, 2**32 - 1)
cells = st.sampled_from(["rnn", "gru", "lstm"])


@st.composite
def options(draw, **more):
    return {
        "cell": draw(cells),
        "hidden_size": 2 * draw(st.integers(1, 5)),
        "num_layers": draw(st.integers(1, 2)),
        "dropout": draw(st.sampled_from([0.0, 0.4])),
        "batch_size": draw(st.integers(1, 7)),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "validation_fraction": 0.0,
        "epochs": draw(st.integers(0, 2)),
        "seed": 0,
        **{name: draw(strategy) for name, strategy in more.items()},
    }


@st.composite
def sequences(draw):
    """A list of some, of features or of tokens; at the least one, and one step each."""
    rng = np.random.default_rng(draw(seeds))
    count, features = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    lengths = rng.integers(1, 6, count)
    kind = draw(st.sampled_from(["normal", "constant", "huge", "tokens"]))
    if kind == "tokens":
        return [rng.integers(0, 4, length) for length in lengths]
    scale = {"normal": 1.0, "constant": 0.0, "huge": 1e30}[kind]
    return [3 + scale * rng.normal(size=(length, features)) for length in lengths]


def same(a, b):
    """Labels, numbers or lists of either, to the bit."""
    np.testing.assert_equal(a, b)
    if isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)


def holds(model, data, answer):
    """Of a fit on ``data`` and the ``answer`` of a model."""
    before = copy.deepcopy(data)
    assert model.fit(*data) is model
    given = answer(model)
    same(answer(model), given)
    same(answer(copy.deepcopy(model)), given)
    same(answer(pickle.loads(pickle.dumps(model))), given)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        same(answer(type(model).load(Path(folder) / "model")), given)
    same(answer(type(model)(**model.get_params()).fit(*data)), given)
    model.partial_fit(*data)
    answer(model)
    np.testing.assert_equal(data, before)
    for array in model.network_.parameters.values():
        assert np.isfinite(array).all()
    return given


def holds_for_each(model, data, answer, X, permutation):
    """Moreover each of the samples X is answered for itself."""
    given = holds(model, data, lambda model: answer(model, X))
    assert len(given) == len(X)
    model.fit(*data)
    for k, answered in zip(permutation, answer(model, [X[k] for k in permutation]), strict=True):
        same(answered, given[k])
    same(answer(model, X[-1:])[0], given[-1])
    return given


def predicted(model, X):
    return model.predict(X)


def padded(X):
    """The same sequences as one array, and their lengths."""
    lengths = [len(x) for x in X]
    array = np.zeros((len(X), max(lengths), *X[0].shape[1:]), X[0].dtype)
    for row, x in zip(array, X, strict=True):
        row[: len(x)] = x
    return array, lengths


def permuted(count, seed):
    return np.random.default_rng(seed).permutation(count)


def drawn(labels, count, seed):
    return [labels[k] for k in np.random.default_rng(seed).integers(0, len(labels), count)]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


POOLINGS = st.sampled_from(["last", "mean", "max"])


@some
@given(sequences(), st.sampled_from(LABELS), options(pooling=POOLINGS, bidirectional=st.booleans()), seeds)
def test_a_classifier(X, labels, options, seed):
    y = drawn(labels, len(X), seed)
    model = SequenceClassifier(**options)
    given = holds_for_each(model, (X, y), predicted, X, permuted(len(X), seed))
    assert set(given.tolist()) <= set(y)
    same(model.predict(*padded(X)), given)
    chances = model.predict_proba(X)
    assert chances.shape == (len(X), len(set(y)))
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    assert 0 <= model.score(X, y) <= 1


@some
@given(sequences(), st.sampled_from([(), (1,), (2,)]), options(pooling=POOLINGS), st.booleans(), seeds)
def test_a_regressor(X, outputs, options, constant, seed):
    y = np.random.default_rng(seed).normal(size=(len(X), *outputs)) * (not constant) + 5
    model = SequenceRegressor(**options)
    given = holds_for_each(model, (X, y), predicted, X, permuted(len(X), seed))
    same(model.predict(*padded(X)), given)
    assert given.shape == y.shape
    assert np.isfinite(given).all()
    if constant:
        np.testing.assert_array_equal(given, y)


@some
@given(sequences(), st.sampled_from(LABELS), options(bidirectional=st.booleans()), seeds)
def test_a_tagger(X, labels, options, seed):
    y = [drawn(labels, len(x), seed + k) for k, x in enumerate(X)]
    given = holds_for_each(SequenceTagger(**options), (X, y), predicted, X, permuted(len(X), seed))
    for tags, x in zip(given, X, strict=True):
        assert len(tags) == len(x)
        assert set(np.asarray(tags).tolist()) <= {label for labels in y for label in labels}


words = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=6)


@some
@given(words, options(bidirectional=st.booleans()), seeds)
def test_a_translator(X, options, seed):
    def translated(model, X):
        return model.predict(X, beam_size=2, max_length=6)

    y = [word[::-1].upper() for word in X]
    given = holds_for_each(SequenceToSequence(**options), (X, y), translated, X, permuted(len(X), seed))
    assert all(len(word) <= 6 and set(word) <= set("ABC") for word in given)


@some
@given(words, st.sampled_from(LABELS), options(), seeds)
def test_an_inventor(y, labels, options, seed):
    def invented(model, X):
        return model.predict(X, beam_size=2, max_length=6)

    X = drawn(labels, len(y), seed)
    given = holds_for_each(SequenceGenerator(**options), (X, y), invented, X, permuted(len(X), seed))
    assert all(len(word) <= 6 and set(word) <= set("abc") for word in given)


@some
@given(st.text("ab \n\u00e4\U0001f600", min_size=2, max_size=40), options(bptt_steps=st.integers(1, 9)))
def test_a_writer(text, options):
    def written(model):
        return "".join(model.generate(text[:3], 7, seed=1)), model.bits_per_character(text)

    given, bits = holds(TextGenerator(**options), (text,), written)
    assert len(given) == 7
    assert set(given) <= set(text)
    assert bits > 0 or len(set(text)) == 1


@some
@given(
    st.lists(st.integers(12, 30), min_size=1, max_size=4),
    st.sampled_from(["normal", "constant", "line"]),
    options(
        strategy=st.sampled_from(["direct", "recursive"]),
        horizon=st.integers(1, 3),
        context=st.integers(2, 5),
        differences=st.sampled_from([(), (1,)]),
    ),
    seeds,
)
def test_a_forecaster(lengths, kind, options, seed):
    rng = np.random.default_rng(seed)
    make = {
        "normal": lambda count: rng.normal(size=count),
        "constant": lambda count: np.full(count, 4.25),
        "line": lambda count: np.arange(count, dtype=float),
    }
    y = [make[kind](count) for count in lengths]
    given = holds_for_each(Forecaster(**options), (y,), predicted, y, permuted(len(y), seed))
    for forecast in given:
        assert forecast.shape == (options["horizon"],)
        assert np.isfinite(forecast).all()
        if kind == "constant":
            np.testing.assert_array_equal(forecast, 4.25)
