"""Attention: what an output looks up in the sequence it is made from.

Letters: T steps of the queries, S steps of the memory, B batch, Q and M their features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn import checks, functional
from fastrnn.checks import Array
from fastrnn.layers.layer import Layer, Seed, floats, generator, uniform


class _Attended(NamedTuple):
    """What comes of a call, and what the way back needs of it."""

    queries: Array  # (T, B, Q)
    memory: Array  # (S, B, M), 0 where it is padded
    looked: Array  # (T, B, M), W_a applied to the queries
    weights: Array  # (B, T, S)
    joined: Array  # (T, B, M+Q), context and query side by side
    y: Array  # (T, B, Q)


class Attention(Layer):
    """Global attention with the "general" score (Luong et al. 2015, equations 5, 7 and 8), for a decoder that
    stands between its recurrent layers and its output.

    ::

        a_ts = softmax over s of q_t W_a m_s         c_t = sum over s of a_ts m_s
        y_t  = tanh(W_c [c_t; q_t])

    The parameters are ``weight_score`` (M, Q), which is W_a transposed, and ``weight_output`` (Q, M+Q), which
    is W_c.

    A query q_t looks at the memory but does not depend on y of the steps before: a decoder can run its
    recurrent layers through all steps of the known outputs first, and attend for all of them at once.

    Parameters
    ----------
    query_size, memory_size : int
        Q, the features of a query and of an output, and M, those of a step of the memory.
    dtype : {"float32", "float64"}
        Of parameters, inputs and outputs.
    seed : int or numpy.random.Generator, optional
        Of the initial values, uniform between -1/sqrt(n) and 1/sqrt(n) for rows of n weights, as in `Linear`.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range.

    Examples
    --------
    >>> layer = Attention(3, 4, seed=0)
    >>> queries, memory = np.ones((7, 2, 3), "float32"), np.ones((5, 2, 4), "float32")
    >>> layer(queries, memory, lengths=[5, 2]).shape
    (7, 2, 3)
    >>> layer.weights(queries, memory, lengths=[5, 2])[0, 1].tolist()
    [0.5, 0.5, 0.0, 0.0, 0.0]
    """

    def __init__(
        self, query_size: int, memory_size: int, *, dtype: npt.DTypeLike = "float32", seed: Seed = None
    ) -> None:
        self.query_size = checks.positive_int("query_size", query_size)
        self.memory_size = checks.positive_int("memory_size", memory_size)
        self.dtype = checks.float_dtype("dtype", dtype)
        rng = generator(seed, type(self).__name__, self.query_size, self.memory_size)
        joined = self.memory_size + self.query_size
        shapes = {
            "weight_score": (self.memory_size, self.query_size),
            "weight_output": (self.query_size, joined),
        }
        super().__init__(
            {name: uniform(rng, 1 / math.sqrt(shape[1]), shape, self.dtype) for name, shape in shapes.items()}
        )

    def __call__(
        self, queries: npt.ArrayLike, memory: npt.ArrayLike, lengths: npt.ArrayLike | None = None
    ) -> Array:
        """Inference: nothing is kept, and threads may share the layer.

        Parameters
        ----------
        queries : array_like, (T, B, Q)
            A decoder's states after each step.
        memory : array_like, (S, B, M)
            What they look at: an encoder's outputs.
        lengths : array_like of integers, (B,), optional
            How many steps of each memory are valid, 1 to S; all S if left out. What the memory holds beyond
            does not matter.

        Returns
        -------
        y : ndarray, (T, B, Q)

        Raises
        ------
        TypeError
            If an argument is of another dtype, masked, or None.
        ValueError
            If an argument has another shape, the memory has no steps, or a length is out of range.
        """
        return self._attend(queries, memory, lengths).y

    def forward(
        self, queries: npt.ArrayLike, memory: npt.ArrayLike, lengths: npt.ArrayLike | None = None
    ) -> tuple[Array, Callable[[npt.ArrayLike], tuple[Array, Array]]]:
        """The same as a call, and the way back: do not write to the arguments before.

        Returns
        -------
        y : ndarray, (T, B, Q)
            Read-only, because `back` reads it.
        back : callable
            ``dqueries, dmemory = back(dy)``, of the shapes of y, queries and memory, adds to `gradients`.
            The gradient is 0 where the memory is padded.
        """
        kept = self._attend(queries, memory, lengths)
        kept.y.flags.writeable = False

        def back(dy: npt.ArrayLike) -> tuple[Array, Array]:
            """dqueries, (T, B, Q), and dmemory, (S, B, M), of dy, (T, B, Q); adds to the gradients."""
            return self._back(kept, floats("dy", dy, self.dtype, kept.y.shape))

        return kept.y, back

    def weights(
        self, queries: npt.ArrayLike, memory: npt.ArrayLike, lengths: npt.ArrayLike | None = None
    ) -> Array:
        """How much each step of the output looks at each step of the memory: a, (T, B, S), of the arguments
        of a call. The weights of a query sum to 1."""
        weights: Array = self._attend(queries, memory, lengths).weights
        return np.moveaxis(weights, 1, 0)

    def _back(self, kept: _Attended, dy: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            dsum = dy * (1 - kept.y * kept.y)
            weight = self.parameters["weight_output"]
            djoined, dweight_output, _ = functional.linear_backward(kept.joined, weight, dsum)
            dcontext = djoined[..., : self.memory_size].swapaxes(0, 1)
            memory, looked = kept.memory.swapaxes(0, 1), kept.looked.swapaxes(0, 1)
            dweights = dcontext @ memory.swapaxes(1, 2)
            dscores = kept.weights * (dweights - (dweights * kept.weights).sum(-1, keepdims=True))
            dmemory = kept.weights.swapaxes(1, 2) @ dcontext
            dmemory += dscores.swapaxes(1, 2) @ looked
            dlooked = np.ascontiguousarray((dscores @ memory).swapaxes(0, 1))
            weight = self.parameters["weight_score"]
            dqueries, dweight_score, _ = functional.linear_backward(kept.queries, weight, dlooked)
            dqueries += djoined[..., self.memory_size :]
        self.add_gradients({"weight_score": dweight_score, "weight_output": dweight_output})
        return dqueries, np.ascontiguousarray(dmemory.swapaxes(0, 1))

    def _attend(
        self, queries: npt.ArrayLike, memory: npt.ArrayLike, lengths: npt.ArrayLike | None
    ) -> _Attended:
        queries = floats("queries", queries, self.dtype, ("T", "B", self.query_size))
        T, B, _ = queries.shape
        memory = floats("memory", memory, self.dtype, ("S", B, self.memory_size))
        S = len(memory)
        if S == 0:
            raise ValueError("memory must have at least one step, got none")
        padding = None
        if lengths is not None:
            lengths = checks.int_array("lengths", lengths, (B,), 1, S, "1..S")
            if B and lengths.min() < S:
                padding = np.arange(S)[:, None] >= lengths
                memory = np.where(padding[..., None], self.dtype.type(0), memory)

        looked = functional.linear(queries, self.parameters["weight_score"])
        joined = np.empty((T, B, self.memory_size + self.query_size), self.dtype)
        with np.errstate(all="ignore"):
            scores = looked.swapaxes(0, 1) @ memory.transpose(1, 2, 0)
            if padding is not None:
                scores.swapaxes(0, 1)[:, padding.T] = -np.inf
            weights = _softmax(scores)
            joined[..., : self.memory_size] = (weights @ memory.swapaxes(0, 1)).swapaxes(0, 1)
            joined[..., self.memory_size :] = queries
            y = functional.linear(joined, self.parameters["weight_output"])
            np.tanh(y, out=y)
        return _Attended(queries, memory, looked, weights, joined, y)


def _softmax(scores: Array) -> Array:
    """Of the last axis, in place."""
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores
