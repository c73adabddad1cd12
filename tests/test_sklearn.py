"""The models among scikit-learn's: its own checks, pipelines, grid searches."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import __version__ as sklearn_version
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import AdaBoostClassifier, AdaBoostRegressor
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastrnn.models import (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
)

FAILING = {
    SequenceClassifier: {
        "check_supervised_y_2d": "labels in a column are an error here, as in any wrong shape, not a warning"
    },
    SequenceRegressor: {},
}

MODELS = (
    SequenceClassifier(
        hidden_size=8,
        epochs=20,
        learning_rate=0.05,
        batch_size=64,
        validation_fraction=0.0,
        dtype="float64",
        seed=0,
    ),
    SequenceRegressor(
        hidden_size=16,
        epochs=40,
        learning_rate=0.03,
        batch_size=64,
        validation_fraction=0.0,
        dtype="float64",
        seed=0,
    ),
)


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Estimator .* does not inherit from `sklearn.base.BaseEstimator`")
    checks = parametrize_with_checks(MODELS, expected_failed_checks=lambda model: FAILING[type(model)])
    # Before scikit-learn 1.8 they are a generator, which pytest 9 warns of.
    every_check = pytest.mark.parametrize(checks.args[0], list(checks.args[1]), **checks.kwargs)


@every_check
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


EVERY_MODEL = (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
)


@pytest.mark.parametrize("model", EVERY_MODEL)
@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
    ],
)
def test_its_checks_of_parameters_hold_for_every_model(model, check):
    getattr(estimator_checks, check)(model.__name__, model())


def test_parameters_that_are_arrays_can_be_shown_and_cloned():
    model = Forecaster(quantiles=np.array([0.1, 0.9]))
    assert repr(model) == "Forecaster(quantiles=array([0.1, 0.9]))"
    assert repr(clone(model)) == repr(model)


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


class TestLengths:
    """The label is the sign of the last step that is valid; what follows is 0."""

    MODEL = SequenceClassifier(cell="gru", hidden_size=8, epochs=40, learning_rate=0.03, seed=0)

    @pytest.fixture
    def data(self):
        rng = np.random.default_rng(0)
        lengths = rng.integers(2, 6, 80)
        X = rng.normal(size=(80, 12, 1)) * (np.arange(12) < lengths[:, None])[:, :, None]
        return X, (X[np.arange(80), lengths - 1, 0] > 0).astype(int), lengths

    def test_lists_have_their_own(self, data):
        X, y, lengths = data
        X = [x[:length] for x, length in zip(X, lengths, strict=True)]
        assert cross_val_score(self.MODEL, X, y, cv=2).min() > 0.9
        assert (cross_val_predict(self.MODEL, X, y, cv=2) == y).mean() > 0.9
        assert GridSearchCV(self.MODEL, {"hidden_size": [8]}, cv=2).fit(X, y).best_score_ > 0.9

    def test_they_are_routed_where_they_are_asked_for(self, data):
        X, y, lengths = data
        with config_context(enable_metadata_routing=True):
            model = clone(self.MODEL).set_fit_request(lengths=True).set_score_request(lengths=True)
            search = GridSearchCV(model, {"hidden_size": [8]}, cv=2).fit(X, y, lengths=lengths)
            assert search.best_score_ > 0.9
            estimators = [model]
            if tuple(map(int, sklearn_version.split(".")[:2])) >= (1, 8):  # its pipelines pass them to score
                estimators.append(make_pipeline(FunctionTransformer(), model))
            for estimator in estimators:
                assert cross_val_score(estimator, X, y, params={"lengths": lengths}, cv=2).min() > 0.9
            renamed = clone(model).set_fit_request(lengths="steps").set_score_request(lengths="steps")
            assert cross_val_score(renamed, X, y, params={"steps": lengths}, cv=2).min() > 0.9
            with pytest.raises(
                UnsetMetadataPassedError, match=r"\[lengths\] are passed but are not explicitly"
            ):
                cross_val_score(self.MODEL, X, y, params={"lengths": lengths}, cv=2)

    def test_to_every_method(self, data):
        X, y, lengths = data
        with config_context(enable_metadata_routing=True):
            model = clone(self.MODEL).set_params(epochs=1)
            for method in ("fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score"):
                getattr(model, f"set_{method}_request")(lengths=True)
            pipeline = make_pipeline(FunctionTransformer(), model).fit(X, y, lengths=lengths)
            fitted = pipeline[-1]
            for method in ("predict", "predict_proba", "predict_log_proba"):
                found = getattr(pipeline, method)(X, lengths=lengths)
                np.testing.assert_array_equal(found, getattr(fitted, method)(X, lengths))
        assert not hasattr(SequenceRegressor(), "set_predict_log_proba_request")

    def test_beside_weights(self, data):
        X, y, lengths = data
        weights = np.where(y == y[0], 1.0, 1e-3)
        with config_context(enable_metadata_routing=True):
            model = clone(self.MODEL).set_fit_request(lengths=True, sample_weight=True)
            params = {"lengths": lengths, "sample_weight": weights}
            scores = cross_val_score(
                model.set_score_request(lengths=True, sample_weight=False), X, y, params=params, cv=2
            )
            assert scores.max() < 0.8  # nearly all are taken for the class that counts
            weighted = model.set_score_request(lengths=True, sample_weight=True)
            assert cross_val_score(weighted, X, y, params=params, cv=2).min() > 0.95
            with pytest.raises(TypeError, match="set_predict_request takes lengths, got 'sample_weight'"):
                model.set_predict_request(sample_weight=True)

    def test_where_they_get_lost_scores_are_refused(self, data):
        X, y, lengths = data
        message = "lengths must be passed with an array, as in fit"
        with pytest.warns(UserWarning, match=f"(?s)Scoring failed.*{message}"):
            assert np.isnan(cross_val_score(self.MODEL, X, y, params={"lengths": lengths}, cv=2)).all()
        with pytest.raises(ValueError, match=message):
            cross_val_score(self.MODEL, X, y, params={"lengths": lengths}, cv=2, error_score="raise")
        with pytest.raises(ValueError, match=message):
            cross_val_predict(self.MODEL, X, y, params={"lengths": lengths}, cv=2)


def test_a_fold_without_the_highest_token_is_scored():
    X = np.arange(12)[:, None].repeat(3, axis=1)
    model = SequenceClassifier(n_tokens=12, hidden_size=2, epochs=1, validation_fraction=0, seed=0)
    assert np.isfinite(cross_val_score(model, X, np.arange(12) % 2, cv=3)).all()


def test_in_a_boosted_ensemble():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5, 2))
    total = X[:, :, 0].sum(axis=1)
    options = {"hidden_size": 4, "epochs": 3, "learning_rate": 0.03, "seed": 0}
    classifier = AdaBoostClassifier(SequenceClassifier(**options), n_estimators=5).fit(X, np.abs(total) > 1)
    assert len(classifier.estimators_) > 1 and classifier.predict_proba(X).shape == (120, 2)
    regressor = AdaBoostRegressor(SequenceRegressor(**options), n_estimators=3).fit(X, total)
    assert regressor.predict(X).shape == (120,)


def test_several_labels_each():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(rng.integers(3, 8), 2)) for _ in range(40)]
    Y = np.array([x.mean(axis=0) > 0 for x in X])
    model = SequenceClassifier(hidden_size=8, epochs=30, learning_rate=0.03, pooling="mean", seed=0)
    for labels in (Y, [["a"], ["a", "b"]] * 20):
        with pytest.raises(ValueError, match="MultiOutputClassifier fits a model for every one"):
            model.fit(X, labels)
    assert (MultiOutputClassifier(model).fit(X, Y).predict(X) == Y).mean() > 0.9
