"""Series in the forms that users have them in, of NumPy or pandas, and forecasts in the same forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data.stamps import is_pandas, pandas, require_steps, rows_at, stamps_from, stamps_of, step_of

NAMES, STAMPS = "unique_id", "ds"  # the columns of a long frame that are its index, called as Nixtla does
NUMBERS = "numbers of shape (T,) or (T, C)"  # what a series must be


@dataclass(frozen=True)
class Form:
    """How series came, in words that JSON has: so their forecasts go."""

    dimensions: int = 1  # or 2, of each series
    several: str | None = None  # what holds them: "list", "dict" or "index", of names and stamps
    flat: bool = False  # whether the index came as columns
    names: list[Any] = field(default_factory=list)  # of the series in a dict or an index
    columns: list[list[Any]] = field(default_factory=list)  # of each series of pandas, its channels' names
    levels: list[Any] = field(default_factory=list)  # the names of the index's levels
    dtype: str | None = None  # of the stamps, as pandas writes it
    step: str | int | None = None  # from stamp to stamp, likewise; None: there are none
    ends: list[str] = field(default_factory=list)  # the last stamp of each series

    def following(self, count: int) -> list[Any]:
        """The stamps of so many steps that follow each series, indexes of pandas; empty if there are none."""
        if self.step is None:
            return []
        ends = pandas().Index(self.ends, dtype=object).astype(self.dtype)
        return [stamps_from(end, count + 1, self.step)[1:] for end in ends]

    def place(self, name: str, k: int) -> str:
        """What errors call a series of an argument."""
        if self.several is None:
            return name
        return f"{name}[{self.names[k]!r}]" if self.names else f"{name}[{k}]"

    def forecasts(self, found: Iterable[Array], levels: Sequence[float] | None = None) -> Any:
        """Arrays (horizon, C), or (horizon, C, Q) with these levels, in the form of the series."""
        each: list[Any] = [array[:, 0] if self.dimensions == 1 else array for array in found]
        if self.step is not None:
            stamps = self.following(len(each[0]))
            each = [self._framed(*of, levels) for of in zip(each, stamps, self.columns, strict=True)]
        if self.several == "dict":
            return dict(zip(self.names, each, strict=True))
        if self.several == "list":
            return each
        one = pandas().concat(each, keys=self.names, names=self.levels) if self.several else each[0]
        return one.reset_index() if self.flat else one

    def _framed(self, rows: Array, stamps: Any, columns: list[Any], levels: Sequence[float] | None) -> Any:
        stamps = stamps.rename(self.levels[-1])
        if levels is None and self.dimensions == 1:
            return pandas().Series(rows, stamps, name=columns[0])
        if levels is not None and self.dimensions == 1:
            columns = list(levels)
        elif levels is not None and self.flat:
            columns = [f"{column}_{level}" for column in columns for level in levels]
        elif levels is not None:
            columns = pandas().MultiIndex.from_product([columns, levels])
        return pandas().DataFrame(rows.reshape(len(rows), -1), stamps, columns)


class Steps(NamedTuple):
    """The steps of N series that something must be given for."""

    lengths: list[int]
    stamps: list[Any]  # indexes of pandas; empty if there are none
    names: list[Any]  # of the series, if they have names
    which: str  # in words


class Panel(NamedTuple):
    """N series: see `read_series`."""

    values: list[npt.NDArray[np.float64]]  # (T_i, C), copied
    form: Form
    stamps: list[Any]  # indexes of pandas; empty if there are none

    @property
    def channels(self) -> list[Any]:
        """How many, and the names of the columns of frames, else None."""
        named = self.form.columns and self.form.dimensions == 2
        return [self.values[0].shape[1], self.form.columns[0] if named else None]

    def steps(self, ahead: int) -> Steps:
        """Their own steps, and so many ahead."""
        which, stamps = f"of y and {ahead} ahead" if ahead else "of y", self.stamps
        if ahead:
            following = self.form.following(ahead)
            stamps = [index.append(more) for index, more in zip(stamps, following, strict=True)]
        return Steps([len(array) + ahead for array in self.values], stamps, self.form.names, which)


def read_series(name: str, value: Any, like: Form | None = None, steps: Steps | None = None) -> Panel:
    """Series from what users have, as `Forecaster.fit` says; `name` is the argument's, for errors.

    Their stamps have to go in the steps of those that they are to be `like`. For given `steps`, as many rows
    are read: of pandas those with the same stamps. It is a TypeError if something else than numbers came, or
    stamps of which none is the next; a ValueError if a series is empty or of another shape, two have other
    channels, a value is not finite, or stamps are not in equal steps, or not those wanted: each names the
    place.
    """
    members, form = _members(name, value)
    places = [form.place(name, k) for k in range(len(members))]
    if steps is not None:
        places, members = _rows_for(steps, name, places, members, form)
    arrays = [_numbers(*each) for each in zip(places, members, strict=True)]
    columns = [_columns(*each) for each in zip(places, members, strict=True)]
    for place, array, names in zip(places, arrays, columns, strict=True):
        same = array.ndim == arrays[0].ndim and array.shape[1:] == arrays[0].shape[1:]
        _require_same(same, "number of channels", f"shape {arrays[0].shape}", places[0], array.shape, place)
        same = names == columns[0] if array.ndim == 2 else (names is None) == (columns[0] is None)
        _require_same(same, "columns in the same order", columns[0], places[0], names, place)
    form = replace(form, dimensions=arrays[0].ndim, columns=[names for names in columns if names is not None])
    indexes = [member.index for member in members] if form.columns else []
    values: list[Array] = [array.reshape(len(array), -1).astype(np.float64) for array in arrays]
    for k, (place, array) in enumerate(zip(places, values, strict=True)):
        _require_finite(place, array, indexes[k] if indexes else None)
    if not indexes or steps is not None:
        return Panel(values, form, [])
    indexes, form = _stamped(places, indexes, form, like)
    return Panel(values, form, indexes)


def _members(name: str, value: Any) -> tuple[list[Any], Form]:
    """The series as they came, and what holds them."""
    form = Form()
    if is_pandas(value):
        if flat := [column for column in (NAMES, STAMPS) if column in getattr(value, "columns", ())]:
            if STAMPS not in flat:
                raise ValueError(f"{name} must have a column {STAMPS!r} of stamps beside {NAMES!r}")
            value, form = value.set_index(flat), Form(flat=True)
        if value.index.nlevels == 1:
            return [value], form
        if value.index.nlevels > 2:
            raise ValueError(
                f"{name} must have an index of stamps, or names and stamps, got {value.index.names}"
            )
        groups = value.groupby(level=0, sort=False, dropna=False, observed=True)
        form = replace(form, several="index", levels=_labels(f"the index of {name}", value.index.names[:1]))
        value = {key: part.droplevel(0) for key, part in groups}
    elif isinstance(value, Mapping):
        form = Form(several="dict")
    elif isinstance(value, (list, tuple)) and any(
        each is not None and checks.array(f"{name}[{k}]", each, NUMBERS).ndim for k, each in enumerate(value)
    ):
        return list(value), Form(several="list")
    else:
        return [value], form
    if not value:
        raise ValueError(f"{name} must have at least one series, got none")
    return list(value.values()), replace(form, names=_labels(f"the series of {name}", value))


def _rows_for(
    steps: Steps, name: str, places: list[str], members: list[Any], form: Form
) -> tuple[list[str], list[Any]]:
    """Of each series, in the order of those that the steps are of, the rows of the steps."""
    if form.several is None and steps.stamps and is_pandas(members[0]):  # one, for all by its stamps
        order = [0] * len(steps.stamps)
    elif bool(steps.names) != bool(form.names) or (not steps.names and len(members) != len(steps.lengths)):
        wanted, came = (" by name" if names else "" for names in (steps.names, form.names))
        count = f"{len(steps.lengths)} series{wanted}, as y"
        raise ValueError(f"{name} must be of {count}, got {len(members)}{came}")
    else:
        if missing := [each for each in steps.names if each not in form.names]:
            raise ValueError(f"{name} must be of the same series as y, there is none for {missing[0]!r}")
        order = [form.names.index(each) for each in steps.names] or list(range(len(members)))
    places, members = [places[k] for k in order], [members[k] for k in order]
    stamps = steps.stamps or [None] * len(members)
    rows = zip(places, members, steps.lengths, stamps, strict=True)
    return places, [_rows(*each, steps.which) for each in rows]


def _rows(place: str, member: Any, length: int, stamps: Any, which: str) -> Any:
    if stamps is not None and is_pandas(member):
        return member.iloc[rows_at(place, member.index, stamps, which)]
    steps = checks.array(place, member, NUMBERS).shape[:1]
    if steps and steps[0] != length:
        raise ValueError(f"{place} must have {length} steps, those {which}, got {steps[0]}")
    return member


def _stamped(places: list[str], indexes: list[Any], form: Form, like: Form | None) -> tuple[list[Any], Form]:
    """The stamps of each series, checked to be in equal steps, and the form that goes on from them."""
    indexes = [stamps_of(*each) for each in zip(places, indexes, strict=True)]
    dtype, step, wanted = str(indexes[0].dtype), like.step if like else None, ""
    if like is not None and like.dtype is not None:
        wanted = ", as in fit"
        if dtype.partition("[")[0] != like.dtype.partition("[")[0]:
            raise ValueError(f"{places[0]} must have an index of {like.dtype}{wanted}, got {dtype}")
    step = step_of(places[0], indexes[0]) if step is None else step
    for place, index in zip(places, indexes, strict=True):
        if str(index.dtype) != dtype:
            raise ValueError(f"{place} must have an index of {dtype}, as {places[0]}, got {index.dtype}")
        require_steps(place, index, step, wanted)
    ends = [str(index[-1]) for index in indexes]
    levels = [*form.levels, *_labels(f"the index of {places[0]}", [indexes[0].name])]
    return indexes, replace(form, dtype=dtype, step=step, ends=ends, levels=levels)


def _numbers(place: str, value: Any) -> Array:
    """An array of numbers, (T,) or (T, C), with at least a step and a channel."""
    if hasattr(value, "to_pandas"):  # polars' and others', whose stamps would be lost
        raise TypeError(
            f"{place} must be of NumPy or pandas, got {checks.came(value)}; pass {place}.to_pandas()"
        )
    array = checks.real_array(place, checks.array(place, value, NUMBERS), getattr(value, "columns", None))
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{place} must be {NUMBERS}, with at least one step, got shape {array.shape}")
    return array


def _columns(place: str, value: Any) -> list[Any] | None:
    """What pandas calls the channels."""
    if not is_pandas(value):
        return None
    return _labels(f"the channels of {place}", value.columns if value.ndim == 2 else [value.name])


def _labels(what: str, values: Iterable[Any]) -> list[Any]:
    """Names that a file can hold."""
    found = [value.item() if isinstance(value, np.generic) else value for value in values]
    for value in found:
        if not isinstance(value, str | int | None):
            raise TypeError(f"{what} must have names that are strings or integers, got {checks.came(value)}")
    return found


def _require_same(same: bool, what: str, was: Any, there: str, is_: Any, here: str) -> None:
    if not same:
        name = here.partition("[")[0]
        raise ValueError(
            f"{name} must have the same {what} in all series, got {was} in {there} and {is_} in {here}"
        )


def _require_finite(place: str, values: Array, stamps: Any) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        step, channel = map(int, bad[0])
        where = f"step {step}" if stamps is None else f"step {step}, {stamps[step]}"
        where += f", channel {channel}" if values.shape[1] > 1 else ""
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(f"{place} must be finite, got {values[step, channel]} at {where}{more}")
