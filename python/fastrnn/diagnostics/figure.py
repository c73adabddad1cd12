"""The figure of a diagnosis."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.diagnostics.diagnosis import FAR, Direction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(directions: Sequence[Direction], target: str | os.PathLike[str] | Axes | None, title: str) -> Figure:
    """See `Diagnosis.plot`."""
    figure = figures.new(12, 8)
    from matplotlib.axes import Axes

    if isinstance(target, Axes):
        _flow(target, directions)
        return target.figure.figure
    with figures.style():
        figure.suptitle(textwrap.fill(title, 110))
        flow, gradient, gates, times = figure.subplots(2, 2).flat
        _flow(flow, directions)
        _gradient(gradient, directions)
        _gates(gates, directions)
        _times(times, directions)
    if target is not None:
        figures.save(figure, target)
    return figure


def _flow(axes: Axes, directions: Sequence[Direction]) -> None:
    """What remains of a gradient at the last step."""
    for each in directions:
        norms = _positive(each.flow_norms)
        axes.plot(norms, label=f"{each.name}: ×{each.rate:.3g} per step, {each.verdict}")
    start = _positive(directions[0].flow_norms)[0]
    axes.axhline(start / FAR, color="0.6", linestyle=":")
    axes.annotate("a hundredth", (0.02, start / FAR), xycoords=("axes fraction", "data"), va="bottom")
    axes.set(yscale="log", xlabel="steps back from the last", ylabel="norm of ∂L/∂h")
    axes.set_title("What remains of a gradient at the last step")
    axes.legend()


def _gradient(axes: Axes, directions: Sequence[Direction]) -> None:
    """The gradient of the training's loss."""
    for each in directions:
        axes.plot(_positive(each.gradient_norms), label=each.name)
    axes.set(yscale="log", xlabel="step t", ylabel="norm of ∂L/∂h_t")
    axes.set_title("The gradient of the loss, at every step")
    axes.legend()


def _gates(axes: Axes, directions: Sequence[Direction]) -> None:
    """A histogram for each gate, upright, with its mean; shaded where it is saturated."""
    names: list[str] = []
    for k, each in enumerate(directions):
        for name, gate in each.gates.items():
            centres = (gate.edges[1:] + gate.edges[:-1]) / 2
            width = 0.45 * gate.shares / max(gate.shares.max(), 1e-9)
            place = len(names)
            axes.fill_betweenx(centres, place - width, place + width, color=f"C{k}", alpha=0.6, linewidth=0)
            axes.plot(place, gate.mean.mean(), "k.")
            names.append(f"{name}\n{gate.saturation.mean():.0%}")
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-1, max(len(names), 4))
    axes.set(ylabel="value")
    axes.set_title("What the gates do (dot: mean; below: share that is saturated)")
    axes.grid(False, axis="x")


def _times(axes: Axes, directions: Sequence[Direction]) -> None:
    """The steps that each unit remembers."""
    axes.set_title("How long the units remember")
    steps = max(len(each.flow_norms) for each in directions)
    known = [(k, e.name, e.time_constants) for k, e in enumerate(directions) if e.time_constants is not None]
    if not known:
        axes.text(0.5, 0.5, "a plain RNN has no gate that keeps", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    for k, name, constants in known:
        values = np.sort(np.clip(constants, 0.1, 1e6))
        axes.plot(np.linspace(0, 100, len(values)), values, color=f"C{k}", label=name)
    axes.axhline(steps, color="0.6", linestyle=":")
    axes.annotate("the sequence", (0.02, steps), xycoords=("axes fraction", "data"), va="bottom")
    axes.set(yscale="log", xlabel="units, % (sorted)", ylabel="time constant of the gate that keeps, steps")
    axes.legend()


def _positive(norms: Array) -> Array:
    """With gaps where a logarithm has none."""
    return np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
