"""fastrnn's specification in NumPy, on NumPy's BLAS. In float64 it is what all results are compared with."""

from __future__ import annotations

from functools import cached_property

from cases import Case, Data
from peers import fastrnn, torch
from peers.base import Run


class Peer(fastrnn.Peer):
    label = "NumPy"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.fastrnn.use_backend("reference")

    @property
    def version(self) -> str:
        import numpy

        return numpy.__version__

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        if case.work == "model":  # only PyTorch knows which units its dropout hits
            return {"PyTorch": self._torch.runs(case, data)["foreach"]}
        return self._layers(case, data)

    @cached_property
    def _torch(self) -> torch.Peer:
        return torch.Peer(self.threads)

    def _stream(self, case: Case, data: Data) -> dict[str, Run]:
        return self._calls_as_stream(self._layer(case, data.weights), data.x)
