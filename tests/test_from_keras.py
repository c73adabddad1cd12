"""Models of Keras 3, written here, and of Keras 2, recorded in tests/recorded/keras, come in."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest
from tables import refused, works

from fastrnn.interop import from_keras

keras = pytest.importorskip("keras")
pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

L = keras.layers


def written(model, path, rng):
    """Weights other than zeros for its biases, and the model in a file."""
    model.set_weights([rng.normal(size=each.shape).astype(each.dtype) for each in model.get_weights()])
    model.save(path)
    return path


FLOATS = (6, 3)  # T, I

NETWORKS = [
    pytest.param(
        lambda: [L.LSTM(4, return_sequences=True), L.LSTM(3)], marks=works("from_keras", "LSTM"), id="lstm"
    ),
    pytest.param(lambda: [L.GRU(4)], marks=works("from_keras", "GRU", "reset_after=True"), id="gru"),
    pytest.param(
        lambda: [L.GRU(4, reset_after=False)],
        marks=works("from_keras", "GRU", "reset_after=False"),
        id="gru-before",
    ),
    pytest.param(
        lambda: [L.SimpleRNN(4, activation="relu", return_sequences=True), L.Dense(2, activation="tanh")],
        marks=[works("from_keras", "SimpleRNN"), works("from_keras", "Dense")],
        id="rnn",
    ),
    pytest.param(
        lambda: [L.Bidirectional(L.LSTM(4, return_sequences=True)), L.Bidirectional(L.GRU(3)), L.Dense(2)],
        marks=works("from_keras", "Bidirectional", "merge_mode='concat'"),
        id="bidirectional",
    ),
]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("layers", NETWORKS)
def test_networks(layers, suffix, tmp_path, rng):
    model = keras.Sequential([L.Input(FLOATS), *layers()])
    path = written(model, tmp_path / f"model{suffix}", rng)
    x = rng.normal(size=(2, *FLOATS)).astype("float32")
    np.testing.assert_allclose(from_keras(path)(x), model.predict(x, verbose=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "layers, words",
    [
        pytest.param(
            lambda: [L.Conv1D(3, 2)],
            r"layer 'conv1d\w*' \(Conv1D\) is no layer",
            marks=refused("from_keras", "Conv1D"),
            id="conv1d",
        ),
        pytest.param(
            lambda: [L.LSTM(3, activation="gelu")],
            r"layer 'lstm\w*' \(LSTM\) has activation='gelu'",
            marks=refused("from_keras", "other activations of recurrent layers"),
            id="gelu",
        ),
    ],
)
def test_refused(layers, words, tmp_path, rng):
    path = written(keras.Sequential([L.Input(FLOATS), *layers()]), tmp_path / "model.keras", rng)
    with pytest.raises(ValueError, match=f"{path}.*{words}.*layers=True"):
        from_keras(path)
