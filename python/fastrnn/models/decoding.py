"""What models that write sequences of symbols share: teacher forcing to train, beam search to predict,
drawing.

A decoder's tokens are 1 to V-1 for symbols; token 0 is the boundary, which goes in before the first symbol
and is to come out after the last one.

Letters: T steps, N sequences, K hypotheses of each, B batch, H hidden, L layers, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from fastrnn import states
from fastrnn.checks import Array
from fastrnn.data import Sequences

BOUNDARY = 0
IGNORED = -1  # the target where a sequence is padded

# From tokens (B,) and a state to the logits (B, V) of what follows them, and the state then.
Step: TypeAlias = Callable[[Array, Any], tuple[Array, Any]]


def teacher_forcing(sequences: Sequences) -> tuple[Array, Array, Array]:
    """What teaches a decoder to write some sequences of tokens: at each step it is given the symbol before,
    and has to find the next one.

    Parameters
    ----------
    sequences : Sequences
        B sequences of tokens, none of which is the boundary.

    Returns
    -------
    inputs : ndarray of int64, (T, B)
        The boundary, then the symbols.
    targets : ndarray of int64, (T, B)
        The symbols, then the boundary, then `IGNORED`.
    lengths : ndarray of int64, (B,)
        Of symbols and boundary.
    """
    symbols, lengths = sequences.padded()
    boundary = np.full((1, len(sequences)), BOUNDARY)
    inputs = np.concatenate([boundary, symbols])
    targets = np.concatenate([symbols, boundary])  # the padding is the boundary's token too
    targets[np.arange(len(targets))[:, None] > lengths] = IGNORED
    return inputs, targets, lengths + 1


def beam_search(step: Step, state: Any, count: int, beam_size: int, max_length: int) -> list[list[Array]]:
    """The likeliest sequences that a decoder can write, as far as a beam finds them.

    Of the continuations of K hypotheses by every token the K best go on, those with the greatest mean
    log-probability of a token, the plainest of the normalisations by length in Wu et al. 2016, section 7. The
    boundary ends a hypothesis, which stays among the K while no more than K - 1 are better. All end after
    `max_length` symbols, where only the boundary may follow. With K = 1 it is greedy search.

    Parameters
    ----------
    step : callable
        Takes tokens (N*K,) and a state to the logits (N*K, V) of what follows and the state then. The K
        hypotheses of a sequence are side by side.
    state : ndarray, (L, N, H), or a tuple of them
        The decoder's state before the first step.
    count : int
        N.
    beam_size, max_length : int
        K, and the largest number of symbols.

    Returns
    -------
    list of lists of ndarray
        For each sequence its hypotheses, the best first, as tokens without the boundary.
    """
    state = _rows(state, np.repeat(np.arange(count), beam_size))
    totals: Array = np.full((count, beam_size), -np.inf)
    totals[:, 0] = 0  # the others would be the same
    lengths: Array = np.zeros((count, beam_size), np.int64)
    ended = np.zeros((count, beam_size), bool)
    tokens: Array = np.full((count, beam_size, 1), BOUNDARY)
    for length in range(1, max_length + 2):
        logits, state = step(tokens[:, :, -1].reshape(-1), state)
        following = log_softmax(logits.astype(np.float64)).reshape(count, beam_size, -1)
        if length > max_length:
            following[..., BOUNDARY + 1 :] = -np.inf
        following[ended] = -np.inf
        following[ended, BOUNDARY] = 0
        lengths = np.where(ended, lengths, length)
        candidates = totals[..., None] + following
        best = _largest((candidates / lengths[..., None]).reshape(count, -1), beam_size)
        parents, chosen = np.divmod(best, following.shape[-1])

        totals = np.take_along_axis(candidates.reshape(count, -1), best, 1)
        lengths = np.take_along_axis(lengths, parents, 1)
        ended = np.take_along_axis(ended, parents, 1) | (chosen == BOUNDARY)
        tokens = np.take_along_axis(tokens, parents[..., None], 1)
        tokens = np.concatenate([tokens, chosen[..., None]], -1)
        if (ended | np.isneginf(totals)).all():
            break
        state = _rows(state, (np.arange(count)[:, None] * beam_size + parents).reshape(-1))
    return [
        [row[row != BOUNDARY] for row, total in zip(*hypotheses, strict=True) if total > -np.inf]
        for hypotheses in zip(tokens, totals, strict=True)
    ]


def draw(step: Step, state: Any, count: int, max_length: int, choose: Callable[[Array], int]) -> list[Array]:
    """Sequences written at random.

    Parameters
    ----------
    step, state, count
        As of `beam_search`, with one hypothesis of each.
    max_length : int
        The largest number of symbols.
    choose : callable
        Takes logits (V,) to a token.

    Returns
    -------
    list of ndarray
        Tokens without the boundary.
    """
    written: list[Array] = [np.full(count, BOUNDARY)]
    ended = np.zeros(count, bool)
    while len(written) <= max_length and not ended.all():
        logits, state = step(written[-1], state)
        tokens = [BOUNDARY if over else choose(row) for over, row in zip(ended, logits, strict=True)]
        written.append(np.array(tokens))
        ended |= written[-1] == BOUNDARY
    return [row[row != BOUNDARY] for row in np.stack(written, -1)]


def log_softmax(logits: Array) -> Array:
    """Log-probabilities along the last axis."""
    with np.errstate(all="ignore"):  # a logit of -inf is a probability of 0
        shifted = logits - logits.max(-1, keepdims=True)
        result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def _largest(values: Array, count: int) -> Array:
    """Where the largest values of each row are, the largest first."""
    found: Array = values.argmax(-1)[:, None]
    if count > 1:
        found = np.sort(np.argpartition(-values, count - 1, axis=-1)[:, :count], axis=-1)
        order = np.argsort(-np.take_along_axis(values, found, -1), axis=-1, kind="stable")
        found = np.take_along_axis(found, order, -1)
    return found


def _rows(state: Any, rows: Array) -> Any:
    """Those rows of a state, whose second axis is the batch."""
    return states.joined([member[:, rows] for member in states.members(state)])
