"""Training on ranks of MPI: 2 of a thread each, one with 2 threads, one with one; and what 64 would give.

`python bench/ranks.py` starts itself by the mpiexec that is beside this Python, or on the path, and prints a
table of sequences a second; it must be alone. `--model` predicts, from what one core measures, what N ranks
take for a step. docs/machines.md says what goes into that, and what does not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = {"10 Gbit/s": (1.25e9, 30e-6), "100 Gbit/s": (12.5e9, 3e-6)}  # bytes a second, seconds a message
USABLE = 0.9  # of the bandwidth
RANKS = (1, 2, 4, 8, 16, 32, 64)
LAYOUTS = ((1, 1), (1, 2), (2, 1))  # ranks and threads of each
SCRIPT = Path(__file__)


@dataclass(frozen=True)
class Shape:
    cell: str
    layers: int
    H: int
    T: int
    B: int

    def __str__(self) -> str:
        return f"{self.cell} {self.layers} × {self.H}, T={self.T}, B={self.B}"

    def network(self) -> Any:
        import fastrnn

        layer = getattr(fastrnn, self.cell)(32, self.H, num_layers=self.layers, seed=0)
        return fastrnn.Sequential(layer, fastrnn.Last(), fastrnn.Linear(self.H, 10, seed=0))

    def data(self, batches: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        count = batches * self.B
        return rng.standard_normal((count, self.T, 32)).astype("float32"), rng.integers(0, 10, count)


SHAPES = (
    Shape("GRU", 1, 32, 50, 256),
    Shape("LSTM", 1, 128, 100, 64),
    Shape("LSTM", 2, 256, 100, 64),
    Shape("LSTM", 2, 512, 50, 128),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="store_true", help="predict, from what one core measures")
    parser.add_argument("--rounds", type=int, default=5, help="of each layout (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round (default: %(default)s)")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(SHAPES[options.worker], options.seconds)
    elif options.model:
        model()
    else:
        compare(options.rounds, options.seconds)


# -- measured


def compare(rounds: int, seconds: float) -> None:
    heads = [f"{ranks} × {threads}" for ranks, threads in LAYOUTS]
    print(f"Sequences a second, by ranks × threads; medians of {rounds} rounds.\n")
    print(f"| shape | {' | '.join(heads)} | 2 × 1 to 1 × 1 | 2 × 1 to 1 × 2 |")
    print("| --- |" + " --: |" * (len(LAYOUTS) + 2))
    for place, shape in enumerate(SHAPES):
        found: dict[tuple[int, int], list[float]] = {layout: [] for layout in LAYOUTS}
        for _ in range(rounds):
            for layout in LAYOUTS:
                found[layout].append(launched(place, seconds, *layout))
        one, threads, ranks = (statistics.median(found[layout]) for layout in LAYOUTS)
        ratios = f"{ranks / one:.2f} | {ranks / threads:.2f}"
        print(f"| {shape} | {one:,.0f} | {threads:,.0f} | {ranks:,.0f} | {ratios} |", flush=True)


def launched(place: int, seconds: float, ranks: int, threads: int) -> float:
    """What a worker on so many ranks, each with so many threads, says."""
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("needs mpiexec: pip install mpi4py mpich")
    root = {name: "1" for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")}
    environment = {**os.environ, **root, "OMP_NUM_THREADS": str(threads)}
    asked = ["--worker", str(place), "--seconds", str(seconds)]
    command = [*([mpiexec, "-n", str(ranks)] if ranks > 1 else []), sys.executable, str(SCRIPT), *asked]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def work(shape: Shape, seconds: float) -> None:
    """Train, alone or as one of several ranks, each on processors of its own, and print the speed."""
    several = any(name in os.environ for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK"))
    rank, threads = 0, int(os.environ["OMP_NUM_THREADS"])
    if several:
        from mpi4py import MPI

        rank = MPI.COMM_WORLD.rank
    available = sorted(os.sched_getaffinity(0))
    if not several or len(available) > threads:  # a launcher may have bound it
        os.sched_setaffinity(0, available[rank * threads : (rank + 1) * threads])
    from fastrnn.parallel import data_parallel
    from fastrnn.training import fit

    with data_parallel() if several else nullcontext():
        options = {"loss": "softmax_cross_entropy", "batch_size": shape.B, "clip_norm": 1.0, "seed": 0}
        training = fit(shape.network(), shape.data(4), max_seconds=seconds, **options)
    if rank == 0:
        speeds = [record["samples_per_second"] for record in training.history]
        print(json.dumps(statistics.median(speeds)))


# -- predicted


def model() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    import fastrnn

    fastrnn.set_num_threads(1)
    print("One core computes for each rank. Predicted: how many times as fast N ranks are as one.\n")
    for shape in SHAPES:
        network = shape.network()
        size = sum(array.nbytes for array in network.parameters.values())
        rows = sorted({max(1, shape.B // ranks) for ranks in RANKS})
        passes = {count: pass_of(shape, network, count) for count in rows}
        update = update_of(network)
        print(f"**{shape}**: {1e3 * passes[shape.B]:.1f} ms forward and back", end=", ")
        print(f"{1e3 * update:.2f} ms for the rest, {size / 1e6:.2f} MB of gradients\n")
        print("| batch | network |" + "".join(f" {ranks} |" for ranks in RANKS) + " sent, of a step of 64 |")
        print("| --- | --- |" + " --: |" * (len(RANKS) + 1))
        alone = passes[shape.B] + update
        for batch in ("the same", "grows with N"):
            for name, (bandwidth, latency) in NETWORKS.items():
                figures, part = [], 0.0
                for ranks in RANKS:
                    own = passes[max(1, shape.B // ranks) if batch == "the same" else shape.B]
                    sent = communication(size, ranks, bandwidth, latency)
                    gain = alone / (own + update + sent) * (1 if batch == "the same" else ranks)
                    figures.append(f"{gain:.2f}" if gain < 10 else f"{gain:.1f}")
                    part = sent / (own + update + sent)
                print(f"| {batch} | {name} | {' | '.join(figures)} | {part:.0%} |")
        print(flush=True)


def communication(size: int, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds: slices to all and sums from all, pair by pair, and a small message of all to all."""
    if ranks == 1:
        return 0.0
    messages = 2 * (ranks - 1) + math.log2(ranks)
    return 2 * size * (ranks - 1) / ranks / (USABLE * bandwidth) + messages * latency


