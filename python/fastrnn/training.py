"""The training loop that every model shares."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import reprlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from fastrnn import checkpoint, checks
from fastrnn.checks import Array
from fastrnn.optim import Optimizer, clip_grad_norm, grad_norm


class Network(Protocol):
    """Arrays to train, and their gradients by the same names: as a layer has them."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The arrays, which an optimizer updates in place."""
        ...

    def take_gradients(self) -> Mapping[str, Array]:
        """What has added up, which is not to be had a second time."""
        ...

    def clear_gradients(self) -> None:
        """Forget them."""
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
        Over these parameters. Its learning rate is the highest, of which `schedule` takes a part; when a
        training ends it is that again.
    epochs : int or None
        Number of epochs at most; 0 trains nothing. None leaves it to `max_steps` or `max_seconds`.
    schedule : {"cosine", "constant", "step", "warmup"}
        Which part of the learning rate is used when, over the epochs, ``max_steps`` or ``max_seconds``,
        whichever is further on: the functions of these names say it.
    clip_norm : float, optional
        Gradients of a greater norm than this are scaled down to it.
    patience : int, optional
        Stop after so many epochs without a better validation loss. It needs validation.
    max_steps : int, optional
        Stop after so many steps; one more validation follows.
    max_seconds : float, optional
        Stop after the first step past so many seconds; one more validation follows.
    rng : numpy.random.Generator, optional
        Where what is random outside of the network comes from, such as the order of the samples, so that
        `state_dict` can tell where it is. The generators of the network's layers are found: they are looked
        for in its attributes, and in theirs, and in lists and dicts of them.
    describe : callable, optional
        A few words about a loss for the progress bar. There is a bar, by tqdm, if this is given and standard
        error is a terminal.
    unit : str
        What the progress bar calls a sample.

    Attributes
    ----------
    history : list of dict
        One record per epoch: ``epoch`` from 1; ``steps``, ``samples`` and ``seconds`` since the start,
        validation included; ``samples_per_second`` of the epoch's training steps; ``learning_rate`` at its
        end; ``clipped``, the part of its steps whose gradients were scaled down; ``train_loss``, the mean
        over the epoch while the weights changed; and ``validation_loss``.
    best_epoch : int or None
        The epoch of the lowest validation loss.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range, or the optimizer is over other arrays than the
        network's own.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        *,
        epochs: int | None,
        max_steps: int | None = None,
        schedule: str = "cosine",
        clip_norm: float | None = None,
        patience: int | None = None,
        max_seconds: float | None = None,
        rng: np.random.Generator | None = None,
        describe: Callable[[float], str] | None = None,
        unit: str = "sample",
    ) -> None:
        if not hasattr(network, "take_gradients"):
            raise TypeError(f"network must have parameters and take_gradients(), got {checks.came(network)}")
        _require_same_arrays(network.parameters, optimizer.parameters)
        self.network = network
        self.optimizer = optimizer
        self.epochs = None if epochs is None else checks.non_negative_int("epochs", epochs)
        self.max_steps = None if max_steps is None else checks.positive_int("max_steps", max_steps)
        self.schedule = checks.one_of("schedule", schedule, tuple(SCHEDULES))
        self.clip_norm = None if clip_norm is None else checks.positive_float("clip_norm", clip_norm)
        self.patience = None if patience is None else checks.positive_int("patience", patience)
        self.max_seconds = None if max_seconds is None else checks.positive_float("max_seconds", max_seconds)
        if self.epochs is None and self.max_steps is None and self.max_seconds is None:
            raise ValueError(
                "epochs can be None only beside max_steps or max_seconds, which then end the training"
            )
        if not isinstance(rng, np.random.Generator | None):
            raise TypeError(f"rng must be a numpy.random.Generator or None, got {checks.came(rng)}")
        self.rng = rng
        self.describe = describe
        self.unit = unit
        self.history: list[dict[str, Any]] = []
        self.best_epoch: int | None = None
        self._best: dict[str, Array] = {}
        self._peak = optimizer.lr
        self._steps = 0

    def run(
        self,
        steps: Callable[[], Iterator[tuple[float, int]]],
        samples: int,
        validate: Callable[[], float] | None = None,
        on_epoch: Callable[[], None] | None = None,
    ) -> None:
        """Train, and leave network and optimizer as they were after the best epoch, or without validation as
        they are after the last.

        Parameters
        ----------
        steps : callable
            Starts an epoch. Whenever the iterator it returns is advanced, it does one forward and backward
            pass and yields the mean loss and the number of samples that it is the mean of.
        samples : int
            Number of samples in an epoch, by which the learning rate is scheduled: an epoch may have less, as
            where an incomplete batch is left out.
        validate : callable, optional
            Returns the validation loss.
        on_epoch : callable, optional
            Called after every epoch, when `history` and `best_epoch` are up to date; the place to `save`.

        Raises
        ------
        ValueError
            If an epoch has more than `samples`, or none, or there is `patience` but no validation.
        TypeError
            If a loss is not a number, or a count not an integer.
        RuntimeError
            If a step yields without having run backward.
        FloatingPointError
            If a loss or a gradient is not finite: it names the step, the epoch and the parameter.
        Exception
            After any error, also in `steps`, `validate` and `on_epoch`, network and optimizer are as after
            the best epoch; before the first validation, as after the last epoch that ended.
        KeyboardInterrupt
            If interrupted: they are as after the best epoch; before the first validation they stay as they
            are.
        """
        samples = checks.positive_int("samples", samples)
        for name, given in (("steps", steps), ("validate", validate), ("on_epoch", on_epoch)):
            if given is not None or name == "steps":
                checks.function(name, given)
        if self.patience is not None and validate is None:
            raise ValueError(f"validate must be given if there is patience, which is {self.patience}")
        self.network.clear_gradients()  # of a step that an error or Ctrl-C has ended before
        self._start = time.perf_counter() - (self.history[-1]["seconds"] if self.history else 0.0)
        good = self._best or self._snapshot()
        try:
            while not self._finished():
                record = self._epoch(steps(), samples)
                if validate is not None:
                    record["validation_loss"] = self._finite("validation loss", validate())
                    if record["validation_loss"] < self._best_loss():
                        self._best, self.best_epoch = self._snapshot(), record["epoch"]
                record["seconds"] = self._seconds()
                self.history.append(record)
                good = self._best or self._snapshot()
                if on_epoch is not None:
                    on_epoch()
        except Exception:
            self._put_back(good)
            raise
        finally:
            self._put_back(self._best)
            self.optimizer.lr = self._peak

    @property
    def best_weights(self) -> dict[str, Array]:
        """The parameters after the best epoch, by name; empty while there is none."""
        return part_of(self._best, "weights.")

    def state_dict(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """All that the rest of the training depends on, copied: what `load_state_dict` takes.

        Returns
        -------
        tensors : dict of str to ndarray
            The weights and the optimizer's state, by names that begin with ``weights.`` and ``optimizer.``;
            and those after the best epoch so far, with ``best.`` before that.
        metadata : dict
            The rest, which JSON can express.
        """
        tensors = {**self._snapshot(), **{f"best.{name}": array.copy() for name, array in self._best.items()}}
        metadata = {
            "settings": self._settings(),
            "history": copy.deepcopy(self.history),
            "best_epoch": self.best_epoch,
            "steps": self._steps,
            "generators": [_in_json(each.bit_generator.state) for each in self._generators()],
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
        generators, states = self._generators(), metadata["generators"]
        found, expected = dict(metadata["settings"]), self._settings()
        found["generators"] = [state["bit_generator"] for state in states]
        expected["generators"] = [each.bit_generator.state["bit_generator"] for each in generators]
        same_settings(found, expected)
        best, current = part_of(tensors, "best."), self._snapshot()
        now = {name: array for name, array in tensors.items() if not name.startswith("best.")}
        for name, part in ("the training's state", now), ("its best", best):
            if part or part is now:
                checks.matching_arrays(name, part, current)
        self._put_back(now)
        self._best = {name: array.astype(current[name].dtype) for name, array in best.items()}
        self.history = [dict(record) for record in metadata["history"]]
        self.best_epoch, self._steps = metadata["best_epoch"], metadata["steps"]
        for each, state in zip(generators, states, strict=True):
            each.bit_generator.state = _from_json(state, each.bit_generator.state)

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
            for value, count in steps:
                self._steps += 1
                loss, count = self._finite("loss", value), checks.non_negative_int("a loss's count", count)
                if done + count > samples:
                    come = f"epoch {epoch} has come to {done + count} by its step {self._steps - first}"
                    raise ValueError(f"samples must be those of a whole epoch, got {samples}, but {come}")
                clipped += self._update(self._progress(epoch - 1 + done / samples))
                total, done = total + loss * count, done + count
                if bar is not None and self.describe is not None:
                    bar.set_postfix_str(self.describe(total / max(done, 1)), refresh=False)
                    bar.update(count)
                if self._out_of_budget():
                    break
        if not done:
            raise ValueError(
                f"epoch {epoch} had no samples: steps must begin an epoch each time that it is called, and "
                "its iterator yield losses and counts"
            )
        return {
            "epoch": epoch,
            "steps": self._steps,
            "samples": done + (self.history[-1]["samples"] if self.history else 0),
            "samples_per_second": done / (self._seconds() - start),
            "learning_rate": self.optimizer.lr,
            "clipped": clipped / (self._steps - first),
            "train_loss": total / done,
        }

    def _update(self, progress: float) -> bool:
        """One step of the optimizer; whether the gradients were clipped for it."""
        gradients = self.network.take_gradients()
        norm = grad_norm(gradients)
        if not math.isfinite(norm):
            self._finite(_name_not_finite(gradients), norm)
        clipped = self.clip_norm is not None and norm > self.clip_norm
        if self.clip_norm is not None and clipped:
            clip_grad_norm(gradients, self.clip_norm)
        self.optimizer.lr = self._peak * SCHEDULES[self.schedule](progress)
        self.optimizer.step(gradients)
        return clipped

    def _progress(self, epochs: float) -> float:
        """How much of the training is done when so many epochs and the steps before this one are."""
        done = ((epochs, self.epochs), (self._steps - 1, self.max_steps), (self._seconds(), self.max_seconds))
        return max(min(count / limit, 1.0) for count, limit in done if limit is not None)

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a training to go on."""
        return {
            "optimizer": type(self.optimizer).__name__,
            "learning_rate": self._peak,
            **_in_json(self.optimizer.options),
            "schedule": self.schedule,
            "clip_norm": self.clip_norm,
        }

    def _snapshot(self) -> dict[str, Array]:
        """Copies of the weights and of the optimizer's state, which belong together."""
        parts = {"weights": self.network.parameters, "optimizer": self.optimizer.state_dict()}
        return {f"{part}.{name}": array.copy() for part, of in parts.items() for name, array in of.items()}

    def _put_back(self, snapshot: Mapping[str, Array]) -> None:
        if snapshot:
            self.optimizer.load_state_dict(part_of(snapshot, "optimizer."))
            for name, array in part_of(snapshot, "weights.").items():
                self.network.parameters[name][...] = array

    def _generators(self) -> list[np.random.Generator]:
        """The trainer's own, and those of the network and its layers, each once, as attributes have it."""
        waiting: list[Any] = [self.rng, self.network]
        seen: dict[int, Any] = {}
        for value in waiting:  # which grows meanwhile
            if id(value) not in seen:
                seen[id(value)] = value
                waiting += _held_by(value)
        return [each for each in seen.values() if isinstance(each, np.random.Generator)]

    def _progress_bar(self, epoch: int, samples: int) -> contextlib.AbstractContextManager[Any]:
        """A tqdm bar on standard error, or None if it is not wanted or nobody would see it."""
        if self.describe is None or sys.stderr is None or not sys.stderr.isatty():
            return contextlib.nullcontext()
        try:
            from tqdm import tqdm
        except ImportError:
            raise ImportError("the progress bar needs tqdm: pip install 'fastrnn[progress]'") from None
        title = f"epoch {epoch}" if self.epochs is None else f"epoch {epoch}/{self.epochs}"
        bar: contextlib.AbstractContextManager[Any] = tqdm(
            desc=title, total=samples, unit=f" {self.unit}s", unit_scale=True, leave=False
        )
        return bar

    def _finite(self, what: str, value: Any) -> float:
        """A number of Python's, NumPy's or PyTorch's as a finite float."""
        try:
            number = float(value) if np.ndim(value) == 0 else None
        except (TypeError, ValueError):
            number = None
        if number is None:
            raise TypeError(f"the {what} must be a number, got {checks.came(value)}")
        if not math.isfinite(number):
            raise FloatingPointError(
                f"the {what} became {number} at step {self._steps}, in epoch {len(self.history) + 1}: "
                "a lower learning_rate or clip_norm may help"
            )
        return number

    def _finished(self) -> bool:
        epochs = len(self.history)
        waited = epochs - self.best_epoch if self.best_epoch is not None else 0
        out_of_patience = self.patience is not None and waited >= self.patience
        enough = self.epochs is not None and epochs >= self.epochs
        return enough or out_of_patience or (epochs > 0 and self._out_of_budget())

    def _best_loss(self) -> float:
        return math.inf if self.best_epoch is None else self.history[self.best_epoch - 1]["validation_loss"]

    def _seconds(self) -> float:
        return time.perf_counter() - self._start

    def _out_of_budget(self) -> bool:
        done = ((self._steps, self.max_steps), (self._seconds(), self.max_seconds))
        return any(limit is not None and count >= limit for count, limit in done)


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


def part_of(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _require_same_arrays(network: Mapping[str, Array], optimizer: Mapping[str, Array]) -> None:
    different = [name for name in {**network, **optimizer} if network.get(name) is not optimizer.get(name)]
    if different:
        raise ValueError(
            "the optimizer must be over the network's own arrays, as Adam(network.parameters) is; it is not "
            f"for {', '.join(map(repr, different))}"
        )


def _held_by(value: Any) -> list[Any]:
    """What a collection holds, or an object, such as a layer, but for modules, which hold everything."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    return [] if isinstance(value, ModuleType) else list(getattr(value, "__dict__", {}).values())


def _in_json(value: Any) -> Any:
    """A state or options, which may have arrays in them, as JSON gives them back."""
    if isinstance(value, Mapping):
        return {name: _in_json(each) for name, each in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: Any, like: Any) -> Any:
    """The state of a bit generator, with arrays where another one of its kind has them."""
    if isinstance(like, Mapping):
        return {name: _from_json(value[name], each) for name, each in like.items()}
    return np.array(value, like.dtype) if isinstance(like, np.ndarray) else value


def _name_not_finite(gradients: Mapping[str, Array]) -> str:
    """The gradient that is not finite; if all are, but their squares too large, then the norm."""
    for name, array in gradients.items():
        if not np.isfinite(array).all():
            return f"gradient of {name}"
    return "norm of the gradients"
