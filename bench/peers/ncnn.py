"""ncnn: its layer of that name, in a net of nothing else; of one sequence at a time, as it has no batch."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from cases import Case, Data
from peers.base import Base, Run, reordered, require, stepped
from peers.graph import OPERATORS, STATES

TO = {"lstm": ("ifgo", "ifog"), "gru": ("rzn", "rzn"), "rnn": ("h", "h")}
FLOAT32, INT8 = b"\0\0\0\0", (0x000D4B38).to_bytes(4, "little")  # what precedes an array in a file


class Peer(Base):
    """16-bit storage is for ARM: on x86 its recurrent layers compute in float32 from float32 all the same."""

    label = "ncnn"
    formats = ("float32", "int8")

    def __init__(self, threads: int) -> None:
        import ncnn

        self.ncnn, self.threads = ncnn, threads

    @property
    def version(self) -> str:
        return self.ncnn.__version__

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("infer", "stream"), "inference only")
        require(case.B == 1, "no batches")
        net = self._net(case, data)
        states = {f"{name}0": f"{name}1" for name in STATES[case.cell]}
        wanted = list(states.values()) if case.set == "stream" else ["y"]
        zeros = np.zeros((1, case.H), "float32")  # a Mat does not keep its array
        x, start = self.ncnn.Mat(data.x[:, 0]), dict.fromkeys(states, self.ncnn.Mat(zeros))

        def call(state, zeros=zeros):
            extractor = net.create_extractor()
            extractor.input("x", x)
            for name, value in state.items():
                extractor.input(name, value)
            found = [self.ncnn.Mat() for _ in wanted]
            for name, value in zip(wanted, found, strict=True):
                extractor.extract(name, value)
            return found

        if case.set == "infer":
            return {"layer": Run(lambda: call(start), lambda: {"y": np.array(call(start)[0])[:, None]})}

        def advance(state: dict[str, Any]) -> dict[str, Any]:
            return dict(zip(states, call(state), strict=True))

        return {"layer": stepped(start, advance, lambda state: np.array(state["h0"])[None])}

    def _net(self, case: Case, data: Data):
        w_ih, w_hh, bias = _weights(case, data)
        inputs = ["x", *(f"{name}0" for name in STATES[case.cell])]
        outputs = ["y", *(f"{name}1" for name in STATES[case.cell])]
        blobs = f"{len(inputs)} {len(outputs)} {' '.join(inputs + outputs)}"
        options = f"0={case.H} 1={w_ih.size}" + (" 8=2" if case.format == "int8" else "")
        lines = [
            "7767517",
            f"{len(inputs) + 1} {len(inputs + outputs)}",
            *(f"Input {name} 0 1 {name}" for name in inputs),
            f"{OPERATORS[case.cell]} layer {blobs} {options}",
        ]
        net = self.ncnn.Net()
        net.opt.num_threads = self.threads
        _check(net.load_param_mem("\n".join(lines) + "\n"))
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            file.write(_quantized(w_ih, bias, w_hh) if case.format == "int8" else _plain(w_ih, bias, w_hh))
            file.flush()
            _check(net.load_model(file.name))
        return net


def _weights(case: Case, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w_ih, w_hh and the biases, which are one but for GRU's last gate."""
    w_ih, w_hh, b_ih, b_hh = (reordered(array, *TO[case.cell]) for array in data.layer())
    bias = b_ih + b_hh
    if case.cell == "gru":
        last = 2 * case.H
        bias = np.concatenate([bias[:last], b_ih[last:], b_hh[last:]])
    return w_ih, w_hh, bias


def _plain(*arrays: np.ndarray) -> bytes:
    return b"".join(FLOAT32 + array.tobytes() for array in arrays)


def _quantized(w_ih: np.ndarray, bias: np.ndarray, w_hh: np.ndarray) -> bytes:
    """Symmetric, each row by its largest value, as ncnn's own tool does it."""
    scales = [(127 / np.abs(array).max(axis=1)).astype("float32") for array in (w_ih, w_hh)]
    rows, recurrent = (
        INT8 + np.rint(array * scale[:, None]).astype("int8").tobytes()
        for array, scale in zip((w_ih, w_hh), scales, strict=True)
    )
    padding = b"\0" * (-(w_ih.size) % 4), b"\0" * (-(w_hh.size) % 4)
    return b"".join([rows, padding[0], _plain(bias), recurrent, padding[1], *(s.tobytes() for s in scales)])


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"ncnn refuses the model: {status}")
