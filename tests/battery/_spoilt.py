"""Good arguments spoilt: what stands in the place of one, and what it may be taken for instead of refused."""

from typing import Any, NamedTuple

import numpy as np

from ._layers import one_of

REFUSED = object()


class Spoilt(NamedTuple):
    """What is given; and what it is as good as, or `REFUSED`."""

    how: str
    value: Any
    same_as: Any = REFUSED


class Broken:
    """An array that will not be read, as one of a device is not."""

    shape, dtype, ndim = (2, 3), np.dtype("float32"), 2

    def __array__(self, *_, **__):
        raise RuntimeError("this array lies elsewhere")

    def __repr__(self):
        return "<Broken>"


def spoilt(rng, value):
    """One of the ways to spoil a value, by what it is."""
    return one_of(rng, [*ways(rng, value)])


def ways(rng, value):
    """All of them."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        yield from of_arrays(rng, value)
    elif isinstance(value, np.ndarray) and value.dtype == bool:
        yield from of_truths(value)
    elif isinstance(value, bool):
        yield from of_bools(value)
    elif isinstance(value, int):
        yield from of_ints(value)
    elif isinstance(value, float):
        yield from of_floats(value)
    elif isinstance(value, str):
        yield from (Spoilt("another word", "spoilt"), Spoilt("bytes", b"spoilt"), Spoilt("empty", ""))
        yield from others(3, [value])
    elif isinstance(value, tuple):
        yield from of_tuples(rng, value)
    elif isinstance(value, dict):
        yield from of_dicts(rng, value)
    elif isinstance(value, list):
        yield from of_lists(rng, value)
    else:
        yield from others(3, "spoilt", [value])
        yield Spoilt("a class", type(value))


def others(*values):
    for each in (*values, object(), Broken(), 1j, None):
        yield Spoilt(f"a {type(each).__name__}", each)


def of_arrays(rng, array):
    yield from others("spoilt", {"x": 1}, {1, 2})
    yield Spoilt("a list of words", ["a", "b"])
    yield Spoilt("ragged", [[1.0], [1.0, 2.0]])
    yield Spoilt("an axis more", array[None])
    yield Spoilt("masked", np.ma.masked_array(array, np.zeros(array.shape, bool)))
    yield Spoilt("of objects", np.full(array.shape, None, object))
    yield Spoilt("of words", np.full(array.shape, "a"))
    yield Spoilt("of complex numbers", array.astype(complex))
    yield Spoilt("of times", np.zeros(array.shape, "M8[s]"))
    yield Spoilt("of bools", array > 0)
    if array.ndim:
        yield Spoilt("an axis less", array[..., 0])
        yield Spoilt("longer", np.concatenate([array, array[..., :1]], axis=-1))
        yield Spoilt("without a feature", array[..., :0])
    if array.dtype.kind == "f":
        yield Spoilt("of half the bits", array.astype("f2"))
        yield Spoilt("of the other dtype", array.astype("f4" if array.dtype == "f8" else "f8"))
        yield Spoilt("of long doubles", array.astype(np.longdouble))
        yield Spoilt("strided", np.repeat(array, 2, axis=-1)[..., ::2], array)
        yield Spoilt("of the other order of bytes", array.astype(array.dtype.newbyteorder()), array)
    else:
        yield Spoilt("of floats", array + 0.5)
        yield Spoilt("negative", array - 1000)
        yield Spoilt("huge", array + (1 << 40))
        yield Spoilt("beyond int64", array.astype("u8") + np.uint64(1 << 63))
        yield Spoilt("a list", array.tolist(), array)
        yield Spoilt("of few bits", array.astype("i1"), array)


def of_truths(array):
    yield from others("spoilt", {"x": 1})
    yield Spoilt("ragged", [[True], [True, False]])
    yield Spoilt("masked", np.ma.masked_array(array, np.zeros(array.shape, bool)))
    for dtype in ("i8", "u1", "f4", object, "U5"):
        yield Spoilt(f"of {dtype}", array.astype(dtype))
    yield Spoilt("an axis more", array[None])
    yield Spoilt("an axis less", array[..., 0])
    yield Spoilt("longer", np.concatenate([array, array[..., :1]], axis=-1))
    yield Spoilt("a list", array.tolist(), array)
    yield Spoilt("strided", np.repeat(array, 2, axis=-1)[..., ::2], array)


def of_bools(value):
    yield from others("yes", 1, 0.0, [value])
    yield Spoilt("NumPy's", np.bool_(value), value)


def of_ints(value):
    yield from others("3", [value])
    yield Spoilt("a float", value + 0.5)
    yield Spoilt("NaN", np.nan)
    yield Spoilt("True", True)
    yield Spoilt("negative", -value - 7)
    yield Spoilt("NumPy's", np.int16(value), value)


def of_floats(value):
    yield from others("0.5", [value])
    yield Spoilt("True", True)
    yield Spoilt("NaN", np.nan)
    yield Spoilt("infinite", np.inf)
    yield Spoilt("infinite", -np.inf)
    yield Spoilt("NumPy's", np.float64(value), value)


def of_tuples(rng, value):
    """Of a whole, or of one of its members."""
    yield from others(3, "spoilt")
    if not value:
        return
    yield Spoilt("one more", (*value, value[0]))
    place, make = int(rng.integers(len(value))), getattr(type(value), "_make", tuple)
    for way in ways(rng, value[place]):
        spoiled, same = (make((*value[:place], each, *value[place + 1 :])) for each in way[1:])
        yield Spoilt(f"[{place}] {way.how}", spoiled, REFUSED if way.same_as is REFUSED else same)


def of_lists(rng, value):
    yield from others(3)
    place = int(rng.integers(len(value)))
    for way in ways(rng, value[place]):
        same = way.same_as if way.same_as is REFUSED else [*value[:place], way.same_as, *value[place + 1 :]]
        yield Spoilt(f"[{place}] {way.how}", [*value[:place], way.value, *value[place + 1 :]], same)


def of_dicts(rng, value):
    """Of a mapping of names: one is missing, too many, or has something else."""
    yield from others(3, "spoilt")
    name = one_of(rng, [*value])
    yield Spoilt(f"without {name}", {key: each for key, each in value.items() if key != name})
    yield Spoilt("one more", {**value, "spoilt": value[name]})
    for way in ways(rng, value[name]):
        same = way.same_as if way.same_as is REFUSED else {**value, name: way.same_as}
        yield Spoilt(f"[{name}] {way.how}", {**value, name: way.value}, same)


# -- in what ways an argument may differ, and is still a good one

#: Where an array is alone, it may have any shape and dtype of floats; and where numbers are just numbers.
ANY_SHAPE = {"an axis less", "an axis more", "longer", "without a feature"}
ANY_FLOATS = ANY_SHAPE | {"of the other dtype"}
ANY_NUMBERS = {
    "of the other dtype",
    "of half the bits",
    "of long doubles",
    "of bools",
    "of the other order of bytes",
}
ANY_SYMBOLS = {"another word", "bytes", "empty", "a list", "a str", "a tuple", "one more"}

ANY_DATA = ANY_NUMBERS | ANY_SYMBOLS | {"a float", "a int", "True", "longer", "negative"}

#: In what ways an argument of a name may differ everywhere.
TAKES = {
    "dtype": {"a Broken"},  # which has one
    "loss": {"a class"},
    "optimizer": {"a class"},
    "callbacks": {"a class"},
    "bidirectional": {"a NoneType"},
    **dict.fromkeys(
        ("gradients", "parameters"), ANY_NUMBERS | ANY_SHAPE | {"one more", "without one", "without two"}
    ),
    **dict.fromkeys(
        ("y_true", "y_pred", "y_train", "lower", "upper", "quantiles"), ANY_NUMBERS | {"longer"} | ANY_SYMBOLS
    ),
    **dict.fromkeys(("a", "b"), ANY_SYMBOLS),
    **dict.fromkeys(("X", "text", "data", "value", "source"), ANY_DATA),
    "ignore_index": {"negative"},
    "prompt": {"another word", "bytes"},
    "covariates": ANY_NUMBERS,
    "logits": {"longer", "of the other dtype"},
    "w_ih": {"longer"},  # of tokens
    "out": {"of the other order of bytes", "strided"},
    "y": ANY_DATA | {"of words", "huge", "an axis less", "beyond int64"},
    "weights": ANY_NUMBERS | {"an axis less"},
    **dict.fromkeys(("state", "dstate_n"), frozenset({"a NoneType"})),  # a member of a pair
}
