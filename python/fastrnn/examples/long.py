"""One sequence of a million steps, in bounded memory.

Truncated back-propagation learns it in the memory of a short one. Now and then a step is marked; the label of
each step is the sign of the number at the last mark. Gradients flow back through windows of `bptt_steps`, the
state through all steps. The peak of a process's memory is measured for sequences of growing length; beside it
that of back-propagation through all steps at once, which needs the more the longer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.examples import print_table, save_figure
from fastrnn.models import SequenceTagger

WINDOW, MARKED, HIDDEN = 200, 0.05, 32


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Train on each length in a process of its own, and report its memory, time and accuracy."""
    lengths = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000)
    windowed = {T: _in_a_process(T, WINDOW) for T in lengths}
    whole = {T: _in_a_process(T, None) for T in (lengths if quick else lengths[:-1])}
    X, y = data(lengths[-1], seed=1)
    baseline = float(max(np.mean(y), 1 - np.mean(y)))
    rows = [
        (
            f"{T:,}",
            f"{window}",
            f"{found['peak']:,.0f}",
            f"{found['seconds']:.1f}",
            f"{found['accuracy']:.1%}",
        )
        for window, runs in ((f"windows of {WINDOW}", windowed), ("all steps at once", whole))
        for T, found in runs.items()
    ]
    print_table(("steps", "gradients through", "peak memory, MB", "seconds", "accuracy"), *rows)
    print(f"always the commoner label: {baseline:.1%}")
    megabytes = (X.nbytes + y.nbytes) / 2**20
    print(f"one copy of the data of {lengths[-1]:,} steps is {megabytes:.1f} MB")
    _draw(windowed, whole, directory)
    longest = windowed[lengths[-1]]
    return {
        "accuracy": longest["accuracy"],
        "baseline": baseline,
        "peak_megabytes": longest["peak"],
        "peak_megabytes_shortest": windowed[lengths[0]]["peak"],
    }


def data(steps: int, seed: int) -> tuple[Array, Array]:
    """A sequence (T, 2) of numbers and marks, and its labels (T,)."""
    rng = np.random.default_rng(seed)
    number = rng.standard_normal(steps, np.float32)
    marked = rng.random(steps, np.float32) < MARKED
    marked[0] = True
    last = np.maximum.accumulate(np.where(marked, np.arange(steps), 0))
    return np.stack([number, marked], axis=1).astype(np.float32), (number[last] > 0).astype(np.int64)


def measure(steps: int, window: int | None) -> None:
    """Train for an epoch, and write what it took as JSON."""
    X, y = data(steps, seed=0)
    start = time.perf_counter()
    model = SequenceTagger(
        cell="gru",
        hidden_size=HIDDEN,
        bidirectional=False,
        bptt_steps=window,
        epochs=1,
        learning_rate=1e-2,
        validation_fraction=0,
        seed=0,
    ).fit([X], [y])
    seconds = time.perf_counter() - start
    peak = _peak_megabytes()
    unseen, labels = data(10_000, seed=2)
    print(json.dumps({"peak": peak, "seconds": seconds, "accuracy": model.score([unseen], [labels])}))


def _in_a_process(steps: int, window: int | None) -> dict[str, float]:
    """What `measure` finds in a process that has done nothing before."""
    code = f"from fastrnn.examples.long import measure; measure({steps}, {window})"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _peak_megabytes() -> float:
    """The most memory that this process has had; Linux knows it without what its parent had."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def _draw(
    windowed: dict[int, dict[str, float]],
    whole: dict[int, dict[str, float]],
    directory: str | os.PathLike[str],
) -> None:
    figure = figures.new(8, 4.5)
    axes = figure.add_subplot()
    for name, runs in ((f"windows of {WINDOW} steps", windowed), ("all steps at once", whole)):
        peaks = [found["peak"] for found in runs.values()]
        axes.plot(list(runs), peaks, marker="o", label=f"gradients through {name}")
    axes.set(xlabel="steps of the one sequence", ylabel="peak memory of the process, MB", xscale="log")
    axes.set_ylim(bottom=0)
    axes.set_title(f"Memory to train a GRU of {HIDDEN} units on one long sequence")
    axes.legend()
    save_figure(figure, directory, "long")
