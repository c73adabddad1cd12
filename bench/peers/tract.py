"""tract: the ONNX model, optimised, on the one thread that its Python package has."""

from __future__ import annotations

import tempfile

from cases import Case, Data
from peers.base import Base, Run, require, stepped
from peers.graph import model, zero_states


class Peer(Base):
    label = "tract"
    formats = ("float32", "float16")

    def __init__(self, threads: int) -> None:
        import tract

        self.tract = tract

    @property
    def version(self) -> str:
        return self.tract.version()

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("infer", "stream"), "inference only")
        half = case.format == "float16"
        require(not half or case.cell == "lstm", "it fails to prepare this operator in float16")
        stream = case.set == "stream"
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
            file.write(model(case, data, with_states=stream))
            file.flush()
            read = self.tract.onnx().load(file.name).into_model()
        if half:
            read.transform("f32_to_f16")
        runnable = read.into_runnable()

        def tensor(array):
            return self.tract.Tensor.from_numpy(array.astype(case.format))

        x = tensor(data.x)
        if not stream:
            return {"run": Run(lambda: runnable.run([x]), lambda: {"y": _array(runnable.run([x])[0])[:, 0]})}
        start = [tensor(array) for array in zero_states(case).values()]
        return {
            "run": stepped(start, lambda state: runnable.run([x, *state])[1:], lambda state: _array(state[0]))
        }


def _array(tensor):
    return tensor.to_numpy().astype("float32")
