"""Small faults are put into a module, one at a time, and the tests that belong to it must notice each.

``python tools/mutants.py [MODULE…]``; mutmut does it, in build/mutants/MODULE: there ``mutmut browse`` shows
what has survived, and a later run tries only functions that have changed.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from fastrnn import _core

ROOT = Path(__file__).resolve().parent.parent
TESTS = {  # of a module; those of all that stands on it would take hours
    "checks": ["checks", "metrics", "labels"],
    "optim": ["optim"],
    "training": ["training", "fit"],
    "data": ["data", "panel", "scaling", "symbols", "masked", "weighting"],
}
SOME = "not reference and not warning_shows"  # Python's part is the same; a frame of mutmut's is between
SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/fastrnn/{module}.py", "src/fastrnn/{module}/*"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider"]
process_isolation = "forkserver"
timeout_multiplier = 8.0
"""
MUTMUT = "import torch; from mutmut.__main__ import cli; cli()"  # once, not in each process


def prepared(module: str) -> Path:
    """A folder as mutmut wants it: the sources in src, the compiled module among them, and its settings."""
    place = ROOT / "build" / "mutants" / module
    package = place / "src" / "fastrnn"
    shutil.copytree(ROOT / "python" / "fastrnn", package, dirs_exist_ok=True)
    shutil.copy2(_core.__file__, package)
    shutil.copytree(ROOT / "tests", place / "tests", dirs_exist_ok=True)
    tests = [f"tests/test_{name}.py" for name in TESTS[module]] + ["-k", SOME]
    settings = SETTINGS.format(module=module, tests=json.dumps(tests))
    (place / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)
    return place


if __name__ == "__main__":
    for module in sys.argv[1:] or TESTS:
        command = [sys.executable, "-c", MUTMUT, "run", "--max-children", "1"]
        subprocess.run(command, cwd=prepared(module), env={**os.environ, "PYTHONPATH": ""}, check=True)
