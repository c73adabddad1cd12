"""What is held out for validation: a part of each class, never its last example."""

import warnings

import numpy as np
import pytest

from fastrnn.models import (
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
)
from fastrnn.models.splitting import held_out

NOTHING = "nothing is held out for validation, and the last weights are kept"
OPTIONS = {"hidden_size": 16, "epochs": 200, "learning_rate": 0.03}


def draw(classes, part, seed=0):
    return held_out(classes, part, np.random.default_rng(seed))


def single(labels):
    return np.array(labels)[:, None]


def test_each_class_has_its_part():
    labels = np.repeat([0, 1, 2], [100, 60, 40])
    for seed in range(20):
        places = draw(single(labels), 0.1, seed)
        assert len(set(places.tolist())) == 20
        assert np.bincount(labels[places]).tolist() == [10, 6, 4]


def test_every_example_is_drawn_as_often():
    labels = np.repeat([0, 1, 2], [7, 3, 10])
    counts = sum(np.bincount(draw(single(labels), 0.2, seed), minlength=20) for seed in range(1000))
    assert counts.sum() == 4000 and 140 < counts.min() and counts.max() < 260


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_the_last_of_a_class_stays(part):
    labels = np.array([0] * 35 + [1] + [2] * 24)
    for seed in range(20):
        places = draw(single(labels), part, seed)
        assert set(np.delete(labels, places)) == {0, 1, 2}
        assert len(places) == min(round(60 * part), 57)


def test_another_is_drawn_in_the_place_of_the_last():
    """Of nine examples that hold a class alone only the tenth and eleventh can go, one of them."""
    classes = [np.array([k]) for k in range(9)] + [np.array([9])] * 2
    assert {tuple(draw(classes, 0.1, seed)) for seed in range(30)} == {(9,), (10,)}


def test_examples_of_several_classes():
    rng = np.random.default_rng(0)
    classes = [np.unique(rng.integers(0, 9, 3)) for _ in range(40)]
    for seed in range(20):
        places = set(draw(classes, 0.5, seed).tolist())
        left = np.concatenate([found for place, found in enumerate(classes) if place not in places])
        assert len(places) > 10 and set(left) == set(np.concatenate(classes))


@pytest.mark.parametrize(
    ("count", "part", "expected"), [(9, 0.1, 0), (10, 0.1, 1), (4, 0.25, 1), (2, 0.9, 1)]
)
def test_less_than_one_is_none(count, part, expected):
    assert len(draw(single([0] * count), part)) == expected


@pytest.mark.parametrize("seed", range(3))
def test_exclusive_or_is_learned(seed):
    """Four sequences: one held out could not be learned from the others."""
    X = np.array([[[a], [b]] for a in (0.0, 1.0) for b in (0.0, 1.0)])
    with pytest.warns(UserWarning, match=f"{NOTHING}: validation_fraction=0.1 of 4 sequence"):
        model = SequenceClassifier(**OPTIONS, seed=seed).fit(X, [0, 1, 1, 0])
    assert model.score(X, [0, 1, 1, 0]) == 1 and model.best_epoch_ is None
    with pytest.warns(UserWarning, match=NOTHING):
        regressor = SequenceRegressor(**OPTIONS, seed=seed).fit(X, [0, 1, 1, 0])
    assert regressor.score(X, [0, 1, 1, 0]) > 0.99


@pytest.mark.parametrize("seed", range(3))
def test_a_rare_class_is_learned(seed):
    y = np.array([0] * 5 + [1] + [2] * 14)
    X = np.full((20, 5, 1), 1.0) * (y[:, None, None] - 1)
    model = SequenceClassifier(**{**OPTIONS, "epochs": 120}, seed=seed).fit(X, y)
    assert model.score(X, y) == 1 and model.best_epoch_ is not None


