"""Symbols: sequences of anything a user writes with, to tokens and back."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import Symbols, symbol_sequences, symbols

ANY = st.lists(st.one_of(st.text(max_size=3), st.integers()), max_size=8)


@given(sequence=ANY, more=ANY)
def test_decoding_undoes_encoding(sequence, more):
    known = Symbols(sequence + more)
    tokens = known.encode("X", sequence)
    assert tokens.dtype == np.int64 and known.decode(tokens) == sequence
    assert sorted(set(tokens)) == [token for token, s in enumerate(known.symbols) if s in sequence]


def test_their_order_is_that_of_the_symbols_not_of_the_data():
    assert Symbols(["b", 10, "a", 2, "b"]).symbols == Symbols([2, "a", "b", 10]).symbols == [2, 10, "a", "b"]


def test_unknown_symbols_are_named():
    with pytest.raises(ValueError, match=r"X\[3\] must use the 2 symbols .* got 'z', 'y'"):
        Symbols("ab").encode("X[3]", "azbyz")
    for count, end in [(10, "'j'"), (11, "'j', …")]:
        with pytest.raises(ValueError, match=f"with, got 'a', 'b', .*, {end}$"):
            Symbols("0").encode("X", "abcdefghijk"[:count])


def test_strings_that_are_not_known_may_have_a_token():
    known = Symbols([1, "a", "b"])
    assert known.encode("X", ["b", "z", 1], unknown=7).tolist() == [2, 7, 0]
    with pytest.raises(ValueError, match=r"the 3 symbols that the model was fitted with, got 5$"):
        known.encode("X", ["b", "z", 5], unknown=7)


def test_what_sequences_begin_with():
    for strings in (["ab"], [["a"]], (["a", 1],), np.array(["a"]), np.array([["a"]]), [np.array(["a"])]):
        assert symbols.begins_with_str(strings)
    for others in ("ab", [], [[]], [1], [[1, "a"]], np.ones((2, 2)), np.zeros((0, 2)), None, 3, np.array(3)):
        assert not symbols.begins_with_str(others)


@pytest.mark.parametrize(
    "value, expected",
    [
        (["ab", ""], ["ab", ""]),
        (("ab", ["ab", "c"]), ["ab", ["ab", "c"]]),
        ([[1, 2], np.array([3, 4], np.uint8)], [[1, 2], [3, 4]]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["ab", "c"]), ["ab", "c"]),
        ([np.array(["AH", "B"])], [["AH", "B"]]),
    ],
)
def test_forms_of_sequences(value, expected):
    found = symbol_sequences("X", value)
    assert found == expected
    assert all(type(s) in (str, int) for sequence in found for s in sequence)


@pytest.mark.parametrize(
    "value, message",
    [
        ("abc", "X must be a list of sequences of symbols"),
        (None, "X must be a list of sequences of symbols"),
        (3, "X must be a list of sequences of symbols"),
        ([], "X must have at least one sequence, got none"),
        (["a", 3], r"X\[1\] must be a str or a list of strings and integers, got 3"),
        ([b"a"], r"X\[0\] must be a str or a list"),
        ([["a", 0.5]], r"X\[0\]\[1\] must be a symbol, a str or an int, got 0.5"),
        ([["a", True]], r"X\[0\]\[1\] must be a symbol"),
        (np.ones((2, 3)), r"X\[0\]\[0\] must be a symbol"),
        ([np.ma.masked_array([1, 2])], r"X\[0\] must be an array of strings and integers, got a masked"),
        (["a", ""], r"X\[1\] must have at least 1 symbol"),
    ],
)
def test_refuses_anything_else(value, message):
    with pytest.raises((TypeError, ValueError), match=message):
        symbol_sequences("X", value, shortest=1)


def test_examples():
    assert doctest.testmod(symbols).failed == 0
