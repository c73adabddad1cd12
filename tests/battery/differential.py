"""Layers and networks of all options against the float64 reference, and in other ways of the same bits."""

import math
from functools import partial
from unittest import mock

import numpy as np

import fastrnn
from fastrnn.config import _core
from fastrnn.layers import Recurrent
from fastrnn.reference import ACTIVATIONS
from fastrnn.reference.products import Affine
from fastrnn.states import members

from . import _layers, _ways
from ._kernels import Stack, kernels_of, one_bit, tampered, with_y
from ._layers import chance, one_of

COUNT, UNIT = 6_000, "cases against the reference"

#: c of the bound c log2(length of the sum) eps by which oneDNN measures its own sums: twice as much as the
#: largest error of 10,000 other cases.
C = 4


def trial(rng, tally):
    isa, threads = one_of(rng, _core.config()["isas"]), one_of(rng, _ways.THREADS)
    with kernels_of(isa, threads), np.errstate(all="ignore"):
        case, expected = drawn(rng)
        while not all(map(tame, expected.values())):
            case, expected = drawn(rng)
        problem = compared(case, expected, rng, tally)
    if problem is not None:
        problem = f"{problem}: {_layers.told(case.layer, case.given, isa=isa, threads=threads)}"
    tally.saw(problem)


def drawn(rng):
    """A case and its truth: mostly small, some long, and some large enough for a team of threads."""
    size = one_of(rng, ["small"] * 16 + ["long", "large"])
    if size == "small":
        layer = _layers.recurrent(rng) if chance(rng, 0.75) else _layers.network(rng)
        given = _layers.arguments(rng, layer)
    elif size == "long":
        layer = _layers.recurrent(rng, num_layers=1)
        given = _layers.arguments(rng, layer, T=int(rng.integers(60, 250)), B=int(rng.integers(1, 4)))
    else:
        hidden = one_of(rng, [40, 47, 64, 65])
        layer = _layers.recurrent(rng, one_of(rng, [33, 64, 130]), hidden, num_layers=1)
        given = _layers.arguments(rng, layer, T=int(rng.integers(20, 40)), B=int(rng.integers(8, 30)))
    if given["x"].dtype.kind == "f" and chance(rng, 0.05):
        given["x"] = np.broadcast_to(given["x"][:1], given["x"].shape)  # strides of 0
    gradients = _layers.upstream(rng, layer, given)
    seeds = [each.bit_generator.state for each in _layers.generators(layer)]
    case = _ways.Case(layer, given, gradients, seeds)
    return case, truth(case, chance(rng, 0.2))


def truth(case, inference, change=lambda array: array):
    """What the reference computes in float64, with inference or without it, of numbers that are changed."""
    layer, given, gradients = (
        _layers.widened(case.layer),
        widened(case.given, change),
        widened(case.gradients, change),
    )
    for array in layer.parameters.values():
        array[...] = change(array)
    with fastrnn.use_backend("reference"):
        found = _ways.trained(case._replace(layer=layer), given, gradients)
        return found | _ways.inferred(layer, given) if inference else found


def shaken(case, expected, rng):
    """How far the truth moves where each number that goes in, and what comes of each product and function on
    the way, is rounded anew at random: by name.

    What is so sensitive may be wrong by as much: normalisation of numbers that are almost equal, slopes of
    functions near their bounds, sums that cancel."""
    eps = np.finfo(_layers.dtype_of(case.layer)).eps

    def rounded(array):
        return array * (1 + rng.uniform(-eps, eps, array.shape))

    def then_rounded(function):
        return lambda *arguments: rounded(function(*arguments))

    functions = {name: each._replace(of=then_rounded(each.of)) for name, each in ACTIVATIONS.items()}
    products = {name: then_rounded(getattr(Affine, name)) for name in ("product", "undo")}
    moved = dict.fromkeys(expected, 0.0)
    with mock.patch.dict(ACTIVATIONS, functions), mock.patch.multiple(Affine, **products):
        for _ in range(3):
            for name, array in truth(case, "inferred y" in expected, rounded).items():
                if array is not None:
                    moved[name] = max(moved[name], np.abs(array - expected[name]).max(initial=0))
    return moved


