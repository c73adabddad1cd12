"""Losses: equal to PyTorch's, with gradients that central differences confirm; at the extremes; and what they
refuse."""

import doctest
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import losses
from fastrnn.losses import (
    LOSSES,
    binary_cross_entropy_with_logits,
    gaussian_nll,
    huber,
    mean_absolute_error,
    mean_squared_error,
    quantile_loss,
    softmax_cross_entropy,
)

# Relative to the largest element expected.
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def normal(*shape, dtype="float64", seed=0):
    return np.asarray(np.random.default_rng((seed, *shape)).standard_normal(shape) * 3).astype(dtype)


def uniform(*shape, dtype="float64"):
    return np.asarray(np.random.default_rng(9).random(shape)).astype(dtype)


def assert_close(got, expected, tolerance):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    scale = np.abs(expected).max(initial=0) or 1
    assert np.abs(got - expected).max(initial=0) <= tolerance * scale


def in_torch(loss, x):
    """Value and gradient of a loss by PyTorch."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(x, requires_grad=True)
    value = loss(torch.nn.functional, x)
    value.backward()
    return value.item(), x.grad.numpy()


def assert_equals_torch(result, loss, x):
    (value, gradient), (expected, expected_gradient) = result, in_torch(loss, x)
    assert type(value) is float
    assert (type(gradient), gradient.dtype) == (np.ndarray, x.dtype)
    tolerance = TOLERANCE[x.dtype.name]
    assert_close(value, expected, tolerance)
    assert_close(gradient, expected_gradient, tolerance)


def assert_gradient(loss, x):
    """Central differences in float64."""
    gradient = loss(x)[1]
    numeric = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-6
        numeric[index] = (loss(x + step)[0] - loss(x - step)[0]) / 2e-6
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4)], ids=str)
def test_softmax_cross_entropy_equals_torch(shape, classes, dtype):
    torch = pytest.importorskip("torch")
    logits = normal(*shape, classes, dtype=dtype)
    targets = np.asarray(np.random.default_rng(0).integers(0, classes, shape))
    flat = torch.tensor(targets.reshape(-1))
    result = softmax_cross_entropy(logits, targets)
    assert_equals_torch(result, lambda F, x: F.cross_entropy(x.reshape(-1, classes), flat), logits)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("ignored", [2, -100])
def test_ignored_targets_equal_torch(ignored, dtype):
    torch = pytest.importorskip("torch")
    logits, targets = normal(8, 5, dtype=dtype), np.array([0, 4, ignored, 2, 3, 2, ignored, 1])
    given = torch.tensor(targets)
    result = softmax_cross_entropy(logits, targets, ignore_index=ignored)
    assert_equals_torch(result, lambda F, x: F.cross_entropy(x, given, ignore_index=ignored), logits)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("ignored", [None, 2])
def test_weighted_targets_equal_torch(ignored, dtype):
    torch = pytest.importorskip("torch")
    logits, targets = normal(8, 5, dtype=dtype), np.array([0, 4, 2, 2, 3, 2, 1, 1])
    by_class = np.array([0.5, 2.0, 1.0, 0.0, 7.0], dtype)
    options = {"weight": torch.tensor(by_class), "ignore_index": -100 if ignored is None else ignored}
    result = softmax_cross_entropy(logits, targets, ignore_index=ignored, weights=by_class[targets])
    assert_equals_torch(result, lambda F, x: F.cross_entropy(x, torch.tensor(targets), **options), logits)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_label_smoothing_equals_torch(smoothing, ignored, dtype):
    torch = pytest.importorskip("torch")
    logits, targets = normal(8, 5, dtype=dtype), np.array([0, 4, 2, 2, 3, 2, 1, 1])
    options = {"label_smoothing": smoothing, "ignore_index": -100 if ignored is None else ignored}
    result = softmax_cross_entropy(logits, targets, ignore_index=ignored, label_smoothing=smoothing)
    assert_equals_torch(result, lambda F, x: F.cross_entropy(x, torch.tensor(targets), **options), logits)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4)], ids=str)
def test_mean_squared_error_equals_torch(shape, dtype):
    torch = pytest.importorskip("torch")
    prediction, target = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    result = mean_squared_error(prediction, target)
    assert_equals_torch(result, lambda F, x: F.mse_loss(x, torch.tensor(target)), prediction)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4)], ids=str)
def test_losses_of_outliers_equal_torch(shape, dtype):
    torch = pytest.importorskip("torch")
    prediction, target = normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    result = mean_absolute_error(prediction, target)
    assert_equals_torch(result, lambda F, x: F.l1_loss(x, torch.tensor(target)), prediction)
    for delta in 0.7, 1.0, 100.0:
        result = huber(prediction, target, delta=delta)
        assert_equals_torch(
            result, lambda F, x, d=delta: F.huber_loss(x, torch.tensor(target), delta=d), prediction
        )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4)], ids=str)
def test_gaussian_nll_equals_torch(shape, dtype):
    torch = pytest.importorskip("torch")
    prediction, target = normal(*shape, 2, dtype=dtype), normal(*shape, dtype=dtype, seed=1)
    assert_equals_torch(
        gaussian_nll(prediction, target),
        lambda F, x: F.gaussian_nll_loss(x[..., 0], torch.tensor(target), x[..., 1].exp(), eps=0),
        prediction,
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4)], ids=str)
def test_binary_cross_entropy_equals_torch(shape, dtype):
    torch = pytest.importorskip("torch")
    logits, targets = normal(*shape, dtype=dtype), uniform(*shape, dtype=dtype)
    result = binary_cross_entropy_with_logits(logits, targets)
    assert_equals_torch(
        result, lambda F, x: F.binary_cross_entropy_with_logits(x, torch.tensor(targets)), logits
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(), (1,), (6,), (3, 4)], ids=str)
def test_quantile_loss_equals_torch(shape, dtype):
    torch = pytest.importorskip("torch")
    levels = [0.1, 0.5, 0.8]
    prediction, target = normal(*shape, 3, dtype=dtype), normal(*shape, dtype=dtype, seed=1)

    def loss(F, x):
        error = torch.tensor(target)[..., None] - x
        q = torch.tensor(levels, dtype=error.dtype)
        return torch.maximum(q * error, (q - 1) * error).mean()

    assert_equals_torch(quantile_loss(prediction, target, levels), loss, prediction)


def test_the_quantile_has_the_least_quantile_loss():
    """That is what it is for; scikit-learn's d(quantile) agrees on the value."""
    sample = np.sort(normal(101))
    for level, place in (0.1, 10), (0.5, 50), (0.75, 75):
        losses = [quantile_loss(np.full((101, 1), x), sample, [level])[0] for x in sample]
        assert int(np.argmin(losses)) == place
        metrics = pytest.importorskip("sklearn.metrics")
        expected = metrics.mean_pinball_loss(sample, np.full(101, sample[place]), alpha=level)
        np.testing.assert_allclose(min(losses), expected)


