"""The checked door to the kernels: one layer, one direction, as functions of NumPy arrays.

Every argument is checked here, before any kernel runs, and made the plain array that kernels want; an array
that is one already is not copied, and none is ever written to.

Letters: T time, B batch, I input, H hidden, G gates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from fastrnn import reference
from fastrnn.backend import Backend, kernels
from fastrnn.checks import (
    Array,
    array,
    boolean,
    came,
    float_array,
    int_array,
    one_of,
    require_shape,
    same_dtype,
)
from fastrnn.reference import Gradients

__all__ = [
    "CellFunction",
    "Gradients",
    "Reserve",
    "gru",
    "gru_backward",
    "gru_forward",
    "linear",
    "linear_backward",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "rnn",
    "rnn_backward",
    "rnn_forward",
]

StateT = TypeVar("StateT")


class Reserve:
    """What `CellFunction.forward` leaves for `CellFunction.backward`: opaque, and good for one call.

    It refers to the arrays of floats given to forward: do not write to them before the backward call.
    """

    __slots__ = ("_backend", "_cell", "_inner", "_y")

    def __init__(self, cell: str, backend: Backend, inner: object, y: Array) -> None:
        self._cell = cell
        self._backend = backend
        self._inner = [inner]  # until it is taken
        self._y = y

    def _take(self) -> object:
        """What the backend left, once: in one step, since two threads may want it."""
        try:
            return self._inner.pop()
        except IndexError:
            raise self._used() from None

    @staticmethod
    def _used() -> RuntimeError:
        return RuntimeError("reserve was used before: each serves one backward call; run forward again")

    def __repr__(self) -> str:
        return f"<Reserve of {self._cell}, y {self._y.shape} {self._y.dtype}>"


def _checked(
    cell: str,
    x: npt.ArrayLike,
    w_ih: npt.ArrayLike,
    w_hh: npt.ArrayLike,
    b_ih: npt.ArrayLike | None,
    b_hh: npt.ArrayLike | None,
    state: Any,
    lengths: npt.ArrayLike | None,
    reverse: bool,
    training: bool,
    recompute: bool = False,
    packed: dict[str, Any] | None = None,
    mask: Array | None = None,
    all_c: Array | None = None,
) -> tuple[Any, ...]:
    """The arguments of a backend's ``forward``."""
    w_ih, w_hh = _weights(cell, w_ih, w_hh)
    rows, H = w_hh.shape
    x = _input(x, w_ih)
    T, B = x.shape[:2]
    b_ih = _optional("b_ih", b_ih, (rows,))
    b_hh = _optional("b_hh", b_hh, (rows,))
    states = _states("state", state, cell, (B, H))
    if lengths is not None:
        lengths = int_array("lengths", lengths, (B,), 0, T, "0..T")
    reverse = boolean("reverse", reverse)
    recompute = boolean("recompute", recompute)
    tokens = x.ndim == 2
    same_dtype(x=None if tokens else x, w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh, **states)
    members = tuple(states.values())
    options = reverse, training, recompute, packed, mask, all_c
    return cell, x, w_ih, w_hh, b_ih, b_hh, members, lengths, *options


def run_directions(cell: str, directions: Sequence[tuple[Any, ...]]) -> list[tuple[Array, Any, Any]]:
    """Forward through a layer's directions, which the kernels may take at the same time.

    Parameters
    ----------
    cell : str
        A key of `fastrnn.reference.CELLS`.
    directions : sequence of tuple
        For each x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, training, recompute, and a dict in which
        the kernels keep packed weights, or None; then, if wanted, `mask` and `all_c` of
        `fastrnn.reference.forward`, which are plain arrays of the layer's own.

    Returns
    -------
    list of (y, state_n, reserve)
        The reserve is None if not training.
    """
    calls = [_checked(cell, *arguments) for arguments in directions]
    backend = kernels()
    results = []
    for y, states_n, inner in backend.forward_all(calls):
        reserve = None
        if inner is not None:
            y.flags.writeable = False  # backward will read it
            reserve = Reserve(cell, backend, inner, y)
        results.append((y, _unwrap(states_n), reserve))
    return results


