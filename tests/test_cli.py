"""The commands, run as their users run them."""

import os
import re
import shlex
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import Sequential, checkpoint, cli, demo, examples
from fastrnn.models import SequenceRegressor, TextGenerator

PATTERN = "the cat sat on the mat. "
TINY = "--hidden-size 8 --batch-size 4 --bptt-steps 12 --learning-rate 0.02 --seed 0".split()


def command(*arguments):
    return [sys.executable, "-m", "fastrnn", *map(str, arguments)]


def run(*arguments):
    """What a command writes to standard output; it must succeed and have nothing to complain of."""
    done = subprocess.run(command(*arguments), capture_output=True, encoding="utf-8", timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "cat.txt"
    path.write_text(PATTERN * 40)
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    options = {"hidden_size": 8, "epochs": 3, "batch_size": 4, "bptt_steps": 12, "seed": 0}
    TextGenerator(**options).fit("\n" + PATTERN * 40).save(path)
    return path


def test_train_then_generate(text_file, tmp_path):
    model = tmp_path / "model.safetensors"
    first, *epochs, last = run("train", text_file, text_file, "-o", model, *TINY, "--epochs", 2).splitlines()
    assert first == "1,920 characters, 11 different ones"
    assert [line[:9] for line in epochs] == ["epoch   1", "epoch   2"]
    assert all(re.search(r" s  [\d,]+/s  train \d\.\d+ bits  validation \d", line) for line in epochs)
    assert re.match(r"the weights of epoch 2, \d\.\d+ bits per character in validation, are in ", last)
    assert last.endswith(str(model))

    options = ("--prompt", "the cat", "-n", 30, "--temperature", 0.5, "--seed", 1)
    expected = TextGenerator.load(model).generate("the cat", 30, 0.5, seed=1)
    assert run("generate", model, *options) == f"the cat{expected}\n"


def test_training_options_reach_the_model(text_file, tmp_path):
    model = tmp_path / "model.safetensors"
    run("train", text_file, "-o", model, *TINY, "--epochs", 1, "--cell", "gru", "--dtype", "float64")
    params = TextGenerator.load(model).get_params()
    assert (params["cell"], params["dtype"], params["hidden_size"]) == ("gru", "float64", 8)
    assert params["clip_norm"] == TextGenerator().clip_norm


def test_training_goes_on_from_a_checkpoint(text_file, tmp_path):
    whole, run_file, resumed = (tmp_path / name for name in ("whole", "run", "resumed"))
    options = (*TINY, "--schedule", "constant")
    run("train", text_file, "-o", whole, *options, "--epochs", 3)
    run("train", text_file, "-o", resumed, *options, "--epochs", 1, "--checkpoint", run_file)
    run("train", text_file, "-o", resumed, "--epochs", 3, "--resume", run_file)  # the rest is in the file
    models = [TextGenerator.load(path) for path in (whole, resumed)]
    assert len(models[1].history_) == 3
    assert models[0].generate("the", 50, seed=1) == models[1].generate("the", 50, seed=1)


@pytest.mark.parametrize("level", ["word", "byte"])
def test_text_by_words_and_bytes(text_file, tmp_path, level):
    model = tmp_path / "model"
    lines = run("train", text_file, "-o", model, *TINY, "--level", level, "--epochs", 1).splitlines()
    assert re.search(r"train \d\.\d+ bits", lines[1])
    done = subprocess.run(command("generate", model, "-n", 5, "--seed", 1), capture_output=True, check=True)
    expected = TextGenerator.load(model).generate(b"\n", 5, seed=1) if level == "byte" else None
    assert done.stdout == b"\n" + expected + b"\n" if level == "byte" else done.stdout[:1] == b"\n"


LATIN = "café "


def test_bytes_need_not_be_utf_8(tmp_path):
    (tmp_path / "latin.txt").write_bytes(LATIN.encode("latin-1") * 99)
    model = tmp_path / "model"
    options = (*TINY, "--level", "byte", "--epochs", 30)
    first, *_ = run("train", tmp_path / "latin.txt", "-o", model, *options).splitlines()
    assert first == "495 bytes, 5 different ones"
    arguments = command("generate", model, "--prompt", os.fsdecode(b"caf\xe9"), "-n", 6, "--temperature", 0)
    done = subprocess.run(arguments, capture_output=True, check=True)
    assert done.stdout == (LATIN + LATIN + "\n").encode("latin-1")
    assert "recurrent.l0" in run("diagnose", model, tmp_path / "latin.txt")


def test_text_comes_from_standard_input_too(text_file, tmp_path):
    models = tmp_path / "one", tmp_path / "other"
    options = (*TINY, "--epochs", 1)
    run("train", text_file, text_file, "-o", models[0], *options)
    marked = b"\xef\xbb\xbf" + text_file.read_bytes().replace(b"\n", b"\r\n")
    arguments = command("train", "-", text_file, "-o", models[1], *options)
    done = subprocess.run(arguments, input=marked, capture_output=True, check=True)
    assert done.stdout.startswith(b"1,920 characters, 11 different ones")
    loaded = [TextGenerator.load(path).generate("the", 50, seed=1) for path in models]
    assert loaded[0] == loaded[1]
    with open(text_file) as file:
        diagnosed = subprocess.run(command("diagnose", models[0], "-"), stdin=file, capture_output=True)
    assert diagnosed.stdout.decode() == run("diagnose", models[0], text_file)


def test_every_parameter_is_an_option():
    others = {"vocabulary", "verbose", "layer_options", "network"}
    assert set(cli.PARAMETERS) == set(TextGenerator().get_params()) - others


def test_generate_goes_on_from_a_new_line_by_default(model_file, capsys):
    options = "-n 5 --top-k 3 --top-p 0.9 --seed 1".split()
    assert cli.main(["generate", str(model_file), *options]) == 0
    expected = TextGenerator.load(model_file).generate("\n", 5, top_k=3, top_p=0.9, seed=1)
    assert capsys.readouterr().out == f"\n{expected}\n"


def test_generate_writes_as_it_goes_until_nobody_reads(model_file):
    """It has more to write than anyone waits for, so what arrives has not waited for the end."""
    arguments = command("generate", model_file, "--prompt", "the", "-n", 10**9)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(20).startswith(b"the")
        process.stdout.close()
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


def test_info_is_show_config(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    fastrnn.show_config()
    assert out == capsys.readouterr().out != ""


def test_info_of_a_file_says_what_it_holds(text_file, model_file, tmp_path):
    said = run("info", model_file)
    assert "model     TextGenerator(cell='lstm', hidden_size=8, num_layers=1" in said
    assert re.search(r"trained   3 epochs, \d+\.\d s; the weights are of epoch \d: validation loss \d", said)
    assert re.search(r"^  recurrent\.weight_hh_l0 +float32  32 × 8$", said, re.MULTILINE)
    weights, _ = checkpoint.load(model_file)
    assert f"weights   {sum(array.size for array in weights.values()):,}\n" in said
    run("train", text_file, "-o", tmp_path / "m", *TINY, "--epochs", 1, "--checkpoint", tmp_path / "c")
    assert ", and the state of its training (--resume)\n" in run("info", tmp_path / "c")
    assert run("info", tmp_path / "c").splitlines()[1:] == run("info", tmp_path / "m").splitlines()[1:]
    checkpoint.save(tmp_path / "own", {"w": np.ones((2, 3))}, {"model": "mine"})
    assert run("info", tmp_path / "own").splitlines()[1:] == ["weights   6", "  w  float64  2 × 3"]


def test_everything_fits_into_80_columns(model_file, text_file, tmp_path):
    environment = {**os.environ, "COLUMNS": "80"}
    arguments = [[], *([name, "--help"] for name in COMMANDS), ["info"], ["info", model_file], ["examples"]]
    arguments += [["train", text_file, "-o", tmp_path / "m", *TINY, "--epochs", 2]]
    for given in arguments:
        done = subprocess.run(command(*given), capture_output=True, env=environment, encoding="utf-8")
        told = [line for line in done.stdout.splitlines() if str(tmp_path) not in line]
        assert told and max(map(len, told)) <= 80, given


COMMANDS = ("train", "generate", "diagnose", "demo", "examples", "convert", "info")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_help_are_commands(name, capsys):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    shown = capsys.readouterr().out.partition("\nexamples:\n")[2].splitlines()
    assert shown and all(cli._options(shlex.split(line)[1:]) for line in shown)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("train missing.txt -o m", r"No such file or directory: 'missing.txt'"),
        ("train . -o m", r"Is a directory: '\.'"),
        ("train cat.txt missing.txt -o m", r"No such file or directory: 'missing.txt'"),
        ("train latin.txt -o m", r"'latin.txt' is not UTF-8 text: .* at byte 3; a model of --level byte"),
        ("train empty.txt -o m", "text must have at least one character, got an empty str"),
        ("train cat.txt -o nowhere/m", "No such file or directory: 'nowhere/m'"),
        ("train cat.txt -o m --checkpoint nowhere/c", "No such file or directory: 'nowhere/c'"),
        ("train cat.txt -o .", r"Is a directory: '\.'"),
        ("train cat.txt -o -", "-o must be a file, got '-': standard output has the messages"),
        ("train cat.txt -o cat.txt", "-o must be another file than FILE 'cat.txt', got 'cat.txt'"),
        ("train latin.txt cat.txt -o ./cat.txt", "must be another file than FILE 'cat.txt', got './cat.txt'"),
        ("train cat.txt -o link", "-o must be another file than FILE 'cat.txt', got 'link'"),
        ("train cat.txt -o hard", "-o must be another file than FILE 'cat.txt', got 'hard'"),
        ("train link -o sub/../cat.txt", "-o must be another file than FILE 'link', got 'sub/../cat.txt'"),
        ("train cat.txt -o m --checkpoint m", "-o must be another file than --checkpoint 'm', got 'm'"),
        ("train cat.txt -o m --checkpoint sub/../m", "-o must be another file than --checkpoint 'sub"),
        ("train cat.txt -o model --resume model", "-o must be another file than --resume 'model'"),
        ("train cat.txt -o m --checkpoint hard", "--checkpoint must be another file than FILE 'cat.txt'"),
        ("train cat.txt -o m --checkpoint -", "--checkpoint must be a file, got '-'"),
        ("train cat.txt -o m --cell elman", "cell must be one of 'lstm', 'gru', .*got 'elman'"),
        ("train cat.txt -o m --learning-rate nan", "learning_rate must be a positive finite number"),
        ("generate missing", "No such file or directory: 'missing'"),
        ("generate .", r"Is a directory: '\.'"),
        ("diagnose cat.txt model", "did you swap the arguments\\? MODEL comes first, then DATA"),
        ("info cat.txt", "'cat.txt' is no model that fastrnn reads, but text"),
        ("convert cat.txt model.onnx", "'cat.txt' is no model that fastrnn reads, but text"),
        ("generate cat.txt", "'cat.txt' is not a readable model file: no safetensors file, or a damaged one"),
        ("generate regressor", "'regressor' holds no TextGenerator, but 'SequenceRegressor'"),
        ("generate half", "'half' is not a readable model file"),
        ("generate model --prompt Ünix", r"prompt must use .*, got 'Ü' \(U\+00DC\), 'i' \(U\+0069\)"),
        ("generate model --prompt=", "prompt must have at least one character"),
        ("generate model --temperature -1", "temperature must be a non-negative finite number, got -1.0"),
        ("generate model -n -1", "n must be a non-negative integer, got -1"),
    ],
)
def test_errors_are_one_readable_line(tmp_path, model_file, monkeypatch, capsys, arguments, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.txt").write_text(PATTERN * 40)
    (tmp_path / "latin.txt").write_bytes("cafés".encode("latin-1") * 10)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "model").write_bytes(model_file.read_bytes())
    (tmp_path / "half").write_bytes(model_file.read_bytes()[:500])
    (tmp_path / "link").symlink_to("cat.txt")
    (tmp_path / "hard").hardlink_to("cat.txt")
    (tmp_path / "sub").mkdir()
    X = np.ones((4, 3, 1))
    SequenceRegressor(epochs=0, validation_fraction=0).fit(X, np.arange(4.0)).save("regressor")
    before = sorted(os.listdir())
    assert cli.main(arguments.split()) == 1
    said = capsys.readouterr()
    assert re.fullmatch(rf"fastrnn: error: .*{error}.*\n", said.err)
    assert "epoch" not in said.out
    assert sorted(os.listdir()) == before and (tmp_path / "cat.txt").read_text() == PATTERN * 40


