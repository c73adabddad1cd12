"""Checkpoints: named arrays and JSON metadata in one safetensors file, never half-written.

A file holds the tensors, the metadata, the version of fastrnn that wrote it and a checksum over all of them,
so that a file which loads is the file that was saved. Nothing is ever unpickled: reading a checkpoint runs no
code from it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn import checks

FORMAT = 1  # of files: one more whenever a fastrnn from before could not read them, or not rightly
PATIENCE = 10.0  # seconds, in which somebody may come to read a pipe that is to be written into

_DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def save(path: _Path, tensors: Mapping[str, checks.Array], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata to ``path`` in one step.

    The bytes go to a temporary file in the same directory, which then takes the place of ``path``: whatever
    happens, a crash or a full disk included, ``path`` is either the old file or the complete new one. A
    process that is killed meanwhile may leave the other, ``.fastrnn-….tmp``, which anybody may delete. A new
    file gets the permissions the umask grants, a replaced one keeps its own, and a symbolic link keeps
    pointing where it did. What is no regular file, a device or a pipe, stays what it is: the bytes are
    written into it; a pipe that nobody comes to read is an OSError.

    Parameters
    ----------
    path : str, bytes or path-like
        The file; its directory must exist, and be writable even if the file is there already.
    tensors : mapping of str to ndarray
        Arrays of any shape, layout and byte order; of a boolean, integer or float dtype.
    metadata : mapping
        Anything JSON can express, without NaN and infinities. With the names of the tensors it must fit into
        the header of a safetensors file, 100 MB: large data belongs into tensors.

    Raises
    ------
    TypeError, ValueError
        If an array's name or dtype or the metadata cannot be stored; ``path`` is untouched.
    OSError
        If the file cannot be written: it names ``path``, which is untouched. A file that is write-protected
        is not replaced.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save as serialize

    from fastrnn import __version__

    name = os.fsdecode(path)
    arrays = {key: _storable(key, array) for key, array in tensors.items()}
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"metadata must be expressible in JSON: {error}") from None
    header = {"fastrnn": text, "fastrnn_format": str(FORMAT), "fastrnn_version": __version__}
    try:
        data = serialize(arrays, {**header, "crc32": _checksum(arrays, header)})
    except SafetensorError as error:
        limit = "must fit into the header of a safetensors file, 100 MB"
        raise ValueError(f"metadata {limit}, got {len(text):,} characters of JSON ({error})") from None
    write(name, data)


def load(path: _Path) -> tuple[dict[str, checks.Array], dict[str, Any]]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : str, bytes or path-like
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
        If the file is not a fastrnn checkpoint, is truncated or corrupt, or was written by a newer fastrnn in
        a format that this one does not know.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fsdecode(path)
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # which to open could wait for ever
        raise ValueError(f"{name!r} is not a readable model file: it is a device or a pipe")
    with open(name, "rb"):  # the operating system's own words for a directory, no permission
        pass
    try:
        with safe_open(name, framework="numpy") as file:
            header = file.metadata() or {}
            _require_known(name, header)
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, KeyError, AttributeError, TypeError, UnicodeError) as error:
        kind, hint = "no safetensors file, or a damaged one", "fastrnn.load reads those of other systems too"
        raise ValueError(f"{name!r} is not a readable model file: {kind} ({error}); {hint}") from None
    if header.pop("crc32", None) != _checksum(tensors, header):
        raise ValueError(f"{name!r} is damaged: its contents do not match its checksum")
    try:
        metadata = json.loads(header["fastrnn"])
    except (KeyError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise ValueError(f"{name!r} is not a readable model file: its metadata is no JSON object")
    return tensors, metadata


def require_writable(path: _Path) -> None:
    """Raise, before the work whose result is to be kept, the error in which `save` would end.

    Parameters
    ----------
    path : str, bytes or path-like
        The file to be written later. Nothing is left of the attempt.

    Raises
    ------
    OSError
        If `save` could not write the file: it names ``path``.
    """
    name = os.fsdecode(path)
    with _errors_name(name):
        target = _to_replace(name)
        if target is not None:
            with tempfile.TemporaryFile(dir=os.path.dirname(target)):
                pass
        elif not os.access(name, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def to_resume(resume: str | os.PathLike[str] | None, checkpoint: str | os.PathLike[str] | None) -> Any:
    """The file to go on from, or None: with "auto" that of `checkpoint`, if it is there.

    Raises
    ------
    ValueError
        If it is "auto" without a `checkpoint`.
    """
    if resume != "auto":
        return resume
    if checkpoint is None:
        raise ValueError('resume="auto" goes with a checkpoint, the file that may be there, got None')
    return checkpoint if os.path.exists(checkpoint) else None


def _require_known(name: str, header: Mapping[str, str]) -> None:
    """Raise unless the header is of a format that this version reads."""
    written = header.get("fastrnn_format", "")
    if not written.isdecimal() or len(written) > 9:  # which no format will have
        hint = "fastrnn.load makes layers of such, and safetensors.numpy.load_file gives its arrays"
        raise ValueError(f"{name!r} is a safetensors file, but not one that fastrnn wrote: {hint}")
    if int(written) > FORMAT:
        from fastrnn import __version__

        newer = f"fastrnn {header.get('fastrnn_version')!r:.20} wrote it in format {written}"
        raise ValueError(f"{name!r} needs a newer fastrnn than this {__version__}: {newer}")


def _storable(name: str, value: checks.Array) -> checks.Array:
    """The array in C order and native bytes: the safetensors library writes other layouts wrong."""
    if not isinstance(name, str):
        raise TypeError(f"names of tensors must be str, got {checks.came(name)}")
    if name == "__metadata__" or name.encode(errors="replace").decode() != name:
        raise ValueError(f"names of tensors must be UTF-8, and not '__metadata__', got {name!r}")
    array = checks.array(f"tensors[{name!r}]", value, "an array")
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"tensor {name!r} must be boolean, integer or float, got dtype {array.dtype}")
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _checksum(tensors: Mapping[str, checks.Array], header: Mapping[str, str]) -> str:
    total = 0
    for key in sorted(header):
        total = zlib.crc32(f"{key}{header[key]}".encode(), total)
    for name in sorted(tensors):
        array = tensors[name]
        total = zlib.crc32(f"{name}{array.dtype}{array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"


def write(path: _Path, data: bytes) -> None:
    """Write bytes of any kind of file to ``path`` in one step, as `save` does.

    Parameters
    ----------
    path : str, bytes or path-like
        The file.
    data : bytes
        All that is to be in it.

    Raises
    ------
    OSError
        As by `save`.
    """
    name = os.fsdecode(path)
    with _errors_name(name):
        target = _to_replace(name)
        if target is not None:
            _replace(target, data)
            return
        with open(name, "wb", opener=_open_other) as file:
            file.write(data)


@contextlib.contextmanager
def _errors_name(name: str) -> Iterator[None]:
    """Within it an error of the operating system names what the user named, not a file that we made."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, name) from None  # of the class that goes with the number


