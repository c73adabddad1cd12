"""The files of this folder, and what PyTorch makes of them: python tests/recorded/torch/write_torch.py

Each function writes one file, and returns an input and the output of the model that is in it.
"""

import argparse
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self, rnn, features, hidden=None):
        super().__init__()
        self.embedding = nn.Embedding(11, rnn.input_size, padding_idx=0)
        self.rnn = rnn
        self.fc = hidden or nn.Linear(features, 3)

    def forward(self, x):
        y, _ = self.rnn(self.embedding(x))
        return self.fc(y)


class Classifier(Tagger):
    def forward(self, x):
        y, _ = self.rnn(self.embedding(x))
        return self.fc(y[:, -1])


class Regressor(nn.Module):
    def __init__(self, lstm, features):
        super().__init__()
        self.lstm = lstm
        self.head = nn.Linear(features, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.head(y)


def tokens():
    return torch.randint(0, 11, (3, 5))


def floats(*shape):
    return torch.randn(shape or (3, 5, 4))


def y_of(model, x):
    with torch.no_grad():
        y = model.eval()(x)
    return (x, y[0] if isinstance(y, tuple) else y)


def state_dict(path):
    model = Tagger(nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), 10)
    torch.save(model.state_dict(), path)
    return y_of(model, tokens())


def checkpoint(path):
    model = nn.DataParallel(Classifier(nn.GRU(4, 5, batch_first=True), 5))
    optimizer = torch.optim.Adam(model.parameters())
    model.module(tokens()).sum().backward()
    optimizer.step()
    scores = {"best": np.float64(0.5), "losses": np.arange(3.0)}
    arguments = argparse.Namespace(hidden=5, path=Path("data"))
    everything = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(everything | {"scores": scores, "arguments": arguments}, path)
    return y_of(model.module, tokens())


def whole(path):
    head = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3), nn.LogSoftmax(dim=1))
    model = Classifier(nn.GRU(4, 5, 2, batch_first=True, dropout=0.1), 5, head)
    torch.save(model.eval(), path)
    return y_of(model, tokens())


def sequential(path):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.RNN(6, 5, nonlinearity="relu"))
    torch.save(model.eval(), path)
    return y_of(model, floats())


def script(path):
    model = Tagger(nn.RNN(4, 5, nonlinearity="relu", batch_first=True), 5).eval()
    torch.jit.save(torch.jit.script(model), path)
    return y_of(model, tokens())


def trace(path):
    model, x = Regressor(nn.LSTM(4, 5), 5).eval(), floats()
    torch.jit.save(torch.jit.trace(model, x), path)
    return y_of(model, x)


def legacy(path):
    model = nn.RNN(4, 5, 2, bidirectional=True)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    return y_of(model, floats())


def legacy_whole(path):
    model = Regressor(nn.LSTM(4, 5, batch_first=True, bias=False), 5).eval()
    with mock.patch("inspect.getsourcelines", side_effect=OSError):  # else PyTorch's own code goes along
        torch.save(model, path, _use_new_zipfile_serialization=False)
    return y_of(model, floats())


def half(path):
    return _safetensors(path, torch.float16)


def bfloat16(path):
    return _safetensors(path, torch.bfloat16)


def double(path):
    return _safetensors(path, torch.float64)


def _safetensors(path, dtype):
    from safetensors.torch import save_file

    model = Regressor(nn.GRU(4, 5, batch_first=True), 5).to(dtype)
    save_file(model.state_dict(), path)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return y_of(model.to(wide), floats().to(wide))


def bfloat16_pt(path):
    model = nn.LSTM(4, 5).bfloat16()
    torch.save(model.state_dict(), path)
    return y_of(model.float(), floats())


def arrays(path):
    model = Regressor(nn.LSTM(4, 5, batch_first=True), 5)
    np.savez(path, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    return y_of(model, floats())


def lstm_cell(path):
    cell = nn.LSTMCell(4, 5)
    torch.save({"state_dict": {f"cell.{name}": each for name, each in cell.state_dict().items()}}, path)
    return _steps(cell)


def gru_cell(path):
    cell = nn.GRUCell(4, 5)
    torch.save(cell, path)
    return _steps(cell)


def _steps(cell):
    x, state, y = floats(), None, []
    with torch.no_grad():
        for step in x:
            state = cell(step, state)
            y.append(state[0] if isinstance(state, tuple) else state)
    return x, torch.stack(y)


def projected(path):
    model = nn.LSTM(4, 6, 2, proj_size=3, bidirectional=True, bias=False)
    torch.save(model.state_dict(), path, pickle_protocol=4)
    return y_of(model, floats())


FILES = {
    "state_dict.pt": state_dict,
    "checkpoint.pt": checkpoint,
    "whole.pt": whole,
    "sequential.pt": sequential,
    "script.pt": script,
    "trace.pt": trace,
    "legacy.pth": legacy,
    "legacy_whole.pth": legacy_whole,
    "half.safetensors": half,
    "bfloat16.safetensors": bfloat16,
    "double.safetensors": double,
    "bfloat16.pt": bfloat16_pt,
    "arrays.npz": arrays,
    "lstm_cell.pt": lstm_cell,
    "gru_cell.pt": gru_cell,
    "projected.pt": projected,
}


def main():
    folder, expected = Path(__file__).parent, {}
    for name, write in FILES.items():
        torch.manual_seed(20261126)
        x, y = write(folder / name)
        expected |= {f"{name}.x": x.numpy(), f"{name}.y": y.numpy()}
    np.savez_compressed(folder / "expected" / "arrays.npz", **expected)


if __name__ == "__main__":
    sys.modules["write_torch"] = sys.modules["__main__"]
    for kind in (Tagger, Classifier, Regressor):
        kind.__module__ = "write_torch"
    main()
