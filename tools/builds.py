"""Builds that find what tests alone do not: make builds, or python tools/builds.py [NAME …].

Each says how much was run or read, and is shown able to find what it looks for: faults.cpp is built and
run in the same way, or what is read is made wrong.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # cmake may be Python's

NATIVE = "activations functional kept kernels layers math native packed stack stream threads".split()
NATIVE += ["training_kernels", "variants"]

#: Tests of what only PyTorch's tensors reach.
INSIDE = ["torch_modules", "torch_ops"]

#: PyTorch's OpenMP is another one than Clang's; sanitizers hand on signals when it suits them.
SUITABLE = "not as_pytorch_is_told and not interrupted_call"

#: Random networks forward and back, on one to three threads, whatever else the machine is doing.
NETWORKS = """
import sys
import numpy as np
from battery._layers import arguments, both_passes, network, upstream
from fastrnn import _core

_core.insist_on_teams(True)
for k in range(int(sys.argv[1])):
    _core.set_num_threads(1 + k % 3)
    rng = np.random.default_rng(k)
    layer = network(rng)
    given = arguments(rng, layer)
    both_passes(layer, given, upstream(rng, layer, given))  # the latter calls the layer, too
"""

CALL = "import ctypes, sys; print(getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2])(int(sys.argv[3])))"


class Missing(Exception):
    """Something that a build needs is not here."""


class Found(Exception):
    """What a build has found."""


def program(*names):
    """The first of some programs that is there."""
    for name in names:
        if path := shutil.which(name, path=PATH):
            return path
    raise Missing(f"{' or '.join(names)} is not installed")


def of_llvm(name):
    """A program of LLVM, which Debian has with its version; older ones than 16 fail on new systems."""
    return program(name, *(f"{name}-{version}" for version in range(23, 15, -1)))


def output_of(*command, allow_failure=False, cwd=ROOT, **environment):
    environment = {**os.environ, "PATH": PATH, **environment}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode and not allow_failure:
        raise Found(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-20000:]}")
    return done.stdout


def library(compiler, name):
    return output_of(compiler, f"-print-file-name={name}").strip()


def configure(folder, *options, compiler):
    """A build folder for one ISA, where there are several; returns what CMake says."""
    isas = ["-DFASTRNN_ISAS=avx2"] if platform.machine() in ("x86_64", "AMD64") else []
    pybind11 = output_of(sys.executable, "-m", "pybind11", "--cmakedir").strip()
    return output_of(
        *(program("cmake"), "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={compiler}"),
        *(f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}", *isas, *options),
    )


def copy_of_package(folder, module):
    """The Python files with another compiled module."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "python", folder, ignore=shutil.ignore_patterns("_core*.so", "__pycache__"))
    shutil.copy(module, folder / "fastrnn")


class Build:
    """fastrnn with an instrument, and a copy of its Python files."""

    def __init__(self, instrument, *options, compiler):
        self.folder = ROOT / "build" / f"instrumented-{instrument}"
        said = configure(self.folder, f"-DFASTRNN_INSTRUMENT={instrument}", *options, compiler=compiler)
        self.openmp = "has no OpenMP" not in said
        output_of(program("cmake"), "--build", self.folder, "--parallel", "2")
        (module,) = self.folder.glob("_core*.so")
        copy_of_package(self.folder / "python", module)

    def python(self, *arguments, before=(), **environment):
        """What Python prints that has this build."""
        environment["PYTHONPATH"] = str(self.folder / "python")
        return output_of(*before, sys.executable, *arguments, cwd=ROOT / "tests", **environment)

    def tests(self, names, *more, **environment):
        """How many tests passed, of files that run side by side."""

        def passed(name):
            # What a sanitizer says as it ends the process must not be captured.
            command = ("-m", "pytest", "-q", "--capture=sys", "-p", "no:cacheprovider", f"test_{name}.py")
            return int(re.search(r"(\d+) passed", self.python(*command, *more, **environment))[1])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return sum(pool.map(passed, names))

    def networks(self, count, **options):
        self.python("-c", NETWORKS, count, **options)
        return count

    def fault(self, name, argument, **options):
        """What is printed when a function of faults.cpp is called."""
        try:
            return self.python("-c", CALL, self.folder / "libfaults.so", name, argument, **options)
        except Found as found:
            return str(found)


