"""A NaN or an infinity at any place of a layer or a network: it reaches just what depends on it."""

import copy
import warnings
from contextlib import nullcontext
from functools import partial
from unittest import mock

import numpy as np

import fastrnn
from fastrnn import layers
from fastrnn.config import _core
from fastrnn.layers import Recurrent, Sequential, activations
from fastrnn.reference import ACTIVATIONS, CELLS
from fastrnn.states import members

from . import _layers, _reach, _ways
from ._kernels import Stack, kernels_of, one_bit, tampered, with_y
from ._layers import chance, one_of
from ._ways import Case

COUNT, UNIT = 5_000, "injections of NaN or infinity"

#: Into one layer or network, each alone.
AT_ONCE = 10


def trial(rng, tally):
    isa, threads = one_of(rng, _core.config()["isas"]), one_of(rng, [1, 1, 2, 3])
    with kernels_of(isa, threads), np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        case = drawn(rng)
        injections = [injection(rng, case) for _ in range(AT_ONCE)]
        before, *found, after = [
            _ways.plain(case),
            *(run(case, *each) for each in injections),
            _ways.plain(case),
        ]
        with fastrnn.use_backend("reference"):
            expected = [run(case, *each) for each in injections]
    words = _layers.told(case.layer, case.given, isa=isa, threads=threads)
    for (place, index, value), one, other in zip(injections, found, expected, strict=True):
        problem = differs(case, place, index, value, before, one, other)
        where = f"{value} in {'.'.join(map(str, place))}{list(index)}"
        tally.saw(None if problem is None else f"{where}: {problem}: {words}")
    for name, array in before.items():
        if array is not None and array.tobytes() != after[name].tobytes():
            tally.saw(f"{name} is not as before all injections: {words}", 0)


def drawn(rng):
    layer = _layers.recurrent(rng) if chance(rng, 0.5) else _layers.network(rng)
    while any(isinstance(each, layers.Masking) for each in getattr(layer, "parts", {}).values()):
        layer = _layers.network(rng)
    given = _layers.arguments(rng, layer)
    seeds = [each.bit_generator.state for each in _layers.generators(layer)]
    return Case(layer, given, _layers.upstream(rng, layer, given), seeds)


# -- places


def arrays_of(case):
    """All arrays of floats that go in, by where they are."""
    found = {("parameters", name): array for name, array in case.layer.parameters.items()}
    for kind in "given", "gradients":
        for name, value in getattr(case, kind).items():
            found |= {(kind, name, *path): array for path, array in leaves(value)}
    return found


def leaves(value):
    if not isinstance(value, tuple):
        return [((), value)] if value is not None and value.dtype.kind == "f" else []
    return [((k, *path), array) for k, each in enumerate(value) for path, array in leaves(each)]


def injection(rng, case):
    """Where what goes: an array, an index, and a value."""
    arrays = arrays_of(case)
    kinds = sorted({place[:2] if place[0] != "parameters" else ("parameters",) for place in arrays})
    kind = one_of(rng, kinds)
    place = one_of(rng, [place for place in arrays if place[: len(kind)] == kind])
    index = tuple(int(rng.integers(size)) for size in arrays[place].shape)
    return place, index, one_of(rng, [np.nan, np.nan, np.inf, -np.inf])


def replaced(value, path, index, number):
    """A copy, with another number in it."""
    if path:
        parts = list(value)
        parts[path[0]] = replaced(parts[path[0]], path[1:], index, number)
        return tuple(parts)
    other = value.copy()
    other[index] = number
    return other


def run(case, place, index, value):
    """All that is computed with a number at a place."""
    kind, name, *path = place
    if kind == "parameters":
        array = case.layer.parameters[name]
        array[index], number = value, array[index]
        try:
            return _ways.plain(case)
        finally:
            array[index] = number
    other = {**getattr(case, kind), name: replaced(getattr(case, kind)[name], path, index, value)}
    return _ways.plain(case._replace(**{kind: other}))


# -- what must be


def differs(case, place, index, value, before, found, expected):
    """What is wrong with the results, or None."""
    reached = reach(case, place, index)
    for name, array in found.items():
        if array is None:
            continue
        within = reached[name]
        changed = array.view(f"u{array.itemsize}") != before[name].view(f"u{array.itemsize}")
        if (changed & ~within).any():
            return f"{name} is changed at {first(changed & ~within)}, which does not depend on it"
        if (
            np.isnan(value)
            and place[0] == "given"
            and name == "inferred y"
            and not np.isnan(array[within]).all()
        ):
            return f"{name} has numbers that depend on it"
        if not (np.isnan(value) or bounded(case)):
            continue  # infinities that are multiplied cancel in one order and not in another
        same = np.isnan if np.isnan(value) else np.isfinite
        differ = same(array) != same(expected[name])
        if differ.any():
            at = first(differ)
            return f"{name} is {array[at]} at {at}, by the reference {expected[name][at]}"
    return None


def bounded(case):
    """Whether no function of its cells lets an infinity through."""
    told = [
        each._told if CELLS[each._cell].options else CELLS[each._cell].usual
        for each in recurrent_of(case.row)
    ]
    return all(ACTIVATIONS[name].high < np.inf for options in told for name in options[:3])


def first(mask):
    return tuple(map(int, np.argwhere(mask)[0]))


