"""Is this tree slower than a commit before it? Builds both, and measures them in turns.

    make gate BASE=v0.1.0        or: python bench/gate.py v0.1.0

On a machine left alone. The base runs in two processes, the tree in one, in interleaved rounds: how far the
base is from itself is the noise. A shape fails that has less than 90 % of the base's speed, and so does the
geometric mean of all at less than 95 %; what fails is measured again, in new processes, and counts if it
fails each time. Where the base is as far from itself as that, the machine is too noisy to tell; nor can be
told what the base cannot be measured at, because its functions were others.

Exit codes: 0 as fast, 1 slower, 3 cannot be told here.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import probe
from cases import QUICK, Case
from compare import expected_of, measure
from worker import Worker

ROOT = Path(__file__).parent.parent
SHAPE, MEAN = 0.90, 0.95  # of the base's speed: below, the gate is shut
ROUNDS = 15
TIMES = 3  # at most so often is measured what fails
CASES = [case for case in QUICK if not case.inside_torch]

Pair = tuple[Case, int]  # and the number of threads
Ratios = tuple[float, float]  # the speed of the tree, and of the base's second process, the base's being 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", help="a commit, branch or tag")
    options = parser.parse_args()
    base = _commit(options.base)
    if not base:
        parser.error(f"base must be a commit, branch or tag of this repository, got {options.base!r}")
    paths = {"base": _built(base), "tree": _built(None)}
    paths["base again"] = paths["base"]
    print(f"{probe.cpu_name()}: speed of the tree, the base ({options.base}, {base[:12]}) being 1")
    todo = pairs = [(case, threads) for threads in sorted({1, probe.processors()}) for case in CASES]
    found: dict[Pair, Ratios] = {}
    for _ in range(TIMES):
        found |= _measured(todo, paths)
        todo = [pair for pair in found if _mean(found)[0] < MEAN or _unsure(*found[pair])]
    return _verdict(found) or 3 * (len(found) < len(pairs))


def _commit(name: str) -> str:
    command = ["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()


def _built(commit: str | None) -> str:
    """The folder that holds the package as it was at a commit, or as it lies here: built in the same way."""
    name = commit[:12] if commit else "tree"
    target, objects = ROOT / "build" / "gate" / name, ROOT / "build" / "gate" / f"{name}-objects"
    if commit and (target / "fastrnn").is_dir():  # a commit does not change
        return str(target)
    with tempfile.TemporaryDirectory() as folder:
        source = ROOT
        if commit:
            source = Path(folder)
            archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
            subprocess.run(["tar", "-x"], cwd=source, input=archive.stdout, check=True)
        print(f"building {name}: some minutes, where that has not been done before", flush=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--upgrade", "--target", str(target), "--config-settings", f"build-dir={objects}"]
        subprocess.run([*command, str(source)], check=True)
    return str(target)


def _measured(pairs: list[Pair], paths: dict[str, str]) -> dict[Pair, Ratios]:
    found: dict[Pair, Ratios] = {}
    for threads in sorted({threads for _, threads in pairs}):
        oracle = Worker("numpy", threads, paths["tree"])
        crew = {name: Worker("fastrnn", threads, path) for name, path in paths.items()}
        for case in [case for case, n in pairs if n == threads]:
            results = measure(case, crew, expected_of(oracle, case), ROUNDS)
            if "seconds" not in results["tree"]:
                raise SystemExit(f"{case.set} {case}: {results['tree']}")
            if wrong := [results[name] for name in paths if "seconds" not in results[name]]:
                print(f"{case.set} {case}: the base cannot be measured: {wrong[0]}")
                continue
            found[case, threads] = speed, itself = _ratios(*(results[name]["rounds"] for name in paths))
            what = f"{case.set:7}{case!s:36}{threads} threads"
            print(f"{what}: {speed:.3f}; the base itself {itself:.3f}", flush=True)
        for worker in (oracle, *crew.values()):
            worker.close()
    return found


def _ratios(base: list[float], tree: list[float], again: list[float]) -> Ratios:
    """Of each round, so that what disturbs all is left out; their medians."""
    speed = statistics.median((b + a) / 2 / t for b, t, a in zip(base, tree, again, strict=True))
    return speed, statistics.median(b / a for b, a in zip(base, again, strict=True))


def _noisy(itself: float, limit: float) -> bool:
    return not limit < itself < 1 / limit


def _unsure(speed: float, itself: float) -> bool:
    return speed < SHAPE or _noisy(itself, SHAPE)


def _mean(found: dict[Pair, Ratios]) -> Ratios:
    if not found:
        return 1.0, 1.0
    speed, itself = (statistics.geometric_mean(column) for column in zip(*found.values(), strict=True))
    return speed, itself


def _verdict(found: dict[Pair, Ratios]) -> int:
    mean, itself = _mean(found)
    print(f"geometric mean of {len(found)}: {mean:.3f}; the base itself {itself:.3f}")
    unsure = {
        pair: "cannot be told" if _noisy(base, SHAPE) else "slower"
        for pair, (speed, base) in found.items()
        if _unsure(speed, base)
    }
    for (case, threads), word in unsure.items():
        print(f"{word}: {case.set} {case}, {threads} threads")
    if "slower" in unsure.values() or (mean < MEAN and not _noisy(itself, MEAN)):
        return 1
    return 3 if unsure or _noisy(itself, MEAN) else 0


if __name__ == "__main__":
    sys.exit(main())
