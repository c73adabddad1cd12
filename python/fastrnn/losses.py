"""Losses: each returns its value, a Python float, and its gradient with respect to the first argument, an
array of that argument's shape and dtype. All are means, as PyTorch's are by default; a mean over nothing is
0, and so is its gradient. NaN and infinity in the data flow through."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.backend import kernels
from fastrnn.checks import Array


def softmax_cross_entropy(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    ignore_index: int | None = None,
    weights: npt.ArrayLike | None = None,
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
        Rows with this target (padding, for instance; any integer will do, also a negative one) are not
        counted and get a zero gradient. If no row is counted the loss is 0.
    weights : array_like, shape (...), optional
        The weight of each row, 0 or more: the mean is a weighted one then, as with PyTorch's class weights.

    Returns
    -------
    loss : float
    dlogits : ndarray, shape (..., V)

    Raises
    ------
    TypeError
        If `logits` is not of float32 or float64, or `targets` is not of an integer type.
    ValueError
        If the shapes do not agree, or a target is out of range.

    Examples
    --------
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((2, 4)), np.array([3, 0]))
    >>> round(loss, 4), dlogits[0].tolist()
    (1.3863, [0.125, 0.125, 0.125, -0.375])
    """
    logits = _floats("logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., V) with V >= 1, got {logits.shape}")
    classes = logits.shape[-1]
    rows = _classes(targets, logits.shape[:-1], classes, ignore_index)
    flat = logits.reshape(-1, classes), rows.reshape(-1)
    loss, dlogits = kernels().softmax_cross_entropy(*flat)
    if weights is not None:
        weighted = checks.float_array("weights", weights, logits.shape[:-1]).reshape(-1)
        loss, dlogits = _weighted_cross_entropy(*flat, dlogits, np.where(flat[1] < 0, 0, weighted))
    return loss, dlogits.reshape(logits.shape)


