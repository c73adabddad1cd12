"""Paths at which nothing can be read or written, or only with care: every reader, every writer.

Each gives one OSError or ValueError that names the path, in finite time, and leaves what was there and
nothing else; where it can be done it is done. A child tries it, as a user who may not do everything.
"""

import contextlib
import functools
import importlib
import io
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

import fastrnn
from fastrnn import checkpoint, cli, figures, interop
from fastrnn.interop import archive
from fastrnn.layers import GRU, Last, Linear, Sequential
from fastrnn.models import SequenceClassifier
from fastrnn.training import fit

from ._children import Child

try:
    from ._paths import DONE, EITHER, PLACES, REFUSED
except ImportError:  # there are no limits of resources
    PLACES = None

COUNT = 1000
UNIT = "paths of readers and writers"
SECONDS = 60  # for all paths of one of them
NOBODY = 65534


def missing():
    return None if PLACES else "it needs a Unix"


@functools.cache
def network():
    """Whose file is larger than a full disk takes."""
    return Sequential(GRU(8, 48, batch_first=True, seed=0), Last(), Linear(48, 2, seed=0))


@functools.cache
def model():
    return SequenceClassifier.from_network(network(), ["a", "b"])


def train(**options):
    data = np.ones((2, 3, 8), "float32"), np.zeros(2, np.int64)
    fit(network(), data, loss="softmax_cross_entropy", epochs=1, seed=0, **options)


@functools.cache
def figure():
    made = figures.new(2, 2)
    made.figimage(np.random.default_rng(0).random((200, 200)))
    return made


