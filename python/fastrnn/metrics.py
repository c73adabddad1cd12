"""How far predicted sequences are from the true ones: of symbols, and of numbers over time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastrnn import checks
from fastrnn.checks import Array


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest symbols to insert, delete or replace that make one sequence of the other (Levenshtein 1966).

    Parameters
    ----------
    a, b : sequence of symbols
        Strings, lists or tuples.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If one is a masked array.

    Examples
    --------
    >>> edit_distance("kitten", "sitting")
    3
    """
    for name, value in {"a": a, "b": b}.items():
        _require_sequence(name, value)
        if checks.masked(value):
            raise TypeError(f"{name} must not be masked: fill it first")
    row = list(range(len(b) + 1))  # the distances of what is read of a to each beginning of b
    for count, symbol in enumerate(a, 1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(b, 1):
            distance = min(row[place] + 1, row[place - 1] + 1, diagonal + (symbol != other))
            diagonal, row[place] = row[place], distance
    return row[-1]


def error_rate(y_true: Sequence[Sequence[Hashable]], y_pred: Sequence[Sequence[Hashable]]) -> float:
    """All edit distances together by all true symbols together: of characters, words or phonemes, whatever
    the symbols are.

    Parameters
    ----------
    y_true, y_pred : sequence of sequences of symbols
        The true sequences, and in the same order the predicted ones.

    Returns
    -------
    float
        0 if all are equal; it exceeds 1 if predictions are much too long.

    Raises
    ------
    ValueError
        If there are not as many predictions as true sequences, or no true symbols at all.

    Examples
    --------
    >>> error_rate(["kitten", "cat"], ["sitting", "cat"])
    0.3333333333333333
    """
    for name, value in {"y_true": y_true, "y_pred": y_pred}.items():
        _require_sequence(name, value)
        for place, each in enumerate(value):
            _require_sequence(f"{name}[{place}]", each)
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_pred must have as many sequences as y_true, {len(y_true)}, got {len(y_pred)}")
    symbols = sum(map(len, y_true))
    if symbols == 0:
        raise ValueError(f"y_true must have at least one symbol, got {checks.came(y_true)}")
    return sum(map(edit_distance, y_true, y_pred)) / symbols


def _require_sequence(name: str, value: object) -> None:
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")) or isinstance(value, type):
        raise TypeError(f"{name} must be a sequence, got {checks.came(value)}")


def mase(y_true: ArrayLike, y_pred: ArrayLike, y_train: ArrayLike, *, season: int = 1) -> float:
    """The mean absolute scaled error: divided by what the forecast "as one season ago" is off by, one step
    ahead, over the series trained on (Hyndman and Koehler, Another look at measures of forecast accuracy,
    2006). Below 1 is better than that.

    Parameters
    ----------
    y_true, y_pred : array_like, (H,) or (H, C)
        What came, and its forecast, over time; of several channels each is scaled by itself.
    y_train : array_like, (T,) or (T, C)
        The series as far as it was trained on, of more steps than `season`.
    season : int
        Steps of a season; 1 compares with the last value.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If something is not finite numbers of these shapes, or `y_train` never changes from season to season.

    Examples
    --------
    >>> mase([3.0, 5.0], [4.0, 4.0], [1.0, 3.0, 1.0, 3.0])
    0.5
    """
    season = checks.positive_int("season", season)
    train, true = _finite("y_train", y_train), _finite("y_true", y_true)
    predicted = _finite("y_pred", y_pred, true.shape)
    checks.require_shape("y_train", train, ("T", *true.shape[1:]))
    if len(train) <= season:
        raise ValueError(f"y_train must have more than season={season} steps, got {len(train)}")
    scale = np.abs(train[season:] - train[:-season]).mean(axis=0)
    if not (scale > 0).all():
        raise ValueError("y_train must change from season to season, got a scale of 0")
    return float((np.abs(true - predicted) / scale).mean())


def pinball_loss(y_true: ArrayLike, y_pred: ArrayLike, quantiles: ArrayLike) -> float:
    """The mean of max(q e, (q - 1) e) over all values and quantiles, where e = y_true - y_pred: least where
    each prediction is the quantile (Koenker and Bassett 1978).

    Parameters
    ----------
    y_true : array_like, (...)
    y_pred : array_like, (..., Q)
    quantiles : array_like, (Q,)
        Levels from 0 to 1.

    Returns
    -------
    float

    Examples
    --------
    >>> pinball_loss([2.0], [[1.0, 4.0]], [0.25, 0.75])
    0.375
    """
    true, levels = _finite("y_true", y_true), _finite("quantiles", quantiles)
    error = true[..., None] - _finite("y_pred", y_pred, (*true.shape, levels.size))
    if levels.ndim != 1 or not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"quantiles must be levels from 0 to 1, shape (Q,), got {levels.tolist()}")
    return float(np.maximum(levels * error, (levels - 1) * error).mean())


def coverage(y_true: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """The part of the values that are within their intervals, ends included: what `predict_interval` was
    asked for, if it is calibrated.

    Examples
    --------
    >>> coverage([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0])
    0.75
    """
    true = _finite("y_true", y_true)
    low, high = _finite("lower", lower, true.shape), _finite("upper", upper, true.shape)
    return float(((low <= true) & (true <= high)).mean())


def _finite(name: str, value: ArrayLike, shape: tuple[int, ...] | None = None) -> Array:
    """Finite numbers of a shape, at least one, as float64."""
    numbers = checks.real_array(name, checks.array(name, value, "an array of numbers")).astype(np.float64)
    checks.require_shape(name, numbers, numbers.shape if shape is None else shape)
    if numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite numbers, got {'NaN or inf' if numbers.size else 'none'}")
    return numbers
