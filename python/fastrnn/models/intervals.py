"""Intervals around forecasts: one family, each within the wider ones, of which scores choose."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastrnn.checks import Array


def scores(values: Array, forecasts: Array, deviation: Array, levels: Sequence[float]) -> Array:
    """Which interval of the family each value is on the edge of: see `bounds`.

    Parameters
    ----------
    values : ndarray, (...)
    forecasts : ndarray, (..., Q)
        Quantiles that do not fall, or the single forecast of a mean.
    deviation : ndarray
        The unit beyond the outer quantiles, to broadcast to values; where it is 0 so is what forecasts vary.
    levels : sequence of float
        Of the Q forecasts, the median's 0.5 among them; [0.5] for a mean.

    Returns
    -------
    ndarray, (...)
        From 0, of the median; infinite where no interval holds the value.
    """
    middle = levels.index(0.5)
    missed = values - forecasts[..., middle]
    found: Array = np.zeros(missed.shape)
    for sign, coverages, reaches in _sides(forecasts, levels):
        distance = np.maximum(sign * missed, 0)
        beyond = np.maximum(distance - reaches[..., -1], 0)
        endless = np.where(beyond > 0, np.inf, 0.0)
        found += _along(distance, reaches, coverages)
        found += np.divide(beyond, deviation, out=endless, where=np.broadcast_to(deviation > 0, beyond.shape))
    return found


def bounds(score: Array, forecasts: Array, deviation: Array, levels: Sequence[float]) -> tuple[Array, Array]:
    """The interval of some score: the greater the score, the wider.

    Up to the coverage of the outer quantiles, it lies between the quantiles that a network forecasts for such
    a coverage, where need be between two of them; beyond, it grows by the deviation. Since all intervals are
    one nested family, the k-th smallest score of n others covers a further value with probability k / (n + 1)
    (Gupta, Kuchibhotla and Ramdas, Nested conformal prediction and quantile out-of-bag ensemble methods,
    2022). Beyond the outer quantiles this is conformalised quantile regression (Romano, Patterson and Candès
    2019), around a mean it is split conformal.

    Parameters
    ----------
    score : ndarray, to broadcast to (...)
    forecasts, deviation, levels
        As of `scores`.

    Returns
    -------
    lower, upper : ndarray, (...)
    """
    median = forecasts[..., levels.index(0.5)]
    score = np.broadcast_to(score, median.shape)
    found = []
    for sign, coverages, reaches in _sides(forecasts, levels):
        beyond = np.where(deviation > 0, np.maximum(score - coverages[-1], 0), 0.0)
        found.append(median + sign * (_along(score, coverages, reaches) + beyond * deviation))
    return found[0], found[1]


def score_of(coverage: float, scores: Array, horizon: int) -> Array:
    """The score of the interval that covers so much of so many steps, (horizon, C), by scores (N, H, C)."""
    count = len(scores)
    if horizon > scores.shape[1]:
        limit = f"at most {scores.shape[1]} for intervals, as fitted"
        raise ValueError(f"horizon must be {limit}, got {horizon}")
    if count == 0:
        raise ValueError(
            "coverage is learned from forecasts of what fit holds out, and there were none: it takes "
            "validation_fraction above 0, at least one epoch, and a fit that has ended"
        )
    rank = max(1, math.ceil((count + 1) * coverage - 1e-9))
    if rank > count:
        most = math.floor(1e4 * count / (count + 1)) / 1e4
        raise ValueError(
            f"coverage must be at most {most:.4g}, for the {count} forecasts held out when the model was "
            f"fitted, got {coverage}: a greater validation_fraction gives more"
        )
    found: Array = np.partition(scores[:, :horizon].astype(np.float64), rank - 1, axis=0)[rank - 1]
    return found


def _sides(forecasts: Array, levels: Sequence[float]) -> list[tuple[int, Array, Array]]:
    """Below the median and above it: the coverages of the quantiles there, and how far from it they are."""
    middle, coverages = levels.index(0.5), 2 * np.array(levels) - 1
    sides = []
    for sign, places in ((-1, slice(middle, None, -1)), (1, slice(middle, None))):
        reaches = sign * (forecasts[..., places] - forecasts[..., [middle]])
        sides.append((sign, sign * coverages[places], reaches))
    return sides


def _along(at: Array, here: Array, there: Array) -> Array:
    """Where points (...) between some marks (..., J), the first of them 0, are between other marks."""
    widths = np.diff(here)
    into = np.maximum(at[..., None] - here[..., :-1], 0)
    part = np.divide(into, widths, out=np.where(into > 0, 1.0, 0.0), where=widths > 0)
    found: Array = (np.minimum(part, 1) * np.diff(there)).sum(axis=-1)
    return found
