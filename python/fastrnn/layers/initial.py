"""Initial values other than PyTorch's, which every layer starts from: written over the parameters of one.

>>> from fastrnn.layers import LSTM, initial
>>> layer = LSTM(3, 5, seed=0)
>>> initial.orthogonal(layer, seed=0)
>>> initial.forget_bias(layer, 1.0)

Gradients through time are products of Jacobians, one for each step, and each has W_hh as a factor. What these
functions choose is where such products begin: at a matrix that keeps lengths, at a gate that is open.

References
----------
Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
networks", ICLR (2014).
Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of rectified linear units",
arXiv:1504.00941 (2015).
Gers, Schmidhuber and Cummins, "Learning to forget: continual prediction with LSTM", Neural Computation 12
(2000).
Jozefowicz, Zaremba and Sutskever, "An empirical exploration of recurrent network architectures", ICML (2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastrnn import checks, reference
from fastrnn.checks import Array
from fastrnn.layers.cells import RNN
from fastrnn.layers.layer import Seed, generator
from fastrnn.layers.recurrent import Recurrent

__all__ = ["forget_bias", "identity", "orthogonal"]


def orthogonal(layer: Recurrent[Any], gain: float = 1.0, *, seed: Seed = None) -> None:
    """Recurrent weights that keep the length of h: an orthogonal matrix for each gate (Saxe et al. 2014), or,
    where h is projected, one with orthonormal columns.

    Parameters
    ----------
    layer : Recurrent
        Whose ``weight_hh`` are overwritten, in all layers and directions.
    gain : float, default 1.0
        What the matrices are multiplied by: every singular value is this.
    seed : int or numpy.random.Generator, optional
        Of the matrices, which are uniform among the orthogonal ones. The same int gives the same bits.

    Raises
    ------
    TypeError, ValueError
        If `layer` is not recurrent, or `gain` not a positive number.

    Examples
    --------
    >>> layer = RNN(3, 5, dtype="float64")
    >>> orthogonal(layer, seed=0)
    >>> w = layer.parameters["weight_hh_l0"]
    >>> bool(np.allclose(w @ w.T, np.eye(5)))
    True
    """
    gain = checks.positive_float("gain", gain)
    weights = list(_of(layer, "weight_hh"))
    rng = generator(seed, "orthogonal", *(weight.shape for weight in weights))
    for weight in weights:
        shape = layer.hidden_size, weight.shape[1]
        for gate in weight.reshape(-1, *shape):
            q, r = np.linalg.qr(rng.standard_normal(shape))
            gate[...] = gain * q * np.copysign(1, np.diagonal(r))  # without the signs, not uniform


def identity(layer: RNN, scale: float = 1.0) -> None:
    """Recurrent weights that are the identity, and no biases: h stays as it is (Le et al. 2015: the IRNN).

    Meant for ``RNN(..., nonlinearity="relu")``.

    Parameters
    ----------
    layer : RNN
        Whose ``weight_hh`` and biases are overwritten, in all layers and directions.
    scale : float, default 1.0
        What the identity is multiplied by: less than 1 forgets.

    Raises
    ------
    TypeError, ValueError
        If `layer` is not an `RNN`, or `scale` not a positive number.

    Examples
    --------
    >>> layer = RNN(2, 2, nonlinearity="relu")
    >>> identity(layer)
    >>> layer(np.zeros((100, 1, 2), "float32"), np.array([[[3.0, 5.0]]], "float32"))[1].tolist()
    [[[3.0, 5.0]]]
    """
    scale = checks.positive_float("scale", scale)
    if not isinstance(layer, RNN):
        raise TypeError(f"layer must be an RNN, got {checks.came(layer)}")
    for weight in _of(layer, "weight_hh"):
        weight[...] = scale * np.eye(len(weight))
    for bias in _of(layer, "bias"):
        bias[...] = 0


def forget_bias(layer: Recurrent[Any], value: float = 1.0) -> None:
    """The bias of the gate that keeps the state (Gers et al. 2000; 1 is what Jozefowicz et al. 2015 advise).

    In an `LSTM` that is f, and where f = 1 - i the bias of i is the negative; in a `GRU` it is z, which
    multiplies h_{t-1}. A gate of bias b is open to 1 / (1 + exp(-b)) on average: 0.5 at 0, 0.73 at 1, 0.95 at
    3.

    Parameters
    ----------
    layer : LSTM or GRU
        The gate's part of ``bias_ih`` becomes the value, that of ``bias_hh`` 0, in all layers and directions.
    value : float, default 1.0
        The sum of both.

    Raises
    ------
    TypeError
        If `layer` has no such gate, or `value` is not a number.
    ValueError
        If `layer` has no biases, or `value` is not finite.

    Examples
    --------
    >>> layer = fastrnn.LSTM(3, 2)
    >>> forget_bias(layer)
    >>> (layer.parameters["bias_ih_l0"] + layer.parameters["bias_hh_l0"])[2:4].tolist()
    [1.0, 1.0]
    """
    cell = reference.CELLS[layer._cell] if isinstance(layer, Recurrent) else None
    if cell is None or not cell.keeps:
        raise TypeError(f"layer must be one with a gate that keeps the state, got {checks.came(layer)}")
    value = checks.finite_float("value", value)
    if not layer.bias:
        raise ValueError("layer must have biases, got one with bias=False")
    gate = cell.keeps
    if layer._told.coupled:
        gate, value = "i", -value
    first = cell.gates.index(gate) * layer.hidden_size
    for name, number in ("bias_ih", value), ("bias_hh", 0.0):
        for bias in _of(layer, name):
            bias[first : first + layer.hidden_size] = number


def _of(layer: Recurrent[Any], name: str) -> Iterator[Array]:
    """The parameters of this name in all layers and directions."""
    if not isinstance(layer, Recurrent):
        raise TypeError(f"layer must be a recurrent layer, got {checks.came(layer)}")
    return (array for key, array in layer.parameters.items() if key.startswith(name))
