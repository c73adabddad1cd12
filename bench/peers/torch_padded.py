"""PyTorch on ragged batches without packing: every row runs to the end, and the loss ignores the padding."""

from __future__ import annotations

from cases import Case, Data
from peers import torch
from peers.base import Run, require


class Peer(torch.Peer):
    label = "PyTorch padded"

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set == "ragged", "for ragged batches only")
        layer = self._layer(case, data.weights)
        return {"layer": self._train(layer, data, lambda x: layer(x)[0])}
