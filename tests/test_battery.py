"""A tenth of the battery (tests/battery), and that each of its parts notices what is put in on purpose."""

import numpy as np
import pytest
from battery import PARTS, missing, run, seeded
from battery._calls import SOURCES
from battery._parts import module_of

from fastrnn import functional, interop, layers, losses, models, training

#: What is public and no call with arguments of its own: records, bases, and what others return.
UNCALLED = {"CellFunction", "Gradients", "Options", "Parameters", "Reserve", "Stack", "StackGradients"}
UNCALLED |= {"StackReserve", "CELLS", "Activation", "Layer", "Pooling", "Recurrent", "Stream", "Compressible"}
UNCALLED |= {"SCHEDULES", "StopTraining", "Network", "Training", "Compression"}
#: What reads and writes files of Keras: `targets` and `files` do that.
UNCALLED |= {"from_keras", "to_keras"}


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


@pytest.mark.parametrize("part", ["inputs"])
def test_bad_arguments_are_for_everything_public(part):
    pytest.importorskip("onnx")
    pytest.importorskip("torch")
    goods = [source(np.random.default_rng(seed)) for source in SOURCES for seed in range(40)]
    names = {name for some in goods for name, _ in some}
    called = {name.partition(" ")[0].partition(".")[0] for name in names}
    public = {name for module in (functional, layers, models, training, interop) for name in module.__all__}
    assert (public | set(losses.LOSSES)) - called == UNCALLED
