"""Models of Keras 3, written here, and of Keras 2, recorded in tests/recorded/keras, come in."""

import json
import os
import sys
import warnings
import zipfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
from tables import refused, works

from fastrnn.interop import from_keras

h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RECORDED = Path(__file__).parent / "recorded" / "keras"


def case(what, remark, *values, works=works):
    """A test, and the rows of the page's table that it shows; they are its id."""
    marks = [works("from_keras", each, remark) for each in what.split(", ")]
    return pytest.param(*values, marks=marks, id=f"{what} {remark}".replace(" ", "-").rstrip("-"))


def no(what, remark, *values):
    return case(what, remark, *values, works=refused)


def expected(name):
    """What a recorded model was given, x, and what it gave, y."""
    return np.load(RECORDED / "expected" / f"{name}.npz")


def agrees(network, x, y):
    np.testing.assert_allclose(network(x), y, rtol=0, atol=1e-5)


# -- Keras 2


@pytest.mark.parametrize(
    "name",
    [
        case("Embedding, LSTM", "mask_zero: padding right, left and inside is skipped", "masked.h5"),
        case("GRU", "", "held.h5"),
        case("Dropout, SimpleRNN, GlobalAveragePooling1D", "", "mean.h5"),
        case("Masking, Bidirectional, TimeDistributed", "", "bidirectional.keras"),
        case("Bidirectional", "merge_mode='sum'", "merged.h5"),
        case("GRU", "reset_after=False", "before.h5"),
        case("hard_sigmoid", "of Keras 2 and 3", "hard.keras"),
        case("LSTM, GRU, SimpleRNN", "go_backwards=True", "backwards.h5"),
        case("RNN", "of LSTMCell, GRUCell, SimpleRNNCell, also on top of each other", "cells.keras"),
        case("functional models", "in a line", "functional.keras"),
        case("models within models", "", "frozen.h5"),
        case("CuDNNLSTM, CuDNNGRU", "", "cudnn.h5"),
        case("CuDNNGRU", "", "cudnn_both.keras"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*acts in training only")
def test_recorded(name):
    arrays = expected(Path(name).stem)
    agrees(from_keras(RECORDED / name), arrays["x"], arrays["y"])


@case("Keras 2", ".keras, .h5, and weights alone with architecture=", ...).marks[0]
@pytest.mark.parametrize("form", ["path", "text", "mapping"])
def test_recorded_weights(form):
    path = RECORDED / "expected" / "weights.json"
    given = {"path": path, "text": path.read_text(), "mapping": json.loads(path.read_text())}[form]
    arrays = expected("weights")
    agrees(from_keras(RECORDED / "weights.h5", architecture=given), arrays["x"], arrays["y"])


def test_one_layer_of_float64_makes_the_network_such():
    """Keras computes what is before in float16, with float32 weights."""
    arrays = expected("mixed")
    network = from_keras(RECORDED / "mixed.h5")
    assert {array.dtype for array in network.parameters.values()} == {np.dtype("float64")}
    np.testing.assert_allclose(network(arrays["x"].astype("float64")), arrays["y"], rtol=0, atol=1e-2)


# -- Keras 3


@pytest.fixture(scope="module")
def keras():
    """Keras 3, whose random numbers are the same in each run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("keras")
    module.utils.set_random_seed(20261126)
    return module


def model_of(keras, layers, shape=(6, 3), rng=None):
    """A model of layers, with weights that are nowhere zero."""
    model = keras.Sequential([keras.layers.Input(shape), *layers(keras.layers)])
    randomize(model)
    return model


def randomize(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=each.shape).astype(each.dtype) for each in model.get_weights()])


def steps(rng, dtype="float32"):
    return rng.normal(size=(3, 6, 3)).astype(dtype)


def padded(rng):
    """Right, left, inside, and nothing but padding; of tokens and of floats."""
    tokens = rng.integers(1, 7, (5, 6))
    tokens[1, 4:] = tokens[2, :3] = tokens[3, 2] = tokens[3, 5] = tokens[4] = 0
    floats = rng.normal(size=(5, 6, 3)).astype("float32")
    floats[tokens == 0] = -1.5
    return tokens, floats


def saved(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one suffix is older than the other
        model.save(path)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "layers",
    [
        case(
            "LSTM, Dense",
            "",
            lambda L: [L.LSTM(4, return_sequences=True), L.LSTM(3), L.Dense(2, "softmax")],
        ),
        case("GRU", "use_bias=False", lambda L: [L.GRU(4, use_bias=False), L.Dense(2, use_bias=False)]),
        case("GRU", "reset_after=False", lambda L: [L.GRU(4, reset_after=False)]),
        case("Flatten", "of a vector", lambda L: [L.GRU(4), L.Flatten(), L.Dense(2)]),
        case(
            "SimpleRNN, TimeDistributed",
            "",
            lambda L: [
                L.SimpleRNN(4, activation="relu", return_sequences=True),
                L.TimeDistributed(L.Dense(2)),
                L.TimeDistributed(L.Activation("tanh")),
            ],
        ),
        case(
            "Bidirectional",
            "return_sequences both ways",
            lambda L: [
                L.Bidirectional(L.LSTM(4, return_sequences=True)),
                L.Bidirectional(L.GRU(3)),
            ],
        ),
        case(
            "Bidirectional",
            "merge_mode='mul' and 'ave'",
            lambda L: [
                L.Bidirectional(L.LSTM(4, return_sequences=True), "mul"),
                L.Bidirectional(L.RNN(L.GRUCell(3)), "ave"),
            ],
        ),
        case(
            "Bidirectional",
            "a backward_layer like the layer",
            lambda L: [
                L.Bidirectional(L.LSTM(4), backward_layer=L.LSTM(4, go_backwards=True)),
            ],
        ),
        case(
            "LSTM, GRU, SimpleRNN",
            "go_backwards=True",
            lambda L: [
                L.LSTM(4, go_backwards=True, return_sequences=True),
                L.GRU(3, go_backwards=True),
            ],
        ),
        case(
            "RNN",
            "",
            lambda L: [
                L.RNN([L.LSTMCell(4), L.LSTMCell(4), L.SimpleRNNCell(3)], return_sequences=True),
                L.RNN(L.LSTMCell(2)),
            ],
        ),
        case(
            "hard_sigmoid",
            "",
            lambda L: [
                L.LSTM(4, recurrent_activation="hard_sigmoid", activation="relu"),
                L.Dense(2, "hard_sigmoid"),
            ],
        ),
        case(
            "models within models",
            "",
            lambda L: [
                L.LSTM(3, return_sequences=True),
                sequential(L.LSTM(3, return_sequences=True), L.LSTM(2)),
            ],
        ),
        case(
            "GlobalAveragePooling1D, GlobalMaxPooling1D",
            "after a recurrent layer",
            lambda L: [
                L.GRU(3, activation=None, return_sequences=True),
                L.GlobalMaxPooling1D(),
            ],
        ),
    ],
)
def test_networks(keras, layers, suffix, tmp_path, rng):
    model, x = model_of(keras, layers), steps(rng)
    agrees(from_keras(saved(model, tmp_path / f"model{suffix}")), x, model.predict(x, verbose=0))


def sequential(*layers):
    return sys.modules["keras"].Sequential(list(layers))


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
@pytest.mark.parametrize(
    "layers",
    [
        case(
            "Embedding, LSTM",
            "mask_zero: padding right, left and inside is skipped",
            lambda L: [
                L.Embedding(7, 4, mask_zero=True),
                L.Dropout(0.3),
                L.LSTM(4, return_sequences=True),
                L.LSTM(3),
            ],
        ),
        case("Embedding", "", lambda L: [L.Embedding(7, 4), L.GRU(3)]),
        case(
            "Embedding",
            "",
            lambda L: [
                L.Embedding(7, 4, mask_zero=True),
                L.Dense(3),
                L.Bidirectional(L.GRU(3)),
            ],
        ),
        case(
            "Masking, Bidirectional",
            "merge_mode='sum'",
            lambda L: [
                L.Masking(-1.5),
                L.Bidirectional(L.LSTM(3, return_sequences=True), "sum"),
                L.Dense(2),
            ],
        ),
        case(
            "Masking",
            "",
            lambda L: [
                L.Masking(-1.5),
                L.LSTM(3, return_sequences=True),
                L.LeakyReLU(),
                L.Dense(2, "softmax"),
            ],
        ),
        case(
            "Masking",
            "zero_output_for_mask=True",
            lambda L: [
                L.Masking(-1.5),
                L.LSTM(3, return_sequences=True, zero_output_for_mask=True),
                L.Dense(2),
            ],
        ),
        case("Masking, LSTM", "go_backwards=True", lambda L: [L.Masking(-1.5), L.LSTM(3, go_backwards=True)]),
    ],
)
def test_masks(keras, layers, functional, tmp_path, rng):
    tokens, floats = padded(rng)
    layers = layers(keras.layers)
    x = tokens if isinstance(layers[0], keras.layers.Embedding) else floats
    first = y = keras.layers.Input(x.shape[1:])
    if functional:
        for layer in layers:
            y = layer(y)
    model = keras.Model(first, y) if functional else keras.Sequential([first, *layers])
    randomize(model)
    agrees(from_keras(saved(model, tmp_path / "model.keras")), x, model.predict(x, verbose=0))


@works("from_keras", "GlobalAveragePooling1D", "of the steps that are not masked")
def test_a_mean_of_what_is_not_masked(keras, tmp_path, rng):
    x = padded(rng)[0][:4]
    model = model_of(
        keras,
        lambda L: [
            L.Embedding(7, 4, mask_zero=True),
            L.GRU(3, return_sequences=True),
            L.GlobalAveragePooling1D(),
        ],
        (6,),
    )
    agrees(from_keras(saved(model, tmp_path / "model.keras")), x, model.predict(x, verbose=0))


@pytest.mark.parametrize(
    "layer",
    [
        *(
            case("activations", name, lambda L, name=name: L.Dense(3, name))
            for name in "elu gelu leaky_relu linear log_softmax relu selu sigmoid silu softmax".split()
        ),
        *(
            case("activations", name, lambda L, name=name: L.Activation(name))
            for name in "softplus softsign swish tanh hard_sigmoid".split()
        ),
        case("Dense", "a layer as activation", lambda L: L.Dense(3, activation=L.LeakyReLU(0.4))),
        case("LeakyReLU", "", lambda L: L.LeakyReLU()),
        case("ReLU", "", lambda L: L.ReLU()),
        case("ReLU", "negative_slope", lambda L: L.ReLU(negative_slope=0.2)),
        case("ELU", "", lambda L: L.ELU(0.7)),
        case("Softmax", "of the last axis", lambda L: L.Softmax()),
    ],
)
def test_functions(keras, layer, rng):
    model, x = model_of(keras, lambda L: [layer(L)], (3,)), rng.normal(size=(20, 3)).astype("float32")
    agrees(from_keras(model), x, model.predict(x, verbose=0))


@works("from_keras", "live models", "of Keras 3 and 2")
def test_live_models(keras, rng):
    def layers(L):
        inner = sequential(
            L.Bidirectional(L.LSTM(3, return_sequences=True)), L.RNN([L.LSTMCell(3), L.LSTMCell(3)])
        )
        return [L.LSTM(3, return_sequences=True), inner, L.Dense(2)]

    model, x = model_of(keras, layers), steps(rng)
    agrees(from_keras(model), x, model.predict(x, verbose=0))
    outer, inner, *_ = from_keras(model, layers=True)
    assert outer.startswith("lstm") and "/" in inner
    assert {outer, inner.replace("/", "_")} <= set(from_keras(model).parts)


@pytest.mark.parametrize("policy", ["float64", "float16", "bfloat16", "mixed_bfloat16"])
def test_dtypes(keras, policy, tmp_path, rng):
    """What Keras computes in 16 bits is exact here."""
    del rng
    model = model_of(keras, lambda L: [L.SimpleRNN(3, dtype=policy, recurrent_initializer="zeros")])
    wanted = "float64" if policy == "float64" else "float32"
    for network in (from_keras(model), from_keras(saved(model, tmp_path / "model.keras"))):
        (layer,) = [part for name, part in network.parts.items() if not name.endswith("last")]
        assert layer.dtype == wanted
        kernel, recurrent, bias = (np.asarray(each).astype(wanted) for each in model.get_weights())
        found = layer.parameters
        for name, array in {
            "weight_ih_l0": kernel.T,
            "weight_hh_l0": recurrent.T,
            "bias_ih_l0": bias,
        }.items():
            np.testing.assert_array_equal(found[name], array)
        assert not found["bias_hh_l0"].any()


@pytest.mark.parametrize("form", ["path", "text", "mapping"])
@works("from_keras", ".weights.h5", "with architecture=")
def test_weights_of_keras_3(keras, form, tmp_path, rng):
    model, x = model_of(keras, lambda L: [L.Bidirectional(L.LSTM(3)), L.Dense(2)]), steps(rng)
    model.save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "model.json").write_text(model.to_json())
    given = {"path": tmp_path / "model.json", "text": model.to_json(), "mapping": json.loads(model.to_json())}
    network = from_keras(tmp_path / "model.weights.h5", architecture=given[form])
    agrees(network, x, model.predict(x, verbose=0))


# -- layers=True


def alone(keras):
    """Recurrent layers in a graph that is no line."""
    L = keras.layers
    x = L.Input((6, 3))
    y = L.LSTM(3, return_sequences=True, name="first")(L.Conv1D(3, 1)(x))
    y = L.Add()([L.Bidirectional(L.GRU(3, return_sequences=True), name="second", merge_mode="sum")(x), y])
    y = L.TimeDistributed(L.LayerNormalization())(y)
    model = keras.Model(x, sequential(L.SimpleRNN(2, name="third"))(y))
    randomize(model)
    return model


@pytest.mark.parametrize("cell, backward", [("backward_c", "rev"), ("c", "forward_rev"), ("lstm", "lstm")])
def test_names_that_look_like_a_direction(keras, cell, backward, tmp_path, rng):
    def layers(L):
        other = L.RNN(L.GRUCell(2, name="forward_c"), go_backwards=True, name=backward)
        return [L.Bidirectional(L.RNN(L.GRUCell(2, name=cell), name="forward_x"), backward_layer=other)]

    model, x = model_of(keras, layers), steps(rng)
    for source in (model, saved(model, tmp_path / "model.keras"), saved(model, tmp_path / "model.h5")):
        agrees(from_keras(source), x, model.predict(x, verbose=0))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@works("from_keras", "layers=True", "the recurrent layers of any model")
def test_recurrent_layers_alone(keras, suffix, tmp_path, rng):
    model, x = alone(keras), steps(rng)
    with pytest.warns(
        UserWarning, match="left to do: merge the halves of 'second', which has merge_mode='sum'"
    ):
        layers = from_keras(saved(model, tmp_path / f"model{suffix}"), layers=True)
    (nested,) = [name for name in layers if name.endswith("/third")]
    assert list(layers) == ["second", "first", nested] or list(layers) == ["first", "second", nested]
    agrees(lambda x: layers["first"](x)[0], x, model.get_layer("first")(x).detach().numpy())
    both = layers["second"](x)[0]
    agrees(lambda x: both[..., :3] + both[..., 3:], x, model.get_layer("second")(x).detach().numpy())


@pytest.mark.parametrize("form", [".weights.h5", "named"])
@works("from_keras", "layers=True", "of weights alone, with activation= and recurrent_activation=")
def test_recurrent_layers_of_weights_alone(keras, form, tmp_path, rng):
    path, x = tmp_path / "model.weights.h5", steps(rng)
    model = model_of(
        keras,
        lambda L: [
            L.Bidirectional(L.GRU(3, return_sequences=True)),
            L.LSTM(2, return_sequences=True),
            L.Dense(2),
        ],
    )
    if form == "named":
        with h5py.File(saved(model, tmp_path / "model.h5"), "r") as file, h5py.File(path, "w") as copy:
            for name in file["model_weights"]:
                file.copy(f"model_weights/{name}", copy)
            copy.attrs["layer_names"] = list(file["model_weights"])
    else:
        model.save_weights(path)
    with pytest.raises(ValueError, match=r"does not say its activation: say it by activation="):
        from_keras(path, layers=True)
    with pytest.raises(ValueError, match=r"does not say its recurrent_activation"):
        from_keras(path, layers=True, activation="tanh")
    layers = from_keras(path, layers=True, activation="tanh", recurrent_activation="sigmoid")
    both, one = layers.values()
    y = one(both(x)[0])[0]
    np.testing.assert_allclose(y, model.layers[1](model.layers[0](x)).detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*batch.*:UserWarning")
@works("from_keras", "layers=True", "of subclassed models, with activation= and recurrent_activation=")
def test_recurrent_layers_of_a_subclassed_model(keras, tmp_path, rng):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = keras.layers.LSTM(3)
            self.both = keras.layers.Bidirectional(keras.layers.GRU(3))

        def call(self, x):
            return self.encoder(x) + self.both(x)[:, :3]

    model, x = Own(), steps(rng)
    model(x)
    path = saved(model, tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"\(Own\) is no Sequential and no functional model"):
        from_keras(path)
    with pytest.raises(ValueError, match="does not describe its layers: save it, and read the file"):
        from_keras(model, layers=True)
    layers = from_keras(path, layers=True, activation="tanh", recurrent_activation="sigmoid")
    assert list(layers) == ["both", "encoder"]
    agrees(lambda x: layers["encoder"](x)[0][:, -1], x, model.encoder(x).detach().numpy())


@pytest.mark.parametrize("slashes", [False, True], ids=["time_distributed", "slashes"])
def test_names_as_keras_2_has_them(keras, slashes, tmp_path):
    """Without that of a wrapped layer; with a slash, which makes groups of it."""
    layers = keras.layers
    first = layers.LSTM(2, name="rnn", return_sequences=True) if slashes else layers.LSTM(2, name="rnn")
    first = first if slashes else layers.TimeDistributed(first, name="all")
    model = keras.Sequential(
        [layers.Input((6, 3) if slashes else (4, 6, 3)), first, layers.LSTM(2)], name="m"
    )
    randomize(model)
    path = saved(model, tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        if slashes:
            weights.move("rnn/m/rnn", "rnn/m/block/rnn")
            weights.move("rnn", "block/rnn")
            file.attrs["model_config"] = file.attrs["model_config"].replace('"rnn"', '"block/rnn"')
        else:
            weights.move("all/m/all/rnn/lstm_cell", "all/m/all/lstm_cell")
    rnn = from_keras(path, layers=True)["block/rnn" if slashes else "all/rnn"]
    np.testing.assert_array_equal(rnn.parameters["weight_ih_l0"], model.get_weights()[0].T)


def test_layers_alone_that_somebody_calls_forward_and_backward(keras, tmp_path, rng):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.forward_rnn = keras.layers.SimpleRNN(3, return_sequences=True)
            self.backward_rnn = keras.layers.SimpleRNN(3)

        def call(self, x):
            return self.backward_rnn(self.forward_rnn(x))

    model, x = Own(), steps(rng)
    y = model(x).detach().numpy()
    model.save_weights(tmp_path / "model.weights.h5")
    layers = from_keras(tmp_path / "model.weights.h5", layers=True, activation="tanh")
    agrees(lambda x: layers["backward_rnn"](layers["forward_rnn"](x)[0])[0][:, -1], x, y)


def test_weights_of_keras_2_12_to_2_14(keras, tmp_path, rng):
    """Layers with weights were counted twice, under another name."""
    model = model_of(
        keras,
        lambda L: [
            L.LSTM(3, return_sequences=True),
            L.LSTM(3),
            sequential(L.Dense(2), L.Dense(2)),
            L.Dense(2),
        ],
    )
    model.save_weights(tmp_path / "model.weights.h5")
    before = "_layer_checkpoint_dependencies"
    with h5py.File(tmp_path / "model.weights.h5", "r+") as file:
        inner = file["layers/sequential"]
        for layers in (inner["layers"], file["layers"]):
            for name in [name for name in layers if name.endswith("_1")]:
                layers.move(name, f"{name[:-1]}2")
        inner.move("layers", before)
        file.move("layers", before)
    x = steps(rng)
    network = from_keras(tmp_path / "model.weights.h5", architecture=model.to_json())
    agrees(network, x, model.predict(x, verbose=0))


def test_a_gru_without_bias_is_asked_about(keras, tmp_path):
    model_of(keras, lambda L: [L.GRU(3, use_bias=False)]).save_weights(tmp_path / "model.weights.h5")
    answers = {"layers": True, "activation": "tanh", "recurrent_activation": "sigmoid"}
    with pytest.raises(ValueError, match="has no bias, which would tell its form: say it by reset_after="):
        from_keras(tmp_path / "model.weights.h5", **answers)
    for form in (True, False):
        (layer,) = from_keras(tmp_path / "model.weights.h5", **answers, reset_after=form).values()
        assert layer.reset_after is form


# -- what is not represented


@pytest.mark.parametrize(
    "layers, words",
    [
        no("Conv1D", "", lambda L: [L.Conv1D(3, 2)], r"\(Conv1D\) is no layer that fastrnn has"),
        no("Flatten", "of steps", lambda L: [L.Flatten()], r"\(Flatten\) is no layer"),
        no("Reshape", "", lambda L: [L.Reshape((3, 6))], r"\(Reshape\) is no layer"),
        no("RepeatVector", "", lambda L: [L.LSTM(2), L.RepeatVector(3)], r"\(RepeatVector\) is no layer"),
        no(
            "BatchNormalization",
            "",
            lambda L: [L.BatchNormalization()],
            r"\(BatchNormalization\) is no layer",
        ),
        no(
            "LayerNormalization",
            "",
            lambda L: [L.LayerNormalization()],
            r"\(LayerNormalization\) is no layer",
        ),
        no("PReLU", "", lambda L: [L.PReLU()], r"\(PReLU\) is no layer"),
        no("Lambda", "never executed", lambda L: [L.Lambda(abs)], r"\(Lambda\) is no layer"),
        no(
            "LSTM, GRU, SimpleRNN",
            "other activations",
            lambda L: [L.LSTM(3, activation="gelu")],
            "activation='gelu'",
        ),
        no("Dense", "other activations", lambda L: [L.Dense(3, "mish")], "has activation='mish'"),
        no("ReLU", "max_value, threshold", lambda L: [L.ReLU(max_value=6)], r"\(ReLU\) has max_value=6"),
        no("Softmax", "of another axis", lambda L: [L.Softmax(axis=1)], r"\(Softmax\) has axis=1"),
        no(
            "Bidirectional",
            "with a backward_layer that differs",
            lambda L: [
                L.Bidirectional(L.LSTM(3), backward_layer=L.LSTM(3, go_backwards=True, use_bias=False))
            ],
            "has a backward_layer that differs",
        ),
        no(
            "Bidirectional",
            "of cells on top of each other",
            lambda L: [L.Bidirectional(L.RNN([L.LSTMCell(3), L.LSTMCell(3)]))],
            "has 2 cells on top of each other in each direction",
        ),
        no(
            "Bidirectional",
            "around go_backwards=True",
            lambda L: [L.Bidirectional(L.LSTM(3, go_backwards=True), backward_layer=L.LSTM(3))],
            "has a layer with go_backwards=True",
        ),
        no(
            "TimeDistributed",
            "of others",
            lambda L: [L.TimeDistributed(L.LayerNormalization())],
            "wraps a LayerNormalization",
        ),
        no(
            "GlobalAveragePooling1D, GlobalMaxPooling1D",
            "without a recurrent layer, or with keepdims=True",
            lambda L: [L.GlobalMaxPooling1D()],
            "without a recurrent layer",
        ),
        no(
            "GlobalAveragePooling1D, GlobalMaxPooling1D",
            "without a recurrent layer, or with keepdims=True",
            lambda L: [L.GlobalMaxPooling1D(keepdims=True)],
            "keepdims=True",
        ),
        no(
            "Masking",
            "of what other layers give",
            lambda L: [L.Dense(3), L.Masking(), L.LSTM(3)],
            "masks what other layers give",
        ),
        no(
            "Masking",
            "where nothing skips steps",
            lambda L: [L.Masking(-1.5), L.Dense(3)],
            "is followed by no layer that skips steps",
        ),
        no(
            "go_backwards=True",
            "with return_sequences=True after a mask",
            lambda L: [L.Masking(), L.LSTM(3, go_backwards=True, return_sequences=True)],
            "whose mask is not turned",
        ),
        no(
            "Bidirectional",
            "with unroll=True and return_sequences=True after a mask",
            lambda L: [L.Masking(), L.Bidirectional(L.LSTM(3, unroll=True, return_sequences=True))],
            "has unroll=True",
        ),
        no(
            "zero_output_for_mask=True",
            "without return_sequences=True",
            lambda L: [L.Masking(), L.LSTM(3, zero_output_for_mask=True)],
            "but not return_sequences=True",
        ),
        no(
            "GlobalMaxPooling1D",
            "after a mask",
            lambda L: [L.Masking(), L.LSTM(3, return_sequences=True), L.GlobalMaxPooling1D()],
            "does not know which steps are masked",
        ),
        no(
            "Softmax",
            "after a mask",
            lambda L: [L.Masking(), L.LSTM(3, return_sequences=True), L.Softmax()],
            "takes the mask of steps for one of features",
        ),
        no(
            "models within models",
            "with a mask that goes in or out",
            lambda L: [sequential(L.Masking(), L.LSTM(3, return_sequences=True)), L.LSTM(2)],
            "is in another model than 'masking",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*mask:UserWarning")
def test_refused(keras, layers, words, tmp_path):
    path = saved(model_of(keras, layers), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=f"{path}.*layer '.*{words}.*layers=True"):
        from_keras(path)


GRAPHS = [
    no(
        "functional models",
        "several inputs or outputs",
        lambda L, x: ([x, L.Input((6, 3))], L.LSTM(2)(x)),
        "has 2 input_layers",
    ),
    no(
        "functional models",
        "several inputs or outputs",
        lambda L, x: (x, [L.LSTM(2)(x), L.GRU(2)(x)]),
        "has 2 output_layers",
    ),
    no(
        "functional models",
        "branches",
        lambda L, x: (x, L.Add()([L.LSTM(2)(x), L.GRU(2)(x)])),
        r"\(Add\) is called with 2 inputs",
    ),
    no(
        "functional models",
        "a layer used twice",
        lambda L, x: (x, twice(L.SimpleRNN(3, return_sequences=True), x)),
        "is used 2 times",
    ),
    no(
        "LSTM, GRU, SimpleRNN",
        "initial_state, return_state",
        lambda L, x: (x, L.LSTM(3)(x, initial_state=[L.GRU(3)(x), L.GRU(3)(x)])),
        "is called with initial_state=",
    ),
    no(
        "LSTM, GRU, SimpleRNN",
        "initial_state, return_state",
        lambda L, x: (x, L.GRU(3, return_state=True)(x)[0]),
        "has return_state=True",
    ),
    no(
        "Bidirectional",
        "merge_mode=None",
        lambda L, x: (x, L.Bidirectional(L.GRU(3), merge_mode=None)(x)[0]),
        "has merge_mode=None",
    ),
    no(
        "calls with training=True",
        "",
        lambda L, x: (x, L.Dropout(0.5)(L.LSTM(3)(x), training=True)),
        "is called with training=True",
    ),
    no(
        "inputs",
        "of integers, of which no Embedding makes floats",
        lambda L, x: ((x := L.Input((6, 3), dtype="int32")), L.LSTM(3)(x)),
        "makes int32 of what it gets, and 'lstm[_0-9]*' takes floats",
    ),
    no("operations on tensors", "", lambda L, x: (x, L.LSTM(3)(x) + 1.0), r"\(Add\)"),
]


def twice(layer, x):
    return layer(layer(x))


@pytest.mark.parametrize("graph, words", GRAPHS)
def test_refused_graphs(keras, graph, words, tmp_path):
    model = keras.Model(*graph(keras.layers, keras.layers.Input((6, 3))))
    path = saved(model, tmp_path / "model.keras")
    with pytest.raises(ValueError, match=f"{path}.*({words}).*layers=True"):
        from_keras(path)


def test_a_mask_by_hand_is_refused(keras, tmp_path):
    x = keras.layers.Input((6, 3))
    model = keras.Model(x, keras.layers.LSTM(3)(x, mask=keras.ops.any(keras.ops.not_equal(x, 1.0), axis=-1)))
    path = saved(model, tmp_path / "model.keras")
    with pytest.raises(ValueError, match="is given a mask that comes from no Embedding or Masking before it"):
        from_keras(path)


@refused("from_keras", "classes of one's own", "never looked up")
def test_classes_of_ones_own_are_refused(keras, tmp_path):
    @keras.saving.register_keras_serializable("mine")
    class LSTM(keras.layers.LSTM):
        pass

    class GRU(keras.layers.GRU):
        pass

    def own(x):
        return x

    path = saved(keras.Sequential([keras.layers.Input((6, 3)), GRU(2)]), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"\(GRU\) is a class of somebody's own"):
        from_keras(path)

    path = saved(keras.Sequential([keras.layers.Input((6, 3)), LSTM(2)]), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"\(LSTM\) is a class of somebody's own, 'mine>LSTM'"):
        from_keras(path)
    with pytest.raises(ValueError, match="has no LSTM, GRU or SimpleRNN of Keras's own"):
        from_keras(path, layers=True)
    model = keras.Sequential([keras.layers.Input((6, 3)), keras.layers.Dense(2, activation=own)])
    with pytest.raises(ValueError, match=r"\(Dense\) has activation=.*own"):
        from_keras(saved(model, tmp_path / "model.keras"))


@pytest.mark.parametrize(
    "layers, words",
    [
        case(
            "dropout, recurrent_dropout",
            "left out, with a warning: in training Keras drops in another way",
            lambda L: [L.LSTM(3, dropout=0.1, recurrent_dropout=0.2)],
            r"left out.*dropout=0.1 of 'lstm\w*', recurrent_dropout=0.2 of",
        ),
        case(
            "regularizers, constraints",
            "left out, with a warning",
            lambda L: [L.LSTM(3), L.Dense(2, kernel_regularizer="l2", bias_constraint="non_neg")],
            "left out.*kernel_regularizer.*bias_constraint",
        ),
        case(
            "SpatialDropout1D, GaussianNoise, GaussianDropout, AlphaDropout",
            "left out, with a warning: they act in training only",
            lambda L: [L.SpatialDropout1D(0.5), L.GaussianNoise(0.1), L.LSTM(3)],
            "left out.*SpatialDropout1D.*GaussianNoise",
        ),
        case(
            "trainable=False",
            "not kept, with a warning",
            lambda L: [L.LSTM(3, trainable=False)],
            "trainable=False of 'lstm",
        ),
        case(
            "stateful=True",
            "with a warning: pass state= and return_state=",
            lambda L: [L.LSTM(3, stateful=True)],
            "left to do: pass state= and return_state=True on",
        ),
    ],
)
def test_what_acts_in_training_only_is_left_out(keras, layers, words, tmp_path, rng):
    model = keras.Sequential([keras.layers.Input(batch_shape=(3, 6, 3)), *layers(keras.layers)])
    randomize(model)
    x = steps(rng)
    for source in (model, saved(model, tmp_path / "model.keras"), saved(model, tmp_path / "model.h5")):
        with pytest.warns(UserWarning, match=words):
            network = from_keras(source)
    agrees(network, x, model.predict(x, verbose=0))


def test_names_that_a_sequential_has_itself(keras):
    model = model_of(keras, lambda L: [L.LSTM(3, name="self"), L.Dense(2, name="bptt_steps")])
    assert list(from_keras(model).parts) == ["self_2", "self_last", "bptt_steps_2"]


# -- questions


def rewritten(path, change, tmp_path, compression=zipfile.ZIP_STORED):
    """A recorded archive whose members have been changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(tmp_path / path.name, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return tmp_path / path.name


def test_hard_sigmoid_is_asked_about(tmp_path):
    path = rewritten(RECORDED / "hard.keras", set_to("metadata.json", b"{}"), tmp_path)
    with pytest.raises(ValueError, match=r"0.2 x \+ 0.5 in Keras 2 and x / 6 \+ 0.5 in Keras 3: say which"):
        from_keras(path)
    arrays = expected("hard")
    agrees(from_keras(path, version=2), arrays["x"], arrays["y"])
    assert np.abs(from_keras(path, version=3)(arrays["x"]) - arrays["y"]).max() > 1e-3
    with pytest.raises(ValueError, match=r"is of Keras 2\.\S+, got version=3"):
        from_keras(RECORDED / "hard.keras", version=3)


@refused("from_keras", "options that no known version of Keras has", "")
def test_options_that_nobody_knows_are_refused(tmp_path):
    def change(members):
        members["config.json"] = members["config.json"].replace(b'"units"', b'"peephole": true, "units"')

    path = rewritten(RECORDED / "hard.keras", change, tmp_path)
    with pytest.raises(ValueError, match=r"layer 'lstm\w*' \(LSTM\) has peephole=True, which no known"):
        from_keras(path)


@refused("from_keras", ".weights.h5", "layers=True where no recurrent layer is")
def test_a_file_without_recurrent_layers_gives_no_empty_dict(tmp_path):
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.zeros((3, 4), "f4")
    with pytest.raises(ValueError, match=r"weights\.h5': has no LSTM, GRU or SimpleRNN"):
        from_keras(tmp_path / "model.weights.h5", layers=True)


def test_other_versions_are_refused(tmp_path):
    change = set_to("metadata.json", b'{"keras_version": "1.2.2"}')
    with pytest.raises(ValueError, match=r"is of Keras '1\.2\.2', and only those of Keras 2 and 3 are known"):
        from_keras(rewritten(RECORDED / "hard.keras", change, tmp_path))


def test_weights_alone_ask_for_an_architecture():
    with pytest.raises(ValueError, match=r"weights\.h5': has weights alone: give architecture=.*layers=True"):
        from_keras(RECORDED / "weights.h5")
    with pytest.raises(ValueError, match="architecture= is for weights alone"):
        from_keras(RECORDED / "held.h5", architecture=RECORDED / "expected" / "weights.json")


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"model": 3}, TypeError, "model must be a path or a model of Keras, got 3"),
        ({"layers": 1}, TypeError, "layers must be True or False"),
        ({"version": 4}, ValueError, "version must be 2 or 3, got 4"),
        ({"architecture": 4}, TypeError, "architecture must be what model.to_json"),
        ({"architecture": "{"}, ValueError, "'architecture': its JSON cannot be read"),
        ({"architecture": "{" * 3}, ValueError, "'architecture': its JSON cannot be read"),
        ({"architecture": "nowhere.json"}, FileNotFoundError, "nowhere.json"),
        ({"model": "nowhere.keras"}, FileNotFoundError, "nowhere.keras"),
    ],
)
def test_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        from_keras(**{"model": RECORDED / "weights.h5", **arguments})


