"""What is called in a process in which allocations fail: each thing to call, from functions to trainings."""

import copy
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastrnn
from fastrnn import functional, interop, losses, optim
from fastrnn.layers import GRU, Last, Linear, Parallel, Sequential
from fastrnn.models import SequenceClassifier
from fastrnn.reference import Parameters
from fastrnn.training import fit

from . import _layers
from ._layers import one_of

NO_DROPOUT = {"recurrent_dropout": 0.0, "dropout": 0.0}


class Case(NamedTuple):
    """Something to call.

    Attributes
    ----------
    call : callable
        Gives arrays, always the same ones after `begin`; or a function that gives them, after the call.
    begin : callable
        Makes all as it is before a call.
    state : callable
        What a call that fails leaves as it is: arrays.
    """

    call: object
    begin: object = lambda: None
    state: object = lambda: []
    errors: tuple = (MemoryError,)


def layer_of(rng):
    """One without dropout: of any kind, or so large that a team is at work."""
    if rng.random() < 0.3:
        layer = fastrnn.LSTM(20, 64, seed=0)
        return layer, {"x": rng.standard_normal((10, 16, 20)).astype("float32")}
    layer = _layers.recurrent(rng, hidden=5, **NO_DROPOUT)
    return layer, _layers.arguments(rng, layer, T=3, B=4)


def arrays_of(layer):
    return lambda: [dict(layer.parameters), dict(layer.gradients)]


def inference(rng):
    """With weights that are packed each time."""
    layer, given = layer_of(rng)
    before = layer.state_dict()
    return Case(lambda: layer(**given), lambda: layer.load_state_dict(before), arrays_of(layer))


def kept_inference(rng):
    """With weights that are kept, and others since the call that kept them."""
    layer, given = layer_of(rng)
    before = layer.state_dict()
    changed = {name: array + 1 for name, array in before.items()}

    def begin():
        layer.load_state_dict(changed)
        layer(**given)
        layer.load_state_dict(before)

    return Case(lambda: layer(**given), begin, arrays_of(layer))


def forward(rng):
    layer, given = layer_of(rng)
    return Case(lambda: layer.forward(**given)[:2], state=arrays_of(layer))


def back(rng):
    """The last pass only."""
    layer, given = layer_of(rng)
    backs = []

    def begin():
        layer.clear_gradients()
        y, _, back = layer.forward(**given)
        backs[:] = [back, y]

    def call():
        back, y = backs
        found = back(np.ones_like(y))
        return lambda: (found, dict(layer.gradients))

    return Case(call, begin, arrays_of(layer))


def many(rng):
    """Models in one call, all small or with a large one among them, through them and back."""
    members = [GRU(4, 9, seed=0), Sequential(fastrnn.LSTM(4, 5, seed=0), Linear(5, 2, seed=0))]
    if rng.random() < 0.5:
        members.append(fastrnn.LSTM(4, 100, seed=0))
    whole = Parallel(members)
    x = [rng.standard_normal((3, 16, 4)).astype("float32") for _ in members]

    def call():
        y, back = whole.forward(x)
        dx = back([np.ones_like(each) for each in y])
        return lambda: (y, dx, dict(whole.gradients))

    return Case(call, whole.clear_gradients, arrays_of(whole))


def network(rng):
    """The way back through all of its layers, whose gradients are added."""
    whole = Sequential(GRU(4, 9, seed=0), Last(), Linear(9, 5, seed=1), Linear(5, 3, seed=2))
    x = rng.standard_normal((6, 9, 4)).astype("float32")
    backs = []

    def begin():
        whole.clear_gradients()
        y, back = whole.forward(x)
        back(np.ones_like(y))
        y, back = whole.forward(x)
        backs[:] = [back, y]

    def call():
        back, y = backs
        dx = back(y)
        return lambda: (dx, dict(whole.gradients))

    return Case(call, begin, arrays_of(whole))


def streams(rng):
    """Of the making of one to its end."""
    whole = Sequential(GRU(4, 9, seed=0), Linear(9, 5, seed=1))
    x = rng.standard_normal((6, 3, 4)).astype("float32")

    def call():
        stream = whole.stream(3)
        return stream.step_many(x), stream.copy().step(x[0]), stream.state

    return Case(call, state=arrays_of(whole))


def steps(rng):
    layers = [GRU(4, 9, seed=0), Linear(9, 5, seed=1)]
    if rng.random() < 0.5:
        layers.insert(1, fastrnn.Softplus())  # which is called between two streams
    stream = Sequential(*layers).stream(3)
    x = rng.standard_normal((6, 3, 4)).astype("float32")
    step = one_of(rng, [lambda: stream.step(x[0]), lambda: stream.step_many(x)])
    return Case(step, stream.reset, lambda: stream.state)


def states(rng):
    """To set one."""
    stream = Sequential(fastrnn.LSTM(4, 9, 2, seed=0), Linear(9, 5, seed=1)).stream(3)
    old, new = (tuple(rng.standard_normal((2, 2, 3, 9)).astype("float32")) for _ in range(2))

    def call():
        stream.state = (new,)
        return lambda: stream.state

    def begin():
        stream.state = (old,)

    return Case(call, begin, lambda: stream.state)


