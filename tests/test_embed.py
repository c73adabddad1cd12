"""Networks as C files: the truth is their stream, in every bit."""

import ctypes
import errno
import itertools
import json
import math
import os
import platform
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest

from fastrnn import (
    ELU,
    GELU,
    GRU,
    LSTM,
    RNN,
    SELU,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    LeakyReLU,
    Linear,
    Masking,
    Mean,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
    _core,
    checkpoint,
    cli,
)
from fastrnn.embed import export_c
from fastrnn.embed.functions import CONSTANTS, POLYNOMIALS
from fastrnn.models import Forecaster, SequenceTagger, TextGenerator

STRICT = "-std=c99 -O1 -Wall -Wextra -pedantic -Wconversion -Werror".split()
needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")


def networks():
    """By name: a network, and what else `export_c` is told of it."""
    found = {}
    for dtype in ("float32", "float64"):
        kind = {"dtype": dtype, "seed": 0}
        each = {
            "lstm": LSTM(5, 20, **kind),
            "gru": GRU(7, 33, 2, **kind),
            "gru_before": GRU(7, 17, reset_after=False, **kind),
            "rnn": RNN(3, 9, **kind),
            "rnn_relu": RNN(3, 9, nonlinearity="relu", **kind),
            "no_bias": GRU(4, 8, bias=False, **kind),
            "projected": LSTM(6, 24, 2, proj_size=5, **kind),
            "peephole": LSTM(6, 24, peephole=True, **kind),
            "chosen": LSTM(
                6,
                24,
                coupled=True,
                clip=0.5,
                gate_activation="hard_sigmoid",
                activation="relu",
                output_activation="linear",
                **kind,
            ),
            "gru_chosen": GRU(4, 8, gate_activation="hard_sigmoid_6", activation="sigmoid", **kind),
            "before_chosen": GRU(4, 8, reset_after=False, clip=1.0, **kind),
            "rnn_chosen": RNN(4, 8, nonlinearity="hard_sigmoid", clip=1.0, **kind),
            "learned_start": LSTM(3, 6, learned_state=True, **kind),
            "row": Sequential(
                LSTM(2, 16, **kind), Dropout(0.5), Linear(16, 9, **kind), GRU(9, 7, **kind), Last()
            ),
            "begins_linear": Sequential(Linear(3, 4, **kind), RNN(4, 5, **kind)),
            "embedding": Sequential(
                Embedding(11, 6, **kind), LSTM(6, 16, **kind), Linear(16, 3, bias=False, **kind)
            ),
        }
        functions = [ReLU(), LeakyReLU(0.2), ELU(0.7), SELU(), Tanh(), Sigmoid(), HardSigmoid(), SiLU()]
        row = [
            [Linear(5, 5, **kind), function] for function in [*functions, GELU("tanh"), Softsign(), Softmax()]
        ]
        each["functions"] = Sequential(RNN(3, 5, **kind), *itertools.chain.from_iterable(row))
        for name, network in each.items():
            found[f"{name}_{dtype}"] = network, {}
        for cell in (LSTM, GRU, RNN):
            found[f"{cell.__name__.lower()}_tokens_{dtype}"] = cell(30, 8, **kind), {"tokens": True}
    rng = np.random.default_rng(1)
    for name, (network, _) in found.items():
        if name.startswith("learned_start"):
            for array in ("initial_h", "initial_c"):
                network.parameters[array] = rng.uniform(-1, 1, network.parameters[array].shape)
    narrow = {
        "lstm": (LSTM(5, 20, seed=0), {}),
        "projected": (LSTM(6, 24, 2, proj_size=5, seed=0), {}),
        "gru_before": (GRU(7, 17, reset_after=False, seed=0), {}),
        "wide": (GRU(600, 6, seed=0), {}),
        "odd": (Sequential(RNN(515, 3, seed=0), Linear(3, 2, seed=0)), {}),
        "embedding": (Sequential(Embedding(11, 6, seed=0), GRU(6, 16, seed=0)), {}),
        "tokens": (GRU(30, 8, seed=0), {"tokens": True}),
    }
    for weights in ("float16", "bfloat16", "int8"):
        for name, (network, more) in narrow.items():
            found[f"{name}_{weights}"] = network.compress(weights), more
        found[f"asked_{weights}"] = narrow["embedding"][0], {"weights": weights}
    for name in ("lstm", "wide"):
        found[f"{name}_int8x8"] = narrow[name][0].compress("int8", activations=8), {}
    return found


