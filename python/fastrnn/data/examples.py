"""What a network learns from: sequences with their targets, and the batches they go in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.data.sequence import Sequences

POOL = 50  # batches among which sequences are sorted by length


@dataclass
class Examples:
    """Sequences and what is to be said about them.

    Parameters
    ----------
    x : Sequences
    y : ndarray, (N, ...), or Sequences, or None
        A target for each sequence; or one for each step; or, when predicting, none.
    """

    x: Sequences
    y: Any = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, indices: Any) -> Examples:
        """Those at some places, in the order of the places."""
        return Examples(self.x[indices], None if self.y is None else self.y[indices])

    def cut(self, start: int, stop: int | None = None) -> Examples:
        """Of every sequence and its targets by step, those from `start` to before `stop`."""
        y = self.y.cut(start, stop) if isinstance(self.y, Sequences) else self.y
        return Examples(self.x.cut(start, stop), y)

    def windows(self, steps: int | None) -> Iterator[Examples]:
        """All the steps and their targets in windows of `steps`, one after the other."""
        if steps is None or self.x.steps <= steps:
            yield self
            return
        for start in range(0, self.x.steps, steps):
            yield self.cut(start, start + steps)


def batches(
    lengths: npt.NDArray[np.int64], batch_size: int, rng: np.random.Generator | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """The places of all sequences, in batches of similar lengths.

    Parameters
    ----------
    lengths : ndarray of int64, (N,)
    batch_size : int
        The last batch may be smaller.
    rng : numpy.random.Generator, optional
        Shuffles: sequences are sorted by length within random groups of 50 batches, and the batches come in
        random order. Without it, the longest come first.

    Yields
    ------
    ndarray of int64, (B,)
    """
    if rng is None:
        order = np.argsort(-lengths, kind="stable")
        yield from _cut(order, batch_size)
        return
    found: list[npt.NDArray[np.int64]] = []
    for pool in _cut(rng.permutation(len(lengths)), POOL * batch_size):
        found += _cut(pool[np.argsort(-lengths[pool], kind="stable")], batch_size)
    for place in rng.permutation(len(found)):
        yield found[place]


def _cut(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
