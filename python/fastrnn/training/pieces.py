"""A training on several ranks: batches in pieces, each of which one rank computes by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Dataset, Shards
from fastrnn.data.shards import ShardBatch
from fastrnn.parallel import on_any
from fastrnn.parallel.ranks import Ranks
from fastrnn.parallel.total import Total
from fastrnn.training.learning import Learn, result_of
from fastrnn.training.state import in_json


class InPieces:
    """How a network learns from batches in pieces: a `Learn` whose state is that of each piece.

    Piece k of P has every P-th sequence of a batch, from the k-th on: of batches sorted by length, all have
    about as many steps. Where a batch has fewer sequences than there are pieces, the last have none.

    Parameters
    ----------
    ranks : Ranks
    learn : Learn
        What learns from one piece.
    take : callable
        Hands over the gradients that it has left.
    parameters : mapping of str to ndarray
        The arrays that these are of.
    generators : sequence of numpy.random.Generator
        Those of the network. For each piece they have states of its own, and theirs again after it.
    steps : callable
        How many steps of the optimizer there have been.
    data : Dataset
    """

    def __init__(
        self,
        ranks: Ranks,
        learn: Learn,
        take: Callable[[], Mapping[str, Array]],
        parameters: Mapping[str, Array],
        generators: Sequence[np.random.Generator],
        steps: Callable[[], int],
        data: Any,
    ) -> None:
        self.pieces = ranks.pieces or (len(data) if isinstance(data, Shards) else ranks.size)
        each = ranks.of_each(self.pieces)
        self.own = range(ranks.rank * each, (ranks.rank + 1) * each)
        self.ranks, self.generators, self.batch = ranks, generators, 0
        self._learn, self._take, self._steps = learn, take, steps
        self._total = Total(ranks, self.own, self.pieces, parameters)

    def __call__(self, batch: Any, state: Any, *, training: bool) -> tuple[float, int, Any]:
        self.batch += 1
        found, before, after = np.zeros((len(self.own), 2)), state or {}, {}
        for row, place in enumerate(self.own):
            part = _part(batch, place, self.pieces)
            if part is None:
                continue
            own = before.get(place) if getattr(part, "follows", False) else None
            with self._seeded(place):
                learned = self._learn(part, own, training=training)
            value, count, after[place] = result_of(learned)
            found[row] = value, count
            if training:
                self._total.keep(place, self._take())
        values, counts = self.ranks.gather(self.batch, found).T
        shares = counts / max(counts.sum(), 1)
        if training:
            self._total.add(shares)
        return float((values * shares).sum()), int(counts.sum()), after

    def take(self) -> dict[str, Array]:
        """The gradients of all pieces, as of one batch."""
        return self._total.take()

    def of(self, data: Dataset) -> Together:
        """Data whose epochs end on all ranks at once."""
        return Together(data, self)

    @contextmanager
    def _seeded(self, place: int) -> Iterator[None]:
        """Within it the generators are in states that are this batch's and piece's."""
        before = [each.bit_generator.state for each in self.generators]
        for each, state in zip(self.generators, before, strict=True):
            text = json.dumps([in_json(state), self._steps(), self.batch, place])
            seed = np.random.SeedSequence(int.from_bytes(text.encode(), "little"))
            each.bit_generator.state = type(each.bit_generator)(seed).state
        try:
            yield
        finally:
            for each, state in zip(self.generators, before, strict=True):
                each.bit_generator.state = state


class Together:
    """Data whose epochs end on all ranks at once, or with an error on all of them."""

    def __init__(self, data: Any, learn: InPieces) -> None:
        if isinstance(data, Shards) and len(data) != learn.pieces:
            raise ValueError(f"pieces must be as many as there are shards, {len(data)}, got {learn.pieces}")
        self.data, self.learn = data, learn
        self.samples = data.samples

    def batches(self, rng: np.random.Generator | None) -> Iterator[Any]:
        """An epoch."""
        learn = self.learn
        learn.batch = 0
        for batch in self.data.batches(rng):
            if isinstance(batch, ShardBatch) and not on_any("the next of the shards", batch.left(learn.own)):
                return
            yield batch
        learn.ranks.gather(0, np.zeros((len(learn.own), 2)))


def require_whole(*data: Any) -> None:
    """Raise a TypeError for what only several ranks can learn from, or one rank as they do."""
    if any(isinstance(each, Shards) for each in data):
        raise TypeError("shards go with data_parallel(), also on one rank, whose pieces of batches they are")


def _part(batch: Any, place: int, pieces: int) -> Any:
    """A piece of a batch; None if that has no sequence for it."""
    part = getattr(batch, "part", None)
    if not callable(part):
        raise TypeError(f"a batch must have part(place, pieces) for data_parallel, got {checks.came(batch)}")
    return part(place, pieces)
