"""Cells against ONNX Runtime and the node tests that ONNX comes with: the forms that PyTorch has not.

ONNX has the gates of an LSTM in the order i o f c, those of a GRU as z r h; weights of both directions lie
side by side, and so do the two biases. What it calls ``clip`` is "applied to the input of activations"; as in
ONNX Runtime c_t is not among them.
"""

import importlib

import numpy as np
import pytest

from fastrnn import functional

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

T, B, I, H = 6, 4, 3, 5

ORDER = {"RNN": "h", "LSTM": "iofg", "GRU": "zrn"}  # ONNX's, by our letters
OURS = {"RNN": "h", "LSTM": "ifgo", "GRU": "rzn"}


def by_gates(op, array):
    """Rows of ours in ONNX's order."""
    blocks = dict(zip(OURS[op], np.split(array, len(OURS[op])), strict=True))
    return np.concatenate([blocks[gate] for gate in ORDER[op]])


def in_onnx(op, x, directions, states, lengths, peephole, **attributes):
    """Y and the last states, of ONNX Runtime."""
    inputs = {
        "X": x,
        "W": np.stack([by_gates(op, each["w_ih"]) for each in directions]),
        "R": np.stack([by_gates(op, each["w_hh"]) for each in directions]),
        "B": np.stack(
            [np.concatenate([by_gates(op, each["b_ih"]), by_gates(op, each["b_hh"])]) for each in directions]
        ),
        "sequence_lens": np.array(lengths, np.int32),
        "initial_h": np.stack([state[0] for state in states]),
    }
    if op == "LSTM":
        inputs["initial_c"] = np.stack([state[1] for state in states])
    if peephole is not None:
        i, f, o = np.split(peephole, 3, axis=-1)
        inputs["P"] = np.concatenate([i, o, f], axis=-1)
    helper, outputs = onnx.helper, ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    infos = [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in inputs.items()]
    wanted = [helper.make_tensor_value_info(name, kinds["X"], None) for name in outputs]
    node = helper.make_node(op, list(inputs), outputs, hidden_size=H, **attributes)
    graph = helper.make_graph([node], "cell", infos, wanted)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


# Of each operator our options, and its attributes; of activations ONNX's names, by ours, with their alpha.
CASES = {
    "gru, reset before": ("GRU", {"reset_after": False}, {}),
    "gru, reset after": ("GRU", {}, {"linear_before_reset": 1}),
    "gru, reset before, clip": ("GRU", {"reset_after": False, "clip": 0.6}, {"clip": 0.6}),
    "gru, activations": (
        "GRU",
        {"reset_after": False, "gate_activation": "hard_sigmoid", "activation": "relu", "clip": 2.0},
        {"activations": ["HardSigmoid", "Relu"], "clip": 2.0},
    ),
    "gru, reset after, activations": (
        "GRU",
        {"gate_activation": "hard_sigmoid_6", "activation": "linear", "clip": 0.7},
        {
            "linear_before_reset": 1,
            "activations": ["HardSigmoid", "Affine"],
            "activation_alpha": [1 / 6, 1.0],
            "activation_beta": [0.5, 0.0],
            "clip": 0.7,
        },
    ),
    "lstm": ("LSTM", {}, {}),
    "lstm, peephole": ("LSTM", {"peephole": True}, {}),
    "lstm, coupled": ("LSTM", {"coupled": True}, {"input_forget": 1}),
    "lstm, clip": (
        "LSTM",
        {"clip": 0.3, "activation": "relu"},
        {"clip": 0.3, "activations": ["Sigmoid", "Relu", "Tanh"]},
    ),
    "lstm, clip, coupled": ("LSTM", {"clip": 1.2, "coupled": True}, {"clip": 1.2, "input_forget": 1}),
    "lstm, all": (
        "LSTM",
        {
            "peephole": True,
            "coupled": True,
            "clip": 1.2,
            "gate_activation": "hard_sigmoid",
            "activation": "linear",
            "output_activation": "relu",
        },
        {
            "input_forget": 1,
            "clip": 1.2,
            "activations": ["HardSigmoid", "Affine", "Relu"],
            "activation_alpha": [0.2, 1.0],
            "activation_beta": [0.5, 0.0],
        },
    ),
    "rnn, sigmoid": ("RNN", {"nonlinearity": "sigmoid"}, {"activations": ["Sigmoid"]}),
    "rnn, hard sigmoid": ("RNN", {"nonlinearity": "hard_sigmoid"}, {"activations": ["HardSigmoid"]}),
    "rnn, relu, clip": ("RNN", {"nonlinearity": "relu", "clip": 0.4}, {"activations": ["Relu"], "clip": 0.4}),
}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "options", "attributes"), CASES.values(), ids=CASES)
def test_equals_onnx_runtime(backend, op, options, attributes, direction):
    rng, G = np.random.default_rng(0), len(OURS[op])

    def normal(*shape):
        return rng.normal(size=shape).astype("float32")

    count = 2 if direction == "bidirectional" else 1
    x, lengths = normal(T, B, I), np.array([6, 2, 4, 1])
    names = ("w_ih", "w_hh", "b_ih", "b_hh")
    shapes = (G * H, I), (G * H, H), (G * H,), (G * H,)
    directions = [
        {name: normal(*shape) for name, shape in zip(names, shapes, strict=True)} for _ in range(count)
    ]
    states = [normal(2 if op == "LSTM" else 1, B, H) / 4 for _ in range(count)]
    options = dict(options)
    peephole = normal(count, 3 * H) if options.pop("peephole", False) else None
    doubled = {
        name: value * count if isinstance(value, list) else value for name, value in attributes.items()
    }
    Y, *last = in_onnx(op, x, directions, states, lengths, peephole, direction=direction, **doubled)
    for k, weights in enumerate(directions):
        own = {} if peephole is None else {"peephole": peephole[k]}
        state = tuple(states[k]) if op == "LSTM" else states[k][0]
        reverse = direction == "reverse" or k == 1
        function = getattr(functional, op.lower())
        y, state_n = function(x, **weights, state=state, lengths=lengths, reverse=reverse, **options, **own)
        np.testing.assert_allclose(y, Y[:, k], atol=2e-6)
        for ours, theirs in zip(state_n if op == "LSTM" else [state_n], last, strict=True):
            np.testing.assert_allclose(ours, theirs[k], atol=2e-6)


