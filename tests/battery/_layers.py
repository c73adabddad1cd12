"""Random layers and networks with all their options, and what goes through them: drawn from a Generator."""

import numpy as np

from fastrnn import layers
from fastrnn.functional.variants import OPTIONS
from fastrnn.layers import CELLS, Embedding, Sequential
from fastrnn.layers.description import build, describe
from fastrnn.layers.layer import held_in
from fastrnn.reference import ACTIVATIONS
from fastrnn.states import joined, members

DTYPES = ["float32", "float64"]

#: One, and around the widths of vectors (2, 4, 8, 16) and tiles.
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 24, 31, 33]

#: Of a layer besides those of its cell, and how often.
FLAGS = {
    "bidirectional": 0.3,
    "batch_first": 0.3,
    "bias": 0.8,
    "learned_state": 0.2,
    "recompute": 0.2,
}


def one_of(rng, things):
    return things[rng.integers(len(things))]


def chance(rng, probability):
    return bool(rng.random() < probability)


def cell_options(rng, kind):
    """Those of a cell, as its layer takes them: half of the time what is usual."""
    options = {}
    if chance(rng, 0.5):
        return options
    for name, usual in OPTIONS[kind].items():
        if chance(rng, 0.5):
            continue
        if isinstance(usual, bool):
            options[name] = not usual
        elif name == "clip":
            options[name] = round(float(rng.uniform(0.3, 3)), 2)
        else:
            options[name] = one_of(rng, list(ACTIVATIONS))
    return {"layer_norm": True} if "layer_norm" in options and chance(rng, 0.5) else without_norm(options)


def without_norm(options):
    return {name: value for name, value in options.items() if name != "layer_norm"}


def recurrent(rng, inputs=None, hidden=None, **fixed):
    """A recurrent layer of any cell, sizes and options but those that are given."""
    kind = one_of(rng, list(CELLS))
    inputs, hidden = inputs or one_of(rng, SIZES), hidden or one_of(rng, SIZES)
    options = {"num_layers": one_of(rng, [1, 1, 1, 2, 3])}
    options |= {name: chance(rng, often) for name, often in FLAGS.items()}
    options |= {"dtype": one_of(rng, DTYPES), **cell_options(rng, kind)}
    if "proj_size" in CELLS[kind]._options and hidden > 1 and chance(rng, 0.2):
        options["proj_size"] = int(rng.integers(1, hidden))
    if chance(rng, 0.15):
        options["recurrent_dropout"] = 0.25
    options |= fixed
    if options["num_layers"] > 1 and chance(rng, 0.2):
        options = {"dropout": 0.25, **options}
    return filled(rng, CELLS[kind](inputs, hidden, **options, seed=int(rng.integers(1 << 30))))


def network(rng, **fixed):
    """A `Sequential` of one to three recurrent layers, and what may stand around them."""
    dtype, width = fixed.pop("dtype", None) or one_of(rng, DTYPES), one_of(rng, SIZES)
    first = fixed.pop("batch_first", chance(rng, 0.3))
    seeds = iter(rng.integers(1 << 30, size=20).tolist())
    parts = [layers.Masking(fill=one_of(rng, ["hold", "zeros"]))] if chance(rng, 0.1) else []
    if chance(rng, 0.3):
        parts.append(Embedding(one_of(rng, SIZES) + 1, width, dtype=dtype, seed=next(seeds)))
    elif chance(rng, 0.2):
        parts.append(layers.Linear(one_of(rng, SIZES), width, dtype=dtype, seed=next(seeds)))
    for _ in range(one_of(rng, [1, 1, 2, 3])):
        layer = recurrent(rng, width, dtype=dtype, batch_first=first, **fixed)
        turned = not layer.bidirectional and chance(rng, 0.15)
        parts += [layers.Reverse(), layer, layers.Reverse()] if turned else [layer]
        width = layer.output_size
        if layer.bidirectional and chance(rng, 0.3):
            parts.append(layers.Merge(one_of(rng, ["sum", "mul", "ave"])))
            width //= 2
        if chance(rng, 0.2):
            parts.append(layers.Dropout(0.25, seed=next(seeds)))
    pooling = [one_of(rng, [layers.Last, layers.Mean, layers.Max])()] if chance(rng, 0.5) else []
    parts += pooling
    if chance(rng, 0.6):
        parts += [one_of(rng, activations()), layers.Linear(width, 3, dtype=dtype, seed=next(seeds))]
    whole = any(layer._needs_whole for layer in parts)
    options = {"bptt_steps": one_of(rng, [1, 3, 8])} if pooling and not whole and chance(rng, 0.2) else {}
    return filled(rng, Sequential(*parts, **options))


def activations():
    """One of each."""
    names = [name for name in layers.__all__ if issubclass(kind_of(name), layers.Activation)]
    return [kind_of(name)() for name in names if name != "Activation"]


def kind_of(name):
    """The class of this name, or object for what is none."""
    found = getattr(layers, name)
    return found if isinstance(found, type) else object


