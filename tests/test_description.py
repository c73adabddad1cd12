"""Layers in JSON and in files, and back."""

import contextlib
import copy
import doctest
import json
import os
import pickle
import re
import tracemalloc

import numpy as np
import pytest

import fastrnn
from fastrnn import checkpoint, layers
from fastrnn.functional.variants import OPTIONS
from fastrnn.layers import (
    ELU,
    GELU,
    GRU,
    LSTM,
    RNN,
    Activation,
    Attention,
    Composite,
    Compressible,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    Layer,
    LeakyReLU,
    Linear,
    Masking,
    Mean,
    Merge,
    Pooling,
    Recurrent,
    Reverse,
    Sequential,
    Softmax,
    Tanh,
    description,
)
from fastrnn.layers.description import CLASSES, build, describe

SIMPLE = [
    each()
    for each in CLASSES.values()
    if issubclass(each, (Activation, Pooling, Reverse, Masking, Sequential, Composite))
]
MADE = [
    Linear(3, 4),
    Linear(3, 4, bias=False, dtype="float64"),
    Embedding(9, 4, dtype="float64"),
    Attention(3, 4),
    Dropout(0.25),
    Merge("ave"),
    Masking(-1, fill="zeros"),
    Last(bidirectional=False),
    LeakyReLU(0.3),
    ELU(0.5),
    HardSigmoid(slope=0.2),
    GELU("tanh"),
    RNN(3, 4, nonlinearity="relu", clip=2.0),
    LSTM(3, 4, 2, bias=False, batch_first=True, dropout=0.1, recurrent_dropout=0.2, bidirectional=True),
    LSTM(3, 4, learned_state=True, recompute=True, dtype="float64", proj_size=2),
    LSTM(3, 4, peephole=True, coupled=True, activation="relu", gate_activation="hard_sigmoid", clip=3.0),
    LSTM(3, 4, layer_norm=True),
    LSTM(3, 4, output_activation="linear"),
    GRU(3, 4, reset_after=False, gate_activation="hard_sigmoid_6"),
    GRU(3, 4, layer_norm=True),
    GRU(3, 4, activation="linear", clip=1.5),
    Composite(one=Linear(2, 3), two=Composite(inner=GRU(3, 4), none=Composite())),
    Sequential(GRU(3, 4), Mean(), Linear(4, 2), bptt_steps=7),
    Sequential(
        Masking(),
        Sequential(Embedding(9, 3), LSTM(3, 4, bidirectional=True)),
        Reverse(),
        GRU(8, 4),
        last=Last(),
        drop=Dropout(0.5),
        head=Sequential(Linear(4, 2), Softmax()),
    ),
]


def same(layer, other):
    assert type(other) is type(layer) and repr(other) == repr(layer)
    assert list(other.parameters) == list(layer.parameters)
    for name, array in layer.parameters.items():
        found = other.parameters[name]
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("layer", [*SIMPLE, *MADE], ids=lambda layer: type(layer).__name__)
def test_a_layer_comes_back(layer, tmp_path):
    layer.save(tmp_path / "layer")
    tensors, metadata = checkpoint.load(tmp_path / "layer")
    other = build(metadata["layer"], tensors)
    same(layer, other)
    assert describe(other) == metadata["layer"] == json.loads(json.dumps(describe(layer)))
    fresh = build(metadata["layer"])
    assert repr(fresh) == repr(layer) and list(fresh.parameters) == list(layer.parameters)


def test_every_public_layer_has_a_description():
    public = {
        value for value in vars(layers).values() if isinstance(value, type) and issubclass(value, Layer)
    }
    assert public - {Layer, Compressible, Pooling, Recurrent, Activation} == set(CLASSES.values())
    assert {type(layer) for layer in [*SIMPLE, *MADE]} == set(CLASSES.values())


def test_every_option_of_every_cell_comes_back():
    """Those that are not as usual somewhere in this file."""
    for kind, options in OPTIONS.items():
        ours = [layer for layer in MADE if isinstance(layer, layers.CELLS[kind])]
        for name, usual in options.items():
            assert any(getattr(layer, name) != usual for layer in ours), f"{kind}: {name}"


def test_what_comes_back_computes_and_learns_the_same(tmp_path, rng):
    network, x = MADE[-1], rng.integers(0, 9, (5, 4))
    network.save(os.fspath(tmp_path / "network"))
    other = fastrnn.load(tmp_path / "network")
    np.testing.assert_array_equal(other(x), network(x))
    y, back = other.forward(x)
    assert not np.array_equal(y, network(x))  # dropout draws
    back(np.ones_like(y))
    assert other.gradients.keys() == network.parameters.keys()
    copies = copy.deepcopy(other), pickle.loads(pickle.dumps(other)), other
    np.testing.assert_array_equal(*[copied(x) for copied in copies[:2]])
    drawn = [copied.forward(x)[0] for copied in copies]
    np.testing.assert_array_equal(drawn[0], drawn[2])
    np.testing.assert_array_equal(drawn[1], drawn[2])


class Scale(Layer):
    """A layer of one's own."""


class Bidirectional(LSTM):
    """And one that is nearly ours."""


class Tuned(Sequential):
    """A network of one's own."""


TWICE = Tanh()
UNKNOWN = {
    "own": (Scale(), "the layer must be one of fastrnn's own to be described in a file, got the class Scale"),
    "a part": (Sequential(Tanh(), head=Sequential(Scale())), "layer head.0 must be one of fastrnn's own"),
    "a subclass": (Composite(lstm=Bidirectional(3, 4)), "layer lstm must be one of fastrnn's own"),
    "a network": (Tuned(Tanh()), "got the class Tuned"),
    "twice": (Sequential(TWICE, Linear(2, 2), TWICE), "layer 2 is layer 0 once more"),
}


