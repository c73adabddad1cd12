"""Models of PyTorch, ONNX and Keras that fastrnn has read, beside the systems that wrote them.

`python bench/imported.py` takes a minute or two. PyTorch, its exporter and Keras write the models; fastrnn
reads their files, and so do their own runtimes, each in a process of its own on as many threads. What they
give must be equal to 1e-5. Then rounds of calls alternate; medians are printed, and how many times as long
the other takes. Keras runs on each of its backends that is installed: the fastest for a shape is shown, by
name. "First" is from the start of a process to its first result: imports, reading the file, and one call.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worker import seconds_of, settle

ROUND_SECONDS = 0.02
TOLERANCE = 1e-5
THREADS = ("OMP", "MKL", "OPENBLAS", "VECLIB")

Call = Callable[[np.ndarray], Any]


class Model(NamedTuple):
    """One that is written, and the shapes that it gets."""

    file: str
    layers: str
    shapes: list[tuple[int, int]]  # (B, T)
    tokens: int = 0  # how many there are
    features: int = 0

    def data(self, shape: tuple[int, int]) -> np.ndarray:
        rng = np.random.default_rng(0)
        if self.tokens:
            return rng.integers(0, self.tokens, shape)
        return rng.standard_normal((*shape, self.features), dtype=np.float32)


MODELS = {
    "PyTorch": Model(
        "model.pt", "Embedding 64, 2 bidirectional LSTM 128, last, Linear", [(1, 50), (32, 100)], tokens=1000
    ),
    "ONNX": Model("model.onnx", "2 GRU 128, Linear", [(1, 200), (16, 100)], features=40),
    "Keras": Model("model.keras", "2 LSTM 64, Dense", [(1, 50), (32, 50)], features=8),
}


# -- the models, and who runs them


def classifier() -> Any:
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(1000, 64)
            self.lstm = nn.LSTM(64, 128, 2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(256, 5)

        def forward(self, x: Any) -> Any:
            import torch

            _, (h, _) = self.lstm(self.embedding(x))
            return self.head(torch.cat([h[-2], h[-1]], 1))

    return Classifier().eval()


def steps() -> Any:
    from torch import nn

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(40, 128, 2, batch_first=True)
            self.head = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.gru(x)[0])

    return Steps().eval()


def write(system: str, path: Path) -> None:
    """In a process of its own, as Keras is told of its backend when it is imported."""
    warnings.simplefilter("ignore")
    if system == "Keras":
        import keras

        layers = [keras.layers.LSTM(64, return_sequences=True), keras.layers.LSTM(64), keras.layers.Dense(1)]
        keras.Sequential([keras.Input((None, 8)), *layers]).save(path)
        return
    import torch

    torch.manual_seed(0)
    if system == "PyTorch":
        torch.save(classifier().state_dict(), path)
        return
    sizes = {"x": {0: "batch", 1: "time"}, "y": {0: "batch", 1: "time"}}
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": sizes}
    torch.onnx.export(steps(), (torch.zeros(1, 3, 40),), str(path), dynamo=False, **names)


def ours(system: str, path: Path, threads: int) -> Call:
    import fastrnn
    from fastrnn.interop import from_keras, from_onnx, from_torch

    fastrnn.set_num_threads(threads)
    if system == "PyTorch":
        last = fastrnn.Last(bidirectional=True)
        return from_torch(path, order=["embedding", "lstm", last, "head"], batch_first=True)
    return from_onnx(path) if system == "ONNX" else from_keras(path)


def pytorch(system: str, path: Path, threads: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    model = classifier()
    model.load_state_dict(torch.load(path))

    def call(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return call


def onnx_runtime(system: str, path: Path, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def keras_torch(system: str, path: Path, threads: int) -> Call:
    import keras
    import torch

    torch.set_num_threads(threads)
    model = keras.models.load_model(path)

    def call(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x), training=False).numpy()

    return call


def keras_tensorflow(system: str, path: Path, threads: int) -> Call:
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    import keras

    model = keras.models.load_model(path)
    compiled = tensorflow.function(lambda x: model(x, training=False))
    return lambda x: compiled(tensorflow.constant(x)).numpy()


def keras_jax(system: str, path: Path, threads: int) -> Call:
    import jax
    import keras

    model = keras.models.load_model(path)
    compiled = jax.jit(lambda x: model(x, training=False))
    return lambda x: np.asarray(compiled(x))


#: Who runs a model beside fastrnn, by the package that is needed.
OTHERS: dict[str, dict[str, tuple[str, Callable[[str, Path, int], Call]]]] = {
    "PyTorch": {"PyTorch": ("torch", pytorch)},
    "ONNX": {"ONNX Runtime": ("onnxruntime", onnx_runtime)},
    "Keras": {
        "Keras (TensorFlow)": ("tensorflow", keras_tensorflow),
        "Keras (JAX)": ("jax", keras_jax),
        "Keras (PyTorch)": ("torch", keras_torch),
    },
}


# -- a process for each


def serve(pipe: Any, start: float, make: Callable[[str, Path, int], Call], *arguments: Any) -> None:
    """Answers with the result of a call; or, where a time is asked for, with the seconds of one."""
    warnings.simplefilter("ignore")
    threads = arguments[-1]
    if hasattr(os, "sched_setaffinity"):  # some systems know no other way to be told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    try:
        call, x = make(*arguments), np.empty(0)
        loaded = time.time() - start
        pipe.send(None)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    while (asked := pipe.recv()) is not None:
        if isinstance(asked, np.ndarray):
            x, before = asked, time.time()
            y = np.array(call(x))
            pipe.send((y, loaded + time.time() - before))
            continue
        warm = seconds_of(partial(call, x), 1)
        seconds_of(partial(call, x), max(1, round(asked / 4 / warm)))
        took = seconds_of(partial(call, x), max(1, round(asked / warm)))
        settle()
        pipe.send(took)


class Side:
    """The measuring side of a process."""

    def __init__(
        self, name: str, make: Callable[[str, Path, int], Call], system: str, path: Path, threads: int
    ):
        os.environ.update({f"{each}_NUM_THREADS": str(threads) for each in THREADS})
        backend = {keras_tensorflow: "tensorflow", keras_jax: "jax"}.get(make, "torch")
        os.environ.update(KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
        context = multiprocessing.get_context("spawn")
        self.name, (self.pipe, other) = name, context.Pipe()
        arguments = other, time.time(), make, system, path, threads
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        self.fault = self.pipe.recv()

    def ask(self, question: Any) -> Any:
        self.pipe.send(question)
        return self.pipe.recv()

    def close(self) -> None:
        if self.fault is None:
            self.pipe.send(None)
        self.process.join()


# -- what is measured


def measure(system: str, path: Path, threads: int, rounds: int) -> Iterator[str]:
    """A line of the table for each shape."""
    model = MODELS[system]
    found = {name: each for name, each in OTHERS[system].items() if importlib.util.find_spec(each[0])}
    sides = [Side("fastrnn", ours, system, path, threads)]
    sides += [Side(name, make, system, path, threads) for name, (_, make) in found.items()]
    for side in sides:
        if side.fault is not None:
            print(f"left out: {side.name}, {side.fault}")
    sides = [side for side in sides if side.fault is None]
    for shape in model.shapes:
        answers = {side.name: side.ask(model.data(shape)) for side in sides}
        expected = answers["fastrnn"][0]
        for name, (y, _) in answers.items():
            error = np.abs(y - expected).max()
            if y.shape != expected.shape or not error <= TOLERANCE:
                raise SystemExit(f"{name} gives something else than fastrnn: {y.shape}, off by {error:.0e}")
        took: dict[str, list[float]] = {side.name: [] for side in sides}
        for _ in range(rounds):
            for side in sides:
                took[side.name].append(side.ask(ROUND_SECONDS))
        medians = {name: statistics.median(times) for name, times in took.items()}
        mine = medians.pop("fastrnn")
        best = min(medians, key=medians.__getitem__)
        yield (
            f"| {system}: {model.layers} | {shape[0]} x {shape[1]} | {threads} | {mine * 1e3:.2f} "
            f"| {medians[best] * 1e3:.2f} {best} | {medians[best] / mine:.2f} "
            f"| {answers['fastrnn'][1]:.1f}, {answers[best][1]:.1f} |"
        )
    for side in sides:
        side.close()


def main() -> None:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, processors}))
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "torch"
    print("| Model | B x T | Threads | fastrnn, ms | the other, ms | ratio | first, s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for system, model in MODELS.items():
            path = Path(folder) / model.file
            writer = multiprocessing.get_context("spawn").Process(target=write, args=(system, path))
            writer.start()
            writer.join()
            for threads in options.threads:
                for line in measure(system, path, threads, options.rounds):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
