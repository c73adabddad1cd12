"""PyTorch's recurrent modules on fastrnn's kernels: its classes, parameters and results."""

from fastrnn.checks import package

with package("torch", "torch", "fastrnn.torch"):
    import torch

if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 4):
    raise ImportError(
        f"fastrnn.torch needs PyTorch 2.4 or later, got {torch.__version__}: pip install 'fastrnn[torch]'"
    )

from fastrnn.torch.acceleration import Report, Row, accelerate, report
from fastrnn.torch.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.torch.modules import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Report",
    "Row",
    "accelerate",
    "report",
]
