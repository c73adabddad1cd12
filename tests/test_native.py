"""The step of a stream for C: from ctypes, C, C++, Cython and Numba the same bits as from Python."""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections import Counter
from pathlib import Path

import cells
import numpy as np
import pages
import pytest
from cells import members

import fastrnn
from fastrnn import GRU, LSTM, Embedding, Linear, Sequential
from fastrnn.layers import ELU, Layer, Softmax, Tanh

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
native = importlib.import_module("fastrnn.embed.native")

from fastrnn.embed import message, reset, step, step_tokens  # noqa: E402

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "cython.md"
HEADER = Path(fastrnn.get_include(), "fastrnn", "step.h")
FINE, BUSY, FORKED, TOKEN, KIND, MEMORY = range(6)
INPUT_SIZE, OUTPUT_SIZE, BATCH, ITEM_SIZE, TAKES_FLOATS, TAKES_TOKENS, STATE_SIZE = range(7)


@pytest.fixture(autouse=True)
def on_the_kernels():
    """Which are what C calls, whatever the suite runs on."""
    with fastrnn.use_backend("native"):
        yield


def data(array):
    assert array.flags.c_contiguous
    return array.ctypes.data


def steps(stream, x):
    """What steps from C give of x (T, B, I) or tokens (T, B)."""
    function = step_tokens if x.ndim == 2 else step
    y = np.full((len(x), stream.batch, stream.output_size), np.nan, stream.dtype)
    for x_t, y_t in zip(x, y, strict=True):
        assert function(stream.address, data(x_t), data(y_t)) == FINE
    return y


def networks():
    """With inputs of seven steps of B = 2."""
    rng = np.random.default_rng(0)
    floats, tokens = rng.normal(size=(7, 2, 5)).astype("f4"), rng.integers(0, 9, (7, 2))
    made = {cell: (make(5, 8, 2, seed=0), floats) for cell, make in cells.LAYERS.items()}
    return made | {
        "double": (LSTM(5, 8, dtype="float64", seed=0), floats.astype("f8")),
        "head": (Sequential(LSTM(5, 19, 2, seed=0), Linear(19, 33, seed=0)), floats),
        "tokens": (GRU(9, 8, seed=0), tokens),
        "embedding": (
            Sequential(Embedding(9, 7, seed=0), LSTM(7, 16, seed=0), Linear(16, 9, seed=0)),
            tokens,
        ),
        "activations": (
            Sequential(Tanh(), LSTM(5, 19, seed=0), ELU(), Linear(19, 3, seed=0), Softmax()),
            floats,
        ),
        "shared by threads": (LSTM(512, 512, seed=0), rng.normal(size=(7, 2, 512)).astype("f4")),
    }


@pytest.mark.parametrize("name", networks())
def test_steps_from_c_have_the_bits_of_python(name):
    network, x = networks()[name]
    stream = network.stream(2)
    expected = stream.copy().step_many(x)
    np.testing.assert_array_equal(steps(stream, x), expected)
    assert reset(stream.address) == FINE
    np.testing.assert_array_equal(steps(stream, x), expected)
    np.testing.assert_array_equal(steps(stream, x[:3]), stream_after(network, x).step_many(x[:3]))


def stream_after(network, x):
    stream = network.stream(2)
    stream.step_many(x)
    return stream


def test_x_and_y_may_be_the_same_memory():
    stream, x = GRU(4, 4, seed=0).stream(2), np.ones((2, 4), "f4")
    expected = stream.copy().step(x)
    assert step(stream.address, data(x), data(x)) == FINE
    np.testing.assert_array_equal(x, expected)