@pytest.mark.parametrize(("layer", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_has_no_description_is_refused_and_leaves_no_file(layer, words, tmp_path):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        layer.save(tmp_path / "layer")
    assert not list(tmp_path.iterdir())


def of(kind, parts=None, **options):
    return {"class": kind, "options": options, **({} if parts is None else {"parts": parts})}


def nested(depth):
    found = of("Tanh")
    for _ in range(depth):
        found = of("Sequential", {"0": found})
    return found


SIZES = {"in_features": 3, "out_features": 2}
WRONG = {
    "nothing": (None, "must have a class, options and parts, got None"),
    "a list": ([], "must have a class, options and parts, got []"),
    "no class": ({"options": {}}, "must have a class, options and parts"),
    "more": ({**of("Tanh"), "more": 1}, "must have a class, options and parts"),
    "options": ({"class": "Tanh", "options": []}, "must have a class, options and parts"),
    "class": (of("Layer"), "must be of a class of fastrnn's layers, got 'Layer'"),
    "a class that is none": (of(["LSTM"]), "must have a class, options and parts"),
    "another module's": (of("os.system"), "must be of a class of fastrnn's layers, got 'os.system'"),
    "an option": (of("Linear", **SIZES, x=1), "the description of a layer, Linear, describes none: "),
    "no option": (of("Linear"), "Linear, describes none: "),
    "an option of a cell": (of("GRU", input_size=3, hidden_size=4, proj_size=2), "GRU has no proj_size"),
    "a value": (
        of("Linear", in_features=-3, out_features=2),
        "in_features must be a positive integer, got -3",
    ),
    "a huge value": (of("ELU", alpha=10**400), "the description of a layer, ELU, describes none: "),
    "a dtype": (of("Linear", **SIZES, dtype="O"), 'dtype must be "float32" or "float64"'),
    "a seed": (of("Linear", **SIZES, seed="1"), "the description of a layer, Linear, describes none: "),
    "parts of what has none": (of("Tanh", {"a": of("Tanh")}), "the description of a layer, Tanh, describes"),
    "a part": (of("Sequential", {"a": {"b": of("Tan")}}), "the description of layer a must have a class"),
    "a part's class": (
        of("Sequential", {"a": of("Composite", {"b": of("Tan")})}),
        "the description of layer a.b must be of a class of fastrnn's layers, got 'Tan'",
    ),
    "misfits": (
        of("Sequential", {"a": of("Linear", **SIZES), "b": of("Linear", **SIZES)}),
        "layer a gives 2 features, layer b",
    ),
    "depth": (nested(5000), "must not be nested so deeply"),
}


@pytest.mark.parametrize(("description", "words"), WRONG.values(), ids=WRONG)
def test_what_describes_no_layer_is_refused(description, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        build(description)
    with pytest.raises(ValueError, match=r"describes none|description|state of"):
        build(description, {"weight": np.ones((2, 3)), "bias": np.ones(2)})


def entries(found):
    """Every dict in a description with each of its keys."""
    for key, value in found.items():
        yield found, key
        if isinstance(value, dict):
            yield from entries(value)


def test_a_description_with_something_wrong_gives_a_layer_or_an_error(rng):
    values = [
        None,
        True,
        -1,
        0,
        3,
        10**400,
        1 << 40,
        np.inf,
        "",
        "x",
        "float64",
        "LSTM",
        {},
        [1],
        {"a": 1},
        0.5,
    ]
    keys = ["class", "options", "parts", "seed", "dtype", "num_layers", "0", "self", "layers", "bptt_steps"]
    for layer in [*SIMPLE, *MADE] * 10:
        given = copy.deepcopy(describe(layer))
        places = list(entries(given))
        holder, key = places[rng.integers(len(places))]
        holder[key if rng.random() < 0.6 else keys[rng.integers(len(keys))]] = values[
            rng.integers(len(values))
        ]
        with contextlib.suppress(ValueError):
            assert isinstance(build(given, layer.parameters), Layer)


@pytest.mark.parametrize(
    "kind",
    [
        of("Linear", in_features=1 << 20, out_features=1 << 20),
        of("Embedding", num_embeddings=1 << 40, embedding_dim=1),
        of("Attention", query_size=1 << 40, memory_size=1),
        of("LSTM", input_size=1, hidden_size=1 << 20),
        of("LSTM", input_size=1, hidden_size=1, num_layers=1 << 40),
        of("GRU", input_size=1 << 62, hidden_size=1 << 62),
        of("Sequential", {str(place): of("Linear", **SIZES) for place in range(1000)}),
    ],
    ids=lambda kind: kind["class"],
)
def test_nothing_larger_is_made_than_there_are_weights(kind):
    arrays = {"weight": np.ones((2, 3), "float32"), "bias": np.ones(2, "float32")}
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"it has more weights than there are|and there are 2 arrays"):
        build(kind, arrays)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


def test_other_weights_are_refused():
    layer = Linear(3, 2)
    for wrong in (
        {},
        {"weight": np.ones((3, 2)), "bias": np.ones(2)},
        {**layer.parameters, "more": np.ones(1)},
    ):
        with pytest.raises(ValueError, match=r"state of Linear|more weights than there are"):
            build(describe(layer), wrong)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        Linear(3, 2).save(tmp_path / "none" / "layer")


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(description, extraglobs={"np": np})
    assert results.attempted and not results.failed
