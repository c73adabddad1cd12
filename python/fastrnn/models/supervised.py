"""What the models that read sequences of numbers or tokens have in common: how they read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import (
    LAYOUTS,
    Batches,
    Examples,
    Scaling,
    Sequences,
    Symbols,
    batches,
    begins_with_str,
    is_list,
    sample_weights,
    sequences,
    shares,
    symbol_sequences,
)
from fastrnn.layers import Recurrent, Sequential
from fastrnn.models.columns import KnowsColumns
from fastrnn.models.estimator import Check, SequenceEstimator, optional
from fastrnn.models.metadata import TakesMetadata
from fastrnn.models.networks import POOLINGS, network_of, recurrent


@dataclass(kw_only=True, eq=False, repr=False)
class SupervisedEstimator(SequenceEstimator, TakesMetadata, KnowsColumns):
    """A model of sequences in any of the forms of `fastrnn.data.sequences`, or of strings.

    A str is the sequence of its characters, a list of strings one of words, ``text.lower().split()``, or of
    whatever else the strings stand for: which there are is learned in `fit`, and one that was not there says
    nothing later.

    Parameters
    ----------
    bidirectional : bool
        Whether a second direction runs through each sequence backwards.
    layout : {"NTC", "NCT"}
        The order of an array's axes: cases, time, channels; or cases, channels, time.
    n_tokens : int or None
        The steps are tokens, integers from 0 to ``n_tokens - 1``, each of which has weights of its own. With
        None they are numbers, also where these are integers.
    scale : bool
        Whether numbers are brought to mean 0 and deviation 1, each feature by itself over all steps that are
        trained on, so that their units do not matter; a feature that does not vary there is 0.

    Attributes
    ----------
    scaling_ : fastrnn.data.Scaling or None
        What numbers are scaled by before `network_` gets them.
    n_features_in_ : int
        Features of a step, 1 if the steps are tokens; or, if `fit` got a matrix of numbers, its columns, as
        scikit-learn has it: another matrix must have as many then, but not sequences in a list.
    """

    bidirectional: bool = False
    layout: str = "NTC"
    n_tokens: int | None = None
    scale: bool = True

    _checks: ClassVar[dict[str, Check]] = {
        **SequenceEstimator._checks,
        "bidirectional": checks.boolean,
        "layout": lambda name, value: checks.one_of(name, value, LAYOUTS),
        "n_tokens": optional(checks.positive_int),
        "scale": checks.boolean,
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
        """X, of the features that the model was fitted with."""
        if not learn:
            self._require_lengths(X, lengths)
        else:
            texts = self.n_tokens is None and begins_with_str(X)
            given = symbol_sequences("X", X, shortest=1) if texts else []
            self._symbols = Symbols(each for sequence in given for each in sequence) if texts else None
        if self._symbols is None:
            n_tokens = self.n_tokens
            x = sequences("X", X, lengths=lengths, layout=self.layout, dtype=self.dtype, n_tokens=n_tokens)
        else:
            x = self._tokens(X, lengths, self._symbols)
        matrix = getattr(X, "ndim", 0) == 2 or (learn and isinstance(X, list) and isinstance(X[0], list))
        alike = matrix and lengths is None and not x.tokens and x.features == 1 and x.lengths.min() == x.steps
        columns = x.steps if alike else None
        if not x.tokens and (self.layout == "NTC" or not is_list(X)):
            self._read_names(X, learn)
        if learn:
            self._features, self._columns = x.features, columns
            self.scaling_: Scaling | None = None
            self._padded = lengths is not None
            self.n_features_in_ = x.features if columns is None else columns
        else:
            one = getattr(X, "ndim", 0) == 2 and X.shape[1] == self._features != x.features
            hint = "; a single sequence goes into a list" if one else ""
            self._require_features(x.features, self._features, hint)
            if columns is not None and self._columns is not None:
                self._require_features(columns, self._columns)
        return x

    def _tokens(self, X: Any, lengths: Any, symbols: Symbols) -> Sequences:
        """Sequences of symbols as tokens, of which 0 is for strings that `fit` did not get."""
        if lengths is not None:
            raise ValueError("lengths must be None: sequences of symbols have their own, and X is not padded")
        given = enumerate(symbol_sequences("X", X, shortest=1))
        return Sequences([1 + symbols.encode(f"X[{k}]", each, unknown=-1) for k, each in given], self.dtype)

    def _require_lengths(self, X: Any, lengths: Any) -> None:
        if self._padded and lengths is None and not is_list(X):
            raise ValueError(
                "lengths must be passed with an array, as in fit: without them its padding would be data. "
                "scikit-learn's tools pass them on where set_fit_request(lengths=True) and "
                "set_score_request(lengths=True) ask for them; or make X a list, whose members have their own"
            )

    def _require_features(self, came: int, expected: int, hint: str = "") -> None:
        if came != expected:
            raise ValueError(
                f"X has {came} features, but {type(self).__name__} is expecting {expected} features as input"
                f"{hint}"
            )

    def _inputs(self, X: Any, lengths: Any) -> Sequences:
        """X to predict for, scaled."""
        return self._read_x(X, lengths, learn=False).scaled(self.scaling_)

    def _weighted(self, x: Sequences, y: Any, sample_weight: Any) -> Examples:
        """What there is to learn: a sequence of weight 0 is as if it were not there."""
        weights = sample_weights("sample_weight", sample_weight, len(x))
        return Examples(x, y) if weights is None else Examples(x, y, weights)[np.flatnonzero(weights)]

    def _learn_scale(self, examples: Examples) -> None:
        if not self.scale or examples.x.tokens:
            return
        before, rows = self.scaling_, examples.x.rows(shares(examples.weights))
        if before is None:
            self.scaling_ = Scaling.learned(None, "X", rows)
            return
        parameters = self.network_.recurrent.parameters
        if "bias_ih_l0" in parameters:  # which takes up what a mean has moved by
            self.scaling_ = Scaling.learned(before, "X", rows)
            for end in ("", "_reverse")[: 1 + self.bidirectional]:
                weight, bias = parameters[f"weight_ih_l0{end}"], parameters[f"bias_ih_l0{end}"]
                self.scaling_.keep_inputs(before, weight, bias)

    def _dataset(self, examples: Examples) -> Batches:
        steps = examples.x.lengths if isinstance(examples.y, Sequences) else None
        x, weights = examples.x.scaled(self.scaling_), shares(examples.weights, steps)
        return Batches(replace(examples, x=x, weights=weights), self.batch_size)

    def _count_tokens(self) -> int | None:
        """How many different ones there are, if steps are tokens."""
        return self.n_tokens if self._symbols is None else 1 + len(self._symbols)

    def _recurrent(self, rng: np.random.Generator) -> Recurrent[Any]:
        tokens = self._count_tokens()
        size, both = (self._features if tokens is None else tokens), self.bidirectional
        layer = recurrent(self, size, rng, tokens=tokens is not None, bidirectional=both)
        if self._symbols is not None:
            for end in ("", "_reverse")[: 1 + both]:
                layer.parameters[f"weight_ih_l0{end}"][:, 0] = 0  # what is not known says nothing
        return layer

    def _format(self) -> dict[str, Any]:
        return {
            "n_features": self._features,
            "n_columns": self._columns,
            "feature_names": self._names,
            "padded": self._padded,
            "symbols": None if self._symbols is None else self._symbols.symbols,
            "scaling": None if self.scaling_ is None else self.scaling_.to_json(),
        }

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self._features, self._columns = metadata["n_features"], metadata["n_columns"]
        self._names, self._padded = metadata["feature_names"], metadata["padded"]
        symbols, scaling = metadata["symbols"], metadata["scaling"]
        self._symbols = None if symbols is None else Symbols(symbols)
        self.scaling_ = None if scaling is None else Scaling.from_json(scaling)
        self.n_features_in_ = self._features if self._columns is None else self._columns


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
        "pooling": lambda name, value: checks.one_of(name, value, tuple(POOLINGS)),
    }

    def _network_of(self, outputs: int, rng: np.random.Generator) -> Sequential:
        return network_of(
            self._recurrent(rng),
            outputs,
            pooling=self.pooling,
            dropout=self.dropout,
            bptt_steps=self.bptt_steps,
            rng=rng,
        )

    def _outputs(self, X: Any, lengths: Any) -> Array:
        """The network's outputs, (N, O), for sequences to predict for."""
        model = self._as_fitted()
        x = model._inputs(X, lengths)
        network = model.network_
        outputs = np.empty((len(x), network._features[1]), model.dtype)
        for places in batches(x.lengths, model.batch_size):
            outputs[places] = network(x[places])
        return outputs
