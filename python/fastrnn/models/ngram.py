"""The n-gram baseline: what counting alone can predict of the next character."""

from __future__ import annotations

import math
from collections import Counter

from fastrnn.checks import positive_int
from fastrnn.data import Vocabulary, nonempty_text, text_argument
from fastrnn.models.parameters import Estimator


class NGram(Estimator):
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
    order : int
        The n of n-gram: a character is predicted from up to ``order - 1`` before it.
    vocabulary : str, optional
        The characters to share probability among; those of the text by default. Characters outside it
        cannot be scored. Models to be compared need the same one.

    Attributes
    ----------
    vocabulary_ : Vocabulary
        The characters the model knows.
    """

    def __init__(self, order: int = 5, *, vocabulary: str | None = None) -> None:
        self.order = order
        self.vocabulary = vocabulary

    def fit(self, text: str) -> NGram:
        """Count the n-grams of a text, of every order up to the model's own, and return the model."""
        order = positive_int("order", self.order)
        text = nonempty_text("text", text)
        vocabulary = Vocabulary(text if self.vocabulary is None else self.vocabulary)
        vocabulary.encode(text)  # refuses characters outside the vocabulary
        grams: Counter[str] = Counter()
        for length in range(1, order + 1):
            grams.update(text[start : start + length] for start in range(len(text) - length + 1))
        totals: Counter[str] = Counter()
        types: Counter[str] = Counter()
        for gram, count in grams.items():
            totals[gram[:-1]] += count
            types[gram[:-1]] += 1
        self.vocabulary_, self._grams, self._totals, self._types = vocabulary, grams, totals, types
        return self

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
        self._require_fitted("vocabulary_")
        self.vocabulary_.encode(text_argument("text", text))
        if len(text) < 2:
            raise ValueError(f"text must have at least 2 characters, got {len(text)}")
        bits = sum(-math.log2(self._probability(text, position)) for position in range(1, len(text)))
        return bits / (len(text) - 1)

    def _probability(self, text: str, position: int) -> float:
        """P(text[position] | the characters before it), from the empty context to the longest one known."""
        probability = 1 / len(self.vocabulary_)
        for length in range(min(self.order - 1, position) + 1):
            context = text[position - length : position]
            if context not in self._totals:
                break
            total, types = self._totals[context], self._types[context]
            probability = (self._grams[context + text[position]] + types * probability) / (total + types)
        return probability
