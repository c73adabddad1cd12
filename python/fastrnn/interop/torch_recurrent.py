"""Recurrent layers of PyTorch's, by the names and shapes of their tensors.

Letters: I input, H hidden, P projection, G gates, L layers, D directions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastrnn.interop import layouts
from fastrnn.interop.torch_modules import NN, Module, array_of
from fastrnn.layers import Recurrent
from fastrnn.layers.recurrent import FIELDS
from fastrnn.reference import Parameters

_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(_\w+)?")
_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
_SIZES = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")
_CLASSES = {f"{NN}rnn.{name}{cell}": name.lower() for name in ("RNN", "LSTM", "GRU") for cell in ("", "Cell")}


class Answers(NamedTuple):
    """What the caller says about what a file does not tell."""

    batch_first: bool | None = None
    nonlinearity: str | None = None
    embedding: bool | None = None


def is_recurrent(module: Module) -> bool:
    """Whether a module is a recurrent layer, by its class or by the names of its tensors."""
    parametrized = module.children.get("parametrizations")
    names = [*module.tensors, *(parametrized.children if parametrized else ())]
    return module.kind in _CLASSES or any(map(_RECURRENT.fullmatch, names))


def recurrent(module: Module, answers: Answers) -> Recurrent[Any]:
    """The recurrent layer that a module is.

    Raises
    ------
    ValueError
        If its tensors are not just those of one of PyTorch's, or something that they do not tell is not
        answered.
    """
    where, tensors = module.where, module.tensors
    module.require_plain()
    if module.kind is not None and module.kind not in _CLASSES:
        remade = module.kind.startswith("torch.nn.utils.parametrize.")
        does = "remove_parametrizations makes a plain one of it"
        hint = does if remade else "if it computes what PyTorch's does, give its state_dict()"
        raise ValueError(f"{where} is a {module.kind}, which is no class of PyTorch's: {hint}")
    cell = "weight_hh" in tensors
    count = 1
    while not cell and f"weight_hh_l{count}" in tensors:
        count += 1
    directions = ["", "_reverse"] if "weight_hh_l0_reverse" in tensors else [""]
    suffixes = [""] if cell else [f"_l{level}{way}" for level in range(count) for way in directions]
    fields = ["weight_ih", "weight_hh"]
    fields += ["bias_ih", "bias_hh"] if f"bias_ih{suffixes[0]}" in tensors else []
    fields += ["weight_hr"] if not cell and f"weight_hr{suffixes[0]}" in tensors else []
    expected = {f"{field}{suffix}" for suffix in suffixes for field in fields}
    module.require(expected)

    kind, shapes = _shapes(where, tensors, suffixes, fields, len(directions))
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(
                f"{where}: {name} must have shape {shape} beside the other tensors, got "
                f"{tuple(tensors[name].shape)}: weights are (gates * hidden, features) in PyTorch's layout"
            )
    if module.kind in _CLASSES and _CLASSES[module.kind] != kind:
        raise ValueError(f"{where} is a {module.kind}, but its tensors are of the shapes of a {kind.upper()}")
    options = _options(module, kind, cell, count, answers)
    arrays = {name: array_of(name, tensors[name]) for name in shapes}
    by_place: list[list[Any]] = [[arrays.get(f"{field}{suffix}") for field in FIELDS] for suffix in suffixes]
    places = [Parameters(*each) for each in by_place]
    layer = layouts.recurrent(kind, places, bidirectional=len(directions) == 2, **options)
    for name in _SIZES:
        said = module.options.get(name, None)
        if said is not None and said != getattr(layer, name):
            raise ValueError(f"{where} says {name}={said}, but its tensors are those of {layer!r}")
    return layer


def _shapes(
    where: str, tensors: dict[str, Any], suffixes: Sequence[str], fields: Sequence[str], directions: int
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The kind of the cell, and the shape of each tensor, from those of the first place."""
    first = [tuple(tensors[f"{field}{suffixes[0]}"].shape) for field in fields]
    weight_ih, weight_hh = first[:2]
    projection = first[-1] if "weight_hr" in fields else None
    hidden = (projection or weight_hh)[-1] if len(projection or weight_hh) == 2 else 0
    gates, rest = divmod(weight_hh[0], hidden) if len(weight_hh) == 2 and hidden else (0, 1)
    known = gates in _GATES and not rest and (projection is None or gates == 4) and len(weight_ih) == 2
    if not known:
        raise ValueError(
            f"{where}: weight_ih {weight_ih} and weight_hh {weight_hh} are of no RNN, GRU or LSTM of "
            "PyTorch's: weight_hh has 1, 3 or 4 times as many rows as columns"
        )
    size, shapes = weight_ih[1], dict[str, tuple[int, ...]]()
    recurrent_size = projection[0] if projection else hidden
    for place, suffix in enumerate(suffixes):
        features, rows = size if place < directions else directions * recurrent_size, gates * hidden
        fit = [(rows, features), (rows, recurrent_size), (rows,), (rows,), (recurrent_size, hidden)]
        for field, shape in zip(FIELDS, fit, strict=True):
            if field in fields:
                shapes[f"{field}{suffix}"] = shape
    return _GATES[gates], shapes


def _options(module: Module, kind: str, cell: bool, count: int, answers: Answers) -> dict[str, Any]:
    """What tensors do not tell."""
    where, options = module.where, dict[str, Any]()
    if not cell:
        options["batch_first"] = _told(
            where,
            "batch_first",
            module.options.get("batch_first"),
            answers.batch_first,
            "True if it takes (batch, time, features), False if (time, batch, features)",
        )
    elif answers.batch_first is not None:
        options["batch_first"] = answers.batch_first
    if kind == "rnn":
        modes = {"RNN_TANH": "tanh", "RNN_RELU": "relu"}
        said = module.options.get("nonlinearity", modes.get(str(module.options.get("mode"))))
        how = '"tanh" or "relu"'
        options["nonlinearity"] = _told(where, "nonlinearity", said, answers.nonlinearity, how)
    if count > 1 and module.options.get("dropout"):
        options["dropout"] = module.options["dropout"]
    return options


def _told(where: str, name: str, said: Any, answer: Any, how: str) -> Any:
    """What the module says of itself, or the caller of it, not both and differently."""
    if said is None and answer is None:
        raise ValueError(f"{name} must be given: {where} does not tell it; {how}")
    if said is not None and answer is not None and said != answer:
        raise ValueError(f"{name}={answer!r} was given, but {where} has {name}={said!r}")
    return answer if said is None else said
