"""Text to tokens and back; sequences in every form to one, and their batches."""

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import Batches, Bytes, Examples, Sequences, Vocabulary, Words, batches, sequences
from fastrnn.data.weights import sample_weights, shares


def test_the_vocabulary_is_sorted_and_without_repetition():
    assert Vocabulary("hello, wörld").symbols == " ,dehlorwö"
    assert len(Vocabulary("aabb")) == 2
    assert Vocabulary("ab") == Vocabulary("bba") != Vocabulary("abc")
    assert Vocabulary("a") != Words("a") and str(Vocabulary("abc")) == "Vocabulary of 3 tokens"


@pytest.mark.parametrize("text", ["", "hello\n", "ß…\U0001f600\0", "\ud800\udfff", "\U0010ffff"])
def test_decoding_undoes_encoding(text):
    vocabulary = Vocabulary("hello\n" + text)
    tokens = vocabulary.encode(text)
    assert tokens.dtype == np.uint8 and tokens.shape == (len(text),)
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


class TestWords:
    @given(st.text())
    def test_words_put_together_are_the_text(self, text):
        assert "".join(Words.split(text)) == text
        if text:
            vocabulary = Words(text)
            assert vocabulary.decode(vocabulary.encode(text)) == text

    def test_words_take_the_space_before_them_along(self):
        words = ["It", "'", "s", " ", " a", "\t", "dog", ",", " né", "?"]
        assert list(Words.split("It's  a\tdog, né?")) == words

    def test_a_limited_vocabulary_keeps_the_most_frequent(self):
        vocabulary = Words("a b b c c c d", size=3)
        assert vocabulary.symbols == [Words.UNKNOWN, " c", " b"] and len(vocabulary) == 3
        assert vocabulary.decode(vocabulary.encode("a b c")) == "\ufffd b c"

    def test_it_comes_back_from_its_words(self):
        vocabulary = Words("to be or not to be")
        assert Words.of(vocabulary.symbols) == vocabulary != Words("to be")
        assert hash(Words.of(vocabulary.symbols)) == hash(vocabulary)

    @pytest.mark.parametrize(("text", "size"), [("", None), (b"a", None), ("a", 0)])
    def test_bad_input_is_refused(self, text, size):
        with pytest.raises((TypeError, ValueError), match=r"(text|size) must"):
            Words(text, size)


@given(st.binary())
def test_bytes_are_their_own_tokens(data):
    tokens = Bytes().encode(data)
    assert tokens.dtype == np.uint8 and tokens.tolist() == list(data)
    assert Bytes().decode(tokens) == data


def test_bytes_are_not_copied_whatever_buffer_they_are_in(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"abc" * 9)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for buffer in (path.read_bytes(), mapped, np.memmap(path, np.uint8, "r"), bytearray(b"abc" * 9)):
            tokens = Bytes().encode(buffer)
            assert np.shares_memory(tokens, np.frombuffer(buffer, np.uint8))
            assert tokens.tolist() == [97, 98, 99] * 9
            del tokens


@pytest.mark.parametrize("value", [None, 3, ["a"], np.zeros(3), np.zeros((2, 2), np.uint8)])
def test_what_is_no_bytes_is_refused(value):
    with pytest.raises(TypeError, match=r"text must be a str or bytes, .*got"):
        Bytes().encode(value)
    with pytest.raises(TypeError, match=r"prompt must be a str or bytes, got \['a'\] of type list$"):
        Bytes().encode(["a"], "prompt")


@pytest.mark.parametrize(("count", "dtype"), [(256, np.uint8), (257, np.uint16), (65537, np.uint32)])
def test_tokens_are_the_smallest_integers_that_hold_the_vocabulary(count, dtype):
    characters = "".join(map(chr, range(count)))
    tokens = Vocabulary(characters).encode(characters[::-1])
    assert tokens.dtype == dtype and tokens.tolist() == list(range(count))[::-1]


def test_a_text_is_its_utf_8():
    assert Bytes().decode(Bytes().encode("né\ud800")) == "né\ud800".encode("utf-8", "surrogatepass")
    assert len(Bytes()) == 256


