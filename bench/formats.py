"""The tables of a run of `compare.py --weights`: fastrnn in each format of weights, beside its own float32
and the fastest of all that the peers have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report
from report import OURS, Record, Run

Timed = dict[str, dict[str, dict[str, Any]]]  # by format of the weights, then by peer
Place = tuple[str, int | None, str]  # set, threads, shape


def line(record: Record) -> str:
    """A record in a line, for the screen."""
    return report.line(record).replace(", ", f", {record['format']}, ", 1)


def write(run: Run, folder: Path) -> None:
    (folder / "results.md").write_text(_markdown(run))


def summary(run: Run) -> str:
    """The worst ratio of each format and its mean: to the best of the peers in that format and in any, at one
    row, and to our own float32."""
    rows = []
    for name in _formats(run):
        found: dict[str, list[tuple[float, str]]] = {}
        for place, timed in _places(run).items():
            ours, where = _seconds(timed, name, OURS), _where(place)
            if ours is None:
                continue
            if " B=1 " in place[2]:
                for what, those in (("in it", {name: timed[name]}), ("in any", timed)):
                    if rival := _best_rival(those):
                        key = f"the best of all peers {what}, B = 1"
                        found.setdefault(key, []).append((rival[0] / ours, where))
            own = _seconds(timed, "float32", OURS)
            if own is not None and name != "float32":
                size = "H ≥ 256" if int(place[2].split("H=")[1]) >= 256 else "H < 256"
                found.setdefault(f"our float32, {size}", []).append((own / ours, where))
        for what, ratios in found.items():
            ratio, where = min(ratios)
            mean = report.mean(each for each, _ in ratios)
            rows.append([f"{name}, against {what}", f"{ratio:.2f}×", where, f"{mean:.2f}×"])
    return report.table(["what", "worst shape", "which", "geometric mean"], rows)


def _markdown(run: Run) -> str:
    parts = ["# Weights of 32, 16 and 8 bits\n", report.machine(run)]
    parts += [
        "A ratio says how many times as long a peer takes as fastrnn with weights of the same format; in "
        "brackets, by how much of y's largest value it is off the truth, float32 weights in float64.\n",
        "## In short\n",
        summary(run),
    ]
    tables: dict[tuple[str, int | None], dict[Place, Timed]] = {}
    for place, timed in _places(run).items():
        tables.setdefault(place[:2], {})[place] = timed
    for (name, threads), places in tables.items():
        how = report.of_threads(threads) if threads else "each peer on as many threads as suit it best"
        parts += [f"## {report.TITLES[name]}, {how}\n", _table(run, places)]
    if notes := report.ways_and_failures(run):
        parts += ["## Failures, and which of several ways was taken\n", notes]
    return "\n".join(parts)


def _table(run: Run, places: dict[Place, Timed]) -> str:
    peers = [
        name
        for name in run["peers"]
        if name != OURS and any(_seconds(t, f, name) for t in places.values() for f in t)
    ]
    labels = {name: run["peers"][name]["label"] for name in run["peers"]}
    rows = []
    for place, timed in places.items():
        rival = _best_rival(timed)
        for name in timed:
            ours, own = _seconds(timed, name, OURS), _seconds(timed, "float32", OURS)
            if ours is None:
                continue
            best = f"{rival[0] / ours:.2f}× {labels[rival[1]]} {rival[2]}" if rival else "–"
            cells = [_cell(timed[name].get(peer, {}), ours) for peer in peers]
            off = f"{timed[name][OURS]['off']:.0e}"
            gain = f"{own / ours:.2f}×" if own else "–"
            rows.append([place[2], name, report.duration(ours), off, gain, best, *cells])
    heads = ["shape", "weights", "fastrnn", "off", "our float32", "best of all", *(labels[p] for p in peers)]
    return report.table(heads, rows)


def _cell(found: dict[str, Any], ours: float) -> str:
    return f"{found['seconds'] / ours:.2f}× ({found['off']:.0e})" if "seconds" in found else "–"


# -- what is taken from the records


def _formats(run: Run) -> list[str]:
    return list(dict.fromkeys(record["format"] for record in run["records"]))


def _places(run: Run) -> dict[Place, Timed]:
    """All that was measured of a shape; of a stream, whose steps are small, each peer on as many threads as
    suit it best."""
    places: dict[Place, Timed] = {}
    for record in run["records"]:
        threads = None if record["set"] == "stream" else record["threads"]
        timed = places.setdefault((record["set"], threads, record["case"]), {})
        peers = timed.setdefault(record["format"], {})
        for name, found in record["peers"].items():
            if found.get("seconds", math.inf) <= peers.get(name, {}).get("seconds", math.inf):
                peers[name] = found
    return places


def _seconds(timed: Timed, name: str, peer: str) -> float | None:
    return timed.get(name, {}).get(peer, {}).get("seconds")


def _best_rival(timed: Timed) -> tuple[float, str, str] | None:
    """Its seconds, its name and the format of its weights."""

    def all_of_them() -> Iterator[tuple[float, str, str]]:
        for name, peers in timed.items():
            for peer, found in peers.items():
                if peer != OURS and "seconds" in found:
                    yield found["seconds"], peer, name

    return min(all_of_them(), default=None)


def _where(place: Place) -> str:
    name, threads, shape = place
    return f"{name} {shape}" + (f", {report.of_threads(threads)}" if threads else "")
