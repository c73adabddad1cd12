"""What the models of labels share: one of K classes for each sequence, or for each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Examples, Sequences, sample_weights, shares
from fastrnn.layers import Sequential
from fastrnn.losses import Loss, softmax_cross_entropy
from fastrnn.models import labels
from fastrnn.models.decoding import log_softmax
from fastrnn.models.estimator import Check
from fastrnn.models.given import TakesNetwork, adopted, facts, reorder, sequential, tokens_of
from fastrnn.models.metadata import request
from fastrnn.models.supervised import PooledEstimator, SupervisedEstimator
from fastrnn.models.weighting import check_class_weight, weighted_cross_entropy

Self = TypeVar("Self", bound="LabelEstimator")

#: What no data has told yet, as `LabelEstimator._restore` takes it.
UNKNOWN = dict.fromkeys("n_columns feature_names symbols scaling class_weights class_weight".split())
UNKNOWN["padded"] = False


@dataclass(kw_only=True, eq=False, repr=False)
class LabelEstimator(SupervisedEstimator, TakesNetwork):
    """A model that says which of some classes something belongs to.

    A subclass supplies ``_labels(y, lengths)``, the labels that it is given, checked: an array (N,), or for
    each sequence an array (T_i,); and ``_for_each(X, lengths, of)``, what a function makes of the logits,
    (..., K), in that form.

    Parameters
    ----------
    class_weight : None, "balanced" or dict
        The weight of each class in the loss: 1; N / (K N_k) for class k of K, which has N_k of the N labels,
        of steps where these have one; or by label, 1 where it is left out. They are scaled so that their mean
        over the labels is 1. In batches of very few sequences ``clip_norm`` cuts what a great weight makes of
        a gradient.
    label_smoothing : float
        This part of each label's probability, 0 to 1, goes to all classes alike in the loss.

    Attributes
    ----------
    classes_ : ndarray, (K,)
        The labels, sorted.
    """

    class_weight: str | Mapping[Any, float] | None = None
    label_smoothing: float = 0.0

    _checks: ClassVar[dict[str, Check]] = {
        **SupervisedEstimator._checks,
        **TakesNetwork._checks,
        "class_weight": check_class_weight,
        "label_smoothing": checks.probability,
    }

    set_predict_proba_request = request("predict_proba")
    set_predict_log_proba_request = request("predict_log_proba")

    @classmethod
    def from_network(cls: type[Self], network: Sequential, classes: Any, **parameters: Any) -> Self:
        """A model that predicts as a network does, which has been trained elsewhere.

        It is a fitted model: it predicts, is saved, learns more by `partial_fit`; `network_` gives the
        network away. `fit` begins with the weights that `network` has, and learns the classes from its data.

        Parameters
        ----------
        network : fastrnn.Sequential
            From a step's features, as they come: nothing is scaled; or from tokens. To the classes' logits,
            of each sequence or, of a tagger, of each step. `network_` is a copy of it, time first, that ends
            in logits: `Softmax` and `LogSoftmax`, which the model computes itself, are left out; one logit
            and `Sigmoid`, for the second of two classes, become two logits.
        classes : array_like, (K,)
            The labels in the order of the outputs; `classes_` and the outputs of `network_` are sorted.
        **parameters
            Those of training, and ``n_tokens`` for a network whose recurrent layers take tokens themselves.

        Returns
        -------
        A model.

        Raises
        ------
        TypeError, ValueError
            If the network does not fit, or a parameter says anything else than it.

        Examples
        --------
        >>> from fastrnn import GRU, Last, Linear, Sequential, Softmax
        >>> network = Sequential(GRU(3, 8, seed=0), Last(), Linear(8, 2, seed=0), Softmax())
        >>> model = SequenceClassifier.from_network(network, ["up", "down"])
        >>> X = np.random.default_rng(0).normal(size=(4, 20, 3)).astype("float32")  # (N, T, F)
        >>> bool(np.allclose(model.predict_proba(X)[:, ::-1], network(X.swapaxes(0, 1))))
        True
        """
        if not isinstance(classes, (list, tuple, np.ndarray)) and not hasattr(classes, "__array__"):
            raise TypeError(f"classes must be an array of labels, got {checks.came(classes)}")
        given = labels.per_sequence("classes", classes, np.size(classes))
        order = np.argsort(given, kind="stable")
        known = given[order]
        if len(known) != len({*known.tolist()}):
            raise ValueError(f"classes must be different labels, got {given.tolist()}")
        tokens = parameters.get("n_tokens", tokens_of(sequential("network", network)))
        features = 1 if tokens is not None else network._features[0]
        pooled = issubclass(cls, PooledEstimator)
        made = adopted(network, tokens=tokens, features=features, outputs=len(known), pooled=pooled)
        if (order != np.arange(len(order))).any():
            reorder(made, order)
        told = {**facts(cls, made), "n_tokens": tokens, "network": made}
        model: Self = cls(**{**told, **parameters})._checked_copy()
        if model.class_weight is not None:
            raise ValueError("class_weight must be None: fit takes it from the labels that it is given")
        model._restore({**UNKNOWN, "n_features": features, **labels.to_json(known)})
        model._begin()
        return model

    def predict(self, X: Any, lengths: Any = None) -> Any:
        """The likeliest label: of each sequence, (N,); of a tagger, for each sequence an array (T_i,)."""
        return self._for_each(X, lengths, lambda logits: self.classes_[logits.argmax(axis=-1)])

    def predict_proba(self, X: Any, lengths: Any = None) -> Any:
        """The probability of each class, in the order of `classes_`: (N, K); of a tagger, for each sequence
        an array (T_i, K).
        """
        return self._for_each(X, lengths, lambda logits: np.exp(log_softmax(logits.astype(np.float64))))

    def predict_log_proba(self, X: Any, lengths: Any = None) -> Any:
        """The logarithms of `predict_proba`."""
        return self._for_each(X, lengths, lambda logits: log_softmax(logits.astype(np.float64)))

    def score(self, X: Any, y: Any, lengths: Any = None, sample_weight: Any = None) -> float:
        """The part of all sequences, of a tagger of all steps, whose label is predicted right; or of the
        weights of these sequences.
        """
        found = self.predict(X, lengths)
        steps = np.array([np.size(each) for each in found])
        right = _joined(found) == _joined(self._labels(y, steps))
        weights = sample_weights("sample_weight", sample_weight, len(steps))
        return float(np.average(right, weights=None if weights is None else np.repeat(weights, steps)))

    def partial_fit(
        self: Self,
        X: Any,
        y: Any = None,
        lengths: Any = None,
        sample_weight: Any = None,
        *,
        classes: Any = None,
    ) -> Self:
        """As of `SequenceEstimator`; `classes`, (K,), are all labels there will be, for the first call: by
        default those in its `y`.
        """
        return self._partial_fit((X, y, lengths, sample_weight, classes))

    def _for_each(self, X: Any, lengths: Any, of: Callable[[Array], Array]) -> Any:
        raise NotImplementedError

    def _labels(self, y: Any, lengths: Array) -> Array | list[Array]:
        raise NotImplementedError

    def _adopted(self, network: Sequential) -> Sequential:
        """The network that the model was given, if it fits."""
        return adopted(
            network,
            tokens=self._count_tokens(),
            features=self._features,
            outputs=len(self.classes_),
            pooled=isinstance(self, PooledEstimator),
            bptt_steps=self.bptt_steps,
        )

    def _read(
        self, X: Any, y: Any, lengths: Any, sample_weight: Any = None, classes: Any = None, *, learn: bool
    ) -> Examples:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        x = self._read_x(X, lengths, learn)
        given = self._labels(y, x.lengths)
        parts = given if isinstance(given, list) else [given]
        if learn:
            known = parts if classes is None else [labels.per_sequence("classes", classes, len(classes))]
            self.classes_ = labels.classes_of(known)
        places = [labels.encode("y", part, self.classes_) for part in parts]
        targets = Sequences(places) if isinstance(given, list) else places[0].astype(np.int64)
        examples = self._weighted(x, targets, sample_weight)
        if learn:
            self._class_weights = self._weights_of(examples)
        return examples

    def _weights_of(self, examples: Examples) -> list[float] | None:
        """A weight for each class."""
        if self.class_weight is None:
            return None
        weights = shares(examples.weights)
        each = np.ones(len(examples)) if weights is None else weights
        by_step = isinstance(examples.y, Sequences)
        y = np.concatenate(examples.y.items) if by_step else examples.y
        counts = np.bincount(y, np.repeat(each, examples.x.lengths) if by_step else each, len(self.classes_))
        if isinstance(self.class_weight, str):
            weights = np.divide(1, counts, out=np.ones_like(counts), where=counts > 0)
        else:
            known = self.classes_.tolist()
            for label in self.class_weight:
                if label not in known:
                    raise ValueError(f"class_weight must be of labels in y, got {label!r}")
            weights = np.array([self.class_weight.get(label, 1.0) for label in known])
        scaled: list[float] = (weights * counts.sum() / (weights @ counts)).tolist()
        return scaled

    def _loss(self) -> Loss:
        smoothing = self.label_smoothing
        if self._class_weights is None:
            return partial(softmax_cross_entropy, label_smoothing=smoothing)
        weights = np.array(self._class_weights)
        return partial(weighted_cross_entropy, by_class=weights, label_smoothing=smoothing)

    def _format(self) -> dict[str, Any]:
        by_label = self._fitted_with["class_weight"]
        return {
            **super()._format(),
            **labels.to_json(self.classes_),
            "class_weights": self._class_weights,
            "class_weight": list(by_label.items()) if isinstance(by_label, Mapping) else by_label,
        }

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        super()._restore(metadata)
        self.classes_, self._class_weights = labels.from_json(metadata), metadata["class_weights"]
        if isinstance(metadata["class_weight"], list):
            self.class_weight = dict(metadata["class_weight"])


def _joined(parts: Any) -> Array:
    """All labels, whether they come by sequence in an array or by step in a list of arrays."""
    return np.concatenate(parts) if isinstance(parts, list) else parts