class TestSequences:
    MEMBERS = (np.arange(6.0).reshape(3, 2), np.arange(10.0).reshape(5, 2))

    def test_a_list_of_arrays(self):
        x, lengths = sequences("X", list(self.MEMBERS)).padded()
        assert x.shape == (5, 2, 2) and x.dtype == np.float32 and lengths.dtype == np.int64
        np.testing.assert_array_equal(lengths, [3, 5])
        np.testing.assert_array_equal(x[:3, 0], self.MEMBERS[0])
        np.testing.assert_array_equal(x[:, 1], self.MEMBERS[1])
        assert not x[3:, 0].any()

    def all_forms(self):
        """The same two sequences in every form."""
        padded = np.full((2, 5, 2), np.nan)
        for place, member in enumerate(self.MEMBERS):
            padded[place, : len(member)] = member
        as_objects = np.empty(2, object)
        as_objects[:] = self.MEMBERS
        yield {"value": as_objects}
        yield {"value": tuple(member.tolist() for member in self.MEMBERS)}
        yield {"value": padded, "lengths": [3, 5]}
        yield {"value": padded.transpose(0, 2, 1), "lengths": np.array([3, 5]), "layout": "NCT"}
        yield {"value": [member.T for member in self.MEMBERS], "layout": "NCT"}
        yield {"value": [member.astype(int) for member in self.MEMBERS]}
        yield {"value": [member.astype(np.float16) for member in self.MEMBERS]}

    def test_all_forms_are_one(self):
        expected, _ = sequences("X", list(self.MEMBERS)).padded()
        for form in self.all_forms():
            found = sequences("X", **form)
            np.testing.assert_array_equal(found.lengths, [3, 5])
            np.testing.assert_array_equal(found.padded()[0], expected)
            assert not found.tokens and found.features == 2

    def test_a_matrix_of_floats_is_sequences_of_one_feature(self):
        matrix = np.random.default_rng(0).normal(size=(4, 7))
        found = sequences("X", matrix, dtype="float64")
        np.testing.assert_array_equal(found.padded()[0], matrix.T[:, :, None])
        assert found.features == 1 and len(found) == 4

    @pytest.mark.parametrize("form", [[np.array([3, 1]), np.array([0, 2, 2], np.uint8)], [[3, 1], [0, 2, 2]]])
    def test_tokens(self, form):
        found = sequences("X", form, n_tokens=4)
        tokens, lengths = found.padded()
        np.testing.assert_array_equal(tokens, [[3, 0], [1, 2], [0, 2]])
        assert tokens.dtype == np.int64 and lengths.tolist() == [2, 3]
        assert found.tokens
        padded = sequences("X", np.array([[3, 1, 9], [0, 2, 2]]), lengths=[2, 3], n_tokens=4)
        np.testing.assert_array_equal(padded.padded()[0], tokens)

    @pytest.mark.parametrize(
        "form", [[[3, 1], [0, 2, 2]], np.array([[3, 1, 9]]), [np.array([1_700_000_000])]]
    )
    def test_integers_are_numbers_where_nothing_else_is_said(self, form):
        found = sequences("X", form, dtype="float64")
        assert not found.tokens and found.features == 1
        for item, numbers in zip(found.items, form, strict=True):
            np.testing.assert_array_equal(item[:, 0], numbers)

    def test_places_and_slices(self):
        found = sequences("X", [np.full((k + 1, 1), float(k)) for k in range(5)])
        assert [x[0, 0] for x in found[[3, 0]].items] == [3, 0] and found[[3, 0]].lengths.tolist() == [4, 1]
        assert [x[0, 0] for x in found[np.array([4])].items] == [4]
        assert [x[0, 0] for x in found[1:3].items] == [1, 2] and len(found[5:]) == 0

    def test_nothing_is_copied_before_it_is_padded(self, tmp_path):
        stored = np.memmap(tmp_path / "x", np.float32, "w+", shape=(1, 5000, 3))
        found = sequences("X", stored)
        assert np.shares_memory(found.items[0], stored)
        assert np.shares_memory(found.cut(10, 20).items[0], stored)

    @pytest.mark.parametrize("steps", [1, 2, 3, 5, 9, None])
    def test_windows_put_together_are_all_steps(self, steps):
        found = sequences("X", list(self.MEMBERS))
        windows = [window.padded() for window in found.windows(steps)]
        np.testing.assert_array_equal(np.concatenate([x for x, _ in windows]), found.padded()[0])
        np.testing.assert_array_equal(sum(lengths for _, lengths in windows), found.lengths)

    @pytest.mark.parametrize("steps", [1, 3, 4, 5, 9])
    def test_head_and_tail_are_all_steps(self, steps):
        found = sequences("X", list(self.MEMBERS))
        heads, tails = found.head(steps).items, found.tail(steps).items
        for head, tail, whole in zip(heads, tails, self.MEMBERS, strict=True):
            assert len(tail) == min(steps, len(whole))
            np.testing.assert_array_equal(np.concatenate([head, tail]), whole)

    @pytest.mark.parametrize(
        ("value", "options", "error"),
        [
            ([], {}, "X must have at least one sequence, got none"),
            (np.zeros((0, 3, 2)), {}, "X must have at least one sequence, got none"),
            (np.zeros(5), {}, r"an array \(N, T, F\) or \(N, T\), got shape \(5,\). Reshape your data"),
            (np.zeros((2, 3, 4, 5)), {}, r"got shape \(2, 3, 4, 5\)"),
            (3.0, {}, r"got shape \(\)"),
            (None, {}, "X must be a list or an array, got None"),
            ("abc", {}, "X must be"),
            ([np.zeros((3, 2)), np.zeros((4, 3))], {}, r"got 2 in X\[0\] and 3 in X\[1\]"),
            ([np.zeros((3, 2)), np.zeros((0, 2))], {}, r"X\[1\] must not be empty, .* without steps"),
            ([np.zeros((3, 0))], {}, r"X\[0\] must not be empty, got a sequence without features"),
            ([np.zeros((3, 2)), np.array([1, 2])], {}, r"got 2 in X\[0\] and 1 in X\[1\]"),
            (
                [np.zeros((3, 2))],
                {"n_tokens": 3},
                r"X\[0\] must be integer tokens, shape \(T,\), got an array",
            ),
            ([[1.0, 2.0]], {"n_tokens": 3}, r"X\[0\] must be integer tokens, .* dtype float64"),
            ([[1, 0], [3]], {"n_tokens": 3}, "X must be tokens within 0..2, got 3 in sequence 1, step 0"),
            ([np.zeros((3, 2, 2))], {}, r"X\[0\] must be one sequence, .* got shape \(3, 2, 2\)"),
            ([np.array(["a"])], {}, r"X\[0\] must be an array of numbers, got dtype <U1"),
            (np.zeros((2, 3), complex), {}, "Complex data not supported"),
            (
                np.array([[1, -2]]),
                {"n_tokens": 3},
                "X must be tokens within 0..2, got -2 in sequence 0, step 1",
            ),
            (np.zeros((2, 3)), {"lengths": [1, 4]}, r"lengths must be .* = 1..3, got lengths\[1\] = 4"),
            (np.zeros((2, 3)), {"lengths": [0, 3]}, r"got lengths\[0\] = 0"),
            (np.zeros((2, 3)), {"lengths": [3]}, r"lengths must have shape \(2,\), got \(1,\)"),
            (np.zeros((2, 3)), {"lengths": [1.0, 2.0]}, "lengths must be an integer array"),
            ([np.zeros(3)], {"lengths": [3]}, "lengths go with a padded array: X is a list"),
            (np.zeros((2, 3)), {"layout": "TNC"}, "layout must be one of 'NTC', 'NCT', got 'TNC'"),
        ],
        ids=str,
    )
    def test_bad_input_is_refused(self, value, options, error):
        with pytest.raises((TypeError, ValueError), match=error):
            sequences("X", value, **options)

    @pytest.mark.parametrize(("bad", "name"), [(np.nan, "NaN"), (np.inf, "inf"), (1e300, r"1e\+300")])
    def test_what_is_not_finite_is_found(self, bad, name, monkeypatch):
        monkeypatch.setattr("fastrnn.data.sequence.CHUNK", 4)
        members = [member.copy() for member in self.MEMBERS]
        members[1][3, 1] = bad
        with pytest.raises(
            ValueError, match=f"finite in float32, got {name} in sequence 1, step 3, feature 1$"
        ):
            sequences("X", members)

    def test_padding_may_hold_anything(self):
        padded = np.zeros((2, 3, 1))
        padded[0, 2] = np.nan
        assert not sequences("X", padded, lengths=[2, 3]).padded()[0].any()


