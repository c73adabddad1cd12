"""A million calls and a hundred thousand steps of training, with flat memory, descriptors and threads."""

import contextlib
import ctypes
import gc
import mmap
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np

import fastrnn
from fastrnn import checkpoint
from fastrnn.layers import CELLS, LSTM, Dropout, Last, Linear, Sequential, Stream
from fastrnn.models import SequenceClassifier
from fastrnn.optim import SGD, Adam, Optimizer, RMSprop
from fastrnn.training import fit

from ._layers import one_of

CALLS, STEPS = 50_000, 5_000  # of a slice
COUNT, UNIT = 20 * (CALLS + STEPS), "calls and steps"

#: By how much each may grow in a slice. A byte or two that are lost in each call are more.
BOUNDS = {
    "bytes of C's heap": 1 << 16,
    "blocks of Python's": 1_000,
    "resident bytes": 2 << 20,  # allocators take pages and give them back as they like
    "descriptors": 0,
    "threads": 0,
}

#: And from the first slice to the start of any.
OVERALL = 4

#: So many seconds threads have to end, whatever else the machine does.
PATIENCE = 120

first = {}  # what was counted at the start of the first slice


def missing():
    return None if Path("/proc/self/task").exists() else "there is no /proc to count descriptors in"


def trial(rng, tally):
    with tempfile.TemporaryDirectory() as folder:
        calls, steps = calls_of(rng, Path(folder)), steps_of(rng)
        go_through(calls, CALLS // 50)  # what comes once: imports, pools, caches
        go_through(steps, STEPS // 50)
        start = counted()
        for _ in range(10):
            go_through(calls, CALLS // 10)
            go_through(steps, STEPS // 10)
        end = settled(start)
    known = first or first.update(start) or start
    tally.saw(count=CALLS + STEPS)
    for name, bound in BOUNDS.items():
        slices = ("the slice", start, end, bound), ("the first slice", known, start, OVERALL * bound)
        for since, before, now, most in slices:
            if now[name] - before[name] > most:
                tally.saw(f"{name}: {before[name]:,}, then {now[name]:,}, since {since} began", 0)


def go_through(work, count):
    """Of each its part of so many, at least one."""
    for part, each in work:
        for _ in range(max(1, int(part * count))):
            each()


def calls_of(rng, folder):
    """Calls, and which part of all they are."""
    kind, size = one_of(rng, list(CELLS)), int(rng.integers(1, 17))
    layer, wide = CELLS[kind](4, size, seed=0), LSTM(64, 50, seed=0)
    network = Sequential(CELLS[kind](4, size, seed=0), Last(), Linear(size, 2, seed=0))
    stream, single = network.stream(), layer.stream()
    model = SequenceClassifier(hidden_size=4, epochs=1, validation_fraction=0, seed=0)
    model.fit(normal(rng, 6, 5, 2), np.arange(6) % 2)
    x, lengths, large, X = (
        normal(rng, 5, 3, 4),
        np.array([5, 2, 1]),
        normal(rng, 40, 32, 64),
        normal(rng, 2, 5, 2),
    )
    step, out, path = normal(rng, 1, 4), np.empty((1, size), "float32"), folder / "layer"

    def refused():
        with contextlib.suppress(ValueError):
            layer(x, lengths=[9, 9, 9])

    def in_a_thread():
        thread = threading.Thread(target=wide, args=(large,))
        thread.start()
        thread.join()

    return [
        (0.35, lambda: stream.step(step)),
        (0.25, lambda: single.step(step, out)),
        (0.2, lambda: layer(x)),
        (0.12, lambda: layer(x, lengths=lengths)),
        (0.06, lambda: network(x, lengths)),
        (0.01, lambda: single.step_many(x[:, :1])),
        (0.005, refused),
        (0.004, lambda: model.predict(X)),
        (0.0004, lambda: wide(large)),
        (0.0002, lambda: (layer.save(path), fastrnn.load(path))),
        (0.0002, in_a_thread),
        (0.0001, lambda: (network.stream(3).copy(), single.reset())),
    ]


def steps_of(rng):
    """Steps of training, and which part of all they are."""
    kind, size = one_of(rng, list(CELLS)), int(rng.integers(1, 17))
    layer = CELLS[kind](4, size, seed=0)
    two = CELLS[kind](4, size, 2, dropout=0.2, seed=0)
    network = Sequential(two, Last(), Dropout(0.1, seed=0), Linear(size, 1, seed=0))
    of_layer, of_network = one_of(rng, [SGD, Adam, RMSprop])(layer.parameters, 1e-3), Adam(network.parameters)
    x, examples = normal(rng, 5, 3, 4), (normal(rng, 20, 5, 4), normal(rng, 20, 1))

    def step(trained, optimizer):
        y, *_, back = trained.forward(x)
        back(y)
        optimizer.step(trained.take_gradients())

    def ten_steps():
        fit(network, examples, loss="mean_squared_error", epochs=5, batch_size=10, seed=0)

    return [
        (0.5, lambda: step(layer, of_layer)),
        (0.3, lambda: step(network, of_network)),
        (0.02, ten_steps),
    ]


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def counted():
    """What the process has, without what is kept on purpose and garbage."""
    gc.collect()
    fastrnn.empty_cache()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "bytes of C's heap": heap(),
        "blocks of Python's": sys.getallocatedblocks(),
        "resident bytes": pages * mmap.PAGESIZE,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def settled(start):
    """The same, when threads that are on their way out have gone."""
    until = time.monotonic() + PATIENCE
    while (found := counted())["threads"] > start["threads"] and time.monotonic() < until:
        time.sleep(0.01)
    return found


class Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


libc = ctypes.CDLL(None)


def heap():
    """Bytes in use, or 0 where the C library does not tell."""
    if not hasattr(libc, "mallinfo2"):
        return 0
    libc.mallinfo2.restype = Heap
    found = libc.mallinfo2()
    return found.uordblks + found.hblkhd


@contextlib.contextmanager
def losing(where, name, lose):
    """Short slices, and a function that loses something in each call."""
    right = getattr(where, name)

    def wrong(*arguments, **named):
        lose()
        return right(*arguments, **named)

    shorter = mock.patch.multiple(__name__, CALLS=5_000, STEPS=1_000, PATIENCE=1)
    first.clear()
    with shorter, mock.patch.object(where, name, wrong):
        yield
    first.clear()
    for each in lost:
        each.close() if hasattr(each, "close") else None
    lost.clear()
    ended.set()


def lose_pages():
    """Which the heap does not count."""
    lost.append(mmap.mmap(-1, 1 << 14))
    lost[-1].write(bytes(1 << 14))


def lose_a_thread():
    ended.clear()
    threading.Thread(target=ended.wait, daemon=True).start()


lost, ended = [], threading.Event()

FAULTS = {
    "a hundred bytes lost in each step": lambda: losing(Stream, "step", lambda: libc.malloc(100)),
    "a history that only grows": lambda: losing(Optimizer, "step", lambda: lost.append([0.1 * len(lost)])),
    "pages lost in each call": lambda: losing(Sequential, "__call__", lose_pages),
    "a file left open": lambda: losing(checkpoint, "load", lambda: lost.append(open(os.devnull))),
    "a thread left waiting": lambda: losing(Sequential, "stream", lose_a_thread),
}
