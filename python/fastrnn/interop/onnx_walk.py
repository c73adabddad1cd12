"""Through an ONNX graph node by node, as they stand: each value once, and subgraphs where they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn.interop.archive import Refusal
from fastrnn.interop.onnx_cells import INPUTS, KINDS, Cell, cell
from fastrnn.interop.onnx_chain import recurrent
from fastrnn.interop.onnx_constants import fold, fold_spread
from fastrnn.interop.onnx_file import SPARE, Budget, Model, Node, array_of, attributes_of, name_of, operator
from fastrnn.interop.onnx_masks import RULES
from fastrnn.interop.onnx_signals import Axis, Broken, Link, Signal, Source, Spread, same

DEEPEST = 30  # subgraphs within each other


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
        if op not in KINDS and self.alone:
            self._within(attributes, scope, depth)
        values = [scope.value(each) if each else None for each in proto.input]
        node = Node(op, name, label, attributes, values, list(proto.output), self.model.opset)
        if op in KINDS:
            weights = values[1:4] + values[7:8]
            self.layers.spend(sum(each.nbytes for each in weights if isinstance(each, np.ndarray)))
            if self.alone:
                self._alone(node)
        try:
            for value in values:
                if isinstance(value, Broken):
                    return value
            if op == "If":
                return self._if(node, scope, depth)
            if op in KINDS:
                return recurrent(node)
            if all(value is None or isinstance(value, np.ndarray) for value in values):
                return fold(node, self.budget)
            if all(value is None or isinstance(value, (np.ndarray, Spread)) for value in values):
                return fold_spread(node, self.budget)
            if op not in RULES:
                raise node.refuse("the operator is not supported in a row of layers")
            return RULES[op](node)
        except Refusal as error:
            return Broken(str(error))

    def _alone(self, node: Node) -> None:
        """A recurrent node by itself: its weights must be known."""
        for place in (1, 2, 3, 7):
            if isinstance(node.get(place), Broken):
                raise node.refuse(f"{INPUTS[place]} is not known: {node.inputs[place].reason}")
        name, count = node.name, 1
        while name in self.cells:
            count += 1
            name = f"{node.name}_{count}"
        self.cells[name] = node, cell(node)

    def _within(self, attributes: Mapping[str, Any], scope: Scope, depth: int) -> None:
        """Through all subgraphs, whatever goes into them."""
        for key, graph in _graphs(attributes):
            inner = Scope(graph, self.model, scope)
            for info in graph.input:
                if info.name not in inner:
                    inner.set(info.name, Broken(f"{info.name!r} is an input of the subgraph {key}"))
            self._nodes(graph, inner, depth + 1)

    def _if(self, node: Node, scope: Scope, depth: int) -> Any:
        """What the branch gives that is taken; or both, if that is the same."""
        condition = node.inputs[0]
        known = isinstance(condition, np.ndarray) and condition.size == 1
        branches = ["then_branch", "else_branch"]
        if known:
            branches = branches[:1] if condition.item() else branches[1:]
        found = []
        for branch in branches:
            graph = node.option(branch, None)
            if graph is None or isinstance(graph, (int, float, str, list)):
                raise node.refuse(f"it has no {branch}")
            inner = Scope(graph, self.model, scope)
            self._nodes(graph, inner, depth + 1)
            names = [info.name for info in graph.output]
            for each in names:
                if not inner.known(each):
                    raise node.refuse(f"its {branch} has no {each!r}")
            found.append([inner.value(each) for each in names])
        for first, second in zip(found[0], found[-1], strict=False):
            if not same(first, second) and first is not second:
                raise node.refuse("which branch is taken depends on the input")
        return found[0]


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
