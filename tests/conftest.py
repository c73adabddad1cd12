"""Fixtures that several test files share."""

import signal

import numpy as np
import pytest

from fastrnn.backend import BACKENDS, use_backend
from fastrnn.config import _core

# A shell lets what it starts in the background ignore Ctrl-C, and so would those that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    config.addinivalue_line("markers", "case(page, what, remark, works): a row of a table: see tables.py")


@pytest.fixture
def rng():
    return np.random.default_rng(20261122)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Each backend in turn, in use."""
    if request.param == "native":
        pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    with use_backend(request.param):
        yield request.param


@pytest.fixture(params=_core.config()["isas"] if _core else [])
def isa(request):
    """Each ISA that the machine has in turn, in use."""
    before = _core.config()["isa"]
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture
def threads():
    """Sets the number of threads, all of which then work whatever else the machine is doing."""
    core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    core.insist_on_teams(True)
    yield core.set_num_threads
    core.insist_on_teams(False)
    core.set_num_threads(0)


@pytest.fixture
def one_torch_thread():
    """PyTorch at work on one thread: on more, small calls wait for the last where the machine is busy.

    Its random numbers are the same in each run.
    """
    torch = pytest.importorskip("torch")
    torch.manual_seed(20261122)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
