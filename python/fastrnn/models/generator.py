"""One to many: a vector or a class to sequences of symbols.

Letters: N vectors, F features, T steps, B batch, H hidden, L layers, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastrnn import checks, states
from fastrnn.checks import Array
from fastrnn.data import Dataset, Examples, Scaling, Sequences
from fastrnn.layers import Composite, Dropout, Linear
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.columns import KnowsColumns
from fastrnn.models.decoding import IGNORED, beam_search, draw, teacher_forcing
from fastrnn.models.labels import classes_of, encode, from_json, per_sequence, to_json
from fastrnn.models.networks import recurrent
from fastrnn.models.sampling import Sampler
from fastrnn.models.writer import SequenceWriter, symbols


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceGenerator(SequenceWriter, KnowsColumns):
    """Learns to write sequences of symbols that go with a vector or a class: names of a language, captions of
    features.

    A linear layer and tanh turn the vector into the initial state of a decoder, which writes symbol by symbol
    (as Vinyals et al., Show and tell, 2015, give an image to a decoder once, at its start). In training it is
    given the true symbol before each, and the cross-entropy of the next is minimised.

    Attributes
    ----------
    classes_ : ndarray or None
        The classes in `X`, if it had classes.
    n_features_in_ : int
        F; for classes their number.
    scaling_ : fastrnn.data.Scaling or None
        What vectors are scaled by; None for classes.

    Examples
    --------
    >>> model = SequenceGenerator(hidden_size=16, learning_rate=0.03, validation_fraction=0, seed=0)
    >>> _ = model.fit(["up", "down"] * 20, ["abcd", "dcba"] * 20)
    >>> model.predict(["down", "up"])
    ['dcba', 'abcd']
    >>> model.generate(["up"], 2, temperature=0)
    [['abcd', 'abcd']]
    """

    def predict(self, X: Any, *, beam_size: int = 5, max_length: int | None = None) -> list[Any]:
        """The likeliest sequence for each vector or class, as far as a beam finds it.

        Parameters
        ----------
        X : array_like, (N, F) numbers or (N,) classes
            As in `fit`.
        beam_size : int
            As of `SequenceToSequence.predict`.
        max_length : int, optional
            The largest number of symbols; that of the longest output in `fit` by default.

        Returns
        -------
        list
            Sequences as they were in `fit`: strings, if all of them were, or lists of symbols.
        """
        model = self._as_fitted()
        beam_size, max_length = checks.positive_int("beam_size", beam_size), self._max_length(max_length)
        found = []
        for start, count in model._starts(X, 1):
            hypotheses = beam_search(model.network_.step, start, count, beam_size, max_length)
            found += [self._written(best) for best, *_ in hypotheses]
        return found

    def generate(
        self,
        X: Any,
        n: int = 1,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        max_length: int | None = None,
        seed: int | None = None,
    ) -> list[list[Any]]:
        """Sequences drawn at random, symbol by symbol.

        Parameters
        ----------
        X : array_like, (N, F) numbers or (N,) classes
            As in `fit`.
        n : int
            How many sequences for each vector or class.
        temperature, top_k, top_p, seed
            As of `TextGenerator.generate`.
        max_length : int, optional
            The largest number of symbols; that of the longest output in `fit` by default.

        Returns
        -------
        list of lists
            For each vector or class `n` sequences.
        """
        model = self._as_fitted()
        n, max_length = checks.positive_int("n", n), self._max_length(max_length)
        sampler = Sampler(temperature, top_k, top_p, seed)
        written = [
            self._written(tokens)
            for start, count in model._starts(X, n)
            for tokens in draw(model.network_.step, start, count, max_length, sampler)
        ]
        return [written[place : place + n] for place in range(0, len(written), n)]

    def score(self, X: Any, y: Any) -> float:
        """The mean log-probability of sequences in nats, ends included, each given its vector or class.

        Parameters
        ----------
        X : array_like, (N, F) numbers or (N,) classes
        y : list of N sequences of symbols

        Returns
        -------
        float
        """
        model = self._as_fitted()
        examples = model._read(X, y, None, learn=False)
        return -model._mean_loss(examples) * symbols(examples) / len(examples)

    def bits_per_symbol(self, X: Any, y: Any) -> float:
        """The mean of -log2 P over the symbols of sequences and their ends, each after all those before it.

        Parameters
        ----------
        X, y
            As of `score`.

        Returns
        -------
        float
        """
        model = self._as_fitted()
        return model._mean_loss(model._read(X, y, None, learn=False)) / math.log(2)

    def _starts(self, X: Any, n: int) -> Iterator[tuple[Any, int]]:
        """The decoder's initial states, each `n` times, batch by batch, and how many they are."""
        vectors, _ = self._read_inputs(X, learn=False).scaled(self.scaling_).padded()
        vectors = np.repeat(vectors[0], n, axis=0)
        for first in range(0, len(vectors), self.batch_size):
            batch = vectors[first : first + self.batch_size]
            yield self.network_.start(batch), len(batch)

    def _read_inputs(self, X: Any, *, learn: bool) -> Sequences:
        """Each vector, or a class as a one-hot one, as a sequence of one step."""
        array = checks.array("X", X, "an array of shape (N, F), or of N classes")
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(f"X must be an array of shape (N, F), or of N classes, got shape {array.shape}")
        self._read_names(X, learn)
        if learn:
            self.classes_: Array | None = None
            self.scaling_: Any = None
            if array.ndim == 1:
                self.classes_ = classes_of([per_sequence("X", X, len(array))])
            self.n_features_in_ = array.shape[1] if self.classes_ is None else len(self.classes_)
        if self.classes_ is not None:
            vectors = np.eye(self.n_features_in_)[
                encode("X", per_sequence("X", X, len(array)), self.classes_)
            ]
        else:
            vectors = _vectors(array, self.n_features_in_, getattr(X, "columns", None))
        return Sequences(list(vectors[:, None]), self.dtype)

    def _classes(self, examples: Examples) -> SequenceOf[Array]:
        found = super()._classes(examples)
        if self.classes_ is None:
            return found
        of_x = 1 + len(self._outputs) + np.concatenate(examples.x.items).argmax(axis=1)
        return [np.append(first, rest) for first, rest in zip(of_x, found, strict=True)]

    def _learn_scale(self, examples: Examples) -> None:
        if self.classes_ is not None:
            return
        before, self.scaling_ = self.scaling_, Scaling.learned(self.scaling_, "X", examples.x.rows())
        if before is not None:
            condition = self.network_.condition.parameters
            self.scaling_.keep_inputs(before, condition["weight"], condition["bias"])

    def _build(self, rng: np.random.Generator) -> ConditionedDecoder:
        return ConditionedDecoder(self, self.n_features_in_, 1 + len(self._outputs), rng)

    def _dataset(self, examples: Examples) -> Dataset:
        return super()._dataset(replace(examples, x=examples.x.scaled(self.scaling_)))

    def _format(self) -> dict[str, Any]:
        if self.classes_ is not None:
            return {**to_json(self.classes_), **super()._format()}
        return {"scaling": self.scaling_.to_json(), "feature_names": self._names, **super()._format()}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self.classes_ = from_json(metadata) if "classes" in metadata else None
        self.scaling_ = None
        if self.classes_ is None:
            self.scaling_ = Scaling.from_json(metadata["scaling"])
            self._names = metadata["feature_names"]
        self.n_features_in_ = len(self.scaling_.mean if self.classes_ is None else self.classes_)
        super()._restore(metadata)


