"""PyTorch: its recurrent layers, which run on oneDNN (LSTM) or on its own loop (GRU, RNN)."""

from __future__ import annotations

import numpy as np

from cases import Case, Data
from peers.base import LEARNING_RATE, STREAM_STEPS, TEXT_STEPS, Base, Results, Run

EMBEDDING = 64  # width, of the variant of the text step that is not the same function


class Peer(Base):
    label = "PyTorch"

    def __init__(self, threads: int) -> None:
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)

    @property
    def version(self) -> str:
        return self.torch.__version__

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        if case.set == "text":
            return {
                "one-hot": self._text(case, data, embedding=False),
                "embedding": self._text(case, data, embedding=True),
            }
        if case.set == "stream":
            return self._stream(case, data)
        layer = self._layer(case, data.weights)
        if not case.trains:
            return self._infer(layer, data)
        if case.set == "ragged":
            return {"packed": self._train(layer, data, self._packed(layer, data))}
        return {"layer": self._train(layer, data, lambda x: layer(x)[0])}

    def _layer(self, case: Case, weights: dict[str, np.ndarray]):
        kind = {"lstm": self.torch.nn.LSTM, "gru": self.torch.nn.GRU, "rnn": self.torch.nn.RNN}[case.cell]
        layer = kind(case.I, case.H, case.layers, dtype=getattr(self.torch, case.dtype))
        return self._load(layer, weights)

    def _load(self, module, weights: dict[str, np.ndarray]):
        module.load_state_dict({name: self.torch.from_numpy(weights[name]) for name in module.state_dict()})
        return module

    def _infer(self, layer, data: Data) -> dict[str, Run]:
        x = self.torch.from_numpy(data.x)
        layer.eval()

        def call():
            with self.torch.inference_mode():
                return layer(x)[0]

        return {"inference_mode": Run(call, lambda: {"y": call().numpy()})}

    def _train(self, layer, data: Data, forward) -> Run:
        x = self.torch.from_numpy(data.x).requires_grad_()
        dy = self.torch.from_numpy(data.dy)

        def step():
            x.grad = None
            layer.zero_grad(set_to_none=True)
            y = forward(x)
            y.backward(dy)
            return y

        def results() -> Results:
            y = step().detach().numpy() * data.mask
            names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
            gradients = {
                f"d{short}": getattr(layer, f"{name}_l0").grad.numpy() for short, name in names.items()
            }
            return {"y": y, "dx": x.grad.numpy(), **gradients}

        return Run(step, results)

    def _packed(self, layer, data: Data):
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        lengths, T = self.torch.from_numpy(data.lengths), len(data.x)

        def forward(x):
            packed, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
            return pad_packed_sequence(packed, total_length=T)[0]

        return forward

    def _stream(self, case: Case, data: Data) -> dict[str, Run]:
        torch = self.torch
        x = torch.from_numpy(data.x)
        layer = self._layer(case, data.weights).eval()
        kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}[case.cell]
        weights = {name.removesuffix("_l0"): array for name, array in data.weights.items()}
        cell = self._load(kind(case.I, case.H), weights).eval()
        zeros = torch.zeros(case.B, case.H)
        start = (zeros, zeros) if case.cell == "lstm" else zeros
        with torch.inference_mode():
            traced = torch.jit.freeze(torch.jit.trace(cell, (x[0], start)))

        def of_cell(cell) -> Run:
            state = start

            def step():
                nonlocal state
                with torch.inference_mode():
                    state = cell(x[0], state)
                return state

            def results() -> Results:
                nonlocal state
                state = start
                for _ in range(STREAM_STEPS):
                    step()
                return {"y": (state[0] if case.cell == "lstm" else state).numpy()[None]}

            return Run(step, results)

        state = None

        def step():
            nonlocal state
            with torch.inference_mode():
                y, state = layer(x, state)
            return y

        def results() -> Results:
            nonlocal state
            state = None
            return {"y": [step() for _ in range(STREAM_STEPS)][-1].numpy()}

        return {"layer": Run(step, results), "cell": of_cell(cell), "traced cell": of_cell(traced)}

    def _text(self, case: Case, data: Data, embedding: bool) -> Run:
        torch = self.torch
        tokens, targets = torch.from_numpy(data.tokens), torch.from_numpy(data.targets)
        weights = {f"recurrent.{name}": array for name, array in data.weights.items()}
        weights |= {name: array for name, array in data.weights.items() if name.startswith("head.")}

        def model():
            width = EMBEDDING if embedding else case.I
            kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[case.cell]
            parts = {"recurrent": kind(width, case.H, case.layers), "head": torch.nn.Linear(case.H, case.I)}
            if embedding:
                parts["embedding"] = torch.nn.Embedding(case.I, width)
            model = torch.nn.ModuleDict(parts)
            if not embedding:
                self._load(model, weights)
            adam = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)

            def vectors():
                if embedding:
                    return model["embedding"](tokens)
                return torch.nn.functional.one_hot(tokens, case.I).float()

            def step() -> float:
                adam.zero_grad(set_to_none=True)
                hidden, _ = model["recurrent"](vectors())
                logits = model["head"](hidden)
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                adam.step()
                return loss.item()

            return step

        def results() -> Results:
            step = model()
            return {"losses": np.array([step() for _ in range(TEXT_STEPS)])}

        return Run(model(), None if embedding else results)
