"""Models as they are, on the kernels: their recurrent modules change class, in place, and nothing else."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from fastrnn import checks
from fastrnn.torch.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.torch.modules import GRU, LSTM, PARENTS, RNN, OnKernels, why_not

OURS: dict[type[nn.Module], Any] = dict(
    zip(PARENTS, (LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell), strict=True)
)  # and those made of subclasses, when they are met
NAMES = {parent.__name__ for parent in PARENTS}

COLUMNS, NAME, KIND = 80, 28, 16  # of the table, and at most of a module's and a class's name in it


@dataclass(frozen=True)
class Row:
    """What a `Report` tells of a recurrent module.

    Attributes
    ----------
    name : str
        As ``named_modules()`` has it, "" for the root; where a module is in several places, the first.
    kind : str
        The name of its class.
    reason : str or None
        Why PyTorch runs it; None if the kernels do.
    kernel_calls : int
        How many calls the kernels have run.
    pytorch_calls : dict of str to int
        How many calls of the accelerated module PyTorch has run all the same, by the reason: an input that is
        not on the CPU, say.
    """

    name: str
    kind: str
    reason: str | None
    kernel_calls: int
    pytorch_calls: dict[str, int]


class Report:
    """What runs each recurrent module of a model: the kernels, or PyTorch and why.

    It prints as a table and is iterated over by `Row`. It looks each time at the modules that are there now,
    and counts their calls since they were accelerated, copied or loaded, but for those in a compiled graph.

    As a context manager it undoes its acceleration at the end of the block.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._accelerated: list[tuple[nn.Module, type[nn.Module]]] = []  # and what they were

    def undo(self) -> None:
        """Give the modules that this call of `accelerate` changed their classes back.

        Those that it found accelerated stay so, as do those that got another class or a `forward` of their
        own since. A second time, nothing happens.
        """
        for module, before in self._accelerated:
            if type(module) is _accelerated(before) and "forward" not in vars(module):
                module.__class__ = before
                vars(module).pop("_kept", None)
        self._accelerated = []

    def __iter__(self) -> Iterator[Row]:
        for name, module in _recurrent(self._module):
            reason = why_not(module) or (None if isinstance(module, OnKernels) else "not accelerated")
            kept = vars(module).get("_kept")
            others = dict(kept.calls) if kept else {}
            yield Row(name, _kind(module), reason, others.pop(None, 0), others)

    def __len__(self) -> int:
        return sum(1 for _ in _recurrent(self._module))

    def __repr__(self) -> str:
        return _table(list(self))

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()


def accelerate(module: nn.Module, *, strict: bool = False) -> Report:
    """Let the kernels run the recurrent modules of a model, wherever in it they are.

    Each ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, ``nn.LSTMCell``, ``nn.GRUCell`` and ``nn.RNNCell`` in `module`,
    or `module` itself, becomes the class of the same name in ``fastrnn.torch``. It is the same object as
    before, with its parameters, buffers and hooks, so that whoever holds it or them goes on: an optimizer, a
    wrapper. A module of a subclass keeps its class's methods; what its `forward` asks of PyTorch's, by
    ``super().forward(…)``, the kernels run. Nothing else changes, neither in the model nor in PyTorch.

    Parameters
    ----------
    module : torch.nn.Module
        The model. Modules that are accelerated already stay as they are.
    strict : bool
        Raise an error if a recurrent module stays with PyTorch.

    Returns
    -------
    Report
        What runs each recurrent module now. Its ``undo()`` takes the change back, as does the end of its
        ``with`` block.

    Raises
    ------
    TypeError
        If `module` is not a module, or `strict` no bool.
    ValueError
        If `strict`, and a recurrent module stays with PyTorch: which and why. Nothing has changed then.
    """
    strict = checks.boolean("strict", strict)
    result = report(module)
    reasons = [(name, part, why_not(part)) for name, part in _recurrent(module)]
    left = [f"{name or '(itself)'}, {_kind(part)}: {reason}" for name, part, reason in reasons if reason]
    if strict and left:
        raise ValueError("recurrent modules that PyTorch would still run: " + "; ".join(left))
    taken = [part for _, part, reason in reasons if reason is None and not isinstance(part, OnKernels)]
    changes = [(part, type(part), _accelerated(type(part))) for part in taken]
    for part, before, after in changes:
        part.__class__ = after
        result._accelerated.append((part, before))
    return result


def report(module: nn.Module) -> Report:
    """Tell what runs the recurrent modules of a model: the kernels, or PyTorch and why.

    Parameters
    ----------
    module : torch.nn.Module
        The model, accelerated or not.

    Returns
    -------
    Report
        A record for each recurrent module, which print as a table.

    Raises
    ------
    TypeError
        If `module` is not a module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    return Report(module)


def _accelerated(kind: type[nn.Module]) -> Any:
    """The class that modules of a class become: of a subclass, a new one with ours right before PyTorch's."""
    if kind not in OURS:
        ours = next(OURS[base] for base in kind.__mro__ if base in PARENTS)
        body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__reduce_ex__": _reduce}
        OURS[kind] = types.new_class(kind.__name__, (kind, ours), exec_body=lambda names: names.update(body))
    return OURS[kind]


def _reduce(module: Any, protocol: int) -> Any:
    """How a module of such a class is copied and pickled: by the subclass, as its own is not to be found."""
    kind = type(module)
    _, _, *rest = super(kind, module).__reduce_ex__(2)
    return _blank, (kind.__base__,), *rest


def _blank(kind: type[nn.Module]) -> Any:
    accelerated = _accelerated(kind)
    return accelerated.__new__(accelerated)


def _recurrent(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The recurrent modules and their names, each once; quantized and scripted ones are no `nn.RNNBase`."""
    for name, part in module.named_modules():
        namesake = type(part).__module__.startswith("torch.") and _kind(part) in NAMES
        if isinstance(part, (nn.RNNBase, nn.RNNCellBase)) or namesake:
            yield name, part


def _kind(module: nn.Module) -> str:
    """The name of a module's class, of a scripted module's original one."""
    return str(getattr(module, "original_name", type(module).__name__))


def _table(rows: list[Row]) -> str:
    """Rows in at most 80 columns: a line for each, and one more for each reason why PyTorch has run calls."""
    if not rows:
        return "no recurrent modules"
    lines = [("module", "class", "runs on", "calls", "why")]
    for row in rows:
        ran = [("fastrnn", str(row.kernel_calls), "")] if row.kernel_calls or row.reason is None else []
        others = {row.reason: "", **row.pytorch_calls} if row.reason else row.pytorch_calls
        ran += [("PyTorch", str(calls), reason) for reason, calls in others.items()]
        names = (_end(row.name or "(itself)", NAME), _end(row.kind, KIND))
        lines += [(*(names if run is ran[0] else ("", "")), *run) for run in ran]
    name, kind, on, calls = (max(len(line[column]) for line in lines) for column in range(4))
    text = []
    for line in lines:
        start = f"{line[0]:{name}}  {line[1]:{kind}}  {line[2]:{on}}  {line[3]:>{calls}}  "
        why = textwrap.wrap(line[4], max(COLUMNS - len(start), 1)) or [""]
        text += [start + why[0], *(" " * len(start) + more for more in why[1:])]
    return "\n".join(line.rstrip() for line in text)


def _end(name: str, length: int) -> str:
    """A name, or the end of it where it is longer."""
    return name if len(name) <= length else "…" + name[1 - length :]
