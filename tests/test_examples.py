"""The examples: each runs quickly, on its real data, and leaves the figure it promises."""

import itertools
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from fastrnn import cli, examples
from fastrnn.backend import load_core, name_in_use
from fastrnn.examples import control, pedal, recall
from fastrnn.layers import LSTM, Linear, Sequential

PNG = b"\x89PNG\r\n\x1a\n"


def run_quickly(name, directory):
    """The scores of an example that ran, and drew; it is left out where its packages are not installed."""
    try:
        scores = examples.run(name, directory, quick=True)
    except ImportError as error:
        assert "the extra fastrnn[" in str(error)
        pytest.skip(str(error))
    assert (directory / f"{name}.png").read_bytes().startswith(PNG)
    return scores


@pytest.mark.parametrize("name", examples.NAMES)
def test_each_says_in_a_line_what_it_is_about(name):
    assert 20 < len(examples.summary(name)) < 64


def test_the_command_lists_them(capsys):
    assert cli.main(["examples"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(examples.NAMES)


def test_an_unknown_example_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of .*, got 'vowel'"):
        examples.run("vowel", tmp_path)


def test_a_missing_package_is_named_with_the_extra():
    with pytest.raises(ImportError, match=r"Nothing: pip install Nothing, or the extra fastrnn\[examples\]"):
        with examples.needs("Nothing"):
            import fastrnn.nothing  # noqa: F401


@pytest.mark.parametrize("name", examples.NAMES)
def test_without_matplotlib_nothing_is_computed(name, tmp_path, capsys, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=r"matplotlib: pip install matplotlib, or the extra fastrnn\[plot\]"
    ):
        examples.run(name, tmp_path, quick=True)
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's, on PyTorch
def test_the_textbook_program_learns_the_sentence(tmp_path):
    scores = run_quickly("textbook", tmp_path)
    assert scores["accuracy"] > 0.9 > scores["baseline"]


def test_vowels_are_told_apart_better_than_by_their_means(tmp_path):
    scores = run_quickly("vowels", tmp_path)
    assert scores["accuracy"] > scores["centroid"]


def test_digits_are_read(tmp_path):
    assert run_quickly("digits", tmp_path)["accuracy"] > 0.9


def test_demand_is_forecast_better_than_by_the_day_before(tmp_path):
    scores = run_quickly("load", tmp_path)
    assert scores["ratio_to_day"] < 1
    assert 0.6 < scores["coverage"] < 0.95


def test_a_long_sequence_is_learned_in_little_memory(tmp_path):
    scores = run_quickly("long", tmp_path)
    assert scores["accuracy"] > 0.9 > scores["baseline"]
    assert scores["peak_megabytes"] < scores["peak_megabytes_shortest"] + 20  # all steps at once: 80 more


def test_recall_shows_what_reaches_back(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    scores = run_quickly("recall", tmp_path)
    assert scores["GRU, bias of z 5, lag 10"] > 0.95 and scores["GRU, bias of z 5, lag 50"] > 0.95
    assert scores["vanilla RNN, lag 50"] < 0.5
    assert "lag 10" in capsys.readouterr().out


def test_recall_is_of_the_first_symbol(rng):
    x, first = recall.batch(50, rng)
    assert x.shape == (51, recall.BATCH) and (x[0] == first).all()
    assert set(first) == set(range(recall.SYMBOLS)) and x[1:].min() >= recall.SYMBOLS


def test_pronunciation_learns_to_spell_out(tmp_path):
    scores = run_quickly("pronunciation", tmp_path)
    assert 0 < scores["phoneme_error_rate"] < 1
    assert 0 < scores["baseline_phoneme_error_rate"] < 0.6


def test_words_are_held_out_with_all_their_pronunciations():
    from fastrnn.examples import pronunciation

    words = {f"w{n}": [["A"], ["B"]] for n in range(100)}
    training, held_out = pronunciation.split(words)
    assert (len(training), len(held_out)) == (90, 10)
    assert {**training, **held_out} == words


def test_the_baseline_of_pronunciation_reads_what_it_has_seen():
    from fastrnn.examples import pronunciation

    spoken = {
        "cab": "K AE B",
        "back": "B AE K",
        "tax": "T AE K S",
        "at": "AE T",
        "box": "B AA K S",
        "cob": "K AA B",
    }
    read = pronunciation.letter_baseline({word: [phonemes.split()] for word, phonemes in spoken.items()})
    assert [" ".join(read(word)) for word in spoken] == list(spoken.values())
    assert read("tab") == ["T", "AE", "B"]


def test_errors_are_counted_from_the_nearest_pronunciation():
    from fastrnn.examples import pronunciation

    words = {"a": [["EY"], ["AH"]], "the": [["DH", "AH"], ["DH", "IY"], ["DH"]]}
    assert pronunciation.errors(words, [["AH"], ["DH", "IH"]]) == (1 / 3, 1 / 2)


def test_surnames_are_invented(tmp_path):
    scores = run_quickly("surnames", tmp_path)
    assert scores["bits_per_character"] < 4.5
    assert scores["baseline_bits_per_character"] < 4.5


def test_a_pole_stands_longer_if_one_remembers(tmp_path):
    scores = run_quickly("control", tmp_path)
    assert scores["LSTM"] > 120 > 60 > scores["without memory"]


def test_carts_and_poles_move_as_mechanics_says(rng):
    """Both equations of motion, solved for what speeds up, where the example has them solved by hand."""
    poles = control.Poles(7, rng)
    poles.moving = before = rng.normal(scale=0.2, size=(4, 7))
    right = rng.random(7) < 0.5
    expected = before.copy()
    for k, (_, speed, lean, turning) in enumerate(before.T):
        cart, pole, half, gravity = 1.0, 0.1, 0.5, 9.8
        force = (10 if right[k] else -10) + pole * half * turning**2 * np.sin(lean)
        inertia = [[cart + pole, pole * half * np.cos(lean)], [np.cos(lean), 4 / 3 * half]]
        faster = np.linalg.solve(inertia, [force, gravity * np.sin(lean)])
        expected[:, k] += 0.02 * np.array([speed, faster[0], turning, faster[1]])
    fallen, ended = poles.push(right)
    np.testing.assert_allclose(poles.moving[:, ~fallen], expected[:, ~fallen], rtol=1e-12)
    assert (fallen == (np.abs(expected[2]) > np.radians(12))).all() and (ended == fallen).all()
    assert fallen.any() and not fallen.all()
    assert (np.abs(poles.moving[:, fallen]) <= 0.05).all() and (poles.age == ~fallen).all()


def test_an_episode_ends_in_time(rng):
    poles = control.Poles(1, rng)
    poles.age[:] = control.LIMIT - 1
    assert poles.push(np.array([True]))[0].tolist() == [False]
    assert poles.age.tolist() == [0]


def test_the_gradient_of_the_policy_is_that_of_its_loss(rng):
    logits, shape = rng.normal(size=(5, 3, 2)), (5, 3)
    chances, gains = np.log(rng.uniform(0.2, 0.9, shape)), rng.normal(size=shape)
    part = control.Rollout(None, None, None, rng.integers(0, 2, shape), chances, gains, None)
    found = control.policy_gradient(logits, part)
    for place in np.ndindex(logits.shape):
        moved = np.zeros_like(logits)
        moved[place] = 1e-6
        up, down = (control.policy_loss(logits + sign * moved, part) for sign in (1, -1))
        assert found[place] == pytest.approx((up - down) / 2e-6, abs=1e-8)


def test_what_comes_of_a_rollout_is_what_its_episodes_say():
    """With a trace of 1 a return is what came until the end of the episode."""
    agent, poles = control.Agent(0), control.Poles(control.POLES, np.random.default_rng(0))
    state, starts = np.zeros((2, control.POLES, control.UNITS), "float32"), np.ones(control.POLES, bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "TRACE", 1.0)
        rollout, _, _, lengths = control.play(agent, poles, state, starts)
    begun = [np.flatnonzero(rollout.starts[:, k]) for k in range(control.POLES)]
    for k, starts_of in enumerate(begun):
        for start, end in itertools.pairwise(starts_of):  # whole episodes, all of which fell
            ahead = end - np.arange(start, end)
            np.testing.assert_allclose(rollout.returns[start:end, k], 1 - control.DISCOUNT**ahead, atol=1e-5)
    assert len(lengths) > 50 and min(lengths) > 5


def test_a_pedal_is_learned_and_played_in_c(tmp_path):
    scores = run_quickly("pedal", tmp_path)
    assert scores["error"] < scores["error_without_memory"] < scores["error_dry"]
    sizes = {file.name: file.stat().st_size for file in tmp_path.joinpath("pedal").iterdir()}
    assert {"pedal.c", "pedal.h"} < set(sizes)
    assert sizes["dry.wav"] == sizes["target.wav"] == sizes["pedal.wav"] == 44 + 2 * pedal.TEST * pedal.PHRASE
    if "differing, C" not in scores:
        pytest.skip("no C compiler")
    if name_in_use() == "native" and load_core().config()["isa"] != "baseline":  # whose products C has not
        assert scores["differing, C"] == 0
    command = [tmp_path / "pedal" / "pedal_play", tmp_path / "pedal.png", tmp_path / "out.wav"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1 and "not a plain WAV file" in refused.stderr
    assert not tmp_path.joinpath("out.wav").exists()


@pytest.mark.skipif(name_in_use() != "native", reason="a step without the interpreter is the kernels'")
def test_a_pedal_is_played_in_cython(rng):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    if not (shutil.which("cc") and Path(sysconfig.get_path("include"), "Python.h").exists()):
        pytest.skip("needs a C compiler, and Python's headers")
    network = Sequential(LSTM(1, 8, seed=0), Linear(8, 1, seed=0))
    x = rng.normal(size=100).astype("float32")
    played = pedal._in_cython(network, x)
    np.testing.assert_array_equal(played.y, network(x[:, None, None])[:, 0, 0])


def test_a_pedal_is_not_played_where_there_is_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert pedal._in_c(tmp_path) is None and not list(tmp_path.iterdir())


def test_the_circuit_is_that_of_its_equations():
    """A sine's harmonics beside those by Runge and Kutta's method, in much smaller steps, without filters."""
    period, loudness = 42, 0.4  # samples: 1050 Hz

    def slopes(t, state):
        lost, v = state
        x = loudness * np.sin(2 * np.pi * t * pedal.RATE / period)
        through = (pedal.GAIN * (x - lost) - v) / 2.2e3 - 2 * 2.52e-9 * np.sinh(v / 45.3e-3)
        return np.array([(x - lost) / 1e-3, through / 10e-9])

    periods, steps = 10, 2000
    h, state, voltages = period / pedal.RATE / steps, np.zeros(2), []
    for n in range(periods * steps):
        voltages.append(state[1])
        a = slopes(n * h, state)
        b = slopes((n + 0.5) * h, state + h / 2 * a)
        c = slopes((n + 0.5) * h, state + h / 2 * b)
        state = state + h / 6 * (a + 2 * b + 2 * c + slopes((n + 1) * h, state + h * c))
    expected = np.fft.rfft(voltages[-steps:])[:10] / steps
    found = pedal.clipped(loudness * np.sin(2 * np.pi * np.arange(periods * period) / period))
    np.testing.assert_allclose(np.fft.rfft(found[-period:])[:10] / period, expected, atol=2e-4)


def test_the_circuit_is_simulated_in_steps_that_are_small_enough():
    dry = pedal.guitar(1, seed=1)[: pedal.RATE // 2]
    found, finer = pedal.clipped(dry), pedal.clipped(dry, oversampling=32)
    assert pedal.error_to_signal(found, finer) < 1e-6


def test_pieces_of_the_circuit_s_signal_fit_together(rng, monkeypatch):
    dry = 0.3 * rng.normal(size=5000)
    found = pedal.clipped(dry)
    monkeypatch.setattr(pedal, "PIECE", 1000)
    np.testing.assert_allclose(pedal.clipped(dry), found, atol=1e-6)


def test_strings_are_in_tune(rng):
    spectrum = np.abs(np.fft.rfft(pedal._pluck(45, pedal.RATE, rng)))
    overtones = [80 + int(spectrum[80:140].argmax()), 190 + int(spectrum[190:250].argmax())]
    np.testing.assert_allclose(overtones, [110, 220], atol=1)


@pytest.fixture
def one_thread_of_pytorch():
    """Two would wait for each other where something else has a core."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_program_in_pytorch_has_the_same_losses_when_accelerated(tmp_path, one_thread_of_pytorch):
    scores = run_quickly("pytorch", tmp_path)
    assert scores["largest_difference"] < 1e-4
    assert scores["accuracy"] > scores["baseline"]


def test_the_kinds_of_characters_are_those_of_python_s_own_tokens():
    from fastrnn.examples import pytorch

    lines = {line.text: [pytorch.KINDS[kind] for kind in line.kinds] for line in pytorch.read(("heapq",))}
    text = "    lastelt = heap.pop()    # raises appropriate IndexError if heap is empty"
    kinds = ["space"] * 4 + ["name"] * 7 + ["space", "operator", "space"] + ["name"] * 4 + ["operator"]
    kinds += ["name"] * 3 + ["operator"] * 2 + ["space"] * 4
    assert lines[text] == kinds + ["comment"] * (len(text) - len(kinds))
