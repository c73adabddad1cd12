"""Weights in ONNX models that are computed, quantized, within subgraphs, or in files of their own."""

import os

import numpy as np
import pytest
from onnx_nodes import FLOAT, INT64, PLAIN, H, I, X, expected, gru, info, model, node, onnx
from tables import refused, works

from fastrnn.interop import from_onnx


def branches(condition):
    """W from the branch of an If that is taken."""
    other = onnx.numpy_helper.from_array(np.zeros_like(PLAIN["W"]), "zeros")
    taken = onnx.helper.make_graph([node("Identity", "V", "out")], "taken", [], [info("out", None)])
    left = onnx.helper.make_graph(
        [node("Identity", "zeros", "none")], "left", [], [info("none", None)], [other]
    )
    then, rest = (taken, left) if condition else (left, taken)
    return node("If", "c", "W", then_branch=then, else_branch=rest)


Z, R_, N = np.split(PLAIN["W"], 3, axis=1)  # ONNX's z r h
CONSTANTS = {
    "Constant nodes": ([node("Constant", "", "W", value=onnx.numpy_helper.from_array(PLAIN["W"]))], {}),
    "Transpose": ([node("Transpose", "V", "W", perm=[0, 2, 1])], {"V": PLAIN["W"].transpose(0, 2, 1)}),
    "Slice, Concat": (
        [
            node("Slice", "V s e a", "n"),
            node("Slice", "V e m a", "r"),
            node("Slice", "V m z a t", "z1"),
            node("Concat", "z1 r n", "W", axis=1),
        ],
        {
            "V": np.concatenate([N, R_, Z], 1),
            **{
                key: np.array([v])
                for key, v in {"s": 0, "e": H, "m": 2 * H, "z": 2**62, "a": 1, "t": 1}.items()
            },
        },
    ),
    "Squeeze, Unsqueeze": (
        [node("Squeeze", "V a", "v"), node("Unsqueeze", "v b", "W")],
        {"V": PLAIN["W"][:, :, None], "a": np.array([0, 2]), "b": np.array([0])},
    ),
    "Gather": ([node("Gather", "V i", "W", axis=1)], {"V": PLAIN["W"][:, ::-1], "i": np.arange(3 * H)[::-1]}),
    "Cast, Identity": (
        [node("Cast", "V", "v", to=FLOAT), node("Identity", "v", "W")],
        {"V": PLAIN["W"].astype("float64")},
    ),
    "Split, Reshape": (
        [
            node("Split", "V", "z r n", axis=1),
            node("Concat", "r z n", "w", axis=1),
            node("Reshape", "w s", "W"),
        ],
        {"V": np.concatenate([R_, Z, N], 1).reshape(-1, 3 * H, I), "s": np.array([1, -1, I])},
    ),
    "arithmetic": (
        [node("Add", "V V", "v"), node("Mul", "v h", "u"), node("Sub", "u o", "w"), node("Div", "w f", "W")],
        {"V": PLAIN["W"], "h": np.float32(0.5), "o": np.zeros(1, "float32"), "f": np.float32(1)},
    ),
    "Shape, ConstantOfShape, Where, Equal": (
        [
            node("Shape", "V", "s"),
            node("ConstantOfShape", "s", "zero"),
            node("Equal", "zero zero", "same"),
            node("Where", "same V zero", "W"),
        ],
        {"V": PLAIN["W"]},
    ),
    "branches of an If whose condition is constant": (
        [branches(True)],
        {"V": PLAIN["W"], "c": np.array(True)},
    ),
    "branches of an If whose condition is computed": (
        [
            node("Constant", "", "k", value_int=0),
            node("Cast", "k", "c", to=onnx.TensorProto.BOOL),
            branches(False),
        ],
        {"V": PLAIN["W"]},
    ),
}


@pytest.mark.parametrize(
    ("nodes", "arrays"),
    [
        pytest.param(*case, id=name, marks=works("from_onnx", "weights computed from constants", name))
        for name, case in CONSTANTS.items()
    ],
)
def test_weights_computed_from_constants(nodes, arrays):
    rest = {name: array for name, array in PLAIN.items() if name != "W"}
    computed = model([*nodes, gru()], rest | arrays)
    np.testing.assert_array_equal(from_onnx(computed)(X), expected())
    ((name, layer),) = from_onnx(computed, layers=True).items()
    assert name == "gru_7"
    np.testing.assert_array_equal(layer(X)[0], expected())


