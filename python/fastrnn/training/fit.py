"""Training of a network of one's own, or of anybody's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from fastrnn import checkpoint as files
from fastrnn import checks, parallel
from fastrnn.data import dataset
from fastrnn.layers import Layer
from fastrnn.layers.compression import require_trainable
from fastrnn.layers.layer import held_in
from fastrnn.optim import Adam, Optimizer
from fastrnn.training.learning import learn_by
from fastrnn.training.run import Network, Training
from fastrnn.training.schedules import Schedule

Path: TypeAlias = str | os.PathLike[str]
Callbacks: TypeAlias = Callable[[Any], Any] | Sequence[Callable[[Any], Any]]


def fit(
    network: Network,
    data: Any,
    *,
    loss: Any = None,
    validation: Any = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    epochs: int | None = None,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    schedule: str | Schedule = "cosine",
    clip_norm: float | None = None,
    accumulate: int = 1,
    batch_size: int = 32,
    bptt_steps: int | None = None,
    patience: int | None = None,
    metrics: Callable[[Any], Mapping[str, Any]] | None = None,
    monitor: str = "validation_loss",
    callbacks: Callbacks = (),
    checkpoint: Path | None = None,
    resume: Path | tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    seed: int | np.random.Generator | None = None,
    verbose: Any = False,
) -> Training:
    """Train a network, and leave it and its optimizers as they were after the best epoch, or without
    validation as they are after the last.

    Parameters
    ----------
    network : Network
        A layer, a `Sequential` or a `Composite` of one's own; anything with ``parameters`` and
        ``take_gradients()``, that says how it learns in one of two ways:

        - ``forward(x) -> y, back``, where ``back(dy)`` adds to the gradients, and ``network(x)`` for
          validation, with `loss`. Where sequences differ in length, both get ``lengths``; with `bptt_steps`
          ``state`` and ``return_state=True``, as `Sequential`;
        - ``loss(batch, state, *, training) -> value, count, state``, a method: the mean loss of a batch, the
          number of samples that it is the mean of, and what the next batch gets as `state` if it ``follows``;
          with `training` it also runs back. Other batches get None.
    data : tuple, callable or Dataset
        ``(X, y)``, ``(X, y, lengths)``, ``(X, y, lengths, sample_weight)``, a function that yields such, for
        data larger than memory, or a `fastrnn.data.Dataset`: see `fastrnn.data.dataset`. If the network holds
        a recurrent layer or a pooling, X are sequences, else rows, an array (N, ...). A `Sequential` gets a
        batch of sequences as `fastrnn.data.Sequences`, another network an array, time first or as its
        ``batch_first`` says.
    loss : str or callable, optional
        A name of `fastrnn.losses.LOSSES`, or a function ``(y, target) -> (value, dy)``, which gets the
        ``weights`` of targets too if there are some. Steps after a sequence's end have been taken out of its
        arguments.
    validation : tuple, callable or Dataset, optional
        As `data`; after each epoch the loss of it is taken, without dropout.
    optimizer : Optimizer or sequence of Optimizer, optional
        Over the network's arrays, or some of them: the others are frozen, and do not change. Several have
        groups of arrays with rates and options of their own. The rate of each is its highest, and when the
        training ends it is that again. By default ``Adam(network.parameters)``.
    epochs : int, optional
        Passes over the data at most; 0 trains nothing.
    max_steps : int, optional
        Stop after so many steps of the optimizer; one more validation follows.
    max_seconds : float, optional
        Stop after the first step past so many seconds; one more validation follows.
    schedule : {"cosine", "constant", "step", "warmup"} or callable
        Which part of the learning rate is used when, over the epochs, `max_steps` or `max_seconds`, whichever
        is further on: see `fastrnn.training.schedules`; or a function from progress, 0 to 1, to that part.
    clip_norm : float, optional
        Gradients of a greater common norm than this are scaled down to it.
    accumulate : int
        Batches whose gradients make up a step: their mean.
    batch_size, bptt_steps
        Sequences in a batch; and, for targets by step, steps of the windows that gradients flow through, the
        state being carried on. A `Dataset` knows these by itself.
    patience : int, optional
        Stop after so many epochs without a better `monitor`.
    metrics : callable, optional
        Called with the network after each epoch; returns numbers by name, for the record.
    monitor : str
        The entry of an epoch's record that is to be low: of `validation`, or of `metrics`.
    callbacks : callable or sequence of callable
        Called after each epoch with the `Training`, whose ``history`` is up to date. One that returns True or
        raises `StopTraining` ends the training.
    checkpoint : path, optional
        Where to write, after each epoch, what it takes to go on.
    resume : path, "auto" or tuple, optional
        Such a file, or what `Training.state_dict` returns, to go on from: bit for bit as if there had been no
        interruption. Network, data, optimizers and settings must be the same, but for `epochs`, `max_steps`,
        `max_seconds` and `patience`. With "auto" it is `checkpoint`, if there is such a file.
    seed : int or numpy.random.Generator, optional
        Of the order of the data. A network's own generators are found, in its attributes and in theirs, and
        are part of the state.
    verbose : bool or callable
        Show a bar, where somebody watches and tqdm is installed, and print a line for each epoch. A function
        puts a loss into words there.

    Returns
    -------
    Training
        With its ``history`` and ``best_epoch``.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, before anything is computed; if a loss returns something else than it
        must, an epoch has more than the ``samples`` announced, or none.
    RuntimeError
        If a step has not run back.
    FloatingPointError
        If a loss or a gradient is not finite: it names the step, the epoch and the parameter.
    OSError
        If the checkpoint cannot be written, which is tried before training.
    Exception
        After any error, also in data, a loss or a callback, network and optimizers are as after the best
        epoch; without validation, as after the last epoch that ended.
    KeyboardInterrupt
        If interrupted: they are as after the best epoch; before the first validation they stay as they are.

    Examples
    --------
    >>> from fastrnn.layers import Linear, Sequential, Tanh
    >>> x = np.linspace(-3, 3, 64, dtype="float32")[:, None]
    >>> rng = np.random.default_rng(0)
    >>> network = Sequential(Linear(1, 16, seed=rng), Tanh(), Linear(16, 1, seed=rng))
    >>> optimizer = Adam(network.parameters, 0.05)
    >>> training = fit(
    ...     network, (x, np.sin(x)), loss="mean_squared_error", optimizer=optimizer, epochs=200, seed=0
    ... )
    >>> bool(np.abs(network(x) - np.sin(x)).max() < 0.15)
    True
    """
    if not hasattr(network, "take_gradients"):
        raise TypeError(f"network must have parameters and take_gradients(), got {checks.came(network)}")
    told = listed(callbacks)
    if metrics is not None:
        checks.function("metrics", metrics)
    bptt = None if bptt_steps is None else checks.positive_int("bptt_steps", bptt_steps)
    options = {
        "epochs": epochs,
        "max_steps": max_steps,
        "max_seconds": max_seconds,
        "schedule": schedule,
        "clip_norm": clip_norm,
        "accumulate": accumulate,
        "patience": patience,
        "verbose": verbose,
    }
    if isinstance(network, type):
        raise TypeError(f"network must be one, got the class {network.__name__}: call it")
    rng = seed if isinstance(seed, np.random.Generator) else _generator(seed)
    held = [each for each in held_in(network) if isinstance(each, Layer)]
    for layer in held:
        require_trainable(layer)
    learn = learn_by(network, loss, bptt is not None)
    training = Training(network, learn, _optimizers(network, optimizer), rng, monitor, options)
    memory = any(each._takes_lengths for each in held)
    if bptt is not None and any(each._needs_whole for each in held):
        raise ValueError(
            f"bptt_steps must be None for a network with a bidirectional layer or Reverse, got {bptt}: these "
            "begin at the end of a sequence, not of a window"
        )
    dtype = next(iter(network.parameters.values())).dtype
    size = checks.positive_int("batch_size", batch_size)
    read = partial(dataset, batch_size=size, bptt_steps=bptt, dtype=dtype, rows=not memory)
    examples = read("data", data)
    held_out = None if validation is None else read("validation", validation)
    state: Any = (
        resume if isinstance(resume, tuple) else parallel.on_first(files.to_resume, resume, checkpoint)
    )
    if state is not None:
        tensors, metadata = state if isinstance(state, tuple) else parallel.on_first(files.load, state)
        if "settings" not in metadata:
            raise ValueError(f"{os.fspath(state)!r} holds no state of a training")
        training.load_state_dict(tensors, metadata)
    if checkpoint is not None:
        parallel.on_first(files.require_writable, checkpoint)
        told.insert(0, lambda training: parallel.on_first(training.save, checkpoint))
    training.run(examples, held_out, metrics, told)
    return training


def listed(callbacks: Callbacks) -> list[Callable[[Any], Any]]:
    """Callbacks as a list, each of which can be called."""
    several = list(callbacks) if isinstance(callbacks, Sequence) else [callbacks]
    return [checks.function("callbacks", each) for each in several]


def _optimizers(network: Network, given: Any) -> list[Optimizer]:
    found = [Adam(network.parameters)] if given is None else given
    found = [found] if isinstance(found, Optimizer) else found
    if not isinstance(found, (list, tuple)) or not found or not all(isinstance(o, Optimizer) for o in found):
        raise TypeError(f"optimizer must be an Optimizer or a list of some, got {checks.came(given)}")
    return list(found)


def _generator(seed: int | None) -> np.random.Generator:
    return np.random.default_rng(None if seed is None else checks.non_negative_int("seed", seed))
