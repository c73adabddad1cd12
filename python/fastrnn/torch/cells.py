"""PyTorch's recurrent cells, computed by fastrnn's kernels."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastrnn.torch.modules import OnKernels
from fastrnn.torch.ops import Kept, recurrence

_NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


class _Cell(OnKernels):
    def _by_kernels(self: Any, input: Any, hx: Any, kept: Kept | None) -> Any:
        """What the parent would return, or None where the kernels do not take it."""
        cell, held = self._cell, self._parameters
        h, c = hx, None
        if cell == "lstm" and hx is not None:
            if not isinstance(hx, (tuple, list)) or len(hx) != 2 or hx[1] is None:
                return None
            h, c = hx
        weights = [held[name] if name in held else getattr(self, name) for name in _NAMES]
        return self._as_a_sequence(input, h, c, weights, kept)

    def _as_a_sequence(self: Any, input: Any, h: Any, c: Any, weights: Any, kept: Kept | None) -> Any:
        """The same of one step of one row or more, by `recurrence`."""
        rank = input.dim()
        states = [state for state in (h, c) if state is not None]
        biases = [bias is not None for bias in weights[2:]]
        if rank not in (1, 2) or any(state.dim() != rank for state in states) or biases[0] != biases[1]:
            return None
        axes = (0,) if rank == 2 else (0, 1)  # of time, and of the batch
        x, h, c = [None if each is None else each[(None,) * len(axes)] for each in (input, h, c)]
        form: Any = {"cell": self._cell, "biases": biases[0], "layers": 1, "bidirectional": False}
        weights = weights if biases[0] else weights[:2]
        found = recurrence(x, h, c, weights, None, **form, batch_first=False, kept=kept)
        if found is None:
            return None
        _, h_n, c_n = found
        return h_n.squeeze(axes) if c_n is None else (h_n.squeeze(axes), c_n.squeeze(axes))


class LSTMCell(_Cell, nn.LSTMCell):
    """`torch.nn.LSTMCell` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`."""

    _cell = "lstm"


class GRUCell(_Cell, nn.GRUCell):
    """`torch.nn.GRUCell` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`."""

    _cell = "gru"


class RNNCell(_Cell, nn.RNNCell):
    """`torch.nn.RNNCell` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`."""

    @property
    def _cell(self) -> str:
        return f"rnn_{self.nonlinearity}"
