"""Metrics: the edit distance against its recursive definition."""

import doctest
import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import metrics
from fastrnn.metrics import edit_distance, error_rate

WORDS = st.text("abc", max_size=7)


@functools.cache
def by_definition(a, b):
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return by_definition(a[1:], b[1:])
    return 1 + min(by_definition(a[1:], b), by_definition(a, b[1:]), by_definition(a[1:], b[1:]))


@settings(max_examples=200, deadline=None)
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


def test_examples():
    assert doctest.testmod(metrics).failed == 0