def command(*words):
    """Of fastrnn; what it says of an error is one."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = cli.main([os.fspath(word) for word in words])
    if code:
        raise ValueError(said.getvalue())


@functools.cache
def source():
    """A file for everybody, as long as this process lives."""
    file = tempfile.NamedTemporaryFile(suffix=".safetensors")
    network().save(file.name)
    os.chmod(file.name, 0o644)
    return file


def convert(path):
    command("convert", source().name, path)


#: The ending of the file, the package that it takes, and what is called with the path.
WRITERS = {
    "checkpoint.save": (".st", "numpy", lambda path: checkpoint.save(path, network().parameters, {})),
    "checkpoint.write": (".st", "numpy", lambda path: checkpoint.write(path, bytes(50_000))),
    "Layer.save": (".st", "numpy", lambda path: network().save(path)),
    "Model.save": (".st", "numpy", lambda path: model().save(path)),
    "fit(checkpoint=)": (".st", "numpy", lambda path: train(checkpoint=path)),
    "to_onnx": (".onnx", "onnx", lambda path: interop.to_onnx(network(), path)),
    "to_keras": (".keras", "h5py", lambda path: interop.to_keras(network(), path)),
    "a figure": (".png", "matplotlib", lambda path: figures.save(figure(), path)),
    "fastrnn convert": (".safetensors", "numpy", convert),
    "fastrnn convert to PyTorch": (".pt", "torch", convert),
}
#: What wrote the file, and what is called with the path.
READERS = {
    "checkpoint.load": ("Layer.save", checkpoint.load),
    "fastrnn.load": ("Layer.save", fastrnn.load),
    "Model.load": ("Model.save", SequenceClassifier.load),
    "fit(resume=)": ("fit(checkpoint=)", lambda path: train(resume=path)),
    "fastrnn info": ("Layer.save", lambda path: command("info", path)),
    "from_onnx": ("to_onnx", interop.from_onnx),
    "from_keras": ("to_keras", interop.from_keras),
    "from_torch": (
        "fastrnn convert to PyTorch",
        lambda path: interop.from_torch(path, layers=True, batch_first=True),
    ),
}


def is_here(name):
    _, package, _ = WRITERS[name if name in WRITERS else READERS[name][0]]
    return importlib.util.find_spec(package)


HERE = [name for name in (*READERS, *WRITERS) if is_here(name)]


def trial(rng, tally):
    """One reader or writer, at all places."""
    name = HERE[rng.integers(len(HERE))]
    reads = name in READERS
    ending, package, write = WRITERS[READERS[name][0] if reads else name]
    importlib.import_module(package)
    with tempfile.TemporaryDirectory() as base, tempfile.NamedTemporaryFile(suffix=ending) as written:
        with contextlib.redirect_stdout(io.StringIO()):
            write(Path(written.name))
            if reads:  # what is imported for it nobody else may read
                READERS[name][1](Path(written.name))
        call, content = (READERS[name][1], Path(written.name).read_bytes()) if reads else (write, b"old")
        with disk(Path(base)), mock.patch.object(checkpoint, "PATIENCE", 0.1):
            child = Child(functools.partial(try_all, Path(base), reads, call, content, ending))
            problem, said = child.end(SECONDS)
    lines = said.splitlines()
    for line in lines:
        place, _, wrong = line.partition(": ")
        tally.saw(f"{name} of {place}: {wrong}" if wrong else None)
    if problem:
        tally.saw(f"{name} of what follows {lines[-1:]}: {problem}")


@contextlib.contextmanager
def disk(base):
    """A small one, where we may have it."""
    (base / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", base / "disk"]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        (base / "disk").rmdir()
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", base / "disk"], check=True)


def try_all(base, reads, call, content, ending, say):
    """In a child that is nobody."""
    if os.geteuid() == 0:
        for folder in (base, *base.iterdir()):
            os.chown(folder, NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    os.chdir(base)
    for number, (words, (place, reading, writing)) in enumerate(PLACES.items()):
        expected = reading if reads else writing
        if expected is None or (words == "a full disk" and not (base / "disk").exists()):
            continue
        folder = base / f"{number}"
        folder.mkdir()
        with contextlib.ExitStack() as during:
            path = place(folder, f"model{ending}", content, during)
            times = 10 if expected == EITHER else 1
            wrong = [tried(call, path, folder, reads, expected) for _ in range(times)]
        say(f"{words}: {next(filter(None, wrong), '')}")


def tried(call, path, folder, reads, expected):
    """What is wrong with a call at a place, or None."""
    before = held(folder)
    try:
        call(path)
    except (OSError, ValueError) as error:
        if f"{path}" not in f"{error}" and repr(f"{path}")[1:-1] not in f"{error}":
            return f"it is not named by {error!r}"
        if expected == DONE:
            return f"{error!r}"
        return None if expected == EITHER or held(folder) == before else f"now there is {[*held(folder)]}"
    if expected == REFUSED:
        return "it is not refused"
    after = held(folder)
    more = after.keys() - before.keys() - {os.path.relpath(path, folder), "aim"}
    if more or (reads and expected == DONE and after != before):
        return f"there is {sorted(more)} besides"
    if expected == DONE and not reads and path.is_file() and path.stat().st_size < 1000:
        return "nothing is written"
    links = {name for name, what in before.items() if stat.S_ISLNK(what[0])}
    return None if all(before[name] == after.get(name) for name in links) else "a link is none any more"


def held(folder):
    """All that is in a folder: of each name its kind, and what is in it."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            with contextlib.suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                content = os.readlink(path) if stat.S_ISLNK(mode) else None
                if stat.S_ISREG(mode) and os.access(path, os.R_OK):
                    content = path.read_bytes()
                found[os.path.relpath(path, folder)] = mode, content
    return found


def write_in_place(target, data):
    with open(target, "wb") as file:
        file.write(data)


def leave(target, data):
    with open(f"{target}.tmp", "wb") as file:
        file.write(data)
    os.replace(f"{target}.tmp", target)


@contextlib.contextmanager
def opening_anything():
    """A pipe, too: to open it waits."""
    regular = mock.Mock(wraps=stat, S_ISREG=lambda mode: True)
    with mock.patch.object(archive, "stat", regular), mock.patch(f"{__name__}.SECONDS", 3):
        yield


FAULTS = {
    "an error that names another file": lambda: mock.patch.object(
        checkpoint, "_errors_name", lambda name: contextlib.nullcontext()
    ),
    "a writer that loses the old file": lambda: mock.patch.object(checkpoint, "_replace", write_in_place),
    "a writer that leaves another file": lambda: mock.patch.object(checkpoint, "_replace", leave),
    "a writer that takes a link for a file": lambda: mock.patch.object(
        checkpoint, "_to_replace", os.path.abspath
    ),
    "a reader that waits at a pipe": opening_anything,
}
