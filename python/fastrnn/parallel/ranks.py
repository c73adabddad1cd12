"""The ranks of a training: how they come together, agree, and end when one of them fails."""

from __future__ import annotations

import os
import reprlib
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from fastrnn import backend, checks, config
from fastrnn.checks import Array

PATIENCE = 5.0  # seconds within which all ranks must have failed, if it is of the same error

MOMENT = 1e-4  # seconds to sleep in between, where all ranks are waited for

SHOWN = 5  # differences in an error

T = TypeVar("T")


class Ranks:
    """The ranks of a communicator: everything that they tell each other, but for gradients.

    Where they come together each says where it is, so that ranks that went different ways are an error on all
    of them, and none waits for ever.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
        A duplicate, which no messages of others can get into.
    rank, size : int
    pieces : int or None
        Of a batch, if they are given.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self._failed = comm.Dup(), comm.Dup()
        self.rank, self.size = int(comm.rank), int(comm.size)
        self.pieces: int | None = None
        self._now, self._crowded = 0.0, False

    def agree(self, pieces: int | None) -> None:
        """Take the number of pieces, if all say the same; warn of ranks that compute other bits."""
        from fastrnn import __version__

        self.require_same({"pieces": pieces})
        self.of_each(self.size if pieces is None else pieces)
        self.pieces = pieces
        isa = None if config._core is None else config._core.config()["isa"]
        versions = {"fastrnn": __version__, "numpy": np.__version__}
        own = {**versions, "backend": backend.name_in_use(), "the kernels' instruction set": isa}
        differing = _differing(self.meet("versions", _told(own)))
        if differing and self.rank == 0:
            checks.warn(f"ranks differ, and the bits depend on who computes what: {'; '.join(differing)}")

    def of_each(self, pieces: int) -> int:
        """How many of so many pieces each rank has."""
        each, left = divmod(pieces, self.size)
        if self.size > 1 and (left or each & (each - 1) or not each):
            several = f"1, 2, 4, 8 … for each of {self.size} ranks"
            raise ValueError(f"pieces must be {several}, in all {self.size}, {2 * self.size} …, got {pieces}")
        return each

    def wait(self) -> None:
        """Where there are more ranks than cores, sleep until all have come: MPI would keep the cores that the
        others need."""
        if self._crowded:
            everyone = self.comm.Ibarrier()
            while not everyone.Test():
                time.sleep(MOMENT)

    def meet(self, where: str, told: Any) -> list[Any]:
        """What each rank tells all others at some place in the program."""
        self.wait()
        everyone = self.comm.allgather((time.perf_counter(), where, told))
        self._now = everyone[0][0]
        places = [each[1] for each in everyone]
        if len(set(places)) > 1:
            raise ValueError(f"ranks must do the same, but {_by_rank('their next', places)}")
        return [each[2] for each in everyone]

    def gather(self, batch: int, numbers: Array) -> Array:
        """The numbers, (n, k), that each rank has of a batch, those of all of them, (size n, k)."""
        mine = np.array([time.perf_counter(), batch, *numbers.flat])
        everyone = np.empty((self.size, len(mine)))
        self.wait()
        self.comm.Allgather(mine, everyone)
        self._now = float(everyone[0, 0])
        if (everyone[:, 1] != batch).any():
            last = [int(each) or "the end" for each in everyone[:, 1]]
            raise ValueError(f"data must have as many batches on all ranks, but {_by_rank('batch', last)}")
        return everyone[:, 2:].reshape(-1, numbers.shape[1])

    def clock(self) -> float:
        """Seconds on the clock of rank 0 when the ranks came together last."""
        return self._now

    def on_first(self, function: Callable[..., T], *arguments: Any) -> T:
        """See `fastrnn.parallel.on_first`."""
        found = error = None
        if self.rank == 0:
            try:
                found = function(*arguments)
            except Exception as caught:
                error = caught
        found, error = self.meet(function.__name__, (found, error))[0]
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]

    def require_same(self, what: Mapping[str, Any]) -> None:
        """See `fastrnn.parallel.require_same`."""
        differing = _differing(self.meet("comparison of arguments", _told(what)))
        if differing:
            more = f"; and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
            raise ValueError(f"ranks must be alike, but {'; '.join(differing[:SHOWN])}{more}")

    @contextmanager
    def own_threads(self) -> Iterator[None]:
        """Within it the kernels use this rank's part of the cores that it shares with other ranks; unless
        OMP_NUM_THREADS says how many."""
        from mpi4py import MPI

        mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        machine = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        masks = machine.allgather(mine)
        machine.Free()
        sharing = sum(1 for each in masks if mine is None or each is None or mine & each)
        self._crowded = sharing > len(mine or masks)
        before = config.get_num_threads()
        with config.threads(0):
            usual = config.get_num_threads()
        own = before if os.environ.get("OMP_NUM_THREADS") else min(before, max(1, usual // sharing))
        with config.threads(own):
            yield

    def fail(self) -> None:
        """Return if all ranks have failed; end all processes, with the traceback, if some go on."""
        if self.size == 1:
            return
        everyone, deadline = self._failed.Ibarrier(), time.monotonic() + PATIENCE
        while not everyone.Test():
            if time.monotonic() > deadline:
                what = f"fastrnn: rank {self.rank} of {self.size} has failed, and ends all of them"
                print(f"{what}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
                self.comm.Abort(1)
            time.sleep(MOMENT)

    def free(self) -> None:
        """Give the communicators back, when all ranks do."""
        self.comm.Free()
        self._failed.Free()


def _told(what: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Values as what an error shows of them, and a checksum of all of each."""
    return {name: (_shown(value), _checksum(value)) for name, value in what.items()}


def _shown(value: Any) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else reprlib.repr(value)


def _checksum(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return zlib.crc32(repr(value).encode())


def _differing(everyone: list[dict[str, tuple[str, int]]]) -> list[str]:
    """What is not the same on all ranks, and who has what."""
    names = dict.fromkeys(name for each in everyone for name in each)
    told = {name: [each.get(name, ("missing", 0)) for each in everyone] for name in names}
    return [_by_rank(name, values) for name, values in told.items() if len(set(values)) > 1]


def _by_rank(name: str, values: list[Any]) -> str:
    """Such as: seed is 0 on rank 0, 1 on ranks 1, 3."""
    owners: dict[Any, list[int]] = {}
    for rank, value in enumerate(values):
        owners.setdefault(value, []).append(rank)
    shown = [value[0] if isinstance(value, tuple) else value for value in owners]
    if len(set(shown)) < len(shown):  # only the whole of each is different
        shown = [f"{each} ({value[1]:08x})" for each, value in zip(shown, owners, strict=True)]
    parts = [
        f"{each} on rank{'s' * (len(those) > 1)} {', '.join(map(str, those))}"
        for each, those in zip(shown, owners.values(), strict=True)
    ]
    return f"{name} is {', '.join(parts)}"
