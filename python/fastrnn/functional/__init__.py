"""Layers as functions of NumPy arrays: one layer in one direction, or a whole `stack`; all arguments checked.

An array that is of the right dtype and layout already is not copied, and none is ever written to.
"""

from fastrnn.functional.cells import (
    CellFunction,
    gru,
    gru_backward,
    gru_forward,
    lstm,
    lstm_backward,
    lstm_forward,
    rnn,
    rnn_backward,
    rnn_forward,
)
from fastrnn.functional.door import Reserve
from fastrnn.functional.feedforward import linear, linear_backward
from fastrnn.functional.stacked import Stack, StackGradients, StackReserve, stack
from fastrnn.reference import Gradients, Options, Parameters

__all__ = [
    "CellFunction",
    "Gradients",
    "Options",
    "Parameters",
    "Reserve",
    "Stack",
    "StackGradients",
    "StackReserve",
    "gru",
    "gru_backward",
    "gru_forward",
    "linear",
    "linear_backward",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "rnn",
    "rnn_backward",
    "rnn_forward",
    "stack",
]
