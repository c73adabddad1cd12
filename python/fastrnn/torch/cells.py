"""PyTorch's recurrent cells, computed by fastrnn's kernels.

Letters: B batch, I input, H hidden.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, from_numpy, is_grad_enabled, nn
from torch._C import _len_torch_dispatch_stack as modes

from fastrnn.torch.modules import OnKernels
from fastrnn.torch.ops import by_pytorch, differentiated, keeps_graph, recurrence, watched
from fastrnn.torch.stacks import Form, Kept, Made, array_of

_NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


class _Cell(OnKernels):
    def _by_kernels(self: Any, input: Any, hx: Any, kept: Kept | None) -> Any:
        """What the parent would return, or None where the kernels do not take it."""
        cell, rank, held, h, c = self._cell, input.dim(), self._parameters, hx, None
        if cell == "lstm" and hx is not None:
            if not isinstance(hx, (tuple, list)) or len(hx) != 2 or not isinstance(hx[1], Tensor):
                return None
            h, c = hx
        if hx is not None and not isinstance(h, Tensor):
            return None
        weights = [held[name] if name in held else getattr(self, name) for name in _NAMES]
        learning = differentiated(input, h, c, *weights)
        if not learning and kept is not None and not modes():
            step = kept.step(cell)
            found = None if step is None else step.run(input, h, c, *weights)
            if found is not None:
                return found if cell == "lstm" else found[0]
        biases = weights[2] is not None
        if biases != (weights[3] is not None) or rank not in (1, 2):
            return None
        weights = weights if biases else weights[:2]
        if learning and rank == 2 and kept is not None and not watched(input):
            made = kept.made(weights, Form(cell, biases, 1, False, False))
            found = None if made is None else _Step.apply(made, input, h, c, *weights)
            return None if found is None or found[0] is None else found if cell == "lstm" else found[0]
        axes = (0, 1)[: 3 - rank]  # of time, and of the batch where there is none
        if any(each is not None and each.dim() != rank for each in (h, c)):
            return None
        x, h, c = [None if each is None else each[(None,) * len(axes)] for each in (input, h, c)]
        form: Any = {"cell": cell, "biases": biases, "layers": 1}
        found = recurrence(x, h, c, weights, None, **form, bidirectional=False, batch_first=False, kept=kept)
        if found is None:
            return None
        _, h, c = found
        return h.squeeze(axes) if c is None else (h.squeeze(axes), c.squeeze(axes))


class _Step(torch.autograd.Function):
    """A step in PyTorch's graph, whose nodes are few where no tensor gets an axis of time and loses it."""

    @staticmethod
    def forward(ctx: Any, made: Made, *inputs: Any) -> Any:
        x, h, c, *_ = inputs
        state = _state(h, c, made.form)
        found = made.stack.train(_with_time(x, True), state, None, None, False)
        if found is None:
            return None, None
        y, state_n, memory = found
        ctx.save_for_backward(from_numpy(memory), from_numpy(y[0]), *inputs)
        ctx.set_materialize_grads(False)
        ctx.made = made
        return _without_time(state_n)

    @staticmethod
    def backward(ctx: Any, dh_n: Any, dc_n: Any) -> Any:
        (stack, addresses, form), saved, found = ctx.made, ctx.saved_tensors, None
        memory, y, x, h, c, *weights = saved
        if dh_n is None and dc_n is None:
            return (None,) * (len(saved) - 1)
        if not is_grad_enabled() and [weight.data_ptr() for weight in weights] == addresses:
            made = array_of(memory), _with_time(y), _with_time(x, True), _state(h, c, form)
            dstate_n, options = _state(dh_n, dc_n, form), (ctx.needs_input_grad[1], keeps_graph())
            found = stack.back(*made, None, None, False, None, dstate_n, *options)
        if found is not None:
            dx, dweights, dstate = found
            dx, (dh, dc) = None if dx is None else from_numpy(dx[0]), _without_time(dstate)
            return None, dx, h if h is None else dh, c if c is None else dc, *map(from_numpy, dweights)
        x, h, c, dh_n, dc_n = [None if each is None else each[None] for each in (x, h, c, dh_n, dc_n)]
        found = by_pytorch((memory, y, x, h, c, None, None, *weights), (None, dh_n, dc_n), form)
        return None, *[None if each is None else each[0] for each in found[:3]], *found[3:]


def _with_time(tensor: Any, rows: bool = False) -> Any:
    """(1, B, ...), as an array."""
    array = array_of(tensor, rows)
    return None if array is None else array[None]


def _state(h: Any, c: Any, form: Form) -> Any:
    if h is None and c is None:
        return None
    return (_with_time(h), _with_time(c)) if form.cell == "lstm" else _with_time(h)


def _without_time(state: Any) -> tuple[Tensor, Tensor | None]:
    h, c = state if isinstance(state, tuple) else (state, None)
    return from_numpy(h[0]), None if c is None else from_numpy(c[0])


class LSTMCell(_Cell, nn.LSTMCell):
    """`torch.nn.LSTMCell` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`."""

    _cell = "lstm"


class GRUCell(_Cell, nn.GRUCell):
    """`torch.nn.GRUCell` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`."""

    _cell = "gru"


class RNNCell(_Cell, nn.RNNCell):
    """`torch.nn.RNNCell` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`; with gradients, PyTorch's.

    A step of it is so short that a node in PyTorch's graph that Python computes takes longer.
    """

    @property
    def _cell(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def _by_kernels(self, input: Any, hx: Any, kept: Kept | None) -> Any:
        if self.nonlinearity not in ("tanh", "relu"):
            return None
        if kept is not None and is_grad_enabled():
            tensors = [each for each in (input, hx, *self._parameters.values()) if isinstance(each, Tensor)]
            if differentiated(*tensors):
                return None
        return super()._by_kernels(input, hx, kept)

    def _why(self, input: Any) -> str:
        return "gradients of one step" if is_grad_enabled() else super()._why(input)
