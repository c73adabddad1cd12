"""Steps that a network skips, against a loop over the steps of each sequence, and central differences."""

import copy
import pickle
import re

import numpy as np
import pytest
from test_steps import require_gradients

from fastrnn.data import Sequences
from fastrnn.layers import (
    GRU,
    LSTM,
    Dropout,
    Embedding,
    Last,
    Linear,
    Masking,
    Max,
    Mean,
    Reverse,
    Sequential,
    Sigmoid,
    Tanh,
    chain,
)
from fastrnn.optim import Adam
from fastrnn.training import fit

MADE = {"dtype": "float64"}

# Masked on the left, on the right, inside, nowhere, everywhere, and all three.
VALID = np.array(
    [
        [0, 0, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 1, 0],
    ],
    bool,
).T


def floats(value=0.0):
    """(T, B, 3), where some features of a valid step have the value, too."""
    x = np.random.default_rng(1).standard_normal((7, 6, 3))
    x[..., 0] = value
    x[~VALID] = value
    return x


def tokens(value=0):
    x = np.random.default_rng(1).integers(1, 8, (7, 6))
    x[~VALID] = value
    return x


def by_steps(layer, x, valid, fill):
    """As Keras's layers do it: at a masked step the state and the output stay as they are."""
    y, state = np.zeros((*x.shape[:2], layer.output_size)), None
    for row in range(x.shape[1]):
        held, state = np.zeros(layer.output_size), None
        for t in range(len(x)):
            if valid[t, row]:
                out, state = layer(x[t : t + 1, row : row + 1], state)
                held = out[0, 0]
                y[t, row] = held
            elif fill == "hold":
                y[t, row] = held
    return y


def in_both(layer, x, valid, fill):
    """A direction at a time, as Keras's Bidirectional does it, which has zeros at masked steps."""
    halves = []
    for suffix, way in ("", 1), ("_reverse", -1):
        alone = LSTM(layer.input_size, layer.hidden_size, **MADE)
        alone.load_state_dict({name: layer.parameters[name + suffix] for name in alone.parameters})
        halves.append(by_steps(alone, x[::way], valid[::way], fill)[::way])
    return np.concatenate(halves, axis=-1)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("value", [0, -1.5])
