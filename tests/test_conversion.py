"""`fastrnn info` of files of every system, and `fastrnn convert` from each to each."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from mutations import survives

import fastrnn
from fastrnn import cli, conversion, interop
from fastrnn.layers import GRU, LSTM, Last, Linear, Sequential, Tanh
from fastrnn.models import SequenceClassifier

TORCH = Path(__file__).parent / "recorded" / "torch"
NEEDS = {".onnx": "onnx", ".keras": "h5py", ".pt": "torch", ".safetensors": "safetensors"}


def network(**options):
    return Sequential(
        gru=GRU(3, 4, 2, bidirectional=True, batch_first=True, seed=0, **options),
        last=Last(),
        head=Linear(8, 2, seed=1),
        tanh=Tanh(),
    )


def said(capsys, *arguments):
    """What a command prints that succeeds."""
    assert cli.main([str(each) for each in arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments):
    """What a command says that does not: in a line."""
    assert cli.main([str(each) for each in arguments]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch("fastrnn: error: .*\n", err) and out == ""
    return err


class TestInfo:
    def test_of_a_layer(self, capsys, tmp_path):
        network().save(tmp_path / "layer")
        out = said(capsys, "info", tmp_path / "layer")
        assert re.match(r"file      [\d,]+ bytes, a layer\nlayer     Sequential\(\n {12}\(gru\): GRU", out)
        assert f"\nweights   {sum(map(np.size, network().parameters.values())):,}\n  gru.bias_hh_l0 " in out
        assert re.search(r"\n  head.weight +float32  2 × 8\n$", out)

    def test_of_a_model_that_was_given_its_network(self, capsys, tmp_path):
        SequenceClassifier.from_network(network(), ["a", "b"]).save(tmp_path / "model")
        out = said(capsys, "info", tmp_path / "model")
        assert re.search(r"\nnetwork   Sequential\(\n {12}\(gru\): GRU\(3, 4, num_layers=2, bidir", out)
        assert "network=" not in out and "class" not in out

    def test_of_a_file_that_is_a_network(self, capsys):
        out = said(capsys, "info", TORCH / "sequential.pt")
        assert out.splitlines()[1:5] == [
            "network   Sequential(",
            "            (0): Linear(4, 6)",
            "            (1): Tanh()",
            "            (2): RNN(6, 5, nonlinearity='relu')",
        ]
        assert "file of PyTorch\n" in out and "\n  2.weight_hh_l0  float32  5 × 5\n" in out

    def test_of_a_file_that_asks(self, capsys):
        """What cannot be told, the layers that there are, and the arrays as they are."""
        out = said(capsys, "info", TORCH / "whole.pt")
        assert max(map(len, out.splitlines())) <= 80
        out = " ".join(out.split())
        assert "a file of PyTorch refused '" in out and "order must be given: nothing tells in which" in out
        assert "layer rnn: GRU(4, 5, num_layers=2, batch_first=True, dropout=0.1) weights 446 emb" in out
        out = " ".join(said(capsys, "info", TORCH / "state_dict.pt").split())
        assert (
            "order must be given" in out and "layers refused too: '" in out and "batch_first must be" in out
        )
        assert "fc.weight float32 3 × 10" in out
        assert said(capsys, "info", TORCH / "bfloat16.pt").count("refused") == 1
        assert "  weight_ih_l0  bfloat16  20 × 4\n" in said(capsys, "info", TORCH / "bfloat16.pt")

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("system", ["torch", "onnx", "keras"])
    def test_of_every_recorded_file(self, system, capsys):
        if system in ("onnx", "keras"):
            pytest.importorskip({"onnx": "onnx", "keras": "h5py"}[system])
        for path in (TORCH.parent / system).iterdir():
            if path.is_file() and path.suffix != ".py":
                out = said(capsys, "info", path)
                assert re.search(r"^weights   [1-9]", out, re.MULTILINE), path
                assert re.search(r"^(network|layer|refused)\b", out, re.MULTILINE), path

    def test_of_mutated_files(self, capsys, tmp_path):
        files = [TORCH / "sequential.pt", TORCH / "whole.pt", TORCH / "arrays.npz"]
        assert survives(lambda path: conversion.tell(str(path)), files, 90, tmp_path) > 30

    def test_of_an_onnx_model(self, capsys, tmp_path):
        pytest.importorskip("onnx")
        interop.to_onnx(network(), tmp_path / "model")
        out = said(capsys, "info", tmp_path / "model")
        assert "an ONNX model\nnetwork   Sequential(" in out and re.search(r"float32  2 × 12 × 3\n", out)

    def test_of_a_model_of_keras(self, capsys, tmp_path):
        pytest.importorskip("h5py")
        interop.to_keras(network(), tmp_path / "model.keras")
        out = said(capsys, "info", tmp_path / "model.keras")
        assert "a model of Keras\nnetwork   Sequential(" in out and re.search(
            r"/vars/0 +float32  8 × 2\n", out
        )

    def test_of_what_is_no_model(self, capsys, tmp_path):
        (tmp_path / "text").write_text("words")
        assert "is no model that fastrnn reads, but text" in refused(capsys, "info", tmp_path / "text")


class TestConvert:
    def test_to_what_is_no_file(self, capsys, tmp_path):
        network().save(tmp_path / "start")
        (tmp_path / "null.safetensors").symlink_to(os.devnull)
        out = said(capsys, "convert", tmp_path / "start", tmp_path / "null.safetensors")
        assert out.startswith("network   Sequential(") and "written" not in out

    @pytest.mark.parametrize("first", NEEDS)
    @pytest.mark.parametrize("second", NEEDS)
    def test_from_each_to_each(self, first, second, capsys, tmp_path, rng):
        for ending in (first, second):
            pytest.importorskip(NEEDS[ending])
        network().save(tmp_path / "start")
        words = "--order gru Last(bidirectional=True) head Tanh --batch-first"
        answers, last = words.split() if first == ".pt" else [], Last(bidirectional=True)
        said(capsys, "convert", tmp_path / "start", tmp_path / f"first{first}")
        out = said(capsys, "convert", tmp_path / f"first{first}", tmp_path / f"second{second}", *answers)
        kind = {".onnx": "an ONNX model", ".keras": "a model of Keras", ".pt": "a file of PyTorch"}
        assert re.match(r"network   Sequential\(\n", out)
        assert re.search(rf"\nwritten   [\d,]+ bytes, {kind.get(second, 'a layer')}\n$", out)
        reading = {"order": ["gru", last, "head", Tanh()], "batch_first": True} if answers else {}
        options = {}
        if second == ".pt":
            made = fastrnn.load(tmp_path / f"first{first}", **reading)
            names = [name for name, layer in made.parts.items() if layer.parameters]
            options = {"order": [*names[:-1], last, names[-1], Tanh()], "batch_first": True}
        again = fastrnn.load(tmp_path / f"second{second}", **options)
        x = rng.normal(size=(5, 6, 3)).astype("float32")
        np.testing.assert_allclose(again(x), network()(x), rtol=0, atol=1e-6)

    @pytest.mark.filterwarnings("always")
    def test_the_network_of_a_model(self, capsys, tmp_path):
        model = SequenceClassifier.from_network(network(), ["a", "b"])
        model.save(tmp_path / "model")
        assert cli.main(["convert", str(tmp_path / "model"), str(tmp_path / "out.safetensors")]) == 0
        warning = "of the SequenceClassifier its network is written, but no vocabulary, classes or scaling"
        assert capsys.readouterr().err == f"fastrnn: warning: {warning}\n"
        assert repr(fastrnn.load(tmp_path / "out.safetensors")) == repr(model.network_)

    def test_with_weights_of_fewer_bits(self, capsys, tmp_path):
        network().save(tmp_path / "in")
        out = said(capsys, "convert", tmp_path / "in", tmp_path / "out.safetensors", "--weights", "int8")
        found = fastrnn.load(tmp_path / "in", weights="int8")
        assert out.startswith("network   Sequential(\n") and ".compress('int8')\n" in out
        assert repr(fastrnn.load(tmp_path / "out.safetensors")) == repr(found)
        out = said(capsys, "info", tmp_path / "out.safetensors")
        assert re.search(r"\(head\): Linear\(8, 2\)\.compress\('int8'\)\n", out)
        assert re.search(r"head\.weight +int8  2 × 8\n", out)

    def test_a_model_with_weights_of_fewer_bits_stays_whole(self, capsys, tmp_path):
        SequenceClassifier.from_network(network(), ["a", "b"]).save(tmp_path / "in")
        said(capsys, "convert", tmp_path / "in", tmp_path / "out.safetensors", "--weights", "bfloat16")
        model = fastrnn.load(tmp_path / "out.safetensors")
        assert model.classes_.tolist() == ["a", "b"] and model.network_.weights == "bfloat16"

    def test_options_of_the_writer(self, capsys, tmp_path):
        onnx = pytest.importorskip("onnx")
        Sequential(LSTM(3, 4, seed=0)).save(tmp_path / "in")
        said(capsys, "convert", tmp_path / "in", tmp_path / "out.onnx", "--states", "--lengths", "--tokens")
        names = [each.name for each in onnx.load(tmp_path / "out.onnx").graph.input]
        assert names == ["x", "lengths", "0.h_0", "0.c_0"]

    def test_words_of_an_order(self):
        words = "Last", "encoder.lstm", "LSTM", "ReLU", "fc", "Last(bidirectional=False)", "ELU(alpha=0.5)"
        found = [repr(conversion._part(word)) for word in words]
        assert found == ["Last()", "'encoder.lstm'", "'LSTM'", "ReLU()", "'fc'", *words[-2:]]
        for word in "Last(bidirectional=", "Last(mode=3)", "ELU(print(1))", "ELU(1) + ELU(2)":
            with pytest.raises(ValueError, match=r"--order '.*' is no layer"):
                conversion._part(word)

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            ("in out.txt", r"OUT must end in .safetensors, .onnx, .keras, .pt, got '\S*out.txt'"),
            ("in out", "OUT must end in"),
            ("in.safetensors in.safetensors", "OUT must be another file than IN"),
            ("in.safetensors ./in.safetensors", "OUT must be another file than IN"),
            ("in.safetensors nowhere/out.pt", "No such file or directory: 'nowhere/out.pt'"),
            ("missing out.pt", "No such file or directory: 'missing'"),
            (
                "in.safetensors out.safetensors --states",
                "--states goes with other files than 'in.safetensors' and",
            ),
            ("in.safetensors out.keras --batch-first", "--batch-first goes with other files"),
            ("in.safetensors out.onnx --weights int8", "--weights goes with OUT in .safetensors"),
            ("tanh.safetensors out.safetensors --weights int8", "weights goes with recurrent layers"),
            ("text out.safetensors", "'text' is no model that fastrnn reads, but text"),
            ("whole.pt out.safetensors", "order must be given"),
            ("whole.pt out.safetensors --order rnn Last nothing", "order names 'nothing'"),
        ],
    )
    def test_errors_are_a_line(self, words, error, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text").write_text("words")
        (tmp_path / "whole.pt").write_bytes((TORCH / "whole.pt").read_bytes())
        network().save("in.safetensors")
        network().save("in")
        Tanh().save("tanh.safetensors")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert re.search(error, refused(capsys, "convert", *words.split()))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