# Each returns what was tried, and which faults it noticed.


def address():
    """Memory that is not ours, and what C++ leaves undefined."""
    clang = of_llvm("clang++")
    build = Build("address", compiler=clang)
    runtime = library(clang, f"libclang_rt.asan-{platform.machine()}.so")
    here = {
        "LD_PRELOAD": f"{runtime} {library(clang, 'libstdc++.so')}",
        # Leaks are Python's own, memcheck looks for ours; second stacks leave some tests no memory.
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    }
    tests = build.tests(NATIVE, "-k", SUITABLE, **here)
    tried = f"{tests} tests and {build.networks(1000, **here)} networks"
    return tried, {
        "overflow": "heap-buffer-overflow" in build.fault("overflow", 8, **here),
        "signed_overflow": "signed integer overflow" in build.fault("signed_overflow", 1, **here),
    }


def thread():
    """Races, among OpenMP's threads and among those of our own pool."""
    clang = of_llvm("clang++")
    archer = Path(output_of(clang, "-print-resource-dir").strip()).parents[1] / "libarcher.so"
    if not archer.exists():
        raise Missing("Clang's OpenMP is not installed, with its libarcher.so")
    here = {
        "before": (program("setarch"), "-R"),  # it knows where memory is, which new systems choose at random
        "LD_PRELOAD": library(clang, f"libclang_rt.tsan-{platform.machine()}.so"),
        "OMP_TOOL_LIBRARIES": str(archer),  # which knows how OpenMP's threads wait
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1:die_after_fork=0",
    }
    tried, noticed = [], {}
    for pool in ("openmp", "std"):
        build = Build("thread", f"-DCMAKE_DISABLE_FIND_PACKAGE_OpenMP={pool == 'std'}", compiler=clang)
        if build.openmp != (pool == "openmp"):
            raise Found(f"CMake did not choose pool_{pool}.cpp")
        chosen = f"{SUITABLE} and not no_memory"  # of which the sanitizer wants some
        tests = build.tests(["threads", "stream", "native", "kept", "parallel"], "-k", chosen, **here)
        tried.append(f"{tests} tests and {build.networks(300, **here)} networks (pool_{pool})")
        noticed[f"race beside pool_{pool}"] = "data race" in build.fault("race", 99999, **here)
    return ", ".join(tried), noticed


