"""The sdist, and a wheel for every CPython of this machine: built, checked, and tried where nothing else is.

    make wheels                                         for all that are found: pyenv's, python3.N on the PATH
    make wheels PYTHONS="python3.12 /opt/python3.14t/bin/python3"

What is built is the sdist, unpacked, which is so known to be complete, in one build folder: the kernels are
compiled for the first wheel and linked into all. auditwheel finds the oldest manylinux tag that the symbols
allow, and puts libgomp into the wheel. Each wheel is then installed into a fresh environment, with the extra
``test``, and tested by the sdist's tests, beside which there are no sources of the package, and without a
compiler on the PATH. All that comes between is in build/wheels, what the tests print too.

Where Debian's compiler for aarch64 is, each Python gets a wheel for that processor too, with the headers of
this one, which differ in nothing that the bindings see. Those are checked, not tested: see docs/platforms.md.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
WORK = ROOT / "build" / "wheels"
TOOLS = Path(sys.executable).parent
MOST = 3_000_000  # bytes of a wheel
HERE, OTHER = platform.machine(), "aarch64"
COMPILER = f"{OTHER}-linux-gnu-g++"  # of Debian's package g++-aarch64-linux-gnu

# What an interpreter says of itself, if wheels can be built for it.
ABOUT = """
import ensurepip, json, sys, sysconfig
from pathlib import Path
assert sys.implementation.name == "cpython" and sys.version_info >= (3, 10)
assert Path(sysconfig.get_path("include"), "Python.h").exists()
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
tag = f"cp3{sys.version_info.minor}{free}"
print(json.dumps({"tag": tag, "module": "_core" + sysconfig.get_config_var("EXT_SUFFIX")}))
"""


@dataclass(frozen=True)
class Target:
    """A Python that gets a wheel."""

    python: str
    tag: str  # cp313, cp313t
    module: str  # the compiled module's name in it
    machine: str = HERE

    def on(self, machine: str) -> Target:
        """The same Python on another processor."""
        return replace(self, module=self.module.replace(self.machine, machine), machine=machine)

    def __str__(self) -> str:
        return f"{self.tag}-{self.machine}"


def target(python: str) -> Target | None:
    """Of this interpreter; None if it does not run, is too old, or has no headers or no pip."""
    done = subprocess.run([python, "-c", ABOUT], capture_output=True, text=True)
    return None if done.returncode else Target(python, **json.loads(done.stdout))


def found() -> list[str]:
    """The interpreters of this machine: pyenv's, newest first, then those on the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"

    def version(path: Path) -> list[int]:
        return [*map(int, re.findall(r"\d+", path.parts[-3]))]

    newest_first = sorted(pyenv.glob("3.*/bin/python3"), key=version, reverse=True)
    names = [f"python3.{minor}{free}" for minor in range(10, 15) for free in ("", "t")]
    return [*map(str, newest_first), *filter(None, map(shutil.which, names))]


def targets(pythons: list[str]) -> list[Target]:
    """One for each tag, the first that is found."""
    by_tag: dict[str, Target] = {}
    for python in pythons or found():
        one = target(python)
        if one:
            by_tag.setdefault(one.tag, one)
        elif pythons:
            sys.exit(f"{python} must be a CPython from 3.10 on with its headers and ensurepip")
    return sorted(by_tag.values(), key=lambda one: (len(one.tag), one.tag))


def run(*command: str | Path, log: Path | None = None, **options: object) -> None:
    """Run a command; where its output goes to a file, show the end of that if it fails."""
    with open(log or os.devnull, "w") as file:
        output = {"stdout": file, "stderr": subprocess.STDOUT} if log else {}
        done = subprocess.run([*map(str, command)], **output, **options)  # type: ignore[call-overload]
    if done.returncode:
        end = log.read_text().splitlines()[-40:] if log else []
        sys.exit("\n".join([*end, f"failed: {' '.join(map(str, command))}"]))


def environment(name: str, python: str) -> Path:
    """A fresh virtual environment; its folder of programs."""
    folder = WORK / name
    run(python, "-m", "venv", "--clear", folder)
    return folder / "bin"


