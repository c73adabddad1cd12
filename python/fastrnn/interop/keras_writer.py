"""Networks as Keras 3 models."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn import checkpoint, checks
from fastrnn.checks import Array
from fastrnn.functional.variants import OPTIONS
from fastrnn.interop.keras_graph import place_of
from fastrnn.interop.layouts import ACTIVATIONS, places, reordered
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
    Masking,
    Max,
    Mean,
    Merge,
    Pooling,
    Recurrent,
    ReLU,
    Reverse,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from fastrnn.reference import Parameters

VERSION = "3.0.0"  # of Keras: this form of a file came with it

#: Keras's class of a recurrent layer.
CLASSES = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}

#: Keras's names of activations in a cell; ``hard_sigmoid`` has another slope there.
CELL_FUNCTIONS = {
    "sigmoid": "sigmoid",
    "hard_sigmoid_6": "hard_sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "linear": "linear",
}

#: Its names of those between layers.
FUNCTIONS: dict[type[Layer], str] = {
    ReLU: "relu",
    SELU: "selu",
    GELU: "gelu",
    SiLU: "silu",
    Sigmoid: "sigmoid",
    HardSigmoid: "hard_sigmoid",
    Tanh: "tanh",
    Softplus: "softplus",
    Softsign: "softsign",
    Softmax: "softmax",
    LogSoftmax: "log_softmax",
}


class Written(NamedTuple):
    """A layer as Keras describes it."""

    kind: str  # the name of its class
    options: dict[str, Any]
    arrays: Mapping[tuple[str, ...], Sequence[Array]] = {}  # its variables, by the groups where they are


def to_keras(network: Layer, path: str | os.PathLike[str], *, tokens: bool = False) -> None:
    """Write a recurrent layer or a `Sequential` as a file that ``keras.models.load_model`` opens.

    The model is a ``keras.Sequential`` that computes what a call of the network does, for batches and times
    of any size. All of Keras is batch first: the model takes (B, T, ...) also where the network takes (T, B,
    ...). It has no lengths; what is padded a `Masking` in the network tells.

    Parameters
    ----------
    network : Layer
        A recurrent layer, of which the model gives y, or a `Sequential`.
    path : str or path-like
        The file, which must end in ``.keras``; written in one step.
    tokens : bool
        Whether a first layer that is recurrent gets tokens, (B, T), instead of floats. The model has an
        ``Embedding`` of one-hot vectors for them, V*V numbers.

    Raises
    ------
    ImportError
        If the package h5py is not there: the extra ``fastrnn[keras]``.
    TypeError, ValueError
        If an argument is of another type, the file would have another suffix, or no first layer takes tokens;
        or if Keras has not what a layer does: the error names it. These are peepholes, coupled gates,
        clipping, projections, layer normalisation, a learned state, some activations, and layers of one's
        own.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from fastrnn.layers import LSTM, Last, Linear, Sequential
    >>> network = Sequential(LSTM(3, 5, batch_first=True, seed=0), Last(), Linear(5, 2, seed=0))
    >>> fastrnn.interop.to_keras(network, "network.keras")
    >>> fastrnn.interop.from_keras("network.keras")
    Sequential(
      (lstm): LSTM(3, 5, batch_first=True)
      (lstm_last): Last()
      (dense): Linear(5, 2)
    )
    """
    with checks.package("h5py", "keras", "a Keras model"):
        import h5py
    row = row_of(network)
    name = os.fsdecode(path)
    if not name.endswith(".keras"):
        raise ValueError(f"path must end in .keras, or Keras does not open it, got {name!r}")
    layers = list(row.values())
    if checks.boolean("tokens", tokens) and not (layers and isinstance(layers[0], Recurrent)):
        raise ValueError(
            "tokens must be False: the first layer is not recurrent (an Embedding always has them)"
        )
    dtype = next((layer.dtype.name for layer in layers if hasattr(layer, "dtype")), "float32")
    steps = [None] if any(layer._takes_lengths for layer in layers) else []
    written = list(_layers(row))
    takes = network._features[0]
    if tokens and takes:
        values = np.identity(takes, np.dtype(dtype))
        written.insert(0, Written("Embedding", {"input_dim": takes, "output_dim": takes}, {(): [values]}))
    of_tokens = bool(written) and written[0].kind == "Embedding"
    shape = [None, *steps] if of_tokens else [None, *steps, takes]
    first = Written("InputLayer", {"batch_shape": shape, "dtype": "int32" if of_tokens else dtype})
    counts: dict[str, int] = {}
    configs, content = [], io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("vars")
        for each in [first, *written]:
            place = place_of(each.kind, counts)
            configs.append(_config(each.kind, {"name": place, "dtype": dtype, **each.options}))
            for groups, arrays in {(): (), **each.arrays}.items():
                above = [groups[:depth] for depth in range(len(groups) + 1)]
                for some in above:  # Keras 3.3 and before want one of each that may have variables
                    variables = file.require_group("/".join(("layers", place, *some, "vars")))
                for number, array in enumerate(arrays):
                    variables[str(number)] = array
    model = _config(
        "Sequential", {"name": "network", "dtype": dtype, "layers": configs, "build_input_shape": shape}
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": VERSION}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", content.getvalue())
    checkpoint.write(path, packed.getvalue())


def _config(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    module = "keras" if kind == "Sequential" else "keras.layers"
    return {"module": module, "class_name": kind, "config": dict(options), "registered_name": None}


def _layers(row: Mapping[str, Layer]) -> Iterator[Written]:
    """Keras's layers for ours."""
    layers: list[Any] = list(row.values())
    masked = _masked(row)
    done: set[int | None] = set()  # the places of those that another one stands for
    for place, (name, layer) in enumerate(row.items()):
        following: list[Any] = [*layers[place + 1 :], None, None]
        if place in done:
            continue
        if type(layer) in CELLS.values():
            last = _last_of(layers, place)
            done |= {last} - {None}
            ended = int(last == place + 1)
            merge = following[ended] if layers[place].bidirectional else None
            mode = merge.mode if type(merge) is Merge else "concat"
            if type(merge) is Merge:
                done.add(place + 1 + ended)
            turned = place > 0 and type(layers[place - 1]) is Reverse
            steps = {"return_sequences": last is None, "go_backwards": turned}
            if masked is not None:  # what comes last would be 0 too, where that step is masked
                steps["zero_output_for_mask"] = masked.fill == "zeros" and last is None
            yield from _recurrent(name, layer, steps, mode)
        elif type(layer) is Masking:
            if type(following[0]) is not Embedding:  # else that has it
                yield Written("Masking", {"mask_value": layer.value})
        elif type(layer) is Embedding:
            sizes = {"input_dim": layer.num_embeddings, "output_dim": layer.embedding_dim}
            mask = {"mask_zero": masked is not None}
            yield Written("Embedding", sizes | mask, {(): [layer.parameters["weight"]]})
        elif type(layer) is not Reverse:
            yield _without_memory(name, layer)
        elif type(following[0]) not in CELLS.values() or following[0].bidirectional:
            refuse(name, layer, "Keras has it only right before a recurrent layer of one direction")


