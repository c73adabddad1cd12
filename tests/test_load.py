"""One door for files of any system: `fastrnn.load` looks at what is in them, whatever they are called."""

import doctest
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from mutations import survives

import fastrnn
from fastrnn import checkpoint, interop
from fastrnn.interop import files
from fastrnn.layers import LSTM, Last, Linear, Sequential
from fastrnn.models import SequenceClassifier
from fastrnn.optim import Adam
from fastrnn.training import fit

RECORDED = Path(__file__).parent / "recorded"


def test_docstring():
    assert doctest.testmod(files).failed == 0


def test_import_of_fastrnn_stays_quick():
    """No reader is imported before it is asked for."""
    code = "import fastrnn, sys; print([each for each in sys.modules if 'interop' in each])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert "load" in fastrnn.__all__ and fastrnn.load is files.load


NAMES = ["model", "model.safetensors", "model.onnx", "model.pt", "model.txt", "Ünïcode 1.h5"]


def network():
    return Sequential(lstm=LSTM(3, 5, seed=0), last=Last(), head=Linear(5, 2, seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_our_own_are_known_by_any_name(name, tmp_path, rng):
    path, x = tmp_path / name, rng.normal(size=(4, 6, 3)).astype("float32")
    model = SequenceClassifier.from_network(network(), ["a", "b"])
    model.save(path)
    for given in (path, str(path)):
        again = fastrnn.load(given)
        assert type(again) is SequenceClassifier
        np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
    assert fastrnn.load(path, batch_size=7).batch_size == 7
    network().save(path)
    again = fastrnn.load(path)
    assert repr(again) == repr(network())
    np.testing.assert_array_equal(again(x.swapaxes(0, 1)), network()(x.swapaxes(0, 1)))
    with pytest.raises(TypeError, match="layers"):
        fastrnn.load(path, layers=True)


class Other(Exception):
    """What a reader of another system got."""


@pytest.fixture
def readers(monkeypatch):
    """In the place of the readers of other systems: what says which was called."""
    for name in ("from_torch", "from_onnx", "from_keras"):
        monkeypatch.setattr(interop, name, lambda path, _name=name, **options: (_name, path, options))


def archive(*members):
    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            for member in members:
                file.writestr(member, b"content")

    return write


def content(data):
    return lambda path: Path(path).write_bytes(data)


def npz(path):
    with open(path, "wb") as file:
        np.savez(file, a=np.ones(3), b=np.ones(2))


def safetensors(path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"weight": np.ones(3)}, path, metadata={"format": "pt"})


KINDS = {
    "safetensors": (safetensors, "from_torch"),
    "npz": (npz, "from_torch"),
    "torch": (archive("archive/data.pkl", "archive/data/0", "archive/version"), "from_torch"),
    "torchscript": (archive("m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"), "from_torch"),
    "torch before 1.6": (content(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)), "from_torch"),
    "keras": (archive("metadata.json", "config.json", "model.weights.h5"), "from_keras"),
    "hdf5": (content(b"\x89HDF\r\n\x1a\n" + bytes(50)), "from_keras"),
    "onnx": (content(b"\x08\x0a\x12\x07pytorch" + bytes(50)), "from_onnx"),
    "arrays of our own": (lambda path: checkpoint.save(path, {"w": np.ones(3)}, {}), "from_torch"),
}


