"""How figures look: colours that colour-blind people can tell apart, each line with a dash of its own."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrnn import checkpoint, checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito 2008
DASHES = ("-", "--", "-.", ":", (0, (7, 1, 1, 1, 1, 1)))  # coprime to the colours: 35 different lines

STYLE: Any = {  # for matplotlib's rcParams
    "axes.prop_cycle": f"cycler(color={[*COLOURS] * len(DASHES)}, linestyle={[*DASHES] * len(COLOURS)})",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.handlelength": 3,
}


def style() -> contextlib.AbstractContextManager[Any]:
    """Within it figures look so; what the user has set is back afterwards."""
    with checks.package("matplotlib", "plot", "the figure"):
        import matplotlib
    return matplotlib.rc_context(STYLE)


def new(width: float, height: float) -> Figure:
    """An empty figure, with no window to it, of a size in inches."""
    with checks.package("matplotlib", "plot", "the figure"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in one step, to this very file: to a name without an ending matplotlib would add one.

    Raises
    ------
    ValueError
        If the name's ending is of no format that matplotlib writes.
    OSError
        If the file cannot be written: see `fastrnn.checkpoint.save`.
    """
    ending = os.path.splitext(os.fspath(path))[1][1:].lower() or "png"
    known = figure.canvas.get_supported_filetypes()
    if ending not in known:
        name, formats = os.fspath(path), ", ".join(sorted(known))
        raise ValueError(f"the figure {name!r} must be of a format that matplotlib writes: {formats}")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=ending)
    checkpoint.write(path, drawn.getvalue())


def learning_curve(
    figure: Figure,
    seconds: Sequence[float],
    bits: Mapping[str, Sequence[float]],
    score: float,
    baseline: float,
    order: int,
    title: str,
) -> None:
    """Bits per character against the seconds of training: curves by name, then the score on text that was
    held out, and an n-gram's of such an order beside it."""
    axes = figure.add_subplot()
    for part, values in bits.items():
        axes.plot(seconds, values, marker=".", label=part)
    axes.plot(seconds[-1:], [score], "k*", markersize=12, label=f"held out: {score:.2f}")
    axes.axhline(baseline, color="0.4", linestyle=":", label=f"{order}-gram, held out: {baseline:.2f}")
    axes.set(xlabel="seconds of training", ylabel="bits per character", title=title)
    axes.set_xlim(left=0)
    axes.legend()
