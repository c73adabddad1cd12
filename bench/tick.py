"""How long a step takes, and how evenly: one row at a time through stacks of layers, as control does it.

`python bench/tick.py` prints a table: microseconds, the median, 99th and 99.9th percentile, back to back and
at a fixed pace, from Python and from a loop in C (`tick.cpp`). At a pace a step counts from when it was due,
so that one that waits for a late one is late, too. `--steps 1000000 --seconds 600` takes as many steps as
p99.9 should have.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import sysconfig
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastrnn
from cases import FORMATS, in_format
from native import build
from probe import cpu_name, processors


class Stack(NamedTuple):
    """L layers with I = H, and the microseconds that a maker of FPGAs publishes for LSTMs."""

    L: int
    H: int
    fpga: str


STACKS = {
    f"{stack.L}×{stack.H}": stack
    for stack in (
        Stack(2, 128, "1.9–2.8"),
        Stack(3, 256, "3.0–3.3"),
        Stack(3, 480, "4.2–4.3"),
        Stack(6, 320, "4.3–4.5"),
        Stack(3, 960, "8.5"),
    )
}
PERCENTILES = (50, 99, 99.9)

# Of a step, x, out, how many steps, and nanoseconds from one to the next or 0: nanoseconds of each.
Loop = Callable[[Any, np.ndarray, np.ndarray, int, int], np.ndarray]


def from_python(
    step: Any, x: np.ndarray, out: np.ndarray, count: int, pace: int, *, awake: int | None = None
) -> np.ndarray:
    """Until a step is due it spins, or sleeps and is `awake` so many nanoseconds before."""
    clock, times = time.perf_counter_ns, [0] * count
    due = clock()
    for i in range(count):
        due = due + pace if pace else clock()
        if awake is not None:
            time.sleep(max(0, due - awake - clock()) * 1e-9)
        while clock() < due:
            pass
        step(x, out)
        times[i] = clock() - due
    return np.array(times)


def from_c() -> Loop:
    library = build("tick.cpp", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}")
    ticks = ctypes.PyDLL(str(library)).ticks
    numbers = np.ctypeslib.ndpointer(np.int64)
    ticks.argtypes = [*[ctypes.py_object] * 3, ctypes.c_int64, ctypes.c_int64, numbers]

    def loop(step: Any, x: np.ndarray, out: np.ndarray, count: int, pace: int) -> np.ndarray:
        times = np.zeros(count, np.int64)
        ticks(step, x, out, count, pace, times)
        return times

    return loop


def stream_of(cell: str, stack: Stack, weights: str) -> Any:
    return in_format(getattr(fastrnn, cell)(stack.H, stack.H, stack.L, seed=0), weights).stream()


def measure(loop: Loop, stream: Any, pace: int | None, options: argparse.Namespace) -> str:
    """Percentiles of the steps, in microseconds. A pace of None is back to back."""
    x = np.random.default_rng(0).standard_normal((1, stream.input_size)).astype(stream.dtype)
    out = np.empty((1, stream.output_size), stream.dtype)
    usual = float(np.median(loop(stream.step, x, out, 200, 0)))
    every = 0 if pace is None else max(pace, int(2 * usual))
    count = int(min(options.steps, max(200, options.seconds * 1e9 / max(every, usual))))
    times = loop(stream.step, x, out, count, every)
    return " / ".join(
        f"{value:.{1 if value < 100 else 0}f}" for value in np.percentile(times, PERCENTILES) / 1e3
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=("LSTM", "GRU", "RNN"), default="LSTM")
    parser.add_argument("--stacks", nargs="+", choices=STACKS, default=list(STACKS), metavar="L×H")
    parser.add_argument("--weights", nargs="+", choices=FORMATS, default=["float32"])
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, processors()}))
    parser.add_argument("--steps", type=int, default=20_000, help="of each measurement, at most")
    parser.add_argument("--seconds", type=float, default=2, help="for each measurement, at most")
    parser.add_argument(
        "--pace", type=float, default=100, help="microseconds, or twice the step if that is more"
    )
    parser.add_argument(
        "--sleep",
        type=float,
        help="until so many microseconds before a step is due (Python's loop); else spin",
    )
    options = parser.parse_args()
    pace = int(options.pace * 1e3)
    awake = None if options.sleep is None else int(options.sleep * 1e3)
    python = functools.partial(from_python, awake=awake)
    ways = {"Python": python, "C": from_c()}
    heads = [f"{way}, {how}" for way in ways for how in ("back to back", "paced")]
    print(f"{cpu_name()}, {processors()} cores. Microseconds: p50 / p99 / p99.9.\n")
    print(f"| {options.cell} | weights | threads | {' | '.join(heads)} | FPGA |")
    print("|---" * (len(heads) + 4) + "|")
    for name in options.stacks:
        for weights in options.weights:
            for threads in options.threads:
                fastrnn.set_num_threads(threads)
                stream = stream_of(options.cell, STACKS[name], weights)
                found = [
                    measure(way, stream, each, options) for way in ways.values() for each in (None, pace)
                ]
                print(
                    f"| {name} | {weights} | {threads} | {' | '.join(found)} | {STACKS[name].fpga} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
