"""The layers that a Keras model's configuration describes, in the order in which something goes through them.

Nothing of it is executed, and no class is looked up by its name: what is not known here is refused later, by
whoever makes layers of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

MODELS = {"Sequential", "Functional", "Model"}  # have layers in them; the last is what Keras 2 had before

PACKAGES = ("keras", "tf_keras")  # whose classes are known

HINT = "layers=True reads the recurrent layers alone"

_ABSENT: Any = object()


class Node(NamedTuple):
    """A layer as a configuration describes it."""

    kind: str  # the name of its class
    name: str
    options: dict[str, Any]
    names: tuple[str, ...]  # its name after those of the models that it is in
    places: tuple[str, ...]  # where Keras 3 keeps its variables: groups within groups
    own: str | None  # what else than Keras has the class, if it is somebody's own

    def option(self, key: str, kind: type[T], default: Any = _ABSENT) -> T:
        """One of its options, of such a type: an int is a float too, and a bool is no int."""
        value = self.options.get(key, default)
        if value is _ABSENT:
            raise self.wrong(f"does not say its {key}")
        fits = isinstance(value, (int, float) if kind is float else kind)
        if isinstance(value, bool) and kind is not bool:
            fits = False
        if isinstance(value, float) and not math.isfinite(value):
            fits = False
        if not fits and value is not default:
            raise self.wrong(f"has {key}={short(value)}, which is no {kind.__name__}")
        found: T = value
        return found

    def within(self, key: str, place: str) -> Node:
        """The layer that a wrapper wraps, or the cell of a layer."""
        return node_of(self.option(key, dict), self.names, (*self.places, place))

    def wrong(self, what: str) -> ValueError:
        """What is wrong with it."""
        return ValueError(f"layer {('/'.join(self.names) or self.name)!r} ({self.kind}) {what}")

    def unsupported(self, what: str) -> ValueError:
        """What about it cannot be represented."""
        return self.wrong(f"{what}: that is not supported; {HINT}")


def short(value: Any) -> str:
    """A value as errors show it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def node_of(config: Any, around: tuple[str, ...], places: tuple[str, ...]) -> Node:
    """A layer, from what Keras wrote for it."""
    if not isinstance(config, dict):
        raise ValueError(f"{short(config)} is no description of a layer")
    kind, options = config.get("class_name"), config.get("config")
    if not isinstance(kind, str):
        raise ValueError(f"a layer's class_name must be a text, got {short(kind)}")
    options = {"layers": options} if isinstance(options, list) else options  # a Sequential of Keras 2.1
    if not isinstance(options, dict):
        raise ValueError(f"the config of a {kind} must be a JSON object, got {short(options)}")
    name = config.get("name", options.get("name", kind.lower()))
    if not isinstance(name, str):
        raise ValueError(f"the name of a {kind} must be a text, got {short(name)}")
    module, registered = str(config.get("module", "keras")), config.get("registered_name")
    theirs = module.partition(".")[0] in PACKAGES and registered in (None, "", kind)
    own = None if theirs else short(registered or config.get("module") or kind)
    return Node(kind, name, options, (*around, name), places, own)


def members(model: Node) -> list[tuple[Node, Any]]:
    """The layers of a model as they are listed, and each with where its input comes from."""
    counts: dict[str, int] = {}
    found: list[tuple[Node, Any]] = []
    for config in model.option("layers", list):
        place = place_of(config.get("class_name") if isinstance(config, dict) else None, counts)
        node = node_of(config, model.names, (*model.places, "layers", place))
        found.append((node, config.get("inbound_nodes")))
    if len({node.name for node, _ in found}) < len(found):
        raise model.wrong("has layers of one name, which nothing tells apart")
    return found


def chain(model: Node) -> Iterator[Node]:
    """The layers of a model in their order, those of models within it one by one.

    Raises
    ------
    ValueError
        If they do not form a chain.
    """
    if not _is_model(model):
        raise model.unsupported("is no Sequential and no functional model")
    for node in [node for node, _ in members(model)] if model.kind == "Sequential" else _functional(model):
        if _is_model(node):
            yield from chain(node)
        else:
            yield node


def everywhere(model: Node) -> Iterator[Node]:
    """All layers of a model and of the models within it, whatever way leads to them."""
    if has_layers(model):
        for node, _ in members(model):
            yield from everywhere(node)
    elif model.kind != "Bidirectional" and isinstance(model.options.get("layer"), dict):
        yield from everywhere(model.within("layer", "layer"))
    else:
        yield model


def has_layers(node: Node) -> bool:
    """Whether it is a model that describes its layers, which one of somebody's own may not."""
    return isinstance(node.options.get("layers"), list)


def _is_model(node: Node) -> bool:
    return node.kind in MODELS and node.own is None and "layers" in node.options


def place_of(kind: Any, counts: dict[str, int]) -> str:
    """Where Keras 3 keeps the variables of the next layer of a class, among layers of which some have been
    counted."""
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", str(kind)))
    place = re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()
    counts[place] = counts.get(place, -1) + 1
    return f"{place}_{counts[place]}" if counts[place] else place


class _Call(NamedTuple):
    """Where a layer's input comes from."""

    source: str
    mask: str | None  # whose result says what is masked