def test_quantile_loss_at_its_limits():
    loss, gradient = quantile_loss(np.array([[1.0, 2.0]]), np.array([2.0]), [0.3, 0.6])
    assert (loss, gradient.tolist()) == (0.15, [[-0.15, 0.0]])
    assert quantile_loss(np.zeros((0, 2)), np.zeros(0), [0.3, 0.6])[0] == 0
    loss, gradient = quantile_loss(np.array([[np.nan], [1.0]]), np.array([2.0, 1.0]), [0.5])
    assert np.isnan(loss) and np.isnan(gradient[0, 0]) and gradient[1, 0] == 0


@pytest.mark.parametrize(
    "prediction, target, quantiles, error",
    [
        (np.zeros((4, 2)), np.zeros(4), [0.5], r"quantiles must have shape \(2,\), got \(1,\)"),
        (np.zeros((4, 2)), np.zeros(4), [0.5, 1], r"quantiles must be between 0 and 1"),
        (np.zeros((4, 2)), np.zeros((4, 2)), [0.2, 0.5], r"target must have shape \(4,\), got \(4, 2\)"),
        (np.zeros((4, 2)), np.zeros(4, "float32"), [0.2, 0.5], "same dtype"),
        (np.zeros((4, 2), int), np.zeros(4), [0.2, 0.5], "prediction must be a float32 or float64"),
        (np.float64(1), np.float64(1), [0.5], r"prediction must have shape \(Q,\), got \(\)"),
    ],
)
def test_quantile_loss_refuses(prediction, target, quantiles, error):
    with pytest.raises((ValueError, TypeError), match=error):
        quantile_loss(prediction, target, quantiles)


