"""What is measured: cells and shapes, and the arrays that every peer gets.

Letters: T time, B batch, I input (of language models the size of the vocabulary), H hidden, G gates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
# Of weights; fastrnn multiplies int8 ones by 16 bits of x and h, in the last by 8, as peers do with theirs.
FORMATS = ("float32", "float16", "bfloat16", "int8", "int8x8")


def in_format(layer: Any, format: str) -> Any:
    """A layer of fastrnn with such weights; int8x8 is int8 with activations of 8 bits."""
    if format == "float32":
        return layer
    return layer.compress("int8", activations=8) if format == "int8x8" else layer.compress(format)


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    set : "train", "infer", "stream" (one step), "ragged" (training), "text" (a language model's training
    step); for fastrnn's own figures "equal" (as ragged, but all of full length), "float64" (training) and
    "weights" (inference in which reading w_hh is nearly all). Sets named "torch-" are inside PyTorch,
    our modules beside its own: "torch-train", "torch-infer", "torch-ragged" (packed), "torch-cell-train" and
    "torch-cell-infer" (T steps by a loop in Python), "torch-model" (the training step of an embedding,
    recurrent layers with dropout between them, and an output layer, on packed text). "many-train" and
    "many-infer" are `models` layers, each of weights and data of its own
    format : of the weights, one of FORMATS; each peer rounds the same float32 ones by its own rules
    """

    set: str
    cell: str
    T: int
    B: int
    I: int
    H: int
    layers: int = 1
    dtype: str = "float32"
    models: int = 1
    format: str = "float32"

    def __str__(self) -> str:
        name = f"{self.cell} T={self.T} B={self.B} I={self.I} H={self.H}"
        return f"{self.models} × " * (self.models > 1) + name + f" L={self.layers}" * (self.layers > 1)

    @property
    def inside_torch(self) -> bool:
        return self.set.startswith("torch-")

    @property
    def work(self) -> str:
        """What a call does, wherever."""
        return self.set.removeprefix("torch-")

    @property
    def trains(self) -> bool:
        return self.work not in ("infer", "stream", "weights", "cell-infer", "many-infer")

    @property
    def input_sizes(self) -> list[int]:
        """Of each layer."""
        return [self.H if self.work == "model" else self.I] + [self.H] * (self.layers - 1)

    @property
    def recurrent_bytes(self) -> int:
        """What one step reads of w_hh."""
        return GATES[self.cell] * self.H * self.H * np.dtype(self.dtype).itemsize

    def flops(self) -> float:
        """Of the matrix products: 2 rows G H (I + H), three times as many for training; tokens need no input
        product, and a padded step does not count."""
        if self.models > 1:
            return self.models * replace(self, models=1).flops()
        rows = float(self.data().lengths.sum())
        gates = GATES[self.cell] * self.H
        products = sum(gates * (size + self.H) for size in self.input_sizes)
        if self.work == "text":
            products -= gates * self.I
        if self.work in ("text", "model"):
            products += self.H * self.I
        return 2 * rows * products * (3 if self.trains else 1)

    def data(self) -> Data:
        return Data(self)


