"""Training on several processes, the ranks of MPI, as if they were one: see `data_parallel`.

A rank is a process of its own, with all of the network and all of the optimizer, and computes some pieces of
each batch. What a training does with these is in `fastrnn.training.pieces`; here is how ranks come together
(`ranks`), and how gradients are added up over them (`total`). mpi4py, the extra ``fastrnn[mpi]``, is imported
when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from fastrnn import checks
from fastrnn.parallel.ranks import Ranks

__all__ = ["data_parallel"]

LAUNCHED = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")  # what MPI's launchers leave in the environment

T = TypeVar("T")

_in_use: ContextVar[Ranks | None] = ContextVar("ranks", default=None)


@contextmanager
def data_parallel(comm: Any = None, *, pieces: int | None = None) -> Iterator[Any]:
    """Within it `fastrnn.training.fit`, and so the `fit` and `partial_fit` of every model, train on all ranks
    of a communicator: each batch is cut into pieces, each rank computes some of them, and the gradients are
    added up in one order.

    All ranks run the same program: the same network with the same seed, the same data, the same arguments.
    A rank reads of each batch its own pieces only, so that data may be memory-mapped files or
    `fastrnn.data.Shards`. In the end all ranks have the same network and the same history, to the bit. Rank 0
    alone shows progress, and reads and writes checkpoints.

    The sums do not depend on the number of ranks, but on the number of pieces: with `pieces` given, 1, 2 and
    4 ranks give the same bits, and one piece those of `fit` alone, but for dropout, whose masks are drawn for
    each piece.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        The ranks; by default ``MPI.COMM_WORLD``. It is duplicated, and not used otherwise.
    pieces : int, optional
        Into how many pieces each batch is cut: a rank gets 1, 2, 4, 8 … of them. By default as many as there
        are ranks, or shards of the data.

    Yields
    ------
    mpi4py.MPI.Comm
        `comm`, whose ``rank`` says who is to print and save.

    Raises
    ------
    ImportError
        If mpi4py is not there: it comes with the extra ``fastrnn[mpi]``.
    TypeError, ValueError
        If an argument is unusable; also from `fit`, where ranks differ in network, data, seed or arguments:
        on every rank, with what differs.
    RuntimeError
        If it is entered within itself.

    Warns
    -----
    UserWarning
        On rank 0, where ranks have other versions, or kernels for another instruction set: then the bits
        depend on who computes what.

    Notes
    -----
    An error on every rank is raised on every rank. One that others do not have within 5 seconds ends all
    processes, by ``comm.Abort``, after its traceback has been printed.
    """
    if _in_use.get() is not None:
        raise RuntimeError("data_parallel must not be entered within itself")
    with checks.package("mpi4py", "mpi", "data_parallel"):
        from mpi4py import MPI
    comm = MPI.COMM_WORLD if comm is None else comm
    if not isinstance(comm, MPI.Intracomm):
        raise TypeError(f"comm must be an Intracomm of mpi4py, as MPI.COMM_WORLD, got {checks.came(comm)}")
    ranks = Ranks(comm)
    token = _in_use.set(ranks)
    try:
        ranks.agree(None if pieces is None else checks.positive_int("pieces", pieces))
        with ranks.own_threads():
            yield comm
    except BaseException:
        ranks.fail()
        raise
    finally:
        _in_use.reset(token)
    ranks.free()


def launched() -> AbstractContextManager[Any]:
    """`data_parallel` where a launcher of MPI has started this process; elsewhere nothing."""
    return data_parallel() if any(name in os.environ for name in LAUNCHED) else nullcontext()


def current() -> Ranks | None:
    """Those of the `data_parallel` that we are in."""
    return _in_use.get()


def leads() -> bool:
    """Whether this process is the one that speaks and writes files: rank 0, or one alone."""
    found = _in_use.get()
    return found is None or found.rank == 0


def on_first(function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns on rank 0, which alone calls it, or raises there: on all ranks."""
    found = _in_use.get()
    return function(*arguments) if found is None else found.on_first(function, *arguments)


def on_any(where: str, flag: bool) -> bool:
    """Whether it is so on any rank, at some place in the program."""
    found = _in_use.get()
    return flag if found is None else any(found.meet(where, flag))


def require_same(what: Mapping[str, Any]) -> None:
    """Raise a ValueError on every rank that names what is not the same on all of them."""
    found = _in_use.get()
    if found is not None:
        found.require_same(what)
