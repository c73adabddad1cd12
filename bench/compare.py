"""fastrnn side by side with its peers: README.md says how it is measured, and how to read what comes out."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import formats
import probe
import report
from cases import CASES, FORMATS, MEMORY, NARROW, QUICK, SETS, Case
from peers import PEERS
from worker import NotOffered, PeerError, Worker

# Of each result's largest value, by the format of the weights.
TOLERANCE = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 2e-2, "int8": 1e-1, "int8x8": 1e-1}
ROUND_SECONDS = 0.02
BUDGET = 6.0  # seconds for the rounds of a peer in one case, from LEAST_ROUNDS on
LEAST_ROUNDS = 3
REQUIRED = {work: {"y"} for work in ("infer", "stream", "weights", "cell-infer", "many-infer")}
REQUIRED |= {work: {"losses"} for work in ("text", "model")}
TRAINING = {"y", "dx", "dw_ih", "dw_hh", "db_ih"}
OURS = "fastrnn"
AGAINST = "against"
ALL_SETS = (*SETS, "beside")
GROUPS = {group: [name for name in SETS if name.startswith(f"{group}-")] for group in ("torch", "many")}
INSIDE_TORCH = ("torch", "torch_padded")  # the peers of what is measured there
SEVERAL_MODELS = ("torch",)  # and of many models
# What keeps everyone from using a better ISA, as on a processor without one; ONNX Runtime cannot be kept.
RESTRICTIONS = {
    "avx2": {
        "FASTRNN_ISA": "avx2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "BLIS_ARCH_TYPE": "haswell",
        "BENCH_ARCH": "haswell",
    }
}


def main() -> None:
    options = _options()
    os.environ |= RESTRICTIONS.get(options.isa, {})
    cases = _cases(options)
    run: dict[str, Any] = {
        "cpu": probe.cpu_name() + (f", {options.isa.upper()} only" if options.isa else ""),
        "cores": probe.processors(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "rounds": options.rounds,
        "peak": {},
        "peaks": {},
        "bandwidth": {},
        "records": [],
        "memory": [],
    }
    workers, run["peers"], run["missing"] = _start(options)
    if "torch" in run["missing"]:
        cases = [case for case in cases if not case.inside_torch]
    oracle = Worker("numpy", max(options.threads))
    for number, case in enumerate(cases, 1):
        if case.set != cases[number - 2].set or number == 1:
            _probe(run, options.threads)
        expected = expected_of(oracle, case)
        for threads in options.threads:
            crew = {
                name: worker
                for (name, n), worker in workers.items()
                if n == threads and (name in (OURS, AGAINST) or name in _peers_of(case, options.peers))
            }
            record = dataclasses.asdict(case) | {"case": str(case), "threads": threads, "flops": case.flops()}
            record["peers"] = measure(case, crew, expected, options.rounds)
            run["records"].append(record)
            told = formats.line(record) if options.weights else report.line(record)
            print(f"[{number}/{len(cases)}] {told}", flush=True)
        _save(run, options.out)
    for worker in (oracle, *workers.values()):
        worker.close()
    if options.weights:
        formats.write(run, options.out)
        print(formats.summary(run))
        return
    if "beside" in options.sets and options.against is None:
        run["beside"] = _beside(options.rounds)
    if "train" in options.sets and not options.quick and options.against is None:
        run["memory"] = [_memory(case, max(options.threads)) for case in MEMORY]

    _save(run, options.out)
    report.write(run, options.out)
    print(report.summary(run))
    print(f"written: {options.out}/results.json, results.md, results.png")


def _cases(options: argparse.Namespace) -> list[Case]:
    if options.weights:
        asked = [case for case in NARROW if case.set in options.sets]
        return [dataclasses.replace(case, format=format) for case in asked for format in options.weights]
    return [case for case in (QUICK if options.quick else CASES) if case.set in options.sets]


def _peers_of(case: Case, peers: list[str]) -> list[str]:
    """Those that have something for it, or may say that they have not."""
    if case.inside_torch or case.models > 1:
        return [name for name in peers if name in (SEVERAL_MODELS if case.models > 1 else INSIDE_TORCH)]
    return peers


def _save(run: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(run, indent=1) + "\n")


def _options() -> argparse.Namespace:
    processors = probe.processors()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sets",
        type=_list_of((*ALL_SETS, *GROUPS)),
        default=list(ALL_SETS),
        help=f"of {','.join(ALL_SETS)}; torch, many: all that begin with it",
    )
    parser.add_argument("--peers", type=_list_of(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--isa", choices=RESTRICTIONS, help="as on a processor that has no better one")
    parser.add_argument(
        "--weights",
        type=_list_of(FORMATS),
        help=f"of {','.join(FORMATS)}: few rows with weights of these formats, in the sets infer and stream",
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds, all threads only")
    parser.add_argument(
        "--against", metavar="PATH", help="only another fastrnn: the folder that holds the package"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    options.sets = [name for asked in options.sets for name in GROUPS.get(asked, [asked])]
    options.threads = options.threads or ([processors] if options.quick else sorted({1, processors}))
    options.rounds = options.rounds or (5 if options.quick else 15)
    if options.against is not None:
        options.against = str(Path(options.against).resolve(strict=True))
    return options


def _list_of(known: tuple[str, ...]):
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))} among {', '.join(known)}")
        return names

    return parse


def _start(options: argparse.Namespace) -> tuple[dict[tuple[str, int], Worker], dict, dict[str, str]]:
    """Workers by peer and threads; about each peer; and the peers that do not run here, with the reason."""
    paths: dict[str, str | None] = dict.fromkeys([OURS, *options.peers])
    if options.against is not None:
        paths = {OURS: None, AGAINST: options.against}
    workers, about, missing = {}, {}, {}
    for name, path in paths.items():
        peer = OURS if path else name
        crew = {(name, threads): Worker(peer, threads, path) for threads in options.threads}
        try:
            for worker in crew.values():
                about[name] = worker.ask("about")
        except PeerError as error:
            for worker in crew.values():
                worker.close()
            if peer == OURS:
                raise SystemExit(f"{name}: {error}") from None
            about.pop(name, None)
            missing[name] = str(error)
            print(f"missing: {name}: {error}")
            continue
        workers |= crew
        if path:
            about[name]["label"] = "fastrnn before"
        print(f"{about[name]['label']} {about[name]['version']}")
    return workers, about, missing


def _probe(run: dict[str, Any], threads: list[int]) -> None:
    """The machine's bounds, the best that has been seen so far; and each peak, which tells how free the
    processors were."""
    for n in threads:
        peaks = run["peaks"].setdefault(str(n), [])
        peaks.append(probe.peak(n))
        run["peak"][str(n)] = max(peaks)
        seen = run["bandwidth"].setdefault(str(n), {})
        for level, rate in probe.bandwidth(n).items():
            seen[level] = max(seen.get(level, 0.0), rate)


def expected_of(oracle: Worker, case: Case) -> dict[str, np.ndarray]:
    (results,) = oracle.ask("prepare", dataclasses.replace(case, dtype="float64", format="float32")).values()
    return results


def measure(
    case: Case, crew: dict[str, Worker], expected: dict[str, np.ndarray], rounds: int
) -> dict[str, dict[str, Any]]:
    """For each peer the median of its rounds and these, or why there is none."""
    found: dict[str, dict[str, Any]] = {}
    for name, worker in crew.items():
        try:
            found[name] = _ready(case, worker, expected) | {"rounds": []}
        except NotOffered as reason:
            found[name] = {"not offered": str(reason)}
        except PeerError as error:
            found[name] = {"error": str(error)}
    spent = dict.fromkeys(crew, 0.0)
    for number in range(rounds):
        for name, worker in crew.items():
            took = found[name].get("rounds")
            if took is None or (number >= LEAST_ROUNDS and spent[name] > BUDGET):
                continue
            try:
                took.append(worker.ask("round", ROUND_SECONDS))
            except PeerError as error:
                found[name] = {"error": str(error)}
                continue
            spent[name] += max(2 * took[-1], ROUND_SECONDS)  # a call to warm up, and one that counts
    for result in found.values():
        if "rounds" in result:
            result["seconds"] = statistics.median(result["rounds"])
    return found


def _ready(case: Case, worker: Worker, expected: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fastest of a peer's ways, how far it is off, and how many ways there are: those with the right
    results, or with none to compare because they are another function."""
    right, faults = {}, []
    for name, results in worker.ask("prepare", case).items():
        try:
            right[name] = results and _off(case, results, expected)
        except PeerError as fault:
            faults.append(f"{name}: {fault}")
    if not right:
        raise PeerError("; ".join(faults))
    way = worker.ask("choose", list(right), ROUND_SECONDS)
    return {"way": way, "ways": len(right), "off": right[way], "faults": faults}


