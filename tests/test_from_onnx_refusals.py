"""What from_onnx refuses by name, and files that were made to harm."""

import itertools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mutations import SLACK
from onnx_nodes import PLAIN, B, H, I, T, X, expected, gru, info, model, node, onnx, weights
from tables import refused

from fastrnn.interop import from_onnx

RECORDED = Path(__file__).parent / "recorded" / "onnx"

# -- what is refused


def functions(*names, **more):
    return {"activations": list(names), **more}


LENS = info("lens", [None], onnx.TensorProto.INT32)
NODES = {
    "activations of other kinds": (functions("Softsign", "Tanh"), "['Softsign', 'Tanh'] are not supported"),
    "too few activations": (functions("Sigmoid"), "there must be 2"),
    "HardSigmoid of another slope": (
        functions("HardSigmoid", "Tanh", activation_alpha=[0.3]),
        "['HardSigmoid', 'Tanh'] with activation_alpha",
    ),
    "Affine without alpha, which ONNX Runtime has otherwise": (
        functions("Sigmoid", "Affine"),
        "activation 'Affine' needs its activation_alpha",
    ),
    "more alphas than activations take": (
        functions("Sigmoid", "Tanh", activation_alpha=[0.2, 0.2]),
        "has 2 numbers, its activations take 0",
    ),
    "unknown attributes": ({"output_sequence": 1}, "attribute output_sequence=1"),
    "clip of 0": ({"clip": 0.0}, "clip=0.0"),
    "another layout": ({"layout": 2}, "layout 2"),
    "another direction": ({"direction": "sideways"}, "direction 'sideways'"),
}


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        pytest.param(*case, id=k, marks=refused("from_onnx", "recurrent nodes", k))
        for k, case in NODES.items()
    ],
)
@pytest.mark.parametrize("layers", [False, True])
def test_nodes_refused(attributes, words, layers):
    with pytest.raises(ValueError, match=r"node 'gru_7' \(GRU\): ") as caught:
        from_onnx(model([gru(**attributes)], PLAIN), layers=layers)
    assert words in str(caught.value)


def test_directions_of_different_functions():
    names = ["Sigmoid", "Tanh", "Sigmoid", "Relu"]
    both = gru(direction="bidirectional", activations=names)
    with pytest.raises(ValueError, match="those of both directions must be the same"):
        from_onnx(model([both], weights(D=2)))


HEAD = {"K": np.ones((H, 2), "float32"), "zero": np.array([0]), "one": np.array([1]), "last": np.array(-1)}
HEAD |= {"k": np.ones(2, "float32"), "lens": np.array([T, 2, 1], "int32"), "two": np.array([2])}
HEAD |= {"half": np.array([[[0.5]]], "float32"), "h": np.random.default_rng(0).normal(size=(1, B, H))}
HEAD["h"] = HEAD["h"].astype("float32")
LINE = [gru(outputs="Y Y_h"), node("Squeeze", "Y one", "s")]
CHAINS = {
    "other operators": ([*LINE, node("Sin", "s", "y", "sine")], "node 'sine' (Sin): the operator"),
    "branches": ([*LINE, node("Add", "s s", "y", "sum")], "node 'sum' (Add): it joins"),
    "constants added elsewhere": ([*LINE, node("Add", "s half", "y")], "a constant can be added to what"),
    "constants multiplied with": ([*LINE, node("Mul", "s half", "y")], "a product with a constant"),
    "a step that is not the last": ([*LINE, node("Gather", "s two", "y", axis=0)], "it takes step 2"),
    "the first step": ([*LINE, node("Gather", "s zero", "y", axis=0)], "it takes step 0"),
    "time as features": (
        [*LINE, node("Transpose", "s", "t", perm=[2, 1, 0]), node("MatMul", "t K", "y")],
        "must multiply all features, which must be in the last axis",
    ),
    "time as the batch of a second layer": (
        [*LINE, node("Transpose", "s", "t", perm=[1, 0, 2]), gru("t W3 R B")],
        "time is another axis of X than in the layers before it",
    ),
    "a mean over the batch": ([*LINE, node("ReduceMean", "s", "y", axes=[1])], "it is not over time"),
    "a softmax over time": ([*LINE, node("Softmax", "s", "y", axis=0)], "only where it is the features"),
    "a softmax of opset 12 over several axes": (
        [*LINE, node("Softmax", "s", "y", axis=1)],
        "only where it is the features",
        12,
    ),
    "outputs in another order than the input": (
        [*LINE, node("Transpose", "s", "y", perm=[1, 0, 2])],
        "in another order than its input",
    ),
    "directions within each unit": (
        [
            gru("x W2 R2 B2", "Y", direction="bidirectional"),
            node("Transpose", "Y", "t", perm=[0, 2, 3, 1]),
            node("Reshape", "t flat", "y"),
        ],
        "in another order than its input",
    ),
    "a cast to float64": ([*LINE, node("Cast", "s", "y", to=11)], "a cast of float32 to float64"),
    "rounding to integers": ([*LINE, node("QuantizeLinear", "s f z8", "y")], "rounds what the layers give"),
    "an initial state of another layer": (
        [*LINE, gru("s W3 R B - Y_h", name="second")],
        "node 'second' (GRU): initial_h must be constant or an input",
    ),
    "an initial state that differs": ([gru("x W R B - h")], "not the same for all sequences"),
    "lengths that are constant": ([gru("x W R B lens")], "lengths that are constant, or computed"),
    "the last step of padded sequences": (
        [gru("x W R B n", "Y"), node("Squeeze", "Y one", "s"), node("Gather", "s last", "y", axis=0)],
        "may be padding, as there are lengths, 'n'",
    ),
    "lengths of the second layer only": ([*LINE, gru("s W3 R B n")], "the lengths are n, before it None"),
    "c of an LSTM": (
        [node("LSTM", "x W4 R4", "Y - c", hidden_size=H), node("Squeeze", "c zero", "y")],
        "is a state",
    ),
    "weights that are inputs": ([gru("x w R B")], "W is not constant"),
    "training": ([*LINE, node("Dropout", "s r true", "y")], "the graph is one for training"),
    "no recurrent layers": ([node("Relu", "x", "y")], "no recurrent node leads to its output"),
    "operators of other domains": (
        [onnx.helper.make_node("GRU", ["x", "W", "R", "B"], ["y"], "mine", domain="my.own")],
        "node 'mine' (GRU)",
    ),
}


