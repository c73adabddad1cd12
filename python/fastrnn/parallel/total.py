"""The sum of gradients over the pieces of a batch and over ranks, in an order that ranks have no part in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.parallel.ranks import Ranks


class Total:
    """The gradients of the pieces, each in a flat array of its own, until they are added up over all ranks.

    Neighbours are added, then neighbouring sums, and so on: a rank's own first, however many ranks there are.
    Then each rank gets one slice of what all ranks have, adds these up, and all get the sums: no more goes
    through the network than by the usual algorithms for sums, whose order depends on the ranks.
    """

    def __init__(self, ranks: Ranks, own: range, pieces: int, parameters: Mapping[str, Array]) -> None:
        self.ranks, self.own = ranks, own
        self.filled = np.zeros(pieces, bool)  # of all ranks
        self.kept: dict[int, Mapping[str, Array]] = {}
        sizes: dict[np.dtype[Any], int] = {}
        self.places: dict[str, tuple[np.dtype[Any], slice, tuple[int, ...]]] = {}
        for name, array in parameters.items():
            start = sizes.get(array.dtype, 0)
            sizes[array.dtype] = start + array.size
            self.places[name] = array.dtype, slice(start, start + array.size), array.shape
        padded = {dtype: size + -size % ranks.size for dtype, size in sizes.items()}  # to equal slices
        self.flat = {dtype: np.zeros((len(own), size), dtype) for dtype, size in padded.items()}
        self.whole = {dtype: np.zeros(size, dtype) for dtype, size in padded.items()}
        self.slices = {dtype: array.reshape(ranks.size, -1).copy() for dtype, array in self.whole.items()}

    def keep(self, place: int, gradients: Mapping[str, Array]) -> None:
        """The gradients of a piece, until it is known how much they count."""
        self.kept[place] = gradients

    def add(self, shares: Array) -> None:
        """Add what is kept, by the share that each piece has in its batch."""
        with np.errstate(all="ignore"):
            for place, gradients in self.kept.items():
                for name, (dtype, part, shape) in self.places.items():
                    flat = self.flat[dtype][place - self.own.start, part].reshape(shape)
                    share = dtype.type(shares[place])
                    if self.filled[place]:
                        flat += gradients[name] * share
                    else:
                        np.multiply(gradients[name], share, out=flat)
        self.kept = {}
        self.filled |= shares > 0

    def take(self) -> dict[str, Array]:
        """The sums over all pieces and ranks, by name: good until the next are taken."""
        for dtype, flat in self.flat.items():
            self._add_up(flat, self.whole[dtype])
        self.filled[:] = False
        places = self.places.items()
        return {name: self.whole[dtype][part].reshape(shape) for name, (dtype, part, shape) in places}

    def _add_up(self, flat: Array, whole: Array) -> None:
        filled: list[list[bool]] = self.filled.reshape(self.ranks.size, len(self.own)).tolist()
        mine = _added(flat, filled[self.ranks.rank])
        if self.ranks.size == 1:
            whole[:] = mine
            return
        slices = self.slices[whole.dtype]
        self.ranks.wait()
        self.ranks.comm.Alltoall(mine, slices)
        self.ranks.wait()
        self.ranks.comm.Allgather(_added(slices, list(map(any, filled))), whole)


def _added(rows: Array, filled: list[bool]) -> Array:
    """The sum of the rows that are filled, neighbours first, in one of them; zeros if none is."""
    sums: list[Array | None] = [row if has else None for row, has in zip(rows, filled, strict=True)]
    with np.errstate(all="ignore"):
        while len(sums) > 1:
            sums = [_sum(sums[place : place + 2]) for place in range(0, len(sums), 2)]
    return np.zeros_like(rows[0]) if sums[0] is None else sums[0]


def _sum(neighbours: list[Array | None]) -> Array | None:
    """That of two, one of which may be missing, in the first."""
    found = [each for each in neighbours if each is not None]
    if len(found) == 2:
        found[0] += found[1]
    return found[0] if found else None
