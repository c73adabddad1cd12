"""Tensors in a file: where their numbers are, and arrays made of them when they are wanted.

Letters as in the files themselves: an offset and strides count numbers, not bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.checks import Array

#: The dtypes that are read, as they lie in a file: bfloat16 is the upper half of a float32.
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in "float16 float32 float64 int8 int16 int32 int64 uint8 bool".split()
} | {"bfloat16": np.dtype("<u2")}

LEAST = 32 << 20  # bytes of memory that the objects of any file may take, and twice its size besides


class Source:
    """A file of which tensors are parts.

    Parameters
    ----------
    size : int
        Of the file, in bytes: arrays of more than twice as many are not made of it.
    storage : callable, optional
        The bytes of a storage by its key.
    big : bool
        Whether numbers lie with their highest byte first.
    """

    def __init__(self, size: int, storage: Callable[[str], Any] | None = None, *, big: bool = False) -> None:
        self.size, self.big, self._storage = size, big, storage or _none
        self._room = 2 * size + LEAST
        self._taken = 0
        self._read: dict[str, Any] = {}

    def spend(self, size: int) -> None:
        """Refuse to make objects of more memory than twice the file's size."""
        self._room -= size
        if self._room < 0:
            hint = "save a dict of tensors, without arrays and lists beside them"
            raise ValueError(f"its objects need more memory than twice the size of the file: {hint}")

    def tensor(
        self, key: str, dtype: str, length: int, offset: int, shape: Sequence[int], strides: Sequence[int]
    ) -> Tensor:
        """A view of a storage that has so many numbers.

        Raises
        ------
        ValueError
            If it does not lie within the storage, or has more numbers than there are between its first and
            its last.
        """
        if len(shape) != len(strides) or len(shape) > 8:
            raise ValueError(f"it has a tensor of shape {_words(shape)} and strides {_words(strides)}")
        numbers = math.prod(shape)
        extent = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if numbers else 0
        if offset + extent > length:
            place = f"offset {offset}, shape {_words(shape)} and strides {_words(strides)}"
            raise ValueError(f"it has a tensor outside its storage of {length} numbers: {place}")
        if numbers > extent:
            what = f"of shape {_words(shape)} over {extent} numbers"
            raise ValueError(f"it has an expanded tensor, {what}: save a copy of it, tensor.contiguous()")
        return Tensor(self, key, dtype, length, offset, tuple(shape), tuple(strides))

    def given(self, data: Any, dtype: str, shape: Sequence[int], *, fortran: bool = False) -> Tensor:
        """A tensor whose bytes are there, in C or in Fortran's order."""
        key, before = f"given {len(self._read)}", shape if fortran else shape[::-1]
        steps = [math.prod(before[:axis]) for axis in range(len(before))]
        length = len(data) // DTYPES[dtype].itemsize if dtype in DTYPES else math.prod(shape)
        found = self.tensor(key, dtype, length, 0, shape, steps if fortran else steps[::-1])
        self.give(key, data)
        return found

    def give(self, key: str, data: Any) -> None:
        """The bytes of a storage."""
        self._read[key] = data

    def take(self, size: int) -> None:
        """Refuse to make arrays of more bytes than twice the file's size."""
        self._taken += size
        if self._taken > 2 * self.size:
            raise ValueError("its tensors share their numbers: they are more than twice the size of the file")

    def bytes_of(self, key: str) -> Any:
        """Read once for all tensors that share it."""
        if key not in self._read:
            self._read[key] = self._storage(key)
        return self._read[key]


def _none(key: str) -> Any:
    raise ValueError(f"it has no storage {key!r}")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A part of a file, not read yet."""

    source: Source
    key: str
    dtype: str  # a key of DTYPES, or of what no array is made
    length: int  # of the storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> Array:
        """The numbers: bfloat16 as float32, all else as it is.

        Raises
        ------
        ValueError
            If it is of another dtype, the storage is not as long as it should be, or tensors that share
            storages come to more than twice the file's size.
        """
        if self.dtype not in DTYPES:
            raise ValueError(f"a tensor of {self.dtype} is not supported: floats are")
        stored, source = DTYPES[self.dtype], self.source
        if source.big:
            stored = stored.newbyteorder(">")
        source._taken += math.prod(self.shape) * stored.itemsize
        if source._taken > 2 * source.size:
            raise ValueError(
                "its tensors share their numbers so often that they are twice the size of the file"
            )
        data = source.bytes_of(self.key)
        if len(data) != self.length * stored.itemsize:
            raise ValueError(
                f"storage {self.key} has {len(data)} bytes, not {self.length} numbers of {self.dtype}"
            )
        steps = [step * stored.itemsize for step in self.strides]
        if math.prod(self.shape) == 0:
            return np.zeros(self.shape, "float32" if self.dtype == "bfloat16" else stored.newbyteorder("="))
        found: Array = np.ndarray(self.shape, stored, data, self.offset * stored.itemsize, steps)
        found = np.ascontiguousarray(found, stored.newbyteorder("=")).reshape(self.shape)
        return (found.astype("<u4") << 16).view("<f4") if self.dtype == "bfloat16" else found


def _words(sizes: Sequence[int]) -> str:
    return f"({', '.join(map(str, sizes[:8]))}{', …' if len(sizes) > 8 else ''})"
