"""Steps one at a time.

Letters: B batch, I input, H hidden, L layers, T time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastrnn.checks import is_plain
from fastrnn.reference.cells import CELLS, Array
from fastrnn.reference.loop import forward


class Stream:
    """Steps one at a time through a stack of layers; the same class as the native ``_core.Stream``.

    Parameters
    ----------
    cell : str
        A key of `CELLS`.
    layers : sequence of (w_ih, w_hh, b_ih, b_hh)
        Each layer's parameters, which are not to change. A bias may be None.
    batch : int
        B.
    """

    def __init__(
        self, cell: str, layers: Sequence[tuple[Array, Array, Array | None, Array | None]], batch: int
    ) -> None:
        self._cell = cell
        self._layers = layers
        shape = (len(layers), batch, layers[0][1].shape[1])
        self._state = [np.zeros(shape, layers[0][1].dtype) for _ in CELLS[cell].states]

    def step(self, x: Any, out: Any) -> Array | None:
        """x (B, I) or tokens (B,) to h (B, H); None, and nothing done, if an argument is not just that."""
        _, B, H = self._state[0].shape
        w_ih = self._layers[0][0]
        floats = _is_plain(x, (B, w_ih.shape[1]), w_ih.dtype)
        tokens = _is_plain(x, (B,), np.dtype(np.int64)) and bool(np.all((x >= 0) & (x < w_ih.shape[1])))
        fits = out is None or (_is_plain(out, (B, H), w_ih.dtype) and out.flags.writeable)
        if not (floats or tokens) or not fits:
            return None
        y: Array = self.steps(x[None])[0]
        if out is None:
            return y
        out[...] = y
        return out  # type: ignore[no-any-return]

    def steps(self, x: Array) -> Array:
        """x (T, B, I) or tokens (T, B) to h (T, B, H)."""
        following = []
        for place, (w_ih, w_hh, b_ih, b_hh) in enumerate(self._layers):
            states = [member[place] for member in self._state]
            x, reached, _ = forward(self._cell, x, w_ih, w_hh, b_ih, b_hh, states, None, False, False)
            following.append(reached)
        self._state = [np.stack(members) for members in zip(*following, strict=True)]
        return x

    def state(self) -> tuple[Array, ...]:
        """Copies of the states, (L, B, H)."""
        return tuple(member.copy() for member in self._state)

    def set_state(self, members: Sequence[Array]) -> None:
        """Go on from these states."""
        self._state = [member.copy() for member in members]

    def copy(self) -> Stream:
        """Another one in the same state."""
        other = copy.copy(self)
        other.set_state(self._state)
        return other


def _is_plain(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return is_plain(array, dtype) and array.shape == shape
