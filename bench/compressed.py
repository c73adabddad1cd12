"""What weights of fewer bits cost in accuracy: of models of the examples, on data that they have not seen.

`python bench/compressed.py FOLDER` trains those whose files are not in the folder yet, in some minutes on two
cores, and prints a table of their metrics in each format.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.demo import prose
from fastrnn.examples import load as electricity
from fastrnn.examples import pronunciation
from fastrnn.metrics import mase
from fastrnn.models import Forecaster, SequenceClassifier, SequenceToSequence, TextGenerator

FORMATS: dict[str, dict[str, Any]] = {
    "float16": {},
    "bfloat16": {},
    "int8": {},
    "int8, activations of 8 bits": {"weights": "int8", "activations": 8},
}
HELD_OUT = 40_000  # characters of the text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the trained models' files")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MODELS)} (default: all)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| model | metric | float32 |", " | ".join(FORMATS), "|")
    print("|---|---|--:|" + "--:|" * len(FORMATS), flush=True)
    for name in options.names or MODELS:
        what, train, metric = MODELS[name]
        path = options.folder / f"{name}.safetensors"
        if not path.exists():
            start = time.perf_counter()
            train().save(path)
            print(f"{name}: trained for {time.perf_counter() - start:.0f} s", flush=True)
        model = fastrnn.load(path)
        usual = metric(model)
        row = [f"{usual:.5g}"]
        for format, given in FORMATS.items():
            found = metric(model.compress(**{"weights": format, **given}))
            row.append(f"{found:.5g} ({found / usual - 1:+.2%})")
        print(f"| {name} | {what} | {' | '.join(row)} |", flush=True)


def text_model() -> Any:
    model = TextGenerator(hidden_size=256, batch_size=32, bptt_steps=64, max_steps=1000, seed=0)
    return model.fit(prose()[:-HELD_OUT])


def bits(model: Any) -> float:
    known = set(model.vocabulary_.symbols)
    return float(model.bits_per_character("".join(c for c in prose()[-HELD_OUT:] if c in known)))


@functools.cache
def words() -> Any:
    return pronunciation.split(pronunciation.dictionary())


def pronouncing_model() -> Any:
    training, _ = words()
    first = [spoken for spoken, *_ in training.values()]
    return SequenceToSequence(**pronunciation.PARAMETERS).fit(list(training), first)


def phonemes_wrong(model: Any) -> float:
    _, held_out = words()
    return pronunciation.errors(held_out, model.predict(list(held_out)))[0]


@functools.cache
def demand() -> tuple[Any, range]:
    y = electricity._data()
    return y, range(len(y) - electricity.TEST_DAYS * electricity.DAY, len(y), electricity.DAY)


def forecasting_model() -> Any:
    y, origins = demand()
    day, week = electricity.DAY, electricity.WEEK
    sizes: dict[str, Any] = {"horizon": day, "context": 2 * day, "lags": (day, week), "hidden_size": 64}
    options: dict[str, Any] = {"quantiles": (0.1, 0.5, 0.9), "cell": "gru", "dropout": 0.3, "max_steps": 600}
    return Forecaster(**sizes, **options, validation_fraction=0.4, seed=0).fit(y[: origins[0]])


def scaled_error(model: Any) -> float:
    y, origins = demand()
    forecasts = np.concatenate(model.predict([y[:t] for t in origins]))
    return float(mase(y[origins[0] :], forecasts, y[: origins[0]], season=electricity.WEEK))


@functools.cache
def digits() -> Any:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    images = (found.images / 16).astype("float32")
    return train_test_split(images, found.target, test_size=0.25, stratify=found.target, random_state=0)


def reading_model() -> Any:
    X, _, y, _ = digits()
    options: dict[str, Any] = {"hidden_size": 64, "bidirectional": True, "dropout": 0.2, "epochs": 40}
    return SequenceClassifier(**options, learning_rate=1e-2, seed=0).fit(X, y)


def read_rightly(model: Any) -> float:
    _, X, _, y = digits()
    return float(model.score(X, y))


Model = tuple[str, Callable[[], Any], Callable[[Any], float]]
MODELS: dict[str, Model] = {
    "digits": ("accuracy", reading_model, read_rightly),
    "load": ("MASE", forecasting_model, scaled_error),
    "text": ("bits per character", text_model, bits),
    "pronunciation": ("phonemes wrong", pronouncing_model, phonemes_wrong),
}

if __name__ == "__main__":
    main()
