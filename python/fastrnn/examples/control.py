"""A pole, balanced by an agent that never sees how fast it falls.

Of a cart with a pole on it (Barto, Sutton and Anderson 1983) an agent is shown where the cart is and how far
the pole leans, but not how fast; at each step it pushes to the left or to the right. An LSTM remembers what
was shown before, a linear layer makes of its state what to do, another one what will come of it, and proximal
policy optimization (Schulman et al. 2017) improves them. Poles fall at all times, so that sequences begin in
the middle of a batch: ``starts``. The baseline is the same agent with ``starts`` at every step, which takes
its memory away.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from fastrnn import figures
from fastrnn.checks import Array
from fastrnn.examples import print_table, save_figure
from fastrnn.layers import LSTM, Composite, Linear
from fastrnn.optim import Adam, clip_grad_norm

LIMIT = 500  # steps: an episode of so many has succeeded
POLES, STEPS = 16, 128  # side by side, and of a rollout, from which the agent learns before it goes on
ROLLOUTS, SEEDS = 150, 3
UNITS, RATE, CLIP = 64, 2e-3, 0.5
PASSES, PARTS = 5, 4  # over a rollout, and the parts of it that a step of the optimizer learns from
DISCOUNT, TRACE = 0.99, 0.95
NEAR, UNDECIDED = 0.2, 0.005  # how far a policy may move at a time, and what counts for it beside the gain


class Poles:
    """Carts with poles, side by side; where one has fallen, or stood for `LIMIT` steps, another begins."""

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.moving = rng.uniform(-0.05, 0.05, (4, count))  # speeds of carts and poles after their places
        self.age = np.zeros(count, int)

    def seen(self) -> Array:
        """Where the carts are and how far the poles lean, as parts of the most, (B, 2)."""
        shown: Array = (self.moving[[0, 2]] / [[2.4], [0.21]]).T.astype("float32")
        return shown

    def push(self, right: Array) -> tuple[Array, Array]:
        """One step, of 0.02 seconds; which have fallen, and which have ended."""
        _, speed, lean, turning = self.moving
        sine, cosine = np.sin(lean), np.cos(lean)
        force = (np.where(right, 10, -10) + 0.05 * turning**2 * sine) / 1.1
        faster = (9.8 * sine - cosine * force) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        self.moving += 0.02 * np.stack([speed, force - 0.05 * faster * cosine / 1.1, turning, faster])
        self.age += 1
        fallen = (np.abs(self.moving[0]) > 2.4) | (np.abs(self.moving[2]) > np.radians(12))
        ended = fallen | (self.age == LIMIT)
        self.moving[:, ended] = self.rng.uniform(-0.05, 0.05, (4, int(ended.sum())))
        self.age[ended] = 0
        return fallen, ended


class Rollout(NamedTuple):
    """What happened in some steps, and what is to be learned from it."""

    state: Array  # (2, B, H): h and c at the beginning
    x: Array  # (T, B, 2)
    starts: Array  # (T, B): whether an episode begins
    actions: Array  # (T, B)
    chances: Array  # (T, B): the logarithm of the probability that each had
    gains: Array  # (T, B): how much more came of it than was expected
    returns: Array  # (T, B): what came

    def of(self, some: Array) -> Rollout:
        """That of some poles."""
        return Rollout(*(array[:, some] for array in self))


class Agent(Composite):
    """What to do, and what will come of it, after all that was seen since an episode began."""

    def __init__(self, seed: int, *, forgetful: bool = False) -> None:
        self.forgetful = forgetful
        policy, worth = Linear(UNITS, 2, seed=seed), Linear(UNITS, 1, seed=seed)
        policy.parameters["weight"] *= 0.01  # at first it prefers nothing
        super().__init__(recurrent=LSTM(2, UNITS, seed=seed), policy=policy, worth=worth)
        self.optimizer = Adam(self.parameters, RATE)

    def look(self, x: Array, state: Array, starts: Array) -> tuple[Array, Array, Array]:
        """The logarithms of probabilities, (B, 2), the worth, (B,), and the state after another step."""
        hidden, state_n = self.recurrent(x[None], (state[:1], state[1:]), starts=self._starts(starts[None]))
        return log_softmax(self.policy(hidden[0])), self.worth(hidden[0])[:, 0], np.concatenate(state_n)

    def learn(self, part: Rollout) -> None:
        """One step of the optimizer."""
        state, starts = (part.state[:1], part.state[1:]), self._starts(part.starts)
        hidden, _, back = self.recurrent.forward(part.x, state, starts=starts)
        logits, policy_back = self.policy.forward(hidden)
        worth, worth_back = self.worth.forward(hidden)
        dworth = (worth - part.returns[..., None]) / part.returns.size
        back(policy_back(policy_gradient(logits, part)) + worth_back(dworth), input_gradient=False)
        gradients = self.take_gradients()
        clip_grad_norm(gradients, CLIP)
        self.optimizer.step(gradients)

    def improve(self, rollout: Rollout, rng: np.random.Generator) -> None:
        """Learn from a rollout: in each pass once from each pole's part of it."""
        for _ in range(PASSES):
            for some in np.split(rng.permutation(POLES), PARTS):
                self.learn(rollout.of(some))

    def _starts(self, starts: Array) -> Array:
        return np.ones_like(starts) if self.forgetful else starts


