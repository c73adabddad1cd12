"""Recurrent neural networks at the full speed of a CPU, from NumPy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastrnn.backend import use_backend
from fastrnn.config import empty_cache, get_include, get_num_threads, set_num_threads, show_config
from fastrnn.functional import (
    gru,
    gru_backward,
    gru_forward,
    linear,
    linear_backward,
    lstm,
    lstm_backward,
    lstm_forward,
    rnn,
    rnn_backward,
    rnn_forward,
)
from fastrnn.layers import (
    ELU,
    GELU,
    GRU,
    LSTM,
    RNN,
    SELU,
    Attention,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Masking,
    Max,
    Mean,
    Merge,
    Parallel,
    ReLU,
    Reverse,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)

if TYPE_CHECKING:
    from fastrnn.interop.files import load

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Attention",
    "Dropout",
    "Embedding",
    "HardSigmoid",
    "Last",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Masking",
    "Max",
    "Mean",
    "Merge",
    "Parallel",
    "ReLU",
    "Reverse",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "empty_cache",
    "get_include",
    "get_num_threads",
    "gru",
    "gru_backward",
    "gru_forward",
    "linear",
    "linear_backward",
    "load",
    "lstm",
    "lstm_backward",
    "lstm_forward",
    "rnn",
    "rnn_backward",
    "rnn_forward",
    "set_num_threads",
    "show_config",
    "use_backend",
]

_MODULES = (
    "checkpoint",
    "data",
    "diagnostics",
    "embed",
    "functional",
    "interop",
    "losses",
    "metrics",
    "models",
    "optim",
    "parallel",
    "reference",
    "training",
)


def __getattr__(name: str) -> Any:
    """Submodules load when they are first used, so that importing fastrnn stays quick."""
    if name == "load":
        return import_module("fastrnn.interop.files").load
    if name in _MODULES:
        return import_module(f"fastrnn.{name}")
    raise AttributeError(f"module 'fastrnn' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__version__"})
