"""A model for each of many data sets: how they are dealt to threads, and named where one fails."""

from __future__ import annotations

import contextvars
import copy
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastrnn import checks, config, parallel
from fastrnn.models.estimator import NetworkEstimator
from fastrnn.models.parameters import Estimator

Self = TypeVar("Self", bound="Many")
Member: TypeAlias = tuple[str, tuple[Any, ...]]  # what errors call it, and the arguments of a method

_dealing = threading.Lock()  # to threads: there are as many as cores for all who do


class Many(Estimator):
    """Many models of one kind, each fitted by itself to data of its own; `many` makes one.

    A member is, bit for bit, what a copy of the estimator is that was fitted to these data alone. It keeps
    weights and a history, but no data.

    Members are dealt to as many Python threads as `fastrnn.get_num_threads` says, each of which computes
    without help: kernels let go of Python's lock, so that this pays where they take most of a training step.
    Where joblib's ``parallel_config`` is in force, its workers get the members: processes pay where networks
    are so small that Python takes most of a step.

    Parameters
    ----------
    estimator : model of `fastrnn.models`
        Whose parameters each member has. From a ``seed`` that is a generator each gets a number, in their
        order.

    Attributes
    ----------
    estimators_ : list
        The fitted members, which ``len(crowd)``, ``crowd[k]`` and a loop over it are about, too.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self: Self, data: Iterable[Any]) -> Self:
        """Fit a member to each, forgetting those before.

        Parameters
        ----------
        data : list or other iterable
            Of each member what `fit` of the estimator takes: a tuple, as ``(X, y)``, or the first argument by
            itself. Those in a list are all checked before anything is computed; a generator is asked for as
            many as are worked on at a time, and none of them is held.

        Returns
        -------
        Many
            This object.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data of a member cannot be used.
        FloatingPointError
            If the training of a member diverges.
        Exception, KeyboardInterrupt
            After any error the members are those before. Its message begins with the first of them that it
            is about, as ``member 17:``. When interrupted, an epoch of those that are worked on ends first.
        """
        estimator = self.estimator
        if not isinstance(estimator, NetworkEstimator):
            raise TypeError(f"estimator must be a model of fastrnn.models, got {checks.came(estimator)}")
        given = _several(data)
        if isinstance(given, list):
            trial = copy.copy(estimator).set_params(seed=0)._checked_copy()  # draws no number
            for name, arguments in _members(given):
                _call(name, copy.copy(trial)._examples, *arguments, learn=True)
        members = fitted(estimator, _members(given))
        if not members:
            raise ValueError("data must be of at least one member, got none")
        self.estimators_ = members
        return self

    def predict(self, data: Iterable[Any]) -> list[Any]:
        """What each member predicts.

        Parameters
        ----------
        data : list or other iterable
            Of each member, in their order, what `predict` of the estimator takes: X, or a tuple of arguments.

        Returns
        -------
        list
            In the order of the members.
        """
        return self._each("predict", data)

    def score(self, data: Iterable[Any]) -> list[float]:
        """How good each member is on data of its own.

        Parameters
        ----------
        data : list or other iterable
            As of `fit`.

        Returns
        -------
        list of float
            What `score` of the estimator returns, in the order of the members.
        """
        return self._each("score", data)

    def __len__(self) -> int:
        """How many members there are."""
        return len(self._fitted())

    def __getitem__(self, place: Any) -> Any:
        """A member by its place, or a list of some."""
        return self._fitted()[place]

    def __iter__(self) -> Iterator[Any]:
        """The members, in their order."""
        return iter(self._fitted())

    def _fitted(self) -> list[Any]:
        self._require_fitted("estimators_")
        return self.estimators_

    def _each(self, method: str, data: Iterable[Any]) -> list[Any]:
        fitted, given = self._fitted(), list(_members(_several(data)))
        if len(given) != len(fitted):
            raise ValueError(f"data must be of {len(fitted)} members, as in fit, got {len(given)}")
        members = zip(fitted, given, strict=True)
        return _dealt(_of_method, ((name, method, each, *arguments) for each, (name, arguments) in members))


def many(estimator: Any) -> Many:
    """A model for each of many data sets: of a series, a user, a seed each.

    Parameters
    ----------
    estimator : model of `fastrnn.models`
        Each member is a copy of it.

    Returns
    -------
    Many

    Examples
    --------
    >>> from fastrnn.models import SequenceRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(40, 12, 1)) for _ in range(3)]  # 40 sequences for each of three
    >>> data = [(x, (k + 1) * x.mean(axis=(1, 2))) for k, x in enumerate(X)]
    >>> crowd = many(SequenceRegressor(hidden_size=4, epochs=5, seed=0)).fit(data)
    >>> len(crowd), [len(y) for y in crowd.predict(X)]
    (3, [40, 40, 40])
    """
    return Many(estimator)


def fitted(estimator: NetworkEstimator, members: Iterable[Member]) -> list[Any]:
    """A copy of the estimator fitted to the data of each member."""
    return _dealt(_fit, ((name, estimator._checked_copy(), *arguments) for name, arguments in members))


def _fit(name: str, model: Any, *arguments: Any, interrupted: Callable[[], bool] | None = None) -> Any:
    def look(_: Any) -> None:
        if interrupted is not None and interrupted():
            raise KeyboardInterrupt

    return _call(name, model.fit, *arguments, callbacks=look)


def _of_method(name: str, method: str, model: Any, *arguments: Any, interrupted: Any = None) -> Any:
    return _call(name, getattr(model, method), *arguments)


def _call(name: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a function returns; its error is told with the member's name."""
    try:
        return function(*arguments, **named)
    except Exception as error:
        error.args = (f"{name}: {error}",)
        raise


