"""The recurrence as PyTorch sees it: custom operators, which its compilers take whole, and an eager road.

`recurrence` is the door. It computes at once or, where something watches what is called (a compiler, an
export, a dispatch mode), by ``torch.ops.fastrnn.recurrence``, over the same two functions of arrays. All that
the way back needs is saved as tensors: so PyTorch may offload or recompute it, and sees what was changed.

Letters: T time, B batch, N rows of a packed batch, I input, H hidden, P projection (H without one), L layers,
D directions.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from fastrnn.backend import kernels
from fastrnn.checks import Array
from fastrnn.reference import CELLS, Options, Parameters

#: The dtypes that kernels compute in.
DTYPES: dict[Any, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}

_NUMPY = {**DTYPES, torch.int64: np.dtype(np.int64)}
_PLAIN = (Tensor, torch.nn.Parameter)

# All of the process's memory as one buffer (but for address 0, which NumPy takes for none). An array over
# a part of it costs as much as `Tensor.numpy`, which would forbid the tensor to be resized for ever.
_MEMORY: Any = (ctypes.c_char * sys.maxsize).from_address(1)


class Form(NamedTuple):
    """What a recurrence is besides its tensors: arguments of `recurrence`."""

    cell: str
    biases: bool
    layers: int
    bidirectional: bool
    batch_first: bool


class Kept:
    """What a module keeps between calls: its parameters as kernels have them, and what became of the calls.

    A copy of it, or what a pickle of it gives, is a new one.

    Attributes
    ----------
    calls : Counter
        How many there were, by the reason why PyTorch computed them; None where the kernels did.
    """

    __slots__ = ("_stack", "calls")

    def __init__(self) -> None:
        self.calls = Counter[str | None]()
        self._stack: tuple[Any, Any] = None, None

    def stack(self, weights: Sequence[Tensor], form: Form) -> Any:
        """The backend's `Stack` of these weights: that of the last call, if they lie where they lay then."""
        backend = kernels()
        key = backend, form[:4], [(w.data_ptr(), w.shape, w.dtype, w.is_contiguous()) for w in weights]
        last, stack = self._stack
        if key != last:
            stack = _stack(weights, form)
            self._stack = key, stack
        return stack

    def __reduce__(self) -> Any:
        return Kept, ()


class _Anybody:
    """The owner of arrays that anybody may write to: the kernels compare what they have packed with them."""

    _handed_out = object()


def _stack(weights: Sequence[Tensor], form: Form) -> Any:
    """A backend's `Stack` of these weights, which have been checked. It holds none of them."""
    arrays = iter([_array(weight) for weight in weights])
    places = form.layers * (2 if form.bidirectional else 1)
    projected = len(weights) // places > (4 if form.biases else 2)
    parameters = []
    for _ in range(places):
        w_ih, w_hh = next(arrays), next(arrays)
        b_ih, b_hh = (next(arrays), next(arrays)) if form.biases else (None, None)
        parameters.append(Parameters(w_ih, w_hh, b_ih, b_hh, next(arrays) if projected else None))
    directions = 2 if form.bidirectional else 1
    return kernels().Stack(_Anybody, form.cell, parameters, directions, Options())


