"""A checkpoint is read back exactly, is never half-written, and anything else is refused by name."""

import contextlib
import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import checkpoint

safetensors_numpy = pytest.importorskip("safetensors.numpy")

METADATA = {"model": "test", "numbers": [1, 2.5, None], "text": "zwölf \n\ud800"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def arrays(rng):
    matrix = rng.standard_normal((5, 7))
    return {
        "float64": matrix,
        "float32": matrix.astype("float32"),
        "float16": matrix.astype("float16"),
        "int64": np.arange(6).reshape(2, 3),
        "bool": np.array([True, False]),
        "transposed": matrix.T,
        "strided": matrix[::2, ::-3],
        "byteswapped": matrix.astype(">f8"),
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 4)),
        "nan": np.array([np.nan, -np.inf, -0.0]),
    }


def leftovers(directory):
    return [name for name in os.listdir(directory) if name.startswith(".fastrnn-")]


def test_gives_back_what_was_saved(path):
    tensors = arrays(np.random.default_rng(0))
    checkpoint.save(path, tensors, METADATA)
    loaded, metadata = checkpoint.load(path)
    assert metadata == METADATA
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
        assert loaded[name].shape == array.shape
        assert loaded[name].flags.writeable
        np.testing.assert_array_equal(loaded[name], array)
    assert leftovers(path.parent) == []


def test_any_safetensors_reader_can_read_it(path):
    tensors = {"w": np.arange(6.0).reshape(2, 3).T}
    checkpoint.save(path, tensors, {})
    np.testing.assert_array_equal(safetensors_numpy.load_file(path)["w"], tensors["w"])


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", object])
def test_refuses_dtypes_it_cannot_store(path, dtype):
    with pytest.raises(TypeError, match=r"tensor 'w' must be boolean, integer or float, got dtype"):
        checkpoint.save(path, {"w": np.zeros(2).astype(dtype)}, {})
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("w", np.ma.masked_equal([1.0, 2.0], 1), r"tensors\['w'\] must be an array, got a masked array"),
        ("w", [[1.0], [1.0, 2.0]], r"tensors\['w'\] must be an array, got .* of type list"),
        ("w", None, r"tensors\['w'\] must be an array, got None"),
        (3, np.zeros(1), "names of tensors must be str, got 3"),
        ("\ud800", np.zeros(1), "names of tensors must be UTF-8, and not '__metadata__', got '.ud800'"),
        ("__metadata__", np.zeros(1), "names of tensors must be UTF-8, and not '__metadata__', got '__meta"),
    ],
)
def test_refuses_tensors_that_a_file_cannot_hold(path, name, value, error):
    with pytest.raises((TypeError, ValueError), match=error):
        checkpoint.save(path, {name: value}, {})
    assert os.listdir(path.parent) == []


def test_metadata_beyond_the_limit_of_a_header_is_a_value_error(path):
    checkpoint.save(path, {}, {"version": 1})
    error = "metadata must fit into the header of a safetensors file, 100 MB, got 101,000,014 characters"
    with pytest.raises(ValueError, match=error):
        checkpoint.save(path, {}, {"series": "x" * 101_000_000})
    assert checkpoint.load(path)[1] == {"version": 1}
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_refuses_metadata_that_json_cannot_express(path, value):
    with pytest.raises((TypeError, ValueError), match="metadata must be expressible in JSON"):
        checkpoint.save(path, {}, {"value": value})


def test_a_missing_file_or_directory_is_the_operating_systems_error(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        checkpoint.load(path)
    with pytest.raises(IsADirectoryError):
        checkpoint.load(path.parent)


@contextlib.contextmanager
def _nobody():
    """A directory of one's own, as a user who may not do everything."""
    directory = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    try:
        if root:
            os.chown(directory, 65534, 65534)
            os.setegid(65534)
            os.seteuid(65534)
        yield directory
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(directory)


@pytest.fixture
def nobody(tmp_path):
    checkpoint.save(tmp_path / "first", {}, {})  # what is imported for it may not be readable later
    with _nobody() as directory:
        yield directory


def locked(directory):
    """A directory that lets nobody in."""
    (directory / "locked").mkdir()
    (directory / "locked").chmod(0o500)
    return directory / "locked" / "model"


def protected(directory):
    (directory / "protected").write_text("kept")
    (directory / "protected").chmod(0o444)
    return directory / "protected"


def looping(directory):
    (directory / "loop").symlink_to("loop")
    return directory / "loop"


def listening(directory):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "socket"))
    return directory / "socket"


def beyond_a_file(directory):
    (directory / "file").touch()
    return directory / "file" / "model"


UNWRITABLE = {
    "a missing directory": lambda directory: directory / "nowhere" / "model",
    "a dangling link into one": lambda directory: dangling(directory),
    "a directory": lambda directory: directory,
    "nothing": lambda directory: "",
    "a long name": lambda directory: directory / ("x" * 300),
    "a file for a directory": beyond_a_file,
    "a loop": looping,
    "a socket": listening,
    "write-protected": protected,
    "in a locked directory": locked,
}


