"""Delayed recall: which cells remember a symbol for how long.

A symbol is shown, noise follows, and after a lag a network is to say which it was: the first
step shows one of eight symbols, every other one of four that mean nothing; what came first is to be said at
the last (after Hochreiter and Schmidhuber 1997, section 5.2). The only way from the error back to the
symbol leads through every step between, so that a gradient that vanishes cannot be overlooked. Each network
is trained at lags of 10 to 200 steps, until it recalls or its batches are used up; its gradients are measured
before. Each is trained once, from one seed: with others a lag more or less is learned.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.diagnostics import Direction, diagnose
from fastrnn.examples import print_table, save_figure
from fastrnn.layers import GRU, LSTM, RNN, Composite, Linear, Recurrent, initial
from fastrnn.losses import softmax_cross_entropy
from fastrnn.optim import Adam, clip_grad_norm

SYMBOLS, NOISE, UNITS, BATCH = 8, 4, 64, 64
LAGS = (10, 20, 50, 100, 200)
STEPS, TRIED_AT = 1000, 20  # batches at most, and between two looks at whether it is learned
RATE, CLIP = 3e-3, 1.0
LEARNED = 0.99  # accuracy


class Setting(NamedTuple):
    """A network to try."""

    name: str
    make: Callable[..., Recurrent[Any]]
    prepare: Callable[[Any], None] = lambda layer: None
    clip: float | None = CLIP


def _relu(*args: Any, **options: Any) -> RNN:
    return RNN(*args, nonlinearity="relu", **options)


def _orthogonal(layer: Recurrent[Any]) -> None:
    initial.orthogonal(layer, seed=0)


def _open(layer: Recurrent[Any]) -> None:
    initial.forget_bias(layer, 1.0)


def _wide_open(layer: Recurrent[Any]) -> None:
    initial.forget_bias(layer, 5.0)


SETTINGS = (
    Setting("vanilla RNN", RNN),
    Setting("LSTM", LSTM),
    Setting("GRU", GRU),
    Setting("RNN, orthogonal", RNN, _orthogonal),
    Setting("RNN, orthogonal, not clipped", RNN, _orthogonal, None),
    Setting("relu RNN, identity", _relu, initial.identity),
    Setting("relu RNN, identity, not clipped", _relu, initial.identity, None),
    Setting("LSTM, forget bias 1", LSTM, _open),
    Setting("LSTM, forget bias 5", LSTM, _wide_open),
    Setting("GRU, bias of z 1", GRU, _open),
    Setting("GRU, bias of z 5", GRU, _wide_open),
)
QUICK = SETTINGS[0], SETTINGS[-1]


class Outcome(NamedTuple):
    """What a training came to."""

    accuracy: float  # on fresh sequences
    batches: int


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Train each network at each lag; the scores are accuracies, 1/8 being chance."""
    settings, lags = (QUICK, LAGS[0:3:2]) if quick else (SETTINGS, LAGS)
    start = time.perf_counter()
    flows = {setting.name: _gradients(setting, lags[-1]) for setting in settings}
    outcomes: dict[tuple[str, int], Outcome] = {}
    for setting in settings:
        for lag in lags:
            outcomes[setting.name, lag] = _train(setting, lag)
    chance = f"{1 / SYMBOLS:.0%}"
    print(f"recalled after training, of {SYMBOLS} symbols (chance: {chance}); and batches to {LEARNED:.0%}")
    print_table(
        ["network", "gradient per step", *(f"lag {lag}" for lag in lags)],
        *(
            [name, f"×{flow.rate:.3f}", *(_words(outcomes[name, lag]) for lag in lags)]
            for name, flow in flows.items()
        ),
    )
    print(f"all of it took {time.perf_counter() - start:.0f} seconds")
    _draw(flows, lags, outcomes, directory)
    return {f"{name}, lag {lag}": outcome.accuracy for (name, lag), outcome in outcomes.items()}


