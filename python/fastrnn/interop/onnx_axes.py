"""Nodes of an ONNX graph that put what layers give in another shape, or take a part of it.

Parts that mean something are the last step, the first one of what runs backwards, one of two directions, and
all steps in reverse order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.interop.onnx_constants import axis_of, dtype_of, integers, parts, slices, whole
from fastrnn.interop.onnx_file import Node
from fastrnn.interop.onnx_parts import Pending
from fastrnn.interop.onnx_signals import (
    RANK,
    Aside,
    Axis,
    Dim,
    Link,
    Part,
    Signal,
    Steps,
    regrouped,
    size_of,
)
from fastrnn.layers import Last, Reverse

FIRST = Pending("the first step of both directions")  # of which the second half is where that one ends


class Stack(NamedTuple):
    """The last steps of several layers or directions, one after the other along an axis, as PyTorch's h_n."""

    parts: tuple[Signal, ...]  # with nothing in that axis
    place: int


def ended(link: Link, name: str, bidirectional: bool = False) -> Link:
    """The last step of what a layer gives; of its second half the first, if that runs backwards."""
    key = "last", bidirectional
    return link.then(name, Last(bidirectional=bidirectional), key=key, pooled=True)


def reversed_(link: Link, name: str, **more: Any) -> Link:
    """All steps in reverse order."""
    key = "reverse", more.get("lengths", link.lengths)
    return link.then(name, Reverse(), key=key, **more)


def joined(parts: Sequence[Signal], place: int) -> Signal | None:
    """Both directions of one layer, put together along an axis that has nothing, or half the features."""
    if len(parts) != 2 or parts[0].half != 0 or parts[1].half != 1 or parts[0].axes != parts[1].axes:
        return None
    first, second = parts[0].link, parts[1].link
    if first is not second:  # forwards the last step is that of all features, and that of this half alone
        alike = isinstance(first.layer, Last) and isinstance(second.layer, Last)
        if not alike or first.before is not second.before:
            return None
    axes, (directions, *rest) = list(parts[1].axes), second.features
    if axes[place] not in ((), tuple(rest)):
        return None
    axes[place] = (directions, *axes[place])
    return Signal(second, tuple(axes))


def pick(node: Node, x: Signal, place: int, index: Any) -> Signal | Aside:
    """One of an axis, which has nothing left then."""
    group, link = x.axes[place], x.link
    axes = [*x.axes[:place], (), *x.axes[place + 1 :]]
    size = size_of(group)
    if isinstance(size, int) and isinstance(index, int) and -size <= index < size:
        index %= size
    last = index == -1 or (index == size + -1 if isinstance(size, Dim) else index == size - 1)
    if not group and index == 0:
        return x
    both = halves(node, x, place)
    if both and len(group) == 1 and index in (0, 1):
        return both[index]
    if link.before is None:
        return _some(node, x, place, index, 1)
    if group == (link.time,) and not link.pooled:
        if index == 0 and x.half == 1:
            return Signal(ended(link, node.name, True), tuple(axes), 1)
        if index == 0 and isinstance(link.layer, Reverse) and link.before.before is not None:
            return Signal(ended(link.before, node.name), tuple(axes), x.half)
        if last and link.lengths is not None:
            raise node.refuse(
                f"the step that is last of all may be padding, as there are lengths, {link.lengths!r}; Y_h "
                "is what comes after the last valid step"
            )
        if last:
            return Signal(ended(link, node.name), tuple(axes), x.half)
        if index == 0 and x.half is None and len(link.features) == 2:
            return Signal(link.then(node.name, FIRST, key="first", pooled=True), tuple(axes))
        raise node.refuse(f"it takes step {index}; the last one is supported, of both directions or each")
    raise node.refuse(f"it takes one of {_named(group)}, which is no part that layers can give")


def _some(node: Node, x: Signal, place: int, start: Any, count: int) -> Aside:
    """Some of the first axis of a graph's input, which can only be a state."""
    source = x.link.source
    size = source.axes[0].size
    if x.axes[place] != source.axes[:1] or not isinstance(start, int) or not 0 <= start < (size or start + 1):
        raise node.refuse(f"it takes a part of {_named(x.axes[place])}, which layers cannot give")
    return Aside("input", (Part(source, start, start + count),))


def _named(group: Sequence[Axis]) -> str:
    return " and ".join(axis.name for axis in group) or "an axis of size 1"


