"""The build and the machine: which kernels run here, on how many threads."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator

import numpy as np

from fastrnn import backend
from fastrnn.checks import non_negative_int

# Loaded with the package: an ISA that FASTRNN_ISA names and the machine lacks is an error on import.
_core = backend.load_core()

MOST_THREADS = 1024  # about as many as the largest machines have processors; more are never used

__all__ = ["empty_cache", "get_include", "get_num_threads", "set_num_threads", "show_config"]


def get_num_threads() -> int:
    """The number of threads that a call of the native kernels may use now.

    Returns
    -------
    int
        What `set_num_threads` has set, or else what OpenMP allows (processor affinity, ``OMP_NUM_THREADS``,
        threadpoolctl), but without ``OMP_NUM_THREADS`` one for each core (two processors that share a core
        count once); within the CPU quota of the process's control group, at most 1024. Small calls use fewer.
    """
    return int(_core.get_num_threads()) if _core else 1


def set_num_threads(n: int) -> None:
    """Set the number of threads that calls of the native kernels may use, in the whole process.

    Results do not depend on it, not in a single bit.

    Parameters
    ----------
    n : int
        The number of threads, at most 1024; 0 goes back to the automatic choice. Where the system cannot
        start as many, has not as many processors, or other programs have the cores, a call uses fewer.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer from 0 to 1024.
    """
    n = non_negative_int("n", n)
    if n > MOST_THREADS:
        raise ValueError(f"n must be at most {MOST_THREADS}, got {n}")
    if _core:
        _core.set_num_threads(n)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """In a ``with`` block calls of the whole process use `n` threads; 0: as many as if nobody had set it."""
    before = _core.set_num_threads(n) if _core else 0
    try:
        yield
    finally:
        if _core:
            _core.set_num_threads(before)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """In a ``with`` block calls of this Python thread use no other: it is one of many that have their own."""
    before = _core.work_alone(True) if _core else True
    try:
        yield
    finally:
        if _core:
            _core.work_alone(before)


def empty_cache() -> None:
    """Give the memory back that the native kernels keep for their next calls.

    Large arrays that are freed are kept, at most 256 MB in a process, or as many as the environment variable
    ``FASTRNN_CACHE_MB`` says when fastrnn is imported (0: none): to get new memory from the system takes a
    tenth of the time of a training step. What is in use is not touched.
    """
    if _core:
        _core.empty_cache()


def _cache_limit(megabytes: str) -> int:
    """The bytes that FASTRNN_CACHE_MB grants."""
    if not (megabytes.isascii() and megabytes.isdecimal() and len(megabytes) < 12):
        raise ValueError(f"FASTRNN_CACHE_MB must be a whole number of megabytes, got {megabytes!r}")
    return int(megabytes) << 20


if _core and os.environ.get("FASTRNN_CACHE_MB"):
    _core.set_cache_limit(_cache_limit(os.environ["FASTRNN_CACHE_MB"]))


def get_include() -> str:
    """The folder of ``fastrnn/step.h``, the header for steps of a stream from C, C++ and Cython.

    Returns
    -------
    str
        What a compiler takes behind ``-I``, and an extension in ``include_dirs``.

    Examples
    --------
    >>> Extension("audio", ["audio.pyx"], include_dirs=[fastrnn.get_include()])
    """
    return os.path.join(os.path.dirname(__file__), "include")


def show_config() -> None:
    """Print the versions, the backend, the ISA of the kernels, the threads, the memory and the compiler.

    Where several threads may be used, ``teams`` counts since the start of the process how often they have
    shared a call, or a piece of a long one, and how often the system has refused to start a thread; ``alone``
    how often one thread did it, and why: it was too small; others had the cores; a team had lost time shortly
    before, waiting for a core; another thread's call was at work.
    """
    from fastrnn import __version__

    print(f"fastrnn   {__version__}")
    print(f"python    {platform.python_version()}, numpy {np.__version__}, {platform.machine()}")
    print(f"backend   {backend.name_in_use()}")
    if _core is None:
        print("kernels   not built")
        return
    config = _core.config()
    chosen = "FASTRNN_ISA" if os.environ.get("FASTRNN_ISA") else "the best available"
    print(f"isa       {config['isa']} ({chosen}; available: {', '.join(config['isas'])})")
    pool = f"OpenMP {config['openmp']}" if config["openmp"] else "no OpenMP: a pool of their own"
    print(f"threads   {get_num_threads()} ({pool})")
    teams = config["teams"]
    print(f"teams     {teams['team']} at work; {teams['refused']} threads refused")
    alone = f"{teams['small']} too small, {teams['others']} beside others"
    print(f"alone     {alone}, {teams['lost']} after a loss, {teams['busy']} beside a call")
    print(f"caches    {', '.join(f'{size >> 10} KB' for size in config['caches'])}")
    print(f"memory    {config['cached'] >> 20} MB kept for the next calls (fastrnn.empty_cache)")
    print(f"compiler  {config['compiler']}")
