"""Which token comes next, drawn by a network's logits."""

from __future__ import annotations

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array


class Sampler:
    """Draws tokens, one after the other.

    Parameters
    ----------
    temperature : float
        The logits are divided by it: below 1 the likely becomes likelier, above 1 the unlikely. 0 always
        takes the likeliest token.
    top_k : int, optional
        Choose among the k likeliest tokens only.
    top_p : float, optional
        Choose among the fewest likeliest tokens that have this probability together, in (0, 1] (Holtzman et
        al., The curious case of neural text degeneration, 2020), after `top_k` if both are given.
    seed : int, optional
        The same seed draws the same tokens.

    Examples
    --------
    >>> Sampler(temperature=0)(np.log([0.2, 0.5, 0.3]))
    1
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> None:
        self.temperature = checks.non_negative_float("temperature", temperature)
        self.top_k = None if top_k is None else checks.positive_int("top_k", top_k)
        self.top_p = None if top_p is None else _positive_probability("top_p", top_p)
        self._rng = np.random.default_rng(None if seed is None else checks.non_negative_int("seed", seed))

    def __call__(self, logits: Array) -> int:
        """A token drawn by logits (V,)."""
        if self.temperature == 0:
            return int(logits.argmax())
        with np.errstate(over="ignore"):  # at a temperature next to 0 the unlikely goes to -inf, as it should
            scores = (logits.astype(np.float64) - logits.max()) / self.temperature
        order = np.argsort(-scores, kind="stable")[: self.top_k]
        cumulated = np.cumsum(np.exp(scores[order]))
        if self.top_p is not None:
            cumulated = cumulated[: np.searchsorted(cumulated, self.top_p * cumulated[-1]) + 1]
        return int(order[np.searchsorted(cumulated, self._rng.random() * cumulated[-1], side="right")])


def _positive_probability(name: str, value: object) -> float:
    part = checks.probability(name, value)
    if part == 0:
        raise ValueError(f"{name} must be greater than 0, got {value}")
    return part