@pytest.mark.parametrize("fill", ["hold", "zeros"])
def test_masked_steps_are_skipped_wherever_they_are(backend, fill, value, batch_first):
    lstm, head = LSTM(3, 4, seed=0, **MADE), Linear(4, 5, seed=0, **MADE)
    gru = GRU(5, 4, seed=1, **MADE)
    first = by_steps(lstm, floats(value), VALID, fill)
    expected = Sigmoid()(by_steps(gru, head(first), VALID, fill))
    given = {"batch_first": batch_first, **MADE}
    layers = [LSTM(3, 4, **given), copy.deepcopy(head), GRU(5, 4, **given)]
    for ours, theirs in zip(layers, (lstm, head, gru), strict=True):
        ours.load_state_dict(theirs.state_dict())
    network, x = Sequential(Masking(value, fill=fill), *layers, Sigmoid()), floats(value)
    x = x.swapaxes(0, 1) if batch_first else x
    for y in (network(x), network.forward(x)[0]):
        np.testing.assert_allclose(y.swapaxes(0, 1) if batch_first else y, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("value", [0, 8])
def test_masked_tokens_are_skipped(value):
    embedding, both = Embedding(9, 3, seed=0, **MADE), LSTM(3, 4, bidirectional=True, seed=0, **MADE)
    network, x = Sequential(Masking(value, fill="zeros"), embedding, both), tokens(value)
    np.testing.assert_allclose(network(x), in_both(both, embedding(x), VALID, "zeros"), rtol=1e-12)
    last = Sequential(Masking(value), embedding, both, Last())
    for row in range(6):
        steps = x[VALID[:, row], row][:, None]
        alone = Sequential(embedding, both, Last())(steps)[0] if len(steps) else np.zeros(8)
        np.testing.assert_allclose(last(x)[row], alone, rtol=1e-12)


POOLINGS = {"steps": [], "last": [Last()], "mean": [Mean()], "max": [Max()]}


def of_kind(kind, *, fill="hold", bptt_steps=None, first=(), batch_first=False, directions=1):
    """A network whose layers after the recurrent ones give something for zeros, too."""
    rng = np.random.default_rng(0)
    made = {"seed": rng, "batch_first": batch_first, **MADE}
    both = directions == 2
    return Sequential(
        Masking(fill=fill),
        *first,
        LSTM(3, 4, 2, bidirectional=both, **made),
        Tanh(),
        GRU(4 * directions, 4, **made),
        Linear(4, 4, seed=rng, **MADE),
        *POOLINGS[kind],
        Linear(4, 2, seed=rng, **MADE),
        bptt_steps=bptt_steps,
    )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("fill", ["hold", "zeros"])
@pytest.mark.parametrize("kind", POOLINGS)
def test_gradients_are_those_of_central_differences(kind, fill, directions, batch_first, rng):
    network, x = of_kind(kind, fill=fill, directions=directions, batch_first=batch_first), floats()
    x = x.swapaxes(0, 1) if batch_first else x
    y, back = network.forward(x)
    np.testing.assert_array_equal(y, network(x))
    dy = rng.standard_normal(y.shape)
    dx = back(dy)
    valid = VALID.T if batch_first else VALID
    assert not dx[~valid].any()
    require_gradients(lambda: network(x), network.parameters, network.gradients, dy, rng)
    for index in [(*step, 1) for step in np.argwhere(valid)]:  # the others stay masked
        x[index] += 1e-6
        above = (network(x) * dy).sum()
        x[index] -= 2e-6
        slope = (above - (network(x) * dy).sum()) / 2e-6
        x[index] += 1e-6
        assert dx[index] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_a_pooling_is_of_the_other_steps(kind):
    """And a sequence without any counts as one step, of zeros from the recurrent layers."""
    network, x = of_kind(kind), floats()
    rest = Sequential(*list(network.parts.values())[1:])
    y = network(x)
    for row in range(6):
        steps = x[VALID[:, row], row][:, None]
        if len(steps):
            np.testing.assert_allclose(y[row], rest(steps)[0], rtol=1e-12)
        else:
            linear, head = [layer for layer in network.parts.values() if isinstance(layer, Linear)]
            np.testing.assert_allclose(y[row], head(linear(np.zeros(4))), rtol=1e-12)


@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_windows_are_of_the_other_steps(monkeypatch, kind, rng):
    network, x = of_kind(kind, bptt_steps=2), floats()
    y, back = network.forward(x)
    np.testing.assert_allclose(y, of_kind(kind)(x), rtol=1e-12)
    assert back(np.ones_like(y)) is None
    found = network.take_gradients()
    rest = Sequential(*list(network.parts.values())[1:], bptt_steps=2)
    items = [x[VALID[:, row], row] for row in (0, 1, 2, 3, 5)]  # the other has no steps
    _, back = rest.forward(Sequences(items, "float64"))
    back(np.ones((5, 2)))
    for name, array in rest.gradients.items():
        place, _, own = name.partition(".")
        if place in "02":  # the recurrent ones
            np.testing.assert_allclose(found[f"{int(place) + 1}.{own}"], array, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(chain, "WINDOW", 2)
    np.testing.assert_allclose(network(x), y, rtol=1e-12)


@pytest.mark.parametrize("kind", POOLINGS)
def test_lengths_and_masks_go_together(kind):
    network, x = of_kind(kind), floats()
    lengths = np.array([7, 4, 7, 5, 6, 3])
    masked = x.copy()
    masked[np.arange(7)[:, None] >= lengths] = 0
    items = Sequences([x[:length, row] for row, length in enumerate(lengths)], "float64")
    for y in (network(x, lengths), network(items), network.forward(items)[0]):
        np.testing.assert_array_equal(y, network(masked))


def test_states_are_those_after_the_other_steps(rng):
    network, x = of_kind("steps"), floats()
    state = network(rng.standard_normal((2, 6, 3)), return_state=True)[1]
    y, state_n = network(x, state=state, return_state=True)
    np.testing.assert_array_equal(network.forward(x, state=state, return_state=True)[0], y)
    for before, after in zip(state[0], state_n[0], strict=True):
        np.testing.assert_array_equal(before[:, 4], after[:, 4])  # nothing has come
    _, between = network(x[:3], state=state, return_state=True)
    _, end = network(x[3:], state=between, return_state=True)
    np.testing.assert_allclose(end[1], state_n[1], rtol=1e-12)


def test_backwards_alone():
    """The order among the steps that are there is reversed, and back."""
    lstm, x = LSTM(3, 4, seed=0, **MADE), floats()
    network = Sequential(Masking(fill="zeros"), Reverse(), lstm, Reverse())
    np.testing.assert_allclose(network(x), by_steps(lstm, x[::-1], VALID[::-1], "zeros")[::-1], rtol=1e-12)
    last = by_steps(lstm, x[::-1], VALID[::-1], "hold")[-1]
    np.testing.assert_allclose(Sequential(Masking(), Reverse(), lstm, Last())(x), last, rtol=1e-12)


def test_it_learns_from_data_with_padding(rng):
    """The first token that counts says what is to be learned; the padding is on the left."""
    x, y = rng.integers(1, 5, (60, 8)), rng.integers(0, 2, 60)
    start = rng.integers(0, 6, 60)
    x[np.arange(8) < start[:, None]] = 0
    x[np.arange(60), start] = 5 + y
    network = Sequential(Masking(), Embedding(7, 6, seed=0), GRU(6, 12, seed=0), Dropout(0.1, seed=0))
    network = Sequential(network, Last(), Linear(12, 2, seed=0))
    optimizer = Adam(network.parameters, 0.03)
    fit(network, (x, y), loss="softmax_cross_entropy", optimizer=optimizer, epochs=40, seed=0)
    assert (network(x.T).argmax(axis=1) == y).mean() > 0.95


def test_a_step_at_a_time():
    gru = GRU(4, 3, seed=0)
    network = Sequential(Masking(), Embedding(9, 4, seed=0), gru, Last(), Linear(3, 2, seed=0))
    stream = network.stream()
    for t, token in enumerate([3, 1, 4]):
        y = stream.step(np.array([token]))
        np.testing.assert_allclose(y, network(np.array([[3], [1], [4]])[: t + 1]), rtol=1e-6)
    state = stream.state
    with pytest.raises(ValueError, match=r"x must have no masked step, .* got a token 0"):
        stream.step(np.array([0]))
    np.testing.assert_array_equal(stream.state[0], state[0])
    assert (stream.input_size, stream.output_size) == (9, 2)
    stream = Sequential(Masking(-1), gru).stream(2)
    x = np.array([[-1, 0, 0, 0], [-1, -1, -1, 1]], "float32")
    np.testing.assert_array_equal(stream.step(x), gru(x[None])[0][0])
    with pytest.raises(ValueError, match="got features that are all -1"):
        stream.step(np.array([[0, 0, 0, 0], [-1, -1, -1, -1]], "float32"))
    assert repr(pickle.loads(pickle.dumps(stream))) == repr(stream)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_by_itself_it_finds_the_steps(dtype):
    x = (tokens() if dtype == "int64" else floats()).astype(dtype)
    y, lengths, back = Masking().forward(x)
    assert y.dtype == dtype and lengths.tolist() == VALID.sum(axis=0).tolist()
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(y[:length, row], x[VALID[:, row], row])
        assert not y[length:, row].any()
    dx = back(y)
    if dtype == "int64":
        assert dx is None
    else:
        np.testing.assert_array_equal(dx, np.where(VALID[..., None], x, 0))
    np.testing.assert_array_equal(Masking()(x)[0], y)


@pytest.mark.parametrize("kind", ["steps", "last"])
@pytest.mark.parametrize("shape", [(3, 0), (3, 2), (0, 2)])
def test_little_data(kind, shape):
    network, x = of_kind(kind), np.zeros((*shape, 3))
    if kind == "last" and shape[0] == 0:
        with pytest.raises(ValueError, match="x must have at least one step"):
            network(x)
        return
    y, back = network.forward(x)
    assert y.shape == (*(shape if kind == "steps" else shape[1:]), 2)
    assert back(y).shape == x.shape


CASES = {
    "place": (
        lambda: Sequential(Embedding(9, 4), Masking(), GRU(4, 3)),
        "layer 1, Masking(), looks at what the network gets: it must be the first layer",
    ),
    "twice": (lambda: Sequential(Masking(), Masking(), GRU(4, 3)), "layer 1, Masking(), looks at"),
    "nothing that skips": (
        lambda: Sequential(Masking(), Linear(3, 2)),
        "Masking is for recurrent layers or a pooling, which skip steps: there are none",
    ),
    "embedding": (
        lambda: Sequential(Masking(), Tanh(), Embedding(9, 4)),
        "layer 2, Embedding(9, 4), expects tokens: it must be the first layer",
    ),
    "places": (
        lambda: Sequential(Masking(), Reverse(), GRU(4, 3)),
        "Masking puts steps back where they were: it goes with Reverse before and after, or a pooling",
    ),
    "value": (lambda: Masking("0"), "value must be a finite number, got '0'"),
    "fill": (lambda: Masking(fill="nan"), "fill must be one of 'hold', 'zeros', got 'nan'"),
    "features": (lambda: of_kind("last")(np.ones((7, 6, 2))), "x must have shape (T, B, 3), got (7, 6, 2)"),
    "a token": (
        lambda: Sequential(Masking(), Embedding(9, 3), GRU(3, 4))(np.array([[0], [9]])),
        "x must be within 0..num_embeddings-1 = 0..8",
    ),
    "lengths": (
        lambda: of_kind("steps")(floats(), [1] * 5),
        "lengths must have shape (6,), got (5,)",
    ),
    "no shape": (
        lambda: Masking()(np.ones(3)),
        "x must be floats of shape (T, B, F), or integers (T, B), got",
    ),
    "an argument": (lambda: Masking(mask_value=0), "got an unexpected keyword argument 'mask_value'"),
}


@pytest.mark.parametrize(("make", "words"), CASES.values(), ids=CASES)
def test_bad_use_is_refused(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()
