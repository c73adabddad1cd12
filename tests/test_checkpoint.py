"""A checkpoint is read back exactly, is never half-written, and anything else is refused by name."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

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


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_refuses_metadata_that_json_cannot_express(path, value):
    with pytest.raises((TypeError, ValueError), match="metadata must be expressible in JSON"):
        checkpoint.save(path, {}, {"value": value})


def test_a_missing_file_or_directory_is_the_operating_systems_error(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        checkpoint.load(path)
    with pytest.raises(IsADirectoryError):
        checkpoint.load(path.parent)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoint.save(path.parent / "nowhere" / "model.safetensors", {}, {})


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


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_files_of_others_are_refused(path, metadata):
    safetensors_numpy.save_file({"w": np.zeros(3)}, path, metadata)
    with pytest.raises(ValueError, match="not one that fastrnn wrote"):
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


SAVER = """
import itertools, sys
import numpy as np
from fastrnn import checkpoint
for version in itertools.count(1):
    checkpoint.save(sys.argv[1], {"w": np.full(100_000, float(version))}, {"version": version})
    print(version, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01])
def test_a_killed_save_leaves_the_old_or_the_new_file(path, delay):
    with subprocess.Popen(
        [sys.executable, "-c", SAVER, os.fspath(path)], stdout=subprocess.PIPE, text=True
    ) as saver:
        assert saver.stdout is not None
        assert saver.stdout.readline() == "1\n"
        time.sleep(delay)
        saver.send_signal(signal.SIGKILL)
        finished = len(saver.stdout.read().splitlines()) + 1
    tensors, metadata = checkpoint.load(path)
    assert metadata["version"] in (finished, finished + 1)
    assert (tensors["w"] == metadata["version"]).all()


def test_metadata_is_plain_json_in_the_header(path):
    checkpoint.save(path, {"w": np.zeros(1)}, {"a": [1, "b"]})
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert json.loads(header["__metadata__"]["fastrnn"]) == {"a": [1, "b"]}
