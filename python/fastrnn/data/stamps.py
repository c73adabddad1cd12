"""Stamps of steps, such as hours: in which steps an index of pandas goes, and what follows it.

pandas is not imported, but where something of it came, or goes out.
"""

from __future__ import annotations

import importlib
import sys
import warnings
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
    """An index of so many stamps, each a step after the one before; by a local clock as by ``resample``."""
    kinds = {"Timestamp": "date_range", "Period": "period_range", "Timedelta": "timedelta_range"}
    if (kind := type(first).__name__) not in kinds:
        return pandas().RangeIndex(first, first + count * step, step)
    clock = {"ambiguous": True, "nonexistent": "shift_forward"} if kind == "Timestamp" else {}
    return getattr(pandas(), kinds[kind])(first, periods=count, freq=step, **clock)


def stamps_of(place: str, index: Any) -> Any:
    """An index that ascends and that something can follow, of integers in int64; `place` is for errors."""
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
    index = index.astype("int64") if index.dtype.kind in "iu" else index
    _require(index[1:] > index[:-1], place, index, "each stamp once, in ascending order")
    return index


def step_of(place: str, index: Any) -> str | int:
    """That of its freq, or the one that all of it goes in, or a part, or else the usual one."""
    if index.dtype.kind == "i":
        return int(np.median(np.diff(index))) if len(index) > 1 else 1
    sizes = [size for k in range(5) if (size := len(index) // 4**k) > (5 if k else 2)]
    parts = (index[at : at + size] for size in sizes for at in range(0, len(index) - size + 1, size))
    named = index.freqstr or next(filter(None, map(_inferred, parts)), None)
    if named is None:
        usual = pandas().Series(index[1:] - index[:-1]).median() if len(index) > 1 else "D"
        named = pandas().tseries.frequencies.to_offset(usual).freqstr
    elif named.startswith("<"):
        raise ValueError(f"{place} must have an index whose freq pandas has a name for, got {named}")
    return str(named)


def _inferred(index: Any) -> str | None:
    """The name of what pandas takes its steps for, if they are all one; one day it is to return an offset."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infer_freq")
        found = pandas().infer_freq(index)
    name: str | None = getattr(found, "freqstr", found)
    return name


def require_steps(place: str, index: Any, step: str | int, wanted: str) -> None:
    """Raise unless each stamp is a step after the one before; `wanted` says in the error where it is from."""
    follows = index[1:] == stamps_from(index[0], len(index), step)[1:]
    _require(follows, place, index, f"an index in ascending steps of {step}{wanted}")


def _require(good: Any, place: str, index: Any, expected: str) -> None:
    """Raise unless every stamp but the first is good after the one before."""
    if not np.all(good):
        at = int(np.argmin(good))
        came = f"{index[at + 1]} follows {index[at]}; {place}.to_numpy() goes without"
        raise ValueError(f"{place} must have {expected}, but {came}")


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
