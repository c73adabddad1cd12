"""Stacked recurrent layers of PyTorch's tensors on the kernels: what they take, and calls without autograd.

Letters: T time, B batch, N rows of a packed batch, I input, H hidden, P projection (H without one), G gates,
L layers, D directions.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, from_numpy, strided

from fastrnn.backend import kernels
from fastrnn.checks import is_plain
from fastrnn.reference import CELLS, Options, Parameters

#: The dtypes that kernels compute in.
DTYPES: dict[Any, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}
PYTORCHS = "lstm", "gru", "rnn_tanh", "rnn_relu"

_INDICES = {torch.int64: np.dtype(np.int64)}
_TRUTHS = {torch.bool: np.dtype(np.bool_)}
_TYPES = Tensor, torch.nn.Parameter

# All of the process's memory as one buffer (but for address 0, which NumPy takes for none). An array over
# a part of it costs as much as `Tensor.numpy`, which would forbid the tensor to be resized for ever.
_MEMORY: Any = (ctypes.c_char * sys.maxsize).from_address(1)


class Form(NamedTuple):
    """What a recurrence is besides its tensors."""

    cell: str  # one of PYTORCHS
    biases: bool
    layers: int
    bidirectional: bool
    batch_first: bool


def directions(form: Form) -> int:
    """D."""
    return 2 if form.bidirectional else 1


def places(form: Form) -> int:
    """L*D."""
    return form.layers * directions(form)


def widths(weights: Sequence[Any], form: Form) -> tuple[int, int, bool]:
    """P and H of such weights, and whether there is a projection among them."""
    rows, P = weights[1].shape
    each = len(weights) // places(form)
    return P, rows // len(CELLS[form.cell].gates), each > (4 if form.biases else 2)


class Made(NamedTuple):
    """Weights as a backend has them. It holds none of them: it is to be called while somebody else does."""

    stack: Any  # the backend's `Stack`
    addresses: list[int]  # of the weights
    form: Form


class Kept:
    """What a module keeps between calls: its parameters as kernels have them, and what became of the calls.

    A copy of it, or what a pickle of it gives, is a new one.

    Attributes
    ----------
    calls : Counter
        How many there were, by the reason why PyTorch computed them; None where the kernels did.
    """

    __slots__ = ("_last", "_step", "calls")

    def __init__(self) -> None:
        self.calls = Counter[str | None]()
        self._last: tuple[Any, Any, Any] = None, None, None
        self._step: tuple[Any, Any] = None, None

    def made(self, weights: Sequence[Tensor], form: Form) -> Made | None:
        """Of these weights, or None if the kernels do not take them.

        What was made for the last call, if they lie where they lay then.
        """
        of, (last, lay, made) = (kernels(), form), self._last
        if of == last and made.stack.takes_tensors and made.stack.lies_in(weights):
            return made
        try:
            lie = [(w.data_ptr(), w.shape, w.stride(), w.dtype) for w in weights]
        except RuntimeError:  # where there is no memory
            return None
        if of != last or lie != lay:
            if about_weights(weights, form) or not all(w.is_contiguous() for w in weights):
                return None
            arrays, dtype = [*map(array_of, weights)], DTYPES[weights[0].dtype]
            if not all(is_plain(array, dtype) for array in arrays):
                return None
            made = Made(_stack(arrays, form), [address for address, *_ in lie], form)
            self._last = of, lie, made
        return made

    def step(self, cell: str) -> Any:
        """The backend's `CellStep`, which finds tensors' memory itself; None where there is no such way."""
        key = kernels(), cell
        last, step = self._step
        if key != last:
            make = getattr(key[0], "CellStep", None)
            step = None if make is None or cell not in PYTORCHS else make(cell, *_TYPES)
            step = step if step is not None and step.takes_tensors else None
            self._step = key, step
        return step

    def __reduce__(self) -> Any:
        return Kept, ()


class _Anybody:
    """The owner of arrays that anybody may write to: the kernels compare what they have packed with them."""

    _handed_out = object()


def _stack(arrays: Sequence[Any], form: Form) -> Any:
    (_, _, projected), left, parameters = widths(arrays, form), iter(arrays), []
    for _ in range(places(form)):
        w_ih, w_hh = next(left), next(left)
        b_ih, b_hh = (next(left), next(left)) if form.biases else (None, None)
        parameters.append(Parameters(w_ih, w_hh, b_ih, b_hh, next(left) if projected else None))
    stack = kernels().Stack(_Anybody, form.cell, parameters, directions(form), Options())
    stack.take_tensors(*_TYPES)
    return stack


# -- what can be taken


def about(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None,
    form: Form,
    starts: Tensor | None = None,
) -> str | None:
    """What it is about the arguments that the kernels do not take, by an argument's name; None if they do.

    What shapes and dtypes can tell, that is: it serves where there are no numbers, too.
    """
    problem = about_weights(weights, form)
    if problem is not None:
        return problem
    if c0 is not None and form.cell != "lstm":
        return f"c0 must be None: {form.cell} has none"
    (P, H, _), like, B = widths(weights, form), weights[0], None
    for name, tensor in ("x", x), ("h0", h0), ("c0", c0):
        if tensor is not None and not _alike(tensor, like):
            return f"{name} must be dense, {like.dtype} on {like.device} as weights are, got {_form(tensor)}"
    if batch_sizes is None:
        axes = "B, T" if form.batch_first else "T, B"
        if x.dim() == 3:
            B = x.shape[0 if form.batch_first else 1]
    else:
        axes = "N"
        if batch_sizes.dtype is not torch.int64 or batch_sizes.dim() != 1 or batch_sizes.device.type != "cpu":
            return f"batch_sizes must be int64 of shape (T,) on the CPU, got {_form(batch_sizes)}"
    if x.dim() != axes.count(",") + 2 or x.shape[-1] != like.shape[1] or (B is not None and x.numel() == 0):
        return f"x must have shape ({axes}, {like.shape[1]}) and not be empty, got {tuple(x.shape)}"
    for name, state, width in ("h0", h0, P), ("c0", c0, H):
        if state is None:
            continue
        B = state.shape[1] if B is None and state.dim() == 3 else B
        if state.shape != (places(form), B, width):
            return f"{name} must have shape ({places(form)}, {B or 'B'}, {width}), got {tuple(state.shape)}"
    return None if starts is None else about_starts(starts, x)


def about_starts(starts: Any, x: Tensor) -> str | None:
    """As `about`, of starts of a call with x."""
    fits = isinstance(starts, Tensor) and starts.dtype is torch.bool and starts.layout is strided
    if fits and starts.shape == x.shape[:-1] and starts.device.type in ("cpu", "meta"):
        return None
    came = _form(starts) if isinstance(starts, Tensor) else type(starts).__name__
    return f"starts must be a tensor of bool of shape {tuple(x.shape[:-1])} on the CPU, got {came}"


def about_weights(weights: Sequence[Tensor], form: Form) -> str | None:
    """As `about`, of the weights alone."""
    if form.cell not in PYTORCHS:
        return f"cell must be one of {', '.join(PYTORCHS)}, got {form.cell!r}"
    gates, count, least = len(CELLS[form.cell].gates), places(form), 4 if form.biases else 2
    most = least + 1 if form.cell == "lstm" else least
    # (PyTorch 2.4 compiles numbers of layers to symbols, which no `in` finds.)
    if not weights or (len(weights) != count * least and len(weights) != count * most):
        return f"weights must be {least} for each of {count} layers and directions, got {len(weights)}"
    each, like = len(weights) // count, weights[0]
    if like.dim() != 2 or weights[1].dim() != 2:
        return f"weights must begin with two matrices, got {_form(like)} and {_form(weights[1])}"
    (P, H, projected), biases = widths(weights, form), [(weights[1].shape[0],)] * (least - 2)
    for k, weight in enumerate(weights):
        columns = like.shape[1] if k < each * directions(form) else directions(form) * P
        shapes = [(gates * H, columns), (gates * H, P if projected else H), *biases, (P, H)]
        if weight.shape != shapes[k % each] or weight.numel() == 0:
            return f"weights[{k}] must have shape {shapes[k % each]} and not be empty, got {_form(weight)}"
        if not _alike(weight, like) or weight.dtype not in DTYPES:
            return f"weights[{k}] must be dense, float32 or float64, on the CPU, got {_form(weight)}"
    return None


def _alike(tensor: Tensor, like: Tensor) -> bool:
    """Whether it has the same dtype, and both are dense and on the CPU, or nowhere."""
    places = tensor.device.type, like.device.type
    return (
        tensor.dtype is like.dtype and tensor.layout is strided and places[0] == places[1] in ("cpu", "meta")
    )


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"


# -- calls


def forward(
    stack: Any,
    training: bool,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    batch_sizes: Tensor | None,
    form: Form,
    starts: Tensor | None = None,
) -> Any:
    """A call of a `Stack`'s `train` or `run`.

    Returns
    -------
    y, h_n, c_n, or y, h_n, c_n, memory, or None
        c_n is None but for an LSTM. None, and nothing done, if the kernels refuse an argument.
    """
    method, given = stack.train if training else stack.run, _given(stack)
    sizes = given(batch_sizes, dtypes=_INDICES)
    anew = {} if starts is None else {"starts": given(starts, True, _TRUTHS)}
    found = method(given(x, True), _state(given, h0, c0, form), None, sizes, form.batch_first, **anew)
    if found is None:
        return None
    y, state_n, *memory = found
    h_n, c_n = state_n if form.cell == "lstm" else (state_n, None)
    return _tensor(y), _tensor(h_n), _tensor(c_n), *map(_tensor, memory)


def back(
    stack: Any, saved: Sequence[Any], gradients: Sequence[Any], form: Form, input_gradient: bool, again: bool
) -> Any:
    """The gradients of x, h0, c0 and the weights, where there are some; or None.

    Parameters
    ----------
    stack, form
        As of `forward`.
    saved : sequence of Tensor or None
        memory, y, x, h0, c0, batch_sizes and starts of a call of `train`; what follows does not matter.
    gradients : sequence of Tensor or None
        Those of y, h_n and c_n; None is zeros.
    input_gradient : bool
        Whether that of x is wanted.
    again : bool
        Whether memory must stay as it is, for another way back.
    """
    memory, y, x, h0, c0, batch_sizes, starts, *_ = saved
    dy, dh_n, dc_n = gradients
    given = _given(stack)
    anew = {} if starts is None else {"starts": given(starts, True, _TRUTHS)}
    found = stack.back(
        given(memory),
        given(y, True),
        given(x, True),
        _state(given, h0, c0, form),
        None,
        given(batch_sizes, dtypes=_INDICES),
        form.batch_first,
        given(dy, True),
        _state(given, dh_n, dc_n, form),
        input_gradient,
        again,
        **anew,
    )
    if found is None:
        return None
    dx, arrays, dstate, *_ = found
    dh0, dc0 = dstate if form.cell == "lstm" else (dstate, None)
    return (
        _tensor(dx),
        None if h0 is None else _tensor(dh0),
        None if c0 is None else _tensor(dc0),
        *map(_tensor, arrays),
    )


def _given(stack: Any) -> Any:
    """What makes of a tensor what the stack takes."""
    return _in_order if stack.takes_tensors else array_of


def _in_order(tensor: Any, rows: bool = False, dtypes: Any = None) -> Any:
    """A tensor, or a contiguous copy; with `rows` as of `array_of`. The stack sees to dtypes."""
    try:
        if tensor is None or tensor.is_contiguous() or (rows and tensor.stride(-1) == 1) or tensor.is_neg():
            return tensor
        return tensor.detach().contiguous()
    except RuntimeError:  # it has no such order
        return tensor


def array_of(tensor: Any, rows: bool = False, dtypes: Any = DTYPES) -> Any:
    """A tensor's memory as an array, which does not hold it; or that of a contiguous copy, which it holds.

    With `rows` they may be in any order, if their features are side by side. What is not plainly numbers of
    such a dtype in this process's memory stays what it is: the backend will not take it.
    """
    if tensor is None:
        return None
    try:
        dtype, place = dtypes.get(tensor.dtype), tensor.data_ptr()
        if not place or dtype is None or type(tensor) not in _TYPES or not tensor.is_cpu or tensor.is_neg():
            return tensor
    except RuntimeError:  # it has no memory, or what transforms it has
        return tensor
    if tensor.is_contiguous():
        return ndarray(tensor.shape, dtype, _MEMORY, place - 1)
    if rows and tensor.stride(-1) == 1:
        return ndarray(tensor.shape, dtype, _MEMORY, place - 1, [dtype.itemsize * s for s in tensor.stride()])
    return tensor.detach().contiguous().numpy()


def _state(given: Any, h: Any, c: Any, form: Form) -> Any:
    """h, or for an LSTM both, as the backend takes it."""
    if h is None and c is None:
        return None
    return given(h) if form.cell != "lstm" and c is None else (given(h), given(c))


def _tensor(found: Any) -> Any:
    """Of what the backend returns."""
    return from_numpy(found) if type(found) is ndarray else found
