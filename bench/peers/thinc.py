"""Thinc: its Cython LSTM, on a BLAS of its own with one thread."""

from __future__ import annotations

import numpy as np

from cases import Case, Data
from peers.base import Base, Results, Run, reordered, require

GATES = "ifgo", "fiog"


class Peer(Base):
    label = "Thinc"

    def __init__(self, threads: int) -> None:
        import thinc.api

        self.thinc = thinc

    @property
    def version(self) -> str:
        return self.thinc.__version__

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.cell == "lstm", "LSTM only")
        require(case.set in ("train", "infer", "ragged"), "takes no state from outside")
        model = self._model(case, data)
        # Rows sorted by length, longest first, as its list2padded would have them.
        order = np.argsort(-data.lengths, kind="stable")
        x, dy = (self._padded(array[:, order], data.lengths[order]) for array in (data.x, data.dy))

        if case.set == "infer":
            return {"layer": Run(lambda: model.predict(x), lambda: {"y": model.predict(x).data})}

        def step():
            y, backprop = model.begin_update(x)
            model.set_grad("LSTM", model.get_param("LSTM") * 0)
            return y, backprop(dy)

        def results() -> Results:
            y, dx = step()
            back = np.argsort(order)
            w_ih, b_ih, w_hh, _ = self._split(case, model.get_grad("LSTM"))
            found = {"dw_ih": w_ih, "dw_hh": w_hh, "db_ih": b_ih}
            found = {name: reordered(array, *GATES[::-1]) for name, array in found.items()}
            return {"y": y.data[:, back], "dx": dx.data[:, back], **found}

        return {"layer": Run(step, results)}

    def _model(self, case: Case, data: Data):
        w_ih, w_hh, b_ih, b_hh = (reordered(array, *GATES) for array in data.layer())
        model = self.thinc.api.LSTM(case.H, case.I).initialize()
        model.set_param("LSTM", np.concatenate([array.ravel() for array in (w_ih, b_ih, w_hh, b_hh)]))
        return model

    def _padded(self, array: np.ndarray, lengths: np.ndarray):
        sizes = (np.arange(len(array))[:, None] < lengths).sum(axis=1)
        indices = np.arange(len(lengths))
        as_ints = (values.astype("int32") for values in (sizes, lengths, indices))
        return self.thinc.api.Padded(np.ascontiguousarray(array), *as_ints)

    @staticmethod
    def _split(case: Case, flat: np.ndarray) -> list[np.ndarray]:
        rows = 4 * case.H
        shapes = (rows, case.I), (rows,), (rows, case.H), (rows,)
        parts = np.split(flat, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
