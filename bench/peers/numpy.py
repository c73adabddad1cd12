"""fastrnn's specification in NumPy, on NumPy's BLAS. In float64 it is what all results are compared with."""

from __future__ import annotations

from peers import fastrnn


class Peer(fastrnn.Peer):
    label = "NumPy"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.fastrnn.use_backend("reference")

    @property
    def version(self) -> str:
        import numpy

        return numpy.__version__