def halves(node: Node, x: Signal, place: int) -> list[Signal] | None:
    """The two directions, if that is what an axis begins with."""
    group, link = x.axes[place], x.link
    if len(link.features) != 2 or x.half is not None or group[:1] != link.features[:1]:
        return None
    axes = (*x.axes[:place], group[1:], *x.axes[place + 1 :])
    second = ended(link.before, node.name, True) if link.layer == FIRST and link.before is not None else link
    return [Signal(link, axes, 0), Signal(second, axes, 1)]


def _transpose(node: Node) -> Any:
    x = node.inputs[0]
    perm = node.option("perm", None) or range(len(x.axes))[::-1]
    if sorted(perm) != list(range(len(x.axes))):
        raise node.refuse(f"perm={list(perm)} does not fit {len(x.axes)} axes")
    return x.with_axes([x.axes[place] for place in perm])


def _reshape(node: Node) -> Any:
    x, shape = node.inputs[0], integers(node, 1)
    if not node.option("allowzero", 0):
        if any(
            isinstance(size, int) and size == 0 and place >= len(x.axes) for place, size in enumerate(shape)
        ):
            raise node.refuse(f"shape {shape} does not fit {len(x.axes)} axes")
        shape = [size_of(x.axes[place]) if size == 0 else size for place, size in enumerate(shape)]
    return x.with_axes(regrouped(x.axes, shape, node.refuse))


def _flatten(node: Node) -> Any:
    x, axis = node.inputs[0], node.option("axis", 1)
    axis = axis + len(x.axes) if axis < 0 else axis
    groups = x.axes[:axis], x.axes[axis:]
    return x.with_axes([tuple(axis for group in part for axis in group) for part in groups])


def _squeeze(node: Node) -> Any:
    x, axes = node.inputs[0], node.integers("axes", 1)
    sizes = [size_of(group) for group in x.axes]
    if axes is None:
        if any(isinstance(size, Dim) for size in sizes):
            raise node.refuse("which axes are of size 1 is not known: it has no axes")
        axes = [place for place, size in enumerate(sizes) if size == 1]
    axes = [axis_of(node, axis, len(sizes)) for axis in axes]
    for axis in axes:
        if sizes[axis] != 1:
            raise node.refuse(f"it drops {_named(x.axes[axis])}, whose size may be another than 1")
    return x.with_axes([group for place, group in enumerate(x.axes) if place not in axes])


def _unsqueeze(node: Node) -> Any:
    x, axes = node.inputs[0], node.integers("axes", 1)
    rank = len(x.axes) + len(axes or ())
    places = {axis_of(node, axis, rank) for axis in axes or ()}
    if not axes or len(places) != len(axes):
        raise node.refuse(f"its axes are {axes}")
    groups = iter(x.axes)
    return x.with_axes([() if place in places else next(groups) for place in range(rank)])


def _shape(node: Node) -> Any:
    sizes = [size_of(group) for group in node.inputs[0].axes]
    sizes = sizes[node.option("start", 0) : node.option("end", None)]
    found = np.empty(len(sizes), object)
    found[:] = sizes
    return found if any(isinstance(size, Dim) for size in sizes) else found.astype(np.int64)


def _size(node: Node) -> Any:
    size = size_of([axis for group in node.inputs[0].axes for axis in group])
    return np.array(size, object if isinstance(size, Dim) else np.int64)


def _identity(node: Node) -> Any:
    return node.inputs[0]


def _cast(node: Node) -> Any:
    x, dtype = node.inputs[0], dtype_of(node)
    have = x.link.dtype
    if have == dtype:
        return x
    told = x.link.source.dtype  # tokens and lengths may be given as they are wanted: whole numbers
    whole_numbers = dtype.name in ("int32", "int64") or (dtype.kind == "f" and told.kind == "i")
    if x.raw and whole_numbers and have.kind in "iuf":
        link = Link(None, x.link.name, None, x.link.features, x.link.source, dtype)
        return x.after(link)
    raise node.refuse(f"a cast of {have} to {dtype} changes what is computed")


