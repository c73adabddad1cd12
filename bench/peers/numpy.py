"""fastrnn's specification in NumPy, on NumPy's BLAS. In float64 it is what all results are compared with."""

from __future__ import annotations

from cases import Case, Data
from peers import fastrnn
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

    def _stream(self, case: Case, data: Data) -> dict[str, Run]:
        return self._calls_as_stream(self._layer(case, data.weights), data.x)
