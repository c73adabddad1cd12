"""Windows of series, each in units of its own, with what is known of a step beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn.checks import Array

ROUNDING = 1e-12  # of numbers of size 1: what varies less is constant


class Scale(NamedTuple):
    """Mean and standard deviation over the first axis; the deviation is 0 where nothing varies.

    What does not vary is 0 in the units of a network, and whatever comes back in those is the mean.
    """

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array, size: Array | None = None) -> Scale:
        """That of values (T, ...); what varies by less than the rounding of numbers of this size does not."""
        size = np.abs(values).max(axis=0) if size is None else size
        relative = values / np.where(size > 0, size, 1.0)  # so that squares neither overflow nor vanish
        deviation = relative.std(axis=0)
        return cls(relative.mean(axis=0) * size, np.where(deviation > ROUNDING, deviation, 0.0) * size)

    def apply(self, values: Array) -> Array:
        """Values of mean 0 and deviation 1."""
        return in_units(values - self.mean, self.deviation)


def in_units(values: Array, unit: Array) -> Array:
    """values / unit, but 0 where the unit is 0."""
    unit = np.broadcast_to(unit, values.shape)
    found: Array = np.divide(values, unit, out=np.zeros(values.shape), where=unit > 0)
    return found


def differenced(values: Array, spans: Sequence[int]) -> Array:
    """What (T, ...) changes within each of some spans, one after the other: sum(spans) steps fewer."""
    for span in spans:
        values = values[span:] - values[:-span]
    return values


class Reach(NamedTuple):
    """What a network forecasts from, and how far."""

    context: int  # T, the steps of a window that set its scale
    ahead: int  # H, the steps forecast at once
    lags: tuple[int, ...] = ()  # each at least H
    differences: tuple[int, ...] = ()
    origins: int = 1  # E: in training a window is forecast from the end of its context and E - 1 steps on

    @property
    def before(self) -> int:
        """The steps before a window that its lags and differences need."""
        return max([sum(self.differences), *(lag - 1 for lag in self.lags)])

    @property
    def past(self) -> int:
        """The steps that a forecast needs."""
        return self.before + self.context

    @property
    def recursion(self) -> list[tuple[int, float]]:
        """The steps back, and their weights, whose sum is the next value if the differences are 0 there."""
        polynomial: Array = np.ones(1)
        for span in self.differences:
            polynomial = np.convolve(polynomial, [1.0, *[0.0] * (span - 1), -1.0])
        return [(back, -weight) for back, weight in enumerate(polynomial.tolist()) if back and weight]


class Windows:
    """Windows side by side, each in units of its own context.

    The network is shown each step's differences, less their mean over the context and divided by their
    deviation there. It forecasts how far the series departs, in that deviation, from the path along which the
    differences keep that mean: without differences the mean itself (Kim et al., Reversible instance
    normalization, 2022), with those of one step a line from the last value, the drift method. As this path is
    known when the forecast is made, quantiles of the departure are quantiles of the value.

    Parameters
    ----------
    reach : Reach
    values : ndarray of float64, (L, B, C)
        From `reach.before` steps before the windows on; at least `reach.past` steps. Those that follow may be
        written later, as they are forecast.
    covariates : ndarray of float64, (L', B, K)
        Of the same steps, scaled.
    """

    def __init__(self, reach: Reach, values: Array, covariates: Array) -> None:
        self.reach, self.values, self.covariates = reach, values, covariates
        known = values[reach.before - sum(reach.differences) : reach.past]
        self.scale = Scale.of(differenced(known, reach.differences), np.abs(known).max(axis=0))

    def inputs(self, begin: int, end: int) -> Array:
        """What the network is shown of some steps, (end - begin, B, C + F).

        A step's differences, then what is known of the next step: see `known`.
        """
        start = self.reach.before + begin - sum(self.reach.differences)
        changes = differenced(self.values[start : self.reach.before + end], self.reach.differences)
        following = self.known(begin, end, self.paths(begin, end, 1))
        return np.concatenate([self.scale.apply(changes), following[:, :, 0]], axis=-1)

    def paths(self, begin: int, end: int, ahead: int) -> Array:
        """How the series would go on after each of some steps, (end - begin, B, ahead, C)."""
        path: list[Array] = []
        shape = (end - begin, *self.scale.mean.shape)
        for h in range(1, ahead + 1):
            value = np.broadcast_to(self.scale.mean, shape)
            for back, weight in self.reach.recursion:
                value = value + weight * (
                    path[h - 1 - back] if back < h else self._shifted(self.values, begin, end, h - back)
                )
            path.append(value)
        return np.stack(path, axis=2)

    def known(self, begin: int, end: int, paths: Array) -> Array:
        """What is known of the steps ahead of each of some steps, (end - begin, B, ahead, F).

        The values so many steps earlier, lag by lag, as departures from the paths, then the covariates.
        """
        lagged = [
            in_units(self.ahead(self.values, begin, end, paths.shape[2], lag) - paths, self._deviation)
            for lag in self.reach.lags
        ]
        return np.concatenate([*lagged, self.ahead(self.covariates, begin, end, paths.shape[2])], axis=-1)

    def ahead(self, array: Array, begin: int, end: int, ahead: int, lag: int = 0) -> Array:
        """The steps ahead of each of some steps, or those a lag before them, (end - begin, B, ahead, ·)."""
        parts = [self._shifted(array, begin, end, h - lag) for h in range(1, ahead + 1)]
        return np.stack(parts, axis=2)

    def restored(self, departures: Array, paths: Array) -> Array:
        """Values (..., B, ahead, C, Q) from a network's."""
        values: Array = paths[..., None] + departures * self._deviation[..., None]
        return values

    @property
    def _deviation(self) -> Array:
        return self.scale.deviation[:, None]

    def _shifted(self, array: Array, begin: int, end: int, shift: int) -> Array:
        start = self.reach.before + shift
        return array[start + begin : start + end]


class Batch(NamedTuple):
    """B windows of S steps, from each of whose last E steps H more are to be forecast."""

    x: Array  # (S, B, C + F): see `Windows.inputs`
    known: Array  # (E, B, H, F): see `Windows.known`
    target: Array  # (E, B, H, C): how far the values depart from the paths, in the unit of each series
    weight: Array  # (B, 1, C, 1): what a window's own unit is in that of the series
    follows: bool = False  # see `fastrnn.data.Dataset`

    def part(self, place: int, pieces: int) -> Batch | None:
        """See `fastrnn.data.Dataset`."""
        x, known, target = (array[:, place::pieces] for array in self[:3])
        return Batch(x, known, target, self.weight[place::pieces]) if x.size else None


@dataclass
class ForecastWindows:
    """All windows of some series that a network learns to forecast from, or is validated on.

    Each window has its own scale. Errors count in one unit per series and channel, the root mean square of
    the deviations of its windows, so that a window that hardly varies cannot outweigh all others.

    Parameters
    ----------
    values, covariates : list of ndarray, (T_i, C) and (T_i, K)
        The series, and their covariates.
    reach : Reach
    units : list of ndarray, (C,), optional
        The units of errors, one for each series, if not by themselves.
    held_out : list of int, optional
        For validation: the steps at the end of each series that are to be forecast, each window from the end
        of its context only. None to train.
    batch_size : int
    scale : Scale, optional
        Of the covariates in the batches.
    """

    values: list[Array]
    covariates: list[Array]
    reach: Reach
    units: list[Array] = field(default_factory=list)
    held_out: list[int] | None = None
    batch_size: int = 32
    scale: Scale | None = None

    @property
    def samples(self) -> int:
        """The number of windows."""
        return len(self.places)

    def batches(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        """Every window once, shuffled if there is a generator."""
        order = np.arange(self.samples) if rng is None else rng.permutation(self.samples)
        for begin in range(0, len(order), self.batch_size):
            yield self._batch(order[begin : begin + self.batch_size])

    def split(self, held_out: list[int]) -> tuple[ForecastWindows, ForecastWindows]:
        """Windows to train on, and those that forecast so many steps at the end of each series."""
        values, covariates = (
            [array[: len(array) - count] for array, count in zip(arrays, held_out, strict=True)]
            for arrays in (self.values, self.covariates)
        )
        training = ForecastWindows(values, covariates, self.reach)
        return training, replace(self, units=training.units, held_out=held_out)

    def cut(self, places: npt.NDArray[np.int64], steps: int) -> list[Array]:
        """The values and the covariates of so many steps from these places on, (steps, B, ·)."""
        each = self.values, self.covariates
        return [np.stack([arrays[k][at : at + steps] for k, at in places], axis=1) for arrays in each]

    def __post_init__(self) -> None:
        """Find the windows' `places`, (N, 2): the series, and the step where what comes before one starts."""
        self.units = self.units or unit_of(self.values, self.reach)
        room = np.array([len(values) for values in self.values]) - self.reach.past - self.reach.ahead + 1
        lows, self._origins = np.zeros_like(room), np.minimum(self.reach.origins, room)
        if self.held_out is not None:
            lows, self._origins = room - np.array(self.held_out) + self.reach.ahead - 1, np.ones_like(room)
        starts = [np.arange(*ends) for ends in zip(lows, room - self._origins + 1, strict=True)]
        series = np.repeat(np.arange(len(starts)), [len(each) for each in starts])
        self.places = np.column_stack([series, np.concatenate(starts)])

    def _batch(self, order: npt.NDArray[np.int64]) -> Batch:
        reach, places = self.reach, self.places[order]
        origins = int(self._origins[places[:, 0]].min())
        last, end = reach.context - 1, reach.context - 1 + origins
        steps = reach.before + end + reach.ahead
        values, covariates = self.cut(places, steps)
        scaled = covariates if self.scale is None else self.scale.apply(covariates)
        windows = Windows(reach, values, scaled)
        paths = windows.paths(last, end, reach.ahead)
        units = np.stack([self.units[series] for series in places[:, 0]])[:, None]
        return Batch(
            windows.inputs(0, end),
            windows.known(last, end, paths),
            in_units(windows.ahead(values, last, end, reach.ahead) - paths, units),
            in_units(windows.scale.deviation[:, None], units)[..., None],
        )


def unit_of(series: list[Array], reach: Reach) -> list[Array]:
    """The root mean square of the deviations of the windows of each series, (C,)."""
    units = []
    for values in series:
        changes = differenced(values, reach.differences)
        windows = np.lib.stride_tricks.sliding_window_view(changes, reach.context, axis=0)
        size = np.abs(values).max(axis=0)
        some = np.moveaxis(windows[:: max(1, reach.context // 8)], -1, 0)  # neighbours hardly differ
        relative = in_units(Scale.of(some, size).deviation, size)  # whose squares neither overflow nor vanish
        units.append(np.sqrt(np.square(relative).mean(axis=0)) * size)
    return units
