"""The recurrence as PyTorch sees it: custom operators, which its compilers take whole, and an eager road.

`recurrence` is the door. It computes at once or, where something watches what is called (a compiler, an
export, a dispatch mode), by ``torch.ops.fastrnn.recurrence``, over the same functions of tensors. All that
the way back needs is saved as tensors: so PyTorch may offload or recompute it, and sees what was changed.

Letters: T time, B batch, N rows of a packed batch, I input, H hidden, P projection (H without one), L layers,
D directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, is_grad_enabled
from torch._C import _len_torch_dispatch_stack as modes
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.weak import WeakIdKeyDictionary

from fastrnn.backend import kernels
from fastrnn.torch import stacks
from fastrnn.torch.stacks import DTYPES, Form, Kept, about

__all__ = ["DTYPES", "Form", "Kept", "about", "recurrence"]


# Whether the graph that is gone back through is retained; a PyTorch that does not tell may do it.
keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def recurrence(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None,
    *,
    cell: str,
    biases: bool,
    layers: int,
    bidirectional: bool,
    batch_first: bool,
    kept: Kept | None = None,
    starts: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Recurrent layers on top of each other, as a function that PyTorch differentiates and compiles.

    Parameters
    ----------
    x : Tensor, (T, B, I), or (B, T, I) with `batch_first`; (N, I) with `batch_sizes`
        float32 or float64.
    h0, c0 : Tensor, (L*D, B, P) and (L*D, B, H), optional
        The initial states; zeros if left out. `c0` is an LSTM's.
    weights : sequence of Tensor
        In the order of ``torch.nn.LSTM._flat_weights``.
    batch_sizes : Tensor of int64, (T,), optional
        Those of a `torch.nn.utils.rnn.PackedSequence`.
    cell : {"lstm", "gru", "rnn_tanh", "rnn_relu"}
    biases : bool
        Whether there are two among the weights of each layer and direction.
    layers : int
    bidirectional, batch_first : bool
    kept : Kept, optional
        What the caller keeps of its weights between calls.
    starts : Tensor of bool, of the shape of x without its features, optional
        Before which steps a sequence starts anew, from zeros.

    Returns
    -------
    y, h_n, c_n or None
        As of PyTorch's functions; c_n is None but for an LSTM. Or None, and nothing done, where the kernels
        do not take the arguments: `about` says why.

    Notes
    -----
    The caller has seen that nothing transforms the call: no ``torch.func``, autocast, forward-mode gradients
    or ``torch.jit`` tracing.
    """
    form = Form(cell, biases, layers, bidirectional, batch_first)
    if watched(x):
        return _by_operator(x, h0, c0, weights, batch_sizes, form, starts)
    made = (kept or Kept()).made(weights, form)
    if made is None:
        return None
    training = differentiated(*weights, x, h0, c0)
    found = stacks.forward(made.stack, training, x, h0, c0, batch_sizes, form, starts)
    if found is None or not training:
        return found
    return _apply(made, found, x, h0, c0, batch_sizes, starts, *weights)


def watched(x: Any) -> bool:
    """Whether something watches what is called: a compiler, an export, a dispatch mode."""
    return torch.compiler.is_compiling() or modes() > 0 or isinstance(x, FakeTensor)


def differentiated(*tensors: Tensor | None) -> bool:
    """Whether gradients may be wanted."""
    if is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


# -- the eager road


class _Recurrence(torch.autograd.Function):
    """Hangs what was computed into PyTorch's graph."""

    @staticmethod
    def forward(ctx: Any, made: Any, found: Any, *inputs: Tensor) -> Any:
        y, h_n, c_n, memory = found
        ctx.save_for_backward(memory, y, *inputs)
        ctx.set_materialize_grads(False)
        ctx.made = made
        # A copy to write to, as PyTorch's y is: by `relu_`, `dropout(inplace=True)`. By NumPy it costs less
        # than by `clone`, where y is small as where it is large.
        return torch.from_numpy(y.numpy().copy()), h_n, c_n

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (stack, addresses, form), saved, found = ctx.made, ctx.saved_tensors, None
        if all(each is None for each in gradients):
            return (None,) * len(saved)
        if not is_grad_enabled():
            weights = saved[7:]
            if [weight.data_ptr() for weight in weights] != addresses:  # they were elsewhere meanwhile
                made = Kept().made(weights, form)
                stack = made and made.stack
            if stack is not None:
                found = stacks.back(stack, saved, gradients, form, ctx.needs_input_grad[2], keeps_graph())
        if found is None:
            found = by_pytorch(saved, gradients, form)
        dx, dh0, dc0, *dweights = found
        return None, None, dx, dh0, dc0, None, None, *dweights


