"""LiteRT, once TensorFlow Lite: its recurrent operators, which keep their state; there is none for a GRU."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from cases import Case, Data
from peers.base import STREAM_STEPS, Base, Results, Run, require
from peers.graph import STATES


class Peer(Base):
    """With int8 weights they quantize x and h in each step; float16 ones would be widened at the start."""

    label = "LiteRT"
    formats = ("float32", "int8")

    def __init__(self, threads: int) -> None:
        from ai_edge_litert import interpreter

        self.interpreter, self.threads = interpreter, threads

    @property
    def version(self) -> str:
        return version("ai-edge-litert")

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("infer", "stream"), "inference only")
        require(case.cell != "gru", "no such operator")
        loaded = self.interpreter.Interpreter(model_content=_model(case, data), num_threads=self.threads)
        loaded.allocate_tensors()
        loaded.set_tensor(loaded.get_input_details()[0]["index"], data.x)
        y = loaded.get_output_details()[0]["index"]

        def sequence() -> None:
            loaded.reset_all_variables()
            loaded.invoke()

        def results() -> Results:
            loaded.reset_all_variables()
            for _ in range(STREAM_STEPS if case.set == "stream" else 1):
                call()
            return {"y": loaded.get_tensor(y)}

        call = loaded.invoke if case.set == "stream" else sequence
        return {"operator": Run(call, results)}


def _model(case: Case, data: Data) -> bytes:
    """A flatbuffer with the one operator."""
    from ai_edge_litert import schema_py_generated as schema

    file = _File(schema)
    quantized = case.format == "int8"
    w_ih, w_hh, b_ih, b_hh = data.layer()
    x, y = file.tensor("x", data.x.shape), file.tensor("y", data.dy.shape)
    states = [file.tensor(name, (case.B, case.H), variable=True) for name in STATES[case.cell]]
    parts = 4 if case.cell == "lstm" else 1
    rows = [
        file.constant(f"{name}{gate}", part, quantized)
        for name, array in (("w_ih", w_ih), ("w_hh", w_hh))
        for gate, part in enumerate(np.split(array, parts))
    ]
    biases = [file.constant(f"b{gate}", part) for gate, part in enumerate(np.split(b_ih + b_hh, parts))]
    none = -1
    if case.cell == "lstm":  # i, f, g, o, as in PyTorch; no peepholes, no projection, no layer norm
        inputs = [x, *rows, *[none] * 3, *biases, *[none] * 2, *states, *[none] * 4]
        code = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
        kind = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
        options = schema.UnidirectionalSequenceLSTMOptionsT()
        options.cellClip = options.projClip = 0.0
    else:
        inputs = [x, *rows, *biases, *states]
        code = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_RNN
        kind = schema.BuiltinOptions.SequenceRNNOptions
        options = schema.SequenceRNNOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    options.timeMajor = True
    return file.of(code, inputs, y, kind, options, 2 if quantized else 1)


class _File:
    def __init__(self, schema) -> None:
        self.schema = schema
        self.tensors, self.buffers = [], [schema.BufferT()]

    def tensor(self, name: str, shape: tuple[int, ...], variable: bool = False) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.isVariable = name, list(shape), variable
        tensor.type, tensor.buffer = self.schema.TensorType.FLOAT32, 0
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values: np.ndarray, quantized: bool = False) -> int:
        """Quantized symmetrically, with one scale, as these operators want it."""
        place = self.tensor(name, values.shape)
        tensor = self.tensors[place]
        if quantized:
            scale = float(np.abs(values).max()) / 127
            values = np.rint(values / scale).astype("int8")
            tensor.type = self.schema.TensorType.INT8
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), "uint8")
        tensor.buffer = len(self.buffers)
        self.buffers.append(buffer)
        return place

    def of(self, code: int, inputs: list[int], output: int, kind: int, options, version: int) -> bytes:
        import flatbuffers

        known, operator, graph, model = (
            getattr(self.schema, name)() for name in ("OperatorCodeT", "OperatorT", "SubGraphT", "ModelT")
        )
        known.builtinCode = known.deprecatedBuiltinCode = code
        known.version = version
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, [operator], [0], [output]
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [known], [graph], self.buffers
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
