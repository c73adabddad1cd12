"""Layers: parameters by PyTorch's names with PyTorch's initial values, and both passes.

Every layer works the same way. ``layer(x)`` is inference: it changes nothing, and threads may share the
layer. ``layer.forward(x)`` is training: it keeps what the next ``layer.backward(dy)`` needs, and that sets
``layer.gradients``, with the keys of ``layer.parameters``, and returns the gradient with respect to ``x``.
"""

from fastrnn.layers.activations import ReLU, Sigmoid, Tanh
from fastrnn.layers.attention import Attention
from fastrnn.layers.feedforward import Dropout, Embedding, Linear
from fastrnn.layers.layer import Composite, Layer
from fastrnn.layers.recurrent import GRU, LSTM, RNN, Recurrent
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.stream import Stream

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "Composite",
    "Dropout",
    "Embedding",
    "Layer",
    "Linear",
    "ReLU",
    "Recurrent",
    "Sequential",
    "Sigmoid",
    "Stream",
    "Tanh",
]
