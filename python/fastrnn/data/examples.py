"""What a network learns from: sequences with their targets, and the batches they go in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.checks import Array
from fastrnn.data.sequence import Sequences

POOL = 50  # batches among which sequences are sorted by length


@dataclass
class Examples:
    """Sequences and what is to be said about them.

    Parameters
    ----------
    x : Sequences, or ndarray, (N, ...)
        What a network with memory learns from, or rows for one without.
    y : ndarray, (N, ...), or Sequences, or None
        A target for each sequence; or one for each step; or, when predicting, none.
    weights : ndarray, (N,), or None
        How much each sequence counts in the loss; None is 1.
    follows : bool
        Whether the steps come after those of the batch before: see `Dataset.batches`.
    """

    x: Any
    y: Any = None
    weights: Array | None = None
    follows: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, indices: Any) -> Examples:
        """Those at some places, in the order of the places."""
        y, weights = (None if part is None else part[indices] for part in (self.y, self.weights))
        return Examples(self.x[indices], y, weights)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The steps of each sequence; where it is a single vector, those of its target; a row has one."""
        if not isinstance(self.x, Sequences):
            return np.ones(len(self.x), np.int64)
        vectors = self.x.steps <= 1 and isinstance(self.y, Sequences)
        lengths: npt.NDArray[np.int64] = (self.y if vectors else self.x).lengths
        return lengths

    def cut(self, start: int, stop: int | None = None) -> Examples:
        """Of every sequence and its targets by step, those from `start` to before `stop`."""
        y = self.y.cut(start, stop) if isinstance(self.y, Sequences) else self.y
        return Examples(self.x.cut(start, stop), y, self.weights)

    def part(self, place: int, pieces: int) -> Examples | None:
        """See `Dataset.batches`."""
        part = self[place::pieces]
        part.follows = self.follows
        return part if len(part) and part.lengths.max() else None

    def windows(self, steps: int | None) -> Iterator[Examples]:
        """All the steps and their targets in windows of `steps`, each of which `follows` the one before."""
        if steps is None or self.x.steps <= steps:
            yield self
            return
        for start in range(0, self.x.steps, steps):
            window = self.cut(start, start + steps)
            window.follows = start > 0
            yield window


def _targets(examples: Examples) -> int:
    """The steps that have targets, or the sequences."""
    return int(examples.y.lengths.sum()) if isinstance(examples.y, Sequences) else len(examples)


@dataclass
class Batches:
    """Examples in batches of similar lengths, as a `Dataset`.

    Parameters
    ----------
    examples : Examples
    batch_size : int
        Sequences in a batch; the last may have less.
    bptt_steps : int, optional
        Batches come in windows of so many steps.
    count : callable
        The samples in some examples: by default a target each, of every sequence or of every step.
    """

    examples: Examples
    batch_size: int
    bptt_steps: int | None = None
    count: Callable[[Examples], int] = _targets

    @property
    def samples(self) -> int:
        """Of an epoch."""
        return self.count(self.examples)

    def batches(self, rng: np.random.Generator | None) -> Iterator[Examples]:
        """An epoch, shuffled if there is a generator."""
        for places in batches(self.examples.lengths, self.batch_size, rng):
            yield from self.examples[places].windows(self.bptt_steps)


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