@pytest.mark.parametrize("axis", [pytest.param(None, id="one"), pytest.param(1, id="each")])
@works("from_onnx", "quantized weights", "DequantizeLinear, with one scale or one for each channel")
def test_dequantized_weights(axis, rng):
    W = rng.integers(-128, 128, (1, 3 * H, I)).astype("int8")
    count = () if axis is None else (3 * H,)
    scale, zero = rng.uniform(0.01, 0.1, count).astype("float32"), rng.integers(-5, 5, count).astype("int8")
    shaped = (1, -1, 1) if axis else ()
    floats = (W.astype("float32") - zero.reshape(shaped)) * scale.reshape(shaped)
    of_integers = {"V": W, "s": scale, "z": zero, "R": PLAIN["R"], "B": PLAIN["B"]}
    nodes = [node("DequantizeLinear", "V s z", "W", axis=1), gru()]
    found = from_onnx(model(nodes, of_integers))(X)
    np.testing.assert_allclose(found, from_onnx(model([gru()], PLAIN | {"W": floats}))(X), atol=1e-6)


@works("from_onnx", "subgraphs", "layers=True finds recurrent nodes in them")
def test_recurrent_nodes_in_subgraphs():
    inner = [gru(name="inside"), node("Identity", "y", "then")]
    then = onnx.helper.make_graph(inner, "then", [], [info("then", None)])
    rest = onnx.helper.make_graph([gru(name="other", outputs="o")], "else", [], [info("o", None)])
    body = onnx.helper.make_graph(
        [gru("s W R B", "t", "looped"), node("Identity", "k", "l")],
        "body",
        [info("i", [], INT64), info("k", [], onnx.TensorProto.BOOL), info("s", None)],
        [info("l", []), info("t", None)],
    )
    nodes = [
        node("If", "c", "q", then_branch=then, else_branch=rest),
        node("Loop", "n c x", "y", "loop", body=body),
    ]
    inputs = [info("x", [None, None, I]), info("c", [1], onnx.TensorProto.BOOL)]
    found = from_onnx(model(nodes, PLAIN | {"n": np.array(3)}, inputs), layers=True)
    assert sorted(found) == ["inside", "looped", "other"]
    with pytest.raises(ValueError, match=r"node 'loop' \(Loop\): control flow is not supported"):
        from_onnx(model(nodes, PLAIN | {"n": np.array(3)}, inputs))


# -- external data


def outside(folder, **location):
    """A model whose W lies in another file."""
    (folder / "weights").write_bytes(b"\0" * 8 + PLAIN["W"].tobytes())
    made = model([gru()], PLAIN)
    (tensor,) = (each for each in made.graph.initializer if each.name == "W")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "weights", "offset": "8", **location}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    return folder / "model.onnx"


@works("from_onnx", "tensors in files of their own", "within the folder of the model")
def test_external_data(tmp_path):
    np.testing.assert_array_equal(from_onnx(outside(tmp_path))(X), expected())


OUTSIDE = {
    "above": ({"location": "../weights"}, "not in the folder"),
    "absolute": ({"location": "/etc/passwd"}, "not in the folder"),
    "link": ({"location": "link"}, "not in the folder"),
    "folder": ({"location": "."}, "lies in"),
    "none": ({"location": "none"}, "No such file"),
    "null": ({"location": "a\0b"}, "not readable"),
    "pipe": ({"location": "pipe"}, "regular file"),
    "beyond": ({"offset": "9"}, "has 152 bytes"),
    "below": ({"offset": "-8"}, "do not hold"),
    "short": ({"length": "8"}, "do not hold"),
    "no number": ({"offset": "many"}, "not readable"),
}


@pytest.mark.parametrize(("location", "words"), OUTSIDE.values(), ids=OUTSIDE)
@refused("from_onnx", "tensors in files of their own", "outside of the folder, or shorter than they say")
def test_external_data_outside(tmp_path, location, words):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "weights").write_bytes(b"\0" * 1000)
    (folder / "link").symlink_to(tmp_path / "weights")
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValueError, match=words):
        from_onnx(outside(folder, **location))


def test_external_data_of_bytes(tmp_path):
    with pytest.raises(ValueError, match="give the model as a path"):
        from_onnx(outside(tmp_path).read_bytes())