def _to_replace(name: str) -> str | None:
    """The regular file that a name leads to, or is to lead to; None if there is something else to write into.

    Raises an OSError where ``open(name, "w")`` would.
    """
    target = os.path.realpath(name)
    try:
        found = os.stat(name)
    except FileNotFoundError:
        if not os.path.basename(name):  # nothing, or a directory that is not there
            raise
        return target
    refused = {stat.S_IFDIR: errno.EISDIR, stat.S_IFSOCK: errno.ENXIO}.get(stat.S_IFMT(found.st_mode))
    if refused is not None:
        raise OSError(refused, os.strerror(refused))
    if not stat.S_ISREG(found.st_mode) or not os.path.exists(target):  # open, but removed: /dev/stdout may be
        return None
    os.close(os.open(name, os.O_WRONLY))
    return target


def _open_other(name: str, flags: int) -> int:
    """Open what is no regular file: a pipe without waiting for ever for one who reads it."""
    nonblocking, deadline = getattr(os, "O_NONBLOCK", 0), time.monotonic() + PATIENCE
    while True:
        try:
            descriptor = os.open(name, flags | nonblocking)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
    if nonblocking:
        os.set_blocking(descriptor, True)
    return descriptor


def _replace(target: str, data: bytes) -> None:
    """Put ``data`` in the place of a regular file, whole or not at all."""
    directory = os.path.dirname(target)
    temporary = os.path.join(directory, f".fastrnn-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if os.path.exists(target):
                _take_over(os.stat(target), temporary)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # interrupted before the file or after the rename
            os.unlink(temporary)
        raise
    _sync_directory(directory)


def _take_over(found: os.stat_result, path: str) -> None:
    """Give a file the owner, as far as we may, and the permissions of another one."""
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(path, found.st_uid, found.st_gid)
    os.chmod(path, stat.S_IMODE(found.st_mode))


def _sync_directory(directory: str) -> None:
    """Make the rename itself survive a power cut, where the file system can do that."""
    with contextlib.suppress(OSError):  # the file is complete, whatever this comes to
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
