"""Through an ONNX graph node by node, as they stand: each value once, and subgraphs where they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn.interop.archive import Refusal
from fastrnn.interop.onnx_cells import INPUTS, KINDS, Cell, cell
from fastrnn.interop.onnx_chain import RULES, recurrent
from fastrnn.interop.onnx_constants import fold, fold_spread, once
from fastrnn.interop.onnx_file import SPARE, Budget, Model, Node, array_of, attributes_of, name_of, operator
from fastrnn.interop.onnx_quantized import lstm
from fastrnn.interop.onnx_signals import Axis, Broken, Link, Signal, Source, Spread, same

DYNAMIC = "com.microsoft.DynamicQuantizeLSTM"
DEEPEST = 30  # subgraphs within each other
MOST = 50_000  # nodes, of all graphs together


class Scope:
    """The values of a graph by name, and those of the graphs around it."""

    def __init__(self, graph: Any, model: Model, around: Scope | None = None) -> None:
        self.around, self._model = around, model
        self.values: dict[str, Any] = {}
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        if len(self._tensors) != len(graph.initializer):
            raise Refusal("two initializers have one name")
        for tensor in graph.sparse_initializer:
            self.values[tensor.values.name] = Broken(f"initializer {tensor.values.name!r} is sparse")

    def __contains__(self, name: str) -> bool:
        return name in self.values or name in self._tensors

    def known(self, name: str) -> bool:
        """Whether it is a name here or around."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope:
                return True
            scope = scope.around
        return False

    def value(self, name: str) -> Any:
        """Of a name that is known."""
        scope = self
        while name not in scope:
            assert scope.around is not None
            scope = scope.around
        if name not in scope.values:
            try:
                tensor = scope._tensors[name]
                scope.values[name] = array_of(tensor, f"initializer {name!r}", self._model.folder)
            except Refusal as error:
                scope.values[name] = Broken(str(error))
        return scope.values[name]

    def set(self, name: str, value: Any) -> None:
        """A new one."""
        if name in self:
            raise Refusal(f"two values have the name {name!r}")
        self.values[name] = value


class Walk:
    """Through a model.

    Parameters
    ----------
    model : Model
    alone : bool
        Whether each recurrent node is read by itself, whatever stands around it.

    Attributes
    ----------
    cells : dict of str to (Node, Cell)
        With `alone`: all recurrent nodes, by name.
    """

    def __init__(self, model: Model, alone: bool) -> None:
        self.model, self.alone = model, alone
        self.cells: dict[str, tuple[Node, Cell]] = {}
        self.budget = Budget("the constants that are computed", 2 * model.size + SPARE)
        self._left = MOST
        self.layers = Budget("the layers", 2 * model.size + SPARE)

    def graph(self) -> Scope:
        """The values of the model's graph."""
        scope = Scope(self.model.graph, self.model)
        for info in self.model.graph.input:
            if info.name not in scope:  # else it is an initializer: a default of old files
                scope.set(info.name, _input(info))
        self._nodes(self.model.graph, scope, 0)
        return scope

    def _nodes(self, graph: Any, scope: Scope, depth: int) -> None:
        if depth > DEEPEST:
            raise Refusal(f"more than {DEEPEST} subgraphs lie within each other")
        self._left -= len(graph.node)
        if self._left < 0:
            raise Refusal(f"it has more than {MOST:,} nodes")
        for place, proto in enumerate(graph.node):
            name = name_of(proto, place)
            label = f"node {name!r} ({proto.op_type})"
            for each in proto.input:
                if each and not scope.known(each):
                    raise Refusal(f"{label} takes {each!r}, which nothing before it gives")
            found = self._value(proto, name, label, scope, depth)
            if len(proto.output) == 1 and not isinstance(found, list):
                found = [found]
            elif isinstance(found, Broken):
                found = [found] * len(proto.output)
            for output, value in zip(proto.output, found, strict=False):
                if output:
                    scope.set(output, value)

    def _value(self, proto: Any, name: str, label: str, scope: Scope, depth: int) -> Any:
        """What a node gives: a value for each output, or only one; Broken where there is none."""
        op = operator(proto)
        try:
            attributes = attributes_of(proto, label)
        except Refusal as error:
            return Broken(str(error))
        values = [scope.value(each) if each else None for each in proto.input]
        node = Node(op, name, label, attributes, values, list(proto.output), self.model.opset)
        branches: dict[str, list[Any]] = {}
        if op == "If":
            branches = self._branches(node, scope, depth)
        elif self.alone:
            self._within(node, scope, depth)
        recurs = op in KINDS or op == DYNAMIC
        if recurs:
            given = [each for each in values[1:8] if isinstance(each, np.ndarray)]
            self.layers.spend(sum(once(each).nbytes for each in given))
        if recurs and self.alone:
            with _malformed(label):
                node = self._alone(node)
        try:
            with _malformed(label):
                if op in ("Loop", "Scan"):
                    raise node.refuse("control flow is not supported")
                for value in values:
                    if isinstance(value, Broken):
                        return value
                if op == "If":
                    return _taken(node, branches)
                return recurrent(self._as_floats(node)) if recurs else self._found(node)
        except Refusal as error:
            return Broken(str(error))

    def _found(self, node: Node) -> Any:
        """What a node gives that is not recurrent."""
        if all(value is None or isinstance(value, np.ndarray) for value in node.inputs):
            if node.op == "DequantizeLinear":
                self.layers.left += 4 * node.inputs[0].nbytes  # what comes of it
            return fold(node, self.budget)
        if all(value is None or isinstance(value, (np.ndarray, Spread)) for value in node.inputs):
            return fold_spread(node, self.budget)
        if node.op not in RULES:
            raise node.refuse("the operator is not supported in a row of layers")
        return RULES[node.op](node)

    def _as_floats(self, node: Node) -> Node:
        """A recurrent node as one of ONNX's own."""
        return lstm(node, self.budget) if node.op == DYNAMIC else node

    def _alone(self, node: Node) -> Node:
        """A recurrent node by itself: its weights must be known."""
        for place in (1, 2, 3, 7):
            if isinstance(node.get(place), Broken):
                raise node.refuse(f"{INPUTS[place]} is not known: {node.inputs[place].reason}")
        name, count = node.name, 1
        while name in self.cells:
            count += 1
            name = f"{node.name}_{count}"
        node = self._as_floats(node)
        self.cells[name] = node, cell(node)
        return node

    def _within(self, node: Node, scope: Scope, depth: int) -> None:
        """Through all subgraphs, whatever goes into them."""
        for key, graph in _graphs(node.attributes):
            inner = Scope(graph, self.model, scope)
            for info in graph.input:
                if info.name not in inner:
                    inner.set(info.name, Broken(f"{info.name!r} is an input of {key} of {node.label}"))
            self._nodes(graph, inner, depth + 1)

    def _branches(self, node: Node, scope: Scope, depth: int) -> dict[str, list[Any]]:
        """What the branches of an If give: of both, unless it is known which is taken."""
        found: dict[str, list[Any]] = {}
        for key, graph in _graphs(node.attributes):
            if key not in ("then_branch", "else_branch") or (not self.alone and _other(node) == key):
                continue
            inner = Scope(graph, self.model, scope)
            self._nodes(graph, inner, depth + 1)
            for info in graph.output:
                if not inner.known(info.name):
                    raise node.refuse(f"its {key} has no {info.name!r}")
            found[key] = [inner.value(info.name) for info in graph.output]
        return found


