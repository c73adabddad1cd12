"""How much sequences and classes count: as if they were there as often; and what is minimised."""

from functools import partial

import numpy as np
import pytest

from fastrnn import losses
from fastrnn.data import Examples, Sequences
from fastrnn.models import (
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
)
from fastrnn.models.weighting import weighted_cross_entropy
from fastrnn.training.learning import Supervised, call_loss

# One batch of all, in float64: what is learned depends on neither the order nor, but for rounding, on copies.
WHOLE = {
    "hidden_size": 5,
    "epochs": 6,
    "learning_rate": 0.05,
    "batch_size": 1000,
    "validation_fraction": 0,
    "dtype": "float64",
    "seed": 0,
}
COUNTS = np.array([1, 3, 0, 2, 1, 5, 0, 1, 2, 4] * 2)


def data(count=20, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(3, 9), 2)) for _ in range(count)]


def numbers(X):
    return np.array([x[:, 0].mean() for x in X])


MODELS = {
    "classifier": (SequenceClassifier, lambda X: np.digitize(numbers(X), [-0.2, 0.2])),
    "balanced": (
        lambda **options: SequenceClassifier(**options, class_weight="balanced"),
        lambda X: np.digitize(numbers(X), [-0.2, 0.2]),
    ),
    "regressor": (SequenceRegressor, numbers),
    "huber": (lambda **options: SequenceRegressor(**options, loss="huber"), numbers),
    "tagger": (SequenceTagger, lambda X: [(x[:, 0] > 0.5).astype(int) for x in X]),
    "balanced tagger": (
        lambda **options: SequenceTagger(**options, class_weight="balanced", label_smoothing=0.1),
        lambda X: [(x[:, 0] > 0.5).astype(int) for x in X],
    ),
}
EACH_MODEL = pytest.mark.parametrize(("make", "truth"), MODELS.values(), ids=MODELS)


def outputs(model, X):
    found = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
    return np.concatenate([np.atleast_2d(part) for part in found])


def some(values, places):
    return [values[place] for place in places]


@EACH_MODEL
def test_a_weight_is_as_many_copies(make, truth):
    X, places = data(), np.repeat(np.arange(20), COUNTS)
    y = truth(X)
    weighted = make(**WHOLE).fit(X, y, sample_weight=COUNTS)
    copies = make(**WHOLE).fit(some(X, places), some(y, places))
    np.testing.assert_allclose(outputs(weighted, X), outputs(copies, X), rtol=1e-9)
    losses_of = [[each["train_loss"] for each in model.history_] for model in (weighted, copies)]
    np.testing.assert_allclose(*losses_of, rtol=1e-9)
    plain = make(**WHOLE).fit(X, y)
    assert not np.allclose(outputs(weighted, X), outputs(plain, X), rtol=1e-2)
    scores = weighted.score(X, y, sample_weight=COUNTS), weighted.score(some(X, places), some(y, places))
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)
    again = make(**WHOLE).partial_fit(X, y, sample_weight=0.01 * COUNTS).partial_fit(X, y, None, COUNTS)
    other = make(**WHOLE).partial_fit(some(X, places), some(y, places))
    other.partial_fit(some(X, places), some(y, places))
    np.testing.assert_allclose(outputs(again, X), outputs(other, X), rtol=1e-7)


@EACH_MODEL
def test_what_weighs_nothing_is_not_there(make, truth):
    X = data(40)
    y, weights = truth(X), np.random.default_rng(0).integers(0, 2, 40)
    options = {**WHOLE, "batch_size": 8, "validation_fraction": 0.2, "dtype": "float32"}
    there = np.flatnonzero(weights)
    weighted = make(**options).fit(X, y, sample_weight=weights * 0.3)
    alone = make(**options).fit(some(X, there), some(y, there))
    np.testing.assert_array_equal(outputs(weighted, X), outputs(alone, X))
    assert weighted.history_[-1]["validation_loss"] == alone.history_[-1]["validation_loss"]
    everything = make(**options).fit(X, y, sample_weight=np.full(40, 0.1))
    np.testing.assert_array_equal(outputs(everything, X), outputs(make(**options).fit(X, y), X))


@EACH_MODEL
def test_weights_count_in_validation(make, truth):
    X, places = data(), np.repeat(np.arange(20), COUNTS)
    y = truth(X)
    options = {**WHOLE, "batch_size": 4, "epochs": 1}
    weighted = make(**options).fit(X, y, validation_data=(X, y, None, COUNTS))
    copies = make(**options).fit(X, y, validation_data=(some(X, places), some(y, places)))
    found = (model.history_[0]["validation_loss"] for model in (weighted, copies))
    np.testing.assert_allclose(*found, rtol=1e-9)


