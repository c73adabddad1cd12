"""Checks return their argument, normalised, or an error that names it, what was expected and what came."""

from decimal import Decimal

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
        (checks.finite_float, -INF, ValueError, "size must be a finite number, got -inf"),
        (checks.probability, -0.01, ValueError, "size must be a number from 0 to 1, got -0.01"),
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


def test_optional():
    check = checks.optional(checks.boolean)
    assert check("bias", None) is None and check("bias", False) is False
    with pytest.raises(TypeError, match="bias must be True or False, got 'no' of type str"):
        check("bias", "no")


NUMBERS = "a float32 or float64 array of shape (T, 3)"


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, TypeError, f"x must be {NUMBERS}, got None"),
        (np.ma.ones((2, 3)), TypeError, f"x must be {NUMBERS}, got a masked array; fill it first: x.filled("),
        ([np.ma.ones(3)], TypeError, f"x must be {NUMBERS}, got a masked array; fill it first: x.filled("),
        ([[1.0], [1.0, 2.0]], ValueError, f"x must be {NUMBERS}, got [[1.0], [1.0, 2.0]] of type list: "),
        ([[1, 2, 3]], TypeError, f"x must be {NUMBERS}, got dtype int"),
        (np.ones((2, 3), "f2"), TypeError, 'got dtype float16; cast it first: x.astype("float32")'),
        (np.ones((2, 3), "c8"), TypeError, f"x must be {NUMBERS}, got dtype complex64"),
        (np.ones((2, 4)), ValueError, "x must have shape (T, 3), got (2, 4)"),
        (np.ones(3), ValueError, "x must have shape (T, 3), got (3,)"),
    ],
)
def test_what_is_no_array_of_floats_is_named(value, error, words):
    with pytest.raises(error) as raised:
        checks.float_array("x", value, ("T", 3))
    assert words in str(raised.value)


def test_a_list_of_floats_is_an_array():
    rows = checks.float_array("x", [[1.0, 2.0]], ("T", 2))
    assert rows.dtype == np.float64 and rows.tolist() == [[1.0, 2.0]]


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


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, TypeError, "x must be an integer array of shape (T, 2), got None"),
        (np.ones((1, 2)), TypeError, "x must be an integer array of shape (T, 2), got dtype float64"),
        ([[1.0, 2.0]], TypeError, "x must be an integer array of shape (T, 2), got dtype float64"),
        (np.ones((1, 2), bool), TypeError, "x must be an integer array of shape (T, 2), got dtype bool"),
        ([1, 2], ValueError, "x must have shape (T, 2), got (2,)"),
        ([[9, 1], [1, 10]], ValueError, "x must be within 1..V = 1..9, got x[1, 1] = 10"),
        ([[9, 1], [0, 10]], ValueError, "x must be within 1..V = 1..9, got x[1, 0] = 0"),
    ],
)
def test_what_is_no_array_of_integers_is_named(value, error, words):
    with pytest.raises(error) as raised:
        checks.int_array("x", value, ("T", 2), 1, 9, "1..V")
    assert words in str(raised.value)


def test_an_empty_list_has_integers():
    for empty in ([], ()):
        assert checks.int_array("lengths", empty, ("B",), 1, 9, "1..T").dtype == np.int64
    with pytest.raises(TypeError, match=r"an integer array of shape \(B,\), got dtype float64"):
        checks.int_array("lengths", np.array([]), ("B",), 1, 9, "1..T")


def objects(*values):
    """An array with these values as they are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (objects(1, 2), np.array([1, 2])),
        (objects(True, False), np.array([True, False])),
        (objects(1, 2.5), np.array([1.0, 2.5])),
        (objects(Decimal("0.5"), 2), np.array([0.5, 2.0])),
        (objects(2**70, 1), np.array([2.0**70, 1.0])),
        (objects(1, None), np.array([1.0, NAN])),
    ],
)
def test_objects_that_are_numbers_become_numpys(given, expected):
    numbers = checks.real_array("X", given)
    assert numbers.dtype == expected.dtype
    np.testing.assert_array_equal(numbers, expected)


@pytest.mark.parametrize(
    ("given", "columns", "error", "words"),
    [
        (objects(1, "2a"), None, TypeError, "numbers, got '2a' of type str in X[1]: could not convert"),
        (objects([1, 2], [3]), None, TypeError, "got a list in X[0]: float() argument"),
        (np.array("2a", object), None, TypeError, "got '2a' of type str in X: could not convert"),
        (np.array([[1, 2], ["a", 3]], object), ["left", "right"], TypeError, "in X[1, 0], column 'left': c"),
        (np.array(["1"]), None, TypeError, "X must be an array of numbers, got dtype <U1"),
        (np.ones(2, "c8"), None, ValueError, "not supported: X must be real, got dtype complex64"),
    ],
)
def test_what_is_not_real_is_named_and_found(given, columns, error, words):
    with pytest.raises(error) as raised:
        checks.real_array("X", given, columns)
    assert words in str(raised.value)


def test_a_list_among_objects_gets_a_hint_and_a_word_none():
    for given, end in [([1, 2], "'list'; sequences go into a list, one by one"), ("2a", "to float: '2a'")]:
        with pytest.raises(TypeError) as raised:
            checks.real_array("X", objects(given, [3]))
        assert str(raised.value).endswith(end)


def test_real_numbers_stay_the_array_that_they_are():
    for kind in ("f4", "i2", "u1", "?"):
        given = np.ones(2, kind)
        assert checks.real_array("X", given) is given


def test_dtypes_are_compared_by_name():
    single, double = np.ones(2, "f4"), np.ones(2)
    assert checks.same_dtype(x=None, w=single, b=single) == np.float32
    words = "^w and c must have the same dtype, got w float32 and c float64$"
    with pytest.raises(TypeError, match=words):
        checks.same_dtype(x=None, w=single, b=single, c=double, d=double)


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


def test_arrays_by_name_are_all_looked_at():
    """Whatever is wrong with any of them stands in one error."""
    expected = {"w": np.zeros((2, 2)), "b": np.zeros(2, "f4"), "c": np.zeros(2)}
    good = {"c": [1.0, 2.0], "w": np.ones((2, 2), "f4"), "b": np.ones(2)}
    arrays = checks.matching_arrays("state", good, expected)
    assert list(arrays) == ["w", "b", "c"] and arrays["w"] is good["w"] and arrays["c"].tolist() == [1.0, 2.0]
    for given, words in [
        ([1.0], "state must be a mapping of names to arrays, got [1.0] of type list"),
        ({**good, "b": None}, "state['b'] must be an array, got None"),
        (
            {3: np.ones(2), "w": np.ones(2), "b": np.ones(2, "i8")},
            "state does not fit: 'c' is missing; 3 is unexpected; 'w' must have shape (2, 2), got (2,); "
            "'b' must have dtype float32, got int64",
        ),
    ]:
        with pytest.raises((TypeError, ValueError)) as raised:
            checks.matching_arrays("state", given, expected)
        assert str(raised.value) == words


def test_a_warning_shows_the_line_that_called_fastrnn():
    with pytest.warns(UserWarning, match="^of all things$") as caught:
        checks.warn("of all things")
    assert caught[0].filename == __file__


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ImportError, match="a picture needs draw: pip install draw, or the extra ") as raised:
        with checks.package("draw", "plot", "a picture"):
            import no_such_package  # noqa: F401
    assert str(raised.value).endswith("fastrnn[plot] (No module named 'no_such_package')")
    with pytest.raises(KeyError), checks.package("draw", "plot", "a picture"):
        raise KeyError
