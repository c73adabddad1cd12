"""Metrics: the edit distance against its recursive definition, those of forecasts by hand."""

import doctest
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import metrics
from fastrnn.losses import quantile_loss
from fastrnn.metrics import coverage, edit_distance, error_rate, mase, pinball_loss

WORDS = st.text("abc", max_size=7)


@functools.cache
def by_definition(a, b):
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return by_definition(a[1:], b[1:])
    return 1 + min(by_definition(a[1:], b), by_definition(a, b[1:]), by_definition(a[1:], b[1:]))


@settings(max_examples=200)
@given(a=WORDS, b=WORDS)
def test_edit_distance(a, b):
    assert edit_distance(a, b) == edit_distance(list(b), tuple(a)) == by_definition(a, b)


def test_error_rate_counts_symbols_not_sequences():
    true, predicted = [["AH", "B"], ["K"] * 8], [["AH"], ["K"] * 8]
    assert error_rate(true, predicted) == 0.1
    assert error_rate(true, true) == 0
    assert error_rate(["a"], ["bcd"]) == 3


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="y_pred must have as many sequences as y_true, 2, got 1"):
        error_rate(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="y_true must have at least one symbol"):
        error_rate([""], ["a"])


def test_mase_is_scaled_by_the_seasonal_naive_forecast():
    train = [10.0, 20.0, 12.0, 24.0]  # 2 and 4 off a season ago, 10, 8 and 12 the last
    assert mase([14.0, 28.0], [12.0, 24.0], train, season=2) == 1
    assert mase([14.0, 28.0], [13.0, 23.0], train) == pytest.approx(3 / 10)
    two = np.stack([train, np.multiply(train, 100)], axis=1)  # each channel in its own units
    assert mase([[14.0, 2800.0]], [[12.0, 2400.0]], two, season=2) == pytest.approx((2 / 3 + 4 / 3) / 2)


def test_pinball_loss_is_the_networks_and_scikit_learns():
    rng = np.random.default_rng(0)
    true, predicted, levels = rng.normal(size=(7, 3)), rng.normal(size=(7, 3, 2)), [0.2, 0.9]
    expected = quantile_loss(predicted, true, levels)[0]
    assert pinball_loss(true, predicted, levels) == pytest.approx(expected, rel=1e-14)
    sklearn = pytest.importorskip("sklearn.metrics")
    means = [sklearn.mean_pinball_loss(true, predicted[..., i], alpha=levels[i]) for i in range(2)]
    assert pinball_loss(true, predicted, levels) == pytest.approx(np.mean(means))


def test_coverage_counts_ends():
    assert coverage([1, 2, 3], [1, 2.5, 0], [2, 3, 3]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: mase([1.0], [1.0, 2.0], [1.0, 2.0]), r"y_pred must have shape \(1,\), got \(2,\)"),
        (
            lambda: mase([1.0], [1.0], [1.0, 2.0], season=2),
            "y_train must have more than season=2 steps, got 2",
        ),
        (lambda: mase([1.0], [1.0], [[1.0], [2.0]]), r"y_train must have shape \(T,\), got \(2, 1\)"),
        (lambda: mase([1.0], [1.0], [2.0, 2.0]), "y_train must change from season to season"),
        (lambda: mase([np.nan], [1.0], [1.0, 2.0]), "y_true must be finite numbers, got NaN or inf"),
        (lambda: pinball_loss([1.0], [[1.0]], [1.5]), "quantiles must be levels from 0 to 1"),
        (lambda: pinball_loss([1.0], [1.0], [0.5]), r"y_pred must have shape \(1, 1\), got \(1,\)"),
        (lambda: coverage([], [], []), "y_true must be finite numbers, got none"),
    ],
)
def test_metrics_of_forecasts_refuse(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_examples():
    assert doctest.testmod(metrics).failed == 0