@EACH_MODEL
def test_bad_weights_are_refused_before_anything_is_learned(make, truth):
    X = data()
    y, model = truth(X), make(**WHOLE)
    for weights, error, words in (
        (np.ones(19), ValueError, r"sample_weight must have shape \(20,\), got \(19,\)"),
        (np.ones((20, 1)), ValueError, r"got \(20, 1\)"),
        (-np.ones(20), ValueError, "sample_weight must be finite and not negative, got -1.0 for sequence 0"),
        ([np.nan] * 20, ValueError, "got nan for sequence 0"),
        (np.zeros(20), ValueError, "sample_weight must not be zero for all sequences"),
        (["a"] * 20, TypeError, "sample_weight must be an array of numbers"),
        (np.ma.array(np.ones(20)), TypeError, "got a masked array"),
    ):
        for call in (model.fit, model.partial_fit):
            with pytest.raises(error, match=words):
                call(X, y, sample_weight=weights)
    assert not hasattr(model, "history_")
    with pytest.raises(TypeError, match=r"validation_data must be .*sample_weight\), got"):
        model.fit(X, y, validation_data=(X, y, None, None, None))
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        model.fit(X, y).score(X, y, sample_weight=[1.0])


@pytest.mark.parametrize("model", [SequenceGenerator, SequenceToSequence])
def test_models_that_write_take_no_weights(model):
    with pytest.raises(ValueError, match="sample_weight must be None"):
        model().fit(["a", "b"], ["a", "b"], sample_weight=[1, 2])


def test_a_batch_of_little_weight_counts_less():
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(6, 3)), rng.integers(0, 3, 6)
    weights, by_class = rng.random(6), np.array([0.5, 2.0, 1.0])
    by_class_too = partial(weighted_cross_entropy, by_class=by_class, label_smoothing=0.0)

    def loss(part):
        return call_loss(by_class_too, outputs[part], targets[part], weights[part])

    whole, gradient = loss(slice(None))
    parts = [loss(slice(0, 2)), loss(slice(2, 6))]
    assert whole == pytest.approx((2 * parts[0][0] + 4 * parts[1][0]) / 6)
    np.testing.assert_allclose(gradient, np.concatenate([2 * parts[0][1], 4 * parts[1][1]]) / 6)
    logs = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    each = -logs[np.arange(6), targets] * weights * by_class[targets]
    assert whole == pytest.approx(each.mean())


class Constant:
    """A network that gives the same logits, whatever it gets."""

    def __init__(self, logits):
        self.logits = logits

    def forward(self, x):
        return self.logits, partial(setattr, self, "came_back")


def test_steps_count_by_their_sequence_and_their_class():
    rng = np.random.default_rng(0)
    logits, targets, lengths = rng.normal(size=(4, 3, 2)), rng.integers(0, 2, (4, 3)), np.array([4, 0, 2])
    weights, by_class = rng.random(3), np.array([0.5, 2.0])
    steps = Sequences([targets[:length, place] for place, length in enumerate(lengths)])
    network = Constant(logits)
    by_class_too = partial(weighted_cross_entropy, by_class=by_class, label_smoothing=0.0)
    learn = Supervised(network, by_class_too, stateful=False)
    loss, count, _ = learn(Examples(np.zeros(3), steps, weights), None, training=True)
    gradient = network.came_back
    logs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    each = -np.take_along_axis(logs, targets[:, :, None], 2)[:, :, 0] * weights * by_class[targets]
    valid = np.arange(4)[:, None] < lengths
    assert count == 6 and loss == pytest.approx(each[valid].mean())
    assert not gradient[~valid].any() and gradient[valid].all()


# -- labels


