"""A language model: it learns to write as the text it was given."""

from __future__ import annotations

import codecs
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastrnn import checks
from fastrnn.data import Bytes, Dataset, Tokens, Vocabulary, Words, text_argument
from fastrnn.layers import Dropout, Embedding, Linear, Sequential
from fastrnn.losses import Loss, softmax_cross_entropy
from fastrnn.models.estimator import Callbacks, Check, Path, optional
from fastrnn.models.given import TakesNetwork, adopted, facts, sequential
from fastrnn.models.networks import recurrent
from fastrnn.models.sampling import Sampler

LEVELS: dict[str, Any] = {kind.level: kind for kind in (Vocabulary, Words, Bytes)}

VALIDATION_STREAMS = 32  # so that its loss does not depend on batch_size

SCORING_STEPS = 1000  # of one call when a text is scored: its overhead vanishes, its memory stays small


@dataclass(kw_only=True, eq=False, repr=False)
class TextGenerator(TakesNetwork):
    """A recurrent network that predicts the next character, and writes text by doing so again and again.

    Characters, or words or bytes, enter the recurrent layers as integers; dropout and a linear layer turn
    what comes out into the logits of the next one (Graves, Generating sequences with recurrent neural
    networks, 2013). Training is truncated BPTT with the state carried on: the text runs as ``batch_size``
    parallel streams in windows of ``bptt_steps`` characters, whose gradients stop at the window's start while
    its state does not. Adam minimises the cross-entropy.

    Parameters
    ----------
    level : {"character", "word", "byte"}
        What a text is made of, and so what counts are of, such as ``bptt_steps``: its characters; its words,
        as `fastrnn.data.Words` cuts them; or the bytes of its UTF-8, which covers every text, and bytes too.
    vocabulary : str, list of str or None
        The characters to know, or the text to take the words from; those of the text by default. A list has
        the characters or words in the order of their tokens, the unknown word first.
    max_vocabulary : int or None
        Of words, know the so many most frequent only, the unknown one included.
    embedding_size : int or None
        Learn a vector of so many numbers for each character, and give it to the recurrent layers. None gives
        these the tokens themselves, each of which has a column of their weights.
    batch_size, bptt_steps : int
        Parallel streams, and steps of a window. A short text is cut into fewer streams, so that each fills a
        window.
    validation_fraction : float
        The part at the end of the text, in [0, 1), that is not trained on.

    Attributes
    ----------
    vocabulary_ : Vocabulary, Words or Bytes
        What the model knows.
    compression_ : Compression or None
        What `compress` has reported of this model; None of one that it has not made.
    history_ : list of dict
        One record per epoch: those of `fastrnn.training.Training`, ``train_bits_per_character`` and
        ``validation_bits_per_character``: of bytes, bits per byte; of words, by their mean length in the
        text.
    best_bits_per_character_ : float or None
        Its score in validation.

    Examples
    --------
    >>> model = TextGenerator(hidden_size=16, epochs=40, batch_size=4, bptt_steps=12, seed=0)
    >>> _ = model.set_params(learning_rate=0.02, validation_fraction=0)
    >>> _ = model.fit("the cat sat on the mat. " * 30)
    >>> model.generate("the cat sat", 13, temperature=0)
    ' on the mat. '
    """

    hidden_size: int = 256
    dropout: float = 0.2
    epochs: int = 20
    bptt_steps: int = 50
    patience: int | None = 5
    level: str = "character"
    vocabulary: str | list[str] | None = None
    max_vocabulary: int | None = None
    embedding_size: int | None = None

    _checks: ClassVar[dict[str, Check]] = {
        **TakesNetwork._checks,
        "bptt_steps": checks.positive_int,
        "level": lambda name, value: checks.one_of(name, value, tuple(LEVELS)),
        "vocabulary": optional(lambda name, value: _symbols(name, value)),
        "max_vocabulary": optional(checks.positive_int),
        "embedding_size": optional(checks.positive_int),
    }

    @classmethod
    def from_network(
        cls, network: Sequential, vocabulary: str | list[str] | Vocabulary | Words | Bytes, **parameters: Any
    ) -> TextGenerator:
        """A model that writes as a network does, which has been trained elsewhere.

        It is a fitted model: it writes, is saved, learns more by `partial_fit`; `network_` gives the network
        away. `fit` begins with the weights that `network` has.

        Parameters
        ----------
        network : fastrnn.Sequential
            From tokens to the logits of the next, at every step. `network_` is a copy of it, time first;
            `Softmax` or `LogSoftmax` at its end, which the model computes itself, is left out.
        vocabulary : str, list of str, Vocabulary, Words or Bytes
            The characters in the order of their tokens, or words with ``level="word"``; or what a model has
            as `vocabulary_`.
        **parameters
            Those of training.

        Returns
        -------
        TextGenerator

        Raises
        ------
        TypeError, ValueError
            If the network does not fit, or a parameter says anything else than it.

        Examples
        --------
        >>> from fastrnn import GRU, Linear, Sequential
        >>> network = Sequential(GRU(4, 8, seed=0), Linear(8, 4, seed=0))
        >>> model = TextGenerator.from_network(network, "abc ")
        >>> len(model.generate("a cab", 20, seed=0))
        20
        """
        if isinstance(vocabulary, (Vocabulary, Words, Bytes)):
            parameters["level"], known = vocabulary.level, vocabulary.symbols
        else:
            known = vocabulary
        if parameters.get("level") != "byte":
            parameters["vocabulary"] = list(_symbols("vocabulary", known))
        told = facts(cls, sequential("network", network))
        model: TextGenerator = cls(**{**told, "network": network, **parameters})._checked_copy()
        model.vocabulary_, model._tokens_per_character = model._vocabulary(""), 1.0
        model._begin()
        return model

    def fit(
        self,
        text: str | bytes,
        *,
        validation_text: str | bytes | None = None,
        checkpoint: Path | None = None,
        resume: Path | None = None,
        callbacks: Callbacks = (),
    ) -> TextGenerator:
        """Learn from a text, forgetting what was learned before.

        Parameters
        ----------
        text : str, or at the level of bytes any buffer of them, such as bytes, `mmap` or a uint8 `np.memmap`
            At least two characters to train on and, with validation, two to validate on. A str costs another
            byte or two for each character, a buffer nothing.
        validation_text : str or bytes, optional
            To validate on, in the place of the end of the text.
        checkpoint, resume, callbacks
            As of `fastrnn.models.SequenceClassifier.fit`: where to write after every epoch; a file so written
            to go on from; functions that are called after every epoch with the model as it is then.

        Returns
        -------
        TextGenerator
            This model.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the text is unusable.
        FloatingPointError
            If training diverges.
        KeyboardInterrupt
            If interrupted: the model has the best weights so far then, or the latest before the first
            validation. After any other error it is what it was before.
        """
        held_out = None if validation_text is None else (validation_text, "validation_text")
        return self._fit((text,), held_out, checkpoint, resume, callbacks)

    def partial_fit(self, text: str | bytes) -> TextGenerator:
        """Learn for one more epoch, with `learning_rate` as it is and no validation.

        The first call learns the vocabulary from its text, as `fit` does, unless `vocabulary` says what
        there is or the level is that of bytes; those after it go on from what has been learned.
        """
        return self._partial_fit((text,))

    def generate(
        self,
        prompt: str | bytes,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Any:
        """Write on from a prompt.

        Parameters
        ----------
        prompt : str, or bytes at the level of bytes
            At least one character, all in the vocabulary.
        n : int
            Number of characters to write; or of words, or of bytes.
        temperature : float
            The logits are divided by it: below 1 the likely becomes likelier, above 1 the unlikely. 0 always
            takes the likeliest character.
        top_k : int, optional
            Choose among the k likeliest characters only.
        top_p : float, optional
            Choose among the fewest likeliest characters that have this probability together, in (0, 1], after
            ``top_k`` if both are given: see `fastrnn.models.sampling.Sampler`.
        seed : int, optional
            The same seed gives the same text.

        Returns
        -------
        str or bytes, as the prompt
            The ``n`` characters that follow the prompt, without the prompt. Bytes that are no UTF-8 become
            U+FFFD in a str.
        """
        empty = b"" if isinstance(prompt, bytes) else ""
        return empty.join(self.stream(prompt, n, temperature, top_k, top_p, seed))

    def stream(
        self,
        prompt: str | bytes,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[Any]:
        """The characters of `generate`, or words or bytes, each as soon as it is written."""
        self._require_fitted("vocabulary_")
        tokens = self._encode(prompt, "prompt")
        n = checks.non_negative_int("n", n)
        return self._write(prompt, tokens, n, Sampler(temperature, top_k, top_p, seed))

    def bits_per_character(self, text: str | bytes) -> float:
        """The mean of -log2 P over the characters of a text, each after all those before it.

        The first character, or word, has nothing before it and is not counted. At the level of bytes a
        character is a byte. Words that the model does not know count as the unknown one.

        Parameters
        ----------
        text : str or bytes
            At least two characters, all in the vocabulary.

        Returns
        -------
        float
        """
        self._require_fitted("vocabulary_")
        tokens = self._encode(text, "text", least=2)
        state, total = None, 0.0
        learner = self._learner()
        for window in _windows(tokens, 1, SCORING_STEPS):
            loss, count, state = learner(window, state, training=False)
            total += loss * count
        first = len(next(Words.split(str(text)))) if isinstance(self.vocabulary_, Words) else 1
        return total / math.log(2) / (self._characters(text, tokens) - first)

    @property
    def best_bits_per_character_(self) -> float | None:
        """The bits per character in validation of the weights kept; None without validation."""
        self._require_fitted("history_")
        if self.best_epoch_ is None:
            return None
        return float(self.history_[self.best_epoch_ - 1]["validation_bits_per_character"])

    def _read(self, text: Any, name: str = "text", *, learn: bool) -> Tokens:
        if learn:
            self.vocabulary_ = self._vocabulary(text)
        tokens = self._encode(text, name, least=2)
        if learn:
            self._tokens_per_character = len(tokens) / self._characters(text, tokens)
        return tokens

    def _encode(self, text: Any, name: str, least: int = 1) -> Tokens:
        """The tokens of a text, of which there must be a few."""
        tokens = self.vocabulary_.encode(text, name)
        if len(tokens) < least:
            level = self.vocabulary_.level
            few = f"one {level}" if least == 1 else f"{least} {level}s"
            raise ValueError(f"{name} must have at least {few}, got {len(tokens)}")
        return tokens

    def _characters(self, text: Any, tokens: Tokens) -> int:
        """What bits are counted by: characters, or bytes."""
        return len(tokens) if isinstance(self.vocabulary_, Bytes) else len(text)

    def _vocabulary(self, text: str) -> Vocabulary | Words | Bytes:
        if self.max_vocabulary is not None and self.level != "word":
            raise ValueError(f'max_vocabulary goes with level="word", got level={self.level!r}')
        if self.level == "byte":
            return Bytes()
        if isinstance(self.vocabulary, list):
            return self._of_symbols(self.vocabulary)
        known = text if self.vocabulary is None else self.vocabulary
        if self.network is not None:
            raise ValueError("vocabulary must be a list, in the order of the network's tokens, with network")
        return Vocabulary(known) if self.level == "character" else Words(known, self.max_vocabulary)

    def _of_symbols(self, symbols: list[str]) -> Vocabulary | Words:
        """The vocabulary of these, in the order of their tokens."""
        if self.level == "word":
            if symbols[0] != Words.UNKNOWN:
                expected = f"begin with the unknown word, {Words.UNKNOWN!r}"
                raise ValueError(f"vocabulary must {expected}, got {symbols[0]!r}")
            words: Words = Words.of(symbols)
            return words
        if long := [each for each in symbols if len(each) != 1]:
            expected = 'of single characters with level="character"'
            raise ValueError(f"vocabulary must be {expected}, got {long[0]!r}")
        characters: Vocabulary = Vocabulary.of("".join(symbols))
        return characters

    def _build(self, rng: np.random.Generator) -> Sequential:
        if self.network is not None:
            return self._adopted(self.network)
        count, layers = len(self.vocabulary_), dict[str, Any]()
        if self.embedding_size is None:
            layers["recurrent"] = recurrent(self, count, rng, tokens=True)
        else:
            layers["embedding"] = Embedding(count, self.embedding_size, dtype=self.dtype, seed=rng)
            layers["recurrent"] = recurrent(self, self.embedding_size, rng)
        layers["dropout"] = Dropout(self.dropout, seed=rng)
        layers["head"] = Linear(layers["recurrent"].output_size, count, dtype=self.dtype, seed=rng)
        return Sequential(**layers)

    def _adopted(self, network: Sequential) -> Sequential:
        """The network that the model was given, if it fits."""
        count = len(self.vocabulary_)
        made = adopted(network, tokens=count, outputs=count, pooled=False)
        try:
            made.stream()
        except ValueError as error:
            raise ValueError(f"network must take one step after the other: {error}") from None
        return made

    def _split(self, tokens: Any) -> tuple[Tokens, Tokens | None]:
        part = self.validation_fraction
        held_out = max(2, round(len(tokens) * part)) if part else 0
        if len(tokens) - held_out < 2:
            least = f"at least {2 + held_out} {self.level}s to train and validate on"
            raise ValueError(f"text must have {least}, got {len(tokens)}")
        cut = len(tokens) - held_out
        return tokens[:cut], tokens[cut:] if held_out else None

    def _loss(self) -> Loss:
        return softmax_cross_entropy

    def _dataset(self, tokens: Any) -> Dataset:
        return Streams(tokens, self.batch_size, self.bptt_steps)

    def _annotate(self, record: dict[str, Any]) -> None:
        for part in ("train", "validation"):
            if f"{part}_loss" in record:
                bits = record[f"{part}_loss"] / math.log(2)
                record[f"{part}_bits_per_character"] = bits * self._tokens_per_character

    def _describe(self, loss: float) -> str:
        return f"{loss / math.log(2) * self._tokens_per_character:.3f} bits"

    def _format(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary_.symbols, "tokens_per_character": self._tokens_per_character}

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        self.vocabulary_ = LEVELS[self.level].of(metadata["vocabulary"])
        self._tokens_per_character = metadata["tokens_per_character"]

    def _write(self, prompt: str | bytes, tokens: Tokens, n: int, sampler: Sampler) -> Iterator[Any]:
        decode = self._decoder(prompt)
        stream = self.network_.stream()
        logits = stream.step_many(tokens[:, None])[-1]
        for left in reversed(range(n)):
            if isinstance(self.vocabulary_, Words):
                logits[0, 0] = -np.inf  # nobody wants to read the unknown word
            token = sampler(logits[0])
            yield decode(token, left == 0)
            logits = stream.step(np.array([token]))

    def _decoder(self, prompt: str | bytes) -> Callable[[int, bool], Any]:
        """From a token, and whether it is the last, to what is written of it."""
        vocabulary = self.vocabulary_
        if isinstance(vocabulary, Bytes) and isinstance(prompt, str):
            utf8 = codecs.getincrementaldecoder("utf-8")("replace")
            return lambda token, last: utf8.decode(vocabulary.decode([token]), last)
        return lambda token, last: vocabulary.decode([token])


def _symbols(name: str, value: Any) -> str | list[str]:
    """A text to take the vocabulary from; or a list of what is in it, each once."""
    if isinstance(value, (str, bytes)):
        return text_argument(name, value)
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value) or not value:
        raise TypeError(f"{name} must be a str or a list of str, got {value!r}")
    twice = [each for each, count in Counter(value).items() if count > 1]
    if twice:
        raise ValueError(f"{name} must have each once, got {twice[0]!r} more than once")
    return list(value)


@dataclass
class Window:
    """Tokens (T, B), those that follow each, and whether they follow those of the window before."""

    x: Tokens
    y: Tokens
    follows: bool
    weights: ClassVar[None] = None  # all count alike

    def __len__(self) -> int:
        return self.y.size

    def part(self, place: int, pieces: int) -> Window | None:
        """See `fastrnn.data.Dataset`."""
        x, y = self.x[:, place::pieces], self.y[:, place::pieces]
        return Window(x, y, self.follows) if y.size else None


@dataclass
class Streams:
    """A text as streams side by side, in windows that follow each other, as a `fastrnn.data.Dataset`.

    A short text is cut into fewer streams, so that each fills a window; the few steps that do not fill the
    streams are left out.
    """

    tokens: Tokens
    batch_size: int
    bptt_steps: int

    @property
    def samples(self) -> int:
        """The symbols of an epoch of training."""
        streams, steps = _shape(self.tokens, self.batch_size, self.bptt_steps)
        return streams * steps

    def batches(self, rng: np.random.Generator | None) -> Iterator[Window]:
        """The windows in their order."""
        streams = VALIDATION_STREAMS if rng is None else self.batch_size
        return _windows(self.tokens, streams, self.bptt_steps)


def _windows(tokens: Tokens, most: int, length: int) -> Iterator[Window]:
    """A text in at most so many streams, in windows of so many steps, which are views."""
    streams, steps = _shape(tokens, most, length)
    x, y = (tokens[first : first + streams * steps].reshape(streams, steps).T for first in (0, 1))
    for start in range(0, steps, length):
        yield Window(x[start : start + length], y[start : start + length], start > 0)


def _shape(tokens: Tokens, most: int, length: int) -> tuple[int, int]:
    """How many streams, and their steps."""
    count = len(tokens) - 1
    streams = min(most, max(1, count // length))
    return streams, count // streams