def test_without_h5py(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ImportError, match=r"reading a file of Keras needs h5py: pip install .*fastrnn\[keras\]"
    ):
        from_keras(RECORDED / "held.h5")


def without(member):
    return lambda members: members.pop(member)


def set_to(member, content):
    return lambda members: members.update({member: content})


def edited(*way, **options):
    """The architecture of weights.h5, of which a part has other options."""
    config = json.loads((RECORDED / "expected" / "weights.json").read_text())
    part = config
    for key in way:
        part = part[key]
    part.update(options)
    return config


LAYER = ("config", "layers", 1, "config")


@pytest.mark.parametrize(
    "architecture, words",
    [
        no(
            "LSTM, GRU, SimpleRNN",
            "time_major=True",
            edited(*LAYER, "layer", "config", time_major=True),
            "has time_major=True",
        ),
        no(
            "inputs",
            "sparse or ragged",
            edited("config", "layers", 0, "config", ragged=True),
            "has ragged=True",
        ),
        no(
            "quantized layers",
            "",
            edited("config", "layers", 2, "config", quantization_config={"a": 1}),
            "has quantization_config=",
        ),
        no(
            "quantized layers", "", edited(*LAYER, dtype="int8_from_float32"), "has dtype 'int8_from_float32'"
        ),
        no(
            "Bidirectional",
            "around other layers",
            edited(*LAYER, layer={"class_name": "Dense", "config": {}}),
            "wraps a Dense",
        ),
        no(
            "TimeDistributed",
            "of others",
            edited(
                "config",
                "layers",
                2,
                class_name="TimeDistributed",
                config={"layer": {"class_name": "LSTM", "config": {}}},
            ),
            "wraps a LSTM",
        ),
        no(
            "RNN",
            "of other cells",
            edited(
                "config",
                "layers",
                2,
                class_name="RNN",
                config={"cell": {"class_name": "ConvLSTM2DCell", "config": {}}},
            ),
            "has a cell ConvLSTM2DCell",
        ),
    ],
)
def test_refused_of_keras_2(architecture, words):
    with pytest.raises(ValueError, match=f"weights.h5': layer '.*{words}.*layers=True"):
        from_keras(RECORDED / "weights.h5", architecture=architecture)