def run_directions_back(
    directions: Sequence[tuple[Reserve, Any, Any, bool, Array | None]],
) -> list[Gradients]:
    """Backward through a layer's directions.

    Parameters
    ----------
    directions : sequence of tuple
        For each a reserve, dy, dstate_n, input_gradient, and zeros in the shape of y in which to write the
        whole gradient with respect to every h (what comes from y and what flows back through time), or None.

    Returns
    -------
    list of Gradients
    """
    checked = [_checked_back(*arguments) for arguments in directions]
    reserves = [reserve for reserve, *_ in directions]
    calls = [(reserve._take(), *arguments) for reserve, arguments in zip(reserves, checked, strict=True)]
    backend = reserves[0]._backend
    results = [Gradients(*found) for found in backend.backward_all(calls)]
    return [gradients._replace(state=_unwrap(gradients.state)) for gradients in results]


def _checked_back(
    reserve: Reserve,
    dy: npt.ArrayLike | None,
    dstate_n: Any,
    input_gradient: bool,
    dhidden: Array | None,
) -> tuple[Any, ...]:
    """The arguments of a backend's ``backward``, but for the first."""
    if not reserve._inner:
        raise reserve._used()
    y = reserve._y
    dy = _optional("dy", dy, y.shape)
    dstates = _states("dstate_n", dstate_n, reserve._cell, y.shape[1:])
    same_dtype(y=y, dy=dy, **dstates)
    input_gradient = boolean("input_gradient", input_gradient)
    return dy, tuple(dstates.values()), input_gradient, dhidden


def _weights(cell: str, w_ih: npt.ArrayLike, w_hh: npt.ArrayLike) -> tuple[Array, Array]:
    """w_ih and w_hh, whose sizes are everyone's; H, I and V must not be 0."""
    gates = len(reference.CELLS[cell].gates)
    w_hh = float_array("w_hh", w_hh, (f"{gates}*H", "H"))
    H = w_hh.shape[1]
    rows = gates * H
    require_shape("w_hh", w_hh, (rows, H))
    w_ih = float_array("w_ih", w_ih, (rows, "I"))
    for name, weights in ("w_hh", w_hh), ("w_ih", w_ih):
        if weights.size == 0:
            raise ValueError(f"{name} must not be empty, got shape {weights.shape}")
    return w_ih, w_hh


def _input(x: npt.ArrayLike, w_ih: Array) -> Array:
    """x as floats (T, B, I) or as int64 tokens (T, B), whichever it is."""
    x = array("x", x, "a float array of shape (T, B, I) or an integer array of shape (T, B)")
    columns = w_ih.shape[1]
    if x.dtype.kind in "iu" and x.ndim != 3:
        return int_array("x", x, ("T", "B"), 0, columns - 1, "0..V-1")
    return float_array("x", x, ("T", "B", columns))


