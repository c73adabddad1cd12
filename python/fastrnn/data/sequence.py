"""Sequences in all the forms that people have them in, turned into one.

Letters: N sequences, T their steps, F features of a step; C in a layout is F, the channels of the time-series
libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data.scaling import Scaling

LAYOUTS = ("NTC", "NCT")

CHUNK = 1 << 17  # elements that are looked at in one go: there may be more than memory holds


class Sequences:
    """Some sequences of steps, each of its own length: all of floats with as many features, or all of tokens.

    Nothing is copied before `padded` is called, so that the arrays may be memory-mapped files.

    Parameters
    ----------
    items : sequence of ndarray
        ``(T_i, F)`` numbers or ``(T_i,)`` integer tokens.
    dtype : {"float32", "float64"}
        What `padded` turns numbers into; tokens become int64.
    scaling : Scaling, optional
        What `padded` applies to numbers.

    Attributes
    ----------
    items : list of ndarray
    lengths : ndarray of int64, (N,)
    """

    def __init__(
        self, items: SequenceOf[Array], dtype: npt.DTypeLike = "float32", scaling: Scaling | None = None
    ) -> None:
        self.items = list(items)
        self.dtype = checks.float_dtype("dtype", dtype)
        self.scaling = scaling
        self.lengths = np.array([len(item) for item in self.items], np.int64)

    @property
    def tokens(self) -> bool:
        """Whether the steps are integer tokens."""
        return self.items[0].ndim == 1

    @property
    def features(self) -> int:
        """F; tokens count as one feature."""
        return 1 if self.tokens else self.items[0].shape[1]

    @property
    def steps(self) -> int:
        """The greatest length."""
        return int(self.lengths.max(initial=0))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, indices: Any) -> Sequences:
        """The sequences of a slice, or at some places, in the order of the places."""
        if isinstance(indices, slice):
            return self._with(self.items[indices])
        return self._with([self.items[place] for place in indices])

    def cut(self, start: int, stop: int | None = None) -> Sequences:
        """Of every sequence the steps from `start` to before `stop`, which may be none."""
        return self._with([item[start:stop] for item in self.items])

    def tail(self, steps: int) -> Sequences:
        """Of every sequence the last `steps` steps, or as many as it has."""
        return self._with([item[max(0, len(item) - steps) :] for item in self.items])

    def head(self, tail: int) -> Sequences:
        """Of every sequence what `tail` leaves over."""
        return self._with([item[: max(0, len(item) - tail)] for item in self.items])

    def scaled(self, scaling: Scaling | None) -> Sequences:
        """The same with another `scaling`."""
        return Sequences(self.items, self.dtype, scaling)

    def _with(self, items: list[Array]) -> Sequences:
        return Sequences(items, self.dtype, self.scaling)

    def rows(self, weights: Array | None = None) -> Iterator[tuple[Array, Array | None]]:
        """All steps, as float64 (n, F), and the weights of their sequences, (n,): some at a time."""
        most = max(1, CHUNK // self.features)
        parts: list[Array] = []
        places: list[int] = []
        count = 0
        for place, item in enumerate(self.items):
            for start in range(0, len(item), most):
                parts.append(item[start : start + most])
                places.append(place)
                count += len(parts[-1])
                if count >= most:
                    yield _joined(parts, places, weights)
                    parts, places, count = [], [], 0
        if parts:
            yield _joined(parts, places, weights)

    def windows(self, steps: int | None) -> Iterator[Sequences]:
        """All the steps in windows of `steps`, one after the other; in a single one if that is None."""
        if steps is None or self.steps <= steps:
            yield self
            return
        for start in range(0, self.steps, steps):
            yield self.cut(start, start + steps)

    def padded(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """Arrays for a network: time first, with 0 after a sequence's end.

        Returns
        -------
        x : ndarray, (T, N, F) of `dtype` or (T, N) of int64
            T is the greatest length.
        lengths : ndarray of int64, (N,)
        """
        shape, scaling = (self.steps, len(self)), self.scaling
        if self.tokens:
            x: Array = np.zeros(shape, np.int64)
        elif scaling is None:
            x = np.zeros((*shape, self.features), self.dtype)
        else:
            x = np.broadcast_to(scaling.mean, (*shape, self.features)).copy()  # which scaled is 0
        for place, item in enumerate(self.items):
            x[: len(item), place] = item
        return x if scaling is None else scaling.apply(x).astype(self.dtype), self.lengths


def _joined(parts: list[Array], places: list[int], weights: Array | None) -> tuple[Array, Array | None]:
    values = np.concatenate(parts).astype(np.float64, copy=False)
    return values, None if weights is None else np.repeat(weights[places], list(map(len, parts)))


def sequences(
    name: str,
    value: Any,
    *,
    lengths: npt.ArrayLike | None = None,
    layout: str = "NTC",
    dtype: npt.DTypeLike = "float32",
    n_tokens: int | None = None,
) -> Sequences:
    """Sequences from whatever a user has, checked.

    Parameters
    ----------
    name : str
        What errors call `value`.
    value : array_like or list
        One of

        - a list, an object array or a Series of N arrays or frames ``(T_i, F)``, or of N arrays ``(T_i,)``,
          which have one feature;
        - an array ``(N, T, F)``, padded to T steps if `lengths` are given;
        - an array or frame ``(N, T)``: N sequences of T steps with one feature, as in scikit-learn, padded
          likewise.

        With `n_tokens` the steps are integers, ``(T_i,)`` or ``(N, T)``.
    lengths : array_like of integers, (N,), optional
        How many steps of each sequence of an array are valid, 1 to T.
    layout : {"NTC", "NCT"}
        The order of the axes: cases, time, channels; or cases, channels, time, as in the time-series
        libraries, where the members of a list are ``(F, T_i)``. It is never guessed.
    dtype : {"float32", "float64"}
        Of the batches to come.
    n_tokens : int, optional
        The steps are tokens from 0 to ``n_tokens - 1``. Without it they are numbers, integers too: which of
        the two they are is never guessed.

    Returns
    -------
    Sequences

    Raises
    ------
    TypeError, ValueError
        If sequences are missing, empty, masked, of different features or columns, or hold NaN, infinity,
        anything but numbers or a token out of range: the error says which and where.

    Examples
    --------
    >>> x, lengths = sequences("X", [np.ones((3, 2)), np.ones((5, 2))]).padded()
    >>> x.shape, x.dtype, lengths.tolist()
    ((5, 2, 2), dtype('float32'), [3, 5])
    """
    checks.one_of("layout", layout, LAYOUTS)
    if hasattr(value, "toarray"):
        raise TypeError(f"{name} must be dense, got a sparse {type(value).__name__}: use {name}.toarray()")
    members = _members(name, value)
    if not len(members):
        raise ValueError(f"{name} must have at least one sequence, got none")
    read = _numbers if n_tokens is None else _tokens
    items = [read(f"{name}[{place}]", item, layout) for place, item in enumerate(members)]
    if lengths is not None:
        items = _valid(name, members, items, lengths)
    _require_alike(name, items)
    found = Sequences(items, dtype)
    _require_usable(name, found, n_tokens)
    return found


def is_list(value: Any) -> bool:
    """Whether sequences come one by one, each of its own length, and not as a padded array."""
    return isinstance(value, (list, tuple)) or (getattr(value, "ndim", 0) == 1 and value.dtype == object)


def column_names(name: str, value: Any) -> list[str] | None:
    """The names of the columns of a frame, or of all frames in a list; None unless all are strings.

    Raises
    ------
    ValueError
        If two frames have others, or in another order.
    """
    frames = list(value) if is_list(value) else [value]
    found = [list(map(str, item.columns)) if _named(item) else None for item in frames]
    for place, names in enumerate(found):
        if names != found[0]:
            raise ValueError(
                f"{name} must have the same columns in the same order in every sequence, got {found[0]} in "
                f"{name}[0] and {names} in {name}[{place}]"
            )
    return found[0] if found else None


def _named(value: Any) -> bool:
    columns = getattr(value, "columns", None)
    return columns is not None and all(isinstance(column, str) for column in columns)


def _members(name: str, value: Any) -> Any:
    """A list of N arrays, or one array of at least two axes."""
    if is_list(value):
        listed = (
            value if isinstance(value, (list, tuple)) else checks.array(name, value, "a list or an array")
        )
        return [_real(f"{name}[{place}]", item) for place, item in enumerate(listed)]
    array = _real(name, value)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"{name} must be a list of (T, F) arrays, or an array (N, T, F) or (N, T), got shape "
            f"{array.shape}. Reshape your data: {name}[None] makes a single sequence a list of one"
        )
    if 0 in array.shape[1:]:
        raise ValueError(
            f"{name} must have steps and features, got 0 feature(s) (shape={array.shape}) while a minimum of "
            "1 is required."
        )
    return array


def _real(name: str, value: Any) -> Array:
    array = checks.array(name, value, "a list or an array")
    return checks.real_array(name, array, getattr(value, "columns", None))


def _numbers(name: str, item: Array, layout: str) -> Array:
    """One sequence as (T, F) numbers."""
    if item.ndim == 1:
        return item[:, None]
    if item.ndim != 2:
        raise ValueError(
            f"{name} must be one sequence, of shape (T, F) or (T,), got shape {item.shape}. "
            "Reshape your data: a single sequence goes into a list of one"
        )
    return item if layout == "NTC" else item.T


def _tokens(name: str, item: Array, layout: str) -> Array:
    """One sequence as (T,) tokens."""
    if item.ndim != 1 or item.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integer tokens, shape (T,), got {checks.came(item)}")
    return item


def _valid(name: str, members: Any, items: list[Array], lengths: npt.ArrayLike) -> list[Array]:
    """The first steps of every sequence of a padded array."""
    if not isinstance(members, np.ndarray):
        raise ValueError(f"lengths go with a padded array: {name} is a list, whose members have their own")
    steps = checks.int_array("lengths", lengths, (len(items),), 1, len(items[0]), "1..T")
    return [item[:length] for item, length in zip(items, steps, strict=True)]


def _require_alike(name: str, items: list[Array]) -> None:
    """Raise unless all sequences have steps of one kind."""
    first = items[0]
    for place, item in enumerate(items):
        if item.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{name} must have as many features in every sequence, got {first.shape[1]} in {name}[0] "
                f"and {item.shape[1]} in {name}[{place}]"
            )
        if item.size == 0:
            what = "steps" if len(item) == 0 else "features"
            raise ValueError(f"{name}[{place}] must not be empty, got a sequence without {what}")


def _require_usable(name: str, found: Sequences, n_tokens: int | None) -> None:
    """Raise unless all numbers are finite, also in the dtype they will have, and all tokens in the range."""
    rows = max(1, CHUNK // found.features)
    with np.errstate(over="ignore"):
        for place, item in enumerate(found.items):
            for start in range(0, len(item), rows):
                chunk = item[start : start + rows]
                if n_tokens is None:
                    good = np.isfinite(chunk.astype(found.dtype, copy=False))
                else:
                    good = (chunk >= 0) & (chunk < n_tokens)
                if not good.all():
                    expected = (
                        f"finite in {found.dtype}" if n_tokens is None else f"tokens within 0..{n_tokens - 1}"
                    )
                    raise ValueError(_words_for_unusable(name, expected, place, start, chunk, good))


def _words_for_unusable(name: str, expected: str, place: int, start: int, chunk: Array, good: Array) -> str:
    """What the first number is that cannot be used, and where."""
    first = tuple(map(int, np.argwhere(~good)[0]))
    came = str(chunk[first]).replace("nan", "NaN")
    where = f"sequence {place}, step {start + first[0]}" + (f", feature {first[1]}" if first[1:] else "")
    return f"{name} must be {expected}, got {came} in {where}"