def widened(value, change):
    if isinstance(value, dict):
        return {name: widened(each, change) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(widened(each, change) for each in value)
    return value if value is None or value.dtype.kind != "f" else change(value.astype(np.float64))


def tame(array):
    """Whether it has not grown beyond all bounds, as it may where no function of a cell has one."""
    return array is None or (np.isfinite(array).all() and np.abs(array).max(initial=0) < 1e6)


def compared(case, expected, rng, tally):
    """What is wrong with a case, or None."""
    found = _ways.plain(case)
    problem = differs(case, found, expected, rng, tally)
    for way in [] if problem else _ways.WAYS:
        for name, array in way(case, rng, found).items():
            if not same_bits(array, found[name]):
                return f"{name} has other bits {way.__name__.replace('_', ' ')}"
    return problem


def same_bits(array, other):
    if array is None or other is None:
        return array is other
    return (array.shape, array.dtype, array.tobytes()) == (other.shape, other.dtype, other.tobytes())


def differs(case, found, expected, rng, tally):
    """What is further from the truth than rounding takes it, or None."""
    dtype, moved = _layers.dtype_of(case.layer), None
    if not found.keys() >= expected.keys():
        return f"got {sorted(found)}, expected {sorted(expected)}"
    for name, array in expected.items():
        if array is None or found[name] is None:
            if found[name] is not array:
                return f"{name} is {found[name]}, expected {array}"
            continue
        if (found[name].shape, found[name].dtype) != (array.shape, dtype):
            return f"{name} is {found[name].dtype}{found[name].shape}, expected {dtype}{array.shape}"
        error = np.abs(found[name] - array).max(initial=0)
        kind = np.finfo(dtype)
        unit = max(kind.eps * np.abs(array).max(initial=0), kind.tiny)  # less than which kernels take for 0
        length = math.log2(2 + length_of_sum(case, name))
        if error > C / 2 * length * unit:
            moved = moved or shaken(case, expected, rng)
            unit = max(unit, moved[name])
        tally.measure(cells_of(case), error / (C * length * unit))
        if not error <= C * length * unit:
            much = f"{error / (length * unit):.0f} log2({2**length:.0f}) eps"
            return f"{name} is wrong by {error:.1e}, which is {much}"
    return None


def cells_of(case):
    cells = {each._cell for each in case.row if isinstance(each, Recurrent)}
    return cells.pop() if len(cells) == 1 else "several cells"


def length_of_sum(case, name):
    """How many numbers come together in one, by the longest way through the steps."""
    fan_in = sum(
        each.input_size + each.output_size + (each.num_layers - 1) * 2 * each.output_size
        for each in case.row
        if isinstance(each, Recurrent)
    )
    rows = 1 if name in _ways.AXES_OF_ROWS or "state" in name else case.batch
    return case.steps * fan_in * rows


# -- what could be wrong: in the numbers, and in each of the ways


class WithoutAGate(Stack):
    def made_of(self, parameters):
        rows = slice(0, len(parameters[0].w_hh) // 2)
        return [each._replace(w_hh=_without(each.w_hh, rows)) for each in parameters]


class AnotherRowsState(Stack):
    def before(self, x, state, lengths):
        if isinstance(state, tuple):
            return x, tuple(each if each is None else np.roll(each, 1, axis=1) for each in state), lengths
        return x, state if state is None else np.roll(state, 1, axis=1), lengths


class LengthsTurned(Stack):
    def before(self, x, state, lengths):
        return x, state, lengths if lengths is None else lengths[::-1].copy()


class Rounded(Stack):
    """As an approximation would be with too few coefficients."""

    def after(self, found, batch_sizes):
        return with_y(found, lambda y: y * y.dtype.type(1 + 300 * np.finfo(y.dtype).eps))


class WithoutStrides(Stack):
    def before(self, x, state, lengths):
        return np.ravel(x, "K").reshape(x.shape) if isinstance(x, np.ndarray) else x, state, lengths


def where(wrong):
    """A stack one of whose bits is another where ``wrong(steps, batch, packed)``."""

    class Sometimes(Stack):
        def after(self, found, batch_sizes):
            y, batch = found[0], members(found[1])[0].shape[1]
            steps = y.size // max(1, batch * y.shape[-1])
            return with_y(found, one_bit) if wrong(steps, batch, batch_sizes is not None) else found

    return Sometimes


class AnotherInference(Stack):
    def run(self, *arguments):
        found = super().run(*arguments)
        return found if found is None else with_y(found, one_bit)


class AnotherRecomputation(Stack):
    def back(self, *arguments):
        found = super().back(*arguments)
        recompute = len(arguments) > 11 and arguments[11]
        return with_y(found, one_bit) if found is not None and found[0] is not None and recompute else found


class BackOnce(Stack):
    """The second way back of a memory finds what the first one left."""

    def back(self, *arguments):
        memory, *others = arguments
        others[9] = False
        return super().back(memory, *others)


class AStaleStream:
    """A copy of a stream starts anew."""

    def __init__(self, *arguments):
        self._arguments, self._inner = arguments, _core.Stream(*arguments)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def copy(self):
        return AStaleStream(*self._arguments)


def other_directions(calls):
    """Functions whose direction is lost."""
    return _core.forward_all([call._replace(reverse=False) for call in calls])


def _without(array, rows):
    other = array.copy()
    other[rows] = 0
    return other


FAULTS = {
    name: partial(tampered, **replaced)
    for name, replaced in {
        "a gate without its recurrent weights": {"Stack": WithoutAGate},
        "a row that starts from another's state": {"Stack": AnotherRowsState},
        "lengths in another order": {"Stack": LengthsTurned},
        "a function with too few digits": {"Stack": Rounded},
        "strides that are not looked at": {"Stack": WithoutStrides},
        "bits that depend on the threads": {"Stack": where(lambda *_: _core.get_num_threads() == 3)},
        "bits that depend on the batch": {"Stack": where(lambda steps, batch, packed: batch == 2)},
        "bits that depend on the steps": {"Stack": where(lambda steps, batch, packed: steps == 2)},
        "bits of packed rows": {"Stack": where(lambda steps, batch, packed: packed)},
        "bits of inference": {"Stack": AnotherInference},
        "bits of what is recomputed": {"Stack": AnotherRecomputation},
        "a memory that serves once": {"Stack": BackOnce},
        "a copy of a stream without its state": {"Stream": AStaleStream},
        "functions without a direction": {"forward_all": other_directions},
    }.items()
}
