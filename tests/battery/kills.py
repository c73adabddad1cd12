"""Savers that are killed at any moment: the path holds all of the old file, or all of the new one."""

import contextlib
import importlib.util
import itertools
import os
import re
import stat
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np

import fastrnn
from fastrnn import checkpoint, conversion, interop
from fastrnn.layers import GRU, Last, Linear, Sequential
from fastrnn.models import SequenceClassifier
from fastrnn.optim import SGD
from fastrnn.training import fit

from ._children import Child

COUNT = 100
UNIT = "kills during save"
SECONDS = 60  # for a child to begin
LONGEST = 0.03  # until it is killed: some saves
MODE = 0o604
LEFT = r"\.fastrnn-[0-9a-f]{16}\.tmp"  # what a killed saver may leave, as `checkpoint.save` says


def missing():
    return None if hasattr(os, "fork") else "processes do not fork"


def network(version):
    """All of whose weights are the version."""
    made = Sequential(GRU(8, 48, batch_first=True), Last(), Linear(48, 2))
    for array in made.parameters.values():
        array[...] = version
    return made


# Each saves one version after the other at a path, and says so.


def arrays(path, say):
    for version in itertools.count(1):
        checkpoint.save(path, {"w": np.full(100_000, float(version))}, {})
        say(version)


def layers(path, say):
    for version in itertools.count(1):
        network(version).save(path)
        say(version)


def models(path, say):
    for version in itertools.count(1):
        SequenceClassifier.from_network(network(version), ["a", "b"]).save(path)
        say(version)


def trainings(path, say):
    """Each epoch adds 1 to the weights."""
    trained = Sequential(Linear(1, 50_000, bias=False))
    trained.parameters["0.weight"][...] = 0
    fit(
        trained,
        (np.ones((1, 1), "float32"), np.zeros(1)),
        loss=lambda y, target: (0.0, np.full_like(y, -1)),
        optimizer=SGD(trained.parameters, 1.0),
        schedule="constant",
        epochs=10_000,
        checkpoint=path,
        callbacks=lambda training: say(len(training.history)),
    )


def conversions(path, say):
    sources = [os.fspath(path.with_name(f"{version}.safetensors")) for version in range(1, 12)]
    for version, source in enumerate(sources, 1):
        network(version).save(source)
    for version, source in enumerate(sources, 1):
        conversion.convert(source, os.fspath(path), {})
        say(version)


#: Each with the ending of its file, and the package that it takes.
SAVERS = [
    (arrays, ".safetensors", "numpy"),
    (layers, ".safetensors", "numpy"),
    (models, ".safetensors", "numpy"),
    (trainings, ".safetensors", "numpy"),
    (conversions, ".safetensors", "numpy"),
    (conversions, ".pt", "torch"),
    (conversions, ".onnx", "onnx"),
    (conversions, ".keras", "h5py"),
]
HERE = [saver for saver in SAVERS if importlib.util.find_spec(saver[2])]


def versions_in(path):
    """Of all weights in a file, which must load."""
    if path.suffix == ".safetensors":
        tensors, _ = checkpoint.load(path)
    elif path.suffix == ".pt":
        tensors = interop.from_torch(path, layers=True, batch_first=True)["0"].parameters
    else:
        tensors = fastrnn.load(path).parameters
    weights = [array for name, array in tensors.items() if not name.startswith("optimizer.")]
    return {int(version) for array in weights for version in np.unique(array)}


def trial(rng, tally):
    save, ending, package = HERE[rng.integers(len(HERE))]
    importlib.import_module(package)  # once, and not in each child
    delay = rng.uniform(0, LONGEST)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"kept{ending}")
        path.touch()
        path.chmod(MODE)
        child = Child(lambda say: save(path, say))
        child.says(SECONDS)
        time.sleep(delay)
        child.kill()
        problem, said = child.end(SECONDS)
        last = int(said.split()[-1]) if said.strip() else 1
        found = problem or wrong(path, last)
    what = f"{save.__name__} to {ending}, killed {1e3 * delay:.1f} ms after the first save"
    tally.saw(f"{what}: {found}" if found else None)


def wrong(path, last):
    """With a file of which this version has been saved, and perhaps one more."""
    try:
        versions = versions_in(path)
    except (OSError, ValueError) as error:
        return f"after version {last}: {error}"
    if versions not in ({last}, {last + 1}):
        return f"it holds {versions} after version {last}"
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode != MODE:
        return f"its permissions are {mode:o}, they were {MODE:o}"
    others = [name for name in os.listdir(path.parent) if not re.fullmatch(r"\w+\.\w+", name)]
    if len(others) > 1 or not all(re.fullmatch(LEFT, name) for name in others):
        return f"beside it there are {others}"
    return None


@contextlib.contextmanager
def other(name, function):
    """A function of `checkpoint` in the place of one."""
    with mock.patch.object(checkpoint, name, function):
        yield


def write_in_place(target, data):
    with open(target, "wb", buffering=0) as file:
        for start in range(0, len(data), 1024):
            file.write(data[start : start + 1024])


def put_off(target, data, behind=[]):  # noqa: B006
    """What was saved before."""
    behind.append(data)
    Path(target).write_bytes(behind[-2 if len(behind) > 2 else -1])


def keep_a_copy(source, target, replace=os.replace):
    os.link(source, f"{source}.old")
    replace(source, target)


FAULTS = {
    "a save that writes in place": lambda: other("_replace", write_in_place),
    "a save that is not done when it returns": lambda: other("_replace", put_off),
    "temporary files that stay": lambda: mock.patch.object(checkpoint.os, "replace", keep_a_copy),
    "permissions that are lost": lambda: other("_take_over", lambda found, path: None),
}
