"""The recurrent layers: `RNN`, `LSTM` and `GRU`, which differ in their cell only.

Letters: T time, B batch, I input, H hidden, G gates, L layers, D directions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.layer import Seed
from fastrnn.layers.recurrent import Recurrent


class RNN(Recurrent[Array]):
    """Simple recurrent layers: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) (Elman 1990).

    Names of weights and methods are those of `Recurrent`, with G = 1. The state is h.

    Parameters
    ----------
    nonlinearity : {"tanh", "relu"}
        "relu" is max(0, ...) in the place of tanh.

    Examples
    --------
    >>> layer = RNN(3, 5, nonlinearity="relu", seed=0)
    >>> y, h = layer(np.ones((7, 2, 3), "float32"))
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        learned_state: bool = False,
        recompute: bool = False,
        dtype: npt.DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        self.nonlinearity = checks.one_of("nonlinearity", nonlinearity, ("tanh", "relu"))
        self._cell = f"rnn_{nonlinearity}"
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            bidirectional=bidirectional,
            learned_state=learned_state,
            recompute=recompute,
            dtype=dtype,
            seed=seed,
        )


class LSTM(Recurrent[tuple[Array, Array]]):
    """Long short-term memory layers (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

    ::

        i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)     g = tanh(the same)
        c_t     = f c_{t-1} + i g                                    h_t = o tanh(c_t)

    Names of weights and methods are those of `Recurrent`, with G = 4 gates in the order i f g o. The
    state is the pair (h, c).

    Examples
    --------
    >>> layer = LSTM(3, 5, num_layers=2, bidirectional=True, seed=0)
    >>> y, (h, c), back = layer.forward(np.ones((7, 2, 3), "float32"), lengths=[7, 4])
    >>> y.shape, h.shape, c.shape
    ((7, 2, 10), (4, 2, 5), (4, 2, 5))
    >>> dx, (dh, dc) = back(np.ones_like(y))
    >>> dx.shape, layer.gradients["weight_ih_l1_reverse"].shape
    ((7, 2, 3), (20, 10))
    """

    _cell = "lstm"


class GRU(Recurrent[Array]):
    """Layers of gated recurrent units (Cho et al. 2014), with the reset gate after the product as in cuDNN.

    ::

        r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)
        n    = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))       h_t = (1 - z) n + z h_{t-1}

    Names of weights and methods are those of `Recurrent`, with G = 3 gates in the order r z n. The state
    is h.

    The first form, that of ONNX's ``linear_before_reset=0``, has n = tanh(W_in x_t + b_in + W_hn (r h_{t-1})
    + b_hn). It is not offered, and its weights are of no use here: each step would need two products, of
    which the second waits for the first. ARCHITECTURE.md says what that would cost.

    Examples
    --------
    >>> layer = GRU(100, 5, batch_first=True, seed=0)
    >>> y, h = layer(np.array([[7, 99, 0], [3, 3, 3]]))  # tokens of a vocabulary of 100
    >>> y.shape, h.shape
    ((2, 3, 5), (1, 2, 5))
    """

    _cell = "gru"


#: The classes of recurrent layers, by the names that models and the command have for them.
CELLS: dict[str, type[Recurrent[Any]]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
