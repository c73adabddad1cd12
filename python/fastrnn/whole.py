"""What is done as a whole, whatever signals come: Ctrl-C, or another one whose handler raises something.

CPython calls handlers between instructions of Python, hence none while a function of C goes through iterators
of functions of C. Those of the reference backend are of Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from operator import setitem

from fastrnn.checks import Array


def at_once(*steps: Iterable[object]) -> None:
    """Go through iterators, one after the other: `map` and `starmap` of functions of C, whose results do not
    matter. What can fail has been tried before."""
    deque(chain(*steps), maxlen=0)


def copying(values: Iterable[Array], arrays: Iterable[Array]) -> Iterator[None]:
    """Copies of values into arrays of their shapes, for `at_once`."""
    targets = list(arrays)
    cast = [value.astype(array.dtype, copy=False) for value, array in zip(values, targets, strict=True)]
    return map(setitem, targets, repeat(...), cast)  # type: ignore[arg-type]  # of an overloaded function


def setting(name: str, owners: Iterable[object], values: Iterable[object]) -> Iterator[None]:
    """Assignments to an attribute of objects, for `at_once`."""
    return map(setattr, list(owners), repeat(name), list(values))
