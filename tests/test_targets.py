"""Exported C on other processors: a few steps by each compiler that is here; tools/targets.py does many."""

import importlib.util
import sys
from pathlib import Path

import pytest

from fastrnn import _core

TOOL = Path(__file__).parent.parent / "tools" / "targets.py"
STEPS = 800  # in which all kinds of inputs come
NAMES = ("lstm", "int8_text")  # none of float64: libgcc's, where a processor has none, is off now and then

if TOOL.exists():
    spec = importlib.util.spec_from_file_location("targets", TOOL)
    targets = importlib.util.module_from_spec(spec)
    sys.modules["targets"] = targets
    spec.loader.exec_module(targets)
    CHOSEN = {
        f"{each.processor}-{each.compiler}-{'fused' if each.fused else 'plain'}": each
        for each in targets.targets()
        if each.options.split()[0] == "-O2" and not targets.FORCED.search(each.options)
    }
else:
    CHOSEN = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("targets")
    targets.exported(made, {name: targets.NETWORKS[name] for name in NAMES})
    return made


@pytest.mark.skipif(not CHOSEN, reason="tools/targets.py is not here")
@pytest.mark.skipif(
    not {"avx2", "baseline"} <= {*_core.config()["isas"]}, reason="needs kernels with and without FMA"
)
@pytest.mark.parametrize("name", CHOSEN)
def test_bits(name, folder):
    target = CHOSEN[name]
    if missing := target.missing():
        pytest.skip(f"{missing} is not installed")
    program = target.build(folder, NAMES)
    for each in NAMES:
        files = targets.truth(folder, target.fused, STEPS, NAMES)
        steps, numbers, differing, first = target.run(
            program, each, files / f"{each}.x", files / f"{each}.y", STEPS
        )
        assert (steps, differing) == (STEPS, 0), f"{each}: {differing} of {numbers} differ, from step {first}"
