"""Checks return their argument, normalised, or an error that names it, what was expected and what came."""

import numpy as np
import pytest

from fastrnn import checks

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (checks.positive_int, 1, 1),
        (checks.positive_int, np.uint8(7), 7),
        (checks.non_negative_int, 0, 0),
        (checks.positive_float, 3, 3.0),
        (checks.positive_float, np.float32(0.5), 0.5),
        (checks.non_negative_float, 0, 0.0),
        (checks.finite_float, -2, -2.0),
        (checks.probability, 0, 0.0),
        (checks.probability, 1, 1.0),
        (checks.fraction, 0.999, 0.999),
        (checks.boolean, np.True_, True),
        (checks.float_dtype, np.float64, np.dtype("f8")),
        (checks.float_dtype, "float32", np.dtype("f4")),
    ],
)
def test_good_values_come_back_as_python_values(check, value, expected):
    result = check("size", value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("check", "value", "error", "words"),
    [
        (checks.positive_int, 0, ValueError, "size must be a positive integer, got 0"),
        (checks.positive_int, True, TypeError, "size must be a positive integer, got True of type bool"),
        (checks.positive_int, 2.0, TypeError, "size must be a positive integer, got 2.0 of type float"),
        (checks.positive_int, "2", TypeError, "size must be a positive integer, got '2' of type str"),
        (
            checks.positive_int,
            np.array([2]),
            TypeError,
            r"integer, got an array of shape \(1,\) and dtype int",
        ),
        (checks.non_negative_int, -1, ValueError, "size must be a non-negative integer, got -1"),
        (checks.positive_float, 0, ValueError, "size must be a positive finite number, got 0"),
        (checks.positive_float, NAN, ValueError, "size must be a positive finite number, got nan"),
        (checks.positive_float, INF, ValueError, "size must be a positive finite number, got inf"),
        (
            checks.positive_float,
            False,
            TypeError,
            "size must be a positive finite number, got False of type bool",
        ),
        (checks.positive_float, np.False_, TypeError, "size must be a positive finite number"),
        (checks.positive_float, 1j, TypeError, "size must be a positive finite number"),
        (checks.positive_float, None, TypeError, "got None of type NoneType"),
        (
            checks.non_negative_float,
            -1e-9,
            ValueError,
            "size must be a non-negative finite number, got -1e-09",
        ),
        (checks.non_negative_float, NAN, ValueError, "size must be a non-negative finite number, got nan"),
        (checks.finite_float, NAN, ValueError, "size must be a finite number, got nan"),
        (checks.probability, 1.01, ValueError, "size must be a number from 0 to 1, got 1.01"),
        (checks.probability, NAN, ValueError, "size must be a number from 0 to 1, got nan"),
        (checks.fraction, 1, ValueError, "size must be a number from 0 to below 1, got 1"),
        (checks.boolean, 1, TypeError, "size must be True or False, got 1 of type int"),
        (checks.float_dtype, "float16", TypeError, 'size must be "float32" or "float64", got \'float16\''),
        (checks.float_dtype, None, TypeError, "got None"),
        (checks.float_dtype, "no such", TypeError, "got 'no such'"),
    ],
)
def test_bad_values_are_named(check, value, error, words):
    with pytest.raises(error, match=words):
        check("size", value)


def test_one_of():
    assert checks.one_of("cell", "gru", ("lstm", "gru")) == "gru"
    with pytest.raises(ValueError, match="cell must be one of 'lstm', 'gru', got 'GRU'"):
        checks.one_of("cell", "GRU", ("lstm", "gru"))
    with pytest.raises(TypeError, match="cell must be one of 'lstm', 'gru', got 3 of type int"):
        checks.one_of("cell", 3, ("lstm", "gru"))


def test_function():
    assert checks.function("steps", len) is len
    with pytest.raises(TypeError, match="steps must be a function, or another thing to call, got 3"):
        checks.function("steps", 3)


def test_arrays_are_copied_only_if_they_must_be():
    plain = np.ones((2, 3), "f4")
    assert checks.float_array("x", plain, (2, "I")) is plain
    misaligned = np.ndarray((2, 3), "f4", bytearray(25), offset=1)
    for other in (plain.T, plain[:, ::-1], plain.astype(">f4"), misaligned):
        result = checks.float_array("x", other, ("A", "B"))
        assert result.flags.c_contiguous and result.flags.aligned and result.dtype == np.dtype("f4")
        np.testing.assert_array_equal(result, other)


def test_integers_are_copied_and_floats_are_not():
    """Integers lead kernels into other arrays: nobody may change them once they have been checked."""
    ones = np.ones((2, 3), "i8")
    for given in (ones, np.ones((3, 2), "i8").T, ones.astype("u1"), ones.astype(">i4")):
        tokens = checks.int_array("x", given, ("T", "B"), 0, 1, "0..V-1")
        assert not np.shares_memory(tokens, given)
        assert tokens.dtype == np.int64 and tokens.flags.carray
        np.testing.assert_array_equal(tokens, given)


def test_no_integer_is_too_large_to_be_refused():
    huge = np.array([0, 2**64 - 1], np.uint64)
    with pytest.raises(
        ValueError, match=r"x must be within 0..V-1 = 0..6, got x\[1\] = 18446744073709551615"
    ):
        checks.int_array("x", huge, ("B",), 0, 6, "0..V-1")
    narrow = np.array([127], np.int8)
    assert checks.int_array("x", narrow, ("B",), 0, 1000, "0..V-1").dtype == np.int64


def test_names_of_a_part_among_those_of_the_whole_are_recognised():
    expected = {"weight": np.zeros((2, 2)), "bias": np.zeros(2)}
    given = {"net.head.weight": np.ones((2, 2)), "net.head.bias": np.ones(2), "net.rnn.weight": np.ones(3)}
    wanted = r"^state does not fit: the names that are wanted begin with 'net\.head\.'; give them alone"
    with pytest.raises(ValueError, match=wanted):
        checks.matching_arrays("state", given, expected)
    del given["net.head.bias"]
    with pytest.raises(ValueError, match=r"'weight' is missing; 'bias' is missing; 'net\.head"):
        checks.matching_arrays("state", given, expected)