def _optional(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    return None if value is None else float_array(name, value, shape)


def _states(name: str, value: Any, cell: str, shape: tuple[int, ...]) -> Mapping[str, Array | None]:
    """The cell's states, or their gradients, by the names that errors call them."""
    if len(reference.CELLS[cell].states) == 1:
        return {name: _optional(name, value, shape)}
    if value is None:
        value = (None, None)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair (h, c) of arrays of shape {shape}, got {came(value)}")
    return {f"{name}[{k}]": _optional(f"{name}[{k}]", member, shape) for k, member in enumerate(value)}


def _unwrap(states: tuple[Array, ...]) -> Any:
    """States as users see them: h alone, or the pair (h, c)."""
    return states[0] if len(states) == 1 else states


# -- the functions


class CellFunction(Generic[StateT]):
    """A recurrent layer in one direction, as a function of its weights: `rnn`, `lstm` and `gru`.

    A call is inference; `forward` and `backward` are for training, and ``lstm_forward`` and ``lstm_backward``
    are other names of ``lstm.forward`` and ``lstm.backward``. G is the number of gates, which have the order
    of the equations.
    """

    def __init__(self, name: str, cells: Mapping[str, str], equations: str) -> None:
        self.__name__ = name
        _, _, arguments = cleandoc(type(self).__call__.__doc__ or "").partition("\n\n")
        self.__doc__ = f"{cleandoc(equations)}\n\n{arguments}"
        self._cells = cells  # by nonlinearity, the usual one first; keys of `fastrnn.reference.CELLS`

    def __call__(
        self,
        x: npt.ArrayLike,
        w_ih: npt.ArrayLike,
        w_hh: npt.ArrayLike,
        b_ih: npt.ArrayLike | None = None,
        b_hh: npt.ArrayLike | None = None,
        state: Any = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reverse: bool = False,
        nonlinearity: str = "tanh",
    ) -> tuple[Array, StateT]:
        """Inference.

        Parameters
        ----------
        x : array_like, (T, B, I) float32 or float64, or (T, B) integers
            The input. Integers are tokens, 0 to V-1: each stands for the column of `w_ih` that a one-hot
            input would select.
        w_ih : array_like, (G*H, I) or (G*H, V)
            The input's weights. The dtype of all floats is one.
        w_hh : array_like, (G*H, H)
            The recurrent weights.
        b_ih, b_hh : array_like, (G*H,), optional
            Biases, each of which may be left out.
        state : array_like, (B, H), or for `lstm` a pair (h, c) of them, optional
            The initial state. Zeros if left out, and so is a member of a pair that is None.
        lengths : array_like of integers, (B,), optional
            How many steps of each row are valid, 0 to T, in any order; all T if left out. What `x` holds
            beyond does not matter, except that tokens must be within 0 to V-1 there too.
        reverse : bool, default False
            Run each row from its last valid step to its first.
        nonlinearity : {"tanh", "relu"}, default "tanh"
            "relu", for `rnn` only, is max(0, ...) in the place of tanh.

        Returns
        -------
        y : ndarray, (T, B, H)
            h after each step, in the order of `x` also if `reverse`; 0 where a row is padded.
        state_n : as `state`
            The state after each row's last valid step; a row of length 0 returns its initial state.

        Raises
        ------
        TypeError
            If an argument is of another dtype, masked or None, or if floats of two dtypes are mixed.
        ValueError
            If an argument has another shape, if H, I or V is 0, or if a token or a length is out of range.
        """
        arguments = x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, False
        y, state_n, _ = run_directions(self._cell(nonlinearity), [arguments])[0]
        return y, state_n

    def forward(
        self,
        x: npt.ArrayLike,
        w_ih: npt.ArrayLike,
        w_hh: npt.ArrayLike,
        b_ih: npt.ArrayLike | None = None,
        b_hh: npt.ArrayLike | None = None,
        state: Any = None,
        *,
        lengths: npt.ArrayLike | None = None,
        reverse: bool = False,
        nonlinearity: str = "tanh",
        recompute: bool = False,
    ) -> tuple[Array, StateT, Reserve]:
        """The same as a call, and what `backward` needs.

        Parameters
        ----------
        x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, nonlinearity
            As of a call. Do not write to those of floats before the backward call.
        recompute : bool, default False
            Keep little but `y` and compute the gates again in the backward call: the same bits from a small
            part of the memory, at the price of some time.

        Returns
        -------
        y : ndarray, (T, B, H)
            As of a call, but read-only, because `backward` reads it.
        state_n
            As of a call.
        reserve : Reserve
            For one call of `backward`.

        Raises
        ------
        TypeError, ValueError
            As of a call.
        """
        arguments = x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, True, recompute
        return run_directions(self._cell(nonlinearity), [arguments])[0]

    def backward(
        self,
        reserve: Reserve,
        dy: npt.ArrayLike | None = None,
        dstate_n: Any = None,
        *,
        input_gradient: bool = True,
    ) -> Gradients:
        """Backpropagation through time (Werbos 1990).

        Parameters
        ----------
        reserve : Reserve
            What `forward` returned; it serves one call.
        dy : array_like, (T, B, H), optional
            The gradient of a loss with respect to `y`. Zeros if left out. What it holds where a row is
            padded does not matter, `y` being constant there.
        dstate_n : as `state`, optional
            The gradient of the loss with respect to `state_n`. Zeros if left out, and so is a member of a
            pair that is None.
        input_gradient : bool, default True
            Whether the gradient of `x` is wanted: without it a training step of a first layer is a sixth
            shorter.

        Returns
        -------
        Gradients
            Those of the loss with respect to `x` (None for tokens, or if not wanted), `w_ih`, `w_hh`, `b_ih`
            and `b_hh` (None where there was none) and the initial state.

        Raises
        ------
        TypeError
            If the reserve is of another function, or a gradient not of the dtype of `y`.
        ValueError
            If a gradient has another shape than what it is the gradient of.
        RuntimeError
            If the reserve was used before.
        """
        if not isinstance(reserve, Reserve) or reserve._cell not in self._cells.values():
            raise TypeError(f"reserve must come from {self.__name__}_forward, got {reserve!r}")
        return run_directions_back([(reserve, dy, dstate_n, input_gradient, None)])[0]

    def _cell(self, nonlinearity: str) -> str:
        return self._cells[one_of("nonlinearity", nonlinearity, tuple(self._cells))]

    def __repr__(self) -> str:
        return f"<function fastrnn.{self.__name__}>"

    def __reduce__(self) -> str:
        return self.__name__


rnn = CellFunction[Array](
    "rnn",
    {"tanh": "rnn_tanh", "relu": "rnn_relu"},
    "A simple recurrent layer (Elman 1990): h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).",
)
rnn_forward, rnn_backward = rnn.forward, rnn.backward

lstm = CellFunction[tuple[Array, Array]](
    "lstm",
    {"tanh": "lstm"},
    """A long short-term memory layer (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

    ::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(the same)
        c_t     = f c_{t-1} + i g                                    h_t = o tanh(c_t)

    The gates have the order i f g o; the state is the pair (h, c).""",
)
lstm_forward, lstm_backward = lstm.forward, lstm.backward

gru = CellFunction[Array](
    "gru",
    {"tanh": "gru"},
    """A gated recurrent layer (Cho et al. 2014) in cuDNN's form, with the reset gate after the product.

    ::

        r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        n    = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))
        h_t  = (1 - z) n + z h_{t-1}

    The gates have the order r z n; the last third of `b_hh` is b_hn.""",
)
gru_forward, gru_backward = gru.forward, gru.backward


# -- the layer without memory


def linear(x: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Array:
    """y = x W^T + b on the last axis, on the same threads as the recurrent functions.

    Parameters
    ----------
    x : array_like, (..., I) float32 or float64
        The input. The dtype of all arguments is one.
    weight : array_like, (O, I)
        W.
    bias : array_like, (O,), optional
        b.

    Returns
    -------
    y : ndarray, (..., O)

    Raises
    ------
    TypeError
        If an argument is of another dtype, masked or None, or if two dtypes are mixed.
    ValueError
        If an argument has another shape, or if O or I is 0.
    """
    rows, weight = _linear_arguments(x, weight)
    bias = _optional("bias", bias, weight.shape[:1])
    same_dtype(x=rows, weight=weight, bias=bias)
    y: Array = kernels().linear(rows.reshape(-1, rows.shape[-1]), weight, bias)
    return y.reshape(*rows.shape[:-1], len(weight))


def linear_backward(x: npt.ArrayLike, weight: npt.ArrayLike, dy: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """The gradients of `linear`.

    Parameters
    ----------
    x, weight
        As of `linear`.
    dy : array_like, (..., O)
        The gradient with respect to y.

    Returns
    -------
    dx, dweight, dbias : ndarray, (..., I), (O, I) and (O,)

    Raises
    ------
    TypeError, ValueError
        As of `linear`.
    """
    rows, weight = _linear_arguments(x, weight)
    outputs, inputs = weight.shape
    drows = float_array("dy", dy, (*rows.shape[:-1], outputs))
    same_dtype(x=rows, weight=weight, dy=drows)
    flat = rows.reshape(-1, inputs), weight, drows.reshape(-1, outputs)
    dx, dweight, dbias = kernels().linear_backward(*flat)
    return dx.reshape(rows.shape), dweight, dbias


def _linear_arguments(x: npt.ArrayLike, weight: npt.ArrayLike) -> tuple[Array, Array]:
    weight = float_array("weight", weight, ("O", "I"))
    if weight.size == 0:
        raise ValueError(f"weight must not be empty, got shape {weight.shape}")
    x = array("x", x, f"a float array of shape (..., {weight.shape[1]})")
    return float_array("x", x, (*x.shape[:-1], weight.shape[1])), weight
