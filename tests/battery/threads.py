"""Calls of random layers from eight Python threads at a time, also while weights change."""

import contextlib
import copy
import sys
import sysconfig
import threading
import time
import traceback
from collections import Counter
from unittest import mock

import numpy as np

import fastrnn
from fastrnn.arrays import Arrays
from fastrnn.config import _core
from fastrnn.layers import CELLS, GRU, LSTM, Layer, Linear, Recurrent, Sequential, Softplus, stream
from fastrnn.models import SequenceClassifier
from fastrnn.optim import SGD, Adam

from . import _layers
from ._interrupted import bits
from ._layers import arguments, chance, normal, one_of, told

COUNT, UNIT = 20_000, "calls"
THREADS, ROUNDS, CALLS = 8, 4, 3

#: Threads that have not ended after so many seconds, whatever else the machine does, wait for each other.
PATIENCE = 120

#: When weights change: before each round, for which all wait; as a whole network, which takes the place of
#: another one, at any time; or during calls, whose results mean nothing then.
HOW = ["between rounds", "by another network", "during calls"]


def missing():
    return None if _core else "the native kernels are not built"


def trial(rng, tally):
    how, teams = one_of(rng, HOW), chance(rng, 0.5)
    shared = Shared(rng, how)
    own = [one_of(rng, KINDS)(rng) for _ in range(3)]
    steps = SharedStream(rng)
    interval = sys.getswitchinterval()
    _core.insist_on_teams(teams)
    sys.setswitchinterval(1e-5)  # seconds until another thread has its turn
    try:
        problems = crowded(rng, shared, [shared, shared, steps, steps, *own])
    finally:
        sys.setswitchinterval(interval)
        _core.insist_on_teams(False)
        fastrnn.set_num_threads(0)
    tally.saw(count=THREADS * ROUNDS * CALLS)
    for problem in (*problems, *shared.problems(), *steps.problems()):
        tally.saw(f"{problem}; weights change {how}{', in teams' if teams else ''}", 0)


def crowded(rng, shared, jobs):
    """What goes wrong in threads that draw what they call."""
    problems, over = [], threading.Event()

    def visit(own):
        try:
            for _ in range(ROUNDS):
                shared.begin()
                for _ in range(CALLS):
                    problem = one_of(own, jobs).problem()
                    problems.extend([problem] if problem else [])
        except Exception:
            problems.append(traceback.format_exc())
            shared.rounds.abort()  # others would wait

    def meddle(own):
        while not over.is_set():
            fastrnn.set_num_threads(one_of(own, [0, 1, 2, 3]))
            if chance(own, 0.1):
                fastrnn.empty_cache()
            shared.meddle(own)
            time.sleep(0.0005)

    *visitors, last = (
        threading.Thread(target=each, args=(own,), daemon=True)
        for each, own in zip([*THREADS * [visit], meddle], rng.spawn(THREADS + 1), strict=True)
    )
    until = time.monotonic() + PATIENCE
    for each in (*visitors, last):
        each.start()
    for each in visitors:
        each.join(max(0, until - time.monotonic()))
    over.set()
    last.join(max(0, until - time.monotonic()))
    shared.rounds.abort()
    return problems + [
        f"has not ended after {PATIENCE} s: {where(each)}" for each in visitors if each.is_alive()
    ]


def where(thread):
    frame = sys._current_frames().get(thread.ident)
    return "".join(traceback.format_stack(frame)[-6:])


class Job:
    """What threads call, and what it gives."""

    def __init__(self, words, run):
        self.words, self.run, self.right = words, run, bits(run())

    def problem(self):
        return None if bits(self.run()) == self.right else f"other bits of {self.words}"


# What nobody writes to.


def some_layer(rng):
    return one_of(rng, [_layers.recurrent, _layers.network])(rng)


def inference(rng):
    layer = some_layer(rng)
    given = arguments(rng, layer)
    return Job(told(layer, given), lambda: layer(**given))