def optimizers(rng):
    kind = one_of(rng, [optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW])
    dtype = one_of(rng, ["float32", "float64"])
    parameters = {name: rng.standard_normal((60, 70)).astype(dtype) for name in "abc"}
    parameters["c"] = parameters["c"].T
    gradients = {name: rng.standard_normal(array.shape).astype(dtype) for name, array in parameters.items()}
    before = copy.deepcopy(parameters)
    options = {"momentum": 0.9} if kind is optim.SGD else {}
    optimizer = kind(parameters, 0.1, **options)
    state = optimizer.state_dict()

    def begin():
        optimizer.load_state_dict(state)
        for name, array in before.items():
            parameters[name][...] = array

    def call():
        optimizer.step(gradients)
        return lambda: (parameters, optimizer.state_dict())

    return Case(call, begin, lambda: [parameters, optimizer.state_dict()])


def clipping(rng):
    gradients = {name: rng.standard_normal((60, 70)) for name in "abc"}
    before = copy.deepcopy(gradients)

    def begin():
        for name, array in before.items():
            gradients[name][...] = array

    def call():
        norm = np.array(optim.clip_grad_norm(gradients, 1.0))
        return lambda: (norm, gradients)

    return Case(call, begin, lambda: gradients)


def trainings(rng):
    trained = Sequential(GRU(4, 9, seed=0), Last(), Linear(9, 3, seed=2))
    optimizer = optim.Adam(trained.parameters)
    data = [rng.standard_normal((n, 4)).astype("float32") for n in (3, 5, 2, 4)], np.array([0, 2, 1, 1])
    before, state = trained.state_dict(), optimizer.state_dict()

    def begin():
        trained.load_state_dict(before)
        optimizer.load_state_dict(state)

    def call():
        fit(trained, data, loss="softmax_cross_entropy", optimizer=optimizer, epochs=1, batch_size=2, seed=0)
        return state_now

    def state_now():
        return dict(trained.parameters), optimizer.state_dict()

    return Case(call, begin, state_now)


def models(rng):
    X = [rng.standard_normal((n, 4)).astype("float32") for n in (3, 5, 2, 4)]
    network = Sequential(GRU(4, 9, batch_first=True, seed=0), Last(), Linear(9, 2, seed=2))
    model = SequenceClassifier.from_network(network, ["a", "b"])
    return Case(lambda: model.predict_proba(X), state=lambda: dict(model.network_.parameters))


def functions(rng):
    x, dy = rng.standard_normal((50, 40)), rng.standard_normal((50, 30))
    w, b, targets = rng.standard_normal((30, 40)), rng.standard_normal(30), rng.integers(0, 40, 50)
    each = [
        lambda: functional.linear(x, w, b),
        lambda: functional.linear_backward(x, w, dy),
        lambda: losses.softmax_cross_entropy(x, targets),
        lambda: losses.huber(x, x + 1),
        lambda: fastrnn.GELU()(x),
        lambda: fastrnn.Tanh()(x),
    ]
    return Case(one_of(rng, each))


def stacks(rng):
    layer = fastrnn.LSTM(4, 9, 2, bidirectional=True, seed=0)
    x = rng.standard_normal((6, 3, 4)).astype("float32")
    arrays = list(layer.parameters.values())
    weights = [Parameters(*arrays[first : first + 4]) for first in range(0, len(arrays), 4)]

    def call():
        y, state, reserve = functional.stack.forward("lstm", x, weights, bidirectional=True, reusable=True)
        gradients = functional.stack.backward(reserve, y)
        return y, state, gradients.x, gradients.state

    return Case(call)


def saves(rng):
    folder = tempfile.TemporaryDirectory()  # which goes with the process
    path = Path(folder.name, "model.safetensors")
    layers = [Linear(30, 40, seed=seed) for seed in (0, 1)]

    def call():
        layers[1].save(path)
        return state

    def state():
        return [dict(fastrnn.load(path).parameters), os.listdir(folder.name)]

    return Case(call, lambda: layers[0].save(path), state)


def loads(rng):
    recorded = Path(__file__).parents[1] / "recorded" / "torch"
    path = recorded / one_of(rng, ["sequential.pt", "half.safetensors", "legacy.pth", "arrays.npz"])
    given = {} if path.stem == "sequential" else {"batch_first": True}

    def call():
        return [dict(layer.parameters) for layer in interop.from_torch(path, layers=True, **given).values()]

    return Case(call, errors=(MemoryError, ValueError))


def own_loads(rng):
    path = Path(__file__).parents[1] / "files" / "1" / one_of(rng, ["layers", "given", "writer"])

    def call():
        found = fastrnn.load(path.with_suffix(".safetensors"))
        return dict(getattr(found, "network_", found).parameters)

    return Case(call, errors=(MemoryError, ValueError))


#: What is drawn from.
CASES = [
    inference,
    kept_inference,
    forward,
    back,
    many,
    network,
    streams,
    steps,
    states,
    optimizers,
    clipping,
]
CASES += [trainings, models, functions, stacks, saves, loads, own_loads]
