"""Arrays by name that have one owner: what a layer's parameters and gradients are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from fastrnn import checks
from fastrnn.checks import Array


class Arrays(MutableMapping[str, Array]):
    """Arrays under names that are fixed: what is assigned to a name is copied into its array.

    So nobody who holds the mapping or one of its arrays is left with an old one, and every copy of it and of
    what holds it, by deepcopy, pickle or joblib, is one whole again.

    Raises
    ------
    KeyError
        If something is assigned to another name.
    ValueError
        If what is assigned has another shape or kind of number, or the array is read-only: nothing has
        changed.
    TypeError
        If a name is to be deleted.

    Examples
    --------
    >>> import numpy as np
    >>> array = np.zeros(2)
    >>> arrays = Arrays({"bias": array})
    >>> arrays["bias"] = [3.0, 5.0]
    >>> array.tolist()
    [3.0, 5.0]
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = dict(arrays)
        self._handed_out = object()

    # Who has packed the arrays keeps the token `_handed_out`, and looks whether it is still the same one
    # (`csrc/kept.h`). A new one is made after an array is taken, before anybody else can have it and before
    # anything is written: so who sees a new token sees the reference, too, or all that has been done with it.

    def __getitem__(self, name: str) -> Array:
        array = self._arrays[name]
        self._handed_out = object()
        return array

    def look_at(self, name: str) -> Array:
        """The array for its owner, who reads it at once and passes it on to nobody."""
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in set(self):
            known = ", ".join(map(repr, self)) or "none"
            raise KeyError(f"there is no array {name!r} to assign to, and names are fixed: {known}")
        array = self[name]
        if not array.flags.writeable:
            raise ValueError(f"{name!r} is read-only, as all arrays of a compressed layer")
        if value is not array:  # which an in-place operator assigns
            array[...] = checks.matching_arrays("what is assigned", {name: value}, {name: array})[name]

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name!r} cannot be deleted: names are fixed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"<{', '.join(f'{name} {array.dtype}{array.shape}' for name, array in self.items())}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """A shallow copy has the same arrays, and a pickle arrays that are its own."""
        return _restored, (dict(self),)


class Fixed(Arrays):
    """Arrays that are only read, from now on: those of a compressed layer."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        # Those from a pickle are views of what was read.
        super().__init__({name: each if each.flags.owndata else each.copy() for name, each in arrays.items()})
        for array in self._arrays.values():
            array.setflags(write=False)

    def __getitem__(self, name: str) -> Array:
        """A view, which cannot be made writable: so who has packed the array need not look again."""
        return self._arrays[name].view()

    def __reduce__(self) -> tuple[Any, ...]:
        return Fixed, (self._arrays,)


def _restored(arrays: Mapping[str, Array]) -> Arrays:
    """As `Arrays`, which hold arrays of their own memory: those from a pickle are views of what was read."""
    views = [name for name, array in arrays.items() if array.flags.writeable and not array.flags.owndata]
    return Arrays({**arrays, **{name: arrays[name].copy() for name in views}})


class Joined(Arrays):
    """The arrays of several owners, each by its owner's name and its own: ``head.bias``. An owner that comes
    twice is there once, by the first of its names."""

    def __init__(self, parts: Mapping[str, Arrays]) -> None:
        self._parts = dict(parts)
        owners: dict[int, tuple[str, Arrays]] = {}
        for part, arrays in parts.items():
            for prefix, owner in arrays._owners if isinstance(arrays, Joined) else [("", arrays)]:
                owners.setdefault(id(owner), (f"{part}.{prefix}", owner))
        self._owners: list[tuple[str, Arrays]] = list(owners.values())
        self._places = {prefix + name: (owner, name) for prefix, owner in self._owners for name in owner}

    def __getitem__(self, name: str) -> Array:
        owner, own = self._places[name]
        return owner[own]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy looks its arrays up again, in the copies of their owners'."""
        return Joined, (self._parts,)