@pytest.mark.parametrize("name", ["model", "model.h5", "model.pt"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_others_go_to_their_reader(kind, name, readers, tmp_path):
    write, reader = KINDS[kind]
    write(tmp_path / name)
    assert fastrnn.load(tmp_path / name, layers=True) == (reader, str(tmp_path / name), {"layers": True})


@pytest.mark.parametrize("start", [b"\x80\x02", b"PK\x03", b"\x08\x07\x12"])
def test_a_header_of_safetensors_may_be_of_any_length(start, tmp_path):
    """So that the file begins as a pickle, an archive or an ONNX model."""
    from safetensors import numpy

    arrays, length = dict(LSTM(3, 4).parameters), int.from_bytes(start, "little")
    data = numpy.save(arrays)
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].ljust(length)  # spaces may follow
    (tmp_path / "model").write_bytes(
        length.to_bytes(8, "little") + header + data[-sum(a.nbytes for a in arrays.values()) :]
    )
    assert repr(fastrnn.load(tmp_path / "model", batch_first=False)) == "LSTM(3, 4)"


@pytest.mark.parametrize("system", ["torch", "onnx", "keras"])
def test_files_of_every_system_are_known(system, tmp_path):
    """Those that it has written itself."""
    found = [path for path in (RECORDED / system).iterdir() if path.is_file() and path.suffix != ".py"]
    assert len(found) > 9
    for path in found:
        shutil.copy(path, tmp_path / "model")
        assert files.kind_of(tmp_path / "model").read is getattr(interop, f"from_{system}"), path


STRANGE = {
    "is empty": b"",
    "a single array of NumPy": b"\x93NUMPY\x01\x00v\x00",
    "compressed: unpack it": b"\x1f\x8b\x08\x00",
    "a TensorFlow Lite model": b"\x1c\x00\x00\x00TFL3",
    "ONNX Runtime's own format": b"\x1c\x00\x00\x00ORTM",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "a page of HTML": b"<!DOCTYPE html><html>",
    "JSON, which has no weights": b'{"class_name": "Sequential"}',
    "but text": b"weights of mine, 1 2 3\n",
    r"it begins with b'\\xff\\xfe\\xfd'": b"\xff\xfe\xfd",
    "a zip archive of 'word/document.xml'": archive("word/document.xml"),
    "a zip archive of nothing": archive(),
    "a zip archive of 'a', 'b', 'c', …": archive("a", "b", "c", "d"),
    "cannot be read as a zip archive": b"PK\x03\x04" + bytes(60),
    "a damaged safetensors file": b"\x10\x00\x00\x00\x00\x00\x00\x00{" + bytes(30),
    "a damaged safetensors file: ": b"\xff\xff\xff\x00\x00\x00\x00\x00{" + bytes(30),
}


@pytest.mark.parametrize("words", STRANGE)
def test_what_is_none_is_refused_by_what_it_seems_to_be(words, tmp_path):
    path = tmp_path / "model.onnx"
    data = STRANGE[words]
    (data if callable(data) else content(data))(path)
    with pytest.raises(ValueError, match=f"(?s)model.onnx'.*{words}"):
        fastrnn.load(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        fastrnn.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        fastrnn.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        for load in (fastrnn.load, checkpoint.load):
            with pytest.raises(ValueError, match="it is a device or a pipe"):
                load(path)
    with pytest.raises(TypeError, match="not int"):
        fastrnn.load(0)
    path = os.fsencode(tmp_path) + b"/\xff.npz"  # which is not UTF-8
    with open(path, "wb") as file:
        np.savez(file, **LSTM(3, 4).parameters)
    for name in (path, os.fsdecode(path)):
        assert repr(fastrnn.load(name, batch_first=True)) == "LSTM(3, 4, batch_first=True)"
    (tmp_path / "model").write_bytes(b"abc")
    os.chmod(tmp_path / "model", 0)
    if not os.access(tmp_path / "model", os.R_OK):
        with pytest.raises(PermissionError):
            fastrnn.load(tmp_path / "model")


def test_damaged_files_of_our_own_are_refused(tmp_path):
    path = tmp_path / "model"
    network().save(path)
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:100], whole[:9], whole[:-4] + b"\0\0\0\0"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="model'"):
            fastrnn.load(path)
    tensors = network().state_dict()
    for layer in ({}, {"class": "Popen"}, None, "LSTM", [1]):
        checkpoint.save(path, tensors, {"layer": layer})
        with pytest.raises(ValueError, match=r"'.*model' holds an inconsistent layer: "):
            fastrnn.load(path)


def test_mutated_files_are_refused(tmp_path):
    given = network()
    given.save(tmp_path / "layer")
    SequenceClassifier.from_network(given, ["a", "b"]).save(tmp_path / "model")
    files = [tmp_path / "layer", tmp_path / "model", RECORDED / "torch" / "sequential.pt"]
    (tmp_path / "mutated").mkdir()
    assert survives(fastrnn.load, files, 200, tmp_path / "mutated") > 150


HOSTILE = [0, -1, 3, 10**5, 10**9, 2**63, 10**30, 0.5, "", "gru", None, True, [], [[]], {}, {"a": 1}]


def within(tree, path=()):
    """All the places in metadata."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield *path, key
        yield from within(value, (*path, key))


def test_our_own_files_with_anything_in_their_metadata_are_refused(tmp_path, rng):
    """Though their checksums are right: in no more memory than the file takes, be the sizes what they may."""
    given = network()
    given.save(tmp_path / "layer")
    SequenceClassifier.from_network(given, ["a", "b"]).save(tmp_path / "given")
    files = [
        tmp_path / "layer",
        tmp_path / "given",
        *sorted((RECORDED.parent / "files" / "1").glob("*.safetensors")),
    ]
    path, refused = tmp_path / "hostile", 0
    for count in range(10 * len(files)):
        tensors, metadata = checkpoint.load(files[count % len(files)])
        places = list(within(metadata))
        *ways, last = places[rng.integers(len(places))]
        holder = metadata
        for key in ways:
            holder = holder[key]
        holder[last] = HOSTILE[rng.integers(len(HOSTILE))]
        checkpoint.save(path, tensors, metadata)
        tracemalloc.start()
        try:
            fastrnn.load(path)
        except ValueError as error:
            assert "hostile" in str(error)
            refused += 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * path.stat().st_size + (4 << 20), (*ways, last, holder[last])
    assert refused > 40


def test_the_state_of_a_training_is_no_model(tmp_path, rng):
    x, y = rng.normal(size=(4, 6, 3)), rng.integers(0, 2, 4)
    given = network()
    adam = Adam(given.parameters)
    fit(given, (x, y), loss="softmax_cross_entropy", optimizer=adam, epochs=1, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=r"run' is no model, but the state of a training: .*resume="):
        fastrnn.load(tmp_path / "run")


def test_a_file_for_checkpoint_load_points_here(tmp_path):
    safetensors(tmp_path / "theirs")
    (tmp_path / "text").write_text("text, more than eight bytes")
    for name in ("theirs", "text"):
        with pytest.raises(ValueError, match=r"fastrnn\.load"):
            checkpoint.load(tmp_path / name)
