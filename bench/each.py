"""What a second core gives to a model for each of many data sets: `models.many` on threads, and on processes.

`python bench/each.py` fits regressors of three sizes on one thread, on all, and on as many of joblib's
processes, which have been started before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import joblib
import numpy as np

import fastrnn
from fastrnn.checks import Array
from fastrnn.models import SequenceRegressor, many

SIZES = {  # members, units, sequences, steps, rows of a batch
    "8 units, batches of 16 with 20 steps": (100, 8, 48, 20, 16),
    "32 units, batches of 32 with 50 steps": (40, 32, 96, 50, 32),
    "128 units, batches of 32 with 100 steps": (6, 128, 96, 100, 32),
}


def data(members: int, sequences: int, steps: int) -> Iterator[tuple[Array, Array]]:
    """Of each member."""
    rng = np.random.default_rng(0)
    for _ in range(members):
        X = rng.normal(size=(sequences, steps, 8)).astype("float32")
        yield X, X[:, :, 0].mean(axis=1)


def seconds(where: AbstractContextManager[Any], size: tuple[int, int, int, int, int]) -> float:
    """The least of three."""
    members, units, sequences, steps, rows = size
    model = SequenceRegressor(hidden_size=units, epochs=2, batch_size=rows, validation_fraction=0, seed=0)
    found = []
    with where:
        for _ in range(3):
            start = time.perf_counter()
            many(model).fit(data(members, sequences, steps))
            found.append(time.perf_counter() - start)
    return min(found)


def main() -> None:
    threads = fastrnn.get_num_threads()
    with joblib.parallel_config("loky", n_jobs=threads):
        many(SequenceRegressor(hidden_size=2, epochs=1, validation_fraction=0)).fit(data(2 * threads, 9, 2))
    for name, size in SIZES.items():
        fastrnn.set_num_threads(1)
        one = seconds(nullcontext(), size)
        fastrnn.set_num_threads(0)
        several = seconds(nullcontext(), size)
        processes = seconds(joblib.parallel_config("loky", n_jobs=threads), size)
        each = f"{1e3 * one / size[0]:.1f} ms a member"
        gains = f"{threads} threads {one / several:.2f} times as fast, processes {one / processes:.2f}"
        print(f"{name}: {each}; {gains}", flush=True)


if __name__ == "__main__":
    main()
