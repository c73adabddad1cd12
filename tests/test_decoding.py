"""Decoding: batches for teacher forcing, and beam search against the search through everything."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import Sequences
from fastrnn.models.decoding import BOUNDARY, IGNORED, beam_search, draw, log_softmax, teacher_forcing
from fastrnn.models.sampling import Sampler

SYMBOLS = 3  # and the boundary


class Tree:
    """A language: the log-probabilities after each prefix, drawn at random; a state is what was written."""

    def __init__(self, seed, count):
        self.count = count
        self.tables = np.random.default_rng(seed).standard_normal((count, 4, SYMBOLS + 1, SYMBOLS + 1)) * 2

    def start(self):
        """(L, N, H): which sequence, how many steps, the last token but one."""
        return np.stack([np.arange(self.count), np.zeros(self.count), np.zeros(self.count)], -1)[None]

    def step(self, tokens, state):
        which, steps, before = state[0].T.astype(int)
        logits = self.tables[which, (steps + before) % 4, tokens]
        return log_softmax(logits), np.stack([which, steps + 1, tokens], -1)[None]

    def log_probability(self, which, tokens):
        state, total = self.start()[:, which : which + 1], 0.0
        for token, following in itertools.pairwise([BOUNDARY, *tokens, BOUNDARY]):
            steps, state = self.step(np.array([token]), state)
            total += steps[0, following]
        return total

    def mean(self, which, tokens):
        return self.log_probability(which, tokens) / (len(tokens) + 1)


def everything(longest):
    symbols = range(1, SYMBOLS + 1)
    return [p for length in range(longest + 1) for p in itertools.product(symbols, repeat=length)]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 3), longest=st.integers(0, 3))
def test_a_beam_wide_enough_finds_what_a_search_through_everything_finds(seed, count, longest):
    tree, sequences = Tree(seed, count), everything(longest)
    found = beam_search(tree.step, tree.start(), count, 2 * len(sequences), longest)
    for which, hypotheses in enumerate(found):
        expected = sorted(sequences, key=lambda s: -tree.mean(which, s))
        assert [tuple(h) for h in hypotheses] == expected


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), longest=st.integers(0, 6))
def test_a_beam_of_one_takes_the_likeliest_token_of_each_step(seed, longest):
    tree = Tree(seed, 4)
    found = beam_search(tree.step, tree.start(), 4, 1, longest)
    for which, (hypothesis,) in enumerate(found):
        tokens, state, last = [], tree.start()[:, which : which + 1], BOUNDARY
        while len(tokens) < longest:
            steps, state = tree.step(np.array([last]), state)
            last = steps[0].argmax()
            if last == BOUNDARY:
                break
            tokens.append(last)
        assert hypothesis.tolist() == tokens


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_sequences_are_searched_apart(beam_size):
    together = beam_search(Tree(1, 5).step, Tree(1, 5).start(), 5, beam_size, 4)
    for which in range(5):
        tree = Tree(1, 5)
        alone = beam_search(tree.step, tree.start()[:, which : which + 1], 1, beam_size, 4)[0]
        assert [h.tolist() for h in alone] == [h.tolist() for h in together[which]]


def test_a_wider_beam_finds_likelier_sequences():
    tree = Tree(2, 200)
    means = [
        np.mean(
            [
                tree.mean(n, found[0])
                for n, found in enumerate(beam_search(tree.step, tree.start(), 200, k, 5))
            ]
        )
        for k in (1, 2, 8)
    ]
    assert means[0] < means[1] < means[2]


def test_hypotheses_are_different_and_the_best_is_first():
    tree = Tree(3, 20)
    for which, hypotheses in enumerate(beam_search(tree.step, tree.start(), 20, 6, 5)):
        means = [tree.mean(which, tokens) for tokens in hypotheses]
        assert means == sorted(means, reverse=True)
        assert len({tuple(tokens) for tokens in hypotheses}) == 6
        assert all(len(tokens) <= 5 and BOUNDARY not in tokens for tokens in hypotheses)


def test_a_state_may_be_a_pair():
    tree = Tree(4, 3)

    def step(tokens, state):
        assert (state[0] == state[1]).all()
        steps, after = tree.step(tokens, state[0])
        return steps, (after, after.copy())

    start = tree.start()
    expected = beam_search(tree.step, start, 3, 4, 4)
    found = beam_search(step, (start, start), 3, 4, 4)
    assert [[h.tolist() for h in hs] for hs in found] == [[h.tolist() for h in hs] for hs in expected]


def test_teacher_forcing_shifts_by_the_boundary():
    sequences = [np.array([3, 1, 2]), np.array([], int), np.array([2])]
    inputs, targets, lengths = teacher_forcing(Sequences(sequences))
    assert inputs.T.tolist() == [[0, 3, 1, 2], [0, 0, 0, 0], [0, 2, 0, 0]]
    assert targets.T.tolist() == [[3, 1, 2, 0], [0, *[IGNORED] * 3], [2, 0, IGNORED, IGNORED]]
    assert lengths.tolist() == [4, 1, 2]


def test_what_is_drawn_has_the_probabilities_of_the_model():
    tree, count, longest = Tree(5, 1), 20_000, 2
    drawn = draw(tree.step, np.repeat(tree.start(), count, 1), count, longest, Sampler(seed=0))
    shares = Counter(tuple(tokens.tolist()) for tokens in drawn)
    for sequence in everything(longest):
        if len(sequence) < longest:
            expected = np.exp(tree.log_probability(0, sequence))
            assert shares[sequence] / count == pytest.approx(expected, abs=0.015)
    assert max(map(len, shares)) == longest


def test_drawing_the_likeliest_is_a_beam_of_one():
    tree = Tree(6, 50)
    drawn = draw(tree.step, tree.start(), 50, 4, Sampler(temperature=0))
    found = beam_search(tree.step, tree.start(), 50, 1, 4)
    assert [tokens.tolist() for tokens in drawn] == [best.tolist() for (best,) in found]


def test_log_softmax():
    logits = np.array([[1e4, 0.0, 1e4], [0.0, -np.inf, 0.0]])
    expected = [[np.log(0.5), -1e4 + np.log(0.5), np.log(0.5)], [np.log(0.5), -np.inf, np.log(0.5)]]
    np.testing.assert_allclose(log_softmax(logits), expected)
