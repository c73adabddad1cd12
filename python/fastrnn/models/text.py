"""A character-level language model: it learns to write as the text it was given."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn import checkpoint, checks
from fastrnn.checks import Array
from fastrnn.data import Vocabulary, Windows, nonempty_text, text_argument
from fastrnn.layers import GRU, LSTM, RNN, Dropout, Linear
from fastrnn.losses import softmax_cross_entropy
from fastrnn.models.parameters import Estimator
from fastrnn.optim import Adam
from fastrnn.training import Trainer

CELLS: dict[str, type[LSTM | GRU | RNN]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}

SCORING_STEPS = 1000  # of one call when a text is scored: its overhead vanishes, its memory stays small


class TextGenerator(Estimator):
    """A recurrent network that predicts the next character, and writes text by doing so again and again.

    Characters enter the recurrent layers as integers; dropout and a linear layer turn what comes out into the
    logits of the next character (Graves, Generating sequences with recurrent neural networks, 2013).
    Training is truncated BPTT with the state carried on: the text runs as ``batch_size`` parallel streams in
    windows of ``bptt_steps`` characters, whose gradients stop at the window's start while its state does
    not. Adam minimises the cross-entropy; see `fastrnn.training.Trainer` for the learning rate's schedule.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
        The recurrent cell; "rnn" is the vanilla one with tanh.
    hidden_size, num_layers : int
        Units in a layer, and layers.
    dropout : float
        The part of each layer's outputs that is dropped in training, in [0, 1).
    epochs : int
        Passes over the text at most. With 0 the weights keep their initial values.
    batch_size, bptt_steps : int
        Parallel streams, and steps of a window. A short text is cut into fewer streams, so that each fills a
        window.
    learning_rate : float
        Adam's, at the start.
    clip_norm : float or None
        Gradients of a greater norm are scaled down to it.
    validation_fraction : float
        The part at the end of the text, in [0, 1), that is not trained on. After every epoch it is scored,
        and the weights that score best are kept. With 0 there is no validation, and the last weights are
        kept.
    patience : int or None
        Training stops after so many epochs without a better score.
    max_seconds : float or None
        Training stops after so many seconds, and the learning rate falls accordingly. What comes out depends
        on the machine's speed then; without it, one ``seed`` gives the same model again.
    vocabulary : str or None
        The characters to know; those of the text by default.
    dtype : {"float32", "float64"}
        Of weights and computation.
    seed : int or None
        For initial weights and dropout. None takes fresh randomness.
    verbose : bool
        Show a progress bar if standard error is a terminal; it needs tqdm.

    Attributes
    ----------
    vocabulary_ : Vocabulary
        The characters the model knows.
    history_ : list of dict
        One record per epoch: those of `fastrnn.training.Trainer`, ``train_bits_per_character`` and
        ``validation_bits_per_character``.
    best_epoch_ : int or None
        The epoch the weights are from; None without validation.
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

    def __init__(
        self,
        *,
        cell: str = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        dropout: float = 0.2,
        epochs: int = 20,
        batch_size: int = 32,
        bptt_steps: int = 50,
        learning_rate: float = 5e-3,
        clip_norm: float | None = 1.0,
        validation_fraction: float = 0.1,
        patience: int | None = 5,
        max_seconds: float | None = None,
        vocabulary: str | None = None,
        dtype: str = "float32",
        seed: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.bptt_steps = bptt_steps
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.max_seconds = max_seconds
        self.vocabulary = vocabulary
        self.dtype = dtype
        self.seed = seed
        self.verbose = verbose

    def fit(self, text: str, *, on_epoch: Callable[[TextGenerator], None] | None = None) -> TextGenerator:
        """Learn from a text.

        Parameters
        ----------
        text : str
            At least two characters to train on and, with validation, two to validate on.
        on_epoch : callable, optional
            Called after every epoch with the model as it is then, which can generate, score and save.

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
        params = {name: _checked(name, value) for name, value in self.get_params().items()}
        training, validation = _split(nonempty_text("text", text), params["validation_fraction"])
        model = type(self)(**params)
        model._build(Vocabulary(text if model.vocabulary is None else model.vocabulary))
        try:
            model._train(training, validation, on_epoch)
        except KeyboardInterrupt:
            self._become(model)
            raise
        return self._become(model)

    def generate(
        self,
        prompt: str,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """Write on from a prompt.

        Parameters
        ----------
        prompt : str
            At least one character, all in the vocabulary.
        n : int
            Number of characters to write.
        temperature : float
            The logits are divided by it: below 1 the likely becomes likelier, above 1 the unlikely. 0 always
            takes the likeliest character.
        top_k : int, optional
            Choose among the k likeliest characters only.
        top_p : float, optional
            Choose among the fewest likeliest characters that have this probability together, in (0, 1]
            (Holtzman et al., The curious case of neural text degeneration, 2020), after ``top_k`` if both
            are given.
        seed : int, optional
            The same seed gives the same text.

        Returns
        -------
        str
            The ``n`` characters that follow the prompt, without the prompt.
        """
        return "".join(self.stream(prompt, n, temperature, top_k, top_p, seed))

    def stream(
        self,
        prompt: str,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """The characters of `generate`, each as soon as it is written."""
        self._require_fitted("vocabulary_")
        tokens = self.vocabulary_.encode(nonempty_text("prompt", prompt), "prompt")
        n = checks.non_negative_int("n", n)
        temperature = checks.non_negative_float("temperature", temperature)
        top_k = None if top_k is None else checks.positive_int("top_k", top_k)
        top_p = None if top_p is None else _positive_probability("top_p", top_p)
        rng = np.random.default_rng(None if seed is None else checks.non_negative_int("seed", seed))
        return self._write(tokens, n, temperature, top_k, top_p, rng)

    def bits_per_character(self, text: str) -> float:
        """The mean of -log2 P over the characters of a text, each after all those before it.

        The first character has nothing before it and is not counted.

        Parameters
        ----------
        text : str
            At least two characters, all in the vocabulary.

        Returns
        -------
        float
        """
        self._require_fitted("vocabulary_")
        tokens = self.vocabulary_.encode(text)
        if len(tokens) < 2:
            raise ValueError(f"text must have at least 2 characters, got {len(tokens)}")
        return _mean_loss(self._network, Windows(tokens, 1, SCORING_STEPS)) / math.log(2)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a safetensors file, in one step: see `fastrnn.checkpoint.save`."""
        self._require_fitted("vocabulary_")
        metadata = {
            "model": "TextGenerator",
            "parameters": self._fitted_with,
            "vocabulary": self.vocabulary_.characters,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
        }
        checkpoint.save(path, self._network.parameters, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextGenerator:
        """The model that `save` wrote.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is damaged, or holds anything else.
        """
        tensors, metadata = checkpoint.load(path)
        if metadata.get("model") != "TextGenerator":
            raise ValueError(f"{os.fspath(path)!r} holds no TextGenerator, but {metadata.get('model')!r}")
        try:
            model = cls(**metadata["parameters"])
            model._build(Vocabulary(metadata["vocabulary"]))
            model._network.load(tensors)
            model.history_, model.best_epoch_ = metadata["history"], metadata["best_epoch"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)!r} holds an inconsistent TextGenerator: {error}") from None
        return model

    @property
    def best_bits_per_character_(self) -> float | None:
        """The bits per character in validation of the weights kept; None without validation."""
        self._require_fitted("history_")
        if self.best_epoch_ is None:
            return None
        return float(self.history_[self.best_epoch_ - 1]["validation_bits_per_character"])

    def _build(self, vocabulary: Vocabulary) -> None:
        """An untrained network for a vocabulary, by parameters that have been checked."""
        self.vocabulary_ = vocabulary
        self.history_: list[dict[str, Any]] = []
        self.best_epoch_: int | None = None
        self._fitted_with = self.get_params()
        self._network = CharacterNetwork(
            self.cell, len(vocabulary), self.hidden_size, self.num_layers, self.dropout, self.dtype, self.seed
        )

    def _train(
        self, training: str, validation: str, on_epoch: Callable[[TextGenerator], None] | None
    ) -> None:
        network = self._network
        windows = self._windows(training)
        trainer = Trainer(
            network,
            Adam(network.parameters, self.learning_rate),
            epochs=self.epochs,
            clip_norm=self.clip_norm,
            patience=self.patience,
            max_seconds=self.max_seconds,
            describe=_describe if self.verbose else None,
            unit="character",
        )

        def epoch_ended() -> None:
            self.history_, self.best_epoch_ = trainer.history, trainer.best_epoch
            _add_bits(trainer.history[-1])
            if on_epoch is not None:
                on_epoch(self)

        held_out = self._windows(validation) if validation else None
        validate = None if held_out is None else lambda: _mean_loss(network, held_out)
        trainer.run(lambda: _training_steps(network, windows), windows.targets, validate, epoch_ended)

    def _windows(self, text: str) -> Windows:
        tokens = self.vocabulary_.encode(text)
        streams = min(self.batch_size, max(1, (len(tokens) - 1) // self.bptt_steps))
        return Windows(tokens, streams, self.bptt_steps)

    def _become(self, other: TextGenerator) -> TextGenerator:
        learned = other.__dict__.keys() - other.get_params()
        self.__dict__.update((name, other.__dict__[name]) for name in learned)
        return self

    def _write(
        self,
        tokens: Array,
        n: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        rng: np.random.Generator,
    ) -> Iterator[str]:
        stream = self._network.recurrent.stream()
        hidden = stream.step_many(tokens[:, None])[-1]
        for _ in range(n):
            token = _choose(self._network.head(hidden)[0], temperature, top_k, top_p, rng)
            yield self.vocabulary_.characters[token]
            hidden = stream.step(np.array([token]))


class CharacterNetwork:
    """Tokens through recurrent layers, dropout and a linear layer to the logits of the next token.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
    vocabulary_size, hidden_size, num_layers : int
        V, H and L.
    dropout : float
        After every recurrent layer.
    dtype : str
    seed : int or None

    Attributes
    ----------
    parameters : dict of str to ndarray
        All arrays to train, named as ``recurrent.weight_ih_l0`` and ``head.bias``.
    """

    def __init__(
        self,
        cell: str,
        vocabulary_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        dtype: str,
        seed: int | None,
    ) -> None:
        rng = np.random.default_rng(seed)
        layer, between = CELLS[cell], dropout if num_layers > 1 else 0.0
        self.recurrent = layer(
            vocabulary_size, hidden_size, num_layers, dropout=between, dtype=dtype, seed=rng
        )
        # The layer's initial values, up to 1 / sqrt(H), suppose some H active inputs; a token is just one.
        self.recurrent.parameters["weight_ih_l0"] *= math.sqrt(hidden_size)
        self.dropout = Dropout(dropout, seed=rng)
        self.head = Linear(hidden_size, vocabulary_size, dtype=dtype, seed=rng)
        self.parameters = self._named(self.recurrent.parameters, self.head.parameters)

    @property
    def gradients(self) -> dict[str, Array]:
        """What the last `backward` computed, by the parameters' names."""
        return self._named(self.recurrent.gradients, self.head.gradients)

    def __call__(self, tokens: Array, state: Any = None) -> tuple[Array, Any]:
        """Logits (T, B, V) after tokens (T, B), and the state to go on from. Without dropout."""
        hidden, state = self.recurrent(tokens, state)
        return self.head(hidden), state

    def forward(self, tokens: Array, state: Any = None) -> tuple[Array, Any]:
        """As a call, with dropout, keeping what `backward` needs."""
        hidden, state = self.recurrent.forward(tokens, state)
        return self.head.forward(self.dropout.forward(hidden)), state

    def backward(self, dlogits: Array) -> None:
        """Compute `gradients` from the loss's gradient (T, B, V)."""
        self.recurrent.backward(self.dropout.backward(self.head.backward(dlogits)))

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Take over arrays by the names in `parameters`; a ValueError if they are not exactly those."""
        for name, array in checks.matching_arrays("tensors", tensors, self.parameters).items():
            self.parameters[name][...] = array

    @staticmethod
    def _named(recurrent: Mapping[str, Array], head: Mapping[str, Array]) -> dict[str, Array]:
        names = {f"recurrent.{name}": array for name, array in recurrent.items()}
        return names | {f"head.{name}": array for name, array in head.items()}


def _training_steps(network: CharacterNetwork, windows: Windows) -> Iterator[tuple[float, int]]:
    """One epoch of stateful truncated BPTT."""
    state = None
    for inputs, targets in windows:
        logits, state = network.forward(inputs, state)
        loss, dlogits = softmax_cross_entropy(logits, targets)
        network.backward(dlogits)
        yield loss, targets.size


def _mean_loss(network: CharacterNetwork, windows: Windows) -> float:
    """The mean cross-entropy in nats, with the state carried through the windows."""
    state, total = None, 0.0
    for inputs, targets in windows:
        logits, state = network(inputs, state)
        total += softmax_cross_entropy(logits, targets)[0] * targets.size
    return total / windows.targets


def _choose(
    logits: Array, temperature: float, top_k: int | None, top_p: float | None, rng: np.random.Generator
) -> int:
    """A token drawn by logits (V,)."""
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # at a temperature next to 0 the unlikely goes to -inf, as it should
        scores = (logits.astype(np.float64) - logits.max()) / temperature
    order = np.argsort(-scores, kind="stable")[:top_k]
    cumulated = np.cumsum(np.exp(scores[order]))
    if top_p is not None:
        cumulated = cumulated[: np.searchsorted(cumulated, top_p * cumulated[-1]) + 1]
    return int(order[np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")])


def _split(text: str, fraction: float) -> tuple[str, str]:
    """The part to train on and the part to validate on, which is empty if the fraction is 0."""
    held_out = max(2, round(len(text) * fraction)) if fraction else 0
    if len(text) - held_out < 2:
        raise ValueError(
            f"text must have at least {2 + held_out} characters to train and validate on, got {len(text)}"
        )
    return text[: len(text) - held_out], text[len(text) - held_out :]


def _add_bits(record: dict[str, Any]) -> None:
    for part in ("train", "validation"):
        if f"{part}_loss" in record:
            record[f"{part}_bits_per_character"] = record[f"{part}_loss"] / math.log(2)


def _describe(loss: float) -> str:
    return f"loss {loss:.3f}, {loss / math.log(2):.3f} bits per character"


def _positive_probability(name: str, value: object) -> float:
    part = checks.probability(name, value)
    if part == 0:
        raise ValueError(f"{name} must be greater than 0, got {value}")
    return part


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "cell": lambda name, value: checks.one_of(name, value, tuple(CELLS)),
    "hidden_size": checks.positive_int,
    "num_layers": checks.positive_int,
    "dropout": checks.fraction,
    "epochs": checks.non_negative_int,
    "batch_size": checks.positive_int,
    "bptt_steps": checks.positive_int,
    "learning_rate": checks.positive_float,
    "clip_norm": checks.positive_float,
    "validation_fraction": checks.fraction,
    "patience": checks.positive_int,
    "max_seconds": checks.positive_float,
    "vocabulary": text_argument,
    "dtype": lambda name, value: checks.float_dtype(name, value).name,
    "seed": checks.non_negative_int,
    "verbose": checks.boolean,
}
_OPTIONAL = ("clip_norm", "patience", "max_seconds", "vocabulary", "seed")


def _checked(name: str, value: Any) -> Any:
    """A parameter as plain Python, which JSON can express, or an error that names it."""
    return None if value is None and name in _OPTIONAL else _CHECKS[name](name, value)
