"""The n-gram baseline: what counting alone can predict of the next character."""

from __future__ import annotations

import math
from collections import Counter

from fastrnn.checks import positive_int
from fastrnn.data import Vocabulary, nonempty_text, text_argument


class NGram:
    """An interpolated Witten-Bell character n-gram model.

    The probability of a character c after a context h is a mixture of what was counted after h and the
    probability after the context one character shorter, h':

        P(c | h) = (N(h c) + T(h) P(c | h')) / (N(h) + T(h))

    where N(h c) counts c after h, N(h) every character after h, and T(h) the different characters seen after
    h. Below the empty context stands the uniform distribution over the vocabulary, so that every character
    of it has a probability. Witten and Bell, The zero-frequency problem, IEEE Trans. Inf. Theory 37(4),
    1991, method C, interpolated as in Chen and Goodman 1998, section 2.4.

    Parameters
    ----------
    text : str
        Whose n-grams, of every order up to the model's own, are counted.
    order : int
        The n of n-gram: a character is predicted from up to ``order - 1`` before it.
    vocabulary : str, optional
        The characters to share probability among; those of the text by default. Characters outside it
        cannot be scored. Models to be compared need the same one.
    """

    def __init__(self, text: str, order: int = 5, *, vocabulary: str | None = None) -> None:
        self.order = positive_int("order", order)
        text = nonempty_text("text", text)
        self.vocabulary = Vocabulary(text if vocabulary is None else vocabulary)
        self.vocabulary.encode(text)  # refuses characters outside the vocabulary
        self._grams: Counter[str] = Counter()
        for length in range(1, self.order + 1):
            self._grams.update(text[start : start + length] for start in range(len(text) - length + 1))
        self._totals: Counter[str] = Counter()
        self._types: Counter[str] = Counter()
        for gram, count in self._grams.items():
            self._totals[gram[:-1]] += count
            self._types[gram[:-1]] += 1

    def bits_per_character(self, text: str) -> float:
        """The mean of -log2 P over the characters of a text, each after those before it.

        The first character has nothing before it and is not counted, as in
        `TextGenerator.bits_per_character`, so that the two can be compared.

        Parameters
        ----------
        text : str
            At least two characters of the vocabulary.

        Returns
        -------
        float
        """
        self.vocabulary.encode(text_argument("text", text))
        if len(text) < 2:
            raise ValueError(f"text must have at least 2 characters, got {len(text)}")
        bits = sum(-math.log2(self._probability(text, position)) for position in range(1, len(text)))
        return bits / (len(text) - 1)

    def _probability(self, text: str, position: int) -> float:
        """P(text[position] | the characters before it), from the empty context to the longest one known."""
        probability = 1 / len(self.vocabulary)
        for length in range(min(self.order - 1, position) + 1):
            context = text[position - length : position]
            if context not in self._totals:
                break
            total, types = self._totals[context], self._types[context]
            probability = (self._grams[context + text[position]] + types * probability) / (total + types)
        return probability
