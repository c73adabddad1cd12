"""Layers one after the other."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastrnn import checks
from fastrnn.layers.layer import Back, Composite, Layer
from fastrnn.layers.recurrent import Recurrent


class Sequential(Composite):
    """Layers without memory, such as `Linear`, `ReLU` and `Dropout`, each taking what the one before gives.

    Parameters
    ----------
    *layers : Layer
        Their parameters are named by their places, as in PyTorch: ``0.weight``, ``2.bias``.

    Raises
    ------
    TypeError
        If one is no layer, or a recurrent one, which returns a state too.

    Examples
    --------
    The one-to-one case, trained as every network is:

    >>> import numpy as np
    >>> from fastrnn.layers import Linear, Tanh
    >>> from fastrnn.losses import mean_squared_error
    >>> from fastrnn.optim import Adam
    >>> from fastrnn.training import Trainer
    >>> x = np.linspace(-3, 3, 64, dtype="float32")[:, None]
    >>> rng = np.random.default_rng(0)
    >>> network = Sequential(Linear(1, 16, seed=rng), Tanh(), Linear(16, 1, seed=rng))
    >>> def steps():
    ...     for rows in rng.permutation(64).reshape(4, 16):
    ...         y, back = network.forward(x[rows])
    ...         loss, dy = mean_squared_error(y, np.sin(x[rows]))
    ...         back(dy)
    ...         yield loss, len(rows)
    >>> trainer = Trainer(network, Adam(network.parameters, 0.05), epochs=200)
    >>> trainer.run(steps, samples=64)
    >>> bool(np.abs(network(x) - np.sin(x)).max() < 0.15)
    True
    """

    def __init__(self, *layers: Layer) -> None:
        for place, layer in enumerate(layers):
            if not isinstance(layer, Layer) or isinstance(layer, Recurrent):
                raise TypeError(f"layer {place} must be a layer without memory, got {checks.came(layer)}")
        super().__init__(**{str(place): layer for place, layer in enumerate(layers)})

    def __call__(self, x: npt.ArrayLike) -> Any:
        """Inference: what the last layer gives."""
        for layer in self.parts.values():
            x = layer(x)  # type: ignore[operator]
        return x

    def forward(self, x: npt.ArrayLike) -> tuple[Any, Back]:
        """The same as a call in training, and ``back(dy)``, which adds to `gradients` and returns dx: None if
        the first layer takes tokens."""
        backs: list[Back] = []
        for layer in self.parts.values():
            x, each = layer.forward(x)  # type: ignore[attr-defined]
            backs.append(each)

        def back(dy: npt.ArrayLike) -> Any:
            """dx of dy; adds to the layers' gradients."""
            for each in reversed(backs):
                dy = each(dy)
            return dy

        return x, back
