"""Examples on real data, each with a score beside a baseline and a figure: ``fastrnn examples``.

An example is a module with ``run(directory, *, quick=False)``: it prints what it finds, writes ``NAME.png``
into the directory and returns its scores by name. With ``quick`` it does the least that shows that it works.
The first line of its docstring says what it is about. The data come with packages of the extra
``fastrnn[examples]``, not from the network.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import checkpoint, checks, figures
from fastrnn.checks import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = (
    "textbook",
    "vowels",
    "digits",
    "load",
    "pronunciation",
    "surnames",
    "recall",
    "long",
    "control",
    "pedal",
    "pytorch",
)  # in the order in which they are listed


def run(name: str, directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Run an example.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    directory : path
        Where its figure goes; made if it does not exist.
    quick : bool
        Whether to do only the least that shows that it works.

    Returns
    -------
    dict of str to float
        The scores, by name.

    Raises
    ------
    ValueError
        If there is no such example.
    OSError
        If its figure could not be written: before anything is computed.
    ImportError
        If a package of the extra ``fastrnn[examples]`` is missing: it names it.
    """
    module = _module(name)
    os.makedirs(directory, exist_ok=True)
    checkpoint.require_writable(_figure_path(directory, name))
    with figures.style():  # without matplotlib this fails, and better now than after the training
        scores: dict[str, float] = module.run(directory, quick=quick)
    return scores


def summary(name: str) -> str:
    """What an example is about, in one line."""
    return (_module(name).__doc__ or "").partition("\n")[0]


def needs(package: str, extra: str = "examples") -> contextlib.AbstractContextManager[None]:
    """Around an import: if that fails, the error names the package and the extra that it comes with.

    Examples
    --------
    >>> with needs("NumPy"):
    ...     import numpy
    """
    return checks.package(package, extra, "this example")


def save_figure(figure: Figure, directory: str | os.PathLike[str], name: str) -> None:
    """Write ``NAME.png`` and say where it is."""
    path = _figure_path(directory, name)
    figures.save(figure, path)
    print(f"the figure is in {path}")


def print_table(header: Sequence[str], *rows: Sequence[str]) -> None:
    """Rows under a header; the first column is words, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for first, *rest in (header, *rows):
        numbers = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join((f"{first:<{widths[0]}}", *numbers)).rstrip(), flush=True)


def draw_losses(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    """The losses of a classifier's ``history_``, epoch by epoch."""
    for part in ("train", "validation"):
        if f"{part}_loss" in history[0]:
            losses = [record[f"{part}_loss"] for record in history]
            axes.plot(range(1, len(losses) + 1), losses, marker=".", label=part)
    axes.set(xlabel="epoch", ylabel="cross-entropy, nats", yscale="log")
    if len(axes.lines) > 1:
        axes.legend()


def draw_confusion(axes: Axes, truth: Array, predicted: Array) -> None:
    """How often each label was predicted for each."""
    labels, places = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, tuple(places.reshape(2, -1)), 1)
    axes.imshow(counts, cmap="Blues", vmax=counts.max() * 1.5)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", fontsize="small")
    axes.grid(False)
    axes.set(xlabel="predicted", ylabel="truth")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)


def _figure_path(directory: str | os.PathLike[str], name: str) -> str:
    return os.path.join(directory, f"{name}.png")


def _module(name: str) -> Any:
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return importlib.import_module(f"fastrnn.examples.{name}")