def log_softmax(logits: Array) -> Array:
    found: Array = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return found


def policy_loss(logits: Array, part: Rollout) -> float:
    """What is minimised: less the more is gained by what becomes likelier, and the less is decided."""
    chances = log_softmax(logits)
    ratio = np.exp(np.take_along_axis(chances, part.actions[..., None], -1)[..., 0] - part.chances)
    gain = np.minimum(ratio * part.gains, np.clip(ratio, 1 - NEAR, 1 + NEAR) * part.gains)
    return -float((gain - UNDECIDED * (np.exp(chances) * chances).sum(-1)).mean())


def policy_gradient(logits: Array, part: Rollout) -> Array:
    """The gradient of `policy_loss`."""
    chances = log_softmax(logits)
    p, taken = np.exp(chances), np.eye(2, dtype=logits.dtype)[part.actions]
    ratio = np.exp((chances * taken).sum(-1) - part.chances)
    near = np.where(part.gains > 0, ratio < 1 + NEAR, ratio > 1 - NEAR)
    toward = (part.gains * ratio * near)[..., None] * (taken - p)
    undecided = p * (chances - (p * chances).sum(-1, keepdims=True))
    found: Array = (UNDECIDED * undecided - toward) / part.actions.size
    return found


def play(agent: Agent, poles: Poles, state: Array, starts: Array) -> tuple[Rollout, Array, Array, list[int]]:
    """A rollout; the state and the starts to go on from; and the lengths of the episodes that ended."""
    begin, steps, lengths = state, [], []
    for _ in range(STEPS):
        x = poles.seen()
        chances, worth, state = agent.look(x, state, starts)
        actions = (poles.rng.random(len(x)) > np.exp(chances[:, 0])).astype(int)
        ages = poles.age + 1
        fallen, ended = poles.push(actions == 1)
        steps.append((x, starts, actions, chances[np.arange(len(x)), actions], worth, fallen, ended))
        lengths += ages[ended].tolist()
        starts = ended
    x, begun, actions, chances, worth, fallen, ended = map(np.stack, zip(*steps, strict=True))
    gains = np.empty_like(worth)
    following, gain = agent.look(poles.seen(), state, starts)[1], np.zeros(len(starts), "float32")
    for t in reversed(range(STEPS)):  # generalized advantage estimation (Schulman et al. 2016)
        going_on = np.where(ended[t], worth[t], following)  # where only time was up, about what it was
        surprise = 1 - DISCOUNT + DISCOUNT * np.where(fallen[t], 0, going_on) - worth[t]
        gains[t] = gain = surprise + DISCOUNT * TRACE * np.where(ended[t], 0, gain)
        following = worth[t]
    normal = (gains - gains.mean()) / gains.std()
    return Rollout(begin, x, begun, actions, chances, normal, gains + worth), state, starts, lengths