def memcheck():
    """Values that nobody has set, memory that is not ours or is lost."""
    valgrind = program("valgrind")
    build = Build("coverage", compiler=program("g++"))  # as good as one that would be compiled for this

    def errors(run, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            xml = Path(folder) / "errors.xml"
            options = ("--leak-check=full", "--show-leak-kinds=definite", "--xml=yes", f"--xml-file={xml}")
            run(*arguments, before=(valgrind, *options), PYTHONMALLOC="malloc")
            return [each for each in ElementTree.parse(xml).iter("error") if ours(each)]

    if found := errors(build.networks, 20):
        raise Found("\n".join(ElementTree.tostring(each, "unicode") for each in found))
    faults = {"overflow": 8, "uninitialised": 1, "leak": 1000}
    return "20 networks", {name: bool(errors(build.fault, name, faults[name])) for name in faults}


def ours(error):
    """Whether an error is of what we compile: the first frame that is not of valgrind's allocator."""
    frames = [frame.findtext("obj") or "" for frame in error.find("stack").iter("frame")]
    first = next((path for path in frames if "vgpreload" not in path), "")
    return "_core" in first or "libfaults" in first


def coverage():
    """Lines and branches of csrc that its tests reach."""
    gcovr, build = program("gcovr"), Build("coverage", compiler=program("g++"))
    for counts in build.folder.rglob("*.gcda"):
        counts.unlink()
    tests = build.tests(NATIVE + ["config"] + (INSIDE if importlib.util.find_spec("torch") else []))
    build.fault("leak", 1)

    def report(files):
        """Lines of each file, and of all lines, functions and branches; kernels count to billions."""
        table = build.folder / "coverage.txt"
        options = ("--root", ROOT, build.folder, "--filter", files, "--gcov-suspicious-hits-threshold=0")
        options += ("--merge-lines", "--exclude-throw-branches", "--exclude-unreachable-branches")
        said = output_of(gcovr, *options, "--txt", table, "--txt-summary")
        return "\n".join([table.read_text(), *said.splitlines()[-3:]])

    print(report("csrc/"))
    faults = report("tools/faults.cpp")
    partly = re.search(r"faults\.cpp +\d+ +[1-9]\d* +[1-9]\d?%", faults)
    return f"{tests} tests", {"a function that nobody calls": bool(partly)}


def tidy():
    """What clang-tidy finds in the code, of what .clang-tidy names."""
    clang_tidy, folder = of_llvm("clang-tidy"), ROOT / "build/instrumented-tidy"
    configure(folder, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", compiler=of_llvm("clang++"))
    files = sorted({each["file"] for each in json.loads((folder / "compile_commands.json").read_text())})
    command = (clang_tidy, "--quiet", "-p", folder, "--warnings-as-errors=*")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(lambda file: output_of(*command, file, allow_failure=True), files)
    if found := [each for each in said if "error:" in each]:
        raise Found("\n".join(found))
    wrong = output_of(*command, ROOT / "tools/faults.cpp", allow_failure=True)
    return f"{len(files)} files", {"freed": "after it is freed" in wrong}


def stubs():
    """Whether _core.pyi and the compiled module agree."""
    module = Path(importlib.util.find_spec("fastrnn._core").origin)
    folder = ROOT / "build/instrumented-stubs"
    copy_of_package(folder, module)

    def stubtest(**options):
        command = (sys.executable, "-m", "mypy.stubtest", "fastrnn._core")
        return output_of(*command, cwd=folder, PYTHONPATH=str(folder), **options)

    stubtest()
    text = (ROOT / "python/fastrnn/_core.pyi").read_text()
    (folder / "fastrnn/_core.pyi").write_text(text.replace("def empty_cache()", "def clear_cache()"))
    said = stubtest(allow_failure=True)
    return f"{text.count('def ')} functions", {"another name": "clear_cache is not present" in said}


BUILDS = {build.__name__: build for build in (stubs, coverage, memcheck, address, thread, tidy)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    told = "; ".join(f"{name}: {build.__doc__}" for name, build in BUILDS.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if left out; {told}")
    names = parser.parse_args().names or list(BUILDS)
    if unknown := set(names) - set(BUILDS):
        parser.error(f"no build {', '.join(sorted(unknown))}: there are {', '.join(BUILDS)}")
    wrong = 0
    for name in names:
        start = time.perf_counter()
        try:
            tried, noticed = BUILDS[name]()
        except Missing as why:
            print(f"{name:14}cannot run here: {why}")
            continue
        except Found as found:
            print(f"{name:14}{found}")
            wrong += 1
            continue
        missed = [fault for fault, seen in noticed.items() if not seen]
        wrong += len(missed)
        seen = f"{len(noticed) - len(missed)} of {len(noticed)} seeded faults noticed"
        print(f"{name:14}{tried}: nothing found; {seen}; {time.perf_counter() - start:.0f} s", flush=True)
        for fault in missed:
            print(f"{name}: does not notice a fault: {fault}")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
