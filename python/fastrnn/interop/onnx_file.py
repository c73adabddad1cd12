"""What stands in an ONNX file: graphs, nodes, attributes and tensors, none of which is trusted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.interop.archive import Refusal, opened, reading

SPARE = 1 << 16  # bytes that may be allocated for a file however small it is


class Budget:
    """Bytes that may be allocated for something; one that wants more is no file that training has left."""

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit, self.left = what, limit, limit

    def spend(self, count: int) -> None:
        """Raise unless there are so many left."""
        self.left -= count
        if self.left < 0:
            raise Refusal(f"{self.what} need more than {self.limit:,} bytes, which is too much for this file")


class Model(NamedTuple):
    """A file, checked as far as it goes without looking at its nodes."""

    name: str  # of the file, for errors
    graph: Any
    opset: int  # of ONNX's own operators
    folder: str | None  # where tensors may lie in files of their own
    size: int  # of the file in bytes


class Node(NamedTuple):
    """A node with what goes into it."""

    op: str  # the operator; those of other domains as ``domain.operator``
    name: str
    label: str  # for errors
    attributes: Mapping[str, Any]
    inputs: Sequence[Any]  # values, None for what is left out
    outputs: Sequence[str]
    opset: int

    def refuse(self, what: str) -> Refusal:
        """The error that names the node."""
        return Refusal(f"{self.label}: {what}")

    def get(self, place: int) -> Any:
        """An input, None if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def option(self, name: str, default: Any) -> Any:
        """An attribute, or what it is where it is left out."""
        return self.attributes.get(name, default)

    def integers(self, name: str, place: int, default: Any = None) -> Any:
        """A list of integers that is an attribute in older operators, and an input in newer ones."""
        given = self.get(place)
        if given is None:
            return self.option(name, default)
        if not isinstance(given, np.ndarray) or given.ndim != 1:
            raise self.refuse(f"its {name} are not constant")
        return given.tolist()


def read(source: Any) -> Model:
    """The model of a path, of a file's content, or of a `onnx.ModelProto`.

    Raises
    ------
    TypeError
        If it is something else.
    OSError
        If there is no such file.
    ValueError
        If it is no ONNX model.
    """
    import onnx

    if isinstance(source, onnx.ModelProto):
        return _checked("the ModelProto", source, None, source.ByteSize())
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name, folder = bytes(source), "the bytes", None
    elif isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        with opened(path) as file:
            data, name, folder = file.read(), path, os.path.dirname(os.path.abspath(path))
    else:
        expected = "a path, the bytes of a file, or an onnx.ModelProto"
        raise TypeError(f"model must be {expected}, got {checks.came(source)}")
    with reading(name, "an ONNX model"):
        proto = onnx.ModelProto.FromString(data)
    return _checked(name, proto, folder, len(data))


