"""Networks as ONNX models, in ONNX Runtime beside themselves."""

import doctest

import numpy as np
import pytest
from exported import ACTIVATIONS, FEW, LENGTHS, B, Doubled, H, I, T, close, filled, networks, sample, valid
from hypothesis import given
from hypothesis import strategies as st
from tables import refused, works

import fastrnn
from fastrnn.interop import from_onnx, onnx_writer, to_onnx
from fastrnn.layers import (
    GELU,
    GRU,
    LSTM,
    RNN,
    Attention,
    Composite,
    Dropout,
    Embedding,
    Last,
    Linear,
    Masking,
    Max,
    Mean,
    Merge,
    ReLU,
    Reverse,
    Sequential,
    Sigmoid,
    Tanh,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def session(model):
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(model, x, lengths=None, states=()):
    """What ONNX Runtime makes of it, its inputs in their order."""
    given = [x, *([] if lengths is None else [lengths.astype("int32")]), *states]
    opened = session(model)
    names = [each.name for each in opened.get_inputs()]
    return opened.run(None, dict(zip(names, given, strict=True)))


RECURRENT = [
    pytest.param(RNN, {}, marks=works("to_onnx", "RNN", "tanh")),
    pytest.param(RNN, {"nonlinearity": "relu"}, marks=works("to_onnx", "RNN", "relu")),
    pytest.param(
        RNN,
        {"nonlinearity": "hard_sigmoid_6", "clip": 0.4},
        marks=works("to_onnx", "RNN", "other activations, clip"),
    ),
    pytest.param(LSTM, {}, marks=works("to_onnx", "LSTM")),
    pytest.param(LSTM, {"bias": False}, marks=works("to_onnx", "LSTM", "bias=False")),
    pytest.param(LSTM, {"peephole": True}, marks=works("to_onnx", "LSTM", "peephole")),
    pytest.param(LSTM, {"coupled": True}, marks=works("to_onnx", "LSTM", "coupled")),
    pytest.param(LSTM, {"clip": 0.6}, marks=works("to_onnx", "LSTM", "clip")),
    pytest.param(
        LSTM,
        {
            "gate_activation": "hard_sigmoid",
            "activation": "linear",
            "output_activation": "relu",
            "clip": 0.6,
            "peephole": True,
        },
        marks=works("to_onnx", "LSTM", "other activations"),
    ),
    pytest.param(GRU, {}, marks=works("to_onnx", "GRU", "reset_after=True")),
    pytest.param(GRU, {"reset_after": False}, marks=works("to_onnx", "GRU", "reset_after=False")),
    pytest.param(
        GRU,
        {"reset_after": False, "gate_activation": "hard_sigmoid_6", "activation": "linear", "clip": 0.7},
        marks=works("to_onnx", "GRU", "other activations, clip"),
    ),
]


@pytest.mark.parametrize(
    "shape",
    [
        "one layer",
        pytest.param("stack", marks=works("to_onnx", "Recurrent layers", "num_layers")),
        pytest.param("both directions", marks=works("to_onnx", "Recurrent layers", "bidirectional")),
        pytest.param("batch first", marks=works("to_onnx", "Recurrent layers", "batch_first")),
    ],
)
@works("to_onnx", "Recurrent layers", "lengths and states as inputs")
@pytest.mark.parametrize(("kind", "options"), RECURRENT)
def test_recurrent_layers_in_onnx_runtime(kind, options, shape, rng):
    stacked = shape in ("stack", "both directions")
    sides, first = shape == "both directions", shape == "batch first"
    layer = filled(kind(I, H, 2 if stacked else 1, bidirectional=sides, batch_first=first, **options))
    x = sample(layer, rng)
    close(run(to_onnx(layer), x)[0], layer(x)[0])
    widths = (2 if stacked else 1) * (2 if sides else 1), B, H
    states = [rng.normal(size=widths).astype("float32") / 2 for _ in range(2 if kind is LSTM else 1)]
    state = tuple(states) if kind is LSTM else states[0]
    y, state_n = layer(x, state, LENGTHS)
    model = to_onnx(layer, lengths=True, states=True)
    assert [each.name for each in model.graph.output] == ["y", "h_n", "c_n"][: 1 + len(states)]
    for got, want in zip(
        run(model, x, LENGTHS, states), [y, *(state_n if kind is LSTM else [state_n])], strict=True
    ):
        close(got, want)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param(LSTM, {}, marks=works("to_onnx", "Recurrent layers", "learned_state")),
        (GRU, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ],
)
def test_a_learned_state_is_expanded_to_the_batch(kind, options, rng):
    layer = filled(kind(I, H, learned_state=True, **options))
    x = sample(layer, rng)
    close(run(to_onnx(layer), x)[0], layer(x)[0])


