"""The network of the forecaster."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.data.series import Batch
from fastrnn.layers import Composite, Dropout, Linear
from fastrnn.losses import mean_squared_error, quantile_loss
from fastrnn.models.networks import Recurrent


class ForecastNetwork(Composite):
    """Recurrent layers, dropout, and after each step a linear layer for all of the steps ahead at once.

    To its outputs comes a linear function of what is known of the step ahead, the same for all steps.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
    channels, horizon, known : int
        C, H, and F, the number of inputs known of a step beforehand.
    quantiles : list of float or None
        Q of them; None is a single output, the mean.
    dropout : float
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        layer: Recurrent,
        channels: int,
        horizon: int,
        known: int,
        quantiles: list[float] | None,
        dropout: float,
        rng: np.random.Generator,
    ) -> None:
        self.quantiles = quantiles
        self.shape = (horizon, channels, len(quantiles) if quantiles else 1)
        self.recurrent = layer
        self.dropout = Dropout(dropout, seed=rng)
        self.head = Linear(layer.hidden_size, int(np.prod(self.shape)), dtype=layer.dtype, seed=rng)
        parts: dict[str, Any] = {"recurrent": layer, "head": self.head}
        self.known: Linear | None = None
        if known:
            outputs = self.shape[1] * self.shape[2]
            self.known = parts["known"] = Linear(known, outputs, bias=False, dtype=layer.dtype, seed=rng)
        super().__init__(**parts)

    def __call__(self, x: Array, known: Array, state: Any = None) -> tuple[Array, Any]:
        """The forecasts (B, H, C, Q) after the last of the steps x, and the state to go on from.

        `known`, (B, H, F), is of the steps ahead.
        """
        hidden, state = self.recurrent(x, state)
        outputs = self.head(hidden[-1]).reshape(-1, *self.shape)
        if self.known is not None:
            outputs = outputs + self.known(known).reshape(outputs.shape)
        return outputs, state

    @property
    def middle(self) -> int:
        """The place of the median, or the mean, among the outputs."""
        return self.quantiles.index(0.5) if self.quantiles else 0

    def loss(self, batch: Batch, state: Any = None, *, training: bool) -> tuple[float, int, Any]:
        """See `fastrnn.models.estimator.NetworkEstimator`; samples are the steps forecast from."""
        counted = slice(batch.skipped, None)
        known, target = batch.known[counted], batch.target[counted]
        hidden, state = _run(self.recurrent, training)(batch.x, state)
        dropped = _run(self.dropout, training)(hidden[counted])
        outputs = _run(self.head, training)(dropped).reshape(*target.shape, self.shape[2])
        if self.known is not None:
            outputs = outputs + _run(self.known, training)(known).reshape(outputs.shape)
        loss, doutputs = self._loss(outputs, target)
        if training:
            self._backward(doutputs, batch.skipped)
        return loss, target.shape[0] * target.shape[1], state

    def _loss(self, outputs: Array, target: Array) -> tuple[float, Array]:
        if self.quantiles is not None:
            return quantile_loss(outputs, target, self.quantiles)
        loss, doutputs = mean_squared_error(outputs[..., 0], target)
        return loss, doutputs[..., None]

    def _backward(self, doutputs: Array, skipped: int) -> None:
        T, B, H = doutputs.shape[:3]
        if self.known is not None:
            self.known.backward(doutputs.reshape(T, B, H, -1))
        dhidden = self.dropout.backward(self.head.backward(doutputs.reshape(T, B, -1)))
        dhidden = np.pad(dhidden, ((skipped, 0), (0, 0), (0, 0))) if skipped else dhidden
        self.recurrent.backward(dhidden, input_gradient=False)


def _run(layer: Any, training: bool) -> Any:
    """A layer's pass: what forward keeps is kept in training only."""
    return layer.forward if training else layer
