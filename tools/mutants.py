"""Small faults are put into a module, one at a time, and the tests that belong to it must notice each.

``python tools/mutants.py [MODULE…]``: mutmut does it, in build/mutants/MODULE; there ``mutmut browse`` shows
what has survived, and a later run tries only functions that have changed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from fastrnn import _core

ROOT = Path(__file__).resolve().parent.parent
TESTS = {  # of a module; those of all that stands on it would take hours
    "checks": ["checks.py", "metrics.py", "labels.py"],
    "optim": ["optim.py"],
    "training": ["training.py", "fit.py"],
    "data": [
        "data.py",
        "panel.py",
        "scaling.py",
        "symbols.py",
        "frames.py",
        "fit.py",
        "forecaster.py::test_windows_hold_what_a_loop_would_put_there",
        "forecaster.py::test_validation_forecasts_the_end_and_training_does_not_see_it",
        "forecaster.py::test_scales_are_undone_and_what_does_not_vary_is_zero",
    ],
}
SOME = "not reference and not (torch and float32) and not warning_shows"  # the same again; sees mutmut
SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/fastrnn/{module}.py", "src/fastrnn/{module}/*"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider"]
process_isolation = "forkserver"
timeout_constant = 10.0
timeout_multiplier = 5.0
"""
MUTMUT = "import torch; from mutmut.__main__ import cli; cli()"  # once, not in each process


def prepared(module: str) -> Path:
    """A folder as mutmut wants it: the sources in src, the compiled module among them, and its settings."""
    place = ROOT / "build" / "mutants" / module
    package = place / "src" / "fastrnn"
    shutil.copytree(ROOT / "python" / "fastrnn", package, dirs_exist_ok=True)
    shutil.copy2(_core.__file__, package)
    shutil.copytree(ROOT / "tests", place / "tests", dirs_exist_ok=True)
    tests = [f"tests/test_{name}" for name in TESTS[module]] + ["-k", SOME]
    settings = SETTINGS.format(module=module, tests=json.dumps(tests))
    (place / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)
    return place


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("modules", nargs="*", default=TESTS, metavar="MODULE")
    what = "only mutants whose number in their function ends in one of these: 37 are a fifth of them"
    parser.add_argument("--digits", default="", help=what)
    given = parser.parse_args()
    command = [sys.executable, "-c", MUTMUT, "run", "--max-children", "1", *(f"*{k}" for k in given.digits)]
    for module in given.modules:
        place = prepared(module)
        environment = {**os.environ, "PYTHONPATH": str(place / "mutants" / "src")}  # of what tests start, too
        subprocess.run(command, cwd=place, env=environment, check=True)
