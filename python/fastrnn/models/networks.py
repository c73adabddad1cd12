"""Networks that the models share: recurrent layers, and what reads them out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn import optim
from fastrnn.layers import (
    CELLS,
    Composite,
    Dropout,
    Last,
    Layer,
    Linear,
    Max,
    Mean,
    Pooling,
    Recurrent,
    Sequential,
)

TOKEN_RATE = 10.0  # times the learning rate: see `recurrent`

POOLINGS: dict[str, type[Pooling]] = {"last": Last, "mean": Mean, "max": Max}


def recurrent(
    options: Any,
    input_size: int,
    rng: np.random.Generator,
    *,
    tokens: bool = False,
    bidirectional: bool = False,
) -> Recurrent[Any]:
    """The recurrent layers that a model's parameters ask for.

    Parameters
    ----------
    options : SequenceEstimator
        Its cell, hidden_size, num_layers, dropout, layer_options and dtype are used.
    input_size : int
        Features of a step, or the size of the vocabulary.
    rng : numpy.random.Generator
    tokens : bool
        Whether steps are tokens. The initial values and the rate that suit some H active inputs are low for a
        token, which is just one. Columns of twice the size that the sum of H products has, at `TOKEN_RATE`,
        learn fastest on texts; that such a rate does not fall with H, as others must, is in Yang et al.,
        Tensor programs V, 2022, table 3.
    bidirectional : bool
    """
    layer = CELLS[options.cell](
        input_size,
        options.hidden_size,
        options.num_layers,
        dropout=options.dropout if options.num_layers > 1 else 0.0,
        bidirectional=bidirectional,
        dtype=options.dtype,
        seed=rng,
        **options.layer_options or {},
    )
    if tokens:
        columns = ("weight_ih_l0", "weight_ih_l0_reverse")[: 1 + bidirectional]
        for name in columns:
            layer.parameters[name] *= 2 * math.sqrt(options.hidden_size)
        layer._rates = dict.fromkeys(columns, TOKEN_RATE)
    return layer


def optimizers(network: Composite, optimizer: Any, lr: float, weight_decay: float) -> list[optim.Optimizer]:
    """As of `fastrnn.optim.make`, at the rates that the network's layers need."""
    parts = network.parts.items()
    rates = {f"{part}.{name}": rate for part, layer in parts for name, rate in layer._rates.items()}
    return optim.make(optimizer, network.parameters, lr, weight_decay, rates)


def network_of(
    recurrent: Recurrent[Any],
    outputs: int,
    *,
    pooling: str | None = None,
    dropout: float,
    bptt_steps: int | None = None,
    rng: np.random.Generator,
) -> Sequential:
    """Recurrent layers, what is pooled of their steps if it is, dropout, and a linear layer."""
    layers: dict[str, Layer] = {"recurrent": recurrent}
    if pooling is not None:
        layers["pooling"] = POOLINGS[pooling]()
    layers["dropout"] = Dropout(dropout, seed=rng)
    layers["head"] = Linear(recurrent.output_size, outputs, dtype=recurrent.dtype, seed=rng)
    return Sequential(bptt_steps=bptt_steps, **layers)
