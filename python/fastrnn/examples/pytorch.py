"""A program in PyTorch as it is, and faster by one line.

The program learns to highlight the syntax of Python. It is shown lines of the standard library, character by
character, and says of each what it belongs to, as `tokenize` has it: an embedding, two layers of a
bidirectional GRU with dropout between them, and a linear layer, trained by Adam on batches of packed lines.
It runs twice from the same weights with the same batches: as it is, and with
``fastrnn.torch.accelerate(model)``. The baseline says of each character what it is most often. This example
needs PyTorch, which the extra ``fastrnn[torch]`` has.
"""

from __future__ import annotations

import itertools
import keyword
import os
import sysconfig
import time
import tokenize
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.examples import needs, print_table, save_figure

KINDS = ("space", "name", "keyword", "string", "comment", "number", "operator")
COLOURS = ("0.5", "black", *figures.COLOURS[:5])  # of the kinds, in the figure
OF_TOKENS = {
    tokenize.NAME: "name",
    tokenize.STRING: "string",
    tokenize.COMMENT: "comment",
    tokenize.NUMBER: "number",
    tokenize.OP: "operator",
    **{getattr(tokenize, f"FSTRING_{part}", None): "string" for part in ("START", "MIDDLE", "END")},
}

LEARNED = "argparse", "calendar", "configparser", "inspect", "shutil", "socket", "statistics", "typing"
HELD_OUT = "heapq", "textwrap"
LONGEST = 100  # characters of a line
SHOWN = "def heappush(heap, item):", 16  # in the figure: from this line on, so many

STEPS, QUICK_STEPS = 100, 10
BATCH = 32
HIDDEN = 64


class Line(NamedTuple):
    """A line of a program, and the place in `KINDS` of what each of its characters is."""

    text: str
    kinds: Array

    @property
    def codes(self) -> Array:
        """The characters as numbers below 128, the last one for all that are not ASCII."""
        return np.array([min(ord(character), 127) for character in self.text])


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Run the program both ways, and let what it has learned highlight a module that it has not seen.

    Parameters
    ----------
    directory : path
        Where ``pytorch.png``, the losses by the seconds of training and a highlighted text, goes.
    quick : bool
        Whether to take a few steps only.

    Returns
    -------
    dict of str to float
        ``times_as_fast`` the accelerated program trained; ``largest_difference`` of the two programs' losses;
        ``accuracy`` of the accelerated one on the characters of the modules held out, and ``baseline``.
    """
    with needs("torch", "torch"):
        import torch
    learned, held_out = read(LEARNED[:2] if quick else LEARNED), read(HELD_OUT)
    truth = np.concatenate([line.kinds for line in held_out])
    threads = torch.get_num_threads()
    print(f"{len(learned):,} lines to learn from, {len(held_out):,} held out; {threads} thread(s)")

    steps = QUICK_STEPS if quick else STEPS
    program(learned, 2, accelerated=False)  # once for what PyTorch loads at the first step
    losses, seconds, rows = {}, {}, []
    for name, accelerated in (("as it is", False), ("accelerated", True)):
        model, losses[name], took = program(learned, steps, accelerated=accelerated)
        predicted = highlight(model, held_out)
        accuracy = float(np.mean(np.concatenate(predicted) == truth))
        seconds[name] = np.cumsum(took)
        numbers = f"{took.sum():.1f}", f"{np.median(took) * 1e3:.1f}", f"{losses[name][-1]:.5f}"
        rows.append((name, *numbers, f"{accuracy:.2%}"))
    scores = {
        "times_as_fast": float(seconds["as it is"][-1] / seconds["accelerated"][-1]),
        "largest_difference": float(np.abs(losses["as it is"] - losses["accelerated"]).max()),
        "accuracy": accuracy,
        "baseline": baseline(learned, held_out),
    }
    print_table(
        (f"{steps} steps", "seconds", "ms for a step", "last loss", "test accuracy"),
        *rows,
        ("baseline", "", "", "", f"{scores['baseline']:.2%}"),
    )
    print(
        f"{scores['times_as_fast']:.1f} times as fast; in no step did the losses differ by more than "
        f"{scores['largest_difference']:.0e}"
    )
    first = [line.text for line in held_out].index(SHOWN[0])
    shown = slice(first, first + SHOWN[1])
    _plot(losses, seconds, held_out[shown], predicted[shown], scores, directory)
    return scores


def program(lines: list[Line], steps: int, *, accelerated: bool) -> tuple[Any, Array, Array]:
    """The program: the model, the losses, and the seconds of each step."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import PackedSequence, pack_sequence

    class Highlighter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(128, 64)
            self.gru = nn.GRU(64, HIDDEN, num_layers=2, bidirectional=True, dropout=0.1)
            self.head = nn.Linear(2 * HIDDEN, len(KINDS))

        def forward(self, packed: PackedSequence) -> torch.Tensor:
            vectors = PackedSequence(self.embedding(packed.data), *packed[1:])
            hidden, _ = self.gru(vectors)
            return self.head(hidden.data)

    def batch(lines: list[Line]) -> list[PackedSequence]:
        rows = [torch.tensor(line.codes) for line in lines], [torch.tensor(line.kinds) for line in lines]
        return [pack_sequence(row, enforce_sorted=False) for row in rows]

    torch.manual_seed(0)
    model = Highlighter()
    if accelerated:
        import fastrnn.torch

        print(fastrnn.torch.accelerate(model))  # the one line
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    loader = torch.utils.data.DataLoader(lines, BATCH, shuffle=True, collate_fn=batch)
    losses, seconds = [], []
    for text, kinds in itertools.islice(loader, steps):
        start = time.perf_counter()
        loss = nn.functional.cross_entropy(model(text), kinds.data)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    return model, np.array(losses), np.array(seconds)


