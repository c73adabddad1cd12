"""What recurrent layers share: stacking, directions, dropout and learned states, around the functions of one
layer in one direction.

Letters: T time, B batch, I input, H hidden, P projection, G gates, L layers, D directions, V vocabulary.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from fastrnn import checks, reference
from fastrnn.backend import Backend
from fastrnn.checks import Array
from fastrnn.docstrings import complete
from fastrnn.functional.door import unchanged
from fastrnn.functional.variants import checked, choose, refuse_unknown
from fastrnn.layers.compression import Compressible
from fastrnn.layers.feedforward import Dropout
from fastrnn.layers.layer import Back, Seed, floats, generator, uniform
from fastrnn.layers.record import Pass
from fastrnn.layers.states import States
from fastrnn.layers.stream import Stage, Stream
from fastrnn.layers.together import Course, Request, alone, taken
from fastrnn.reference import Parameters
from fastrnn.states import members

StateT = TypeVar("StateT")

#: The fields of `Parameters`, by the names that PyTorch has for them.
FIELDS = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh", "weight_hr": "w_hr"}


class _Given(NamedTuple):
    """The arguments of a call."""

    x: Any
    state: Any
    lengths: Any
    starts: Any
    start_state: Any


class _Kept(NamedTuple):
    """What the way back needs of a forward pass."""

    calls: list[Any]  # of all layers together, or where something is between them, of each: see `_forward`
    passes: list[Pass]  # by layer and direction, if the layer was recording
    undrop: list[Back]  # of the dropout after each layer but the last
    started: Sequence[str | None]  # of each member of the state the parameter that it started from
    started_anew: Sequence[str | None]  # likewise, where sequences started in the middle


class Recurrent(Compressible, Generic[StateT]):
    """One or more recurrent layers on top of each other, in one or both directions: `RNN`, `LSTM` or `GRU`.

    The parameters go by PyTorch's names: ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``
    and ``bias_hh_l0`` (G*H,), the same with ``_reverse`` for the second direction, and so on with ``_l1``,
    where the input has D*H features. What a form of a cell has besides follows the biases. At the end, with
    `learned_state`, ``initial_h`` and for an `LSTM` ``initial_c`` (L*D, H), which PyTorch has not.

    Parameters
    ----------
    input_size : int
        I, the features of a step; or the size of the vocabulary, if the input is tokens.
    hidden_size : int
        H, the units of a layer and direction.
    num_layers : int
        L. Every layer but the first has the output of the one below as its input.
    bias : bool
        Whether there are bias vectors.
    batch_first : bool
        Whether `x`, `y` and their gradients are (B, T, ...) instead of (T, B, ...). States never are.
    dropout : float
        The probability with which `forward` zeroes each output of every layer but the last (see `Dropout`).
    recurrent_dropout : float
        The probability with which `forward` zeroes each unit of h_{t-1} on its way into the product with
        ``weight_hh``: each sequence, layer and direction has one mask for all its steps, and what stays is
        divided by 1 - p (Gal & Ghahramani 2016). What goes from step to step in another way, c of an `LSTM`
        and z h_{t-1} of a `GRU`, is not dropped.
    bidirectional : bool
        Whether a second direction (D = 2) runs through each sequence backwards.
    learned_state : bool
        Whether the state that sequences start from, where none is given, is a parameter: zeros at first.
    recompute : bool
        Whether `forward` keeps little but its outputs and `back` computes the gates again, for long
        sequences: a sixth of the memory in an `LSTM`, a fifth in a `GRU`, half in an `RNN`, for about a third
        more time. The results have the same bits.
    dtype : {"float32", "float64"}
        Of parameters, inputs and outputs.
    seed : int or numpy.random.Generator, optional
        Of the initial values, uniform between -1/sqrt(H) and 1/sqrt(H) as in PyTorch, and of dropout. The
        same int gives a layer of the same class and sizes the same bits; layers given the same Generator draw
        from it in turn.

    Attributes
    ----------
    output_size : int
        The features of y: D*H, or D*P where h is projected.
    recording : bool
        Whether the way back leaves a `record`; False at first.
    record : list of Pass
        What passed through each layer and direction, in the order of the parameters, in the last `back` and
        its `forward`: among it the gradient of the loss with respect to every h. See `fastrnn.diagnostics`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range, or the layer has none of this name.

    Warns
    -----
    UserWarning
        If there is dropout but a single layer, which has nothing between layers.
    """

    _kind: ClassVar[str]  # a key of `fastrnn.functional.variants.OPTIONS`
    _options: ClassVar[Mapping[str, Any]] = {}  # those of a kind's own, with their defaults

    _cell: str  # a key of `fastrnn.reference.CELLS`, which has what there is to know of it
    _told: reference.Options

    _takes_lengths = True

    proj_size = 0
    recording = False
    record: Sequence[Pass] = ()

    def __init_subclass__(cls) -> None:
        shared = inspect.signature(Recurrent.__init__).parameters.values()
        *first, last = [each for each in shared if each.name not in ("self", "options")]
        own = [inspect.Parameter(name, first[-1].kind, default=value) for name, value in cls._options.items()]
        cls.__signature__ = inspect.Signature([*first, last, *own])  # type: ignore[attr-defined]
        complete(cls, Recurrent)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        learned_state: bool = False,
        recompute: bool = False,
        dtype: npt.DTypeLike = "float32",
        seed: Seed = None,
        **options: Any,
    ) -> None:
        refuse_unknown(type(self).__name__, options, self._options)
        self.input_size = checks.positive_int("input_size", input_size)
        self.hidden_size = checks.positive_int("hidden_size", hidden_size)
        self.num_layers = checks.positive_int("num_layers", num_layers)
        self.bias = checks.boolean("bias", bias)
        self.batch_first = checks.boolean("batch_first", batch_first)
        self.dropout = checks.probability("dropout", dropout)
        self.recurrent_dropout = checks.probability("recurrent_dropout", recurrent_dropout)
        self.bidirectional = checks.boolean("bidirectional", bidirectional)
        self.learned_state = checks.boolean("learned_state", learned_state)
        self.recompute = checks.boolean("recompute", recompute)
        self.dtype = checks.float_dtype("dtype", dtype)
        if self.dropout and self.num_layers == 1:
            checks.warn("dropout acts between layers: with num_layers=1 it does nothing")

        if "proj_size" in options:
            self.proj_size = _proj_size(options.pop("proj_size"), self.hidden_size)
        own = checked(self._kind, options)
        self._cell, self._told = choose(self._kind, own)
        vars(self).update(own)

        sizes = self.input_size, self.hidden_size, self.num_layers, self._directions
        widths = [self.proj_size or self.hidden_size, self.hidden_size]
        self.output_size = self._directions * widths[0]
        self._features = self.input_size, self.output_size
        self._rng, bound = generator(seed, type(self).__name__, *sizes), 1 / math.sqrt(self.hidden_size)
        rng = self._rng
        widths = widths[: len(reference.CELLS[self._cell].states)]
        self._bases = tuple(self._of_a_place())
        self._states = States(self._cell, self.num_layers * self._directions, widths, self.dtype)
        shapes = dict(self._shapes())
        self._names = {suffix: tuple(parts) for suffix, parts in shapes.items()}
        weights = {
            name: self._initial(name, bound, shape)
            for parts in shapes.values()
            for name, shape in parts.items()
        }
        super().__init__(weights | (self._states.zeros() if self.learned_state else {}))
        self._dropouts = [Dropout(self.dropout, seed=rng) for _ in range(self.num_layers - 1)]
        self._masks = Dropout(self.recurrent_dropout, seed=rng)

    @overload
    def __call__(
        self,
        x: npt.ArrayLike,
        state: Any = None,
        lengths: npt.ArrayLike | None = None,
        *,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
    ) -> tuple[Array, StateT]: ...
    @overload
    def __call__(
        self,
        x: npt.ArrayLike,
        state: Any = None,
        lengths: npt.ArrayLike | None = None,
        *,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
        return_all_states: Literal[True],
    ) -> tuple[Array, StateT, StateT]: ...
    @overload
    def __call__(
        self,
        x: npt.ArrayLike,
        state: Any = None,
        lengths: npt.ArrayLike | None = None,
        *,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
        return_all_states: bool,
    ) -> tuple[Array, StateT] | tuple[Array, StateT, StateT]: ...
    def __call__(
        self,
        x: npt.ArrayLike,
        state: Any = None,
        lengths: npt.ArrayLike | None = None,
        *,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
        return_all_states: bool = False,
    ) -> tuple[Array, StateT] | tuple[Array, StateT, StateT]:
        """Inference: no dropout, nothing kept, safe from many threads.

        Parameters
        ----------
        x : array_like, (T, B, I) floats or (T, B) integers
            The input. Integers are tokens, 0 to I-1: each stands for a column of ``weight_ih_l0``, which a
            one-hot input would select. With `batch_first` (B, T, I) or (B, T).
        state : array_like, (L*D, B, H), or for `LSTM` a pair (h, c) of them, optional
            The initial state of each layer and direction, in the order of the parameters. If left out, zeros
            or, with `learned_state`, ``initial_h`` and ``initial_c`` for every sequence.
        lengths : array_like of integers, (B,), optional
            How many steps of each sequence are valid, 0 to T, in any order; all T if left out.
        starts : array_like of booleans, (T, B), or (B, T) with `batch_first`, optional
            Before which steps a sequence starts anew, as if what follows were one of its own: an episode, a
            document. The bits are those of the parts alone; also in a second direction, which starts anew
            where it comes to the end of a part. Where a sequence is padded, `starts` may be anything.
        start_state : as `state`, optional
            Where sequences start anew from. If left out, zeros or, with `learned_state`, ``initial_h`` and
            ``initial_c``. `state` has no part in a sequence whose first step is a start, but for a second
            direction.
        return_all_states : bool
            Whether to return the state after every step as well, with the bits that a stream would show.

        Returns
        -------
        y : ndarray, (T, B, D*H), or (B, T, D*H) with `batch_first`
            The last layer's h after each step, both directions side by side; 0 where a sequence is padded.
        state_n : as `state`
            The state after the last valid step: for the second direction that is step 0.
        states : ndarray, (L*D, T, B, H), or for `LSTM` a pair (h, c) of them
            With `return_all_states` only: the state of each layer and direction after each step, time first
            also with `batch_first`. A second direction, which begins at the end, has come to step t from the
            steps after it. 0 where a sequence is padded.

        Raises
        ------
        TypeError
            If an argument is of another dtype, masked, or None.
        ValueError
            If an argument has another shape, or a token or a length is out of range.

        Examples
        --------
        >>> layer = fastrnn.LSTM(3, 5, num_layers=2, learned_state=True, recurrent_dropout=0.2, seed=0)
        >>> y, state_n, (h, c) = layer(np.ones((7, 4, 3), "float32"), return_all_states=True)
        >>> h.shape, c.shape, bool((h[-1] == y).all()), bool((c[:, -1] == state_n[1]).all())
        ((2, 7, 4, 5), (2, 7, 4, 5), True, True)

        A new episode in step 4 of the first sequence:

        >>> x, starts = np.ones((7, 4, 3), "float32"), np.zeros((7, 4), bool)
        >>> starts[4, 0] = True
        >>> y, _ = layer(x, starts=starts)
        >>> bool((y[4:, 0] == layer(x[4:])[0][:, 0]).all())
        True
        """
        all_states = checks.boolean("return_all_states", return_all_states)
        given, found = _Given(x, state, lengths, starts, start_state), None
        if not self.learned_state:  # the shortest way there is
            stack = self._for_inference()
            found = stack.run(x, state, lengths, None, self.batch_first, all_states, starts, start_state)
        if found is None:
            found = alone(self._run(given, all_states))
        return found  # type: ignore[no-any-return]

    def forward(
        self,
        x: npt.ArrayLike,
        state: Any = None,
        lengths: npt.ArrayLike | None = None,
        *,
        starts: npt.ArrayLike | None = None,
        start_state: Any = None,
    ) -> tuple[Array, StateT, Callable[..., Any]]:
        """Training: the same as a call, but with dropout, and with the way back.

        Parameters
        ----------
        x, state, lengths, starts, start_state
            As of a call. Do not write to them, nor to the parameters, before `back` has run.

        Returns
        -------
        y, state_n
            As of a call; `y` may be read-only, because `back` reads it.
        back : callable
            ``dx, dstate = back(dy=None, dstate_n=None, *, input_gradient=True)``, backpropagation through
            time, layers and directions, adds to the layer's `gradients`. It serves one call, which frees
            what it holds.

            `dy` and `dstate_n` are the gradients of a loss with respect to `y` and `state_n`. One must be
            given; the other is then zeros, and so is a member of a pair that is None. What `dy` holds where
            a sequence is padded does not matter.

            `dx` and `dstate` are those with respect to `x` and the initial state, also where that was left
            out. `dx` is None if `x` was tokens, or with `input_gradient` False: a step is up to a sixth
            shorter without it.

            No gradient crosses a start. What comes to one goes to where the sequence has started anew from:
            to the learned state, or to a `start_state` that was given, whose gradient `back` then returns
            third: ``dx, dstate, dstart_state``.

        Raises
        ------
        TypeError, ValueError
            As of a call. By `back`, if a gradient is of another dtype or shape, or both are None; nothing
            has changed then.
        RuntimeError
            By `back`, if it was called before.

        Examples
        --------
        >>> layer = fastrnn.GRU(3, 5, seed=0)
        >>> x = np.ones((7, 4, 3), "float32")
        >>> y, h, back = layer.forward(x)
        >>> dx, dh_0 = back(y)  # the gradient of sum(y^2) / 2
        >>> dx.shape, dh_0.shape, sorted(layer.gradients) == sorted(layer.parameters)
        ((7, 4, 3), (1, 4, 5), True)
        """
        y, state_n, going_back = alone(self._training(x, state, lengths, starts, start_state))

        def back(
            dy: npt.ArrayLike | None = None, dstate_n: Any = None, *, input_gradient: bool = True
        ) -> tuple[Any, ...]:
            """Once: dx and dstate of the gradients of y and state_n; adds to the layer's gradients."""
            dx, dstate, dstart = alone(going_back(dy, dstate_n, input_gradient))
            return (dx, dstate) if start_state is None else (dx, dstate, dstart)

        return y, state_n, back

    def _inference(self, x: Any, state: Any, lengths: Any, starts: Any) -> Course[tuple[Array, StateT]]:
        """A call, as a course."""
        return self._run(_Given(x, state, lengths, starts, None), False)

    def _training(
        self, x: Any, state: Any, lengths: Any, starts: Any, start_state: Any = None
    ) -> Course[tuple[Array, StateT, Callable[..., Course[tuple[Any, StateT, Any]]]]]:
        """`forward`, and the way back, which is a course too."""
        self._require_trainable()
        given = _Given(x, state, lengths, starts, start_state)
        y, state_n, *kept = yield from self._train(given)  # emptied when it is taken
        shape, batch = y.shape, y.shape[0 if self.batch_first else 1]

        def going_back(dy: Any, dstate_n: Any, input_gradient: bool) -> Course[tuple[Any, StateT, Any]]:
            if dy is None and dstate_n is None:
                raise ValueError("dy or dstate_n must be given, got None for both")
            if dy is not None and not _is_rows(dy, self.dtype, shape):
                dy = floats("dy", dy, self.dtype, shape)
            dstate_n = self._states.checked("dstate_n", dstate_n, batch)
            input_gradient = checks.boolean("input_gradient", input_gradient)
            own = yield from taken(kept)
            return (yield from self._back(own, dy, dstate_n, input_gradient))

        return y, state_n, going_back

    def _run(self, given: _Given, all_states: bool) -> Course[Any]:
        """A call of all layers at once."""
        stack, options, found = self._for_inference(), (None, self.batch_first, all_states), None
        if not self.learned_state:
            found = yield Request(stack, "run", (*given[:3], *options, *given[3:]))
        if found is None:  # something about the arguments is not just as the kernels want it
            given, _ = self._plain(given)
            found = unchanged((yield Request(stack, "run", (*given[:3], *options, *given[3:]))))
        return found

    def _back(
        self, kept: _Kept, dy: Any, dstate_n: Any, input_gradient: bool
    ) -> Course[tuple[Any, StateT, Any]]:
        """From the last layer to the first, of gradients that have been checked."""
        arrays: list[Array] = []
        dstates: list[Any] = []
        dstarts: list[Any] = []
        count = self._states.places // len(kept.calls)  # of a call
        for k, (stack, arguments, options, anew) in reversed([*enumerate(kept.calls)]):
            own = slice(k * count, (k + 1) * count)
            hidden = None
            if kept.passes:
                hidden = np.zeros((count, *kept.passes[0].dhidden.shape), self.dtype)
            wanted = k > 0 or input_gradient
            given = dy, _part(dstate_n, own), wanted, False
            request = Request(stack, "back", (*arguments, *given, *options, hidden, *anew))
            dy, found, dstate, *dstart = unchanged((yield request))
            if hidden is not None:
                for each, array in zip(kept.passes[own], hidden, strict=True):
                    each.dhidden[...] = array
            arrays, dstates, dstarts = found + arrays, [dstate, *dstates], dstart + dstarts
            dy = self._swap(kept.undrop[k - 1](self._swap(dy))) if k else dy
        dstate_0: StateT = _joined(dstates)
        dstart_0 = _joined(dstarts) if dstarts else None
        gradients = dict(zip(self.parameters, arrays, strict=False))
        if self.learned_state:
            found = [_over_batch(dstate_0, kept.started), _over_batch(dstart_0, kept.started_anew)]
            gradients |= self._states.zeros() | _sum(*found)
        self.add_gradients(gradients)
        self.record = kept.passes
        return dy, dstate_0, dstart_0

    def stream(self, batch: int = 1) -> Stream[StateT]:
        """The layer's steps one at a time, with the weights that it has now, from zeros or its learned state.

        Parameters
        ----------
        batch : int
            B, how many sequences go side by side.

        Returns
        -------
        Stream
            ``step(x)`` takes (B, I) floats or (B,) tokens to h (B, H).

        Raises
        ------
        TypeError, ValueError
            If `batch` is not a positive integer, or the layer is bidirectional: its second direction begins
            at an end that a stream does not have.

        Examples
        --------
        >>> layer = fastrnn.LSTM(3, 5, num_layers=2, seed=0)
        >>> x = np.ones((7, 1, 3), "float32")
        >>> stream = layer.stream()
        >>> h = [stream.step(x_t) for x_t in x]
        >>> bool((np.array(h) == layer(x)[0]).all())
        True
        """
        return Stream(self._stages(checks.positive_int("batch", batch)), batch, single=True)

    def _stages(self, batch: int) -> list[Stage]:
        if self.bidirectional:
            raise ValueError("a bidirectional layer has no stream: its second direction starts at the end")
        layers = [self._parameters_of(f"_l{layer}") for layer in range(self.num_layers)]
        start = tuple(np.repeat(array[:, None], batch, axis=1) for array in self._start().values())
        return [Stage(self._cell, layers, start, self._told)]

    def _parameters_of(self, suffix: str) -> Parameters:
        """Those of one layer and direction."""
        look_at = self._parameters.look_at
        arrays: dict[str, Any] = {base: look_at(base + suffix) for base in self._bases}
        weights = {field: arrays.pop(base, None) for base, field in FIELDS.items()}
        return Parameters(**weights, vectors=tuple(arrays.values()), format=self._format)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle of the layer has: nor a `record`."""
        return {**super().__getstate__(), "record": ()}

    def _make(self, backend: Backend) -> Any:
        suffixes = [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]
        places = [*map(self._parameters_of, suffixes)]
        return backend.Stack(self._parameters, self._cell, places, self._directions, self._told)

    def _plain(self, given: _Given) -> tuple[_Given, list[Sequence[str | None]]]:
        """The arguments, checked, as plain arrays; and the parameters that both states are made of."""
        x, state, lengths, starts, start_state = given
        x = self._input(x)
        T, B = self._swap(x).shape[:2]
        state, started = self._started("state", state, B)
        if lengths is not None:
            lengths = checks.int_array("lengths", lengths, (B,), 0, T, "0..T")
        if starts is not None:
            starts = checks.bool_array("starts", starts, x.shape[:2])
            start_state, anew = self._started("start_state", start_state, B)
            return _Given(x, state, lengths, starts, start_state), [started, anew]
        if start_state is not None:
            raise ValueError("start_state goes with starts: without them no sequence starts anew")
        return _Given(x, state, lengths, None, None), [started, ()]

    def _started(self, name: str, state: Any, batch: int) -> tuple[Any, Sequence[str | None]]:
        """A state, checked, with what it leaves out learned; and of each member the parameter, or None."""
        learned: Sequence[str | None] = ()
        if self.learned_state:
            state, learned = self._states.started(name, state, self._start(), batch)
        return self._states.checked(name, state, batch), learned

    def _train(self, given: _Given) -> Course[tuple[Array, StateT, _Kept]]:
        """All layers at once, or where something comes between them, one after the other."""
        started: list[Sequence[str | None]] = [(), ()]
        at_once = not (self.dropout or self.recurrent_dropout or self.recording)
        found = None
        if at_once and not self.learned_state:
            found = yield from self._forward(given, 0, self.num_layers)
        if found is None:
            given, started = self._plain(given)
            if not at_once:
                yield None
                return (yield from self._train_one_by_one(given, started))
            found = unchanged((yield from self._forward(given, 0, self.num_layers)))
        y, state_n, call = found
        return y, state_n, _Kept([call], [], [], *started)

    def _forward(self, given: _Given, first: int, count: int, mask: Any = None) -> Course[Any]:
        """y, state_n, and for the way back the stack, the arguments of its `back`, options, and starts."""
        x, state, lengths, starts, start_state = given
        stack, options = self._for_inference(), (self.recompute, mask, first, count)
        arguments = x, state, lengths, None, self.batch_first, *options, starts, start_state
        found = yield Request(stack, "train", arguments)
        if found is None:
            return None
        y, state_n, memory = found
        y.setflags(write=False)  # the way back will read it
        # What leads kernels into arrays may be changed by then.
        x = x.copy() if x.ndim == 2 else x
        lengths, starts = (None if each is None else each.copy() for each in (lengths, starts))
        kept = memory, y, x, state, lengths, None, self.batch_first
        return y, state_n, (stack, kept, options, (starts, start_state))

    def _train_one_by_one(
        self, given: _Given, started: list[Sequence[str | None]]
    ) -> Course[tuple[Array, StateT, _Kept]]:
        """With dropout between the layers and in them, and a record of what passes."""
        x, batch = given.x, self._swap(given.x).shape[1]
        kept, states = _Kept([], [], [], *started), []
        for layer in range(self.num_layers):
            if layer:
                x, undrop = self._dropouts[layer - 1].forward(self._swap(x))
                x = self._swap(x)
                kept.undrop.append(undrop)
            own = slice(layer * self._directions, (layer + 1) * self._directions)
            masks: list[Any] = [self._mask(batch) for _ in range(self._directions)]
            mask = np.stack(masks) if self.recurrent_dropout else None
            part = given._replace(
                x=x, state=_part(given.state, own), start_state=_part(given.start_state, own)
            )
            y, state_n, call = unchanged((yield from self._forward(part, layer, 1, mask)))
            kept.calls.append(call)
            states.append(state_n)
            if self.recording:
                starts = None if part.starts is None else self._swap(part.starts)
                for k, side in enumerate(np.split(self._swap(y), self._directions, axis=-1)):
                    h = np.ascontiguousarray(side)
                    start, anew = _of_place(part.state, k), _of_place(part.start_state, k)
                    found = Pass(
                        self._swap(x), start, part.lengths, starts, anew, masks[k], h, np.zeros_like(h)
                    )
                    kept.passes.append(found)
            x = y
        return x, _joined(states), kept

    def _mask(self, batch: int) -> Array | None:
        """What h is multiplied by in the recurrence of one layer and direction, for a whole sequence."""
        if not self.recurrent_dropout:
            return None
        return self._masks.forward(np.ones((batch, self._states.widths[0]), self.dtype))[0]

    def _input(self, x: npt.ArrayLike) -> Array:
        """x as floats or tokens, whichever it is."""
        axes = ("B", "T") if self.batch_first else ("T", "B")
        array = x if type(x) is np.ndarray else self._input_array(x, axes)
        if array.dtype.kind in "iu" and array.ndim != 3:
            array = checks.int_array("x", array, axes, 0, self.input_size - 1, "0..input_size-1")
        else:
            array = floats("x", array, self.dtype, (*axes, self.input_size))
        return array

    def _input_array(self, x: npt.ArrayLike, axes: tuple[str, str]) -> Array:
        return checks.array("x", x, f"a {self.dtype} array of shape ({', '.join(axes)}, {self.input_size})")

    def _swap(self, array: Array) -> Array:
        """A view from `batch_first` to the kernels' time first, or back."""
        return array.swapaxes(0, 1) if self.batch_first else array

    def _start(self) -> dict[str, Array]:
        """What sequences start from where no state is given, each member: parameters, if it is learned."""
        zeros = self._states.zeros()
        return {name: self._parameters.look_at(name) for name in zeros} if self.learned_state else zeros

    @property
    def _needs_whole(self) -> bool:
        return self.bidirectional

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        """How the names of the parameters end, by direction."""
        return _suffixes(layer)[: self._directions]

    def _shapes(self) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
        """Every parameter's name and shape, in PyTorch's order, by layer and direction."""
        H, P = self.hidden_size, self._states.widths[0]
        rows = len(reference.CELLS[self._cell].gates) * H
        shapes: dict[str, tuple[int, ...]] = {"bias_ih": (rows,), "bias_hh": (rows,), "weight_hr": (P, H)}
        shapes |= {name: (len(letters) * H,) for name, letters in reference.CELLS[self._cell].vectors.items()}
        for layer in range(self.num_layers):
            shapes |= {
                "weight_ih": (rows, self.output_size if layer else self.input_size),
                "weight_hh": (rows, P),
            }
            for suffix in self._suffixes(layer):
                yield suffix, {base + suffix: shapes[base] for base in self._bases}

    def _of_a_place(self) -> Iterator[str]:
        """The parameters of one layer and direction, by the first part of their names."""
        yield from ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if self.bias else 2]
        if self.proj_size:
            yield "weight_hr"
        for name in reference.CELLS[self._cell].vectors:
            if vars(self).get(name, True):  # but a peephole that is not wanted
                yield name

    def _initial(self, name: str, bound: float, shape: tuple[int, ...]) -> Array:
        """What a parameter begins with."""
        if name.startswith(("gamma", "beta")):
            return np.full(shape, float(name.startswith("gamma")), self.dtype)
        return uniform(self._rng, bound, shape, self.dtype)


