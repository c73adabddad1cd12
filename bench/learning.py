"""Who has learned more of a text after the same seconds: README.md says how it is measured.

`python bench/learning.py` takes four minutes for each text and seed it is asked for; it must be alone.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

EMBEDDING = 64  # width, in PyTorch
SCORED = 40_000  # characters
SIDES = ("fastrnn", "torch")
TEXTS = ("topics", "docstrings")  # or a file
THREADS = ("OMP", "MKL", "OPENBLAS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="*", default=TEXTS, help=f"{', '.join(TEXTS)}, or files in UTF-8")
    parser.add_argument("--seconds", type=float, default=40.0, help="of training (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each side (default: %(default)s)")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work = fastrnn_learns if options.worker == "fastrnn" else torch_learns
        print(json.dumps(work(*halves(options.texts[0]), options.seconds, options.seed, options.threads)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """A line for each run, and at the end whether fastrnn was ahead in each seed."""
    environment = os.environ | {f"{name}_NUM_THREADS": str(options.threads) for name in THREADS}
    command = [sys.executable, __file__, "--seconds", str(options.seconds), "--threads", str(options.threads)]
    print(f"{options.seconds:g} s of training, {options.threads} thread(s)\n")
    print("| text | seed | | bits per character | characters seen | steps |\n|---|---|---|---|---|---|")
    ahead = {}
    for text in options.texts:
        for seed in range(options.seeds):
            bits = {}
            for side in SIDES:
                asked = [*command, text, "--worker", side, "--seed", str(seed)]
                done = subprocess.run(asked, env=environment, stdout=subprocess.PIPE, check=True)
                found = json.loads(done.stdout)
                bits[side] = found["bits"]
                row = f"{found['bits']:.3f} | {found['characters']:,} | {found['steps']:,}"
                print(f"| {text} | {seed} | {side} | {row} |", flush=True)
            ahead[text, seed] = bits["torch"] - bits["fastrnn"]
    worst = min(ahead, key=lambda run: ahead[run])
    won = sum(margin > 0 for margin in ahead.values())
    print(f"\nfastrnn ahead in {won} of {len(ahead)}, by {ahead[worst]:.3f} bits at the least, {worst}")


def halves(text: str) -> tuple[str, str]:
    """What is learned, nine tenths, and what is held out: what comes after it."""
    if text == "topics":
        from pydoc_data.topics import topics

        whole = "".join(topics[name] for name in sorted(topics))
    elif text == "docstrings":
        folder = Path(sysconfig.get_path("stdlib"))
        whole = "\n\n".join(map(docstrings, sorted(folder.glob("*.py"))))
    else:
        whole = Path(text).read_text(encoding="utf-8")
    cut = len(whole) * 9 // 10
    known = set(whole[:cut])
    return whole[:cut], "".join(character for character in whole[cut : cut + SCORED] if character in known)


def docstrings(path: Path) -> str:
    """Those of a module, its classes and functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, documented))
    return "\n\n".join(filter(None, map(ast.get_docstring, nodes)))


def fastrnn_learns(training: str, held_out: str, seconds: float, seed: int, threads: int) -> dict[str, Any]:
    """`TextGenerator` as it is, but for the budget."""
    import fastrnn
    from fastrnn.models import TextGenerator

    fastrnn.set_num_threads(threads)
    model = TextGenerator(epochs=None, max_seconds=seconds, validation_fraction=0, patience=None, seed=seed)
    model.fit(training)
    last = model.history_[-1]
    bits = model.bits_per_character(held_out)
    return {"bits": bits, "characters": last["samples"], "steps": last["steps"]}


def torch_learns(training: str, held_out: str, seconds: float, seed: int, threads: int) -> dict[str, Any]:
    """Embedding, LSTM, dropout and linear layer with `TextGenerator`'s sizes, optimizer, rate and windows."""
    import torch

    from fastrnn.models import TextGenerator
    from fastrnn.training.schedules import cosine

    nn = torch.nn
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    same = TextGenerator()
    place = {character: token for token, character in enumerate(sorted(set(training)))}
    tokens, target = (torch.tensor([place[c] for c in text]) for text in (training, held_out))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(len(place), EMBEDDING)
            self.recurrent = nn.LSTM(EMBEDDING, same.hidden_size)
            self.dropout = nn.Dropout(same.dropout)
            self.head = nn.Linear(same.hidden_size, len(place))

        def forward(self, x: Any, state: Any) -> tuple[Any, Any]:
            hidden, state = self.recurrent(self.embedding(x), state)
            return self.head(self.dropout(hidden)), state

    def loss(window: Any, following: Any, state: Any) -> tuple[Any, Any]:
        logits, state = network(window, state)
        return nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten()), state

    network = Network()
    adam = torch.optim.Adam(network.parameters(), same.learning_rate, fused=True)
    length = (len(tokens) - 1) // same.batch_size
    streams = [tokens[k : k + same.batch_size * length].view(-1, length).T.contiguous() for k in (0, 1)]
    state, steps, seen, at = None, 0, 0, 0
    start = time.perf_counter()
    while (gone := time.perf_counter() - start) < seconds:
        window, following = (part[at : at + same.bptt_steps] for part in streams)
        value, state = loss(window, following, state)
        adam.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), same.clip_norm)
        adam.param_groups[0]["lr"] = same.learning_rate * cosine(gone / seconds)
        adam.step()
        steps, seen, at = steps + 1, seen + window.numel(), at + same.bptt_steps
        state = None if at >= length else tuple(part.detach() for part in state)
        at = at if at < length else 0
    network.eval()
    torch.set_num_threads(1)  # one row leaves nothing to share
    total, state = 0.0, None
    with torch.inference_mode():
        for at in range(0, len(target) - 1, 1000):
            following = target[at + 1 : at + 1001, None]
            value, state = loss(target[at : at + len(following), None], following, state)
            total += value.item() * len(following)
    return {"bits": total / math.log(2) / (len(target) - 1), "characters": seen, "steps": steps}


if __name__ == "__main__":
    main()