def _gather(node: Node) -> Any:
    x, indices = node.inputs[0], node.inputs[1]
    place = axis_of(node, node.option("axis", 0), len(x.axes))
    if not isinstance(indices, np.ndarray) or indices.size != 1 or indices.ndim > 1:
        raise node.refuse("it takes more than one, or what is not constant")
    index = indices.reshape(-1).tolist()[0]
    found = pick(node, x, place, index)
    if isinstance(found, Aside) or indices.ndim == 1:
        return found
    return found.with_axes([*found.axes[:place], *found.axes[place + 1 :]])


def _slice(node: Node) -> Any:
    x = node.inputs[0]
    for place, part in slices(node, len(x.axes)).items():
        x = _part(node, x, place, part)
        if isinstance(x, Aside):
            return x
    return x


def _part(node: Node, x: Signal, place: int, part: slice) -> Any:
    """What a slice of one axis is."""
    size = size_of(x.axes[place])
    if whole(part, size):
        return x
    ends = not isinstance(part.stop, Dim) and (part.stop is None or (part.stop > 2**30 and part.step > 0))
    if part.step == 1:
        if (part.start == -1 and ends) or (part.start != -1 and part.stop == part.start + 1):
            return pick(node, x, place, part.start)
        both = halves(node, x, place)
        if both and isinstance(size, int):
            start, stop, _ = part.indices(size)
            if (start, stop) in ((0, size // 2), (size // 2, size)):
                return both[0 if start == 0 else 1]
    whole_axis = part.step == -1 and part.start in (-1, size - 1 if isinstance(size, int) else size + -1)
    if whole_axis and ends and not x.link.pooled and len(x.axes[place]) == 1:
        (axis,) = x.axes[place]
        if x.link.lengths is None and x.link.time in (None, axis) and axis in x.link.source.axes[:2]:
            return x.after(reversed_(x.link, node.name, time=axis))
    if x.raw and part.step == 1 and isinstance(size, int):
        start, stop, _ = part.indices(size)
        if start < stop:
            return _some(node, x, place, start, stop - start)
    shown = ":".join("" if each is None else str(each) for each in (part.start, part.stop, part.step))
    raise node.refuse(f"it takes {shown} of {_named(x.axes[place])}, which is no part that layers can give")


def _split(node: Node) -> Any:
    x = node.inputs[0]
    place = axis_of(node, node.option("axis", 0), len(x.axes))
    size = size_of(x.axes[place])
    found = parts(node, size) if isinstance(size, int) else []
    if len(found) == 1:
        return [x]
    if x.raw and found:
        starts = np.cumsum([0, *found]).tolist()
        return [_some(node, x, place, start, count) for start, count in zip(starts, found, strict=False)]
    both = halves(node, x, place)
    if both and len(found) == 2 and found[0] == found[1]:
        return both
    raise node.refuse(f"it splits {_named(x.axes[place])} in parts that layers do not give")


def _concat(node: Node) -> Any:
    inputs = node.inputs
    if len(inputs) == 1:
        return inputs[0]
    if not all(isinstance(each, Signal) for each in inputs) or all(each.raw for each in inputs):
        return _aside(node)
    place = axis_of(node, node.option("axis", 0), len(inputs[0].axes))
    if any(len(each.axes) != len(inputs[0].axes) for each in inputs):
        raise node.refuse("what it joins has different numbers of axes")
    together = joined(inputs, place)
    if together is not None:
        return together
    found: list[Signal] = []
    for each in inputs:
        group = each.axes[place]
        if group and (group != each.link.features[:1] or len(each.link.features) < 2):
            raise node.refuse("it joins what is not two directions of one layer, in their order")
        found += (halves(node, each, place) or [each]) if group else [each]
    return stacked(found, place)


def stacked(found: Sequence[Signal], place: int) -> Any:
    """Some of the last steps along an axis."""
    if len(found) == 1:
        return found[0]
    return joined(found, place) or Stack(tuple(found), place)


def _aside(node: Node) -> Any:
    """Of states that come into or out of the graph."""
    given = [each for each in node.inputs if not isinstance(each, np.ndarray)]
    if all(isinstance(each, (Aside, Stack)) and not parts_of(each) for each in given):
        return Aside(" and ".join(sorted({each.what if isinstance(each, Aside) else "h" for each in given})))
    taken = [parts_of(each) for each in given]
    if not all(taken):
        raise node.refuse("it works on something else besides what the layers give")
    if node.op not in ("Concat", "Identity", "Cast", "Squeeze", "Unsqueeze"):
        raise node.refuse("it works on a part of an input of the graph, which can only be a state")
    return Aside("input", tuple(part for parts in taken for part in parts))


def parts_of(value: Any) -> tuple[Part, ...]:
    """What of the graph's inputs a state takes, if it is that and has their numbers in their order."""
    if isinstance(value, Aside):
        return value.parts
    if not isinstance(value, Signal) or not value.raw or not value.axes:
        return ()
    source = value.link.source
    order = [axis for group in value.axes for axis in group if axis.size != 1]
    if order != [axis for axis in source.axes if axis.size != 1]:
        return ()
    return (Part(source, 0, source.axes[0].size),)


def _of_stack(node: Node, x: Stack) -> Any:
    """A part of the last steps."""
    rank, count = len(x.parts[0].axes), len(x.parts)
    if node.op == "Identity":
        return x
    if node.op == "Reshape" and x.place == 0 and count % 2 == 0:  # PyTorch's (L*D, B, H) as (L, D, B, H)
        sizes = [count // 2, 2, *(size_of(group) for group in x.parts[0].axes[1:])]
        given = integers(node, 1)
        alike = [have in (size, -1) for have, size in zip(given, sizes, strict=False)]
        both = [joined(x.parts[place : place + 2], 0) for place in range(0, count, 2)]
        if len(given) == len(sizes) and all(alike) and all(both):
            return Stack(tuple(each.with_axes([(), *each.axes]) for each in both if each is not None), 0)
    if node.op == "Slice":
        found = slices(node, rank)
        part = found.get(x.place)
        if part is not None and len(found) == 1 and not isinstance(part.start, Dim):
            return stacked(x.parts[part], x.place)
    if node.op in ("Gather", "Split") and axis_of(node, node.option("axis", 0), rank) == x.place:
        if node.op == "Split":
            sizes = parts(node, count)
            ends = np.cumsum([0, *sizes]).tolist()
            return [stacked(x.parts[a:b], x.place) for a, b in itertools.pairwise(ends)]
        indices = node.inputs[1]
        if isinstance(indices, np.ndarray) and indices.dtype.kind == "i" and indices.ndim < 2:
            chosen = indices.reshape(-1).tolist()
            if all(-count <= index < count for index in chosen):
                if indices.ndim:
                    return stacked([x.parts[index] for index in chosen], x.place)
                part = x.parts[chosen[0]]
                return part.with_axes([*part.axes[: x.place], *part.axes[x.place + 1 :]])
    raise node.refuse("it changes the last steps of several layers, which only an output of the graph may be")


def _of_steps(node: Node, x: Steps) -> Any:
    """The numbers of steps with more axes."""
    if node.op in ("Identity", "Cast"):
        return x
    axes = node.integers("axes", 1) if node.op == "Unsqueeze" else None
    if axes is None or len(axes) > 8:
        raise node.refuse("the operator is not supported on the numbers of steps")
    rank = x.rank + len(axes)
    added = {axis_of(node, axis, rank) for axis in axes}
    left = [place for place in range(rank) if place not in added]
    return Steps(x.size, left[x.place], rank)


def _rule(of_signal: Callable[[Node], Any]) -> Callable[[Node], Any]:
    """A rule for signals as one for states too."""

    def rule(node: Node) -> Any:
        first = node.inputs[0]
        if isinstance(first, Stack):
            return _of_stack(node, first)
        if isinstance(first, Aside):
            found = _aside(node)
            return [found] * len(node.outputs)
        if isinstance(first, Steps):
            return _of_steps(node, first)
        if not isinstance(first, Signal):
            raise node.refuse("what it works on is constant, where and how depends on the input")
        found = of_signal(node)
        if isinstance(found, Signal) and len(found.axes) > RANK:
            raise node.refuse(f"what it gives has more than {RANK} axes")
        return found

    return rule


#: How each operator works on a signal.
AXES: dict[str, Callable[[Node], Any]] = {
    "Transpose": _rule(_transpose),
    "Reshape": _rule(_reshape),
    "Flatten": _rule(_flatten),
    "Squeeze": _rule(_squeeze),
    "Unsqueeze": _rule(_unsqueeze),
    "Identity": _rule(_identity),
    "Cast": _rule(_cast),
    "Gather": _rule(_gather),
    "Slice": _rule(_slice),
    "Split": _rule(_split),
    "Shape": _rule(_shape),
    "Size": _rule(_size),
    "Concat": _concat,
}
