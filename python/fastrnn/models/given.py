"""A network that a model is given, in the place of one of its own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastrnn import checks
from fastrnn.layers import (
    Dropout,
    Embedding,
    Layer,
    Linear,
    LogSoftmax,
    Pooling,
    Recurrent,
    Sequential,
    Sigmoid,
    Softmax,
)
from fastrnn.models.estimator import Check, NetworkEstimator, optional

#: Parameters that describe a network of the model's own.
OWN = "cell hidden_size num_layers dropout layer_options initial forget_bias pooling embedding_size".split()


def sequential(name: str, value: Any) -> Sequential:
    """A `Sequential`; a layer by itself gets the hint to put it into one."""
    if type(value) is not Sequential:  # another would be one of the kind when it is copied
        hint = "; put it into one: Sequential(layer, ...)" if isinstance(value, Layer) else ""
        raise TypeError(f"{name} must be a Sequential, got {checks.came(value)}{hint}")
    if not value._row():
        raise ValueError(f"{name} must have layers, got none")
    return value


@dataclass(kw_only=True, eq=False, repr=False)
class TakesNetwork(NetworkEstimator):
    """A model that has a network of its own, or is given one.

    Parameters
    ----------
    network : fastrnn.Sequential or None
        What to train, from the weights that it has, in the place of a network of the model's own; `network_`
        is a copy. What describes the model's own, such as `cell`, is left out then, numbers are not scaled,
        and `dtype` is that of its layers: `from_network` sees to all that.
    """

    network: Sequential | None = None

    _checks: ClassVar[dict[str, Check]] = {**NetworkEstimator._checks, "network": optional(sequential)}

    def _checked_copy(self) -> Any:
        model = super()._checked_copy()
        if model.network is not None:
            usual = {field.name: field.default for field in dataclasses.fields(model)}
            wanted = {name: usual[name] for name in OWN if name in usual}
            for name, value in {**wanted, **facts(type(model), model.network)}.items():
                if getattr(model, name) != value:
                    came = getattr(model, name)
                    raise ValueError(f"{name} must be {value!r} with such a network, got {came!r}")
        return model


def facts(model: type[TakesNetwork], network: Sequential) -> dict[str, Any]:
    """The parameters of a model that must be as a network is."""
    row = network._row()
    dtypes = [layer.dtype.name for layer in row if hasattr(layer, "dtype")]
    found = {
        "dtype": dtypes[0] if dtypes else "float32",
        "bidirectional": any(layer._needs_whole for layer in row),
        "scale": False,
    }
    return {name: found[name] for name in found.keys() & {field.name for field in dataclasses.fields(model)}}


def tokens_of(network: Sequential) -> int | None:
    """How many different tokens it takes; None if that is not sure, as recurrent layers take tokens too."""
    return next((layer.num_embeddings for layer in network._row() if isinstance(layer, Embedding)), None)


def adopted(
    network: Sequential,
    *,
    tokens: int | None,
    features: int | None = None,
    outputs: int,
    pooled: bool,
    bptt_steps: int | None = None,
) -> Sequential:
    """A copy of a network, time first, that gives logits.

    A `Softmax` or `LogSoftmax` at its end is left out: the softmax of what comes before is the same. One
    logit before a `Sigmoid` becomes two, for two classes, of which the first is always 0 before training.

    Parameters
    ----------
    network : Sequential
    tokens, features : int or None
        How many different tokens there are; or, where steps are none, the features of one.
    outputs : int
        The logits that are wanted,
    pooled : bool
        of each sequence, or else of each step.
    bptt_steps : int, optional
        As of `Sequential`, if `pooled`.

    Raises
    ------
    ValueError
        If it takes or gives anything else.
    """
    network = copy.deepcopy(network)
    for layer in network._row():
        if isinstance(layer, Recurrent):
            layer.batch_first = False
    parts: dict[str, Any] = _giving_logits(_remade(network.parts), outputs)
    for name in {"training", "learned"} & parts.keys():
        raise ValueError(f"network must have no part named {name!r}: in a model's file that is no part")
    made = Sequential(bptt_steps=bptt_steps if pooled else None, **parts)
    row = made._row()
    if any(isinstance(layer, Pooling) for layer in row) != pooled:
        each, hint = ("sequence", "needs") if pooled else ("step", "must not have")
        raise ValueError(f"network must give logits for each {each}: it {hint} Last, Mean or Max")
    end = next((layer for layer in reversed(row) if not isinstance(layer, Dropout)), None)
    if isinstance(end, (Softmax, LogSoftmax, Sigmoid)):
        hint = "; for two classes a Sigmoid goes after Linear(..., 1)" if isinstance(end, Sigmoid) else ""
        raise ValueError(f"network must give logits: {end!r} at its end must be left out{hint}")
    if made._features[1] != outputs:
        hint = "; of two, one logit will do if Sigmoid() follows" if outputs == 2 else ""
        raise ValueError(f"network must give {outputs} logits, one for each, got {made._features[1]}{hint}")
    _require_takes(made, tokens, features)
    return made


def reorder(network: Sequential, order: Any) -> None:
    """Change the order of a network's outputs."""
    mixing = [layer for layer in network._row() if layer._mixes]
    if not isinstance(mixing[-1], Linear):
        raise ValueError(f"classes must be sorted if a network ends in {mixing[-1]!r}, not in Linear")
    for array in mixing[-1].parameters.values():
        array[...] = array[order]


def _remade(parts: Mapping[str, Layer]) -> dict[str, Layer]:
    """Each `Sequential` anew, as its recurrent layers are time first now."""
    return {
        name: _sequential(_remade(layer.parts)) if type(layer) is Sequential else layer
        for name, layer in parts.items()
    }


def _sequential(parts: dict[str, Any]) -> Sequential:
    return Sequential(**parts)


def _giving_logits(parts: Mapping[str, Layer], outputs: int) -> dict[str, Layer]:
    *before, (name, last) = parts.items()
    if type(last) is Sequential and last.parts:
        return {**parts, name: _sequential(_giving_logits(last.parts, outputs))}
    if isinstance(last, (Softmax, LogSoftmax)):
        return dict(before)
    one = before[-1][1] if before else None
    if isinstance(last, Sigmoid) and outputs == 2 and isinstance(one, Linear) and one.out_features == 1:
        two = Linear(one.in_features, 2, bias=one.bias, dtype=one.dtype)
        for array, logit in zip(two.parameters.values(), one.parameters.values(), strict=True):
            array[0], array[1] = 0, logit[0]
        return dict(before) | {before[-1][0]: two}
    return dict(parts)


def _require_takes(network: Sequential, tokens: int | None, features: int | None) -> None:
    row, known = network._row(), tokens_of(network)
    first = next((layer for layer in row if layer._features != (None, None)), row[0])
    if tokens is None:
        if known is not None:
            raise ValueError(f"n_tokens must be {known}, as many as the network takes, got None")
        if first._features[0] not in (None, features):
            raise ValueError(f"network takes {first._features[0]} features, got X with {features}")
    elif known is None and not isinstance(first, Recurrent):
        raise ValueError(f"network must begin with Embedding or a recurrent layer for tokens, got {first!r}")
    elif tokens != (known or first._features[0]):
        raise ValueError(f"network takes {known or first._features[0]} different tokens, got {tokens}")
