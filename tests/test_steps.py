"""Steps in another order, and directions that are put together, against loops and central differences."""

import doctest
import re

import numpy as np
import pytest

from fastrnn.data import Sequences
from fastrnn.layers import (
    GRU,
    LSTM,
    Embedding,
    Last,
    Linear,
    Mean,
    Merge,
    Reverse,
    Sequential,
    Softmax,
    Tanh,
    steps,
)
from fastrnn.losses import get
from fastrnn.training import fit

LENGTHS = np.array([5, 9, 0, 7])
MADE = {"dtype": "float64"}


def require_gradients(run, arrays, gradients, dy, rng):
    """That the gradients are those of central differences of ``(run() * dy).sum()``."""
    for name, array in arrays.items():
        direction = rng.standard_normal(array.shape)
        array += 1e-6 * direction
        above = (run() * dy).sum()
        array -= 2e-6 * direction
        slope = (above - (run() * dy).sum()) / 2e-6
        array += 1e-6 * direction
        assert slope == pytest.approx((gradients[name] * direction).sum(), rel=1e-5, abs=1e-8), name


# -- Reverse


def reversed_by_hand(x, lengths):
    y = np.zeros_like(x)
    for row, length in enumerate(lengths):
        y[:length, row] = x[:length, row][::-1]
    return y


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_valid_steps_are_reversed(lengths, dtype, rng):
    x = rng.integers(1, 9, (9, 4) if dtype == "int64" else (9, 4, 3)).astype(dtype)
    expected = reversed_by_hand(x, [9] * 4 if lengths is None else lengths)
    y, back = Reverse().forward(x, lengths)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(Reverse()(x, lengths), y)
    if dtype == "int64":
        assert back(None) is None
    else:
        dy = rng.standard_normal(y.shape).astype(dtype)
        np.testing.assert_array_equal(back(dy), reversed_by_hand(dy, [9] * 4 if lengths is None else lengths))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["steps", "last", "mean"])
def test_a_layer_that_runs_backwards_is_half_of_one_in_both_directions(backend, kind, batch_first, rng):
    both = LSTM(3, 4, bidirectional=True, batch_first=batch_first, seed=0, **MADE)
    alone = LSTM(3, 4, batch_first=batch_first, **MADE)
    alone.load_state_dict({name: both.parameters[f"{name}_reverse"] for name in alone.parameters})
    pooling = {"steps": [], "last": [Last()], "mean": [Mean()]}[kind]
    places = [] if kind == "last" else [Reverse()]  # that of the first step comes last
    x, lengths = rng.standard_normal((9, 4, 3)), np.maximum(LENGTHS, 1)
    x = x.swapaxes(0, 1) if batch_first else x
    network = Sequential(Reverse(), alone, *places, *pooling)
    expected = Sequential(both, *pooling)(x, lengths)[..., 4:]
    np.testing.assert_allclose(network(x, lengths), expected, rtol=1e-12)
    y, back = network.forward(x, lengths)
    np.testing.assert_array_equal(y, network(x, lengths))
    dy = rng.standard_normal(y.shape)
    if kind == "steps":
        beyond = np.arange(9)[:, None] >= lengths
        dy[beyond.T if batch_first else beyond] = 0
    dx = back(dy)
    arrays, gradients = {**network.parameters, "x": x}, {**network.gradients, "x": dx}
    require_gradients(lambda: network(x, lengths), arrays, gradients, dy, rng)


def test_tokens_are_reversed_too(rng):
    tokens, lengths = rng.integers(0, 7, (9, 4)), np.maximum(LENGTHS, 1)
    gru = GRU(7, 4, seed=0, **MADE)
    network = Sequential(Reverse(), gru, Last())
    y, back = network.forward(tokens, lengths)
    np.testing.assert_array_equal(y, gru(reversed_by_hand(tokens, lengths), lengths=lengths)[1][0])
    assert back(y) is None
    items = Sequences([tokens[:length, row] for row, length in enumerate(lengths)])
    np.testing.assert_array_equal(network(items), y)


def test_it_learns(rng):
    x, y = rng.integers(0, 5, (40, 6)), rng.integers(0, 2, 40)
    x[:, 0] = 5 + y
    network = Sequential(Embedding(7, 4, seed=0), Reverse(), GRU(4, 8, seed=0), Last(), Linear(8, 2, seed=0))
    fit(network, (list(x), y), loss="softmax_cross_entropy", epochs=30, seed=0)
    assert (network(x.T).argmax(axis=1) == y).all()


