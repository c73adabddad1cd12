"""ONNX Runtime: a session of the layer's ONNX operator, with its inputs and outputs bound or not."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cases import Case, Data
from peers.base import STREAM_STEPS, Base, Results, Run, require
from peers.graph import model, zero_states


class Peer(Base):
    label = "ONNX Runtime"
    formats = ("float32", "int8")

    def __init__(self, threads: int) -> None:
        import onnxruntime

        self.onnxruntime = onnxruntime
        onnxruntime.disable_telemetry_events()
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        self.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL

    @property
    def version(self) -> str:
        return self.onnxruntime.__version__

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("infer", "stream"), "inference only")
        quantized = case.format == "int8"
        require(case.cell == "lstm" or not quantized, "its quantizer leaves this operator as it is")
        source = model(case, data, with_states=case.set == "stream")
        if quantized:
            source = _quantized(source)
        session = self.onnxruntime.InferenceSession(source, self.options, providers=["CPUExecutionProvider"])
        if case.set == "stream":
            return {
                "run": self._stream(session, case, data),
                "bound": self._bound_stream(session, case, data),
            }
        feeds = {"x": data.x}
        return {
            "run": Run(lambda: session.run(["y"], feeds), lambda: {"y": session.run(["y"], feeds)[0][:, 0]}),
            "bound": self._bound(session, case, data),
        }

    def _bound(self, session, case: Case, data: Data) -> Run:
        binding = session.io_binding()
        y = self._value((case.T, 1, case.B, case.H))
        binding.bind_ortvalue_input("x", self.onnxruntime.OrtValue.ortvalue_from_numpy(data.x))
        binding.bind_ortvalue_output("y", y)

        def results() -> Results:
            session.run_with_iobinding(binding)
            return {"y": y.numpy()[:, 0]}

        return Run(lambda: session.run_with_iobinding(binding), results)

    def _value(self, shape: tuple[int, ...]):
        return self.onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), "float32")

    @staticmethod
    def _stream(session, case: Case, data: Data) -> Run:
        feeds = {"x": data.x}
        names = [name.replace("0", "1") for name in zero_states(case)]

        def step():
            for name, state in zip(names, session.run(names, feeds), strict=True):
                feeds[name.replace("1", "0")] = state

        def results() -> Results:
            feeds.update(zero_states(case))
            for _ in range(STREAM_STEPS):
                step()
            return {"y": feeds["h0"]}

        feeds.update(zero_states(case))
        return Run(step, results)

    def _bound_stream(self, session, case: Case, data: Data) -> Run:
        """Two bindings, each of which reads the state that the other has written."""
        OrtValue = self.onnxruntime.OrtValue
        starts = zero_states(case)
        states = [  # of arrays of their own, which the values share
            {name: OrtValue.ortvalue_from_numpy(array) for name, array in zero_states(case).items()}
            for _ in range(2)
        ]
        y = self._value((1, 1, case.B, case.H))
        bindings = []
        for before, after in (states, states[::-1]):
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", OrtValue.ortvalue_from_numpy(data.x))
            binding.bind_ortvalue_output("y", y)
            for name in starts:
                binding.bind_ortvalue_input(name, before[name])
                binding.bind_ortvalue_output(name.replace("0", "1"), after[name])
            bindings.append(binding)

        def step():
            session.run_with_iobinding(bindings[0])
            bindings.reverse()

        def results() -> Results:
            for state in states:
                for name, value in state.items():
                    value.update_inplace(starts[name])
            for _ in range(STREAM_STEPS):
                step()
            return {"y": y.numpy()[:, 0]}

        return Run(step, results)


def _quantized(source: bytes) -> bytes:
    """With `DynamicQuantizeLSTM`: int8 weights, for each row its scale; x and h quantized in each step."""
    from onnx import load_model_from_string
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "layer.onnx")
        read = load_model_from_string(source)
        quantize_dynamic(read, target, ["LSTM"], per_channel=True, weight_type=QuantType.QInt8)
        return target.read_bytes()
