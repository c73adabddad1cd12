"""Layers made of PyTorch's modules without memory, by their classes or by the names of their tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrnn import layers
from fastrnn.interop.layouts import embedding, linear
from fastrnn.interop.torch_modules import NETWORK, NN, Module, array_of
from fastrnn.interop.torch_recurrent import Answers
from fastrnn.layers import Layer


def feedforward(
    module: Module, *, first: bool, wanted: int | None, axes: int | None, answers: Answers
) -> list[Layer]:
    """The layers that a module which is not recurrent stands for: one, or none.

    Parameters
    ----------
    module : Module
    first : bool
        Whether no features come from a layer before it: tokens may come in.
    wanted : int, optional
        How many features the next layer expects.
    axes : int, optional
        How many there are of what comes in, as far as it is known.
    answers : Answers

    Raises
    ------
    ValueError
        If it is of another class, or has other tensors than such a layer.
    """
    kind = module.kind
    if kind is None:
        return [_of_names(module, first, wanted, answers)]
    module.require_plain()
    name = kind.rpartition(".")[2] if kind.startswith(NN) else kind
    make = _MAKERS.get(name) if kind.startswith((NN, NETWORK)) else None
    if make is None:
        known = ", ".join(name for name in _MAKERS if "." not in name)
        instead = (
            "a fastrnn layer may stand in its place in order=; "
            "if it computes what one of these does, give the state_dict()"
        )
        raise ValueError(f"{module.where} is a {kind}, which is not supported: {known} are; {instead}")
    return make(module, axes)


def _of_names(module: Module, first: bool, wanted: int | None, answers: Answers) -> Layer:
    where = module.where
    shapes = {name: tuple(tensor.shape) for name, tensor in module.tensors.items()}
    if set(module.names()) not in ({"weight"}, {"weight", "bias"}) or len(shapes["weight"]) != 2:
        shown = ", ".join(module.names()[:8])
        raise ValueError(
            f"{where} is no recurrent layer, Linear or Embedding: it has {shown}. If it stands for several "
            "modules, name each of them in order=, with the activations between"
        )
    if "bias" in shapes:
        return _linear(module)
    rows, columns = shapes["weight"]
    if not first:
        return _linear(module)
    may_be = {True: wanted in (None, columns), False: wanted in (None, rows)}  # an Embedding or not
    if answers.embedding is None and may_be[True] and may_be[False]:
        raise ValueError(
            f"embedding must be given: {where}, of weight {(rows, columns)} without bias, may be an "
            f"Embedding of {rows} tokens or a Linear of {columns} features; True or False"
        )
    is_embedding = may_be[True] if answers.embedding is None else answers.embedding
    return _embedding(module) if is_embedding else _linear(module)


def _linear(module: Module) -> Layer:
    where = module.where
    bias = "bias" in module.tensors
    module.require({"weight", "bias"} if bias else {"weight"})
    weight = module.tensors["weight"]
    if len(weight.shape) != 2 or (bias and tuple(module.tensors["bias"].shape) != (weight.shape[0],)):
        shapes = {name: tuple(tensor.shape) for name, tensor in module.tensors.items()}
        raise ValueError(f"{where} is no Linear: its tensors have shapes {shapes}")
    return linear(**{name: array_of(name, tensor) for name, tensor in module.tensors.items()})


def _embedding(module: Module) -> Layer:
    module.require({"weight"})
    if module.options.get("max_norm") is not None:
        norm = module.options["max_norm"]
        raise ValueError(f"{module.where}: max_norm={norm} is not supported: it changes the weights in use")
    weight = array_of("weight", module.tensors["weight"])
    if weight.ndim != 2:
        raise ValueError(f"{module.where} is no Embedding: its weight has shape {weight.shape}")
    return embedding(weight)


def _plain(kind: Callable[..., Layer], *options: str, **fixed: Any) -> Callable[[Module, Any], list[Layer]]:
    """How to make a layer that has such options, and is what it is with others as they are fixed."""

    def make(module: Module, axes: Any) -> list[Layer]:
        module.require(set())
        said = {name: _said(module, name) for name in (*options, *fixed)}
        for name, value in fixed.items():
            if said[name] != value:
                raise ValueError(f"{module.where}: {name}={said[name]} is not supported, {name}={value} is")
        return [kind(*(said[name] for name in options))]

    return make


def _over_features(kind: Callable[..., Layer]) -> Callable[[Module, Any], list[Layer]]:
    """How to make a layer that is over the last axis."""

    def make(module: Module, axes: Any) -> list[Layer]:
        dim = _said(module, "dim")
        if dim != -1 and (axes is None or dim != axes - 1):
            raise ValueError(f"{module.where}: dim={dim} is not supported, the last axis, -1, is")
        return [kind()]

    return make


def _said(module: Module, name: str) -> Any:
    if name not in module.options:
        raise ValueError(
            f"{module.where} does not tell its {name}: put a fastrnn layer in its place in order="
        )
    return module.options[name]


_MAKERS: dict[str, Callable[[Module, Any], list[Layer]]] = {
    "Embedding": lambda module, axes: [_embedding(module)],
    "Linear": lambda module, axes: [_linear(module)],
    "Dropout": _plain(layers.Dropout, "p"),
    "Identity": lambda module, axes: [],
    "ReLU": _plain(layers.ReLU),
    "Tanh": _plain(layers.Tanh),
    "Sigmoid": _plain(layers.Sigmoid),
    "LeakyReLU": _plain(layers.LeakyReLU, "negative_slope"),
    "ELU": _plain(layers.ELU, "alpha"),
    "SELU": _plain(layers.SELU),
    "SiLU": _plain(layers.SiLU),
    "GELU": _plain(layers.GELU, "approximate"),
    "Softplus": _plain(layers.Softplus, beta=1, threshold=20),
    "Softsign": _plain(layers.Softsign),
    "Hardsigmoid": _plain(layers.HardSigmoid),
    "Softmax": _over_features(layers.Softmax),
    "LogSoftmax": _over_features(layers.LogSoftmax),
    f"{NETWORK}Last": lambda module, axes: [layers.Last(bidirectional=_said(module, "halves"))],
    f"{NETWORK}Mean": _plain(layers.Mean),
    f"{NETWORK}Max": _plain(layers.Max),
    f"{NETWORK}Reverse": _plain(layers.Reverse),
    f"{NETWORK}Merge": _plain(layers.Merge, "mode"),
    f"{NETWORK}OneHot": lambda module, axes: [],  # a recurrent layer takes tokens as they are
}