def way_back(rng):
    layer = some_layer(rng)
    given = arguments(rng, layer)

    def run():
        own = copy.deepcopy(layer)
        y, *_, back = own.forward(**given)
        back(y)
        Adam(own.parameters).step(own.take_gradients())
        return own.state_dict()

    return Job(f"a step of {told(layer, given)}", run)


def function(rng):
    name, hidden = one_of(rng, ["rnn", "gru", "lstm"]), one_of(rng, _layers.SIZES)
    layer = CELLS[name](4, hidden, seed=0)
    weights, x = list(layer.state_dict().values()), normal(rng, "float32", 9, 3, 4)
    return Job(f"{name} of {hidden} units", lambda: getattr(fastrnn, name)(x, *weights))


def steps(rng):
    network = Sequential(LSTM(3, one_of(rng, _layers.SIZES), 2, seed=0), Softplus())
    x = normal(rng, "float32", 7, int(rng.integers(1, 5)), 3)

    def run():
        own = network.stream(x.shape[1])
        return [own.step(x[0]), own.step_many(x), own.step(x[1]), own.copy().step(x[2])]

    return Job(f"steps of {network!r}", run)


def large(rng):
    """Enough for a team."""
    layer, x = GRU(64, 50, bidirectional=chance(rng, 0.5), seed=0), normal(rng, "float32", 40, 16, 64)
    return Job(f"{layer!r} of x{x.shape}", lambda: layer(x))


def predictions(rng):
    X, y = normal(rng, "float32", 8, 5, 2), np.arange(8) % 2
    model = SequenceClassifier(hidden_size=4, epochs=1, validation_fraction=0, seed=0).fit(X, y)
    return Job(f"predictions of {model!r}", lambda: model.predict_proba(X))


KINDS = [inference, way_back, function, steps, large, predictions]


class Shared:
    """A layer whose weights change from one version to the next, and what it gives with each."""

    def __init__(self, rng, how):
        self.how, self.layer, self.place = how, some_layer(rng), -1
        self.given = arguments(rng, self.layer)
        self.held = dict(self.layer.parameters)
        self.ways = [(one_of(rng, WAYS), near(rng, self.layer)) for _ in range(ROUNDS)]
        self.states, self.rights = [], []
        twin = copy.deepcopy(self.layer)
        for way, new in self.ways:
            way(twin, twin.parameters, new)
            self.states.append(twin.state_dict())
            self.rights.append(bits(twin(**self.given)))
        self.rounds = threading.Barrier(THREADS, self._next)
        self.newest = 0, self._other(0)

    def _next(self):
        """In one of the threads, for which the others wait."""
        self.place += 1
        way, new = self.ways[self.place]
        way(self.layer, self.held, new)

    def _other(self, place):
        other = copy.deepcopy(self.layer)
        other.load_state_dict(self.states[place])
        return other

    def begin(self):
        """A round of calls."""
        if self.how == HOW[0]:
            self.rounds.wait(PATIENCE)

    def meddle(self, own):
        """What another thread does all the time."""
        place = int(own.integers(ROUNDS))
        if self.how == HOW[1]:
            self.newest = place, self._other(place)
        if self.how == HOW[2]:
            way, new = self.ways[place]
            way(self.layer, self.held, new)

    def problem(self):
        place, layer = self.newest if self.how == HOW[1] else (self.place, self.layer)
        found = bits(layer(**self.given))
        right = self.how == HOW[2] or found == self.rights[place]
        return None if right else f"other bits than of version {place} of {told(self.layer, self.given)}"

    def problems(self):
        """Afterwards nothing is left of what was during calls."""
        self.layer.load_state_dict(self.states[-1])
        if bits(self.layer(**self.given)) != self.rights[-1]:
            yield f"other bits, when all was over, of {told(self.layer, self.given)}"


def near(rng, layer):
    """Other weights."""
    state = layer.state_dict().items()
    return {name: array + normal(rng, array.dtype, *array.shape) / 8 for name, array in state}


