"""Layers of ours for those of Keras: what is exactly the same, and what is refused by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

from fastrnn.interop import layouts
from fastrnn.interop.keras_cells import WITH_CELL, Answers, Cells, Way, directions, variables
from fastrnn.interop.keras_graph import Node, node_of, short
from fastrnn.interop.keras_weights import Weights
from fastrnn.layers import (
    ELU,
    GELU,
    SELU,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    Layer,
    LeakyReLU,
    LogSoftmax,
    Masking,
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

#: By Keras's names.
ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "elu": ELU,
    "gelu": GELU,
    "leaky_relu": lambda: LeakyReLU(0.2),
    "log_softmax": LogSoftmax,
    "relu": ReLU,
    "selu": SELU,
    "sigmoid": Sigmoid,
    "silu": SiLU,
    "softmax": Softmax,
    "softplus": Softplus,
    "softsign": Softsign,
    "swish": SiLU,
    "tanh": Tanh,
}

#: Layers that are functions.
FUNCTIONS = {"Activation", "ReLU", "LeakyReLU", "ELU", "Softmax"}

#: Layers that do something in training only, which no layer of ours does.
NOISE = {"SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"}

#: Options that act in training only, as they are where they do not.
TRAINING = {"dropout": 0, "recurrent_dropout": 0, "noise_shape": None, "trainable": True}

#: All options that some version of Keras has, and those that end so: whatever another one does is not known.
OPTIONS = {
    *"activation alpha autocast axis backward_layer batch_input_shape batch_shape batch_size cell".split(),
    *"cells consume_less data_format dropout dtype go_backwards implementation input_dim".split(),
    *"input_length input_shape input_tensor keepdims l1 l2 layer lora_alpha lora_rank mask_value".split(),
    *"mask_zero max_value merge_mode name negative_slope noise_shape optional output_dim".split(),
    *"quantization_config ragged rate recurrent_activation recurrent_dropout reset_after".split(),
    *"return_sequences return_state seed shape sparse stateful stddev threshold time_major".split(),
    *"trainable unit_forget_bias units unroll use_bias use_cudnn weights zero_output_for_mask".split(),
}
ENDINGS = ("_initializer", "_regularizer", "_constraint")

RECURRENT = {"Bidirectional", *WITH_CELL}

#: What computes as float32 or float64 does, but for rounding.
POLICIES = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")

Found = Iterator[tuple[str, Layer]]  # how the names of layers end, and the layers


class Reader:
    """Makes layers of the nodes of a model.

    Parameters
    ----------
    nodes : iterable of Node
    weights : Weights
    answers : Answers

    Attributes
    ----------
    training, yours : dict of str to None
        What is left out because it is of training only, and what is the user's to do, in order.
    """

    def __init__(self, nodes: Iterable[Node], weights: Weights, answers: Answers) -> None:
        self.nodes = list(nodes)
        self.weights = weights
        self.answers = answers
        self.training: dict[str, None] = {}
        self.yours: dict[str, None] = {}
        policies = [_policy(node, options) for node in self.nodes for options in variables(node)]
        self.dtype = "float64" if "float64" in policies else "float32"
        self._cells = Cells(weights, answers, self.dtype)
        self._parts: dict[str, Any] = {}
        self._masking: Node | None = None  # which layer masks steps
        self._masked = False  # whether some are at this place
        self._last: Node | None = None  # the recurrent layer before it
        self._fill = "hold"  # what that gives for a masked step
        self._pooled = False

    def recurrent(self) -> dict[str, Recurrent[Any]]:
        """All recurrent layers, by their names."""
        found: dict[str, Recurrent[Any]] = {}
        for node in self.nodes:
            self._note(node)
            told = directions(node)[0] if node.kind == "Bidirectional" else node
            mode = node.options.get("merge_mode", "concat")
            if told.option("go_backwards", bool, False):
                self.yours[f"reverse the steps before {node.name!r}, which has go_backwards=True"] = None
            if mode != "concat":
                self.yours[f"merge the halves of {node.name!r}, which has merge_mode={short(mode)}"] = None
            layers = self._cells.layers(node)
            for place, layer in enumerate(layers):
                found["/".join(node.names) + (f"/{place}" if len(layers) > 1 else "")] = layer
        return found

    def network(self) -> Sequential:
        """All layers."""
        for node in self.nodes:
            if node.own is not None:
                raise node.unsupported(f"is a class of somebody's own, {node.own}")
            if self._masking is not None and self._masked and node.names[:-1] != self._masking.names[:-1]:
                raise node.unsupported(f"is in another model than {self._masking.name!r}, which masks")
            for ending, layer in self._layers(node, node, []):
                self._parts[layouts.part_name("/".join(node.names) + ending, self._parts)] = layer
            self._note(node)
        for node, after in pairwise(self.nodes):
            dtype = str(node.options.get("dtype"))
            of_tokens = after.kind in ("InputLayer", "Embedding") and dtype != "bool"
            if node.kind == "InputLayer" and dtype.startswith(("int", "uint", "bool")) and not of_tokens:
                raise node.unsupported(f"makes {dtype} of what it gets, and {after.name!r} takes floats")
        return Sequential(**self._mask(), **self._parts)

    def _mask(self) -> dict[str, Any]:
        """What comes first where steps are masked."""
        node, value = self._masking, 0.0
        if node is None:
            return {}
        if node.kind == "Masking":
            value = node.option("mask_value", float, 0.0)
        if self._last is None:  # nothing skips a step
            if value:
                raise node.unsupported("is followed by no layer that skips steps")
            return {}
        if not self._pooled and self._last.kind == "Bidirectional" and self.answers.before(2, 4):
            raise self._last.unsupported("is of a Keras before 2.4, which fills masked steps otherwise")
        name = layouts.part_name("/".join(node.names) + "_mask", self._parts)
        return {name: Masking(value, fill=self._fill)}

    def _note(self, node: Node) -> None:
        """What is of training only, of a layer and of all that is in it; and what the user is to do."""
        for options in variables(node):
            for key, value in options.items():
                if key not in OPTIONS and not key.endswith(ENDINGS) and value not in (None, False):
                    raise node.unsupported(f"has {key}={short(value)}, which no known version of Keras has")
                usual = None if key.endswith(("_regularizer", "_constraint")) else TRAINING.get(key, value)
                if value != usual:
                    self.training[f"{key}={short(value)} of {node.name!r}"] = None
            if options.get("stateful"):
                self.yours[f"pass state= and return_state=True on, as {node.name!r} has stateful=True"] = None

    def _layers(self, node: Node, owner: Node, way: Way) -> Found:
        """Those of a node, whose variables are its own or those of a wrapper."""
        kind = node.kind
        if kind == "InputLayer":
            _require_usual(node, sparse=False, ragged=False)
        elif kind in RECURRENT and owner is node:
            yield from self._recurrent(node)
        elif kind == "Dense":
            yield from self._dense(node, owner, way)
        elif kind == "Dropout":
            rate = node.option("rate", float)
            if not 0 <= rate <= 1:
                raise node.wrong(f"has rate={short(rate)}, which is no share")
            yield "", Dropout(rate)
        elif kind in FUNCTIONS:
            for layer in self._function(node):
                yield "", layer
        elif kind in NOISE:
            self.training[f"{kind} {node.name!r}"] = None
        elif kind == "TimeDistributed" and owner is node:
            inner = node.within("layer", "layer")
            if inner.own is not None or inner.kind not in ("Dense", "Dropout", *FUNCTIONS):
                raise node.unsupported(f"wraps a {inner.own or inner.kind}")
            yield from self._layers(inner, node, [("layer", "")])
        elif kind == "Embedding" and owner is node:
            yield "", self._embedding(node)
            if node.option("mask_zero", bool, False):
                self._masking, self._masked = node, True
        elif kind == "Masking" and owner is node:
            if self._parts or self._masking is not None:
                raise node.unsupported("masks what other layers give")
            self._masking, self._masked = node, True
        elif kind in ("GlobalAveragePooling1D", "GlobalMaxPooling1D") and owner is node:
            yield "", self._pooling(node)
        elif kind == "Flatten" and self._pooled:
            return  # one vector is flat
        else:
            raise node.unsupported("is no layer that fastrnn has")

    def _recurrent(self, node: Node) -> Found:
        told = directions(node)[0] if node.kind == "Bidirectional" else node
        _require_usual(told, return_state=False, time_major=False)
        sequences = told.option("return_sequences", bool, False)
        backwards = told.option("go_backwards", bool, False)
        zeros = told.option("zero_output_for_mask", bool, False)
        if node.kind == "Bidirectional":
            zeros = sequences
        if self._masked:
            if backwards and sequences:
                raise node.unsupported("has go_backwards=True and gives sequences, whose mask is not turned")
            if told.option("unroll", bool, False) and node.kind == "Bidirectional" and sequences:
                raise node.unsupported("has unroll=True, with which Keras fills other steps than the masked")
            if zeros and not sequences:
                raise node.unsupported("has zero_output_for_mask=True, but not return_sequences=True")
        self._last, self._fill = node, "zeros" if zeros else "hold"
        if backwards:
            yield "_reverse", Reverse()
        layers = self._cells.layers(node)
        for place, layer in enumerate(layers):
            yield (f"_{place}" if len(layers) > 1 else ""), layer
        if not sequences:
            yield "_last", Last()
            self._end()
        if node.kind == "Bidirectional":
            mode = node.options.get("merge_mode", "concat")
            if mode not in ("concat", "sum", "mul", "ave"):
                raise node.unsupported(f"has merge_mode={short(mode)}")
            if mode != "concat":
                yield "_merge", Merge(mode)

    def _end(self) -> None:
        """There are no steps any more."""
        self._pooled, self._masked = True, False

    def _pooling(self, node: Node) -> Layer:
        _require_usual(node, data_format="channels_last", keepdims=False)
        if node.kind == "GlobalMaxPooling1D" and self._masked:
            raise node.unsupported("does not know which steps are masked, and takes them too")
        if self._last is None:  # which is what tells a `Sequential` that the batch is first
            raise node.unsupported("is in a model without a recurrent layer")
        self._end()
        return Mean() if node.kind == "GlobalAveragePooling1D" else Max()

    def _embedding(self, node: Node) -> Embedding:
        arrays = self.weights.of(node, ("embeddings",))
        shape = node.option("input_dim", int), node.option("output_dim", int)
        self._require(node, arrays, [shape])
        return layouts.embedding(arrays[0], self.dtype)

    def _dense(self, node: Node, owner: Node, way: Way) -> Found:
        biased, units = node.option("use_bias", bool, True), node.option("units", int)
        arrays = self.weights.of(owner, ("kernel", "bias"), way)
        features = arrays[0].shape[0] if arrays and arrays[0].ndim else 0
        self._require(node, arrays, [(features, units), (units,)][: 1 + biased])
        bias = arrays[1] if biased else None
        yield "", layouts.linear(arrays[0].T, bias, self.dtype)
        for layer in self._activation(node, node.options.get("activation")):
            yield "_activation", layer

    def _require(self, node: Node, arrays: list[Any], shapes: list[tuple[int, ...]]) -> None:
        """Refuse arrays of other shapes, and such as are something else than floats."""
        _require_usual(node, quantization_config=None, lora_rank=None)
        found = [array.shape for array in arrays]
        if found != shapes or any(0 in shape for shape in shapes):
            raise node.wrong(f"has weights of shapes {found}, its options say {shapes}")

    def _activation(self, node: Node, given: Any) -> Iterator[Layer]:
        """A function by its name, or a layer that is one."""
        if isinstance(given, dict) and isinstance(given.get("config"), dict):
            inner = node_of(given, node.names, ())
            if inner.own is None and inner.kind in FUNCTIONS:
                yield from self._function(inner)
                return
        if given == "hard_sigmoid":
            version = self.answers.hard_sigmoid(node, "activation")
            yield HardSigmoid(slope=0.2) if version == 2 else HardSigmoid()
        elif isinstance(given, str) and given in ACTIVATIONS:
            yield ACTIVATIONS[given]()
        elif given not in (None, "linear"):
            told = given.get("config", given) if isinstance(given, dict) else given
            raise node.unsupported(f"has activation={short(told)}")

    def _function(self, node: Node) -> Iterator[Layer]:
        if node.kind == "Activation":
            yield from self._activation(node, node.options.get("activation"))
        elif node.kind == "ELU":
            yield ELU(node.option("alpha", float, 1.0))
        elif node.kind == "LeakyReLU":  # alpha is what Keras 2 calls it
            key = "negative_slope" if "negative_slope" in node.options else "alpha"
            yield LeakyReLU(node.option(key, float))
        elif node.kind == "ReLU":
            slope = node.option("negative_slope", float, 0.0)
            _require_usual(node, max_value=None, threshold=0)
            yield LeakyReLU(slope) if slope else ReLU()
        else:
            _require_usual(node, axis=-1)
            if self._masked:
                raise node.unsupported("takes the mask of steps for one of features")
            yield Softmax()


def _require_usual(node: Node, **usual: Any) -> None:
    """Refuse options that have other values than these."""
    for key, value in usual.items():
        if node.options.get(key, value) != value:
            raise node.unsupported(f"has {key}={short(node.options[key])}")


def _policy(node: Node, options: dict[str, Any]) -> str:
    """The numbers with which a layer computes."""
    given = options.get("dtype")
    if isinstance(given, dict) and isinstance(given.get("config"), dict):
        given = given["config"].get("name")
    if node.kind == "InputLayer" or options.get("dtype") is None:
        return "float32"
    if given not in POLICIES:
        raise node.unsupported(f"has dtype {short(given)}")
    return str(given)