def inputs_of(stream, tokens, steps=300):
    """Noise, large, tiny, zeros and saturated; or tokens."""
    rng = np.random.default_rng(0)
    if tokens:
        return rng.integers(0, stream.input_size, steps).astype("int32")
    sizes = rng.choice([0, 1e-3, 1, 1, 30], (steps, 1))
    return (sizes * rng.standard_normal((steps, stream.input_size))).astype(stream.dtype)


def takes_tokens(network, more):
    return more.get("tokens", False) or isinstance(
        next(iter(getattr(network, "parts", {"": 0}).values())), Embedding
    )


def truth(network, more):
    """What the stream gives: of a network that is compressed on the way out, that of its compressed copy."""
    if more.get("weights"):
        network = network.compress(more["weights"])
    stream = network.stream()
    x = inputs_of(stream, takes_tokens(network, more))
    return x, stream.step_many(x[:, None].astype(np.int64) if x.dtype == np.int32 else x[:, None])[:, 0]


def export_all(directory):
    for name, (network, more) in networks().items():
        export_c(network, directory / f"{name}.c", name=name, **more)


def compiled(directory, *options, source="*.c", compiler="cc"):
    """All files in a directory as one library."""
    library = directory / "library.so"
    files = sorted(file.name for file in directory.glob(source))
    command = [compiler, *options, "-shared", "-fPIC", "-o", library, *files, "-lm"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert not done.returncode, done.stderr[:2000]
    return ctypes.CDLL(str(library))


class Network:
    """An exported network, called from Python."""

    def __init__(self, library, name, x, y):
        self.functions = [getattr(library, f"{name}_{what}") for what in ("init", "step", "run")]
        self.width, self.dtype = y.shape[1], y.dtype
        self.token = x.ndim == 1
        self.state = ctypes.create_string_buffer(1 << 16)
        self.functions[0](self.state)

    def step(self, x):
        y = np.full(self.width, np.nan, self.dtype)
        given = int(x) if self.token else x.ctypes.data_as(ctypes.c_void_p)
        return self.functions[1](self.state, given, y.ctypes.data_as(ctypes.c_void_p)), y

    def run(self, x):
        y = np.full((len(x), self.width), np.nan, self.dtype)
        pointers = [each.ctypes.data_as(ctypes.c_void_p) for each in (x, y)]
        return self.functions[2](self.state, pointers[0], ctypes.c_size_t(len(x)), pointers[1]), y


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """Compiled for processors without FMA, and for those with it."""
    found = []
    for fma in (0, 1):
        directory = tmp_path_factory.mktemp("c")
        export_all(directory)
        fast = (
            ["-mfma"] if fma and platform.machine() == "x86_64" else []
        )  # elsewhere and otherwise it is a call
        found.append(
            compiled(directory, *STRICT, *fast, *(f"-D{name.upper()}_FMA={fma}" for name in networks()))
        )
    return found


@needs_compiler
def test_all_bits_are_those_of_the_stream(libraries, isa):
    library = libraries[isa != "baseline"]
    for name, each in networks().items():
        x, y = truth(*each)
        network = Network(library, name, x, y)
        assert same_bits(network.run(x[:200])[1], y[:200]), name
        assert same_bits(np.stack([network.step(each)[1] for each in x[200:]]), y[200:]), name


@needs_compiler
@pytest.mark.parametrize("compiler", ["c++", "clang", "clang++"])
def test_other_compilers_have_nothing_to_complain_of(compiler, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    export_all(tmp_path)
    language = ["-x", "c++", "-std=c++11"] if compiler.endswith("++") else ["-std=c99"]
    strict = ["-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror"]
    files = sorted(tmp_path.glob("*.c"))
    command = [compiler, *language, *strict, "-fsyntax-only", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr[:2000]


@needs_compiler
def test_infinities_and_nan_go_the_same_way(libraries):
    library = libraries[_core.config()["isa"] != "baseline"]
    for name, each in networks().items():
        x, _ = truth(*each)
        if x.dtype == np.int32:
            continue
        x[3, 0], x[11, -1], x[40, 0] = np.inf, -np.inf, np.nan
        network, more = each
        network = network.compress(more["weights"]) if "weights" in more else network
        y = network.stream().step_many(x[:, None])[:, 0]
        np.testing.assert_array_equal(Network(library, name, x, y).run(x)[1], y, name)


@needs_compiler
def test_silence_ends_in_zeros(libraries):
    """What is too small to be normal is 0, in the state at least."""
    library = libraries[_core.config()["isa"] != "baseline"]
    for name, (network, _) in networks().items():
        if not name.startswith("no_bias"):
            continue
        x, y = truth(network, {})
        silence = np.concatenate([x[:20], np.zeros((4000, x.shape[1]), x.dtype)])
        y = network.stream().step_many(silence[:, None])[:, 0]
        found = Network(library, name, x, y).run(silence)[1]
        tiny = np.finfo(y.dtype).tiny
        normal = np.abs(y) > 1e6 * tiny
        assert same_bits(found[normal], y[normal]) and not found[-1].any()
        assert np.abs(found[~normal] - y[~normal]).max() < 8 * tiny


@needs_compiler
def test_a_token_out_of_range_changes_nothing(libraries):
    library = libraries[_core.config()["isa"] != "baseline"]
    x, y = truth(*networks()["lstm_tokens_float32"])
    network = Network(library, "lstm_tokens_float32", x, y)
    for token in (-1, 30, -(2**31), 2**31 - 1):
        code, untouched = network.step(token)
        assert code == -1 and np.isnan(untouched).all()
        code, untouched = network.run(np.array([3, token, 4], "int32"))
        assert code == -1 and np.isnan(untouched).all()
    code, found = network.run(x)
    assert code == 0 and same_bits(found, y)


@needs_compiler
def test_states_are_values(libraries):
    """Two sequences at once, one a copy of the other's beginning."""
    library = libraries[_core.config()["isa"] != "baseline"]
    x, y = truth(*networks()["gru_float32"])
    first, second = (Network(library, "gru_float32", x, y) for _ in range(2))
    assert same_bits(first.run(x[:50])[1], y[:50])
    ctypes.memmove(second.state, first.state, len(first.state))
    first.run(x[::-1].copy())
    assert same_bits(second.run(x[50:])[1], y[50:])


@needs_compiler
def test_zeros_have_the_signs_of_the_kernels(tmp_path):
    """Where all is 0: biases of -0 are added to zeros there."""
    network = Sequential(RNN(1, 1, nonlinearity="linear"), Linear(1, 2))
    for array in network.parameters.values():
        array[...] = -0.0
    export_c(network, tmp_path / "a.c", name="a")
    x, y = truth(network, {})
    assert same_bits(Network(compiled(tmp_path, *STRICT), "a", x, y).run(x)[1], y)


@needs_compiler
@pytest.mark.parametrize("compiler", ["cc", "clang"])
@pytest.mark.parametrize("kind", [LSTM(3, 8, seed=0), Sequential(GRU(3, 4, seed=0), Linear(4, 5, seed=0))])
def test_a_step_may_write_where_it_read(kind, compiler, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    export_c(kind, tmp_path / "a.c", name="a")
    fma = _core.config()["isa"] != "baseline"
    x, y = truth(kind, {})
    library = compiled(tmp_path, "-std=c99", "-O3", f"-DA_FMA={int(fma)}", compiler=compiler)
    network, both = Network(library, "a", x, y), np.zeros(y.shape[1], y.dtype)
    for before, after in zip(x, y, strict=True):
        both[:3] = before
        pointer = both.ctypes.data_as(ctypes.c_void_p)
        library.a_step(network.state, pointer, pointer)
        assert same_bits(both, after)


@needs_compiler
def test_two_networks_in_one_program_and_in_cpp(tmp_path):
    for name in ("first", "second"):
        export_c(LSTM(3, 4, seed=0), tmp_path / f"{name}.c", name=name)
    (tmp_path / "main.cpp").write_text(
        '#include "first.h"\n#include "second.h"\n#include "first.c"\n#include "second.c"\n'
        "int main() {\n  first_state a;\n  second_state b;\n  float x[3] = {1, 2, 3}, y[4], z[4];\n"
        "  first_init(&a);\n  second_init(&b);\n  first_step(&a, x, y);\n  second_step(&b, x, z);\n"
        "  return y[3] == z[3] && FIRST_INPUT_SIZE == 3 ? 0 : 1;\n}\n"
    )
    subprocess.run(["c++", "-o", tmp_path / "main", tmp_path / "main.cpp", "-lm"], check=True)
    subprocess.run([tmp_path / "main"], check=True)


def test_weights_are_written_in_what_was_asked_for(tmp_path):
    network = LSTM(64, 64, seed=0)
    sizes = {}
    for weights in ("float32", "float16", "int8"):
        export_c(network, tmp_path / "a.c", weights=weights)
        text = (tmp_path / "a.c").read_text()
        sizes[weights] = int(re.search(r"with ([\d,]+) bytes of weights", text)[1].replace(",", ""))
    assert sizes["float32"] == 4 * sum(array.size for array in network.parameters.values()) - 4 * 256
    assert sizes["float16"] < 0.51 * sizes["float32"] and sizes["int8"] < 0.28 * sizes["float32"]
    export_c(network.compress("int8"), tmp_path / "b.c")
    assert (tmp_path / "b.c").read_text().split("*/", 1)[1][20:] == text.split("*/", 1)[1][20:]


@needs_compiler
def test_another_dtype_is_that_of_rounded_weights(tmp_path):
    wide, narrow = LSTM(3, 5, dtype="float64", seed=0), LSTM(3, 5)
    narrow.load_state_dict({name: array.astype("float32") for name, array in wide.parameters.items()})
    export_c(wide, tmp_path / "a.c", dtype="float32", name="a")
    fma = _core.config()["isa"] != "baseline"
    x, y = truth(narrow, {})
    found = Network(compiled(tmp_path, *STRICT, f"-DA_FMA={int(fma)}"), "a", x, y).run(x)[1]
    assert same_bits(found, y)


@pytest.mark.parametrize(
    "network, more, error, message",
    [
        (
            LSTM(3, 4, bidirectional=True),
            {},
            ValueError,
            r"layer lstm, LSTM\(3, 4, bidirectional=True\).*no stream",
        ),
        (Sequential(LSTM(3, 4), Mean()), {}, ValueError, r"layer 1, Mean\(\).*no stream"),
        (Sequential(LSTM(3, 4), GELU()), {}, ValueError, r"layer 1, GELU\(\): it has no form in C"),
        (Sequential(LSTM(3, 4), Softplus()), {}, ValueError, r"layer 1, Softplus\(\): it has no form in C"),
        (Sequential(Masking(), LSTM(3, 4)), {}, ValueError, r"layer 0, Masking.*: it has no form in C"),
        (LSTM(3, 4, layer_norm=True), {}, ValueError, r"layer lstm, .*layer_norm"),
        (Sequential(Linear(3, 4)), {}, ValueError, "needs a recurrent layer"),
        (Linear(3, 4), {}, ValueError, "needs a recurrent layer"),
        ("lstm", {}, TypeError, "network must be a layer or a Sequential, got 'lstm'"),
        (LSTM(3, 4), {"name": "2nd"}, ValueError, "name must be an identifier of C.*got '2nd'"),
        (LSTM(3, 4), {"name": "a b"}, ValueError, "name must be"),
        (LSTM(3, 4), {"name": "größe"}, ValueError, "name must be"),
        (LSTM(3, 4), {"name": ""}, ValueError, "name must be"),
        (LSTM(3, 4), {"name": "a\n"}, ValueError, "name must be"),
        (LSTM(3, 4), {"name": "double"}, ValueError, "no keyword"),
        (LSTM(3, 4), {"name": 3}, TypeError, "name must be a str, got 3"),
        (LSTM(3, 4), {"dtype": "float16"}, (TypeError, ValueError), "dtype"),
        (LSTM(3, 4), {"dtype": "int8"}, (TypeError, ValueError), "dtype"),
        (LSTM(3, 4), {"weights": "int4"}, ValueError, "weights must be one of"),
        (LSTM(3, 4), {"weights": "float64"}, ValueError, "weights must be 'float32'.* got 'float64'"),
        (LSTM(3, 4), {"tokens": 1}, TypeError, "tokens"),
        (LSTM(3, 4, dtype="float64"), {"weights": "int8"}, TypeError, "float32"),
        (LSTM(3, 4).compress("int8"), {"weights": "float16"}, ValueError, "compressed"),
        (
            LSTM(3, 4).compress("int8"),
            {"weights": "float32"},
            ValueError,
            "weights must be those of the network",
        ),
        (LSTM(3, 4).compress("int8"), {"dtype": "float64"}, ValueError, "dtype must be float32"),
        (Sequential(Linear(3, 4), LSTM(4, 4)), {"tokens": True}, ValueError, "tokens must be False"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(network, more, error, message, tmp_path):
    with pytest.raises(error, match=message):
        export_c(network, tmp_path / "model.c", **more)
    assert not [*tmp_path.iterdir()]


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = Sequential(LSTM(3, 4), Linear(4, 2))
    network.parameters["1.weight"][0, 0] = np.inf
    with pytest.raises(ValueError, match=r"layer 1, Linear\(4, 2\): its weights must be finite"):
        export_c(network, tmp_path / "model.c")
    wide = LSTM(3, 4, dtype="float64")
    wide.parameters["bias_ih_l0"][0] = 1e300
    with pytest.raises(ValueError, match="finite in float32"):
        export_c(wide, tmp_path / "model.c", dtype="float32")
    assert not [*tmp_path.iterdir()]


def test_files_of_others_stay(tmp_path):
    network = LSTM(3, 4)
    for name, kept in [("model.h", "model.c"), ("model.c", "model.h")]:
        (tmp_path / name).write_text("int mine;\n")
        with pytest.raises(FileExistsError, match=f"{name}.* is there already"):
            export_c(network, tmp_path / "model.c")
        assert [each.name for each in tmp_path.iterdir()] == [name] != [kept]
        (tmp_path / name).unlink()
    (tmp_path / "model.h").mkdir()
    with pytest.raises(FileExistsError, match=r"model\.h.* is there already, and no file"):
        export_c(network, tmp_path / "model.c")
    assert [each.name for each in tmp_path.iterdir()] == ["model.h"]
    for path in ("model", "model.h", "model.cpp", ""):
        with pytest.raises(ValueError, match=r"path must end in \.c"):
            export_c(network, path)
    with pytest.raises(FileNotFoundError):
        export_c(network, tmp_path / "nowhere" / "model.c")
    with pytest.raises(TypeError):
        export_c(network, 3)
    export_c(network, tmp_path / "again.c")
    export_c(LSTM(3, 5), tmp_path / "again.c")  # over its own
    assert "LSTM(3, 5)" in (tmp_path / "again.h").read_text()


@needs_compiler
@pytest.mark.parametrize("name", ["REAL", "me@home", "<half>", "it's mine", "größe", "%d", "WORD"])
def test_names_of_files_are_included_as_they_are(name, tmp_path):
    export_c(LSTM(3, 4, seed=0), tmp_path / f"{name}.c")
    subprocess.run(["cc", *STRICT, "-fsyntax-only", tmp_path / f"{name}.c"], check=True)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\tb", "what??'", "a\udc80"])
def test_names_of_files_that_c_cannot_include_are_refused(name, tmp_path):
    if os.sep == "\\" in name:
        pytest.skip("it is a directory here")
    with pytest.raises(ValueError, match="path must end in a name that C can #include"):
        export_c(LSTM(3, 4), tmp_path / f"{name}.c")
    assert not [*tmp_path.iterdir()]


@needs_compiler
@pytest.mark.parametrize(
    "old", [LSTM(3, 4), LSTM(3, 5, dtype="float64"), LSTM(2, 5), Sequential(LSTM(3, 5), Linear(5, 1))]
)
def test_a_header_of_another_network_is_noticed(old, tmp_path):
    """As when one of the two files was copied alone: states would be too small for what writes them."""
    export_c(old, tmp_path / "model.c")
    kept = (tmp_path / "model.h").read_bytes()
    export_c(LSTM(3, 5, seed=0), tmp_path / "model.c")
    command = ["cc", *STRICT, "-fsyntax-only", tmp_path / "model.c"]
    subprocess.run(command, check=True)
    (tmp_path / "model.h").write_bytes(kept)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "the header is of another network" in done.stderr


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    write = checkpoint.write

    def full(path, data):
        if len(data) > 4000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        write(path, data)

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(OSError, match=r"No space left on device.*model\.c"):
        export_c(LSTM(3, 4), tmp_path / "model.c")
    assert not [*tmp_path.iterdir()]


@needs_compiler
def test_names_of_layers_cannot_leave_their_comments(tmp_path):
    evil = '*/ #error "out" /* \\\n // ??/ <log2e> @ REAL é'
    export_c(Sequential(**{evil: LSTM(3, 4, seed=0)}), tmp_path / "model.c")
    subprocess.run(["cc", *STRICT, "-fsyntax-only", tmp_path / "model.c"], check=True)


def test_a_model_gives_its_network_and_a_warning(tmp_path):
    X = [np.ones((5, 2), "float32"), np.zeros((4, 2), "float32")]
    model = SequenceTagger(hidden_size=4, epochs=1, bidirectional=False, validation_fraction=0, seed=0).fit(
        X, [["a"] * 5, ["b"] * 4]
    )
    with pytest.warns(UserWarning, match="of the SequenceTagger its network is written, but no vocabulary"):
        export_c(model, tmp_path / "model.c")
    with pytest.raises(RuntimeError, match="this SequenceTagger is not fitted yet: call fit first"):
        export_c(SequenceTagger(), tmp_path / "unfitted.c")
    both = SequenceTagger(hidden_size=4, epochs=1, validation_fraction=0).fit(X, [["a"] * 5, ["b"] * 4])
    with pytest.raises(ValueError, match="no stream"), warnings.catch_warnings():
        warnings.simplefilter("error")  # of what is not written nothing is said
        export_c(both, tmp_path / "both.c")
    ahead = Forecaster(hidden_size=4, epochs=1, seed=0).fit(np.sin(np.arange(200) / 5))
    with pytest.raises(
        ValueError, match=r"no form in C, which knows .* a Sequential of some of its parts may"
    ):
        export_c(ahead, tmp_path / "ahead.c")
    parts = ahead.network_.parts
    export_c(Sequential(parts["recurrent"], parts["head"]), tmp_path / "ahead.c")
    text = TextGenerator(hidden_size=4, epochs=1, seed=0).fit("abcabcabd" * 20)
    with pytest.warns(UserWarning, match="TextGenerator"):
        export_c(text, tmp_path / "text.c", tokens=True)
    assert "int model_step(model_state *state, int32_t token, float *y);" in (tmp_path / "text.h").read_text()


def test_a_file_that_does_not_tell_all_is_sent_to_convert(tmp_path, capsys):
    shapes = {"rnn.weight_ih_l0": (12, 2), "rnn.weight_hh_l0": (12, 3), "fc.weight": (1, 3), "fc.bias": (1,)}
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * math.prod(shape)]}
        end = header[name]["data_offsets"][1]
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    assert cli.main(["export", str(tmp_path / "w.safetensors"), "-o", str(tmp_path / "w.c")]) == 1
    said = capsys.readouterr().err
    assert "order must be given" in said and "`fastrnn convert` has options for that" in said
    assert not (tmp_path / "w.c").exists()


def test_constants_are_those_of_the_kernels():
    header = (Path(__file__).parent.parent / "csrc" / "kernel" / "math.h").read_text()
    computed = header[header.index("coefficients.py writes") : header.index("// to here")]
    for dtype, kind, suffix in [("float32", "float", "f"), ("float64", "double", "")]:
        block = re.search(rf"struct Constant<{kind}> \{{(.*?)\}};", computed, re.DOTALL)[1]
        known = dict(re.findall(rf"(\w+) = (\S+){suffix};", block))
        for name in known.keys() & CONSTANTS[dtype].keys():
            assert float.fromhex(known[name].rstrip("f") if suffix else known[name]) == float.fromhex(
                CONSTANTS[dtype][name]
            ), name
        assert known.keys() - CONSTANTS[dtype].keys() <= {"ln2"}
        for name, own in POLYNOMIALS[dtype].items():
            body = re.search(
                rf"{name}\(Vec<{kind}> \w\) \{{\s*return polynomial<{kind}>\(\w,(.*?)\);", computed, re.DOTALL
            )
            theirs = [float.fromhex(each.strip().removesuffix(suffix)) for each in body[1].split(",")]
            assert theirs == [float.fromhex(each) for each in own.split()], name
