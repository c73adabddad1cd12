"""Trained models from the files and objects of PyTorch, ONNX and Keras, and into them.

No framework is needed to read a file. What comes out computes what the model computed, or is refused by the
name of what cannot be represented.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastrnn.interop.keras import from_keras
    from fastrnn.interop.keras_writer import to_keras
    from fastrnn.interop.onnx import from_onnx
    from fastrnn.interop.onnx_writer import to_onnx
    from fastrnn.interop.torch import from_torch
    from fastrnn.interop.torch_writer import to_torch

__all__ = [
    "from_keras",
    "from_onnx",
    "from_torch",
    "to_keras",
    "to_onnx",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    """Readers and writers load when they are first used: a process that reads one file waits for one."""
    if name not in __all__:
        raise AttributeError(f"module 'fastrnn.interop' has no attribute '{name}'")
    way, _, system = name.partition("_")
    return getattr(import_module(f"fastrnn.interop.{system if way == 'from' else f'{system}_writer'}"), name)


def __dir__() -> list[str]:
    return [*__all__]
