"""The one protocol of data that networks are trained on, and how it is made of what users have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.data.examples import Batches, Examples
from fastrnn.data.sequence import Sequences, is_list, sequences
from fastrnn.data.shards import Shards
from fastrnn.data.weights import sample_weights

FORMS = "(X, y), (X, y, lengths) or (X, y, lengths, sample_weight)"  # of data, in errors


class Dataset(Protocol):
    """What a network is trained on, or validated: all that a training knows of data."""

    @property
    def samples(self) -> int | None:
        """Of an epoch: what the counts of its losses come to, which are means of so many; None: not known."""
        ...

    def batches(self, rng: np.random.Generator | None) -> Iterator[Any]:
        """An epoch. Without a generator all samples in an order that is always the same, for validation.

        A batch is whatever the network takes. If it has an attribute `follows` that is true, it begins where
        the one before it ended, and the state is carried on; else the state begins anew. For
        `fastrnn.parallel.data_parallel` it also has ``part(place, pieces)``: of its sequences every so many,
        ``place::pieces``, as such a batch again, or None if there are none.
        """
        ...


def dataset(
    name: str,
    value: Any,
    *,
    batch_size: int,
    bptt_steps: int | None = None,
    dtype: npt.DTypeLike = "float32",
    rows: bool = False,
) -> Dataset:
    """A dataset from what a user has, checked.

    Parameters
    ----------
    name : str
        What errors call `value`.
    value : Dataset, tuple or callable
        One of

        - ``(X, y)``, ``(X, y, lengths)`` or ``(X, y, lengths, sample_weight)``: sequences in any form of
          `fastrnn.data.sequences`, of tokens if their steps are single integers; and what is to be learned of
          them. That is an array (N, ...) with something for each sequence; or for each step, as a list of
          arrays (T_i,) or (T_i, M), or where X is padded an array (N, T) or (N, T, M). By weights, (N,), the
          loss is the mean of weight times loss;
        - a function that returns an iterator over such tuples, parts of data that may be larger than memory,
          each time it is called: once for each epoch;
        - `Shards` of any of these;
        - a `Dataset`, as it is.
    batch_size, bptt_steps
        See `Batches`.
    dtype : {"float32", "float64"}
        Of numbers.
    rows : bool
        X is an array (N, ...) of rows for a network without memory.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or X and y do not fit each other.
    """
    size = value.share_of(batch_size) if isinstance(value, Shards) else batch_size
    read = partial(dataset, batch_size=size, bptt_steps=bptt_steps, dtype=dtype, rows=rows)
    if isinstance(value, Shards):
        return value.read(lambda place, shard: read(f"{name}[{place}]", shard))
    if callable(getattr(value, "batches", None)):
        if not hasattr(value, "samples"):
            raise TypeError(f"{name} must have samples, as it has batches, got {checks.came(value)}")
        found: Dataset = value
        return found
    if callable(value):
        return Parts(partial(read, name), value)
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3, 4):
        expected = f"{FORMS}, a function that yields them, or a Dataset"
        raise TypeError(f"{name} must be {expected}, got {checks.came(value)}")
    X, y, lengths, weights = (*value, None, None)[:4]
    x: Any
    if rows:
        x = _array(f"{name}'s X", X, dtype)
        if lengths is not None:
            raise ValueError(f"{name} must be without lengths, as the network has no recurrent layers")
    else:
        kind = np.iinfo(np.int64).max if _tokens(f"{name}'s X", X) else None
        x = sequences(f"{name}'s X", X, lengths=lengths, dtype=dtype, n_tokens=kind)
    target = _targets(f"{name}'s y", y, X, x, dtype)
    if bptt_steps is not None and not isinstance(target, Sequences):
        raise ValueError(f"bptt_steps must be None unless y has something for each step, got {bptt_steps}")
    examples = Examples(x, target, sample_weights(f"{name}'s sample_weight", weights, len(x)))
    return Batches(examples, batch_size, bptt_steps)


@dataclass
class Parts:
    """Data that come in parts, each of which is shuffled and batched by itself.

    Parameters
    ----------
    read : callable
        From a part to a `Dataset`.
    parts : callable
        Returns an iterator over the parts of an epoch.
    """

    read: Callable[[Any], Dataset]
    parts: Callable[[], Iterator[Any]]
    samples: int | None = None

    def batches(self, rng: np.random.Generator | None) -> Iterator[Any]:
        """An epoch."""
        parts = self.parts()
        if not isinstance(parts, Iterable):
            raise TypeError(f"data must come from a function that yields parts, got {checks.came(parts)}")
        for part in parts:
            yield from self.read(part).batches(rng)


def _tokens(name: str, X: Any) -> bool:
    """Whether the steps are single integers."""
    first = checks.array(name, X[0] if is_list(X) and len(X) else X, "sequences")
    return first.dtype.kind in "iu" and first.ndim == (1 if is_list(X) else 2)


def _targets(name: str, y: Any, X: Any, x: Any, dtype: npt.DTypeLike) -> Any:
    """An array, (N, ...), or Sequences with something for each step."""
    if not hasattr(y, "__len__") or isinstance(y, type):
        raise TypeError(f"{name} must have something for each of the {len(x)} in X, got {checks.came(y)}")
    stepwise = isinstance(x, Sequences) and (
        np.ndim(y[0]) > 0 if is_list(y) and len(y) else not is_list(X) and np.shape(y)[:2] == np.shape(X)[:2]
    )
    if len(y) != len(x):
        raise ValueError(f"{name} must have something for each of the {len(x)} in X, got {len(y)}")
    if not stepwise:
        return _array(name, y, dtype)
    items = []
    for place, (item, steps) in enumerate(zip(y, x.lengths, strict=True)):
        array = _array(f"{name}[{place}]", item, dtype)
        array = array if is_list(y) else array[:steps]
        if len(array) != steps:
            raise ValueError(f"{name}[{place}] must have {steps} steps, as X[{place}] has, got {len(array)}")
        items.append(array[:, None] if array.ndim == 1 and array.dtype.kind == "f" else array)
    return Sequences(items, dtype)


def _array(name: str, value: Any, dtype: npt.DTypeLike) -> Any:
    """Finite numbers, as they are if they are integers, else of a dtype."""
    array = checks.real_array(name, checks.array(name, value, "an array of numbers"))
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array (N, ...), got a number")
    if array.dtype.kind not in "iu":
        array = array.astype(dtype, copy=False)
        if not np.isfinite(array).all():
            place = [int(k) for k in np.argwhere(~np.isfinite(array))[0]]
            raise ValueError(f"{name} must be finite, got NaN or inf at {place}")
    return array
