"""What a call from PyTorch costs beside the work: forward and backward of one step of one row with few units.

`python bench/overhead.py` prints microseconds, medians of interleaved rounds on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import fastrnn
import fastrnn.torch

SIZE = 8
CALLS = 200  # of a round

Call = Callable[[], Any]


class Empty(torch.autograd.Function):
    """PyTorch's engine alone: as many tensors, and nothing to do."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, *weights)
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(map(torch.empty_like, ctx.saved_tensors))


def through_numpy(layer: Any, x: np.ndarray) -> Call:
    def call() -> None:
        _, _, back = layer.forward(x)
        back(x)
        layer.take_gradients()

    return call


def through_torch(forward: Callable[..., torch.Tensor], tensors: list[torch.Tensor]) -> Call:
    """Of the tensors that get gradients the first is the input."""
    dy = tensors[0].detach()

    def call() -> None:
        for tensor in tensors:
            tensor.grad = None
        forward(tensors[0]).backward(dy)

    return call


def measure(cell: str, rounds: int) -> dict[str, float]:
    """Microseconds of a call, by way."""
    ours, theirs = (getattr(package, cell)(SIZE, SIZE) for package in (fastrnn.torch, torch.nn))
    x = torch.ones(1, 1, SIZE, requires_grad=True)
    tensors = [x, *theirs.parameters()]
    calls = {
        "NumPy door": through_numpy(getattr(fastrnn, cell)(SIZE, SIZE), x.detach().numpy()),
        "fastrnn.torch": through_torch(lambda x: ours(x)[0], [x, *ours.parameters()]),
        "PyTorch": through_torch(lambda x: theirs(x)[0], tensors),
        "empty Function": through_torch(lambda x: Empty.apply(*tensors), tensors),
        "engine alone": through_torch(lambda x: x.expand_as(x), [x]),
    }
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            took[name].append((time.perf_counter() - start) / CALLS * 1e6)
    return {name: statistics.median(times[1:]) for name, times in took.items()}  # the first round warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=51)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fastrnn.set_num_threads(1)
    for cell in ("LSTM", "GRU", "RNN"):
        found = measure(cell, options.rounds)
        print(f"{cell}: " + ", ".join(f"{name} {time:.1f} µs" for name, time in found.items()))
        more = found["fastrnn.torch"] - found["NumPy door"]
        beyond = more - found["empty Function"]
        print(f"  {more:.1f} µs over the NumPy door, {beyond:.1f} µs beyond an empty Function", flush=True)


if __name__ == "__main__":
    main()
