"""The choice of the ISA and of the number of threads, and what is printed of them."""

import os
import subprocess
import sys

import pytest

import fastrnn

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")


def python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env}, timeout=120
    )


@pytest.mark.parametrize("isa", _core.config()["isas"])
def test_the_environment_forces_an_isa(isa):
    done = python("import fastrnn; fastrnn.show_config()", FASTRNN_ISA=isa)
    assert f"isa       {isa} (FASTRNN_ISA;" in done.stdout, done.stderr


def test_an_isa_that_is_not_here_is_an_error_at_import():
    done = python("import fastrnn", FASTRNN_ISA="altivec")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: FASTRNN_ISA is 'altivec'")
    assert all(isa in last for isa in _core.config()["isas"])


A_LARGE_CALL = """
import gc, numpy as np, fastrnn
from fastrnn import _core
def call():
    fastrnn.linear(np.zeros((1000, 1000), "f4"), np.zeros((1000, 1000), "f4"))
    gc.collect()
    return _core.config()["cached"]
"""


def test_memory_that_is_kept_can_be_given_back():
    body = "print(call(), end=' '); fastrnn.empty_cache(); print(_core.config()['cached'], call())"
    done = python(A_LARGE_CALL + body)
    kept, then, again = map(int, done.stdout.split())
    assert kept == again >= 2 * 4_000_000  # y and the packed weights
    assert then == 0


@pytest.mark.parametrize(("megabytes", "most"), [("0", 0), ("5", 5 << 20), ("", 256 << 20)])
def test_the_environment_limits_the_memory_that_is_kept(megabytes, most):
    done = python(A_LARGE_CALL + "print(call())", FASTRNN_CACHE_MB=megabytes)
    assert (int(done.stdout) > 0) == (most > 0)
    assert int(done.stdout) <= most


@pytest.mark.parametrize("megabytes", ["some", "-1", "1.5", "9" * 30])
def test_a_limit_of_memory_that_is_no_number_is_an_error_at_import(megabytes):
    done = python("import fastrnn", FASTRNN_CACHE_MB=megabytes)
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ValueError: FASTRNN_CACHE_MB must be a whole number of megabytes, got '{megabytes}'"


def test_show_config_tells_all(capsys):
    fastrnn.show_config()
    text = capsys.readouterr().out
    words = "threads", "teams", "alone", "compiler", "backend", "caches", "memory"
    assert all(word in text for word in (fastrnn.__version__, _core.config()["isa"], *words))


def test_the_caches_of_this_machine_grow_from_level_to_level():
    first, second, last = _core.config()["caches"]
    assert 0 < first <= second <= last


def test_import_needs_numpy_alone():
    """What `import fastrnn` loads beyond NumPy is fastrnn and the standard library."""
    done = python(
        "import sys, numpy; before = set(sys.modules); import fastrnn\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'numpy'}))"
    )
    assert done.stdout == "['fastrnn']\n", done.stderr


def test_threads_are_set_and_set_back():
    automatic = fastrnn.get_num_threads()
    fastrnn.set_num_threads(3)
    assert fastrnn.get_num_threads() == 3
    fastrnn.set_num_threads(0)
    assert fastrnn.get_num_threads() == automatic


def test_omp_num_threads_is_kept_to():
    done = python("import fastrnn; print(fastrnn.get_num_threads())", OMP_NUM_THREADS="1")
    assert done.stdout == "1\n"


def test_the_environment_does_not_ask_for_more_threads_than_may_be_set():
    done = python("import fastrnn; print(fastrnn.get_num_threads())", OMP_NUM_THREADS="100000")
    assert int(done.stdout) <= 1024


BAD_COUNTS = [
    *((n, ValueError) for n in (-1, 1025, 2**31, 2**64)),
    *((n, TypeError) for n in (1.5, True, "2")),
]


@pytest.mark.parametrize("n, error", BAD_COUNTS)
def test_a_number_of_threads_that_is_none_is_refused(n, error):
    with pytest.raises(error, match=r"^n must be"):
        fastrnn.set_num_threads(n)
