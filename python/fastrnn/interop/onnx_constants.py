"""Constants of an ONNX graph computed from others: the weights before they come to a node, and the shapes
that are computed around it.

An array of objects has `Dim` among its numbers, sizes that are not known before there is an input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.onnx_file import Budget, Node, array_of
from fastrnn.interop.onnx_signals import LARGEST, RANK, Dim, Spread, Steps


def fold(node: Node, budget: Budget) -> Any:
    """What a node gives that has only constants to work on: one value, or a list of them.

    Raises
    ------
    Refusal
        If its operator is none of those known here, or it cannot be computed.
    """
    if node.op not in FOLDS:
        raise node.refuse(f"the operator is not supported on constants; known are {', '.join(sorted(FOLDS))}")
    try:
        found = FOLDS[node.op](node, budget)
        return [_tidy(each) for each in found] if isinstance(found, list) else _tidy(found)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError, MemoryError) as error:
        if str(error).startswith(node.label):
            raise
        raise node.refuse(f"it cannot be computed: {error}") from None


def _tidy(value: Any) -> Any:
    """An array; sizes that are all known as plain integers."""
    if isinstance(value, (Spread, Steps)):
        return value
    array = np.asarray(value)
    if array.ndim > RANK:
        raise ValueError(f"it has more than {RANK} axes")
    if array.dtype != object:
        return array
    if any(not isinstance(each, Dim) and abs(each) > LARGEST for each in array.flat):
        raise ValueError("a size is too large")
    if not any(isinstance(each, Dim) for each in array.flat):
        return array.astype(np.int64)
    return array


def once(array: Array) -> Array:
    """Numbers that are repeated along an axis but once."""
    parts = tuple(slice(None) if stride else slice(1) for stride in array.strides)
    return array[(...,) + parts]


def integers(node: Node, place: int) -> list[Any]:
    """An input that is a list of ints and Dims."""
    array = node.get(place)
    if not isinstance(array, np.ndarray) or array.ndim > 1 or array.dtype.kind not in "iuO":
        raise node.refuse("its integers are not constant")
    return [each if isinstance(each, Dim) else int(each) for each in array.reshape(-1).tolist()]


def axis_of(node: Node, axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise node.refuse(f"axis {axis} is none of {rank}")
    return axis % rank


def slices(node: Node, rank: int) -> dict[int, slice]:
    """What a Slice takes of each axis that it names."""
    starts, ends = node.integers("starts", 1), node.integers("ends", 2)
    if starts is None or ends is None:
        raise node.refuse("it has no starts or ends")
    axes = node.integers("axes", 3)
    steps = node.integers("steps", 4) or [1] * len(starts)
    axes = list(range(len(starts))) if axes is None else axes
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.refuse("starts, ends, axes and steps do not fit")
    found = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 0 and not isinstance(end, Dim) and end < -(2**30):
            end = None
        found[axis_of(node, axis, rank)] = slice(start, end, step)
    return found


def fold_spread(node: Node, budget: Budget) -> Any:
    """The same of a constant that is repeated along sizes which are not known, and stay whole."""
    needed = node.inputs if node.op == "Concat" else node.inputs[:1]
    if node.op not in _OF_SPREAD or not all(isinstance(each, Spread) for each in needed):
        raise node.refuse(_NOT_SPREAD)
    sizes = node.inputs[0].sizes
    arrays = [each.array if isinstance(each, Spread) else each for each in node.inputs]
    if node.op == "Slice":
        found = slices(node, len(sizes))
        for axis, part in found.items():
            if isinstance(sizes[axis], Dim):
                if not whole(part, sizes[axis]):
                    raise node.refuse("it takes a part of an axis whose size is not known")
                found[axis] = slice(None)
        array = arrays[0][tuple(found.get(axis, slice(None)) for axis in range(len(sizes)))]
        return _spread_like(node, array, sizes, range(array.ndim))
    made = fold(node._replace(inputs=arrays), budget)
    rank = len(sizes)
    kept: Any = range(rank)
    if node.op == "Transpose":
        kept = node.option("perm", None) or range(rank)[::-1]
    elif node.op in ("Squeeze", "Gather", "Concat", "Split"):
        axes = node.integers("axes", 1) if node.op == "Squeeze" else [node.option("axis", 0)]
        if axes is None:
            raise node.refuse("its axes are missing")
        axes = [axis_of(node, axis, rank) for axis in axes]
        if any(isinstance(sizes[axis], Dim) for axis in axes):
            raise node.refuse("it changes an axis whose size is not known")
        drop = node.op == "Squeeze" or (node.op == "Gather" and node.inputs[1].ndim == 0)
        kept = [axis for axis in range(rank) if not drop or axis not in axes]
    elif node.op == "Unsqueeze":
        axes = {axis % made.ndim for axis in node.integers("axes", 1)}
        left = iter(range(rank))
        kept = [None if axis in axes else next(left) for axis in range(made.ndim)]
    if isinstance(made, list):
        return [_spread_like(node, array, sizes, kept) for array in made]
    return _spread_like(node, made, sizes, kept)


def _spread_like(node: Node, array: Array, sizes: Sequence[Any], kept: Sequence[int | None]) -> Spread:
    if len(kept) != array.ndim:
        raise node.refuse(_NOT_SPREAD)
    found: list[Any] = list(array.shape)
    for place, axis in enumerate(kept):
        if axis is not None and isinstance(sizes[axis], Dim):
            found[place] = sizes[axis]
    return Spread(array, tuple(found))


def whole(part: slice, size: Any) -> bool:
    """Whether it is all of an axis, in its order."""
    if part.step != 1 or part.start != 0:
        return False
    if isinstance(size, Dim):
        return part.stop == size or (not isinstance(part.stop, Dim) and part.stop > 2**30)
    return not isinstance(part.stop, Dim) and part.stop >= size


_NOT_SPREAD = "the operator is not supported on a constant that is expanded to a size not known"
_OF_SPREAD = {"Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Concat"}


def _identity(node: Node, budget: Budget) -> Any:
    return node.inputs[0]


def _constant(node: Node, budget: Budget) -> Any:
    (key, value), *others = node.attributes.items() or [("", None)]
    floats, ints = ("value_float", "value_floats"), ("value_int", "value_ints")
    kinds = dict.fromkeys(floats, np.float32) | dict.fromkeys(ints, np.int64)
    if others or key not in (*kinds, "value"):
        raise node.refuse(f"attributes {sorted(node.attributes)} are not supported")
    return array_of(value, node.label) if key == "value" else np.array(value, kinds[key])


def dtype_of(node: Node) -> np.dtype[Any]:
    """What a Cast makes, in numbers that we have."""
    from onnx import TensorProto as T

    known = {T.FLOAT: "float32", T.FLOAT16: "float32", T.BFLOAT16: "float32", T.DOUBLE: "float64"}
    known |= {T.INT32: "int32", T.INT64: "int64", T.BOOL: "bool", T.INT8: "int8", T.UINT8: "uint8"}
    to = node.option("to", None)
    if to not in known:
        raise node.refuse(f"to={to!r} is not supported")
    return np.dtype(known[to])


def _cast(node: Node, budget: Budget) -> Any:
    from onnx import helper

    (array, *_), dtype = node.inputs, dtype_of(node)
    if array.dtype == object:
        if dtype.kind != "i":
            raise node.refuse("a size that is not known is needed as an integer")
        return array
    narrow = helper.tensor_dtype_to_np_dtype(node.attributes["to"])  # float16 and bfloat16 are kept wider
    if array.dtype == dtype == narrow:
        return array
    budget.spend(array.size * dtype.itemsize)
    with np.errstate(over="ignore"):
        return array.astype(narrow).astype(dtype)


def _transpose(node: Node, budget: Budget) -> Any:
    array = node.inputs[0]
    return array.transpose(node.option("perm", None))


def _reshape(node: Node, budget: Budget) -> Any:
    array, shape = node.inputs[0], integers(node, 1)
    if not node.option("allowzero", 0):
        shape = [array.shape[place] if size == 0 else size for place, size in enumerate(shape)]
    _own(array, shape, budget)
    return array.reshape(shape)


def _own(array: Array, shape: Any, budget: Budget) -> None:
    """What NumPy copies when it reshapes."""
    if not array.flags.c_contiguous:
        budget.spend(array.nbytes)


def _flatten(node: Node, budget: Budget) -> Any:
    array, axis = node.inputs[0], node.option("axis", 1)
    _own(array, None, budget)
    axis = axis + array.ndim if axis < 0 else axis
    return array.reshape(math.prod(array.shape[:axis]), -1)


def _squeeze(node: Node, budget: Budget) -> Any:
    axes = node.integers("axes", 1)
    return node.inputs[0].squeeze(None if axes is None else tuple(axes))


def _unsqueeze(node: Node, budget: Budget) -> Any:
    axes = node.integers("axes", 1)
    if axes is None or len(axes) > 8:
        raise node.refuse("its axes are missing")
    return np.expand_dims(node.inputs[0], tuple(axes))


def _concat(node: Node, budget: Budget) -> Any:
    budget.spend(sum(each.nbytes for each in node.inputs))
    return np.concatenate(node.inputs, axis=node.option("axis", 0))


def _slice(node: Node, budget: Budget) -> Any:
    array = node.inputs[0]
    found = slices(node, array.ndim)
    return array[tuple(found.get(axis, slice(None)) for axis in range(array.ndim))]


def _gather(node: Node, budget: Budget) -> Any:
    array, indices = node.inputs[0], node.inputs[1]
    axis = axis_of(node, node.option("axis", 0), array.ndim)
    budget.spend(array.nbytes // max(array.shape[axis], 1) * indices.size)
    return np.take(array, indices, axis=axis)


def _split(node: Node, budget: Budget) -> Any:
    array = node.inputs[0]
    axis = axis_of(node, node.option("axis", 0), array.ndim)
    ends = np.cumsum(parts(node, array.shape[axis]))
    return np.split(array, ends[:-1].tolist(), axis)


def parts(node: Node, size: int) -> list[int]:
    """How much of an axis goes to each output of a Split."""
    found = node.integers("split", 1)
    if found is None:
        count = len(node.outputs)
        each = -(-size // count)
        found = [min(each, size - each * place) for place in range(count)]
    if len(found) != len(node.outputs) or sum(found) != size or min(found) < 0:
        raise node.refuse(f"its parts {found} are not those of an axis of size {size}")
    return found


def _shape(node: Node, budget: Budget) -> Any:
    return np.array(node.inputs[0].shape[node.option("start", 0) : node.option("end", None)], np.int64)


def _size(node: Node, budget: Budget) -> Any:
    return np.array(node.inputs[0].size, np.int64)


def _expand(node: Node, budget: Budget) -> Any:
    return spread(node, node.inputs[0], integers(node, 1), budget)


def spread(node: Node, array: Array, shape: Sequence[Any], budget: Budget) -> Any:
    """An array repeated to a shape: no memory is taken, but one that is too large is refused."""
    rank = max(len(shape), array.ndim)
    array = array.reshape([1] * (rank - array.ndim) + [*array.shape])
    sizes = [1] * (rank - len(shape)) + [*shape]
    pairs: list[tuple[int, Any]] = list(zip(array.shape, sizes, strict=True))
    sizes = [have if size == 1 else size for have, size in pairs]
    known: list[int] = [1 if isinstance(size, Dim) else size for size in sizes]
    if any(isinstance(size, Dim) and have != 1 for have, size in pairs):
        raise node.refuse(f"an array of shape {array.shape} is expanded to a shape that is not known")
    if min(known, default=1) < 0 or math.prod(known) * array.itemsize > budget.limit:
        raise node.refuse(f"the shape {known} is too large")
    array = np.broadcast_to(array, known)
    return array if known == sizes else Spread(array, tuple(sizes))


def _constant_of_shape(node: Node, budget: Budget) -> Any:
    value = node.option("value", None)
    array = np.zeros(1, np.float32) if value is None else array_of(value, node.label)
    return spread(node, array.reshape(()), integers(node, 0), budget)


def _tile(node: Node, budget: Budget) -> Any:
    array, repeats = node.inputs[0], integers(node, 1)
    pairs: list[tuple[int, Any]] = list(zip(array.shape, repeats, strict=True))
    if all(have == 1 or n == 1 for have, n in pairs):
        return spread(node, array, [have if n == 1 else n for have, n in pairs], budget)
    budget.spend(array.nbytes * math.prod(repeats))
    return np.tile(array, repeats)


def _range(node: Node, budget: Budget) -> Any:
    start, limit, delta = (each.item() for each in node.inputs)
    if isinstance(limit, Dim) and (start, delta) == (0, 1):
        return Steps(limit, 0, 1)
    if any(isinstance(each, Dim) for each in (start, limit, delta)) or not delta:
        raise node.refuse("its ends are not constant")
    count = max(math.ceil((limit - start) / delta), 0)
    budget.spend(count * 8)
    return (np.arange(count) * delta + start).astype(node.inputs[0].dtype)


def _where(node: Node, budget: Budget) -> Any:
    budget.spend(sum(each.nbytes for each in node.inputs))
    return np.where(*node.inputs)


def _arithmetic(function: Callable[..., Any]) -> Callable[[Node, Budget], Any]:
    def of(node: Node, budget: Budget) -> Any:
        shape = np.broadcast_shapes(*(each.shape for each in node.inputs))
        budget.spend(math.prod(shape) * max(each.itemsize for each in node.inputs))
        with np.errstate(all="ignore"):
            return np.asarray(function(*node.inputs))

    return of


def _divide(a: Array, b: Array) -> Any:
    """Integers towards zero, as ONNX has it."""
    if a.dtype == object or b.dtype == object:
        raise ValueError("a size that is not known is divided")
    return np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else a / b


def _equal(a: Array, b: Array) -> Any:
    """No size is negative: whether one that is not known is another number is not known either."""
    a, b = np.broadcast_arrays(a, b)
    found = np.empty(a.shape, bool)
    for place in np.ndindex(a.shape):
        first: Any = a[place]
        second: Any = b[place]
        if isinstance(second, Dim):
            first, second = second, first
        different = isinstance(first, Dim) and first != second
        if different and (isinstance(second, Dim) or second >= 0 or first.offset):
            raise ValueError("whether a size that is not known equals another is not known")
        found[place] = first == second
    return found


def _product(node: Node, budget: Budget) -> Any:
    array, axes = node.inputs[0], node.integers("axes", 1)
    keep = bool(node.option("keepdims", 1))
    return np.asarray(array.prod(axis=None if axes is None else tuple(axes), keepdims=keep))


def _dequantize(node: Node, budget: Budget) -> Any:
    x, scale = node.inputs[:2]
    budget.spend(x.nbytes)  # of one byte each: four times as much comes out
    if x.dtype.kind not in "iu":
        raise node.refuse(f"x of {x.dtype} is not supported")
    return dequantized(x, *quantization(node, x.shape, scale, node.get(2), node.option("axis", 1)))


def _quantize(node: Node, budget: Budget) -> Any:
    """What a DequantizeLinear follows: weights of a network that was trained to be quantized."""
    x, zero = node.inputs[0], node.get(2)
    if set(node.attributes) - {"axis"} or x.dtype.kind != "f" or zero is None or zero.dtype.kind not in "iu":
        raise node.refuse("attributes but axis, and a zero point left out or of floats, are not supported")
    scale, zero = quantization(node, x.shape, node.inputs[1], zero, node.option("axis", 1))
    budget.spend(x.nbytes)
    limits = np.iinfo(zero.dtype)
    return np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(zero.dtype)


def dequantized(x: Array, scale: Array, zero: Array) -> Array:
    """(x - zero) * scale, of integers."""
    wide = np.int64 if x.itemsize > 2 else np.int32
    array: Array = (x.astype(wide) - zero.astype(wide)).astype(scale.dtype)
    array *= scale
    return array


def quantization(node: Node, shape: Sequence[int], scale: Any, zero: Any, axis: int) -> tuple[Array, Array]:
    """Scale and zero point, as they go with an array of a shape: one, or one for each place on an axis.

    Raises
    ------
    Refusal
        If they do not fit.
    """
    if node.option("block_size", 0):
        raise node.refuse(f"block_size={node.attributes['block_size']} is not supported")
    if not isinstance(scale, np.ndarray) or scale.dtype.kind != "f":
        raise node.refuse("its scale is not constant, or not of floats")
    zero = np.zeros(scale.shape, np.int8) if zero is None else zero
    if not isinstance(zero, np.ndarray) or zero.dtype.kind not in "iu":
        raise node.refuse("its zero point is not constant, or not of integers")
    wanted = [1] * len(shape)
    if scale.size > 1:
        wanted[axis_of(node, axis, len(shape))] = shape[axis]
    if zero.size != scale.size or scale.size != math.prod(wanted):
        raise node.refuse(f"scale of {scale.shape} and zero point of {zero.shape} do not fit {tuple(shape)}")
    return scale.reshape(wanted), zero.reshape(wanted)


#: How each operator is computed.
FOLDS: dict[str, Callable[[Node, Budget], Any]] = {
    "Identity": _identity,
    "Constant": _constant,
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Shape": _shape,
    "Size": _size,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Where": _where,
    "Equal": _arithmetic(_equal),
    "Not": _arithmetic(np.logical_not),
    "And": _arithmetic(np.logical_and),
    "Or": _arithmetic(np.logical_or),
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_divide),
    "Neg": _arithmetic(np.negative),
    "ReduceProd": _product,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}