@contextlib.contextmanager
def _malformed(label: str) -> Iterator[None]:
    """Around what a node is made of: it may lack anything that its operator needs."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{label}: it is malformed: {error}") from None


def _other(node: Node) -> str | None:
    """The branch of an If that is not taken, if that is known."""
    condition = node.get(0)
    if not isinstance(condition, np.ndarray) or condition.size != 1:
        return None
    return "else_branch" if condition.item() else "then_branch"


def _taken(node: Node, branches: Mapping[str, list[Any]]) -> list[Any]:
    """What an If gives: of the branch that is taken, or of both, if that is the same."""
    given = [values for key, values in branches.items() if key != _other(node)]
    if len(given) != (1 if _other(node) else 2) or any(len(each) != len(node.outputs) for each in given):
        raise node.refuse("its branches do not give what it does")
    for first, second in zip(given[0], given[-1], strict=True):
        if first is not second and not same(first, second):
            raise node.refuse("which branch is taken depends on the input")
    return given[0]


def _graphs(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in attributes.items():
        for each in value if isinstance(value, list) else [value]:
            if hasattr(each, "initializer"):
                yield key, each


def _input(info: Any) -> Any:
    """What the graph is given under a name."""
    from onnx import TensorProto as T

    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return Broken(f"the graph's input {info.name!r} is no tensor with a known number of axes")
    known = {T.DOUBLE: "float64", T.INT32: "int32", T.INT64: "int64", T.BOOL: "bool"}
    known |= {T.FLOAT: "float32", T.FLOAT16: "float32", T.BFLOAT16: "float32"}
    known |= {T.UINT8: "uint8", T.INT8: "int8"}
    if kind.elem_type not in known:
        return Broken(f"the graph's input {info.name!r} is of a type that is not supported")
    axes = []
    for place, dim in enumerate(kind.shape.dim):
        size = dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
        axes.append(Axis(f"axis {place} of {info.name!r}", size))
    source = Source(info.name, tuple(axes), np.dtype(known[kind.elem_type]))
    link = Link(None, info.name, None, tuple(axes[-1:]), source, source.dtype)
    return Signal(link, tuple((axis,) for axis in axes))
