"""Sequences of symbols to sequences of symbols: an encoder, a decoder, and attention between them.

Letters: S steps of the input, T steps of the output, B batch, H hidden, L layers, V tokens of the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Examples, Sequences, Symbols, batches, symbol_sequences
from fastrnn.layers import Attention, Composite, Dropout, Linear
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.decoding import IGNORED, beam_search, teacher_forcing
from fastrnn.models.estimator import Check, SequenceEstimator
from fastrnn.models.networks import recurrent
from fastrnn.models.writer import SequenceWriter


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceToSequence(SequenceWriter):
    """Learns to turn sequences of symbols into other sequences of symbols: spelling into pronunciation, one
    notation into another.

    An encoder reads the input; a decoder starts from the encoder's last state and writes the output symbol by
    symbol, attending to all of the encoder's outputs after each of its steps: see `EncoderDecoder`. In
    training it is given the true symbol before each (teacher forcing), and the cross-entropy of the next is
    minimised.

    A sequence is a str, whose symbols are its characters, or a list, tuple or array of strings and integers.
    Which symbols there are is learned in `fit`.

    Parameters
    ----------
    bidirectional : bool
        Whether the encoder reads in both directions, each with half of `hidden_size`, which must be even
        then.

    Attributes
    ----------
    input_symbols_ : list of str or int
        The symbols of the inputs.

    Examples
    --------
    >>> words = ["cab", "abc", "bca", "aab", "cc", "ba"] * 20
    >>> model = SequenceToSequence(hidden_size=32, learning_rate=0.02, validation_fraction=0, seed=0)
    >>> _ = model.fit(words, [word[::-1].upper() for word in words])
    >>> model.predict(["abc", "ba"])
    ['CBA', 'AB']
    """

    bidirectional: bool = True

    _checks: ClassVar[dict[str, Check]] = {**SequenceEstimator._checks, "bidirectional": checks.boolean}

    def predict(self, X: Any, *, beam_size: int = 1, max_length: int | None = None) -> list[Any]:
        """The likeliest outputs.

        Parameters
        ----------
        X : list of sequences of symbols
            All of `input_symbols_`.
        beam_size : int
            How many hypotheses go side by side: 1 takes the likeliest symbol at each step; more find likelier
            outputs, the mean log-probability of a symbol being what counts, and take as many times longer.
            See `fastrnn.models.decoding.beam_search`.
        max_length : int, optional
            The largest number of symbols in an output; that of the longest output in `fit` by default.

        Returns
        -------
        list
            Outputs as they were in `fit`: strings, if all of them were, or lists of symbols.

        Raises
        ------
        TypeError, ValueError
            If an argument is unusable, or a symbol is not known.
        RuntimeError
            If the model is not fitted.
        """
        model = self._as_fitted()
        beam_size, max_length = checks.positive_int("beam_size", beam_size), self._max_length(max_length)
        x = model._read_inputs(X, learn=False)
        found: list[Any] = [None] * len(x)
        for places in batches(x.lengths, model.batch_size):
            hypotheses = model.network_.decode(*x[places].padded(), beam_size, max_length)
            for place, (best, *_) in zip(places, hypotheses, strict=True):
                found[place] = self._written(best)
        return found

    def score(self, X: Any, y: Any) -> float:
        """The share of the inputs whose output is predicted, symbol for symbol.

        Parameters
        ----------
        X, y : list of sequences of symbols
            Inputs, and their true outputs.

        Returns
        -------
        float
            From 0 to 1. `fastrnn.metrics.error_rate` says how far the others are off.
        """
        expected = [list(sequence) for sequence in symbol_sequences("y", y)]
        found = self.predict(X)
        if len(found) != len(expected):
            raise ValueError(f"y must have as many sequences as X, {len(found)}, got {len(expected)}")
        return sum(list(a) == b for a, b in zip(found, expected, strict=True)) / len(found)

    def _read_inputs(self, X: Any, *, learn: bool) -> Sequences:
        sizes = {"hidden_size": self.hidden_size, "proj_size": (self.layer_options or {}).get("proj_size", 0)}
        for name, size in sizes.items() if learn and self.bidirectional else ():
            if isinstance(size, int) and size % 2:
                raise ValueError(
                    f"{name} must be even if bidirectional, half of it for each direction of the encoder, "
                    f"got {size}"
                )
        inputs = symbol_sequences("X", X, shortest=1)
        if learn:
            self._inputs = Symbols(symbol for sequence in inputs for symbol in sequence)
            self.input_symbols_ = self._inputs.symbols
        items = [self._inputs.encode(f"X[{place}]", sequence) for place, sequence in enumerate(inputs)]
        return Sequences(items, self.dtype)

    def _build(self, rng: np.random.Generator) -> EncoderDecoder:
        return EncoderDecoder(self, len(self._inputs), 1 + len(self._outputs), rng)

    def _format(self) -> dict[str, Any]:
        return {"input_symbols": self.input_symbols_, **super()._format()}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self._inputs = Symbols(metadata["input_symbols"])
        self.input_symbols_ = self._inputs.symbols
        super()._restore(metadata)


class EncoderDecoder(Composite):
    """Tokens through an encoder; a decoder that starts from its last state and, after each step, attends to
    all of its outputs; a linear layer to the logits of the next token.

    The parts are those of Luong et al., Effective approaches to attention-based neural machine translation,
    2015, without input feeding, so that the decoder runs through all steps at once. Tokens are columns of the
    recurrent layers' weights. A bidirectional encoder has H/2 units in each direction.

    Parameters
    ----------
    options : SequenceToSequence
        Its cell, hidden_size H, num_layers, bidirectional, dropout and dtype are used. Dropout is of the
        output of each layer of the encoder and the decoder, and of the attention's.
    source_size, target_size : int
        Tokens of the input and of the output, V.
    rng : numpy.random.Generator
    """

    def __init__(
        self, options: SequenceToSequence, source_size: int, target_size: int, rng: np.random.Generator
    ) -> None:
        dtype, both = options.dtype, options.bidirectional
        self.encoder = recurrent(
            _halves(options) if both else options, source_size, rng, tokens=True, bidirectional=both
        )
        self.decoder = recurrent(options, target_size, rng, tokens=True)
        size = self.decoder.output_size
        self.attention = Attention(size, size, dtype=dtype, seed=rng)
        self.head = Linear(size, target_size, dtype=dtype, seed=rng)
        self._dropouts = [Dropout(options.dropout, seed=rng) for _ in range(3)]
        super().__init__(encoder=self.encoder, decoder=self.decoder, attention=self.attention, head=self.head)

    def loss(self, batch: Examples, state: Any = None, *, training: bool) -> tuple[float, int, Any]:
        """The mean cross-entropy of the outputs' tokens in nats, given those before; how many they are; None.

        With `training` there is dropout, and the gradients are added.
        """
        source, source_lengths = batch.x.padded()
        inputs, targets, lengths = teacher_forcing(batch.y)
        count = int(lengths.sum())
        if not training:
            memory, start = self.encode(source, source_lengths)
            hidden, _ = self.decoder(inputs, start, lengths)
            logits = self.head(self.attention(hidden, memory, source_lengths))
            return softmax_cross_entropy(logits, targets, ignore_index=IGNORED)[0], count, None

        drop_memory, drop_hidden, drop_attended = self._dropouts
        memory, last, encoder_back = self.encoder.forward(source, lengths=source_lengths)
        memory, undrop_memory = drop_memory.forward(memory)
        hidden, _, decoder_back = self.decoder.forward(inputs, self._across(last), lengths)
        hidden, undrop_hidden = drop_hidden.forward(hidden)
        attended, attention_back = self.attention.forward(hidden, memory, source_lengths)
        attended, undrop_attended = drop_attended.forward(attended)
        logits, head_back = self.head.forward(attended)
        loss, dlogits = softmax_cross_entropy(logits, targets, ignore_index=IGNORED)

        dhidden, dmemory = attention_back(undrop_attended(head_back(dlogits)))
        _, dstart = decoder_back(undrop_hidden(dhidden))
        encoder_back(undrop_memory(dmemory), self._back(dstart))
        return loss, count, None

    def encode(self, source: Array, lengths: Array) -> tuple[Array, Any]:
        """The encoder's outputs (S, B, H), and the state that the decoder starts from."""
        memory, last = self.encoder(source, lengths=lengths)
        return memory, self._across(last)

    def decode(self, source: Array, lengths: Array, beam_size: int, max_length: int) -> list[list[Array]]:
        """The likeliest outputs of a batch of inputs; see `fastrnn.models.decoding.beam_search`."""
        memory, start = self.encode(source, lengths)
        memory, lengths = np.repeat(memory, beam_size, axis=1), np.repeat(lengths, beam_size)

        def step(tokens: Array, state: Any) -> tuple[Array, Any]:
            hidden, state = self.decoder(tokens[None], state)
            return self.head(self.attention(hidden, memory, lengths))[0], state

        return beam_search(step, start, source.shape[1], beam_size, max_length)

    def _across(self, state: Any) -> Any:
        """The encoder's last state, its two directions side by side, as the decoder's first."""
        if isinstance(state, tuple):
            return tuple(map(self._across, state))
        _, batch, units = state.shape
        layers = self.decoder.num_layers
        return state.reshape(layers, -1, batch, units).swapaxes(1, 2).reshape(layers, batch, -1)

    def _back(self, dstate: Any) -> Any:
        """The gradient of what `_across` was given from that of what it made."""
        if isinstance(dstate, tuple):
            return tuple(map(self._back, dstate))
        layers, batch, units = dstate.shape
        directions = 1 + self.encoder.bidirectional
        units //= directions
        parts = dstate.reshape(layers, batch, directions, units).swapaxes(1, 2)
        return parts.reshape(layers * directions, batch, units)


def _halves(options: SequenceToSequence) -> SequenceToSequence:
    """What each direction of an encoder has of the units and of the features that they are projected to."""
    own = dict(options.layer_options or {})
    own |= {"proj_size": own["proj_size"] // 2} if own.get("proj_size") else {}
    return replace(options, hidden_size=options.hidden_size // 2, layer_options=own)
