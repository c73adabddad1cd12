"""OpenVINO: the same ONNX model, compiled for latency, and one request used again and again.

In float32, or in bfloat16 throughout, which is also what the hint "f16" gets on x86. NNCF compresses no
weights of recurrent operators; its `quantize` leaves GRU and RNN alone, and what it makes of an LSTM is not
compiled for the CPU.
"""

from __future__ import annotations

from cases import Case, Data
from peers.base import STREAM_STEPS, Base, Results, Run, require
from peers.graph import model, zero_states


class Peer(Base):
    label = "OpenVINO"
    formats = ("float32", "bfloat16")

    def __init__(self, threads: int) -> None:
        import openvino

        self.openvino = openvino
        self.core = openvino.Core()
        self.options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }

    @property
    def version(self) -> str:
        return self.openvino.__version__.split("-")[0]

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("infer", "stream"), "inference only")
        self.options["INFERENCE_PRECISION_HINT"] = "f32" if case.format == "float32" else "bf16"
        read = self.core.read_model(model(case, data, with_states=case.set == "stream"))
        if case.set == "stream":
            return {"stateful": self._stateful(read, case, data), "swapped": self._swapped(read, case, data)}
        request = self._request(read, data)

        def results() -> Results:
            request.infer()
            return {"y": request.get_output_tensor(0).data[:, 0].copy()}

        return {"request": Run(request.infer, results)}

    def _request(self, read, data: Data):
        request = self.core.compile_model(read, "CPU", self.options).create_infer_request()
        request.set_tensor("x", self.openvino.Tensor(data.x, shared_memory=True))
        return request

    def _stateful(self, read, case: Case, data: Data) -> Run:
        """The state is kept within the request."""
        from openvino._offline_transformations import apply_make_stateful_transformation

        stateful = read.clone()
        names = {name: name.replace("0", "1") for name in zero_states(case)}
        apply_make_stateful_transformation(stateful, names)
        request = self._request(stateful, data)

        def results() -> Results:
            request.reset_state()
            for _ in range(STREAM_STEPS):
                request.infer()
            return {"y": request.get_tensor("y").data[:, 0].copy()}

        return Run(request.infer, results)

    def _swapped(self, read, case: Case, data: Data) -> Run:
        """Two requests, each of which reads the state that the other has written."""
        Tensor = self.openvino.Tensor
        arrays = [zero_states(case) for _ in range(2)]
        compiled = self.core.compile_model(read, "CPU", self.options)
        requests = []
        for before, after in (arrays, arrays[::-1]):
            request = compiled.create_infer_request()
            request.set_tensor("x", Tensor(data.x, shared_memory=True))
            for name in before:
                request.set_tensor(name, Tensor(before[name], shared_memory=True))
                request.set_tensor(name.replace("0", "1"), Tensor(after[name], shared_memory=True))
            requests.append(request)

        def step() -> None:
            requests[0].infer()
            requests.reverse()

        def results() -> Results:
            for state in arrays:
                for array in state.values():
                    array[...] = 0
            for _ in range(STREAM_STEPS):
                step()
            return {"y": requests[1].get_tensor("y").data[:, 0].copy()}

        return Run(step, results)
