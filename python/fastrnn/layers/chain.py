"""How a `Sequential` runs: layers in a row, and what is pooled of their steps, window by window.

Letters: T time, B batch, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Sequences
from fastrnn.layers.feedforward import Dropout
from fastrnn.layers.layer import Layer, held_in
from fastrnn.layers.pooling import Last, Lengths, Pooling
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.steps import Masking
from fastrnn.layers.together import Course

WINDOW = 1000  # steps of a call where nothing flows back: its overhead vanishes, its memory stays small

Undo: TypeAlias = Callable[[Any, bool], Course[Any]]  # from dy, and whether dx is wanted, to dx


def run(
    layers: Sequence[Layer],
    x: Any,
    states: Sequence[Any] = (),
    lengths: Any = None,
    starts: Any = None,
    *,
    training: bool,
) -> Course[tuple[Any, list[Any], list[Undo]]]:
    """Through some layers.

    Returns
    -------
    y
        What the last gives.
    states_n : list
        Those of the recurrent layers.
    undo : list of callable
        In training the ways back.
    """
    before, after, undo = iter(states), [], []
    for layer in layers:
        call: Any = getattr(layer, "forward" if training else "__call__")
        if isinstance(layer, Recurrent):
            x, state_n, *back = yield from _course(layer, training)(x, next(before), lengths, starts)
            after.append(state_n)
            undo += [_of_recurrent(each) for each in back]
        else:
            if training and isinstance(layer, Dropout):
                yield None  # before it draws
            given = (x, lengths) if layer._takes_lengths else (x,)
            x, *back = call(*given) if training else (call(*given),)
            undo += [_of_layer(each) for each in back]
    return x, after, undo


def _course(layer: Recurrent[Any], training: bool) -> Callable[..., Course[Any]]:
    """How a recurrent layer runs; where a subclass runs in a way of its own, at once by that."""
    if training:
        usual = getattr(layer.forward, "__func__", None) is Recurrent.forward
        return layer._training if usual else partial(_own_training, layer)
    return layer._inference if type(layer).__call__ is Recurrent.__call__ else partial(_own_inference, layer)


def _own_inference(layer: Recurrent[Any], x: Any, state: Any, lengths: Any, starts: Any) -> Course[Any]:
    yield from ()
    return layer(x, state, lengths, **_named(starts))


def _own_training(layer: Recurrent[Any], x: Any, state: Any, lengths: Any, starts: Any) -> Course[Any]:
    yield from ()
    y, state_n, back = layer.forward(x, state, lengths, **_named(starts))

    def going_back(dy: Any, dstate_n: Any, wanted: bool) -> Course[Any]:
        yield from ()
        return back(dy, dstate_n, input_gradient=wanted)

    return y, state_n, going_back


def _named(starts: Any) -> dict[str, Any]:
    """Only where there are any: a subclass may know nothing of them."""
    return {} if starts is None else {"starts": starts}


def back_through(undo: Sequence[Undo], dy: Any, wanted: bool) -> Course[Any]:
    """dx, or None if it is not wanted."""
    for place, each in reversed([*enumerate(undo)]):
        dy = yield from each(dy, wanted or place > 0)
    return dy if wanted else None


def _of_recurrent(going_back: Callable[..., Course[Any]]) -> Undo:
    def undo(dy: Any, wanted: bool) -> Course[Any]:
        dx, *_ = yield from going_back(dy, None, wanted)
        return dx

    return undo


def _of_layer(back: Callable[[Any], Any]) -> Undo:
    def undo(dy: Any, wanted: bool) -> Course[Any]:
        yield from ()
        return back(dy)

    return undo


class Steps(NamedTuple):
    """Layers that give something for each step."""

    layers: list[Layer]
    batch_first: bool
    starts: Any = None  # what the recurrent ones get

    def infer(self, x: Array | Sequences, lengths: Any, states: list[Any]) -> Course[tuple[Array, list[Any]]]:
        """What the last gives, and the states."""
        given = padded(x, self.batch_first), states, lengths, self.starts
        y, states, _ = yield from run(self.layers, *given, training=False)
        return y, states

    def forward(
        self, x: Array | Sequences, lengths: Any, states: list[Any], limit: int | None
    ) -> Course[tuple[Array, list[Any], Undo]]:
        """The same in training, and the way back. There is no `limit`."""
        given = padded(x, self.batch_first), states, lengths, self.starts
        y, states, undo = yield from run(self.layers, *given, training=True)
        return y, states, partial(back_through, undo)


class Pooled(NamedTuple):
    """Layers and a pooling of their steps, in memory that does not grow with the steps.

    A sequence without a step counts as one of what the layers give where it is padded.
    """

    layers: list[Layer]
    pooling: Pooling
    batch_first: bool

    def infer(
        self, x: Array | Sequences, lengths: Lengths, states: list[Any]
    ) -> Course[tuple[Array, list[Any]]]:
        """What is pooled, and the states."""
        whole = any(layer._needs_whole for layer in self.layers)
        gathered, states, _ = yield from self._gather(x, lengths, None if whole else WINDOW, states, False)
        return self.pooling._pooled(gathered, np.maximum(lengths, 1)), states

    def forward(
        self, x: Array | Sequences, lengths: Lengths, states: list[Any], limit: int | None
    ) -> Course[tuple[Array, list[Any], Undo]]:
        """The same in training, and the way back through `limit` steps, or all: see `Sequential`."""
        cut = limit is not None and len(lengths) > 0 and self._steps(x) > limit
        if limit is not None and cut and isinstance(self.pooling, Last):
            whole = self._sequences(x, lengths)
            x, start = whole.tail(limit), whole.head(limit)
            if start.steps:  # else only padding is longer
                _, states, _ = yield from self._gather(start, start.lengths, WINDOW, states, True)
            lengths = x.lengths
        by_windows = cut and not isinstance(self.pooling, Last)
        held = held_in(self.layers) if by_windows else []
        generators = [each for each in held if isinstance(each, np.random.Generator)]
        before = [each.bit_generator.state for each in generators]
        gathered, states_n, undo = yield from self._gather(x, lengths, limit, states, True)

        def spread(dy: Array, start: int, steps: int) -> Array:
            return self._swap(self.pooling._spread(gathered, dy, np.maximum(lengths, 1), start, steps))

        def back(dy: Array, wanted: bool) -> Course[Any]:
            """Through the one window that there is."""
            return (yield from back_through(undo, spread(dy, 0, self._steps(x)), wanted and not cut))

        def back_by_windows(dy: Array, wanted: bool) -> Course[None]:
            """Each once more, forward as before and then back: all of them at once would be too large."""
            after = [each.bit_generator.state for each in generators]
            current, start = states, 0
            try:
                _set(generators, before)
                for array, valid in self._windows(x, lengths, limit):
                    y, current, undo = yield from run(self.layers, array, current, valid, training=True)
                    yield from back_through(undo, spread(dy, start, len(self._swap(y))), False)
                    start += len(self._swap(y))
            finally:
                _set(generators, after)

        y = self.pooling._pooled(gathered, np.maximum(lengths, 1))
        return y, states_n, back_by_windows if by_windows else back

    def _gather(
        self, x: Any, lengths: Lengths, steps: int | None, states: list[Any], training: bool
    ) -> Course[tuple[Any, list[Any], list[Undo]]]:
        """What is known of all steps, so many at a time; the states; and the ways back through the last of
        the windows."""
        gathered, start, undo = None, 0, list[Undo]()
        for array, valid in self._windows(x, lengths, steps):
            y, states, undo = yield from run(self.layers, array, states, valid, training=training)
            y = self._swap(y)
            if y.ndim != 3:
                checks.require_shape(f"what comes to {self.pooling!r}", y, ("T", "B", "F"))
            gathered = self.pooling._gather(gathered, y, np.maximum(valid, start == 0), start)
            start += len(y)
        return gathered, states, undo

    def _windows(self, x: Any, lengths: Lengths, steps: int | None) -> Iterator[tuple[Array, Lengths]]:
        """At most so many steps at a time, and how many of them are valid."""
        if not isinstance(x, Sequences) and (steps is None or self._steps(x) <= steps or not len(lengths)):
            yield x, lengths
            return
        for window in self._sequences(x, lengths).windows(steps):
            array, valid = window.padded()
            yield self._swap(array), valid

    def _steps(self, x: Any) -> int:
        return x.steps if isinstance(x, Sequences) else len(self._swap(x))

    def _sequences(self, x: Any, lengths: Lengths) -> Sequences:
        """The rows of an array, as views."""
        if isinstance(x, Sequences):
            return x
        rows = [self._swap(x)[:length, row] for row, length in enumerate(lengths)]
        return Sequences(rows, x.dtype if x.dtype.kind == "f" else "float32")

    def _swap(self, array: Array) -> Array:
        return swapped(array, self.batch_first)


class Masked(NamedTuple):
    """Layers, with a pooling or without, that get the steps which are not masked."""

    masking: Masking
    inner: Steps | Pooled

    def infer(self, x: Array | Sequences, lengths: Any, states: list[Any]) -> Course[tuple[Array, list[Any]]]:
        """What the inner ones give, and the states."""
        kept = self.masking._kept(padded(x, self.inner.batch_first), lengths)
        y, states = yield from self.inner.infer(kept.x, kept.lengths, states)
        return kept.restored(y)[0] if isinstance(self.inner, Steps) else y, states

    def forward(
        self, x: Array | Sequences, lengths: Any, states: list[Any], limit: int | None
    ) -> Course[tuple[Array, list[Any], Undo]]:
        """The same in training, and the way back."""
        kept = self.masking._kept(padded(x, self.inner.batch_first), lengths)
        y, states, undo = yield from self.inner.forward(kept.x, kept.lengths, states, limit)
        unrestored = None
        if isinstance(self.inner, Steps):
            y, unrestored = kept.restored(y)

        def back(dy: Array, wanted: bool) -> Course[Any]:
            dx = yield from undo(dy if unrestored is None else unrestored(dy), wanted)
            return None if dx is None else kept.back(dx)

        return y, states, back


def padded(x: Array | Sequences, batch_first: bool) -> Array:
    """The steps as one array."""
    return swapped(x.padded()[0], batch_first) if isinstance(x, Sequences) else x


def swapped(array: Array, batch_first: bool) -> Array:
    """From the order of the recurrent layers to time first, or back."""
    return array.swapaxes(0, 1) if batch_first else array


def _set(generators: Sequence[np.random.Generator], states: Sequence[Any]) -> None:
    for each, state in zip(generators, states, strict=True):
        each.bit_generator.state = state
