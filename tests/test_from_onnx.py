"""Networks from ONNX models: against ONNX's own node tests, ONNX Runtime and the exporters of others."""

import doctest
import importlib
import warnings

import numpy as np
import pytest

from fastrnn.interop import from_onnx
from fastrnn.interop import onnx as reader

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks

OPS = {"RNN": 1, "LSTM": 4, "GRU": 3}  # and their gates


def with_constants(model, arrays):
    """The model whose inputs of these names are initializers."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    others = [info for info in model.graph.input if info.name not in arrays]
    del model.graph.input[:]
    model.graph.input.extend(others)
    made = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model.graph.initializer.extend(made)
    return model


def node_tests():
    """ONNX's own, with inputs and outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = importlib.import_module("onnx.backend.test.case.node")
        for op in OPS:
            importlib.import_module(f"{node.__name__}.{op.lower()}")  # which makes them
        return [
            pytest.param(case.model, *case.data_sets[0], id=case.name)
            for case in node._NodeTestCases
            if case.model.graph.node[0].op_type in OPS
        ]


NODE_TESTS = node_tests()


def test_there_are_18_node_tests():
    assert len(NODE_TESTS) == 18


@pytest.mark.parametrize(("model", "inputs", "outputs"), NODE_TESTS)
def test_onnxs_own_node_tests(backend, model, inputs, outputs):
    (node,) = model.graph.node
    given = dict(zip(filter(None, node.input), inputs, strict=True))
    x, *constants = given
    states = {name for name in constants if name.startswith(("initial", "sequence"))}
    model = with_constants(model, {name: given[name] for name in constants if name not in states})
    lengths = {"lengths": given["sequence_lens"]} if "sequence_lens" in given else {}
    names = [info.name for info in model.graph.output]
    for name, expected in zip(names, outputs, strict=True):
        if name == "Y_c":
            with pytest.raises(ValueError, match="Y_c"):
                from_onnx(model, output=name)
            continue
        network = from_onnx(model, output=name)
        rest = [given[each] for each in sorted(states) if each.startswith("initial_h")]
        if node.op_type == "LSTM" and rest:
            rest = [(given["initial_h"], given["initial_c"])]
        y = network(given[x], **lengths, **({"state": (rest[0],)} if rest else {}))
        batch_first = any(each.name == "layout" and each.i for each in node.attribute)
        if name == "Y" and not batch_first:
            expected = expected.transpose(0, 2, 1, 3)
        if name == "Y_h" and not batch_first:
            expected = expected.transpose(1, 0, 2)
        np.testing.assert_allclose(y, expected.reshape(y.shape), atol=1e-5)


def test_examples_run():
    assert doctest.testmod(reader).failed == 0