@pytest.mark.usefixtures("backend")
def test_gradients():
    targets = np.random.default_rng(0).integers(0, 5, (3, 4))
    for options in {}, {"ignore_index": 2}, {"label_smoothing": 0.2}:
        assert_gradient(lambda x, o=options: softmax_cross_entropy(x, targets, **o), normal(3, 4, 5))
    for loss in mean_squared_error, mean_absolute_error, huber:
        assert_gradient(lambda x, loss=loss: loss(x, normal(3, 4, seed=1)), normal(3, 4))
    assert_gradient(lambda x: quantile_loss(x, normal(3, 4, seed=1), [0.2, 0.5]), normal(3, 4, 2))
    assert_gradient(lambda x: gaussian_nll(x, normal(3, 4, seed=1)), normal(3, 4, 2))
    assert_gradient(lambda x: binary_cross_entropy_with_logits(x, uniform(3, 4)), normal(3, 4))


# -- what counts

ROWS, STEPS = (5, 3), np.array([5, 0, 2])  # T, B; the valid steps of each
VALID = np.arange(5)[:, None] < STEPS


def smoothed(logits, targets, **counting):
    return softmax_cross_entropy(logits, targets, label_smoothing=0.1, **counting)


def quantiles(prediction, target, **counting):
    return quantile_loss(prediction, target, [0.2, 0.7], **counting)


def each_loss():
    """Every loss with predictions, targets (T, B) or (T, B, M), and PyTorch's without a reduction, with an
    axis for all that belong to a target."""
    labels = np.random.default_rng(0).integers(0, 4, ROWS)
    numbers = normal(*ROWS, 2, seed=1)
    probabilities = uniform(*ROWS, 2)
    by_step = normal(*ROWS, seed=2)

    def entropy(F, x, t, **options):
        return F.cross_entropy(x.movedim(-1, 1), t, reduction="none", **options)

    def pinball(F, x, t):
        error, q = t[..., None] - x, x.new_tensor([0.2, 0.7])
        return F.relu(error) * q + F.relu(-error) * (1 - q)

    def gaussian(F, x, t):
        return F.gaussian_nll_loss(x[..., 0], t, x[..., 1].exp(), eps=0, reduction="none")

    return [
        (softmax_cross_entropy, normal(*ROWS, 4), labels, entropy),
        (smoothed, normal(*ROWS, 4), labels, lambda F, x, t: entropy(F, x, t, label_smoothing=0.1)),
        (
            binary_cross_entropy_with_logits,
            normal(*ROWS, 2),
            probabilities,
            lambda F, x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        ),
        (
            mean_squared_error,
            normal(*ROWS, 2),
            numbers,
            lambda F, x, t: F.mse_loss(x, t, reduction="none"),
        ),
        (
            mean_absolute_error,
            normal(*ROWS, 2),
            numbers,
            lambda F, x, t: F.l1_loss(x, t, reduction="none"),
        ),
        (huber, normal(*ROWS, 2), numbers, lambda F, x, t: F.huber_loss(x, t, reduction="none")),
        (quantiles, normal(*ROWS, 2), by_step, pinball),
        (gaussian_nll, normal(*ROWS, 2), by_step, gaussian),
    ]


