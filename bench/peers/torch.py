"""PyTorch: its recurrent layers, which run on oneDNN (LSTM) or on its own loop (GRU, RNN)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from cases import Case, Data
from peers import torch_many, torch_narrow
from peers.base import LEARNING_RATE, STREAM_STEPS, TEXT_STEPS, Base, Results, Run

EMBEDDING = 64  # width, of the variant of the text step that is not the same function
DROPOUT = 0.2  # between the layers of a model


class Peer(Base):
    """`modules` has the recurrent classes: `torch.nn`, or `fastrnn.torch` in its place."""

    label = "PyTorch"
    formats = ("float32", "float16", "bfloat16", "int8")

    def __init__(self, threads: int, modules: ModuleType | None = None) -> None:
        import torch

        self.torch, self.threads = torch, threads
        self.modules = modules or torch.nn
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)

    @property
    def version(self) -> str:
        return self.torch.__version__

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        if case.format != "float32":
            modules = {"layer": self._layer(case, data.weights)}
            if case.set == "stream":
                modules["cell"] = self._cell(case, data.weights)
            return torch_narrow.runs(case, modules, data)
        if case.models > 1:
            return torch_many.runs(case, data, self.threads)
        if case.work == "text":
            return {
                "one-hot": self._text(case, data, embedding=False),
                "embedding": self._text(case, data, embedding=True),
            }
        if case.work == "model":
            return {name: self._model(case, data, fused=name == "fused") for name in ("fused", "foreach")}
        if case.work == "stream":
            return self._stream(case, data)
        if case.set == "torch-ragged":
            return {"packed": self._packed(self._layer(case, data.weights), data)}
        if case.work in ("cell-train", "cell-infer"):
            module = self._cell(case, data.weights)
            forward = self._loop(case, module)
        else:
            module = self._layer(case, data.weights)
            forward = self._packing(module, data) if case.work == "ragged" else lambda x: module(x)[0]
        if case.trains:
            return {case.work: self._train(module, data, forward)}
        return {"inference_mode": self._infer(module, data, forward)}

    def _layer(self, case: Case, weights: dict[str, np.ndarray]):
        kind = getattr(self.modules, case.cell.upper())
        layer = kind(case.I, case.H, case.layers, dtype=getattr(self.torch, case.dtype))
        return self._load(layer, weights)

    def _cell(self, case: Case, weights: dict[str, np.ndarray]):
        cell = getattr(self.modules, f"{case.cell.upper()}Cell")(case.I, case.H)
        return self._load(cell, {name.removesuffix("_l0"): array for name, array in weights.items()})

    def _load(self, module, weights: dict[str, np.ndarray]):
        module.load_state_dict({name: self.torch.from_numpy(weights[name]) for name in module.state_dict()})
        return module

    def _infer(self, module, data: Data, forward) -> Run:
        x = self.torch.from_numpy(data.x)
        module.eval()

        def call():
            with self.torch.inference_mode():
                return forward(x)

        return Run(call, lambda: {"y": call().numpy()})

    def _train(self, module, data: Data, forward, pack=lambda array: array, pad=lambda array: array) -> Run:
        """`pack` is done before the clock starts, and `pad` where results are compared."""
        x = pack(self.torch.from_numpy(data.x)).requires_grad_()
        dy = pack(self.torch.from_numpy(data.dy))

        def step():
            x.grad = None
            module.zero_grad(set_to_none=True)
            y = forward(x)
            y.backward(dy)
            return y

        def results() -> Results:
            y = pad(step().detach()).numpy() * data.mask
            names = {"weight_ih": "dw_ih", "weight_hh": "dw_hh", "bias_ih": "db_ih", "bias_hh": "db_hh"}
            gradients = {
                names[name.removesuffix("_l0")]: parameter.grad.numpy()
                for name, parameter in module.named_parameters()
            }
            return {"y": y, "dx": pad(x.grad).numpy(), **gradients}

        return Run(step, results)

    def _loop(self, case: Case, cell):
        def forward(x):
            state, outputs = None, []
            for row in x.unbind():
                state = cell(row, state)
                outputs.append(state[0] if case.cell == "lstm" else state)
            return self.torch.stack(outputs)

        return forward

    def _packing(self, layer, data: Data):
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        lengths, T = self.torch.from_numpy(data.lengths), len(data.x)

        def forward(x):
            packed, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
            return pad_packed_sequence(packed, total_length=T)[0]

        return forward

    def _packed(self, layer, data: Data) -> Run:
        """From packed sequences to packed ones."""
        from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

        def pack(padded):
            return pack_padded_sequence(padded, self.torch.from_numpy(data.lengths), enforce_sorted=False)

        def packed(rows):
            return PackedSequence(rows, *places)

        _, *places = pack(self.torch.from_numpy(data.x))
        return self._train(
            layer,
            data,
            lambda x: layer(packed(x))[0].data,
            lambda array: pack(array).data,
            lambda rows: pad_packed_sequence(packed(rows), total_length=len(data.x))[0],
        )

    def _stream(self, case: Case, data: Data) -> dict[str, Run]:
        torch = self.torch
        x = torch.from_numpy(data.x)
        layer = self._layer(case, data.weights).eval()
        cell = self._cell(case, data.weights).eval()
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
        torch, nn = self.torch, self.torch.nn
        tokens, targets = torch.from_numpy(data.tokens), torch.from_numpy(data.targets)

        def model():
            width = EMBEDDING if embedding else case.I
            recurrent = getattr(self.modules, case.cell.upper())(width, case.H, case.layers)
            parts = {"recurrent": recurrent, "head": nn.Linear(case.H, case.I)}
            if embedding:
                parts["embedding"] = nn.Embedding(case.I, width)
            model = nn.ModuleDict(parts)
            if not embedding:
                self._load(model, _of_model(data.weights))

            def vectors():
                if embedding:
                    return model["embedding"](tokens)
                return nn.functional.one_hot(tokens, case.I).float()

            def loss():
                logits = model["head"](model["recurrent"](vectors())[0])
                return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

            return self._step(model, loss, fused=True)

        return Run(model(), None if embedding else lambda: _losses(model()))

    def _model(self, case: Case, data: Data, fused: bool) -> Run:
        torch, nn = self.torch, self.torch.nn
        tokens, targets, lengths = map(torch.from_numpy, (data.tokens, data.targets, data.lengths))
        dtype = getattr(torch, case.dtype)

        def model():
            torch.manual_seed(0)  # for the dropout
            recurrent = getattr(self.modules, case.cell.upper())
            parts = {
                "embedding": nn.Embedding(case.I, case.H, dtype=dtype),
                "recurrent": recurrent(case.H, case.H, case.layers, dropout=DROPOUT, dtype=dtype),
                "head": nn.Linear(case.H, case.I, dtype=dtype),
            }
            model = self._load(nn.ModuleDict(parts), _of_model(data.weights))
            loss = self._loss(model, tokens, targets, lengths)
            return self._step(model, loss, fused)

        return Run(model(), lambda: _losses(model()))

    def _loss(self, model, tokens, targets, lengths):
        """Of a model, on packed sequences: what is padded costs nothing, and nothing is counted for it."""
        from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

        def loss():
            packed, following = (
                pack_padded_sequence(padded, lengths, enforce_sorted=False) for padded in (tokens, targets)
            )
            vectors = PackedSequence(model["embedding"](packed.data), *packed[1:])
            logits = model["head"](model["recurrent"](vectors)[0].data)
            return self.torch.nn.functional.cross_entropy(logits, following.data)

        return loss

    def _step(self, model, loss: Callable, fused: bool) -> Callable[[], float]:
        """A training step: gradients, clipping, Adam."""
        adam = self.torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=fused)

        def step() -> float:
            adam.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            self.torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            return value.item()

        return step


def _of_model(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The recurrent ones under the name that they have in a model."""
    return {name if "." in name else f"recurrent.{name}": array for name, array in weights.items()}


def _losses(step: Callable[[], float]) -> Results:
    return {"losses": np.array([step() for _ in range(TEXT_STEPS)])}