def sdist() -> Path:
    """Build the sdist; the folder into which it is unpacked."""
    command = ["-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, ROOT]
    run(TOOLS / "python", *command, log=WORK / "sdist.log")
    (archive,) = DIST.glob("*.tar.gz")
    run("tar", "-xzf", archive, "-C", WORK)
    return WORK / archive.name.removesuffix(".tar.gz")


def backend(oldest: Target) -> Path:
    """What builds wheels, for all Pythons in one place: scikit-build-core begins anew where it has moved."""
    folder = WORK / "backend"
    names = ["build", "scikit-build-core>=0.11", "pybind11>=2.13", "hatch-fancy-pypi-readme"]
    run(TOOLS / "pip", "--quiet", "--python", oldest.python, "install", "--target", folder, *names)
    return folder


def across(one: Target) -> tuple[dict[str, str], dict[str, str]]:
    """The variables, and what CMake is told, to build a wheel for another processor than this machine's."""
    suffix = one.module.removeprefix("_core")
    variables = {
        "CXX": COMPILER,
        "_PYTHON_HOST_PLATFORM": f"linux-{one.machine}",  # which Python then says to be on
        "SETUPTOOLS_EXT_SUFFIX": suffix,  # for the first Python of a build folder
        "AUDITWHEEL_LD_LIBRARY_PATH": f"/usr/{one.machine}-linux-gnu/lib",  # where libgomp is
    }
    system = {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": one.machine}
    # The name for the later ones, too: pybind11 remembers that of the first.
    return variables, system | {"PYBIND11_USE_CROSSCOMPILING": "ON", "PYTHON_MODULE_EXTENSION": suffix}


def wheel(one: Target, tree: Path, backend: Path) -> Path:
    """Build and repair the wheel of a Python."""
    raw = WORK / f"raw-{one}"
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", raw, tree]
    settings = {"build-dir": tree / "build" / one.machine}
    variables = os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}", "PYTHONPATH": str(backend)}
    variables.setdefault("CXX", "c++")  # not that by which each Python was built
    if one.machine != HERE:
        cross, definitions = across(one)
        variables |= cross
        settings |= {f"cmake.define.{name}": value for name, value in definitions.items()}
    options = [f"--config-setting={name}={value}" for name, value in settings.items()]
    run(one.python, *command, *options, log=WORK / f"build-{one}.log", env=variables)
    (built,) = raw.glob("*.whl")
    repair = ["repair", "--zip-compression-level", "9", "--wheel-dir", DIST, built]
    run(TOOLS / "auditwheel", *repair, log=WORK / f"repair-{one}.log", env=variables)
    (repaired,) = DIST.glob(f"*-{one.tag}-manylinux*_{one.machine}.whl")
    return repaired


def check(one: Target, wheel: Path) -> None:
    """Its size, that the module in it is this Python's, and what well-kept tools say of wheels."""
    modules = [name for name in ZipFile(wheel).namelist() if name.startswith("fastrnn/_core.c")]
    if modules != [f"fastrnn/{one.module}"]:
        sys.exit(f"{wheel.name} must have the module {one.module} and no other, has {modules}")
    if wheel.stat().st_size > MOST:
        sys.exit(f"{wheel.name} has {wheel.stat().st_size:,} bytes, more than {MOST:,}")
    # W009 and W010 are of auditwheel's folder beside the package, which has libgomp and nothing of Python.
    options = ["--toplevel", "fastrnn,fastrnn.libs", "--ignore", "W009,W010"]
    run(TOOLS / "check-wheel-contents", *options, wheel, log=WORK / f"contents-{one}.log")


def test(one: Target, wheel: Path, tree: Path) -> str:
    """Test the installed wheel; the last line of what pytest prints."""
    bin = environment(f"test-{one.tag}", one.python)
    log = WORK / f"test-{one.tag}.log"
    run(bin / "python", "-m", "pip", "install", "--only-binary", ":all:", f"{wheel}[test]", log=log)
    command = ["-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile"]
    run(bin / "python", *command, cwd=tree, log=log, env=os.environ | {"PATH": str(bin)})
    return log.read_text().splitlines()[-1]


def main(pythons: list[str]) -> None:
    for folder in (DIST, WORK):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    ours = targets(pythons)
    others = [one.on(OTHER) for one in ours if HERE != OTHER and shutil.which(COMPILER)]
    print(f"for {', '.join(map(str, ours + others))}; logs are in {WORK}", flush=True)
    if not others:
        print(f"none for another processor: {COMPILER} is not here, or not needed", flush=True)
    tree = sdist()
    builder = backend(ours[0])
    wheels = []
    for one in ours + others:
        begin = time.monotonic()
        made = wheel(one, tree, builder)
        check(one, made)
        wheels.append(made)
        size = made.stat().st_size / 1e6
        print(f"{made.name}: {size:.2f} MB, built in {time.monotonic() - begin:.0f} s", flush=True)
    run(TOOLS / "twine", "check", "--strict", *DIST.iterdir(), log=WORK / "twine.log")
    shutil.rmtree(tree / "python")  # from here on the package is what is installed
    for one, made in zip(ours, wheels[: len(ours)], strict=True):
        begin = time.monotonic()
        print(f"{one.tag}: {test(one, made, tree)} ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