def mean_squared_error(prediction: npt.ArrayLike, target: npt.ArrayLike) -> tuple[float, Array]:
    """Mean of (prediction - target)^2 over all elements; the gradient is 2 (prediction - target) / count.

    Parameters
    ----------
    prediction : array_like, any shape, float32 or float64
    target : array_like, same shape and dtype

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
    prediction = _floats("prediction", prediction)
    target = checks.float_array("target", target, prediction.shape)
    checks.same_dtype(prediction=prediction, target=target)
    count = max(1, prediction.size)

    with np.errstate(all="ignore"):
        error = prediction.reshape(-1) - target.reshape(-1)
        loss = np.square(error, dtype=np.float64).sum() / count
        error *= 2 / count
    return float(loss), error.reshape(prediction.shape)


def binary_cross_entropy_with_logits(logits: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[float, Array]:
    """Mean over all elements of -t log s - (1 - t) log(1 - s), where s = sigmoid(logit) and t is the target.

    Computed as max(x, 0) - x t + log(1 + exp(-abs(x))), in which no exponential overflows; the gradient is
    (s - t) / count (Bishop 2006, equation 4.91).

    Parameters
    ----------
    logits : array_like, any shape, float32 or float64
        Log-odds.
    targets : array_like, same shape and dtype
        Probabilities from 0 to 1.

    Returns
    -------
    loss : float
    dlogits : ndarray, shape of `logits`

    Raises
    ------
    TypeError
        If an argument is not of float32 or float64, or the two differ.
    ValueError
        If the shapes differ, or a target is below 0 or above 1.

    Examples
    --------
    >>> loss, dlogits = binary_cross_entropy_with_logits(np.array([0.0, 0.0]), np.array([1.0, 0.0]))
    >>> round(loss, 4), dlogits.tolist()
    (0.6931, [-0.25, 0.25])
    """
    logits = _floats("logits", logits)
    targets = checks.float_array("targets", targets, logits.shape)
    checks.same_dtype(logits=logits, targets=targets)
    _require_probabilities("targets", targets)
    count = max(1, logits.size)

    with np.errstate(all="ignore"):
        x, t = logits.reshape(-1), targets.reshape(-1)
        decay = np.exp(-np.abs(x))
        losses = np.maximum(x, 0) - x * t + np.log1p(decay)
        loss = losses.sum(dtype=np.float64) / count
        sigmoid = np.where(x < 0, decay, 1) / (1 + decay)
        dlogits = (sigmoid - t) / count
    return float(loss), dlogits.reshape(logits.shape)


def _weighted_cross_entropy(
    logits: Array, targets: Array, dlogits: Array, weights: Array
) -> tuple[float, Array]:
    """The weighted mean and its gradient, from the gradient of the plain mean."""
    total, counted = float(weights.sum()), int((targets >= 0).sum())
    if (weights < 0).any() or not np.isfinite(total):
        raise ValueError(f"weights must be finite and not negative, got {weights.min()} to {weights.max()}")
    if total == 0:
        return 0.0, np.zeros_like(dlogits)
    with np.errstate(all="ignore"):
        shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
        scaled = dlogits * (weights * (counted / total)).astype(dlogits.dtype)[:, None]
    return float(losses[weights > 0] @ weights[weights > 0] / total), scaled


def quantile_loss(
    prediction: npt.ArrayLike, target: npt.ArrayLike, quantiles: npt.ArrayLike
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
        Levels q between 0 and 1, both excluded.

    Returns
    -------
    loss : float
    dprediction : ndarray, shape (..., Q)

    Raises
    ------
    TypeError
        If `prediction` or `target` is not of float32 or float64, or the two differ.
    ValueError
        If the shapes do not agree, or a quantile is not between 0 and 1.

    Examples
    --------
    >>> loss, dprediction = quantile_loss(np.array([[1.0, 4.0]]), np.array([2.0]), [0.25, 0.75])
    >>> loss, dprediction.tolist()
    (0.375, [[-0.125, 0.125]])
    """
    prediction = _floats("prediction", prediction)
    if prediction.ndim == 0:
        raise ValueError("prediction must have shape (..., Q), got ()")
    target = checks.float_array("target", target, prediction.shape[:-1])
    checks.same_dtype(prediction=prediction, target=target)
    levels = checks.array("quantiles", quantiles, "numbers between 0 and 1").astype(prediction.dtype)
    checks.require_shape("quantiles", levels, prediction.shape[-1:])
    if not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles must be between 0 and 1, got {levels.tolist()}")
    count = max(1, prediction.size)

    with np.errstate(all="ignore"):
        error = target[..., None] - prediction
        loss = np.maximum(levels * error, (levels - 1) * error).sum(dtype=np.float64) / count
        side = np.sign(error)
        dprediction = ((0.5 - levels) * np.abs(side) - side / 2) / count
    return float(loss), dprediction


def _floats(name: str, value: npt.ArrayLike) -> Array:
    """A float32 or float64 array of any shape."""
    array = checks.array(name, value, "a float32 or float64 array")
    return checks.float_array(name, array, array.shape)


def _classes(targets: npt.ArrayLike, shape: tuple[int, ...], classes: int, ignore_index: int | None) -> Array:
    """The targets as int64 classes, with -1 for those ignored."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral | None):
        raise TypeError(f"ignore_index must be an integer or None, got {checks.came(ignore_index)}")
    if ignore_index is None:
        return checks.int_array("targets", targets, shape, 0, classes - 1, "0..V-1")
    int64 = np.iinfo(np.int64)
    integers = checks.int_array("targets", targets, shape, int64.min, int64.max, "int64")
    counted = integers != ignore_index
    checks.int_array("targets", np.where(counted, integers, 0), shape, 0, classes - 1, "0..V-1")
    return np.where(counted, integers, -1)


def _require_probabilities(name: str, array: Array) -> None:
    outside = (array < 0) | (array > 1)
    if outside.any():
        position = tuple(map(int, np.argwhere(outside)[0]))
        where = ", ".join(map(str, position))
        raise ValueError(f"{name} must be from 0 to 1, got {name}[{where}] = {array[position]}")
