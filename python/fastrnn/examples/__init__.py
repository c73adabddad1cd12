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
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = (
    "textbook",
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
    ImportError
        If a package of the extra ``fastrnn[examples]`` is missing: it names it.
    """
    module = _module(name)
    os.makedirs(directory, exist_ok=True)
    scores: dict[str, float] = module.run(directory, quick=quick)
    return scores


def summary(name: str) -> str:
    """What an example is about, in one line."""
    return (_module(name).__doc__ or "").partition("\n")[0]


@contextlib.contextmanager
def needs(package: str) -> Iterator[None]:
    """Around an import: if that fails, the error names the package and the extra that it comes with.

    Examples
    --------
    >>> with needs("NumPy"):
    ...     import numpy
    """
    try:
        yield
    except ImportError as error:
        extra = "pip install 'fastrnn[examples]'"
        raise ImportError(f"this example needs {package}: {extra} ({error})") from error


def new_figure(width: float = 8, height: float = 4.5) -> Figure:
    """An empty figure, with no window to it, of a size in inches."""
    with needs("matplotlib"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save_figure(figure: Figure, directory: str | os.PathLike[str], name: str) -> None:
    """Write ``NAME.png`` and say where it is."""
    path = os.path.join(directory, f"{name}.png")
    figure.savefig(path)
    print(f"the figure is in {path}")


def print_table(header: Sequence[str], *rows: Sequence[str]) -> None:
    """Rows under a header; the first column is words, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for first, *rest in (header, *rows):
        numbers = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join((f"{first:<{widths[0]}}", *numbers)).rstrip(), flush=True)


def _module(name: str) -> Any:
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return importlib.import_module(f"fastrnn.examples.{name}")