def _proj_size(value: object, hidden_size: int) -> int:
    """P, or 0 for none, as in PyTorch."""
    size = checks.non_negative_int("proj_size", value)
    if size >= hidden_size:
        raise ValueError(f"proj_size must be less than hidden_size = {hidden_size}, got {size}")
    return size


@functools.cache
def _suffixes(layer: int) -> tuple[str, str]:
    return f"_l{layer}", f"_l{layer}_reverse"


@np.errstate(all="ignore")
def _over_batch(dstate: Any, started: Sequence[str | None]) -> dict[str, Array]:
    """(L*D, B, H) -> (L*D, H): what states that all sequences share have as their gradients, by name."""
    pairs = zip(started, members(dstate), strict=False)
    return {name: member.sum(axis=1) for name, member in pairs if name is not None}


@np.errstate(all="ignore")
def _sum(first: dict[str, Array], second: dict[str, Array]) -> dict[str, Array]:
    """Of arrays by name."""
    return first | {name: first[name] + array if name in first else array for name, array in second.items()}


def _is_rows(array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether kernels can read it as it lies: rows of features side by side, at any distance."""
    if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
        return False
    return array.flags.aligned and array.strides[-1] == dtype.itemsize


def _part(state: Any, places: slice) -> Any:
    """Those layers and directions of a state."""
    if isinstance(state, tuple):
        return tuple(None if member is None else member[places] for member in state)
    return None if state is None else state[places]


def _of_place(state: Any, place: int) -> Any:
    """The state of one layer and direction, as a function takes it."""
    if isinstance(state, tuple):
        return tuple(None if member is None else member[place] for member in state)
    return None if state is None else state[place]


def _joined(states: list[Any]) -> Any:
    """What `_part` took apart."""
    if len(states) == 1:
        return states[0]
    if isinstance(states[0], tuple):
        return tuple(np.concatenate(each) for each in zip(*states, strict=True))
    return np.concatenate(states)
