"""Steps of exported C, beside the library's own from C, and RTNeural's: one thread, on one core.

    RTNEURAL=<checkout> python bench/embedded.py [--rounds 200] [--cells lstm,gru] [--weights int8]

RTNeural gets its sizes when it compiles, as the exported file does. It is compiled by gcc and clang with
each backend, -O3 -march=native, without and with -ffast-math; the fastest counts, and the table names it.
Its sources are not of this project and are not fetched; without them its column is left out. All get the
same weights and 1,000 steps of the same numbers, and what they give is compared first. Rounds are
interleaved; the table has the least and the median of nanoseconds for each step.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn import GRU, LSTM
from fastrnn.embed import export_c
from fastrnn.layers import Linear, Sequential

T = 1000
EXACT = "-std=c99 -O3 -march=native -ffp-contract=off"
LIBRARY = """
#include <fastrnn/step.h>
void library_run(const fastrnn_step_api *api, void *stream, const float *x, long I, long T, float *y,
                 long O) {
  long t;
  for (t = 0; t < T; ++t, x += I, y += O) api->step(stream, x, y);
}
"""
# Both are in the checkout, xsimd as a submodule. Alignments are those that they load with.
BACKENDS = {
    "Eigen": "-DRTNEURAL_USE_EIGEN=1 -DEIGEN_STACK_ALLOCATION_LIMIT=0 -DRTNEURAL_DEFAULT_ALIGNMENT=32 "
    "-I{0}/modules/Eigen",
    "xsimd": "-DRTNEURAL_USE_XSIMD=1 -DRTNEURAL_DEFAULT_ALIGNMENT=64 -I{0}/modules/xsimd/include",
    "STL": "-DRTNEURAL_USE_STL=1 -DRTNEURAL_DEFAULT_ALIGNMENT=16",
}
Run = Callable[[], object]


def networks(cells: list[str]) -> dict[str, tuple[str, int, bool, Sequential]]:
    """By name the cell, its size, whether it is from one number to one, and the network."""
    found = {}
    for cell in cells:
        make = {"lstm": LSTM, "gru": GRU}[cell]
        for H in (8, 16, 20, 32, 64):
            found[f"{cell}_1_{H}"] = (cell, H, True, Sequential(make(1, H, seed=0), Linear(H, 1, seed=0)))
        for H in (32, 64):
            found[f"{cell}_{H}_{H}"] = (cell, H, False, Sequential(make(H, H, seed=0)))
    return found


def compiled(*command: object) -> ctypes.CDLL:
    """A library that a compiler makes. One linked with -ffast-math would have the processor flush for all."""
    output = Path(tempfile.mkdtemp(dir=FOLDER.name)) / "made"
    words = " ".join(map(str, command)).split()
    for options in (
        [*words, "-fPIC", "-c", "-o", f"{output}.o"],
        [words[0], "-shared", f"{output}.o", "-o", f"{output}.so", "-lm"],
    ):
        done = subprocess.run(options, capture_output=True, text=True)
        if done.returncode:
            raise OSError("; ".join(line for line in done.stderr.splitlines() if "error" in line))
    return ctypes.CDLL(f"{output}.so")


def aligned(shape: tuple[int, int]) -> np.ndarray:
    """Zeros that begin at a line of a cache."""
    room = np.zeros(shape[0] * shape[1] + 16, np.float32)
    first = -(room.ctypes.data // 4) % 16
    return room[first : first + shape[0] * shape[1]].reshape(shape)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def exported(name: str, network: Sequential, weights: str, x: np.ndarray, y: np.ndarray) -> dict[str, Run]:
    """The file, by each compiler."""
    source = Path(FOLDER.name) / f"{name}.c"
    export_c(network, source, name=name, weights=weights)
    found: dict[str, Run] = {}
    for compiler in filter(shutil.which, ("gcc", "clang")):
        library = compiled(compiler, EXACT, source)
        state = ctypes.create_string_buffer(1 << 16)
        getattr(library, f"{name}_init")(state)
        function = getattr(library, f"{name}_run")
        found[f"C, {compiler}"] = lambda f=function, s=state: f(s, pointer(x), ctypes.c_size_t(T), pointer(y))
    return found


def of_library(network: Sequential, x: np.ndarray, y: np.ndarray) -> Run:
    """The library's step from a loop in C."""
    source = Path(FOLDER.name) / "library.c"
    source.write_text(LIBRARY)
    function = compiled("gcc -O3", "-I", fastrnn.get_include(), source).library_run
    capsule = ctypes.pythonapi.PyCapsule_GetPointer
    capsule.restype, capsule.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    api = capsule(fastrnn._core._step_api, b"fastrnn._core._step_api")
    stream = network.stream()
    sizes = [ctypes.c_long(size) for size in (x.shape[1], T, y.shape[1])]

    def run(stream: object = stream) -> None:
        address = ctypes.c_void_p(stream.address)
        function(ctypes.c_void_p(api), address, pointer(x), sizes[0], sizes[1], pointer(y), sizes[2])

    return run


