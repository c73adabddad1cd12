"""fastrnn where it does not have the machine to itself.

`python bench/beside.py` prints how many times as long a call on all threads takes as the same call on one
thread, beside the same. More than 1.15 would be a fault: others should be left their cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from cases import Case
from probe import processors

BOUND = 1.15
ROUNDS = 15
SECONDS = 0.1  # of a round
CASES = [
    Case("infer", "lstm", 20, 1, 64, 64),
    Case("infer", "lstm", 100, 1, 64, 128),
    Case("infer", "lstm", 40, 32, 64, 50),
    Case("infer", "lstm", 100, 8, 128, 256),
    Case("train", "lstm", 40, 32, 64, 50),
    Case("train", "gru", 100, 32, 64, 128),
]

Call = Callable[[], Any]


def onnxruntime_before(threads: int) -> Call:
    """ONNX Runtime's `run`, whose threads spin on, right before each call."""
    import onnxruntime

    from peers.graph import model

    case = Case("infer", "lstm", 20, 32, 64, 64)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(2, threads)
    data = case.data()
    session = onnxruntime.InferenceSession(model(case, data), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": data.x})


@contextlib.contextmanager
def another_process() -> Iterator[None]:
    """One that keeps a core busy."""
    spin = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    other = subprocess.Popen(spin, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    yield
    other.kill()
    other.communicate()


def call_of(case: Case) -> Call:
    from peers.fastrnn import Peer

    (run,) = Peer(0).runs(case, case.data()).values()
    return run.call


def seconds(call: Call, before: Call | None, burst: int) -> float:
    """Of a call, over bursts that follow `before`, which is not timed."""
    took, calls, end = 0.0, 0, time.perf_counter() + SECONDS
    while time.perf_counter() < end or not calls:
        if before is not None:
            before()
        start = time.perf_counter()
        for _ in range(burst):
            call()
        took += time.perf_counter() - start
        calls += burst
    return took / calls


def measure(rounds: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Each case, and its ratio in each setting."""
    import fastrnn

    n = processors()
    quiet = contextlib.nullcontext
    for case in CASES:
        call = call_of(case)
        settings: dict[str, tuple[int, Call | None, int, Any]] = {
            "alone": (n, None, 10, quiet),
            "after ONNX Runtime": (n, onnxruntime_before(n), 1, quiet),
            "beside a process": (n, None, 10, another_process),
            f"{2 * n} threads": (2 * n, None, 10, quiet),
            "after sleeps": (n, lambda: time.sleep(0.02), 3, quiet),
        }
        ratios = {}
        for name, (threads, before, burst, beside) in settings.items():
            ones, alls = [], []
            with beside():
                for _ in range(rounds):  # interleaved: what else the machine does meets both
                    fastrnn.set_num_threads(1)
                    ones.append(seconds(call, before, burst))
                    fastrnn.set_num_threads(threads)
                    alls.append(seconds(call, before, burst))
            ratios[name] = statistics.median(alls) / statistics.median(ones)
        yield f"{case.set} {case}", ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="for compare.py")
    options = parser.parse_args()
    found = {}
    for case, ratios in measure(options.rounds):
        found[case] = ratios
        if not options.json:
            print(case, *(f"{name} {ratio:.2f}" for name, ratio in ratios.items()), sep=", ", flush=True)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"worst {max(max(ratios.values()) for ratios in found.values()):.2f}, to be at most {BOUND}")


if __name__ == "__main__":
    main()
