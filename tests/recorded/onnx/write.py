"""Writes the models in this folder, and what they were given and gave into the folder arrays.

    TF_USE_LEGACY_KERAS=1 python tests/recorded/onnx/write.py tf2onnx
    python tests/recorded/onnx/write.py torch
    python tests/recorded/onnx/write.py quantized

Needs tensorflow, tf_keras and tf2onnx; torch and onnxscript; or torch, onnx and onnxruntime.
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
RNG = np.random.default_rng(20261126)


def record(name, proto, x, y):
    """A model without what nobody reads, and its arrays unless it is refused."""
    proto.doc_string = ""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.value_info[:], proto.graph.metadata_props[:]
    path = FOLDER / ("refused" if name == "loop" else ".") / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    if name != "loop":
        np.savez_compressed(FOLDER / "arrays" / f"{name}.npz", x=x, y=y)
    print(path.name, path.stat().st_size)


def tf2onnx():
    """Models of Keras 2, converted."""
    import tensorflow as tf
    import tf2onnx as converter
    import tf_keras as keras

    L = keras.layers

    def both(layer, mode="concat"):
        return L.Bidirectional(layer, merge_mode=mode)

    models = {
        "lstm_steps": [L.LSTM(5, return_sequences=True), L.Dense(2, activation="softmax")],
        "lstm_last": [L.LSTM(5), L.Dense(2)],
        "gru_after": [L.GRU(5), L.Dense(2, activation="relu")],
        "both_steps": [both(L.LSTM(5, return_sequences=True)), L.Dense(2)],
        "both_last": [both(L.LSTM(5)), L.Dense(2)],
        "both_gru_last": [both(L.GRU(4)), L.Dense(2, activation="sigmoid")],
        "sum": [both(L.GRU(5, return_sequences=True), "sum"), L.Dense(2)],
        "mul": [both(L.LSTM(5, return_sequences=True), "mul")],
        "ave": [both(L.LSTM(5, return_sequences=True), "ave")],
        "backwards": [L.LSTM(5, go_backwards=True), L.Dense(2)],
        "backwards_steps": [L.GRU(5, go_backwards=True, return_sequences=True)],
        "mean": [L.LSTM(5, return_sequences=True), L.GlobalAveragePooling1D(), L.Dense(2)],
        "max": [L.LSTM(5, return_sequences=True), L.GlobalMaxPooling1D(), L.Dense(2)],
        "stack": [L.LSTM(5, return_sequences=True), L.Dropout(0.2), L.GRU(4), L.Dense(2, activation="elu")],
        "tokens": [L.Embedding(10, 4), L.LSTM(5), L.Dense(1, activation="sigmoid")],
        "loop": [L.SimpleRNN(5)],
    }
    for name, layers in models.items():
        tokens = name == "tokens"
        x = (
            RNG.integers(0, 10, (2, 6)).astype("int32")
            if tokens
            else RNG.normal(size=(2, 6, 3)).astype("float32")
        )
        model = keras.Sequential([L.Input((None,) if tokens else (None, 3), dtype=str(x.dtype)), *layers])
        model.set_weights([RNG.normal(size=each.shape) for each in model.get_weights()])
        spec = (tf.TensorSpec((None, None, *x.shape[2:]), x.dtype, name="x"),)
        proto, _ = converter.convert.from_keras(model, input_signature=spec, opset=13)
        record(name, proto, x, model(x).numpy())


def torch():
    """Models of PyTorch, by the exporter that needs onnxscript, with a batch of any size."""
    import torch as pytorch
    from torch import nn

    class States(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.rnn = (
                nn.Embedding(10, 4),
                nn.GRU(4, 5, 2, batch_first=True, bidirectional=True),
            )
            self.head = nn.Linear(10, 3)

        def forward(self, x):
            h = self.rnn(self.embedding(x))[1]
            return pytorch.log_softmax(self.head(pytorch.cat([h[-2], h[-1]], 1)), 1)

    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 5, 2, batch_first=True)
            self.h, self.c = (nn.Parameter(pytorch.randn(2, 1, 5)) for _ in range(2))

        def forward(self, x):
            state = tuple(each.expand(-1, x.shape[0], -1).contiguous() for each in (self.h, self.c))
            return self.rnn(x, state)[0].mean(1)

    pytorch.manual_seed(0)
    for model, x in ((States(), pytorch.randint(0, 10, (3, 6))), (Learned(), pytorch.randn(3, 6, 3))):
        name = f"torch_{type(model).__name__.lower()}"
        sizes = ({0: pytorch.export.Dim("batch")},)
        program = pytorch.onnx.export(model.eval(), (x,), dynamo=True, dynamic_shapes=sizes, verbose=False)
        with pytorch.no_grad():
            record(name, program.model_proto, x.numpy(), model(x).numpy())


def quantized():
    """The model of `torch` with tokens, whose weights are integers: y is of those weights as floats."""
    import tempfile

    import onnx
    import torch as pytorch
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from torch import nn

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.rnn = nn.Embedding(10, 4), nn.LSTM(4, 5, 2, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.rnn(self.embedding(x))[0][:, -1])

    pytorch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/floats.onnx"
        x = pytorch.randint(0, 10, (3, 6))
        axes = {"x": {0: "batch", 1: "time"}}
        pytorch.onnx.export(Last().eval(), (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
        for name, channels, kind in (("tensor", False, QuantType.QUInt8), ("channel", True, QuantType.QInt8)):
            quantize_dynamic(path, f"{folder}/{name}.onnx", per_channel=channels, weight_type=kind)
            proto = onnx.load(f"{folder}/{name}.onnx")
            (y,) = InferenceSession(proto.SerializeToString()).run(None, {"x": x.numpy()})
            record(f"quantized_{name}", proto, x.numpy(), y)


if __name__ == "__main__":
    {"tf2onnx": tf2onnx, "torch": torch, "quantized": quantized}[sys.argv[1]]()
