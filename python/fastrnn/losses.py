"""Losses: each returns its value, a Python float, and its gradient with respect to the first argument, an
array of that argument's shape and dtype. All are means, as PyTorch's are by default; a mean over nothing is
0, and so is its gradient. NaN and infinity in what counts flow through.

Where a loss says nothing else, its targets are of the shape and dtype of its predictions, float32 or float64:
another dtype is a TypeError, another shape a ValueError. What counts, and how much, all say by two arguments:

weights : array_like, optional
    0 or more for each target, of which all sizes but 1 are those of the targets' first axes: for targets
    (N, M), weights (N,) are of samples; for (T, B, M), weights (T,) are of steps, (1, B) of sequences, (T, B)
    of both, (T, B, M) of elements. The loss is the weighted mean, (sum of weight times loss) / (sum of
    weights); bools make it the mean over a mask.
lengths : array_like of integers, (B,), optional
    The targets are (T, B, ...), of which so many steps of each sequence are valid: others have weight 0.

What has weight 0 is as if it were not there: it may be anything, also NaN. `get` finds a loss by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from fastrnn import checks
from fastrnn.backend import kernels
from fastrnn.checks import Array

Weights = ArrayLike | None
Lengths = ArrayLike | None
Loss = Callable[..., tuple[float, Array]]  # outputs and targets to a mean and the outputs' gradient


def softmax_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    weights: Weights = None,
    lengths: Lengths = None,
) -> tuple[float, Array]:
    """Mean over the counted targets of -log softmax(logits)[target], in nats, on the threads of the kernels.

    With p = softmax(logits) the gradient is (p - onehot(target)) / count (Bishop 2006, equation 4.109). The
    largest logit of each row is subtracted first, so that no exponential overflows.

    Parameters
    ----------
    logits : array_like, shape (..., V), float32 or float64
        Unnormalised log-probabilities of V classes. -inf is a class of probability 0.
    targets : array_like, shape (...), integer
        The true class of each row, in 0..V-1.
    ignore_index : int, optional
        Rows with this target (padding, for instance; any integer will do, also a negative one) have weight 0.
    label_smoothing : float
        This part of each target's probability, 0 to 1, goes to all classes alike (Szegedy et al., Rethinking
        the inception architecture, 2016, section 7).
    weights, lengths : optional
        As of every loss: the weight of each row, and the valid steps of each sequence.

    Returns
    -------
    loss : float
    dlogits : ndarray, shape (..., V)

    Raises
    ------
    TypeError
        If `logits` is not of float32 or float64, or `targets` is not of an integer type.
    ValueError
        If the shapes do not agree, or a target that counts is out of range.

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((2, 4)), np.array([3, 0]))
    >>> round(loss, 4), dlogits[0].tolist()
    (1.3863, [0.125, 0.125, 0.125, -0.375])
    """
    logits = _floats("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., V) with V >= 1, got {logits.shape}")
    smoothing = checks.probability("label_smoothing", label_smoothing)
    classes, shape = logits.shape[-1], logits.shape[:-1]
    counted = _counted(shape, weights, lengths)
    places = _classes(targets, shape, classes, ignore_index, counted)
    rows, places = logits.reshape(-1, classes), places.reshape(-1)
    loss, dlogits = kernels().softmax_cross_entropy(rows, places)
    if weights is not None or smoothing:
        used = (places >= 0) * (1.0 if counted is None else counted.reshape(-1))
        loss, dlogits = _reweighted(rows, places, dlogits, used, smoothing)
    return loss, dlogits.reshape(logits.shape)


def binary_cross_entropy_with_logits(
    logits: ArrayLike, targets: ArrayLike, *, weights: Weights = None, lengths: Lengths = None
) -> tuple[float, Array]:
    """Mean over all elements of -t log s - (1 - t) log(1 - s), where s = sigmoid(logit) and t is the target.

    Computed as max(x, 0) - x t + log(1 + exp(-abs(x))), in which no exponential overflows; the gradient is
    (s - t) / count (Bishop 2006, equation 4.91).

    Parameters
    ----------
    logits : array_like, any shape, float32 or float64
        Log-odds.
    targets : array_like, same shape and dtype
        Probabilities; a ValueError if one that counts is below 0 or above 1.

    Examples
    --------
    >>> loss, dlogits = binary_cross_entropy_with_logits(np.array([0.0, 0.0]), np.array([1.0, 0.0]))
    >>> round(loss, 4), dlogits.tolist()
    (0.6931, [-0.25, 0.25])
    """
    x, t, counted = _read(weights, lengths, logits=logits, targets=targets)
    outside = ((t < 0) | (t > 1)) & (counted is None or counted > 0)
    if outside.any():
        position = tuple(map(int, np.argwhere(outside)[0]))
        where = ", ".join(map(str, position))
        raise ValueError(f"targets must be from 0 to 1, got targets[{where}] = {t[position]}")
    with np.errstate(all="ignore"):
        decay = np.exp(-np.abs(x))
        losses = np.maximum(x, 0) - x * t + np.log1p(decay)
        return _mean(losses, np.where(x < 0, decay, 1) / (1 + decay) - t, counted)


def mean_squared_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: Weights = None, lengths: Lengths = None
) -> tuple[float, Array]:
    """Mean of (prediction - target)^2 over all elements; the gradient is 2 (prediction - target) / count.

    Parameters
    ----------
    prediction : array_like, any shape, float32 or float64
    target : array_like, same shape and dtype
    weights, lengths : optional
        As of every loss.

    Returns
    -------
    loss : float
    dprediction : ndarray, shape of `prediction`

    Raises
    ------
    TypeError
        If an argument is not of float32 or float64, or the two differ.
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> loss, dprediction = mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> loss, dprediction.tolist()
    (2.0, [0.0, -2.0])
    """
    prediction, target, counted = _read(weights, lengths, prediction=prediction, target=target)
    with np.errstate(all="ignore"):
        error = prediction - target
        return _mean(np.square(error, dtype=np.float64), 2 * error, counted)


def mean_absolute_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: Weights = None, lengths: Lengths = None
) -> tuple[float, Array]:
    """Mean of abs(prediction - target) over all elements, least at the median; its gradient is their sign
    / count, 0 where they are equal.

    Examples
    --------
    >>> loss, dprediction = mean_absolute_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> loss, dprediction.tolist()
    (1.0, [0.0, -0.5])
    """
    prediction, target, counted = _read(weights, lengths, prediction=prediction, target=target)
    with np.errstate(all="ignore"):
        error = prediction - target
        return _mean(np.abs(error), np.sign(error), counted)


def huber(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    delta: float = 1.0,
    weights: Weights = None,
    lengths: Lengths = None,
) -> tuple[float, Array]:
    """Mean over all elements of error^2 / 2 where abs(error) is at most `delta`, of delta (abs(error) -
    delta / 2) beyond: outliers pull at most by `delta` (Huber, Robust estimation, 1964).

    Examples
    --------
    >>> loss, dprediction = huber(np.array([1.0, 2.0]), np.array([1.5, 6.0]))
    >>> loss, dprediction.tolist()
    (1.8125, [-0.25, -0.5])
    """
    delta = checks.positive_float("delta", delta)
    prediction, target, counted = _read(weights, lengths, prediction=prediction, target=target)
    with np.errstate(all="ignore"):
        error = prediction - target
        slope = np.clip(error, -delta, delta)
        return _mean(np.multiply(slope, error - slope / 2, dtype=np.float64), slope, counted)


def quantile_loss(
    prediction: ArrayLike,
    target: ArrayLike,
    quantiles: ArrayLike,
    *,
    weights: Weights = None,
    lengths: Lengths = None,
) -> tuple[float, Array]:
    """Mean over all elements of the pinball loss max(q e, (q - 1) e), where e = target - prediction.

    It is least where the prediction is the quantile q of the target's distribution (Koenker and Bassett,
    Regression quantiles, 1978); at q = 0.5 it is half the absolute error. The gradient is -q / count where
    the target is above the prediction, (1 - q) / count where it is below, and 0 where they are equal.

    Parameters
    ----------
    prediction : array_like, shape (..., Q), float32 or float64
        A prediction for each quantile.
    target : array_like, shape (...), same dtype
    quantiles : array_like, shape (Q,)
        Levels q between 0 and 1, both excluded, or it is a ValueError.

    Examples
    --------
    >>> loss, dprediction = quantile_loss(np.array([[1.0, 4.0]]), np.array([2.0]), [0.25, 0.75])
    >>> loss, dprediction.tolist()
    (0.375, [[-0.125, 0.125]])
    """
    prediction, target, counted = _read(weights, lengths, "Q", prediction=prediction, target=target)
    given = checks.array("quantiles", quantiles, "numbers between 0 and 1")
    levels = checks.real_array("quantiles", given).astype(prediction.dtype)
    checks.require_shape("quantiles", levels, prediction.shape[-1:])
    if not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles must be between 0 and 1, got {levels.tolist()}")
    with np.errstate(all="ignore"):
        error = target[..., None] - prediction
        side = np.sign(error)
        slopes = (0.5 - levels) * np.abs(side) - side / 2
        return _mean(np.maximum(levels * error, (levels - 1) * error), slopes, counted)


def gaussian_nll(
    prediction: ArrayLike, target: ArrayLike, *, weights: Weights = None, lengths: Lengths = None
) -> tuple[float, Array]:
    """Mean of (log v + (target - m)^2 / v) / 2, the negative log-likelihood of a normal distribution but for
    log(2 pi) / 2: a network with two outputs, m and log v, says how far its own prediction may be off (Nix
    and Weigend, Estimating the mean and variance of the target probability distribution, 1994).

    Parameters
    ----------
    prediction : array_like, shape (..., 2), float32 or float64
        The mean m and the logarithm of the variance v.
    target : array_like, shape (...), same dtype

    Examples
    --------
    >>> loss, dprediction = gaussian_nll(np.array([[1.0, 0.0]]), np.array([3.0]))
    >>> loss, dprediction.tolist()
    (2.0, [[-2.0, -1.5]])
    """
    prediction, target, counted = _read(weights, lengths, 2, prediction=prediction, target=target)
    with np.errstate(all="ignore"):
        mean, log_variance = prediction[..., 0], prediction[..., 1]
        pull = (mean - target) * np.exp(-log_variance)
        squares = pull * (mean - target)
        slopes = np.stack([pull, (1 - squares) / 2], axis=-1)
        return _mean((log_variance + squares) / 2, slopes, counted)


#: Losses by their names, as `get` and the models take them.
LOSSES: dict[str, Loss] = {
    loss.__name__: loss
    for loss in (
        softmax_cross_entropy,
        binary_cross_entropy_with_logits,
        mean_squared_error,
        mean_absolute_error,
        huber,
        gaussian_nll,
    )
}


def get(loss: str | Loss) -> Loss:
    """The loss of a name in `LOSSES`, or the function itself: ``(outputs, targets) -> (value, gradient)``.

    Raises
    ------
    ValueError
        If there is no loss of this name: the error has those that there are.
    TypeError
        If it is neither a name nor a function.
    """
    if callable(loss):
        return loss
    return LOSSES[checks.one_of("loss, unless it is a function,", loss, tuple(LOSSES))]


def _floats(name: str, value: ArrayLike) -> Array:
    """A float32 or float64 array of any shape."""
    array = checks.array(name, value, "a float32 or float64 array")
    return checks.float_array(name, array, array.shape)


def _read(
    weights: Weights, lengths: Lengths, columns: int | str | None = None, **pair: ArrayLike
) -> tuple[Array, Array, Array | None]:
    """Predictions, in so many columns, and targets, by their names, and how much each target counts."""
    (name, prediction), (other, target) = pair.items()
    predictions = _floats(name, prediction)
    shape = predictions.shape
    if columns is not None:
        shape = shape[:-1]
        checks.require_shape(name, predictions, (*shape, columns))
    targets = checks.float_array(other, target, shape)
    checks.same_dtype(**{name: predictions, other: targets})
    return predictions, targets, _counted(shape, weights, lengths)


@np.errstate(over="ignore")
def _counted(shape: tuple[int, ...], weights: Weights, lengths: Lengths) -> Array | None:
    """How much each target of a shape counts, or None if all do alike."""
    if weights is None and lengths is None:
        return None
    given = checks.array("weights", 1 if weights is None else weights, "an array of numbers")
    given = checks.real_array("weights", given)
    try:
        spread = np.broadcast_to(given.reshape(given.shape + (1,) * (len(shape) - given.ndim)), shape)
    except ValueError:
        expected = f"weights must fit the first axes of the targets, {shape}"
        raise ValueError(f"{expected}, got {given.shape}") from None
    counted = spread.astype(np.float64)
    if lengths is not None:
        if len(shape) < 2:
            raise ValueError(f"lengths go with targets of shape (T, B, ...), got {shape}")
        steps = checks.int_array("lengths", lengths, shape[1:2], 0, shape[0], "0..T")
        counted[np.arange(shape[0])[:, None] >= steps] = 0
    if not (np.isfinite(counted.sum()) and (counted >= 0).all()):
        came = f"{counted.min()} to {counted.max()}"
        raise ValueError(f"weights must be finite and not negative, and have a finite sum, got {came}")
    return counted


def _mean(losses: Array, slopes: Array, counted: Array | None) -> tuple[float, Array]:
    """The mean of the losses of all targets, or of all in their last axis, and its gradient, from the slope
    of each loss.
    """
    if counted is None:
        count = max(1, losses.size)
        return float(losses.sum(dtype=np.float64) / count), np.asarray(slopes * slopes.dtype.type(1 / count))
    used = counted.reshape(counted.shape + (1,) * (losses.ndim - counted.ndim))
    total = counted.sum() * (losses.size / max(1, counted.size)) or 1.0
    loss = np.sum(losses * used, where=used > 0) / total
    share = (used / total).reshape(used.shape + (1,) * (slopes.ndim - used.ndim)).astype(slopes.dtype)
    return float(loss), np.where(share > 0, slopes * share, 0)


def _reweighted(
    logits: Array, places: Array, dlogits: Array, counted: Array, smoothing: float
) -> tuple[float, Array]:
    """The weighted mean of smoothed cross-entropies, from the gradient of the plain mean of those counted."""
    rows = np.arange(len(places))
    with np.errstate(all="ignore"):
        shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
        losses = np.log(np.exp(shifted).sum(axis=1)) - (1 - smoothing) * shifted[rows, places]
        slopes = dlogits * dlogits.dtype.type((places >= 0).sum())
        if smoothing:
            losses -= smoothing * shifted.mean(axis=1)
            slopes[rows, places] += smoothing
            slopes -= smoothing / logits.shape[1]
        return _mean(losses, slopes, counted)


def _classes(
    targets: ArrayLike, shape: tuple[int, ...], classes: int, ignore_index: int | None, counted: Array | None
) -> Array:
    """The targets as int64 classes, with -1 for those that do not count."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral | None):
        raise TypeError(f"ignore_index must be an integer or None, got {checks.came(ignore_index)}")
    if ignore_index is None and counted is None:
        return checks.int_array("targets", targets, shape, 0, classes - 1, "0..V-1")
    int64 = np.iinfo(np.int64)
    integers = checks.int_array("targets", targets, shape, int64.min, int64.max, "int64")
    ignored = (integers == ignore_index) | (False if counted is None else counted == 0)
    checks.int_array("targets", np.where(ignored, 0, integers), shape, 0, classes - 1, "0..V-1")
    return np.where(ignored, -1, integers)