# Ways to change weights: of a layer whose arrays somebody holds.


def loaded(layer, held, new):
    layer.load_state_dict(new)


def assigned(layer, held, new):
    for name, array in new.items():
        layer.parameters[name] = array


def taken_and_written(layer, held, new):
    for name, array in new.items():
        layer.parameters[name][...] = array


def written(layer, held, new):
    for name, array in new.items():
        held[name][...] = array


def trained(layer, held, new):
    SGD(layer.parameters, 0.1).step(new)


WAYS = [loaded, assigned, taken_and_written, written, trained]


class SharedStream:
    """One stream for all threads: those that come at the same time are told so, and it makes one step after
    the other."""

    def __init__(self, rng):
        recurrent = LSTM(3, one_of(rng, [8, 400]), seed=0)
        head = [Softplus(), Linear(recurrent.hidden_size, 2, seed=0)] if chance(rng, 0.5) else []
        self.network, self.x, self.found = Sequential(recurrent, *head), normal(rng, "float32", 1, 3), []
        self.stream = self.network.stream()

    def problem(self):
        for _ in range(5):
            with contextlib.suppress(RuntimeError):
                self.found.append(self.stream.step(self.x).tobytes())

    def problems(self):
        stream = self.network.stream()
        if Counter(self.found) != Counter(stream.step(self.x).tobytes() for _ in self.found):
            yield f"the steps of several threads are not those of one, of {stream!r}"


# What bugs would do.


@contextlib.contextmanager
def wrong(owner, name, function, patience=PATIENCE):
    kept.clear()
    with mock.patch.object(owner, name, function), mock.patch.multiple(__name__, PATIENCE=patience):
        yield
    kept.set()


kept = threading.Event()


def unnoticed(arrays, name):
    """Nobody hears that an array was handed out, who has packed it."""
    return arrays._arrays[name]


def in_two_halves(layer, state):
    """The second a little later."""

    def write(names):
        for name in names:
            layer.parameters[name][...] = state[name]

    names = list(state)
    write(names[::2])
    threading.Timer(0.01, write, [names[1::2]]).start()


def without_a_gate(chain, x):
    """Each goes on from the state that it found."""
    before = chain.state()
    time.sleep(1e-4)
    chain.set_state(before)
    for part in chain._parts:
        x = np.ascontiguousarray(part(x)) if callable(part) else part.steps(x)
    return x


def sharing(layer, *arguments, right=Recurrent.__call__, **named):
    """A workspace is everybody's."""
    shared["y"] = right(layer, *arguments, **named)
    right(layer, *arguments, **named)
    return shared["y"]


def never_let_go(layer, *arguments, right=Recurrent.__call__, **named):
    """A lock that the others wait for."""
    if threading.current_thread() is not threading.main_thread():
        kept.wait()
    return right(layer, *arguments, **named)


def counting(layer, *arguments, right=Recurrent.__call__, **named):
    """A sum that is dealt to threads."""
    y, *rest = right(layer, *arguments, **named)
    return y * (1 + fastrnn.get_num_threads() % 2 * np.finfo(y.dtype).eps), *rest


shared = {}

FAULTS = {
    "weights that were packed before": lambda: wrong(Arrays, "__getitem__", unnoticed),
    "weights that come in two halves": lambda: wrong(Layer, "load_state_dict", in_two_halves),
    "a stream that lets two in": lambda: wrong(stream._Chain, "steps", without_a_gate),
    "a workspace that threads share": lambda: wrong(Recurrent, "__call__", sharing),
    "a lock that nobody lets go of": lambda: wrong(Recurrent, "__call__", never_let_go, patience=1),
    "bits that depend on the threads": lambda: wrong(Recurrent, "__call__", counting),
}
if sysconfig.get_config_var(
    "Py_GIL_DISABLED"
):  # then weights are compared at each call, whoever hears of them
    del FAULTS["weights that were packed before"]