@pytest.mark.parametrize(
    ("nodes", "words", "opset"),
    [
        pytest.param(
            *case, *([] if len(case) == 3 else [17]), id=k, marks=refused("from_onnx", "rows of layers", k)
        )
        for k, case in CHAINS.items()
    ],
)
def test_rows_refused(nodes, words, opset):
    more = {"W3": np.ones((1, 3 * H, H), "float32"), "r": np.float32(0.5), "true": np.array(True)}
    more |= {name + "2": array for name, array in weights(D=2).items()} | {"flat": np.array([0, 0, -1])}
    more |= {"f": np.float32(0.1), "z8": np.int8(0)}
    more |= {name + "4": array for name, array in weights("LSTM", bias=False).items()}
    inputs = [info("x", [None, None, I]), info("n", [None], onnx.TensorProto.INT32), info("w", [1, 3 * H, I])]
    if opset < 13:
        squeeze = nodes[1]
        del squeeze.input[1:]
        squeeze.attribute.append(onnx.helper.make_attribute("axes", [1]))
    with pytest.raises(ValueError) as caught:
        from_onnx(model(nodes, PLAIN | HEAD | more, inputs, opset=opset))
    assert words in str(caught.value)
    assert str(caught.value).startswith("'the ModelProto': ")
    assert "layers=True" in str(caught.value)


def test_outputs_are_asked_for():
    nodes = [*LINE, node("Relu", "s", "a"), node("Tanh", "s", "b")]
    made = model(nodes, PLAIN | HEAD, outputs=["a", "b", "Y_h"])
    with pytest.raises(ValueError, match="output=, one of 'a', 'b'"):
        from_onnx(made)
    assert "Tanh" in str(from_onnx(made, output="b"))
    with pytest.raises(ValueError, match="output must be one of 'a', 'b', 'Y_h', got"):
        from_onnx(made, output="c")
    with pytest.raises(TypeError, match="output must be a name, got 3"):
        from_onnx(made, output=3)


def test_a_loop_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"\(Loop\): control flow is not supported"):
        from_onnx(RECORDED / "refused" / "loop.onnx")


# -- files


def test_a_path_bytes_or_a_model(tmp_path):
    made = model([gru()], PLAIN)
    (tmp_path / "gru.anything").write_bytes(made.SerializeToString())
    for source in (made, made.SerializeToString(), tmp_path / "gru.anything", str(tmp_path / "gru.anything")):
        np.testing.assert_array_equal(from_onnx(source)(X), expected())
    with pytest.raises(TypeError, match="model must be a path, the bytes of a file"):
        from_onnx(3)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")


