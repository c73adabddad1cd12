"""What computes: "native", the compiled kernels, or "reference", the specification in NumPy.

Both have the same functions and results. `use_backend` and the environment variable ``FASTRNN_BACKEND``
choose between them.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from fastrnn import reference
from fastrnn.checks import Array, one_of
from fastrnn.reference import Call, Gradients, Options, Parameters

BACKENDS = ("native", "reference")


class Backend(Protocol):
    """What a backend offers to callers that have checked the arguments: as `fastrnn.reference` says."""

    def Stack(
        self, owner: Any, cell: str, parameters: list[Parameters], directions: int, options: Options, /
    ) -> Any: ...
    def compute(self, calls: Iterator[Any], most: int, /) -> None: ...
    def train_memory(
        self, cell: str, dtype: np.dtype[Any], hidden: int, projection: int, layers: int, directions: int
    ) -> tuple[int, int]: ...
    def Linear(self, owner: Any, parameters: Parameters, /) -> Any: ...
    def Stream(self, stages: list[Any], batch: int, /) -> Any: ...
    def forward_all(self, calls: list[Call], /) -> list[Any]: ...
    def backward_all(self, calls: list[tuple[Any, ...]], /) -> list[Gradients]: ...
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array: ...
    def linear_backward(self, x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]: ...
    def activation(self, name: str, x: Array, numbers: tuple[float, ...] = ()) -> Array: ...
    def softmax_cross_entropy(self, logits: Array, targets: Array) -> tuple[float, Array]: ...
    def sgd(
        self, given: list[tuple[Array, ...]], lr: float, momentum: float, weight_decay: float
    ) -> None: ...
    def rmsprop(self, given: list[tuple[Array, ...]], lr: float, alpha: float, eps: float) -> None: ...
    def adam(
        self,
        given: list[tuple[Array, ...]],
        rate: float,
        kept: float,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None: ...
    def sum_of_squares(self, x: Array) -> float: ...
    def scale(self, arrays: list[Array], factor: float) -> None: ...
    def drop(self, x: Array, random: Array, threshold: int, scale: float) -> Array: ...


def _in_vain(what: str) -> str:
    """Why there are no kernels, for whom, and what helps."""
    import sysconfig

    python = f"{platform.python_implementation()} {platform.python_version()} on {sysconfig.get_platform()}"
    return (
        f"the native kernels of fastrnn {what}; this is {python}: install a wheel for it (there are some for "
        "CPython from 3.10 on), or run `pip install .` in the source tree (with GCC 12, Clang 14 or newer)"
    )


def load_core() -> Any:
    """The compiled module; None where there is none for this Python."""
    if not find_spec("fastrnn._core"):
        return None
    try:
        return import_module("fastrnn._core")
    except ImportError as error:
        if error.path is None:  # what it says itself, of FASTRNN_ISA or of the processor
            raise
        raise ImportError(_in_vain(f"do not load: {error}")) from error


@functools.cache
def _backend(name: str) -> Backend:
    """The backend of this name; the native one loads when first needed."""
    if name == "reference":
        return reference
    core: Backend | None = load_core()
    if core is None:
        here = os.listdir(os.path.dirname(__file__))
        others = ", ".join(sorted(name for name in here if name.startswith("_core.c")))
        raise ImportError(
            _in_vain(f"are not built for this Python, only {others}" if others else "are not built")
            + ', or use the slower NumPy backend with fastrnn.use_backend("reference") or '
            "FASTRNN_BACKEND=reference"
        )
    return core


_name = one_of("FASTRNN_BACKEND", os.environ.get("FASTRNN_BACKEND") or "native", BACKENDS)


def name_in_use() -> str:
    """The name of the backend in use."""
    return _name


def kernels() -> Backend:
    """The backend in use."""
    return _backend(_name)


def _use(name: str) -> None:
    global _name
    _name = name


def use_backend(name: str) -> ExitStack:
    """Choose what computes from now on or, in a ``with`` block, until its end.

    Parameters
    ----------
    name : {"native", "reference"}
        The compiled kernels, or their specification in NumPy.

    Returns
    -------
    context manager
        Its exit restores the backend that was in use before. To make a lasting choice, ignore it.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If the native kernels are not built.

    Notes
    -----
    The choice holds for the whole process, all threads. A reserve goes back to the backend that made it.

    Examples
    --------
    >>> with fastrnn.use_backend("reference"):
    ...     y, state_n = fastrnn.lstm(x, w_ih, w_hh)
    """
    _backend(one_of("name", name, BACKENDS))
    restore = ExitStack()
    restore.callback(_use, _name)
    _use(name)
    return restore
