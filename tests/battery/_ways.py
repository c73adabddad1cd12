"""Ways to compute what a layer computes, all of which must give the same bits.

Each takes a `Case`, a generator and what the plain way has found, and returns some of that again: an array of
the same name for each that it finds; what it says nothing of, padding among it, is that of the plain way.
"""

from typing import Any, NamedTuple

import numpy as np

from fastrnn import functional, layers
from fastrnn.config import _core
from fastrnn.functional.variants import OPTIONS
from fastrnn.layers import Recurrent, Sequential
from fastrnn.reference import CELLS
from fastrnn.states import joined, members

from . import _layers
from ._layers import chance, one_of
from ._layouts import relaid

THREADS = [1, 2, 3, 5]


class Case(NamedTuple):
    """A layer or a network, and what it is called with on both ways."""

    layer: Any
    given: dict[str, Any]
    gradients: dict[str, Any]
    seeds: list[Any]  # the states of its generators

    @property
    def row(self):
        return self.layer._row() if isinstance(self.layer, Sequential) else [self.layer]

    @property
    def time(self):
        return 1 if self.layer.batch_first else 0

    @property
    def steps(self):
        return self.given["x"].shape[self.time]

    @property
    def batch(self):
        return self.given["x"].shape[1 - self.time]

    @property
    def lengths(self):
        return self.given.get("lengths", np.full(self.batch, self.steps))

    def has(self, *kinds):
        return any(isinstance(each, kinds) for each in self.row)

    @property
    def drops(self):
        """Whether training draws random numbers."""
        return any(
            getattr(each, name, 0) for each in self.row for name in ("p", "dropout", "recurrent_dropout")
        )

    @property
    def forwards(self):
        """Whether no step depends on a later one."""
        return not any(each._needs_whole for each in self.row)

    def padded(self, y, plain):
        """y with what the plain way has at padded steps."""
        valid = np.arange(self.steps)[:, None] < self.lengths
        return np.where((valid.T if self.time else valid)[..., None], y, plain)


def trained(case, given, gradients):
    """Both passes, with the random numbers that the case begins with."""
    for generator, seed in zip(_layers.generators(case.layer), case.seeds, strict=True):
        generator.bit_generator.state = seed
    return _layers.both_passes(case.layer, given, gradients)


def inferred(layer, given):
    if isinstance(layer, Sequential):
        y, states = layer(**given, return_state=True)
        every = []
    else:
        y, state_n, every = layer(**given, return_all_states=True)
        states, every = [state_n], [every]
    return _inference(y, states) | _layers.named("every state", every)


def _inference(y, states):
    return {"inferred y": y, **_layers.named("inferred state_n", states)}


def plain(case):
    return trained(case, case.given, case.gradients) | inferred(case.layer, case.given)


# -- the ways


def other_threads(case, rng, found):
    now = _core.get_num_threads()
    try:
        _core.set_num_threads(one_of(rng, [count for count in THREADS if count != now]))
        return plain(case)
    finally:
        _core.set_num_threads(now)


def other_layouts(case, rng, found):
    given = {name: relaid(rng, value) for name, value in case.given.items()}
    if isinstance(case.layer, Sequential) and "state" in given:
        given["state"] = tuple(relaid(rng, each) for each in case.given["state"])
    gradients = {name: relaid(rng, value) for name, value in case.gradients.items()}
    return trained(case, given, gradients) | inferred(case.layer, given)


def kept_little(case, rng, found):
    """With `recompute`, or without it."""
    recurrent = [each for each in case.row if isinstance(each, Recurrent)]
    for each in recurrent:
        each.recompute = not each.recompute
    try:
        return trained(case, case.given, case.gradients)
    finally:
        for each in recurrent:
            each.recompute = not each.recompute


def without_all_states(case, rng, found):
    """A plain call; and where nothing is dropped, training gives the same."""
    found = case.layer(**case.given)
    if isinstance(case.layer, Sequential):
        found = {"inferred y": found}
    else:
        found = _inference(found[0], [found[1]])
    windows = getattr(case.layer, "bptt_steps", None)  # a mean of their sums is not that of all steps
    return (
        found
        if case.drops or windows
        else found | {name.removeprefix("inferred "): a for name, a in found.items()}
    )


