"""Numbers brought to mean 0 and deviation 1, by what was seen of them so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.layers import Linear


@dataclass(frozen=True)
class Scaling:
    """The mean of each column and its squared differences from it, summed over all rows.

    A column that does not vary is 0 when scaled, and its mean when that is undone.
    """

    count: int
    mean: Array
    squares: Array

    @classmethod
    def of(cls, name: str, values: Array) -> Scaling:
        """Of values (N, C), float64; a ValueError with their name if their squares are too large."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean = values[0] + (values - values[0]).mean(axis=0)  # so exact where all are the same
            squares = ((values - mean) ** 2).sum(axis=0)
        return cls(len(values), mean, squares)._finite(name)

    def including(self, name: str, values: Array) -> Scaling:
        """With more values: Chan, Golub and LeVeque, Updating formulae, 1979, equation 2.1."""
        more = self.of(name, values)
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
        """Values scaled."""
        scaled: Array = (values - self.mean) * self.inverse
        return scaled

    def undo(self, values: Array) -> Array:
        """The values that were scaled."""
        found: Array = values * self.deviation + self.mean
        return found

    def to_json(self) -> dict[str, Any]:
        """As JSON can express it."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, metadata: Mapping[str, Any]) -> Scaling:
        """What `to_json` gave."""
        return cls(metadata["count"], np.array(metadata["mean"]), np.array(metadata["squares"]))


def keep_outputs(layer: Linear, before: Scaling, after: Scaling) -> None:
    """Change a layer so that with another scaling of what it predicts it predicts the same: van Hasselt et
    al., Learning values across many orders of magnitude, 2016, equations 3 and 4.
    """
    weight, bias = layer.parameters["weight"], layer.parameters["bias"]
    weight *= (before.deviation * after.inverse)[:, None]
    bias[...] = after.apply(before.undo(bias))


def keep_inputs(layer: Linear, before: Scaling, after: Scaling) -> None:
    """Change a layer so that of values in another scaling it makes the same."""
    weight, bias = layer.parameters["weight"], layer.parameters["bias"]
    bias += weight @ before.apply(after.mean)
    weight *= after.deviation * before.inverse
