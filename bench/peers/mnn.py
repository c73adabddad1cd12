"""MNN: the ONNX model, turned into its own format, in a session whose arrays stay where they are.

Its converter is called as compiled: the Python module around that, when imported, has pip install a package
that reports its use (`MNN/tools/utils/log.py`).
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cases import Case, Data
from peers.base import STREAM_STEPS, Base, Results, Run, require
from peers.graph import model, zero_states

FLAGS = {"float32": [], "float16": ["--fp16"], "int8": ["--weightQuantBits", "8"]}
# The recurrent operator as it is. By default a single step becomes products, and more of them a loop, whose
# results are wrong, if there are any.
OPERATOR = "--useOriginRNNImpl"


class Peer(Base):
    label = "MNN"
    formats = tuple(FLAGS)

    def __init__(self, threads: int) -> None:
        import MNN

        self.mnn, self.threads = MNN, threads

    @property
    def version(self) -> str:
        return version("mnn")

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("infer", "stream"), "inference only")
        products = case.set == "stream" and case.cell != "rnn"
        require(products or case.format != "int8", "weights of its recurrent operators stay float32")
        flags = {"products": []} if products else {}
        if case.format != "int8":
            flags["operator"] = [OPERATOR]
        return {name: self._run(case, data, those) for name, those in flags.items()}

    def _run(self, case: Case, data: Data, flags: list[str]) -> Run:
        session, interpreter = self._session(case, data, flags)
        inputs = interpreter.getSessionInputAll(session)
        outputs = interpreter.getSessionOutputAll(session)
        starts, states = (
            {name: self._host(array) for name, array in zero_states(case).items()} for _ in range(2)
        )
        x, y = self._host(data.x), self._host(np.empty((case.T, 1, case.B, case.H), "float32"))

        def run(given) -> None:  # a session writes over what it was given
            inputs["x"].copyFrom(x)
            for name, array in given.items():
                inputs[name].copyFrom(array)
            interpreter.runSession(session)

        def step() -> None:
            run(states)
            for name, array in states.items():
                outputs[name.replace("0", "1")].copyToHostTensor(array)

        def results() -> Results:
            run(starts)
            if case.set == "stream":
                for name, array in states.items():
                    outputs[name.replace("0", "1")].copyToHostTensor(array)
                for _ in range(STREAM_STEPS - 1):
                    step()
            outputs["y"].copyToHostTensor(y)
            return {"y": np.array(y.getNumpyData()).reshape(case.T, case.B, case.H)}

        return Run(step if case.set == "stream" else lambda: run(starts), results)

    def _session(self, case: Case, data: Data, flags: list[str]):
        import _tools

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "layer.onnx"), Path(folder, "layer.mnn")
            source.write_bytes(model(case, data, with_states=True))  # without, its converter dies
            command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target)]
            _tools.mnnconvert([*command, "--bizCode", "bench", *FLAGS[case.format], *flags])
            interpreter = self.mnn.Interpreter(str(target))
        narrow = case.format != "float32"
        options = {
            "backend": "CPU",
            "numThread": self.threads,
            "precision": "low" if narrow else "high",
            "memory": "low" if narrow else "normal",  # int8 weights are used as they are, not widened first
        }
        return interpreter.createSession(options), interpreter

    def _host(self, array: np.ndarray):
        kind, layout = self.mnn.Halide_Type_Float, self.mnn.Tensor_DimensionType_Caffe
        return self.mnn.Tensor(array.shape, kind, array, layout)