def batch(lag: int, rng: np.random.Generator, size: int = BATCH) -> tuple[Array, Array]:
    """Tokens (1 + lag, B), of which the first is to be recalled, and it alone (B,)."""
    x = rng.integers(SYMBOLS, SYMBOLS + NOISE, (1 + lag, size))
    x[0] = rng.integers(0, SYMBOLS, size)
    return x, x[0]


def _network(setting: Setting) -> tuple[Recurrent[Any], Linear]:
    rng = np.random.default_rng(0)
    layer = setting.make(SYMBOLS + NOISE, UNITS, seed=rng)
    layer.parameters["weight_ih_l0"] *= np.sqrt(UNITS)  # initial values suppose many active inputs, not one
    setting.prepare(layer)
    return layer, Linear(UNITS, SYMBOLS, seed=rng)


def _gradients(setting: Setting, lag: int) -> Direction:
    """How far back the gradient reaches before any training."""
    layer, _ = _network(setting)
    return diagnose(layer, batch(lag, np.random.default_rng(1))[0]).directions[0]


def _train(setting: Setting, lag: int) -> Outcome:
    layer, head = _network(setting)
    network = Composite(recurrent=layer, head=head)
    optimizer = Adam(network.parameters, RATE)
    rng = np.random.default_rng(2)
    accuracy, done = _accuracy(layer, head, lag), 0
    while done < STEPS and accuracy < LEARNED:
        for _ in range(TRIED_AT):
            x, symbols = batch(lag, rng)
            y, _, layer_back = layer.forward(x)
            logits, head_back = head.forward(y[-1])
            _, dlogits = softmax_cross_entropy(logits, symbols)
            dy = np.zeros_like(y)
            dy[-1] = head_back(dlogits)
            layer_back(dy)
            gradients = network.take_gradients()
            if setting.clip is not None:
                clip_grad_norm(gradients, setting.clip)
            optimizer.step(gradients)
            done += 1
        accuracy = _accuracy(layer, head, lag)
    return Outcome(accuracy, done)


def _accuracy(layer: Recurrent[Any], head: Linear, lag: int) -> float:
    x, symbols = batch(lag, np.random.default_rng(3), 512)
    y, _ = layer(x)
    return float((head(y[-1]).argmax(-1) == symbols).mean())


def _words(outcome: Outcome) -> str:
    learned = outcome.accuracy >= LEARNED
    return f"{outcome.accuracy:.0%} ({outcome.batches if learned else '-'})"


def _draw(
    flows: dict[str, Direction],
    lags: tuple[int, ...],
    outcomes: dict[tuple[str, int], Outcome],
    directory: str | os.PathLike[str],
) -> None:
    figure = figures.new(14, 5.5)
    curves, table = figure.subplots(1, 2)
    for name, flow in flows.items():
        if not name.endswith("not clipped"):  # which makes no difference before training
            norms = np.where(flow.flow_norms > 0, flow.flow_norms, np.nan)
            curves.plot(norms / norms[0], label=name)
    curves.set(yscale="log", ylim=(1e-12, 1e4))
    curves.set(xlabel="steps back from the last", ylabel="norm of ∂L/∂h, as a part of the last")
    curves.set_title("What remains of the gradient, before training")
    curves.legend(fontsize="small", ncols=2)

    scores = np.array([[outcomes[name, lag].accuracy for lag in lags] for name in flows])
    table.grid(False)
    table.imshow(scores, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for (row, column), score in np.ndenumerate(scores):
        table.text(column, row, f"{score:.0%}", ha="center", va="center")
    table.set_xticks(range(len(lags)), [str(lag) for lag in lags])
    table.set_yticks(range(len(flows)), list(flows))
    table.set_xlabel("lag, steps")
    table.set_title(f"Recalled after training, of {SYMBOLS} symbols (chance {1 / SYMBOLS:.0%})")
    save_figure(figure, directory, "recall")
