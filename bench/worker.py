"""A process of its own for each peer and thread count: `Worker` is the measuring side's handle to it.

Pools of threads in one process disturb each other, and many libraries read their number of threads from the
environment when they are imported, once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import select
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from cases import Case
from peers.base import Unsupported, require

HERE = Path(__file__).parent

PATIENCE = 600  # seconds for one answer
THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA", "VECLIB")


class PeerError(Exception):
    """A peer has failed at what it was asked for."""


class NotOffered(PeerError):
    """A peer has nothing for this case."""


class Worker:
    """Runs one peer on so many threads, or the fastrnn that `path` holds.

    What it is asked raises PeerError with the reason if the peer fails, or dies.
    """

    def __init__(self, peer: str, threads: int, path: str | None = None) -> None:
        self.peer, self.threads, self.path = peer, threads, path
        self._start()

    def _start(self) -> None:
        environment = os.environ | {f"{name}_NUM_THREADS": str(self.threads) for name in THREADS}
        command = [sys.executable, str(HERE / "worker.py"), self.peer, str(self.threads)]
        if self.path is not None:
            command.append(self.path)
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the method of `Served` returns."""
        if self._process.poll() is not None:
            self._start()
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
                self._process.kill()
                self._process.wait()
                raise PeerError(f"no answer within {PATIENCE} seconds")
            failure, answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise PeerError(f"died with exit code {self._process.wait()}") from None
        if failure is not None:
            raise failure(answer)
        return answer

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Served:
    """The other side, in the process of the peer."""

    def __init__(self, peer: str, threads: int, path: str | None) -> None:
        self.name, self.threads, self.path = peer, threads, path
        self._peer = None
        self._data = None
        self._runs = {}

    @property
    def peer(self):
        if self._peer is None:
            if self.path is not None:
                _import_from(self.path)
            self._peer = importlib.import_module(f"peers.{self.name}").Peer(self.threads)
        return self._peer

    def about(self) -> dict[str, str]:
        return {"label": self.peer.label, "version": self.peer.version}

    def prepare(self, case: Case) -> dict[str, dict | None]:
        """Get ready; the results of each way to compute the case, None where they cannot be compared."""
        self._runs = {}
        gc.collect()
        require(case.format in self.peer.formats, f"no {case.format} weights")
        self._data = case.data()
        self._runs = self.peer.runs(case, self._data)
        return {name: run.results and run.results() for name, run in self._runs.items()}

    def choose(self, names: list[str], seconds: float) -> str:
        """Keep the fastest of these ways, in the median of three rounds."""
        runs, best = self._runs, names[0]
        if len(names) > 1:
            took = {name: [] for name in names}
            for _ in range(3):
                for name in names:
                    self._runs = {name: runs[name]}
                    took[name].append(self.round(seconds))
            best = min(names, key=lambda name: statistics.median(took[name]))
        self._runs = {best: runs[best]}
        return best

    def round(self, seconds: float) -> float:
        """Seconds per call, over as many calls as take the seconds given; untimed ones go before, so that
        threads are awake and caches warm."""
        (run,) = self._runs.values()
        gc.disable()
        per_call = seconds_of(run.call, 1)
        if per_call < seconds / 4:
            per_call = seconds_of(run.call, max(1, round(seconds / 4 / per_call)))
        took = seconds_of(run.call, max(1, round(seconds / per_call)))
        gc.enable()
        return took

    def memory(self, case: Case) -> int:
        """Bytes by which the process grows at most while one call runs, the libraries being loaded."""
        small = Case(case.set, case.cell, 2, 2, case.I, case.H)
        for run in self.peer.runs(small, small.data()).values():
            run.call()
        data = case.data()
        (run,) = self.peer.runs(case, data).values()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _status("VmRSS")
        kept = run.call()
        grown = _status("VmHWM") - before
        del kept
        return grown


def _import_from(path: str) -> None:
    sys.path.insert(0, path)
    found = Path(importlib.import_module("fastrnn").__path__[0]).resolve().parent
    if found != Path(path):
        raise ImportError(f"{path} holds no fastrnn; {found} does")


def seconds_of(call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def settle() -> None:
    """Wait until this process's threads sleep: pools spin for a while after their work."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.005)
        if time.process_time() - before < 0.0005:
            return


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def main(peer: str, threads: str, path: str | None = None) -> None:
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    if hasattr(os, "sched_setaffinity"):  # some libraries know no other way to be told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(threads) :])
    warnings.simplefilter("ignore")
    served = Served(peer, int(threads), path)
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = None, getattr(served, method)(*arguments)
        except Unsupported as error:
            answer = NotOffered, str(error)
        except Exception as error:
            if not isinstance(error, ImportError):
                traceback.print_exc()
            answer = PeerError, f"{type(error).__name__}: {error}".splitlines()[0]
        settle()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    from worker import main as serve  # so that what is pickled is not of a module "__main__"

    serve(*sys.argv[1:])