def filled(rng, layer):
    """The layer with other numbers where all are the same at first: learned states and normalisation."""
    for name, array in layer.parameters.items():
        if array.size > 1 and np.ptp(array) == 0:
            array[...] = array.flat[0] + rng.uniform(-0.5, 0.5, array.shape)
        assert np.isfinite(array).all(), name
    return layer


def arguments(rng, layer, T=None, B=None):
    """What a recurrent layer or a network is called with, by name: x of floats or tokens, and maybe lengths
    and states."""
    T, B = T or one_of(rng, [1, 2, 3, 5, 9, 14]), B or one_of(rng, [1, 2, 3, 5, 8, 11])
    row = layer._row() if isinstance(layer, Sequential) else [layer]
    pooled = any(isinstance(each, layers.Pooling) for each in row)
    first = next(each for each in row if not isinstance(each, (layers.Masking, layers.Reverse)))
    axes = (B, T) if layer.batch_first else (T, B)
    tokens = isinstance(first, Embedding) or (isinstance(first, layers.Recurrent) and chance(rng, 0.2))
    if tokens:
        count = first.num_embeddings if isinstance(first, Embedding) else first.input_size
        given = {"x": rng.integers(0, count, axes)}
    else:
        given = {"x": normal(rng, dtype_of(layer), *axes, layer._features[0])}
    if chance(rng, 0.6):
        given["lengths"] = lengths(rng, T, B, low=int(pooled))
    if chance(rng, 0.5):
        states = [state(rng, each, B) for each in row if isinstance(each, layers.Recurrent)]
        given["state"] = tuple(states) if isinstance(layer, Sequential) else states[0]
    return given


def lengths(rng, T, B, low=0):
    """Of a batch, in any order: any, all the same, or one short among long."""
    some = rng.integers(low, T + 1, B)
    same, short = np.full(B, some[0]), np.where(np.arange(B) == rng.integers(B), some, T)
    return one_of(rng, [some, some, same, short])


def state(rng, layer, batch):
    """Of a recurrent layer, one of its members perhaps left out."""
    shapes = [(layer._states.places, batch, width) for width in layer._states.widths]
    found = [normal(rng, layer.dtype, *shape) for shape in shapes]
    if len(found) > 1 and chance(rng, 0.2):
        found[rng.integers(len(found))] = None
    return tuple(found) if len(found) > 1 else found[0]


def normal(rng, dtype, *shape):
    return rng.normal(size=shape).astype(dtype)


def dtype_of(layer):
    row = layer._row() if isinstance(layer, Sequential) else [layer]
    return next(each.dtype for each in row if hasattr(each, "dtype"))


def upstream(rng, layer, given):
    """What a way back is called with: gradients of all that the layer gives, drawn."""
    dtype = dtype_of(layer)
    if isinstance(layer, Sequential):
        return {"dy": normal(rng, dtype, *layer(**given).shape)}
    y, state_n = layer(**given)
    dstate_n = tuple(normal(rng, dtype, *each.shape) for each in members(state_n))
    return {"dy": normal(rng, dtype, *y.shape), "dstate_n": joined(dstate_n)}


def both_passes(layer, given, gradients):
    """All that a layer computes: arrays, or None, by name in one flat dict."""
    layer.clear_gradients()
    if isinstance(layer, Sequential):
        y, states, back = layer.forward(**given, return_state=True)
        found = {"dx": back(**gradients)}
    else:
        y, state_n, back = layer.forward(**given)
        dx, dstate = back(**gradients)
        states, found = [state_n], {"dx": dx, **named("dstate", [dstate])}
    found = {"y": y, **named("state_n", states), **found}
    return found | {f"d{name}": array for name, array in layer.take_gradients().items()}


def named(name, states):
    """The arrays of states, each by a name of its own."""
    flat = [each for one in states for each in members(one)]
    return {f"{name}[{place}]": array for place, array in enumerate(flat)}


def widened(layer):
    """The same layer in float64: its weights, and the state of its random numbers."""
    twin = build(_in_float64(describe(layer)))
    twin.load_state_dict(layer.state_dict())
    for mine, theirs in zip(generators(layer), generators(twin), strict=True):
        theirs.bit_generator.state = mine.bit_generator.state
    return twin


def generators(layer):
    """Those that a layer draws from, each once."""
    return [each for each in held_in(layer) if isinstance(each, np.random.Generator)]


def _in_float64(description):
    options = description["options"]
    options = {**options, "dtype": "float64"} if "dtype" in options else options
    parts = {name: _in_float64(part) for name, part in description.get("parts", {}).items()}
    return {**description, "options": options, **({"parts": parts} if parts else {})}


def told(layer, given, **more):
    """A case in words: the layer, what it is called with, and what else matters."""
    shapes = {
        name: [each if each is None else each.shape for one in value for each in members(one)]
        if isinstance(value, tuple)
        else value.tolist()
        if name == "lengths"
        else f"{value.dtype}{value.shape}"
        for name, value in given.items()
    }
    words = ", ".join(f"{name}={value}" for name, value in {**shapes, **more}.items())
    return f"{' '.join(repr(layer).split())} of {words}"
