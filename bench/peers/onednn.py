"""oneDNN, called directly through `onednn.cpp`: what is under PyTorch's LSTM and OpenVINO, without them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from cases import Case, Data
from native import build
from peers.base import STREAM_STEPS, Base, Results, Run, reordered, require

TO = {"lstm": ("ifgo", "ifgo"), "gru": ("rzn", "zrn"), "rnn": ("h", "h")}


class Peer(Base):
    label = "oneDNN"
    formats = ("float32", "bfloat16", "int8")

    def __init__(self, threads: int) -> None:
        suffix = _suffix()
        header = _installed(f"onednn-devel{suffix}", "oneapi/dnnl/dnnl.hpp")
        library = _installed(f"onednn{suffix}", "libdnnl.so.3")
        if not suffix:  # its CPU is a device of OpenCL
            os.environ["OCL_ICD_FILENAMES"] = str(library.parent / "libintelocl.so")
        paths = f"-Wl,--disable-new-dtags,-rpath,{library.parent},-rpath-link,{library.parent}"
        flags = "-shared", "-fPIC", f"-I{header.parents[2]}", str(library), paths
        self.library = ctypes.CDLL(str(build("onednn.cpp", *flags)))
        self.library.create.restype = ctypes.c_void_p
        for name in ("version", "last_error"):
            getattr(self.library, name).restype = ctypes.c_char_p

    @property
    def version(self) -> str:
        return self.library.version().decode()

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("train", "infer", "stream"), "its primitives have no such thing")
        library, stream = self.library, case.set == "stream"
        layer = ctypes.c_void_p(self._create(case, data))

        def call() -> None:
            library.run(layer)

        weakref.finalize(call, library.destroy, layer)
        shapes = {"y": data.dy.shape}
        if case.trains:
            w_ih, w_hh, b_ih, _ = data.layer()
            shapes |= {"dx": data.x.shape, "dw_ih": w_ih.shape, "dw_hh": w_hh.shape}
            shapes |= {"db": (4 * case.H if case.cell == "gru" else len(b_ih),)}

        def results() -> Results:
            if stream:
                library.reset(layer)
            for _ in range(STREAM_STEPS if stream else 1):
                call()
            found = {name: np.empty(shape, "float32") for name, shape in shapes.items()}
            for name, array in found.items():
                library.fetch(layer, name.encode(), _pointer(array))
            ours, theirs = TO[case.cell]
            for name in found.keys() & {"dw_ih", "dw_hh"}:
                found[name] = reordered(found[name], theirs, ours)
            if "db" in found:
                bias = found.pop("db")[: len(b_ih)]
                found["db_ih"] = reordered(bias, theirs, ours)
            return found

        return {"primitive": Run(call, results)}

    def _create(self, case: Case, data: Data) -> int:
        w_ih, w_hh, b_ih, b_hh = data.layer()
        ours, theirs = TO[case.cell]
        w_ih, w_hh, b_ih, b_hh = (reordered(array, ours, theirs) for array in (w_ih, w_hh, b_ih, b_hh))
        if case.cell == "gru":  # z and r together, then n's two
            gates = 2 * case.H
            bias = np.concatenate([b_ih[:gates] + b_hh[:gates], b_ih[gates:], b_hh[gates:]])
        else:
            bias = b_ih + b_hh
        sizes = [ctypes.c_long(size) for size in (case.T, case.B, case.I, case.H)]
        arrays = [_pointer(array) for array in (w_ih, w_hh, bias, data.x, data.dy)]
        layer = self.library.create(
            case.cell.encode(),
            case.format.encode(),
            *sizes,
            int(case.set == "stream"),
            int(case.trains),
            *arrays,
        )
        require(bool(layer), self.library.last_error().decode())
        return layer


def _suffix() -> str:
    """Of the packages' names: "" for the newest, which runs on SYCL, else for one on OpenMP."""
    with contextlib.suppress(PackageNotFoundError):
        distribution("onednn-devel")
        return ""
    return "-cpu-gomp"


def _installed(package: str, name: str) -> Path:
    """The file of a package of which this is the end of the path."""
    return next(Path(f.locate()).resolve() for f in distribution(package).files if str(f).endswith(name))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.dtype == np.float32 and array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)
