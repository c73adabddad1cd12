"""A guitar pedal, learned by an LSTM and run from C.

What is learned is a diode clipper, the circuit that distorts in many pedals (Yeh, Abel and Smith 2007,
Simplified, physically-informed models of distortion and overdrive guitar effects pedals). Behind a coupling
capacitor and an amplifier come a resistor and, between two diodes, a capacitor, whose voltage v is heard::

    C dv/dt = (u - v) / R - 2 I_s sinh(v / V_d)

The circuit is simulated here, as is the guitar that it gets; nothing is downloaded. An LSTM with a linear
layer learns from a minute of both, sample by sample (after Wright, Damskägg, Juvela and Välimäki 2020,
Real-time guitar amplifier emulation with deep learning). Then it is written as C, compiled, and plays a WAV
file, with the bits that it has in Python. Beside the figure a folder ``pedal`` gets what was heard, before
and after, and the program.

Errors are error to signal ratios: the energy of what is wrong as a part of that of what it should be. The
baselines are the dry signal, as loud as fits best, and the best curve without memory: from a sample to what
becomes of such on average. Times are the processor's, of one thread.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from importlib import resources
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastrnn import figures
from fastrnn.backend import name_in_use
from fastrnn.checks import Array
from fastrnn.config import get_include
from fastrnn.embed import export_c
from fastrnn.examples import print_table, save_figure
from fastrnn.layers import LSTM, Linear, Sequential
from fastrnn.optim import Adam
from fastrnn.training import fit

RATE = 44100  # samples per second
PHRASE, TEST = 2 * RATE, 5  # samples of a phrase, and the phrases that are kept for the test

COUPLING, GAIN = 1e-3, 10.0  # 10 kΩ times 100 nF, in seconds; volts at full scale
RESISTANCE, CAPACITANCE = 2.2e3, 10e-9  # R, ohm; C, farad
SATURATION, DIODE = 2.52e-9, 45.3e-3  # I_s, ampere, and V_d, volt, of silicon diodes
OVERSAMPLING, REACH = 8, 16  # steps in a sample; and to how many samples the filters between them reach
PIECE, REST = 2048, 1024  # samples that are simulated in a row, and before them, until memory has faded

UNITS, LEARNING_RATE, EPOCHS = 32, 5e-3, 60
CUT, BATCH, WINDOW = RATE // 2, 30, 256  # samples in a row, rows, and samples that gradients go back

CHORDS = (  # notes of the strings, 69 being 440 Hz: E, A, D, G, C, and fifths on E and A
    (40, 47, 52, 56, 59, 64),
    (45, 52, 57, 61, 64),
    (50, 57, 62, 66),
    (43, 47, 50, 55, 59, 67),
    (48, 52, 55, 60, 64),
    (40, 47, 52),
    (45, 52, 57),
)


def guitar(phrases: int, seed: int) -> Array:
    """A dry signal, two seconds for each phrase: float32, and each sample a number of 16 bits."""
    rng = np.random.default_rng(seed)
    kinds = (_riff, _chord, _chord, _riff, _sweep)
    signal = np.concatenate([kinds[place % len(kinds)](rng) for place in range(phrases)])
    found: Array = (np.rint(32767 * signal) / 32768).astype("float32")
    return found


def _riff(rng: np.random.Generator) -> Array:
    """Eight notes, some of them left out."""
    length = PHRASE // 8
    notes = [_pluck(int(rng.integers(40, 77)), length, rng) * (rng.random() < 0.8) for _ in range(8)]
    return _loudness(rng) * np.resize(np.concatenate(notes), PHRASE)


def _chord(rng: np.random.Generator) -> Array:
    """Strings, one soon after the other."""
    phrase, apart = np.zeros(PHRASE), int(RATE * rng.uniform(0.005, 0.25))
    for place, note in enumerate(CHORDS[rng.integers(len(CHORDS))]):
        phrase[place * apart :] += _pluck(note, PHRASE - place * apart, rng)
    found: Array = _loudness(rng) / np.abs(phrase).max() * phrase
    return found


def _sweep(rng: np.random.Generator) -> Array:
    """From 40 Hz to 10 kHz."""
    rise, t = np.log(10_000 / 40), np.arange(PHRASE) / PHRASE
    turns = 40 * PHRASE / RATE / rise * np.expm1(rise * t)
    found: Array = _loudness(rng) * _rest(PHRASE) * np.sin(2 * np.pi * turns)
    return found


def _loudness(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(0.05), 0)))


def _rest(length: int) -> Array:
    """At the end a hand comes to rest on the strings."""
    found: Array = np.minimum(1, np.arange(length)[::-1] / (0.02 * RATE)) ** 2
    return found


def _pluck(note: int, length: int, rng: np.random.Generator) -> Array:
    """A string: noise in a delay line, whose neighbours are averaged each time (Karplus and Strong 1983)."""
    period = round(RATE / (440 * 2 ** ((note - 69) / 12)) - 0.5)
    noise = rng.uniform(-1, 1, period)
    noise -= np.roll(noise, period // 5)  # where the string is plucked
    for _ in range(2):  # softly
        noise = (np.roll(noise, 1) + 2 * noise + np.roll(noise, -1)) / 4
    string = np.zeros(1 + length + 2 * period)
    string[1 : 1 + period] = noise / np.abs(noise).max()
    for start in range(1 + period, 1 + length, period):
        before = string[start - period - 1 : start]
        string[start : start + period] = 0.498 * (before[1:] + before[:-1])
    return string[1 : 1 + length] * _rest(length)


def clipped(signal: Array, oversampling: int = OVERSAMPLING) -> Array:
    """What the circuit makes of a signal, (T,) and in volts, by the trapezoidal rule and Newton's method.

    As it forgets within milliseconds, pieces of the signal are simulated side by side.
    """
    count, steps = -(-len(signal) // PIECE), REST + PIECE + REACH
    padded = np.zeros(count * PIECE + REST + 3 * REACH)
    padded[REST + REACH :][: len(signal)] = signal
    pieces = np.lib.stride_tricks.sliding_window_view(padded, steps + 2 * REACH)[::PIECE].T.copy()
    y = np.zeros_like(pieces)

    # a windowed sinc from samples to steps, and back
    t = np.arange(oversampling)[:, None] / oversampling - np.arange(1 - REACH, REACH + 1)
    between = 0.9 * np.sinc(0.9 * t) * np.i0(9 * np.sqrt(np.maximum(0, 1 - (t / REACH) ** 2))) / np.i0(9)

    half = 0.5 / (RATE * oversampling)  # of a step, in seconds
    lost, resistor = half / COUPLING, half / (RESISTANCE * CAPACITANCE)
    diodes = half / CAPACITANCE * SATURATION
    last, coupling, v, begun = np.zeros((4, count))  # begun: v and what the first half of the step adds to it
    for n in range(steps):
        fine = between @ pieces[n + 1 : n + 1 + 2 * REACH]
        for x in fine:
            coupling += lost / (1 + lost) * (last + x - 2 * coupling)
            last = x.copy()
            known = begun + resistor * GAIN * (x - coupling)
            change = np.ones(1)
            while np.abs(change).max() > 1e-6:  # volts; squared by the last one
                up = diodes * np.exp(v / DIODE)
                down = diodes**2 / up
                change = ((1 + resistor) * v + up - down - known) / (1 + resistor + (up + down) / DIODE)
                v = v - change
            begun = 2 * v - begun
            x[:] = v
        y[n + 1 : n + 1 + 2 * REACH] += between.T @ fine / oversampling
    return y[REST + REACH :][:PIECE].T.ravel()[: len(signal)].astype("float32")


def error_to_signal(y: Array, target: Array) -> float:
    """The energy of the error as a part of that of the target."""
    return float(((y - target) ** 2).sum() / (target**2).sum())


def average_curve(x: Array, y: Array) -> Callable[[Array], Array]:
    """The best curve without memory: what x becomes on average, in each of a thousand ranges."""
    order = np.argsort(x, kind="stable")
    xs, ys = (np.array([part.mean() for part in np.array_split(each[order], 1000)]) for each in (x, y))
    return lambda signal: np.interp(signal, xs, ys)


class Played(NamedTuple):
    """What came out somewhere, and what a sample took of the processor, also where others want it."""

    y: Array
    seconds: float


def run(directory: str | os.PathLike[str], *, quick: bool = False) -> dict[str, float]:
    """Simulate, learn, write C and play; the scores are errors, and how many bits are others in C."""
    folder = Path(directory, "pedal")
    folder.mkdir(exist_ok=True)
    phrases, epochs = (5, 12) if quick else (30, EPOCHS)
    start = time.perf_counter()
    dry = guitar(phrases + TEST, seed=0)
    wet = clipped(dry)
    simulated = time.perf_counter() - start
    (x, dry), (y, wet) = (np.split(signal, [phrases * PHRASE]) for signal in (dry, wet))
    start = time.perf_counter()
    network = _trained(x, y, epochs)
    trained = time.perf_counter() - start
    print(f"{len(x) / RATE:.0f} s of sound, simulated in {simulated:.0f} s and learned in {trained:.0f} s")

    played = _all_at_once(network, dry)
    heard = {
        f"LSTM, {UNITS} units": played.y,
        "best curve without memory": average_curve(x, y)(dry),
        "dry, as loud as fits": (x @ y) / (x @ x) * dry,
    }
    errors = {name: error_to_signal(each, wet) for name, each in heard.items()}
    print_table(
        (f"of {len(dry) / RATE:.0f} s that it has not heard", "error to signal", "dB"),
        *((name, f"{error:.2%}", f"{10 * np.log10(error):.1f}") for name, error in errors.items()),
    )

    for name, signal in {"dry": dry, "target": wet, "pedal": played.y}.items():
        _write_wav(folder / f"{name}.wav", signal)
    export_c(network, folder / "pedal.c", name="pedal")
    ways: dict[str, Played | None] = {
        "Python, step": _by_steps(network, dry[: RATE // (10 if quick else 1)]),
        "Python, step_many": played,
    }
    if not quick:
        ways["Cython"] = _in_cython(network, dry)  # takes seconds to compile
    ways["C"] = _in_c(folder)
    bits = played.y.view("int32")
    differing = {
        name: int((way.y.view("int32") != bits[: len(way.y)]).sum()) for name, way in ways.items() if way
    }
    print_table(
        ("where it runs", "µs a sample", "times real time", "samples that differ"),
        *(
            (name, f"{1e6 * way.seconds:.2f}", f"{1 / RATE / way.seconds:.0f}", f"{differing[name]:,}")
            if way
            else (name, "not here", "", "")
            for name, way in ways.items()
        ),
    )
    print(f"what was heard, and the program, are in {folder}")
    error, without_memory, unchanged = errors.values()
    scores = {"error": error, "error_without_memory": without_memory, "error_dry": unchanged}
    _draw(dry, wet, heard, error, directory)
    return scores | {f"differing, {name}": float(count) for name, count in differing.items()}


def _trained(x: Array, y: Array, epochs: int) -> Sequential:
    network = Sequential(LSTM(1, UNITS, seed=0), Linear(UNITS, 1, seed=0))
    fit(
        network,
        tuple(list(signal.reshape(-1, CUT, 1)) for signal in (x, y)),
        loss="mean_squared_error",
        optimizer=Adam(network.parameters, LEARNING_RATE),
        epochs=epochs,
        batch_size=BATCH,
        bptt_steps=WINDOW,
        seed=0,
    )
    return network


def _all_at_once(network: Sequential, x: Array) -> Played:
    stream = network.stream()
    start = time.thread_time()
    y = stream.step_many(x[:, None, None])
    return Played(y[:, 0, 0], (time.thread_time() - start) / len(x))


def _by_steps(network: Sequential, x: Array) -> Played:
    step, y = network.stream().step, np.empty((len(x), 1, 1), "float32")
    start = time.thread_time()
    for x_t, y_t in zip(x[:, None, None], y, strict=True):
        step(x_t, y_t)
    return Played(y[:, 0, 0], (time.thread_time() - start) / len(x))


def _in_cython(network: Sequential, x: Array) -> Played | None:
    """A loop in Cython; None where it cannot be compiled."""
    if not all(map(importlib.util.find_spec, ("Cython", "setuptools"))) or name_in_use() != "native":
        return None
    with tempfile.TemporaryDirectory() as folder:
        _copy("pedal_play.pyx", folder)
        if not _compile([sys.executable, "-m", "Cython.Build.Cythonize", "-i", "pedal_play.pyx"], folder):
            return None
        spec: Any = PathFinder.find_spec("pedal_play", [folder])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    stream, y = network.stream(), np.empty_like(x)
    start = time.thread_time()
    module.play(stream, x, y)
    return Played(y, (time.thread_time() - start) / len(x))


def _in_c(folder: Path) -> Played | None:
    """What the program makes of ``dry.wav``; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    _copy("pedal_play.c", folder)
    options = ["-O3", "-march=native", "-ffp-contract=off"]
    if not _compile([compiler, *options, "-o", "pedal_play", "pedal_play.c", "pedal.c", "-lm"], folder):
        return None
    floats = folder / "pedal.f32"
    said = subprocess.run(
        ["./pedal_play", "dry.wav", "pedal.wav", floats.name], cwd=folder, check=True, stdout=subprocess.PIPE
    )
    y = np.fromfile(floats, "float32")
    floats.unlink()
    return Played(y, float(said.stdout.split()[0]) / len(y))


