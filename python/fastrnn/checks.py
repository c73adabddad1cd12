"""Checks at the door: each returns its argument, normalised, or raises an error.

Every error names the argument and says what was expected and what came.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import reprlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeGuard
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

PACKAGE = os.path.join(os.path.dirname(__file__), "")


# -- numbers


def positive_int(name: str, value: object) -> int:
    """An integer of at least 1; a bool is not an integer."""
    return _integer(name, value, 1, "a positive integer")


def non_negative_int(name: str, value: object) -> int:
    """An integer of at least 0; a bool is not an integer."""
    return _integer(name, value, 0, "a non-negative integer")


def positive_float(name: str, value: object) -> float:
    """A finite number greater than 0."""
    return _number(name, value, 0.0, math.inf, "()", "a positive finite number")


def non_negative_float(name: str, value: object) -> float:
    """A finite number of at least 0."""
    return _number(name, value, 0.0, math.inf, "[)", "a non-negative finite number")


def finite_float(name: str, value: object) -> float:
    """Any number but an infinity and NaN."""
    return _number(name, value, -math.inf, math.inf, "()", "a finite number")


def probability(name: str, value: object) -> float:
    """A number from 0 to 1, both included."""
    return _number(name, value, 0.0, 1.0, "[]", "a number from 0 to 1")


def fraction(name: str, value: object) -> float:
    """A number from 0, included, to 1, excluded: a decay rate or a part that must leave something over."""
    return _number(name, value, 0.0, 1.0, "[)", "a number from 0 to below 1")


def boolean(name: str, value: object) -> bool:
    """True or False, Python's or NumPy's; nothing is taken for its truth."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {came(value)}")
    return bool(value)


