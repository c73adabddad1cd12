"""The specification in plain NumPy, to be read: what the native kernels compute, function by function.

`cells` has the cells, which stand on `activations` and `products`, `formats` weights of fewer bits, `records`
what is said of a call, `loop` the loop over time, `layers` layers that are made once and called, `stream`
steps one at a time, `feedforward` the layers without memory, `training` the loss, clipping and the
optimizers' updates. Everything is computed in the dtype given, and little is checked; `fastrnn.functional`,
`fastrnn.losses`, `fastrnn.optim` and the layers are the checked doors.
"""

from fastrnn.reference.activations import ACTIVATIONS, FUNCTIONS, Activation, activation, sigmoid
from fastrnn.reference.cells import CELLS, Cell
from fastrnn.reference.feedforward import drop, linear, linear_backward
from fastrnn.reference.formats import FORMATS, narrowed, product, rounded, widened
from fastrnn.reference.layers import Later, Linear, Stack, compute, lengths_of, train_memory
from fastrnn.reference.loop import Reserve, Step, backward, backward_all, forward, forward_all
from fastrnn.reference.products import layer_norm, layer_norm_backward
from fastrnn.reference.records import Call, Gradients, Options, Parameters
from fastrnn.reference.stream import Stream
from fastrnn.reference.training import (
    adam,
    rmsprop,
    scale,
    sgd,
    softmax_cross_entropy,
    sum_of_squares,
)

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "FORMATS",
    "FUNCTIONS",
    "Activation",
    "Call",
    "Cell",
    "Gradients",
    "Later",
    "Linear",
    "Options",
    "Parameters",
    "Reserve",
    "Stack",
    "Step",
    "Stream",
    "activation",
    "adam",
    "backward",
    "backward_all",
    "compute",
    "drop",
    "forward",
    "forward_all",
    "layer_norm",
    "layer_norm_backward",
    "lengths_of",
    "linear",
    "linear_backward",
    "narrowed",
    "product",
    "rmsprop",
    "rounded",
    "scale",
    "sgd",
    "sigmoid",
    "softmax_cross_entropy",
    "sum_of_squares",
    "train_memory",
    "widened",
]
