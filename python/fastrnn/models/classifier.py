"""One label for each sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Examples
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models import labels
from fastrnn.models.estimator import Check
from fastrnn.models.metadata import lengths_request
from fastrnn.models.networks import SequenceNetwork
from fastrnn.models.supervised import PooledEstimator


def _cross_entropy(weights: Array | None, logits: Array, places: Array) -> tuple[float, Array]:
    """The loss, with a weight for each class or none.

    The weighted sum is divided by the number of sequences, not by their weights: a batch without the rare
    classes counts less, whatever the size of the batches.
    """
    if weights is None:
        return softmax_cross_entropy(logits, places)
    weights = weights[places]
    loss, dlogits = softmax_cross_entropy(logits, places, weights=weights)
    mean = float(weights.mean())
    return loss * mean, dlogits * mean


def _as_pairs(class_weight: Any) -> Any:
    """A dict as a list of pairs, because JSON knows no labels but str."""
    return list(class_weight.items()) if isinstance(class_weight, Mapping) else class_weight


def _class_weight(name: str, value: Any) -> Any:
    """None, "balanced", or a dict of labels, as plain Python, to weights."""
    if value is None or (isinstance(value, str) and value == "balanced"):
        return value
    if not isinstance(value, Mapping):
        expected = "None, 'balanced' or a dict of labels to weights"
        raise TypeError(f"{name} must be {expected}, got {checks.came(value)}")
    plain = {label.item() if isinstance(label, np.generic) else label: w for label, w in value.items()}
    return {label: checks.positive_float(f"{name}[{label!r}]", w) for label, w in plain.items()}


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(PooledEstimator):
    """A recurrent network that says which class a sequence belongs to.

    What the recurrent layers make of a sequence is pooled to one vector, from which a linear layer computes
    the classes' logits; the cross-entropy is minimised.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
        The weight of each class in the loss: 1; N / (K N_k) for class k of K, which has N_k of the N
        sequences; or by label, 1 where it is left out. They are scaled so that their mean over the sequences
        is 1. In batches of very few sequences ``clip_norm`` cuts what a great weight makes of a gradient.
    pooling, bidirectional, layout, n_tokens, cell, hidden_size, ...
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
    >>> y = np.array(["falling", "rising"] * 50)
    >>> X = [np.cumsum(rng.normal(1 if way == "rising" else -1, 1, rng.integers(5, 20))) / 9 for way in y]
    >>> model = SequenceClassifier(hidden_size=8, epochs=20, learning_rate=0.02, seed=0).fit(X[:80], y[:80])
    >>> model.score(X[80:], y[80:]) > 0.9
    True
    """

    class_weight: str | Mapping[Any, float] | None = None

    _checks: ClassVar[dict[str, Check]] = {**PooledEstimator._checks, "class_weight": _class_weight}
    _kind: ClassVar[str] = "classifier"

    set_predict_proba_request = lengths_request("predict_proba")
    set_predict_log_proba_request = lengths_request("predict_log_proba")

    def predict(self, X: Any, lengths: Any = None) -> Array:
        """The likeliest label of each sequence, (N,)."""
        likeliest: Array = self._outputs(X, lengths).argmax(axis=1)
        return self.classes_[likeliest]

    def predict_proba(self, X: Any, lengths: Any = None) -> npt.NDArray[np.float64]:
        """The probability of each class, (N, K), in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X, lengths))

    def predict_log_proba(self, X: Any, lengths: Any = None) -> npt.NDArray[np.float64]:
        """The logarithms of `predict_proba`."""
        logits = self._outputs(X, lengths).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def score(self, X: Any, y: Any, lengths: Any = None) -> float:
        """The part of the sequences whose label is predicted right."""
        predicted = self.predict(X, lengths)
        return float((predicted == labels.per_sequence("y", y, len(predicted))).mean())

    def partial_fit(
        self, X: Any, y: Any = None, lengths: Any = None, *, classes: Any = None
    ) -> SequenceClassifier:
        """As of `SequenceEstimator`; `classes`, (K,), are all labels there will be, for the first call: by
        default those in its `y`.
        """
        return self._partial_fit((X, y, lengths, classes))

    def _read(self, X: Any, y: Any, lengths: Any, classes: Any = None, *, learn: bool) -> Examples:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        x = self._read_x(X, lengths, learn)
        given = labels.per_sequence("y", y, len(x))
        if learn:
            known = given if classes is None else labels.per_sequence("classes", classes, len(classes))
            self.classes_ = labels.classes_of([known])
        places = labels.encode("y", given, self.classes_).astype(np.int64)
        if learn:
            self._weights = self._class_weights(places)
        return Examples(x, places)

    def _class_weights(self, places: npt.NDArray[np.int64]) -> list[float] | None:
        """A weight for each class."""
        if self.class_weight is None:
            return None
        counts = np.bincount(places, minlength=len(self.classes_))
        if isinstance(self.class_weight, str):
            weights = 1 / np.maximum(counts, 1)
        else:
            known = self.classes_.tolist()
            for label in self.class_weight:
                if label not in known:
                    raise ValueError(f"class_weight must be of labels in y, got {label!r}")
            weights = np.array([self.class_weight.get(label, 1.0) for label in known])
        scaled: list[float] = (weights * len(places) / (weights @ counts)).tolist()
        return scaled

    def _build(self, rng: np.random.Generator) -> SequenceNetwork:
        weights = None if self._weights is None else np.array(self._weights)
        return self._network_of(len(self.classes_), partial(_cross_entropy, weights), rng)

    def _format(self) -> dict[str, Any]:
        return {
            **super()._format(),
            **labels.to_json(self.classes_),
            "class_weights": self._weights,
            "class_weight": _as_pairs(self._fitted_with["class_weight"]),
        }

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        super()._restore(metadata)
        self.classes_ = labels.from_json(metadata)
        self._weights = metadata["class_weights"]
        if isinstance(metadata["class_weight"], list):
            self.class_weight = dict(metadata["class_weight"])
