"""Files of others, opened and read with care: only regular ones, and of a zip archive no more than it holds.

Whoever made a file may have wanted to harm. What is read here comes out in at most twice the file's size, and
what is wrong with it in one ValueError that names the file.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from types import TracebackType

Path = str | os.PathLike[str]

SLACK = 1 << 20  # what small files may grow to when they are decompressed, all members together
DIRECTORY = 1 << 20  # of an archive at most: it grows tenfold when it is read. Some 10,000 members
LONGEST = 2000  # characters of an error
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others may ask for any amount of memory


@contextlib.contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Around the parsing of a file: whatever is wrong becomes one ValueError that names it.

    Parameters
    ----------
    name : str
        The file's, or another name of what is read.
    what : str
        What it should be, as in "a zip archive". A `Refusal` passes as it is.
    """
    try:
        yield
    except Refusal:
        raise
    except Exception as error:  # the libraries that parse have errors of any class
        words = " ".join(str(error).split()) or type(error).__name__
        raise Refusal(f"{name!r} cannot be read as {what}: {words[:300]}") from None


class Refusal(ValueError):
    """A ValueError that has said everything: which file, what about it, and what else to do.

    Names in a file may be of any length and of any characters: what it says can be read nevertheless.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            text = f"{text[: LONGEST - 400]} … {text[-400:]}"
        readable = (each if each.isprintable() else repr(each)[1:-1] for each in text.replace("\n", " "))
        super().__init__("".join(readable))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """A regular file, to be read.

    Raises
    ------
    OSError
        If there is none, or it may not be read.
    ValueError
        If it is a device or a pipe: it is not even opened, which could wait for ever.
    """
    name = os.fsdecode(path)
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise Refusal(f"{name!r} must be a regular file: it is a device or a pipe")
    with open(name, "rb") as file:  # a directory is the operating system's own error
        yield file


class Archive:
    """A zip archive, of PyTorch, Keras or NumPy, with nothing in it that could surprise.

    Parameters
    ----------
    path : str or path-like

    Attributes
    ----------
    name : str
        The path, for errors.
    size : int
        Of the file, in bytes.
    sizes : dict of str to int
        Of the members, by name, in their order.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is no zip archive, or damaged, or not plain: members that are encrypted, compressed by anything
        but deflate, there twice or overlapping, or more than twice the size of the file together.
    """

    def __init__(self, path: Path) -> None:
        self.name = os.fsdecode(path)
        with opened(path) as file:
            self.size = os.fstat(file.fileno()).st_size
        self._file = _Bounded(self.name)
        try:
            with reading(self.name, "a zip archive"):
                if not zipfile.is_zipfile(self._file):
                    raise ValueError(
                        "its end is missing, with the list of what is in it: is it all of the file?"
                    )
                self._zip = zipfile.ZipFile(self._file)
                self._require_plain()
        except BaseException:
            self._file.close()
            raise
        self.sizes = {member.filename: member.file_size for member in self._zip.infolist()}

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, member: str) -> bytearray:
        """The bytes of a member, whose checksum is right.

        Raises
        ------
        ValueError
            If there is no such member, or it is damaged.
        """
        if member not in self.sizes:
            raise Refusal(f"{self.name!r} has no member {member!r}")
        data, start = bytearray(self.sizes[member]), 0
        with reading(self.name, "a zip archive"), self._zip.open(member) as opened_member:
            try:
                while chunk := opened_member.read(SLACK):
                    data[start : start + len(chunk)] = chunk
                    start += len(chunk)
            except zipfile.BadZipFile as error:  # set_crc32_options(False) of PyTorch leaves checksums out
                raise ValueError(f"{error}: it is damaged, or was written without checksums") from None
            if start != len(data):
                raise ValueError(f"member {member!r} has {start} bytes, its header says {len(data)}")
        return data

    def _require_plain(self) -> None:
        members = self._zip.infolist()
        names: set[str] = set()
        for member in members:
            if member.flag_bits & 1:
                raise ValueError(f"member {member.filename!r} is encrypted")
            if member.compress_type not in METHODS:
                raise ValueError(f"member {member.filename!r} is compressed by method {member.compress_type}")
            if member.filename in names:
                raise ValueError(f"member {member.filename!r} is there twice")
            names.add(member.filename)
        end = self._zip.start_dir
        for member in sorted(members, key=lambda each: each.header_offset, reverse=True):
            if not 0 <= member.header_offset <= end - 30 - member.compress_size:
                raise ValueError(f"member {member.filename!r} overlaps with what follows it")
            end = member.header_offset
        total = sum(member.file_size for member in members)
        if total > max(2 * self.size, SLACK):
            sizes = f"{total:,} bytes in a file of {self.size:,}"
            raise ValueError(f"its members are {sizes}, more than twice its size: write it uncompressed")


class _Bounded(io.FileIO):
    """A file of which no more is read at once than an honest archive needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > DIRECTORY:
            raise zipfile.BadZipFile(f"its directory is longer than {DIRECTORY:,} bytes")
        return super().read(size) or b""
