"""Networks from ONNX models: against ONNX's own node tests, ONNX Runtime and the exporters of others."""

import doctest
import importlib
import warnings

import numpy as np
import pytest
from tables import works

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


@works("from_onnx", "RNN, LSTM, GRU", "the 18 node tests of ONNX")
@works("from_onnx", "RNN, LSTM, GRU", "forward, reverse, bidirectional; layout 0 and 1")
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


# -- beside ONNX Runtime

T, B, I, H = 5, 3, 4, 3

FUNCTIONS = {  # by what they are here: ONNX's name, alpha, beta
    "sigmoid": [("Sigmoid", None, None)],
    "tanh": [("Tanh", None, None), ("ScaledTanh", 1.0, 1.0)],
    "relu": [
        ("Relu", None, None),
        ("LeakyRelu", 0.0, None),
        ("ThresholdedRelu", 0.0, None),
        ("Elu", 0.0, None),
    ],
    "linear": [("Affine", 1.0, 0.0), ("LeakyRelu", 1.0, None)],
    "hard_sigmoid": [("HardSigmoid", 0.2, 0.5)],
    "hard_sigmoid_6": [("HardSigmoid", 1 / 6, 0.5)],
}


def node_model(op, weights, given, attributes, shapes, layout=0):
    """A model of one node, whose `weights` are initializers and whose `given` are inputs."""
    helper = onnx.helper
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    names = [name if name in {**weights, **given} else "" for name in order]
    while not names[-1]:
        names.pop()
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    attributes = {**attributes, **({"layout": 1} if layout else {})}
    node = helper.make_node(op, names, outputs, name=f"{op.lower()}_7", hidden_size=H, **attributes)
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
    infos = [
        helper.make_tensor_value_info(name, kinds[name], shapes(name, array)) for name, array in given.items()
    ]
    wanted = [helper.make_tensor_value_info(name, kinds["X"], None) for name in outputs]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph([node], "cell", infos, wanted, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def run(model, inputs, names=None):
    """The outputs of ONNX Runtime."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, inputs)


def functions_of(rng, op, directions):
    """Attributes that name functions, some of them in a roundabout way."""
    if rng.random() < 0.4:
        return {}
    gates = ["sigmoid", "hard_sigmoid", "hard_sigmoid_6"]
    others = ["tanh", "relu", "linear", "sigmoid"]
    picked = [
        rng.choice(others if op == "RNN" or k else gates) for k in range({"RNN": 1, "GRU": 2, "LSTM": 3}[op])
    ]
    found = [FUNCTIONS[name][rng.integers(len(FUNCTIONS[name]))] for name in picked] * directions
    attributes = {"activations": [name for name, _, _ in found]}
    for key, place in (("activation_alpha", 1), ("activation_beta", 2)):
        numbers = [each[place] for each in found if each[place] is not None]
        attributes |= {key: numbers} if numbers else {}
    return attributes


@works("from_onnx", "sequence_lens", "an input of the graph: the lengths of a call")
@works("from_onnx", "initial_h, initial_c", "inputs: the state of a call; constants: a learned state")
@works("from_onnx", "LSTM", "peepholes, input_forget, clip")
@works("from_onnx", "GRU", "linear_before_reset 0 and 1, clip")
@works("from_onnx", "activations", "Sigmoid, Tanh, Relu, HardSigmoid with alpha 1/5 and 1/6")
@works("from_onnx", "activations", "Affine, ScaledTanh, LeakyRelu, … that are equal to one of these")
@pytest.mark.parametrize("seed", range(96))
def test_equals_onnx_runtime(seed):
    rng = np.random.default_rng(seed)
    op, direction = ["RNN", "LSTM", "GRU"][seed % 3], ["forward", "reverse", "bidirectional"][seed // 3 % 3]
    D, G, layout = 2 if direction == "bidirectional" else 1, OPS[op], int(rng.integers(2))

    def normal(*shape):
        return rng.normal(size=shape).astype("float32")

    weights = {"W": normal(D, G * H, I), "R": normal(D, G * H, H)}
    given, options = {"X": normal(T, B, I)}, functions_of(rng, op, D)
    options["direction"] = direction
    if rng.random() < 0.7:
        weights["B"] = normal(D, 2 * G * H)
    if rng.random() < 0.5:
        given["sequence_lens"] = rng.integers(1, T + 1, B).astype("int32")
    if rng.random() < 0.4:
        options["clip"] = float(rng.uniform(0.3, 2))
    if op == "GRU":
        options["linear_before_reset"] = int(rng.integers(2))
    if op == "LSTM":
        options["input_forget"] = int(rng.integers(2))
        weights |= {"P": normal(D, 3 * H)} if rng.random() < 0.5 else {}
    members = ["initial_h", "initial_c"][: 1 + (op == "LSTM")]
    start = rng.choice(["none", "zeros", "constant", "input"])
    for name in members if start != "none" else ():
        state = np.zeros((D, B, H), "float32") if start == "zeros" else normal(D, B, H)
        if start == "constant":
            state[:] = state[:, :1]
        (given if start == "input" else weights)[name] = state

    def swapped(arrays):
        """With the batch first."""
        moved = {name: array.swapaxes(0, 1) for name, array in arrays.items() if name in ("X", *members)}
        return {**arrays, **moved} if layout else arrays

    def shapes(name, array):
        return array.shape if name == "sequence_lens" or rng.random() < 0.5 else [None] * array.ndim

    Y, Y_h, *_ = run(node_model(op, weights, given, options, lambda _, array: array.shape), given)
    Y = Y.transpose(0, 2, 1, 3).reshape(T, B, D * H)
    Y_h = Y_h.transpose(1, 0, 2).reshape(B, D * H)
    model = node_model(op, swapped(weights), swapped(given), options, shapes, layout)
    call = {"lengths": given["sequence_lens"]} if "sequence_lens" in given else {}
    if start == "input":
        state = tuple(given[name] for name in members)
        call["state"] = (state if op == "LSTM" else state[0],)
    for name, expected in (("Y", Y.swapaxes(0, 1) if layout else Y), ("Y_h", Y_h)):
        y = from_onnx(model, output=name)(swapped(given)["X"], **call)
        np.testing.assert_allclose(y, expected, atol=1e-5, err_msg=f"{op} {options} {start} {name}")
    (layer,) = from_onnx(model, layers=True).values()
    if direction == "reverse":
        y = layer(swapped(given)["X"], **call)
    else:
        y, _ = layer(swapped(given)["X"], *call.get("state", ()), lengths=call.get("lengths"))
    np.testing.assert_allclose(y, Y.swapaxes(0, 1) if layout else Y, atol=1e-5)
