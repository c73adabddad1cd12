"""How much each sequence, and each class, counts in a loss and in a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.losses import Loss
from fastrnn.training.learning import call_loss


def sample_weights(value: Any, count: int) -> Array | None:
    """A weight for each of so many sequences, (N,) float64, checked."""
    if value is None:
        return None
    name = "sample_weight"
    given = checks.real_array(name, checks.array(name, value, f"an array of shape ({count},)"))
    checks.require_shape(name, given, (count,))
    weights: Array = given.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise ValueError(
            f"{name} must be finite and not negative, got {weights[bad[0]]} for sequence {bad[0]}"
        )
    if not weights.any():
        raise ValueError(f"{name} must not be zero for all sequences")
    return weights


def shares(weights: Array | None, counts: Array | None = None) -> Array | None:
    """Weights whose mean is 1, of sequences or of what these have `counts` of; None where all are alike."""
    if weights is None or (weights == weights[0]).all():
        return None
    found: Array = weights / np.average(weights, weights=counts)
    return found


def check_class_weight(name: str, value: Any) -> Any:
    """None, "balanced", or a dict of labels, as plain Python, to weights."""
    if value is None or (isinstance(value, str) and value == "balanced"):
        return value
    if not isinstance(value, Mapping):
        expected = "None, 'balanced' or a dict of labels to weights"
        raise TypeError(f"{name} must be {expected}, got {checks.came(value)}")
    plain = {label.item() if isinstance(label, np.generic) else label: w for label, w in value.items()}
    return {label: checks.positive_float(f"{name}[{label!r}]", w) for label, w in plain.items()}


@dataclass(frozen=True)
class Weighted:
    """A loss in which sequences, and classes, count by their weights.

    The sum of weight times loss is divided by the number of targets, not by the sum of their weights: a batch
    of little weight counts less, whatever the size of the batches.

    Parameters
    ----------
    loss : callable
        A loss of `fastrnn.losses`, or one of their signature.
    class_weights : ndarray, (K,), optional
    """

    loss: Loss
    class_weights: Array | None = None

    def __call__(
        self, outputs: Array, targets: Array, weights: Array | None, lengths: Array | None = None
    ) -> tuple[float, Array]:
        """The loss of a batch with weights (B,) of sequences; of all their steps, if there are `lengths`."""
        options: dict[str, Any] = {}
        if lengths is not None:
            options["lengths"] = lengths
            weights = weights if weights is None else weights[None]
        if self.class_weights is not None:
            by_class = self.class_weights[targets]
            weights = by_class if weights is None else weights * by_class
        if weights is None:
            return call_loss(self.loss, outputs, targets, **options)
        loss, gradient = call_loss(self.loss, outputs, targets, weights=weights, **options)
        if lengths is not None:
            valid = np.arange(len(targets))[:, None] < lengths
            weights = np.broadcast_to(weights, targets.shape)[valid]
        mean = float(weights.mean())
        return loss * mean, gradient * mean
