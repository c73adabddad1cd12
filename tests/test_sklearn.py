"""The models among scikit-learn's: its own checks, pipelines, grid searches."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastrnn.models import SequenceClassifier, SequenceRegressor, SequenceTagger, TextGenerator

FAILING = {
    SequenceClassifier: {
        "check_supervised_y_2d": "labels in a column are an error here, as in any wrong shape, not a warning"
    },
    SequenceRegressor: {},
}

MODELS = (
    SequenceClassifier(hidden_size=8, epochs=20, learning_rate=0.05, validation_fraction=0.0, seed=0),
    SequenceRegressor(hidden_size=16, epochs=40, learning_rate=0.03, validation_fraction=0.0, seed=0),
)


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Estimator .* does not inherit from `sklearn.base.BaseEstimator`")
    every_check = parametrize_with_checks(MODELS, expected_failed_checks=lambda model: FAILING[type(model)])


@every_check
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("model", [SequenceClassifier, SequenceRegressor, SequenceTagger, TextGenerator])
def test_a_clone_has_the_same_parameters(model):
    original = model(hidden_size=7, cell="gru")
    copy = clone(original)
    assert copy is not original and copy.get_params() == original.get_params()


def test_what_scikit_learn_takes_them_for():
    assert is_classifier(SequenceClassifier()) and is_regressor(SequenceRegressor())
    assert not is_classifier(SequenceTagger()) and not is_regressor(TextGenerator())


def test_use_before_fit_is_its_error_and_ours():
    with pytest.raises(NotFittedError, match="this SequenceClassifier is not fitted yet") as caught:
        SequenceClassifier().predict(np.zeros((2, 3)))
    assert isinstance(caught.value, RuntimeError)


def test_in_a_pipeline():
    rng = np.random.default_rng(0)
    y = rng.choice(["falling", "rising"], 200)
    X = 100 + np.cumsum(rng.normal(np.where(y == "rising", 1, -1)[:, None], 2, (200, 12)), axis=1)
    model = SequenceClassifier(hidden_size=8, epochs=15, learning_rate=0.02, seed=0)
    pipeline = make_pipeline(StandardScaler(), model).fit(X[:150], y[:150])
    assert pipeline.score(X[150:], y[150:]) > 0.85
    assert pipeline.predict_proba(X[150:]).shape == (50, 2)


def test_in_a_grid_search_and_in_cross_validation():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5, 2))
    y = X[:, :, 0].mean(axis=1)
    model = SequenceRegressor(hidden_size=4, epochs=10, learning_rate=0.05, seed=0)
    search = GridSearchCV(model, {"pooling": ["last", "mean"], "cell": ["gru", "rnn"]}, cv=2).fit(X, y)
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert search.best_estimator_.get_params()["pooling"] == search.best_params_["pooling"]
    assert len(cross_val_score(search.best_estimator_, X, y, cv=3)) == 3
