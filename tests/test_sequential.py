"""Layers one after the other, against finite differences and PyTorch."""

import copy
import doctest
import pickle
import re

import numpy as np
import pytest

from fastrnn.data import Sequences
from fastrnn.layers import (
    GRU,
    LSTM,
    Attention,
    Composite,
    Dropout,
    Embedding,
    Last,
    Layer,
    Linear,
    Max,
    Mean,
    Recurrent,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    chain,
    sequential,
)


def network(seed=0):
    rng = np.random.default_rng(seed)
    options = {"dtype": "float64", "seed": rng}
    first, second, third = (Linear(*sizes, **options) for sizes in ((3, 5), (5, 4), (4, 2)))
    return Sequential(first, Tanh(), second, ReLU(), third, Sigmoid())


def test_gradients_are_those_of_finite_differences(rng):
    layers, x, dy = network(), rng.normal(size=(7, 2, 3)), rng.normal(size=(7, 2, 2))
    y, back = layers.forward(x)
    np.testing.assert_array_equal(y, layers(x))
    dx = back(dy)
    assert layers.gradients.keys() == layers.parameters.keys()
    assert list(layers.parameters) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    for name, array in {**layers.parameters, "x": x}.items():
        gradient = dx if name == "x" else layers.gradients[name]
        direction = rng.normal(size=array.shape)
        array += 1e-6 * direction
        above = (layers(x) * dy).sum()
        array -= 2e-6 * direction
        slope = (above - (layers(x) * dy).sum()) / 2e-6
        array += 1e-6 * direction
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-6), name


