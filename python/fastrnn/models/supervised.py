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
        Features of a step; 1 if the steps are tokens.
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
        if learn:
            self.n_features_in_ = x.features
            self.n_tokens_ = x.highest_token() + 1 if x.tokens else None
        if x.tokens != (self.n_tokens_ is not None):
            kinds = ("numbers", "tokens")
            raise ValueError(f"X must hold {kinds[not x.tokens]}, as in fit, got {kinds[x.tokens]}")
        if x.features != self.n_features_in_:
            raise ValueError(
                f"X has {x.features} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        if self.n_tokens_ is not None and x.highest_token() >= self.n_tokens_:
            raise ValueError(f"X must hold tokens within 0..{self.n_tokens_ - 1}, got {x.highest_token()}")
        return x

    def _recurrent(self, rng: np.random.Generator) -> Recurrent:
        tokens = self.n_tokens_ is not None
        size = self.n_tokens_ if self.n_tokens_ is not None else self.n_features_in_
        return recurrent(self, size, rng, tokens=tokens, bidirectional=self.bidirectional)

    def _format(self) -> dict[str, Any]:
        return {"n_features_in": self.n_features_in_, "n_tokens": self.n_tokens_}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self.n_features_in_, self.n_tokens_ = metadata["n_features_in"], metadata["n_tokens"]


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
        self._require_fitted("history_")
        x = self._read_x(X, lengths, learn=False)
        network: SequenceNetwork = self._network
        outputs = np.empty((len(x), network.head.out_features), network.head.dtype)
        for places in batches(x.lengths, self.batch_size):
            outputs[places] = network(x[places])
        return outputs
