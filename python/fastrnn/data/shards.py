"""Data that lie apart, as in several files: of each batch every shard has its part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fastrnn import checks


class Shards:
    """Data in so many parts that each piece of a batch comes from one of them, for
    `fastrnn.parallel.data_parallel`: a rank reads its own shards, and opens no others.

    All ranks get the same list. With P shards a batch has ``batch_size / P`` sequences of each; those of
    another length end when they end, and the longest says when the epoch does. Each shard is shuffled by
    itself. A rank has 1, 2, 4, 8 … shards, so that the result depends on the shards and not on the ranks.

    Parameters
    ----------
    shards : sequence
        Each is data as `fastrnn.training.fit` takes them: ``(X, y)``, a function that yields such parts,
        which opens its file when it is called, or a `Dataset`.

    Raises
    ------
    TypeError, ValueError
        If it is no list of at least one.

    Examples
    --------
    >>> from functools import partial
    >>> def parts(path):  # which yields the arrays of a file
    ...     with np.load(path) as file:
    ...         yield file["X"], file["y"]
    >>> shards = Shards([partial(parts, f"day{k}.npz") for k in range(4)])
    >>> len(shards)
    4
    """

    samples = None  # of an epoch: not known, as nobody reads all

    def __init__(self, shards: Sequence[Any]) -> None:
        if not isinstance(shards, (list, tuple)):
            raise TypeError(f"shards must be a list of data, got {checks.came(shards)}")
        if not shards:
            raise ValueError("shards must be at least one, got none")
        self.shards = list(shards)
        self._read: Callable[[int, Any], Any] | None = None
        self._made: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.shards)

    def share_of(self, batch_size: int) -> int:
        """The sequences that each shard has of a batch."""
        each, left = divmod(batch_size, len(self))
        if left or not each:
            raise ValueError(f"batch_size must be a multiple of the {len(self)} shards, got {batch_size}")
        return each

    def read(self, read: Callable[[int, Any], Any]) -> Shards:
        """The same, whose shards are made a `Dataset` of, by their places, when they are needed."""
        found = copy(self)
        found._read, found._made = read, {}
        return found

    def batches(self, rng: np.random.Generator | None) -> Iterator[ShardBatch]:
        """An epoch, which has no end of its own: it is over when no shard has anything left."""
        if self._read is None:
            raise TypeError("shards are data for fastrnn.training.fit, not to be iterated over")
        seeds = None if rng is None else rng.integers(2**63, size=len(self))
        opened: dict[int, Iterator[Any]] = {}
        while True:
            yield ShardBatch(self, seeds, opened)

    def open(self, place: int, seed: int | None) -> Iterator[Any]:
        """The batches of one shard."""
        if place not in self._made:
            assert self._read is not None
            self._made[place] = self._read(place, self.shards[place])
        rng = None if seed is None else np.random.default_rng(seed)
        found: Iterator[Any] = self._made[place].batches(rng)
        return found


@dataclass
class ShardBatch:
    """What the shards have next, each as a piece of its own."""

    shards: Shards
    seeds: Any
    opened: dict[int, Iterator[Any]]
    found: dict[int, Any] = field(default_factory=dict)
    follows: ClassVar[bool] = True  # as far as the pieces do

    def left(self, places: Sequence[int]) -> bool:
        """Whether any of these shards has something left."""
        return any([self.part(place, len(self.shards)) is not None for place in places])

    def part(self, place: int, pieces: int) -> Any:
        """The next batch of a shard, of which there are as many as pieces; None at its end."""
        if place not in self.found:
            if place not in self.opened:
                seed = None if self.seeds is None else int(self.seeds[place])
                self.opened[place] = self.shards.open(place, seed)
            self.found[place] = next(self.opened[place], None)
        return self.found[place]
