"""ONNX models that ONNX Runtime takes and that mean something else than layers of ours, however well their
shapes fit: they are refused."""

import numpy as np
import pytest
from tables import refused

from fastrnn.interop import from_onnx, to_onnx
from fastrnn.layers import LSTM, Last, Reverse, Sequential

onnx = pytest.importorskip("onnx")
H = 3  # as many as features, steps and sequences: every axis fits everywhere
FLOAT = 1


def node(op, inputs, outputs, **attributes):
    return onnx.helper.make_node(op, inputs.split(" "), outputs.split(" "), name=outputs, **attributes)


def model(
    nodes,
    constants=None,
    *,
    op="LSTM",
    direction="bidirectional",
    state="",
    first=(),
    x=("T", "B", H),
    **inputs,
):
    """A recurrent node x -> Y, Y_h, with nodes before and after it; the last one gives the output."""
    rng = np.random.default_rng(0)
    D, G = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3}[op]
    arrays = {
        "W": rng.normal(size=(D, G * H, H)).astype("float32"),
        "R": rng.normal(size=(D, G * H, H)).astype("float32"),
        "none": np.array([0], "int64"),
        "one": np.array([1], "int64"),
        "last": np.array([-1], "int64"),
        "half": np.full((1, 1, 1, 1), 0.5, "float32"),
        **(constants or {}),
    }
    cell = node(op, f"x W R  {state and ' '}{state}", "Y Y_h", hidden_size=H, direction=direction)
    helper = onnx.helper
    infos = [helper.make_tensor_value_info("x", FLOAT, x)]
    infos += [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [*first, cell, *nodes]
    last = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
    graph = helper.make_graph(nodes, "graph", infos, [last], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def turned(*perm):
    return node("Transpose", "Y", "turned", perm=perm)


def quantized(*nodes):
    return [
        node("Squeeze", "Y one", "y"),
        node("DynamicQuantizeLinear", "y", "q s zero"),
        node("MatMulInteger", "q integers zero", "product"),
        node("Cast", "product", "floats", to=FLOAT),
        node("Mul", "s scales", "scale"),
        *nodes,
    ]


WEIGHTS = {"integers": np.arange(9, dtype="int8").reshape(H, H), "scales": np.full((1,), 0.1, "float32")}
ALONE = {"direction": "forward"}
TWO_STATES = [node("Split", "h", "first second", axis=0)]
OTHER_GRU = [node("Squeeze", "Y one", "y"), node("GRU", "y W R   first", "Z", hidden_size=H)]

MODELS = {
    "directions after units": ([turned(0, 2, 3, 1)], {}, {}, "in another order"),
    "directions among units": (
        [turned(0, 2, 3, 1), node("Reshape", "turned shape", "z")],
        {"shape": np.array([0, 0, -1])},
        {},
        "in another order than its input: .*, the units, the directions",
    ),
    "directions among steps": (
        [node("Reshape", "Y shape", "z")],
        {"shape": np.array([6, 3, 3])},
        {"x": [H, H, H]},
        "in another order than its input: .*, the directions, axis 1",
    ),
    "a batch among units": (
        [node("Reshape", "Y_h shape", "z")],
        {"shape": np.array([0, -1])},
        {},
        "in another order than its input: the directions, axis 1 of 'x', the units",
    ),
    "the first step of both directions": (
        [node("Gather", "Y zero", "z", axis=0)],
        {"zero": np.array(0)},
        {},
        "node 'z' gives, the first step of both directions, is no layer",
    ),
    "an empty slice": ([node("Slice", "Y last none none", "z")], {}, {}, r"'z' \(Slice\): it takes -1:0:1"),
    "an empty slice backwards": (
        [node("Slice", "Y last end none last", "z")],
        {"end": np.array([2**62])},
        {},
        r"'z' \(Slice\)",
    ),
    "a third direction": (
        [node("Slice", "Y two three one", "z")],
        {"two": np.array([2]), "three": np.array([3])},
        {},
        r"'z' \(Slice\)",
    ),
    "a mean with more axes": (
        [node("ReduceSum", "Y one", "sum", keepdims=0), node("Mul", "sum half", "z")],
        {},
        {},
        r"'z' \(Mul\)",
    ),
    "a mean with a constant": (
        [node("ReduceSum", "Y one", "sum", keepdims=0), node("Mean", "sum number", "z")],
        {"number": np.array(0.5, "float32")},
        {},
        r"'z' \(Mean\): it is of what layers give and a constant",
    ),
    "a bias before the scale": (
        quantized(node("Add", "floats bias", "biased"), node("Mul", "biased scale", "z")),
        {**WEIGHTS, "bias": np.ones(H, "float32")},
        ALONE,
        r"'biased' \(Add\)",
    ),
    "a scale for each sequence": (
        quantized(node("Mul", "floats scale", "z")),
        {**WEIGHTS, "scales": np.ones((H, 1), "float32")},
        ALONE,
        r"'z' \(Mul\): a scale of shape \(3, 1\)",
    ),
    "a bias for each sequence": (
        [
            node("Squeeze", "Y one", "y"),
            node("MatMul", "y weight", "product"),
            node("Add", "product bias", "z"),
        ],
        {"weight": np.ones((H, 1), "float32"), "bias": np.ones((3, 1), "float32")},
        ALONE,
        r"'z' \(Add\): a bias of shape \(3, 1\)",
    ),
    "a state that is x": (
        [],
        {},
        {"op": "GRU", "state": "h", "first": [node("Slice", "x none one none", "h")], **ALONE},
        r"GRU\): initial_h must be constant or an input",
    ),
    "a state that is turned": (
        [],
        {},
        {"op": "GRU", "state": "t", "first": [node("Transpose", "h", "t", perm=[0, 2, 1])], "h": [1, 3, 3]}
        | ALONE,
        r"GRU\): initial_h must be constant or an input of the graph as it comes in",
    ),
    "states in another order": (
        OTHER_GRU,
        {},
        {"op": "GRU", "state": "second", "first": TWO_STATES, "h": [2, "B", H], **ALONE},
        "initial_h is not what comes next of 'h', layer by layer",
    ),
}


@refused("from_onnx", "rows of layers", "shapes that fit, with another meaning")
@pytest.mark.parametrize(("nodes", "constants", "options", "message"), MODELS.values(), ids=MODELS)
def test_what_means_something_else_is_refused(nodes, constants, options, message):
    runtime = pytest.importorskip("onnxruntime")
    made = model(nodes, constants, **options)
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {
        each.name: np.ones([n if isinstance(n, int) else H for n in each.shape], "float32")
        for each in session.get_inputs()
    }
    session.run(None, inputs)
    with pytest.raises(ValueError, match=message):
        from_onnx(made)


def test_states_in_order_are_those_of_a_call():
    nodes = [node("Squeeze", "Y one", "y"), node("GRU", "y W R   second", "Z", hidden_size=H)]
    made = model(nodes, op="GRU", state="first", first=TWO_STATES, h=[2, "B", H], **ALONE)
    runtime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(1)
    x, h = rng.normal(size=(4, 2, H)).astype("float32"), rng.normal(size=(2, 2, H)).astype("float32")
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    y = from_onnx(made)(x, state=(h[:1], h[1:]))
    np.testing.assert_allclose(y, session.run(None, {"x": x, "h": h})[0][:, 0], atol=1e-5)


def test_weights_cast_to_half_precision_are_rounded():
    cast = [node("Cast", "V", "half_V", to=10), node("Cast", "half_V", "W", to=FLOAT)]
    made = model([], op="GRU", first=cast, **ALONE)
    (tensor,) = (each for each in made.graph.initializer if each.name == "W")
    tensor.name = "V"
    array = onnx.numpy_helper.to_array(tensor)
    (layer,) = from_onnx(made, layers=True).values()
    rounded = np.sort(array.astype("float16").astype("float32").ravel())
    assert (np.sort(layer.parameters["weight_ih_l0"].ravel()) == rounded).all()


@pytest.mark.parametrize("lengths", [None, np.array([2, 4])])
def test_both_ends_of_what_is_reversed_are_one_layer(lengths, rng):
    network = Sequential(LSTM(H, 2, bidirectional=True, seed=0), Reverse(), Last(bidirectional=True))
    x = rng.normal(size=(4, 2, H)).astype("float32")
    again = from_onnx(to_onnx(network, lengths=lengths is not None))
    assert (again(x, lengths) == network(x, lengths)).all()
