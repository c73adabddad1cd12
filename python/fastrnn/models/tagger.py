"""One label for each step of a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.checks import Array
from fastrnn.data import Batches, Examples, Sequences, batches
from fastrnn.models import labels
from fastrnn.models.metadata import lengths_request
from fastrnn.models.networks import StepNetwork
from fastrnn.models.pooling import WINDOW
from fastrnn.models.splitting import cut_end
from fastrnn.models.supervised import SupervisedEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceTagger(SupervisedEstimator):
    """A recurrent network that labels each step of a sequence.

    A linear layer computes the classes' logits from what the recurrent layers make of each step, with two
    directions of the steps before it and after it; the mean cross-entropy over all steps is minimised.

    With ``bptt_steps``, and ``bidirectional=False``, training goes through the sequences window by window and
    carries the state on, in memory that does not grow with their steps.

    Parameters
    ----------
    bidirectional : bool, default True
    layout, n_tokens, cell, hidden_size, ...
        See `fastrnn.models.supervised` and `fastrnn.models.estimator.NetworkEstimator`.

    Attributes
    ----------
    classes_ : ndarray, (K,)
        The labels, sorted.
    n_features_in_, feature_names_in_, history_, best_epoch_
        As there.

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

    set_predict_proba_request = lengths_request("predict_proba")

    def predict(self, X: Any, lengths: Any = None) -> list[Array]:
        """The likeliest label of each step: for each sequence an array, (T_i,)."""
        return [self.classes_[found] for found in self._by_sequence(X, lengths, _likeliest)]

    def predict_proba(self, X: Any, lengths: Any = None) -> list[Array]:
        """The probability of each class at each step: for each sequence an array, (T_i, K)."""
        return self._by_sequence(X, lengths, _probabilities)

    def score(self, X: Any, y: Any, lengths: Any = None) -> float:
        """The part of all steps whose label is predicted right."""
        predicted = self.predict(X, lengths)
        true = labels.per_step("y", y, [len(found) for found in predicted])
        right = sum(int((found == wanted).sum()) for found, wanted in zip(predicted, true, strict=True))
        return right / sum(map(len, predicted))

    def _by_sequence(self, X: Any, lengths: Any, of: Any) -> list[Array]:
        """For each sequence what `of` makes of its logits (T, B, K)."""
        model = self._as_fitted()
        x = model._inputs(X, lengths)
        found: list[list[Array]] = [[] for _ in range(len(x))]
        for places in batches(x.lengths, model.batch_size):
            for result, valid in self._by_window(x[places], of):
                for row, place in enumerate(places):
                    found[place].append(result[: valid[row], row])
        return [np.concatenate(parts) for parts in found]

    def _by_window(self, x: Sequences, of: Any) -> Iterator[tuple[Array, Array]]:
        state = None
        for window in x.windows(None if self.network_.recurrent.bidirectional else WINDOW):
            steps, valid = window.padded()
            logits, state = self.network_(steps, state, valid)
            yield of(logits), valid

    def _read(self, X: Any, y: Any, lengths: Any, *, learn: bool) -> Examples:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        x = self._read_x(X, lengths, learn)
        given = labels.per_step("y", y, x.lengths)
        if learn:
            self.classes_ = labels.classes_of(given)
        return Examples(x, Sequences([labels.encode("y", part, self.classes_) for part in given]))

    def _dataset(self, examples: Examples) -> Batches:
        return replace(super()._dataset(examples), bptt_steps=self.bptt_steps, count=_steps)

    def _split(self, examples: Examples) -> tuple[Examples, Examples | None]:
        """Of a single sequence, the end is held out."""
        if len(examples) == 1 and self.validation_fraction:
            return cut_end(examples, self.validation_fraction)
        return super()._split(examples)

    def _build(self, rng: np.random.Generator) -> StepNetwork:
        return StepNetwork(self._recurrent(rng), len(self.classes_), dropout=self.dropout, rng=rng)

    def _format(self) -> dict[str, Any]:
        return {**super()._format(), **labels.to_json(self.classes_)}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        super()._restore(metadata)
        self.classes_ = labels.from_json(metadata)


def _steps(examples: Examples) -> int:
    return int(examples.x.lengths.sum())


def _likeliest(logits: Array) -> npt.NDArray[np.int64]:
    likeliest: npt.NDArray[np.int64] = logits.argmax(axis=-1)
    return likeliest


def _probabilities(logits: Array) -> Array:
    scores = logits.astype(np.float64)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probabilities: Array = scores / scores.sum(axis=-1, keepdims=True)
    return probabilities