def node_tests():
    """The recurrent ones of ONNX's own backend tests, with their inputs and outputs."""
    node = pytest.importorskip("onnx.backend.test.case.node")
    for op in ORDER:
        importlib.import_module(f"{node.__name__}.{op.lower()}")  # which makes them
    for case in node._NodeTestCases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in ORDER:
            yield case.name, nodes[0], *case.data_sets[0]


@pytest.mark.filterwarnings("ignore")
def test_equals_onnxs_own_node_tests(backend):
    cases = list(node_tests())
    assert len(cases) >= 8
    for name, node, inputs, outputs in cases:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        assert attributes.keys() <= {"hidden_size", "layout", "direction", "linear_before_reset"}, name
        given = dict(zip(filter(None, node.input), inputs, strict=True))
        names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
        by_role = {role: given[name] for role, name in zip(names, node.input, strict=False) if name}
        found = dict(zip(filter(None, node.output), outputs, strict=True))
        _check_node(node.op_type, attributes, by_role, found, name)


def _check_node(op, attributes, given, outputs, name):
    units, layout = attributes["hidden_size"], attributes.get("layout", 0)
    x = given["X"].swapaxes(0, 1) if layout else given["X"]
    order = [ORDER[op].index(gate) for gate in OURS[op]]
    for k in range(len(given["W"])):

        def ours(array):
            return np.concatenate([np.split(array, len(order))[place] for place in order])

        biases = np.split(given["B"][k], 2) if "B" in given else [None, None]
        b_ih, b_hh = (None if bias is None else ours(bias) for bias in biases)
        options = {}
        if "P" in given:
            i, o, f = np.split(given["P"][k], 3)
            options["peephole"] = np.concatenate([i, f, o])
        if op == "GRU" and not attributes.get("linear_before_reset", 0):
            options["reset_after"] = False
        state = given["initial_h"][k] if "initial_h" in given and op != "LSTM" else None
        if op == "LSTM" and "initial_h" in given:
            state = given["initial_h"][k], given["initial_c"][k]
        function = getattr(functional, op.lower())
        w_ih, w_hh = ours(given["W"][k]), ours(given["R"][k])
        reverse = attributes.get("direction", b"forward") == b"reverse" or k == 1
        y, state_n = function(x, w_ih, w_hh, b_ih, b_hh, state, reverse=reverse, **options)
        h = state_n[0] if op == "LSTM" else state_n
        assert h.shape[-1] == units
        for found, expected in outputs.items():
            if found == "Y":
                expected = expected[:, :, k].swapaxes(0, 1) if layout else expected[:, k]
                np.testing.assert_allclose(y, expected, atol=1e-5, err_msg=name)
            else:
                expected = expected[:, k] if layout else expected[k]
                last = h if found == "Y_h" else state_n[1]
                np.testing.assert_allclose(last, expected, atol=1e-5, err_msg=name)
