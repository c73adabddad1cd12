"""Layers one after the other, from what comes in to what is wanted of it.

Letters: T time, B batch, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Sequences
from fastrnn.layers.attention import Attention
from fastrnn.layers.chain import Masked, Pooled, Steps, back_through, run, swapped
from fastrnn.layers.compression import require_trainable
from fastrnn.layers.feedforward import Embedding
from fastrnn.layers.layer import Composite, Layer, floats, held_in
from fastrnn.layers.pooling import Last, Pooling
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.steps import Masking, Reverse
from fastrnn.layers.stream import Stream
from fastrnn.layers.together import Course, alone, taken


class Sequential(Composite):
    """Layers one after the other, each taking what the one before gives: a whole network in a line.

    Sequences go in time first, (T, B, F) floats or (T, B) tokens; or (B, T, ...) if its recurrent layers have
    `batch_first`. `Last`, `Mean` or `Max` makes one vector of each sequence; without it something comes out
    for each step.

    Parameters
    ----------
    *layers : Layer
        `Masking`, `Embedding`, recurrent layers, `Reverse`, `Merge`, `Last`, `Mean` or `Max`, `Linear`,
        `Dropout`, activations, other `Sequential`, whose layers then stand in this row, and layers of one's
        own without memory, whose ``forward(x)`` returns y and back. Parameters are named by their places, as
        in PyTorch: ``0.weight``.
    bptt_steps : int, optional
        Where there is a pooling: training goes back through at most so many steps, in memory for as many.
        With `Last` these are the last ones; with `Mean` and `Max` each window of so many steps gets its part
        of the gradient, and passes none to the window before it. None is all steps, as it must be where a
        layer is bidirectional, or there is a `Reverse`.
    **named : Layer
        More layers, after those, by names of their own: ``head.weight``.

    Attributes
    ----------
    parts : dict of str to Layer
        The layers.
    batch_first : bool
        That of its recurrent layers.

    Raises
    ------
    TypeError, ValueError
        If one is no layer, or they do not fit: it names both, and says what one gives and the other expects.

    Examples
    --------
    Is a walk going up or down? Its steps are tokens, 0 to 9, and walks differ in length:

    >>> from fastrnn.layers import LSTM, Embedding, Last, Linear, Sequential
    >>> from fastrnn.training import fit
    >>> rng = np.random.default_rng(0)
    >>> up = rng.integers(0, 2, 64)
    >>> walks = [rng.integers(0, 8, rng.integers(5, 21)) + 2 * way for way in up]
    >>> network = Sequential(Embedding(10, 8, seed=0), LSTM(8, 16, seed=0), Last(), Linear(16, 2, seed=0))
    >>> network
    Sequential(
      (0): Embedding(10, 8)
      (1): LSTM(8, 16)
      (2): Last()
      (3): Linear(16, 2)
    )
    >>> training = fit(network, (walks, up), loss="softmax_cross_entropy", epochs=80, seed=0)
    >>> network(np.array([[9], [8], [9], [2], [7]])).argmax(axis=1).tolist()  # (T, B)
    [1]

    The same by hand, of a batch with padding: ``logits, back = network.forward(x, lengths)``, then
    ``back(dlogits)`` and ``optimizer.step(network.take_gradients())``.
    """

    def __init__(self, *layers: Layer, bptt_steps: int | None = None, **named: Layer) -> None:
        super().__init__(**{str(place): layer for place, layer in enumerate(layers)}, **named)
        _require_fit(dict(_row(self.parts)))
        row = [layer for _, layer in _row(self.parts)]
        self.batch_first = any(layer.batch_first for layer in row if isinstance(layer, Recurrent))
        takes = reduce(lambda features, layer: layer._takes(features), reversed(row), None)
        gives = reduce(lambda features, layer: layer._gives(features), row, None)
        self._features = takes, gives
        self.bptt_steps = None if bptt_steps is None else checks.positive_int("bptt_steps", bptt_steps)
        if self.bptt_steps is None:
            return
        if not any(isinstance(layer, Pooling) for layer in row):
            raise ValueError(
                "bptt_steps goes with Last, Mean or Max: without one, data come in windows and the state is "
                f"carried on; got bptt_steps={bptt_steps}"
            )
        if any(layer._needs_whole for layer in row):
            raise ValueError(
                "bptt_steps goes with layers that run forwards only: others start at the end, which windows "
                f"reach last; got bptt_steps={bptt_steps}"
            )

    def __call__(
        self,
        x: npt.ArrayLike | Sequences,
        lengths: npt.ArrayLike | None = None,
        *,
        state: Any = None,
        starts: npt.ArrayLike | None = None,
        return_state: bool = False,
    ) -> Any:
        """Inference: no dropout, nothing kept, safe from many threads.

        With a pooling, and in one direction, its memory does not grow with the steps.

        Parameters
        ----------
        x : array_like, (T, B, F) floats or (T, B) integers, or Sequences
            What the first layer takes; or `fastrnn.data.Sequences`, which have lengths of their own. Without
            recurrent layers and pooling any array that the first layer takes.
        lengths : array_like of integers, (B,), optional
            How many steps of each sequence are valid; all T if left out. At least 1 with a pooling.
        state : tuple, optional
            The initial state of each recurrent layer, in their order; None for one is none given.
        starts : array_like of booleans, (T, B), or (B, T) with `batch_first`, optional
            Before which steps a sequence starts anew in all recurrent layers, from zeros or from what they
            have learned: see a layer's call. It goes without `Masking`, `Reverse` and pooling.
        return_state : bool
            Whether to return the states too.

        Returns
        -------
        y : ndarray
            What the last layer gives: (B, F) after a pooling, else (T, B, F), where what stands after a
            sequence's end means nothing.
        state_n : tuple
            With `return_state` only: the state of each recurrent layer after the last valid step.

        Raises
        ------
        TypeError, ValueError
            As of the layers; if `state` is not one for each recurrent layer; or if there are lengths, starts
            or a state, and nothing that takes them.
        """
        return_state = checks.boolean("return_state", return_state)
        y, states = alone(self._inference(x, state, lengths, starts))
        return (y, states) if return_state else y

    def forward(
        self,
        x: npt.ArrayLike | Sequences,
        lengths: npt.ArrayLike | None = None,
        *,
        state: Any = None,
        starts: npt.ArrayLike | None = None,
        return_state: bool = False,
    ) -> Any:
        """Training: the same as a call, but with dropout, and with the way back.

        Parameters
        ----------
        x, lengths, state, starts, return_state
            As of a call. Do not write to them, nor to the parameters, before `back` has run.

        Returns
        -------
        y, state_n
            As of a call; the latter with `return_state` only.
        back : callable
            ``dx = back(dy, *, input_gradient=True)`` goes back through all layers, adds to their gradients,
            and returns the gradient with respect to `x`. That is None for tokens, with `input_gradient`
            False, which saves time, and where `bptt_steps` has cut x. It serves one call.

        Raises
        ------
        TypeError, ValueError
            As of a call. By `back`, if `dy` is of another dtype or shape; nothing has changed then.
        RuntimeError
            By `back`, if it was called before.
        """
        return_state = checks.boolean("return_state", return_state)
        y, states, going_back = alone(self._training(x, state, lengths, starts))

        def back(dy: npt.ArrayLike, *, input_gradient: bool = True) -> Any:
            """Once: dx of dy; adds to the layers' gradients."""
            return self._all_or_none(lambda: alone(going_back(dy, None, input_gradient))[0])

        return (y, states, back) if return_state else (y, back)

    def _inference(
        self, x: Any, state: Any, lengths: Any, starts: Any
    ) -> Course[tuple[Array, tuple[Any, ...]]]:
        """A call, and the states, as a course."""
        body, head = self._split()
        given, valid, states = self._given(body, x, lengths, state)
        body = self._starting(body, given, starts)
        y, states = yield from body.infer(given, valid, states)
        y, _, _ = yield from run(head, y, training=False)
        return y, tuple(states)

    def _training(
        self, x: Any, state: Any, lengths: Any, starts: Any
    ) -> Course[tuple[Array, tuple[Any, ...], Callable[..., Course[tuple[Any, ...]]]]]:
        """`forward`, the states, and the way back, which is a course too, as recurrent layers have it."""
        require_trainable(self)
        body, head = self._split()
        given, valid, states = self._given(body, x, lengths, state)
        body = self._starting(body, given, starts)
        yield None
        y, states, back_to_steps = yield from body.forward(given, valid, states, self.bptt_steps)
        y, _, undo = yield from run(head, y, training=True)
        undo.insert(0, back_to_steps)
        shape, dtype, waiting = y.shape, y.dtype, [undo]

        def going_back(dy: Any, dstate_n: None, input_gradient: bool) -> Course[tuple[Any, ...]]:
            dy = floats("dy", dy, dtype, shape)
            input_gradient = checks.boolean("input_gradient", input_gradient)
            own = yield from taken(waiting)
            return ((yield from back_through(own, dy, input_gradient)),)

        return y, tuple(states), going_back

    def stream(self, batch: int = 1) -> Stream[tuple[Any, ...]]:
        """The network's steps one at a time, with the weights that it has now, from its layers' first states.

        Its `state` is a tuple, as a call takes it. `Dropout` does nothing, and with `Last` each step is the
        last one so far. `Embedding`, recurrent layers and `Linear` are one call of the kernels; activations
        and layers of one's own are called at each step, with (1, B, F), and must take it by itself.

        Parameters
        ----------
        batch : int
            B, how many sequences go side by side.

        Returns
        -------
        Stream
            ``step(x)`` takes (B, F) floats or (B,) tokens to what the last layer gives.

        Raises
        ------
        TypeError, ValueError
            If `batch` is not a positive integer, if there is no recurrent layer, or if one is bidirectional
            or a pooling is `Mean` or `Max`, which need steps that a stream has not seen.

        Examples
        --------
        >>> from fastrnn.layers import LSTM, Embedding, Linear, Sequential
        >>> network = Sequential(Embedding(10, 8, seed=0), LSTM(8, 16, seed=0), Linear(16, 10, seed=0))
        >>> tokens = np.array([[3], [1], [4]])  # (T, B)
        >>> stream = network.stream()
        >>> y = [stream.step(token) for token in tokens]
        >>> y[0].shape, bool((np.array(y) == network(tokens)).all())
        ((1, 10), True)
        """
        return Stream(self._stages(checks.positive_int("batch", batch)), batch)

    def _stages(self, batch: int) -> list[Any]:
        return [stage for layer in self.parts.values() for stage in layer._stages(batch)]

    def _row(self) -> list[Layer]:
        """The layers that x goes through, those of a `Sequential` among them one by one."""
        row = [layer for _, layer in _row(self.parts)]
        return [layer._with_batch_first() for layer in row] if self.batch_first else row

    def _split(self) -> tuple[Steps | Pooled | Masked, list[Layer]]:
        """Those up to the last that takes lengths; and the others."""
        row = self._row()
        masking = row[0] if row and isinstance(row[0], Masking) else None
        row = row if masking is None else row[1:]
        count = len(row)
        while count and not row[count - 1]._takes_lengths:
            count -= 1
        inner: Steps | Pooled = Steps(row[:count], self.batch_first)
        pooling = row[count - 1] if count else None
        if isinstance(pooling, Pooling):
            before = row[: count - 1]
            if isinstance(pooling, Last) and pooling.bidirectional is None:
                pooling = _last(_halves(before))
            inner = Pooled(before, pooling, self.batch_first)
        return inner if masking is None else Masked(masking, inner), row[count:]

    def _given(
        self, body: Steps | Pooled | Masked, x: Any, lengths: Any, state: Any
    ) -> tuple[Any, Any, list[Any]]:
        """x; the lengths, which a pooling always has; and a state for each recurrent layer; checked before
        any layer runs, as one that drops draws random numbers."""
        inner = body.inner if isinstance(body, Masked) else body
        layers, pooled = inner.layers, isinstance(inner, Pooled)
        recurrent = [layer for layer in layers if isinstance(layer, Recurrent)]
        count = len(recurrent)
        if state is not None and (not isinstance(state, (tuple, list)) or len(state) != count):
            expected = f"a tuple of the states of the recurrent layers, of which there are {count}"
            raise TypeError(f"state must be {expected}, got {checks.came(state)}")
        states = [None] * count if state is None else list(state)
        if not (layers or pooled):
            if lengths is not None:
                raise ValueError("lengths must be None: there is no recurrent layer or pooling to take them")
            return x, None, states
        if isinstance(x, Sequences):
            if lengths is not None:
                raise ValueError("lengths must be None: Sequences have their own")
            return x, x.lengths, _checked_states(recurrent, states, len(x))
        axes = ("B", "T") if self.batch_first else ("T", "B")
        x = checks.array("x", x, f"an array of shape ({', '.join(axes)}, ...)")
        takes = layers[0]._features[0] if layers else None
        if x.dtype.kind in "iu" and x.ndim != 3:
            checks.require_shape("x", x, axes)
        elif layers and isinstance(layers[0], Embedding):
            raise TypeError(f"x must be integer tokens of shape ({', '.join(axes)}), got {checks.came(x)}")
        else:
            x = checks.float_array("x", x, x.shape if takes is None else (*axes, takes))
        if x.ndim < 2:
            raise ValueError(f"x must have shape ({', '.join(axes)}, ...), got {x.shape}")
        T, B = x.shape[1::-1] if self.batch_first else x.shape[:2]
        if pooled:
            if T == 0:
                raise ValueError(f"x must have at least one step, got shape {x.shape}")
            lengths = np.full(B, T) if lengths is None else lengths
            lengths = checks.int_array("lengths", lengths, (B,), 1, T, "1..T")
        elif lengths is not None:
            lengths = checks.int_array("lengths", lengths, (B,), 0, T, "0..T")
        return x, lengths, _checked_states(recurrent, states, B)

    def _starting(self, body: Steps | Pooled | Masked, x: Any, starts: Any) -> Steps | Pooled | Masked:
        """The body whose recurrent layers start anew."""
        if starts is None:
            return body
        inner = body.layers if isinstance(body, Steps) else []
        kinds = {isinstance(layer, Recurrent) for layer in inner if layer._takes_lengths}
        if not isinstance(body, Steps) or kinds != {True}:
            raise ValueError(
                "starts goes with recurrent layers without Masking, Reverse or a pooling beside them, "
                f"got {self!r}"
            )
        steps = (x.steps, len(x)) if isinstance(x, Sequences) else swapped(x, self.batch_first).shape[:2]
        shape = steps[::-1] if self.batch_first else steps
        return body._replace(starts=checks.bool_array("starts", starts, shape))


