"""Signals at random moments, whose handlers raise or call fastrnn: what there is stays whole."""

import contextlib
import copy
import functools
import gc
import signal
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np

from fastrnn import checkpoint, optim
from fastrnn.backend import name_in_use
from fastrnn.layers import LSTM, Linear, Recurrent, Sequential, layer, stream

from . import _interrupted as cases
from ._interrupted import KINDS, bits
from ._layers import one_of

COUNT, UNIT = 1_500, "signals"
SIGNALS = 5  # for each case

#: A call that a signal has come to ends within so many seconds, whatever else the machine does.
PATIENCE = 120

kinds = KINDS  # of cases


class Told(BaseException):
    """What a handler raises, and nobody else."""


class Late(Exception):
    """The same, as an error."""


class Stuck(BaseException):
    """The call has not ended."""


def missing():
    if name_in_use() != "native":
        return "the reference is of Python, which signals end anywhere"
    return None if hasattr(signal, "setitimer") else "there is no timer that sends signals"


def trial(rng, tally):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a file between its opening and its `with`
        words, make = one_of(rng, kinds)(rng, Path(folder))
        untouched, done = make(), make()
        start = time.perf_counter()
        result = bits(done.call())
        seconds = time.perf_counter() - start
        known = [(bits(each.there()), bits(each.then())) for each in (untouched, done)]
        for _ in range(SIGNALS):
            act = one_of(rng, [raise_told, raise_interrupt, raise_late, None])
            problem, came = disturb(make(), seconds * rng.uniform(0, 1.1), act, result, known)
            how = act.__doc__ if act else "calls"
            tally.saw(problem and f"{words}: {problem}, by a handler that {how}", came)


def raise_told():
    """raises"""
    raise Told


def raise_interrupt():
    """is Ctrl-C's"""
    raise KeyboardInterrupt


def raise_late():
    """raises an error"""
    raise Late


def disturb(case, seconds, act, result, known):
    """What is wrong after a call to which a signal has come after so long, or None; and whether one came."""
    heard, wrong, ignored, over, found, ended = [], [], [], [], None, None

    def handler(number, frame):
        if over:  # another thread took the signal and was slow to tell this one
            return
        heard.append(number)
        if len(heard) > 1:
            raise Stuck
        if act is not None:
            act()
        with contextlib.suppress(RuntimeError):  # of a stream that is at work
            case.there()
        if own_passes() != expected():
            wrong.append("the handler's own calls gave other bits")

    before, hook = signal.signal(signal.SIGALRM, handler), sys.unraisablehook
    sys.unraisablehook = ignored.append  # Python drops what is raised in somebody's `__del__`
    gc.disable()  # which may call such
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), PATIENCE)
            found = case.call()
        finally:
            over.append(True)
    except Stuck:
        return f"has not ended after {PATIENCE} s", 1
    except BaseException as error:
        ended = repr(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        sys.unraisablehook = hook
        signal.signal(signal.SIGALRM, before)
    if wrong:
        return wrong[0], 1
    raised = bool(heard and act and not ignored)
    if raised != (ended is not None):
        return f"the call ended with {ended}", 1
    return after(case, known, None if raised else bits(found), result), len(heard)


def after(case, known, found, result):
    """What is wrong with what there is, and with what comes next."""
    if found is not None and found != result:
        return "the result has other bits"
    there = bits(case.there())
    places = [place for place, (whole, _) in enumerate(known) if whole == there]
    if found is not None:
        places = [place for place in places if known[place] == known[-1]]
    if not places and there not in case.others():
        return f"neither what was before, nor what is to be after: {differing(there, known)}"
    then = bits(case.then())
    if places and all(then != known[place][1] for place in places):
        return "what comes next has other bits"
    return None


def differing(there, known):
    """Names of what is not as before, and of what is not as after."""
    return [sorted(name for name in there if there[name] != whole.get(name)) for whole, _ in known]


@functools.cache
def own_layers():
    """What handlers call."""
    return LSTM(3, 10, seed=0), Sequential(LSTM(3, 5, seed=0), Linear(5, 2, seed=0))


def own_passes():
    """The bits of calls that have nothing to do with what is disturbed."""
    single, network = copy.deepcopy(own_layers())
    x = np.ones((5, 2, 3), "float32")
    y, _, back = single.forward(x)
    back(y)
    return bits([single(x), network(x), dict(single.gradients)])


@functools.cache
def expected():
    return own_passes()


# What bugs would do.


@contextlib.contextmanager
def wrong(kind, owner, name, function, patience=PATIENCE):
    """In cases of one kind a function is another one."""
    own_passes(), expected()
    with (
        mock.patch.multiple(__name__, kinds=[kind], PATIENCE=patience),
        mock.patch.object(owner, name, function),
    ):
        yield


def one_by_one(*steps):
    for step in steps:
        for _ in step:
            pass


def written_in_place(target, data):
    Path(target).write_bytes(data)


def unmoved(chain, states):
    """The state that was is not put back."""


def not_let_go(chain, x, right=stream._Chain.steps):
    if vars(chain).setdefault("busy", False):
        raise RuntimeError("this stream is at work in another thread")
    chain.busy = True
    y = right(chain, x)
    chain.busy = False
    return y


def swallowing(layer, *arguments, right=Recurrent.__call__, **named):
    try:
        return right(layer, *arguments, **named)
    except BaseException:
        return right(layer, *arguments, **named)


lock, shared = threading.Lock(), {}


def locking(layer, *arguments, right=Recurrent.__call__, **named):
    with lock:
        return right(layer, *arguments, **named)


def sharing(layer, *arguments, right=Recurrent.__call__, **named):
    """A workspace is everybody's."""
    shared["y"] = right(layer, *arguments, **named)
    right(layer, *arguments, **named)
    return shared["y"]


FAULTS = {
    "parameters written one by one": lambda: wrong(cases.weights, layer, "at_once", one_by_one),
    "parameters updated one by one": lambda: wrong(cases.optimizer_step, optim, "at_once", one_by_one),
    "gradients of some layers only": lambda: wrong(
        cases.way_back, layer.Composite, "_all_or_none", lambda network, call: call()
    ),
    "a stream that is half a step ahead": lambda: wrong(cases.streams, stream._Chain, "set_state", unmoved),
    "a stream that nobody lets go of": lambda: wrong(cases.streams, stream._Chain, "steps", not_let_go),
    "a file that is cut off": lambda: wrong(cases.files, checkpoint, "_replace", written_in_place),
    "Ctrl-C that is swallowed": lambda: wrong(cases.inference, Recurrent, "__call__", swallowing),
    "a lock that handlers wait for": lambda: wrong(
        cases.inference, Recurrent, "__call__", locking, patience=1
    ),
    "a workspace that handlers share": lambda: wrong(cases.inference, Recurrent, "__call__", sharing),
}
