"""Activations against PyTorch and finite differences."""

import doctest
import re

import numpy as np
import pytest

from fastrnn.layers import (
    ELU,
    GELU,
    SELU,
    HardSigmoid,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
    activations,
)

ACTIVATIONS = {
    "ReLU": (ReLU(), {}),
    "LeakyReLU": (LeakyReLU(), {}),
    "LeakyReLU 0.3": (LeakyReLU(0.3), {"negative_slope": 0.3}),
    "ELU": (ELU(), {}),
    "ELU 0.5": (ELU(0.5), {"alpha": 0.5}),
    "SELU": (SELU(), {}),
    "Tanh": (Tanh(), {}),
    "Sigmoid": (Sigmoid(), {}),
    "Hardsigmoid": (HardSigmoid(), {}),
    "SiLU": (SiLU(), {}),
    "GELU": (GELU(), {}),
    "GELU tanh": (GELU("tanh"), {"approximate": "tanh"}),
    "Softplus": (Softplus(), {"threshold": 1000}),
    "Softsign": (Softsign(), {}),
    "Softmax": (Softmax(), {"dim": -1}),
    "LogSoftmax": (LogSoftmax(), {"dim": -1}),
}
LAYERS = [layer for layer, _ in ACTIVATIONS.values()]
each = pytest.mark.parametrize("layer", LAYERS, ids=repr)


def inputs(dtype="float64"):
    """From tiny to huge, of both signs, and corners."""
    corners = [-1e4, 1e4, 0.0, 3.0, -3.0, 1e-9, -1e-9, 80.0, -80.0]
    return np.concatenate([np.linspace(-5, 5, 31), corners]).reshape(4, 2, 5).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "layer", "options"), [(k, *v) for k, v in ACTIVATIONS.items()])
def test_they_are_pytorchs(name, layer, options, dtype):
    torch = pytest.importorskip("torch")
    x, dy = inputs(dtype), np.random.default_rng(0).normal(size=(4, 2, 5)).astype(dtype)
    theirs = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn, name.split()[0])(**options)(theirs)
    expected.backward(torch.tensor(dy))
    y, back = layer.forward(x)
    dx = back(dy)
    assert y.dtype == dx.dtype == dtype
    tolerance = {"rtol": 2e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-14}
    if name == "Hardsigmoid":  # whose gradient is of a float32's 1/6
        tolerance = {"rtol": 1e-6}
    np.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(dx, theirs.grad.numpy(), **tolerance)
    np.testing.assert_array_equal(layer(x), y)


@each
def test_gradients_are_those_of_central_differences(layer, rng):
    x, dy = rng.normal(size=(3, 2, 5)) * 2, rng.normal(size=(3, 2, 5))
    _, back = layer.forward(x)
    dx = back(dy)
    for index in np.ndindex(x.shape):
        found = []
        for step in (1e-6, -2e-6):
            x[index] += step
            found.append((layer(x) * dy).sum())
        x[index] += 1e-6
        assert dx[index] == pytest.approx((found[0] - found[1]) / 2e-6, abs=1e-8), index


def test_the_hard_sigmoid_of_onnx():
    x = np.array([-3.0, -2.5, -1, 0, 1, 2.5, 3])
    y, back = HardSigmoid(slope=0.2).forward(x)
    np.testing.assert_allclose(y, [0, 0, 0.3, 0.5, 0.7, 1, 1], atol=1e-15)
    assert back(np.ones(7)).tolist() == [0, 0, 0.2, 0.2, 0.2, 0, 0]


@each
def test_infinities_and_nan_go_through_without_a_word(layer):
    x = np.array([[np.inf, 1.0], [-np.inf, 1.0], [np.nan, 1.0]])
    y, back = layer.forward(x)
    assert np.isnan(y[2, 0])
    back(np.full_like(x, np.inf))


@each
def test_bad_input_is_refused(layer):
    with pytest.raises(TypeError, match="x must be a float32 or float64 array"):
        layer(np.arange(3))
    _, back = layer.forward(np.ones(3))
    with pytest.raises(ValueError, match=r"dy must have shape \(3,\), got \(2,\)"):
        back(np.ones(2))
    with pytest.raises(TypeError, match="y and dy must have the same dtype"):
        back(np.ones(3, np.float32))


@each
def test_empty_batches(layer):
    y, back = layer.forward(np.ones((0, 3)))
    assert y.shape == back(y).shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ELU("a"), "alpha must be a finite number, got 'a'"),
        (lambda: LeakyReLU(np.nan), "negative_slope must be a finite number, got nan"),
        (lambda: HardSigmoid(0), "slope must be a positive finite number, got 0"),
        (lambda: GELU("erf"), "approximate must be one of 'none', 'tanh', got 'erf'"),
        (lambda: Softmax(-1), "takes 1 positional argument but 2 were given"),
        (lambda: Softmax()(np.float64(1)), "x must have at least one axis, got a single number"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()


def test_they_print_what_makes_them():
    assert list(map(repr, (GELU(), GELU("tanh"), ELU(0.5), HardSigmoid(slope=0.2)))) == [
        "GELU()",
        "GELU(approximate='tanh')",
        "ELU(alpha=0.5)",
        "HardSigmoid(slope=0.2)",
    ]


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(activations, extraglobs={"np": np})
    assert results.attempted and not results.failed
