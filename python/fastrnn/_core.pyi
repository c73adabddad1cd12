"""The compiled kernels. Private: `fastrnn.functional` is the checked door to them."""

from typing import Any, TypedDict

import numpy.typing as npt

Array = npt.NDArray[Any]

class Reserve: ...

class _Config(TypedDict):
    isa: str
    isas: list[str]
    compiler: str
    openmp: int

def forward(
    cell: str,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    states: tuple[Array | None, ...],
    lengths: Array | None,
    reverse: bool,
    training: bool,
) -> tuple[Array, tuple[Array, ...], Reserve | None]: ...
def backward(
    reserve: Reserve, dy: Array | None, dstates: tuple[Array | None, ...]
) -> tuple[Array | None, Array, Array, Array | None, Array | None, tuple[Array, ...]]: ...
def linear(x: Array, weight: Array, bias: Array | None) -> Array: ...
def linear_backward(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]: ...
def activation(name: str, x: Array) -> Array: ...
def cells() -> list[str]: ...
def config() -> _Config: ...
def set_isa(name: str) -> None: ...
def set_num_threads(count: int) -> None: ...
def get_num_threads() -> int: ...
