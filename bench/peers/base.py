"""What a peer is, and what the peers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases import Case, Data

Results = dict[str, np.ndarray]

STREAM_STEPS = 8  # whose last h is compared
TEXT_STEPS = 3  # whose losses are compared
LEARNING_RATE = 1e-3
COMPARED = 10  # of many models


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
    Many models: the same of COMPARED among them, one after the other: see `of_some`.
    """

    call: Callable[[], Any]
    results: Callable[[], Results] | None


class Base:
    """A peer: imported, and told its number of threads, when an instance is made.

    label : how people call it
    formats : of weights, for which it has something in some case
    """

    label: str
    formats: tuple[str, ...] = ("float32",)

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


def stepped(start: Any, advance: Callable[[Any], Any], y: Callable[[Any], np.ndarray]) -> Run:
    """Steps with the same input, each from the state that the one before left; `y` is what a state has."""
    state = start

    def step() -> None:
        nonlocal state
        state = advance(state)

    def results() -> Results:
        nonlocal state
        state = start
        for _ in range(STREAM_STEPS):
            step()
        return {"y": y(state)}

    return Run(step, results)


def of_some(results: Sequence[Results]) -> Results:
    """What is compared of the results of many models: those of some, from the first to the last."""
    some = [results[place] for place in places(len(results))]
    return {name: np.array([each[name] for each in some]) for name in some[0]}


def places(count: int) -> list[int]:
    """Which of many models are compared."""
    return sorted({round(place) for place in np.linspace(0, count - 1, COMPARED)})


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Unsupported(reason)


def reordered(array: np.ndarray, gates: str, order: str) -> np.ndarray:
    """The gates of the first axis, one letter each, in another order."""
    parts = dict(zip(gates, np.split(array, len(gates)), strict=True))
    return np.concatenate([parts[gate] for gate in order])
