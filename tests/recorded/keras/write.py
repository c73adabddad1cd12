"""Writes the files in this folder: models of Keras 2 (tf_keras), what they were given and what they gave.

    TF_USE_LEGACY_KERAS=1 python tests/recorded/keras/write.py

Needs tensorflow and tf_keras. Archives are compressed once they are written, so that they stay small; Keras
reads them as well.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

FOLDER = Path(__file__).parent
L = keras.layers
C = tf.compat.v1.keras.layers

RNG = np.random.default_rng(20261126)


def tokens(some=False):
    """Sequences: whole, padded right, left and inside, and, unless each has some steps, without any."""
    x = RNG.integers(1, 7, (4, 6))
    x[1, 4:] = x[2, :3] = x[3, 2] = x[3, 5] = 0
    return x if some else np.concatenate([x, np.zeros((1, 6), int)])


def floats(masked=False):
    x = RNG.normal(size=(4, 6, 3)).astype("float32")
    if masked:
        x[1, 4:] = x[2, :3] = x[3, 2] = x[3, 5] = -1
        x = np.concatenate([x, np.full((1, 6, 3), -1, "float32")])
    return x


def save(name, model, x, suffix=".h5", same=None):
    """A model, and what it makes of x; or what another with the same weights makes of it."""
    model.set_weights([RNG.normal(size=each.shape).astype(each.dtype) for each in model.get_weights()])
    path = FOLDER / f"{name}{suffix}"
    model.save(path)
    if suffix == ".keras":
        pack(path)
    if same is not None:
        model.save_weights(FOLDER / "weights.h5")
        same.load_weights(FOLDER / "weights.h5")
        (FOLDER / "weights.h5").unlink()
    record(path, x, (model if same is None else same).predict(x, verbose=0))


def record(path, x, y):
    np.savez_compressed(FOLDER / "expected" / f"{path.stem}.npz", x=x, y=y)
    print(path.name, path.stat().st_size)


def pack(path):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)


def embedding():
    return L.Embedding(7, 3, mask_zero=True, input_length=6)


def functional():
    x = L.Input((6, 3), name="steps")
    inner = keras.Sequential([L.LSTM(3, return_sequences=True), L.LSTM(3, return_sequences=True)])
    y = L.LeakyReLU()(inner(x))
    return keras.Model(x, L.Dense(2, activation="swish")(L.GlobalMaxPooling1D()(y)))


def frozen():
    """A model within a model; the first of two alike layers is frozen, and its weights are saved last."""
    first = L.SimpleRNN(3, return_sequences=True)
    first.trainable = False
    inner = keras.Sequential([first, L.SimpleRNN(3)])
    return keras.Sequential([L.InputLayer((6, 3)), inner])


def main():
    keras.utils.set_random_seed(0)
    save("masked", keras.Sequential([embedding(), L.LSTM(3, return_sequences=True), L.LSTM(2)]), tokens())
    save("held", keras.Sequential([embedding(), L.GRU(2, return_sequences=True), L.Dense(2)]), tokens())
    layers = [L.Dropout(0.5), L.SimpleRNN(2, return_sequences=True), L.GlobalAveragePooling1D()]
    save("mean", keras.Sequential([embedding(), *layers]), tokens(some=True))
    layers = [
        L.Masking(-1.0),
        L.Bidirectional(L.LSTM(2, return_sequences=True)),
        L.TimeDistributed(L.Dense(2)),
    ]
    save("bidirectional", keras.Sequential([L.InputLayer((6, 3)), *layers]), floats(True), ".keras")
    save(
        "merged",
        keras.Sequential(
            [L.InputLayer((6, 3)), L.Masking(-1.0), L.Bidirectional(L.GRU(2), merge_mode="sum")]
        ),
        floats(True),
    )
    layers = [L.GRU(2, reset_after=False, recurrent_activation="hard_sigmoid")]
    save("before", keras.Sequential([L.InputLayer((6, 3)), *layers]), floats())
    layers = [L.LSTM(2, recurrent_activation="hard_sigmoid"), L.Dense(2, "hard_sigmoid")]
    save("hard", keras.Sequential([L.InputLayer((6, 3)), *layers]), floats(), ".keras")
    layers = [L.SimpleRNN(2, return_sequences=True, go_backwards=True, activation="relu"), L.GRU(2)]
    save("backwards", keras.Sequential([L.InputLayer((6, 3)), *layers]), floats())
    cells = [L.LSTMCell(2), L.GRUCell(3, use_bias=False)]
    save("cells", keras.Sequential([L.InputLayer((6, 3)), L.RNN(cells), L.ELU(0.5)]), floats(), ".keras")
    layers = [L.LSTM(2, dtype="mixed_float16", return_sequences=True), L.Dense(2, dtype="float64")]
    save("mixed", keras.Sequential([L.InputLayer((6, 3)), *layers]), floats())
    save("functional", functional(), floats(), ".keras")
    save("frozen", frozen(), floats())
    layers = [C.CuDNNLSTM(2, return_sequences=True), C.CuDNNGRU(3)]
    plain = [L.LSTM(2, return_sequences=True), L.GRU(3)]
    save(
        "cudnn",
        keras.Sequential([L.InputLayer((6, 3)), *layers]),
        floats(),
        same=keras.Sequential([L.InputLayer((6, 3)), *plain]),
    )
    layers = [L.Bidirectional(C.CuDNNGRU(2))]
    save(
        "cudnn_both",
        keras.Sequential([L.InputLayer((6, 3)), *layers]),
        floats(),
        ".keras",
        same=keras.Sequential([L.InputLayer((6, 3)), L.Bidirectional(L.GRU(2))]),
    )
    model = keras.Sequential([L.InputLayer((6, 3)), L.Bidirectional(L.LSTM(2)), L.Dense(2, "selu")])
    model.set_weights([RNG.normal(size=each.shape).astype(each.dtype) for each in model.get_weights()])
    model.save_weights(FOLDER / "weights.h5")
    (FOLDER / "expected" / "weights.json").write_text(model.to_json())
    x = floats()
    record(FOLDER / "weights.h5", x, model.predict(x, verbose=0))


if __name__ == "__main__":
    main()
