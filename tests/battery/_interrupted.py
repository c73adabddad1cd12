"""What `signals` disturbs: random calls, with what there is before and after.

Each kind is a function that draws a case, and returns what it is in words, and a function that makes it anew.
"""

import copy
import itertools

import numpy as np

import fastrnn
from fastrnn import optim
from fastrnn.layers import GRU, LSTM, Last, Linear, Parallel, Sequential, Softplus
from fastrnn.models import SequenceRegressor
from fastrnn.training import fit

from . import _layers
from ._layers import arguments, chance, normal, one_of, told


class Case:
    """A call; what there is, by name; and what comes next. Besides before and after, what there is may be one
    of others."""

    def __init__(self, call, there, then=lambda: None, others=lambda: ()):
        self.call, self.there, self.then, self.others = call, there, then, others


def bits(found):
    """Arrays, in mappings and sequences, as what can be compared to the last bit."""
    if hasattr(found, "items"):
        return {name: bits(each) for name, each in found.items()}
    if isinstance(found, (list, tuple)):
        return [bits(each) for each in found]
    return (found.dtype.str, found.shape, found.tobytes()) if isinstance(found, np.ndarray) else found


def some_layer(rng, **fixed):
    return one_of(rng, [_layers.recurrent, _layers.network])(rng, **fixed)


def inference(rng, folder):
    layer = some_layer(rng)
    given = arguments(rng, layer)

    def make():
        here = copy.deepcopy(layer)
        return Case(lambda: here(**given), here.state_dict, lambda: here(**given))

    return told(layer, given), make


def way_back(rng, folder):
    layer, twice = some_layer(rng), chance(rng, 0.5)
    given = arguments(rng, layer)

    def make():
        here = copy.deepcopy(layer)

        def forward():
            y, *_, back = here.forward(**given)
            return lambda: back(np.ones_like(y))

        def again():
            here.clear_gradients()
            forward()()
            return dict(here.gradients)

        if twice:  # there is something to add to
            forward()()
        return Case(forward(), lambda: dict(here.gradients), again)

    return f"back of {told(layer, given)}", make


def ways_back(rng, folder):
    """Of some models in one call."""
    layers = [some_layer(rng) for _ in range(3)]
    given = [arguments(rng, layer) for layer in layers]
    options = {name: [each.get(name) for each in given] for name in ("x", "lengths", "state")}

    def make():
        here = Parallel(copy.deepcopy(layers))

        def forward():
            y, back = here.forward(**options)
            return lambda: back([np.ones_like(each) for each in y])

        def again():
            here.clear_gradients()
            forward()()
            return dict(here.gradients)

        return Case(forward(), lambda: dict(here.gradients), again)

    return f"backs of {', '.join(told(*each) for each in zip(layers, given, strict=True))}", make


def streams(rng, folder):
    """A step, many, or a new state."""
    kind, size, batch = one_of(rng, [LSTM, GRU]), one_of(rng, _layers.SIZES), one_of(rng, [1, 2, 5])
    parts = [kind(3, size, int(rng.integers(1, 4)), seed=0)]
    if chance(rng, 0.7):
        parts += [Softplus(), kind(size, 4, seed=0), Linear(4, 2, seed=0)]
    network = Sequential(*parts)
    x = normal(rng, "float32", 7, batch, 3)
    what = one_of(rng, ["step", "step_many", "state", "reset"])

    def make():
        stream = network.stream(batch)
        stream.step_many(x[:2])
        new = stream.state
        stream.step_many(x[2:5])
        call = {
            "step": lambda: stream.step(x[5]),
            "step_many": lambda: stream.step_many(x),
            "state": lambda: setattr(stream, "state", new),
            "reset": stream.reset,
        }[what]
        return Case(call, lambda: {"state": stream.state}, lambda: stream.step(x[6]))

    return f"{what} of {network.stream(batch)!r}", make


