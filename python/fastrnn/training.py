"""The training loop that every model shares."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.optim import Optimizer, clip_grad_norm


class Network(Protocol):
    """Arrays to train, and after a backward pass their gradients, by the same names."""

    @property
    def parameters(self) -> Mapping[str, Array]: ...

    @property
    def gradients(self) -> dict[str, Array]: ...


class Trainer:
    """Epochs of training steps, each epoch followed by validation, until time, patience or epochs run out.

    Parameters
    ----------
    network : Network
        Its parameters are updated in place.
    optimizer : Optimizer
        Over these parameters. Its learning rate is the highest; from there it falls, see `cosine`, over the
        epochs or over ``max_seconds``, whichever is further on.
    epochs : int
        Number of epochs at most; 0 trains nothing.
    clip_norm : float, optional
        Gradients of a greater norm than this are scaled down to it.
    patience : int, optional
        Stop after so many epochs without a better validation loss.
    max_seconds : float, optional
        Stop after the first step past so many seconds; one more validation follows.
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
        ``train_loss``, the mean over the epoch while the weights changed; and ``validation_loss``.
    best_epoch : int or None
        The epoch of the lowest validation loss.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        *,
        epochs: int,
        clip_norm: float | None = None,
        patience: int | None = None,
        max_seconds: float | None = None,
        describe: Callable[[float], str] | None = None,
        unit: str = "sample",
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.epochs = checks.non_negative_int("epochs", epochs)
        self.clip_norm = None if clip_norm is None else checks.positive_float("clip_norm", clip_norm)
        self.patience = None if patience is None else checks.positive_int("patience", patience)
        self.max_seconds = None if max_seconds is None else checks.positive_float("max_seconds", max_seconds)
        self.describe = describe
        self.unit = unit
        self.history: list[dict[str, Any]] = []
        self.best_epoch: int | None = None
        self._peak = optimizer.lr
        self._steps = self._samples = 0

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
            Called after every epoch, when `history` and `best_epoch` are up to date.

        Raises
        ------
        FloatingPointError
            If a loss or the gradients' norm is not finite.
        KeyboardInterrupt
            If interrupted, like any error after the best weights have been put back; before the first
            validation the weights stay as they are.
        """
        self._start = time.perf_counter()
        best: dict[str, Array] = {}
        try:
            while not self._finished():
                record = self._epoch(steps(), samples)
                if validate is not None:
                    record["validation_loss"] = self._finite("validation loss", validate())
                    if record["validation_loss"] < self._best_loss():
                        best = {name: parameter.copy() for name, parameter in self.network.parameters.items()}
                        self.best_epoch = record["epoch"]
                record["seconds"] = self._seconds()
                self.history.append(record)
                if on_epoch is not None:
                    on_epoch()
        finally:
            for name, weights in best.items():
                self.network.parameters[name][...] = weights

    def _epoch(self, steps: Iterator[tuple[float, int]], samples: int) -> dict[str, Any]:
        """Train for one epoch, or until time is up, and return its record."""
        epoch, start = len(self.history) + 1, self._seconds()
        total, done = 0.0, 0
        with self._progress_bar(epoch, samples) as bar:
            for loss, count in steps:
                self._steps += 1
                self._update(self._finite("loss", loss), (epoch - 1 + done / samples) / self.epochs)
                total, done = total + loss * count, done + count
                if bar is not None and self.describe is not None:
                    bar.set_postfix_str(self.describe(total / done), refresh=False)
                    bar.update(count)
                if self._out_of_time():
                    break
        self._samples += done
        return {
            "epoch": epoch,
            "samples": self._samples,
            "samples_per_second": done / (self._seconds() - start),
            "learning_rate": self.optimizer.lr,
            "train_loss": total / done,
        }

    def _update(self, loss: float, progress: float) -> None:
        """One step of the optimizer."""
        if self.clip_norm is not None:
            self._finite("norm of the gradients", clip_grad_norm(self.network.gradients, self.clip_norm))
        if self.max_seconds is not None:
            progress = max(progress, min(self._seconds() / self.max_seconds, 1.0))
        self.optimizer.lr = self._peak * cosine(progress)
        self.optimizer.step(self.network.gradients)

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


def cosine(progress: float, floor: float = 0.01) -> float:
    """The part of the learning rate to use when ``progress``, from 0 to 1, of the training is done.

    Half a cosine, from 1 to ``floor``: Loshchilov and Hutter, SGDR, 2017, equation 5, without restarts.
    """
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
