"""One number, or several, for each sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fastrnn import checks, losses
from fastrnn.checks import Array
from fastrnn.data import Batches, Examples, Scaling, sample_weights, shares
from fastrnn.layers import Sequential
from fastrnn.models.estimator import Check
from fastrnn.models.parameters import named_or_function
from fastrnn.models.supervised import PooledEstimator

LOSSES = ("mean_squared_error", "mean_absolute_error", "huber")


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceRegressor(PooledEstimator):
    """A recurrent network that estimates one or more numbers from a sequence.

    What the recurrent layers make of a sequence is pooled to one vector, from which a linear layer computes
    the numbers. It learns targets that are brought to mean 0 and variance 1 first, each by itself, as far as
    they are trained on; what is predicted is in their own units again. Losses in `history_` are of the
    former. Where a target does not vary, its value is predicted.

    Parameters
    ----------
    loss : {"mean_squared_error", "mean_absolute_error", "huber"} or callable
        What is minimised; the latter two do not let outliers pull as far: see `fastrnn.losses`. A function
        gets outputs and targets, (B, M), and returns its value and gradient, as those do; if there is a
        `sample_weight`, it gets ``weights``, (B,), too.

    Attributes
    ----------
    target_scaling_ : fastrnn.data.Scaling
        What targets are scaled by.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(rng.integers(5, 15), 1)) for _ in range(100)]
    >>> y = [x.mean() for x in X]
    >>> model = SequenceRegressor(hidden_size=8, pooling="mean", epochs=40, learning_rate=0.02, seed=0)
    >>> model.fit(X[:80], y[:80]).score(X[80:], y[80:]) > 0.9
    True
    """

    loss: str | losses.Loss = "mean_squared_error"

    _checks: ClassVar[dict[str, Check]] = {**PooledEstimator._checks, "loss": named_or_function(*LOSSES)}
    _kind: ClassVar[str] = "regressor"

    def predict(self, X: Any, lengths: Any = None) -> Array:
        """The numbers for each sequence, float64: (N,), or (N, M) if `fit` got as many targets."""
        outputs = self._outputs(X, lengths).astype(np.float64)
        predicted: Array = self.target_scaling_.undo(outputs)
        return predicted[:, 0] if self._single else predicted

    def score(self, X: Any, y: Any, lengths: Any = None, sample_weight: Any = None) -> float:
        """R², the coefficient of determination: 1 - (sum of squared errors) / (sum of squares about the
        mean), weighted if there are weights; with several targets the mean of theirs. Of a target that does
        not vary it is 1 if met, else 0.
        """
        predicted = self.predict(X, lengths)
        true = self._targets(y, len(predicted)).reshape(len(predicted), -1)
        if true.shape[1] != self._count:
            raise ValueError(f"y must have {self._count} target(s), as in fit, got {true.shape[1]}")
        weights = sample_weights("sample_weight", sample_weight, len(true))
        errors = np.average((true - predicted.reshape(true.shape)) ** 2, axis=0, weights=weights)
        mean = np.average(true, axis=0, weights=weights)
        spread = np.average((true - mean) ** 2, axis=0, weights=weights)
        constant = (true == true[0]).all(axis=0) | (spread == 0)  # also where squares vanish
        scores = np.where(constant, errors == 0, 1 - errors / np.where(constant, 1, spread))
        return float(scores.mean())

    def _read(self, X: Any, y: Any, lengths: Any, sample_weight: Any = None, *, learn: bool) -> Examples:
        x = self._read_x(X, lengths, learn)
        targets = self._targets(y, len(x))
        columns = targets.reshape(len(x), -1)
        if learn:
            self._single, self._count = targets.ndim == 1, columns.shape[1]
            self.target_scaling_: Any = None
        if (targets.ndim == 1) != self._single or columns.shape[1] != self._count:
            expected = "(N,)" if self._single else f"(N, {self._count})"
            raise ValueError(f"y must have shape {expected}, as in fit, got {targets.shape}")
        return self._weighted(x, columns, sample_weight)

    def _learn_scale(self, examples: Examples) -> None:
        super()._learn_scale(examples)
        before, rows = self.target_scaling_, [(examples.y, shares(examples.weights))]
        self.target_scaling_ = Scaling.learned(before, "y", rows)
        if before is not None:
            head = self.network_.head.parameters
            self.target_scaling_.keep_outputs(before, head["weight"], head["bias"])

    def _dataset(self, examples: Examples) -> Batches:
        scaled = self.target_scaling_.apply(examples.y).astype(self.dtype)
        return super()._dataset(replace(examples, y=scaled))

    def _targets(self, y: Any, count: int) -> Array:
        """y as float64 (N,) or (N, M), checked."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        targets = checks.array("y", y, "an array of shape (N,) or (N, M)")
        targets = checks.real_array("y", targets, getattr(y, "columns", None))
        if targets.ndim not in (1, 2) or len(targets) != count or targets.size == 0:
            raise ValueError(f"y must have shape ({count},) or ({count}, M), got {targets.shape}")
        if not np.isfinite(targets).all():
            place = int(np.argwhere(~np.isfinite(targets))[0][0])
            raise ValueError(f"y must be finite, got NaN or inf for sequence {place}")
        return targets.astype(np.float64)

    def _loss(self) -> str | losses.Loss:
        return self.loss

    def _build(self, rng: np.random.Generator) -> Sequential:
        return self._network_of(self._count, rng)

    def _format(self) -> dict[str, Any]:
        return {**super()._format(), "y_single": self._single, "y_scaling": self.target_scaling_.to_json()}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        super()._restore(metadata)
        self._single, self.target_scaling_ = metadata["y_single"], Scaling.from_json(metadata["y_scaling"])
        self._count = len(self.target_scaling_.mean)
