"""The machine's bounds: its FMA peak, and how fast each level of its memory can be read."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from native import build

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def cpu_name() -> str:
    """As the machine's maker calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split("\t", 1) for line in lines if "\t" in line)
    value = {name: text.lstrip("\t: ") for name, text in fields.items()}
    name = value.get("model name", platform.machine())
    if "model" in value:
        name += f" (family {value.get('cpu family')}, model {value['model']})"
    return name


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_sizes() -> dict[str, int]:
    """Bytes of the first core's data caches, by level; empty where Linux does not say."""
    sizes = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            size = (index / "size").read_text().strip()
            sizes["L" + (index / "level").read_text().strip()] = int(size[:-1]) * UNITS[size[-1]]
    return sizes


def peak(threads: int) -> float:
    """GFLOP/s of float32 multiply-adds."""
    return _probe("fma", threads)


def bandwidth(threads: int) -> dict[str, float]:
    """GB/s read from each level: from half a cache, but four times the level below, which on a shared machine
    is what one can hope for; and from twice the last cache, at most 1 GB, for DRAM."""
    sizes = cache_sizes()
    found, below = {}, 0
    for level, size in sizes.items():
        found[level] = _probe("read", threads, min(size // 2, 4 * below or size))
        below = size
    if sizes:
        found["DRAM"] = _probe("read", threads, min(2 * below, UNITS["G"]) // threads)
    return found


def level_of(size: int) -> str:
    """The smallest level that holds so many bytes beside what else a step needs."""
    return next((level for level, held in cache_sizes().items() if size <= 0.75 * held), "DRAM")


def _probe(*arguments: object) -> float:
    command = [str(build("probe.cpp", "-pthread")), *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
