"""The functions of ``fastrnn/step.h``, for ctypes and Numba."""

from __future__ import annotations

import ctypes
from typing import Any

from fastrnn import checks
from fastrnn.backend import load_core

_CAPSULE = b"fastrnn._core._step_api"

_Two = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_Three = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class _Functions(ctypes.Structure):
    """``fastrnn_step_api``."""

    _fields_ = (
        ("version", ctypes.c_int32),
        ("size", ctypes.c_uint32),
        ("step", _Three),
        ("step_tokens", _Three),
        ("reset", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)),
        ("get_state", _Two),
        ("set_state", _Two),
        ("about", ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int)),
        ("message", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int)),
    )


def _functions() -> _Functions:
    core = load_core()
    if core is None:
        raise ImportError("fastrnn.embed needs the native kernels, and they are not built")
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return _Functions.from_address(get_pointer(core._step_api, _CAPSULE))


_found = _functions()

step: Any = _found.step
step_tokens: Any = _found.step_tokens
reset: Any = _found.reset


def message(error: int) -> str:
    """What an error of `step`, `step_tokens` or `reset` means.

    Parameters
    ----------
    error : int
        What one of them has returned.

    Returns
    -------
    str
        Why it has done nothing.

    Raises
    ------
    TypeError, ValueError
        If that is not an integer, or negative.

    Examples
    --------
    >>> fastrnn.embed.message(1)
    'this stream is at work in another thread: make one for each thread'
    """
    text: bytes = _found.message(checks.non_negative_int("error", error))
    return text.decode()