def test_class_weights_of_steps():
    rng = np.random.default_rng(0)
    X = [np.zeros((2, 1))] * 200
    y = [np.where(rng.random(len(x)) < 0.1, "rare", "often") for x in X]  # without a relation to X
    options = {**WHOLE, "epochs": 150, "hidden_size": 2}
    model = SequenceTagger(**options, class_weight="balanced").fit(X, y)
    counts = [(np.concatenate(y) == label).sum() for label in ("often", "rare")]
    assert model._class_weights == pytest.approx([sum(counts) / 2 / count for count in counts])
    assert np.concatenate(model.predict_proba(X))[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    plain = SequenceTagger(**options).fit(X, y)
    assert np.concatenate(plain.predict_proba(X))[:, 1].mean() < 0.2


def test_a_tagger_is_told_its_classes_too(tmp_path):
    X, y = [np.ones((3, 1))] * 8, [[3, 3, 4]] * 8
    model = SequenceTagger(hidden_size=2, class_weight={5: 2.0}).partial_fit(X, y, classes=[3, 4, 5])
    model.partial_fit(X, [[5, 4, 3]] * 8).save(tmp_path / "tagger")
    loaded = SequenceTagger.load(tmp_path / "tagger")
    assert loaded.classes_.tolist() == [3, 4, 5] and loaded.class_weight == {5: 2.0}
    logs = loaded.predict_log_proba(X)
    np.testing.assert_allclose(np.exp(logs[0]), loaded.predict_proba(X)[0])
    with pytest.raises(ValueError, match="labels seen in fit"):
        loaded.partial_fit(X, [[6, 4, 3]] * 8)


@pytest.mark.parametrize("model", [SequenceClassifier, SequenceTagger])
def test_smoothed_labels_are_never_certain(model):
    X = data()
    y = [np.full(len(x), int(x[0, 0] > 0)) for x in X]
    y = y if model is SequenceTagger else [each[0] for each in y]
    options = {**WHOLE, "epochs": 80, "learning_rate": 0.1}
    sure, unsure = (model(**options, label_smoothing=part).fit(X, y) for part in (0.0, 0.4))
    assert outputs(sure, X).max() > 0.99 > 0.85 > outputs(unsure, X).max()
    with pytest.raises(ValueError, match="label_smoothing must be a number from 0 to 1, got 2"):
        model(label_smoothing=2).fit(X, y)


# -- numbers


def test_outliers_pull_less():
    X = data(60)
    y = numbers(X)
    wrong = y.copy()
    wrong[::10] += 100
    errors = {
        loss: np.median(np.abs(SequenceRegressor(**WHOLE, loss=loss).fit(X, wrong).predict(X) - y))
        for loss in ("mean_squared_error", "mean_absolute_error", "huber")
    }
    assert max(errors["mean_absolute_error"], errors["huber"]) < 0.5 * errors["mean_squared_error"]


def test_a_function_is_a_loss(tmp_path):
    X = data()
    y = numbers(X)

    def tenfold(prediction, target, weights=None):
        loss, gradient = losses.huber(prediction, target, weights=weights)
        return 10 * loss, 10 * gradient

    def plain(prediction, target):
        return losses.mean_squared_error(prediction, target)

    named = SequenceRegressor(**WHOLE, loss="huber", clip_norm=None).fit(X, y, sample_weight=COUNTS)
    own = SequenceRegressor(**WHOLE, loss=tenfold, clip_norm=None).fit(X, y, sample_weight=COUNTS)
    assert own.history_[0]["train_loss"] == pytest.approx(10 * named.history_[0]["train_loss"])
    own_plain = SequenceRegressor(**WHOLE, loss=plain).fit(X, y)
    np.testing.assert_array_equal(own_plain.predict(X), SequenceRegressor(**WHOLE).fit(X, y).predict(X))
    own_plain.save(tmp_path / "model")
    loaded = SequenceRegressor.load(tmp_path / "model", loss=plain)
    again = SequenceRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), own_plain.predict(X))
    learned = loaded.partial_fit(X, y).predict(X)
    for learn in (again.partial_fit, again.fit):
        with pytest.raises(ValueError, match=r"loss must be given again, as load\(path, loss=...\)"):
            learn(X, y)
    np.testing.assert_array_equal(again.predict(X), own_plain.predict(X))
    again.save(tmp_path / "copy")
    loaded = SequenceRegressor.load(tmp_path / "copy", loss=plain)
    np.testing.assert_array_equal(loaded.partial_fit(X, y).predict(X), learned)
    with pytest.raises(TypeError, match="weights"):
        SequenceRegressor(**WHOLE, loss=plain).fit(X, y, sample_weight=COUNTS)
    with pytest.raises(ValueError, match=r"loss must be one of 'mean_squared_error', .*, got 'mse'"):
        SequenceRegressor(**WHOLE, loss="mse").fit(X, y)


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (1.0, TypeError, "loss must return a pair, its value and its gradient, got 1.0"),
        ((1.0, np.zeros(3)), ValueError, r"loss must return a gradient of the shape .*, \(20, 1\), got"),
        ((np.zeros(2), np.zeros((20, 1))), TypeError, "the loss must be a number"),
        ((np.nan, np.zeros((20, 1))), FloatingPointError, "loss became nan"),
    ],
)
def test_a_loss_that_returns_nonsense_is_named(returned, error, words):
    X = data()
    model = SequenceRegressor(**WHOLE).fit(X, numbers(X))
    before = model.predict(X)
    with pytest.raises(error, match=words):
        model.set_params(loss=lambda y, target: returned).fit(X, numbers(X))
    np.testing.assert_array_equal(model.predict(X), before)
