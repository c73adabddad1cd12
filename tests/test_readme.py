"""The README's Python runs as it stands, block after block, and prints what it says."""

from pathlib import Path

import pages
import pytest

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names = {}
    printed = pages.run(README, names)
    assert names["loss"] < 0.01
    written = printed.rpartition("mean squared error ")[2].split("\n", 1)[1][:201]
    assert len(written) == 201 and set(written) <= {*names["prose"](), "\n"}
    assert (tmp_path / "model.safetensors").exists()
