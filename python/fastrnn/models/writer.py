"""What models that write sequences of symbols share: the outputs they learn from, and their vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Batches, Dataset, Examples, Sequences, Symbols, symbol_sequences
from fastrnn.models.decoding import BOUNDARY
from fastrnn.models.estimator import SequenceEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceWriter(SequenceEstimator):
    """A model whose `y` are sequences of symbols; samples are symbols, each output's end being one too.

    A subclass supplies ``_read_inputs(X, *, learn) -> Sequences`` and ``_build(rng)``, and extends
    ``_format`` and ``_restore``.

    Parameters
    ----------
    bptt_steps : None
        Sequences are not cut.

    Attributes
    ----------
    symbols_ : list of str or int
        The symbols of the outputs.
    longest_ : int
        The length of the longest output in `fit`.
    compression_ : Compression or None
        What `compress` has reported of this model; None of one that it has not made.
    history_ : list of dict
        One record per epoch: see `fastrnn.training.Training`; losses are in nats per symbol, an output's end
        being one too.
    """

    hidden_size: int = 128

    def _read_inputs(self, X: Any, *, learn: bool) -> Sequences:
        raise NotImplementedError

    def _read(self, X: Any, y: Any, lengths: Any, sample_weight: Any = None, *, learn: bool) -> Examples:
        if lengths is not None:
            raise ValueError("lengths must be None: sequences of symbols have their own, and X is not padded")
        if sample_weight is not None:
            raise ValueError("sample_weight must be None: what is written counts by its symbols")
        if self.bptt_steps is not None:
            raise ValueError(f"bptt_steps must be None: sequences are not cut, got {self.bptt_steps}")
        x = self._read_inputs(X, learn=learn)
        outputs = symbol_sequences("y", y)
        if len(outputs) != len(x):
            raise ValueError(f"y must have as many sequences as X, {len(x)}, got {len(outputs)}")
        if learn:
            self._learn_outputs(outputs)
        items = [1 + self._outputs.encode(f"y[{place}]", sequence) for place, sequence in enumerate(outputs)]
        return Examples(x, Sequences(items, self.dtype))

    def _learn_outputs(self, outputs: list[Any]) -> None:
        self._set_outputs(Symbols(symbol for sequence in outputs for symbol in sequence))
        if not self.symbols_:
            raise ValueError("y must have at least one symbol, got empty sequences only")
        self._text = all(isinstance(sequence, str) for sequence in outputs)
        self.longest_ = max(map(len, outputs))

    def _set_outputs(self, symbols: Symbols) -> None:
        self._outputs = symbols
        self.symbols_ = symbols.symbols

    def _written(self, tokens: Array) -> Any:
        """A decoder's tokens as they were in `fit`: a str, or a list of symbols."""
        symbols = self._outputs.decode(tokens - 1)
        return "".join(map(str, symbols)) if self._text else symbols

    def _max_length(self, max_length: Any) -> int:
        return self.longest_ if max_length is None else checks.positive_int("max_length", max_length)

    def _classes(self, examples: Examples) -> Sequence[Array]:
        return [np.append(BOUNDARY, np.unique(item)) for item in examples.y.items]

    def _dataset(self, examples: Examples) -> Dataset:
        return Batches(examples, self.batch_size, count=symbols)

    def _format(self) -> dict[str, Any]:
        return {"symbols": self.symbols_, "text": self._text, "longest": self.longest_}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self._set_outputs(Symbols(metadata["symbols"]))
        self._text, self.longest_ = metadata["text"], metadata["longest"]


def symbols(examples: Examples) -> int:
    """Those of all outputs, each output's end being one too."""
    return len(examples) + int(examples.y.lengths.sum())
