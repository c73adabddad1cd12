"""Processes that end at random moments, while threads are in kernels, streams, trainings and files."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ._layers import chance, one_of
from ._leaving import BUGS, WORK

COUNT, UNIT = 120, "processes"

#: So many seconds are enough, whatever else the machine does.
PATIENCE = 120

TRACEBACK = r"Traceback \(most recent call last\):\n(  .*\n)+"

#: The code, what is on stderr, and whether the hooks run.
ENDINGS = {
    "return": (0, "", True),
    "exit": (3, "", True),
    "_exit": (4, "", False),
    "exception": (1, TRACEBACK + "RuntimeError: the end\n", True),
    "SIGTERM": (-15, "", False),
    "SIGINT": (-2, TRACEBACK + "KeyboardInterrupt\n", True),
    "handler": (5, "", True),
}

bug = None  # that the processes have: see BUGS


def missing():
    return None if hasattr(os, "fork") else "processes do not end by signals here"


def trial(rng, tally):
    case = {
        "ending": one_of(rng, list(ENDINGS)),
        "seconds": float(rng.uniform(0, 0.05)),
        "threads": one_of(rng, [0, 1, 2, 4]),
        "work": [some_work(rng) for _ in range(rng.integers(1, 5))],
        "bug": bug,
    }
    tally.saw(wrong_end(case))


def some_work(rng):
    """What, how large, how many rounds or None for ever, and whether a pool's thread does it."""
    daemon = chance(rng, 0.6)
    rounds = None if daemon else int(rng.integers(0, 20))
    return int(rng.integers(len(WORK))), int(rng.integers(1, 40)), rounds, not daemon and chance(rng, 0.5)


def wrong_end(case):
    """How a process ends otherwise than it must; None if it does not."""
    code, stderr, hooks = ENDINGS[case["ending"]]
    said = "the hook's bits are right\n" if hooks else ""
    paths = [str(Path(__file__).parents[1]), *map(os.path.abspath, sys.path)]
    command = [sys.executable, "-m", "battery._leaving", json.dumps(case)]
    with tempfile.TemporaryDirectory() as folder:
        options = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)
        except subprocess.TimeoutExpired as error:
            return f"{case}: has not ended after {PATIENCE} s, and said {error.stderr!r}"
    if done.returncode != code:
        return f"{case}: ended with {done.returncode}, not {code}, and said {done.stderr!r}"
    if not re.fullmatch(stderr, done.stderr):
        return f"{case}: said {done.stderr!r}"
    if done.stdout != said:
        return f"{case}: its hook said {done.stdout!r}, not {said!r}"
    return None


@contextlib.contextmanager
def with_bug(name, patience=PATIENCE):
    global bug, PATIENCE
    before, bug, PATIENCE = PATIENCE, name, patience
    try:
        yield
    finally:
        bug, PATIENCE = None, before


FAULTS = {
    "a lock that nobody lets go of": lambda: with_bug("never_let_go", patience=3),
    "an exception that nobody catches": lambda: with_bug("crash"),
    "something cleaned up too late": lambda: with_bug("outlived"),
    "an exit code that is lost": lambda: with_bug("lost_code"),
    "weights that go before the last call": lambda: with_bug("early_end"),
}
assert len(FAULTS) == len(BUGS)
