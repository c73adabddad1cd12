"""The demo: an LSTM learns to write from the English prose in every CPython, in two minutes."""

from __future__ import annotations

import os
import time
from typing import Any

from fastrnn import checkpoint, figures
from fastrnn.data import Vocabulary
from fastrnn.examples.ngram import NGram
from fastrnn.models.text import TextGenerator

PARAMETERS = {
    "hidden_size": 192,
    "num_layers": 2,
    "dropout": 0.25,
    "epochs": 8,
    "bptt_steps": 32,
    "learning_rate": 1e-2,
    "clip_norm": 0.3,
    "validation_fraction": 0.05,
    "max_seconds": 95,
    "seed": 1,
}

SAMPLED_EPOCHS = (1, 3)  # early on is when the writing changes most


def run(directory: str) -> None:
    """Train, compare with the n-gram baseline, and leave ``model.safetensors`` and ``learning_curve.png``.

    The last tenth of the text is held out: neither model sees it before its score is taken, but for the set
    of its characters, which both know. The weights to keep are chosen on text from the first nine tenths.

    Parameters
    ----------
    directory : str
        Where to write; made if it does not exist.
    """
    start = time.perf_counter()
    os.makedirs(directory, exist_ok=True)
    path, figure = (os.path.join(directory, name) for name in ("model.safetensors", "learning_curve.png"))
    for wanted in (path, figure):
        checkpoint.require_writable(wanted)
    text = prose()
    training, held_out = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    characters = Vocabulary(text).symbols
    print(f"{len(text):,} characters of Python's help topics, {len(characters)} different ones")
    baseline = NGram(training, vocabulary=characters).bits_per_character(held_out)
    print(f"the baseline, a Witten-Bell 5-gram, held out: {baseline:.3f} bits per character")

    model = generator(characters)
    untrained = generator(characters, epochs=0).fit(training)
    _show_sample("before training", untrained)
    model.fit(training, callbacks=_epoch_ended)
    model.save(path)
    score = model.bits_per_character(held_out)
    _show_sample("after training", model)

    last = model.history_[-1]
    print(f"held out: {score:.3f} bits per character; the baseline: {baseline:.3f}")
    print(f"trained at {last['samples'] / last['seconds']:,.0f} characters/s, validation included")
    print(f"the model is in {path}")
    _plot(model, score, baseline, figure)
    print(f"all of it took {time.perf_counter() - start:.0f} seconds")


def prose() -> str:
    """The help topics of `pydoc`, in sorted order: some 465,000 characters of English about Python."""
    from pydoc_data.topics import topics

    return "".join(topics[name] for name in sorted(topics))


def generator(characters: str, **changed: Any) -> TextGenerator:
    """The demo's model, not yet fitted, with some parameters changed."""
    return TextGenerator(vocabulary=characters, verbose=True, **{**PARAMETERS, **changed})


def _epoch_ended(model: TextGenerator) -> None:
    if len(model.history_) in SAMPLED_EPOCHS:
        _show_sample(f"after {model.history_[-1]['seconds']:.0f} seconds", model)


def _show_sample(when: str, model: TextGenerator) -> None:
    prompt = "The "
    text = prompt + model.generate(prompt, 300, temperature=0.7, seed=1)
    print(f"\n--- {when} ---\n{text}\n---\n", flush=True)


def _plot(model: TextGenerator, score: float, baseline: float, path: str) -> None:
    """The learning curve, as a PNG, where there is matplotlib."""
    try:
        figure = figures.new(8, 4.5)
    except ImportError as error:
        print(error)
        return
    seconds = [record["seconds"] for record in model.history_]
    bits = {
        part: [record[f"{part}_bits_per_character"] for record in model.history_]
        for part in ("train", "validation")
    }
    with figures.style():
        title = "An LSTM learns to write Python's help"
        figures.learning_curve(figure, seconds, bits, score, baseline, 5, title)
        figures.save(figure, path)
    print(f"the learning curve is in {path}")