def test_the_beginning_is_that_which_a_layer_has_learned():
    layer = LSTM(3, 4, 2, learned_state=True, seed=0)
    for name in ("initial_h", "initial_c"):
        layer.parameters[name][...] = np.random.default_rng(0).normal(size=layer.parameters[name].shape)
    stream, x = layer.stream(2), np.ones((5, 2, 3), "f4")
    expected = layer(x)[0]
    for _ in range(2):
        np.testing.assert_array_equal(steps(stream, x), expected)
        assert reset(stream.address) == FINE
    copied = stream.copy()
    copied.step(x[0])
    copied.reset(np.array([True, False]))
    np.testing.assert_array_equal(copied.step(x[0])[0], expected[0, 0])
    np.testing.assert_array_equal(copied.step(x[1])[0], expected[1, 0])


def test_what_a_stream_says_of_itself():
    about = native._found.about
    stream = Sequential(LSTM(5, 8, 2, seed=0), GRU(8, 7, seed=0), Linear(7, 3, seed=0)).stream(2)
    expected = {
        INPUT_SIZE: 5,
        OUTPUT_SIZE: 3,
        BATCH: 2,
        ITEM_SIZE: 4,
        TAKES_FLOATS: 1,
        TAKES_TOKENS: 1,
        STATE_SIZE: 2 * (2 * 2 * 8 + 7),
        -1: -1,
        STATE_SIZE + 1: -1,
    }
    assert {what: about(stream.address, what) for what in expected} == expected
    tokens = Sequential(Embedding(5, 4, seed=0), GRU(4, 3, dtype="float32", seed=0)).stream()
    assert about(tokens.address, TAKES_FLOATS) == 0
    head = Sequential(Linear(3, 3, dtype="float64", seed=0), GRU(3, 3, dtype="float64", seed=0)).stream()
    assert (about(head.address, TAKES_TOKENS), about(head.address, ITEM_SIZE)) == (0, 8)


def test_a_state_is_a_flat_copy():
    stream = Sequential(LSTM(5, 8, 2, seed=0), GRU(8, 7, seed=0)).stream(2)
    x = np.random.default_rng(0).normal(size=(6, 2, 5)).astype("f4")
    stream.step_many(x[:3])
    (h, c), last = stream.state
    found = np.zeros(native._found.about(stream.address, STATE_SIZE), "f4")
    assert native._found.get_state(stream.address, data(found)) == FINE
    parts = [h[0], c[0], h[1], c[1], last[0]]
    np.testing.assert_array_equal(found, np.concatenate([part.ravel() for part in parts]))
    expected = stream.step_many(x[3:])
    assert native._found.set_state(stream.address, data(found)) == FINE
    np.testing.assert_array_equal(steps(stream, x[3:]), expected)


# -- errors