CASES = {
    "shape": (
        lambda: Reverse()(np.ones((3, 2))),
        "x must be floats of shape (T, B, F), or integers (T, B), got",
    ),
    "an argument": (lambda: Reverse(1), "takes 1 positional argument but 2 were given"),
    "dtype": (lambda: Reverse()(np.ones((3, 2, 1), bool)), "x must be a float32 or float64 array"),
    "lengths": (
        lambda: Reverse()(np.ones((3, 2, 1)), [1, 4]),
        "lengths must be within 0..T = 0..3, got lengths[1] = 4",
    ),
    "dy": (lambda: Reverse().forward(np.ones((3, 2, 1)))[1](np.ones((3, 2))), "dy must have shape (3, 2, 1)"),
    "stream": (
        lambda: Sequential(Reverse(), GRU(3, 4)).stream(),
        "Reverse has no stream: it starts at the end of a sequence",
    ),
    "bptt_steps": (
        lambda: Sequential(Reverse(), GRU(3, 4), Last(), bptt_steps=3),
        "bptt_steps goes with layers that run forwards only",
    ),
    "bptt_steps of fit": (
        lambda: fit(
            Sequential(Reverse(), GRU(3, 4)),
            (X := np.ones((2, 9, 3)), X),
            loss=get("mean_squared_error"),
            bptt_steps=3,
            epochs=1,
        ),
        "bptt_steps must be None for a network with a bidirectional layer or Reverse, got 3",
    ),
    "pooled": (
        lambda: Sequential(GRU(3, 4), Last(), Reverse()),
        "layer 2, Reverse(), expects sequences, but layer 1 has left one vector of each",
    ),
    "mode": (lambda: Merge("concat"), "mode must be one of 'sum', 'mul', 'ave', got 'concat'"),
    "an odd number": (
        lambda: Merge("sum")(np.ones((2, 3))),
        "Merge('sum') takes an even number of features, of which it makes half, got 3",
    ),
    "no axis": (lambda: Merge("sum")(np.float64(1)), "takes an even number of features"),
    "an odd number in a row": (
        lambda: Sequential(GRU(3, 5), Merge("sum")),
        "Merge('sum') takes an even number of features",
    ),
    "after a merge": (
        lambda: Sequential(GRU(3, 4, bidirectional=True), Merge("sum"), Linear(8, 2)),
        "layer 1 gives 4 features, layer 2, Linear(8, 2), expects 8",
    ),
}


@pytest.mark.parametrize(("make", "words"), CASES.values(), ids=CASES)
def test_bad_use_is_refused(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()


# -- Merge

MODES = {"sum": np.add, "mul": np.multiply, "ave": lambda a, b: (a + b) / 2}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pooling", [[], [Last()]], ids=["steps", "last"])
def test_directions_are_put_together(mode, pooling, rng):
    both = GRU(3, 4, bidirectional=True, seed=0, **MADE)
    network = Sequential(both, *pooling, Merge(mode), Linear(4, 2, seed=0, **MADE))
    x = rng.standard_normal((9, 4, 3))
    halves = np.split(Sequential(both, *pooling)(x), 2, axis=-1)
    np.testing.assert_allclose(network(x), network.parts[str(1 + len(pooling) + 1)](MODES[mode](*halves)))
    y, back = network.forward(x)
    dy = rng.standard_normal(y.shape)
    dx = back(dy)
    arrays, gradients = {**network.parameters, "x": x}, {**network.gradients, "x": dx}
    require_gradients(lambda: network(x), arrays, gradients, dy, rng)


def test_what_is_merged_has_no_directions(rng):
    """Nor has what a softmax has mixed: the last step is that of all features."""
    both, x = GRU(3, 4, bidirectional=True, seed=0, **MADE), rng.standard_normal((9, 4, 3))
    for layer in (Merge("sum"), Softmax()):
        np.testing.assert_array_equal(Sequential(both, layer, Last())(x), layer(both(x)[0])[-1])


def test_a_stream_knows_what_it_takes(rng):
    network = Sequential(Merge("mul"), Tanh(), GRU(3, 4, seed=0))
    stream, x = network.stream(2), rng.standard_normal((5, 2, 6)).astype("float32")
    assert stream.input_size == network._features[0] == 6
    np.testing.assert_allclose(stream.step_many(x), network(x), rtol=1e-6)


@pytest.mark.parametrize("module", [steps])
def test_the_examples_in_the_docstrings(module):
    results = doctest.testmod(module, extraglobs={"np": np})
    assert results.attempted and not results.failed
