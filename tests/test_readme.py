"""The README's Python runs as it stands, block after block."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    names = {"text": "The cat sat on the mat. " * 100}
    for block in blocks:
        exec(block, names)
    error, written = capsys.readouterr().out.split("\n", 1)
    assert float(error.removeprefix("mean squared error ")) < 0.01
    assert len(written) == 201 and set(written) <= set(names["text"]) | {"\n"}
    assert (tmp_path / "model.safetensors").exists()
