"""The states that go along with the steps of stacked layers and directions.

Letters: B batch, H hidden, P projection, L layers, D directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn import checks, reference, states
from fastrnn.checks import Array
from fastrnn.layers.layer import floats


class States(NamedTuple):
    """Between a state as users see it, arrays (L*D, B, H), and one for each place, a layer and direction."""

    cell: str  # a key of `fastrnn.reference.CELLS`
    places: int  # L*D
    widths: Sequence[int]  # of each member of a state: H, but P where h is projected
    dtype: np.dtype[Any]

    def zeros(self) -> dict[str, Array]:
        """(L*D, H) or (L*D, P) for each member, by the names of learned ones."""
        names = (f"initial_{letter}" for letter in reference.CELLS[self.cell].states)
        shapes = ((self.places, width) for width in self.widths)
        return {name: np.zeros(shape, self.dtype) for name, shape in zip(names, shapes, strict=True)}

    def by_place(self, name: str, state: Any, batch: int) -> list[Any]:
        """What the functions take at each place: checked, and None for what is left out."""
        if state is None:
            return [None] * self.places
        whole = states.members(self.checked(name, state, batch))
        rows = [[None] * self.places if member is None else list(member) for member in whole]
        return [states.joined(each) for each in zip(*rows, strict=True)]

    def checked(self, name: str, state: Any, batch: int) -> Any:
        """A state whose members are plain arrays, or None where one is left out."""
        given = zip(states.named(self.cell, name, state).items(), self.widths, strict=True)
        return states.joined([self._checked(key, member, batch, width) for (key, member), width in given])

    def whole(self, by_place: list[Any]) -> Any:
        """What `by_place` took apart, put together again."""
        if not isinstance(by_place[0], tuple):
            return _stacked(by_place)
        return states.joined([_stacked(rows) for rows in zip(*by_place, strict=True)])

    def started(
        self, name: str, state: Any, start: dict[str, Array], batch: int
    ) -> tuple[Any, list[str | None]]:
        """A state with what it leaves out taken from `start`, (L*D, H) each; and of each member the name of
        what was taken, or None."""
        given = states.named(self.cell, name, state).values()
        taken = [key if member is None else None for key, member in zip(start, given, strict=True)]
        filled = [
            np.repeat(array[:, None], batch, axis=1) if member is None else member
            for array, member in zip(start.values(), given, strict=True)
        ]
        return states.joined(filled), taken

    def _checked(self, name: str, member: npt.ArrayLike | None, batch: int, width: int) -> Array | None:
        shape = (self.places, batch, width)
        if member is None:
            return None
        axes = f"(L*D, B, {'H' if width == self.widths[-1] else 'P'})"
        array = checks.array(name, member, f"a {self.dtype} array of shape {axes}")
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {axes} = {shape}, got {array.shape}")
        return floats(name, array, self.dtype, shape)


def _stacked(arrays: Sequence[Array]) -> Array:
    """The arrays as one, with an axis more; of a single one a view."""
    return arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)
