"""Forks while other threads are in kernels, streams and trainings: the children and the parent go on right.

A child does all that the threads do, with the very layers and streams that they were at, and must get the
bits that the parent got before there were any threads; so must the threads, at any time.
"""

import contextlib
import copy
import functools
import multiprocessing
import os
import threading
import time
import warnings
from unittest import mock

import numpy as np

from fastrnn.config import _core
from fastrnn.layers import LSTM, Linear, Recurrent, Sequential
from fastrnn.optim import Adam

from . import _layers
from ._children import Child
from ._layers import one_of

COUNT = 200
UNIT = "forks"
FORKS = 10  # of a trial
SECONDS = 60  # for a child


def missing():
    if not hasattr(os, "fork"):
        return "processes do not fork"
    return None if _core else "the native kernels are not built"


class Work:
    """What is done over and over: each part alone, by anybody, with the same bits."""

    def __init__(self, rng):
        dropout = dict.fromkeys(("recurrent_dropout", "dropout"), 0.0)
        self.layer = _layers.recurrent(rng, 24, 48, **dropout)
        self.given = _layers.arguments(rng, self.layer, T=8, B=16)
        self.network = Sequential(LSTM(24, 48, seed=0), Linear(48, 8, seed=0))
        self.x = rng.standard_normal((8, 16, 24)).astype("float32")
        self.stream = self.network.stream(16)
        self.expected = [part() for part in self.parts()]

    def parts(self):
        return self.infer, self.both_passes, self.streamed, self.trained

    def infer(self):
        y, state = self.layer(**self.given)
        return [y, *(state if isinstance(state, tuple) else [state])]

    def both_passes(self):
        gradients = {"dy": np.ones_like(self.layer(**self.given)[0])}
        found = _layers.both_passes(copy.deepcopy(self.layer), self.given, gradients)
        return [array for array in found.values() if array is not None]

    def streamed(self):
        """By one thread at a time, which in a child is not there any more."""
        self.stream.reset()
        return [self.stream.step_many(self.x), self.stream.step(self.x[0])]

    def trained(self):
        network = copy.deepcopy(self.network)
        optimizer = Adam(network.parameters)
        for _ in range(2):
            y, back = network.forward(self.x)
            back(y)
            optimizer.step(network.take_gradients())
        return list(network.parameters.values())

    def require(self, place):
        """A part gives the bits that it gave at first."""
        part = self.parts()[place]
        for found, expected in zip(part(), self.expected[place], strict=True):
            assert found.tobytes() == expected.tobytes(), f"other bits in {part.__name__}"

    def require_all(self, say=None):
        for place in range(len(self.expected)):
            self.require(place)


def trial(rng, tally):
    work, threads = Work(rng), one_of(rng, [1, 2, 3])
    ways = [one_of(rng, [here, in_a_thread, nested, by_multiprocessing]) for _ in range(FORKS)]
    what = _layers.told(work.layer, work.given, threads=threads)
    with at_work(work, threads) as problems:
        for way in ways:
            time.sleep(rng.uniform(0, 0.004))
            found = way(work)
            tally.saw(f"{way.__name__.replace('_', ' ')}: {found}; {what}" if found else None)
            if found:  # the next may wait as long
                break
    for problem in problems:
        tally.saw(f"in the parent: {problem}; {what}")


@contextlib.contextmanager
def at_work(work, threads):
    """Within it threads do all parts over and over; gives what went wrong in them."""
    done, problems = threading.Event(), []

    def repeat(place):
        try:
            while not done.is_set():
                work.require(place)
        except Exception as error:
            problems.append(f"{type(error).__name__}: {error}")

    others = [threading.Thread(target=repeat, args=[place]) for place in range(4)]
    _core.set_num_threads(threads)
    _core.insist_on_teams(True)
    try:
        for each in others:
            each.start()
        with warnings.catch_warnings():  # of newer Pythons, that a child has no other threads
            warnings.simplefilter("ignore", DeprecationWarning)
            yield problems
    finally:
        done.set()
        for each in others:
            each.join()
        _core.insist_on_teams(False)
        _core.set_num_threads(0)


# The ways to fork; each gives what is wrong, or None.


def here(work):
    problem, _ = Child(work.require_all).end(SECONDS)
    return problem


def in_a_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(here(work)))
    thread.start()
    thread.join()
    return found[0]


def nested(work):
    """A child with threads of its own forks again."""

    def fork_again(say):
        with at_work(work, 2) as problems:
            problem = here(work)
        work.require_all()
        assert not problem and not problems, [problem, *problems]

    problem, _ = Child(fork_again).end(2 * SECONDS)
    return problem


def by_multiprocessing(work):
    process = multiprocessing.get_context("fork").Process(target=quietly, args=[work.require_all])
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    code = process.exitcode
    process.close()
    return None if code == 0 else f"a process of multiprocessing ended with {code}"


def quietly(task):
    """In a child, whose error would be on our stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    task()


@contextlib.contextmanager
def around_calls(wrong, seconds=60):
    """Within it something is wrong with calls of recurrent layers: ``wrong(call, *arguments, **named)``."""
    call = Recurrent.__call__

    @functools.wraps(call)
    def wrapped(*arguments, **named):
        return wrong(call, *arguments, **named)

    with mock.patch.object(Recurrent, "__call__", wrapped), mock.patch(f"{__name__}.SECONDS", seconds):
        yield


def other_bits():
    """In a child, as if the weights that are kept had been half packed."""
    parent = os.getpid()

    def wrong(call, *arguments, **named):
        y, state = call(*arguments, **named)
        if os.getpid() != parent:
            y.flat[-1] = np.nextafter(y.flat[-1], 9)
        return y, state

    return around_calls(wrong)


def held_lock():
    """Which another thread holds when there is a fork."""
    lock = threading.Lock()

    def wrong(call, *arguments, **named):
        with lock:
            return call(*arguments, **named)

    return around_calls(wrong, seconds=2)


def no_pool():
    """In a child, which ends when it is used."""
    parent = os.getpid()

    def wrong(call, *arguments, **named):
        return call(*arguments, **named) if os.getpid() == parent else os.abort()

    return around_calls(wrong)


@contextlib.contextmanager
def lost_weights():
    """In the parent, once it has forked."""
    forked, fork = threading.Event(), os.fork

    def forking():
        child = fork()
        if child:
            forked.set()
        return child

    def wrong(call, *arguments, **named):
        y, state = call(*arguments, **named)
        return (0 * y if forked.is_set() else y), state

    with mock.patch.object(os, "fork", forking), around_calls(wrong):
        yield


FAULTS = {
    "a child with other bits": other_bits,
    "a child that waits for a lock": held_lock,
    "a child that ends by a signal": no_pool,
    "a parent with other bits": lost_weights,
}
