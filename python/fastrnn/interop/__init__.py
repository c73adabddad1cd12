"""Trained models from the files and objects of PyTorch, ONNX and Keras, and into them.

No framework is needed to read a file. What comes out computes what the model computed, or is refused by the
name of what cannot be represented.
"""

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