EACH_LOSS = pytest.mark.parametrize(
    "loss, x, targets, torch_loss", each_loss(), ids=[case[0].__name__ for case in each_loss()]
)
COUNTING = {
    "lengths": {"lengths": STEPS},
    "of steps": {"weights": [1, 0, 2.5, 3, 1]},
    "of sequences": {"weights": [[0.5, 2, 0]]},
    "of both": {"weights": uniform(*ROWS) + 0.1},
    "a mask": {"weights": VALID},
    "weights and lengths": {"weights": uniform(*ROWS) + 0.1, "lengths": STEPS},
}


def test_each_loss_is_among_those_that_are_tested():
    assert set(LOSSES.values()) <= {case[0] for case in each_loss()}


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("counting", COUNTING.values(), ids=COUNTING)
@EACH_LOSS
def test_weighted_means_equal_torch(loss, x, targets, torch_loss, counting):
    torch = pytest.importorskip("torch")
    weights = np.asarray(counting.get("weights", 1.0), "float64")
    weights = np.broadcast_to(weights[:, None] if weights.ndim == 1 else weights, ROWS)
    weights = torch.tensor(np.where(VALID, weights, 0) if "lengths" in counting else weights)

    def expected(F, x):
        losses = torch_loss(F, x, torch.tensor(targets))
        spread = weights.reshape(*ROWS, *[1] * (losses.ndim - 2)).expand(losses.shape)
        return (losses * spread).sum() / spread.sum()

    assert_equals_torch(loss(x, targets, **counting), expected, x)
    assert_gradient(lambda x: loss(x, targets, **counting), x)


@pytest.mark.usefixtures("backend")
@EACH_LOSS
def test_what_does_not_count_may_be_anything(loss, x, targets, torch_loss):
    weights = uniform(*ROWS) + 0.1
    garbled, padded, unknown = x.copy(), targets.copy(), weights.copy()
    garbled[~VALID] = np.nan
    padded[~VALID] = -7 if targets.dtype.kind == "i" else np.nan
    unknown[~VALID] = np.nan
    for some, others in (
        ({"lengths": STEPS}, {"weights": VALID}),
        ({"weights": unknown, "lengths": STEPS}, {"weights": weights * VALID}),
    ):
        value, gradient = loss(x, targets, **some)
        for counting in some, others:
            again, its = loss(garbled, padded, **counting)
            assert again == pytest.approx(value, rel=1e-14)
            np.testing.assert_allclose(its, gradient, rtol=1e-13)
        assert not gradient[~VALID].any() and gradient[VALID].all()


@pytest.mark.usefixtures("backend")
@EACH_LOSS
def test_weights_of_0_are_a_mean_over_nothing(loss, x, targets, torch_loss):
    for counting in {"weights": np.zeros(ROWS)}, {"weights": [False] * 5}, {"lengths": [0, 0, 0]}:
        value, gradient = loss(np.full_like(x, np.nan), targets, **counting)
        assert value == 0 and gradient.shape == x.shape and not gradient.any()


@EACH_LOSS
def test_all_weights_alike_change_nothing(loss, x, targets, torch_loss):
    value, gradient = loss(x, targets)
    for counting in {"weights": 3}, {"weights": np.full(ROWS, 1e-3)}, {"lengths": [5, 5, 5]}:
        again, its = loss(x, targets, **counting)
        assert again == pytest.approx(value, rel=1e-14)
        np.testing.assert_allclose(its, gradient, rtol=1e-13)


def test_a_mean_is_over_what_is_valid():
    error = np.where(np.arange(10)[:, None] < [7, 4], 1.0, 0.0)
    assert mean_squared_error(error, np.zeros((10, 2)))[0] == 0.55
    assert mean_squared_error(error, np.zeros((10, 2)), lengths=[7, 4])[0] == 1.0