def _functional(model: Node) -> list[Node]:
    """The layers of a functional model from its input to its output, which nothing else may lead to."""
    listed = {node.name: (node, inbound) for node, inbound in members(model)}
    first, last = (_only(model, key) for key in ("input_layers", "output_layers"))
    order: list[Node] = []
    calls: dict[str, _Call] = {}
    name = last
    while name != first:
        if name not in listed or name in calls:
            raise model.wrong(f"has no way from its input {first!r} to its output {last!r}")
        node, inbound = listed[name]
        order.append(node)
        calls[name] = _call(node, inbound)
        name = calls[name].source
    if first not in listed or listed[first][0].kind != "InputLayer":
        raise model.wrong(f"has no InputLayer {first!r}")
    order.append(listed[first][0])
    order.reverse()
    masks = {}
    for name, (node, inbound) in listed.items():
        if name not in calls and name != first:
            if node.kind not in ("NotEqual", "Any"):
                raise node.unsupported("is beside the way from the model's input to its output")
            masks[name] = _mask(node, inbound)
    _require_implied(order, calls, masks)
    return order


def _only(model: Node, key: str) -> str:
    """The one input or output of a functional model: [name, 0, 0], or a list with one such."""
    tensors = model.option(key, list)
    tensors = [tensors] if tensors and isinstance(tensors[0], str) else tensors
    if len(tensors) != 1:
        raise model.unsupported(f"has {len(tensors)} {key}")
    return _tensor(model, tensors[0])


def _tensor(node: Node, tensor: Any) -> str:
    """Whose result a tensor is, which must be its first."""
    if isinstance(tensor, dict) and isinstance(tensor.get("config"), dict):
        tensor = tensor["config"].get("keras_history")
    if not isinstance(tensor, list) or len(tensor) < 3 or not isinstance(tensor[0], str):
        raise node.wrong(f"has an input that is no tensor, {short(tensor)}")
    if tensor[2] != 0:
        raise node.unsupported(f"takes output {short(tensor[2])} of layer {tensor[0]!r}")
    return tensor[0]


def _arguments(node: Node, inbound: Any) -> tuple[list[Any], dict[str, Any]]:
    """What a layer is called with: of Keras 3, or [[name, 0, 0, {}]] of Keras 2."""
    if not isinstance(inbound, list) or len(inbound) != 1:
        count = len(inbound) if isinstance(inbound, list) else 0
        raise node.unsupported(f"is used {count} times")
    call = inbound[0]
    if isinstance(call, dict):
        arguments, options = call.get("args"), call.get("kwargs", {})
    else:
        arguments = [call] if isinstance(call, list) and call and isinstance(call[0], str) else call
        first = arguments[0] if isinstance(arguments, list) and arguments else None
        options = first[3] if isinstance(first, list) and len(first) > 3 else {}
    if not isinstance(arguments, list) or not isinstance(options, dict):
        raise node.wrong(f"has an input that is no tensor, {short(call)}")
    return arguments, options


def _call(node: Node, inbound: Any) -> _Call:
    arguments, options = _arguments(node, inbound)
    mask = None
    for name, value in options.items():
        if name == "mask" and isinstance(value, dict):
            mask = _tensor(node, value)
        elif value is not None and value is not False:
            raise node.unsupported(f"is called with {name}={short(value)}")
    if len(arguments) == 1 and _is_list_of_tensors(arguments[0]):
        arguments = arguments[0]  # of a layer that takes a list
    if len(arguments) != 1:
        raise node.unsupported(f"is called with {len(arguments)} inputs")
    return _Call(_tensor(node, arguments[0]), mask)


def _is_list_of_tensors(argument: Any) -> bool:
    return isinstance(argument, list) and all(isinstance(each, dict) for each in argument)


def _mask(node: Node, inbound: Any) -> tuple[str, Any]:
    """Whose result a mask is made of, and what is compared with it, or None for "any of the features"."""
    arguments, options = _arguments(node, inbound)
    plain = all(value is None for value in options.values()) and 1 <= len(arguments) <= 2
    if node.kind == "Any":
        plain = plain and len(arguments) == 1 and node.options.get("axis") == -1
        plain = plain and not node.options.get("keepdims")
    if not plain:
        raise node.unsupported("is called in another way than Keras does for a mask")
    return _tensor(node, arguments[0]), arguments[1] if len(arguments) > 1 else None


def _require_implied(order: list[Node], calls: dict[str, _Call], masks: dict[str, tuple[str, Any]]) -> None:
    """Refuse masks other than those that `Embedding` and `Masking` make, which Keras 3 writes out."""
    implied: list[tuple[str, Any]] | None = None  # of which node, and what it is compared with
    for node in order[1:]:
        call = calls[node.name]
        if call.mask is not None:
            found: list[tuple[str, Any]] = []
            name = call.mask
            while name in masks and len(found) < 2:
                found.append(masks[name])
                name = masks[name][0]
            if (
                implied is None
                or [value for _, value in found] != [value for _, value in implied]
                or (found[-1][0] != implied[-1][0])
            ):
                raise node.unsupported("is given a mask that comes from no Embedding or Masking before it")
        if node.kind == "Embedding" and node.options.get("mask_zero"):
            implied = [(call.source, 0)]
        elif node.kind == "Masking":
            implied = [("", None), (call.source, node.options.get("mask_value", 0.0))]