@pytest.mark.parametrize(
    "architecture, words",
    [
        (
            edited("config", "layers", 2, "config", units=3),
            r"shapes \[\(4, 2\), \(2,\)\], its options say \[\(4, 3\)",
        ),
        (edited("config", "layers", 2, "config", use_bias=False), "its options say"),
        (edited(*LAYER, "layer", "config", units=4), "which do not fit units=4"),
        (
            edited(*LAYER, "layer", "config", use_bias=False),
            "must have kernel and recurrent_kernel, found 3 arrays",
        ),
        (edited(*LAYER, "layer", class_name="GRU"), "which do not fit units=2"),
        (edited(*LAYER, "layer", class_name="CuDNNLSTM"), "which do not fit units=2"),
        (
            edited(
                "config",
                "layers",
                2,
                class_name="Embedding",
                config={"name": "dense", "input_dim": 4, "output_dim": 2},
            ),
            "its options say",
        ),
    ],
    ids=range(7),
)
def test_weights_that_are_another_layers(architecture, words):
    with pytest.raises(ValueError, match=f"weights.h5': layer '.*{words}"):
        from_keras(RECORDED / "weights.h5", architecture=architecture)


def test_a_sequential_of_keras_2_1():
    """Its configuration was the list of its layers, the first of which said what comes in."""
    config = edited()
    config["config"] = config["config"]["layers"][1:]
    arrays = expected("weights")
    agrees(from_keras(RECORDED / "weights.h5", architecture=config), arrays["x"], arrays["y"])