def _masked(row: Mapping[str, Layer]) -> Masking | None:
    """The layer that masks steps, if there is one and Keras does all that the network does then."""
    layers: list[Any] = list(row.values())
    if not layers or type(layers[0]) is not Masking:
        return None
    first, *others = layers
    if type(others[0]) is Embedding and first.value != 0:
        refuse(next(iter(row)), first, "Keras masks tokens that are 0, with mask_zero, and no others")
    for name, layer in row.items():
        if type(layer) in (Max, Reverse):
            refuse(name, layer, "Keras's does not know which steps are masked")
    both = [layer for layer in others if isinstance(layer, Recurrent)][-1:]
    steps = not any(isinstance(layer, Pooling) for layer in others)
    if both and both[0].bidirectional and steps and first.fill == "hold":
        refuse(
            next(iter(row)), first, "Keras's Bidirectional gives 0 where a step is masked, as fill='zeros'"
        )
    return first


def _last_of(layers: Sequence[Any], place: int) -> int | None:
    """Where the `Last` is that takes what comes last of the recurrent layer at a place. What stands between
    does the same with one step as with all."""
    layer = layers[place]
    for other, after in enumerate(layers[place + 1 :], place + 1):
        if type(after) is Last:
            between = layers[place + 1 : other]
            if layer.bidirectional:
                ends = of_halves(after, layers[:other]) and not any(each._mixes for each in between)
            else:
                ends = not of_halves(after, layers[:other])
            return other if ends else None
        if after._takes_lengths:
            break
    return None


