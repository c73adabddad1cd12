"""What all ranks of a training must have alike, before they begin."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
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
    """All of it by the names that errors have for it; of large things checksums."""
    states = repr([in_json(each.bit_generator.state) for each in generators]).encode()
    return {
        **{name: value if isinstance(value, PLAIN) else type(value) for name, value in settings.items()},
        "state of the random numbers, which one seed makes the same,": f"{zlib.crc32(states):08x}",
        **{f"parameter {name}": array.shape for name, array in parameters.items()},
        "dtype": sorted({array.dtype.name for array in parameters.values()}),
        **_described("data", data),
        **_described("validation", validation),
        "weights (checksum)": _checksum(parameters.values()),
    }


def _described(name: str, data: Any) -> dict[str, Any]:
    """What can be told of data without reading all of them."""
    if data is None or isinstance(data, Shards):
        return {name: None if data is None else f"{len(data)} shards"}
    told = {what: getattr(data, what, None) for what in ("samples", "batch_size", "bptt_steps")}
    held = held_in(next(iter(data.batches(None)), None))
    arrays = [each for each in held if isinstance(each, np.ndarray) and each.dtype.kind in "biuf"]
    widths = sorted({each.shape[-1] for each in arrays if each.ndim > 1 and each.dtype.kind == "f"})
    found = {**told, "width": widths, "first batch (checksum)": _checksum(arrays)}
    return {f"{what} of {name}": value for what, value in found.items()}


def _checksum(arrays: Iterable[Array]) -> str:
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).data, total)
    return f"{total:08x}"
