"""One label for each sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastrnn.checks import Array
from fastrnn.layers import Sequential
from fastrnn.models import labels
from fastrnn.models.estimator import Check
from fastrnn.models.labelled import LabelEstimator
from fastrnn.models.supervised import PooledEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(LabelEstimator, PooledEstimator):
    """A recurrent network that says which class a sequence belongs to.

    What the recurrent layers make of a sequence is pooled to one vector, from which a linear layer computes
    the classes' logits; the cross-entropy is minimised.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["falling", "rising"] * 50)
    >>> X = [np.cumsum(rng.normal(1 if way == "rising" else -1, 1, rng.integers(5, 20))) / 9 for way in y]
    >>> model = SequenceClassifier(hidden_size=8, epochs=20, learning_rate=0.02, seed=0).fit(X[:80], y[:80])
    >>> model.score(X[80:], y[80:]) > 0.9
    True
    """

    _kind: ClassVar[str] = "classifier"
    _checks: ClassVar[dict[str, Check]] = {**PooledEstimator._checks, **LabelEstimator._checks}

    def _for_each(self, X: Any, lengths: Any, of: Callable[[Array], Array]) -> Array:
        return of(self._outputs(X, lengths))

    def _labels(self, y: Any, lengths: Array) -> Array:
        return labels.per_sequence("y", y, len(lengths))

    def _build(self, rng: np.random.Generator) -> Sequential:
        if self.network is not None:
            return self._adopted(self.network)
        return self._network_of(len(self.classes_), rng)