def dangling(directory):
    (directory / "link").symlink_to("nowhere/model")
    return directory / "link"


@pytest.mark.parametrize("make", UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_open_cannot_write_is_refused_in_its_words(nobody, make):
    """By the name that the user gave, before the work and after it; and nothing is left or changed."""
    target = make(nobody)
    with pytest.raises(OSError) as expected:
        open(target, "w")
    before = sorted(nobody.rglob("*"))
    for attempt in (checkpoint.require_writable, lambda path: checkpoint.save(path, {}, {})):
        with pytest.raises(type(expected.value)) as found:
            attempt(target)
        assert (found.value.errno, found.value.filename) == (expected.value.errno, os.fspath(target))
    assert sorted(nobody.rglob("*")) == before
    if make is protected:
        assert target.read_text() == "kept"


def test_a_file_in_a_directory_that_cannot_change_is_refused_by_its_name(nobody):
    (nobody / "folder").mkdir()
    target = nobody / "folder" / "model"
    target.write_text("kept")
    target.parent.chmod(0o500)
    for attempt in (checkpoint.require_writable, lambda path: checkpoint.save(path, {}, {})):
        with pytest.raises(PermissionError) as found:
            attempt(target)
        assert found.value.filename == os.fspath(target)
    assert target.read_text() == "kept"


def test_a_directory_that_is_not_there_is_no_place_for_a_file(tmp_path):
    for attempt in (checkpoint.require_writable, lambda path: checkpoint.save(path, {}, {})):
        with pytest.raises(FileNotFoundError, match="nowhere/"):
            attempt(f"{tmp_path}/nowhere/")


def test_asking_whether_a_file_can_be_written_leaves_nothing(path):
    checkpoint.require_writable(path)
    assert os.listdir(path.parent) == []
    path.write_text("kept")
    checkpoint.require_writable(path)
    assert os.listdir(path.parent) == [path.name] and path.read_text() == "kept"


def test_paths_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("bare", b"bytes", Path("path"), os.fsencode(tmp_path / "whole"), "zwölf", b"caf\xe9"):
        checkpoint.require_writable(name)
        checkpoint.save(name, {"w": np.arange(3)}, {"a": 1})
        assert checkpoint.load(name)[1] == {"a": 1}
    for attempt in (checkpoint.require_writable, checkpoint.load, lambda path: checkpoint.save(path, {}, {})):
        with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike"):
            attempt(1)
    assert leftovers(tmp_path) == []


def device(tmp_path):
    """A null device that may be destroyed, where one can be made."""
    try:
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        with open(tmp_path / "null", "wb"):
            return tmp_path / "null"
    except PermissionError:
        pytest.skip("no device can be made here")


def test_a_device_stays_one(tmp_path):
    null = device(tmp_path)
    link = tmp_path / "link"
    link.symlink_to("null")
    for name in (null, link):
        checkpoint.require_writable(name)
        checkpoint.save(name, {"w": np.zeros(3)}, {})
        assert stat.S_ISCHR(os.stat(name).st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "null"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_device_says_so_by_its_name():
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        checkpoint.save("/dev/full", {"w": np.zeros(3)}, {})
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_into_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    checkpoint.require_writable(tmp_path / "pipe")  # does not wait for a reader
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    checkpoint.save(tmp_path / "pipe", {"w": np.arange(3)}, {"a": 1})
    reader.join()
    (tmp_path / "copy").write_bytes(*received)
    assert checkpoint.load(tmp_path / "copy")[1] == {"a": 1}
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_a_pipe_that_nobody_reads_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe'") as found:
        checkpoint.save(tmp_path / "pipe", {"w": np.arange(3)}, {})
    assert found.value.errno == errno.ENXIO


STANDARD_OUTPUT = """
import numpy as np
from fastrnn import checkpoint
checkpoint.require_writable("/dev/stdout")
checkpoint.save("/dev/stdout", {"w": np.arange(3)}, {"a": 1})
"""


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="not of every system")
@pytest.mark.parametrize("kind", ["pipe", "file", "removed file"])
def test_into_standard_output(tmp_path, kind):
    arguments = [sys.executable, "-c", STANDARD_OUTPUT]
    if kind == "pipe":
        written = subprocess.run(arguments, stdout=subprocess.PIPE, check=True).stdout
    else:
        with open(tmp_path / "out", "w+b") as out:
            if kind == "removed file":
                os.unlink(tmp_path / "out")
            subprocess.run(arguments, stdout=out, check=True)
            written = out.read() if kind == "removed file" else (tmp_path / "out").read_bytes()
    assert leftovers(tmp_path) == [] and os.listdir(tmp_path) == ["out"] * (kind == "file")
    (tmp_path / "copy").write_bytes(written)
    assert checkpoint.load(tmp_path / "copy")[1] == {"a": 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_replaced_file_keeps_its_owner(path):
    checkpoint.save(path, {}, {})
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    checkpoint.save(path, {}, {"a": 1})
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o640)


FULL_DISK = """
import resource, sys
import numpy as np
from fastrnn import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    checkpoint.save(sys.argv[1], {"w": np.zeros(10_000)}, {"version": 2})
except OSError as error:
    print(error.filename)
"""


def test_a_disk_that_is_full_leaves_the_old_file(path):
    checkpoint.save(path, {}, {"version": 1})
    arguments = [sys.executable, "-c", FULL_DISK, path]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == f"{path}\n"
    assert checkpoint.load(path)[1] == {"version": 1}
    assert os.listdir(path.parent) == [path.name]


def test_every_truncation_is_refused(path):
    checkpoint.save(path, {"w": np.arange(4.0)}, {"a": 1})
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            checkpoint.load(path)


def test_every_flipped_byte_is_refused(path):
    checkpoint.save(path, {"w": np.arange(4.0)}, {"a": 1})
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            checkpoint.load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is not a model file at all", b"PK\x03\x04" * 10, b"\x80\x04K\x01.", b"\xff" * 64],
)
def test_files_of_other_kinds_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors' is not a readable model file"):
        checkpoint.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"fastrnn": "{}"}, {"fastrnn_format": "new"}])
