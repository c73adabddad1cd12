"""What more cores would give: a model of the cost, by the formula that the kernels use.

`python bench/cores.py` measures what a core multiplies, a barrier, the start of a team, and the packing of
rows; predicts how many times as fast P = 1 … 128 threads are for the shapes of `cases.py`; and sets what is
predicted for one and two threads beside what is measured. docs/cores.md says what this can show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases import CASES, GATES, Case
from probe import bandwidth, peak, processors

PS = (1, 2, 4, 8, 16, 32, 64, 128)
LANES = 16  # numbers of a vector, in AVX-512
DEPTH = 512  # rows whose gradients are added up at a time
WORTH = 2e6  # operations for each thread that joins: csrc/threads.cpp


@dataclass(frozen=True)
class Constants:
    """Of one core, in nanoseconds, floating-point operations and bytes.

    rate : operations in a nanosecond, of products that are large enough
    start : to start a team whose threads are awake
    barrier : of two members, within a step
    packing : bytes packed in a nanosecond
    """

    rate: float
    start: float
    barrier: float
    packing: float


def measured() -> Constants:
    import fastrnn
    from fastrnn import _core

    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype("float32") for shape in ((2048, 512), (512, 512)))
    fastrnn.set_num_threads(1)
    rate = 2 * x.size * len(w) / _nanoseconds(lambda: _core.linear(x, w, None))
    few = rng.standard_normal((8, 512)).astype("float32")
    packed = _nanoseconds(lambda: _core.linear(few, w, None)) - 2 * few.size * len(w) / rate
    start = barrier = 0.0
    if processors() > 1:
        layer, small = fastrnn.LSTM(16, 64, seed=0), rng.standard_normal((200, 1, 16)).astype("float32")
        _core.insist_on_teams(True)
        one, two = _pair(lambda: layer(small))
        barrier = max(0.0, two / 200 - one / 400)
        medium = x[:64]
        one, two = _pair(lambda: _core.linear(medium, w, None))
        start = max(0.0, two - one / 2)
        _core.insist_on_teams(False)
    return Constants(rate, start, barrier, w.nbytes / max(packed, 1.0))


def _pair(call: Callable[[], Any]) -> tuple[float, float]:
    import fastrnn

    found = []
    for threads in (1, 2):
        fastrnn.set_num_threads(threads)
        found.append(_nanoseconds(call))
    return found[0], found[1]


def _nanoseconds(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(30):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e9 * min(times)  # others disturb, and never help


def predicted(case: Case, members: int, constants: Constants) -> float:
    """Nanoseconds of a call on so many threads.

    The steps are what the kernels themselves estimate, `_core.grid`, which chooses how they share a step. The
    input's product, and in training the weights' gradients and the input's, are dealt out evenly, in whole
    vectors or rows; the rows for the weights' gradients are packed once for all, or by each of two.
    """
    from fastrnn import _core

    gates, rows = GATES[case.cell] * case.H, float(case.T * case.B)
    blocks = (case.H + LANES - 1) // LANES
    parts = max(1, case.B // 4) * blocks
    members = min(members, parts, 1 + int(case.flops() / WORTH))
    step = _core.grid(case.B, 4 * gates * case.H, blocks, members)[2]
    product = 2 * gates * rows / constants.rate  # for each column of x or h
    input_part = product * case.I / min(members, rows)
    total = case.T * step + input_part
    if case.trains:
        total += case.T * step  # back through the steps
        slots = gates // LANES or 1
        share = -(-slots // members) / slots
        packing = 4 * rows * (case.I + case.H) / constants.packing
        barriers = 2 * rows / DEPTH * constants.barrier * members / 2 if members > 2 else 0.0
        total += product * (case.I + case.H) * share + packing / (members if members > 2 else 1) + barriers
        total += product * case.I / members
    return total + (constants.start * np.log2(members) if members > 1 else 0.0)


def timed(case: Case, members: int) -> float:
    import fastrnn
    from peers.fastrnn import Peer

    (run,) = Peer(members).runs(case, case.data()).values()
    fastrnn.set_num_threads(members)
    run.call()
    return 1e9 * min(_once(run.call) for _ in range(5))


def _once(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    constants = measured()
    n = min(2, processors())
    read = ", ".join(f"{level} {rate:.0f}" for level, rate in bandwidth(1).items())
    print(f"one core: {peak(1):.0f} GFLOP/s at the peak, {constants.rate:.0f} in a product; GB/s: {read}")
    print(f"packing {constants.packing:.1f} bytes/ns, a barrier of two {constants.barrier:.0f} ns")
    print(f"a team starts in {constants.start:.0f} ns\n")
    heads = ["set", "shape", "1: predicted/measured", f"{n}/1: predicted", "measured", *map(str, PS[2:])]
    print(f"| {' | '.join(heads)} |")
    print("| --- | --- | --: | --: | --: |" + " --: |" * len(PS[2:]))
    for case in CASES:
        if case.set not in ("train", "infer"):
            continue
        one, most = timed(case, 1), timed(case, n)
        times = {p: predicted(case, p, constants) for p in PS}
        figures = [times[1] / one, times[1] / times[n], one / most, *(times[1] / times[p] for p in PS[2:])]
        print(
            f"| {case.set} | {case} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |", flush=True
        )


if __name__ == "__main__":
    main()
