"""fastrnn itself, by the interface that its users have."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from cases import FORMATS, Case, Data, in_format
from peers import torch
from peers.base import LEARNING_RATE, STREAM_STEPS, TEXT_STEPS, Base, Results, Run, of_some


class Peer(Base):
    label = "fastrnn"
    formats = FORMATS

    def __init__(self, threads: int) -> None:
        import fastrnn

        self.fastrnn, self.threads = fastrnn, threads
        fastrnn.set_num_threads(threads)

    @property
    def version(self) -> str:
        from fastrnn import _core

        return f"{self.fastrnn.__version__} ({_core.config()['isa']})"

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        return self._torch.runs(case, data) if case.inside_torch else self._layers(case, data)

    @cached_property
    def _torch(self) -> torch.Peer:
        from fastrnn import torch as modules

        return torch.Peer(self.threads, modules)

    def _layers(self, case: Case, data: Data) -> dict[str, Run]:
        if case.models > 1:
            return self._many(case, data)
        if case.work == "text":
            return self._text(case, data)
        if case.work == "stream":
            return self._stream(case, data)
        layer = self._layer(case, data.weights)
        lengths = data.lengths if case.work == "ragged" else None
        if not case.trains:
            return {"layer": Run(lambda: layer(data.x), lambda: {"y": layer(data.x)[0]})}

        def step():
            y, _, back = layer.forward(data.x, lengths=lengths)
            return y, back(data.dy), layer.take_gradients()

        def results() -> Results:
            y, (dx, _), found = step()
            names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
            gradients = {f"d{short}": found[f"{name}_l0"] for short, name in names.items()}
            return {"y": y, "dx": dx, **gradients}

        return {"layer": Run(step, results)}

    def _many(self, case: Case, data: Data) -> dict[str, Run]:
        members = [self._layer(case, each.weights) for each in data.each]
        parallel = self.fastrnn.Parallel(members)
        x, dy = [each.x for each in data.each], [each.dy for each in data.each]
        if not case.trains:
            return {"Parallel": Run(lambda: parallel(x), lambda: of_some([{"y": y} for y in parallel(x)]))}

        def step():
            y, back = parallel.forward(x)
            return y, back(dy), parallel.take_gradients()

        def results() -> Results:
            y, dx, found = step()
            names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
            return of_some(
                [
                    {"y": y[k], "dx": dx[k]}
                    | {f"d{short}": found[f"{k}.{name}_l0"] for short, name in names.items()}
                    for k in range(case.models)
                ]
            )

        return {"Parallel": Run(step, results)}

    def _layer(self, case: Case, weights: dict[str, np.ndarray]):
        kind = getattr(self.fastrnn, case.cell.upper())
        layer = kind(case.I, case.H, case.layers, dtype=case.dtype)
        layer.load_state_dict({name: weights[name] for name in layer.parameters})
        return in_format(layer, case.format)

    def _stream(self, case: Case, data: Data) -> dict[str, Run]:
        layer = self._layer(case, data.weights)
        x = data.x[0]
        if not hasattr(layer, "stream"):
            return self._calls_as_stream(layer, data.x)
        stream = layer.stream(batch=case.B)

        def results() -> Results:
            stream.reset()
            return {"y": np.array([stream.step(x) for _ in range(STREAM_STEPS)])[-1:]}

        return {"stream": Run(lambda: stream.step(x), results)}

    @staticmethod
    def _calls_as_stream(layer, x: np.ndarray) -> dict[str, Run]:
        state = None

        def step():
            nonlocal state
            y, state = layer(x, state)
            return y

        def results() -> Results:
            nonlocal state
            state = None
            return {"y": [step() for _ in range(STREAM_STEPS)][-1]}

        return {"call": Run(step, results)}

    def _text(self, case: Case, data: Data) -> dict[str, Run]:
        from fastrnn.layers import Composite
        from fastrnn.losses import softmax_cross_entropy
        from fastrnn.optim import Adam, clip_grad_norm

        def model():
            layer = self._layer(case, data.weights)
            head = self.fastrnn.Linear(case.H, case.I, dtype=case.dtype)
            head.load_state_dict({name: data.weights[f"head.{name}"] for name in head.parameters})
            network = Composite(recurrent=layer, head=head)
            adam = Adam(network.parameters, LEARNING_RATE)

            def step() -> float:
                hidden, _, back = layer.forward(data.tokens)
                logits, head_back = head.forward(hidden)
                loss, dlogits = softmax_cross_entropy(logits, data.targets)
                back(head_back(dlogits))
                gradients = network.take_gradients()
                clip_grad_norm(gradients, 1.0)
                adam.step(gradients)
                return loss

            return step

        def results() -> Results:
            step = model()
            return {"losses": np.array([step() for _ in range(TEXT_STEPS)])}

        return {"tokens": Run(model(), results)}
