"""Networks as PyTorch modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.functional.variants import OPTIONS
from fastrnn.interop.layouts import part_name
from fastrnn.interop.rows import of_halves, refuse, row_of
from fastrnn.layers import (
    CELLS,
    ELU,
    GELU,
    SELU,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Max,
    Mean,
    Merge,
    Recurrent,
    ReLU,
    Reverse,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)


def to_torch(network: Layer, *, tokens: bool = False) -> Any:
    """A layer or a `Sequential` as a PyTorch module, which computes what a call of it does.

    A recurrent layer becomes a ``torch.nn.LSTM``, ``GRU`` or ``RNN``; a `Sequential` a
    `fastrnn.torch.network.Network` of PyTorch's modules, called with x and, if there are some, lengths. It
    gives what the network gives, in the same layout, and its ``state_dict`` has the names of the network's.

    Without PyTorch, and for a module of one's own: ``network.state_dict()`` has PyTorch's names and layouts
    already. Saved by ``safetensors.numpy.save_file`` it is a file that ``module.load_state_dict`` takes
    strictly.

    Parameters
    ----------
    network : Layer
        A layer or a `Sequential`.
    tokens : bool
        Whether a first layer that is recurrent gets tokens, (T, B) int64, instead of floats, within a
        `Sequential`. The module makes one-hot vectors of them.

    Returns
    -------
    torch.nn.Module
        With copies of the parameters, on the CPU, and in evaluation mode: ``.train()`` lets its dropout work,
        but for that in the recurrence, which PyTorch has not.

    Raises
    ------
    ImportError
        If PyTorch is not there: the extra ``fastrnn[torch]``.
    TypeError, ValueError
        If an argument is of another type, or no first layer takes tokens; or if PyTorch has not what a layer
        does: the error names it. These are peepholes, coupled gates, clipping, other activations in a cell,
        layer normalisation, a learned state, GRU(reset_after=False), and layers of one's own.

    Examples
    --------
    >>> from fastrnn.layers import LSTM, Last, Linear, Sequential
    >>> network = Sequential(LSTM(3, 5, seed=0), Last(), Linear(5, 2, seed=0))
    >>> fastrnn.interop.to_torch(network)
    Network(
      (0): LSTM(3, 5)
      (1): Last()
      (2): Linear(in_features=5, out_features=2, bias=True)
    )
    """
    with checks.package("torch", "torch", "a PyTorch module"):
        import torch
    row = row_of(network)
    first = next(iter(row.values()), None)
    if checks.boolean("tokens", tokens) and not (
        type(network) is Sequential and isinstance(first, Recurrent)
    ):
        raise ValueError("tokens must be False: there is no Sequential whose first layer is recurrent")
    if type(network) is Sequential:
        from fastrnn.torch.network import Network, OneHot

        try:
            modules = _modules(network, "", [], network.batch_first)
            if tokens and isinstance(first, Recurrent):
                one_hot = OneHot(first.input_size, getattr(torch, first.dtype.name))
                modules = {part_name("tokens", modules): one_hot, **modules}
            module = Network(modules)
        except KeyError as error:
            raise ValueError(
                f"the network has a part of a name that PyTorch needs: {error.args[0]}"
            ) from None
    else:
        ((name, layer),) = row.items()
        module = _module(name, layer, [], False)
    arrays = {name: torch.from_numpy(array) for name, array in network.state_dict().items()}
    module.load_state_dict(arrays)
    return module.eval()


def _modules(network: Sequential, prefix: str, before: list[Layer], batch_first: bool) -> Any:
    """Those of its layers, by name; `before` has all layers up to here, and grows."""
    from fastrnn.torch.network import Network

    found = {}
    for name, layer in network.parts.items():
        if type(layer) is Sequential:
            found[name] = Network(_modules(layer, f"{prefix}{name}.", before, batch_first))
        else:
            found[name] = _module(f"{prefix}{name}", layer, before, batch_first)
            before.append(layer)
    return found


def _module(name: str, layer: Layer, before: list[Layer], batch_first: bool) -> Any:
    """The module of a layer."""
    from torch import nn

    from fastrnn.torch import network

    if type(layer) in CELLS.values():
        return _recurrent(name, layer)
    if type(layer) is Last:
        return network.Last(of_halves(layer, before), batch_first)
    if type(layer) is Merge:
        return network.Merge(layer.mode)
    if type(layer) in (Mean, Max, Reverse):
        return getattr(network, type(layer).__name__)(batch_first)
    if type(layer) not in _ARGUMENTS:
        known = ", ".join([*_OURS, *(each.__name__ for each in _ARGUMENTS)])
        refuse(name, layer, f"PyTorch has no such layer; known are {known}")
    if type(layer) is HardSigmoid and layer.slope != 1 / 6:
        refuse(name, layer, "PyTorch's Hardsigmoid has the slope 1/6")
    arguments = dict(_ARGUMENTS[type(layer)](layer))
    if layer.parameters:
        arguments["dtype"] = _dtype(layer)
    return getattr(nn, "Hardsigmoid" if type(layer) is HardSigmoid else type(layer).__name__)(**arguments)


_OURS = "RNN", "LSTM", "GRU", "Last", "Mean", "Max", "Reverse", "Merge"  # have rules of their own

#: What PyTorch's class of the same name is given.
_ARGUMENTS: dict[type[Layer], Callable[[Any], dict[str, Any]]] = {
    Embedding: lambda layer: {"num_embeddings": layer.num_embeddings, "embedding_dim": layer.embedding_dim},
    Linear: lambda layer: {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias,
    },
    Dropout: lambda layer: {"p": layer.p},
    ReLU: lambda layer: {},
    LeakyReLU: lambda layer: {"negative_slope": layer.negative_slope},
    ELU: lambda layer: {"alpha": layer.alpha},
    SELU: lambda layer: {},
    GELU: lambda layer: {"approximate": layer.approximate},
    SiLU: lambda layer: {},
    Sigmoid: lambda layer: {},
    HardSigmoid: lambda layer: {},
    Tanh: lambda layer: {},
    Softplus: lambda layer: {},
    Softsign: lambda layer: {},
    Softmax: lambda layer: {"dim": -1},
    LogSoftmax: lambda layer: {"dim": -1},
}


def _recurrent(name: str, layer: Any) -> Any:
    from torch import nn

    usual = {"learned_state": False, **OPTIONS[layer._kind]}
    for option, value in usual.items():
        given = getattr(layer, option)
        if given != value and not (option == "nonlinearity" and given == "relu"):
            refuse(name, layer, f"PyTorch's {type(layer).__name__} has no {option}={given!r}")
    own = {}
    if layer._kind == "rnn":
        own["nonlinearity"] = layer.nonlinearity
    if layer.proj_size:
        own["proj_size"] = layer.proj_size
    return getattr(nn, type(layer).__name__)(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bias=layer.bias,
        batch_first=layer.batch_first,
        dropout=layer.dropout,
        bidirectional=layer.bidirectional,
        dtype=_dtype(layer),
        **own,
    )


def _dtype(layer: Any) -> Any:
    import torch

    return getattr(torch, np.dtype(layer.dtype).name)
