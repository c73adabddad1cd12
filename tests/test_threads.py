"""Teams of threads where others have the cores, or the system has no thread to give."""

import os
import subprocess
import sys

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system does not tell")
def test_a_call_goes_alone_where_others_have_the_cores(two_threads, busy_machine):
    layer, x = fastrnn.LSTM(64, 50, seed=0), np.ones(LARGE, "float32")
    before = _core.config()["alone"]
    layer(x)
    assert _core.config()["alone"] > before


def test_being_alone_changes_no_bit(threads, busy_machine, rng):
    layer, x = fastrnn.LSTM(64, 50, seed=0), rng.standard_normal(LARGE).astype("float32")
    threads(3)
    y, _ = layer(x)
    _core.insist_on_teams(False)
    np.testing.assert_array_equal(layer(x)[0], y)


TOO_MANY = """
import resource, sys
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