@pytest.mark.parametrize("sides", [False, True])
@pytest.mark.parametrize("last", [False, True])
@works("to_onnx", "LSTM", "proj_size: W_hr is multiplied into the recurrent weights")
def test_a_projection_is_in_the_recurrent_weights(sides, last, rng):
    layer = LSTM(I, H, 2, proj_size=2, bidirectional=sides, peephole=True, batch_first=True)
    made = filled(Sequential(layer, *[Last()] * last))
    x = sample(made, rng)
    close(run(to_onnx(made), x)[0], made(x))
    close(run(to_onnx(made, lengths=True), x, LENGTHS)[0], made(x, LENGTHS))


def network(*layers, sides=False, first=False, **options):
    """Tokens, a GRU and what follows."""
    return filled(
        Sequential(Embedding(9, I), GRU(I, H, bidirectional=sides, batch_first=first), *layers, **options)
    )


CHAINS = {
    "steps": pytest.param(
        lambda n: [Linear(n * H, 4), ReLU()], marks=works("to_onnx", "Linear", "of each step, of a vector")
    ),
    "last": pytest.param(
        lambda n: [Dropout(0.5), Last(), Dropout(0.5), Linear(n * H, 2)],
        marks=[works("to_onnx", "Last", "also of both directions"), works("to_onnx", "Dropout", "left out")],
    ),
    "last of a function": lambda n: [Tanh(), Last(), Linear(n * H, 2)],
    "last of others": lambda n: [Linear(n * H, 4), Sigmoid(), Last()],
    "mean": pytest.param(lambda n: [Mean(), Linear(n * H, 2)], marks=works("to_onnx", "Mean")),
    "mean of others": lambda n: [Linear(n * H, 4), Mean()],
    "mean in newer operators": lambda n: [Mean(), GELU()],
    "max in newer operators": lambda n: [Linear(n * H, 4), Merge("ave"), GELU(), Max()],
    "max": pytest.param(lambda n: [Max(), Linear(n * H, 2)], marks=works("to_onnx", "Max")),
    "max of others": lambda n: [Linear(n * H, 4), Max()],
    "merged": pytest.param(
        lambda n: [Linear(n * H, 8), Merge("ave"), Merge("mul"), Merge("sum")],
        marks=works("to_onnx", "Merge", "sum, mul, ave"),
    ),
    "all features": pytest.param(
        lambda n: [Last(bidirectional=False)], marks=works("to_onnx", "Last", "of all features")
    ),
    "halves": lambda n: [Linear(n * H, 4), Last(bidirectional=True), Merge("sum")],
    "reverse": pytest.param(lambda n: [Reverse(), Linear(n * H, 2)], marks=works("to_onnx", "Reverse")),
    "reverse, last": lambda n: [Reverse(), Last()],
    "nested": pytest.param(
        lambda n: [Sequential(Linear(n * H, 4), Last()), Sequential(ReLU())],
        marks=works("to_onnx", "Sequential", "within another"),
    ),
}


@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("sides", [False, True], ids=["forwards", "both directions"])
@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_networks_in_onnx_runtime(layers, sides, first, rng):
    made = network(*layers(1 + sides), sides=sides, first=first)
    x = sample(made, rng)
    close(run(to_onnx(made), x)[0], made(x))
    (got,) = run(to_onnx(made, lengths=True), x, LENGTHS)
    want = made(x, LENGTHS)
    close(valid(made, got), valid(made, want))


FUNCTIONS = [
    pytest.param(layer, marks=works("to_onnx", "Activations", type(layer).__name__)) for layer in ACTIVATIONS
]


@pytest.mark.parametrize("layer", FUNCTIONS)
def test_activations_in_onnx_runtime(layer, rng):
    x = rng.normal(size=(B, I)).astype("float32") * 3
    close(run(to_onnx(layer), x)[0], layer(x))


