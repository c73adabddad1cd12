"""The tables and the pictures of a run of compare.py; `python report.py results.json` makes them again."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cases import GATES
from probe import level_of

OURS = "fastrnn"
TITLES = {
    "train": "Training: forward and backward",
    "infer": "Inference",
    "stream": "Streaming: one step at a time",
    "ragged": "Training on ragged batches",
    "text": "A language model's training step",
    "equal": "As the ragged batches, all of full length",
    "weights": "Inference of one row with few inputs, which is reading w_hh",
    "float64": "Training in float64",
    "torch-train": "Inside PyTorch: training",
    "torch-infer": "Inside PyTorch: inference",
    "torch-ragged": "Inside PyTorch: training on packed sequences",
    "torch-cell-train": "Inside PyTorch: training by a loop over cells",
    "torch-cell-infer": "Inside PyTorch: inference by a loop over cells",
    "torch-model": "Inside PyTorch: a model's training step on packed text",
    "many-train": "Many models: training",
    "many-infer": "Many models: inference",
}
SERVERS = {"onnxruntime", "openvino", "torch", "jax"}
# Of Okabe and Ito's palette, which colour-blind people can tell apart.
FASTER, SLOWER = "#0072B2", "#D55E00"

SHOWN = ("train", "infer", "stream", "ragged", "text")  # in the picture
HEADLINE = {
    "stream": "One step at a time",
    "ragged": "Training, packed sequences",
    "train": "Training, equal lengths",
}
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Run = dict[str, Any]
Record = dict[str, Any]


def seconds(record: Record, name: str = OURS) -> float | None:
    return record["peers"].get(name, {}).get("seconds")


def ratios(record: Record) -> dict[str, float]:
    """How many times as long as fastrnn each peer takes."""
    ours = seconds(record)
    if ours is None:
        return {}
    times = {name: seconds(record, name) for name in record["peers"] if name != OURS}
    return {name: time / ours for name, time in times.items() if time is not None}


def line(record: Record) -> str:
    """A record in a line, for the screen."""
    head = f"{record['set']} {record['case']}, {of_threads(record['threads'])}: "
    ours = seconds(record)
    if ours is None:
        return head + f"fastrnn {record['peers'][OURS]}"
    parts = [f"{name} {ratio:.2f}×" for name, ratio in ratios(record).items()]
    errors = [f"{name} ({found['error']})" for name, found in record["peers"].items() if "error" in found]
    return head + f"{duration(ours)}, {record['flops'] / ours / 1e9:.1f} GFLOP/s; {', '.join(parts + errors)}"


def write(run: Run, folder: Path) -> None:
    (folder / "results.md").write_text(_markdown(run))
    _picture(run, folder / "results.png")
    _headline(run, folder / "headline.png")


# -- what is taken from the records


def _most_threads(run: Run) -> int:
    return max((record["threads"] for record in run["records"]), default=1)


def _of(run: Run, name: str) -> list[Record]:
    """The records of a set on all threads; of a stream, whose steps are small, each peer on as many as suit
    it best."""
    most = _most_threads(run)
    records = [record for record in run["records"] if record["set"] == name]
    if name != "stream":
        return [record for record in records if record["threads"] == most]
    best: dict[str, Record] = {}
    for record in records:
        kept = best.setdefault(record["case"], record | {"peers": dict(record["peers"])})
        for peer, found in record["peers"].items():
            if found.get("seconds", math.inf) < kept["peers"].get(peer, {}).get("seconds", math.inf):
                kept["peers"][peer] = found
    return list(best.values())


def _sets(run: Run) -> list[str]:
    return [name for name in TITLES if _of(run, name)]


def _against(run: Run, name: str, peers: set[str] | None = None) -> list[tuple[float, str]]:
    """The ratio to the best of some peers, or of all, for each shape of a set."""
    found = []
    for record in _of(run, name):
        those = [ratio for peer, ratio in ratios(record).items() if peers is None or peer in peers]
        if those:
            found.append((min(those), record["case"]))
    return found


def _looped(run: Run) -> list[tuple[float, str]]:
    """Inside PyTorch, the small layers for which that has no kernel."""
    return [
        (ratios(record)["torch"], f"{name.removeprefix('torch-')} {record['case']}")
        for name in ("torch-train", "torch-infer")
        for record in _of(run, name)
        if record["cell"] != "lstm" and record["H"] <= 128 and "torch" in ratios(record)
    ]


def _by_peer(run: Run, name: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in _of(run, name):
        for peer, ratio in ratios(record).items():
            found.setdefault(peer, []).append(ratio)
    return found


def _rates(records: Iterable[Record]) -> dict[str, float]:
    return {r["case"]: r["flops"] / seconds(r) for r in records if seconds(r) is not None}


def _fma_share(run: Run) -> list[tuple[float, str]]:
    peak = run["peak"].get(str(_most_threads(run)), 0) * 1e9
    return [
        (record["flops"] / seconds(record) / peak, record["case"])
        for record in _of(run, "train")
        if record["cell"] != "rnn" and record["H"] >= 256 and record["B"] >= 32 and seconds(record)
    ]


def _bandwidth_share(run: Run) -> list[tuple[float, str]]:
    """w_hh is read once in each step."""
    found = []
    for record in run["records"]:
        if record["set"] == "weights" and record["threads"] == 1:
            size = 4 * GATES[record["cell"]] * record["H"] ** 2
            level = level_of(size)
            if seconds(record) and level in run["bandwidth"]["1"]:
                rate = size * record["T"] / seconds(record) / 1e9
                found.append((rate / run["bandwidth"]["1"][level], f"{record['case']}, {level}"))
    return found


def _scaling(run: Run, name: str = "train", least: int = 8) -> list[tuple[float, str]]:
    """How much faster all threads are than one, with at least so many rows."""
    one = [r for r in run["records"] if r["set"] == name and r["threads"] == 1 and r["B"] >= least]
    alone, together = _rates(one), _rates(_of(run, name))
    if _most_threads(run) == 1:
        return []
    return [(together[case] / alone[case], case) for case in alone if case in together]


def _proportion(run: Run) -> list[tuple[float, str]]:
    """Time per valid step, of ragged batches against full ones."""
    ragged, full = _rates(_of(run, "ragged")), _rates(_of(run, "equal"))
    return [(full[case] / ragged[case], case) for case in ragged if case in full]


def _float64(run: Run) -> list[tuple[float, str]]:
    double, single = _rates(_of(run, "float64")), _rates(_of(run, "train"))
    return [(double[case] / single[case], case) for case in double if case in single]


def mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


# -- words and tables


def summary(run: Run) -> str:
    """The figures of the run, a line each."""
    n = _most_threads(run)
    figures: list[tuple[str, list[tuple[float, str]], Callable[..., Any], str]] = [
        ("training, against PyTorch", _against(run, "train", {"torch"}), min, "×"),
        ("training, against the best of all peers", _against(run, "train"), min, "×"),
        (
            "inference, against the best of ONNX Runtime, OpenVINO, PyTorch, JAX",
            _against(run, "infer", SERVERS),
            min,
            "×",
        ),
        ("inference, against the best of all peers", _against(run, "infer"), min, "×"),
        ("a streamed step from Python, against the best of all peers", _against(run, "stream"), min, "×"),
        ("ragged training, against PyTorch packed", _against(run, "ragged", {"torch"}), min, "×"),
        ("ragged training, against the best of all peers", _against(run, "ragged"), min, "×"),
        ("text step, against PyTorch", _against(run, "text", {"torch"}), min, "×"),
        ("ragged training, time per valid step against full batches", _proportion(run), max, "×"),
        (
            f"training, LSTM and GRU, H ≥ 256, B ≥ 32: share of the FMA peak of {n} threads",
            _fma_share(run),
            min,
            "%",
        ),
        ("reading w_hh, B = 1, H ≥ 256, 1 thread: share of the bandwidth", _bandwidth_share(run), min, "%"),
        (f"training, B ≥ 8: {n} threads against 1", _scaling(run), min, "×"),
        ("training in float64, rate against float32", _float64(run), min, "×"),
        *(
            (title, _against(run, name, {"torch"}), min, "×")
            for name, title in TITLES.items()
            if "torch-" in name or "many-" in name
        ),
        *(
            (f"{TITLES[name]}, {n} threads against 1", _scaling(run, name, least=1), min, "×")
            for name in TITLES
            if "many-" in name
        ),
        ("Inside PyTorch: GRU and RNN, H ≤ 128, training and inference", _looped(run), min, "×"),
    ]
    if "against" in run["peers"]:
        figures = [(TITLES[name], _against(run, name, {"against"}), min, "×") for name in _sets(run)]
    rows = [
        [what, _figure(worst(found)[0], unit), worst(found)[1], _figure(mean(v for v, _ in found), unit)]
        for what, found, worst, unit in figures
        if found
    ]
    return table(["what", "worst shape", "which", "geometric mean"], rows)


def _markdown(run: Run) -> str:
    parts = ["# fastrnn beside its peers\n", machine(run)]
    parts += ["## In short\n", summary(run)]
    parts += [
        "## Times as fast as each peer\n",
        "Geometric mean over the shapes, and the least.\n",
        _means(run),
    ]
    for name in _sets(run):
        threads = sorted({record["threads"] for record in run["records"] if record["set"] == name})
        for n in threads:
            records = [r for r in run["records"] if r["set"] == name and r["threads"] == n]
            parts += [f"## {TITLES[name]}, {of_threads(n)}\n", _shapes(run, records)]
    if run.get("beside"):
        parts += ["## Beside others: times as long as on one thread\n", _beside(run)]
    if run["memory"]:
        parts += ["## Memory of one call\n", _memory(run)]
    if notes := ways_and_failures(run):
        parts += ["## Failures, and which of several ways was taken\n", notes]
    return "\n".join(parts)


def machine(run: Run) -> str:
    lines = [f"{run['cpu']}, {run['cores']} cores; {run['system']}; medians of up to {run['rounds']} rounds."]
    for n, peak in run["peak"].items():
        read = ", ".join(f"{level} {rate:.0f}" for level, rate in run["bandwidth"][n].items())
        least = min(run["peaks"][n])
        lines.append(
            f"{of_threads(int(n))}: FMA peak {peak:.0f} GFLOP/s (at the worst moment {least:.0f}); "
            f"reading, GB/s: {read}."
        )
    versions = [
        f"{about['label']} {about['version']}" for name, about in run["peers"].items() if name != OURS
    ]
    lines.append(f"Peers: {', '.join(versions) or 'none'}.")
    if run.get("earlier"):
        lines.append(f"Of an earlier build: {', '.join(run['earlier'])}.")
    if run["missing"]:
        lines.append(f"**Missing**: {'; '.join(f'{name} ({why})' for name, why in run['missing'].items())}.")
    return "\n\n".join(lines) + "\n"


def _means(run: Run) -> str:
    peers = [name for name in run["peers"] if name != OURS]
    rows = []
    for name in _sets(run):
        found = _by_peer(run, name)
        cells = [f"{mean(found[p]):.2f} ({min(found[p]):.2f})" if p in found else "–" for p in peers]
        rows.append([name, *cells])
    return table(["set", *(run["peers"][name]["label"] for name in peers)], rows)


def _shapes(run: Run, records: list[Record]) -> str:
    measured = {name for record in records for name in ratios(record)}
    peers = [name for name in run["peers"] if name in measured]
    heads = ["shape", "fastrnn", "GFLOP/s", "of the peak", *(run["peers"][name]["label"] for name in peers)]
    rows = []
    for record in records:
        ours, those = seconds(record), ratios(record)
        if ours is None:
            rows.append([record["case"], record["peers"][OURS].get("error", "–"), *["–"] * (len(heads) - 2)])
            continue
        rate = record["flops"] / ours / 1e9
        share = rate / run["peak"][str(record["threads"])]
        ratio = [f"{those[name]:.2f}×" if name in those else "–" for name in peers]
        rows.append([record["case"], duration(ours), f"{rate:.1f}", f"{share:.0%}", *ratio])
    return table(heads, rows)


def _beside(run: Run) -> str:
    found = run["beside"]
    rows = [[case, *(f"{ratio:.2f}" for ratio in ratios.values())] for case, ratios in found.items()]
    return table(["call", *next(iter(found.values()))], rows)


def _memory(run: Run) -> str:
    labels = {name: run["peers"].get(name, {}).get("label", name) for name in (OURS, "torch")}
    rows = [
        [f"{record['set']} {record['case']}"]
        + [f"{record['bytes'][name] / 2**20:.1f} MB" if name in record["bytes"] else "–" for name in labels]
        for record in run["memory"]
    ]
    return table(["", *labels.values()], rows)


def ways_and_failures(run: Run) -> str:
    """Each failure, and which way was the fastest where a peer has several; how often each."""
    found: Counter[str] = Counter()
    for record in run["records"]:
        for name, result in record["peers"].items():
            head = f"{run['peers'][name]['label']}, {record['set']}"
            if "error" in result:
                found[f"{head} {record['cell']}: left out, {result['error']}"] += 1
            elif result.get("ways", 1) > 1:
                found[f"{head}: {result['way']}"] += 1
            found.update(f"{head} {record['cell']}: left out, {fault}" for fault in result.get("faults", ()))
    return "".join(f"- {text} ({count})\n" for text, count in sorted(found.items()))


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _figure(value: float, unit: str) -> str:
    return f"{value:.0%}" if unit == "%" else f"{value:.2f}×"


def of_threads(n: int) -> str:
    return f"{n} thread{'s' * (n > 1)}"


def _short(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio < 0.995 else f"{ratio:.1f}×"


def duration(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size or unit == "µs":
            return f"{value / size:.3g} {unit}"
    raise AssertionError


# -- the pictures


def _picture(run: Run, path: Path) -> None:
    """Every set and every peer."""
    panels = {name: _by_peer(run, name) for name in SHOWN}
    panels = {name: found for name, found in panels.items() if found}
    if not panels:
        return
    ratios = [ratio for found in panels.values() for those in found.values() for ratio in those]
    least, most = min(ratios), max(ratios)
    heights = [len(found) + 1.3 for found in panels.values()]
    height = 1.2 + 0.3 * sum(heights)
    figure = _figure_of(6.5, height)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    labels = {peer: about["label"] for peer, about in run["peers"].items()}
    for axis, (name, found) in zip(axes, panels.items(), strict=True):
        names = {**labels, "torch": "PyTorch packed"} if name == "ragged" else labels
        _panel(axis, TITLES[name], {names[peer]: those for peer, those in found.items()})
        axis.set_xscale("log")
        axis.set_xlim(min(0.8, least / 1.2), most * 1.9)
        ticks = [tick for tick in TICKS if least / 1.2 < tick < most * 1.5]
        axis.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
        axis.minorticks_off()
    how = "bar: geometric mean over the shapes; line: from the least to the most"
    figure.suptitle("fastrnn is this many times as fast as", x=0.01, ha="left", fontsize=15, weight="bold")
    figure.text(0.01, 1 - 0.38 / height, f"{run['cpu']}, {of_threads(_most_threads(run))}\n{how}", va="top")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.55 / height))
    figure.savefig(path, dpi=130)


def _headline(run: Run, path: Path) -> None:
    """Three bars, to be read on a phone."""
    found = {words: _by_peer(run, name).get("torch") for name, words in HEADLINE.items()}
    means = {words: mean(ratios) for words, ratios in found.items() if ratios}
    if not means:
        return
    figure = _figure_of(4.4, 2.6)
    axis = figure.subplots()
    for place, (words, mean) in enumerate(means.items()):
        axis.barh(-place, mean, color=FASTER, height=0.42)
        axis.plot([1, 1], [-place - 0.21, 0.21 - place], color="white", linewidth=1)
        axis.text(0, 0.27 - place, words, va="bottom", fontsize=14)
        axis.text(mean, -place, f" {_short(mean)}", va="center", fontsize=15, weight="bold")
    axis.set_xlim(0, max(means.values()) * 1.2)
    axis.set_ylim(0.7 - len(means), 0.7)
    axis.axis("off")
    figure.suptitle("Times as fast as PyTorch", x=0.012, ha="left", fontsize=16, weight="bold")
    figure.savefig(path, dpi=200)


def _figure_of(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _panel(axis: Any, title: str, found: dict[str, list[float]]) -> None:
    order = sorted(found, key=lambda label: mean(found[label]), reverse=True)
    means = [mean(found[label]) for label in order]
    colours = [FASTER if mean >= 1 else SLOWER for mean in means]
    axis.barh(order, [mean - 1 for mean in means], left=1, color=colours, height=0.66)
    for label, mean in zip(order, means, strict=True):
        least, most = min(found[label]), max(found[label])
        axis.plot([least, most], [label, label], color="black", linewidth=1)
        axis.annotate(
            _short(mean),
            (max(most, mean, 1), label),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
        )
    axis.axvline(1, color="black", linewidth=1)
    axis.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axis.tick_params(axis="y", length=0, labelsize=11)
    axis.tick_params(axis="x", labelsize=10)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    write(json.loads(source.read_text()), source.parent)