def function(name: str, value: Any) -> Any:
    """Anything that can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, or another thing to call, got {came(value)}")
    return value


def one_of(name: str, value: object, choices: Sequence[str]) -> str:
    """One of the named choices."""
    expected = f"{name} must be one of {', '.join(map(repr, choices))}"
    if not isinstance(value, str):
        raise TypeError(f"{expected}, got {came(value)}")
    if value not in choices:
        raise ValueError(f"{expected}, got {value!r}")
    return value


def float_dtype(name: str, value: Any) -> np.dtype[Any]:
    """float32 or float64, as anything that `numpy.dtype` understands."""
    dtype: np.dtype[Any]
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = np.dtype(object)
    if value is None or dtype not in FLOATS:  # NumPy takes None for float64
        raise TypeError(f'{name} must be "float32" or "float64", got {came(value)}')
    return dtype


Check: TypeAlias = Callable[[str, Any], Any]


def optional(check: Check) -> Check:
    """The check of an argument that may be None."""
    return lambda name, value: None if value is None else check(name, value)


# -- arrays


def array(name: str, value: object, expected: str) -> Array:
    """Anything that NumPy takes for an array, but no masked one and no list of such, whose masks it would
    drop; `expected` completes the error.
    """
    if type(value) is np.ndarray:
        return value
    if value is None:
        raise TypeError(f"{name} must be {expected}, got None")
    if masked(value):
        raise TypeError(f"{name} must be {expected}, got a masked array; fill it first: {name}.filled(...)")
    try:
        return np.asarray(value)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{name} must be {expected}, got {came(value)}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # an array of others, as one in another memory, that cannot be read
        raise TypeError(f"{name} must be {expected}, got {came(value)}: {error}") from error


def masked(value: object) -> bool:
    """Whether it is a masked array, or a list in which there is one."""
    if isinstance(value, (list, tuple)):
        return any(map(masked, value))
    return isinstance(value, np.ma.MaskedArray)


def real_array(name: str, values: Array, columns: Sequence[Any] | None = None) -> Array:
    """An array of real numbers, or of objects that are, such as pandas' nullable ones: they become NumPy's.

    Parameters
    ----------
    name : str
        The argument's name, for the error.
    values : ndarray
    columns : sequence, optional
        The names along the last axis, for the error.

    Raises
    ------
    TypeError
        If something else is in it: the error says what, and where.
    ValueError
        If the numbers are complex.
    """
    if values.dtype == object:
        try:
            numbers = np.array(values.tolist())
            plain = numbers.dtype.kind in "fiub" and numbers.shape == values.shape
            return numbers if plain else values.astype(np.float64)
        except (TypeError, ValueError):
            for position, value in np.ndenumerate(values):
                _require_real(name, position, value, columns)
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} must be real, got dtype {values.dtype}")
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers, got dtype {values.dtype}")
    return values


def float_array(name: str, value: object, shape: Sequence[int | str]) -> Array:
    """A float32 or float64 array of a shape, C-contiguous, aligned and native-endian; copied if it is not.

    Parameters
    ----------
    name : str
        The argument's name, for the error.
    value : array_like
        The argument. It is never written to.
    shape : sequence of int or str
        The size of every axis, or a letter where any size will do: ``("T", "B", 3)``.

    Returns
    -------
    ndarray
        `value` itself wherever that is possible.

    Raises
    ------
    TypeError
        If `value` is None, masked, or anything but float32 or float64.
    ValueError
        If its shape is another one.
    """
    # A streaming step is short and passes here seven times, hence no words are made before they are needed.
    floats = value if type(value) is np.ndarray else array(name, value, _floats_of(shape))
    dtype = floats.dtype
    if dtype not in FLOATS and (dtype := dtype.newbyteorder("=")) not in FLOATS:
        hint = f'; cast it first: {name}.astype("float32")' if dtype == np.float16 else ""
        raise TypeError(f"{name} must be {_floats_of(shape)}, got dtype {floats.dtype}{hint}")
    require_shape(name, floats, shape)
    return plain(floats, dtype)


def int_array(
    name: str, value: object, shape: Sequence[int | str], low: int, high: int, limits: str
) -> Array:
    """A new int64 array of a shape with values from `low` to `high`, C-contiguous.

    Integers lead kernels into other arrays, at once or when gradients are wanted: what is checked is a copy,
    which nobody changes afterwards.

    Parameters
    ----------
    name : str
        The argument's name, for the error.
    value : array_like
        The argument, of any integer type. It is never written to.
    shape : sequence of int or str
        The size of every axis, or a letter where any size will do.
    low, high : int
        The least and the greatest value allowed.
    limits : str
        What the limits are, for the error: ``"0..V-1"``.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError
        If `value` is None, masked, or not of an integer type; bools are not integers.
    ValueError
        If its shape is another one, or a value is out of range: the error shows the first and its position.
    """
    expected = f"an integer array of shape {_shape(shape)}"
    integers = array(name, value, expected)
    if integers.size == 0 and isinstance(value, (list, tuple)):
        integers = integers.astype(np.int64)  # NumPy takes an empty list for floats
    if integers.dtype.kind not in "iu":
        raise TypeError(f"{name} must be {expected}, got dtype {integers.dtype}")
    require_shape(name, integers, shape)
    integers = np.array(integers)
    if integers.size and (integers.min() < low or integers.max() > high):
        position = tuple(map(int, np.argwhere((integers < low) | (integers > high))[0]))
        where = ", ".join(map(str, position))
        raise ValueError(
            f"{name} must be within {limits} = {low}..{high}, got {name}[{where}] = {integers[position]}"
        )
    return plain(integers, np.dtype(np.int64))


def bool_array(name: str, value: object, shape: Sequence[int | str]) -> Array:
    """A new array of booleans of a shape, C-contiguous: numbers are not taken for their truth.

    Raises
    ------
    TypeError
        If `value` is None, masked, or not of booleans.
    ValueError
        If its shape is another one.
    """
    expected = f"an array of booleans of shape {_shape(shape)}"
    found = array(name, value, expected)
    if found.size == 0 and isinstance(value, (list, tuple)):
        found = found.astype(np.bool_)  # NumPy takes an empty list for floats
    if found.dtype != np.bool_:
        raise TypeError(f"{name} must be {expected}, got dtype {found.dtype}")
    require_shape(name, found, shape)
    return np.array(found, order="C", subok=False)


def require_shape(name: str, array: Array, shape: Sequence[int | str]) -> None:
    """Raise unless the array has the shape; a letter stands for any size."""
    if array.shape != shape and not _fits(array.shape, shape):
        raise ValueError(f"{name} must have shape {_shape(shape)}, got {array.shape}")


def same_dtype(**arrays: Array | None) -> np.dtype[Any]:
    """The one dtype of the arrays that are given; two different ones are a TypeError that names both."""
    dtypes = [array.dtype for array in arrays.values() if array is not None]
    dtype = dtypes[0]
    if dtypes.count(dtype) < len(dtypes):
        given = {name: array.dtype for name, array in arrays.items() if array is not None}
        first, *others = given
        name = next(other for other in others if given[other] != dtype)
        raise TypeError(
            f"{first} and {name} must have the same dtype, got {first} {dtype} and {name} {given[name]}"
        )
    return dtype


def is_plain(array: Any, dtype: np.dtype[Any]) -> TypeGuard[Array]:
    """Whether it is just what kernels want: C-contiguous, aligned, of this dtype, and no subclass."""
    if type(array) is not np.ndarray or array.dtype != dtype:
        return False
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def plain(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array C-contiguous, aligned and of a native dtype; the very same one if it is so already."""
    if is_plain(array, dtype):
        return array
    return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def matching_arrays(
    name: str, given: Mapping[str, npt.ArrayLike], expected: Mapping[str, Array]
) -> dict[str, Array]:
    """One array for each expected one, of its name, shape and kind of number; the error names all others."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a mapping of names to arrays, got {came(given)}")
    problems = [f"{key!r} is missing" for key in expected if key not in given]
    problems += [f"{key!r} is unexpected" for key in given if key not in expected]
    common = [key for key in expected if key in given]
    arrays = {key: array(f"{name}[{key!r}]", given[key], "an array") for key in common}
    for key, value in arrays.items():
        shape, dtype = expected[key].shape, expected[key].dtype
        if value.shape != shape:
            problems.append(f"{key!r} must have shape {shape}, got {value.shape}")
        elif value.dtype.kind != dtype.kind:
            problems.append(f"{key!r} must have dtype {dtype}, got {value.dtype}")
    if problems:
        prefix = _prefix(given, expected)
        if prefix:
            problems = [f"the names that are wanted begin with {prefix!r}; give them alone and without it"]
        raise ValueError(f"{name} does not fit: {'; '.join(problems)}")
    return arrays


def _prefix(given: Mapping[str, object], expected: Mapping[str, object]) -> str:
    """What stands before all the expected names, as a part's in those of the whole does; or ``""``."""
    first = next(iter(expected), "")
    ends = [key for key in given if isinstance(key, str) and key.endswith(f".{first}")]
    prefixes = (key.removesuffix(first) for key in ends)
    return next((each for each in prefixes if all(each + key in given for key in expected)), "")