def rows_apart(case, rng, found):
    """Some of the rows, and then the others."""
    cut = int(rng.integers(case.batch + 1))
    parts = []
    for rows in (slice(0, cut), slice(cut, None)):
        given = _rows(case, case.given, rows)
        part = inferred(case.layer, given)
        if not case.drops:
            part |= trained(case, given, _rows(case, case.gradients, rows))
        parts.append({name: a for name, a in part.items() if name in AXES_OF_ROWS or "state" in name})
    joined = {}
    for name, first in parts[0].items():
        axis = 2 if name.startswith("every") else 1 if "state" in name else _axis_of_rows(case, first)
        both = first, parts[1][name]  # where no row is cut there may be a gradient
        joined[name] = None if any(each is None for each in both) else np.concatenate(both, axis)
    return joined


AXES_OF_ROWS = ("y", "inferred y", "dx")


def _axis_of_rows(case, array):
    return 0 if array is None or case.time or (case.has(layers.Pooling) and array.ndim == 2) else 1


def _rows(case, arguments, rows):
    def some(name, value):
        if isinstance(value, tuple):
            return tuple(some(name, each) for each in value)
        if value is None or name == "lengths":
            return value if value is None else value[rows]
        axis = 1 if "state" in name else _axis_of_rows(case, value) if name == "dy" else 1 - case.time
        return value[(slice(None),) * axis + (rows,)]

    return {name: some(name, value) for name, value in arguments.items()}


def steps_apart(case, rng, found):
    """Some steps, and then the others from the states that these have left."""
    if not case.forwards or case.has(layers.Masking, layers.Pooling):
        return {}
    cut = int(rng.integers(case.steps + 1))
    network, states, ys = isinstance(case.layer, Sequential), case.given.get("state"), []
    for first, last in ((0, cut), (cut, case.steps)):
        x = case.given["x"][:, first:last] if case.time else case.given["x"][first:last]
        lengths = np.clip(case.lengths - first, 0, last - first)
        more = {"return_state": True} if network else {}
        y, states = case.layer(x=x, state=states, lengths=lengths, **more)
        ys.append(y)
    y = np.concatenate(ys, axis=case.time)
    if network:
        y, states = case.padded(y, found["inferred y"]), list(states)
    return _inference(y, states if network else [states])


def step_by_step(case, rng, found):
    """In a stream, where sequences go on after their end."""
    state = case.given.get("state")
    if not case.forwards or case.has(layers.Masking, layers.Mean, layers.Max):
        return {}
    network = isinstance(case.layer, Sequential)
    stream = case.layer.stream(case.batch)
    if state is not None:
        each = state if network else [state]
        if any(member is None for one in each for member in members(one)):
            return {}
        stream.state = state
    x = case.given["x"].swapaxes(0, case.time)
    cut = int(rng.integers(len(x) + 1))
    y = np.empty((len(x), case.batch, stream.output_size), stream.dtype)
    for t in range(cut):
        y[t] = stream.step(x[t]) if chance(rng, 0.5) else stream.step(x[t], out=y[t])
    y[cut:] = one_of(rng, [stream, stream.copy()]).step_many(x[cut:])
    if case.has(layers.Last):
        y = np.where((case.lengths == case.steps)[:, None], y[-1], found["inferred y"])
    else:
        y = case.padded(y.swapaxes(0, case.time), found["inferred y"])
    return {"inferred y": y}


def as_a_stack(case, rng, found):
    """As `functional.stack` of weights in any layout."""
    if isinstance(case.layer, Sequential) or case.drops:
        return {}
    layer, given = case.layer, {**case.given, "state": _state(case)}
    given = {name: relaid(rng, value) for name, value in given.items()}
    x, state = given.pop("x"), given.pop("state")
    told = {"bidirectional": layer.bidirectional, "batch_first": layer.batch_first, "options": layer._told}
    parameters = [_record(rng, case, suffix) for suffix in layer._names]
    y, state_n, reserve = functional.stack.forward(
        layer._cell, x, parameters, state, **given, **told, recompute=chance(rng, 0.3), reusable=True
    )
    for _ in range(2):
        gradients = functional.stack.backward(reserve, **case.gradients)
    arrays = [array for each in gradients.parameters for array in each.arrays()]
    return _found(case, y, state_n, gradients.x, gradients.state, arrays)