def test_an_error_of_any_kind_is_one_line(text_file, tmp_path, capsys, monkeypatch):
    for error, words in (
        (KeyError("x"), "KeyError: 'x'"),
        (OSError("two\nlines"), "two lines"),
        (MemoryError(), "MemoryError"),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(TextGenerator, "fit", fail)
        assert cli.main(["train", str(text_file), "-o", str(tmp_path / "m")]) == 1
        assert capsys.readouterr().err == f"fastrnn: error: {words}\n"


def test_a_device_for_the_model_stays_one(text_file, tmp_path):
    """And gets the bytes of one model, not of one after every epoch."""
    os.mkfifo(tmp_path / "pipe")
    arguments = command("train", text_file, "-o", tmp_path / "pipe", *TINY, "--epochs", 3)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        (tmp_path / "copy").write_bytes((tmp_path / "pipe").read_bytes())
    assert process.returncode == 0
    assert len(TextGenerator.load(tmp_path / "copy").history_) == 3
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    run("train", text_file, "-o", "/dev/null", *TINY, "--epochs", 1)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_training_goes_on_into_its_own_checkpoint(text_file, tmp_path):
    model, run_file = tmp_path / "model", tmp_path / "run"
    options = (*TINY, "--schedule", "constant", "--checkpoint", run_file)
    run("train", text_file, "-o", model, *options, "--epochs", 1)
    run("train", text_file, "-o", model, *options, "--epochs", 3, "--resume", run_file)
    assert len(TextGenerator.load(run_file).history_) == 3
    assert "training" in checkpoint.load(run_file)[1]


def test_divergence_is_a_line_of_warning(text_file, tmp_path):
    options = (*TINY, "--epochs", 2, "--learning-rate", 1e6)
    arguments = command("train", text_file, "-o", tmp_path / "m", *options)
    done = subprocess.run(arguments, capture_output=True, text=True)
    warned = r"fastrnn: warning: the training has diverged: its loss is \S+, where guessing has 2\.\d+; .*\n"
    assert re.fullmatch(warned, done.stderr) and done.returncode == 0


POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


@pytest.mark.parametrize(
    ("encoding", "changed"),
    [("ascii", POSIX), *((name, {"PYTHONIOENCODING": name}) for name in ("ascii", "latin-1", "utf-8"))],
)
def test_what_the_terminal_cannot_show_does_not_end_a_text(tmp_path, encoding, changed):
    text = "zwölf Boxkämpfer “jagen” Viktor. " * 20
    (tmp_path / "text").write_text(text, encoding="utf-8")
    TextGenerator(hidden_size=8, epochs=1, bptt_steps=9, seed=0).fit(text).save(tmp_path / "model")
    environment = {**os.environ, **changed}
    written = ["generate", tmp_path / "model", "--prompt", "z", "-n", 200, "--seed", 1]
    done = subprocess.run(command(*written), env=environment, capture_output=True, check=True)
    expected = "z" + TextGenerator.load(tmp_path / "model").generate("z", 200, seed=1) + "\n"
    assert not expected.isascii() and done.stdout == expected.encode(encoding, "replace")
    diagnosed = command("diagnose", tmp_path / "model", tmp_path / "text")
    done = subprocess.run(diagnosed, env=environment, capture_output=True, check=True)
    assert b"recurrent.l0" in done.stdout and done.stderr == b""


@pytest.mark.parametrize("arguments", [[], ["help"], ["help", "train"], ["train", "--help"]])
def test_help(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 0
    said = capsys.readouterr()
    command = " train" if "train" in arguments else ""
    assert said.out.startswith(f"usage: fastrnn{command} [-h]") and said.err == ""


@pytest.mark.parametrize(
    ("arguments", "command", "words"),
    [
        ("train f -o m --hiden-size 8", "train", "--hiden-size 8; did you mean --hidden-size?"),
        ("train f -o m --learning_rate=1", "train", "--learning_rate=1; did you mean --learning-rate?"),
        ("generate m --temprature 1", "generate", "--temprature 1; did you mean --temperature?"),
        ("demo --xyz", "demo", "--xyz"),
        ("info m --verbos", "info", "--verbos"),
    ],
)
def test_a_slip_is_answered_by_the_command_it_is_in(capsys, arguments, command, words):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.split())
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"usage: fastrnn {command} ")
    assert said.endswith(f"\nfastrnn {command}: error: unrecognized arguments: {words}\n")


