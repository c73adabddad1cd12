"""Files that hold tensors by names: what PyTorch writes, old and new, TorchScript, safetensors, NumPy's npz.

Nothing of them runs: a pickle becomes inert objects, and of a TorchScript archive's code only the constants
are looked at, as text.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from numpy.lib import format as _format

from fastrnn.interop import pickles
from fastrnn.interop.archive import Archive, Path, Refusal, opened, reading
from fastrnn.interop.inert import Storage
from fastrnn.interop.tensors import DTYPES, Source

npy: Any = _format  # which has no types
HEADER = 4 << 20  # bytes of safetensors' names and places: it grows tenfold. Some 40,000 tensors
NPY_HEADER = 1 << 16  # bytes before an array of NumPy's, its type and shape: NumPy refuses more than 10,000
CODE = 1 << 20  # bytes of a module of TorchScript's that is looked through
EXPORTED = r"(^|/)(archive_format|serialized_\w+\.json)$"  # members of torch.export's archives, new and old
LEGACY = 0x1950A86A20F9469CFC6C  # the first object of a file that PyTorch wrote before 1.6
SAFETENSORS = {
    **{"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool"},
    **{"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8"},
}


class Content(NamedTuple):
    """What a file holds."""

    held: Any  # dicts, lists, `Inert` and `Tensor`
    source: Source
    constants: Callable[[str, str], dict[str, Any]] = lambda module, name: {}  # of a class of TorchScript's


@contextlib.contextmanager
def contents(path: Path) -> Iterator[Content]:
    """What a file holds, whose numbers can be read as long as it is open. What is wrong with it meanwhile is
    told with its name.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is none of these formats, or damaged.
    """
    name = os.fsdecode(path)
    shard = re.search(r"-\d+-of-0*(\d+)\.[^.]+$", name)
    with opened(path) as file:
        start = file.read(9)
    if shard and int(shard[1]) > 1:  # where half of a layer's weights may look like a layer
        how = "give the dict of all arrays, as safetensors.numpy.load_file gives those of each"
        raise Refusal(f"{name!r} is one of {shard[1]} files that hold a model together: {how}")
    with contextlib.ExitStack() as stack:
        if start[4:] == b"\0\0\0\0{":  # first, as the length of a header may be any two letters
            content = _of_safetensors(name)
        elif start[:2] == b"PK":
            content = _of_archive(stack.enter_context(Archive(path)))
        elif start[:1] == b"\x80":
            content = _of_legacy(name)
        else:
            formats = "none of PyTorch's, no safetensors and no npz"
            raise Refusal(f"{name!r} is not a file of named tensors: it is {formats}")
        try:
            yield content
        except Refusal:
            raise
        except Exception as error:  # also of a class that says that an option is of another type
            raise Refusal(f"{name!r}: {error}") from None


def _of_archive(archive: Archive) -> Content:
    if all(name.endswith(".npy") for name in archive.sizes) and archive.sizes:
        return _of_npz(archive)
    pickled = [name for name in archive.sizes if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any(re.search(EXPORTED, name) for name in archive.sizes):
        hint = "torch.save(torch.export.load(path).state_dict, ...) writes its weights"
        raise Refusal(f"{archive.name!r} is an archive of torch.export, which is not supported: {hint}")
    if len(pickled) != 1:
        what = "a member */data.pkl, as PyTorch's have, or members *.npy only, as NumPy's"
        raise Refusal(f"{archive.name!r} is a zip archive, but without {what}")
    top = pickled[0].removesuffix("data.pkl")
    with reading(archive.name, "a file of PyTorch's"):
        order = bytes(archive.read(f"{top}byteorder")) if f"{top}byteorder" in archive.sizes else b"little"
        source = Source(archive.size, lambda key: archive.read(f"{top}data/{key}"), big=order == b"big")
        source.spend(archive.sizes[pickled[0]])
        held = pickles.load(io.BytesIO(archive.read(pickled[0])), source)
    classes = functools.lru_cache(16)(lambda module: _constants(archive, top, module))
    return Content(held, source, lambda module, name: classes(module).get(name, {}))


def _constants(archive: Archive, top: str, module: str) -> dict[str, dict[str, Any]]:
    """What the classes in a module of TorchScript's code have as constants, by their names:
    ``batch_first : Final[bool] = True``.
    """
    member = f"{top}code/{module.replace('.', '/')}.py"
    found: dict[str, dict[str, Any]] = {}
    inside: dict[str, Any] = {}
    if not 0 < archive.sizes.get(member, 0) <= CODE:
        return found
    with reading(archive.name, "a file of PyTorch's"):
        for line in archive.read(member).decode().splitlines():
            if begun := re.fullmatch(r"class (\w+)\(Module\):", line):
                inside = found.setdefault(begun[1], {})
            elif constant := re.fullmatch(r"  (\w+) : Final\[(?:bool|int|float|str)\] = (.{1,80})", line):
                inside[constant[1]] = ast.literal_eval(constant[2])
    return found


def _of_npz(archive: Archive) -> Content:
    source, found = Source(archive.size), {}
    names = {found.str[1:]: name for name, found in DTYPES.items() if name != "bfloat16"}
    with reading(archive.name, "an npz file"):
        for member in archive.sizes:
            data = archive.read(member)
            stream = io.BytesIO(memoryview(data)[:NPY_HEADER])
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = header(stream)
            known = str(dtype) if dtype.byteorder == ">" else names.get(dtype.str[1:], str(dtype))
            # A BytesIO whose buffer is held in a cycle ends Python 3.12.1 when that is collected.
            array = memoryview(data)[stream.tell() :]
            found[member[:-4]] = source.given(array, known, shape, fortran=fortran)
    return Content(found, source)


def _of_safetensors(name: str) -> Content:
    from safetensors import SafetensorError, deserialize

    with opened(name) as file:
        data = file.read()
    with reading(name, "a safetensors file"):
        if int.from_bytes(data[:8], "little") > HEADER:
            raise ValueError(f"its header is longer than {HEADER:,} bytes")
        try:
            tensors = deserialize(data)  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise ValueError(str(error)) from None
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=_unique)
        if "fastrnn" in header.get("__metadata__", {}):
            raise Refusal(f"{name!r} is a file of fastrnn's own: fastrnn.load reads it")
        source, found = Source(len(data)), {}
        for tensor, about in tensors:
            dtype = SAFETENSORS.get(about["dtype"], about["dtype"])
            found[tensor] = source.given(about["data"], dtype, about["shape"])
    return Content(found, source)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any] | None:
    """A JSON object with each name once; None for one of a tensor, of which nothing is asked."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return None if "data_offsets" in found else found