def _several(data: Any) -> Iterable[Any]:
    """Data of members, which a pair of X and y is not, nor an array."""
    if isinstance(data, (str, bytes, tuple, Mapping, np.ndarray)) or not isinstance(data, Iterable):
        raise TypeError(f"data must be a list with those of each member, got {checks.came(data)}")
    return data


def _members(data: Iterable[Any]) -> Iterator[Member]:
    for place, each in enumerate(data):
        yield f"member {place}", each if isinstance(each, tuple) else (each,)


def _dealt(function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What a function gives for each task, in their order: see `Many` for who computes it."""
    if parallel.current() is not None:  # ranks that share the training of each
        return [function(*task) for task in tasks]
    joblib: Any = sys.modules.get("joblib")
    workers = joblib and joblib.Parallel()
    if workers and workers.n_jobs != 1:  # somebody has asked for them
        found: list[Any] = workers(joblib.delayed(_alone)(function, *task) for task in tasks)
        return found
    threads = config.get_num_threads()
    if threads == 1 or not _dealing.acquire(blocking=False):
        return [_alone(function, *task) for task in tasks]
    try:
        return _on_threads(threads, function, tasks)
    finally:
        _dealing.release()


def _alone(function: Callable[..., Any], *task: Any) -> Any:
    with config.alone():
        return function(*task)


def _on_threads(threads: int, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The error that is raised is that of the first task that has one, so those before it are done."""
    waiting, lock, interrupted = enumerate(tasks), threading.Lock(), threading.Event()
    results: dict[int, Any] = {}
    errors: dict[float, BaseException] = {}

    def work() -> None:
        while not (errors or interrupted.is_set()):
            place: float = math.inf  # of what fails where a task is made: all before it have been taken
            try:
                with lock:
                    place, task = next(waiting, (math.inf, None))
                if task is None:
                    return
                results[int(place)] = function(*task, interrupted=interrupted.is_set)
            except BaseException as error:
                errors[place] = error

    workers = [
        threading.Thread(target=contextvars.copy_context().run, args=(_alone, work)) for _ in range(threads)
    ]
    try:
        for each in workers:
            each.start()
        for each in workers:
            each.join()
    except BaseException:  # Ctrl-C
        interrupted.set()
        for each in workers:
            if each.ident is not None:
                each.join()
        raise
    if errors:
        raise errors[min(errors)]
    return [results[place] for place in range(len(results))]
