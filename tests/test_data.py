"""Characters to tokens and back, and windows that put the stream together again."""

import numpy as np
import pytest

from fastrnn.data import Vocabulary, Windows


def test_the_vocabulary_is_sorted_and_without_repetition():
    assert Vocabulary("hello, wörld").characters == " ,dehlorwö"
    assert len(Vocabulary("aabb")) == 2
    assert Vocabulary("ab") == Vocabulary("bba") != Vocabulary("abc")
    assert "b" in Vocabulary("abc") and "d" not in Vocabulary("abc") and "ab" not in Vocabulary("abc")


@pytest.mark.parametrize("text", ["", "hello\n", "ß…\U0001f600\0", "\ud800\udfff", "\U0010ffff"])
def test_decoding_undoes_encoding(text):
    vocabulary = Vocabulary("hello\n" + text)
    tokens = vocabulary.encode(text)
    assert tokens.dtype == np.int64 and tokens.shape == (len(text),)
    assert vocabulary.decode(tokens) == text


def test_a_token_is_the_characters_place():
    np.testing.assert_array_equal(Vocabulary("cab").encode("abcab"), [0, 1, 2, 0, 1])


def test_unknown_characters_are_named():
    with pytest.raises(
        ValueError, match=r"prompt must use .* 3 characters, got '!' \(U\+0021\), 'ö' \(U\+00F6\)$"
    ):
        Vocabulary("abc").encode("a!böc!", "prompt")
    with pytest.raises(ValueError, match=r"'J' \(U\+004A\) and 2 more$"):
        Vocabulary("abc").encode("ABCDEFGHIJKL")


@pytest.mark.parametrize("text", [None, 3, ["a"], np.str_, bytearray(b"a")])
def test_anything_but_a_str_is_refused(text):
    with pytest.raises(TypeError, match="text must be a str, got"):
        Vocabulary(text)
    with pytest.raises(TypeError, match="text must be a str, got"):
        Vocabulary("abc").encode(text)


def test_bytes_get_a_hint():
    with pytest.raises(TypeError, match=r"text must be a str, got bytes: decode it first, text\.decode\(\)"):
        Vocabulary(b"abc")


def test_an_empty_vocabulary_is_refused():
    with pytest.raises(ValueError, match="text must have at least one character"):
        Vocabulary("")


@pytest.mark.parametrize("size", [2, 7, 100, 101])
@pytest.mark.parametrize("batch_size", [1, 3, 5])
@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_windows_put_together_are_the_streams(size, batch_size, steps):
    if size <= batch_size:
        return
    tokens = np.arange(size)
    windows = Windows(tokens, batch_size, steps)
    pairs = list(windows)
    length = (size - 1) // batch_size
    assert len(windows) == len(pairs) == -(-length // steps)
    assert windows.targets == length * batch_size
    assert all(len(inputs) == steps for inputs, _ in pairs[:-1])
    assert all(array.flags.c_contiguous for pair in pairs for array in pair)
    inputs, targets = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    np.testing.assert_array_equal(inputs.T.ravel(), tokens[: length * batch_size])
    np.testing.assert_array_equal(targets, inputs + 1)


def test_windows_start_over():
    windows = Windows(np.arange(10), 2, 3)
    for first, second in zip(windows, windows, strict=True):
        np.testing.assert_array_equal(first, second)


def test_too_few_tokens_are_refused():
    with pytest.raises(ValueError, match="tokens must be more than batch_size = 4, got 4"):
        Windows(np.arange(4), 4, 1)
    with pytest.raises(ValueError, match="steps must be a positive integer, got 0"):
        Windows(np.arange(4), 1, 0)
