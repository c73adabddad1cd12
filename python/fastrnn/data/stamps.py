"""Stamps of steps, such as hours: in which steps an index of pandas goes, and what follows it.

pandas is not imported, but where something of it came, or goes out.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import numpy.typing as npt


def is_pandas(value: Any) -> bool:
    """Whether it is a Series or a DataFrame."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, (pandas.Series, pandas.DataFrame))


def pandas() -> Any:
    """The package, which whoever has fitted a model to something of it may have on another machine."""
    try:
        return importlib.import_module("pandas")
    except ImportError:
        raise ImportError(
            "forecasts of series that were of pandas take pandas; predict(y) of arrays takes none"
        ) from None


def stamps_from(first: Any, count: int, step: str | int) -> Any:
    """An index of so many stamps, each a step after the one before."""
    kinds = {"Timestamp": "date_range", "Period": "period_range", "Timedelta": "timedelta_range"}
    if (kind := type(first).__name__) in kinds:
        return getattr(pandas(), kinds[kind])(first, periods=count, freq=step)
    return pandas().RangeIndex(first, first + count * step, step)


def stamps_of(place: str, index: Any) -> Any:
    """An index that something can follow, of integers in int64; `place` is for errors."""
    if index.dtype.kind not in "Mmiu" and not str(index.dtype).startswith("period"):
        came = f"{index.dtype}; pandas.to_datetime makes dates of words, {place}.to_numpy() goes without"
        raise TypeError(f"{place} must have an index of dates, periods, times or integers, got {came}")
    try:
        pandas().api.types.pandas_dtype(str(index.dtype))  # what a file has of it
    except TypeError:
        expected = "an index with a time zone that has a name, as tz_convert gives"
        raise TypeError(f"{place} must have {expected}, got {index.dtype}") from None
    if index.hasnans:
        raise ValueError(f"{place} must have an index without gaps, got {index[index.isna()][0]}")
    return index.astype("int64") if index.dtype.kind in "iu" else index


def step_of(place: str, index: Any) -> str | int:
    """That of its freq, or the one that all of it goes in, or else the usual one, from which some differ."""
    if index.dtype.kind == "i":
        return max(1, int(np.median(np.abs(np.diff(index))))) if len(index) > 1 else 1
    named = index.freqstr or (pandas().infer_freq(index) if len(index) > 2 else None)
    if named is None:
        usual, day = pandas().Series(index[1:] - index[:-1]).abs().median(), pandas().Timedelta(days=1)
        named = pandas().tseries.frequencies.to_offset(usual if usual > 0 * day else day).freqstr
    elif named.startswith("<"):
        raise ValueError(f"{place} must have an index whose freq pandas has a name for, got {named}")
    return str(named).lstrip("-")  # of one that descends, which is refused


def require_steps(place: str, index: Any, step: str | int, wanted: str) -> None:
    """Raise unless each stamp is a step after the one before; `wanted` says in the error where it is from."""
    follows = index[1:] == stamps_from(index[0], len(index), step)[1:]
    good = np.asarray(follows & (index[1:] > index[:-1]))
    if not good.all():
        at = int(np.argmin(good))
        came = f"{index[at + 1]} follows {index[at]}; {place}.to_numpy() goes without"
        raise ValueError(f"{place} must have an index in ascending steps of {step}{wanted}, but {came}")


def rows_at(place: str, index: Any, stamps: Any, which: str) -> npt.NDArray[np.intp]:
    """Where some stamps are in an index; `which` says in errors what they are of."""
    if not index.is_unique:
        raise ValueError(f"{place} must have each stamp once, got {index[index.duplicated()][0]} again")
    rows: npt.NDArray[np.intp] = index.get_indexer(stamps)
    if (rows < 0).any():
        own = f", which are {index[0]} to {index[-1]}" if len(index) else ""
        missing = f"{stamps[rows < 0][0]} is not among its own{own}; {place}.to_numpy() goes row by row"
        raise ValueError(f"{place} must have the stamps {which}, {stamps[0]} to {stamps[-1]}, but {missing}")
    return rows
