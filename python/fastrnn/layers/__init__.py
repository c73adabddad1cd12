"""Layers: parameters by PyTorch's names with PyTorch's initial values, and both passes.

Every layer works the same way. ``layer(x)`` is inference: it changes nothing, and threads may share the
layer. ``y, back = layer.forward(x)`` is training: `back` takes the gradient of a loss with respect to ``y``
to that with respect to ``x``, and adds those of ``layer.parameters`` to ``layer.gradients``, by the same
names. ``optimizer.step(layer.take_gradients())`` applies them, once. Recurrent layers have a state besides:
``y, state_n, back = lstm.forward(x, state)`` and ``dx, dstate = back(dy, dstate_n)``.

The layer itself keeps nothing of what goes through: it may run forward any number of times before the ways
back, which may be gone in any order, or not at all. So a layer can stand in two places of a network, and a
large batch be taken in small parts: the gradients add up until they are taken.

A layer owns its arrays: what is assigned to ``layer.parameters[name]`` is copied into the array there. A
`Composite` joins layers, to train them as one.

An int as a seed is mixed with the class and the sizes of a layer, so that layers of a network may have the
same one; those of one class and one size would be alike, and are better given one ``numpy.random.Generator``,
from which they draw in turn.

`initial` has other initial values for recurrent layers. ``layer.save(path)`` writes a layer, or a network of
layers, to a file; `description` says what it is in JSON. ``layer.compress("int8")`` is a copy for inference
whose weights have fewer bits.
"""

from fastrnn.layers import initial
from fastrnn.layers.activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSigmoid,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from fastrnn.layers.attention import Attention
from fastrnn.layers.cells import CELLS, GRU, LSTM, RNN
from fastrnn.layers.compression import Compressible, Compression
from fastrnn.layers.feedforward import Dropout, Embedding, Linear, Merge
from fastrnn.layers.layer import Composite, Layer
from fastrnn.layers.parallel import Parallel
from fastrnn.layers.pooling import Last, Max, Mean, Pooling
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.steps import Masking, Reverse
from fastrnn.layers.stream import Stream

__all__ = [
    "CELLS",
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Activation",
    "Attention",
    "Composite",
    "Compressible",
    "Compression",
    "Dropout",
    "Embedding",
    "HardSigmoid",
    "Last",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Masking",
    "Max",
    "Mean",
    "Merge",
    "Parallel",
    "Pooling",
    "ReLU",
    "Recurrent",
    "Reverse",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Stream",
    "Tanh",
    "initial",
]
