"""What a diagnosis says, and in which words."""

from __future__ import annotations

import math
import os
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastrnn.checks import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR = 100.0  # times smaller or larger over the whole sequence: vanishing or exploding

STUCK = 0.9  # of the values of every gate are saturated: hardly a gradient enters

SEVERITY = ("not finite", "exploding", "vanishing", "saturated", "healthy", "unknown")  # of the verdicts

CAUSES = ("weights", "input", "gradient", None)  # of what is not finite: each may bring about those after it


@dataclass(frozen=True)
class Gate:
    """What a gate did in all valid steps of all sequences.

    Attributes
    ----------
    mean : ndarray, (H,)
        Of its values, for each unit.
    saturation : ndarray, (H,)
        The share of values at which it hardly passes a gradient: for a sigmoid those below 0.05 or above
        0.95, for a tanh those beyond ±0.9, for a relu those that are 0.
    shares, edges : ndarray, (40,) and (41,)
        A histogram over all units: from 0 to 1 for a sigmoid, from -1 to 1 for a tanh, for a relu from 0
        to its largest value, and where there is no activation from its least to its largest.
    """

    mean: Array
    saturation: Array
    shares: Array
    edges: Array


@dataclass(frozen=True)
class Direction:
    """What was measured in one layer in one direction.

    Attributes
    ----------
    name : str
        ``l0``, ``l0_reverse``, ``l1`` and so on, as in the parameters' names; in a network after the layer's
        own name, as in ``recurrent.l0``.
    cell : str
        A key of `fastrnn.reference.CELLS`.
    gradient_norms : ndarray, (T,)
        ‖∂L/∂h_t‖ over all sequences and units, for each t, with L the loss that was given.
    flow_norms : ndarray, (T,)
        What remains of a gradient at the last step, in this layer and direction alone: entry k is ‖∂L/∂h‖,
        root mean square over the sequences, k steps before the one at which the direction ends, with L a
        random projection of h there.
    rate : float
        The factor by which `flow_norms` change per step back: exp of the median slope of their logarithms
        over k (Theil 1950, Sen 1968). nan with a single step, infinite if h itself is not finite.
    gates : dict of str to Gate
        By PyTorch's letters: i f g o, or r z n; for a plain RNN only h itself, under ``h``.
    time_constants : ndarray, (H,), or None
        For each unit the steps in which what it remembers falls to 1/e, if its gate goes on as it did:
        -1 / mean(ln f) of the `LSTM`, z in the place of f for the `GRU`. None without such a gate, or where
        its activation does not end at 1.
    not_finite : {"weights", "input", "gradient"} or None
        What had NaN or infinities in it before anything was measured.
    """

    name: str
    cell: str
    gradient_norms: Array
    flow_norms: Array
    rate: float
    gates: dict[str, Gate]
    time_constants: Array | None
    not_finite: str | None = None

    @property
    def arriving(self) -> float:
        """The part of a gradient at the last step that arrives at the first one, at `rate`."""
        with np.errstate(over="ignore"):
            return float(np.float64(self.rate) ** (len(self.flow_norms) - 1))

    @property
    def verdict(self) -> str:
        """One of "not finite", "exploding", "vanishing", "saturated" and "healthy"; "unknown" of one step."""
        if self.not_finite:
            return "not finite"
        if math.isnan(self.rate):
            return "unknown"
        if self.arriving > FAR:
            return "exploding"
        if self.arriving < 1 / FAR:
            return "vanishing"
        return "saturated" if self.saturated else "healthy"

    @property
    def saturated(self) -> bool:
        """Whether every gate is saturated nearly all the time. A relu is dead then, and gradients vanish."""
        return bool(min(gate.saturation.mean() for gate in self.gates.values()) > STUCK)

    @property
    def reach(self) -> float:
        """The steps back after which less than a hundredth of a gradient was measured; infinite if none."""
        lost = np.flatnonzero(self.flow_norms < self.flow_norms[0] / FAR)
        return float(lost[0]) if len(lost) else math.inf


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; printed, it is the verdict and a table.

    Attributes
    ----------
    directions : tuple of Direction
        Of each layer and direction, in the order of the parameters.
    """

    directions: tuple[Direction, ...]

    @property
    def worst(self) -> Direction:
        """The direction that the verdict is about: of those with the gravest, where the rate is."""
        gravest = min((each.verdict for each in self.directions), key=SEVERITY.index)
        alike = [each for each in self.directions if each.verdict == gravest]
        if gravest in ("not finite", "unknown"):
            return min(alike, key=lambda each: CAUSES.index(each.not_finite))
        return max(alike, key=_rate) if gravest == "exploding" else min(alike, key=_rate)

    @property
    def verdict(self) -> str:
        """One line: the verdict, by how much a gradient changes per step, and what to try."""
        worst = self.worst
        where = f" in {worst.name}" if len(self.directions) > 1 else ""
        if worst.verdict == "not finite":
            return f"not finite{where}: NaN or infinity in the {worst.not_finite}; try {_advice(worst)}"
        if worst.verdict == "unknown":
            return "unknown: with a single step no gradient flows through time"
        steps = len(worst.flow_norms) - 1
        measured = f"{worst.verdict}{where}: a gradient changes by ×{worst.rate:.3g} per step back"
        if worst.verdict == "vanishing":
            if worst.reach < math.inf:
                measured += f", less than a hundredth is left after {worst.reach:.0f} of {steps}"
            return f"{measured}; try {_advice(worst)}"
        measured += f", ×{worst.arriving:.{1 if worst.verdict == 'exploding' else 2}g} over {steps}"
        return measured if worst.verdict == "healthy" else f"{measured}; try {_advice(worst)}"

    def table(self) -> str:
        """A row for each direction: rate, reach, saturated gates, and the median time constant."""
        rows = [("layer", "cell", "rate", "reach", "saturated", "memory", "verdict")]
        for each in self.directions:
            gates = " ".join(f"{name} {gate.saturation.mean():.0%}" for name, gate in each.gates.items())
            steps = "-" if each.time_constants is None else f"{np.median(each.time_constants):.1f}"
            reach = "all" if each.reach == math.inf else f"{each.reach:.0f}"
            rows.append((each.name, each.cell, f"{each.rate:.4g}", reach, gates, steps, each.verdict))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"{textwrap.fill(self.verdict, 78)}\n\n{self.table()}"

    def plot(self, target: str | os.PathLike[str] | Axes | None = None) -> Figure:
        """Draw it.

        Parameters
        ----------
        target : path or matplotlib.axes.Axes, optional
            A file to write, in the format of its ending, PNG if there is none; or axes, for the first panel
            alone: what remains of the gradient, over the steps back.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If there is no matplotlib.
        ValueError
            If matplotlib writes no files of such an ending.
        """
        from fastrnn.diagnostics import figure

        return figure.draw(self.directions, target, self.verdict)


def _rate(direction: Direction) -> float:
    return direction.rate


def _advice(direction: Direction) -> str:
    """What helps against what was found in a direction, by the names of models' parameters."""
    if direction.not_finite == "input":
        return "to find them in the data, or in the layers before"
    if direction.not_finite:
        return "training again, with a lower learning_rate or clip_norm"
    if direction.verdict == "exploding":
        return 'clip_norm, and initial="orthogonal" or smaller recurrent weights'
    if direction.saturated and direction.cell != "rnn_relu":
        return "a lower learning_rate, smaller weights or inputs (nearly all values are saturated)"
    if direction.time_constants is not None:
        steps = np.median(direction.time_constants)
        return f"a larger forget_bias (half of the units forget within {steps:.1f} steps)"
    if direction.cell == "rnn_relu":
        return 'initial="identity" or "orthogonal", or cell="lstm" or "gru"'
    if "h" not in direction.gates:
        return 'gates that are between 0 and 1: gate_activation="sigmoid" in layer_options'
    if direction.gates["h"].saturation.mean() > 0.5:
        return 'smaller weights or inputs (most of tanh is saturated), or cell="lstm" or "gru"'
    return 'cell="lstm" or "gru", or initial="orthogonal"'
