"""The cells: what happens in one step.

A cell is given ``x = W_ih x_t + b_ih`` and ``h = W_hh h_{t-1} + b_hh``, which arrive separately and split by
gate because the GRU does not simply add them. It says of itself, and everyone who needs to know asks it:

``gates``
    a letter for each block of H rows that the weights have, in their order; so many arrays `x` and `h` hold;
``states``
    a letter for each array that is carried from step to step; the first is the output, h, which W_hh
    multiplies;
``sigmoids``
    those of the gates that are between 0 and 1;
``keeps``
    the one of them that multiplies what is remembered, if there is one: open, it keeps the state as it is;
``forward(x, h, previous) -> (following, kept)``
    the states after the step, and whatever else `backward` will want to know: the values of the gates first;
``backward(kept, previous, following, dfollowing) -> (dx, dh, dprevious)``
    the chain rule through the same step, but for what flows back through W_hh, which is the loop's part.

References
----------
Elman, "Finding structure in time", Cognitive Science 14 (1990).
Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
Gers, Schmidhuber and Cummins, "Learning to forget: continual prediction with LSTM", Neural Computation 12
(2000).
Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP (2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Sequence[Array]


class Cell(Protocol):
    """What the loop over time needs to know of a cell. Every array that a cell sees is (B, H)."""

    gates: str
    states: str
    sigmoids: str
    keeps: str

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

    gates, states, sigmoids, keeps = "h", "h", "", ""

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

    gates, states, sigmoids, keeps = "h", "h", "", ""

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

    gates, states, sigmoids, keeps = "ifgo", "hc", "ifo", "f"

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

    gates, states, sigmoids, keeps = "rzn", "h", "rz", "z"

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