def test_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"fastrnn\[onnx\]"):
        from_onnx(b"")


def test_importing_fastrnn_does_not_import_onnx():
    code = "import fastrnn, fastrnn.interop, sys; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def chain(count, op="Relu", first="x", more="", **attributes):
    names = [first, *(f"a{k}" for k in range(1, count)), "y"]
    return [node(op, f"{a} {more}", b, **attributes) for a, b in itertools.pairwise(names)]


def lying():
    made = model([gru()], PLAIN)
    made.graph.initializer[0].dims[:] = [1, 10**9, 10**9]
    return made


def nested():
    graph = onnx.helper.make_graph([node("Relu", "x", "z")], "deep", [], [info("z", None)])
    for _ in range(31):
        graph = onnx.helper.make_graph(
            [node("If", "c", "z", then_branch=graph, else_branch=graph.__class__.FromString(b""))],
            "deep",
            [],
            [info("z", None)],
        )
    return model([*graph.node, gru()], PLAIN, [info("x", [None, None, I]), info("c", [], 9)])


def doubling(op, first, name, arrays, **attributes):
    """60 times as much of itself."""
    names = [name * k for k in range(1, 61)]
    nodes = [node(op, f"{a} {a}", b, **attributes) for a, b in itertools.pairwise(names)]
    return model([*first, *nodes, node("Expand", f"x {names[-1]}", "y")], arrays)


def large():
    size = {"s": np.array([1, 10**6, 10**6]), "R": PLAIN["R"], "B": PLAIN["B"]}
    return model([node("ConstantOfShape", "s", "W"), gru()], size)


def ranged():
    ends = {"a": np.array(0), "b": np.array(10**15), "d": np.array(1)}
    return model([node("Range", "a b d", "r"), node("Add", "x r", "y")], ends)


def shared():
    wide = PLAIN | {"W": np.ones((1, 3 * H, 2000), "float32")}
    nodes = [gru(outputs=f"y{k}" if k else "y", name=f"g{k}") for k in range(300)]
    return model(nodes, wide, [info("x", [None, None, 2000])])


def cyclic():
    return model([node("Add", "x b", "a"), node("Add", "x a", "b"), gru("b W R B")], PLAIN)


HARM = {
    "nothing": (lambda: b"", "is not an ONNX model"),
    "text": (lambda: b"This is no model, but a text.", "an ONNX model"),
    "a cycle": (cyclic, "takes 'b', which nothing before it gives"),
    "a name given twice": (lambda: model([gru(), gru()], PLAIN), "two values have the name 'y'"),
    "an input that nothing gives": (lambda: model([gru("z W R B")], PLAIN), "takes 'z', which nothing"),
    "an output that nothing gives": (lambda: model([gru(outputs="q")], PLAIN), "'y' is given by no node"),
    "a shape that lies": (lying, "it is damaged"),
    "an unknown opset": (lambda: model([gru()], PLAIN, opset=999), "one version of ONNX's operators"),
    "too many layers": (lambda: model([gru(outputs="g"), *chain(2000, first="g")], PLAIN), "more than 1000"),
    "too many nodes": (lambda: model(chain(60_000, "Identity")), "more than 50,000 nodes"),
    "too many axes": (lambda: model(chain(50, "Unsqueeze", more="i"), {"i": np.array([0])}), "16 axes"),
    "sizes without end": (lambda: doubling("Mul", [node("Shape", "x", "s")], "s", {}), "a size is too large"),
    "a large constant": (large, "is too large"),
    "a constant that doubles": (
        lambda: doubling("Concat", [], "c", {"c": np.ones(9, "int64")}, axis=0),
        "which is too much for this file",
    ),
    "a range without end": (ranged, "which is too much for this file"),
    "weights that many layers share": (shared, "the layers need more"),
    "nesting": (nested, "damaged|within each other|an ONNX model|branches"),
}


@pytest.mark.parametrize(
    ("make", "words"),
    [pytest.param(*case, id=k, marks=refused("from_onnx", "files", k)) for k, case in HARM.items()],
)
def test_files_that_were_made_to_harm(make, words, tmp_path):
    made = make()
    data = made if isinstance(made, bytes) else made.SerializeToString()
    (tmp_path / "harm.onnx").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=words) as caught:
            from_onnx(tmp_path / "harm.onnx")
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + SLACK
    finally:
        tracemalloc.stop()
    assert "harm.onnx" in str(caught.value)


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ValueError, match="regular file"):
        from_onnx(tmp_path / "pipe.onnx")
