"""HDF5 files of others, of which h5py is asked no more than they hold.

A file may name other files, say that it is larger than it is, or lead in circles: all of it is looked through
before a number is read, and what an ordinary file has not is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.interop.archive import Refusal, reading

DEPTH = 64  # groups within groups

KIND = "an HDF5 file"


class Hdf5:
    """The arrays and texts of an HDF5 file.

    Parameters
    ----------
    name : str
        The file's, for errors.
    file : binary file
        Open for reading.
    size : int
        How many bytes that has.

    Attributes
    ----------
    shapes : dict of tuple of str to tuple of int
        Of each array, by the names that lead to it, from the outermost group inwards.

    Raises
    ------
    ImportError
        If h5py is not installed.
    ValueError
        If the file is damaged, or has links to other files or other places, or arrays that are compressed,
        virtual or elsewhere.
    """

    def __init__(self, name: str, file: IO[bytes], size: int) -> None:
        with checks.package("h5py", "keras", "reading a file of Keras"):
            import h5py

        self.name = name
        self._h5py: Any = h5py
        self._left = size
        self._size = size
        with reading(name, KIND):
            self._file: Any = h5py.File(file, "r")
        try:
            with reading(name, KIND):
                self.shapes = {path: data.shape for path, data in self._walk()}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def has(self, attribute: str) -> bool:
        """Whether the file has such an attribute."""
        with reading(self.name, KIND):
            return bool(self._h5py.h5a.exists(self._file.id, attribute.encode()))

    def text(self, attribute: str, *groups: str) -> str | None:
        """What an attribute of the file, or of a group in it, says; None if there is none.

        Raises
        ------
        ValueError
            If it is no text.
        """
        h5a, h5t = self._h5py.h5a, self._h5py.h5t
        with reading(self.name, KIND):
            group = self._file["/".join(groups)] if groups else self._file
            name = attribute.encode()
            if not h5a.exists(group.id, name):
                return None
            found = h5a.open(group.id, name)
            if found.shape != () or found.get_type().get_class() != h5t.STRING:
                raise ValueError(f"its attribute {attribute!r} is not one text")
            if found.get_storage_size() > self._size:
                raise ValueError(f"its attribute {attribute!r} is longer than the file")
            text = group.attrs[attribute]
            return text.decode() if isinstance(text, bytes) else str(text)

    def read(self, *path: str) -> Array:
        """An array of floats, one of those in `shapes`.

        Raises
        ------
        ValueError
            If its numbers are none, or more than the file can hold.
        """
        place = "/".join(path)
        with reading(self.name, KIND):
            data = self._file[place]
            half = data.dtype == "V2" and self.text("dtype", *path) == "bfloat16"
            if not half and (data.dtype.kind != "f" or data.dtype.itemsize > 8):
                raise Refusal(f"{self.name!r}: array {place!r} must be of floats, its dtype is {data.dtype}")
            if data.id.get_storage_size() < data.nbytes or data.nbytes > self._left:
                raise ValueError(f"array {place!r} of shape {data.shape} is more than the file holds")
            self._left -= data.nbytes
            array = np.array(data)
            return (array.view("uint16").astype("uint32") << 16).view("float32") if half else array

    def dtype(self, *path: str) -> str:
        """That of an array, one of those in `shapes`."""
        with reading(self.name, KIND):
            return str(self._file["/".join(path)].dtype)

    def _walk(self) -> Iterator[tuple[tuple[str, ...], Any]]:
        """All arrays, each once."""
        h5py = self._h5py
        waiting: list[tuple[str, ...]] = [()]
        seen: set[int] = set()
        while waiting:
            path = waiting.pop()
            place = "/".join(path)
            node = self._file[place] if path else self._file
            address = h5py.h5o.get_info(node.id).addr
            if address in seen or len(path) > DEPTH:
                raise ValueError(f"{place!r} is there twice, or leads in circles")
            seen.add(address)
            if isinstance(node, h5py.Dataset):
                self._require_plain(place, node)
                yield path, node
            elif isinstance(node, h5py.Group):
                for name in node:
                    if name in ("", ".") or "/" in name:  # would be taken for a way to somewhere
                        raise ValueError(f"{place!r} has something by the name of {name!r}")
                    if node.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                        raise ValueError(f"{place}/{name} is a link, which may lead to another file")
                    waiting.append((*path, name))

    def _require_plain(self, place: str, data: Any) -> None:
        if data.shape is None:
            raise ValueError(f"{place!r} is no array")
        how = data.id.get_create_plist()
        if data.is_virtual or how.get_external_count():
            raise ValueError(f"the numbers of array {place!r} are in another file")
        if how.get_nfilters() or data.chunks:
            raise ValueError(f"array {place!r} is in pieces, which may be compressed: write it in one")
