"""What export_c writes, on other processors: make targets, or python tools/targets.py [NAME …].

bits       networks are exported, compiled by each compiler that is here, and run on each processor, or its
           emulator; of all that they give in all steps the bits are compared with those of `stream().step`
           in a decay: those of a network without biases whose state fades in silence, where fastrnn takes
           what is below 1.2e-38 for 0, and C does if its program tells the processor so (-DFLUSH)
warnings   that no compiler, as C or C++, and no analyser has anything to say
sizes      code, weights, state and stack on a Cortex-M4

Each prints a table in Markdown. What is not installed is named and left out; Debian has
gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf, gcc-arm-none-eabi, libnewlib-arm-none-eabi, qemu-user,
qemu-system-arm, emscripten, wasi-libc, libclang-rt-dev, lld, nodejs and cppcheck.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrnn import GRU, LSTM, RNN
from fastrnn.embed import export_c
from fastrnn.layers import Embedding, Linear, Sequential

EXACT = "-std=c99 -ffp-contract=off"
FORCED = re.compile(" -DNAME_FMA=([01])")  # for each network's name: whatever the processor has
FOLDER = Path(__file__).resolve().parents[1] / "build" / "targets"


class Network(NamedTuple):
    """What is exported."""

    make: Callable[[], Any]
    tokens: bool = False  # whether it takes them
    weights: str = "float32"
    dtype: str = "float32"

    def reference(self) -> Any:
        """What its bits are those of."""
        made = self.make()
        return made.compress(self.weights) if self.weights in ("int8", "float16", "bfloat16") else made


#: Small, so that emulators have time for many steps.
NETWORKS: Mapping[str, Network] = {
    "rnn": Network(lambda: RNN(3, 9, seed=0)),
    "relu": Network(lambda: RNN(3, 9, nonlinearity="relu", seed=0)),
    "lstm": Network(lambda: LSTM(5, 20, seed=0)),
    "gru": Network(lambda: GRU(7, 17, seed=1)),
    "gru_before": Network(lambda: GRU(7, 17, reset_after=False, seed=1)),
    "stack": Network(lambda: LSTM(6, 24, 2, proj_size=5, seed=2)),
    "audio": Network(lambda: Sequential(LSTM(1, 20, seed=0), Linear(20, 1, seed=0))),
    "text": Network(
        lambda: Sequential(Embedding(11, 6, seed=0), LSTM(6, 16, seed=0), Linear(16, 3, seed=0)), True
    ),
    "tokens": Network(lambda: GRU(30, 16, seed=0), True),
    "forms": Network(lambda: LSTM(4, 12, peephole=True, clip=2.0, gate_activation="hard_sigmoid", seed=3)),
    "no_bias": Network(lambda: LSTM(4, 12, bias=False, seed=4)),
    "int8": Network(lambda: LSTM(5, 20, seed=0), weights="int8"),
    "int8_text": Network(
        lambda: Sequential(Embedding(11, 6, seed=0), GRU(6, 16, seed=0), Linear(16, 3, seed=0)), True, "int8"
    ),
    "float16": Network(lambda: GRU(5, 16, seed=0), weights="float16"),
    "bfloat16": Network(lambda: LSTM(5, 16, seed=0), weights="bfloat16"),
    "lstm64": Network(lambda: LSTM(4, 12, seed=0, dtype="float64"), False, "float64", "float64"),
    "gru64": Network(lambda: GRU(4, 12, seed=0, dtype="float64"), False, "float64", "float64"),
}

# The program that steps one of the networks through a file of x, and compares with a file of y.
STEPPED = """\
static void stepped_NAME(const void *x, size_t T, void *y, int how) {
  static NAME_state state;
  const TAKES *in = (const TAKES *)x;
  REAL *out = (REAL *)y;
  if (how == START) NAME_init(&state);
  else if (how == TOGETHER) NAME_run(&state, in, T, out);
  else for (; T; --T, in += TAKEN, out += NAME_OUTPUT_SIZE) NAME_step(&state, STEP, out);
}
"""
PROGRAM = """\
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

