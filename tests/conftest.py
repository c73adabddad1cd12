"""Fixtures that several test files share."""

import signal

import hypothesis
import numpy as np
import pytest
import tables

from fastrnn.backend import BACKENDS, use_backend
from fastrnn.config import _core

# A shell lets what it starts in the background ignore Ctrl-C, and so would those that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test says how long something may take: the machine may be busy, or emulated.
hypothesis.settings.register_profile("fastrnn", deadline=None)
hypothesis.settings.load_profile("fastrnn")


def pytest_addoption(parser):
    what = "write the tables in docs/howto/_tables from the marks of the tests that pass: see tables.py"
    parser.addoption("--tables", action="store_true", help=what)


def pytest_configure(config):
    config.addinivalue_line("markers", "case(page, what, remark, works): a row of a table: see tables.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    config.stash[tables.COLLECTED] = list(items)  # before -k and -m leave some out


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when == "call" and report.passed:
        item.stash[tables.PASSED] = True


def pytest_sessionfinish(session):
    if session.config.getoption("--tables"):
        tables.write(session.config.stash.get(tables.COLLECTED, []))


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


@pytest.fixture(autouse=True)
def as_nobody_had_set_it():
    """Each test leaves the number of threads to the tests after it."""
    yield
    if _core:
        assert _core.set_num_threads(0) == 0


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
