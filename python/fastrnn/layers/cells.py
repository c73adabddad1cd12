"""The recurrent layers: `RNN`, `LSTM` and `GRU`, which differ in their cell only.

Letters: T time, B batch, I input, H hidden, P projection, G gates, L layers, D directions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from fastrnn.checks import Array
from fastrnn.functional.variants import OPTIONS
from fastrnn.layers.recurrent import Recurrent


class RNN(Recurrent[Array]):
    """Simple recurrent layers: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) (Elman 1990).

    Names of weights and methods are those of `Recurrent`, with G = 1. The state is h.

    Parameters
    ----------
    nonlinearity : str
        What stands in the place of tanh: see `activation` of `LSTM`.
    clip : float, optional
        As of `LSTM`.

    Examples
    --------
    >>> layer = RNN(3, 5, nonlinearity="relu", seed=0)
    >>> y, h = layer(np.ones((7, 2, 3), "float32"))
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
    """

    _kind, _options = "rnn", OPTIONS["rnn"]

    nonlinearity: str
    clip: float | None


class LSTM(Recurrent[tuple[Array, Array]]):
    """Long short-term memory layers (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

    ::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(the same)
        c_t     = f c_{t-1} + i g                                    h_t = o tanh(c_t)

    Names of weights and methods are those of `Recurrent`, with G = 4 gates in the order i f g o. The
    state is the pair (h, c).

    Parameters
    ----------
    proj_size : int
        P, if it is not 0: h_t = W_hr (o tanh(c_t)) has so many features, less than H, and with it y (Sak et
        al. 2014). ``weight_hr_l0`` (P, H) follows the biases, and ``weight_hh_l0`` is (4*H, P), as in
        PyTorch.
    peephole : bool
        Whether the gates look at c (Gers et al. 2002): p_i c_{t-1} and p_f c_{t-1} are added to what i and f
        are made of, p_o c_t to that of o. ``peephole_l0`` (3*H,) has p_i, p_f and p_o in this order.
    layer_norm : bool
        Whether there is layer normalisation (Ba et al. 2016), in the form of haste: LN(W_ih x_t) gamma_ih +
        b_ih and LN(W_hh h_{t-1}) gamma_hh + b_hh, with the mean and variance of all 4*H numbers, and h_t =
        o tanh(LN(c_t) gamma_c + beta_c). ``gamma_ih_l0``, ``gamma_hh_l0`` (4*H,) and ``gamma_c_l0`` (H,) are
        ones at first, ``beta_c_l0`` (H,) is zeros. It goes with no other form of the cell.
    gate_activation, activation, output_activation : str
        In the place of sigmoid, of the tanh that makes g and of that of c_t: "sigmoid", "hard_sigmoid" (0 to
        1 with slope 1/5 between, as ONNX has it), "hard_sigmoid_6" (with slope 1/6, as Keras 3 and PyTorch
        have it), "tanh", "relu" or "linear".
    clip : float, optional
        The bound of what `gate_activation` and `activation` are applied to, but not of c_t: as in ONNX
        Runtime, while the text of ONNX leaves that open.
    coupled : bool
        Whether f is 1 - i (Greff et al. 2017; ONNX's ``input_forget``): what the weights give to f is then of
        no use.

    Examples
    --------
    >>> layer = LSTM(3, 5, num_layers=2, bidirectional=True, seed=0)
    >>> y, (h, c), back = layer.forward(np.ones((7, 2, 3), "float32"), lengths=[7, 4])
    >>> y.shape, h.shape, c.shape
    ((7, 2, 10), (4, 2, 5), (4, 2, 5))
    >>> dx, (dh, dc) = back(np.ones_like(y))
    >>> dx.shape, layer.gradients["weight_ih_l1_reverse"].shape
    ((7, 2, 3), (20, 10))
    >>> y, (h, c) = LSTM(3, 5, proj_size=2, seed=0)(np.ones((7, 2, 3), "float32"))
    >>> y.shape, h.shape, c.shape
    ((7, 2, 2), (1, 2, 2), (1, 2, 5))
    """

    _kind, _options = "lstm", {"proj_size": 0, **OPTIONS["lstm"]}

    peephole: bool
    layer_norm: bool
    gate_activation: str
    activation: str
    output_activation: str
    clip: float | None
    coupled: bool


class GRU(Recurrent[Array]):
    """Layers of gated recurrent units (Cho et al. 2014), with the reset gate after the product as in cuDNN.

    ::

        r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        n    = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))       h_t = (1 - z) n + z h_{t-1}

    Names of weights and methods are those of `Recurrent`, with G = 3 gates in the order r z n. The state
    is h.

    Parameters
    ----------
    reset_after : bool
        False is the first form, that of Cho et al. and of ONNX's ``linear_before_reset=0``: n = tanh(W_in x_t
        + b_in + W_hn (r h_{t-1}) + b_hn). Each step has two products then, of which the second waits for the
        first. Weights of one form are of no use in the other.
    layer_norm : bool
        As of `LSTM`, without gamma_c and beta_c: LN(W_ih x_t) gamma_ih + b_ih and LN(W_hh h_{t-1}) gamma_hh +
        b_hh, with the mean and variance of all 3*H numbers.
    gate_activation, activation, clip
        As of `LSTM`.

    Examples
    --------
    >>> layer = GRU(100, 5, batch_first=True, seed=0)
    >>> y, h = layer(np.array([[7, 99, 0], [3, 3, 3]]))  # tokens of a vocabulary of 100
    >>> y.shape, h.shape
    ((2, 3, 5), (1, 2, 5))
    """

    _kind, _options = "gru", OPTIONS["gru"]

    reset_after: bool
    layer_norm: bool
    gate_activation: str
    activation: str
    clip: float | None


#: The classes of recurrent layers, by the names that models and the command have for them.
CELLS: dict[str, type[Recurrent[Any]]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
