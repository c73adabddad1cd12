"""How much each sequence counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array


def sample_weights(name: str, value: Any, count: int) -> Array | None:
    """A weight for each of so many sequences, (N,) float64, checked."""
    if value is None:
        return None
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
    parts = weights / weights.max()  # whose sum is finite
    found: Array = parts / np.average(parts, weights=counts)
    return found
