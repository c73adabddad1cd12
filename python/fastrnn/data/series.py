"""Series to forecast: read and checked, with what is known of a step beforehand, and cut into windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array

WINDOWS_OVER_A_STEP = 8  # in an epoch: a series is often so short that windows side by side would be few
FORECASTS_OF_A_STEP = 4  # in validation


def read_series(name: str, value: Any) -> tuple[list[npt.NDArray[np.float64]], list[int], bool]:
    """Series from what users have.

    Parameters
    ----------
    name : str
        The argument's name, for errors.
    value : array_like, (T,) or (T, C), or list of them
        Steps, and channels if there are several. A list or tuple is several series, unless its members are
        numbers.

    Returns
    -------
    series : list of ndarray, (T_i, C)
        Copies in float64.
    dimensions : list of int
        1 or 2, of each as it came.
    several : bool
        Whether they came as a list.

    Raises
    ------
    TypeError
        If something else than numbers came.
    ValueError
        If a series is empty or of another shape, two have different channels, or a value is NaN or infinite:
        it names the series, the step and the channel.
    """
    several = isinstance(value, (list, tuple)) and any(np.ndim(member) for member in value)
    members = list(value) if several else [value]
    names = [f"{name}[{place}]" if several else name for place in range(len(members))]
    arrays = [_numbers(*pair) for pair in zip(names, members, strict=True)]
    series = [array.reshape(len(array), -1).astype(np.float64) for array in arrays]
    for place, array in zip(names, series, strict=True):
        if array.shape[1] != series[0].shape[1]:
            raise ValueError(
                f"{name} must have the same number of channels in all series, got {series[0].shape[1]} in "
                f"{names[0]} and {array.shape[1]} in {place}"
            )
        _require_finite(place, array)
    return series, [array.ndim for array in arrays], several


class Scale(NamedTuple):
    """Mean and standard deviation of each channel, (C,); 1 for a channel that is constant."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array) -> Scale:
        """That of values (T, C)."""
        deviation = values.std(axis=0)
        constant = deviation <= 1e-12 * np.abs(values).max(axis=0)
        return cls(values.mean(axis=0), np.where(constant, 1.0, deviation))

    def apply(self, values: Array) -> Array:
        """Values of mean 0 and deviation 1."""
        scaled: Array = (values - self.mean) / self.deviation
        return scaled

    def undo(self, values: Array) -> Array:
        """The values that were scaled."""
        found: Array = values * self.deviation + self.mean
        return found


def known_inputs(values: Array, covariates: Array, lags: Sequence[int], start: int, stop: int) -> Array:
    """What is known of the steps from `start` to before `stop` when those up to some lags before are.

    Parameters
    ----------
    values : ndarray, (T, ..., C)
    covariates : ndarray, (T', ..., K)
    lags : sequence of int
        Each at most `start`.
    start, stop : int

    Returns
    -------
    ndarray, (stop - start, ..., len(lags) * C + K)
        The values so many steps earlier, lag by lag, then the covariates.
    """
    lagged = [values[start - lag : stop - lag] for lag in lags]
    return np.concatenate([*lagged, covariates[start:stop]], axis=-1)


class Frame(NamedTuple):
    """What a network forecasts from, and how far."""

    context: int  # steps of a window
    ahead: int  # H, the steps forecast at once
    lags: tuple[int, ...]  # each at least H

    @property
    def first(self) -> int:
        """The first step of a series that can be forecast: all before it are needed."""
        return max(1, *self.lags) if self.lags else 1

    @property
    def past(self) -> int:
        """The steps that a forecast needs."""
        return self.context + self.first - 1


class Batch(NamedTuple):
    """Windows of T steps side by side, from each of whose steps H more are to be forecast."""

    x: Array  # (T, B, C + F): a step's values, and what is known of the next step
    known: Array  # (T, B, H, F): what is known of the H steps after it
    target: Array  # (T, B, H, C): their values
    skipped: int  # steps at the start whose forecasts do not count

    def windows(self, steps: int | None) -> Iterator[Batch]:
        """The steps in windows of `steps`, one after the other."""
        steps = steps or len(self.x)
        for start in range(0, len(self.x), steps):
            window = slice(start, start + steps)
            skipped = min(max(self.skipped - start, 0), len(self.x[window]))
            yield Batch(self.x[window], self.known[window], self.target[window], skipped)


