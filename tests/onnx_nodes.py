"""ONNX models made node by node, for tests of what reads them."""

import numpy as np
import pytest

from fastrnn.interop import from_onnx

onnx = pytest.importorskip("onnx")

T, B, I, H = 5, 3, 4, 3
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def node(op, inputs, outputs, name="", **attributes):
    made = onnx.helper.make_node(op, inputs.split(), outputs.split(), name=name, **attributes)
    made.input[:] = ["" if each == "-" else each for each in made.input]
    return made


def info(name, shape, kind=FLOAT):
    return onnx.helper.make_tensor_value_info(name, kind, shape)


def model(nodes, arrays=None, inputs=None, outputs=("y",), opset=17):
    """A model of nodes, with initializers by name."""
    tensors = [
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        inputs or [info("x", [None, None, I])],
        [info(name, None) for name in outputs],
        tensors,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def weights(op="GRU", D=1, seed=0, bias=True):
    rng, G = np.random.default_rng(seed), GATES[op]
    shapes = {"W": (D, G * H, I), "R": (D, G * H, H), "B": (D, 2 * G * H)}
    return {k: rng.normal(size=shape).astype("float32") for k, shape in shapes.items() if bias or k != "B"}


def gru(inputs="x W R B", outputs="y", name="gru_7", **attributes):
    return node("GRU", inputs, outputs, name, hidden_size=H, linear_before_reset=1, **attributes)


X = np.random.default_rng(1).normal(size=(T, B, I)).astype("float32")
PLAIN = weights()


def expected():
    return from_onnx(model([gru()], PLAIN))(X)
