"""ExecuTorch: a step of PyTorch's layer, exported and lowered to XNNPACK, the state going in and out.

Only a step: its exporter writes the steps of a sequence one after the other, which takes it more than a
minute for 100 of them.
"""

from __future__ import annotations

import logging
from importlib.metadata import version

from cases import Case, Data
from peers import torch
from peers.base import Base, Run, require, stepped
from peers.graph import STATES


class Peer(Base):
    label = "ExecuTorch"

    def __init__(self, threads: int) -> None:
        logging.disable(logging.WARNING)  # of libraries that its packages look for
        self.modules = torch.Peer(threads)  # first, as what follows is linked with PyTorch
        from executorch.extension.pybindings import _C
        from executorch.runtime import Runtime

        _C._unsafe_reset_threadpool(threads)  # there is no other way to tell it
        self.runtime = Runtime.get()

    @property
    def version(self) -> str:
        return version("executorch")

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set == "stream", "single steps only")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        lib = self.modules.torch
        layer = self.modules._layer(case, data.weights).eval()
        x = lib.from_numpy(data.x)
        start = [lib.zeros(1, case.B, case.H) for _ in STATES[case.cell]]
        exported = lib.export.export(layer, (x, tuple(start) if case.cell == "lstm" else start[0]))
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
        loaded = self.runtime.load_program(program.buffer)
        method = loaded.load_method("forward")

        def advance(state, loaded=loaded):  # which a method does not keep
            return method.execute([x, *state])[1:]

        return {"XNNPACK": stepped(start, advance, lambda state: state[0].numpy())}
