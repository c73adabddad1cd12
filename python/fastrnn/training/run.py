"""A training: epochs of steps, each followed by validation, until time, patience or epochs run out."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from fastrnn import checkpoint, checks, parallel
from fastrnn.checks import Array, Check, optional
from fastrnn.data import Dataset
from fastrnn.layers.layer import held_in
from fastrnn.optim import Optimizer, clip_grad_norm, grad_norm
from fastrnn.parallel.ranks import Ranks
from fastrnn.training.alike import alike
from fastrnn.training.learning import Learn, epoch_of, mean_loss, number
from fastrnn.training.pieces import InPieces, require_whole
from fastrnn.training.progress import Progress
from fastrnn.training.schedules import SCHEDULES
from fastrnn.training.state import in_json, part_of, same_settings


def _verbose(name: str, value: Any) -> bool | Callable[[float], str]:
    return value if callable(value) else checks.boolean(name, bool(value) if value in (0, 1) else value)


OPTIONS: dict[str, Check] = {  # of a training, and what they must be
    "epochs": optional(checks.non_negative_int),
    "max_steps": optional(checks.positive_int),
    "max_seconds": optional(checks.positive_float),
    "schedule": lambda name, value: value if callable(value) else checks.one_of(name, value, (*SCHEDULES,)),
    "clip_norm": optional(checks.positive_float),
    "accumulate": checks.positive_int,
    "patience": optional(checks.positive_int),
    "verbose": _verbose,
}


class Network(Protocol):
    """Arrays to train, and the gradients of them, by the same names: as a layer has them."""

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The arrays, which an optimizer updates in place."""
        ...

    @property
    def gradients(self) -> Mapping[str, Array]:
        """What has added up since they were taken."""
        ...

    def take_gradients(self) -> Mapping[str, Array]:
        """All of them, which are not to be had a second time."""
        ...

    def clear_gradients(self) -> None:
        """Forget them."""
        ...


class StopTraining(Exception):
    """What a callback raises to end a training; returning True does the same."""


