"""PyTorch on ragged batches without packing: every row runs to the end, and the loss ignores the padding."""

from __future__ import annotations

from cases import Case, Data
from peers import torch
from peers.base import Run, require


class Peer(torch.Peer):
    label = "PyTorch padded"
    formats = ("float32",)

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.work in ("ragged", "model"), "for ragged batches only")
        runs = super().runs(case, data)
        if case.work == "model":  # its dropout hits other units
            return {name: Run(run.call, None) for name, run in runs.items()}
        return runs

    def _packing(self, layer, data: Data):
        return lambda x: layer(x)[0]

    def _packed(self, layer, data: Data) -> Run:
        return self._train(layer, data, self._packing(layer, data))

    def _loss(self, model, tokens, targets, lengths):
        padding = self.torch.arange(len(targets))[:, None] >= lengths
        following = targets.masked_fill(padding, -100).flatten()

        def loss():
            logits = model["head"](model["recurrent"](model["embedding"](tokens))[0])
            return self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), following)

        return loss
