"""The network of the forecaster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.data.windows import Batch, Reach, Windows
from fastrnn.layers import Composite, Dropout, Linear, Recurrent
from fastrnn.losses import Loss, quantile_loss
from fastrnn.training.learning import call_loss


class ForecastNetwork(Composite):
    """Recurrent layers, dropout, and after each step a linear layer for all of the steps ahead at once.

    To its outputs comes a linear function of what is known of the step ahead, the same for all steps.

    Parameters
    ----------
    layer : Recurrent
    channels, horizon, known : int
        C, H, and F, the number of inputs known of a step beforehand.
    loss : callable
        Of single outputs.
    quantiles : tuple of float or None
        Q of them, in the place of single outputs, by the pinball loss.
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
        loss: Loss,
        quantiles: tuple[float, ...] | None,
        bptt_steps: int | None,
        dropout: float,
        rng: np.random.Generator,
    ) -> None:
        self.single_loss = loss
        self.quantiles = quantiles
        self.bptt_steps = bptt_steps
        self.levels = quantiles or (0.5,)  # a mean takes the median's place
        self.middle = self.levels.index(0.5)
        self.shape = (horizon, channels, len(self.levels))
        self.recurrent = layer
        self.dropout = Dropout(dropout, seed=rng)
        self.head = Linear(layer.output_size, int(np.prod(self.shape)), dtype=layer.dtype, seed=rng)
        parts: dict[str, Any] = {"recurrent": layer, "head": self.head}
        self.known: Linear | None = None
        if known:
            outputs = self.shape[1] * self.shape[2]
            self.known = parts["known"] = Linear(known, outputs, bias=False, dtype=layer.dtype, seed=rng)
        super().__init__(**parts)

    def __call__(self, x: Array, known: Array, state: Any = None) -> tuple[Array, Any]:
        """The forecasts (E, B, H, C, Q) after the last E of the steps x, and the state to go on from.

        `known`, (E, B, H, F), is of the steps ahead of these.
        """
        hidden, state = self.recurrent(x, state)
        outputs = self.head(hidden[-len(known) :]).reshape(*known.shape[:2], *self.shape)
        if self.known is not None:
            outputs = outputs + self.known(known).reshape(outputs.shape)
        return outputs, state

    def forward(self, x: Array, known: Array) -> tuple[Array, Callable[[Array], None]]:
        """The forecasts, in training, and the way back through the last `bptt_steps`."""
        origins = len(known)
        through = len(x) if self.bptt_steps is None else min(self.bptt_steps, len(x))
        state = self.recurrent(x[:-through])[1] if through < len(x) else None
        hidden, _, recurrent_back = self.recurrent.forward(x[-through:], state)
        dropped, dropout_back = self.dropout.forward(hidden[-origins:])
        outputs, head_back = self.head.forward(dropped)
        outputs = outputs.reshape(*known.shape[:2], *self.shape)
        if self.known is not None:
            beside, known_back = self.known.forward(known)
            outputs = outputs + beside.reshape(outputs.shape)

        def back(doutputs: Array) -> None:
            if self.known is not None:
                known_back(doutputs.reshape(*known.shape[:3], -1))
            dhidden = dropout_back(head_back(doutputs.reshape(*known.shape[:2], -1)))
            recurrent_back(np.pad(dhidden, ((through - origins, 0), (0, 0), (0, 0))), input_gradient=False)

        return outputs, back

    def forecast(self, reach: Reach, values: Array, covariates: Array) -> tuple[Array, Array]:
        """The forecasts (B, horizon, C, Q) of windows side by side, and their contexts' deviations (B, C).

        From their values, (S, B, C), and their covariates, (S + horizon, B, K), scaled. Quantiles are sorted;
        beyond what is forecast at once, the median or mean is what goes on.
        """
        horizon = len(covariates) - len(values)
        beyond = -horizon % reach.ahead  # what is forecast of it is cut off
        windows = Windows(
            reach,
            np.pad(values, ((0, horizon + beyond), (0, 0), (0, 0))),
            np.pad(covariates, ((0, beyond), (0, 0), (0, 0))),
        )
        begin, end, state, outputs = 0, reach.context, None, []
        while end < reach.context + horizon:
            paths = windows.paths(end - 1, end, reach.ahead)
            known, x = windows.known(end - 1, end, paths), windows.inputs(begin, end)
            found, state = self(x.astype(self.head.dtype), known.astype(self.head.dtype), state)
            outputs.append(windows.restored(np.sort(found[0].astype(np.float64), axis=-1), paths[0]))
            following = slice(reach.before + end, reach.before + end + reach.ahead)
            windows.values[following] = outputs[-1][..., self.middle].swapaxes(0, 1)
            begin, end = end, end + reach.ahead
        return np.concatenate(outputs, axis=1)[:, :horizon], windows.scale.deviation

    def loss(self, batch: Batch, state: Any = None, *, training: bool) -> tuple[float, int, Any]:
        """See `fastrnn.models.estimator.NetworkEstimator`; samples are windows, `state` is not used."""
        x, known, target, weight = (array.astype(self.head.dtype) for array in batch[:4])
        outputs, back = self.forward(x, known) if training else self(x, known)
        loss, doutputs = self._loss(outputs * weight, target)
        if training:
            back(doutputs * weight)
        return loss, target.shape[1], None

    def _loss(self, outputs: Array, target: Array) -> tuple[float, Array]:
        if self.quantiles is not None:
            return quantile_loss(outputs, target, self.quantiles)
        loss, doutputs = call_loss(self.single_loss, outputs[..., 0], target)
        return loss, doutputs[..., None]