def _of_legacy(name: str) -> Content:
    """Pickles one behind the other: a number, a version, the system, the object, the keys of storages; then
    these, each with its length before it."""
    with opened(name) as file:
        known = LEGACY.to_bytes(10, "little") in file.read(64)
        file.seek(0)
        data = file.read() if known else b""  # and not mapped: who writes it anew meanwhile would end us
    stream = io.BytesIO(data)
    storages: dict[str, Storage] = {}
    with reading(name, "a file of PyTorch's"):
        source = Source(len(data))
        if not known or pickles.load(stream, source) != LEGACY:
            how = "torch.save(model.state_dict(), path), or numpy.savez of its arrays"
            raise ValueError(f"it is a pickle, but not one that PyTorch wrote; what is read is of {how}")
        version, system = pickles.load(stream, source), pickles.load(stream, source)
        if version != 1001 or not isinstance(system, dict):
            raise ValueError(f"it is of a version {str(version)[:40]}, which no PyTorch wrote")
        source.big = system.get("little_endian") is False
        held = pickles.load(stream, source, storages)
        keys, view = pickles.load(stream, source), memoryview(data)
        for key in keys:
            storage = storages[key]
            (length,) = struct.unpack_from(">q" if source.big else "<q", data, stream.tell())
            if length != storage.length:
                raise ValueError(f"storage {key} has {length} numbers, not {storage.length}")
            start = stream.tell() + 8
            end = start + length * DTYPES[storage.dtype].itemsize
            source.give(key, view[start:end])
            stream.seek(end)
    return Content(held, source)
