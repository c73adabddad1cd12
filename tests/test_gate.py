"""What the speed gate (bench/gate.py) makes of what it has measured."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))
gate = pytest.importorskip("gate")

FAST, SLOW, NOISY = (1.01, 1.0), (0.89, 1.01), (0.80, 0.85)


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ([FAST] * 4, 0),
        ([(0.91, 1.0)] + [FAST] * 3, 0),  # one shape may be a little slower
        ([(0.94, 1.0)] * 4, 1),  # all may not
        ([SLOW] + [FAST] * 3, 1),
        ([NOISY] + [FAST] * 3, 3),
        ([NOISY, SLOW] + [FAST] * 3, 1),
        ([(0.94, 0.94)] * 4, 3),  # the base is as far from itself
    ],
)
def test_verdict(seen, code):
    measured = dict(zip(((case, 1) for case in gate.CASES), seen, strict=False))
    assert gate._verdict(measured) == code


def test_what_fails_is_measured_again(monkeypatch):
    """In the first round one shape is slow by chance."""
    rounds = []

    def measured(pairs, paths):
        rounds.append(pairs)
        return {pair: SLOW if len(rounds) == 1 and pair is pairs[0] else FAST for pair in pairs}

    monkeypatch.setattr(gate, "_commit", str)
    monkeypatch.setattr(gate, "_built", str)
    monkeypatch.setattr(gate, "_measured", measured)
    monkeypatch.setattr(sys, "argv", ["gate.py", "HEAD"])
    assert gate.main() == 0
    assert [len(pairs) for pairs in rounds] == [len(rounds[0]), 1, 0]