@pytest.mark.parametrize("arguments", ["fly", "train", "train x", "generate m -n many"])
def test_wrong_usage_is_explained(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: fastrnn")


def test_ctrl_c_leaves_the_best_so_far_and_says_where(text_file, tmp_path):
    model = tmp_path / "model.safetensors"
    endless = ("--epochs", 10**9, "--patience", 10**9)
    arguments = command("train", text_file, "-o", model, *TINY, *endless)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(arguments, **pipes) as process:
        while not process.stdout.readline().startswith("epoch   2"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (128 + signal.SIGINT, "fastrnn: interrupted\n")
    loaded = TextGenerator.load(model)
    assert out.splitlines()[-1] == (
        f"the weights of epoch {loaded.best_epoch_}, {loaded.best_bits_per_character_:.3f} bits "
        f"per character in validation, are in {model}"
    )
    assert len(loaded.generate("the", 10)) == 10
    assert sorted(os.listdir(tmp_path)) == ["cat.txt", "model.safetensors"]


def test_ctrl_c_in_the_first_epoch_leaves_the_weights(text_file, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Sequential, "forward", interrupted)
    model = tmp_path / "model.safetensors"
    assert cli.main(["train", str(text_file), "-o", str(model), *TINY]) == 128 + signal.SIGINT
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"the weights, 0 epochs old and not validated, are in {model}"
    assert len(TextGenerator.load(model).generate("the", 10)) == 10


def test_diverged_training_keeps_the_last_good_model(text_file, tmp_path, capsys, monkeypatch):
    save = TextGenerator.save

    def save_and_fail(self, path):
        save(self, path)
        raise FloatingPointError("the loss became nan")

    monkeypatch.setattr(TextGenerator, "save", save_and_fail)
    model = tmp_path / "model.safetensors"
    assert cli.main(["train", str(text_file), "-o", str(model), *TINY]) == 1
    assert capsys.readouterr().err == "fastrnn: error: the loss became nan\n"
    assert len(TextGenerator.load(model).history_) == 1


class TestDemo:
    @pytest.fixture
    def text(self, monkeypatch):
        """A small demo: of which the last tenth is like nothing before."""
        text = "The cat sat. " * 90 + "Dogs bark. " * 12
        monkeypatch.setattr(demo, "prose", lambda: text)
        monkeypatch.setattr(demo, "PARAMETERS", {"hidden_size": 8, "epochs": 3, "batch_size": 4, "seed": 0})
        return text

    def test_shows_what_was_learned(self, text, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        assert cli.main(["demo", "-o", str(tmp_path / "results")]) == 0
        out = capsys.readouterr().out
        steps = ["the baseline, ", "--- before training", "epoch   1", "epoch   3", "--- after training"]
        assert sorted(steps, key=out.index) == steps
        assert re.search(r"held out: \d+\.\d{3} bits per character; the baseline: \d+\.\d{3}", out)
        assert len(TextGenerator.load(tmp_path / "results" / "model.safetensors").history_) == 3
        assert (tmp_path / "results" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")

    def test_no_model_sees_the_held_out_text(self, text, tmp_path, monkeypatch):
        seen = []
        for model, name in [(TextGenerator, "fit"), (demo.NGram, "__init__")]:
            learn = getattr(model, name)

            def recorded(self, text, learn=learn, **options):
                seen.append(text)
                return learn(self, text, **options)

            monkeypatch.setattr(model, name, recorded)
        demo.run(str(tmp_path))
        assert len(seen) == 3 and set(seen) == {text[: len(text) * 9 // 10]}

    @pytest.mark.parametrize("name", ["model.safetensors", "learning_curve.png"])
    def test_what_cannot_be_written_is_found_first(self, tmp_path, capsys, name):
        (tmp_path / name).mkdir()
        assert cli.main(["demo", "-o", str(tmp_path)]) == 1
        said = capsys.readouterr()
        assert said.err == f"fastrnn: error: Is a directory: '{tmp_path / name}'\n" and said.out == ""

    def test_without_matplotlib_says_what_is_missing(self, text, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        demo.run(str(tmp_path))
        assert "pip install matplotlib, or the extra fastrnn[plot]" in capsys.readouterr().out
        assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_demos_prose_is_there():
    text = demo.prose()
    assert len(text) > 300_000 and "statement" in text


@pytest.mark.parametrize("name", examples.NAMES)
def test_an_example_finds_first_that_its_figure_cannot_be_written(name, tmp_path, capsys):
    (tmp_path / f"{name}.png").mkdir()
    assert cli.main(["examples", name, "-o", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.err == f"fastrnn: error: Is a directory: '{tmp_path / name}.png'\n" and said.out == ""


def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments in (["demo"], ["examples", "recall"]):
        assert cli.main([*arguments, "-o", str(tmp_path / "file")]) == 1
        assert capsys.readouterr().err == f"fastrnn: error: File exists: '{tmp_path / 'file'}'\n"
