"""A textbook's vanilla RNN learns a sentence, letter by letter.

A program as textbooks have it: three characters in, the next one out, by a layer of 50 units with relu over
one-hot characters, the softmax of a linear layer, categorical cross-entropy, Adam, batches of 32 and 100
epochs, then 50 characters written. Here the characters enter as integers: the layer takes the columns of its
weights that one-hot vectors would select, which are the same numbers. Beside it runs the same program in
Keras, if that is installed, with `KERAS_BACKEND` as the user has set it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.data import Vocabulary
from fastrnn.examples import print_table, save_figure
from fastrnn.layers import RNN, Composite, Linear
from fastrnn.losses import softmax_cross_entropy
from fastrnn.optim import Adam

SENTENCE = "some network reads a few letters, then it guesses which one follows. "
COPIES, CONTEXT, UNITS, BATCH, EPOCHS, WRITTEN = 20, 3, 50, 32, 100, 50


class Outcome(NamedTuple):
    """What a program came to."""

    losses: list[float]  # of each epoch
    seconds: list[float]  # that each epoch took
    text: str  # what was written, the prompt included
    accuracy: float  # of the next character, over the text trained on


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Run the program, and Keras's if it is there; the sentence repeated is all the data there is."""
    epochs = 30 if quick else EPOCHS
    vocabulary = Vocabulary(SENTENCE)
    tokens = vocabulary.encode(SENTENCE * COPIES)
    x = np.lib.stride_tricks.sliding_window_view(tokens, CONTEXT)[:-1]
    y = tokens[CONTEXT:]
    outcomes = {"fastrnn": _fastrnn(x, y, vocabulary, epochs)}
    try:
        outcomes["Keras"] = _keras(x, y, vocabulary, epochs)
    except ImportError as error:
        print(f"Keras is not beside it: {error}; with keras and jax installed, set KERAS_BACKEND=jax")
    baseline = float(np.bincount(y).max() / len(y))
    _report(outcomes, len(y), baseline)
    _draw(outcomes, directory)
    ours = outcomes["fastrnn"]
    return {"accuracy": ours.accuracy, "baseline": baseline, "samples_per_second": _speed(ours, len(y))}


def _fastrnn(x: Array, y: Array, vocabulary: Vocabulary, epochs: int) -> Outcome:
    rng = np.random.default_rng(0)
    layer = RNN(len(vocabulary), UNITS, nonlinearity="relu", seed=rng)
    head = Linear(UNITS, len(vocabulary), seed=rng)
    network = Composite(recurrent=layer, head=head)
    optimizer = Adam(network.parameters, lr=1e-3)

    def epoch() -> Iterator[float]:
        for rows in np.array_split(rng.permutation(len(y)), range(BATCH, len(y), BATCH)):
            _, h, layer_back = layer.forward(x[rows].T)
            logits, head_back = head.forward(h[0])
            loss, dlogits = softmax_cross_entropy(logits, y[rows])
            layer_back(None, head_back(dlogits)[None])
            optimizer.step(network.take_gradients())
            yield loss * len(rows)

    losses, seconds = [], []
    for _ in range(epochs):
        start = time.perf_counter()
        losses.append(sum(epoch()) / len(y))
        seconds.append(time.perf_counter() - start)

    def guess(contexts: Array) -> Array:
        best: Array = head(layer(contexts.T)[1][0]).argmax(axis=-1)
        return best

    text = SENTENCE[:CONTEXT]
    for _ in range(WRITTEN):
        text += vocabulary.decode(guess(vocabulary.encode(text[-CONTEXT:])[None]))
    return Outcome(losses, seconds, text, float(np.mean(guess(x) == y)))


def _keras(x: Array, y: Array, vocabulary: Vocabulary, epochs: int) -> Outcome:
    import keras

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            seconds.append(time.perf_counter() - self.start)

    seconds: list[float] = []
    one_hot = np.eye(len(vocabulary), dtype="float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((CONTEXT, len(vocabulary))),
            keras.layers.SimpleRNN(UNITS, activation="relu"),
            keras.layers.Dense(len(vocabulary), activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy")
    history = model.fit(one_hot[x], one_hot[y], epochs=epochs, verbose=0, callbacks=[Clock()]).history

    text = SENTENCE[:CONTEXT]
    for _ in range(WRITTEN):
        context = one_hot[vocabulary.encode(text[-CONTEXT:])[None]]
        text += vocabulary.decode(model.predict_on_batch(context).argmax(axis=-1))
    right = model.predict(one_hot[x], verbose=0).argmax(axis=-1) == y
    return Outcome(history["loss"], seconds, text, float(np.mean(right)))


def _speed(outcome: Outcome, samples: int) -> float:
    """Samples per second, without the first epoch, in which Keras compiles."""
    return samples * (len(outcome.seconds) - 1) / sum(outcome.seconds[1:])


def _report(outcomes: dict[str, Outcome], samples: int, baseline: float) -> None:
    print_table(
        ("", "next character right", "seconds", "samples/s after epoch 1"),
        ("always the commonest character", f"{baseline:.1%}", "", ""),
        *(
            (name, f"{o.accuracy:.1%}", f"{sum(o.seconds):.2f}", f"{_speed(o, samples):,.0f}")
            for name, o in outcomes.items()
        ),
    )
    for name, outcome in outcomes.items():
        print(f"{name} writes: {outcome.text!r}")


def _draw(outcomes: dict[str, Outcome], directory: str | os.PathLike[str]) -> None:
    figure = figures.new(8, 4.5)
    axes = figure.add_subplot()
    for name, outcome in outcomes.items():
        axes.plot(range(1, len(outcome.losses) + 1), outcome.losses, label=name)
    written = "\n".join(f"{name} writes: {outcome.text}" for name, outcome in outcomes.items())
    axes.text(0.98, 0.95, written, fontsize="small", ha="right", va="top", transform=axes.transAxes)
    axes.set(xlabel="epoch", ylabel="cross-entropy, nats per character", yscale="log")
    axes.set_title("A vanilla RNN of 50 units learns a sentence, three characters at a time")
    if len(outcomes) > 1:
        axes.legend(loc="lower left")
    save_figure(figure, directory, "textbook")
