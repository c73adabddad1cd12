"""What a training step does to losses, gradients and parameters.

The optimizers' updates change arrays in place: parameters p and their moving averages m and v, by their
gradients g, of which they are given tuples (p, g, averages). The native ones do the same operations in the
same order and give the same bits. `fastrnn.optim` says where the formulas come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastrnn.checks import Array


@np.errstate(all="ignore")  # infinities and NaN flow through without a word, as in the kernels
def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """The mean of -log softmax(logits)[target] over the counted rows, and its gradient.

    With p = softmax(logits) the gradient is (p - onehot(target)) / count (Bishop 2006, equation 4.109). The
    largest logit of each row is subtracted first, so that no exponential overflows.

    Parameters
    ----------
    logits : ndarray, (N, V) float32 or float64
    targets : ndarray of int64, (N,)
        0 to V-1, or below 0 where a row is not counted.

    Returns
    -------
    loss : float
        0 if no row is counted.
    dlogits : ndarray, (N, V)
        0 in the rows that are not counted.
    """
    counted, rows = targets >= 0, np.arange(len(targets))
    count = max(1, int(counted.sum()))
    scores = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(scores)
    total = exponentials.sum(axis=1)
    losses = np.log(total) - scores[rows, targets]
    loss = losses.sum(where=counted, dtype=np.float64) / count

    dlogits: Array = exponentials * (1 / (count * total))[:, None]
    dlogits[rows, targets] -= 1 / count
    dlogits[~counted] = 0
    return float(loss), dlogits


@np.errstate(all="ignore")
def sgd(given: Sequence[tuple[Array, ...]], lr: float, momentum: float, weight_decay: float) -> None:
    """d = g + weight_decay p;  m' = momentum m + d;  p' = p - lr m', or p - lr d without m."""
    for p, g, *averages in given:
        direction = p * weight_decay + g if weight_decay else g
        for m in averages:
            m *= momentum
            m += direction
            direction = m
        p -= direction * lr


@np.errstate(all="ignore")
def rmsprop(given: Sequence[tuple[Array, ...]], lr: float, alpha: float, eps: float) -> None:
    """v' = alpha v + (1 - alpha) g^2;  p' = p - lr g / (sqrt(v') + eps)."""
    for p, g, v in given:
        v *= alpha
        v += g * g * (1 - alpha)
        p -= g / (np.sqrt(v) + eps) * lr


@np.errstate(all="ignore")
def adam(
    given: Sequence[tuple[Array, ...]], rate: float, kept: float, beta1: float, beta2: float, eps: float
) -> None:
    """m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2;  p' = kept p - rate m' / (sqrt(v') + eps).

    `rate` and `eps` hold the corrections of bias, `kept` the decay of weights: see `fastrnn.optim.Adam`.
    """
    for p, g, m, v in given:
        m += (g - m) * (1 - beta1)
        v *= beta2
        v += g * g * (1 - beta2)
        p *= kept
        p -= m / (np.sqrt(v) + eps) * rate


def sum_of_squares(x: Array) -> float:
    """In float64, in which no float32's square overflows."""
    with np.errstate(all="ignore"):
        return float(np.square(x, dtype=np.float64).sum())


def scale(arrays: Sequence[Array], factor: float) -> None:
    """x' = factor x, in place, of each."""
    with np.errstate(all="ignore"):
        for x in arrays:
            x *= factor
