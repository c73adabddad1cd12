"""Labels of any kind to the numbers of their classes."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array

CHUNK = 1 << 20  # labels looked at in one go: there may be more than memory holds


def per_sequence(name: str, y: Any, count: int) -> Array:
    """One label for each of so many sequences, checked."""
    several = isinstance(y, (list, tuple)) and any(isinstance(each, (list, tuple, set)) for each in y)
    labels = np.empty((count, 0)) if several else _labels(name, y)
    if labels.shape != (count,):
        hint = "; for several each, sklearn.multioutput.MultiOutputClassifier fits a model for every one"
        came = "several for one" if several else f"{labels.shape}"
        raise ValueError(
            f"{name} must have a label for each of {count} sequences, shape ({count},), got {came}"
            f"{hint if labels.ndim > 1 else ''}"
        )
    return labels


def per_step(name: str, y: Any, lengths: Any) -> list[Array]:
    """For each sequence a label for each step, checked; of a padded array what is valid."""
    if y is None or isinstance(y, str) or not hasattr(y, "__len__") or len(y) != len(lengths):
        came = f"{len(y)} members" if hasattr(y, "__len__") else checks.came(y)
        raise ValueError(f"{name} must have labels for each of {len(lengths)} sequences, got {came}")
    padded = getattr(y, "ndim", 0) == 2
    if padded:
        y = checks.array(name, y, "labels for each sequence")
    found: list[Array] = []
    for place, (part, length) in enumerate(zip(y, lengths, strict=True)):
        labels = _labels(f"{name}[{place}]", part[:length] if padded else part)
        if labels.shape != (length,):
            raise ValueError(
                f"{name}[{place}] must have a label for each of {length} steps, shape ({length},), "
                f"got {labels.shape}"
            )
        first = found[0] if found else labels
        if (labels.dtype.kind in "UO") != (first.dtype.kind in "UO"):
            came, before = labels.tolist()[0], first.tolist()[0]
            raise TypeError(
                f"{name} must hold labels that are all strings or all integers, got {came!r} in "
                f"{name}[{place}] and {before!r} in {name}[0]"
            )
        found.append(labels)
    return found


def classes_of(parts: Sequence[Array]) -> Array:
    """The different labels, sorted."""
    found = [
        np.unique(labels[start : start + CHUNK])
        for labels in parts
        for start in range(0, max(1, len(labels)), CHUNK)
    ]
    classes: Array = np.unique(np.concatenate(found))
    return classes


def encode(name: str, labels: Array, classes: Array) -> npt.NDArray[Any]:
    """The place of each label among the classes, in as few bytes as hold it; an error names unknown ones."""
    places = np.empty(len(labels), np.min_scalar_type(len(classes)))
    for start in range(0, len(labels), CHUNK):
        part = labels[start : start + CHUNK]
        try:
            place = np.minimum(np.searchsorted(classes, part), len(classes) - 1)
            unknown = classes[place] != part
        except TypeError:
            raise ValueError(f"{name} must hold labels like {classes[0]!r}, got {part[0]!r}") from None
        if np.any(unknown):
            shown = ", ".join(map(repr, np.unique(part[unknown])[:10].tolist()))
            seen = reprlib.repr(classes.tolist())
            raise ValueError(f"{name} must hold labels seen in fit, {seen}, got {shown}")
        places[start : start + CHUNK] = place
    return places


def to_json(classes: Array) -> dict[str, Any]:
    """The classes as JSON can express them."""
    return {"classes": classes.tolist(), "classes_dtype": classes.dtype.str}


def from_json(metadata: Mapping[str, Any]) -> Array:
    """What `to_json` was given."""
    return np.array(metadata["classes"], metadata["classes_dtype"])


def _labels(name: str, y: Any) -> Array:
    """Strings, or integers, bools and numbers without a fraction, in an array that a file can bring back."""
    labels = checks.array(name, y, "an array of labels")
    if labels.ndim == 1 and (labels.dtype.kind in "OT" or (labels.dtype.kind == "U" and labels is not y)):
        labels = _of_one_kind(name, labels, list(y))
    if labels.ndim and labels.dtype.kind == "f" and (place := _first_fraction(labels)) is not None:
        where = f"{name}[{', '.join(map(str, place))}]"
        raise ValueError(
            f"Unknown label type: continuous. {name} must hold labels, got numbers that are no integers, "
            f"{labels[place]} in {where}"
        )
    if labels.dtype.kind not in "biufUO":
        hint = f"; decode them first: np.char.decode({name})" if labels.dtype.kind == "S" else ""
        raise TypeError(
            f"{name} must hold labels that are strings or integers, got dtype {labels.dtype}{hint}"
        )
    return labels


def _of_one_kind(name: str, labels: Array, given: list[Any]) -> Array:
    """Labels that came as objects: all strings, as an array of these, or all numbers, as one of numbers.

    NumPy would make strings of all labels of a list if one is a string.
    """
    text = bool(given) and isinstance(given[0], str)
    for place, label in enumerate(given):
        if not isinstance(label, str if text else (Real, np.bool_)):
            raise TypeError(
                f"{name} must hold labels that are all strings or all integers, got {checks.came(label)} in "
                f"{name}[{place}]" + ("" if place == 0 else f" and {checks.came(given[0])} in {name}[0]")
            )
    if text:
        return labels if labels.dtype.kind == "U" else labels.astype(object)
    numbers = np.array(given)
    if numbers.dtype == object:
        raise TypeError(
            f"{name} must hold labels that are strings or integers of 64 bits, got {numbers[0]!r}"
        )
    return numbers


def _first_fraction(numbers: Array) -> tuple[int, ...] | None:
    """Where the first number is that is no integer."""
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        bad = np.argwhere(~(np.isfinite(part) & (part == np.round(part))))
        if len(bad):
            first, *rest = map(int, bad[0])
            return start + first, *rest
    return None
