"""What all ranks of a training must have alike, before they begin."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.data import Shards
from fastrnn.layers.layer import held_in
from fastrnn.training.state import in_json

PLAIN = (str, int, float, list, tuple, dict, type(None))


def alike(
    parameters: Mapping[str, Array],
    generators: Sequence[np.random.Generator],
    settings: Mapping[str, Any],
    data: Any,
    validation: Any,
) -> dict[str, Any]:
    """What must be the same on all ranks, by the names that errors have for it."""
    return {
        **{f"parameter {name}": f"{array.dtype}{array.shape}" for name, array in parameters.items()},
        **{f"{name} of the data": value for name, value in _described(data).items()},
        **{f"{name} of validation": value for name, value in _described(validation).items()},
        **{name: value if isinstance(value, PLAIN) else type(value) for name, value in settings.items()},
        "seed": [in_json(each.bit_generator.state) for each in generators],
        "weights": [_checksum(array) for array in parameters.values()],
    }


def _described(data: Any) -> dict[str, Any]:
    """What can be told of data without reading all of them."""
    if data is None or isinstance(data, Shards):
        return {"shards": None if data is None else len(data)}
    told = {name: getattr(data, name, None) for name in ("samples", "batch_size", "bptt_steps")}
    held = held_in(next(iter(data.batches(None)), None))
    arrays = [each for each in held if isinstance(each, np.ndarray) and each.dtype.kind in "biuf"]
    kinds = sorted({f"{each.dtype}(..., {each.shape[-1]})" for each in arrays if each.ndim > 1})
    return {**told, "last axis": kinds, "first batch": [_checksum(each) for each in arrays]}


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)
