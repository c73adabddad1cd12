"""The training loop that every model shares."""

from __future__ import annotations

import contextlib
import math
import os
import reprlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from fastrnn import checkpoint, checks
from fastrnn.checks import Array
from fastrnn.optim import Optimizer, clip_grad_norm, grad_norm


class Network(Protocol):
    """Arrays to train, and after a backward pass their gradients, by the same names."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The arrays, which an optimizer updates in place."""
        ...

    @property
    def gradients(self) -> Mapping[str, Array]:
        """Those of the last backward pass."""
        ...


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


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
    "warmup": warmup,
}


class Trainer:
    """Epochs of training steps, each epoch followed by validation, until time, patience or epochs run out.

    Parameters
    ----------
    network : Network
        Its parameters are updated in place.
    optimizer : Optimizer
        Over these parameters. Its learning rate is the highest, of which `schedule` takes a part.
    epochs : int
        Number of epochs at most; 0 trains nothing.
    schedule : {"cosine", "constant", "step", "warmup"}
        Which part of the learning rate is used when, over the epochs or over ``max_seconds``, whichever is
        further on: the functions of these names say it.
    clip_norm : float, optional
        Gradients of a greater norm than this are scaled down to it.
    patience : int, optional
        Stop after so many epochs without a better validation loss.
    max_seconds : float, optional
        Stop after the first step past so many seconds; one more validation follows.
    rng : numpy.random.Generator, optional
        Where all that is random in the training comes from, such as dropout and the order of the samples, so
        that `state_dict` can tell where it is.
    describe : callable, optional
        A few words about a loss for the progress bar. There is a bar, by tqdm, if this is given and standard
        error is a terminal.
    unit : str
        What the progress bar calls a sample.

    Attributes
    ----------
    history : list of dict
        One record per epoch: ``epoch`` from 1; ``samples`` and ``seconds`` since the start, validation
        included; ``samples_per_second`` of the epoch's training steps; ``learning_rate`` at its end;
        ``clipped``, the part of its steps whose gradients were scaled down; ``train_loss``, the mean over
        the epoch while the weights changed; and ``validation_loss``.
    best_epoch : int or None
        The epoch of the lowest validation loss.
    best_weights : dict of str to ndarray
        The parameters after that epoch; empty while there is none.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        *,
        epochs: int,
        schedule: str = "cosine",
        clip_norm: float | None = None,
        patience: int | None = None,
        max_seconds: float | None = None,
        rng: np.random.Generator | None = None,
        describe: Callable[[float], str] | None = None,
        unit: str = "sample",
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.epochs = checks.non_negative_int("epochs", epochs)
        self.schedule = checks.one_of("schedule", schedule, tuple(SCHEDULES))
        self.clip_norm = None if clip_norm is None else checks.positive_float("clip_norm", clip_norm)
        self.patience = None if patience is None else checks.positive_int("patience", patience)
        self.max_seconds = None if max_seconds is None else checks.positive_float("max_seconds", max_seconds)
        self.rng = rng
        self.describe = describe
        self.unit = unit
        self.history: list[dict[str, Any]] = []
        self.best_epoch: int | None = None
        self.best_weights: dict[str, Array] = {}
        self._peak = optimizer.lr
        self._steps = 0

    def run(
        self,
        steps: Callable[[], Iterator[tuple[float, int]]],
        samples: int,
        validate: Callable[[], float] | None = None,
        on_epoch: Callable[[], None] | None = None,
    ) -> None:
        """Train, and leave the network with the weights of the best epoch, or without validation the last.

        Parameters
        ----------
        steps : callable
            Starts an epoch. Whenever the iterator it returns is advanced, it does one forward and backward
            pass and yields the mean loss and the number of samples that it is the mean of.
        samples : int
            Number of samples in an epoch.
        validate : callable, optional
            Returns the validation loss.
        on_epoch : callable, optional
            Called after every epoch, when `history` and `best_epoch` are up to date; the place to `save`.

        Raises
        ------
        FloatingPointError
            If a loss or a gradient is not finite: it names the step, the epoch and the parameter. The
            weights are the best then, or before the first validation those the epoch started from.
        KeyboardInterrupt
            If interrupted, like any error after the best weights have been put back; before the first
            validation the weights stay as they are.
        """
        self._start = time.perf_counter() - (self.history[-1]["seconds"] if self.history else 0.0)
        good = self.best_weights
        try:
            while not self._finished():
                good = self.best_weights or self._weights()
                record = self._epoch(steps(), samples)
                if validate is not None:
                    record["validation_loss"] = self._finite("validation loss", validate())
                    if record["validation_loss"] < self._best_loss():
                        self.best_weights, self.best_epoch = self._weights(), record["epoch"]
                record["seconds"] = self._seconds()
                self.history.append(record)
                if on_epoch is not None:
                    on_epoch()
        except FloatingPointError:
            self._put_back(good)
            raise
        finally:
            self._put_back(self.best_weights)

    def state_dict(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """All that the rest of the training depends on: what `load_state_dict` takes.

        Returns
        -------
        tensors : dict of str to ndarray
            Copies of the weights, of the best weights so far and of the optimizer's state, under names that
            begin with ``weights.``, ``best.`` and ``optimizer.``.
        metadata : dict
            The rest, which JSON can express.
        """
        optimizer = self.optimizer.state_dict()
        parts = {"weights": self._weights(), "best": self.best_weights, "optimizer": optimizer}
        tensors = {f"{part}.{name}": array for part, found in parts.items() for name, array in found.items()}
        metadata = {
            "settings": self._settings(),
            "history": self.history,
            "best_epoch": self.best_epoch,
            "steps": self._steps,
            "rng": None if self.rng is None else self.rng.bit_generator.state,
        }
        return tensors, metadata

    def load_state_dict(self, tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave: `run` then does the epochs that are left, bit for bit as
        if there had been no interruption.

        Parameters
        ----------
        tensors, metadata
            As `state_dict` returns them, from a trainer with the same network, optimizer and settings.
            `epochs`, `patience` and `max_seconds` may be others; training goes on by the new ones.

        Raises
        ------
        ValueError
            If they are of another network, optimizer or setting: it names what differs, and nothing has
            changed.
        """
        same_settings(metadata["settings"], self._settings())
        weights, best, optimizer = (_part(tensors, name) for name in ("weights", "best", "optimizer"))
        checks.matching_arrays("weights", weights, self.network.parameters)
        if best:
            checks.matching_arrays("best weights", best, self.network.parameters)
        self.optimizer.load_state_dict(optimizer)
        self._put_back(weights)
        self.best_weights = best
        self.history = [dict(record) for record in metadata["history"]]
        self.best_epoch, self._steps = metadata["best_epoch"], metadata["steps"]
        if self.rng is not None:
            self.rng.bit_generator.state = metadata["rng"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file, in one step: see `fastrnn.checkpoint.save`."""
        checkpoint.save(path, *self.state_dict())

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file that `save` wrote: see `load_state_dict`."""
        tensors, metadata = checkpoint.load(path)
        if "settings" not in metadata:
            raise ValueError(f"{os.fspath(path)!r} holds no state of a training")
        self.load_state_dict(tensors, metadata)

    def _epoch(self, steps: Iterator[tuple[float, int]], samples: int) -> dict[str, Any]:
        """Train for one epoch, or until time is up, and return its record."""
        epoch, start, first = len(self.history) + 1, self._seconds(), self._steps
        total, done, clipped = 0.0, 0, 0
        with self._progress_bar(epoch, samples) as bar:
            for loss, count in steps:
                self._steps += 1
                self._finite("loss", loss)
                clipped += self._update((epoch - 1 + done / samples) / self.epochs)
                total, done = total + loss * count, done + count
                if bar is not None and self.describe is not None:
                    bar.set_postfix_str(self.describe(total / done), refresh=False)
                    bar.update(count)
                if self._out_of_time():
                    break
        return {
            "epoch": epoch,
            "samples": done + (self.history[-1]["samples"] if self.history else 0),
            "samples_per_second": done / (self._seconds() - start),
            "learning_rate": self.optimizer.lr,
            "clipped": clipped / (self._steps - first),
            "train_loss": total / done,
        }

    def _update(self, progress: float) -> bool:
        """One step of the optimizer; whether the gradients were clipped for it."""
        gradients = self.network.gradients
        norm = grad_norm(gradients)
        if not math.isfinite(norm):
            self._finite(_name_not_finite(gradients), norm)
        clipped = self.clip_norm is not None and norm > self.clip_norm
        if self.clip_norm is not None and clipped:
            clip_grad_norm(gradients, self.clip_norm)
        if self.max_seconds is not None:
            progress = max(progress, min(self._seconds() / self.max_seconds, 1.0))
        self.optimizer.lr = self._peak * SCHEDULES[self.schedule](progress)
        self.optimizer.step(gradients)
        return clipped

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a training to go on."""
        return {
            "optimizer": type(self.optimizer).__name__,
            "learning_rate": self._peak,
            "schedule": self.schedule,
            "clip_norm": self.clip_norm,
        }

    def _weights(self) -> dict[str, Array]:
        return {name: parameter.copy() for name, parameter in self.network.parameters.items()}

    def _put_back(self, weights: Mapping[str, Array]) -> None:
        for name, array in weights.items():
            self.network.parameters[name][...] = array

    def _progress_bar(self, epoch: int, samples: int) -> contextlib.AbstractContextManager[Any]:
        """A tqdm bar on standard error, or None if it is not wanted or nobody would see it."""
        if self.describe is None or sys.stderr is None or not sys.stderr.isatty():
            return contextlib.nullcontext()
        try:
            from tqdm import tqdm
        except ImportError:
            raise ImportError("the progress bar needs tqdm: pip install 'fastrnn[progress]'") from None
        title = f"epoch {epoch}/{self.epochs}"
        bar: contextlib.AbstractContextManager[Any] = tqdm(
            desc=title, total=samples, unit=f" {self.unit}s", unit_scale=True, leave=False
        )
        return bar

    def _finite(self, what: str, value: float) -> float:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the {what} became {value} at step {self._steps}, in epoch {len(self.history) + 1}: "
                "a lower learning_rate or clip_norm may help"
            )
        return value

    def _finished(self) -> bool:
        epochs = len(self.history)
        waited = epochs - self.best_epoch if self.best_epoch is not None else 0
        out_of_patience = self.patience is not None and waited >= self.patience
        return epochs >= self.epochs or out_of_patience or self._out_of_time()

    def _best_loss(self) -> float:
        return math.inf if self.best_epoch is None else self.history[self.best_epoch - 1]["validation_loss"]

    def _seconds(self) -> float:
        return time.perf_counter() - self._start

    def _out_of_time(self) -> bool:
        return self.max_seconds is not None and self._seconds() >= self.max_seconds


def same_settings(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the settings of a checkpoint that differ from those wanted now."""
    names = dict.fromkeys([*expected, *found])
    differing = [
        f"{name} = {reprlib.repr(found.get(name))} instead of {reprlib.repr(expected.get(name))}"
        for name in names
        if found.get(name) != expected.get(name)
    ]
    if differing:
        raise ValueError(f"the checkpoint is of another training: it has {', '.join(differing)}")


def _part(tensors: Mapping[str, Array], part: str) -> dict[str, Array]:
    """The tensors under a prefix, without it."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _name_not_finite(gradients: Mapping[str, Array]) -> str:
    """The gradient that is not finite; if all are, but their squares too large, then the norm."""
    for name, array in gradients.items():
        if not np.isfinite(array).all():
            return f"gradient of {name}"
    return "norm of the gradients"
