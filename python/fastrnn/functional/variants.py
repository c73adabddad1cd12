"""Which cell the options of a layer or a function choose, and what it is told: decided here for both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from fastrnn.checks import Check, boolean, came, one_of, optional, positive_float
from fastrnn.reference import ACTIVATIONS, CELLS, Options

#: The options of each kind of cell, with the values that they have where they are left out.
OPTIONS: dict[str, dict[str, Any]] = {
    "rnn": {"nonlinearity": "tanh", "clip": None},
    "lstm": {
        "peephole": False,
        "layer_norm": False,
        "gate_activation": "sigmoid",
        "activation": "tanh",
        "output_activation": "tanh",
        "clip": None,
        "coupled": False,
    },
    "gru": {
        "reset_after": True,
        "layer_norm": False,
        "gate_activation": "sigmoid",
        "activation": "tanh",
        "clip": None,
    },
}

#: What the fields of `Options` are called there.
FIELDS = {
    "gate_activation": "gate",
    "nonlinearity": "state",
    "activation": "state",
    "output_activation": "output",
    "clip": "clip",
    "coupled": "coupled",
}


class Variant(NamedTuple):
    """A cell, and what it is told."""

    cell: str  # a key of `fastrnn.reference.CELLS`
    options: Options = Options()


def refuse_unknown(owner: str, options: Iterable[str], known: Collection[str]) -> None:
    """Options that a layer or a function does not have."""
    for name in options:
        if name not in known:
            raise TypeError(f"{owner} has no {name}; its options are {', '.join(known)}")


def checked(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a kind, those given checked, the others as usual."""
    given = {name: _check(name)(name, value) for name, value in options.items()}
    return {**OPTIONS[kind], **given}


def choose(kind: str, options: Mapping[str, Any]) -> Variant:
    """The cell of such options, which have been checked.

    Raises
    ------
    ValueError
        If there is no such cell.
    """
    changed = {name: value for name, value in options.items() if value != OPTIONS[kind][name]}
    if changed.pop("layer_norm", False):
        for name, value in changed.items():
            raise ValueError(f"layer_norm goes with no other form of the cell, got {name}={value!r}")
        return Variant(f"{kind}_layer_norm")
    if kind == "rnn" and changed.keys() <= {"nonlinearity"} and options["nonlinearity"] in ("tanh", "relu"):
        return Variant(f"rnn_{options['nonlinearity']}")
    cell = kind if changed.pop("reset_after", True) else f"{kind}_before"
    told = {FIELDS[name]: value for name, value in changed.items() if name in FIELDS}
    return Variant(f"{cell}_any", Options(**told)) if changed else Variant(cell)


def told(cell: str, options: Any) -> Options:
    """What a cell is told, checked.

    Raises
    ------
    TypeError, ValueError
        If it is no `Options`, a field is out of range, or the cell takes no other than the usual one.
    """
    if not isinstance(options, Options):
        raise TypeError(f"options must be a record Options, got {came(options)}")
    for name, value in options._asdict().items():
        _check(name)(f"options.{name}", value)
        if value != getattr(Options(), name) and name not in CELLS[cell].options:
            known = ", ".join(CELLS[cell].options) or "none"
            raise ValueError(f"{cell} takes no {name}; its options are {known}")
    return options


def _check(name: str) -> Check:
    if FIELDS.get(name, name) in ("gate", "state", "output"):
        return lambda name, value: one_of(name, value, tuple(ACTIVATIONS))
    return optional(positive_float) if name == "clip" else boolean