def pass_of(shape: Shape, network: Any, rows: int) -> float:
    """Seconds of forward and backward of so many sequences."""
    from fastrnn.losses import softmax_cross_entropy

    x, y = shape.data(1)
    x, y = np.ascontiguousarray(x[:rows].swapaxes(0, 1)), y[:rows]

    def step() -> None:
        output, back = network.forward(x)
        back(softmax_cross_entropy(output, y)[1], input_gradient=False)
        network.take_gradients()

    return best(step)


def update_of(network: Any) -> float:
    """Seconds of what every rank does with all gradients: into one array, sums of slices, clipping, Adam."""
    from fastrnn.optim import Adam, clip_grad_norm

    adam = Adam(network.parameters)
    gradients = {name: np.full_like(array, 1e-3) for name, array in network.parameters.items()}
    flat = {name: np.empty_like(array) for name, array in gradients.items()}

    def update() -> None:
        for name, array in gradients.items():
            np.multiply(array, array.dtype.type(0.5), out=flat[name])
        for array in flat.values():
            array += array  # as many as there are in N slices of an N-th
        clip_grad_norm(flat, 1.0)
        adam.step(flat)

    return best(update)


def best(call: Callable[[], None], seconds: float = 1.0) -> float:
    call()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)  # others disturb, and never help


if __name__ == "__main__":
    main()
