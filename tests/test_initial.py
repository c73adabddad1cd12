"""Initial values: what they promise of the matrices, and what comes of it in the gradients."""

import re

import numpy as np
import pytest
from cells import KEEPING, LAYERS, WITH_C, cell_of, state_of

from fastrnn import LSTM, RNN, Linear
from fastrnn.layers import initial
from fastrnn.reference import ACTIVATIONS

stacked = {"num_layers": 2, "bidirectional": True}


def blocks(layer):
    """Every gate's recurrent matrix."""
    for name, array in layer.parameters.items():
        if name.startswith("weight_hh"):
            yield from array.reshape(-1, layer.hidden_size, array.shape[1])


@pytest.mark.parametrize("kind", LAYERS)
def test_orthogonal_matrices_differ_and_keep_lengths(kind):
    layer, same = (LAYERS[kind](3, 6, **stacked, dtype="float64", seed=0) for _ in range(2))
    before = layer.state_dict()
    initial.orthogonal(layer, 1.5, seed=7)
    initial.orthogonal(same, 1.5, seed=7)
    matrices = list(blocks(layer))
    assert len(matrices) == 4 * len(cell_of(kind).gates)
    for k, matrix in enumerate(matrices):
        np.testing.assert_allclose(matrix.T @ matrix, 1.5**2 * np.eye(matrix.shape[1]), atol=1e-14)
        assert not any(np.allclose(matrix, other) for other in matrices[:k])
    for name, array in layer.parameters.items():
        np.testing.assert_array_equal(array, same.parameters[name])
        assert np.array_equal(array, before[name]) == (not name.startswith("weight_hh")), name


def test_orthogonal_matrices_are_uniform():
    """Of a uniform one the trace has mean 0 and variance 1; with the signs that QR leaves it has not."""
    traces = []
    rng = np.random.default_rng(0)
    for _ in range(400):
        layer = RNN(1, 4, dtype="float64", seed=0)
        initial.orthogonal(layer, seed=rng)
        traces.append(np.trace(layer.parameters["weight_hh_l0"]))
    assert abs(np.mean(traces)) < 4 / np.sqrt(400)
    assert abs(np.var(traces) - 1) < 0.3


def test_an_identity_carries_h_and_its_gradient_unchanged():
    layer = RNN(2, 3, **stacked, nonlinearity="relu", dtype="float64", seed=0)
    initial.identity(layer)
    state = np.arange(1.0, 25).reshape(4, 2, 3)
    for name in layer.parameters:
        if name.startswith("weight_ih"):
            layer.parameters[name][...] = 0
    y, state_n, back = layer.forward(np.ones((50, 2, 2)), state)
    np.testing.assert_array_equal(state_n, state)
    _, dstate = back(np.zeros_like(y), state)
    np.testing.assert_array_equal(dstate, state)


@pytest.mark.parametrize("kind", KEEPING)
def test_the_gate_that_keeps_is_the_one_set(kind):
    """With all else 0 it alone decides what is left of the state: sigmoid(b) of it after each step."""
    layer = LAYERS[kind](2, 3, **stacked, dtype="float64", seed=0)
    for array in layer.parameters.values():
        array[...] = 0
    initial.forget_bias(layer, 3.0)
    rng = np.random.default_rng(0)
    start = state_of(layer, lambda shape, k: rng.normal(size=shape), 2)
    _, state_n = layer(np.zeros((5, 2, 2)), start)
    what, is_left = (state[1] if kind in WITH_C else state for state in (start, state_n))
    gate, bound = ACTIVATIONS[layer._told.gate], layer._told.clip or np.inf
    np.testing.assert_allclose(is_left, what * gate.of(np.array(min(3.0, bound))) ** 5)


@pytest.mark.parametrize("kind", KEEPING)
def test_only_the_gates_bias_changes(kind):
    layer = LAYERS[kind](2, 3, **stacked, seed=0)
    coupled = layer._told.coupled  # then f is 1 - i
    place, value = cell_of(kind).gates.index("i" if coupled else cell_of(kind).keeps), -2 if coupled else 2
    before = layer.state_dict()
    initial.forget_bias(layer, 2.0)
    for name, array in layer.parameters.items():
        changed = array != before[name]
        expected = np.zeros_like(changed)
        if name.startswith("bias"):
            gate = slice(3 * place, 3 * place + 3)
            expected[gate] = True
            assert (array[gate] == (value if name.startswith("bias_ih") else 0)).all()
        np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: initial.orthogonal(Linear(2, 2)),
            TypeError,
            "layer must be a recurrent layer, got Linear(",
        ),
        (
            lambda: initial.orthogonal(RNN(2, 2), 0.0),
            ValueError,
            "gain must be a positive finite number, got 0",
        ),
        (lambda: initial.orthogonal(RNN(2, 2), seed=-1), ValueError, "seed must be a non-negative integer"),
        (lambda: initial.identity(LSTM(2, 2)), TypeError, "layer must be an RNN, got"),
        (
            lambda: initial.identity(RNN(2, 2), "1"),
            TypeError,
            "scale must be a positive finite number, got '1'",
        ),
        (lambda: initial.forget_bias(RNN(2, 2)), TypeError, "layer must be one with a gate that keeps"),
        (lambda: initial.forget_bias(LSTM(2, 2, bias=False)), ValueError, "got one with bias=False"),
        (
            lambda: initial.forget_bias(LSTM(2, 2), np.nan),
            ValueError,
            "value must be a finite number, got nan",
        ),
    ],
)
def test_bad_calls(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()
