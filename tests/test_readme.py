"""The README's Python runs as it stands, block after block."""

from pathlib import Path

import pages

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"text": "The cat sat on the mat. " * 100}
    error, written = pages.run(README, names).split("\n", 1)
    assert float(error.removeprefix("mean squared error ")) < 0.01
    assert len(written) == 201 and set(written) <= set(names["text"]) | {"\n"}
    assert (tmp_path / "model.safetensors").exists()