def train(seed: int, rollouts: int, *, forgetful: bool = False) -> tuple[Agent, list[float]]:
    """An agent, and how long the last 50 episodes were on average, after each rollout."""
    rng = np.random.default_rng(seed)
    agent, poles = Agent(seed, forgetful=forgetful), Poles(POLES, rng)
    state, starts = np.zeros((2, POLES, UNITS), "float32"), np.ones(POLES, bool)
    recent, curve = deque([0], 50), []
    for done in range(rollouts):
        rollout, state, starts, lengths = play(agent, poles, state, starts)
        recent.extend(lengths)
        curve.append(float(np.mean(recent)))
        agent.optimizer.lr = RATE * (1 - done / rollouts)
        agent.improve(rollout, rng)
    return agent, curve


def stands(agent: Agent, episodes: int = 100) -> tuple[float, Array]:
    """For how many steps on average, where it does what it thinks is best; and how the first pole leans."""
    poles = Poles(episodes, np.random.default_rng(SEEDS))
    state, starts = np.zeros((2, episodes, UNITS), "float32"), np.ones(episodes, bool)
    lengths, leans = np.full(episodes, LIMIT), []
    for step in range(1, LIMIT + 1):
        chances, _, state = agent.look(poles.seen(), state, starts)
        leans.append(poles.moving[2, 0])
        starts = poles.push(chances.argmax(-1) == 1)[1]
        lengths[starts] = np.minimum(lengths[starts], step)
    return float(lengths.mean()), np.array(leans[: lengths[0]])


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Train agents with memory and without; the scores are for how many steps poles stand, at most 500."""
    seeds, rollouts = (1, 20) if quick else (SEEDS, ROLLOUTS)
    agents: dict[str, list[tuple[Agent, list[float]]]] = {}
    seconds: dict[str, float] = {}
    for name in ("LSTM", "without memory"):
        start = time.perf_counter()
        agents[name] = [train(seed, rollouts, forgetful=name != "LSTM") for seed in range(seeds)]
        seconds[name] = (time.perf_counter() - start) / seeds
    tried = {name: [stands(agent) for agent, _ in some] for name, some in agents.items()}
    lengths = {name: [length for length, _ in some] for name, some in tried.items()}
    print_table(
        (f"after {rollouts * STEPS * POLES:,} steps", "stands for", "worst seed", "seconds"),
        *(
            [name, f"{np.mean(some):.0f} steps", f"{min(some):.0f}", f"{seconds[name]:.1f}"]
            for name, some in lengths.items()
        ),
    )
    figure = figures.new(10, 4.5)
    left, right = figure.subplots(1, 2)
    played = np.arange(1, rollouts + 1) * STEPS * POLES / 1000
    for color, name in zip(("C0", "C1"), agents, strict=True):
        for place, (_, curve) in enumerate(agents[name]):
            left.plot(played, curve, color=color, label=None if place else name)
        lean = np.degrees(tried[name][0][1])
        right.plot(0.02 * np.arange(len(lean)), lean, color=color)
    left.set(xlabel="thousands of steps", ylabel="mean length of 50 episodes, steps", ylim=(0, 1.05 * LIMIT))
    left.set_title("While they learn" + f", {seeds} seeds each" * (seeds > 1))
    left.legend(loc=(0.55, 0.2))
    right.set(xlabel="seconds", ylabel="lean of the pole, degrees", ylim=(-13, 13))
    right.set_title("One episode afterwards; fallen at 12°")
    save_figure(figure, directory, "control")
    return {name: float(np.mean(some)) for name, some in lengths.items()}
