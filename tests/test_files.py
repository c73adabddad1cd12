"""Files that were written once, by every format there has been, are read for ever.

``python tests/test_files.py`` writes those of today's format, or of the names that it is given. Once a
version is published its files stay as they are: who then changes what is put into a file raises
`checkpoint.FORMAT`, reads the old files too, and adds a folder; a new layer or model adds a file.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_estimator import ALL_MODELS, LABELS, classifier

import fastrnn
from fastrnn import checkpoint, layers, optim, training
from fastrnn.models import Forecaster, SequenceClassifier

FOLDER = Path(__file__).parent / "files"
RNG = np.random.default_rng(5)
X = RNG.standard_normal((6, 2, 4)).astype("float32")  # T, B, F
TOKENS = RNG.integers(0, 9, (6, 2))


class Kind(NamedTuple):
    """A kind of file: how one is written, and a number that depends on all that is in it."""

    write: Callable[[Path], Any]
    read: Callable[[Path], float]


# -- models, and the trainings of models


def model_of(make):
    def loss(path):
        model, given = make()
        loaded = type(model).load(path)
        assert len(loaded.history_) == 2
        return loaded._mean_loss(loaded._examples(*given))

    def write(path):
        model, given = make(epochs=2)
        model.fit(*given).save(path)

    return Kind(write, loss)


def training_of(make):
    """A checkpoint after two epochs of five, and where the rest of the training leads."""

    def write(path):
        model, given = make()
        model.fit(*given, checkpoint=path, callbacks=lambda model: len(model.history_) == 2)

    def loss(path):
        model, given = make()
        model.fit(*given, resume=path)
        assert len(model.history_) == 5
        return model._mean_loss(model._examples(*given))

    return Kind(write, loss)


def write_of_each(path):
    """A forecaster with a network for each series, in each of which something else has been learned."""
    model = Forecaster(context=6, horizon=3, hidden_size=4, max_steps=9, seed=0, global_model=False)
    model.fit({name: np.sin(np.arange(90) * pace) for name, pace in {"slow": 0.2, "fast": 0.9}.items()})
    model.save(path)


def read_of_each(path):
    model = Forecaster.load(path)
    assert [len(each[-1]) > 3 for each in model.history_] == [True, True]
    found = [model.predict(), *model.predict_interval(coverage=0.5)]
    return float(sum((k + 1) * each[name].sum() for k, each in enumerate(found) for name in ("slow", "fast")))


def given(**options):
    network = layers.Sequential(layers.LSTM(4, 3, seed=0), layers.Last(), layers.Linear(3, 2, seed=1))
    model = SequenceClassifier.from_network(network, [3, 7])
    model.set_params(**{"epochs": 5, "batch_size": 6, "seed": 0, **options})
    return model, (list(X.transpose(1, 0, 2)) * 10, np.tile(LABELS, 10))


# -- layers: each class with options that are not the usual ones


def all_layers():
    cells = [
        layers.RNN(4, 3, nonlinearity="relu", clip=2.0, bias=False, seed=0),
        layers.LSTM(4, 3, 2, dropout=0.1, recurrent_dropout=0.2, bidirectional=True, proj_size=2, seed=0),
        layers.LSTM(4, 3, peephole=True, coupled=True, gate_activation="hard_sigmoid", seed=0),
        layers.LSTM(4, 3, layer_norm=True, learned_state=True, recompute=True, dtype="float64", seed=0),
        layers.LSTM(4, 3, output_activation="linear", batch_first=True, seed=0),
        layers.GRU(4, 3, reset_after=False, gate_activation="hard_sigmoid_6", seed=0),
        layers.GRU(4, 3, layer_norm=True, seed=0),
    ]
    others = [
        layers.Linear(4, 3, bias=False, dtype="float64", seed=0),
        layers.Embedding(9, 4, seed=0),
        layers.Attention(4, 4, seed=0),
        layers.Merge("ave"),
        layers.Last(bidirectional=False),
        layers.LeakyReLU(0.3),
        layers.ELU(0.5),
        layers.HardSigmoid(slope=0.2),
        layers.GELU("tanh"),
        layers.Sequential(layers.Masking(-1, fill="zeros"), layers.GRU(4, 3, seed=0)),
        layers.Sequential(layers.GRU(4, 3, seed=0), layers.Mean(), bptt_steps=4),
        layers.Sequential(layers.Embedding(9, 4, seed=1), layers.Reverse(), head=layers.Dropout(0.25)),
        layers.Parallel([layers.LSTM(4, 3, seed=0), layers.Sequential(layers.GRU(4, 2, seed=0))]),
    ]
    usual = [layers.Last(), layers.Mean(), layers.Max(), layers.ReLU(), layers.SELU(), layers.Tanh()]
    usual += [layers.Sigmoid(), layers.SiLU(), layers.Softplus(), layers.Softsign(), layers.Softmax()]
    parts = [*cells, *others, *usual, layers.LogSoftmax()]
    return layers.Composite(**{f"part{number}": part for number, part in enumerate(parts)})


def outputs(layer):
    """What comes out of a layer, or of each part of a composite, as one array."""
    if type(layer) is layers.Composite:
        return np.concatenate([outputs(part) for part in layer.parts.values()])
    if isinstance(layer, layers.Parallel):
        return np.concatenate([np.ravel(y).astype("float64") for y in layer([X, X])])
    first = next(iter(layer.parts.values())) if getattr(layer, "parts", None) else layer
    x = X.astype(getattr(first, "dtype", X.dtype))
    given = {layers.Embedding: (TOKENS,), layers.Attention: (x, x)}.get(type(first), (x,))
    y = layer(*given)
    return np.ravel(y[0] if isinstance(y, tuple) else y).astype("float64")


def number(array):
    """It depends on each element, and on its place."""
    return float(np.ravel(array) @ np.cos(np.arange(np.size(array))))


LAYERS = Kind(lambda path: all_layers().save(path), lambda path: number(outputs(fastrnn.load(path))))


# -- weights of fewer bits


def write_compressed(path):
    """Layers in every format, beside one that is as it was."""
    parts = {"as_it_was": layers.Linear(4, 3, seed=0)}
    for weights in ("float16", "bfloat16", "int8"):
        parts[weights] = layers.LSTM(4, 3, proj_size=2, seed=0).compress(weights)
    tokens = layers.Sequential(layers.Embedding(9, 4, seed=0), layers.GRU(4, 3, seed=0))
    layers.Composite(**parts, tokens=tokens.compress("int8", activations=8)).save(path)


def read_compressed(path):
    network = fastrnn.load(path)
    assert network.weights == "bfloat16, float16, float32, int8"
    *parts, tokens = network.parts.values()
    with fastrnn.use_backend("reference"):  # of files alone: what is rounded might be so to the other side
        return number(np.concatenate([*map(outputs, parts), np.ravel(tokens(TOKENS))]))


def write_compressed_model(path):
    model, data = classifier(epochs=2)
    model.fit(*data).compress("int8").save(path)


def read_compressed_model(path):
    model = SequenceClassifier.load(path)
    assert model.network_.weights == "int8"
    return number(model.predict_proba(classifier()[1][0]))


# -- trainings of networks of one's own, by each optimizer


def training_by(make):
    def run(path, **options):
        gru = layers.GRU(4, 3, recurrent_dropout=0.2, seed=0)
        network = layers.Sequential(gru, layers.Dropout(0.3, seed=1), layers.Linear(3, 2, seed=2))
        x = np.tile(X.transpose(1, 0, 2), (5, 1, 1))
        data = (x, x[..., :2])
        loss = {"loss": "mean_squared_error", "validation": data, "batch_size": 3, "epochs": 5, "seed": 0}
        return training.fit(network, data, optimizer=make(network.parameters), **loss, **options)

    stop = {"callbacks": lambda training: len(training.history) == 2}
    return Kind(
        lambda path: run(path, checkpoint=path, **stop),
        lambda path: run(path, resume=path).history[-1]["validation_loss"],
    )


# -- arrays of any kind

DTYPES = ["bool", "int8", "int64", "uint16", "uint64", "float16", "float32", "float64"]
METADATA = {"nested": [{"a": None}, 1.5, True], "text": "Größe"}


def write_arrays(path):
    checkpoint.save(path, {dtype: (3 * X).astype(dtype) for dtype in DTYPES}, METADATA)


def read_arrays(path):
    arrays, metadata = checkpoint.load(path)
    assert metadata == METADATA and all(name == array.dtype for name, array in arrays.items())
    return number(np.stack([arrays[dtype].astype("float64") for dtype in DTYPES]))


SAME = ("words", "bytes", "forecaster")  # trained as others are, and large
MODELS = {make.__name__.strip("_"): make for make in (*ALL_MODELS, given)}
OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9),
    "rmsprop": optim.RMSprop,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
KINDS = {
    **{name: model_of(make) for name, make in MODELS.items()},
    **{f"training_{name}": training_of(make) for name, make in MODELS.items() if name not in SAME},
    **{f"training_by_{name}": training_by(make) for name, make in OPTIMIZERS.items()},
    "forecaster_of_each": Kind(write_of_each, read_of_each),
    "layers": LAYERS,
    "compressed": Kind(write_compressed, read_compressed),
    "compressed_model": Kind(write_compressed_model, read_compressed_model),
    "arrays": Kind(write_arrays, read_arrays),
}
FILES = sorted(FOLDER.glob("*/*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_saved_is_read(path):
    expected = json.loads((path.parent / "expected.json").read_text())[path.stem]
    np.testing.assert_allclose(KINDS[path.stem].read(path), expected, rtol=1e-4)


def test_there_is_a_file_of_every_kind():
    folder = FOLDER / str(checkpoint.FORMAT)
    assert {path.stem for path in FILES if path.parent == folder} == set(KINDS)
    described = checkpoint.load(folder / "layers.safetensors")[1]["layer"]
    assert set(re.findall(r"'class': '(\w+)'", str(described))) == set(layers.description.CLASSES)
    classes = {each for each in vars(optim).values() if isinstance(each, type)}
    kinds = {each.__name__.lower() for each in classes if issubclass(each, optim.Optimizer)}
    assert set(OPTIMIZERS) == kinds - {"optimizer"}


def write(names):
    folder = FOLDER / str(checkpoint.FORMAT)
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "expected.json"
    expected = json.loads(listed.read_text()) if listed.exists() else {}
    for name in names:
        path = folder / f"{name}.safetensors"
        KINDS[name].write(path)
        expected[name] = KINDS[name].read(path)
    listed.write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    write(sys.argv[1:] or KINDS)