@pytest.mark.parametrize(
    "counting, error, words",
    [
        ({"weights": [1.0, -1.0, 1, 1, 1]}, ValueError, "weights must be finite and not negative"),
        ({"weights": [1.0, np.inf, 1, 1, 1]}, ValueError, "weights must be finite and not negative"),
        ({"weights": [1.0, np.nan, 1, 1, 1]}, ValueError, "got nan to nan"),
        ({"weights": np.full(5, 1e308)}, ValueError, "have a finite sum"),
        ({"weights": [1.0, 2.0, 3.0]}, ValueError, r"the first axes of the targets, \(5, 3.*got \(3,\)"),
        ({"weights": np.ones((5, 3, 2, 1))}, ValueError, r"got \(5, 3, 2, 1\)"),
        ({"weights": ["a"] * 5}, TypeError, "weights must be an array of numbers"),
        ({"weights": np.ma.array(np.ones(5))}, TypeError, "got a masked array"),
        ({"lengths": [5, 5]}, ValueError, r"lengths must have shape \(3,\), got \(2,\)"),
        ({"lengths": [5, 6, 1]}, ValueError, r"lengths must be within 0..T = 0..5, got lengths\[1\] = 6"),
        ({"lengths": [5.0, 4.0, 1.0]}, TypeError, "lengths must be an integer array"),
    ],
)
@EACH_LOSS
def test_counting_is_refused(loss, x, targets, torch_loss, counting, error, words):
    with pytest.raises(error, match=words):
        loss(x, targets, **counting)


def test_lengths_need_steps():
    with pytest.raises(ValueError, match=r"lengths go with targets of shape \(T, B, ...\), got \(4,\)"):
        mean_squared_error(np.zeros(4), np.zeros(4), lengths=[1, 2, 3, 4])


def test_a_loss_by_its_name():
    assert losses.get("huber") is huber
    own = lambda y, target: (0.0, y)  # noqa: E731
    assert losses.get(own) is own
    with pytest.raises(ValueError, match=r"loss.* must be one of 'softmax_cross_entropy', .*, got 'mse'"):
        losses.get("mse")
    with pytest.raises(TypeError, match=r"must be one of .* got None"):
        losses.get(None)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6), st.data())
def test_softmax_cross_entropy_is_what_it_says(scores, data):
    """By its definition, in exact enough arithmetic; the gradient sums to 0 over the classes."""
    target = data.draw(st.integers(0, len(scores) - 1))
    loss, dlogits = softmax_cross_entropy(np.array(scores), target)
    largest = max(scores)
    log_sum = largest + math.log(math.fsum(math.exp(score - largest) for score in scores))
    assert loss == pytest.approx(log_sum - scores[target], rel=1e-12, abs=1e-11)
    assert dlogits.sum() == pytest.approx(0, abs=1e-12)
    p = [math.exp(score - log_sum) for score in scores]
    p[target] -= 1
    np.testing.assert_allclose(dlogits, p, atol=1e-11)


# -- the extremes


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_large_logits(dtype):
    huge = np.finfo(dtype).max
    for logits, target, loss, gradient in [
        ([1e4, 0, -1e4], 0, 0.0, [0, 0, 0]),
        ([1e4, 0, -1e4], 2, 2e4, [1, 0, -1]),
        ([huge, huge, -huge], 0, math.log(2), [-0.5, 0.5, 0]),
        ([0.0, -np.inf, 0.0], 0, math.log(2), [-0.5, 0, 0.5]),
    ]:
        got, dlogits = softmax_cross_entropy(np.array(logits, dtype), target)
        assert got == pytest.approx(loss, rel=1e-6)
        np.testing.assert_allclose(dlogits, gradient, atol=1e-7)
    got, dlogits = binary_cross_entropy_with_logits(
        np.array([huge, -huge, 1e4, -1e4], dtype), np.array([1, 0, 0, 1], dtype)
    )
    assert got == pytest.approx(2e4 / 4, rel=1e-6)
    np.testing.assert_array_equal(dlogits, [0, 0, 0.25, -0.25])


def test_small_probabilities_keep_their_digits():
    """log(1 + exp(-40)) is 4e-18, which the naive formula in float64 takes for 0."""
    got, _ = binary_cross_entropy_with_logits(np.array([40.0]), np.array([1.0]))
    assert got == pytest.approx(math.exp(-40), rel=1e-12, abs=0)


