"""Handwritten digits read row by row: 8 steps of 8 pixels.

A bidirectional LSTM classifies the 1,797 digits of scikit-learn (Alpaydin and Kaynak 1998), of which a
quarter, with as much of each digit, is the test set.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

import numpy as np

from fastrnn import figures
from fastrnn.examples import draw_losses, needs, print_table, save_figure
from fastrnn.models import SequenceClassifier

SHOWN = 10  # of the digits misread


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Classify the test set, beside logistic regression of the 64 pixels."""
    with needs("scikit-learn"):
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
    digits = load_digits()
    images = (digits.images / 16).astype("float32")
    X, X_test, y, y_test = train_test_split(
        images, digits.target, test_size=0.25, stratify=digits.target, random_state=0
    )
    baseline = LogisticRegression(max_iter=1000).fit(X.reshape(-1, 64), y)

    start = time.perf_counter()
    model = SequenceClassifier(
        hidden_size=64,
        bidirectional=True,
        dropout=0.2,
        epochs=8 if quick else 40,
        learning_rate=1e-2,
        seed=0,
    ).fit(X, y)
    seconds = time.perf_counter() - start
    predicted = model.predict(X_test)
    scores = {
        "accuracy": float(np.mean(predicted == y_test)),
        "baseline": float(baseline.score(X_test.reshape(-1, 64), y_test)),
    }
    print_table(
        ("", "test accuracy", "seconds to train"),
        ("logistic regression", f"{scores['baseline']:.1%}", ""),
        ("bidirectional LSTM", f"{scores['accuracy']:.1%}", f"{seconds:.1f}"),
    )
    figure = figures.new(10, 4.5)
    parts: Any = figure.subfigures(1, 2)
    left, right = parts
    axes = left.subplots()
    draw_losses(axes, model.history_)
    wrong = np.flatnonzero(predicted != y_test)
    axes.set_title(f"{len(y_test) - len(wrong)} of {len(y_test)} in the test set are read rightly")
    shown = wrong[:SHOWN]
    right.suptitle(f"{'All' if len(shown) == len(wrong) else 'Some'} of the {len(wrong)} that are misread")
    columns = -(-len(shown) // 2) or 1
    for place, cell in itertools.zip_longest(shown, right.subplots(2, columns, squeeze=False).flat):
        cell.axis("off")
        if place is not None:
            cell.imshow(X_test[place], cmap="Greys")
            cell.set_title(f"{y_test[place]} as {predicted[place]}", fontsize="small")
    save_figure(figure, directory, "digits")
    return scores
