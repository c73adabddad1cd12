"""Models in joblib's workers, threads and processes, and in those of dask and Ray: the same bits.

The latter two are not installed in CI: `pip install distributed ray`, then `pytest tests/test_joblib.py`.
"""

import os
import pickle
import threading
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.model_selection import GridSearchCV, cross_val_score

import fastrnn
from fastrnn.models import (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
    many,
)

MODEL = SequenceRegressor(hidden_size=5, epochs=2, dropout=0.1, seed=0)
X = np.random.default_rng(0).normal(size=(40, 6, 2)).astype("float32")
Y = X[:, :, 0].mean(axis=1)


@contextmanager
def workers(backend):
    """Two of them."""
    if backend == "dask":
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster),
            joblib.parallel_config("dask"),
        ):
            yield
    elif backend == "ray":
        ray = pytest.importorskip("ray")
        register = pytest.importorskip("ray.util.joblib").register_ray
        register()
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            with joblib.parallel_config("ray", n_jobs=2):
                yield
        finally:
            ray.shutdown()
    else:
        with joblib.parallel_config(backend, n_jobs=2):
            yield


def fitted():
    """What comes out of everything that joblib deals out."""
    search = GridSearchCV(MODEL, {"pooling": ["last", "mean"]}, cv=2).fit(X, Y)
    crowd = many(MODEL).fit([(X[:20], Y[:20]), (X[10:], Y[10:]), (X, Y)])
    return [
        cross_val_score(MODEL, X, Y, cv=2),
        search.cv_results_["mean_test_score"],
        *search.best_estimator_.network_.state_dict().values(),
        *(array for member in crowd for array in member.network_.state_dict().values()),
        *crowd.predict([X, X[:3], X[5:9]]),
    ]


# For eval, as Ray's workers do not find this module: the process, and how many threads a call may use.
HERE = "__import__('os').getpid(), __import__('fastrnn').get_num_threads()"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what others leave open
@pytest.mark.parametrize("backend", ["threading", "loky", "dask", "ray"])
def test_the_same_bits_wherever_it_runs_and_no_more_threads_than_cores(backend):
    expected = fitted()
    with workers(backend):
        found = fitted()
        ran = joblib.Parallel()(joblib.delayed(eval)(HERE) for _ in range(8))
    assert len(found) == len(expected)
    assert all(map(np.array_equal, found, expected))
    processes = dict(ran)
    assert (os.getpid() in processes) == (backend == "threading")
    assert sum(processes.values()) <= joblib.cpu_count() or set(processes.values()) == {1}


def test_members_in_workers_compute_without_help():
    """Also in threads, where joblib leaves those of the kernels alone."""
    counts = []

    def loss(y, target):
        counts.append(fastrnn.get_num_threads())
        return fastrnn.losses.mean_squared_error(y, target)

    with joblib.parallel_config("threading", n_jobs=2):
        many(SequenceRegressor(hidden_size=4, epochs=1, loss=loss)).fit([(X, Y)] * 3)
    assert set(counts) == {1}


def test_errors_of_workers_name_the_member():
    crowd = many(MODEL).fit([(X, Y)] * 2)
    with (
        joblib.parallel_config("loky", n_jobs=2),
        pytest.raises(ValueError, match=r"^member 1: X has 3") as caught,
    ):
        crowd.predict([X, np.zeros((2, 4, 3))])
    assert "joblib" in str(caught.value.__cause__)  # as it has come from another process


def test_joblib_that_was_only_imported_changes_nothing(threads):
    threads(2)
    seen = set()

    def loss(y, target):
        seen.add(threading.current_thread())
        return fastrnn.losses.mean_squared_error(y, target)

    many(SequenceRegressor(hidden_size=4, epochs=1, loss=loss)).fit([(X, Y)] * 3)
    assert threading.main_thread() not in seen


def every_kind(size):
    """A model of each kind, fitted to so many sequences."""
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(20, 3)) for _ in range(size)]
    labels = ["up" if x[:, 0].mean() > 0 else "down" for x in X]
    options = {"hidden_size": 8, "epochs": 1, "seed": 0, "validation_fraction": 0}
    wave = np.sin(np.arange(20 * size) * 0.3)
    return [
        SequenceClassifier(**options).fit(X, labels),
        SequenceRegressor(**options).fit(X, [x.mean() for x in X]),
        SequenceTagger(**options).fit(X, [["up" if v > 0 else "down" for v in x[:, 0]] for x in X]),
        SequenceGenerator(**options).fit(labels, [f"it goes {label}" for label in labels]),
        SequenceToSequence(**options).fit(labels, [label[::-1] for label in labels]),
        TextGenerator(**options).fit("to be or not to be, " * size),
        Forecaster(horizon=2, context=10, max_steps=2, **options).fit(wave),
        Forecaster(horizon=2, context=10, max_steps=2, global_model=False, **options).fit([wave, wave]),
        many(SequenceRegressor(**options)).fit([(X, [x.mean() for x in X])] * 3),
    ]


def test_a_fitted_model_is_pickled_without_data():
    """As many bytes whatever it has learned from, and those are its weights' and a few thousand."""
    for small, large in zip(every_kind(20), every_kind(100), strict=True):
        size = len(pickle.dumps(large))
        assert abs(size - len(pickle.dumps(small))) < 200
        members = large if len(getattr(large, "estimators_", ())) else [large]
        weights = sum(array.nbytes for each in members for array in each.network_.parameters.values())
        assert weights < size < weights + 8000 * len(members)