def test_classes_of_one_example_each():
    X = np.random.default_rng(0).normal(size=(30, 4, 3))
    with pytest.warns(UserWarning, match=NOTHING) as caught:
        model = SequenceClassifier(**OPTIONS, seed=0).fit(X, np.arange(30))
    assert model.score(X, np.arange(30)) == 1
    assert caught[0].filename == __file__  # where fit was called


@pytest.mark.parametrize("seed", range(3))
def test_a_sequence_whose_end_holds_all_of_a_label(seed):
    x = np.linspace(-1, 1, 100)[None, :, None]
    y = [np.where(np.arange(100) < 92, "start", "end")]
    with pytest.warns(UserWarning, match=NOTHING):
        model = SequenceTagger(**{**OPTIONS, "epochs": 150}, seed=seed).fit(x, y)
    assert model.score(x, y) > 0.98


def test_a_label_of_one_sequence_alone_is_trained_on():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(5, 1)) for _ in range(20)]
    y = [np.where(x[:, 0] > 0, "plus", "minus") for x in X]
    X[7][2], y[7] = 9.0, np.where(np.arange(5) == 2, "peak", y[7])
    for seed in range(5):
        model = SequenceTagger(hidden_size=2, epochs=1, validation_fraction=0.5, seed=seed)
        model._rng = np.random.default_rng(seed)
        training, validation = model._split(model._read(X, y, None, learn=True))
        assert len(validation) == 10 and 1 in np.concatenate(training.y.items)


@pytest.mark.parametrize("model", [SequenceToSequence, SequenceGenerator])
def test_symbols_and_classes_of_one_output_alone_are_trained_on(model):
    X, y = ["a"] * 10 + ["b"] * 9 + ["c"], ["xy", "yx"] * 5 + ["x", "yz"] + ["y"] * 8
    for seed in range(5):
        estimator = model(hidden_size=2, validation_fraction=0.5, seed=seed)
        estimator._rng = np.random.default_rng(seed)
        training, validation = estimator._split(estimator._read(X, y, None, learn=True))
        assert len(validation) == 10
        assert set(np.concatenate(training.y.items)) == {1, 2, 3}
        if model is SequenceGenerator:
            assert np.concatenate(training.x.items).any(axis=0).all()


def sequences(count=20):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(rng.integers(3, 9), 2)) for _ in range(count)]


def examples_of(model, *data):
    return model._read(*data, learn=False)


@pytest.mark.parametrize(
    ("model", "y"),
    [
        (SequenceClassifier(class_weight="balanced"), np.arange(20) % 3),
        (SequenceRegressor(), np.arange(20.0)),
        (SequenceTagger(), [np.arange(len(x)) % 2 for x in sequences()]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_validation_loss_does_not_depend_on_the_batches(model, y):
    model.set_params(hidden_size=4, epochs=1, seed=0).fit(sequences(), y)
    examples = examples_of(model, sequences(), y, None)
    losses = []
    for model.batch_size in (1, 3, 32):
        losses.append(model._mean_loss(examples))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


@pytest.mark.parametrize("model", [SequenceToSequence(), SequenceGenerator()], ids=lambda m: type(m).__name__)
def test_nor_does_that_of_outputs(model):
    X, y = ["ab", "b", "abc", "c"] * 5, ["x", "xyz", "zz", ""] * 5
    model.set_params(hidden_size=4, epochs=1, seed=0).fit(X, y)
    examples = examples_of(model, X, y, None)
    losses = []
    for model.batch_size in (1, 3, 32):
        losses.append(model._mean_loss(examples))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


def test_nor_does_that_of_a_text():
    text = "the cat sat on the mat. " * 30
    model = TextGenerator(hidden_size=4, epochs=1, bptt_steps=5, seed=0).fit(text)
    examples = examples_of(model, text)
    losses = []
    for model.batch_size in (1, 7, 32):
        losses.append(model._mean_loss(examples))
    assert losses == [losses[0]] * 3


def test_no_warning_where_none_is_wanted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SequenceRegressor(hidden_size=2, epochs=1, validation_fraction=0).fit(np.zeros((2, 3)), [0.0, 1.0])
