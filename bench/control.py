"""The update of a recurrent agent, beside that of sb3-contrib's RecurrentPPO.

`python bench/control.py` needs sb3-contrib, which brings PyTorch. Both agents see the carts and poles of
`fastrnn examples control`, have an LSTM of 64 units and a linear layer each for what to do and for what will
come of it, and learn from rollouts of 128 steps of 16 poles, in 5 passes of 4 steps of Adam. What is timed
are these 20 steps alone: of the first ten rollouts, whose episodes have some 20 steps, and of the last ten of
40, whose have more. Theirs pads the parts of sequences between starts, so that the first are worst for it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

import fastrnn
from fastrnn.examples import control

ROLLOUTS, SOME = 40, 10


def ours() -> list[float]:
    """Seconds of each update."""
    rng = np.random.default_rng(0)
    agent, poles = control.Agent(0), control.Poles(control.POLES, rng)
    state, starts = np.zeros((2, control.POLES, control.UNITS), "float32"), np.ones(control.POLES, bool)
    seconds = []
    for _ in range(ROLLOUTS):
        rollout, state, starts, _ = control.play(agent, poles, state, starts)
        start = time.perf_counter()
        agent.improve(rollout, rng)
        seconds.append(time.perf_counter() - start)
    return seconds


def theirs() -> list[float]:
    """The same of RecurrentPPO, where one LSTM serves policy and value, too."""
    import gymnasium
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Pole(gymnasium.Env):  # type: ignore[misc]
        """One of the example's, as Gymnasium has it."""

        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            self.poles = control.Poles(1, np.random.default_rng(seed))
            return self.poles.seen()[0], {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            fallen, ended = self.poles.push(np.array([action == 1]))
            reward = 1 - control.DISCOUNT
            return self.poles.seen()[0], reward, bool(fallen[0]), bool(ended[0] and not fallen[0]), {}

    model = RecurrentPPO(
        "MlpLstmPolicy",
        DummyVecEnv([Pole] * control.POLES),
        n_steps=control.STEPS,
        batch_size=control.STEPS * control.POLES // control.PARTS,
        n_epochs=control.PASSES,
        learning_rate=control.RATE,
        ent_coef=control.UNDECIDED,
        vf_coef=0.5,
        max_grad_norm=control.CLIP,
        policy_kwargs={
            "lstm_hidden_size": control.UNITS,
            "net_arch": [],
            "shared_lstm": True,
            "enable_critic_lstm": False,
        },
        seed=0,
        device="cpu",
    )
    seconds, train = [], model.train

    def timed() -> None:
        start = time.perf_counter()
        train()
        seconds.append(time.perf_counter() - start)

    model.train = timed
    model.learn(ROLLOUTS * control.STEPS * control.POLES)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=fastrnn.get_num_threads(), help="of each")
    threads = parser.parse_args().threads
    import torch

    fastrnn.set_num_threads(threads)
    torch.set_num_threads(threads)
    print(f"{threads} threads; milliseconds of an update, medians of {SOME}")
    found = {"fastrnn": ours(), "RecurrentPPO": theirs()}
    for name, some in {"first": slice(SOME), "last": slice(-SOME, None)}.items():
        medians = {who: statistics.median(seconds[some]) for who, seconds in found.items()}
        each = ", ".join(f"{who} {1e3 * median:.1f}" for who, median in medians.items())
        print(f"{name}: {each}; {medians['RecurrentPPO'] / medians['fastrnn']:.1f} times as fast")


if __name__ == "__main__":
    main()
