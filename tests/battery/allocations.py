"""Allocations that fail: of each call the first, the second, and so on, until the call succeeds.

A call ends in a MemoryError, in which case all is as it was and the next call gives the right bits, or it
does without. A process of its own tries it, in which what the kernels ask for is refused, memory and threads,
or what NumPy asks for, too: once, or from then on.
"""

import contextlib
import ctypes
import functools
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from unittest import mock

import numpy as np

from fastrnn.config import _core
from fastrnn.layers import Recurrent
from fastrnn.optim import Optimizer

from ._failing import CASES, Case, inference, optimizers
from ._layers import one_of

COUNT = 500
UNIT = "failed allocations"
SECONDS = 120  # for a process
ROUNDS = 6  # of all failures of a case once more: what is lost is lost in each
FOREVER = 1 << 40
SOURCE = Path(__file__).with_name("_failing.cpp")

bug = None  # that the processes have: one of `BUGS`


@functools.cache
def library():
    """What is preloaded, compiled once; it goes with this process."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name, "failing.so")
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-o", path, SOURCE, "-ldl"]
    return folder, path, subprocess.run(command, capture_output=True, text=True)


@functools.cache
def missing():
    if not sys.platform.startswith("linux") or os.confstr("CS_GNU_LIBC_VERSION") is None:
        return "it needs glibc"
    if not _core:
        return "the native kernels are not built"
    if not shutil.which("g++"):
        return "it needs g++"
    return library()[2].stderr or None


def trial(rng, tally):
    cases = BUGS[bug][1] if bug else CASES
    given = {
        "case": one_of(rng, cases).__name__,
        "seed": int(rng.integers(1 << 30)),
        "numpy": bool(rng.random() < 0.3),
        "all": bool(rng.random() < 0.4),
        "threads": one_of(rng, [1, 2, 3]),
        "anew": bool(rng.random() < 0.4),
        "bug": bug,
    }
    _, path, _ = library()
    paths = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "LD_PRELOAD": f"{path}", "PYTHONPATH": paths}
    command = [sys.executable, "-c", "from battery import allocations as a; a.child()", json.dumps(given)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        last = (error.stdout or b"").decode().splitlines()[-1:]
        return tally.saw(f"{told(given)}: not done after {SECONDS} s, at {last}")
    *tried, last = [json.loads(line) for line in done.stdout.splitlines()] or [None]
    if done.returncode or not isinstance(last, list):
        why = f"ended with {done.returncode} at failure {last}: {done.stderr[-2000:]}"
        return tally.saw(f"{told(given)}: {why}")
    tally.saw(count=len(tried))
    for problem in last:
        tally.saw(f"{told(given)}: {problem}", count=0)
    return None


def told(given):
    return ", ".join(f"{name}={value}" for name, value in given.items())


def child():
    """Says the number of each failure before it happens, then what was wrong."""
    given = json.loads(sys.argv[1])
    _core.insist_on_teams(True)
    (make,) = [each for each in CASES if each.__name__ == given["case"]]
    case = make(np.random.default_rng(given["seed"]))
    if given["numpy"]:  # which returns without an exception now and then
        case = case._replace(errors=(*case.errors, SystemError))
    with BUGS[given["bug"]][0]() if given["bug"] else contextlib.nullcontext():
        problems = tried(case, Failing(**given), given["all"])
    say(sorted(set(problems)))


def say(word):
    print(json.dumps(word), flush=True)


class Failing:
    """The preloaded library.

    Parameters
    ----------
    numpy : bool
        Whether what NumPy asks for may be refused, too.
    threads : int
        That are asked for.
    anew : bool
        Whether each call is made by another thread, which has no team yet: so one is started.
    """

    def __init__(self, *, numpy, threads, anew, **_):
        self._threads, self._anew = threads, anew
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        for name in ("failures", "pieces_in_use"):
            getattr(self._library, name).restype = ctypes.c_long
        endings = [_core.__file__, "/libstdc++.so.6"]
        endings += [_umath().__file__] * numpy
        for ending in endings:
            assert self._library.may_fail(ending.encode()), ending

    def call(self, case, first, last):
        """What a call gives of whose allocations some fail, its error, and how many have failed."""
        found = error = None

        def run():
            nonlocal found, error
            try:
                found = case.call()
            except BaseException as raised:
                error = raised

        thread = threading.Thread(target=run)
        _core.set_num_threads(self._threads)  # and those that were refused are asked for again
        self._library.fail_from_to(ctypes.c_long(first), ctypes.c_long(last))
        if self._anew:
            thread.start()
            thread.join()
        else:
            run()
        failures = self._library.failures()
        _core.set_num_threads(0)
        return found, error, failures

    def in_use(self):
        gc.collect()
        _core.empty_cache()
        return self._library.pieces_in_use()


def _umath():
    name = "numpy._core._multiarray_umath"
    return sys.modules.get(name) or sys.modules["numpy.core._multiarray_umath"]


def tried(case: Case, failing, lasting):
    """What was wrong."""
    case.begin()
    expected = contents(case.call())
    problems, first, failures = [], 1, 1
    while failures:
        say(first)
        case.begin()
        before = contents(case.state())
        found, error, failures = failing.call(case, first, FOREVER if lasting else first)
        if error is None:
            if contents(found) != expected:
                problems.append(f"failure {first}: other bits of a call that did without")
        elif not isinstance(error, case.errors):
            problems.append(f"failure {first}: {type(error).__name__}: {error}")
        elif contents(case.state()) != before:
            problems.append(f"failure {first}: the call failed, and something has changed")
        case.begin()
        if contents(case.call()) != expected:
            problems.append(f"failure {first}: other bits of the next call")
        first += 1
    lost = []
    for _ in range(ROUNDS):
        before = failing.in_use()
        for number in range(1, first):
            case.begin()
            failing.call(case, number, FOREVER if lasting else number)
        lost.append(failing.in_use() - before)
        if lost[-1] <= 0:  # what was more before was for later
            break
    else:
        problems.append(f"each round of {first - 1} failures loses pieces of memory: {lost}")
    return problems


def contents(value):
    """All bytes in arrays that are in tuples, lists and dicts, or in what a function gives."""
    if callable(value):
        return contents(value())
    if isinstance(value, dict):
        return {name: contents(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [contents(each) for each in value]
    return np.asarray(value).tobytes() if isinstance(value, (np.ndarray, np.generic)) else value


# What a process may have that is wrong: a bug of each kind.


@contextlib.contextmanager
def around(owner, name, wrong):
    """A method in the place of another: ``wrong(call, self, *arguments, **named)``."""
    call = getattr(owner, name)

    @functools.wraps(call)
    def wrapped(*arguments, **named):
        return wrong(call, *arguments, **named)

    with mock.patch.object(owner, name, wrapped):
        yield


def ignored():
    """The state that there was no memory for is left as it came."""

    def wrong(call, *arguments, **named):
        try:
            return call(*arguments, **named)
        except MemoryError:
            return np.zeros((1, 1, 1), "float32"), np.zeros((1, 1, 1), "float32")

    return around(Recurrent, "__call__", wrong)


def half_done():
    """The count of steps goes on before what may fail."""

    def wrong(call, self, *arguments, **named):
        before, self.steps = self.steps, self.steps + 1
        call(self, *arguments, **named)
        self.steps = before + 1

    return around(Optimizer, "step", wrong)


def lost():
    """What a failed call has taken is kept for ever."""
    kept = []

    def wrong(call, *arguments, **named):
        try:
            return call(*arguments, **named)
        except MemoryError:
            kept.append(np.empty(1000))
            raise

    return around(Recurrent, "__call__", wrong)


def ended():
    """As where an exception leaves a function that may throw none."""

    def wrong(call, *arguments, **named):
        try:
            return call(*arguments, **named)
        except MemoryError:
            os.abort()

    return around(Recurrent, "__call__", wrong)


def translated():
    """An error of memory is taken for one of the caller's."""

    def wrong(call, *arguments, **named):
        try:
            return call(*arguments, **named)
        except MemoryError as error:
            raise RuntimeError("a call failed") from error

    return around(Recurrent, "__call__", wrong)


@contextlib.contextmanager
def having(name):
    """Within it the processes have a bug."""
    with mock.patch(f"{__name__}.bug", name):
        yield


#: Each with the cases that it is in.
BUGS = {
    "a failure that is ignored": (ignored, [inference]),
    "a step that is half done": (half_done, [optimizers]),
    "memory that is lost": (lost, [inference]),
    "a process that ends": (ended, [inference]),
    "another error": (translated, [inference]),
}
FAULTS = {name: functools.partial(having, name) for name in BUGS}
