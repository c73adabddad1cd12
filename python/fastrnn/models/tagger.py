"""One label for each step of a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.data import Batches, Examples, Sequences, batches
from fastrnn.layers import Sequential
from fastrnn.layers.chain import WINDOW
from fastrnn.models import labels
from fastrnn.models.labelled import LabelEstimator
from fastrnn.models.networks import network_of
from fastrnn.models.splitting import cut_end


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceTagger(LabelEstimator):
    """A recurrent network that labels each step of a sequence.

    A linear layer computes the classes' logits from what the recurrent layers make of each step, with two
    directions of the steps before it and after it; the mean cross-entropy over all steps is minimised.

    With ``bptt_steps``, and ``bidirectional=False``, training goes through the sequences window by window and
    carries the state on, in memory that does not grow with their steps.

    Parameters
    ----------
    bidirectional : bool
        Whether a second direction runs through each sequence backwards; by default it does.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.integers(0, 5, size=rng.integers(4, 9)) for _ in range(100)]  # tokens
    >>> y = [np.where(np.append(x[1:], 0) > x, "up", "down") for x in X]  # is the next one greater?
    >>> model = SequenceTagger(n_tokens=5, hidden_size=16, epochs=30, learning_rate=0.02, seed=0)
    >>> model = model.fit(X[:80], y[:80])
    >>> model.score(X[80:], y[80:]) > 0.9
    True
    """

    bidirectional: bool = True

    def _for_each(self, X: Any, lengths: Any, of: Callable[[Array], Array]) -> list[Array]:
        model = self._as_fitted()
        x = model._inputs(X, lengths)
        found: list[list[Array]] = [[] for _ in range(len(x))]
        for places in batches(x.lengths, model.batch_size):
            for result, valid in self._by_window(x[places], of):
                for row, place in enumerate(places):
                    found[place].append(result[: valid[row], row])
        return [np.concatenate(parts) for parts in found]

    def _by_window(self, x: Sequences, of: Callable[[Array], Array]) -> Iterator[tuple[Array, Array]]:
        state = None
        for window in x.windows(None if self.bidirectional else WINDOW):
            logits, state = self.network_(window, state=state, return_state=True)
            yield of(logits), window.lengths

    def _labels(self, y: Any, lengths: Array) -> list[Array]:
        return labels.per_step("y", y, lengths)

    def _dataset(self, examples: Examples) -> Batches:
        return replace(super()._dataset(examples), bptt_steps=self.bptt_steps)

    def _split(self, examples: Examples) -> tuple[Examples, Examples | None]:
        """Of a single sequence, the end is held out."""
        if len(examples) == 1 and self.validation_fraction:
            return cut_end(examples, self.validation_fraction)
        return super()._split(examples)

    def _build(self, rng: np.random.Generator) -> Sequential:
        if self.network is not None:
            return self._adopted(self.network)
        return network_of(self._recurrent(rng), len(self.classes_), dropout=self.dropout, rng=rng)