# -- the words


def options_of(cls: type) -> Mapping[str, inspect.Parameter]:
    """What a class is called with, by name; found out once, as that takes as long as a small step."""
    if cls not in _options:
        _options[cls] = inspect.signature(cls).parameters
    return _options[cls]


_options: WeakKeyDictionary[type, Mapping[str, inspect.Parameter]] = WeakKeyDictionary()


def warn(message: str) -> None:
    """A UserWarning that shows the line which called fastrnn, however deep in it the reason was found."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


@contextlib.contextmanager
def package(name: str, extra: str, what: str) -> Iterator[None]:
    """Around an import: if that fails, the error says what is not there, and how to get it."""
    try:
        yield
    except ImportError as error:
        how = f"pip install {name}, or the extra fastrnn[{extra}]"
        raise ImportError(f"{what} needs {name}: {how} ({error})") from error


def came(value: object) -> str:
    """What came, in few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{reprlib.repr(value)} of type {type(value).__name__}"


def _require_real(name: str, position: tuple[int, ...], value: Any, columns: Sequence[Any] | None) -> None:
    try:
        float(value)
    except (TypeError, ValueError) as error:
        where = f"{name}[{', '.join(map(str, position))}]" if position else name
        where += f", column {columns[position[-1]]!r}" if columns is not None else ""
        nested = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
        what = f"a {type(value).__name__}" if nested else came(value)
        hint = "; sequences go into a list, one by one" if nested else ""
        raise TypeError(f"{name} must be an array of numbers, got {what} in {where}: {error}{hint}") from None


def _integer(name: str, value: object, low: int, expected: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {came(value)}")
    if value < low:
        raise ValueError(f"{name} must be {expected}, got {value}")
    return int(value)


def _number(name: str, value: object, low: float, high: float, ends: str, expected: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected}, got {came(value)}")
    number = float(value)
    above = number > low or (ends[0] == "[" and number == low)
    below = number < high or (ends[1] == "]" and number == high)
    if not (above and below):  # which is also how NaN, being neither, is refused
        raise ValueError(f"{name} must be {expected}, got {value}")
    return number


def _fits(shape: tuple[int, ...], expected: Sequence[int | str]) -> bool:
    if len(shape) != len(expected):
        return False
    for size, wanted in zip(shape, expected):  # noqa: B905, "strict" takes longer than the rest
        if type(wanted) is not str and size != wanted:
            return False
    return True


def _floats_of(shape: Sequence[int | str]) -> str:
    return f"a float32 or float64 array of shape {_shape(shape)}"


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
