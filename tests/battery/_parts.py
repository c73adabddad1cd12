"""The parts of the battery, how one is run, and how it is shown that it can fail."""

import importlib
import pkgutil
import time
from pathlib import Path

import numpy as np

PARTS = sorted(name for _, name, _ in pkgutil.iter_modules([str(Path(__file__).parent)]) if "_" not in name)

#: So many trials have the chance to notice a fault.
TRIALS_FOR_A_FAULT = 200


class Tally:
    """What was tried in a part, and what was wrong."""

    def __init__(self):
        self.tried = 0
        self.failures = []
        self.largest = {}

    def measure(self, name, value):
        """How much of what is allowed something takes: the largest of each name is shown."""
        self.largest[name] = max(value, self.largest.get(name, value))

    def saw(self, problem=None, count=1):
        """``count`` things were tried; ``problem`` says what is wrong with them, None that nothing is."""
        self.tried += count
        if problem is not None:
            self.failures.append(problem)


def module_of(part):
    return importlib.import_module(f"battery.{part}")


def missing(part):
    """Why the part cannot run here, or None."""
    return getattr(module_of(part), "missing", lambda: None)()


def trial_of(part, seed, number, tally):
    """The trial ``number`` of a part; what it raises is a failure, too."""
    try:
        module_of(part).trial(np.random.default_rng([seed, number]), tally)
    except Exception as error:
        tally.saw(f"{type(error).__name__}: {error}")


def run(part, share=1.0, seed=0, say=print):
    """Tries a share of what the part has to try; returns the `Tally` and the seconds that it took."""
    tally, number, start = Tally(), 0, time.perf_counter()
    wanted = share * module_of(part).COUNT
    while tally.tried < wanted:
        known = len(tally.failures)
        trial_of(part, seed, number, tally)
        for failure in tally.failures[known:]:
            say(f"{part} --seed {seed} --trial {number}: {failure}")
        number += 1
    return tally, time.perf_counter() - start


def seeded(part, fault, seed=0):
    """Whether the part notices a fault that is put in on purpose."""
    with module_of(part).FAULTS[fault]():
        for number in range(TRIALS_FOR_A_FAULT):
            tally = Tally()
            trial_of(part, seed, number, tally)
            if tally.failures:
                return True
    return False