class TestBatches:
    @given(st.lists(st.integers(1, 50), min_size=1, max_size=80), st.integers(1, 9), st.booleans())
    def test_every_sequence_is_in_one_batch(self, lengths, size, shuffle):
        rng = np.random.default_rng(0) if shuffle else None
        found = list(batches(np.array(lengths), size, rng))
        assert sorted(np.concatenate(found)) == list(range(len(lengths)))
        assert all(len(batch) <= size for batch in found) and len(found) == -(-len(lengths) // size)

    def test_lengths_in_a_batch_are_similar(self):
        lengths = np.random.default_rng(0).integers(1, 1000, size=1600)
        spread = [np.ptp(lengths[batch]) for batch in batches(lengths, 16, np.random.default_rng(1))]
        assert np.mean(spread) < 40

    def test_the_order_is_random_and_repeatable(self):
        lengths = np.full(50, 7)
        first, same, other = (
            [batch.tolist() for batch in batches(lengths, 8, np.random.default_rng(seed))]
            for seed in (0, 0, 1)
        )
        assert first == same != other
        assert first != [b.tolist() for b in batches(lengths, 8)]


def test_windows_of_examples_keep_steps_and_targets_together():
    x = Sequences([np.arange(5), np.arange(10, 13)])
    y = Sequences([np.arange(5) * 2, np.arange(10, 13) * 2])
    windows = list(Examples(x, y)[[1, 0]].windows(2))
    assert len(windows) == 3
    for window in windows:
        np.testing.assert_array_equal(window.y.padded()[0], window.x.padded()[0] * 2)
    assert next(Examples(x, y).windows(None)).x is x


def stepwise(lengths, **options):
    """Examples whose numbers say which sequence and step they are, with a target for each step."""
    items = [100.0 * place + np.arange(steps)[:, None] for place, steps in enumerate(lengths)]
    examples = Examples(Sequences(items), Sequences([item[:, 0] for item in items]), np.arange(len(items)))
    return Batches(examples, **options)


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_windows_follow_each_other_through_all_steps_of_a_batch(rng):
    lengths = [5, 9, 2, 7, 7, 1]
    dataset = stepwise(lengths, batch_size=2, bptt_steps=3, count=lambda some: int(some.x.lengths.sum()))
    seen, rows = [], []
    for batch in dataset.batches(rng):
        if not batch.follows:
            rows = [[] for _ in range(len(batch))]
            seen.append((batch.weights.tolist(), rows))
        for row, x, y in zip(rows, batch.x.items, batch.y.items, strict=True):
            assert x[:, 0].tolist() == y.tolist() and len(x) <= 3
            row += y.tolist()
    found = {place: row for places, rows in seen for place, row in zip(places, rows, strict=True)}
    assert found == {place: [100.0 * place + t for t in range(n)] for place, n in enumerate(lengths)}
    assert dataset.samples == sum(lengths) and len(seen) == 3


def test_samples_are_targets():
    assert stepwise([6, 5], batch_size=2, bptt_steps=4).samples == 11
    assert stepwise([6, 5], batch_size=2, count=len).samples == 2
    assert Batches(Examples(Sequences([np.ones((3, 1))] * 4), np.zeros(4)), batch_size=2).samples == 4


def test_vectors_are_sorted_by_their_targets():
    x, y = Sequences([np.ones((1, 2))] * 4), Sequences([np.zeros(n) for n in (1, 4, 2, 3)])
    first, second = Batches(Examples(x, y), batch_size=2).batches(None)
    assert (first.y.lengths.tolist(), second.y.lengths.tolist()) == ([4, 3], [2, 1])


def test_weights_of_sequences():
    assert sample_weights("sample_weight", None, 3) is None
    weights = sample_weights("sample_weight", [0, 2, 1], 3)
    assert weights.dtype == np.float64 and weights.tolist() == [0, 2, 1]
    for value, error in [
        ([1, 2], r"must have shape \(3,\), got \(2,\)"),
        ([[1], [2], [3]], r"must have shape \(3,\), got \(3, 1\)"),
        ([1, np.nan, -1], "must be finite and not negative, got nan for sequence 1"),
        ([1, 2, -0.5], r"must be finite and not negative, got -0\.5 for sequence 2"),
        ([np.inf, 1, 1], "must be finite and not negative, got inf for sequence 0"),
        ([0, 0, 0], "must not be zero for all sequences"),
    ]:
        with pytest.raises(ValueError, match=f"^sample_weight {error}$"):
            sample_weights("sample_weight", value, 3)
    with pytest.raises(TypeError, match="sample_weight must be an array of numbers, got dtype <U1"):
        sample_weights("sample_weight", ["a", "b", "c"], 3)


def test_shares_have_a_mean_of_1():
    """That of all that count, such as the steps; where all are alike there is nothing to weigh."""
    assert shares(None) is None and shares(np.array([3.0, 3.0])) is None
    assert shares(np.array([1.0, 3.0])).tolist() == [0.5, 1.5]
    np.testing.assert_allclose(shares(np.array([1.0, 3.0]), np.array([3, 1])), [2 / 3, 2.0], rtol=1e-15)
    assert shares(np.array([0.5e308, 1.5e308])).tolist() == [0.5, 1.5]