def test_what_masked_steps_were_filled_with_before(tmp_path):
    path = rewritten(
        RECORDED / "bidirectional.keras", set_to("metadata.json", b'{"keras_version": "2.3.1"}'), tmp_path
    )
    with pytest.raises(ValueError, match=r"is of a Keras before 2\.4, which fills masked steps otherwise"):
        from_keras(path)


# -- files that are damaged or meant to harm


def hdf5(change, tmp_path):
    """A recorded HDF5 file, changed."""
    path = tmp_path / "model.h5"
    path.write_bytes((RECORDED / "before.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replaced(file, make):
    """One of its arrays by something else, which `make` puts into the group under a name."""
    found = []
    file.visititems(lambda name, node: found.append(node.parent) if name.endswith("/bias:0") else None)
    del found[0]["bias:0"]
    make(found[0], "bias:0")


def elsewhere(group, name):
    group[name] = h5py.ExternalLink("other.h5", "/secret")


def soft(group, name):
    group[name] = h5py.SoftLink("/model_weights")


def compressed(group, name):
    group.create_dataset(name, data=np.zeros(6, "float32"), compression="gzip")


def outside(group, name):
    group.create_dataset(name, (6,), "float32", external=[("/etc/passwd", 0, 24)])


def virtual(group, name):
    layout = h5py.VirtualLayout((6,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (6,))
    group.create_virtual_dataset(name, layout)


def references(group, name):
    group.create_dataset(name, (6,), h5py.ref_dtype)


def texts(group, name):
    group.create_dataset(name, (6,), h5py.string_dtype())


def huge(group, name):
    group.create_dataset(name, (10**12,), "float32")


def chunks(group, name):
    group.create_dataset(name, (10**6,), "float32", chunks=(1000,))


def integers(group, name):
    group[name] = np.zeros(6, "int64")


def circle(group, name):
    group[name] = group


def twice_there(group, name):
    group[name] = group["kernel:0"]


def deep(group, name):
    for _ in range(100):
        group = group.create_group("a")
    group[name] = np.zeros(6, "float32")


@pytest.mark.parametrize(
    "make, words",
    [
        (elsewhere, "bias:0 is a link, which may lead to another file"),
        (soft, "bias:0 is a link"),
        (compressed, "is in pieces, which may be compressed: write it in one"),
        (outside, "are in another file"),
        (virtual, "are in another file"),
        (references, "must be of floats, its dtype is object"),
        (texts, "must be of floats, its dtype is object"),
        (huge, r"of shape \(1000000000000,\) is more than the file holds"),
        (chunks, "is in pieces"),
        (integers, "must be of floats, its dtype is int64"),
        (circle, "leads in circles"),
        (twice_there, "leads in circles"),
        (deep, "leads in circles"),
        (lambda group, name: None, "must have kernel and recurrent_kernel and bias, found 2 arrays"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hostile_hdf5(make, words, tmp_path):
    path = hdf5(lambda file: replaced(file, make), tmp_path)
    with pytest.raises(ValueError, match=rf"{path}.*{words}"):
        from_keras(path)


@pytest.mark.parametrize(
    "value, words",
    [
        (np.array(["{}", "{}"], "S2"), "its attribute 'model_config' is not one text"),
        (3, "its attribute 'model_config' is not one text"),
        ("{", "its JSON cannot be read"),
        ("[]", r"its JSON is no object, but \[\]"),
        ("[" * 100_000, "its JSON cannot be read"),
        ('{"class_name": "Sequential", "config": ' * 10_000, "its JSON cannot be read"),
        ("x" * (1 << 23), "its JSON has 8,388,608 bytes, more than"),
        (b"\xff\xff", "its JSON cannot be read"),
    ],
    ids=range(8),
)
def test_hostile_architectures_of_hdf5(value, words, tmp_path):
    def change(file):
        del file.attrs["model_config"]
        kind = None if not isinstance(value, str) else h5py.string_dtype()
        file.attrs.create("model_config", value, dtype=kind)

    path = hdf5(change, tmp_path)
    with pytest.raises(ValueError, match=f"{path}.*{words}"):
        from_keras(path)


USUAL = {"name": "gru", "units": 2, "activation": "tanh", "recurrent_activation": "sigmoid"}
GRU = {"class_name": "GRU", "config": USUAL}
INPUT = {"class_name": "InputLayer", "name": "x", "config": {"name": "x"}, "inbound_nodes": []}


def graph(*layers, first="x", last="y"):
    return {
        "class_name": "Functional",
        "config": {
            "name": "m",
            "layers": layers,
            "input_layers": [[first, 0, 0]],
            "output_layers": [[last, 0, 0]],
        },
    }


def dense(name, source):
    return {
        "class_name": "Dense",
        "name": name,
        "config": {"name": name, "units": 2},
        "inbound_nodes": source,
    }


@pytest.mark.parametrize(
    "config, words",
    [
        ({}, "a layer's class_name must be a text, got None"),
        (
            {"class_name": "Sequential", "config": 3},
            "the config of a Sequential must be a JSON object, got 3",
        ),
        ({"class_name": "Sequential", "config": {}}, "is no Sequential and no functional model"),
        ({"class_name": "Sequential", "config": {"layers": 3}}, "has layers=3, which is no list"),
        ({"class_name": "Sequential", "config": {"layers": [3]}}, "3 is no description of a layer"),
        (
            {"class_name": "Sequential", "config": [{"class_name": "GRU", "config": {"name": 3}}]},
            "the name of a GRU must be a text",
        ),
        (
            {"class_name": "Sequential", "config": [{**GRU, "config": {**GRU["config"], "units": True}}]},
            "has units=True, which is no int",
        ),
        ({"class_name": "Sequential", "config": [{**GRU, "config": {"name": "gru"}}]}, "does not say its"),
        (
            {"class_name": "Sequential", "config": [{"class_name": "Dropout", "config": {"rate": 2.0}}]},
            r"layer 'dropout' \(Dropout\) has rate=2.0, which is no share",
        ),
        (
            {
                "class_name": "Sequential",
                "config": [{"class_name": "ELU", "config": {"alpha": float("nan")}}],
            },
            r"layer 'elu' \(ELU\) has alpha=nan, which is no float",
        ),
        ({"class_name": "Sequential", "config": [{**GRU, "config": {"dtype": "int8"}}]}, "has dtype 'int8'"),
        ({"class_name": "Own", "config": {"layers": []}}, "is no Sequential and no functional model"),
        (graph(INPUT), "has no way from its input 'x' to its output 'y'"),
        (graph(INPUT, dense("y", [[["y", 0, 0, {}]]])), "has no way from its input"),
        (
            graph(INPUT, dense("y", [[["z", 0, 0, {}]]]), dense("z", [[["y", 0, 0, {}]]])),
            "has no way from its input",
        ),
        (graph(INPUT, dense("y", 3)), "is used 0 times"),
        (graph(INPUT, dense("y", [3])), "has an input that is no tensor, 3"),
        (graph(INPUT, dense("y", [[3]])), "has an input that is no tensor, 3"),
        (graph(INPUT, dense("y", [[["x", 0, 1, {}]]])), "takes output 1 of layer 'x'"),
        (
            graph(INPUT, dense("y", [{"args": [{"config": {"keras_history": 3}}]}])),
            "has an input that is no tensor, 3",
        ),
        (graph(INPUT, dense("y", [[["x", 0, 0, {}]]]), dense("z", [[["x", 0, 0, {}]]])), "is beside the way"),
        (graph(INPUT, last="x", first="z"), "is used 0 times"),
        (graph(INPUT, dense("z", 3), first="z", last="z"), "has no InputLayer 'z'"),
        ({"class_name": "Sequential", "config": [GRU, GRU]}, "has layers of one name"),
    ],
    ids=range(24),
)
def test_hostile_architectures(config, words):
    with pytest.raises(ValueError, match=f"weights.h5': .*({words})"):
        from_keras(RECORDED / "weights.h5", architecture=config)


@pytest.mark.parametrize(
    "change, words",
    [
        (without("config.json"), "has no member 'config.json'"),
        (without("metadata.json"), "has no member 'metadata.json'"),
        (without("model.weights.h5"), "has no member 'model.weights.h5'"),
        (set_to("model.weights.h5", b"x"), "cannot be read as an HDF5 file"),
        (set_to("config.json", b"\x00"), "its JSON cannot be read"),
        (set_to("metadata.json", b"3"), "its JSON is no object, but 3"),
        (set_to("metadata.json", b'{"keras_version": 3}'), "is of Keras 3, and only"),
        (set_to("assets/bomb", bytes(1 << 22)), "more than twice its size"),
    ],
    ids=range(8),
)
def test_hostile_archives(change, words, tmp_path):
    path = rewritten(RECORDED / "hard.keras", change, tmp_path, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=f"{path}.*{words}"):
        from_keras(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"GIF89a" * 100])
def test_other_files(content, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        from_keras(path)


def test_what_is_no_regular_file(tmp_path):
    with pytest.raises(IsADirectoryError):
        from_keras(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="must be a regular file"):
        from_keras(tmp_path / "pipe")