def _checked(name: str, proto: Any, folder: str | None, size: int) -> Model:
    import onnx

    if not proto.graph.node and not proto.graph.output:
        raise Refusal(f"{name!r} is not an ONNX model, or damaged: it has no graph")
    known = onnx.defs.onnx_opset_version()
    versions = [each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")]
    if len(versions) != 1 or not 1 <= versions[0] <= known:
        expected = f"one version of ONNX's operators, from 1 to {known}, which the package onnx knows"
        raise Refusal(f"{name!r} must import {expected}, got {versions}")
    return Model(name, proto.graph, versions[0], folder, size)


def operator(node: Any) -> str:
    """Its operator, with the domain if that is not ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def name_of(node: Any, place: int) -> str:
    """A node's name, or for one without what it gives first."""
    name = node.name or next(iter(filter(None, node.output)), f"{node.op_type}_{place}")
    return name if isinstance(name, str) else repr(name)  # bytes that are no text


def attributes_of(node: Any, label: str) -> dict[str, Any]:
    """Plain values by name; tensors and graphs as they are."""
    from onnx import AttributeProto as A

    fields = {A.FLOAT: "f", A.INT: "i", A.STRING: "s", A.TENSOR: "t", A.GRAPH: "g"}
    lists = {A.FLOATS: "floats", A.INTS: "ints", A.STRINGS: "strings", A.GRAPHS: "graphs"}
    found: dict[str, Any] = {}
    for each in node.attribute:
        if each.name in found:
            raise Refusal(f"{label}: it has two attributes {each.name!r}")
        if each.type in fields:
            value = getattr(each, fields[each.type])
        elif each.type in lists:
            value = list(getattr(each, lists[each.type]))
        else:
            raise Refusal(f"{label}: attribute {each.name!r} is of a type that is not supported")
        found[each.name] = _text(value, label)
    return found


def _text(value: Any, label: str) -> Any:
    if isinstance(value, list):
        return [_text(each, label) for each in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refusal(f"{label}: an attribute holds {value!r}, which is no text") from None


def unknown(attributes: Iterable[str], known: Iterable[str]) -> list[str]:
    """Those attributes that nothing is known of."""
    return sorted(set(attributes) - set(known))


def array_of(tensor: Any, what: str, folder: str | None = None) -> Array:
    """A tensor's numbers; float16 and bfloat16 as float32.

    Raises
    ------
    Refusal
        If its type is none of numbers, its size is not that of what is stored, or it lies in another file
        that is not within the folder.
    """
    from onnx import TensorProto as T
    from onnx import helper, numpy_helper

    if tensor.data_type not in _types():
        names = {number: name for name, number in T.DataType.items()}
        kind = names.get(tensor.data_type, tensor.data_type)
        raise Refusal(f"{what}: its data type is {kind}, which is not supported")
    dims = list(tensor.dims)
    if any(size < 0 for size in dims):
        raise Refusal(f"{what}: its shape {dims} has a negative size")
    count = 1
    for size in dims:
        count *= size
    if tensor.HasField("segment"):
        raise Refusal(f"{what}: a tensor in segments is not supported")
    if tensor.data_location == T.EXTERNAL:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")
        if tensor.data_type in (T.INT4, T.UINT4):
            raise Refusal(f"{what}: numbers of 4 bits in a file of their own are not supported")
        return _plain(_external(tensor, dims, count, dtype, what, folder))
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # whatever the package makes of a damaged tensor
        raise Refusal(f"{what}: it is damaged: {error}") from None
    if array.shape != tuple(dims):
        raise Refusal(f"{what}: its shape is {dims}, it holds {array.size} numbers")
    return _plain(array)


def _plain(array: Array) -> Array:
    """In a dtype of NumPy's own."""
    if array.dtype.kind in "iub" and array.dtype.isbuiltin == 1:
        return array
    if array.dtype in checks.FLOATS:
        return array
    if "int" in array.dtype.name and array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("=") if array.dtype.kind in "iu" else np.int8)
    return array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32)


def _types() -> set[int]:
    from onnx import TensorProto as T

    floats = {T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16}
    return floats | {T.INT4, T.UINT4, T.INT8, T.UINT8, T.INT16, T.UINT16, T.INT32, T.UINT32, T.INT64, T.BOOL}


def _external(
    tensor: Any, dims: list[int], count: int, dtype: np.dtype[Any], what: str, folder: str | None
) -> Array:
    """A tensor in a file beside the model: only a regular one within its folder, and no more than it has."""
    given = {each.key: each.value for each in tensor.external_data}
    location = given.get("location", "")
    if folder is None:
        raise Refusal(f"{what}: it lies in the file {location!r}; give the model as a path")
    try:
        offset = int(given.get("offset", 0))
        length = int(given.get("length", count * dtype.itemsize))
        path = os.path.realpath(os.path.join(folder, location))
        inside = os.path.commonpath([path, os.path.realpath(folder)]) == os.path.realpath(folder)
    except ValueError as error:
        raise Refusal(f"{what}: where it lies is not readable: {error}") from None
    if os.path.isabs(location) or not inside:
        raise Refusal(f"{what}: it lies in {location!r}, which is not in the folder of the model")
    if length != count * dtype.itemsize or offset < 0:
        raise Refusal(f"{what}: {length} bytes at {offset} of {location!r} do not hold its shape {dims}")
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if offset + length > size:
                raise Refusal(f"{what}: {location!r} has {size} bytes, it lies at {offset} + {length}")
            file.seek(offset)
            return np.frombuffer(file.read(length), dtype).reshape(dims)
    except OSError as error:
        raise Refusal(f"{what}: it lies in {location!r}: {error.strerror}") from None
