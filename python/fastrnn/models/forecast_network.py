"""The network of the forecaster."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.data.series import Batch
from fastrnn.layers import Composite, Dropout, Linear, Recurrent
from fastrnn.losses import mean_squared_error, quantile_loss


class ForecastNetwork(Composite):
    """Recurrent layers, dropout, and after each step a linear layer for all of the steps ahead at once.

    To its outputs comes a linear function of what is known of the step ahead, the same for all steps.

    Parameters
    ----------
    layer : Recurrent
    channels, horizon, known : int
        C, H, and F, the number of inputs known of a step beforehand.
    quantiles : tuple of float or None
        Q of them; None is a single output, the mean.
    bptt_steps : int or None
        The last steps of a window, through which gradients flow; None is all.
    dropout : float
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        layer: Recurrent[Any],
        channels: int,
        horizon: int,
        known: int,
        quantiles: tuple[float, ...] | None,
        bptt_steps: int | None,
        dropout: float,
        rng: np.random.Generator,
    ) -> None:
        self.quantiles = quantiles
        self.bptt_steps = bptt_steps
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
        """See `fastrnn.models.estimator.NetworkEstimator`; samples are windows, `state` is not used."""
        x, known, target, weight = (array.astype(self.head.dtype) for array in batch[:4])
        origins = len(target)
        if training:
            hidden = self._forward(x)
            outputs = self.head.forward(self.dropout.forward(hidden[-origins:]))
        else:
            hidden = self.recurrent(x)[0]
            outputs = self.head(hidden[-origins:])
        outputs = outputs.reshape(*target.shape, self.shape[2])
        if self.known is not None:
            beside = self.known.forward(known) if training else self.known(known)
            outputs = outputs + beside.reshape(outputs.shape)
        loss, doutputs = self._loss(outputs * weight, target)
        if training:
            self._backward(doutputs * weight, len(hidden))
        return loss, target.shape[1], None

    def _forward(self, x: Array) -> Array:
        """The hidden states of the steps that gradients flow through."""
        through = len(x) if self.bptt_steps is None else min(self.bptt_steps, len(x))
        state = self.recurrent(x[:-through])[1] if through < len(x) else None
        hidden: Array = self.recurrent.forward(x[-through:], state)[0]
        return hidden

    def _loss(self, outputs: Array, target: Array) -> tuple[float, Array]:
        if self.quantiles is not None:
            return quantile_loss(outputs, target, self.quantiles)
        loss, doutputs = mean_squared_error(outputs[..., 0], target)
        return loss, doutputs[..., None]

    def _backward(self, doutputs: Array, steps: int) -> None:
        E, B, H = doutputs.shape[:3]
        if self.known is not None:
            self.known.backward(doutputs.reshape(E, B, H, -1))
        dhidden = self.dropout.backward(self.head.backward(doutputs.reshape(E, B, -1)))
        self.recurrent.backward(np.pad(dhidden, ((steps - E, 0), (0, 0), (0, 0))), input_gradient=False)