def why_not(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None,
    form: Form,
) -> str | None:
    """What it is about the arguments of a recurrence that the kernels do not take, by the argument's name."""
    names = {"x": x, "h0": h0, "c0": c0, **{f"weights[{k}]": w for k, w in enumerate(weights)}}
    cell = CELLS.get(form.cell)
    if cell is None or cell.options or cell.vectors:
        return f"cell must be 'lstm', 'gru', 'rnn_tanh' or 'rnn_relu', got {form.cell!r}"
    if x.dtype not in DTYPES:
        return f"x must be float32 or float64, got {x.dtype}"
    for name, tensor in names.items():
        if tensor is None:
            continue
        if tensor.layout is not torch.strided:
            return f"{name} must be strided, got {tensor.layout}"
        if tensor.device.type not in ("cpu", "meta"):
            return f"{name} must be on the CPU, got {tensor.device}"
        if tensor.dtype != x.dtype:
            return f"{name} must have the dtype of x, {x.dtype}, got {tensor.dtype}"
    places = form.layers * (2 if form.bidirectional else 1)
    each = 4 if form.biases else 2
    if len(weights) not in (places * each, places * (each + 1)) or not weights:
        return f"weights must be {each} for each of {places} layers and directions, got {len(weights)}"
    projected = len(weights) > places * each
    if projected and form.cell != "lstm":
        return f"weights must have no projection: {form.cell} has none, got {len(weights)}"
    if weights[0].dim() != 2 or weights[1].dim() != 2:
        return "weights must begin with two matrices"
    I, P = weights[0].shape[1], weights[1].shape[1]
    rows = weights[1].shape[0]
    H = rows // len(cell.gates)
    each += projected
    for k, weight in enumerate(weights):
        columns = I if k < each * (places // form.layers) else P * (places // form.layers)
        of = [(rows, columns), (rows, P), *([(rows,), (rows,)] if form.biases else []), (P, H)]
        if weight.shape != of[k % each] or weight.numel() == 0:
            return f"weights[{k}] must have shape {of[k % each]}, got {tuple(weight.shape)}"
    if H * len(cell.gates) != rows or not (projected or P == H):
        return f"weights[1] must have shape ({len(cell.gates)}*H, H), got {tuple(weights[1].shape)}"
    packed = batch_sizes is not None
    if x.dim() != (2 if packed else 3) or x.shape[-1] != I:
        axes = "N" if packed else "B, T" if form.batch_first else "T, B"
        return f"x must have shape ({axes}, {I}), got {tuple(x.shape)}"
    if x.numel() == 0:
        return f"x must not be empty, got shape {tuple(x.shape)}"
    B: Any = None if packed else x.shape[0 if form.batch_first else 1]
    if batch_sizes is not None:
        if batch_sizes.dtype is not torch.int64 or batch_sizes.dim() != 1 or batch_sizes.device.type != "cpu":
            return f"batch_sizes must be of shape (T,) and int64 on the CPU, got {batch_sizes.dtype}"
    if len(cell.states) == 1 and c0 is not None:
        return f"c0 must be None: {form.cell} has none"
    for name, state, width in ("h0", h0, P), ("c0", c0, H):
        if state is not None:
            B = state.shape[1] if B is None and state.dim() == 3 else B
            if state.shape != (places, B, width):
                return f"{name} must have shape ({places}, {B or 'B'}, {width}), got {tuple(state.shape)}"
    return None


# -- of arrays


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but numbers in this process's memory."""
    return (
        type(tensor) in _PLAIN
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and not tensor.is_neg()
        and tensor.dtype in _NUMPY
    )


def _array(tensor: Tensor) -> Array:
    """A plain tensor's memory as an array, which does not keep it."""
    dtype, place = _NUMPY[tensor.dtype], tensor.data_ptr() - 1
    if tensor.is_contiguous():
        return np.ndarray(tensor.shape, dtype, _MEMORY, max(place, 0))
    strides = [dtype.itemsize * stride for stride in tensor.stride()]
    return np.ndarray(tensor.shape, dtype, _MEMORY, max(place, 0), strides)


def _rows(tensor: Tensor) -> Tensor:
    """The same with its features side by side."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _state(h: Tensor | None, c: Tensor | None, has_c: bool) -> tuple[Any, list[Tensor]]:
    """A state as kernels take it, and what keeps its memory meanwhile."""
    held = [None if each is None else each.contiguous() for each in (h, c)]
    first, second = [None if each is None else _array(each) for each in held]
    return (first, second) if has_c else first, held


def _train(stack: Any, x: Tensor, h0: Any, c0: Any, batch_sizes: Tensor | None, form: Form) -> Any:
    """y, h_n, c_n or None, and the memory, as tensors; or None."""
    x = _rows(x)
    state, _held = _state(h0, c0, form.cell == "lstm")
    sizes = None if batch_sizes is None else _array(batch_sizes.contiguous())
    found = _Padded(stack, form.layers).train(_array(x), state, None, sizes, form.batch_first)
    if found is None:
        return None
    y, state_n, memory = found
    h_n, c_n = state_n if form.cell == "lstm" else (state_n, None)
    return (
        torch.from_numpy(y),
        torch.from_numpy(h_n),
        None if c_n is None else torch.from_numpy(c_n),
        torch.from_numpy(memory),
    )


def _back(
    stack: Any,
    saved: Sequence[Any],
    gradients: Sequence[Tensor | None],
    form: Form,
    input_gradient: bool,
    again: bool,
) -> Any:
    """The gradients of x, h0, c0 and the weights, as tensors or None; or None."""
    memory, y, x, h0, c0, batch_sizes = saved
    dy, dh_n, dc_n = gradients
    x, dy = _rows(x), None if dy is None else _rows(dy)
    has_c = form.cell == "lstm"
    state, _held = _state(h0, c0, has_c)
    dstate_n, _also = _state(dh_n, dc_n, has_c)
    sizes = None if batch_sizes is None else _array(batch_sizes.contiguous())
    found = _Padded(stack, form.layers).back(
        _array(memory),
        _array(y),
        _array(x),
        state,
        None,
        sizes,
        form.batch_first,
        None if dy is None else _array(dy),
        dstate_n,
        input_gradient,
        again,
    )
    if found is None:
        return None
    dx, arrays, dstate = found
    dh0, dc0 = dstate if has_c else (dstate, None)
    return (
        None if dx is None else torch.from_numpy(dx),
        None if h0 is None else torch.from_numpy(dh0),
        None if c0 is None else torch.from_numpy(dc0),
        [torch.from_numpy(array) for array in arrays],
    )


class _Padded:
    """`train` and `back` over what there is: forward runs again before backward, packed rows are padded."""

    def __init__(self, stack: Any, layers: int) -> None:
        self._stack, self._layers = stack, layers

    def train(self, x: Any, state: Any, lengths: Any, sizes: Any, batch_first: bool) -> Any:
        x, lengths, batch_first, place = self._pad(x, sizes, batch_first)
        found = self._stack.run(x, state, lengths, batch_first, False)
        if found is None:
            return None
        y, state_n = found
        y = y if place is None else np.ascontiguousarray(y[place])
        return y, state_n, np.zeros(0, x.dtype)

    run = train

    def back(
        self,
        memory: Any,
        y: Any,
        x: Any,
        state: Any,
        lengths: Any,
        sizes: Any,
        batch_first: bool,
        dy: Any,
        dstate_n: Any,
        input_gradient: bool,
        again: bool,
    ) -> Any:
        x, lengths, batch_first, place = self._pad(x, sizes, batch_first)
        if place is not None and dy is not None:
            padded = np.zeros((*x.shape[:2], dy.shape[-1]), dy.dtype)
            padded[place] = dy
            dy = padded
        *_, reserve = self._stack.forward(x, state, lengths, batch_first, False, False, None, 0, self._layers)
        dx, arrays, dstate = reserve.backward(dy, dstate_n, input_gradient, None)
        return dx if place is None or dx is None else np.ascontiguousarray(dx[place]), arrays, dstate

    @staticmethod
    def _pad(x: Any, sizes: Any, batch_first: bool) -> Any:
        if sizes is None:
            return x, None, batch_first, None
        T, B = len(sizes), sizes[0]
        place = np.nonzero(np.arange(B) < sizes[:, None])
        padded = np.zeros((T, B, x.shape[-1]), x.dtype)
        padded[place] = x
        return padded, (np.arange(B) < sizes[:, None]).sum(0), False, place


# -- with gradients


def _gradients(
    kept: Kept,
    saved: Sequence[Any],
    gradients: Sequence[Tensor | None],
    form: Form,
    input_gradient: bool,
    again: bool,
) -> Any:
    """Those of x, h0, c0 and a list of those of the weights."""
    weights = saved[6:]
    return _back(kept.stack(weights, form), saved[:6], gradients, form, input_gradient, again)


def _differentiable(
    saved: Sequence[Any], gradients: Sequence[Tensor | None], form: Form
) -> tuple[Any, Any, Any, list[Any]]:
    """The same by PyTorch's own functions, which can be differentiated again."""
    _, _, x, h0, c0, batch_sizes, *weights = saved
    with torch.enable_grad():
        outputs = _by_pytorch(x, h0, c0, weights, batch_sizes, form)
    inputs = [x, h0, c0, *weights]
    wanted = [k for k, each in enumerate(inputs) if each is not None and each.requires_grad]
    pairs = [(y, dy) for y, dy in zip(outputs, gradients, strict=False) if dy is not None]
    found = torch.autograd.grad(
        [y for y, _ in pairs],
        [inputs[k] for k in wanted],
        [dy for _, dy in pairs],
        create_graph=torch.is_grad_enabled(),
        allow_unused=True,
    )
    all_gradients: list[Any] = [None] * len(inputs)
    for k, gradient in zip(wanted, found, strict=True):
        all_gradients[k] = gradient
    return *all_gradients[:3], all_gradients[3:]


def _by_pytorch(
    x: Tensor, h0: Any, c0: Any, weights: Sequence[Tensor], batch_sizes: Tensor | None, form: Form
) -> tuple[Tensor, ...]:
    """y, h_n and c_n."""
    places = form.layers * (2 if form.bidirectional else 1)
    B = int(batch_sizes[0]) if batch_sizes is not None else x.shape[0 if form.batch_first else 1]
    P, H = weights[1].shape[1], weights[1].shape[0] // len(CELLS[form.cell].gates)
    h0 = x.new_zeros(places, B, P) if h0 is None else h0
    state = h0
    if form.cell == "lstm":
        state = (h0, x.new_zeros(places, B, H) if c0 is None else c0)
    function: Any = getattr(torch._VF, form.cell)
    told = [list(weights), form.biases, form.layers, 0.0, False, form.bidirectional]
    if batch_sizes is not None:
        return function(x, batch_sizes, state, *told)
    return function(x, state, *told, form.batch_first)


class _Recurrence(torch.autograd.Function):
    """The eager road in training."""

    @staticmethod
    def forward(
        ctx: Any, kept: Kept, form: Form, x: Tensor, h0: Any, c0: Any, batch_sizes: Any, *weights: Tensor
    ) -> Any:
        found = _train(kept.stack(weights, form), x, h0, c0, batch_sizes, form)
        if found is None:
            return None
        y, h_n, c_n, memory = found
        ctx.save_for_backward(memory, y, x, h0, c0, batch_sizes, *weights)
        ctx.set_materialize_grads(False)
        ctx.kept, ctx.form = kept, form
        return y, h_n, c_n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        saved, form = ctx.saved_tensors, ctx.form
        if all(gradient is None for gradient in gradients):
            return (None,) * len(ctx.needs_input_grad)
        if torch.is_grad_enabled() or not _all_plain(*saved, *gradients):
            dx, dh0, dc0, dweights = _differentiable(saved, gradients, form)
        else:
            again = torch._C._autograd._get_current_graph_task_keep_graph()
            dx, dh0, dc0, dweights = _gradients(
                ctx.kept, saved, gradients, form, ctx.needs_input_grad[2], again
            )
        return None, None, dx, dh0, dc0, None, *dweights


def _all_plain(*tensors: Tensor | None) -> bool:
    """Whether all that are there are, and nothing transforms what is done to them."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return all(tensor is None or _is_plain(tensor) for tensor in tensors)


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

    Returns
    -------
    y, h_n, c_n or None
        As of PyTorch's functions; c_n is None but for an LSTM. Or None, and nothing done, where the kernels
        do not take the arguments: `why_not` says why.
    """
    form = Form(cell, biases, layers, bidirectional, batch_first)
    tensors = x, h0, c0, batch_sizes, *weights
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or isinstance(x, FakeTensor):
        if why_not(x, h0, c0, weights, batch_sizes, form) is not None:
            return None
        training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
        y, h_n, c_n, _ = torch.ops.fastrnn.recurrence(x, h0, c0, weights, batch_sizes, *form, training)
        return y, h_n, c_n if cell == "lstm" else None
    for tensor in tensors:
        if tensor is not None and not _is_plain(tensor):
            return None
    if why_not(x, h0, c0, weights, batch_sizes, form) is not None:
        return None
    kept = Kept() if kept is None else kept
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Recurrence.apply(kept, form, x, h0, c0, batch_sizes, *weights)
    found = _train(kept.stack(weights, form), x, h0, c0, batch_sizes, form)
    return None if found is None else found[:3]


# -- the operators

_FORM = "str cell, bool biases, int layers, bool bidirectional, bool batch_first"
_INPUTS = "Tensor x, Tensor? h0, Tensor? c0, Tensor[] weights, Tensor? batch_sizes"


def _required(x: Tensor, h0: Any, c0: Any, weights: Any, batch_sizes: Any, form: Form) -> None:
    problem = why_not(x, h0, c0, weights, batch_sizes, form)
    if problem:
        raise ValueError(f"fastrnn::recurrence: {problem}")


def _operator(
    x: Tensor, h0: Any, c0: Any, weights: Any, batch_sizes: Any, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *told, _training = rest
    form = Form(*told)
    _required(x, h0, c0, weights, batch_sizes, form)
    weights = [weight.contiguous() for weight in weights]
    found = _train(Kept().stack(weights, form), x, h0, c0, batch_sizes, form)
    if found is None:
        raise ValueError("fastrnn::recurrence: batch_sizes must be positive, not increasing, and sum to N")
    y, h_n, c_n, memory = found
    return y, h_n, x.new_empty(0) if c_n is None else c_n, memory


def _operator_fake(
    x: Tensor, h0: Any, c0: Any, weights: Any, batch_sizes: Any, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *told, _training = rest
    form = Form(*told)
    _required(x, h0, c0, weights, batch_sizes, form)
    directions = 2 if form.bidirectional else 1
    places, gates = form.layers * directions, len(CELLS[form.cell].gates)
    P, H = weights[1].shape[1], weights[1].shape[0] // gates
    B: Any
    if batch_sizes is None:
        B = x.shape[0 if form.batch_first else 1]
    else:
        given = [each for each in (h0, c0) if each is not None]
        B = given[0].shape[1] if given else torch.library.get_ctx().new_dynamic_size()
    c_n = x.new_empty(places, B, H) if form.cell == "lstm" else x.new_empty(0)
    return x.new_empty(*x.shape[:-1], directions * P), x.new_empty(places, B, P), c_n, x.new_empty(0)


def _operator_backward(memory: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    x, h0, c0, weights, batch_sizes, dy, dh_n, dc_n, *told, input_gradient = rest
    form = Form(*told)
    _required(x, h0, c0, weights, batch_sizes, form)
    weights = [weight.contiguous() for weight in weights]
    saved = memory, y, x, h0, c0, batch_sizes, *weights
    found = _gradients(Kept(), saved, (dy, dh_n, dc_n), form, input_gradient, True)
    if found is None:
        raise ValueError("fastrnn::recurrence_backward: a gradient must be like what it is of")
    dx, dh0, dc0, dweights = found
    dx, dh0, dc0 = (x.new_empty(0) if each is None else each for each in (dx, dh0, dc0))
    return dx, dh0, dc0, dweights


def _operator_backward_fake(
    memory: Tensor, y: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    x, h0, c0, weights, *_, input_gradient = rest
    return (
        x.new_empty(x.shape) if input_gradient else x.new_empty(0),
        x.new_empty(0 if h0 is None else h0.shape),
        x.new_empty(0 if c0 is None else c0.shape),
        [weight.new_empty(weight.shape) for weight in weights],
    )


def _set_up(ctx: Any, inputs: Any, output: Any) -> None:
    x, h0, c0, weights, batch_sizes, *told, training = inputs
    y, *_, memory = output
    ctx.save_for_backward(memory, y, x, h0, c0, batch_sizes, *weights)
    ctx.mark_non_differentiable(memory)
    ctx.set_materialize_grads(False)
    ctx.form, ctx.training = Form(*told), training


def _operator_gradients(ctx: Any, dy: Any, dh_n: Any, dc_n: Any, _: Any) -> Any:
    if not ctx.training:
        raise RuntimeError("fastrnn::recurrence: a call with training=False has no gradients")
    saved, form = ctx.saved_tensors, ctx.form
    dc_n = dc_n if form.cell == "lstm" else None
    if torch.is_grad_enabled():
        dx, dh0, dc0, dweights = _differentiable(saved, (dy, dh_n, dc_n), form)
    else:
        memory, y, x, h0, c0, batch_sizes, *weights = saved
        wanted = ctx.needs_input_grad[0]
        dx, dh0, dc0, dweights = torch.ops.fastrnn.recurrence_backward(
            memory, y, x, h0, c0, weights, batch_sizes, dy, dh_n, dc_n, *form, wanted
        )
        dx, dh0, dc0 = dx if wanted else None, None if h0 is None else dh0, None if c0 is None else dc0
    return dx, dh0, dc0, list(dweights), *[None] * 7


_forward_op = torch.library.custom_op(
    "fastrnn::recurrence",
    _operator,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, {_FORM}, bool training) -> (Tensor, Tensor, Tensor, Tensor)",
)
_forward_op.register_fake(_operator_fake)
_forward_op.register_autograd(_operator_gradients, setup_context=_set_up)
_backward_op = torch.library.custom_op(
    "fastrnn::recurrence_backward",
    _operator_backward,
    mutates_args=(),
    device_types="cpu",
    schema=(
        f"(Tensor memory, Tensor y, {_INPUTS}, Tensor? dy, Tensor? dh_n, Tensor? dc_n, {_FORM}, "
        "bool input_gradient) -> (Tensor, Tensor, Tensor, Tensor[])"
    ),
)
_backward_op.register_fake(_operator_backward_fake)
