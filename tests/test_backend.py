"""The choice of what computes."""

import os
import platform
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import fastrnn.backend as backends
from fastrnn import functional, reference
from fastrnn.backend import BACKENDS, use_backend

ARGUMENTS = np.ones((4, 2, 3)), np.ones((15, 3)), np.ones((15, 5))  # of a GRU: x, w_ih, w_hh


@pytest.fixture
def reference_in_use():
    with use_backend("reference"):
        yield


@pytest.fixture
def spy(monkeypatch, reference_in_use):
    """Stand-ins for both backends that say who was called."""
    calls = []

    class Spy:
        def __init__(self, name):
            self.name = name

        def forward_all(self, directions):
            calls.append(f"{self.name} forward")
            return reference.forward_all(directions)

        def backward_all(self, directions):
            calls.append(f"{self.name} backward")
            return reference.backward_all(directions)

    spies = {name: Spy(name) for name in BACKENDS}
    monkeypatch.setattr(backends, "_backend", spies.get)
    return calls


def test_use_backend_is_a_function_and_a_block(spy):
    use_backend("native")
    functional.gru(*ARGUMENTS)
    with use_backend("reference"):
        functional.gru(*ARGUMENTS)
        with use_backend("native"):
            functional.gru(*ARGUMENTS)
        functional.gru(*ARGUMENTS)
    functional.gru(*ARGUMENTS)
    assert [call.split()[0] for call in spy] == ["native", "reference", "native", "reference", "native"]


def test_a_block_restores_the_backend_also_after_an_error(spy):
    with suppress(KeyError), use_backend("native"):
        raise KeyError
    functional.gru(*ARGUMENTS)
    assert spy == ["reference forward"]


def test_a_reserve_goes_back_to_the_backend_that_made_it(spy):
    with use_backend("native"):
        _, _, reserve = functional.gru_forward(*ARGUMENTS)
    functional.gru_backward(reserve)
    assert spy == ["native forward", "native backward"]


def test_the_choice_holds_for_all_threads(spy):
    with use_backend("native"):
        thread = threading.Thread(target=lambda: functional.gru(*ARGUMENTS))
        thread.start()
        thread.join()
    assert spy == ["native forward"]


@pytest.mark.parametrize(("name", "error"), [("numpy", ValueError), (None, TypeError)])
def test_an_unknown_backend_is_refused_and_changes_nothing(spy, name, error):
    with pytest.raises(error, match=f"name must be one of 'native', 'reference', got {name!r}"):
        use_backend(name)
    functional.gru(*ARGUMENTS)
    assert spy == ["reference forward"]


def test_kernels_that_are_not_built_say_what_to_do(monkeypatch, reference_in_use):
    monkeypatch.setitem(sys.modules, "fastrnn._core", None)  # which makes its import fail
    backends._backend.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"not built.* run `pip install \.`.*FASTRNN_BACKEND=reference"):
            use_backend("native")
        functional.gru(*ARGUMENTS)
    finally:
        backends._backend.cache_clear()


def python(code, backend):
    """Run code in a new interpreter, with FASTRNN_BACKEND set."""
    environment = {**os.environ, "FASTRNN_BACKEND": backend, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_the_environment_chooses_the_first_backend():
    without_kernels = "import sys; sys.modules['fastrnn._core'] = None"  # which makes their import fail
    call = "from fastrnn import functional; functional.rnn([[0]], [[1.0]], [[1.0]])"
    result = python(f"{without_kernels}; {call}", "reference")
    assert result.returncode == 0, result.stderr
    assert (
        "the native kernels of fastrnn are not built" in python(f"{without_kernels}; {call}", "native").stderr
    )


@pytest.mark.parametrize(
    ("module", "code", "message"),
    [
        ("_core" + sysconfig.get_config_var("EXT_SUFFIX"), "", "do not load: "),
        ("_core.cpython-30-vax.so", "fastrnn.use_backend('native')", "are not built for this Python, only "),
    ],
)
def test_kernels_that_are_broken_or_of_another_python_are_one_line(tmp_path, module, code, message):
    package = tmp_path / "fastrnn"
    package.mkdir()
    for path in Path(backends.__file__).parent.iterdir():
        if not path.name.startswith("_core"):
            (package / path.name).symlink_to(path)
    (package / module).write_bytes(b"of another kind")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [
        sys.executable,
        "-S",
        "-c",
        f"import fastrnn; {code}",
    ]  # -S: an editable install would find itself first
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: the native kernels of fastrnn {message}")
    assert module in last and f"this is CPython {platform.python_version()} on " in last
    assert "`pip install .`" in last


def test_an_unknown_backend_in_the_environment_is_an_error_at_import():
    result = python("import fastrnn.functional", "fast")
    assert result.returncode == 1
    assert "ValueError: FASTRNN_BACKEND must be one of 'native', 'reference', got 'fast'" in result.stderr
