"""Networks that the models share: recurrent layers, and what reads them out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.data import Examples, Sequences
from fastrnn.layers import CELLS, Composite, Dropout, Linear, Recurrent
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.pooling import Pooling
from fastrnn.models.weighting import Weighted

CROSS_ENTROPY = Weighted(softmax_cross_entropy)
POOLINGS = ("last", "mean", "max")


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
        Whether steps are tokens.
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
        # The layer's initial values, up to 1 / sqrt(H), suppose some H active inputs; a token is just one.
        for name in ("weight_ih_l0", "weight_ih_l0_reverse")[: 1 + bidirectional]:
            layer.parameters[name] *= math.sqrt(options.hidden_size)
    return layer


class SequenceNetwork(Composite):
    """Recurrent layers, pooling over the steps, dropout, and a linear layer: one output for each sequence.

    Parameters
    ----------
    layer : Recurrent
    outputs : int
        O, the size of the output.
    pooling : {"last", "mean", "max"}
    dropout : float
        Of what is pooled.
    bptt_steps : int or None
        See `fastrnn.models.pooling.Pooling`.
    loss : Weighted
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        layer: Recurrent[Any],
        outputs: int,
        *,
        pooling: str,
        dropout: float,
        bptt_steps: int | None,
        loss: Weighted,
        rng: np.random.Generator,
    ) -> None:
        width = layer.hidden_size * (2 if layer.bidirectional else 1)
        self.recurrent = layer
        self.dropout = Dropout(dropout, seed=rng)
        self.head = Linear(width, outputs, dtype=layer.dtype, seed=rng)
        self.pooling = Pooling(layer, pooling, bptt_steps, rng)
        self._loss = loss
        super().__init__(recurrent=layer, head=self.head)

    def __call__(self, x: Sequences) -> Array:
        """The outputs (B, O) of some sequences, without dropout."""
        return self.head(self.pooling(x))

    def loss(self, batch: Examples, state: Any = None, *, training: bool) -> tuple[float, int, None]:
        """See `fastrnn.models.estimator.NetworkEstimator`."""
        if not training:
            return self._loss(self(batch.x), batch.y, batch.weights)[0], len(batch), None
        pooled, back = self.pooling.forward(batch.x)
        dropped, undrop = self.dropout.forward(pooled)
        outputs, head_back = self.head.forward(dropped)
        loss, doutputs = self._loss(outputs, batch.y, batch.weights)
        back(undrop(head_back(doutputs)))
        return loss, len(batch), None


class StepNetwork(Composite):
    """Recurrent layers, dropout and a linear layer: the logits of a class for each step.

    Parameters
    ----------
    layer : Recurrent
    outputs : int
        V, the number of classes.
    dropout : float
        Of the recurrent layers' outputs.
    rng : numpy.random.Generator
    loss : Weighted
    """

    def __init__(
        self,
        layer: Recurrent[Any],
        outputs: int,
        *,
        dropout: float,
        rng: np.random.Generator,
        loss: Weighted = CROSS_ENTROPY,
    ) -> None:
        width = layer.hidden_size * (2 if layer.bidirectional else 1)
        self.recurrent = layer
        self.dropout = Dropout(dropout, seed=rng)
        self.head = Linear(width, outputs, dtype=layer.dtype, seed=rng)
        self._loss = loss
        super().__init__(recurrent=layer, head=self.head)

    def __call__(self, x: Array, state: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        """Logits (T, B, V) after steps (T, B, F) or tokens (T, B), and the state to go on from."""
        hidden, state = self.recurrent(x, state, lengths)
        return self.head(hidden), state

    def loss(self, batch: Examples, state: Any = None, *, training: bool) -> tuple[float, int, Any]:
        """See `fastrnn.models.estimator.NetworkEstimator`."""
        x, lengths = batch.x.padded()
        targets = batch.y.padded()[0]
        count = int(lengths.sum())
        if not training:
            logits, state = self(x, state, lengths)
            return self._loss(logits, targets, batch.weights, lengths)[0], count, state
        hidden, state, back = self.recurrent.forward(x, state, lengths)
        dropped, undrop = self.dropout.forward(hidden)
        logits, head_back = self.head.forward(dropped)
        loss, dlogits = self._loss(logits, targets, batch.weights, lengths)
        back(undrop(head_back(dlogits)), input_gradient=False)
        return loss, count, state