class Training:
    """A training of a network: what `fit` returns, and what its callbacks get.

    Attributes
    ----------
    network : Network
    optimizers : list of Optimizer
    history : list of dict
        One record per epoch: ``epoch`` from 1; ``steps``, ``samples`` and ``seconds`` since the start,
        validation included; ``samples_per_second`` of the epoch's training steps; ``learning_rate`` at its
        end, of the first optimizer; ``clipped``, the part of its steps whose gradients were scaled down;
        ``train_loss``, the mean over the epoch while the weights changed; ``validation_loss``; and what
        `metrics` returned.
    best_epoch : int or None
        The epoch of the lowest `monitor`; None without validation.
    """

    def __init__(
        self,
        network: Network,
        learn: Learn,
        optimizers: Sequence[Optimizer],
        rng: np.random.Generator,
        monitor: str,
        options: Mapping[str, Any],
    ) -> None:
        self.network, self.optimizers, self.rng, self.monitor = network, list(optimizers), rng, monitor
        self._learn: Learn = learn
        self._names = self._names_of_arrays()
        checked = {name: check(name, options[name]) for name, check in OPTIONS.items()}
        self._options = SimpleNamespace(**checked)
        if all(options[name] is None for name in ("epochs", "max_steps", "max_seconds")):
            raise ValueError(
                "epochs can be None only beside max_steps or max_seconds, which then end the training"
            )
        self._take, self._clock = self._take_gradients, time.perf_counter  # what ranks share, replaced
        self._progress = Progress(parallel.leads() and self._options.verbose, self._options.epochs)
        self.history: list[dict[str, Any]] = []
        self.best_epoch: int | None = None
        self._best: dict[str, Array] = {}
        self._peaks = [each.lr for each in self.optimizers]
        self._steps = 0

    @property
    def best_weights(self) -> dict[str, Array]:
        """The weights after the best epoch so far; without validation empty."""
        return part_of(self._best, "weights.")

    def run(
        self,
        data: Dataset,
        validation: Dataset | None = None,
        metrics: Callable[[Any], Mapping[str, Any]] | None = None,
        callbacks: Sequence[Callable[[Any], Any]] = (),
    ) -> None:
        """Train; see `fit`."""
        if self._options.patience is not None and validation is None and metrics is None:
            raise ValueError(f"patience needs validation, got patience={self._options.patience} without any")
        if (ranks := parallel.current()) is None:
            require_whole(data, validation)
        else:
            data, validation = self._share(ranks, data, validation)
        self._start = self._clock() - (self.history[-1]["seconds"] if self.history else 0.0)
        stopped, good = False, self._best or self._snapshot()
        try:
            while not (stopped or self._finished()):
                record = self._epoch(data)
                if validation is not None:
                    record["validation_loss"] = self._finite(
                        "validation loss", mean_loss(self._learn, validation)
                    )
                if metrics is not None:
                    self._measure(metrics, record)
                if validation is not None or metrics is not None:
                    self._compare(record)
                record["seconds"] = self._seconds()
                self.history.append(record)
                good = self._best or self._snapshot()
                self._progress.end(record)
                stopped = self._told_to_stop(callbacks)
            self._end(self._best)
        except BaseException as error:  # which may have ended an end, too
            self._end(self._best or (good if isinstance(error, Exception) else {}))
            raise
        finally:
            self._progress.end()

    def state_dict(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """All that it takes to go on from here: a snapshot, which does not change when training goes on.

        Returns
        -------
        tensors : dict of str to ndarray
            Copies of the weights and of the optimizers' states now, under names that begin with ``weights.``
            and ``optimizer.``; and those after the best epoch so far, with ``best.`` before that.
        metadata : dict
            The rest, which JSON can express.
        """
        tensors = {**self._snapshot(), **{f"best.{name}": array.copy() for name, array in self._best.items()}}
        metadata = {
            "settings": self._settings(),
            "history": copy.deepcopy(self.history),
            "best_epoch": self.best_epoch,
            "steps": self._steps,
            "generators": [in_json(each.bit_generator.state) for each in self._generators()],
        }
        return tensors, metadata

    def load_state_dict(self, tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave, bit for bit as if there had been no interruption.

        Raises
        ------
        ValueError
            If it is of another network, optimizer or setting: it names what differs, and nothing has changed.
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
            each.bit_generator.state = state

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file, in one step: see `fastrnn.checkpoint.save`."""
        checkpoint.save(path, *self.state_dict())

    def _share(self, ranks: Ranks, data: Any, validation: Any) -> tuple[Dataset, Dataset | None]:
        """Let each rank compute its pieces of batches, if they are alike; the data as they go then."""
        told = {**vars(self._options), "monitor": self.monitor, **self._settings()}
        del told["verbose"]
        ranks.require_same(alike(self.network.parameters, self._generators(), told, data, validation))
        trained = {name for names in self._names for name in names.values()}
        parameters = {name: array for name, array in self.network.parameters.items() if name in trained}
        steps, generators = lambda: self._steps, self._generators()
        pieces = InPieces(ranks, self._learn, self._take_gradients, parameters, generators, steps, data)
        self._learn, self._take, self._clock = pieces, pieces.take, ranks.clock
        return pieces.of(data), None if validation is None else pieces.of(validation)

    # -- an epoch

    def _epoch(self, data: Dataset) -> dict[str, Any]:
        """Train for one epoch, or until time is up, and return its record."""
        epoch, start, first = len(self.history) + 1, self._seconds(), self._steps
        samples = data.samples
        size = samples or self._samples_before() or math.inf
        total, done, begun, waiting, clipped = 0.0, 0, 0, 0, 0
        self._progress.begin(epoch, samples)
        self.network.clear_gradients()  # of a step that an error has ended
        for value, count in epoch_of(self._learn, data, self.rng):
            if not waiting:
                self._steps, begun = self._steps + 1, done
            loss = self._finite("loss", value)
            if samples is not None and done + count > samples:
                come = f"epoch {epoch} has come to {done + count} by its step {self._steps - first}"
                raise ValueError(f"samples must be those of a whole epoch, got {samples}, but {come}")
            total, done, waiting = total + loss * count, done + count, waiting + 1
            if waiting == self._options.accumulate:
                clipped += self._update(epoch - 1 + begun / size, waiting)
                waiting = 0
            self._progress.update(count, total / max(done, 1))
            if not waiting and self._out_of_budget():
                break
        if waiting:
            clipped += self._update(epoch - 1 + begun / size, waiting)
        if not done:
            raise ValueError(
                f"epoch {epoch} had no samples: the data must begin an epoch each time, and have batches then"
            )
        return {
            "epoch": epoch,
            "steps": self._steps,
            "samples": done + sum(each["samples"] for each in self.history[-1:]),
            "samples_per_second": done / (self._seconds() - start),
            "learning_rate": self.optimizers[0].lr,
            "clipped": clipped / (self._steps - first),
            "train_loss": total / done,
        }

    def _samples_before(self) -> int:
        """Of the epoch before, where there was one: data of unknown size have as many again."""
        samples = [0, *(each["samples"] for each in self.history[-2:])]
        return samples[-1] - samples[-2] if len(samples) > 1 else 0

    def _update(self, epochs: float, batches: int) -> bool:
        """One step of the optimizers, after so many batches; whether the gradients were clipped for it."""
        gradients = self._take()
        if batches > 1:
            for array in {id(each): each for each in gradients.values()}.values():  # names may share one
                array /= batches
        norm = grad_norm(gradients)
        if not math.isfinite(norm):
            self._finite(_name_not_finite(gradients), norm)
        limit, schedule = self._options.clip_norm, self._options.schedule
        clipped = limit is not None and norm > limit
        if clipped:
            clip_grad_norm(gradients, limit)
        part = (schedule if callable(schedule) else SCHEDULES[schedule])(self._done(epochs))
        part = checks.non_negative_float("what schedule returns", part)
        self._set_rates(part)
        own = [{own: gradients[name] for own, name in names.items()} for names in self._names]
        goal = [optimizer.steps + 1 for optimizer in self.optimizers]

        def step_all() -> None:
            for optimizer, each, steps in zip(self.optimizers, own, goal, strict=True):
                if optimizer.steps < steps:
                    optimizer.step(each)

        try:
            step_all()
        except Exception:
            raise
        except BaseException:  # Ctrl-C, after some: weights stay as they are, and are to be of one step
            step_all()
            raise
        return clipped

    def _names_of_arrays(self) -> list[dict[str, str]]:
        """For each optimizer the network's names of its arrays, by its own.

        Raises a ValueError if one is over an array that is not the network's, or that another one has.
        """
        parameters = self.network.parameters
        names = {id(array): name for name, array in parameters.items()}
        taken: set[int] = set()
        for optimizer in self.optimizers:
            arrays = optimizer.parameters
            strange = [name for name, array in arrays.items() if id(array) not in names]
            if strange or not arrays:
                raise ValueError(
                    "the optimizer must be over the network's own arrays, as Adam(network.parameters) is, or "
                    f"some of them, got one over {', '.join(map(repr, strange)) or 'none'}"
                )
            ids = set(map(id, arrays.values()))
            if ids & taken:
                raise ValueError("optimizers must be over different arrays, got two that share some")
            taken |= ids
        return [
            {own: own if parameters.get(own) is array else names[id(array)] for own, array in each.items()}
            for each in (optimizer.parameters for optimizer in self.optimizers)
        ]

    def _take_gradients(self) -> dict[str, Array]:
        """Those of the arrays that are trained, by the network's names; others are forgotten."""
        trained = {name for names in self._names for name in names.values()}
        if trained >= self.network.parameters.keys():
            return dict(self.network.take_gradients())
        found = {name: array for name, array in self.network.gradients.items() if name in trained}
        if missing := sorted(trained - found.keys()):
            raise RuntimeError(f"the network has no gradients of {', '.join(missing)}: back must run")
        self.network.clear_gradients()
        return found

    # -- between epochs, and at the end

    def _measure(self, metrics: Callable[[Any], Mapping[str, Any]], record: dict[str, Any]) -> None:
        """Add what metrics return to the record."""
        found = metrics(self.network)
        if not isinstance(found, Mapping):
            raise TypeError(f"metrics must return numbers by name, got {checks.came(found)}")
        found = parallel.on_first(dict, found)
        for name, value in found.items():
            if name in record or name == "seconds":
                raise ValueError(f"metrics must return names of their own, got {name!r}")
            record[name] = number(f"metric {name}", value)

    def _compare(self, record: dict[str, Any]) -> None:
        """Keep the state if the record is the best."""
        if self.monitor not in record:
            raise ValueError(f"monitor must be one of {', '.join(record)}, got {self.monitor!r}")
        if self._finite(self.monitor.replace("_", " "), record[self.monitor]) < self._best_score():
            self._best, self.best_epoch = self._snapshot(), record["epoch"]

    def _told_to_stop(self, callbacks: Sequence[Callable[[Any], Any]]) -> bool:
        try:
            found = [callback(self) for callback in callbacks]
        except StopTraining:
            found = [True]
        stop = any(isinstance(each, (bool, np.bool_)) and bool(each) for each in found)
        return parallel.on_any("the end of an epoch", stop)

    def _done(self, epochs: float) -> float:
        """How much of the training is done when so many epochs and the steps before this one are."""
        done = {"epochs": epochs, "max_steps": self._steps - 1, "max_seconds": self._seconds()}
        limits = {name: getattr(self._options, name) for name in done}
        return float(max(min(done[name] / limit, 1) for name, limit in limits.items() if limit is not None))

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a training to go on."""
        several = len(self.optimizers) > 1
        settings: dict[str, Any] = {}
        for place, (optimizer, peak) in enumerate(zip(self.optimizers, self._peaks, strict=True)):
            of = {"optimizer": type(optimizer).__name__, "learning_rate": peak, **in_json(optimizer.options)}
            settings |= {f"{name} of optimizer {place}" if several else name: of[name] for name in of}
        for name in ("schedule", "clip_norm", "accumulate"):
            value = getattr(self._options, name)
            settings[name] = "a function" if callable(value) else value
        if (ranks := parallel.current()) is not None and ranks.pieces is not None:
            settings["pieces"] = ranks.pieces
        return settings

    def _snapshot(self) -> dict[str, Array]:
        """Copies of the weights and of the optimizers' states, which belong together."""
        parts = {"weights": self.network.parameters}
        parts |= {f"optimizer.{place}": each.state_dict() for place, each in enumerate(self.optimizers)}
        return {f"{part}.{name}": array.copy() for part, of in parts.items() for name, array in of.items()}

    def _put_back(self, snapshot: Mapping[str, Array]) -> None:
        if snapshot:
            for place, optimizer in enumerate(self.optimizers):
                optimizer.load_state_dict(part_of(snapshot, f"optimizer.{place}."))
            parameters: Any = self.network.parameters
            for name, array in part_of(snapshot, "weights.").items():
                if parameters[name].shape == array.shape:
                    parameters[name][...] = array
                else:  # somebody has put another one there
                    parameters[name] = array.copy()

    def _end(self, snapshot: Mapping[str, Array]) -> None:
        """Leave no traces but weights, of a snapshot or as they are."""
        self._put_back(snapshot)
        self.network.clear_gradients()
        self._set_rates(1.0)

    def _set_rates(self, part: float) -> None:
        for optimizer, peak in zip(self.optimizers, self._peaks, strict=True):
            optimizer.lr = peak * part

    def _generators(self) -> list[np.random.Generator]:
        found = held_in(self.rng, self.network)
        return [each for each in found if isinstance(each, np.random.Generator)]

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
        out_of_patience = self._options.patience is not None and waited >= self._options.patience
        enough = self._options.epochs is not None and epochs >= self._options.epochs
        return enough or out_of_patience or (epochs > 0 and self._out_of_budget())

    def _best_score(self) -> float:
        return math.inf if self.best_epoch is None else self.history[self.best_epoch - 1][self.monitor]

    def _seconds(self) -> float:
        return self._clock() - self._start

    def _out_of_budget(self) -> bool:
        done = ((self._steps, self._options.max_steps), (self._seconds(), self._options.max_seconds))
        return any(limit is not None and count >= limit for count, limit in done)


def _name_not_finite(gradients: Mapping[str, Array]) -> str:
    """The gradient that is not finite; if all are, but their squares too large, then the norm."""
    for name, array in gradients.items():
        if not np.isfinite(array).all():
            return f"gradient of {name}"
    return "norm of the gradients"