class ConditionedDecoder(Composite):
    """A vector through a linear layer and tanh to the initial state of recurrent layers; tokens through these
    and a linear layer to the logits of the next token.

    Parameters
    ----------
    options : SequenceGenerator
        Its cell, hidden_size H, num_layers L, dropout, which is after every recurrent layer, and dtype are
        used.
    features, vocabulary_size : int
        F and V.
    rng : numpy.random.Generator
    """

    def __init__(
        self, options: SequenceGenerator, features: int, vocabulary_size: int, rng: np.random.Generator
    ) -> None:
        dtype = options.dtype
        self.recurrent = recurrent(options, vocabulary_size, rng, tokens=True)
        size = options.num_layers * sum(self.recurrent._states.widths)
        self.condition = Linear(features, size, dtype=dtype, seed=rng)
        self.dropout = Dropout(options.dropout, seed=rng)
        self.head = Linear(self.recurrent.output_size, vocabulary_size, dtype=dtype, seed=rng)
        super().__init__(condition=self.condition, recurrent=self.recurrent, head=self.head)

    def loss(self, batch: Examples, state: Any = None, *, training: bool) -> tuple[float, int, Any]:
        """The mean cross-entropy of the outputs' tokens in nats, given those before; how many they are; None.

        With `training` there is dropout, and the gradients are added.
        """
        vectors = batch.x.padded()[0][0]
        inputs, targets, lengths = teacher_forcing(batch.y)
        count = int(lengths.sum())
        if not training:
            logits = self.head(self.recurrent(inputs, self.start(vectors), lengths)[0])
            return softmax_cross_entropy(logits, targets, ignore_index=IGNORED)[0], count, None

        start, condition_back = self.condition.forward(vectors)
        start = np.tanh(start)
        hidden, _, recurrent_back = self.recurrent.forward(inputs, self._state(start), lengths)
        hidden, undrop = self.dropout.forward(hidden)
        logits, head_back = self.head.forward(hidden)
        loss, dlogits = softmax_cross_entropy(logits, targets, ignore_index=IGNORED)
        _, dstate = recurrent_back(undrop(head_back(dlogits)))
        condition_back(self._row(dstate) * (1 - start * start))
        return loss, count, None

    def start(self, vectors: Array) -> Any:
        """The initial state of the recurrent layers for vectors (B, F)."""
        return self._state(np.tanh(self.condition(vectors)))

    def step(self, tokens: Array, state: Any) -> tuple[Array, Any]:
        """The logits (B, V) after one more token each, (B,), and the state then."""
        hidden, state = self.recurrent(tokens[None], state)
        return self.head(hidden[0]), state

    def _state(self, row: Array) -> Any:
        """Rows (B, ...) as a state: h (L, B, H), or the pair (h, c), which stand there side by side."""
        layers = self.recurrent.num_layers
        ends = np.cumsum([layers * width for width in self.recurrent._states.widths])
        members = np.split(row, ends[:-1], axis=1)
        return states.joined([each.reshape(len(row), layers, -1).swapaxes(0, 1) for each in members])

    def _row(self, state: Any) -> Array:
        """The reverse of `_state`."""
        members = (member.swapaxes(0, 1) for member in states.members(state))
        return np.concatenate([member.reshape(len(member), -1) for member in members], axis=1)


def _vectors(array: Array, features: int, columns: Any) -> Array:
    """Finite float64 numbers (N, F)."""
    if array.shape[1:] != (features,):
        raise ValueError(f"X must have shape (N, {features}), got {array.shape}")
    vectors: Array = checks.real_array("X", array, columns).astype(np.float64)
    bad = np.argwhere(~np.isfinite(vectors))
    if len(bad):
        row, column = map(int, bad[0])
        came = str(vectors[row, column]).replace("nan", "NaN")
        raise ValueError(f"X must be finite, got {came} in X[{row}, {column}]")
    return vectors