# `torch.autograd.Function.apply` looks for what functorch transforms first.
_apply = super(torch.autograd.Function, _Recurrence).apply


def by_pytorch(saved: Sequence[Any], gradients: Sequence[Any], form: Form) -> Any:
    """The same by PyTorch's own functions, whose gradients have gradients, and can be transformed."""
    _, _, *inputs = saved
    batch_sizes, starts = inputs.pop(3), inputs.pop(3)
    if starts is not None:
        raise RuntimeError("gradients of gradients, or transformed ones, do not go through starts")
    with torch.enable_grad():  # one may be there twice, and is to be told apart
        inputs = [each if each is None else each.view_as(each) for each in inputs]
    x, h0, c0, *weights = inputs
    wanted = [k for k, each in enumerate(inputs) if each is not None and each.requires_grad]
    B = x.shape[0 if form.batch_first else 1] if batch_sizes is None else int(batch_sizes[0])
    P, H, _ = stacks.widths(weights, form)
    with torch.enable_grad():
        state = x.new_zeros(stacks.places(form), B, P) if h0 is None else h0
        if form.cell == "lstm":
            state = (state, x.new_zeros(stacks.places(form), B, H) if c0 is None else c0)
        options = weights, form.biases, form.layers, 0.0, False, form.bidirectional
        function: Any = getattr(torch._VF, form.cell)
        if batch_sizes is None:
            outputs = function(x, state, *options, form.batch_first)
        else:
            outputs = function(x, batch_sizes, state, *options)
    pairs = [(y, dy) for y, dy in zip(outputs, gradients, strict=False) if dy is not None]
    found = torch.autograd.grad(
        [y for y, _ in pairs],
        [inputs[k] for k in wanted],
        [dy for _, dy in pairs],
        create_graph=is_grad_enabled(),
        allow_unused=True,
    )
    every: list[Any] = [None] * len(inputs)
    for k, gradient in zip(wanted, found, strict=True):
        every[k] = gradient
    return every


# -- the operators

_TENSORS = "Tensor x, Tensor? h0, Tensor? c0, Tensor[] weights, Tensor? batch_sizes"
_FORM = "str cell, bool biases, int layers, bool bidirectional, bool batch_first"

#: What the operator keeps for each first weight that there is: it is not told of a module.
_kept: Any = WeakIdKeyDictionary()


def _by_operator(x: Tensor, h0: Any, c0: Any, weights: Any, batch_sizes: Any, form: Form, starts: Any) -> Any:
    if about(x, h0, c0, weights, batch_sizes, form, starts) is not None:
        return None
    training = differentiated(*weights, x, h0, c0)
    y, h_n, c_n, _ = torch.ops.fastrnn.recurrence(x, h0, c0, weights, batch_sizes, *form, training, starts)
    return y, h_n, c_n if form.cell == "lstm" else None


def _made(weights: Sequence[Tensor], form: Form) -> Any:
    kept = _kept.get(weights[0]) if weights else Kept()
    if kept is None:
        kept = _kept.setdefault(weights[0], Kept())
    return kept.made(weights, form)


def _told(rest: Sequence[Any]) -> tuple[Form, bool, Any]:
    """What an operator is told besides tensors; of its arguments `starts`, the last one, may be left out."""
    *form, flag = rest[:6]
    return Form(*form), flag, rest[6] if len(rest) > 6 else None


def _operator(
    x: Tensor, h0: Any, c0: Any, weights: Any, batch_sizes: Any, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    form, training, starts = _told(rest)
    weights, found = [weight.contiguous() for weight in weights], None
    made = _made(weights, form)
    if made is not None:
        found = stacks.forward(made.stack, training, x, h0, c0, batch_sizes, form, starts)
    if found is None:
        problem = about(x, h0, c0, weights, batch_sizes, form, starts)
        if problem is None and batch_sizes is not None:
            problem = "batch_sizes must be positive, not increase, and have the rows of x as their sum"
        raise ValueError(problem or "x, h0, c0 and weights must lie aligned in memory")
    nothing = x.new_empty(0)
    y, h_n, c_n, memory = found if training else (*found, nothing.clone())
    return y, h_n, nothing if c_n is None else c_n, memory


def _operator_fake(
    x: Tensor, h0: Any, c0: Any, weights: Any, batch_sizes: Any, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    form, training, starts = _told(rest)
    problem = about(x, h0, c0, weights, batch_sizes, form, starts)
    if problem is not None:
        raise ValueError(problem)
    P, H, projected = stacks.widths(weights, form)
    places, directions, rows = stacks.places(form), stacks.directions(form), x.shape[:-1]
    B: Any = rows[0 if form.batch_first else 1] if batch_sizes is None else None
    for state in (h0, c0):
        B = state.shape[1] if B is None and state is not None else B
    B = torch.library.get_ctx().new_dynamic_size() if B is None else B
    size = 0
    if training:
        sizes = H, P if projected else 0, form.layers, directions
        per_row, per_sequence = kernels().train_memory(form.cell, DTYPES[x.dtype], *sizes)
        size = per_row * math.prod(rows) + per_sequence * B
    c_n = x.new_empty(places, B, H) if form.cell == "lstm" else x.new_empty(0)
    return x.new_empty(*rows, directions * P), x.new_empty(places, B, P), c_n, x.new_empty(size)


def _back(memory: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    x, h0, c0, weights, batch_sizes, *gradients = rest[:8]
    (form, input_gradient, starts), weights = _told(rest[8:]), [weight.contiguous() for weight in weights]
    saved, made = (memory, y, x, h0, c0, batch_sizes, starts), _made(weights, form)
    found = made and stacks.back(made.stack, saved, gradients, form, input_gradient, True)
    if found is None:
        problem = about(x, h0, c0, weights, batch_sizes, form, starts)
        words = "memory, y, dy, dh_n and dc_n must be a call's own, and have its shapes and dtype"
        raise ValueError(problem or words)
    dx, dh0, dc0, *dweights = (x.new_empty(0) if each is None else each for each in found)
    return dx, dh0, dc0, dweights


def _back_fake(memory: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    x, h0, c0, weights, *_ = rest
    _, input_gradient, _ = _told(rest[8:])
    some = (like if like is not None else x.new_empty(0) for like in (x if input_gradient else None, h0, c0))
    dx, dh0, dc0 = (like.new_empty(like.shape) for like in some)
    return dx, dh0, dc0, [weight.new_empty(weight.shape) for weight in weights]


def _set_up(ctx: Any, inputs: Any, output: Any) -> None:
    x, h0, c0, weights, batch_sizes, *rest = inputs
    form, training, starts = _told(rest)
    y, *_, memory = output
    ctx.save_for_backward(memory, y, x, h0, c0, batch_sizes, starts, *weights)
    ctx.mark_non_differentiable(memory)
    ctx.set_materialize_grads(False)
    ctx.call = form, training


def _operator_gradients(ctx: Any, dy: Any, dh_n: Any, dc_n: Any, _: Any) -> Any:
    (form, training), saved = ctx.call, ctx.saved_tensors
    if not training:
        raise RuntimeError("fastrnn::recurrence was called with training=False: it has no gradients")
    gradients = dy, dh_n, dc_n if form.cell == "lstm" else None
    if is_grad_enabled():
        dx, dh0, dc0, *dweights = by_pytorch(saved, gradients, form)
    else:
        memory, y, x, h0, c0, batch_sizes, starts, *weights = saved
        tensors = memory, y, x, h0, c0, weights, batch_sizes, *gradients
        wanted = ctx.needs_input_grad[0]
        dx, dh0, dc0, dweights = torch.ops.fastrnn.recurrence_backward(*tensors, *form, wanted, starts)
        dx, dh0, dc0 = dx if wanted else None, None if h0 is None else dh0, None if c0 is None else dc0
    given = 7 if saved[6] is None else 8  # a default has no gradient, not even none
    return dx, dh0, dc0, list(dweights), *[None] * given


def _define(name: str, schema: str, function: Any, fake: Any) -> Any:
    operator = torch.library.custom_op(
        f"fastrnn::{name}", function, mutates_args=(), device_types="cpu", schema=schema
    )
    operator.register_fake(fake)
    return operator


_define(
    "recurrence",
    f"({_TENSORS}, {_FORM}, bool training, Tensor? starts=None) -> "
    "(Tensor y, Tensor h_n, Tensor c_n, Tensor memory)",
    _operator,
    _operator_fake,
).register_autograd(_operator_gradients, setup_context=_set_up)
_define(
    "recurrence_backward",
    f"(Tensor memory, Tensor y, {_TENSORS}, Tensor? dy, Tensor? dh_n, Tensor? dc_n, {_FORM}, "
    "bool input_gradient, Tensor? starts=None) -> (Tensor dx, Tensor dh0, Tensor dc0, Tensor[] dweights)",
    _back,
    _back_fake,
)
