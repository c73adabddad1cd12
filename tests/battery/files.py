"""Mutated model files, for every reader.

The files are those in tests/recorded and, of fastrnn's own, in tests/files. None may need much more memory
than it has bytes, more than a minute, or end in anything but a ValueError that names it; and one of fastrnn's
own, which has a checksum, loads only as what was saved.
"""

import contextlib
import functools
import importlib.util
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
from mutations import SLACK, mutated, refuses

import fastrnn
from fastrnn import checkpoint, interop
from fastrnn.interop import archive, torch_files

from ._limits import limited

TESTS = Path(__file__).parents[1]
SECONDS = 60  # for a file


def torch(path, original):
    """All recurrent layers; what a file does not tell is answered."""
    try:
        return interop.from_torch(path, layers=True)
    except ValueError as error:
        if "must be given" not in str(error):
            raise
    return interop.from_torch(path, layers=True, batch_first=False, nonlinearity="tanh")


def keras(path, original):
    """The whole model; of weights alone the recurrent layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return interop.from_keras(path)
        except ValueError as error:
            if "architecture=" not in str(error):
                raise
        answers = {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}
        return interop.from_keras(path, layers=True, **answers)


def onnx(path, original):
    """All recurrent layers, and the whole row."""
    interop.from_onnx(path, layers=True)
    return interop.from_onnx(path)


def own(path, original):
    """What was saved, and nothing else."""
    found = checkpoint.load(path)
    np.testing.assert_equal(found, checkpoint.load(original))
    return fastrnn.load(path) if found[1].keys() & {"model", "layer"} else found


#: What reads a path: where its files are, and the package that it takes.
READERS = {
    torch: ("recorded/torch", "numpy"),
    keras: ("recorded/keras", "h5py"),
    onnx: ("recorded/onnx", "onnx"),
    own: ("files/1", "safetensors"),
}
HERE = [reader for reader, (_, package) in READERS.items() if importlib.util.find_spec(package)]

COUNT = 4000 * len(HERE)
UNIT = f"mutated files of {', '.join(reader.__name__ for reader in HERE)}"


@functools.cache
def contents(reader):
    """The reader's files, all of which it reads, and what is in them."""
    endings = {".py", ".json"}
    files = sorted(TESTS.joinpath(READERS[reader][0]).iterdir())
    files = [each for each in files if each.is_file() and each.suffix not in endings]
    for each in files:
        reader(each, each)
    return [(each, each.read_bytes()) for each in files]


def trial(rng, tally):
    """One file for each reader."""
    with tempfile.TemporaryDirectory() as folder:
        for reader in HERE:
            files = contents(reader)
            original, content = files[rng.integers(len(files))]
            path = Path(folder, f"mutated{original.suffix}")
            path.write_bytes(mutated(content, rng))
            try:
                with limited(SECONDS):
                    refuses(functools.partial(reader, original=original), path, original.name)
            except AssertionError as error:
                tally.saw(f"{reader.__name__} of a mutated {original.name}: {error}")
            else:
                tally.saw()


def unread_checksum():
    return mock.patch.object(checkpoint, "_checksum", lambda tensors, header: mock.ANY)


def nameless():
    """What the parsing of an archive's members has to say, as it is."""
    return mock.patch.object(torch_files, "reading", lambda name, what: contextlib.nullcontext())


def unbounded():
    """Members are read into a buffer that any of them would fit."""
    read = archive.Archive.read
    large = lambda self, member: (bytearray(2 * SLACK), read(self, member))[1]  # noqa: E731
    return mock.patch.object(archive.Archive, "read", large)


@contextlib.contextmanager
def waiting():
    """For the rest of a file that has been cut off."""
    wait = mock.patch.object(archive.Refusal, "__init__", lambda *_: time.sleep(5))
    with wait, mock.patch(f"{__name__}.SECONDS", 0.2):
        yield


FAULTS = {
    "a checksum that is not compared": unread_checksum,
    "an error that is not the reader's": nameless,
    "a buffer that is larger than the file": unbounded,
    "a reader that waits": waiting,
}
