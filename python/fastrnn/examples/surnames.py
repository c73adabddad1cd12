"""Surnames from a first letter: one input, many outputs.

The 88,799 surnames of the package `names` (United States census of 1990), in a random order; a tenth is held
out. `SequenceGenerator` is given the first letter, as a class, and writes the rest. The score is bits per
character of the rest and the end of held-out names. The baseline is an interpolated Witten-Bell n-gram on the
same names, a name per line, which is given the line's beginning and the first letter; its n is the one that
does best on the held-out names.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from fastrnn import figures
from fastrnn.examples import needs, print_table, save_figure
from fastrnn.examples.ngram import NGram
from fastrnn.models import SequenceGenerator

PARAMETERS: dict[str, Any] = {
    "hidden_size": 192,
    "dropout": 0.2,
    "epochs": 12,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "validation_fraction": 0.05,
    "max_seconds": 240,
    "seed": 0,
}
QUICK: dict[str, Any] = {**PARAMETERS, "hidden_size": 64, "epochs": 8, "batch_size": 32}
QUICK_NAMES = 5000
ORDERS = (3, 4, 5, 6)
INITIALS = "AFKMSWZ"


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Train on nine tenths of the names, score the rest, and invent some.

    Parameters
    ----------
    directory : path
        Where ``surnames.png``, the learning curve, and ``surnames.safetensors``, the model, go.
    quick : bool
        Whether to learn from a few names, for seconds, only.

    Returns
    -------
    dict of str to float
        ``bits_per_character`` of the held-out names, ``baseline_bits_per_character``, and ``known``, the
        share of invented names that are among those learned from.
    """
    everyone = surnames()[: QUICK_NAMES if quick else None]
    count = len(everyone) // 10
    held_out, training = everyone[:count], everyone[count:]
    print(f"{len(training):,} names to learn from, {count:,} held out")
    baselines = {order: ngram_bits(order, training, held_out) for order in ORDERS}
    order = min(baselines, key=baselines.__getitem__)
    print(f"the baseline, a Witten-Bell {order}-gram, held out: {baselines[order]:.3f} bits per character")

    model = SequenceGenerator(**QUICK if quick else PARAMETERS)
    model.fit(*parts(training), callbacks=_epoch_ended)
    model.save(os.path.join(directory, "surnames.safetensors"))
    bits = model.bits_per_symbol(*parts(held_out))

    invented = [
        [initial + rest for rest in found]
        for initial, found in zip(INITIALS, model.generate(list(INITIALS), 200, seed=0), strict=True)
    ]
    known = set(training)
    share = sum(name in known for names in invented for name in names) / sum(map(len, invented))
    for names in invented:
        print("  " + ", ".join([name for name in names if name not in known][:8]))
    print(f"of {sum(map(len, invented)):,} names drawn, {share:.0%} are names that it learned from")
    print_table(
        ("held out", "bits per character"),
        (f"{order}-gram", f"{baselines[order]:.3f}"),
        ("fastrnn", f"{bits:.3f}"),
    )
    _plot(model, bits, order, baselines[order], directory)
    return {"bits_per_character": bits, "baseline_bits_per_character": baselines[order], "known": share}


def surnames() -> list[str]:
    """The names, capitalised, in a random order, the same each time."""
    with needs("names"):
        import names
    with open(names.FILES["last"]) as file:
        found = sorted({line.split()[0].capitalize() for line in file if line.strip()})
    return [str(name) for name in np.random.default_rng(0).permutation(found)]


def parts(names: list[str]) -> tuple[list[str], list[str]]:
    """First letters, and what follows them."""
    return [name[0] for name in names], [name[1:] for name in names]


def ngram_bits(order: int, training: list[str], held_out: list[str]) -> float:
    """Bits per character of an n-gram, over all characters of a name and its end but the first."""
    vocabulary = "\n" + "".join(sorted(set("".join(training + held_out))))
    model = NGram("\n" + "\n".join(training) + "\n", order, vocabulary=vocabulary)
    total = sum(
        model.bits_per_character(f"\n{name}\n") * (len(name) + 1) - model.bits_per_character(f"\n{name[0]}")
        for name in held_out
    )
    return total / sum(map(len, held_out))


def _epoch_ended(model: SequenceGenerator) -> None:
    record = model.history_[-1]
    written = ", ".join("S" + rest for rest in model.generate(["S"], 4, seed=1)[0])
    print(
        f"epoch {record['epoch']:3d}  {record['seconds']:5.0f} s  "
        f"{record['samples_per_second']:8,.0f} characters/s  "
        f"bits per character: train {record['train_loss'] / math.log(2):.3f}, "
        f"validation {record['validation_loss'] / math.log(2):.3f}  {written}",
        flush=True,
    )


def _plot(
    model: SequenceGenerator, bits: float, order: int, baseline: float, directory: str | os.PathLike[str]
) -> None:
    figure = figures.new(8, 4.5)
    seconds = [record["seconds"] for record in model.history_]
    bits_then = {
        part: [record[f"{part}_loss"] / math.log(2) for record in model.history_]
        for part in ("train", "validation")
    }
    title = "Surnames, given their first letters"
    figures.learning_curve(figure, seconds, bits_then, bits, baseline, order, title)
    save_figure(figure, directory, "surnames")
