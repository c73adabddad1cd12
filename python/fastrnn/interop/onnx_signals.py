"""What goes along the edges of an ONNX graph, as far as its nodes form a row of layers.

Each value is one of: a constant, an array whose numbers may be sizes not yet known (`Dim`); a constant that
is repeated along such a size (`Spread`); a `Signal`, what the layers so far make of a graph's input, with
what its axes mean; or something that is nothing of that, with the reason (`Broken`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.archive import Refusal

LONGEST = 1000  # layers in a row
LARGEST = 2**63 - 1  # number in a shape
RANK = 16  # axes of an array, and sizes in a product


@dataclass(frozen=True, eq=False)
class Axis:
    """What an axis of an array is: the same in all arrays that have it."""

    name: str
    size: int | None  # None is any


Axes = tuple[Axis, ...]  # merged into one, in this order; none is an axis of size 1


@dataclass(frozen=True)
class Dim:
    """A number that depends on sizes not yet known: factor * product of them + offset."""

    factor: int
    axes: tuple[Axis, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        if len(self.axes) > RANK or max(abs(self.factor), abs(self.offset)) > LARGEST:
            raise Refusal("a size is too large")

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Dim):
            if self.offset or other.offset:
                return NotImplemented
            axes = sorted([*self.axes, *other.axes], key=id)
            return Dim(self.factor * other.factor, tuple(axes))
        return Dim(self.factor * int(other), self.axes, self.offset * int(other)) if other else 0

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Dim):
            return NotImplemented
        return Dim(self.factor, self.axes, self.offset + int(other))

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Dim):
            return 0 if self == other else NotImplemented
        return self + -int(other)

    __rmul__, __radd__ = __mul__, __add__


def size_of(axes: Sequence[Axis]) -> Any:
    """That of axes merged into one: an int, or a Dim."""
    factor = math.prod(axis.size for axis in axes if axis.size is not None)
    unknown = sorted((axis for axis in axes if axis.size is None), key=id)
    return Dim(factor, tuple(unknown)) if unknown and factor else factor


class Broken(NamedTuple):
    """No value that is known, and why."""

    reason: str


class Part(NamedTuple):
    """What a state takes of an input of the graph: so many of its first axis."""

    source: Source
    start: int
    stop: int | None  # None is all the rest


class Aside(NamedTuple):
    """What is only a state: a part of a graph's input, or c of an LSTM."""

    what: str
    parts: tuple[Part, ...] = ()


class Steps(NamedTuple):
    """The numbers 0, 1, … along an axis."""

    size: Any  # how many, an int or a Dim
    place: int  # which axis
    rank: int  # of so many; the others are of size 1


class Spread(NamedTuple):
    """A constant repeated along axes whose size is not known: of size 1 there."""

    array: Array
    sizes: tuple[Any, ...]  # of each axis an int or a Dim


@dataclass(frozen=True, eq=False)
class Source:
    """An input of the graph."""

    name: str
    axes: tuple[Axis, ...]
    dtype: np.dtype[Any]  # of floats float32 or float64


@dataclass(frozen=True, eq=False)
class Link:
    """A layer in the row, after those before it."""

    before: Link | None  # None for a graph's input itself
    name: str
    layer: Any
    features: tuple[Axis, ...]  # of what it gives: the axes that its last one is made of
    source: Source
    dtype: np.dtype[Any]
    time: Axis | None = None  # where they are known
    batch: Axis | None = None
    lengths: str | None = None  # the graph's input that says how many steps are valid
    states: tuple[Part, ...] = ()  # what of the graph's inputs it begins with
    pooled: bool = False
    depth: int = 0
    after: dict[Hashable, Link] = field(default_factory=dict)

    def then(
        self, name: str, layer: Any, features: Axes | None = None, *, key: Hashable = None, **more: Any
    ) -> Link:
        """The next; the same one again where it is asked for by the same key."""
        if key is not None and key in self.after:
            return self.after[key]
        if self.depth >= LONGEST:
            raise Refusal(f"the row of layers has more than {LONGEST}")
        known = {each: getattr(self, each) for each in ("dtype", "time", "batch", "lengths", "pooled")} | more
        features = self.features if features is None else features
        made = Link(self, name, layer, features, self.source, **known, depth=self.depth + 1)
        if key is not None:
            self.after[key] = made
        return made

    def row(self) -> list[Link]:
        """All, from the first layer on."""
        found, link = [], self
        while link.before is not None:
            found.append(link)
            link = link.before
        return found[::-1]


class Signal(NamedTuple):
    """What a row of layers gives, or one direction of it, with its axes in some order."""

    link: Link
    axes: tuple[tuple[Axis, ...], ...]  # each of those it is made of; none at all is one of size 1
    half: int | None = None  # 0 forwards, 1 backwards, None for all features

    @property
    def raw(self) -> bool:
        """Whether it is a graph's input itself."""
        return self.link.before is None

    def with_axes(self, axes: Sequence[tuple[Axis, ...]]) -> Signal:
        """The same numbers with other axes."""
        return self._replace(axes=tuple(axes))

    def after(self, link: Link) -> Signal:
        """What a next layer gives that keeps the axes."""
        return self._replace(link=link)


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same for all inputs."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and bool((first == second).all())
    return type(first) is type(second) and isinstance(first, (Signal, Aside)) and first == second


def regrouped(axes: Sequence[Axes], shape: Sequence[Any], refuse: Callable[[str], Exception]) -> list[Axes]:
    """Axes after a Reshape to a shape of ints and Dims, of which one may be -1: as the order stays, each new
    axis is made of some next to each other."""
    left = [axis for group in axes for axis in group]
    shown = f"[{', '.join(map(_shown, shape))}]"

    def take(wanted: Any, last: bool) -> tuple[Axis, ...]:
        goal, found = _factors(wanted), list[Axis]()
        while _factors(size_of(found)) != goal or (not found and left and left[-1 if last else 0].size == 1):
            if not left:
                raise refuse(f"a reshape to {shown} mixes axes, or fixes a size that may vary")
            found.append(left.pop(-1 if last else 0))
        return tuple(found[::-1] if last else found)

    whole = [place for place, size in enumerate(shape) if isinstance(size, int) and size == -1]
    cut = whole[0] if whole else len(shape)
    first = [take(size, False) for size in shape[:cut]]
    rest = [take(size, True) for size in reversed(shape[cut + 1 :])][::-1]
    if not whole:
        if size_of(left) != 1:
            raise refuse(f"a reshape to {shown} does not fit, or fixes a size that may vary")
        return [*first[:-1], (*first[-1], *left)] if first else []
    return [*first, tuple(left), *rest]


def _factors(size: Any) -> tuple[int, Counter[Axis]]:
    if isinstance(size, Dim):
        return (size.factor, Counter(size.axes)) if not size.offset else (-1, Counter())
    return int(size), Counter()


def _shown(size: Any) -> str:
    return str(size) if not isinstance(size, Dim) else "*".join(axis.name for axis in size.axes)
