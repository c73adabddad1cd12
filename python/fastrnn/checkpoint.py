"""Checkpoints: named arrays and JSON metadata in one safetensors file, never half-written.

A file holds the tensors, the metadata and a checksum over both, so that a file which loads is the file
that was saved. Nothing is ever unpickled: reading a checkpoint runs no code from it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()


def save(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Write arrays and metadata to ``path`` in one step.

    The bytes go to a temporary file in the same directory, which then takes the place of ``path``: whatever
    happens, a crash or a full disk included, ``path`` is either the old file or the complete new one. A new
    file gets the permissions the umask grants, a replaced one keeps its own, and a symbolic link keeps
    pointing where it did.

    Parameters
    ----------
    path : str or path-like
        The file; its directory must exist.
    tensors : mapping of str to ndarray
        Arrays of any shape, layout and byte order; of a boolean, integer or float dtype.
    metadata : mapping
        Anything JSON can express, without NaN and infinities.

    Raises
    ------
    TypeError, ValueError
        If an array's dtype or the metadata cannot be stored; ``path`` is untouched.
    OSError
        If the file cannot be written; ``path`` is untouched.
    """
    from safetensors.numpy import save as serialize

    arrays = {name: _storable(name, array) for name, array in tensors.items()}
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"metadata must be expressible in JSON: {error}") from None
    _replace(path, serialize(arrays, {"fastrnn": text, "crc32": _checksum(arrays, text)}))


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    tensors : dict of str to ndarray
        Writable arrays that the caller owns.
    metadata : dict
        The metadata, as JSON gives it back: tuples have become lists.

    Raises
    ------
    OSError
        If the file cannot be read, as FileNotFoundError when there is none.
    ValueError
        If the file is not a fastrnn checkpoint, or is truncated or corrupt.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # the operating system's own words for a missing file, a directory, no permission
        pass
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)!r} is not a readable model file: {error}") from None
    if "fastrnn" not in header:
        raise ValueError(f"{os.fspath(path)!r} is a safetensors file, but not one that fastrnn wrote")
    if header.get("crc32") != _checksum(tensors, header["fastrnn"]):
        raise ValueError(f"{os.fspath(path)!r} is damaged: its contents do not match its checksum")
    return tensors, json.loads(header["fastrnn"])


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    """The array in C order and native bytes: the safetensors library writes other layouts wrong."""
    array = np.asarray(array)
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"tensor {name!r} must be boolean, integer or float, got dtype {array.dtype}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _checksum(tensors: Mapping[str, np.ndarray], text: str) -> str:
    total = zlib.crc32(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        total = zlib.crc32(f"{name}{array.dtype}{array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"


def _replace(path: str | os.PathLike[str], data: bytes) -> None:
    """Put ``data`` in the place of ``path``, whole or not at all."""
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    temporary = os.path.join(directory, f".fastrnn-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if os.path.exists(target):
                os.chmod(temporary, os.stat(target).st_mode & 0o7777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # interrupted before the file or after the rename
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
