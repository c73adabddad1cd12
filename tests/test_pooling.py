"""What is pooled of the steps of sequences, against loops over each sequence and central differences."""

import doctest
import re

import numpy as np
import pytest

from fastrnn.layers import GRU, Last, Linear, Max, Mean, Sequential, pooling

POOLINGS = {"last": Last, "mean": Mean, "max": Max}
LENGTHS = [5, 9, 1, 7]


def made(kind, bidirectional):
    """`Last` alone looks at directions."""
    return Last(bidirectional=bidirectional) if kind is Last else kind()


def by_hand(kind, x, lengths, bidirectional=False):
    """Sequence by sequence."""
    rows = []
    for row, length in enumerate(lengths):
        steps, half = x[:length, row], x.shape[2] // 2
        last = np.append(steps[-1, :half], steps[0, half:]) if bidirectional else steps[-1]
        rows.append({Last: last, Mean: steps.mean(axis=0), Max: steps.max(axis=0)}[kind])
    return np.array(rows)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", POOLINGS.values(), ids=POOLINGS)
def test_each_sequence_pools_its_own_steps(kind, bidirectional, rng):
    layer, x = made(kind, bidirectional), rng.standard_normal((9, 4, 6))
    beyond = np.arange(9)[:, None] >= LENGTHS
    expected = by_hand(kind, x, LENGTHS, bidirectional)
    whole = by_hand(kind, x, [9] * 4, bidirectional)
    for padding in (0.0, 99.0, np.nan, np.inf):
        x[beyond] = padding
        y, back = layer.forward(x, LENGTHS)
        np.testing.assert_allclose(y, expected, rtol=1e-15)
        np.testing.assert_array_equal(layer(x, LENGTHS), y)
        assert not back(np.ones_like(y))[beyond].any()
    x = np.random.default_rng(1).standard_normal((9, 4, 6))
    whole = by_hand(kind, x, [9] * 4, bidirectional)
    np.testing.assert_allclose(layer(x), whole, rtol=1e-15)
    assert kind()(x.astype("float32")).dtype == np.float32


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("kind", POOLINGS.values(), ids=POOLINGS)
def test_a_row_has_the_same_bits_alone_and_in_any_layout(kind, features, rng):
    x = rng.standard_normal((40, 3, features))
    y = kind()(x)
    assert kind()(np.asfortranarray(x)).tobytes() == y.tobytes()
    for row in range(3):
        assert kind()(x[:, row : row + 1]).tobytes() == y[row].tobytes()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", POOLINGS.values(), ids=POOLINGS)
def test_gradients_are_those_of_central_differences(kind, bidirectional, rng):
    x, dy = rng.standard_normal((9, 4, 6)), rng.standard_normal((4, 6))
    layer = made(kind, bidirectional)
    _, back = layer.forward(x, LENGTHS)
    dx = back(dy)
    for index in np.ndindex(x.shape):
        found = []
        for step in (1e-6, -2e-6):
            x[index] += step
            found.append((layer(x, LENGTHS) * dy).sum())
        x[index] += 1e-6
        assert dx[index] == pytest.approx((found[0] - found[1]) / 2e-6, abs=1e-8), index


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equals():
    _, back = Max().forward(np.array([1.0, 3, 3, 2]).reshape(4, 1, 1))
    assert back(np.ones((1, 1))).ravel().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("kind", POOLINGS.values(), ids=POOLINGS)
def test_nan_flows_through_without_a_word(kind):
    x = np.zeros((3, 2, 1), "float32")
    x[2, 0] = np.nan
    y, back = kind().forward(x)
    assert np.isnan(y[0]) and y[1] == 0
    assert np.isnan(back(np.full((2, 1), np.nan, "float32"))).any()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.ones((3, 2)),), ValueError, "x must have shape (T, B, F), got (3, 2)"),
        ((np.ones((3, 2, 1), int),), TypeError, "x must be a float32 or float64 array"),
        ((np.ones((0, 2, 1)),), ValueError, "x must have at least one step, got shape (0, 2, 1)"),
        ((np.ones((3, 2, 1)), [1]), ValueError, "lengths must have shape (2,), got (1,)"),
        ((np.ones((3, 2, 1)), [1, 0]), ValueError, "lengths must be within 1..T = 1..3, got lengths[1] = 0"),
    ],
)
def test_bad_arguments(arguments, error, words):
    for kind in POOLINGS.values():
        for method in (kind().__call__, kind().forward):
            with pytest.raises(error, match=re.escape(words)):
                method(*arguments)


def test_bad_gradients():
    _, back = Mean().forward(np.ones((3, 2, 1)))
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 1\), got \(3, 2, 1\)"):
        back(np.ones((3, 2, 1)))
    with pytest.raises(TypeError, match="y and dy must have the same dtype"):
        back(np.ones((2, 1), "float32"))


def test_the_last_step_of_all_features(rng):
    """Whatever layer they come from, as PyTorch's ``output[:, -1]``."""
    x, gru = rng.standard_normal((9, 4, 3)), GRU(3, 4, bidirectional=True, dtype="float64", seed=0)
    y = gru(x, lengths=LENGTHS)[0]
    plain = y[np.array(LENGTHS) - 1, range(4)]
    np.testing.assert_array_equal(Last()(y, LENGTHS), plain)
    np.testing.assert_array_equal(Sequential(gru, Last(bidirectional=False))(x, LENGTHS), plain)
    both = np.concatenate([plain[:, :4], y[0, :, 4:]], axis=-1)
    for bidirectional in (None, True):
        layer = Last(bidirectional=bidirectional)
        np.testing.assert_array_equal(Sequential(gru, layer)(x, LENGTHS), both)
    mixed = Linear(8, 8, dtype="float64", seed=0)
    expected = Last(bidirectional=True)(mixed(y), LENGTHS)
    np.testing.assert_allclose(Sequential(gru, mixed, Last(bidirectional=True))(x, LENGTHS), expected)
    assert list(map(repr, (Last(), Last(bidirectional=False)))) == ["Last()", "Last(bidirectional=False)"]
    with pytest.raises(TypeError, match="bidirectional must be True or False, got 2"):
        Last(bidirectional=2)
    for make in (
        lambda: Sequential(GRU(3, 5), Last(bidirectional=True)),
        lambda: Last(bidirectional=True)(y[..., :5]),
    ):
        with pytest.raises(ValueError, match=r"Last\(bidirectional=True\) takes an even number of features"):
            make()


def test_the_examples_in_the_docstrings():
    results = doctest.testmod(pooling, extraglobs={"np": np})
    assert results.attempted and not results.failed