@pytest.mark.parametrize("lengths", [False, True])
@works("to_onnx", "Reverse", "on both sides of a layer: direction=reverse")
def test_a_layer_that_runs_backwards(lengths, rng):
    made = filled(
        Sequential(Reverse(), lstm=LSTM(I, H, 2, batch_first=True), back=Reverse(), head=Linear(H, 2))
    )
    x, model = sample(made, rng), to_onnx(made, lengths=lengths, states=True)
    assert [
        node.op_type for node in model.graph.node if node.op_type.startswith(("LSTM", "Slice", "Rev"))
    ] == ["LSTM"] * 2
    h, c = states = [rng.normal(size=(2, B, H)).astype("float32") for _ in "hc"]
    valid = LENGTHS if lengths else None
    y, ((h_n, c_n),) = made(x, valid, state=((h, c),), return_state=True)
    got = run(model, x, valid, states)
    past = np.arange(T) >= (LENGTHS if lengths else np.full(B, T))[:, None]
    got[0][past] = y[past] = 0
    for each, want in zip(got, [y, h_n, c_n], strict=True):
        close(each, want)


@pytest.mark.parametrize(
    ("made", "tokens"),
    [
        pytest.param(Embedding(9, 3), 9, marks=works("to_onnx", "Embedding")),
        (Linear(I, 2), None),
        (Mean(), None),
        (Sequential(), None),
    ],
)
def test_layers_by_themselves(made, tokens, rng):
    x = sample(made, rng, tokens)
    x = x if isinstance(made, Mean) else x[0]
    close(run(to_onnx(made), x)[0], made(x))


@pytest.mark.parametrize("states", [False, True])
@works("to_onnx", "Tokens", "to a recurrent layer: one-hot, `tokens=True`")
def test_tokens_to_a_recurrent_layer(states, rng):
    made = filled(Sequential(GRU(9, H), Linear(H, 9)))
    x, h = rng.integers(0, 9, (T, B)), rng.normal(size=(1, B, H)).astype("float32")
    y, (h_n,) = made(x, state=(h,), return_state=True)
    if not states:
        close(run(to_onnx(made, tokens=True), x)[0], made(x))
        return
    model = to_onnx(made, tokens=True, states=True)
    assert [each.name for each in model.graph.input] == ["x", "0.h_0"]
    for got, want in zip(run(model, x, None, [h]), [y, h_n], strict=True):
        close(got, want)


def test_states_carry_on_from_run_to_run(rng):
    made = filled(Sequential(LSTM(I, H, 2), GRU(H, H), Linear(H, 2)))
    x = sample(made, rng)
    model = to_onnx(made, states=True)
    states = [np.zeros((2, B, H), "float32")] * 2 + [np.zeros((1, B, H), "float32")]
    parts = []
    for part in np.split(x, 3):
        y, *states = run(model, part, None, states)
        parts.append(y)
    close(np.concatenate(parts), made(x))


@works("to_onnx", "float64", "ONNX Runtime has recurrent layers of float32 only")
def test_float64(rng):
    reference = pytest.importorskip("onnx.reference")
    layer = filled(LSTM(I, H, dtype="float64"))
    model = to_onnx(layer)
    onnx.checker.check_model(model, full_check=True)
    x = rng.normal(size=(T, B, I))
    (y,) = reference.ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(y, layer(x)[0], atol=1e-12)


FORMS = {
    RNN: [{}, {"nonlinearity": "relu"}, {"nonlinearity": "hard_sigmoid_6", "clip": 0.4}],
    LSTM: [{}, {"peephole": True}, {"coupled": True, "clip": 0.6}, {"output_activation": "hard_sigmoid"}],
    GRU: [{}, {"reset_after": False}, {"gate_activation": "hard_sigmoid_6", "activation": "linear"}],
}


@FEW
@given(networks(FORMS), st.booleans(), st.booleans())
def test_what_is_read_again_has_the_same_bits(made, lengths, states):
    x = sample(made, np.random.default_rng(0))
    model = to_onnx(made, lengths=lengths, states=states)
    again = from_onnx(model.SerializeToString(), output="y")
    valid_steps = LENGTHS if lengths else None
    y, want = again(x, valid_steps), made(x, valid_steps)
    if lengths:
        y, want = valid(made, y), valid(made, want)
    np.testing.assert_array_equal(y, want)
    ours = [each for name, each in again.parameters.items()]
    assert sum(each.size for each in ours) == sum(each.size for each in made.parameters.values())


MASKS = {
    "another number": ("padding", np.array(1, "float32"), "padding is 1.0 before it"),
    "numbers": ("padding", np.zeros(B, "float32"), "what it puts into padding is not one number"),
    "every second step": ("delta", np.array(2), "its ends are not constant"),
    "from the second step": ("start", np.array(1), "its ends are not constant"),
    "along the features": (
        "axes",
        np.array([0, 1]),
        "time and batch are other axes|something else than the numbers of steps",
    ),
}