def of_rtneural(shapes: str) -> dict[str, ctypes.CDLL]:
    """RTNeural in each way that compiles."""
    checkout = os.environ.get("RTNEURAL")
    if not checkout:
        print("RTNEURAL does not say where RTNeural is: left out", file=sys.stderr)
        return {}
    source = Path(FOLDER.name) / "rtneural.cpp"
    source.write_text(
        (Path(__file__).parent / "rtneural.cpp").read_text().replace("\nSHAPES\n", f"\n{shapes}\n")
    )
    found = {}
    for backend, options in BACKENDS.items():
        for compiler in filter(shutil.which, ("g++", "clang++")):
            for fast in ("", " -ffast-math"):
                command = f"{compiler} -std=c++17 -w -O3 -DNDEBUG -march=native{fast} -I{checkout}"
                try:
                    found[f"{backend}, {compiler}{fast}"] = compiled(
                        command, options.format(checkout), source
                    )
                except OSError as error:
                    print(
                        f"RTNeural, {backend}, {compiler}{fast}: not compiled: {str(error)[:300]}",
                        file=sys.stderr,
                    )
    return found


def weights_of(network: Sequential, cell: str) -> np.ndarray:
    """One after the other, as rtneural.cpp takes them: a GRU's gates are z r n there."""
    parts = []
    for name, array in network.parameters.items():
        if cell == "gru" and name.startswith("0."):
            r, z, n = np.split(array, 3)
            array = np.concatenate([z, r, n])
        parts.append(array.ravel())
    return np.concatenate(parts).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--cells", default="lstm,gru")
    parser.add_argument("--weights", default="float32", help="of exported C and of the library")
    given = parser.parse_args()
    fastrnn.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    every = networks(given.cells.split(","))
    shapes = "".join(
        f"{'TO_ONE' if to_one else 'SQUARE'}({name}, {cell.capitalize()}, {H})\n"
        for name, (cell, H, to_one, _) in every.items()
    )
    rtneural = of_rtneural(shapes)
    print("| network | C, gcc | C, clang | library, from C | RTNeural | | C / library | C / RTNeural |")
    print("|---|--:|--:|--:|--:|---|--:|--:|")
    for name, (cell, H, to_one, network) in every.items():
        x, y = aligned((T, 1 if to_one else H)), aligned((T, 1 if to_one else H))
        x[:] = np.random.default_rng(0).standard_normal(x.shape)
        other = network if given.weights == "float32" else network.compress(given.weights)
        ways = exported(name, network, given.weights, x, y)
        ways["library"] = of_library(other, x, y)
        wanted = other.stream().step_many(x[:, None])[:, 0]
        for way, run in ways.items():
            run()
            assert np.array_equal(wanted, y), f"{name}: {way} gives other bits"
        exact = network.stream().step_many(x[:, None])[:, 0]
        weights = weights_of(network, cell)
        for way, library in rtneural.items():
            getattr(library, f"{name}_start")(pointer(weights))
            function = getattr(library, f"{name}_run")
            function(pointer(x), ctypes.c_long(T), pointer(y))
            worst = float(np.abs(exact - y).max() / np.abs(exact).max())
            if worst > 1e-3:
                print(f"{name}: RTNeural, {way}, is off by {worst:.2g}: left out", file=sys.stderr)
                continue
            ways[f"RTNeural: {way}"] = functools.partial(function, pointer(x), ctypes.c_long(T), pointer(y))
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, run in ways.items():
                begin = time.perf_counter_ns()
                run()
                times[way].append((time.perf_counter_ns() - begin) / T)
        print(row(name, times), flush=True)


def row(name: str, times: dict[str, list[float]]) -> str:
    """Of a table: the least and the median of each."""

    def both(way: str) -> str:
        return f"{min(times[way]):.0f} · {statistics.median(times[way]):.0f}" if way in times else "–"

    ours = min(min(taken) for way, taken in times.items() if way.startswith("C, "))
    theirs = [way for way in times if way.startswith("RTNeural")]
    fastest = min(theirs, key=lambda way: min(times[way]), default="")
    ratio = f"{ours / min(times[fastest]):.2f}" if fastest else "–"
    library = f"{ours / min(times['library']):.2f}"
    cells = [
        name,
        both("C, gcc"),
        both("C, clang"),
        both("library"),
        both(fastest),
        fastest[10:] or "–",
        library,
        ratio,
    ]
    return f"| {' | '.join(cells)} |"


FOLDER = tempfile.TemporaryDirectory()

if __name__ == "__main__":
    main()
