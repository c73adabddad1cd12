"""Networks as Keras files, in Keras beside themselves."""

import doctest
import io
import itertools
import os
import zipfile

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
from exported import ACTIVATIONS, FEW, B, Doubled, H, I, close, filled, networks, sample
from hypothesis import assume, given, settings
from tables import refused, works

import fastrnn
from fastrnn.interop import from_keras, keras_writer, to_keras
from fastrnn.layers import (
    ELU,
    GELU,
    GRU,
    LSTM,
    RNN,
    Composite,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    Linear,
    Masking,
    Max,
    Mean,
    Merge,
    Reverse,
    Sequential,
    Softmax,
    Tanh,
)

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",
    "ignore:(.|\\n)*softmax over axis -1:UserWarning",  # of one feature
)


def in_keras(network, path, x, **options):
    """What Keras makes of the network."""
    to_keras(network, path / "network.keras", **options)
    return keras.ops.convert_to_numpy(keras.models.load_model(path / "network.keras")(x))


def require_same(network, path, x, **options):
    """x and y are batch first in Keras."""
    first = getattr(network, "batch_first", True) or x.ndim < 2

    def turned(array):
        return array if first or array.ndim < 3 - (x.dtype.kind == "i") else array.swapaxes(0, 1)

    y = network(x)
    y = y[0] if isinstance(y, tuple) else y
    got = in_keras(network, path, turned(x), **options)
    y = y if first or y.ndim < 3 else y.swapaxes(0, 1)
    close(got, y)
    close(from_keras(path / "network.keras")(turned(x)), y)


RECURRENT = {
    "lstm": pytest.param(LSTM, {}, marks=works("to_keras", "LSTM")),
    "lstm, others": pytest.param(
        LSTM,
        {"gate_activation": "hard_sigmoid_6", "activation": "relu", "output_activation": "relu"},
        marks=works("to_keras", "LSTM", "activations sigmoid, hard_sigmoid_6, tanh, relu, linear"),
    ),
    "gru": pytest.param(GRU, {}, marks=works("to_keras", "GRU", "reset_after=True")),
    "gru, before": pytest.param(
        GRU, {"reset_after": False}, marks=works("to_keras", "GRU", "reset_after=False")
    ),
    "gru, others": (GRU, {"gate_activation": "hard_sigmoid_6", "activation": "sigmoid"}),
    "rnn": pytest.param(RNN, {}, marks=works("to_keras", "RNN")),
    "rnn, relu": (RNN, {"nonlinearity": "relu"}),
}