def test_its_state_is_pytorchs():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    ours = Sequential(Linear(3, 5), Tanh(), Linear(5, 2))
    ours.load_state_dict({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    x = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(ours(x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_tokens_and_dropout(rng):
    layers = Sequential(Embedding(7, 3, seed=0), Dropout(0.5, seed=0), Linear(3, 2, seed=0))
    tokens = rng.integers(0, 7, (4, 5))
    y, back = layers.forward(tokens)
    assert not np.array_equal(y, layers(tokens))
    assert back(np.ones_like(y)) is None
    assert layers.gradients["0.weight"].shape == (7, 3)


# -- sequences

KINDS = {"last": Last, "mean": Mean, "max": Max, "steps": None}
LENGTHS = np.array([5, 9, 1, 7])


def of_sequences(kind, first=None, directions=(1, 1), **options):
    """A network of every kind of layer; in float64, so that differences tell."""
    rng = np.random.default_rng(0)
    below, above = directions
    made = {"dtype": "float64", "seed": rng, **options}
    recurrent = (
        LSTM(3, 4, 2, bidirectional=below == 2, **made),
        GRU(4 * below, 4, bidirectional=above == 2, **made),
    )
    pooling = [] if KINDS[kind] is None else [KINDS[kind]()]
    head = Linear(4 * above, 2, dtype="float64", seed=rng)
    return Sequential(*[first] if first else [], *recurrent, Tanh(), *pooling, head)


def batch(rng, *features):
    return rng.standard_normal((9, 4, *features))


def by_hand(network, x, lengths):
    """Layer by layer, each sequence by itself."""
    rows = []
    for row, length in enumerate(lengths):
        y = x[:length, row : row + 1]
        for each in network.parts.values():
            if isinstance(each, Recurrent):
                y, both = each(y)[0], each.bidirectional
            else:
                y = Last(bidirectional=both)(y) if isinstance(each, Last) else each(y)
        rows.append(y)
    return rows


@pytest.mark.parametrize("directions", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequential_is_its_layers_one_after_the_other(backend, kind, directions, rng):
    network, x = of_sequences(kind, directions=directions), batch(rng, 3)
    expected = by_hand(network, x, LENGTHS)
    for y in (network(x, LENGTHS), network.forward(x, LENGTHS)[0]):
        for row, (one, length) in enumerate(zip(expected, LENGTHS, strict=True)):
            found = y[:length, row : row + 1] if kind == "steps" else y[row : row + 1]
            np.testing.assert_allclose(found, one, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(network(x), network(x, [9] * 4), rtol=1e-12)


@pytest.mark.parametrize("directions", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_sequences_are_those_of_central_differences(backend, kind, directions, rng):
    network, x = of_sequences(kind, directions=directions), batch(rng, 3)
    y, back = network.forward(x, LENGTHS)
    dy = rng.standard_normal(y.shape)
    if kind == "steps":
        dy[np.arange(9)[:, None] >= LENGTHS] = 0
    dx = back(dy)
    assert network.gradients.keys() == network.parameters.keys()
    for name, array in {**network.parameters, "x": x}.items():
        gradient, direction = dx if name == "x" else network.gradients[name], rng.standard_normal(array.shape)
        array += 1e-6 * direction
        above = (network(x, LENGTHS) * dy).sum()
        array -= 2e-6 * direction
        slope = (above - (network(x, LENGTHS) * dy).sum()) / 2e-6
        array += 1e-6 * direction
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-5, abs=1e-8), name


def test_it_learns_as_pytorch_would(rng):
    """Embedding, LSTM, the last state and a linear layer: the first line of every tutorial."""
    torch = pytest.importorskip("torch")
    ours = Sequential(Embedding(7, 3, seed=0), LSTM(3, 4, bidirectional=True, seed=0), Last(), Linear(8, 2))
    embedding, lstm, linear = (
        torch.nn.Embedding(7, 3),
        torch.nn.LSTM(3, 4, bidirectional=True),
        torch.nn.Linear(8, 2),
    )
    for place, module in ("0", embedding), ("1", lstm), ("3", linear):
        ours.parts[place].load_state_dict({k: v.detach().numpy() for k, v in module.named_parameters()})
    tokens, dy = rng.integers(0, 7, (9, 4)), rng.standard_normal((4, 2)).astype("float32")
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        embedding(torch.tensor(tokens)), torch.tensor(LENGTHS), enforce_sorted=False
    )
    h = lstm(packed)[1][0]
    expected = linear(torch.cat([h[0], h[1]], -1))
    expected.backward(torch.tensor(dy))
    y, back = ours.forward(tokens, LENGTHS)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert back(dy) is None
    for place, module in ("0", embedding), ("1", lstm), ("3", linear):
        for name, parameter in module.named_parameters():
            found = ours.gradients[f"{place}.{name}"]
            np.testing.assert_allclose(found, parameter.grad.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_may_come_first(backend, kind, rng):
    network, other = of_sequences(kind), of_sequences(kind, batch_first=True)
    assert (network.batch_first, other.batch_first) == (False, True)
    x = batch(rng, 3)
    y, back = network.forward(x, LENGTHS)
    swapped, other_back = other.forward(x.swapaxes(0, 1), LENGTHS)

    def swap(array):
        return array.swapaxes(0, 1) if kind == "steps" else array

    np.testing.assert_array_equal(swap(swapped), y)
    np.testing.assert_array_equal(swap(other(x.swapaxes(0, 1), LENGTHS)), network(x, LENGTHS))
    np.testing.assert_array_equal(other_back(swapped).swapaxes(0, 1), back(y))


@pytest.mark.parametrize("training", [False, True])
def test_the_state_is_carried_on(backend, training, rng):
    network, x = of_sequences("steps"), batch(rng, 3)
    run = network.forward if training else network
    whole, state_n, *_ = run(x, return_state=True)
    first, state, *_ = run(x[:4], return_state=True)
    second, state, *_ = run(x[4:], state=state, return_state=True)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-12)
    assert type(state) is tuple and len(state) == 2 and len(state[0]) == 2  # an LSTM's and a GRU's
    np.testing.assert_allclose(state[1], state_n[1], rtol=1e-12)
    np.testing.assert_array_equal(run(x[4:], state=[None, None])[0], run(x[4:])[0])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_inference_by_windows_gives_the_same(monkeypatch, kind, batch_first, rng):
    network, x = of_sequences(kind, batch_first=batch_first), batch(rng, 3)
    x = x.swapaxes(0, 1) if batch_first else x
    whole, state = network(x, LENGTHS, return_state=True)
    monkeypatch.setattr(chain, "WINDOW", 2)
    windows, other = network(x, LENGTHS, return_state=True)
    np.testing.assert_allclose(windows, whole, rtol=1e-12)
    for a, b in zip((*state[0], state[1]), (*other[0], other[1]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_have_lengths_of_their_own(kind, rng):
    network, x = of_sequences(kind, first=Embedding(6, 3, dtype="float64")), rng.integers(0, 6, (9, 4))
    given = Sequences([x[:length, row] for row, length in enumerate(LENGTHS)])
    np.testing.assert_array_equal(network(given), network(x, LENGTHS))
    (y, back), (z, other) = network.forward(given), network.forward(x, LENGTHS)
    np.testing.assert_array_equal(y, z)
    assert back(y) is None and other(z) is None


def test_gradients_are_those_of_the_same_steps_without_that_of_x(rng):
    network, x = of_sequences("mean"), batch(rng, 3)
    y, back = network.forward(x)
    assert back(y) is not None
    expected = {name: array.copy() for name, array in network.take_gradients().items()}
    y, back = network.forward(x)
    assert back(y, input_gradient=False) is None
    for name, array in network.gradients.items():
        np.testing.assert_array_equal(array, expected[name])


def test_the_last_of_directions_that_a_layer_has_mixed_is_that_of_the_last_step(rng):
    x = batch(rng, 3)
    made = {"dtype": "float64", "seed": 0}
    gru, mix = GRU(3, 4, bidirectional=True, **made), Linear(8, 4, **made)
    np.testing.assert_array_equal(Sequential(gru, mix, Last())(x), mix(gru(x)[0])[-1])
    (y, _), both = gru(x), Sequential(gru, Tanh(), Last())(x)
    np.testing.assert_array_equal(both, Tanh()(np.concatenate([y[-1, :, :4], y[0, :, 4:]], -1)))


@pytest.mark.parametrize("kind", [Last, Mean])
def test_the_layers_of_a_sequential_within_stand_in_the_row(kind, rng):
    x, made = batch(rng, 3), {"dtype": "float64", "seed": 0}

    def layers():
        return [GRU(3, 4, **made), Dropout(0.5, seed=1), LSTM(4, 4, **made), kind(), Linear(4, 2, **made)]

    gru, dropout, lstm, pooling, head = layers()
    within = Sequential(Sequential(gru, Sequential(dropout)), lstm, Sequential(pooling, head), bptt_steps=2)
    row = Sequential(*layers(), bptt_steps=2)
    (y, states, back), (z, expected, other) = (
        each.forward(x, LENGTHS, return_state=True) for each in (within, row)
    )
    np.testing.assert_array_equal(y, z)
    np.testing.assert_array_equal(states[0], expected[0])
    back(y), other(z)
    for a, b in zip(within.gradients.values(), row.gradients.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(within(x, LENGTHS), row(x, LENGTHS))


class Dropping(Composite):
    """A layer of one's own with masks."""

    def __call__(self, x):
        return x

    def forward(self, x):
        return self.parts["dropout"].forward(x)


def test_masks_of_a_part_are_the_same_when_windows_are_gone_through_again(rng):
    x, made = batch(rng, 3), {"dtype": "float64", "seed": 0}
    found = []
    for dropout in Dropout(0.5, seed=1), Dropping(dropout=Dropout(0.5, seed=1)):
        network = Sequential(GRU(3, 4, **made), dropout, Mean(), bptt_steps=2)
        y, back = network.forward(x)
        back(y)
        found.append(network.gradients["0.weight_hh_l0"])
    np.testing.assert_array_equal(*found)


def test_padding_beyond_the_longest_sequence_takes_no_window(rng):
    network, x = Sequential(GRU(3, 4, dtype="float64", seed=0), Last(), bptt_steps=3), batch(rng, 3)
    lengths = [3, 1, 2, 3]
    y, back = network.forward(x, lengths)
    np.testing.assert_array_equal(y, network(x, lengths))
    back(y)
    got = dict(network.take_gradients())
    y, back = network.forward(x[:3], lengths)
    back(y)
    for name, array in network.gradients.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-12)


@pytest.mark.parametrize("pooling", [Last(), Mean(), Max()])
def test_a_batch_without_a_sequence_has_no_windows(pooling):
    network = Sequential(GRU(3, 4), pooling, bptt_steps=2)
    y, back = network.forward(np.ones((5, 0, 3), "float32"))
    assert (y.shape, back(y).shape) == ((0, 4), (5, 0, 3))


def test_a_composite_hands_gradients_to_its_parts():
    network = Composite(one=Linear(2, 1, bias=False), two=Composite(inner=Linear(2, 1, bias=False)))
    network.add_gradients({name: np.full((1, 2), k) for k, name in enumerate(network.parameters)})
    assert [array[0, 0] for array in network.take_gradients().values()] == [0, 1]


# -- what fits and what does not

MISFITS = {
    "features": (
        lambda: Sequential(Embedding(9, 8), LSTM(8, 32), Last(), Linear(64, 3)),
        "layer 1 gives 32 features, layer 3, Linear(64, 3), expects 64",
    ),
    "through activations": (
        lambda: Sequential(Linear(3, 4), Tanh(), Dropout(0.5), Linear(5, 2)),
        "layer 0 gives 4 features, layer 3, Linear(5, 2), expects 5",
    ),
    "directions": (
        lambda: Sequential(GRU(3, 4, bidirectional=True), Linear(4, 2)),
        "layer 0 gives 8 features, layer 1, Linear(4, 2), expects 4",
    ),
    "names": (
        lambda: Sequential(Embedding(9, 8), recurrent=LSTM(7, 4)),
        "layer 0 gives 8 features, layer recurrent, LSTM(7, 4), expects 7",
    ),
    "dtypes": (
        lambda: Sequential(GRU(3, 4), ReLU(), Linear(4, 2, dtype="float64")),
        "layer 0 has dtype float32, layer 2, Linear(4, 2, dtype='float64'), has float64",
    ),
    "tokens": (
        lambda: Sequential(Dropout(0.1), Embedding(9, 8)),
        "layer 1, Embedding(9, 8), expects tokens: it must",
    ),
    "pooled": (
        lambda: Sequential(GRU(3, 4), Mean(), GRU(4, 5)),
        "layer 2, GRU(4, 5), expects sequences, but layer 1 has left one vector of each",
    ),
    "pooled twice": (
        lambda: Sequential(GRU(3, 4), Mean(), Max()),
        "layer 2, Max(), expects sequences, but layer 1",
    ),
    "batch_first": (
        lambda: Sequential(GRU(3, 4), LSTM(4, 4, batch_first=True)),
        "batch_first must be the same for all recurrent layers: it is True for layer 1 and False for layer 0",
    ),
    "bptt_steps": (lambda: Sequential(GRU(3, 4), bptt_steps=5), "bptt_steps goes with Last, Mean or Max"),
    "bptt_steps 0": (
        lambda: Sequential(GRU(3, 4), Last(), bptt_steps=0),
        "bptt_steps must be a positive integer, got 0",
    ),
    "attention": (lambda: Sequential(Attention(3, 4)), "layer 0, Attention(3, 4), takes two sequences"),
    "bptt_steps of directions": (
        lambda: Sequential(GRU(3, 4, bidirectional=True), Mean(), bptt_steps=5),
        "bptt_steps goes with layers that run forwards only",
    ),
    "bptt_steps within": (
        lambda: Sequential(Sequential(GRU(3, 4), Last(), bptt_steps=5), Linear(4, 2)),
        "layer 0 has bptt_steps: they are the whole row's",
    ),
    "memory within": (
        lambda: Sequential(GRU(3, 4), Composite(gru=GRU(4, 4))),
        "has layers that take lengths or a state",
    ),
    "dtypes of nested ones": (
        lambda: Sequential(GRU(3, 4), Sequential(Linear(4, 2, dtype="float64"))),
        "layer 0 has dtype float32, layer 1.0, Linear(4, 2, dtype='float64'), has float64",
    ),
    "tokens of nested ones": (
        lambda: Sequential(GRU(3, 4), Sequential(Embedding(4, 4))),
        "layer 1.0, Embedding(4, 4), expects tokens: it must",
    ),
    "features of nested ones": (
        lambda: Sequential(GRU(3, 4), head=Sequential(Tanh(), Linear(5, 2), Tanh())),
        "layer 0 gives 4 features, layer head.1, Linear(5, 2), expects 5",
    ),
    "no layer": (lambda: Sequential(np.tanh), "part 0 must be a layer, got"),
    "a class": (lambda: Sequential(Tanh), "part 0 must be a layer, got the class Tanh: call it"),
    "a dot": (lambda: Sequential(**{"a.b": Tanh()}), "part a.b must have a name without dots"),
}


@pytest.mark.parametrize(("make", "words"), MISFITS.values(), ids=MISFITS)
def test_layers_that_do_not_fit_are_refused(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()


X = np.zeros((9, 4, 3))
CALLS = {
    "axes": ({"x": X[0, 0]}, "x must have shape (T, B, 3), got (3,)"),
    "features": ({"x": X[..., :2]}, "x must have shape (T, B, 3), got (9, 4, 2)"),
    "integers": (
        {"x": X.astype(int)},
        "x must be a float32 or float64 array of shape (T, B, 3), got dtype int64",
    ),
    "more steps than a window": (
        {"x": np.zeros((chain.WINDOW + 1, 4, 2))},
        f"x must have shape (T, B, 3), got ({chain.WINDOW + 1}, 4, 2)",
    ),
    "dtype": ({"x": X.astype("float32")}, "x must have the layer's dtype float64, got float32"),
    "no steps": ({"x": X[:0]}, "x must have at least one step, got shape (0, 4, 3)"),
    "a length of 0": ({"lengths": [3, 0, 1, 9]}, "lengths must be within 1..T = 1..9, got lengths[1] = 0"),
    "too few lengths": ({"lengths": [3]}, "lengths must have shape (4,), got (1,)"),
    "twice": (
        {"x": Sequences([X[:, 0]], "float64"), "lengths": [9]},
        "lengths must be None: Sequences have their own",
    ),
    "one state": (
        {"state": np.zeros((2, 4, 4))},
        "state must be a tuple of the states of the recurrent layers, of which there are 2",
    ),
    "too few states": ({"state": (None,)}, "of which there are 2, got"),
    "a state's shape": (
        {"state": (None, np.zeros((1, 3, 4)))},
        "state[1] must have shape (L*D, B, H) = (1, 4, 4)",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), CALLS.values(), ids=CALLS)
def test_bad_calls(arguments, words):
    network = of_sequences("mean")
    for run in (network, network.forward):
        with pytest.raises((TypeError, ValueError), match=re.escape(words)):
            run(**{"x": X, **arguments})


def test_floats_are_no_tokens():
    network = Sequential(Embedding(9, 3), GRU(3, 4))
    for x in (np.ones((5, 2)), np.ones((5, 2, 3))):
        with pytest.raises(
            TypeError, match=r"x must be integer tokens of shape \(T, B\), got an array of shape"
        ):
            network(x)


def test_lengths_and_states_that_nothing_takes():
    network = Sequential(Linear(3, 2))
    with pytest.raises(ValueError, match="lengths must be None: there is no recurrent layer or pooling"):
        network(np.ones((2, 3), "float32"), [1, 2])
    with pytest.raises(TypeError, match="of which there are 0"):
        network(np.ones((2, 3), "float32"), state=(None,))


def test_a_way_back_serves_once_and_changes_nothing_when_it_is_refused(rng):
    network, x = of_sequences("last"), batch(rng, 3)
    y, back = network.forward(x)
    for bad in (y[:2], y.astype("float32"), None):
        with pytest.raises((TypeError, ValueError), match="dy must"):
            back(bad)
    with pytest.raises(TypeError, match="input_gradient must be True or False"):
        back(y, input_gradient=None)
    assert network.gradients == {}
    back(y)
    before = dict(network.gradients)
    with pytest.raises(RuntimeError, match="back was called before: each serves one call; run forward again"):
        back(y)
    assert all(network.gradients[name] is array for name, array in before.items())


# -- a user's own layers, copies, names


class Scale(Layer):
    """A layer of one's own."""

    def __init__(self):
        super().__init__({"scale": np.full(1, 2.0)})

    def __call__(self, x):
        return x * self.parameters["scale"]

    def forward(self, x):
        def back(dy):
            self.add_gradients({"scale": np.array([(dy * x).sum()])})
            return dy * self.parameters["scale"]

        return self(x), back


def test_a_recurrent_layer_that_runs_in_a_way_of_its_own(rng):
    """Its subclass's call and forward count, with the arguments that those of the layer have."""

    class Halved(GRU):
        def __call__(self, x, *arguments, **named):
            y, state = super().__call__(x, *arguments, **named)
            return y / 2, state

        def forward(self, x, *arguments, **named):
            y, state, back = super().forward(x, *arguments, **named)
            return y / 2, state, lambda dy, dstate=None, **options: back(dy / 2, dstate, **options)

    usual, network = Sequential(GRU(2, 4)), Sequential(Halved(2, 4))
    network.load_state_dict(usual.state_dict())
    x, lengths = rng.normal(size=(5, 3, 2)).astype("float32"), [5, 2, 4]
    for named in ({}, {"starts": rng.random((5, 3)) < 0.3}):
        expected = usual(x, lengths, **named) / 2
        np.testing.assert_array_equal(network(x, lengths, **named), expected)
        y, back = network.forward(x, lengths, **named)
        np.testing.assert_array_equal(y, expected)
        _, usual_back = usual.forward(x, lengths, **named)
        np.testing.assert_array_equal(back(y), usual_back(y / 2))


def test_layers_of_ones_own_and_layers_that_come_twice(rng):
    scale = Scale()
    network = Sequential(
        GRU(3, 4, dtype="float64", seed=0), scale, scale, Mean(), head=Linear(4, 2, dtype="float64")
    )
    assert list(network.parameters)[-3:] == ["1.scale", "head.weight", "head.bias"]
    x = batch(rng, 3)
    y, back = network.forward(x, LENGTHS)
    back(np.ones_like(y))
    scale.parameters["scale"] += 1e-6
    above = network(x, LENGTHS).sum()
    scale.parameters["scale"] -= 2e-6
    assert network.gradients["1.scale"][0] == pytest.approx((above - network(x, LENGTHS).sum()) / 2e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_computes_the_same(copied, rng):
    network, x = of_sequences("max"), batch(rng, 3)
    network.forward(x)[1](np.ones((4, 2)))
    other = copied(network)
    np.testing.assert_array_equal(other(x), network(x))
    assert other.gradients == {} and repr(other) == repr(network)
    assert other.parts["0"] is not network.parts["0"]


class Flat(Layer):
    """Pictures, step by step, as rows of features."""

    def __call__(self, x):
        return x.reshape(*x.shape[:2], -1)

    def forward(self, x):
        return self(x), lambda dy: dy.reshape(x.shape)


def test_steps_may_be_of_any_shape_where_a_layer_of_ones_own_takes_them(rng):
    network = Sequential(Flat(), GRU(6, 4, dtype="float64", seed=0), Last())
    x = batch(rng, 2, 3)
    y, back = network.forward(x, LENGTHS)
    np.testing.assert_array_equal(y, network(x.reshape(9, 4, 6), LENGTHS))
    assert back(y).shape == x.shape
    with pytest.raises(
        ValueError, match=re.escape("what comes to Mean() must have shape (T, B, F), got (9, 4)")
    ):
        Sequential(Tanh(), Mean())(batch(rng))


def test_without_layers_nothing_happens():
    y, back = Sequential().forward(np.ones(3))
    assert y.tolist() == back(y).tolist() == [1, 1, 1]


def test_parts_are_attributes_and_print_a_line_each():
    network = Sequential(recurrent=LSTM(3, 4, 2), pooling=Last(), head=Linear(4, 2))
    assert network.head is network.parts["head"]
    with pytest.raises(AttributeError, match="Sequential has no attribute or part 'tail'"):
        network.tail  # noqa: B018
    assert repr(network).splitlines()[1:3] == [
        "  (recurrent): LSTM(3, 4, num_layers=2)",
        "  (pooling): Last()",
    ]


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(sequential, extraglobs={"np": np})
    assert results.attempted and not results.failed