def packed(case, rng, found):
    """The same without padding, the longest first."""
    layer, lengths = case.layer, case.lengths
    if isinstance(layer, Sequential) or case.drops or not case.batch:
        return {}
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    sizes = np.array([np.count_nonzero(lengths > t) for t in range(lengths.max())], np.int64)
    t = np.repeat(np.arange(len(sizes)), sizes)
    b = np.concatenate([order[:size] for size in sizes] or [np.zeros(0, np.int64)])
    places = (b, t) if case.time else (t, b)
    ordered = [
        joined([None if each is None else each[:, order] for each in members(state)])
        for state in (_state(case), case.gradients["dstate_n"])
    ]
    told = {"bidirectional": layer.bidirectional, "options": layer._told}
    parameters = [layer._parameters_of(suffix) for suffix in layer._names]
    y, state_n, reserve = functional.stack.forward(
        layer._cell, case.given["x"][places], parameters, ordered[0], batch_sizes=sizes, **told
    )
    gradients = functional.stack.backward(reserve, case.gradients["dy"][places], ordered[1])
    whole = {}
    for name, array in {"y": y, "dx": gradients.x}.items():
        if array is not None:
            whole[name] = np.zeros_like(found[name])
            whole[name][places] = array
    for name, state in {"state_n": state_n, "dstate": gradients.state}.items():
        for k, member in enumerate(members(state)):
            whole[f"{name}[{k}]"] = found[f"{name}[{k}]"].copy()
            whole[f"{name}[{k}]"][:, order] = member
    return whole


def as_functions(case, rng, found):
    """As `lstm`, `gru` or `rnn`: a layer and direction each."""
    layer = case.layer
    if isinstance(layer, Sequential) or case.drops or layer.num_layers > 1:
        return {}
    kind = layer._kind
    function = getattr(functional, kind)
    options = {name: getattr(layer, name) for name in OPTIONS[kind] if name not in ("layer_norm", "peephole")}
    x = relaid(rng, case.given["x"].swapaxes(0, case.time))
    width = layer.output_size // layer._directions
    parts = []
    for place, suffix in enumerate(layer._names):
        record = _record(rng, case, suffix)
        own = dict(zip(CELLS[layer._cell].vectors, record.vectors, strict=False))
        own |= {"w_hr": record.w_hr} if layer.proj_size else {}
        start, end = (_of_place(state, place) for state in (_state(case), case.gradients["dstate_n"]))
        dy = case.gradients["dy"].swapaxes(0, case.time)[..., place * width : (place + 1) * width]
        y, state_n, reserve = function.forward(
            x, *record[:4], start, lengths=case.given.get("lengths"), reverse=place > 0, **options, **own
        )
        parts.append((y, state_n, function.backward(reserve, relaid(rng, dy), end)))
    y = np.concatenate([y for y, *_ in parts], axis=-1).swapaxes(0, case.time)
    state_n, dstate = (
        joined([np.stack(each) for each in zip(*map(members, states), strict=True)])
        for states in ([state for _, state, _ in parts], [gradients.state for *_, gradients in parts])
    )
    arrays = [array for *_, gradients in parts for array in gradients.parameters.arrays()]
    dx = None
    if parts[0][2].x is not None:
        dx = parts[0][2].x if len(parts) == 1 else parts[0][2].x + parts[1][2].x
        dx = dx.swapaxes(0, case.time)
    return _found(case, y, state_n, dx, dstate, arrays)


def _found(case, y, state_n, dx, dstate, arrays):
    names = [name for parts in case.layer._names.values() for name in parts]
    gradients = {f"d{name}": array for name, array in zip(names, arrays, strict=True)}
    states = _layers.named("state_n", [state_n]) | _layers.named("dstate", [dstate])
    return {"y": y, "dx": dx, **states, **gradients}


def _record(rng, case, suffix):
    """The weights of a layer and direction in other layouts."""
    record = case.layer._parameters_of(suffix)
    *matrices, vectors = (relaid(rng, each) for each in (*record[:5], tuple(record.vectors)))
    return functional.Parameters(*matrices, vectors)


def _state(case):
    """The state from which the sequences start."""
    state = case.given.get("state")
    if not case.layer.learned_state:
        return state
    return case.layer._states.started("state", state, case.layer._start(), case.batch)[0]


def _of_place(state, place):
    return joined([None if each is None else each[place] for each in members(state)])


WAYS = [
    *(other_threads, other_layouts, kept_little, without_all_states, rows_apart, steps_apart, step_by_step),
    *(as_a_stack, packed, as_functions),
]
