"""How much each class counts in a loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.losses import softmax_cross_entropy


def check_class_weight(name: str, value: Any) -> Any:
    """None, "balanced", or a dict of labels, as plain Python, to weights."""
    if value is None or (isinstance(value, str) and value == "balanced"):
        return value
    if not isinstance(value, Mapping):
        expected = "None, 'balanced' or a dict of labels to weights"
        raise TypeError(f"{name} must be {expected}, got {checks.came(value)}")
    plain = {label.item() if isinstance(label, np.generic) else label: w for label, w in value.items()}
    return {label: checks.positive_float(f"{name}[{label!r}]", w) for label, w in plain.items()}


def weighted_cross_entropy(
    logits: Array, targets: Array, by_class: Array, *, label_smoothing: float, weights: Array | None = None
) -> tuple[float, Array]:
    """The mean over all targets of cross-entropies times the weights of their classes, (K,); by `weights`
    that mean is weighted."""
    each = by_class[targets]
    total = each if weights is None else each * weights
    loss, slopes = softmax_cross_entropy(logits, targets, label_smoothing=label_smoothing, weights=total)
    mean = float(total.mean() if weights is None else total.sum() / weights.sum())
    return loss * mean, slopes * mean
