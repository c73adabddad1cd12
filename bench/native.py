"""Compiles the C++ and Cython sources beside this file when they are first needed."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(tempfile.gettempdir()) / "fastrnn-bench"


def build(source: str, *flags: str) -> Path:
    """The compiled file, from an earlier call if neither source, flags, compiler nor machine has changed."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise RuntimeError(f"{source} needs a C++ compiler")
    path = HERE / source
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    architecture = "-march=" + os.environ.get("BENCH_ARCH", "native")
    identity = [path.read_text(), architecture, *flags, version, platform.node(), platform.machine()]
    folder = CACHE / hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    target = folder / path.stem
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".pyx":
            path = _cython(path, folder)
        partial = target.with_suffix(".partial")
        command = [compiler, "-std=c++17", "-O3", architecture, str(path), "-o", str(partial), *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{source} does not compile:\n{done.stderr}")
        partial.replace(target)
    return target


def _cython(path: Path, folder: Path) -> Path:
    from Cython.Compiler.Main import compile as cythonize

    target = folder / (path.stem + ".cpp")
    result = cythonize(str(path), output_file=str(target), cplus=True, language_level=3)
    if result.num_errors:
        raise RuntimeError(f"{path.name} does not compile")
    return target
