"""Numbers brought to mean 0 and deviation 1, by what was seen of them so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from fastrnn.checks import Array


@dataclass(frozen=True)
class Scaling:
    """The mean of each column and its squared differences from it, summed over all rows.

    A column that does not vary is 0 when scaled, and its mean when that is undone.

    Parameters
    ----------
    count : float
        The rows, or the sum of their weights.
    mean, squares : ndarray, (C,)
    """

    count: float
    mean: Array
    squares: Array

    @classmethod
    def of(cls, name: str, values: Array, weights: Array | None = None) -> Scaling:
        """Of values (N, C), float64, which may have weights (N,) above 0; a ValueError with their name if
        their squares are too large.
        """
        each = np.ones((len(values), 1)) if weights is None else weights[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            apart = values - values[0]  # so exact where all are the same
            mean = values[0] + (each * apart).sum(axis=0) / each.sum()
            squares = (each * (values - mean) ** 2).sum(axis=0)
        return cls(float(each.sum()), mean, squares)._finite(name)

    @classmethod
    def learned(
        cls, before: Scaling | None, name: str, rows: Iterable[tuple[Array, Array | None]]
    ) -> Scaling:
        """Of all values that came before, and of further ones with their weights, some at a time."""
        known = [] if before is None else [before]
        return reduce(lambda a, b: a._with(name, b), [*known, *(cls.of(name, *part) for part in rows)])

    def _with(self, name: str, more: Scaling) -> Scaling:
        """Both together: Chan, Golub and LeVeque, Updating formulae, 1979, equation 2.1."""
        count, away = self.count + more.count, more.mean - self.mean
        with np.errstate(over="ignore"):
            squares = self.squares + more.squares + away**2 * (self.count * more.count / count)
        return Scaling(count, self.mean + away * (more.count / count), squares)._finite(name)

    def _finite(self, name: str) -> Scaling:
        if not np.isfinite(self.squares).all():
            raise ValueError(f"{name} must be numbers that can be squared, got some that are too large")
        return self

    @property
    def deviation(self) -> Array:
        """The standard deviations, (C,); 0 where there is nothing but rounding."""
        deviation = np.sqrt(self.squares / self.count)
        return np.where(deviation <= 1e-12 * np.abs(self.mean), 0.0, deviation)

    @property
    def inverse(self) -> Array:
        """1 / deviation, (C,), or 0 where that is 0."""
        deviation = self.deviation
        return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)

    def apply(self, values: Array) -> Array:
        """Values (..., C) scaled."""
        scaled: Array = (values - self.mean) * self.inverse
        return scaled

    def undo(self, values: Array) -> Array:
        """The values that were scaled."""
        found: Array = values * self.deviation + self.mean
        return found

    def keep_outputs(self, before: Scaling, weight: Array, bias: Array) -> None:
        """Change weights that predict values scaled by another, so that scaled by this they are the same: van
        Hasselt et al., Learning values across many orders of magnitude, 2016, equations 3 and 4.
        """
        weight *= (before.deviation * self.inverse)[:, None]
        bias[...] = self.apply(before.undo(bias))

    def keep_inputs(self, before: Scaling, weight: Array, bias: Array) -> None:
        """Change weights that take values scaled by another, so that of those scaled by this they make the
        same.
        """
        bias += weight @ before.apply(self.mean)
        weight *= self.deviation * before.inverse

    def to_json(self) -> dict[str, Any]:
        """As JSON can express it."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, metadata: Mapping[str, Any]) -> Scaling:
        """What `to_json` gave."""
        return cls(metadata["count"], np.array(metadata["mean"]), np.array(metadata["squares"]))
