"""What a peer is, and what the peers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases import Case, Data

Results = dict[str, np.ndarray]

STREAM_STEPS = 8  # whose last h is compared
TEXT_STEPS = 3  # whose losses are compared
LEARNING_RATE = 1e-3


class Unsupported(Exception):
    """The peer has nothing for this case; the message says what."""


@dataclass
class Run:
    """A way to compute a case.

    call : what is timed: all of the work, and nothing else
    results : what everyone must agree on, by name, from a fresh start; None where the function is another one

    Inference and stream: ``y`` (T, B, H), of a stream the h after STREAM_STEPS steps with the same input.
    Training: ``y``, ``dx``, ``dw_ih``, ``dw_hh``, ``db_ih`` and, if the peer has it, ``db_hh``.
    Text: ``losses`` (TEXT_STEPS,), before each of the first steps.
    """

    call: Callable[[], Any]
    results: Callable[[], Results] | None


class Base:
    """A peer: imported, and told its number of threads, when an instance is made.

    label : how people call it
    """

    label: str

    def __init__(self, threads: int) -> None:
        raise NotImplementedError

    @property
    def version(self) -> str:
        raise NotImplementedError

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        """The ways in which an expert may compute it, by name: the fastest is taken. The data stays alive as
        long as they are used.

        Raises
        ------
        Unsupported
        """
        raise NotImplementedError


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Unsupported(reason)


def reordered(array: np.ndarray, gates: str, order: str) -> np.ndarray:
    """The gates of the first axis, one letter each, in another order."""
    parts = dict(zip(gates, np.split(array, len(gates)), strict=True))
    return np.concatenate([parts[gate] for gate in order])
