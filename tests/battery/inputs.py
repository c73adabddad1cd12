"""Bad arguments for everything public: each is refused in words that name it, and changes nothing."""

import inspect
import warnings
from functools import partial
from unittest import mock

import numpy as np

from fastrnn import checks, layers
from fastrnn.functional import Reserve, StackReserve
from fastrnn.layers import Stream

from . import _calls
from ._layers import one_of
from ._spoilt import REFUSED, TAKES, spoilt

COUNT, UNIT = 2_500, "bad arguments"

REFUSALS = (TypeError, ValueError, IndexError, OSError)

#: What is wrong between two arguments is said of either.
BETWEEN = {"an axis less", "an axis more", "longer", "without a feature", "of the other dtype"}

#: What of an object is nobody's state: what a backend has made, and marks of its being looked at.
NO_STATE = {"_made", "_inner", "_step", "_handed_out", "_backend", "_stack"}


def trial(rng, tally):
    source, seed = one_of(rng, _calls.SOURCES), int(rng.integers(1 << 30))
    goods = dict(source(np.random.default_rng(seed)))
    for name in rng.permutation([*goods])[:20]:
        good = goods[name]
        argument = one_of(rng, [*good.given])
        way = spoilt(rng, good.given[argument])
        problem = wrong(
            good, argument, way, lambda name=name: dict(source(np.random.default_rng(seed)))[name]
        )
        words = f"{name}({argument}: {way.how}, {way.value!r:.80} for {good.given[argument]!r:.80})"
        tally.saw(None if problem is None else f"{words}: {' '.join(problem.split())}")


def wrong(good, argument, way, again):
    """What is wrong with the answer to a spoilt argument, or None."""
    given, how = {**good.given, argument: way.value}, way.how.split("] ")[-1]
    takes = how in (good.takes.get(argument) or TAKES.get(argument, ()))
    left_out = way.value is None and may_be_none(good.call, argument)
    before = snapshot(given, good.holders)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            good.call(**given)
    except REFUSALS as error:
        words = str(error)
        places = way.how.replace("[", "").split("] ")[:-1]
        names = [argument, *good.called.get(argument, ())]
        names += [each.rpartition(".")[2] for each in places if not each.isdigit()]
        names += good.given if how in BETWEEN else ()
        if not (left_out or any(name in words for name in names)):
            return f"does not name the argument: {type(error).__name__}: {words}"
        if snapshot(given, good.holders) != before:
            return f"something has changed, after {type(error).__name__}: {words}"
        return None if takes or way.same_as is REFUSED else f"is refused: {words}"
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    if takes or left_out:
        return None
    if way.same_as is REFUSED:
        return "is accepted"
    found, expected = (  # of anew each, as other calls have moved the good one on, such as a stream
        snapshot(each.call(**{**each.given, argument: value}))
        for each, value in ((again(), way.value), (again(), way.same_as))
    )
    return None if found == expected else "has another result than what it is as good as"


def may_be_none(call, argument):
    """Whether it is left out with None."""
    parameters = inspect.signature(call).parameters
    return argument not in parameters or parameters[argument].default is None


def snapshot(*values):
    """Everything that can be read from some objects and what they hold, to be compared."""
    found, seen = [], {}

    def visit(value):
        if isinstance(value, np.ndarray):
            objects = value.dtype == object or isinstance(value, np.ma.MaskedArray)
            found.append((value.dtype.str, value.shape, repr(value) if objects else value.tobytes()))
        elif isinstance(value, (str, bytes, int, float, complex, type(None), type, np.generic)):
            found.append(repr(value))
        elif id(value) in seen:
            found.append(seen[id(value)])
        else:
            seen[id(value)] = len(seen)
            found.append(type(value).__name__)
            for each in parts(value):
                visit(each)

    visit(values)
    return found


def parts(value):
    if isinstance(value, dict):
        return [each for pair in value.items() for each in pair]
    if isinstance(value, (list, tuple, set)):
        return [*value]
    if isinstance(value, np.random.Generator):
        return [str(value.bit_generator.state)]
    if isinstance(value, Stream):
        return [value.state]
    if isinstance(value, Reserve):
        return [len(value._inner)]
    if isinstance(value, StackReserve):
        return [len(value._kept)]
    held = getattr(value, "__dict__", {})
    return (
        [] if callable(value) and not held else [each for name, each in held.items() if name not in NO_STATE]
    )


# -- what could be wrong


def as_truth(name, value):
    return bool(value)


def as_int(name, value):
    return int(value)


def any_shape(name, array, shape):
    """No shape is looked at."""


def nameless(name, value, choices):
    return _one_of("it", value, choices)


def by_key(name, value, choices):
    return {each: each for each in choices}[value]


def one_by_one(self, state):
    """Assigned before all are looked at."""
    if isinstance(state, dict):
        for name in state.keys() & set(self.parameters):
            self.parameters[name] = state[name]
    _load_state_dict(self, state)


def in_place(name, value, shape):
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.flags.writeable:
        value *= value.dtype.type(0.5)
    return _float_array(name, value, shape)


_one_of, _float_array, _load_state_dict = checks.one_of, checks.float_array, layers.Layer.load_state_dict

FAULTS = {
    "truth for a bool": partial(mock.patch.object, checks, "boolean", as_truth),
    "numbers for an int": partial(mock.patch.object, checks, "positive_int", as_int),
    "shapes that are not looked at": partial(mock.patch.object, checks, "require_shape", any_shape),
    "words without a name": partial(mock.patch.object, checks, "one_of", nameless),
    "another kind of error": partial(mock.patch.object, checks, "one_of", by_key),
    "weights changed by a refused call": partial(
        mock.patch.object, layers.Layer, "load_state_dict", one_by_one
    ),
    "arguments that are written to": partial(mock.patch.object, checks, "float_array", in_place),
}
