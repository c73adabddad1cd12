"""PyTorch's recurrent layers, computed by fastrnn's kernels.

Each class is PyTorch's but for `forward`, which hands to its parent whatever the kernels do not take: so what
PyTorch refuses, PyTorch refuses, and what it alone can do, it does.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx import Proxy
from torch.nn.functional import dropout
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from fastrnn.torch.dynamo import tell_dynamo
from fastrnn.torch.ops import Kept, recurrence
from fastrnn.torch.stacks import DTYPES, about_starts

#: The classes of PyTorch that have one here.
PARENTS = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


class OnKernels:
    """What is ours in a module: `forward`. All else is the parent's, so that assigning `__class__` makes one.
    (It has no `__slots__`, which would make its memory another than the parent's.)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        tell_dynamo(cls)

    def forward(self: Any, input: Any, hx: Any = None, starts: Any = None) -> Any:
        """As the parent class has it, in its shapes and dtypes, with its exceptions; `starts` are ours."""
        if isinstance(input, Proxy) and _is_whole(self) and input.tracer.root is not self:
            path, arguments = input.tracer.path_of_module(self), (input,) if hx is None else (input, hx)
            options = {} if starts is None else {"starts": starts}
            return input.tracer.create_proxy("call_module", path, arguments, options)
        if starts is not None:
            return self._start_anew(input, hx, starts)
        kept, why = kept_by(self), _in_force()
        found = self._by_kernels(input, hx, kept) if why is None else None
        if found is None:
            found = super().forward(input, hx)  # type: ignore[misc]
            why = why or self._why(input)
        if kept is not None:
            kept.calls[why] += 1
        return found

    def _start_anew(self: Any, input: Any, hx: Any, starts: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no starts: between its steps the state is the caller's")

    def _why(self: Any, input: Any) -> str:
        """Why PyTorch took over a call that nothing else is in force for."""
        about_all = why_not(self)
        if about_all is not None:
            return about_all
        x = input.data if isinstance(input, PackedSequence) else input
        if type(x) is not Tensor and type(x) is not nn.Parameter:
            return f"{type(x).__name__} as input"
        if x.dtype not in DTYPES:
            return f"{_name(x.dtype)} input"
        if not x.is_cpu:
            return f"input on {x.device.type}"
        return "empty input" if x.numel() == 0 else "arguments of another kind"

    def __prepare_scriptable__(self: Any) -> nn.Module:
        """What ``torch.jit.script`` compiles: the parent with its parameters, where `forward` is ours."""
        if not _is_whole(self):
            return self
        parent = next(kind for kind in type(self).__mro__ if not issubclass(kind, OnKernels))
        plain = parent.__new__(parent)
        plain.__dict__ |= {name: value for name, value in self.__dict__.items() if name != "_kept"}
        return plain


def _packed_alike(first: PackedSequence, second: PackedSequence) -> bool:
    """Whether their rows are the same steps of the same sequences."""
    pairs = (first.batch_sizes, second.batch_sizes), (first.sorted_indices, second.sorted_indices)
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


def _is_whole(module: Any) -> bool:
    """Whether a module's `forward` is ours alone, and not a subclass's around it: it is as PyTorch's then."""
    return type(module).forward is OnKernels.forward


class _Layer(OnKernels):
    def _start_anew(self: Any, input: Any, hx: Any, starts: Any) -> Any:
        """`forward` with starts, which PyTorch's own functions have not."""
        kept, why, x, given = kept_by(self), _in_force(), input, starts
        if isinstance(input, PackedSequence):
            if not isinstance(starts, PackedSequence) or not _packed_alike(starts, input):
                came = "others" if isinstance(starts, PackedSequence) else type(starts).__name__
                expected = "starts must be packed as input is, of the same lengths in the same order"
                raise ValueError(f"{expected}, got {came}")
            x, given = input.data, starts.data
        problem = about_starts(given, x)
        if problem is not None:
            raise ValueError(problem)
        found = self._by_kernels(input, hx, kept, given) if why is None else None
        if found is None:
            super().forward(input, hx)  # which PyTorch may refuse
            raise RuntimeError(
                f"starts are for the kernels alone, which do not take {why or self._why(input)}"
            )
        if kept is not None:
            kept.calls[None] += 1
        return found

    def _by_kernels(self: Any, input: Any, hx: Any, kept: Kept | None, starts: Any = None) -> Any:
        """What the parent would return, or None where the kernels do not take it."""
        x, h, c, is_lstm = input, hx, None, self.mode == "LSTM"
        if is_lstm and hx is not None:
            if not isinstance(hx, (tuple, list)) or len(hx) != 2 or not isinstance(hx[1], Tensor):
                return None
            h, c = hx
        if hx is not None and not isinstance(h, Tensor):
            return None
        if isinstance(input, PackedSequence):
            x, batch_sizes, order, back = input
            if order is not None:
                if any(each is not None and each.shape[1:2] != order.shape for each in (h, c)):
                    return None
                h, c = [each if each is None else each.index_select(1, order) for each in (h, c)]
            found = self._run(x, h, c, batch_sizes, kept, starts)
            if found is None:
                return None
            y, h, c = found
            y = PackedSequence(y, batch_sizes, order, back)
            if back is not None:
                h, c = [each if each is None else each.index_select(1, back) for each in (h, c)]
        elif x.dim() == 2:
            x, h, c, starts = [each if each is None else each.unsqueeze(1) for each in (x, h, c, starts)]
            found = self._run(x, h, c, None, kept, starts)
            if found is None:
                return None
            y, h, c = [each if each is None else each.squeeze(1) for each in found]
        else:
            if self.batch_first:
                x, starts = [each if each is None else each.transpose(0, 1) for each in (x, starts)]
            found = self._run(x, h, c, None, kept, starts)
            if found is None:
                return None
            y, h, c = found
            y = y.transpose(0, 1) if self.batch_first else y
        return y, (h, c) if is_lstm else h

    def _run(
        self: Any, x: Tensor, h0: Any, c0: Any, batch_sizes: Tensor | None, kept: Kept | None, starts: Any
    ) -> Any:
        """y, h_n and c_n; or None."""
        cell, biases, both = self.mode.lower(), self.bias, self.bidirectional
        options = {"cell": cell, "biases": biases, "bidirectional": both, "batch_first": False}
        run: Any = partial(recurrence, **options, starts=starts)
        weights, layers = self._weights(), self.num_layers
        if x.dtype is not weights[0].dtype:
            return None  # integers are tokens to the kernels
        if not (self.training and self.dropout and layers > 1):
            return run(x, h0, c0, weights, batch_sizes, layers=layers, kept=kept)
        each, places, ends = len(weights) // layers, 2 if both else 1, []
        for layer in range(layers):
            x = dropout(x, self.dropout) if layer else x
            own = slice(layer * places, (layer + 1) * places)
            h, c = [None if state is None else state[own] for state in (h0, c0)]
            found = run(x, h, c, weights[layer * each :][:each], batch_sizes, layers=1)
            if found is None:
                return None
            x, *end = found
            ends.append(end)
        h_n, c_n = zip(*ends, strict=True)
        return x, torch.cat(h_n), None if c_n[0] is None else torch.cat(c_n)

    def _weights(self: Any) -> list[Tensor]:
        """The parent's `_flat_weights`, brought up to date where one is not the module's parameter."""
        if torch.compiler.is_compiling():
            return [getattr(self, name) for name in self._flat_weights_names]
        parameters = self._parameters
        for name, weight in zip(self._flat_weights_names, self._flat_weights, strict=False):
            if parameters.get(name) is not weight:
                self._update_flat_weights()
                break
        return self._flat_weights


class LSTM(_Layer, nn.LSTM):
    """`torch.nn.LSTM` on fastrnn's kernels: its arguments, parameters, inputs, outputs and exceptions.

    What the kernels do not compute goes to the parent class: other dtypes than float32 and float64, other
    devices, autocast, `torch.func`, `torch.jit`, an ONNX export, empty input. `fastrnn.torch.report` tells.

    A call takes `starts` besides: booleans of the shape of the input without its features, of a
    `PackedSequence` packed likewise, that say before which steps a sequence starts anew, from zeros, as if
    what follows were one of its own: ``lstm(x, (h, c), starts=starts)``. PyTorch has no such thing, so what
    the kernels do not compute is refused then, and so are gradients of gradients.
    """


class GRU(_Layer, nn.GRU):
    """`torch.nn.GRU` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`."""


class RNN(_Layer, nn.RNN):
    """`torch.nn.RNN` on fastrnn's kernels, as `LSTM` is `torch.nn.LSTM`."""


def why_not(module: nn.Module) -> str | None:
    """Why the kernels do not compute a recurrent module of PyTorch's, however it is called; or None.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    str or None
        In a few words.
    """
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return "scripted"
    if not isinstance(module, PARENTS):
        quantized = kind.__module__.startswith("torch.ao.")
        return "quantized" if quantized else f"no recurrent module of PyTorch's: {kind.__name__}"
    if not isinstance(module, OnKernels):
        if is_parametrized(module):
            return "parametrized before it was accelerated"
        if "forward" in vars(module):
            return "a forward of its own"
    parameters = list(module.parameters())
    for weight in parameters:
        if type(weight) is not nn.Parameter:
            return f"{type(weight).__name__} weights"
        if not weight.is_cpu:
            return f"weights on {weight.device.type}"
        if weight.dtype not in DTYPES:
            return f"{_name(weight.dtype)} weights"
    if len({weight.dtype for weight in parameters}) > 1:
        return "weights of two dtypes"
    return None


def kept_by(module: nn.Module) -> Kept | None:
    """What a module keeps between calls; None while it is compiled, when nothing may be changed."""
    if torch.compiler.is_compiling():
        return None
    kept: Kept | None = module.__dict__.get("_kept")
    if kept is None:
        kept = module.__dict__["_kept"] = Kept()
    return kept


def _in_force() -> str | None:
    """What is in force that PyTorch's own functions obey and the kernels do not."""
    if torch.is_autocast_enabled("cpu"):
        return "autocast"
    if torch.compiler.is_compiling():
        return "ONNX export" if torch.onnx.is_in_onnx_export() else None
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return "torch.func"
    if torch._C._get_tracing_state() is not None:
        return "torch.jit tracing"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation"
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
