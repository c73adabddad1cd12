"""Activations and layers one after the other, against finite differences and PyTorch."""

import doctest

import numpy as np
import pytest

from fastrnn.layers import (
    LSTM,
    Dropout,
    Embedding,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    activations,
    sequential,
)

ACTIVATIONS = (ReLU, Tanh, Sigmoid)


def network(seed=0):
    rng = np.random.default_rng(seed)
    options = {"dtype": "float64", "seed": rng}
    first, second, third = (Linear(*sizes, **options) for sizes in ((3, 5), (5, 4), (4, 2)))
    return Sequential(first, Tanh(), second, ReLU(), third, Sigmoid())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_are_pytorchs(activation, dtype):
    torch = pytest.importorskip("torch")
    x = np.concatenate([np.linspace(-5, 5, 21), [-1e4, 1e4, 0.0]]).astype(dtype)
    theirs = torch.tensor(x, requires_grad=True)
    expected = getattr(torch, activation.__name__.lower())(theirs)
    expected.sum().backward()
    layer = activation()
    y, back = layer.forward(x)
    dx = back(np.ones_like(x))
    assert y.dtype == dx.dtype == dtype
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-15}
    np.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(dx, theirs.grad.numpy(), **tolerance)
    np.testing.assert_array_equal(layer(x), y)


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


def test_what_has_a_memory_is_refused():
    with pytest.raises(TypeError, match="layer 1 must be a layer without memory, got"):
        Sequential(Linear(3, 5), LSTM(5, 5))
    with pytest.raises(TypeError, match="layer 0 must be a layer without memory, got"):
        Sequential(np.tanh)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bad_input_is_refused(activation):
    with pytest.raises(TypeError, match="x must be a float32 or float64 array"):
        activation()(np.arange(3))
    _, back = activation().forward(np.ones(3))
    with pytest.raises(ValueError, match=r"dy must have shape \(3,\), got \(2,\)"):
        back(np.ones(2))
    with pytest.raises(TypeError, match="y and dy must have the same dtype"):
        back(np.ones(3, np.float32))


@pytest.mark.parametrize("module", [activations, sequential])
def test_the_examples_in_the_docstrings(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
