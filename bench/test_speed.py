"""How long fastrnn takes for each case, by pytest-benchmark, whose `--benchmark-autosave` and
`--benchmark-compare` watch it over time. No limit is asserted."""

from __future__ import annotations

import pytest

from cases import CASES
from peers.fastrnn import Peer
from probe import processors


@pytest.fixture(scope="module")
def peer():
    return Peer(processors())


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.inside_torch], ids=lambda case: f"{case.set} {case}"
)
def test_speed(peer, benchmark, case):
    benchmark.group = case.set
    (run,) = peer.runs(case, case.data()).values()
    benchmark.extra_info["flops"] = case.flops()
    benchmark(run.call)