SHAPES = {
    "one layer": pytest.param(
        {}, marks=works("to_keras", "Recurrent layers", "time first: Keras is batch first")
    ),
    "no biases": pytest.param(
        {"bias": False, "batch_first": True}, marks=works("to_keras", "Recurrent layers", "bias=False")
    ),
    "stack": pytest.param(
        {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "batch_first": True},
        marks=works("to_keras", "Recurrent layers", "num_layers, bidirectional, dropout"),
    ),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("kind", "options"), RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers(kind, options, shape, rng, tmp_path):
    layer = filled(kind(I, H, **options, **shape))
    require_same(layer, tmp_path, sample(layer, rng))


CHAINS = {
    "last": pytest.param(
        lambda: [Embedding(9, I), LSTM(I, H), Dropout(0.5), Last(), Linear(H, 2), Softmax()],
        marks=[
            works("to_keras", "Embedding"),
            works("to_keras", "Last"),
            works("to_keras", "Linear"),
            works("to_keras", "Dropout"),
        ],
    ),
    "last, both": lambda: [
        Embedding(9, I),
        GRU(I, H, 2, bidirectional=True, batch_first=True),
        Tanh(),
        Last(),
        Linear(2 * H, 2, bias=False),
    ],
    "last of others": lambda: [Embedding(9, I), GRU(I, H), Linear(H, 4), Tanh(), Last(), ELU(0.3)],
    "mean": pytest.param(
        lambda: [Embedding(9, I), RNN(I, H), Linear(H, 4), Mean()], marks=works("to_keras", "Mean")
    ),
    "max": pytest.param(lambda: [Embedding(9, I), RNN(I, H), Max()], marks=works("to_keras", "Max")),
    "merge": pytest.param(
        lambda: [
            Embedding(9, I),
            GRU(I, H, bidirectional=True),
            Merge("mul"),
            LSTM(H, H, bidirectional=True),
            Last(),
            Merge("ave"),
        ],
        marks=works("to_keras", "Merge", "right after a bidirectional layer, or its Last"),
    ),
    "merge, mean": lambda: [Embedding(9, I), LSTM(I, H, 2, bidirectional=True), Merge("sum"), Mean()],
    "reverse": pytest.param(
        lambda: [Embedding(9, I), Reverse(), LSTM(I, H, 2), Linear(H, 2), Reverse(), GRU(2, H)],
        marks=works("to_keras", "Reverse", "right before a recurrent layer"),
    ),
    "reverse, last": lambda: [Embedding(9, I), Reverse(), LSTM(I, H), Last()],
    "nested": pytest.param(
        lambda: [Sequential(Embedding(9, I), GRU(I, H)), Sequential(head=Sequential(Last(), Linear(H, 2)))],
        marks=works("to_keras", "Sequential", "within another"),
    ),
}


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_networks(layers, rng, tmp_path):
    network = filled(Sequential(*layers()))
    require_same(network, tmp_path, sample(network, rng))


MASKED = {
    "tokens": pytest.param(
        lambda: [Masking(), Embedding(9, I), LSTM(I, H, 2), Last(), Linear(H, 2)],
        marks=works("to_keras", "Masking", "before an Embedding: mask_zero"),
    ),
    "tokens, steps": lambda: [Masking(), Embedding(9, I), GRU(I, H), Linear(H, 2), Softmax()],
    "tokens, mean": lambda: [Masking(), Embedding(9, I), GRU(I, H, bidirectional=True), Merge("sum"), Mean()],
    "tokens, zeros": lambda: [Masking(fill="zeros"), Embedding(9, I), RNN(I, H, 2), Tanh()],
    "tokens, zeros, last": lambda: [Masking(fill="zeros"), Embedding(9, I), RNN(I, H, 2), Tanh(), Last()],
    "tokens, both": lambda: [Masking(fill="zeros"), Embedding(9, I), LSTM(I, H, 2, bidirectional=True)],
    "floats": pytest.param(
        lambda: [Masking(0.5), LSTM(I, H, bidirectional=True), Last(), Linear(2 * H, 2)],
        marks=works("to_keras", "Masking", "before floats"),
    ),
    "floats, steps": lambda: [Masking(0.5), LSTM(I, H), Dropout(0.3), GRU(H, H)],
}


@pytest.mark.parametrize("layers", MASKED.values(), ids=MASKED)
def test_masked_steps(layers, rng, tmp_path):
    network = filled(Sequential(*layers()))
    x = sample(network, rng)
    masked = rng.random(x.shape[:2]) < 0.4
    masked[-1], masked[:, 0] = False, [True, False, True, True, False, True]
    x[masked] = network.parts["0"].value
    require_same(network, tmp_path, x)


FORMS = {
    RNN: [{}, {"nonlinearity": "relu"}],
    LSTM: [{}, {"activation": "sigmoid", "output_activation": "sigmoid"}],
    GRU: [{}, {"reset_after": False}, {"gate_activation": "hard_sigmoid_6"}],
}


@settings(FEW, max_examples=10)
@given(networks(FORMS))
def test_any_network(tmp_path_factory, made):
    kinds = [type(layer) for layer in made.parts.values()]
    assume((Merge, Last) not in itertools.pairwise(kinds))  # which is refused
    x = sample(made, np.random.default_rng(0))
    require_same(made, tmp_path_factory.mktemp("any"), x)


@works("to_keras", "Tokens", "to a recurrent layer: one-hot, `tokens=True`")
def test_tokens_to_a_recurrent_layer(rng, tmp_path):
    network = filled(Sequential(GRU(9, H, batch_first=True), Linear(H, 9)))
    require_same(network, tmp_path, sample(network, rng, tokens=9), tokens=True)


@works("to_keras", "float64")
def test_float64(rng, tmp_path):
    network = filled(LSTM(I, H, dtype="float64", batch_first=True))
    x = sample(network, rng)
    got = in_keras(network, tmp_path, x)
    close(got, network(x)[0], atol=1e-12)


KNOWN = [
    layer
    for layer in ACTIVATIONS
    if repr(layer) not in ("HardSigmoid(slope=0.2)", "GELU(approximate='tanh')")
]


@works("to_keras", "Activations", ", ".join(type(layer).__name__ for layer in KNOWN))
def test_activations(rng, tmp_path):
    x = rng.normal(size=(B, I)).astype("float32") * 2
    for layer in KNOWN:
        close(in_keras(Sequential(layer), tmp_path, x), layer(x))


def test_a_file_has_what_keras_writes(tmp_path):
    both = LSTM(H, H, bidirectional=True)
    network = Sequential(Embedding(9, I), LSTM(I, H), GRU(H, H), Dropout(0.1), both, Linear(2 * H, 1))
    to_keras(network, tmp_path / "ours.keras")
    keras.models.load_model(tmp_path / "ours.keras").save(tmp_path / "theirs.keras")
    found = []
    for name in ("ours.keras", "theirs.keras"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert {"metadata.json", "config.json", "model.weights.h5"} == set(archive.namelist())
            names, content = set(), archive.read("model.weights.h5")
        with h5py.File(io.BytesIO(content)) as file:
            file.visit(names.add)
        found.append({name for name in names if "input_layer" not in name})
    assert found[0] == found[1] and "layers/bidirectional/backward_layer/cell/vars/2" in found[0]


REFUSED = [
    (LSTM(I, H, peephole=True), "Keras's LSTM has no peephole", "LSTM", "peephole"),
    (LSTM(I, H, coupled=True), "Keras's LSTM has no coupled", "LSTM", "coupled"),
    (LSTM(I, H, proj_size=2), "Keras's LSTM has no proj_size", "LSTM", "proj_size"),
    (LSTM(I, H, layer_norm=True), "Keras's LSTM has no layer_norm", "LSTM", "layer_norm"),
    (LSTM(I, H, activation="relu"), "has one function as activation and out", "LSTM", "output_activation"),
    (GRU(I, H, clip=1.0), "Keras's GRU has no clip", "GRU", "clip"),
    (GRU(I, H, gate_activation="hard_sigmoid"), "no gate_activation='hard_sigmoid'", "GRU", "hard_sigmoid"),
    (RNN(I, H, nonlinearity="hard_sigmoid"), "Keras's SimpleRNN has no nonlin", "RNN", "hard_sigmoid"),
    (
        RNN(I, H, learned_state=True),
        "Keras's SimpleRNN has no learned_state",
        "Recurrent layers",
        "learned_state",
    ),
    (Doubled(), "Keras has no such layer; known are RNN, LSTM", "Layers of one's own", ""),
    (Composite(lstm=LSTM(I, H)), "Keras has no such layer", "Layers of one's own", "a Composite"),
    (HardSigmoid(0.2), "hard_sigmoid has the slope 1/6", "Activations", "HardSigmoid(slope=0.2)"),
    (GELU("tanh"), "gelu without approximation", "Activations", "GELU(approximate='tanh')"),
    (Sequential(Reverse(), Linear(I, 2)), "Keras has it only right before", "Reverse", "elsewhere"),
    (
        Sequential(Masking(2), Embedding(9, I), GRU(I, H)),
        "Keras masks tokens that are 0",
        "Masking",
        "others than 0",
    ),
    (Sequential(Masking(), GRU(I, H), Max()), "does not know which steps are masked", "Masking", "with Max"),
    (
        Sequential(Masking(), Reverse(), GRU(I, H), Last()),
        "does not know which steps are",
        "Masking",
        "with Reverse",
    ),
    (
        Sequential(Masking(), GRU(I, H, bidirectional=True)),
        "Bidirectional gives 0 where a step is masked",
        "Masking",
        "fill='hold' with steps of a bidirectional layer",
    ),
    (Sequential(Linear(I, 2), Merge("sum")), "Keras has it only right after", "Merge", "elsewhere"),
    (
        Sequential(GRU(I, H, bidirectional=True), Last(bidirectional=False)),
        "Keras has it only of the last steps",
        "Last",
        "of all features of a bidirectional layer",
    ),
    (
        Sequential(GRU(I, H, bidirectional=True), Linear(2 * H, 2), Last()),
        "only of the last steps",
        "Last",
        "",
    ),
]


@pytest.mark.parametrize(
    ("network", "message"),
    [pytest.param(*case[:2], marks=refused("to_keras", *case[2:])) for case in REFUSED],
)
def test_what_keras_has_not_is_refused_by_name(network, message, tmp_path):
    with pytest.raises(ValueError, match=rf"layer \w+, (.|\n)*: .*{message}"):
        to_keras(network, tmp_path / "network.keras")
    assert not list(tmp_path.iterdir())


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.keras, or Keras does not open it, got 'a\.h5'"):
        to_keras(LSTM(I, H), "a.h5")
    with pytest.raises(TypeError, match="network must be a layer or a Sequential, got 3"):
        to_keras(3, tmp_path / "network.keras")
    with pytest.raises(ValueError, match="tokens must be False: the first layer is not recurrent"):
        to_keras(Sequential(Linear(I, 2)), tmp_path / "network.keras", tokens=True)
    with pytest.raises(OSError, match="nowhere"):
        to_keras(LSTM(I, H), tmp_path / "nowhere" / "network.keras")


def test_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(keras_writer, extraglobs={"fastrnn": fastrnn})
    assert results.attempted and not results.failed
