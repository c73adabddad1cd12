"""Steps one at a time: for sensors, audio, control, and text that is written character by character.

Letters: B batch, I input, O output, H hidden, L layers, T time.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.backend import kernels
from fastrnn.checks import Array
from fastrnn.layers.layer import Layer, floats
from fastrnn.layers.steps import Unmasked
from fastrnn.reference import CELLS, Options, Parameters
from fastrnn.reference.stream import sizes
from fastrnn.states import joined, named
from fastrnn.whole import at_once

StateT = TypeVar("StateT")
StreamT = TypeVar("StreamT", bound="Stream[Any]")


class Stage(NamedTuple):
    """A layer as the backends' streams take it."""

    kind: str  # "embedding", "linear", of a recurrent layer its cell, or of an activation its function
    layers: Sequence[Parameters] = ()  # as `fastrnn.reference.Stream` says; an activation has none
    start: tuple[Array, ...] = ()  # a recurrent layer's first state, (L, B, H): h, or h and c
    options: Options = Options()  # what its cell is told
    numbers: tuple[float, ...] = ()  # an activation's own, as `fastrnn.reference.activation` says

    def of_backend(self) -> tuple[Any, ...]:
        """What a backend's stream takes."""
        return self.kind, self.layers, self.options, self.start, self.numbers

    def apply(self, x: Array) -> Array:
        """What an activation makes of x."""
        return kernels().activation(self.kind, x, self.numbers)