def _recurrent(name: str, layer: Any, last: Mapping[str, Any], merge_mode: str) -> Iterator[Written]:
    """One for each layer of a stack, and what is dropped between them; `last` is for the last one."""
    kind, weights, options = CLASSES[layer._kind], places(layer), _options(name, layer)
    for level in range(layer.num_layers):
        above = level + 1 < layer.num_layers
        steps = {**last, "return_sequences": last["return_sequences"] or above}
        steps["go_backwards"] = last["go_backwards"] and not level
        if layer.bidirectional:
            inner = {"dtype": layer.dtype.name, **options, **steps}
            forward = {"name": f"forward_{kind.lower()}", **inner}
            backward = {"name": f"backward_{kind.lower()}", **inner, "go_backwards": True}
            described = {"layer": _config(kind, forward), "backward_layer": _config(kind, backward)}
            both = {"merge_mode": "concat" if above else merge_mode, **described}
            forwards, backwards = (_arrays(layer, each) for each in weights[2 * level : 2 * level + 2])
            cells = [(("forward_layer", "cell"), forwards), (("backward_layer", "cell"), backwards)]
            yield Written("Bidirectional", both, dict(cells))
        else:
            yield Written(kind, options | steps, {("cell",): _arrays(layer, weights[level])})
        if layer.dropout and above:
            yield Written("Dropout", {"rate": layer.dropout})


def _options(name: str, layer: Any) -> dict[str, Any]:
    """What Keras is told of a layer, which it must have."""
    kind = CLASSES[layer._kind]
    has = {"reset_after", "nonlinearity", "activation", "gate_activation", "output_activation"}
    lacks = {"learned_state": False, "proj_size": 0, **OPTIONS[layer._kind]}
    for option, value in lacks.items():
        if option not in has and getattr(layer, option) != value:
            refuse(name, layer, f"Keras's {kind} has no {option}")
    functions = {option: getattr(layer, option) for option in ACTIVATIONS[layer._kind]}
    for option, function in functions.items():
        if function not in CELL_FUNCTIONS:
            refuse(name, layer, f"Keras's {kind} has no {option}={function!r}")
    if layer._kind == "lstm" and layer.activation != layer.output_activation:
        refuse(name, layer, "Keras's LSTM has one function as activation and output_activation")
    told = {"units": layer.hidden_size, "use_bias": layer.bias}
    told["activation"] = CELL_FUNCTIONS[functions.get("nonlinearity") or functions["activation"]]
    if layer._kind != "rnn":
        told["recurrent_activation"] = CELL_FUNCTIONS[functions["gate_activation"]]
    if layer._kind == "gru":
        told["reset_after"] = layer.reset_after
    return told


def _arrays(layer: Any, weights: Parameters) -> list[Array]:
    """The variables of a cell."""
    given = (weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh)
    kernel, recurrent, *biases = (
        reordered(array, layer._kind, "pytorch", "keras").T for array in given if array is not None
    )
    if not biases:
        return [kernel, recurrent]
    two = layer._kind == "gru" and layer.reset_after  # else Keras has their sum
    return [kernel, recurrent, np.stack(biases) if two else biases[0] + biases[1]]


def _without_memory(name: str, layer: Any) -> Written:
    if type(layer) is Linear:
        weight, *bias = layer.parameters.values()
        return Written("Dense", {"units": len(weight), "use_bias": layer.bias}, {(): [weight.T, *bias]})
    if type(layer) is Dropout:
        return Written("Dropout", {"rate": layer.p})
    if type(layer) in (Mean, Max):
        return Written("GlobalAveragePooling1D" if type(layer) is Mean else "GlobalMaxPooling1D", {})
    if type(layer) is LeakyReLU:
        return Written("LeakyReLU", {"negative_slope": layer.negative_slope})
    if type(layer) is ELU:
        return Written("ELU", {"alpha": layer.alpha})
    if type(layer) is Last:
        refuse(
            name, layer, "Keras has it only of the last steps of a recurrent layer, of each direction its own"
        )
    if type(layer) is Merge:
        refuse(name, layer, "Keras has it only right after a bidirectional layer, or after the Last of one")
    if type(layer) is HardSigmoid and layer.slope != 1 / 6:
        refuse(name, layer, "Keras's hard_sigmoid has the slope 1/6")
    if type(layer) is GELU and layer.approximate != "none":
        refuse(name, layer, "a file of Keras names gelu without approximation only")
    if type(layer) not in FUNCTIONS:
        known = (
            "RNN LSTM GRU Masking Embedding Linear Dropout Last Mean Max Merge Reverse LeakyReLU ELU".split()
        )
        known += [each.__name__ for each in FUNCTIONS]
        refuse(name, layer, f"Keras has no such layer; known are {', '.join(known)}")
    return Written("Activation", {"activation": FUNCTIONS[type(layer)]})
