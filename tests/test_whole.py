"""What a signal ends, at any place where Python would call its handler, is as it was, or is done."""

import sys

import numpy as np
import pytest
from battery import _interrupted as cases
from battery._interrupted import bits
from battery.signals import Told, after, missing

from fastrnn.checks import PACKAGE

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

MOST = 40  # places of a call

LONG = [cases.training, cases.models]
KINDS = [
    cases.way_back,
    cases.ways_back,
    cases.streams,
    cases.optimizer_step,
    cases.gradients_taken,
    cases.weights,
    *LONG,
]


def ended_at(place, call):
    """Ends a call after so many calls of functions and returns from them in fastrnn; how many there were, and
    whether it has ended: what is raised while a generator is cleaned up is dropped."""
    count, ended = 0, False

    def handler(frame, event, _):
        nonlocal count
        if event != "c_call" and frame.f_code.co_filename.startswith(PACKAGE):
            count += 1
            if count == place:
                raise Told

    before, hook = sys.getprofile(), sys.unraisablehook
    sys.unraisablehook = lambda _: None
    sys.setprofile(handler)
    try:
        call()
    except Told:
        ended = True
    finally:
        sys.setprofile(before)
        sys.unraisablehook = hook
    return count, ended


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_a_signal_ends_is_whole(kind, tmp_path):
    tried = set()
    for seed in range(1 if kind in LONG else 30):
        words, make = kind(np.random.default_rng(seed), tmp_path)
        what = words.split()[0], "Sequential" in words
        if what in tried:
            continue
        tried.add(what)
        untouched, done = make(), make()
        count, _ = ended_at(0, done.call)
        known = [(bits(each.there()), bits(each.then())) for each in (untouched, done)]
        for place in dict.fromkeys(np.linspace(1, count, MOST).astype(int).tolist()):
            case = make()
            if ended_at(place, case.call)[1]:
                assert after(case, known, None, None) is None, f"{words}, ended at {place} of {count}"
