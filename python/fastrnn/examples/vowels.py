"""Which of nine men says a vowel: sequences of 7 to 29 steps.

A bidirectional LSTM classifies JapaneseVowels (Kudo, Toyama and Shimbo 1999): twelve cepstral coefficients a
step, 270 utterances to train on and 370 to test on, as published. The data come with aeon.
"""

from __future__ import annotations

import os
import time

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.examples import draw_confusion, draw_losses, needs, print_table, save_figure
from fastrnn.models import SequenceClassifier


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Classify the test set, beside the nearest centroid of each utterance's mean."""
    (X, y), (X_test, y_test) = _data("train"), _data("test")
    start = time.perf_counter()
    model = SequenceClassifier(
        hidden_size=64,
        bidirectional=True,
        pooling="mean",
        layout="NCT",
        dropout=0.3,
        epochs=20 if quick else 100,
        learning_rate=1e-2,
        validation_fraction=0,
        seed=0,
    ).fit(X, y)
    seconds = time.perf_counter() - start
    predicted = model.predict(X_test)
    scores = {
        "accuracy": float(np.mean(predicted == y_test)),
        "centroid": float(np.mean(_nearest_centroid(X, y, X_test) == y_test)),
        "majority": max(float(np.mean(y_test == label)) for label in set(y)),
    }
    print_table(
        ("", "test accuracy", "seconds to train"),
        ("always the commonest speaker", f"{scores['majority']:.1%}", ""),
        ("nearest centroid of the means", f"{scores['centroid']:.1%}", ""),
        ("bidirectional LSTM", f"{scores['accuracy']:.1%}", f"{seconds:.1f}"),
    )
    figure = figures.new(10, 4.5)
    left, right = figure.subplots(1, 2)
    draw_losses(left, model.history_)
    left.set_title("Training")
    draw_confusion(right, y_test, predicted)
    right.set_title(f"Speakers of the test set: {scores['accuracy']:.1%} right")
    save_figure(figure, directory, "vowels")
    return scores


def _data(split: str) -> tuple[list[Array], Array]:
    """Utterances (12, T) and their speakers, "1" to "9"."""
    with needs("aeon"):
        from aeon.datasets import load_japanese_vowels
    X, y = load_japanese_vowels(split=split)
    return list(X), np.asarray(y)


def _nearest_centroid(X: list[Array], y: Array, X_test: list[Array]) -> Array:
    """By the mean over an utterance's steps, each coefficient scaled to deviation 1."""
    means, queries = (np.array([x.mean(axis=1) for x in part]) for part in (X, X_test))
    deviation = means.std(axis=0)
    labels = np.unique(y)
    centroids = np.array([means[y == label].mean(axis=0) for label in labels])
    distances = (((queries[:, None] - centroids) / deviation) ** 2).sum(axis=2)
    nearest: Array = labels[distances.argmin(axis=1)]
    return nearest