@pytest.mark.parametrize(("name", "array", "message"), MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("pooling", [Mean, Max])
def test_other_masks_than_ours_are_not_read(name, array, message, pooling):
    model = to_onnx(Sequential(GRU(I, H), pooling()), lengths=True)
    for tensor in model.graph.initializer:
        if tensor.name == f"1.{name}":
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    with pytest.raises(ValueError, match=message):
        from_onnx(model)


def test_a_sum_of_valid_steps_is_no_mean():
    model = to_onnx(Sequential(GRU(I, H), Mean()), lengths=True)
    (total,) = (node.output[0] for node in model.graph.node if node.op_type == "ReduceSum")
    model.graph.output[0].name = total
    with pytest.raises(ValueError, match="is no layer without other nodes after it"):
        from_onnx(model)
    (divided,) = (node for node in model.graph.node if node.op_type == "Div")
    divided.input[1] = "x"
    model.graph.output[0].name = "y"
    with pytest.raises(ValueError, match="divides a sum over valid steps by something else"):
        from_onnx(model)


def test_a_file_is_what_is_returned(tmp_path, rng):
    made = network(Last())
    model = to_onnx(made, tmp_path / "network.onnx")
    assert onnx.load(tmp_path / "network.onnx") == model
    with pytest.raises(OSError, match="nowhere"):
        to_onnx(made, tmp_path / "nowhere" / "network.onnx")


class MyLSTM(LSTM):
    """Another."""


class MyLast(Last):
    """A third."""


REFUSED = {
    "layer_norm": pytest.param(
        Sequential(lstm=LSTM(I, H, layer_norm=True)),
        {},
        r"layer lstm, LSTM\(3, 5, layer_norm=True\): ONNX's LSTM has no layer normalisation",
        marks=refused("to_onnx", "LSTM", "layer_norm"),
    ),
    "states of a projection": pytest.param(
        LSTM(I, H, proj_size=2),
        {"states": True},
        r"layer lstm, LSTM\(3, 5, proj_size=2\): with proj_size it has no state in ONNX",
        marks=refused("to_onnx", "LSTM", "proj_size with states"),
    ),
    "learned state of a projection": (
        Sequential(LSTM(I, H, proj_size=2, learned_state=True)),
        {},
        "no state in",
    ),
    "layer_norm of a GRU": pytest.param(
        GRU(I, H, layer_norm=True),
        {},
        "ONNX's GRU has no layer normalisation",
        marks=refused("to_onnx", "GRU", "layer_norm"),
    ),
    "masking": pytest.param(
        Sequential(Masking(), GRU(I, H)),
        {},
        r"layer 0, Masking\(\): ONNX has no such layer",
        marks=refused("to_onnx", "Masking"),
    ),
    "own": pytest.param(
        Sequential(RNN(I, H), Doubled()),
        {},
        r"layer 1, Doubled\(\): ONNX has no such layer; known are RNN, LSTM, GRU, Embedding",
        marks=refused("to_onnx", "Layers of one's own"),
    ),
    "subclass": (MyLSTM(I, H), {}, r"layer mylstm, MyLSTM\(3, 5\): ONNX has no such layer"),
    "subclass of Last": (
        Sequential(LSTM(I, H), MyLast()),
        {},
        r"layer 1, MyLast\(\): ONNX has no such layer",
    ),
    "composite": (Composite(lstm=LSTM(I, H)), {}, "layer composite, Composite"),
    "attention": (Attention(H, H), {}, r"layer attention, Attention\(5, 5\): ONNX has no such layer"),
    "lengths": (
        Linear(I, 2),
        {"lengths": True},
        "lengths must be False: there is no recurrent layer or pool",
    ),
    "states": (Mean(), {"states": True}, "states must be False: there is no recurrent layer"),
    "tokens": (
        Sequential(Linear(I, 2), RNN(2, H)),
        {"tokens": True},
        "tokens must be False: the first layer",
    ),
}


@pytest.mark.parametrize(("made", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_onnx_has_not_is_refused_by_name(made, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        to_onnx(made, tmp_path / "network.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_examples():
    results = doctest.testmod(onnx_writer, extraglobs={"fastrnn": fastrnn})
    assert results.attempted and not results.failed


def test_what_is_no_network():
    with pytest.raises(TypeError, match="network must be a layer or a Sequential, got 'lstm'"):
        to_onnx("lstm")
    with pytest.raises(TypeError, match="states must be True or False"):
        to_onnx(LSTM(I, H), states=1)
