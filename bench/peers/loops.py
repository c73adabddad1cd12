"""What the two hand-written loops share: inference only, and weights transposed, so that the compiler can
vectorise over the units."""

from __future__ import annotations

import numpy as np

from cases import GATES, Case, Data
from peers.base import STREAM_STEPS, Base, Results, Run, require


class LoopPeer(Base):
    """`self.functions` are by cell: f(x, w_ih_t, w_hh_t, b_ih, b_hh, h, c, z, y), which overwrites h (B, H),
    c (B, H), z (2, G*H) and y (T, B, H)."""

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("infer", "stream"), "inference only")
        run = self.functions[case.cell]
        w_ih, w_hh, b_ih, b_hh = data.layer()
        weights = np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T), b_ih, b_hh
        h, c = np.zeros((2, case.B, case.H), "float32")
        z = np.empty((2, GATES[case.cell] * case.H), "float32")
        y = np.empty((case.T, case.B, case.H), "float32")

        def start() -> None:
            h[...] = c[...] = 0

        def call() -> None:
            start()
            run(data.x, *weights, h, c, z, y)

        def step() -> None:
            run(data.x, *weights, h, c, z, y)

        def results() -> Results:
            start()
            for _ in range(STREAM_STEPS if case.set == "stream" else 1):
                step()
            return {"y": y.copy()}

        return {"loop": Run(step if case.set == "stream" else call, results)}
