"""From the steps of each sequence to one vector, and back, in memory that does not grow with the steps.

"last" is the state after the last step; with two directions that of the forward one after the last step
beside that of the backward one after the first. "mean" and "max" are taken over the steps of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.checks import Array
from fastrnn.data import Sequences
from fastrnn.layers import Recurrent

Lengths = npt.NDArray[np.int64]

WINDOW = 1000  # steps of a call where nothing flows back: its overhead vanishes, its memory stays small


class Pooling:
    """Recurrent layers and what is pooled from their outputs.

    Parameters
    ----------
    layer : Recurrent
        The ways back add to its `gradients`; the pooling has no parameters of its own.
    kind : {"last", "mean", "max"}
    steps : int or None
        With "last", gradients flow back through the last so many steps only. With "mean" and "max" each
        window of so many steps gets the gradient of what is pooled, and passes none to the window before.
        None is all steps.
    rng : numpy.random.Generator
        The source of the layer's dropout: steps that run twice are dropped alike.
    """

    def __init__(self, layer: Recurrent[Any], kind: str, steps: int | None, rng: np.random.Generator) -> None:
        self.layer, self.kind, self.steps, self.rng = layer, kind, steps, rng
        self._directions = 2 if layer.bidirectional else 1

    def __call__(self, x: Sequences) -> Array:
        """What is pooled, (B, D*H), in inference."""
        state, over_steps = self._run(self.layer, x, None if self.layer.bidirectional else WINDOW)
        pooled: Array = self._last(state) if over_steps is None else over_steps.pooled(x.lengths)
        return pooled

    def forward(self, x: Sequences) -> tuple[Array, Callable[[Array], None]]:
        """What is pooled, (B, D*H), in training, and the way back from its gradient."""
        if self.kind == "last":
            return self._forward_last(x)
        before = self.rng.bit_generator.state
        last: Any = None

        def run(*arguments: Any) -> tuple[Array, Any]:
            nonlocal last  # the ways back of all windows would hold too much
            y, state, last = self.layer.forward(*arguments)
            return y, state

        _, over_steps = self._run(run, x, self.steps)

        def back(dpooled: Array) -> None:
            if self.steps is None or x.steps <= self.steps:  # the last window is all of them
                last(over_steps.gradient(dpooled, x.lengths, 0, x.steps), input_gradient=False)
            else:
                self._back_by_windows(x, over_steps, dpooled, before)

        return over_steps.pooled(x.lengths), back

    def _run(self, run: Callable[..., tuple[Array, Any]], x: Sequences, steps: int | None) -> tuple[Any, Any]:
        """The state after all steps, and what is gathered of the outputs."""
        state: Any = None
        start = 0
        over_steps: Any = {"last": lambda: None, "mean": _Mean, "max": _Max}[self.kind]()
        for window in x.windows(steps):
            array, lengths = window.padded()
            y, state = run(array, state, lengths)
            if over_steps is not None:
                over_steps.add(y, lengths, start)
            start += len(y)
        return state, over_steps

    def _forward_last(self, x: Sequences) -> tuple[Array, Callable[[Array], None]]:
        start: Any = None
        if self.steps is not None and x.steps > self.steps:
            start, _ = self._run(lambda *window: self.layer.forward(*window)[:2], x.head(self.steps), WINDOW)
            x = x.tail(self.steps)
        array, lengths = x.padded()
        _, state, through = self.layer.forward(array, start, lengths)

        def back(dpooled: Array) -> None:
            through(None, self._state_gradient(state, dpooled), input_gradient=False)

        return self._last(state), back

    def _back_by_windows(self, x: Sequences, over_steps: Any, dpooled: Array, before: Any) -> None:
        """All windows once more, forward as before and then back."""
        after = self.rng.bit_generator.state
        self.rng.bit_generator.state = before
        state: Any = None
        start = 0
        for window in x.windows(self.steps):
            array, lengths = window.padded()
            y, state, back = self.layer.forward(array, state, lengths)
            back(over_steps.gradient(dpooled, x.lengths, start, len(y)), input_gradient=False)
            start += len(y)
        self.rng.bit_generator.state = after

    def _last(self, state: Any) -> Array:
        """The last layer's h, directions side by side."""
        h = state[0] if isinstance(state, tuple) else state
        return np.concatenate(list(h[-self._directions :]), axis=-1)

    def _state_gradient(self, state: Any, dpooled: Array) -> Any:
        dh = np.zeros_like(state[0] if isinstance(state, tuple) else state)
        dh[-self._directions :] = np.split(dpooled, self._directions, axis=-1)
        return (dh, None) if isinstance(state, tuple) else dh


class _Mean:
    """The mean over a sequence's steps, window by window; outputs are 0 after its end."""

    def __init__(self) -> None:
        self._sum: Any = 0.0
        self._dtype: Any = None

    def add(self, y: Array, lengths: Lengths, start: int) -> None:
        self._sum = self._sum + y.sum(axis=0, dtype=np.float64)
        self._dtype = y.dtype

    def pooled(self, lengths: Lengths) -> Array:
        mean: Array = (self._sum / lengths[:, None]).astype(self._dtype)
        return mean

    def gradient(self, dpooled: Array, lengths: Lengths, start: int, steps: int) -> Array:
        share = (dpooled / lengths[:, None]).astype(dpooled.dtype)
        return np.broadcast_to(share, (steps, *share.shape))


class _Max:
    """The greatest output over a sequence's steps, window by window; gradients go to the first of equals."""

    def __init__(self) -> None:
        self._greatest: Any = None
        self._where: Any = None

    def add(self, y: Array, lengths: Lengths, start: int) -> None:
        if self._greatest is None:
            self._greatest = np.full(y.shape[1:], -np.inf, y.dtype)
            self._where = np.zeros(y.shape[1:], np.int64)
        valid = np.arange(len(y))[:, None] < lengths
        masked = np.where(valid[:, :, None], y, -np.inf).astype(y.dtype, copy=False)
        step = masked.argmax(axis=0)
        found = np.take_along_axis(masked, step[None], axis=0)[0]
        greater = found > self._greatest
        self._greatest[greater] = found[greater]
        self._where[greater] = start + step[greater]

    def pooled(self, lengths: Lengths) -> Array:
        pooled: Array = self._greatest
        return pooled

    def gradient(self, dpooled: Array, lengths: Lengths, start: int, steps: int) -> Array:
        dy = np.zeros((steps, *dpooled.shape), dpooled.dtype)
        row, unit = np.nonzero((start <= self._where) & (self._where < start + steps))
        dy[self._where[row, unit] - start, row, unit] = dpooled[row, unit]
        return dy
