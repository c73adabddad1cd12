"""How a network learns from a batch: its loss, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

import numpy as np

from fastrnn import checks, losses
from fastrnn.checks import Array
from fastrnn.data import Dataset, Examples, Sequences
from fastrnn.layers import Sequential


class Learn(Protocol):
    """From a batch and the state to go on from: the mean loss, the samples it is of, and the state after."""

    def __call__(self, batch: Any, state: Any, *, training: bool) -> tuple[float, int, Any]: ...


def learn_by(network: Any, loss: Any, stateful: bool) -> Learn:
    """How a network learns: by its own ``loss``, or by its ``forward`` and a loss of a name or a function."""
    if loss is None:
        if not callable(getattr(network, "loss", None)):
            raise TypeError(
                "loss must be given, a name or a function, unless the network has "
                f"loss(batch, state, *, training), got None and {checks.came(network)}"
            )
        own: Learn = network.loss
        return own
    if not callable(getattr(network, "forward", None)):
        raise TypeError(f"network must have forward(x), which returns y and back, got {checks.came(network)}")
    return Supervised(network, losses.get(loss), stateful)


def epoch_of(learn: Learn, data: Dataset, rng: np.random.Generator | None) -> Iterator[tuple[float, int]]:
    """The loss of each batch of an epoch and its samples; with a generator each has run backward too."""
    state = None
    for batch in data.batches(rng):
        state = state if getattr(batch, "follows", False) else None
        value, count, state = result_of(learn(batch, state, training=rng is not None))
        yield value, count


def result_of(found: Any) -> tuple[float, int, Any]:
    """What learning from a batch has returned, checked."""
    if not isinstance(found, tuple) or len(found) != 3:
        raise TypeError(f"the network's loss must return (value, count, state), got {checks.came(found)}")
    value, count, state = found
    return number("loss", value), checks.non_negative_int("a loss's count", count), state


def mean_loss(learn: Learn, data: Dataset, most: int | None = None) -> float:
    """Without training, of all batches or of at most so many."""
    found = list(islice(epoch_of(learn, data, None), most))
    if not sum(count for _, count in found):
        raise ValueError("validation must have samples, got none")
    values, counts = zip(*found, strict=True)
    return float(np.average(values, weights=counts))


def number(what: str, value: Any) -> float:
    """A number of Python's, NumPy's or PyTorch's as a float."""
    try:
        found = float(value) if np.ndim(value) == 0 else None
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise TypeError(f"the {what} must be a number, got {checks.came(value)}")
    return found


class Supervised:
    """A network with ``forward(x, ...) -> y, back`` and a loss ``(y, target) -> (value, dy)``.

    A `Sequential` gets `Sequences`; another network arrays, time first or as its ``batch_first`` says, and
    ``lengths`` where they differ. Steps after a sequence's end do not count.

    Parameters
    ----------
    network : callable
        A call of it is inference.
    loss : callable
    stateful : bool
        Whether the state goes from batch to batch: as that of `Sequential` does.
    """

    def __init__(self, network: Any, loss: losses.Loss, stateful: bool) -> None:
        self.network, self.loss, self.stateful = network, loss, stateful
        self.batch_first = getattr(network, "batch_first", False)
        self.chain = isinstance(network, Sequential)

    def __call__(self, batch: Examples, state: Any, *, training: bool) -> tuple[float, int, Any]:
        x, options = self._inputs(batch.x)
        if self.stateful:
            options |= {"state": state, "return_state": True}
        run = self.network.forward if training else self.network
        if not callable(run):
            raise TypeError(f"network must be one that can be called, to validate, got {checks.came(run)}")
        found = run(x, **options)
        y, *rest = found if isinstance(found, tuple) else (found,)
        if training and not callable(rest[-1] if rest else None):
            raise TypeError(f"the network's forward must return y and back, got {checks.came(found)}")
        target, valid = self._targets(batch)
        value, dy = self._loss(y, target, valid, batch.weights)
        if training:
            rest[-1](dy, **({"input_gradient": False} if self.chain else {}))
        count = len(batch) if valid is None else int(valid.sum())
        return value, count, rest[0] if self.stateful else None

    def _inputs(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """What the network takes, and by name what goes with it."""
        if self.chain or not isinstance(x, Sequences):
            return x, {}
        array, lengths = x.padded()
        array = array.swapaxes(0, 1) if self.batch_first else array
        return array, {"lengths": lengths} if lengths.min() < x.steps else {}

    def _targets(self, batch: Examples) -> tuple[Array, Array | None]:
        """The targets; and where they are of steps, which there are."""
        if not isinstance(batch.y, Sequences):
            return batch.y, None
        target, lengths = batch.y.padded()
        valid = np.arange(len(target))[:, None] < lengths
        return (target.swapaxes(0, 1), valid.T) if self.batch_first else (target, valid)

    def _loss(
        self, y: Array, target: Array, valid: Array | None, weights: Array | None
    ) -> tuple[float, Array]:
        """The loss and its gradient, of the steps that have a target."""
        axes = 1 if valid is None else 2
        if y.shape[:axes] != target.shape[:axes]:
            each = "sequence" if valid is None else "step"
            raise ValueError(
                f"the network must give something for each {each}, as there are targets for each, "
                f"{target.shape[:axes]}, got an output of shape {y.shape}"
            )
        if target.dtype.kind == "f":
            target = target.astype(y.dtype, copy=False)
            if target.ndim == y.ndim - 1 and y.shape[-1] == 1:
                target = target[..., None]
        if valid is not None and weights is not None:
            weights = np.broadcast_to(weights[:, None] if self.batch_first else weights, valid.shape)
        if valid is None or valid.all():
            return call_loss(self.loss, y, target, weights)
        dy = np.zeros_like(y)
        some = None if weights is None else weights[valid]
        value, dy[valid] = call_loss(self.loss, y[valid], target[valid], some)
        return value, dy


def call_loss(loss: losses.Loss, y: Array, target: Any, weights: Array | None = None) -> tuple[float, Array]:
    """The value and the gradient of a loss, whoever wrote it: an error unless they are what they must be.

    With weights of targets, which it gets too, they are of the mean of weight times loss, not divided by the
    sum of the weights: a batch of little weight counts less.
    """
    found = loss(y, target) if weights is None else loss(y, target, weights=weights)
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"loss must return a pair, its value and its gradient, got {checks.came(found)}")
    value, dy = found
    if np.shape(dy) != y.shape:
        expected = f"a gradient of the shape of the network's output, {y.shape}"
        raise ValueError(f"loss must return {expected}, got {checks.came(dy)}")
    value, dy = number("loss", value), np.asarray(dy, y.dtype)
    if weights is None:
        return value, dy
    mean = float(weights.mean())
    return value * mean, dy * mean
