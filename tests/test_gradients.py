"""Gradients that add up in a layer, however often it runs forward before the ways back, and in any order."""

import cells
import numpy as np
import pytest

from fastrnn.layers import (
    GRU,
    LSTM,
    Attention,
    Composite,
    Dropout,
    Embedding,
    Layer,
    Linear,
    Sequential,
    Sigmoid,
    Tanh,
)

OPTIONS = {"num_layers": 2, "bidirectional": True, "learned_state": True, "dtype": "float64", "seed": 0}
LAYERS = {
    **{kind: lambda make=make: make(4, 3, dropout=0.3, **OPTIONS) for kind, make in cells.LAYERS.items()},
    "recompute": lambda: LSTM(4, 3, recurrent_dropout=0.3, recompute=True, **OPTIONS),
    "Linear": lambda: Linear(4, 3, dtype="float64", seed=0),
    "Attention": lambda: Attention(4, 4, dtype="float64", seed=0),
    "Embedding": lambda: Embedding(9, 4, dtype="float64", seed=0),
    "Dropout": lambda: Dropout(0.5, seed=0),
    "Sigmoid": Sigmoid,
    "Sequential": lambda: Sequential(
        Linear(4, 3, dtype="float64", seed=0),
        Tanh(),
        Dropout(0.5, seed=0),
        Linear(3, 2, dtype="float64", seed=0),
    ),
}


def data_for(layer, rng):
    """The arguments of a call, of another number of steps each time."""
    shape = int(rng.integers(2, 8)), 5
    if isinstance(layer, Embedding):
        return [rng.integers(0, 9, shape)]
    x = rng.standard_normal((*shape, 4))
    return [x, x[::-1]] if isinstance(layer, Attention) else [x]


def taken(layer):
    return {name: gradient.copy() for name, gradient in layer.take_gradients().items()}


def assert_equal(got, expected):
    """In every bit: gradients, or the arrays that a way back returns, some of which may be None."""
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def flat(results):
    """Arrays within tuples within tuples, by place."""
    if isinstance(results, tuple):
        return {f"{k}.{name}": a for k, each in enumerate(results) for name, a in flat(each).items()}
    return {"": results}


@pytest.mark.parametrize("first_back", [0, 1], ids=["in order", "last first"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_two_forwards_before_either_back(make, first_back, backend, rng):
    """As two layers in the place of the one would give, and their gradients' sum."""
    layer = make()
    data = [data_for(layer, rng) for _ in range(2)]
    alone, gradients = [], []
    for arguments in data:
        y, *_, back = layer.forward(*arguments)
        alone.append((y, back(y)))
        gradients.append(taken(layer))

    layer = make()  # with the same masks still to draw
    passes = [layer.forward(*arguments) for arguments in data]
    together = [None, None]
    for k in (first_back, 1 - first_back):
        y, *_, back = passes[k]
        together[k] = y, back(y)
    assert_equal(flat(tuple(together)), flat(tuple(alone)))
    a, b = gradients[first_back], gradients[1 - first_back]
    assert_equal(layer.take_gradients(), {name: a[name] + b[name] for name in a})


def test_what_was_looked_at_does_not_change_when_more_comes(backend):
    """Nor is a gradient added twice, although those of both biases may be one array."""
    layer, x = LSTM(2, 3, dtype="float64", seed=0), np.ones((4, 1, 2))
    seen = []
    for _ in range(3):
        y, _, back = layer.forward(x)
        back(y)
        seen.append((layer.gradients["bias_ih_l0"], layer.gradients["bias_hh_l0"].copy()))
    for times, (b_ih, b_hh) in enumerate(seen, 1):
        np.testing.assert_allclose(b_ih, times * seen[0][1], rtol=1e-15)
        np.testing.assert_array_equal(b_ih, b_hh)


def test_a_shared_encoder_has_the_gradient_of_the_loss_of_both():
    """Siamese: half the squared distance of two sequences' last states, by central differences."""
    encoder = GRU(3, 4, dtype="float64", seed=0)
    left, right = np.random.default_rng(0).standard_normal((2, 6, 5, 3))

    def loss():
        return 0.5 * ((encoder(left)[1] - encoder(right)[1]) ** 2).sum()

    _, h_left, back_left = encoder.forward(left)
    _, h_right, back_right = encoder.forward(right)
    distance = h_left - h_right
    back_left(None, distance)
    back_right(None, -distance)
    for name, gradient in encoder.take_gradients().items():
        array = encoder.parameters[name]
        direction = np.random.default_rng(1).standard_normal(array.shape)
        array += 1e-6 * direction
        above = loss()
        array -= 2e-6 * direction
        slope = (above - loss()) / 2e-6
        array += 1e-6 * direction
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-6), name


def test_micro_batches_add_up_to_a_large_one(backend, rng):
    network = Composite(lstm=LSTM(3, 4, dtype="float64", seed=0), head=Linear(4, 2, dtype="float64", seed=0))
    lstm, head = network.parts.values()
    x, dy = rng.standard_normal((6, 12, 3)), rng.standard_normal((6, 12, 2))

    def step(rows):
        hidden, _, lstm_back = lstm.forward(x[:, rows])
        _, head_back = head.forward(hidden)
        lstm_back(head_back(dy[:, rows]))

    step(slice(12))
    whole = taken(network)
    for k in range(4):
        step(slice(3 * k, 3 * k + 3))
    assert network.gradients.keys() == whole.keys()
    for name, gradient in network.take_gradients().items():
        np.testing.assert_allclose(gradient, whole[name], rtol=1e-12, atol=1e-13, err_msg=name)


def test_a_layer_of_ones_own_may_find_its_gradients_one_by_one():
    layer = Layer({"a": np.zeros(1), "b": np.zeros(1)})
    for gradients in ({"a": np.ones(1)}, {"b": np.ones(1)}, {"a": np.ones(1)}):
        layer.add_gradients(gradients)
    assert {name: array.tolist() for name, array in layer.take_gradients().items()} == {"a": [2], "b": [1]}


def test_gradients_are_forgotten_in_every_part():
    network = Composite(inner=Composite(a=Linear(2, 2)), b=Linear(2, 2))
    for layer in network.parts["inner"].parts["a"], network.parts["b"]:
        layer.forward(np.ones((1, 2), "float32"))[1](np.ones((1, 2), "float32"))
    assert len(network.gradients) == 4
    network.clear_gradients()
    assert network.gradients == {}
