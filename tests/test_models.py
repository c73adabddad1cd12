"""The models learn, score, write and come back from disk; the n-gram baseline counts as its formula says."""

import math

import pytest

from fastrnn.models.ngram import NGram


class TestNGram:
    def test_a_bigram_computed_by_hand(self):
        """Of "abac": P(a) = 2/4, and so on, mixed with 1/3 by 3 types in 4 characters; after a: b, c once each."""
        unigram = {"a": (2 + 3 / 3) / 7, "b": (1 + 3 / 3) / 7, "c": (1 + 3 / 3) / 7}
        after_a = {
            character: (count + 2 * unigram[character]) / 4 for character, count in [("a", 0), ("b", 1)]
        }
        after_b = {"a": (1 + unigram["a"]) / 2}
        model = NGram(order=2).fit("abac")
        expected = -(math.log2(after_a["b"]) + math.log2(after_b["a"]) + math.log2(after_a["a"])) / 3
        assert model.bits_per_character("abaa") == pytest.approx(expected, rel=1e-12)
        after_c = unigram  # c has nothing after it, and leaves it to the shorter context
        assert model.bits_per_character("cb") == pytest.approx(-math.log2(after_c["b"]), rel=1e-12)

    @pytest.mark.parametrize("order", [1, 2, 3, 5])
    @pytest.mark.parametrize("context", ["", "a", "ab", "abcab", "zzz", "bz"])
    def test_probabilities_add_up_to_one(self, order, context):
        model = NGram(order=order, vocabulary="abcz").fit("abcabcbbbacab")
        total = sum(model._probability(context + character, len(context)) for character in "abcz")
        assert total == pytest.approx(1, rel=1e-12)

    def test_a_character_never_counted_has_a_probability(self):
        assert NGram(vocabulary="abc").fit("abababab").bits_per_character("abc") < math.inf

    def test_a_higher_order_sees_more_of_a_pattern(self):
        text = "abcd abdc " * 30
        low, high = (NGram(order=order).fit(text).bits_per_character(text) for order in (2, 4))
        assert high < low - 0.1

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="order must be a positive integer, got 0"):
            NGram(order=0).fit("abc")
        with pytest.raises(ValueError, match="text must have at least one character"):
            NGram().fit("")
        with pytest.raises(ValueError, match=r"text must use the vocabulary's 2 characters, got 'c'"):
            NGram(vocabulary="ab").fit("abc")
        with pytest.raises(ValueError, match=r"got 'x'"):
            NGram().fit("abc").bits_per_character("ax")
        with pytest.raises(ValueError, match="text must have at least 2 characters, got 1"):
            NGram().fit("abc").bits_per_character("a")
        with pytest.raises(RuntimeError, match="this NGram is not fitted yet: call fit first"):
            NGram().bits_per_character("ab")