def _off(case: Case, results: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """By how much of its largest value a result is off at most; PeerError where it is wrong."""
    if absent := REQUIRED.get(case.work, TRAINING) - results.keys():
        raise PeerError(f"no {', '.join(sorted(absent))}")
    most = 0.0
    for name, found in results.items():
        truth = expected[name]
        if found.shape != truth.shape:
            raise PeerError(f"{name} has shape {found.shape}, not {truth.shape}")
        error = float(np.abs(found - truth).max() / np.abs(truth).max())
        if not error <= TOLERANCE[case.format]:
            raise PeerError(f"{name} is off by {error:.0e} of its largest value")
        most = max(most, error)
    return most


def _beside(rounds: int) -> dict[str, dict[str, float]]:
    """For each call and setting, how many times as long it takes as on one thread: see beside.py."""
    command = [sys.executable, str(Path(__file__).parent / "beside.py"), "--json", "--rounds", str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _memory(case: Case, threads: int) -> dict[str, Any]:
    """Bytes by which a fresh process grows at most during one call."""
    record: dict[str, Any] = {"set": case.set, "case": str(case), "bytes": {}}
    for name in (OURS, "torch"):
        worker = Worker(name, threads)
        try:
            record["bytes"][name] = worker.ask("memory", case)
        except PeerError as error:
            print(f"memory of {name}: {error}")
        worker.close()
    return record


if __name__ == "__main__":
    main()