def highlight(model: Any, lines: list[Line]) -> list[Array]:
    """What the model takes the characters of each line for."""
    import torch
    from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

    packed = pack_sequence([torch.tensor(line.codes) for line in lines], enforce_sorted=False)
    model.eval()
    with torch.inference_mode():
        kinds = PackedSequence(model(packed).argmax(-1), *packed[1:])
    return [row.numpy() for row in unpack_sequence(kinds)]


def baseline(learned: list[Line], held_out: list[Line]) -> float:
    """The share that is right where each character is taken for what it was most often."""
    counts = np.zeros((128, len(KINDS)), int)
    for line in learned:
        np.add.at(counts, (line.codes, line.kinds), 1)
    most = counts.argmax(1)
    return float(np.mean(np.concatenate([most[line.codes] == line.kinds for line in held_out])))


def read(modules: tuple[str, ...]) -> list[Line]:
    """The lines of modules of the standard library but for empty and very long ones, in their order."""
    found = []
    for module in modules:
        path = Path(sysconfig.get_path("stdlib"), f"{module}.py")
        with tokenize.open(path) as file:
            texts = file.read().splitlines(keepends=True)
        kinds = [np.zeros(len(text), int) for text in texts]
        for token in tokenize.generate_tokens(iter(texts).__next__):
            (first, start), (last, end) = token.start, token.end
            kind = OF_TOKENS.get(token.type)
            if kind is None:
                continue
            if keyword.iskeyword(token.string):
                kind = "keyword"
            for row in range(first - 1, last):
                part = slice(start if row == first - 1 else 0, end if row == last - 1 else None)
                kinds[row][part] = KINDS.index(kind)
        lines = (Line(text.rstrip(), of[: len(text.rstrip())]) for text, of in zip(texts, kinds, strict=True))
        found += [line for line in lines if 0 < len(line.text) <= LONGEST]
    return found


def _plot(
    losses: dict[str, Array],
    seconds: dict[str, Array],
    lines: list[Line],
    predicted: list[Array],
    scores: dict[str, float],
    directory: str | os.PathLike[str],
) -> None:
    figure = figures.new(11, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    for name, values in losses.items():
        left.plot(seconds[name], values, label=name)
    left.set(xlabel="seconds of training", ylabel="cross-entropy, nats", yscale="log", xlim=(0, None))
    left.set_title(f"The same losses, {scores['times_as_fast']:.1f} times as fast")
    left.legend()
    right.set_title(f"Of characters it had not seen {scores['accuracy']:.1%} are told rightly")
    right.axis("off")
    right.set(xlim=(0, 80), ylim=(len(lines), 0))
    for row, (line, kinds) in enumerate(zip(lines, predicted, strict=True)):
        for column, (character, kind, truth) in enumerate(zip(line.text, kinds, line.kinds, strict=True)):
            style = {
                "color": COLOURS[kind],
                "family": "monospace",
                "fontsize": 7,
                "ha": "center",
                "va": "center",
            }
            right.text(column + 0.5, row + 0.5, character, **style)
            if kind != truth:
                right.plot([column, column + 1], [row + 0.95] * 2, color="red", linestyle="-")
    save_figure(figure, directory, "pytorch")
