"""The state of a training as arrays and JSON: what it takes to go on with the same bits."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn.checks import Array


def same_settings(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the settings of a checkpoint that differ from those wanted now."""
    names = dict.fromkeys([*expected, *found])
    differing = [
        f"{name} = {reprlib.repr(found.get(name))} instead of {reprlib.repr(expected.get(name))}"
        for name in names
        if found.get(name) != expected.get(name)
    ]
    if differing:
        raise ValueError(f"the checkpoint is of another training: it has {', '.join(differing)}")


def part_of(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def in_json(value: Any) -> Any:
    """A state or options, which may have arrays in them, as JSON gives them back."""
    if isinstance(value, Mapping):
        return {name: in_json(each) for name, each in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
