"""Schedules: which part of the learning rate is used, from the progress of a training, 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

Schedule: TypeAlias = Callable[[float], float]

FLOOR = 0.01  # of a learning rate that falls


def constant(progress: float) -> float:
    """1, from the start to the end."""
    return 1.0


def cosine(progress: float) -> float:
    """Half a cosine, from 1 to 0.01: Loshchilov and Hutter, SGDR, 2017, equation 5, without restarts."""
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * progress)) / 2


def step(progress: float) -> float:
    """1; from half of the training on 0.1; from three quarters on 0.01: as He et al. 2016, section 4.2."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def warmup(progress: float) -> float:
    """A line from 0.01 to 1 in the first tenth, then `cosine`: as Goyal et al. 2017, section 2.2."""
    if progress < 0.1:
        return FLOOR + (1 - FLOOR) * progress / 0.1
    return cosine((progress - 0.1) / 0.9)


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "step": step, "warmup": warmup}