def optimizer_step(rng, folder):
    layer = some_layer(rng)
    gradients = {name: normal(rng, each.dtype, *each.shape) for name, each in layer.parameters.items()}
    kind, options = one_of(
        rng,
        [
            (optim.SGD, {"lr": 0.1}),
            (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
            (optim.RMSprop, {}),
            (optim.Adam, {}),
            (optim.AdamW, {"weight_decay": 0.1}),
        ],
    )
    loads = chance(rng, 0.3)

    def make():
        here = copy.deepcopy(layer)
        optimizer = kind(here.parameters, **options)
        start = optimizer.state_dict()
        start["lr"] = start["lr"] / 2
        optimizer.step(gradients)

        def step():
            optimizer.step(gradients)
            return there()

        def there():
            return {"weights": here.state_dict(), "optimizer": optimizer.state_dict()}

        return Case(lambda: optimizer.load_state_dict(start) if loads else step(), there, step)

    return f"{'load_state_dict' if loads else 'step'} of {kind.__name__} of {layer!r}", make


def gradients_taken(rng, folder):
    """Taken, forgotten, added to, or clipped in place."""
    layer = some_layer(rng)
    gradients = {name: normal(rng, each.dtype, *each.shape) for name, each in layer.parameters.items()}
    what = one_of(rng, ["take", "clear", "add", "clip_grad_norm", "clip_grad_value"])

    def make():
        here = copy.deepcopy(layer)
        here.add_gradients({name: each.copy() for name, each in gradients.items()})
        call = {
            "take": here.take_gradients,
            "clear": here.clear_gradients,
            "add": lambda: here.add_gradients(gradients),
            "clip_grad_norm": lambda: optim.clip_grad_norm(here.gradients, 0.1),
            "clip_grad_value": lambda: optim.clip_grad_value(here.gradients, 0.1),
        }[what]

        def again():
            here.clear_gradients()
            here.add_gradients(gradients)
            return here.take_gradients()

        return Case(call, lambda: dict(here.gradients), again)

    return f"{what} of gradients of {layer!r}", make


def weights(rng, folder):
    """All or one assigned to."""
    layer, alone = some_layer(rng), chance(rng, 0.3)
    given = arguments(rng, layer)
    new = {name: each + each.dtype.type(0.1) for name, each in layer.state_dict().items()}
    name = one_of(rng, list(new))

    def make():
        here = copy.deepcopy(layer)
        here(**given)

        def call():
            if alone:
                here.parameters[name] = new[name]
            else:
                here.load_state_dict(new)

        return Case(call, here.state_dict, lambda: here(**given))

    return f"{f'assignment to {name}' if alone else 'load_state_dict'} of {layer!r}", make


def files(rng, folder):
    """Written over an older one, or read."""
    layer, saves = some_layer(rng), chance(rng, 0.7)
    given, numbers = arguments(rng, layer), itertools.count()
    older = copy.deepcopy(layer)
    older.load_state_dict({name: 0 * each for name, each in layer.state_dict().items()})

    def make():
        place = folder / str(next(numbers))
        place.mkdir()
        path = place / "layer.safetensors"
        older.save(path)

        def read():
            return fastrnn.load(path)(**given)

        def there():
            return {
                "names": [each.name for each in place.iterdir()],
                "weights": fastrnn.load(path).state_dict(),
            }

        return Case(lambda: layer.save(path) if saves else read(), there, read)

    return f"{'save' if saves else 'load'} of {layer!r}", make


def training(rng, folder):
    """Of a network by some optimizers, with or without something to validate on."""
    size, validates = one_of(rng, _layers.SIZES), chance(rng, 0.5)
    original = Sequential(LSTM(3, size, seed=0), Last(), Linear(size, 1, seed=0))
    data = normal(rng, "float32", 12, 5, 3), normal(rng, "float32", 12, 1)
    options = {"validation": data} if validates else {}
    options |= {"loss": "mean_squared_error", "epochs": 3, "batch_size": 5, "clip_norm": 0.1, "seed": 0}

    def make(whole=None):
        network = copy.deepcopy(original)
        parts = network.parts
        optimizers = [optim.Adam(parts["0"].parameters, 0.1), optim.SGD(parts["2"].parameters, 0.1)]

        def there():
            its = [each.state_dict() for each in optimizers]
            return {"weights": network.state_dict(), "gradients": dict(network.gradients), "optimizers": its}

        if whole is not None:  # each step is noted, with the rates that an end gives back
            take = network.take_gradients

            def noted():
                found = take()
                rates = [each.lr for each in optimizers]
                for each in optimizers:
                    each.lr = 0.1
                whole.append(bits(there()))
                for each, rate in zip(optimizers, rates, strict=True):
                    each.lr = rate
                return found

            network.take_gradients = noted

        def call():
            return fit(network, data, optimizer=optimizers, **options).history[-1]["train_loss"]

        return Case(call, there, call, lambda: states)

    states = []
    make(states).call()
    return f"fit of {original!r} with {options}", make


def models(rng, folder):
    """`fit` and `partial_fit` of an estimator that has learned something before."""
    X, y, size = normal(rng, "float32", 12, 5, 2), normal(rng, "float32", 12), one_of(rng, _layers.SIZES)
    partly = chance(rng, 0.5)
    options = {"hidden_size": size, "epochs": 2, "validation_fraction": 0, "seed": 0}
    learned = SequenceRegressor(**options).fit(X, y)
    path = folder / "model.safetensors"

    def make():
        here = copy.deepcopy(learned)

        def there():
            return {"predictions": here.predict(X), "epochs": len(here.history_)} if partly else {}

        def same():
            here.save(path)
            return bool((SequenceRegressor.load(path).predict(X) == here.predict(X)).all())

        learn = here.partial_fit if partly else here.fit
        return Case(lambda: bool(learn(2 * X, y)), there, same)

    return f"{'partial_fit' if partly else 'fit'} of {learned!r}", make


def long_calls(rng, folder):
    """Which the kernels break off between two pieces."""
    layer, x, what = (
        LSTM(8, 256, seed=0),
        normal(rng, "float32", 10_000, 2, 8),
        one_of(rng, ["call", "back", "steps"]),
    )

    def make():
        here, again = copy.deepcopy(layer), lambda: here(x[:10])
        if what == "call":
            return Case(lambda: here(x), here.state_dict, again)
        if what == "steps":
            stream = here.stream(2)
            return Case(lambda: stream.step_many(x), lambda: {"state": stream.state}, again)
        y, _, back = here.forward(x)
        return Case(lambda: back(y), lambda: dict(here.gradients), again)

    return f"{what} of {layer!r} with {len(x)} steps", make


SHORT = [
    inference,
    way_back,
    ways_back,
    streams,
    optimizer_step,
    gradients_taken,
    weights,
    files,
    training,
    models,
]
KINDS = [*5 * SHORT, long_calls]
