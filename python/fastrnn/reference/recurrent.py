"""The cells, and the one loop over time for them all.

A cell says what happens in one step, given ``x = W_ih x_t + b_ih`` and ``h = W_hh h_{t-1} + b_hh``, which
arrive separately and split by gate because the GRU does not simply add them. Four members, in C++ as here:

``gates``
    how many blocks of H rows the weights have, and so how many arrays `x` and `h` hold;
``states``
    how many arrays are carried from step to step; the first is the output, and the one that W_hh multiplies;
``forward(x, h, previous) -> (following, kept)``
    the states after the step, and whatever else `backward` will want to know;
``backward(kept, previous, following, dfollowing) -> (dx, dh, dprevious)``
    the chain rule through the same step, but for what flows back through W_hh, which is the loop's part.

Letters: T time, B batch, I input, H hidden, G gates, V vocabulary. Everything is computed in the dtype given,
and little is checked; `fastrnn.functional` has the same functions behind a checked door.

References
----------
Elman, "Finding structure in time", Cognitive Science 14 (1990).
Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
Gers, Schmidhuber and Cummins, "Learning to forget: continual prediction with LSTM", Neural Computation 12
(2000).
Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP (2014).
Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78 (1990).
Gal and Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", NIPS
(2016).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Sequence[Array]


# -- the cells


class Cell(Protocol):
    """What the loop over time needs to know of a cell. Every array that a cell sees is (B, H)."""

    gates: int
    states: int

    @staticmethod
    def forward(x: Arrays, h: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        """The next states, and what `backward` needs, of what the input and h give to the gates."""
        ...

    @staticmethod
    def backward(
        kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> tuple[Arrays, Arrays, Arrays]:
        """The gradients of `forward`'s x, h and previous."""
        ...


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), written so that no exponent is positive and nothing overflows."""
    result: Array = np.exp(np.minimum(a, 0)) / (1 + np.exp(-np.abs(a)))
    return result


class TanhRNN:
    """The simple recurrent network, h_t = tanh(x + h) (Elman 1990)."""

    gates, states = 1, 1

    @staticmethod
    def forward(x: Arrays, h: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        return [np.tanh(x[0] + h[0])], []

    @staticmethod
    def backward(
        kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> tuple[Arrays, Arrays, Arrays]:
        (h,), (dh,) = following, dfollowing
        da = dh * (1 - h * h)
        return [da], [da], [np.zeros_like(h)]


class ReluRNN:
    """The simple recurrent network with h_t = max(0, x + h); its slope at 0 is taken as 0."""

    gates, states = 1, 1

    @staticmethod
    def forward(x: Arrays, h: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        return [np.maximum(x[0] + h[0], 0)], []

    @staticmethod
    def backward(
        kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> tuple[Arrays, Arrays, Arrays]:
        (h,), (dh,) = following, dfollowing
        da = np.where(h > 0, dh, 0)
        return [da], [da], [np.zeros_like(h)]


class LSTM:
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with the forget gate of Gers et al. (2000).

    ::

        i, f, o = sigmoid(x + h)        g = tanh(x + h)         gates in the order i f g o
        c_t     = f c_{t-1} + i g       h_t = o tanh(c_t)
    """

    gates, states = 4, 2

    @staticmethod
    def forward(x: Arrays, h: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        a_i, a_f, a_g, a_o = (x_k + h_k for x_k, h_k in zip(x, h, strict=True))
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        _, c_previous = previous
        c = f * c_previous + i * g
        return [o * np.tanh(c), c], [i, f, g, o]

    @staticmethod
    def backward(
        kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> tuple[Arrays, Arrays, Arrays]:
        (i, f, g, o), (_, c_previous), (_, c), (dh, dc) = kept, previous, following, dfollowing
        tanh_c = np.tanh(c)
        dc = dc + dh * o * (1 - tanh_c * tanh_c)  # the cell state also acts through h
        da = [
            dc * g * i * (1 - i),
            dc * c_previous * f * (1 - f),
            dc * i * (1 - g * g),
            dh * tanh_c * o * (1 - o),
        ]
        return da, da, [np.zeros_like(dh), dc * f]


class GRU:
    """The gated recurrent unit (Cho et al. 2014) in cuDNN's form: r acts after the product with W_hn.

    ::

        r, z = sigmoid(x + h)           n = tanh(x + r h)       gates in the order r z n
        h_t  = (1 - z) n + z h_{t-1}
    """

    gates, states = 3, 1

    @staticmethod
    def forward(x: Arrays, h: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (x_r, x_z, x_n), (h_r, h_z, h_n), (h_previous,) = x, h, previous
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        return [(1 - z) * n + z * h_previous], [r, z, n, h_n]

    @staticmethod
    def backward(
        kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> tuple[Arrays, Arrays, Arrays]:
        (r, z, n, h_n), (h_previous,), (dh,) = kept, previous, dfollowing
        da_n = dh * (1 - z) * (1 - n * n)
        da_z = dh * (h_previous - n) * z * (1 - z)
        da_r = da_n * h_n * r * (1 - r)
        return [da_r, da_z, da_n], [da_r, da_z, da_n * r], [dh * z]


CELLS: dict[str, type[Cell]] = {"rnn_tanh": TanhRNN, "rnn_relu": ReluRNN, "lstm": LSTM, "gru": GRU}


# -- the loop over time


class Step(NamedTuple):
    """One step of the loop, as BPTT will want to find it: R rows of the batch, each at a time of its own."""

    rows: Array  # (R,) the rows that have not ended
    times: Array  # (R,) the position that each of them reads and writes
    previous: Arrays  # states before, each (R, H)
    following: Arrays  # states after
    kept: Arrays  # what the cell kept
    multiplied: Array  # (R, H) what W_hh multiplied: h before, under the mask if there is one


class Reserve(NamedTuple):
    """What `forward` leaves for `backward`; `x` and the weights are no copies, so do not write to them."""

    cell: str
    x: Array
    w_ih: Array
    w_hh: Array
    biases: tuple[bool, bool]
    steps: list[Step]
    batch: int
    mask: Array | None


class Gradients(NamedTuple):
    """The gradient of a loss with respect to each argument of a forward function, in that argument's shape.

    `x` is None where the input was tokens, a bias where there was none. `state` is there even if the initial
    state was left out: a (B, H) array, for the LSTM the pair (dh, dc).
    """

    x: Array | None
    w_ih: Array
    w_hh: Array
    b_ih: Array | None
    b_hh: Array | None
    state: Any


@np.errstate(all="ignore")  # infinities and NaN flow through without a word, as in the kernels
def forward(
    cell: str,
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None,
    b_hh: Array | None,
    states: Sequence[Array | None],
    lengths: Array | None,
    reverse: bool,
    training: bool,
    recompute: bool = False,
    packed: dict[str, Any] | None = None,
    mask: Array | None = None,
    all_c: Array | None = None,
) -> tuple[Array, tuple[Array, ...], Reserve | None]:
    """Run a cell over time; the same call as the native ``_core.forward``.

    Parameters
    ----------
    cell : str
        A key of `CELLS`.
    x : ndarray, (T, B, I) floats or (T, B) integers
        The input. Integers are tokens, standing for columns of `w_ih`.
    w_ih : ndarray, (G*H, I) or (G*H, V)
        The input's weights.
    w_hh : ndarray, (G*H, H)
        The recurrent weights.
    b_ih, b_hh : ndarray, (G*H,), or None
        Biases.
    states : sequence of ndarray, (B, H), or None
        One initial value for each of the cell's states. None is zeros.
    lengths : ndarray of integers, (B,), or None
        How many steps of each row are valid. None is all T.
    reverse : bool
        Whether each row runs from its last valid step to its first.
    training : bool
        Whether to keep what `backward` needs.
    recompute : bool
        Makes no difference here: all is kept. It changes memory, never results, which is what this specifies.
    packed : dict, optional
        Where a backend may keep things for the next call with these weights. This one keeps nothing.
    mask : ndarray, (B, H), optional
        What h_{t-1} is multiplied by before W_hh multiplies it, the same in every step: with zeros, and
        1 / (1 - p) elsewhere, the recurrent dropout of Gal and Ghahramani (2016). All else that a cell does
        with h_{t-1} is without it.
    all_c : ndarray, (T, B, H), optional
        Written to: c after each step of a cell that has one. Padded positions are left as they are.

    Returns
    -------
    y : ndarray, (T, B, H)
        The first state after each step, zero where a row is padded.
    states : tuple of ndarray, (B, H)
        Every state after each row's last step.
    reserve : Reserve or None
        For `backward`, if `training`.
    """
    step = CELLS[cell]
    T, B = x.shape[:2]
    H = w_hh.shape[1]
    y = np.zeros((T, B, H), w_hh.dtype)
    current = tuple(_zeros_or_copy(state, (B, H), w_hh.dtype) for state in states)
    steps = []
    for rows, times in _walk(T, B, lengths, reverse):
        previous = [state[rows] for state in current]
        x_gates = _affine(x[times, rows], w_ih, b_ih)
        multiplied = previous[0] if mask is None else previous[0] * mask[rows]
        h_gates = _affine(multiplied, w_hh, b_hh)
        following, kept = step.forward(_split(x_gates, step.gates), _split(h_gates, step.gates), previous)
        for state, value in zip(current, following, strict=True):
            state[rows] = value
        y[times, rows] = following[0]
        if all_c is not None and step.states > 1:
            all_c[times, rows] = following[1]
        if training:
            steps.append(Step(rows, times, previous, following, kept, multiplied))
    biases = (b_ih is not None, b_hh is not None)
    return y, current, Reserve(cell, x, w_ih, w_hh, biases, steps, B, mask) if training else None


@np.errstate(all="ignore")
def backward(
    reserve: Reserve,
    dy: Array | None,
    dstates: Sequence[Array | None],
    input_gradient: bool = True,
    dhidden: Array | None = None,
) -> tuple[Array | None, Array, Array, Array | None, Array | None, tuple[Array, ...]]:
    """Undo `forward`, last step first (Werbos 1990); the same call as the native ``_core.backward``.

    Parameters
    ----------
    reserve : Reserve
        What `forward` left.
    dy : ndarray, (T, B, H), or None
        The gradient with respect to `y`; padded positions are not looked at. None is zeros.
    dstates : sequence of ndarray, (B, H), or None
        The gradient with respect to every final state. None is zeros.
    input_gradient : bool
        Whether the gradient of `x` is wanted.
    dhidden : ndarray, (T, B, H), optional
        Written to: the whole gradient with respect to every h, what comes from `y` and what flows back
        through time. Padded positions stay as they are.

    Returns
    -------
    tuple
        The gradients of `x`, `w_ih`, `w_hh`, `b_ih`, `b_hh` and the tuple of initial states; None
        for tokens, for what is not wanted and for a bias that was not there.
    """
    cell, x, w_ih, w_hh, biases, steps, B, mask = reserve
    H = w_hh.shape[1]
    tokens = x.ndim == 2
    dx = np.zeros_like(x) if input_gradient and not tokens else None
    dw_ih, dw_hh = np.zeros_like(w_ih), np.zeros_like(w_hh)
    db_ih, db_hh = (np.zeros_like(w_hh[:, 0]) if given else None for given in biases)
    dcurrent = tuple(_zeros_or_copy(dstate, (B, H), w_hh.dtype) for dstate in dstates)
    for rows, times, previous, following, kept, multiplied in reversed(steps):
        dfollowing = [dstate[rows] for dstate in dcurrent]
        if dy is not None:
            dfollowing[0] = dfollowing[0] + dy[times, rows]
        if dhidden is not None:
            dhidden[times, rows] = dfollowing[0]
        dx_split, dh_split, dprevious = CELLS[cell].backward(kept, previous, following, dfollowing)
        dx_gates, dh_gates = np.concatenate(dx_split, axis=1), np.concatenate(dh_split, axis=1)

        for dstate, value in zip(dcurrent, dprevious, strict=True):
            dstate[rows] = value
        dmultiplied = dh_gates @ w_hh
        dcurrent[0][rows] += dmultiplied if mask is None else dmultiplied * mask[rows]
        dw_hh += dh_gates.T @ multiplied
        if db_hh is not None:
            db_hh += dh_gates.sum(axis=0)

        if tokens:
            np.add.at(dw_ih.T, x[times, rows], dx_gates)  # unlike +=, adds again where a token repeats
        else:
            dw_ih += dx_gates.T @ x[times, rows]
        if dx is not None:
            dx[times, rows] = dx_gates @ w_ih
        if db_ih is not None:
            db_ih += dx_gates.sum(axis=0)
    return dx, dw_ih, dw_hh, db_ih, db_hh, dcurrent


def forward_all(directions: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """`forward` for each direction of a layer; the arguments of one are a tuple."""
    return [forward(*arguments) for arguments in directions]


def backward_all(directions: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """`backward` for each direction of a layer."""
    return [backward(*arguments) for arguments in directions]


def _walk(T: int, B: int, lengths: Array | None, reverse: bool) -> Iterator[tuple[Array, Array]]:
    """For every step, the rows that have not ended, and the position at which each of them is."""
    if lengths is None:
        lengths = np.full(B, T)
    for step in range(lengths.max(initial=0)):
        rows = np.flatnonzero(step < lengths)
        yield rows, lengths[rows] - 1 - step if reverse else np.full_like(rows, step)


def _affine(x: Array, w: Array, b: Array | None) -> Array:
    """W x + b for (R, I) floats, or for (R,) tokens, which stand for columns of W."""
    product: Array = x @ w.T if x.ndim == 2 else w.T[x]
    return product if b is None else product + b


def _split(gates: Array, count: int) -> Arrays:
    return np.split(gates, count, axis=1)


def _zeros_or_copy(array: Array | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    return np.zeros(shape, dtype) if array is None else np.array(array)


# -- the functions


def rnn(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: Array | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[Array, Array]:
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or max(0, ...) with "relu" (Elman 1990).

    Parameters
    ----------
    x : ndarray, (T, B, I) floats or (T, B) integers
        The input. Integers are tokens, standing for columns of `w_ih`.
    w_ih : ndarray, (H, I) or (H, V)
        The input's weights.
    w_hh : ndarray, (H, H)
        The recurrent weights.
    b_ih, b_hh : ndarray, (H,), optional
        Biases.
    state : ndarray, (B, H), optional
        The initial h; zeros if left out.
    lengths : ndarray of integers, (B,), optional
        How many steps of each row are valid, in any order; all T if left out.
    reverse : bool
        Whether each row runs from its last valid step to its first.
    nonlinearity : {"tanh", "relu"}
        What is applied to the sum.

    Returns
    -------
    y : ndarray, (T, B, H)
        h after each step, in the order of `x`; zero where a row is padded.
    state_n : ndarray, (B, H)
        h after each row's last step; a row of length 0 keeps its initial state.
    """
    y, (h,), _ = forward("rnn_" + nonlinearity, x, w_ih, w_hh, b_ih, b_hh, (state,), lengths, reverse, False)
    return y, h


def rnn_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: Array | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
    recompute: bool = False,
) -> tuple[Array, Array, Reserve]:
    """The same as `rnn`, and what `rnn_backward` needs.

    Parameters
    ----------
    x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, nonlinearity
        As of `rnn`.
    recompute
        As of `forward`.

    Returns
    -------
    y, state_n
        As of `rnn`.
    reserve : Reserve
        For one call of `rnn_backward`.
    """
    y, (h,), reserve = forward(
        "rnn_" + nonlinearity, x, w_ih, w_hh, b_ih, b_hh, (state,), lengths, reverse, True, recompute
    )
    assert reserve is not None
    return y, h, reserve


def rnn_backward(reserve: Reserve, dy: Array | None = None, dstate_n: Array | None = None) -> Gradients:
    """Backpropagation through time (Werbos 1990) for `rnn_forward`.

    Parameters
    ----------
    reserve : Reserve
        What `rnn_forward` returned.
    dy : ndarray, (T, B, H), optional
        The gradient with respect to `y`; zeros if left out, not looked at where a row is padded.
    dstate_n : ndarray, (B, H), optional
        The gradient with respect to `state_n`; zeros if left out.

    Returns
    -------
    Gradients
        Its `state` is a (B, H) array.
    """
    gradients = Gradients(*backward(reserve, dy, (dstate_n,)))
    return gradients._replace(state=gradients.state[0])


def lstm(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: tuple[Array | None, Array | None] | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, tuple[Array, Array]]:
    """Long short-term memory with a forget gate; the equations are `LSTM`'s.

    Parameters
    ----------
    x : ndarray, (T, B, I) floats or (T, B) integers
        The input. Integers are tokens, standing for columns of `w_ih`.
    w_ih : ndarray, (4*H, I) or (4*H, V)
        The input's weights, gates in the order i f g o.
    w_hh : ndarray, (4*H, H)
        The recurrent weights.
    b_ih, b_hh : ndarray, (4*H,), optional
        Biases.
    state : pair of ndarray, (B, H), or None, optional
        The initial (h, c); zeros if left out, and so is either member that is None.
    lengths : ndarray of integers, (B,), optional
        How many steps of each row are valid, in any order; all T if left out.
    reverse : bool
        Whether each row runs from its last valid step to its first.

    Returns
    -------
    y : ndarray, (T, B, H)
        h after each step, in the order of `x`; zero where a row is padded.
    state_n : pair of ndarray, (B, H)
        (h, c) after each row's last step; a row of length 0 keeps its initial state.
    """
    y, (h, c), _ = forward("lstm", x, w_ih, w_hh, b_ih, b_hh, state or (None, None), lengths, reverse, False)
    return y, (h, c)


def lstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: tuple[Array | None, Array | None] | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    recompute: bool = False,
) -> tuple[Array, tuple[Array, Array], Reserve]:
    """The same as `lstm`, and what `lstm_backward` needs.

    Parameters
    ----------
    x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse
        As of `lstm`.
    recompute
        As of `forward`.

    Returns
    -------
    y, state_n
        As of `lstm`.
    reserve : Reserve
        For one call of `lstm_backward`.
    """
    y, (h, c), reserve = forward(
        "lstm", x, w_ih, w_hh, b_ih, b_hh, state or (None, None), lengths, reverse, True, recompute
    )
    assert reserve is not None
    return y, (h, c), reserve


def lstm_backward(
    reserve: Reserve, dy: Array | None = None, dstate_n: tuple[Array | None, Array | None] | None = None
) -> Gradients:
    """Backpropagation through time (Werbos 1990) for `lstm_forward`.

    Parameters
    ----------
    reserve : Reserve
        What `lstm_forward` returned.
    dy : ndarray, (T, B, H), optional
        The gradient with respect to `y`; zeros if left out, not looked at where a row is padded.
    dstate_n : pair of ndarray, (B, H), or None, optional
        The gradient with respect to `state_n`; zeros if left out, and so is either member that is None.

    Returns
    -------
    Gradients
        Its `state` is a pair (dh, dc) of (B, H) arrays.
    """
    return Gradients(*backward(reserve, dy, dstate_n or (None, None)))


def gru(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: Array | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[Array, Array]:
    """The gated recurrent unit in its reset-after form; the equations are `GRU`'s.

    Parameters
    ----------
    x : ndarray, (T, B, I) floats or (T, B) integers
        The input. Integers are tokens, standing for columns of `w_ih`.
    w_ih : ndarray, (3*H, I) or (3*H, V)
        The input's weights, gates in the order r z n.
    w_hh : ndarray, (3*H, H)
        The recurrent weights.
    b_ih, b_hh : ndarray, (3*H,), optional
        Biases; the last third of `b_hh` is inside the product with r.
    state : ndarray, (B, H), optional
        The initial h; zeros if left out.
    lengths : ndarray of integers, (B,), optional
        How many steps of each row are valid, in any order; all T if left out.
    reverse : bool
        Whether each row runs from its last valid step to its first.

    Returns
    -------
    y : ndarray, (T, B, H)
        h after each step, in the order of `x`; zero where a row is padded.
    state_n : ndarray, (B, H)
        h after each row's last step; a row of length 0 keeps its initial state.
    """
    y, (h,), _ = forward("gru", x, w_ih, w_hh, b_ih, b_hh, (state,), lengths, reverse, False)
    return y, h


def gru_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    state: Array | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    recompute: bool = False,
) -> tuple[Array, Array, Reserve]:
    """The same as `gru`, and what `gru_backward` needs.

    Parameters
    ----------
    x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse
        As of `gru`.
    recompute
        As of `forward`.

    Returns
    -------
    y, state_n
        As of `gru`.
    reserve : Reserve
        For one call of `gru_backward`.
    """
    y, (h,), reserve = forward("gru", x, w_ih, w_hh, b_ih, b_hh, (state,), lengths, reverse, True, recompute)
    assert reserve is not None
    return y, h, reserve


def gru_backward(reserve: Reserve, dy: Array | None = None, dstate_n: Array | None = None) -> Gradients:
    """Backpropagation through time (Werbos 1990) for `gru_forward`.

    Parameters
    ----------
    reserve : Reserve
        What `gru_forward` returned.
    dy : ndarray, (T, B, H), optional
        The gradient with respect to `y`; zeros if left out, not looked at where a row is padded.
    dstate_n : ndarray, (B, H), optional
        The gradient with respect to `state_n`; zeros if left out.

    Returns
    -------
    Gradients
        Its `state` is a (B, H) array.
    """
    gradients = Gradients(*backward(reserve, dy, (dstate_n,)))
    return gradients._replace(state=gradients.state[0])


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
        self._state = [np.zeros(shape, layers[0][1].dtype) for _ in range(CELLS[cell].states)]

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
    if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
        return False
    return array.flags.c_contiguous and array.flags.aligned
