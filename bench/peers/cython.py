"""The loop of `loop.pyx`, compiled for this machine with fast mathematics: one thread."""

from __future__ import annotations

import importlib.util
import sysconfig
from importlib.machinery import ExtensionFileLoader

from native import build
from peers.loops import LoopPeer


class Peer(LoopPeer):
    label = "Cython loop"

    def __init__(self, threads: int) -> None:
        import Cython

        self._version = Cython.__version__
        include = sysconfig.get_paths()["include"]
        path = str(
            build("loop.pyx", "-shared", "-fPIC", "-ffast-math", "-fno-strict-aliasing", f"-I{include}")
        )
        loader = ExtensionFileLoader("loop", path)
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader("loop", loader))
        loader.exec_module(module)
        self.functions = {name: getattr(module, name) for name in ("lstm", "gru", "rnn")}

    @property
    def version(self) -> str:
        return self._version
