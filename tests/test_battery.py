"""A tenth of the battery (tests/battery), and that each of its parts notices what is put in on purpose."""

import pytest
from battery import PARTS, missing, run, seeded
from battery._parts import module_of


@pytest.fixture(autouse=True)
def _here(part):
    if why := missing(part):
        pytest.skip(why)


@pytest.mark.parametrize("part", PARTS)
def test_a_tenth_of_the_battery(part):
    tally, _ = run(part, share=0.1)
    assert not tally.failures


@pytest.mark.parametrize(("part", "fault"), [(p, fault) for p in PARTS for fault in module_of(p).FAULTS])
def test_the_battery_notices(part, fault):
    assert seeded(part, fault)