INCLUDED
FLUSHING
enum { START, ONE_BY_ONE, TOGETHER, BLOCK = 50 };

STEPPED
struct network {
  const char *name;
  void (*stepped)(const void *, size_t, void *, int);
  size_t x, y, word; /* bytes of a step, of a number */
};

static const struct network networks[] = {
TABLE
};

/* NAME STEPS X Y: prints the steps, the numbers, those whose bits differ, and the first step that has one. */
int main(int count, char **arguments) {
  static double x[BLOCK * 32], y[BLOCK * 32], wanted[BLOCK * 32];
  const struct network *it = networks;
  unsigned long steps = 0, numbers = 0, wrong = 0, first = 0, most;
  int how = ONE_BY_ONE;
  FILE *inputs, *outputs;
  size_t T, i;
  if (count != 5) return 2;
  while (strcmp(it->name, arguments[1])) ++it;
  inputs = fopen(arguments[3], "rb");
  outputs = fopen(arguments[4], "rb");
  if (!inputs || !outputs) return 3;
  FLUSH_TO_ZERO
  it->stepped(x, 0, y, START);
  for (most = strtoul(arguments[2], NULL, 10); steps < most; steps += (unsigned long)T) {
    T = fread(x, it->x, most - steps < BLOCK ? (size_t)(most - steps) : BLOCK, inputs);
    if (!T) return 4;
    if (fread(wanted, it->y, T, outputs) != T) return 5;
    it->stepped(x, T, y, how);
    how = ONE_BY_ONE + TOGETHER - how;
    for (i = 0; i < T * it->y; i += it->word, ++numbers)
      if (memcmp((const char *)y + i, (const char *)wanted + i, it->word) && !wrong++)
        first = steps + (unsigned long)(i / it->y);
  }
  printf("%lu %lu %lu %lu\\n", steps, numbers, wrong, first);
  return 0;
}
"""

# What a program does that has its processor take numbers below 1.2e-38 for 0.
FLUSHING = """\
#if !defined(FLUSH)
#define FLUSH_TO_ZERO
#elif defined(__SSE__)
#define FLUSH_TO_ZERO __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
#define FLUSH_TO_ZERO __asm volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
#else
#define FLUSH_TO_ZERO __asm volatile("vmsr fpscr, %0" : : "r"((uint32_t)1 << 24));
#endif
"""

# A Cortex-M without a system: what runs first, and where all lies. Semihosting gives it the host's files.
RESET = """\
#include <stdint.h>
extern void _start(void);
extern char stack[];
static void reset(void) {
#ifdef __ARM_FP
  *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* the FPU is off */
  __asm volatile("dsb\\n isb");
#endif
  _start();
}
static void fault(void) {
  for (;;) continue;
}
__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))stack, reset, fault, fault, fault, fault, fault};
"""
LAYOUT = """\
MEMORY { flash (rx) : ORIGIN = 0, LENGTH = 4M  ram (rwx) : ORIGIN = 0x20000000, LENGTH = 4M }
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) KEEP(*(.init)) KEEP(*(.fini)) *(.ARM.extab*) } > flash
  .ARM.exidx : { __exidx_start = .; *(.ARM.exidx*) __exidx_end = .; } > flash
  .data : { *(.data*) *(.preinit_array) *(.init_array*) *(.fini_array*) } > ram
  .bss : { __bss_start__ = .; *(.bss*) *(COMMON) __bss_end__ = .; } > ram
  end = .; __end__ = .;
  stack = ORIGIN(ram) + LENGTH(ram);
}
"""
# How many instructions a step has, by a clock of which QEMU makes one tick of forty of them.
COUNTED = """\
#include <stdio.h>
#include <stdint.h>
#include "NAME.h"
int main(void) {
  volatile uint32_t *const tick = (volatile uint32_t *)0xE000E010u;
  static NAME_state state;
  static float x[64], y[64];
  uint32_t before;
  int t;
  NAME_init(&state);
  for (t = 0; t < 64; ++t) x[t] = (float)(t % 7) * 0.1f - 0.3f;
  tick[1] = 0xffffff;
  tick[2] = 0;
  tick[0] = 5;
  before = tick[2];
  for (t = 0; t < 400; ++t) NAME_step(&state, x, y);
  printf("%lu\\n", (unsigned long)((before - tick[2]) & 0xffffff) / 10);
  return 0;
}
"""
WASI = """\
const { WASI } = require("wasi");
const code = new WebAssembly.Module(require("fs").readFileSync(process.argv[2]));
const wasi = new WASI({ version: "preview1", args: process.argv.slice(2), preopens: { "/": "/" } });
process.exitCode = wasi.start(new WebAssembly.Instance(code, wasi.getImportObject()));
"""


AARCH64, ARM, BARE = "aarch64-linux-gnu", "arm-linux-gnueabihf", "arm-none-eabi"


@dataclass(frozen=True)
class Target:
    """A processor, a compiler for it, and what runs the program."""

    processor: str
    compiler: str
    options: str  # that tables show
    fused: bool = True  # whether products and sums of float32 are rounded once
    fused64: bool | None = None  # of float64, where that is another matter
    steps: int = 72_000  # of each network
    more: str = ""  # options that tables leave out
    link: str = ""  # the command, if it is another one
    emulator: str = ""
    machine: str = ""  # of QEMU, without a system
    exact: str = EXACT
    soft64: bool = False  # whether libgcc has float64, whose sums are not all rounded as they should be

    def missing(self) -> str | None:
        """What is not installed."""
        needed = [self.compiler, *self.link.split()[:1], *self.emulator.split()[:1]]
        needed += ["qemu-system-arm"] if self.machine else []
        return next((program for program in needed if not shutil.which(program)), None)

    def build(self, folder: Path, names: Sequence[str]) -> Path:
        """The program of some networks; in the folder are their files."""
        made = Path(tempfile.mkdtemp(dir=folder))
        options = [*self.more.split(), *FORCED.sub("", self.options).split()]
        forced = [f"-D{name.upper()}_FMA={fma}" for fma in FORCED.findall(self.options) for name in names]
        sources = [*names, "main", *(["reset"] if self.machine else [])]
        for name in sources:
            output = ("-c", folder / f"{name}.c", "-o", made / f"{name}.o")
            ran(self.compiler, *options, *self.exact.split(), *forced, *output)
        layout = ["-T", folder / "layout.ld", "--specs=rdimon.specs"] if self.machine else []
        program = made / ("program.js" if self.compiler == "emcc" else "program")
        command = self.link.split() or [self.compiler, *options]
        ran(*command, *(made / f"{name}.o" for name in sources), *layout, "-o", program, "-lm")
        return program

    def run(self, program: Path, name: str, x: Path, y: Path, steps: int | None = None) -> tuple[int, ...]:
        """Steps, numbers, those of other bits, the first step that has one."""
        given = (name, steps or self.steps, x, y)
        if self.machine:
            passed = ",".join(f"arg={each}" for each in ("program", *given))
            how = f"-M {self.machine} -nographic -monitor none -serial none -semihosting-config"
            command = [
                "qemu-system-arm",
                *how.split(),
                f"enable=on,target=native,{passed}",
                "-kernel",
                program,
            ]
        else:
            command = [
                *self.emulator.replace("WASI", str(program.parents[1] / "wasi.js")).split(),
                program,
                *given,
            ]
        return tuple(map(int, ran(*command).split()))


def targets() -> list[Target]:
    """All, of this processor if it is an x86-64."""
    found = []
    for compiler in ("gcc", "clang") if platform.machine() in ("x86_64", "AMD64") else ():
        here = functools.partial(Target, "x86-64", compiler)
        for march, fused in (("-march=x86-64-v3", True), ("-march=x86-64", False)):
            found += [
                here(f"-O{level} {march}", fused, steps=1_000_000 if level else 72_000) for level in range(4)
            ]
            sanitizers = "-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
            found.append(here(f"-O1 {march} {sanitizers}", fused))
        found.append(here("-O3 -march=native", steps=1_000_000))
        found.append(here("-O3 -march=x86-64-v3 -DFLUSH", steps=1_000_000))
        found.append(here("-std=c99 -O2 -march=x86-64-v3", exact=""))
    if found:
        found.append(Target("x86-64", "gcc", "-O2 -march=x86-64 -DNAME_FMA=1"))
        found.append(Target("x86-64", "gcc", "-O3 -march=x86-64-v3 -DNAME_FMA=0", False))
        found.append(
            Target(
                "x86-64",
                "g++",
                "-std=c++11 -O2 -march=x86-64-v3",
                more="-x c++",
                link="g++",
                exact="-ffp-contract=off",
            )
        )
    for options in ("-O0", "-O2", "-O3"):
        gcc = f"{AARCH64}-gcc"
        here = functools.partial(Target, "aarch64", options=options, emulator="qemu-aarch64")
        found.append(here(gcc, link=f"{gcc} -static"))
        found.append(here("clang", more=f"--target={AARCH64}", link=f"{gcc} -static"))
    found.append(here(gcc, options="-O2 -DFLUSH", link=f"{gcc} -static"))
    for fpu, fused in (("neon-vfpv4", True), ("vfpv4", True), ("vfpv3-d16", False)):
        gcc, fpu = f"{ARM}-gcc", f"-march=armv7-a -mfpu={fpu}"
        for options in ("-O0", "-O2", "-O3"):
            here = functools.partial(
                *(Target, "armv7"),
                **{"options": f"{options} {fpu}", "fused": fused, "emulator": "qemu-arm"},
                steps=10_000 if options == "-O0" else 72_000,
            )
            found.append(here(gcc, link=f"{gcc} -static"))
            found.append(here("clang", more=f"--target={ARM}", link=f"{gcc} -static"))
    found.append(
        Target(
            "armv7", gcc, f"-O2 {fpu} -DNAME_FMA=1", link=f"{gcc} -static", emulator="qemu-arm", steps=10_000
        )
    )
    for name, cpu, machine, fused, fused64 in (
        ("Cortex-M3", "-mcpu=cortex-m3 -mfloat-abi=soft", "mps2-an385", False, False),
        ("Cortex-M4F", "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16", "mps2-an386", True, False),
        ("Cortex-M7", "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-d16", "mps2-an500", True, True),
    ):
        gcc, more = f"{BARE}-gcc", f"-mthumb {cpu}"
        here = functools.partial(
            *(Target, name),
            **{"fused": fused, "fused64": fused64, "soft64": not fused64},
            **{"machine": machine, "link": f"{gcc} {more}"},
            steps=72_000 if fused else 20_000,
        )
        found += [here(gcc, options=options, more=more) for options in ("-Os", "-O2", "-O3")]
        found.append(here(gcc, options="-O0", more=more, steps=10_000))
        bare = f"--target={BARE} {more} -fshort-enums -isystem /usr/include/newlib"
        found += [here("clang", options=options, more=bare) for options in ("-Os", "-O2")]
    here = functools.partial(Target, "wasm", fused=False)
    # Of vectors from straight code Clang 14 makes sums and differences of the wrong operands here.
    for options in ("-O0", "-O2", "-O3 -msimd128 -fno-slp-vectorize"):
        # Its linker wants more of node at higher levels; node's fetch is not for files.
        emscripten = "emcc -O1 -sNODERAWFS=1 -sEXIT_RUNTIME=1"
        found.append(here("emcc", options, link=emscripten, emulator="node --no-experimental-fetch"))
        found.append(here("clang", options, more="--target=wasm32-wasi", emulator="node --no-warnings WASI"))
    found.append(
        Target("wasm", "emcc", "-O2 -DNAME_FMA=1", link=emscripten, emulator="node --no-experimental-fetch")
    )
    return found


class Failed(Exception):
    """A compiler, or a program, that ended with an error or said something."""


def ran(*command: object, silent: bool = False, **environment: str) -> str:
    """What a command prints."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode or (silent and done.stderr.strip()):
        raise Failed(
            f"{' '.join(words)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


def exported(folder: Path, networks: Mapping[str, Network]) -> None:
    """Write networks in C, the program, and what it needs around it."""
    included, stepped, table = "", "", ""
    for name, network in networks.items():
        options = {"tokens": True} if network.tokens and isinstance(network.make(), GRU) else {}
        export_c(network.make(), folder / f"{name}.c", name=name, weights=network.weights, **options)
        real = "double" if network.dtype == "float64" else "float"
        taken = ("int32_t", "1", "*in") if network.tokens else (real, "NAME_INPUT_SIZE", "in")
        values = {**dict(zip(("TAKES", "TAKEN", "STEP"), taken, strict=True)), "REAL": real}
        included += f'#include "{name}.h"\n'
        text = re.sub("TAKES|TAKEN|STEP|REAL", lambda found: values[found[0]], STEPPED)  # noqa: B023
        stepped += re.sub("NAME", name, re.sub("NAME_(?=INPUT|OUTPUT)", f"{name.upper()}_", text))
        x = f"{taken[1].replace('NAME', name.upper())} * sizeof({taken[0]})"
        y = f"{name.upper()}_OUTPUT_SIZE * sizeof({real})"
        table += f'    {{"{name}", stepped_{name}, {x}, {y}, sizeof({real})}},\n'
    program = (
        PROGRAM.replace("INCLUDED", included)
        .replace("FLUSHING", FLUSHING)
        .replace("STEPPED", stepped)
        .replace("TABLE\n", table)
    )
    files = {"main.c": program, "reset.c": RESET, "layout.ld": LAYOUT, "wasi.js": WASI}
    for name, text in files.items():
        (folder / name).write_text(text)


def inputs(name: str, steps: int) -> Any:
    """Tokens, or numbers by turns ordinary, larger, none, tiny and such that all saturates."""
    network, rng = NETWORKS[name], np.random.default_rng(steps)
    size = network.reference().stream().input_size
    if network.tokens:
        return rng.integers(0, size, steps).astype(np.int32)
    scales = np.array([1, 10, 0, 1e-6, 1e20, 0, 1e-30, 1])[np.arange(steps) // 397 % 8]
    return (rng.standard_normal((steps, size)) * scales[:, None]).astype(network.dtype)


def stepped(names: Iterable[str], steps: int, folder: Path) -> None:
    """Write some x, and the y that fastrnn makes of it, on the kernels that this process has."""
    folder.mkdir(exist_ok=True)
    for name in names:
        x = inputs(name, steps)
        x.tofile(folder / f"{name}.x")
        NETWORKS[name].reference().stream().step_many(x[:, None]).tofile(folder / f"{name}.y")


@functools.cache
def truth(folder: Path, fused: bool, steps: int, names: tuple[str, ...] = tuple(NETWORKS)) -> Path:
    """Where the x and y of networks are, of kernels with or without FMA."""
    made = folder / ("fused" if fused else "plain")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import targets; "
    code += f"targets.stepped({names}, {steps}, targets.Path({str(made)!r}))"
    ran(sys.executable, "-c", code, FASTRNN_ISA="" if fused else "baseline", FASTRNN_BACKEND="")
    return made


SILENT = "no_bias"  # which has no biases: in silence all becomes smaller and smaller
DOUBLES = [name for name, network in NETWORKS.items() if network.dtype == "float64"]


def bits(chosen: Sequence[Target], most: int) -> bool:
    """Print a row for each target; whether there is a bit that should not differ."""
    print("| processor | compiler | options | roundings | steps | numbers | of other bits | in a decay |")
    print("|---|---|---|---|--:|--:|--:|--:|")
    FOLDER.mkdir(parents=True, exist_ok=True)
    wrong = False
    with tempfile.TemporaryDirectory(dir=FOLDER) as made, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(made)
        exported(folder, NETWORKS)
        steps = min(most, max(target.steps for target in chosen))
        for fused in (True, False):
            truth(folder, fused, steps)
        for rows in pool.map(lambda target: compared(target, folder, steps), chosen):
            for row, differ in rows:
                print(row, flush=True)
                wrong |= differ
    return wrong


def compared(target: Target, folder: Path, steps: int) -> list[tuple[str, bool]]:
    """The rows of a target, and whether one has bits that should not differ."""
    about = f"| {target.processor} | {target.compiler} | {f'{target.exact} {target.options}'.strip()}"
    if missing := target.missing():
        return [(f"{about} | {missing} is not installed |", False)]
    try:
        program = target.build(folder, list(NETWORKS))
    except Failed as failed:
        return [(f"{about} | is not built |\n```\n{failed}```", True)]
    fused64 = target.fused if target.fused64 is None else target.fused64
    found = {}
    for name, network in NETWORKS.items():
        fused = fused64 if network.dtype == "float64" else target.fused
        files = truth(folder, fused, steps)
        count = min(steps, target.steps)
        found[name] = np.array(target.run(program, name, files / f"{name}.x", files / f"{name}.y", count))
    decay = found.pop(SILENT)[2]
    doubles = [found.pop(name) for name in DOUBLES] if target.soft64 else []
    rows = []
    for what, results, fused, last in (
        ("", [*found.values()], target.fused, f"{decay:,}"),
        (", float64 by libgcc", doubles, fused64, ""),
    ):
        if results:
            done, numbers, differ, _ = sum(results)
            rounded = "one" if fused else "two"
            row = f"{about}{what} | {rounded} | {done:,} | {numbers:,} | {differ:,} | {last} |"
            rows.append((row, bool(differ) and not what))
    return rows


STRICT = "-Wall -Wextra -pedantic -Wconversion -Wshadow -Wdouble-promotion -Werror"


def warnings(folder: Path) -> bool:
    """Print a row for each compiler and analyser; whether one has something to say."""
    exported(folder, NETWORKS)
    files = [folder / f"{name}.c" for name in NETWORKS]
    print("| compiler | options | files | says |")
    print("|---|---|--:|---|")
    commands = []
    for compiler, more in (("gcc", ""), ("clang", ""), (f"{AARCH64}-gcc", ""), (f"{ARM}-gcc", "")):
        commands += [(compiler, f"{more}-std={each} -O2 {STRICT}") for each in ("c99", "c11")]
    commands += [
        (f"{BARE}-gcc", f"-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 -std=c99 -Os {STRICT}")
    ]
    commands += [("emcc", f"-std=c99 -O2 {STRICT}")]
    for compiler in ("g++", "clang++"):
        commands += [(compiler, f"-x c++ -std={each} -O2 {STRICT}") for each in ("c++11", "c++20")]
    commands += [
        ("gcc", "-std=c99 -O1 -fanalyzer -Werror"),
        ("clang", "-std=c99 --analyze -Xanalyzer -analyzer-werror"),
    ]
    commands += [("cppcheck", "-q --error-exitcode=1 --enable=warning,portability,performance --std=c99")]
    wrong = False
    for compiler, options in commands:
        said = "not installed"
        if shutil.which(compiler):
            output = [] if compiler == "cppcheck" else ["-c", "-o", os.devnull]
            if compiler == "emcc":
                output = ["-c", "-o", folder / "warned.o"]
            try:
                for file in files:
                    ran(compiler, *options.split(), *output, file, silent=True)
                said = "nothing"
            except Failed as failed:
                said, wrong = f"```{failed}```", True
        print(f"| {compiler} | {options} | {len(files)} | {said} |", flush=True)
    return wrong


#: As they would be on a microcontroller.
SIZED = {
    "LSTM(1, 32), Linear(32, 1)": Network(lambda: Sequential(LSTM(1, 32, seed=0), Linear(32, 1, seed=0))),
    "GRU(1, 32), Linear(32, 1)": Network(lambda: Sequential(GRU(1, 32, seed=0), Linear(32, 1, seed=0))),
    "the LSTM, int8": Network(lambda: Sequential(LSTM(1, 32, seed=0), Linear(32, 1, seed=0)), weights="int8"),
    "the GRU, int8": Network(lambda: Sequential(GRU(1, 32, seed=0), Linear(32, 1, seed=0)), weights="int8"),
    "LSTM(32, 32), bfloat16": Network(lambda: LSTM(32, 32, seed=0), weights="bfloat16"),
    "LSTM(8, 24, 2, proj_size=8), int8": Network(lambda: LSTM(8, 24, 2, proj_size=8, seed=0), weights="int8"),
}


def sizes(folder: Path) -> bool:
    """Print bytes of each network on a Cortex-M4; whether code takes more than 8 KB."""
    print("| network | options | code | weights | state | stack | instructions of a step |")
    print("|---|---|--:|--:|--:|--:|--:|")
    wrong = False
    (folder / "reset.c").write_text(RESET)
    (folder / "layout.ld").write_text(LAYOUT)
    compiler = (f"{BARE}-gcc", *f"-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 {EXACT}".split())
    for number, (name, network) in enumerate(SIZED.items()):
        file = f"sized{number}"
        export_c(network.make(), folder / f"{file}.c", name=file, weights=network.weights)
        (folder / f"main{number}.c").write_text(COUNTED.replace("NAME", file))
        state = re.search("come to, ([0-9]+) bytes", (folder / f"{file}.h").read_text())
        assert state
        for options in ("-Os", "-O2", "-O3"):
            made = folder / f"{file}.o"
            asked = (options, "-fcallgraph-info=su", "-fdata-sections")
            ran(*compiler, *asked, "-c", folder / f"{file}.c", "-o", made)
            sections = ran(f"{BARE}-size", "-A", made)
            found = [
                (each.split()[0], int(each.split()[1]))
                for each in re.findall(r"^\..*", sections, re.MULTILINE)
            ]
            arrays = sum(size for section, size in found if section.startswith(f".rodata.{file}_"))
            code = sum(size for section, size in found if section.startswith((".text", ".rodata"))) - arrays
            stack = deepest(made.with_suffix(".ci").read_text(), f"{file}_run")
            counted = "-"
            if shutil.which("qemu-system-arm"):
                program = folder / f"{file}.elf"
                around = (folder / f"main{number}.c", folder / "reset.c", "-T", folder / "layout.ld")
                ran(*compiler, options, made, *around, "--specs=rdimon.specs", "-o", program)
                how = (
                    "-M mps2-an386 -nographic -monitor none -serial none -semihosting -icount shift=0 -kernel"
                )
                counted = f"{int(ran('qemu-system-arm', *how.split(), program)):,}"
            print(
                f"| {name} | {options} | {code:,} | {arrays:,} | {state[1]} | {stack:,} | {counted} |",
                flush=True,
            )
            wrong |= code > 8192
    return wrong


def deepest(graph: str, name: str) -> int:
    """The most bytes of stack that a function takes with those that it calls, by GCC's graph."""
    own = {
        title: int(size) for title, size in re.findall(r'title: "([^"]*)" label: "[^"]*?(\d+) bytes', graph)
    }
    calls = re.findall(r'sourcename: "([^"]*)" targetname: "([^"]*)"', graph)

    def of(title: str) -> int:
        return own.get(title, 0) + max((of(called) for caller, called in calls if caller == title), default=0)

    return of(next(title for title in own if title.endswith(name)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="bits, warnings, sizes; all if left out")
    parser.add_argument("--only", default="", help="targets in whose row this regular expression is found")
    parser.add_argument("--steps", type=int, default=1_000_000, help="the most of each network")
    given = parser.parse_args()
    names = given.names or ["bits", "warnings", "sizes"]
    if unknown := set(names) - {"bits", "warnings", "sizes"}:
        parser.error(f"no {', '.join(sorted(unknown))}: there are bits, warnings and sizes")
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if name == "bits":
                row = "{0.processor} {0.compiler} {0.exact} {0.options}"
                wrong |= bits(
                    [each for each in targets() if re.search(given.only, row.format(each))], given.steps
                )
            else:
                wrong |= {"warnings": warnings, "sizes": sizes}[name](Path(folder))
            print()
    return wrong


if __name__ == "__main__":
    sys.exit(main())