class Stream(Generic[StateT]):
    """Steps one at a time, with the state kept in between: what `stream` of a recurrent layer or of a
    `Sequential` returns.

    It has the weights that the layers had when it was made, and gives the same bits as their call on the
    whole sequence. It is for one thread at a time; make one for each.

    Attributes
    ----------
    input_size, output_size : int
        I, the features or tokens that go in, and O, the features that come out: of a recurrent layer H, or
        P where h is projected.
    hidden_size, num_layers : int
        H and L of the recurrent layer; where there are several, of the last.
    batch : int
        B.
    dtype : dtype
        Of inputs and outputs.
    """

    def __init__(self, stages: Sequence[Stage | Layer], batch: int, *, single: bool = False) -> None:
        self._stages, self.batch, self._single = copy.deepcopy(stages), batch, single
        known = [stage for stage in self._stages if isinstance(stage, Stage)]
        self._recurrent = [stage for stage in known if stage.start]
        if not self._recurrent:
            raise ValueError("a stream needs a recurrent layer: without one a call does the same")
        opening = next(stage for stage in self._stages if not isinstance(stage, Unmasked))
        first = opening.kind if isinstance(opening, Stage) else ""
        self._takes_floats, self._takes_tokens = first != "embedding", first in ("embedding", *CELLS)
        self.num_layers, _, self.hidden_size = self._recurrent[-1].start[-1].shape
        size: Any = None
        for each in reversed(self._stages):
            if isinstance(each, Stage):
                size = sizes(*each[:2])[0] if each.layers else size
            else:
                size = each._takes(size)
        self.input_size: int = size
        self.dtype = self._recurrent[0].layers[0].w_ih.dtype
        self._open()
        no_steps = (0, batch, self.input_size)
        x = np.zeros(no_steps, self.dtype) if self._takes_floats else np.zeros(no_steps[:2], np.int64)
        self.output_size: int = self._inner.steps(x).shape[-1]

    def _open(self) -> None:
        """Make the backend's stream or, with layers to call, several."""
        parts: list[Any] = []
        for known, group in itertools.groupby(self._stages, lambda stage: isinstance(stage, Stage)):
            stages: list[Any] = list(group)
            if known and any(stage.layers for stage in stages):
                parts.append(kernels().Stream([stage.of_backend() for stage in stages], self.batch))
            else:  # activations between layers that are called are called too
                parts += [stage.apply for stage in stages] if known else stages
        self._attach(parts[0] if len(parts) == 1 else _Chain(parts))

    def _attach(self, inner: Any) -> None:
        self._inner = inner
        chain = isinstance(inner, _Chain)
        self._step: Any = _nothing if chain else inner.step
        self._steps: Any = _nothing if chain else inner.steps

    def step(self, x: npt.ArrayLike, out: Array | None = None) -> Array:
        """One step.

        Parameters
        ----------
        x : array_like, (B, I) floats or (B,) integers
            The input. Integers are tokens, 0 to I-1, for an `Embedding` or a recurrent layer.
        out : ndarray, (B, O), optional
            C-contiguous, aligned and writable: where to put the result. Without it a new array is made.

        Returns
        -------
        ndarray, (B, O)
            What the last layer gives: a recurrent one its h.

        Raises
        ------
        TypeError, ValueError
            If an argument is of another dtype or shape, or a token is out of range: the state has not moved.
        RuntimeError
            If another thread is in a step of this stream; the reference backend does not look.
        """
        step = self._step
        y = step(x, out)
        if y is None:  # something about the arguments is not just as the kernels want it
            y = self._inner.step(self._input(x, "B"), self._output(out))
            if y is None:
                raise ValueError("out was changed by another thread")
        return y  # type: ignore[no-any-return]

    def step_many(self, x: npt.ArrayLike) -> Array:
        """Many steps at once, faster than one by one, with the same bits.

        Parameters
        ----------
        x : array_like, (T, B, I) floats or (T, B) integers
            The inputs of T steps.

        Returns
        -------
        ndarray, (T, B, O)
            What `step` would return for each. If Ctrl-C ends the call, the state has not moved.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As of `step`.
        """
        y = self._steps(x)
        if y is None:
            y = self._inner.steps(self._input(x, "T", "B"))
            if y is None:
                raise ValueError("x was changed by another thread")
        return y  # type: ignore[no-any-return]

    @property
    def state(self) -> StateT:
        """A copy of the state: h (L, B, H), or for an LSTM (h, c); of a `Sequential` a tuple with
        that of each recurrent layer. Assign one to go on from it."""
        found: Any = tuple(map(joined, self._inner.state()))
        return found[0] if self._single else found  # type: ignore[no-any-return]

    @state.setter
    def state(self, value: StateT) -> None:
        count = len(self._recurrent)
        states: Any = (value,) if self._single else value
        if not isinstance(states, (tuple, list)) or len(states) != count:
            expected = f"a tuple of the states of the recurrent layers, of which there are {count}"
            raise TypeError(f"state must be {expected}, got {checks.came(value)}")
        found = []
        for place, (stage, state) in enumerate(zip(self._recurrent, states, strict=True)):
            members = named(stage.kind, "state" if self._single else f"state[{place}]", state)
            shapes = [member.shape for member in stage.start]
            found.append(
                [
                    floats(name, member, self.dtype, shape)
                    for (name, member), shape in zip(members.items(), shapes, strict=True)
                ]
            )
        self._inner.set_state(found)

    def reset(self, rows: npt.ArrayLike | None = None) -> None:
        """Go back to the beginning: a state of zeros, or the learned one that a layer had.

        Parameters
        ----------
        rows : array_like of booleans, (B,), optional
            Which sequences do; all if left out. With the next step's `starts` the stream gives what a call
            gives that has them.

        Raises
        ------
        TypeError, ValueError
            If `rows` is of another dtype or shape: the state has not moved.
        """
        if rows is not None:
            rows = checks.bool_array("rows", rows, (self.batch,))
        self._inner.reset(rows)

    @property
    def address(self) -> int:
        """The handle for steps from C, Cython and Numba, which do not need the interpreter: what
        `fastrnn.embed.step` and the header ``fastrnn/step.h`` call ``stream``.

        It is valid for as long as this object lives, so hold that, too: ``network.stream().address`` alone
        leads to a stream that is gone. A copy has its own. A TypeError if there are layers that only Python
        can call, a RuntimeError if the reference backend computes.
        """
        return self._inner.address  # type: ignore[no-any-return]

    def copy(self: StreamT) -> StreamT:
        """A second stream in the same state, which goes its own way from here; `copy.deepcopy` does the same.

        A pickled stream has its weights and its state, and goes on with the same bits.
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._attach(self._inner.copy())
        return other

    __copy__ = copy

    def __deepcopy__(self: StreamT, memo: dict[int, Any]) -> StreamT:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_inner": self._inner.state(), "_step": None, "_steps": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
        self._inner.set_state(state["_inner"])

    def __repr__(self) -> str:
        stages = [stage.kind if isinstance(stage, Stage) else repr(stage) for stage in self._stages]
        return (
            f"<Stream of {', '.join(stages)}: input_size={self.input_size}, output_size={self.output_size}, "
            f"batch={self.batch}, {self.dtype}>"
        )

    def _input(self, x: npt.ArrayLike, *axes: str) -> Array:
        sizes = [self.batch if axis == "B" else axis for axis in axes]
        if self._takes_floats:
            expected = f"a {self.dtype} array of shape ({', '.join(axes)}, {self.input_size})"
            array = checks.array("x", x, expected)
            if not self._takes_tokens or array.dtype.kind not in "iu" or array.ndim == len(axes) + 1:
                return floats("x", array, self.dtype, (*sizes, self.input_size))
        return checks.int_array("x", x, sizes, 0, self.input_size - 1, "0..input_size-1")

    def _output(self, out: Array | None) -> Array | None:
        if out is None:
            return None
        shape = (self.batch, self.output_size)
        if type(out) is not np.ndarray or out.dtype != self.dtype or out.shape != shape:
            expected = f"a {self.dtype} array of shape (B, O) = {shape}"
            raise ValueError(f"out must be {expected}, got {checks.came(out)}")
        if not out.flags.carray:
            raise ValueError("out must be C-contiguous, aligned and writable")
        return out


class _Chain:
    """The backend's streams, and what is called between them, one after the other, as one of the backend's
    streams: with arguments that have been checked, and the state put back after any error."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts
        self._streams = [part for part in parts if not callable(part)]
        self._counts = [len(stream.state()) for stream in self._streams]  # of recurrent layers
        self._inside: dict[object, None] = {}  # who is at work, or wants to be: the first is

    def step(self, x: Array, out: Array | None) -> Array:
        y: Array = self.steps(x[None])[0]
        if out is None:
            return y
        out[...] = y
        return out

    def steps(self, x: Any) -> Any:
        inside, me = self._inside, object()
        try:
            inside[me] = None
            if next(iter(tuple(inside))) is not me:
                raise RuntimeError("this stream is at work in another thread: make one for each thread")
            before = self.state()
            try:
                for part in self._parts:
                    x = np.ascontiguousarray(part(x)) if callable(part) else part.steps(x)
            except BaseException:
                self.set_state(before)
                raise
        finally:
            inside.pop(me, None)
        return x

    def state(self) -> tuple[Any, ...]:
        return tuple(itertools.chain.from_iterable(stream.state() for stream in self._streams))

    def set_state(self, states: Sequence[Any]) -> None:
        left = iter(states)
        counts = zip(self._streams, self._counts, strict=True)
        each = [(stream, list(itertools.islice(left, count))) for stream, count in counts]
        at_once(itertools.starmap(type(self._streams[0]).set_state, each))
        self._inside = {}  # after a fork the other one may have threads that are lost

    def reset(self, rows: Array | None) -> None:
        each = [(stream, rows) for stream in self._streams]
        at_once(itertools.starmap(type(self._streams[0]).reset, each))
        if rows is None:
            self._inside = {}

    @property
    def address(self) -> int:
        called = next(part for part in self._parts if isinstance(part, Layer))
        raise TypeError(f"a stream of {called!r} has no address: that layer is called from Python")

    def copy(self) -> _Chain:
        return _Chain([part if callable(part) else part.copy() for part in self._parts])


def _nothing(x: Any, out: Any = None) -> None:
    """What a chain does with arguments that have not been checked."""
