"""Steps one at a time.

Letters: B batch, I input, O output, H hidden, L layers, T time, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn.checks import Array, is_plain
from fastrnn.reference.activations import FUNCTIONS, activation
from fastrnn.reference.cells import CELLS
from fastrnn.reference.formats import product
from fastrnn.reference.loop import forward
from fastrnn.reference.records import Call, Options, Parameters


class Stage(NamedTuple):
    """One of what follow each other in a stream."""

    kind: str
    layers: Sequence[Parameters]
    options: Options = Options()
    start: Sequence[Array] = ()
    numbers: tuple[float, ...] = ()


class Stream:
    """Steps one at a time through layers on top of each other; the same class as the native ``_core.Stream``.

    Parameters
    ----------
    stages : sequence of (str, list of Parameters, Options, sequence of ndarray, tuple of float)
        Of a recurrent layer a key of `CELLS`, the parameters of all its layers, what the cell is told, and
        the first states, (L, B, H), if they are not zero. Of a product ``"linear"`` and as `w_ih` and `b_ih`
        its weight and bias, without `w_hh`. Of a table of tokens, which can only be the first,
        ``"embedding"`` and as `w_ih` the table. Of an activation a key of `FUNCTIONS`, no parameters, and its
        numbers; at least one stage has parameters. What a kind does not need may be left out at the end. No
        array is to change.
    batch : int
        B.
    """

    def __init__(self, stages: Sequence[tuple[Any, ...]], batch: int) -> None:
        self._stages = [Stage(*stage) for stage in stages]
        sized = [stage for stage in self._stages if stage.layers]
        self._batch, self._dtype = batch, sized[0].layers[0].w_ih.dtype
        self._input_size, self._output_size = sizes(*sized[0][:2])[0], sizes(*sized[-1][:2])[1]
        self._state: list[list[Array]] = []
        for kind, layers, _, start, _ in self._stages:
            if kind in CELLS:
                shapes = [(len(layers), batch, width) for width in CELLS[kind].widths(layers[0])]
                self._state.append(list(start) or [np.zeros(shape, self._dtype) for shape in shapes])
        self._start = self._state

    def step(self, x: Any, out: Any) -> Array | None:
        """x (B, I) or tokens (B,) to y (B, O); None, and nothing done, if an argument is not just that."""
        shape = (self._batch, self._output_size)
        fits = out is None or (_is_plain(out, shape, self._dtype) and out.flags.writeable)
        if not fits or not self._takes(x):
            return None
        y: Array = self._advance(x[None])[0]
        if out is None:
            return y
        out[...] = y
        return out  # type: ignore[no-any-return]

    def steps(self, x: Any) -> Array | None:
        """x (T, B, I) or tokens (T, B) to y (T, B, O); None, and nothing done, if x is not just that."""
        return self._advance(x) if self._takes(x, *np.shape(x)[:1]) else None

    def _takes(self, x: Any, *steps: int) -> bool:
        first, B, I = self._stages[0][0], self._batch, self._input_size
        if first != "embedding" and _is_plain(x, (*steps, B, I), self._dtype):
            return True
        tokens = first in ("embedding", *CELLS) and _is_plain(x, (*steps, B), np.dtype(np.int64))
        return tokens and bool(np.all((x >= 0) & (x < I)))

    def _advance(self, x: Array) -> Array:
        states, left = [], iter(self._state)
        for stage in self._stages:
            kind, layers, *_, numbers = stage
            if kind in FUNCTIONS:
                x = activation(kind, x, numbers)
                continue
            weight, _, bias, *_, format = layers[0]
            if kind == "embedding":
                x = weight[x]
            elif kind == "linear":
                y = product(x.reshape(-1, x.shape[-1]), weight, bias, format)
                x = y.reshape(*x.shape[:-1], len(weight))
            else:
                x, state = _recur(stage, x, next(left))
                states.append(state)
        self._state = states
        return x

    def state(self) -> tuple[tuple[Array, ...], ...]:
        """Copies of each recurrent layer's states, (L, B, H)."""
        return tuple(tuple(member.copy() for member in state) for state in self._state)

    def set_state(self, states: Sequence[Sequence[Array]]) -> None:
        """Go on from these."""
        self._state = [[member.copy() for member in state] for state in states]

    def reset(self, rows: Array | None) -> None:
        """Go back to the first state; or only some rows, (B,) booleans."""
        some = np.ones(self._batch, bool) if rows is None else rows
        self._state = [
            [np.where(some[:, None], member, before) for member, before in zip(start, own, strict=True)]
            for start, own in zip(self._start, self._state, strict=True)
        ]

    @property
    def address(self) -> int:
        """There is none."""
        raise RuntimeError(
            "a stream of the reference backend has no address: what C calls are the native kernels"
        )

    def copy(self) -> Stream:
        """Another one in the same state."""
        other = copy.copy(self)
        other.set_state(self._state)
        return other


def sizes(kind: str, layers: Sequence[Parameters]) -> tuple[int, int]:
    """How many features, or tokens, a stage with parameters takes, and how many features it gives."""
    rows, columns = layers[0].w_ih.shape
    if kind == "embedding":
        return rows, columns
    return columns, CELLS[kind].widths(layers[0])[0] if kind in CELLS else rows


def _recur(stage: Stage, x: Array, state: Sequence[Array]) -> tuple[Array, list[Array]]:
    """A recurrent layer's layers, one after the other, from a state: the last one's h, and the next state."""
    following = []
    for place, parameters in enumerate(stage.layers):
        states = [member[place] for member in state]
        x, reached, _ = forward(Call(stage.kind, x, parameters, states, options=stage.options))
        following.append(reached)
    return x, [np.stack(members) for members in zip(*following, strict=True)]


def _is_plain(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return is_plain(array, dtype) and array.shape == shape
