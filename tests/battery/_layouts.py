"""The same numbers as they may lie in memory."""

import numpy as np

from ._layers import one_of


def relaid(rng, array):
    """An array of the same numbers and another layout or, of integers, another type; None stays None."""
    if isinstance(array, tuple):
        return tuple(relaid(rng, each) for each in array)
    if array is None:
        return None
    ways = [*LAYOUTS, *INTEGERS] if array.dtype.kind in "iu" else LAYOUTS
    return one_of(rng, ways)(rng, array)


def transposed(rng, array):
    order = rng.permutation(array.ndim)
    return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))


def turned(rng, array):
    """With negative strides."""
    axis = rng.integers(array.ndim)
    return np.flip(np.ascontiguousarray(np.flip(array, axis)), axis)


def sliced(rng, array):
    """Every second of an axis, and other numbers between."""
    axis = rng.integers(array.ndim)
    wide = np.repeat(array, 2, axis)
    some = tuple(slice(None, None, 2) if k == axis else slice(None) for k in range(array.ndim))
    others = tuple(slice(1, None, 2) if k == axis else slice(None) for k in range(array.ndim))
    wide[others] = 99 if array.dtype.kind in "iu" else np.nan
    return wide[some]


def within(rng, array):
    """A part of a larger one."""
    large = np.full([size + 3 for size in array.shape], 99, array.dtype)
    part = large[tuple(slice(1, 1 + size) for size in array.shape)]
    part[...] = array
    return part


def unaligned(rng, array):
    memory = bytearray(array.nbytes + 1)
    moved = np.ndarray(array.shape, array.dtype, memory, offset=1)
    moved[...] = array
    return moved


def frozen(rng, array):
    other = array.copy()
    other.flags.writeable = False
    return other


LAYOUTS = [
    transposed,
    turned,
    sliced,
    within,
    unaligned,
    frozen,
    lambda rng, array: np.asfortranarray(array),
    lambda rng, array: array.astype(array.dtype.newbyteorder()),
    lambda rng, array: array.astype(array.dtype.newbyteorder()).T.copy().T,
]
INTEGERS = [
    lambda rng, array: array.tolist() if array.size else array,
    lambda rng, array: array.astype(
        one_of(rng, ["i2", ">i4", "u8", ">u2", np.min_scalar_type(array.max(initial=0))])
    ),
]