def assert_unmoved(stream, call, error):
    """The call returns this error, and neither the state nor y has changed."""
    before, y = stream.state, np.full((stream.batch, stream.output_size), 7, stream.dtype)
    assert call(data(y)) == error
    assert (y == 7).all()
    for ours, theirs in zip(members(stream.state), members(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("token", [-1, 9, 2**62, -(2**62)])
def test_a_token_out_of_range_moves_nothing(token):
    stream = GRU(9, 4, seed=0).stream(2)
    stream.step(np.array([1, 2]))
    tokens = np.array([0, token])
    assert_unmoved(stream, lambda y: step_tokens(stream.address, data(tokens), y), TOKEN)


def test_the_wrong_kind_of_input_moves_nothing():
    x, tokens = np.ones((1, 5), "f4"), np.array([0])
    embedded = Sequential(Embedding(5, 4, seed=0), GRU(4, 3, seed=0)).stream()
    assert_unmoved(embedded, lambda y: step(embedded.address, data(x), y), KIND)
    projected = Sequential(Linear(5, 4, seed=0), GRU(4, 3, seed=0)).stream()
    assert_unmoved(projected, lambda y: step_tokens(projected.address, data(tokens), y), KIND)


def test_every_error_has_a_message():
    messages = [message(error) for error in range(8)]
    assert len(set(messages)) == 7 and messages[6] == messages[7]
    assert "another thread" in messages[BUSY] and "forked" in messages[FORKED] and "range" in messages[TOKEN]
    with pytest.raises(TypeError, match="error must be"):
        message("busy")


class Called(Layer):
    """A layer that the kernels do not have."""

    def __call__(self, x):
        return x


def test_streams_without_a_step_in_c_have_no_address():
    network = Sequential(GRU(3, 4, seed=0), Called(), Linear(4, 2, seed=0))
    with pytest.raises(TypeError, match=r"Called\(\) has no address"):
        _ = network.stream().address
    with fastrnn.use_backend("reference"):
        stream = GRU(3, 4, seed=0).stream()
    with pytest.raises(RuntimeError, match="reference backend has no address"):
        _ = stream.address


# -- one thread at a time

LARGE = LSTM(512, 512, seed=0)  # whose steps are long enough for another thread to come
X = np.ones((8, 512), "f4")


def on_two_threads(work):
    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_step_is_done_whole_or_refused():
    stream, outcomes = LARGE.stream(8), []

    def work(_):
        y = np.empty_like(X)
        while BUSY not in outcomes or len(outcomes) < 50:
            error = step(stream.address, data(X), data(y))
            outcomes.append(error or y.tobytes())

    on_two_threads(work)
    done = [outcome for outcome in outcomes if outcome != BUSY]
    other = LARGE.stream(8)
    assert Counter(done) == Counter(other.step(X).tobytes() for _ in done)


def test_python_and_c_wait_at_the_same_gate():
    stream, told = LARGE.stream(8), set()
    both = {BUSY, message(BUSY)}

    def from_python():
        while told != both:
            try:
                stream.step(X)
            except RuntimeError as error:
                told.add(str(error))

    def from_c():
        y = np.empty_like(X)
        while told != both:
            if error := step(stream.address, data(X), data(y)):
                told.add(error)

    on_two_threads(lambda k: (from_python, from_c)[k]())


def test_streams_in_two_threads_do_not_know_of_each_other():
    layer, x = LSTM(5, 32, seed=0), np.random.default_rng(0).normal(size=(2000, 1, 5)).astype("f4")
    first = layer.stream()
    streams, found = [first, first.copy()], {}
    on_two_threads(lambda k: found.update({k: steps(streams[k], x)}))
    for y in found.values():
        np.testing.assert_array_equal(y, layer(x)[0])


IN_A_FORK = """
import os, threading
import numpy as np, fastrnn
from fastrnn.embed import reset, step

fastrnn.use_backend("native")
layer = fastrnn.LSTM(512, 512, seed=0)
stream, x = layer.stream(8), np.ones((8, 512), "float32")

def forward():
    y = np.empty_like(x)
    return step(stream.address, x.ctypes.data, y.ctypes.data), y

def work():
    while True:
        forward()

threading.Thread(target=work, daemon=True).start()
while forward()[0] != 1:  # until the other thread is in
    pass
child = os.fork()
if child == 0:
    assert forward()[0] in (0, 2)
    assert reset(stream.address) == 0
    error, y = forward()
    os._exit(0 if error == 0 and (y == layer.stream(8).step(x)).all() else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_stream_that_was_at_work_in_a_fork_can_be_reset():
    subprocess.run([sys.executable, "-c", IN_A_FORK], check=True, timeout=120)


# -- how long an address is valid


def test_an_address_is_that_of_one_object():
    layer, x = GRU(5, 8, seed=0), np.random.default_rng(0).normal(size=(6, 1, 5)).astype("f4")
    stream = layer.stream()
    address = stream.address
    assert stream.address == address and isinstance(address, int)
    steps(stream, x[:2])
    copied = stream.copy()
    assert copied.address != address
    stream.state = stream.state
    stream.reset()
    assert stream.address == address
    np.testing.assert_array_equal(steps(stream, x), layer(x)[0])
    del stream, layer
    np.testing.assert_array_equal(steps(copied, x[2:]), GRU(5, 8, seed=0)(x)[0][2:])


# -- compiled


def program(*names):
    path = next(filter(None, map(shutil.which, names)), None)
    return path or pytest.skip(f"needs {names[0]}")


STRICT = "-Wall -Wextra -pedantic -Wconversion -Werror -O2 -shared -fPIC".split()
COMPILERS = {
    "C": ("gcc", "cc", "-std=c99"),
    "C++": ("g++", "c++", "-std=c++11", "-x", "c++"),
    "Clang": ("clang", "clang", "-std=c99"),
    "Clang++": ("clang++", "clang++", "-std=c++11", "-x", "c++"),
}
LOOP = """
#include <fenv.h>
#include <fastrnn/step.h>

/* T steps of one row of floats; what they return, or -1 where the floating-point mode has changed. */
#ifdef __cplusplus
extern "C"
#endif
int loop(const fastrnn_step_api *api, void *stream, int64_t T, const float *x, float *y);

int loop(const fastrnn_step_api *api, void *stream, int64_t T, const float *x, float *y) {
  const int64_t I = api->about(stream, FASTRNN_STEP_INPUT_SIZE);
  const int64_t O = api->about(stream, FASTRNN_STEP_OUTPUT_SIZE);
  volatile double least = 4.9406564584124654e-324;
  if (!fastrnn_step_fits(api) || api->size != sizeof *api) return -2;
  for (int64_t t = 0; t < T; ++t) {
    const int mode = fegetround(), error = api->step(stream, x + t * I, y + t * O);
    if (error != FASTRNN_STEP_FINE) return error;
    if (fegetround() != mode || least * 1.0 == 0.0) return -1;
  }
  return FASTRNN_STEP_FINE;
}
"""


@pytest.mark.parametrize("language", COMPILERS)
def test_a_loop_in_c(language, tmp_path):
    first, second, *options = COMPILERS[language]
    source, library = tmp_path / "loop.c", tmp_path / "loop.so"
    source.write_text(LOOP)
    command = [program(first, second), *STRICT, f"-I{fastrnn.get_include()}", *options, source, "-o", library]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loop = ctypes.CDLL(str(library)).loop
    loop.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64] + [ctypes.c_void_p] * 2
    network = Sequential(LSTM(3, 32, seed=0), Linear(32, 2, seed=0))
    stream, x = network.stream(), np.random.default_rng(0).normal(size=(1000, 1, 3)).astype("f4")
    x[500:] *= 1e-40  # denormal
    y = np.empty((1000, 1, 2), "f4")
    assert loop(ctypes.addressof(native._found), stream.address, len(x), data(x), data(y)) == FINE
    np.testing.assert_array_equal(y, network(x))


def test_header_cython_and_ctypes_have_the_same_functions():
    header, pxd = HEADER.read_text(), HEADER.parents[2].joinpath("stream.pxd").read_text()
    members = r"\(\*(\w+)\)\("
    functions = [name for name, _ in native._Functions._fields_[2:]]
    assert re.findall(members, header) == re.findall(members, pxd) == functions
    values = dict(re.findall(r"(FASTRNN_STEP_[A-Z_]+) = (\d)", header))
    assert re.findall(r"^ +(FASTRNN_STEP_[A-Z_]+)$", pxd, re.MULTILINE) == list(values)
    assert [*map(int, values.values())] == [*range(6), *range(7)]
    assert native._found.version == 1 and native._found.size == ctypes.sizeof(native._Functions)


IMPORT = """
#include <Python.h>
#include <fastrnn/step.h>
const fastrnn_step_api *functions(void);
const fastrnn_step_api *functions(void) { return fastrnn_step_import(); }
"""


def test_the_capsule_is_imported_and_its_version_checked(tmp_path, monkeypatch):
    source, library = tmp_path / "import.c", tmp_path / "import.so"
    source.write_text(IMPORT)
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        pytest.skip("needs Python's headers")
    command = [program("gcc", "cc"), *STRICT, f"-I{fastrnn.get_include()}", f"-isystem{include}"]
    subprocess.run([*command, source, "-o", library], check=True)
    functions = ctypes.PyDLL(str(library)).functions
    functions.restype = ctypes.c_void_p
    assert functions() == ctypes.addressof(native._found)
    make_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", ctypes.pythonapi)
    )
    others = [native._Functions(version=2, size=native._found.size), native._Functions(version=1, size=8)]
    for other in others:
        capsule = make_capsule(ctypes.addressof(other), native._CAPSULE, None)
        monkeypatch.setattr(_core, "_step_api", capsule)
        installed = f"installed is {other.version}, of {other.size}"
        with pytest.raises(ImportError, match=f"compiled for version 1 of .* of 64 bytes; {installed}"):
            functions()
    monkeypatch.setattr(_core, "_step_api", None)
    with pytest.raises(AttributeError, match="not valid"):
        functions()


# -- Cython and Numba, whose pages of docs/howto have the bits


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """The function of the page about Cython, compiled as it says."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    program("cc")
    folder = tmp_path_factory.mktemp("cython")
    pages.write_files(PAGE, folder)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("audio.*" + sysconfig.get_config_var("EXT_SUFFIX").rpartition(".")[2])
    spec = importlib.util.spec_from_file_location("audio", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.process


FILTER = Sequential(LSTM(1, 32, seed=0), Linear(32, 1, seed=0))


def test_a_loop_in_cython(process):
    x = np.random.default_rng(0).normal(size=1000).astype("f4")
    y, stream = np.empty_like(x), FILTER.stream()
    for part in (slice(400), slice(400, 400), slice(400, 1000)):
        process(stream, x[part], y[part])
    np.testing.assert_array_equal(y, FILTER(x.reshape(-1, 1, 1)).ravel())


def test_errors_of_a_loop_in_cython(process):
    x = np.ones(10, "f4")
    for stream in (FILTER.stream(2), LSTM(1, 1, dtype="float64", seed=0).stream()):
        with pytest.raises(ValueError, match="a sample"):
            process(stream, x, x)
    with pytest.raises(TypeError, match="has no address"):
        process(Sequential(Called(), GRU(1, 1, seed=0)).stream(), x, x)
    embedded = Sequential(Embedding(1, 4, seed=0), GRU(4, 1, seed=0)).stream()
    with pytest.raises(RuntimeError, match=message(KIND)):
        process(embedded, x, x)


def test_a_second_thread_in_a_loop_in_cython_is_told(process):
    stream, told = FILTER.stream(), []

    def work(_):
        x, y = np.ones(20_000, "f4"), np.empty(20_000, "f4")
        while not told:
            try:
                process(stream, x, y)
            except RuntimeError as error:
                told.append(str(error))

    on_two_threads(work)
    assert set(told) == {message(BUSY)}


def test_errors_of_a_loop_in_numba():
    numba = pytest.importorskip("numba")

    @numba.njit(nogil=True)
    def loop(stream, tokens, y):
        for t in range(len(tokens)):
            error = step_tokens(stream, tokens[t:].ctypes, y[t].ctypes)
            if error:
                return error, t
        return 0, len(tokens)

    layer, tokens = GRU(9, 8, seed=0), np.array([1, 2, 9, 3])
    stream, y = layer.stream(), np.zeros((4, 8), "f4")
    assert loop(stream.address, tokens, y) == (TOKEN, 2)
    np.testing.assert_array_equal(y[:2], layer(tokens[:2, None])[0][:, 0])
    assert not y[2:].any()
    assert loop(stream.address, tokens[3:], y[3:]) == (FINE, 1)
    np.testing.assert_array_equal(y[3], layer(tokens[[0, 1, 3], None])[0][-1, 0])
    projected = Sequential(Linear(9, 8, seed=0), GRU(8, 8, seed=0)).stream()
    assert loop(projected.address, tokens, y) == (KIND, 0)
