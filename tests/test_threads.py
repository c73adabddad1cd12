"""Teams of threads where others have the cores, or the system has no thread to give."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import fastrnn

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")

LARGE = (40, 32, 64)  # enough operations for a team


@pytest.fixture
def two_threads():
    fastrnn.set_num_threads(2)
    yield
    fastrnn.set_num_threads(0)


@pytest.fixture
def busy_machine():
    """Every core has something else to do."""
    spin = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    others = [subprocess.Popen(spin, stdout=subprocess.PIPE) for _ in range(2 * os.cpu_count())]
    for other in others:
        other.stdout.readline()
    yield
    for other in others:
        other.kill()
        other.communicate()


H128 = 4 * 4 * 128 * 128, 8  # what an LSTM with 128 units multiplies with: bytes, and blocks of 16 units


@pytest.mark.parametrize(
    "rows, weights, threads, grid",
    [
        (64, H128, 1, (1, 1)),
        (64, H128, 2, (2, 1)),  # a row needs no other
        (1, H128, 2, (1, 2)),  # one row: its units
        (1, (4 * 4 * 32 * 32, 2), 2, (1, 1)),  # too little for a barrier
        (64, (4 * 4 * 1024**2, 64), 2, (1, 2)),  # each one's half of the weights is nearer
        (8, (4 * 4 * 1024**2, 64), 64, (2, 32)),  # both
    ],
)
def test_how_a_step_is_shared(rows, weights, threads, grid):
    assert _core.grid(rows, *weights, threads)[:2] == grid


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize("hidden", [32, 100, 1000])
def test_more_threads_never_make_a_step_longer(rows, hidden):
    """By its estimate: some are left out where all would only wait for each other."""
    weights = 16 * hidden**2, (hidden + 15) // 16
    times = [_core.grid(rows, *weights, 2**k)[2] for k in range(8)]
    assert times == sorted(times, reverse=True)
    for k in range(8):
        row_groups, unit_groups, _ = _core.grid(rows, *weights, 2**k)
        assert row_groups <= rows
        assert row_groups * unit_groups <= 2**k


def counted(call):
    """What has become of teams during a call."""
    before = _core.config()["teams"]
    call()
    return {name: n - before[name] for name, n in _core.config()["teams"].items() if n != before[name]}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system does not tell")
def test_a_call_goes_alone_where_others_have_the_cores(two_threads, busy_machine):
    layer, x = fastrnn.LSTM(64, 50, seed=0), np.ones(LARGE, "float32")
    assert "others" in counted(lambda: layer(x))


def test_a_small_call_is_no_work_for_a_team(two_threads):
    layer = fastrnn.LSTM(4, 4)
    assert counted(lambda: layer(np.ones((3, 1, 4), "float32"))) == {"small": 1}


def test_one_thread_has_no_teams(threads):
    threads(1)
    layer = fastrnn.LSTM(64, 50)
    assert counted(lambda: layer(np.ones(LARGE, "float32"))) == {}


def test_one_team_is_at_work_at_a_time(threads):
    """The call of another thread runs alone meanwhile."""
    threads(2)
    layer, x = fastrnn.LSTM(64, 50, seed=0), np.ones(LARGE, "float32")
    y, _ = layer(x)
    results = []

    def run():
        results.extend(layer(x)[0] for _ in range(50))

    def both():
        others = [Thread(target=run) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join()

    found = counted(both)
    assert found["busy"] > 0
    assert found["team"] > 0
    assert all(np.array_equal(result, y) for result in results)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_a_team_of_its_own(threads):
    threads(2)
    layer, x = fastrnn.LSTM(64, 50, seed=0), np.ones(LARGE, "float32")
    y, _ = layer(x)
    child = os.fork()
    if child == 0:
        found = counted(lambda: os._exit(2) if not np.array_equal(layer(x)[0], y) else None)
        os._exit(0 if found.get("team") else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_being_alone_changes_no_bit(threads, busy_machine, rng):
    layer, x = fastrnn.LSTM(64, 50, seed=0), rng.standard_normal(LARGE).astype("float32")
    threads(3)
    y, _ = layer(x)
    _core.insist_on_teams(False)
    np.testing.assert_array_equal(layer(x)[0], y)


TOO_MANY = """
import os, resource
import numpy as np
import fastrnn