class Data:
    """The arrays of a case, the same in every process.

    weights : dict, by PyTorch's names; of language models also ``head.weight`` (V, H) and ``head.bias`` (V,),
        in the set "torch-model" ``embedding.weight`` (V, H) too
    lengths : (B,), all T, but of ragged batches uniform in T/4 .. T and unsorted
    x, dy : (T, B, I), (T, B, H), zeros where a row is padded
    tokens, targets : (T, B), of language models instead
    each : list of Data, of many models instead of all these
    """

    def __init__(self, case: Case, seed: int = 0) -> None:
        if case.models > 1:
            self.each = [data_of(case, place) for place in range(case.models)]
            return
        rng = np.random.default_rng(seed)
        T, B, I, H = case.T, case.B, case.I, case.H
        bound = H**-0.5

        def uniform(*shape: int) -> np.ndarray:
            return rng.uniform(-bound, bound, shape).astype(case.dtype)

        rows = GATES[case.cell] * H
        self.weights = {}
        for layer, size in enumerate(case.input_sizes):
            self.weights[f"weight_ih_l{layer}"] = uniform(rows, size)
            self.weights[f"weight_hh_l{layer}"] = uniform(rows, H)
            self.weights[f"bias_ih_l{layer}"] = uniform(rows)
            self.weights[f"bias_hh_l{layer}"] = uniform(rows)
        self.lengths = np.full(B, T)
        if case.work in ("ragged", "model"):
            self.lengths = rng.integers(T // 4, T, B, endpoint=True)
        if case.work in ("text", "model"):
            self.weights |= {"head.weight": uniform(I, H), "head.bias": uniform(I)}
            if case.work == "model":
                self.weights["embedding.weight"] = uniform(I, H)
            self.tokens, self.targets = rng.integers(0, I, (2, T, B))
        else:
            valid = (np.arange(T)[:, None] < self.lengths)[..., None]
            self.mask = valid.astype(case.dtype)  # (T, B, 1)
            self.x = rng.standard_normal((T, B, I)).astype(case.dtype) * self.mask
            self.dy = rng.standard_normal((T, B, H)).astype(case.dtype) * self.mask

    def layer(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """w_ih (G*H, I), w_hh (G*H, H), b_ih and b_hh (G*H,) of a single layer."""
        return tuple(self.weights[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


def data_of(case: Case, place: int) -> Data:
    """Of one of many models."""
    return Data(replace(case, models=1), seed=place)


def _cases(set: str, cell: str, *shapes: tuple[int, ...], **options: object) -> list[Case]:
    return [Case(set, cell, *shape, **options) for shape in shapes]


_TRAIN = {
    "lstm": [
        (40, 32, 64, 50),
        (100, 32, 64, 128),
        (100, 64, 256, 256),
        (50, 64, 512, 512),
        (25, 32, 1024, 1024),
        (200, 1, 64, 128),
        (100, 8, 128, 256),
    ],
    "gru": [(100, 32, 64, 128), (100, 64, 256, 256), (50, 64, 512, 512), (100, 8, 128, 256)],
    "rnn": [(100, 32, 64, 128), (100, 64, 256, 256), (50, 64, 512, 512)],
}
_INFER = {
    "lstm": [(100, 1, n, m) for n, m in [(64, 64), (64, 128), (256, 256), (512, 512), (1024, 1024)]]
    + [(100, 32, 256, 256)],
    "gru": [(100, 1, 64, 128), (100, 1, 256, 256), (100, 1, 512, 512)],
    "rnn": [(100, 1, 256, 256)],
}
_STREAM = {"lstm": [(32, 32), (64, 64), (64, 128), (256, 256)], "gru": [(32, 32), (64, 128)]}
_WEIGHTS = [(100, 1, 8, n) for n in (256, 512, 1024)]
_RAGGED = [(100, 16, 64, 128), (400, 8, 64, 128)]
_SMALL = [(100, 8, 32, 32), (20, 1, 32, 32), (20, 8, 64, 64), (50, 16, 64, 128)]
_CELLS = [
    (20, B, H, H) for B, H in [(1, 32), (1, 128), (1, 256), (8, 32), (8, 64), (8, 256), (32, 32), (32, 256)]
]

CASES = [
    *(case for cell, shapes in _TRAIN.items() for case in _cases("train", cell, *shapes)),
    *(case for cell, shapes in _INFER.items() for case in _cases("infer", cell, *shapes)),
    *(case for cell, shapes in _TRAIN.items() for case in _cases("infer", cell, *shapes)),
    *(Case("stream", cell, 1, 1, *shape) for cell, shapes in _STREAM.items() for shape in shapes),
    *(case for cell in ("lstm", "gru") for case in _cases("ragged", cell, *_RAGGED)),
    Case("text", "lstm", 64, 32, 100, 128),
    Case("text", "lstm", 100, 64, 100, 256, layers=2),
    Case("text", "gru", 100, 64, 100, 256),
    Case("text", "lstm", 100, 64, 100, 512),
    *(case for cell in ("lstm", "gru") for case in _cases("equal", cell, *_RAGGED)),
    *(case for cell in ("lstm", "gru") for case in _cases("weights", cell, *_WEIGHTS)),
    *(Case("float64", cell, 100, 64, 256, 256, dtype="float64") for cell in ("lstm", "gru", "rnn")),
    *(case for cell, shapes in _TRAIN.items() for case in _cases("torch-train", cell, *shapes)),
    *(case for cell in ("gru", "rnn") for case in _cases("torch-train", cell, *_SMALL)),
    *(case for cell, shapes in _INFER.items() for case in _cases("torch-infer", cell, *shapes)),
    *(case for cell, shapes in _TRAIN.items() for case in _cases("torch-infer", cell, *shapes)),
    *(case for cell in ("gru", "rnn") for case in _cases("torch-infer", cell, *_SMALL)),
    *(case for cell in GATES for case in _cases("torch-ragged", cell, *_RAGGED)),
    *(case for cell in GATES for case in _cases("torch-cell-train", cell, *_CELLS)),
    *(case for cell in GATES for case in _cases("torch-cell-infer", cell, *_CELLS)),
    *(Case("torch-model", cell, 64, 32, 100, 128, layers=2) for cell in ("lstm", "gru")),
    *(Case("torch-model", cell, 100, 32, 100, 256, layers=2) for cell in ("lstm", "gru")),
    *(Case("torch-model", cell, 40, 32, 5000, 200, layers=2) for cell in ("lstm", "gru")),
    *(Case(name, "lstm", 50, 32, 8, 32, models=1000) for name in ("many-train", "many-infer")),
    Case("many-infer", "lstm", 50, 1, 8, 32, models=1000),
]

SETS = tuple(dict.fromkeys(case.set for case in CASES))

# Enough to see whether something is wrong.
QUICK = [
    *(Case("train", cell, 100, 32, 64, 128) for cell in GATES),
    Case("train", "lstm", 100, 8, 128, 256),
    Case("infer", "lstm", 100, 1, 64, 128),
    Case("infer", "gru", 100, 1, 256, 256),
    Case("infer", "lstm", 100, 32, 256, 256),
    Case("stream", "lstm", 1, 1, 32, 32),
    Case("stream", "gru", 1, 1, 64, 128),
    Case("ragged", "lstm", 100, 16, 64, 128),
    Case("text", "lstm", 64, 32, 100, 128),
    Case("torch-train", "gru", 100, 8, 32, 32),
    Case("torch-infer", "lstm", 100, 1, 64, 128),
    Case("torch-ragged", "lstm", 100, 16, 64, 128),
    Case("torch-cell-train", "lstm", 20, 8, 64, 64),
    Case("torch-cell-infer", "gru", 20, 1, 32, 32),
    Case("torch-model", "lstm", 64, 32, 100, 128, layers=2),
    Case("many-train", "lstm", 50, 32, 8, 32, models=100),
    Case("many-infer", "lstm", 50, 1, 8, 32, models=100),
]

# Where narrower weights are for: few rows, whose step is a read of the weights.
NARROW = [
    *_cases("infer", "lstm", *((100, 1, n, n) for n in (64, 128, 256, 512, 1024))),
    *_cases("infer", "lstm", *((100, 4, n, n) for n in (64, 256, 1024))),
    *_cases("infer", "gru", *((100, 1, n, n) for n in (64, 256, 1024))),
    *_cases("stream", "lstm", *((1, 1, n, n) for n in (64, 256, 1024))),
    *_cases("stream", "gru", (1, 1, 256, 256)),
]

# Training and inference whose memory is measured.
MEMORY = [
    Case("train", "lstm", 100, 64, 256, 256),
    Case("train", "gru", 100, 64, 256, 256),
    Case("train", "rnn", 100, 64, 256, 256),
    Case("infer", "lstm", 100, 64, 256, 256),
]
