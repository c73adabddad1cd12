"""ONNX graphs with something changed: what is read computes what ONNX Runtime does, all else is refused."""

import numpy as np
import pytest

from fastrnn.interop import from_onnx, to_onnx
from fastrnn.layers import GRU, LSTM, Last, Linear, Max, Mean, Reverse, Sequential, Tanh

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

T, B, I = 6, 3, 4
OPS = "Identity Transpose Squeeze Unsqueeze Gather Slice Split Add Mul Concat ReduceMean ReduceMax ReduceSum"
OPS = [*OPS.split(), "MatMul", "Relu", "Softmax", "Reshape", "GRU", "LSTM", "RNN"]


def networks():
    both = dict(bidirectional=True, seed=0)
    yield Sequential(LSTM(I, 3, **both), Last(), Linear(6, 2, seed=0))
    yield Sequential(LSTM(I, 4, **both), Linear(8, 3, seed=0), Tanh(), GRU(3, 4, seed=0), Mean())
    yield Sequential(Reverse(), GRU(I, 3, seed=0), Reverse(), Linear(3, 3, seed=0), Max())
    yield Sequential(GRU(I, 4, 2, batch_first=True, **both), Last(bidirectional=False))
    yield Sequential(LSTM(I, 3, batch_first=True, seed=0))


def mutated(model, rng):
    """A copy with another attribute, constant, operator, input or output."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph

    def any_of(some):
        return some[rng.integers(len(some))]

    for _ in range(rng.integers(1, 3)):
        node, what = any_of(graph.node), rng.integers(6)
        lists = [each for each in node.attribute if each.ints]
        small = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT64]
        if what == 0 and lists:
            each = any_of(lists)
            each.ints[:] = rng.permutation(list(each.ints)).tolist()
        elif what == 1 and small:
            tensor = any_of(small)
            array = onnx.numpy_helper.to_array(tensor).copy()
            array.reshape(-1)[rng.integers(array.size)] += rng.choice([-2, -1, 1, 2])
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        elif what == 2:
            node.op_type = any_of(OPS)
        elif what == 3:
            values = [each for other in graph.node for each in other.output if each]
            node.input[rng.integers(len(node.input))] = any_of(values)
        elif what == 4:
            values = [each for other in graph.node for each in other.output if each]
            graph.output[0].name = any_of(values)
        elif node.op_type in ("GRU", "LSTM"):
            changes = [
                ("direction", "reverse"),
                ("clip", 0.5),
                ("linear_before_reset", 0),
                ("input_forget", 1),
            ]
            name, value = any_of(changes)
            kept = [each for each in node.attribute if each.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
    graph.output[0].type.tensor_type.ClearField("shape")
    return model


def orders(y, shape):
    """y as a network may give it: ONNX has the directions before the batch."""
    turned = {4: [(0, 1, 2, 3), (0, 2, 1, 3)], 3: [(0, 1, 2), (1, 0, 2)]}.get(y.ndim, [tuple(range(y.ndim))])
    return [y.transpose(order).reshape(shape) for order in turned] if y.size == np.prod(shape) else []


def test_mutated_graphs_compute_the_same_or_are_refused(rng):
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    models, same = [to_onnx(network) for network in networks()], 0
    for count in range(400):
        model = mutated(models[count % len(models)], rng)
        name = model.graph.output[0].name
        try:
            network = from_onnx(model, output=name)
            session = runtime.InferenceSession(model.SerializeToString(), options)
            x = rng.normal(size=(B, T, I) if network.batch_first else (T, B, I)).astype("float32")
            (expected,) = session.run([name], {"x": x})
        except Exception as error:  # that of ONNX Runtime, where a graph is none
            assert type(error) is ValueError or type(error).__module__.startswith("onnxruntime"), repr(error)
            continue
        y = network(x)
        close = [np.allclose(y, each, atol=1e-4) for each in orders(expected, y.shape)]
        assert any(close), f"{count}: {network}"
        same += 1
    assert same > 50