def _copy(name: str, folder: str | os.PathLike[str]) -> None:
    """A file that lies beside this one."""
    Path(folder, name).write_bytes(resources.files("fastrnn.examples").joinpath(name).read_bytes())


def _compile(command: list[str], folder: str | os.PathLike[str]) -> bool:
    """Whether it could be done; if not, why is printed."""
    include = {"CPATH": get_include()}
    done = subprocess.run(command, cwd=folder, env=os.environ | include, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="", end="")
    return not done.returncode


def _write_wav(path: Path, signal: Array) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(signal), "NONE", ""))
        file.writeframes(np.rint(32768 * signal).clip(-32768, 32767).astype("<i2").tobytes())


def _draw(
    dry: Array, wet: Array, heard: dict[str, Array], error: float, directory: str | os.PathLike[str]
) -> None:
    figure = figures.new(10, 6.5)
    grid = figure.add_gridspec(2, 3, height_ratios=(3, 2))
    shown = slice(2 * PHRASE, TEST * PHRASE)  # a chord, a riff and the sweep
    network, curve, _ = heard.values()
    signals = {"Dry": dry, "The circuit": wet, f"The LSTM, error to signal {error:.2%}": network}
    for place, (title, signal) in enumerate(signals.items()):
        axes = figure.add_subplot(grid[0, place])
        image = axes.imshow(
            _spectrogram(signal[shown]),
            origin="lower",
            aspect="auto",
            extent=(shown.start / RATE, shown.stop / RATE, 0, RATE / 2000),
            cmap="magma",
            interpolation="nearest",
            vmin=-80,
            vmax=0,
        )
        axes.grid(False)
        axes.set(title=title, xlabel="seconds", ylim=(0, 10))
        if place == 0:
            axes.set_ylabel("kHz")
    figure.colorbar(image, ax=figure.axes, label="dB", pad=0.01)
    below = figure.add_subplot(grid[1, :])
    loudest = shown.start + int(np.abs(dry[shown][: 2 * PHRASE]).argmax())
    few = slice(loudest, loudest + RATE * 12 // 1000)
    t = np.arange(few.stop - few.start) / RATE * 1000
    below.plot(t, wet[few], "k-", linewidth=3, alpha=0.3, label="the circuit")
    below.plot(t, network[few], "C0-", linewidth=1, label="the LSTM")
    below.plot(t, curve[few], "C1-", linewidth=1, label="the best curve without memory")
    below.plot(t, dry[few], "C2:", linewidth=1, label="dry")
    below.set(xlabel="milliseconds", ylabel="volts", xlim=(0, t[-1]), ylim=(-0.8, 1))
    below.legend(ncols=4, loc="upper right")
    save_figure(figure, directory, "pedal")


def _spectrogram(signal: Array, window: int = 2048, hop: int = 1024) -> Array:
    """Decibels of frequencies, from low to high, over time; a sine of full scale has 0.

    They are in steps of 4, so that the file of the figure is half as large.
    """
    frames = np.lib.stride_tricks.sliding_window_view(signal, window)[::hop] * np.hanning(window)
    decibels = 20 * np.log10(np.abs(np.fft.rfft(frames)).T / (window / 4) + 1e-6)
    found: Array = 4 * np.floor(decibels / 4)
    return found