@dataclass
class ForecastWindows:
    """All windows of some series that a network learns to forecast from, or is validated on.

    Parameters
    ----------
    values, known : list of ndarray, (T_i, C) and (T_i, F)
        The series, scaled, and what is known of each step, where those before ``frame.first`` do not matter.
    frame : Frame
    held_out : list of int, optional
        For validation: the steps at the end of each series that are to be forecast, from the ends of windows
        only. None to train.
    """

    values: list[Array]
    known: list[Array]
    frame: Frame
    held_out: list[int] | None = None

    def __len__(self) -> int:
        """The number of windows in an epoch."""
        return sum(len(self._starts(place, 0)) for place in range(len(self.values)))

    @property
    def samples(self) -> int:
        """The steps of an epoch that are forecast from."""
        return len(self) * (self.frame.context if self.held_out is None else 1)

    def batches(self, size: int, rng: np.random.Generator | None) -> Iterator[Batch]:
        """An epoch, shuffled and starting anywhere if there is a generator."""
        places = [
            (place, start)
            for place in range(len(self.values))
            for start in self._starts(place, 0 if rng is None else int(rng.integers(2**31)))
        ]
        order = range(len(places)) if rng is None else rng.permutation(len(places))
        for begin in range(0, len(places), size):
            yield self._batch([places[k] for k in order[begin : begin + size]])

    def split(self, fraction: float) -> tuple[ForecastWindows, ForecastWindows]:
        """Windows to train on, and some of the last `fraction` of each series to validate on."""
        held_out = [max(self.frame.ahead, round(fraction * len(values))) for values in self.values]
        values, known = (
            [array[: len(array) - count] for array, count in zip(arrays, held_out, strict=True)]
            for arrays in (self.values, self.known)
        )
        training = ForecastWindows(values, known, self.frame)
        return training, ForecastWindows(self.values, self.known, self.frame, held_out)

    def _starts(self, place: int, offset: int) -> npt.NDArray[np.int64]:
        """Where the windows of a series start; in training always as many, going round from an offset."""
        context, ahead, _ = self.frame
        low = self.frame.first - 1
        high = len(self.values[place]) - ahead - context  # the last one
        if self.held_out is not None:
            low = len(self.values[place]) - self.held_out[place] - context
            return np.arange(high, low - 1, -max(1, ahead // FORECASTS_OF_A_STEP))
        count, stride = high - low + 1, max(1, context // WINDOWS_OVER_A_STEP)
        return low + (offset + np.arange(0, count, stride)) % count

    def _batch(self, places: Sequence[tuple[int, int]]) -> Batch:
        T, H, _ = self.frame

        def stacked(arrays: list[Array], shift: int) -> Array:
            return np.stack([arrays[p][s + shift : s + shift + T] for p, s in places], axis=1)

        def ahead(arrays: list[Array]) -> Array:
            parts = [
                np.lib.stride_tricks.sliding_window_view(arrays[p][s + 1 : s + T + H], H, axis=0)
                for p, s in places
            ]
            return np.ascontiguousarray(np.stack(parts, axis=1).swapaxes(2, 3))

        x = np.concatenate([stacked(self.values, 0), stacked(self.known, 1)], axis=-1)
        skipped = 0 if self.held_out is None else T - 1
        return Batch(x, ahead(self.known), ahead(self.values), skipped)


def _numbers(name: str, value: Any) -> Array:
    """An array of numbers, (T,) or (T, C), with at least a step and a channel."""
    expected = "numbers of shape (T,) or (T, C)"
    array = checks.array(name, value, expected)
    if array.dtype.kind == "O":  # a DataFrame of several dtypes, for one
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be {expected}, got {checks.came(value)}: {error}") from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be {expected}, got dtype {array.dtype}")
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name} must be {expected}, with at least one step, got shape {array.shape}")
    return array


def _require_finite(name: str, values: Array) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        step, channel = map(int, bad[0])
        where = f"step {step}" + (f", channel {channel}" if values.shape[1] > 1 else "")
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(f"{name} must be finite, got {values[step, channel]} at {where}{more}")
