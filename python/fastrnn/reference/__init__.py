"""The specification in plain NumPy, to be read: what the native kernels compute, function by function.

`recurrent` has the cells and the loop over time, `feedforward` the layers without memory, `training` the
loss, clipping and the optimizers' updates. Everything is computed in the dtype given, and little is checked;
`fastrnn.functional`, `fastrnn.losses`, `fastrnn.optim` and the layers are the checked doors.
"""

from fastrnn.reference.feedforward import drop, linear, linear_backward
from fastrnn.reference.recurrent import (
    CELLS,
    Cell,
    Gradients,
    Reserve,
    Step,
    Stream,
    backward,
    backward_all,
    forward,
    forward_all,
    gru,
    gru_backward,
    gru_forward,
    lstm,
    lstm_backward,
    lstm_forward,
    rnn,
    rnn_backward,
    rnn_forward,
    sigmoid,
)
from fastrnn.reference.training import (
    adam,
    rmsprop,
    scale,
    sgd,
    softmax_cross_entropy,
    sum_of_squares,
)

__all__ = [
    "CELLS",
    "Cell",
    "Gradients",
    "Reserve",
    "Step",
    "Stream",
    "adam",
    "backward",
    "backward_all",
    "drop",
    "forward",
    "forward_all",
    "gru",
    "gru_backward",
    "gru_forward",
    "linear",
    "linear_backward",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "rmsprop",
    "rnn",
    "rnn_backward",
    "rnn_forward",
    "scale",
    "sgd",
    "sigmoid",
    "softmax_cross_entropy",
    "sum_of_squares",
]