def test_sum_does_not_overflow_in_float32():
    loss, gradient = mean_squared_error(np.full(3, 1e30, "float32"), np.zeros(3, "float32"))
    assert loss == pytest.approx(1e60, rel=1e-6)
    np.testing.assert_allclose(gradient, 2e30 / 3, rtol=1e-6)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_flow_through_without_a_word(value):
    x = normal(3, 4)
    x[1, 2] = value
    loss, gradient = softmax_cross_entropy(x, [0, 2, 1])
    assert not math.isfinite(loss)
    assert np.isfinite(gradient[[0, 2]]).all()
    loss, gradient = softmax_cross_entropy(x, [0, 2, 1], ignore_index=2)
    assert math.isfinite(loss)
    assert not gradient[1].any()
    for loss in mean_squared_error, mean_absolute_error, huber, binary_cross_entropy_with_logits:
        got, gradient = loss(x, np.full_like(x, 0.5))
        assert not math.isfinite(got)
        assert np.isfinite(np.delete(gradient, 6)).all()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("shape", [(0,), (2, 0)], ids=str)
def test_nothing_is_0(shape):
    empty = np.zeros(shape, "float32")
    for loss, gradient in (
        softmax_cross_entropy(np.zeros((*shape, 3), "float32"), np.zeros(shape, int))[:2],
        mean_squared_error(empty, empty),
        binary_cross_entropy_with_logits(empty, empty),
    ):
        assert loss == 0.0
        assert gradient.size == 0
        assert gradient.dtype == np.float32
    loss, gradient = softmax_cross_entropy(normal(3, 4), [-1, -1, -1], ignore_index=-1)
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((3, 4)))


@pytest.mark.usefixtures("backend")
def test_ignored_rows_are_as_if_absent():
    logits, targets = normal(6, 4), np.array([0, -1, 3, -1, 2, 1])
    loss, dlogits = softmax_cross_entropy(logits, targets, ignore_index=-1)
    counted = targets != -1
    expected, dexpected = softmax_cross_entropy(logits[counted], targets[counted])
    assert loss == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(dlogits[counted], dexpected, rtol=1e-14)
    assert not dlogits[~counted].any()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", ">i8", "u8"])
def test_integers_of_any_type_are_targets(dtype):
    logits, targets = normal(6, 4), np.array([0, 1, 3, 1, 2, 1])
    for ignore_index in None, 1, -100, 300:
        got = softmax_cross_entropy(logits, targets.astype(dtype), ignore_index=ignore_index)
        expected = softmax_cross_entropy(logits, targets, ignore_index=ignore_index)
        assert got[0] == expected[0]
        np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "name", ["softmax_cross_entropy", "mean_squared_error", "binary_cross_entropy_with_logits"]
)
def test_layouts_and_that_nothing_is_written(name):
    x, y = normal(4, 6), uniform(4, 6)
    if name == "softmax_cross_entropy":
        y = np.array([0, 5, 3, 1])
    loss = getattr(losses, name)
    expected = loss(x, y)
    frozen = x.copy()
    frozen.flags.writeable = False
    for array in (
        x[::-1].copy()[::-1],
        np.asfortranarray(x),
        np.repeat(x, 2, -1)[:, ::2],
        x.astype(">f8"),
        frozen,
    ):
        got = loss(array, y)
        assert got[0] == expected[0]
        np.testing.assert_array_equal(got[1], expected[1])
        np.testing.assert_array_equal(array, x)


# -- what is refused

LOGITS = normal(3, 4)
TARGETS = np.array([0, 3, 1])