def reach(case, place, index):
    """What depends on a number, by the names of the results."""

    def bools(value):
        if isinstance(value, tuple):
            return tuple(map(bools, value))
        return value if value is None else np.zeros(value.shape, bool)

    network = isinstance(case.layer, Sequential)
    given, gradients = (
        {name: bools(value) for name, value in each.items()} for each in (case.given, case.gradients)
    )
    parameters = {name: bools(array) for name, array in case.layer.parameters.items()}
    kind, name, *path = place
    holder = {"given": given, "gradients": gradients, "parameters": parameters}[kind]
    holder[name] = replaced(holder[name], path, index, True)

    row = case.row
    if network:
        body, head = case.layer._split()
        row = [*body.layers, *([body.pooling] if case.has(layers.Pooling) else []), *head]
    names = list(case.layer.parts) if network else [None]
    owned = [
        {
            name.removeprefix(f"{part}."): array
            for name, array in parameters.items()
            if part is None or name.startswith(f"{part}.")
        }
        for part in names
    ]
    recurrent = recurrent_of(row)
    states = given.get("state") if network else [given.get("state")]
    dstates = [gradients.get("dstate_n")] if not network else [None] * len(recurrent)
    states, dstates = (
        [filled(each, layer) for each, layer in zip(some or [None] * len(recurrent), recurrent, strict=True)]
        for some in (states, dstates)
    )
    for layer, dstate in zip(recurrent, dstates, strict=True):
        shapes = [(layer._states.places, case.batch, width) for width in layer._states.widths]
        dstate[:] = [
            np.zeros(shape, bool) if each is None else each
            for each, shape in zip(dstate, shapes, strict=True)
        ]
    dy = gradients["dy"]
    reached = {
        "x": given["x"].swapaxes(0, case.time),
        "states": states,
        "parameters": owned,
        "dy": dy.swapaxes(0, case.time) if dy.ndim == 3 else dy,
        "dstates": dstates,
    }
    y, ends, dx, starts, found = _reach.through(
        row, reached, case.given["x"].swapaxes(0, case.time), case.lengths
    )
    named = {"y": y.swapaxes(0, case.time) if y.ndim == 3 else y}
    named |= _layers.named("state_n", [tuple(each) for each, _ in ends])
    named |= {f"inferred {name}": array for name, array in named.items()}
    named |= _layers.named("every state", [tuple(every) for _, every in ends])
    named |= {
        "dx": None if dx is None else dx.swapaxes(0, case.time),
        **_layers.named("dstate", map(tuple, starts)),
    }
    for part, own in zip(names, found, strict=True):
        named |= {f"d{name}" if part is None else f"d{part}.{name}": array for name, array in own.items()}
    return named


def recurrent_of(row):
    return [each for each in row if isinstance(each, Recurrent)]


def filled(state, layer):
    """The members of a state, None for what is left out."""
    return [None] * len(layer._states.widths) if state is None else list(members(state))


# -- what could be wrong


def touching(axis, shift):
    """Rows or steps that read their neighbours, though nothing comes of it while these are numbers."""

    class Touching(Stack):
        def after(self, found, batch_sizes):
            with np.errstate(all="ignore"):
                return with_y(found, lambda y: y + 0 * np.roll(y, shift, axis))

    return Touching


class Masking(Stack):
    def after(self, found, batch_sizes):
        return with_y(found, np.nan_to_num)


class ReadsPadding(Stack):
    def before(self, x, state, lengths):
        if isinstance(x, np.ndarray) and x.ndim == 3 and lengths is not None:
            x = _with_all(x)
        return x, state, lengths


class ReadsPaddedGradients(Stack):
    def back(self, *arguments):
        before, dy, after = arguments[:7], arguments[7], arguments[8:]
        return self._inner.back(*before, dy if dy is None else _with_all(dy), *after)


def _with_all(array):
    with np.errstate(all="ignore"):
        return array + 0 * array.sum(axis=(0, 1))


class OldWeights(Stack):
    """The weights as they were at first."""

    def made_of(self, parameters):
        return copy.deepcopy(parameters)


class OldNumbers(Stack):
    """A buffer that is not cleared."""

    dirty = False

    def after(self, found, batch_sizes):
        if np.isfinite(found[0]).all():
            return with_y(found, one_bit) if self.dirty else found
        self.dirty = True
        return found


def greatest_number(self, gathered, x, lengths, start):
    return _gather(self, gathered, np.where(np.isnan(x), -np.inf, x), lengths, start)


_gather = layers.Max._gather


class _Loud:
    """NumPy without `errstate`."""

    errstate = staticmethod(lambda **_: nullcontext())

    def __getattr__(self, name):
        return getattr(np, name)


FAULTS = {
    "a row that reads the next one": partial(tampered, Stack=touching(1, 1)),
    "a step that reads the next one": partial(tampered, Stack=touching(0, -1)),
    "NaN made a number": partial(tampered, Stack=Masking),
    "padding that is read": partial(tampered, Stack=ReadsPadding),
    "padded gradients that are read": partial(tampered, Stack=ReadsPaddedGradients),
    "weights that are not looked at again": partial(tampered, Stack=OldWeights),
    "numbers of the call before": partial(tampered, Stack=OldNumbers),
    "a maximum without NaN": partial(mock.patch.object, layers.Max, "_gather", greatest_number),
    "warnings of NumPy": partial(mock.patch.object, activations, "np", _Loud()),
}
