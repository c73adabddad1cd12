"""Which arrays a file of another system has, by their names in it, whether or not they are a network's."""

from __future__ import annotations

import io
import os
from typing import Any, NamedTuple

from fastrnn import checks
from fastrnn.interop import onnx_file
from fastrnn.interop.archive import Archive, opened
from fastrnn.interop.hdf5 import Hdf5
from fastrnn.interop.torch_files import contents
from fastrnn.interop.torch_modules import Reader


class Entry(NamedTuple):
    """What is known of an array that is not read."""

    dtype: str
    shape: tuple[int, ...]


def of_torch(path: str) -> dict[str, Entry]:
    """Of whatever `fastrnn.interop.from_torch` reads."""
    with contents(path) as content:
        root = Reader(content.source, content.constants).read(content.held)
        return {
            f"{module.path}.{name}".lstrip("."): Entry(f"{tensor.dtype}", tuple(tensor.shape))
            for module in (root.walk() if root else ())
            for name, tensor in module.tensors.items()
        }


def of_onnx(path: str) -> dict[str, Entry]:
    """The initializers of the graph."""
    with checks.package("onnx", "onnx", "reading an ONNX model"):
        import onnx
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    names |= {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}
    return {
        str(tensor.name): Entry(names.get(tensor.data_type, "unknown"), tuple(tensor.dims))
        for tensor in onnx_file.read(path).graph.initializer
    }


def of_keras(path: str) -> dict[str, Entry]:
    """The arrays of an HDF5 file, or of the one in a Keras archive."""
    with opened(path) as file:
        zipped = file.read(2) == b"PK"
        if not zipped:
            return _of_hdf5(path, file, os.fstat(file.fileno()).st_size)
    with Archive(path) as archive:
        content = archive.read("model.weights.h5")
    return _of_hdf5(path, io.BytesIO(content), len(content))


def _of_hdf5(path: str, file: Any, size: int) -> dict[str, Entry]:
    with Hdf5(path, file, size) as hdf5:
        return {"/".join(path): Entry(hdf5.dtype(*path), shape) for path, shape in hdf5.shapes.items()}