def _checked_states(layers: Sequence[Recurrent[Any]], states: Sequence[Any], batch: int) -> list[Any]:
    """Those of recurrent layers, or None."""
    named = enumerate(zip(layers, states, strict=True))
    return [
        None if state is None else layer._states.checked(f"state[{place}]", state, batch)
        for place, (layer, state) in named
    ]


def _row(parts: Mapping[str, Layer]) -> Iterator[tuple[str, Layer]]:
    """The layers by name, one by one those of a `Sequential` among them."""
    for name, layer in parts.items():
        if type(layer) is not Sequential:
            yield name, layer
        elif layer.bptt_steps is None:
            yield from ((f"{name}.{inner}", each) for inner, each in _row(layer.parts))
        else:
            raise ValueError(f"layer {name} has bptt_steps: they are the whole row's to have")


@cache
def _last(bidirectional: bool) -> Last:
    return Last(bidirectional=bidirectional)


def _halves(layers: Sequence[Layer]) -> bool:
    """Whether the second half of the features that they give is of a second direction."""
    mixing = (layer for layer in reversed(layers) if layer._mixes)
    last = next(mixing, None)
    return isinstance(last, Recurrent) and last.bidirectional


def _require_fit(parts: Mapping[str, Layer]) -> None:
    """Refuse layers that do not fit together."""
    features: tuple[str, int] | None = None  # what is known to come in, and from which layer
    dtype: tuple[str, Any] | None = None
    pooled, masked, batch_first = "", False, {}
    for place, (name, layer) in enumerate(parts.items()):
        here = f"layer {name}, {layer!r},"
        if isinstance(layer, Attention):
            raise TypeError(f"{here} takes two sequences, and cannot stand in a row of layers")
        inner = (each for each in held_in(layer) if isinstance(each, Layer))
        if not layer._takes_lengths and any(each._takes_lengths for each in inner):
            raise TypeError(
                f"{here} has layers that take lengths or a state, which only a network of one's own "
                "passes on to such: put them into the row, or write a Composite that is the network"
            )
        if isinstance(layer, Masking) and place:
            raise ValueError(f"{here} looks at what the network gets: it must be the first layer")
        if isinstance(layer, Embedding) and place > masked:
            raise ValueError(f"{here} expects tokens: it must be the first layer")
        masked |= isinstance(layer, Masking)
        if layer._takes_lengths and pooled:
            raise ValueError(f"{here} expects sequences, but layer {pooled} has left one vector of each")
        takes = layer._features[0]
        if features is not None and takes is not None and takes != features[1]:
            raise ValueError(f"layer {features[0]} gives {features[1]} features, {here} expects {takes}")
        gives = layer._gives(None if features is None else features[1])
        if layer._mixes and gives is not None:
            features = name, gives
        own = getattr(layer, "dtype", None)
        if own is not None and dtype is not None and own != dtype[1]:
            raise ValueError(f"layer {dtype[0]} has dtype {dtype[1]}, {here} has {own}")
        dtype = dtype if own is None else (name, own)
        pooled = name if isinstance(layer, Pooling) else pooled
        if isinstance(layer, Recurrent):
            batch_first[layer.batch_first] = name
    if masked and not any(layer._takes_lengths for layer in [*parts.values()][1:]):
        raise ValueError("Masking is for recurrent layers or a pooling, which skip steps: there are none")
    if masked and not pooled and sum(isinstance(layer, Reverse) for layer in parts.values()) % 2:
        raise ValueError(
            "Masking puts steps back where they were: it goes with Reverse before and after, or a pooling"
        )
    if len(batch_first) > 1:
        raise ValueError(
            "batch_first must be the same for all recurrent layers: it is True for layer "
            f"{batch_first[True]} and False for layer {batch_first[False]}"
        )
