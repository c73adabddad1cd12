"""Attention: equal to PyTorch's operations in both passes, to finite differences, and blind to padding."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.layers import Attention, attention

TOLERANCE = {"float32": 2e-5, "float64": 1e-11}
T, S, B, Q, M = 4, 5, 3, 6, 7
LENGTHS = [5, 1, 3]


def arguments(rng, dtype="float64", shape=(T, S, B, Q, M)):
    T, S, B, Q, M = shape
    return tuple(rng.standard_normal(size).astype(dtype) for size in ((T, B, Q), (S, B, M), (T, B, Q)))


def both_passes(layer, queries, memory, lengths, dy):
    layer.clear_gradients()
    y, back = layer.forward(queries, memory, lengths)
    dqueries, dmemory = back(dy)
    return {"y": y, "dqueries": dqueries, "dmemory": dmemory, **layer.gradients}


def in_torch(layer, queries, memory, lengths, dy):
    torch = pytest.importorskip("torch")
    queries, memory = (torch.tensor(array, requires_grad=True) for array in (queries, memory))
    weights = {name: torch.tensor(array, requires_grad=True) for name, array in layer.parameters.items()}
    scores = torch.einsum("tbq,mq,sbm->tbs", queries, weights["weight_score"], memory)
    padded = torch.arange(len(memory))[None] >= torch.tensor(lengths)[:, None]
    looks = scores.masked_fill(padded[None], -torch.inf).softmax(-1)
    joined = torch.cat([torch.einsum("tbs,sbm->tbm", looks, memory), queries], -1)
    y = torch.tanh(joined @ weights["weight_output"].T)
    y.backward(torch.tensor(dy))
    results = {"y": y, "dqueries": queries.grad, "dmemory": memory.grad}
    results |= {name: weight.grad for name, weight in weights.items()}
    return {name: result.detach().numpy() for name, result in results.items()}


def assert_close(got, expected, tolerance):
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert (got[name].shape, got[name].dtype) == (array.shape, array.dtype), name
        scale = np.abs(array).max(initial=0) or 1
        assert np.abs(got[name] - array).max(initial=0) / scale <= tolerance, name


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_torch(backend, rng, dtype):
    queries, memory, dy = arguments(rng, dtype)
    layer = Attention(Q, M, dtype=dtype, seed=0)
    got = both_passes(layer, queries, memory, LENGTHS, dy)
    assert_close(got, in_torch(layer, queries, memory, LENGTHS, dy), TOLERANCE[dtype])
    assert (layer(queries, memory, LENGTHS) == got["y"]).all()


@settings(max_examples=30)
@given(shape=st.tuples(*[st.integers(1, 6)] * 5), data=st.data())
def test_equals_torch_whatever_the_shape(shape, data):
    queries, memory, dy = arguments(np.random.default_rng(0), shape=shape)
    lengths = data.draw(st.lists(st.integers(1, shape[1]), min_size=shape[2], max_size=shape[2]))
    layer = Attention(*shape[3:], dtype="float64", seed=0)
    got = both_passes(layer, queries, memory, lengths, dy)
    assert_close(got, in_torch(layer, queries, memory, lengths, dy), TOLERANCE["float64"])


def test_gradients_are_those_of_finite_differences(rng):
    queries, memory, dy = arguments(rng)
    layer = Attention(Q, M, dtype="float64", seed=0)
    found = both_passes(layer, queries, memory, LENGTHS, dy)
    for name, array in {"dqueries": queries, "dmemory": memory, **layer.parameters}.items():
        for _ in range(5):
            place = tuple(rng.integers(array.shape))
            values, before = [], array[place]
            for change in (1e-6, -1e-6):
                array[place] = before + change
                values.append((layer(queries, memory, LENGTHS) * dy).sum())
            array[place] = before
            assert found[name][place] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-8), (
                name
            )


def test_weights_are_what_the_context_is_made_with(rng):
    queries, memory, _ = arguments(rng)
    layer = Attention(Q, M, dtype="float64", seed=0)
    weights = layer.weights(queries, memory, LENGTHS)
    assert weights.shape == (T, B, S)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)
    for b, length in enumerate(LENGTHS):
        assert (weights[:, b, :length] > 0).all() and (weights[:, b, length:] == 0).all()
    context = np.einsum("tbs,sbm->tbm", weights, memory)
    y = np.tanh(np.concatenate([context, queries], -1) @ layer.parameters["weight_output"].T)
    np.testing.assert_allclose(layer(queries, memory, LENGTHS), y, rtol=1e-12)


@pytest.mark.parametrize("rubbish", [0.0, 1e30, np.nan, np.inf])
def test_what_the_padding_holds_changes_no_bit(rng, rubbish):
    queries, memory, dy = arguments(rng, "float32")
    layer = Attention(Q, M, seed=0)
    expected = both_passes(layer, queries, memory, LENGTHS, dy)
    for b, length in enumerate(LENGTHS):
        memory[length:, b] = rubbish
        assert (expected["dmemory"][length:, b] == 0).all()
    given_memory = memory.copy()
    assert_close(both_passes(layer, queries, memory, LENGTHS, dy), expected, 0)
    np.testing.assert_array_equal(memory, given_memory)


def test_a_sequence_is_what_it_is_alone(rng):
    queries, memory, _ = arguments(rng)
    layer = Attention(Q, M, dtype="float64", seed=0)
    y = layer(queries, memory, LENGTHS)
    for b, length in enumerate(LENGTHS):
        alone = layer(queries[:, b : b + 1], memory[:length, b : b + 1])
        np.testing.assert_allclose(y[:, b : b + 1], alone, rtol=1e-12)


def test_large_scores_do_not_overflow(rng):
    queries, memory, dy = arguments(rng, "float32")
    layer = Attention(Q, M, seed=0)
    found = both_passes(layer, queries * 1e4, memory * 1e4, LENGTHS, dy)
    assert all(np.isfinite(array).all() for array in found.values())


def test_a_seed_gives_the_same_weights_and_a_state_can_be_loaded():
    first, again, other = (Attention(Q, M, seed=seed) for seed in (1, 1, 2))
    for name, array in first.parameters.items():
        assert (array == again.parameters[name]).all() and (array != other.parameters[name]).any()
        assert np.abs(array).max() <= array.shape[1] ** -0.5
    other.load_state_dict(first.state_dict())
    assert (other.parameters["weight_output"] == first.parameters["weight_output"]).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"queries": np.ones((T, B, Q + 1))}, "queries must have shape"),
        ({"memory": np.ones((S, B + 1, M))}, "memory must have shape"),
        ({"memory": np.ones((0, B, M))}, "memory must have at least one step"),
        (
            {"memory": np.ones((S, B, M), "float32")},
            "memory must have the layer's dtype float64, got float32",
        ),
        ({"lengths": [1, 2, 6]}, r"lengths must be within 1..S = 1..5, got lengths\[2\] = 6"),
        ({"lengths": [1, 0, 2]}, r"lengths must be within 1..S = 1..5, got lengths\[1\] = 0"),
        ({"lengths": [1, 2]}, "lengths must have shape"),
    ],
)
def test_refuses_what_does_not_fit(change, message):
    good = {"queries": np.ones((T, B, Q)), "memory": np.ones((S, B, M)), "lengths": LENGTHS}
    with pytest.raises((TypeError, ValueError), match=message):
        Attention(Q, M, dtype="float64", seed=0)(**good | change)


def test_examples():
    assert doctest.testmod(attention).failed == 0