layer = fastrnn.LSTM(64, 50, bidirectional=True, seed=0)
x = np.random.default_rng(0).standard_normal((40, 32, 64)).astype("float32")
fastrnn.set_num_threads(1)
y, _ = layer(x)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (400 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
fastrnn.set_num_threads(1000)
from fastrnn import _core
_core.insist_on_teams(True)
for _ in range(3):
    assert np.array_equal(layer(x)[0], y)
    z, _, back = layer.forward(x)
    back(z)
counts = _core.config()["teams"]
assert counts["team"] > 0, counts
assert counts["refused"] > 0 or "100" not in os.environ.get("OMP_STACKSIZE", ""), counts
print("done")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("stack", ["", "100M", "100000", " 100000 k", "0x"])
def test_threads_that_the_system_refuses_make_a_smaller_team(stack):
    """Memory for some forty more stacks, or for three: OpenMP by itself would end the process."""
    env = {**os.environ, "OMP_STACKSIZE": stack} if stack else None
    command = [sys.executable, "-c", TOO_MANY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="this Python has one lock in any case")
def test_the_kernels_do_not_bring_back_the_lock_of_a_python_without():
    code = "import sys, numpy; before = sys._is_gil_enabled(); import fastrnn._core; "
    code += "print(before == sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "True\n", done.stderr


def test_threads_share_layers_while_their_weights_change(threads, rng):
    """Without a global lock they run at the same time; what they leave is as if nobody had been there."""
    threads(2)
    x = rng.standard_normal((6, 9, 5)).astype("float32")
    layer, head = fastrnn.LSTM(5, 40, bidirectional=True, seed=0), fastrnn.Linear(80, 7, seed=0)
    first = {part: part.state_dict() for part in (layer, head)}
    second = {part: {name: array + 1 for name, array in state.items()} for part, state in first.items()}
    expected = head(layer(x)[0])

    def change(_):
        for values in [second, first] * 20:
            for part, state in values.items():
                part.load_state_dict(state)

    def read(_):
        for _ in range(40):
            assert np.isfinite(head(layer(x)[0])).all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda task: task(x), [change, read, read, read, read]))
    np.testing.assert_array_equal(head(layer(x)[0]), expected)


def test_of_threads_that_want_one_way_back_one_gets_it(threads, rng):
    threads(2)
    x = rng.standard_normal((6, 9, 5))
    layer = fastrnn.GRU(5, 12, seed=0, dtype="float64")

    def gradients(workers):
        y, _, back = layer.forward(x)

        def run(_):
            try:
                return back(y)
            except RuntimeError:
                return None

        with ThreadPoolExecutor(workers) as pool:
            (found,) = [dx for dx in pool.map(run, range(workers)) if dx is not None]
        return found, layer.take_gradients()

    (dx, alone), (got, contested) = gradients(1), gradients(4)
    np.testing.assert_equal((got, contested), (dx, alone))


def test_old_versions_of_openmp_are_enough():
    """Such as PyTorch 2.4 has with it: where that is imported first, its libgomp is the process's."""
    assert b"OMP_5.0" not in Path(_core.__file__).read_bytes()


TORCH = """
import torch, fastrnn
for count in 1, 2, 3:
    torch.set_num_threads(count)
    print(fastrnn.get_num_threads(), end=" ")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere PyTorch has another OpenMP")
def test_there_are_as_many_threads_as_pytorch_is_told_to_use():
    """One OpenMP serves both."""
    pytest.importorskip("torch")
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}  # which lifts the limit of one for each core
    done = subprocess.run([sys.executable, "-c", TORCH], env=environment, capture_output=True, text=True)
    assert done.stdout == "1 2 3 ", done.stderr
