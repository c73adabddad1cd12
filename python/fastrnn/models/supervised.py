"""What the models that read sequences of numbers or tokens have in common: how they read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import LAYOUTS, Sequences, batches, sequences
from fastrnn.models.estimator import Check, SequenceEstimator
from fastrnn.models.networks import POOLINGS, Recurrent, SequenceNetwork, recurrent


@dataclass(kw_only=True, eq=False, repr=False)
class SupervisedEstimator(SequenceEstimator):
    """A model of sequences in any of the forms of `fastrnn.data.sequences`.

    Parameters
    ----------
    bidirectional : bool
        Whether a second direction runs through each sequence backwards.
    layout : {"NTC", "NCT"}
        The order of an array's axes: cases, time, channels; or cases, channels, time.

    Attributes
    ----------
    n_features_in_ : int
        Features of a step, 1 if the steps are tokens; or, if `fit` got a matrix of numbers, its columns, as
        scikit-learn has it: another matrix must have as many then.
    n_tokens_ : int or None
        Tokens that the model knows, 0 to ``n_tokens_ - 1``; None if the steps are numbers.
    """

    bidirectional: bool = False
    layout: str = "NTC"

    _checks: ClassVar[dict[str, Check]] = {
        **SequenceEstimator._checks,
        "bidirectional": checks.boolean,
        "layout": lambda name, value: checks.one_of(name, value, LAYOUTS),
    }

    def _checked_copy(self) -> Any:
        model = super()._checked_copy()
        if model.bidirectional and model.bptt_steps is not None:
            raise ValueError(
                "bptt_steps goes with bidirectional=False only: the backward direction starts at the end, "
                f"which windows reach last; got bptt_steps={model.bptt_steps}"
            )
        return model

    def _read_x(self, X: Any, lengths: Any, learn: bool) -> Sequences:
        """X, of the features or tokens that the model was fitted with."""
        x = sequences("X", X, lengths=lengths, layout=self.layout, dtype=self.dtype)
        columns = _columns(X, x)
        if learn:
            self.n_features_in_ = x.features if columns is None else columns
            self._features, self._columns = x.features, columns
            self.n_tokens_ = x.highest_token() + 1 if x.tokens else None
        if x.tokens != (self.n_tokens_ is not None):
            kinds = ("numbers", "tokens")
            raise ValueError(f"X must hold {kinds[not x.tokens]}, as in fit, got {kinds[x.tokens]}")
        self._require_features(x.features, self._features)
        if columns is not None and self._columns is not None:
            self._require_features(columns, self._columns)
        if self.n_tokens_ is not None and x.highest_token() >= self.n_tokens_:
            raise ValueError(f"X must hold tokens within 0..{self.n_tokens_ - 1}, got {x.highest_token()}")
        return x

    def _require_features(self, came: int, expected: int) -> None:
        if came != expected:
            raise ValueError(
                f"X has {came} features, but {type(self).__name__} is expecting {expected} features as input"
            )

    def _recurrent(self, rng: np.random.Generator) -> Recurrent:
        tokens = self.n_tokens_ is not None
        size = self._features if self.n_tokens_ is None else self.n_tokens_
        return recurrent(self, size, rng, tokens=tokens, bidirectional=self.bidirectional)

    def _format(self) -> dict[str, Any]:
        return {"n_features": self._features, "n_columns": self._columns, "n_tokens": self.n_tokens_}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self._features, self._columns = metadata["n_features"], metadata["n_columns"]
        self.n_features_in_ = self._features if self._columns is None else self._columns
        self.n_tokens_ = metadata["n_tokens"]


def _columns(X: Any, x: Sequences) -> int | None:
    """The columns of a matrix of numbers, also one of nested lists; None for sequences in any other form."""
    matrix = getattr(X, "ndim", 0) == 2 or (isinstance(X, list) and isinstance(X[0], list))
    return x.steps if matrix and not x.tokens and x.features == 1 and x.lengths.min() == x.steps else None


@dataclass(kw_only=True, eq=False, repr=False)
class PooledEstimator(SupervisedEstimator):
    """A model with one output for each sequence.

    Parameters
    ----------
    pooling : {"last", "mean", "max"}
        What of the recurrent layers' outputs is read out: after the last step (with two directions, of the
        backward one that after the first step), or the mean or maximum over the steps of a sequence.
    """

    pooling: str = "last"

    _checks: ClassVar[dict[str, Check]] = {
        **SupervisedEstimator._checks,
        "pooling": lambda name, value: checks.one_of(name, value, POOLINGS),
    }

    def _network_of(self, outputs: int, loss: Any, rng: np.random.Generator) -> SequenceNetwork:
        return SequenceNetwork(
            self._recurrent(rng),
            outputs,
            pooling=self.pooling,
            dropout=self.dropout,
            bptt_steps=self.bptt_steps,
            loss=loss,
            rng=rng,
        )

    def _outputs(self, X: Any, lengths: Any) -> Array:
        """The network's outputs, (N, O), for sequences to predict for."""
        model = self._as_fitted()
        x = model._read_x(X, lengths, learn=False)
        network: SequenceNetwork = model._network
        outputs = np.empty((len(x), network.head.out_features), network.head.dtype)
        for places in batches(x.lengths, model.batch_size):
            outputs[places] = network(x[places])
        return outputs