BAD_CALLS = [
    (
        lambda: softmax_cross_entropy(LOGITS, [0, 4, 1]),
        ValueError,
        "targets must be within 0..V-1 = 0..3, got targets[1] = 4",
    ),
    (lambda: softmax_cross_entropy(LOGITS, [0, -1, 1]), ValueError, "got targets[1] = -1"),
    (lambda: softmax_cross_entropy(LOGITS, [0, 7, 5], ignore_index=7), ValueError, "got targets[2] = 5"),
    (lambda: softmax_cross_entropy(LOGITS, [0, 1]), ValueError, "targets must have shape (3,), got (2,)"),
    (
        lambda: softmax_cross_entropy(LOGITS, LOGITS),
        TypeError,
        "targets must be an integer array of shape (3,), got dtype float64",
    ),
    (lambda: softmax_cross_entropy(LOGITS, TARGETS == 0), TypeError, "got dtype bool"),
    (
        lambda: softmax_cross_entropy(LOGITS, None),
        TypeError,
        "targets must be an integer array of shape (3,), got None",
    ),
    (
        lambda: softmax_cross_entropy(LOGITS, np.ma.array(TARGETS)),
        TypeError,
        "targets must be an integer array of shape (3,), got a masked array",
    ),
    (
        lambda: softmax_cross_entropy(LOGITS, TARGETS, ignore_index=1.0),
        TypeError,
        "ignore_index must be an integer or None, got 1.0",
    ),
    (
        lambda: softmax_cross_entropy(LOGITS, TARGETS, ignore_index=True),
        TypeError,
        "ignore_index must be an integer or None, got True",
    ),
    (
        lambda: softmax_cross_entropy(LOGITS[:, :0], TARGETS),
        ValueError,
        "logits must have shape (..., V) with V >= 1, got (3, 0)",
    ),
    (
        lambda: softmax_cross_entropy(np.float64(1), 0),
        ValueError,
        "logits must have shape (..., V) with V >= 1, got ()",
    ),
    (
        lambda: softmax_cross_entropy(LOGITS.astype(int), TARGETS),
        TypeError,
        "logits must be a float32 or float64 array",
    ),
    (
        lambda: softmax_cross_entropy(LOGITS.astype("f2"), TARGETS),
        TypeError,
        'cast it first: logits.astype("float32")',
    ),
    (lambda: mean_squared_error(LOGITS, LOGITS[0]), ValueError, "target must have shape (3, 4), got (4,)"),
    (
        lambda: mean_squared_error(LOGITS, LOGITS.astype("f4")),
        TypeError,
        "prediction and target must have the same dtype",
    ),
    (
        lambda: mean_squared_error(LOGITS, LOGITS.astype(int)),
        TypeError,
        "target must be a float32 or float64 array",
    ),
    (
        lambda: mean_squared_error(None, LOGITS),
        TypeError,
        "prediction must be a float32 or float64 array, got None",
    ),
    (
        lambda: mean_squared_error(LOGITS.astype("c16"), LOGITS),
        TypeError,
        "prediction must be a float32 or float64 array",
    ),
    (
        lambda: softmax_cross_entropy(LOGITS, TARGETS, label_smoothing=1.1),
        ValueError,
        "label_smoothing must be a number from 0 to 1, got 1.1",
    ),
    (lambda: huber(LOGITS, LOGITS, delta=0), ValueError, "delta must be a positive finite number, got 0"),
    (lambda: gaussian_nll(LOGITS, LOGITS), ValueError, "prediction must have shape (3, 2), got (3, 4)"),
    (
        lambda: binary_cross_entropy_with_logits(LOGITS, LOGITS[:2]),
        ValueError,
        "targets must have shape (3, 4), got (2, 4)",
    ),
    (
        lambda: binary_cross_entropy_with_logits(LOGITS, np.full((3, 4), 1.5)),
        ValueError,
        "targets must be from 0 to 1, got targets[0, 0] = 1.5",
    ),
    (lambda: binary_cross_entropy_with_logits(LOGITS, -np.eye(3, 4)), ValueError, "got targets[0, 0] = -1.0"),
    (
        lambda: binary_cross_entropy_with_logits(LOGITS, np.eye(3, 4, dtype="f4")),
        TypeError,
        "logits and targets must have the same dtype",
    ),
    (
        lambda: binary_cross_entropy_with_logits(LOGITS, np.eye(3, 4) > 0),
        TypeError,
        "targets must be a float32 or float64 array",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD_CALLS, ids=[words[:40] for _, _, words in BAD_CALLS])
def test_bad_calls(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()


def test_examples():
    results = doctest.testmod(losses)
    assert results.attempted
    assert not results.failed