def test_safetensors_files_of_others_are_refused(path, metadata):
    safetensors_numpy.save_file({"w": np.zeros(3)}, path, metadata)
    hint = r"fastrnn\.load makes layers of such"
    with pytest.raises(ValueError, match=rf"model\.safetensors' .* not one that fastrnn wrote: {hint}"):
        checkpoint.load(path)


def test_so_is_one_of_numbers_that_numpy_does_not_have(path):
    data = json.dumps({"w": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data + b"\0\0")
    with pytest.raises(ValueError, match="not one that fastrnn wrote"):
        checkpoint.load(path)


@pytest.mark.parametrize("text", ["[]", "3", "{", "", "[" * 100_000, None])
def test_metadata_that_is_no_object_is_refused(path, text):
    header = {"fastrnn_format": "1"} if text is None else {"fastrnn_format": "1", "fastrnn": text}
    safetensors_numpy.save_file({}, path, {**header, "crc32": checkpoint._checksum({}, header)})
    with pytest.raises(ValueError, match=r"model\.safetensors' is not .*: its metadata is no JSON object"):
        checkpoint.load(path)


def test_what_cannot_be_read_twice_is_refused():
    with pytest.raises(ValueError, match="'/dev/null' is not a readable model file: it is a device"):
        checkpoint.load("/dev/null")


def test_a_file_says_who_wrote_it_and_a_newer_one_is_refused(path):
    checkpoint.save(path, {"w": np.zeros(2)}, {})
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    written = (header["fastrnn_format"], header["fastrnn_version"])
    assert written == (str(checkpoint.FORMAT), fastrnn.__version__)
    header.update(fastrnn_format="99", fastrnn_version="7.5.0")
    safetensors_numpy.save_file({"w": np.zeros(2)}, path, header)
    newer = rf"needs a newer fastrnn than this {fastrnn.__version__}: fastrnn '7.5.0' wrote it in format 99"
    with pytest.raises(ValueError, match=rf"model\.safetensors' {newer}"):
        checkpoint.load(path)
    header.update(fastrnn_format="9" * 5000)  # more digits than Python reads
    safetensors_numpy.save_file({"w": np.zeros(2)}, path, header)
    with pytest.raises(ValueError, match=r"model\.safetensors' is a safetensors file, but not one"):
        checkpoint.load(path)


def test_permissions_are_the_umasks_or_the_replaced_files(path):
    umask = os.umask(0o027)
    try:
        checkpoint.save(path, {}, {})
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        checkpoint.save(path, {}, {})
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(umask)


def test_a_symbolic_link_stays_one(path):
    link = path.with_name("latest")
    link.symlink_to(path.name)
    checkpoint.save(link, {}, {"a": 1})
    assert link.is_symlink()
    assert checkpoint.load(path)[1] == {"a": 1}


@pytest.mark.parametrize("function", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(path, monkeypatch, function, error):
    checkpoint.save(path, {}, {"version": 1})

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, function, fail)
        with pytest.raises(type(error)):
            checkpoint.save(path, {}, {"version": 2})
    assert checkpoint.load(path)[1] == {"version": 1}
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_on_disk_before_it_takes_the_name(path, monkeypatch):
    calls = []
    for function in ("fsync", "replace"):
        original = getattr(os, function)
        monkeypatch.setattr(
            checkpoint.os, function, lambda *a, f=function, o=original: (calls.append(f), o(*a))[1]
        )
    checkpoint.save(path, {}, {})
    assert calls == ["fsync", "replace", "fsync"]


def test_metadata_is_plain_json_in_the_header(path):
    checkpoint.save(path, {"w": np.zeros(1)}, {"a": [1, "b"]})
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["fastrnn"]) == {"a": [1, "b"]}
