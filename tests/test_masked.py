"""Masked arrays are refused at every door: NumPy would drop their masks, and what they hide be data."""

import numpy as np
import pytest

import fastrnn
from fastrnn import losses, metrics
from fastrnn.data import Vocabulary
from fastrnn.diagnostics import diagnose, diagnose_model
from fastrnn.models import (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
)
from fastrnn.optim import SGD

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 6, 2))
Y = np.arange(12) % 2
TINY = {"hidden_size": 2, "epochs": 1, "seed": 0}
WORDS = [[1, 2], [2, 1]] * 6


def masked(values):
    return np.ma.masked_array(values, np.arange(np.size(values)).reshape(np.shape(values)) == 3)


def classifier():
    return SequenceClassifier(**TINY).fit(X, Y)


def tagger():
    return SequenceTagger(**TINY).fit(X, [np.arange(6) % 2] * 12)


def series():
    return Forecaster(**TINY, context=8).fit(np.sin(np.arange(60.0)))


LSTM = fastrnn.LSTM(2, 3, seed=0)
STEPS = np.zeros((4, 5, 2), "float32")
LOGITS = np.zeros((5, 3), "float32")

DOORS = {
    "X": lambda: SequenceClassifier(**TINY).fit(masked(X), Y),
    "X, none of it masked": lambda: SequenceClassifier(**TINY).fit(np.ma.masked_array(X), Y),
    "X of objects": lambda: SequenceClassifier(**TINY).fit(masked(X.astype(object)), Y),
    "X as a list": lambda: SequenceClassifier(**TINY).fit(list(masked(X)), Y),
    "X as lists in lists": lambda: SequenceClassifier(**TINY).fit([list(masked(x)) for x in X], Y),
    "tokens": lambda: SequenceClassifier(**TINY, n_tokens=9).fit(masked(np.ones((12, 4), int)), Y),
    "lengths": lambda: SequenceClassifier(**TINY).fit(X, Y, masked(np.full(12, 3))),
    "labels": lambda: SequenceClassifier(**TINY).fit(X, masked(Y)),
    "classes": lambda: SequenceClassifier(**TINY).partial_fit(X, Y, classes=masked(np.arange(4))),
    "validation data": lambda: SequenceClassifier(**TINY).fit(X, Y, validation_data=(masked(X), Y)),
    "predict": lambda: classifier().predict(masked(X)),
    "predict_proba of a list": lambda: classifier().predict_proba(list(masked(X))),
    "score, X": lambda: classifier().score(masked(X), Y),
    "score, y": lambda: classifier().score(X, masked(Y)),
    "partial_fit": lambda: classifier().partial_fit(masked(X), Y),
    "targets": lambda: SequenceRegressor(**TINY).fit(X, masked(np.arange(12.0))),
    "targets as a list": lambda: SequenceRegressor(**TINY).fit(X, list(masked(np.ones((12, 2))))),
    "labels of steps": lambda: SequenceTagger(**TINY).fit(X, masked(np.ones((12, 6), int))),
    "labels of steps as a list": lambda: SequenceTagger(**TINY).fit(X, list(masked(np.ones((12, 6), int)))),
    "score of steps": lambda: tagger().score(X, masked(np.ones((12, 6), int))),
    "vectors": lambda: SequenceGenerator(**TINY).fit(masked(np.ones((12, 2))), ["a"] * 12),
    "classes to write for": lambda: SequenceGenerator(**TINY).fit(masked(Y), ["a"] * 12),
    "symbols": lambda: SequenceToSequence(**TINY).fit([masked(x) for x in np.ones((12, 5), int)], WORDS),
    "written symbols": lambda: SequenceToSequence(**TINY).fit(WORDS, list(masked(np.ones((12, 5), int)))),
    "a series": lambda: Forecaster(**TINY, context=8).fit(masked(np.sin(np.arange(60.0)))),
    "series": lambda: Forecaster(**TINY, context=8).fit([masked(np.sin(np.arange(60.0)))] * 2),
    "channels in lists": lambda: Forecaster(**TINY, context=8).fit(list(masked(np.ones((60, 2))))),
    "covariates": lambda: Forecaster(**TINY, context=8).fit(np.sin(np.arange(60.0)), masked(np.ones(60))),
    "the past": lambda: series().predict(masked(np.sin(np.arange(60.0)))),
    "a layer's x": lambda: LSTM(masked(STEPS)),
    "a layer's lengths": lambda: LSTM(STEPS, lengths=masked(np.full(5, 2))),
    "a layer's tokens": lambda: LSTM(masked(np.zeros((4, 5), int))),
    "weights": lambda: LSTM.load_state_dict({k: masked(v) for k, v in LSTM.state_dict().items()}),
    "logits": lambda: losses.softmax_cross_entropy(masked(LOGITS), np.zeros(5, int)),
    "targets of a loss": lambda: losses.softmax_cross_entropy(LOGITS, masked(np.zeros(5, int))),
    "a list of targets": lambda: losses.mean_squared_error(LOGITS, list(masked(LOGITS))),
    "weights of a loss": lambda: losses.softmax_cross_entropy(
        LOGITS, np.zeros(5, int), weights=masked(np.ones(5, "float32"))
    ),
    "targets of the binary loss": lambda: losses.binary_cross_entropy_with_logits(LOGITS, masked(LOGITS)),
    "targets of the pinball loss": lambda: losses.quantile_loss(
        LOGITS, masked(LOGITS[:, 0]), [0.1, 0.5, 0.9]
    ),
    "gradients": lambda: SGD({"w": np.ones(5)}, 0.1).step({"w": masked(np.ones(5))}),
    "diagnose": lambda: diagnose(LSTM, masked(STEPS)),
    "diagnose a model": lambda: diagnose_model(classifier(), masked(X), Y),
    "a distance": lambda: metrics.edit_distance([1, 2, 3, 4], masked([1, 2, 3, 4])),
    "a rate": lambda: metrics.error_rate([[1, 2, 3, 4]], [masked([1, 2, 3, 4])]),
    "tokens to read": lambda: Vocabulary("abc").decode(masked([0, 1, 2, 0])),
}


@pytest.mark.parametrize("enter", DOORS.values(), ids=DOORS)
def test_a_masked_array_is_refused(enter):
    with pytest.raises(TypeError, match="masked"):
        enter()
