"""Activations against PyTorch and finite differences."""

import doctest
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fastrnn import reference, use_backend
from fastrnn.config import _core
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
    theirs_dx = theirs.grad.numpy()
    if (
        name == "Hardsigmoid"
    ):  # whose gradient is of a float32's 1/6, and at a kink may be that of either side
        tolerance = {"rtol": 1e-6, "atol": 1e-7}
        dx, theirs_dx = np.where(np.abs(x) == 3, 0, [dx, theirs_dx])
    np.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(dx, theirs_dx, **tolerance)
    np.testing.assert_array_equal(layer(x), y)


SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e38, -1e38, 3e38, -3e38, 88.0, -88.0, -104.0, 1e-30, -1e-30]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "layer", "options"), [(k, *v) for k, v in ACTIVATIONS.items()])
def test_special_numbers_are_pytorchs(isa, name, layer, options, dtype):
    torch = pytest.importorskip("torch")
    x = np.array(SPECIAL * 5, dtype)[:, None]
    if "oftmax" in name:  # rows of nothing else, and with others
        x = np.concatenate([x.repeat(3, axis=1), np.insert(x, 1, [[1], [2]], axis=1)])
    expected = getattr(torch.nn, name.split()[0])(**options)(torch.tensor(x)).numpy()
    if name == "GELU":
        expected = np.where(x == np.inf, x, expected)  # for which PyTorch's vectors of float32 give NaN
    np.testing.assert_allclose(layer(x), expected, rtol=2e-5, atol=1e-30)


# -- the kernels beside their specification

NUMBERS = {"leaky_relu": (0.3,), "elu": (1.5, 0.7), "hard_sigmoid": (0.2,)}
KINDS = pytest.mark.parametrize("kind", [kind for kind in reference.FUNCTIONS if kind != "exp"])


def kernel(kind, x):
    return _core.activation(kind, x, NUMBERS.get(kind, ()))


@pytest.mark.skipif(_core is None, reason="the native kernels are not built")
@KINDS
@given(data=st.data())
def test_kernels_agree_with_the_reference(kind, data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shapes = array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=40)
    ends = {"width": 32, "allow_subnormal": False}
    floats = st.floats(-(2.0**99), 2.0**99, **ends) | st.floats(-9, 9, **ends) | st.sampled_from(SPECIAL)
    x = data.draw(arrays(dtype, shapes, elements=floats.map(dtype)))
    expected = reference.activation(kind, x, NUMBERS.get(kind, ()))
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    before = _core.config()["isa"]
    for isa in _core.config()["isas"]:
        _core.set_isa(isa)
        y = kernel(kind, x)
        _core.set_isa(before)
        assert y.dtype == dtype and y.shape == x.shape
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance / 10, err_msg=isa)


def by_hand(kind, x):
    """Step by step what C that has no more than exp, tanh and sigmoid of the kernels would do."""
    numbers = np.array(NUMBERS.get(kind, ()), x.dtype)
    if kind == "leaky_relu":
        return np.where(x > 0, x, numbers[0] * x)
    if kind == "elu":
        alpha, scale = NUMBERS[kind]
        expm1 = _core.activation(kind, x, (1.0, 1.0))
        return np.where(x > 0, numbers[1] * x, x.dtype.type(alpha * scale) * expm1)
    if kind == "silu":
        return x * kernel("sigmoid", x)
    if kind == "softsign":
        return x / (1 + np.abs(x))
    e = _core.activation("exp", x - x.max(axis=-1, keepdims=True))
    return e / np.add.accumulate(e, axis=-1)[..., -1:]  # one after the other


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["leaky_relu", "elu", "silu", "softsign", "softmax"])
def test_values_are_made_of_others_bit_by_bit(isa, rng, kind, dtype):
    for width in (1, 2, 7, 16, 37, 100):
        x = (rng.normal(size=(5, width)) * 4).astype(dtype)
        assert kernel(kind, x).tobytes() == by_hand(kind, x).tobytes()


@KINDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_isa_with_fma_gives_the_same_bits(rng, kind, dtype):
    before, x = _core.config()["isa"], (rng.normal(size=(9, 133)) * 4).astype(dtype)
    found = set()
    for isa in {"avx2", "avx512"} & set(_core.config()["isas"]):
        _core.set_isa(isa)
        found.add(kernel(kind, x).tobytes())
    _core.set_isa(before)
    assert len(found) <= 1


@KINDS
@pytest.mark.parametrize("shape", [(3, 70001), (70001, 3), (999, 301), (1, 1)])
def test_threads_do_not_show(threads, rng, kind, shape):
    x = rng.normal(size=shape).astype("float32")
    threads(1)
    expected = kernel(kind, x)
    for count in (2, 3):
        threads(count)
        assert kernel(kind, x).tobytes() == expected.tobytes()


@KINDS
def test_rows_do_not_depend_on_others(isa, rng, kind):
    x = rng.normal(size=(7, 45)).astype("float32")
    y = kernel(kind, x)
    for n in range(7):
        assert kernel(kind, x[n]).tobytes() == y[n].tobytes()


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_layers_agree_on_both_backends(layer, rng):
    x = rng.normal(size=(3, 4, 9))
    with use_backend("reference"):
        expected = layer(x)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.skipif(_core is None, reason="the native kernels are not built")
def test_the_kernels_door_refuses_what_it_does_not_know():
    x = np.ones(3)
    with pytest.raises(ValueError, match="unknown activation 'erf'"):
        _core.activation("erf", x)
    with pytest.raises(ValueError, match="elu: another number of numbers"):
        _core.activation("elu", x, (1.0,))
    with pytest.raises(ValueError, match="x: wrong dtype"):
        _core.activation("tanh", np.ones(3, int))
    with pytest.raises(ValueError, match="x: wrong dtype, layout"):
        _core.activation("tanh", np.ones((4, 4))[:, ::2])


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
    for shape in (0, 3), (3, 0):
        y, back = layer.forward(np.ones(shape))
        assert y.shape == back(y).shape == shape


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
