"""Labels of any kind to the numbers of their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array


def learn_classes(model: str, y: Any, count: int) -> Array:
    """The different labels of `y`, one for each of `count` sequences, sorted."""
    classes: Array = np.unique(_labels(model, y, count))
    return classes


def encode_labels(model: str, y: Any, count: int, classes: Array) -> npt.NDArray[np.int64]:
    """The place of each label in `classes`; a ValueError names labels that are not there."""
    labels = _labels(model, y, count)
    try:
        places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
        unknown = classes[places] != labels
    except TypeError:
        raise ValueError(f"y must hold labels like {classes[0]!r}, got {labels[0]!r}") from None
    if np.any(unknown):
        shown = ", ".join(map(repr, np.unique(labels[unknown])[:10].tolist()))
        raise ValueError(f"y must hold labels seen in fit, {checks.came(classes.tolist())}; got {shown}")
    return places.astype(np.int64, copy=False)


def _labels(model: str, y: Any, count: int) -> Array:
    if y is None:
        raise ValueError(f"{model} requires y to be passed, but the target y is None")
    labels = checks.array("y", y, f"a label for each of {count} sequences")
    if labels.shape != (count,):
        raise ValueError(f"y must have a label for each of {count} sequences, shape ({count},), got {labels.shape}")
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.round(labels))).all():
        raise ValueError("Unknown label type: continuous. y must hold labels, got numbers that are no integers")
    if labels.dtype.kind == "c":
        raise ValueError("Unknown label type: complex. y must hold labels")
    return labels
