"""Layers, networks and models with weights of fewer bits, against PyTorch's rounding and sums of integers."""

import copy
import doctest
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from cells import LAYERS, members, normal

import fastrnn
from fastrnn import checkpoint, interop, optim, reference, training
from fastrnn.config import _core
from fastrnn.layers import (
    GRU,
    LSTM,
    RNN,
    Attention,
    Embedding,
    Last,
    Linear,
    Parallel,
    ReLU,
    Sequential,
    compression,
)
from fastrnn.models import Forecaster, SequenceClassifier, TextGenerator

FORMATS = ["float16", "bfloat16", "int8", "int8x8"]
HALVES = FORMATS[:2]
T, B, I, H = 6, 5, 7, 9

formats = pytest.mark.parametrize("format", FORMATS)
halves = pytest.mark.parametrize("weights", HALVES)
bits = pytest.mark.parametrize("bits", [16, 8])


def small(layer, format, **options):
    bits = {"activations": 8} if format == "int8x8" else {}
    return layer.compress(format.removesuffix("x8"), **bits, **options)


def x_of(*shape, seed=0):
    return normal(*shape, dtype="float32", seed=seed)


def same_bits(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()


def network(seed=0):
    return Sequential(Embedding(11, I, seed=seed), GRU(I, H, 2, seed=seed), Last(), Linear(H, 3, seed=seed))


# -- what weights become


def awkward():
    """Rows of all magnitudes, of zeros, and of numbers that lie between two others."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 24)) * 10.0 ** rng.integers(-9, 4, (40, 1))
    rows[3] = 0
    rows[4] = 1e-38
    rows[5] = np.arange(24) * 0.5 - 6
    rows[6, ::2] = -rows[6, 1::2]
    rows[7] = 1 + np.arange(24) * 2.0**-11 + 2.0**-12
    return rows.astype("float32")


@halves
def test_16_bits_are_rounded_as_pytorch_does(weights):
    torch = pytest.importorskip("torch")
    rows = awkward()
    theirs = torch.from_numpy(rows).to(getattr(torch, weights)).float().numpy()
    same_bits([reference.rounded(rows, weights)], [theirs])


def test_8_bits_are_multiples_of_a_scale_of_each_row():
    rows = awkward()
    found = reference.rounded(rows, "int8")
    for row, values in zip(rows, found, strict=True):
        share, exponent = math.frexp(np.abs(row).max() / np.float32(127))
        scale = math.ceil(share * 2**16) * 2.0 ** (exponent - 16) if exponent > -110 else 0.0
        multiples = [round(Fraction(float(number)) / Fraction(scale)) if scale else 0 for number in row]
        assert max(map(abs, multiples)) == (127 if scale else 0)
        assert [Fraction(float(value)) for value in values] == [q * Fraction(scale) for q in multiples]


@formats
def test_to_round_again_changes_nothing(format):
    once = reference.rounded(awkward(), format)
    same_bits([reference.rounded(once, format)], [once])
    layer = Linear(24, 40, seed=0)
    layer.parameters["weight"] = once
    same_bits([small(layer, format).parameters["weight"]], [once])


def test_only_matrices_are_rounded_and_all_arrays_are_read_only():
    layer = LSTM(I, H, proj_size=4, peephole=False, learned_state=True, seed=0)
    layer.parameters["initial_h"][...] = 1 / 3
    before = layer.state_dict()
    found = layer.compress("bfloat16")
    assert (found.weights, layer.weights, repr(found)) == (
        "bfloat16",
        "float32",
        f"{layer!r}.compress('bfloat16')",
    )
    for name, array in found.parameters.items():
        assert not array.flags.writeable
        assert (array == before[name]).all() != name.startswith("weight")
    same_bits(layer.state_dict().values(), before.values())  # the layer itself is as it was
    layer.parameters["weight_hr_l0"][...] = 0  # and may be trained on
    assert found.parameters["weight_hr_l0"].any()


# -- products


def float32_of(number):
    """The nearest float32 to a fraction, of two the even one."""
    if not number:
        return np.float32(0)
    exponent = math.frexp(float(number))[1] - 24
    return np.float32(round(number / Fraction(2) ** exponent) * 2.0**exponent)


def product_of(x, weight, bias, most, fused):
    """Row by row, in integers and fractions: blocks of 512, each added with one rounding; with two where a
    processor has no instruction for it."""
    y = np.empty((len(x), len(weight)), "float32")
    for (r, row), (j, values) in itertools.product(enumerate(x), enumerate(weight)):
        largest, scale = np.abs(row).max(), np.float32(np.abs(values).max() / np.float32(127))
        with np.errstate(all="ignore"):
            factor, unit = np.float32(most) / largest, np.float32(largest / np.float32(most))
        rounded = np.zeros(len(row)) if largest < 1e-30 else np.rint(row * factor)
        multiples = np.rint(values.astype("float64") / float(scale)) if scale else np.zeros(len(row))
        y[r, j] = bias[j]
        for first in range(0, len(row), 512):
            block = slice(first, first + 512)
            total = sum(int(a) * int(q) for a, q in zip(rounded[block], multiples[block], strict=True))
            assert abs(total) < 2**31
            part = Fraction(float(np.float32(total))) * Fraction(float(unit * scale))
            part = part if fused else Fraction(float(float32_of(part)))
            y[r, j] = float32_of(part + Fraction(float(y[r, j])))
        if not np.isfinite(largest):
            y[r, j] = np.nan
    return y


@bits
@pytest.mark.parametrize("inputs", [1, 7, 64, 511, 513, 1030])
def test_products_of_8_bits_are_of_integers(backend, inputs, bits):
    layer = Linear(inputs, 5, seed=0)
    layer.parameters["weight"][2] = 0
    x = x_of(4, inputs)
    x[1], x[2] = 0, x[2] * 1e-31
    found = layer.compress("int8", activations=bits)
    weight, bias = found.parameters.values()
    fused = backend == "reference" or _core.config()["isa"] != "baseline"
    same_bits([found(x)], [product_of(x, weight, bias, 2 ** (bits - 1) - 1, fused)])


@bits
def test_products_are_the_same_on_every_isa(isa, bits):
    layer, x = Linear(600, 21, seed=0).compress("int8", activations=bits), x_of(9, 600)
    with fastrnn.use_backend("reference"):
        expected = layer(x)
    if isa == "baseline":  # without an instruction that adds a product
        np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    else:
        same_bits([layer(x)], [expected])


@bits
def test_products_are_the_same_without_instructions_for_them(isa, bits):
    """As on a processor that does not add four products of bytes at once."""
    layer, x = Linear(600, 21, seed=0).compress("int8", activations=bits), x_of(9, 600)
    expected, before = layer(x), _core.use_dot_products(False)
    try:
        same_bits([layer(x)], [expected])
    finally:
        _core.use_dot_products(before)


@formats
def test_what_is_not_finite_stays_in_its_row(backend, format):
    found = small(Linear(I, 4, seed=0), format)
    x = x_of(4, I)
    usual = found(x)
    x[1, 3], x[2, 0] = np.nan, np.inf
    y = found(x)
    same_bits(y[[0, 3]], usual[[0, 3]])
    assert np.isnan(y[1]).all() and not np.isfinite(y[2]).any()
    assert np.isnan(y[2]).all() or format in HALVES


def inputs_of_all_kinds():
    """Numbers and tokens, of equal length and ragged."""
    tokens = np.random.default_rng(0).integers(0, I, (T, B))
    return itertools.product((x_of(T, B, I), tokens), (None, np.array([6, 0, 3, 1, 5])))


@halves
@pytest.mark.parametrize("name", LAYERS)
def test_16_bits_give_the_very_bits_of_the_rounded_layer(backend, name, weights):
    torch = pytest.importorskip("torch")
    layer = LAYERS[name](I, H, 2, bidirectional=True, seed=0)
    found = layer.compress(weights)
    for key, array in layer.parameters.items():
        if key.startswith("weight"):
            array[...] = torch.from_numpy(array).to(getattr(torch, weights)).float().numpy()
    for x, lengths in inputs_of_all_kinds():
        (y, state), (expected, last) = (each(x, lengths=lengths) for each in (found, layer))
        same_bits([y, *members(state)], [expected, *members(last)])


@pytest.mark.parametrize("format, far", [("int8", 2e-3), ("int8x8", 0.1)])
@pytest.mark.parametrize("name", LAYERS)
def test_8_bits_give_something_near_the_rounded_layer(backend, name, format, far):
    """Which is not the same, as activations are rounded, too."""
    layer = LAYERS[name](I, H, 2, bidirectional=True, seed=0)
    found = small(layer, format)
    layer.load_state_dict(found.parameters)
    for x, lengths in inputs_of_all_kinds():
        y, expected = (each(x, lengths=lengths)[0] for each in (found, layer))
        np.testing.assert_allclose(y, expected, atol=far)
        assert (y != expected).any()


def rounded_rows(rows, most):
    """The numbers that the kernels multiply in the place of rows, in float64."""
    rows = rows.astype("float32")
    largest = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.float32(1e-30))
    whole = np.rint(rows * (np.float32(most) / largest)).astype("float64")
    return whole * (largest / np.float32(most)).astype("float64")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm_step(product, weights, x, state):
    w_ih, w_hh, b_ih, b_hh, *w_hr = weights
    h, c = state
    i, f, g, o = np.split(product(x, w_ih) + b_ih + product(h, w_hh) + b_hh, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return (product(h, *w_hr) if w_hr else h), c


def gru_step(product, weights, x, state, *, after):
    w_ih, w_hh, b_ih, b_hh = weights
    (h,) = state
    gates = product(x, w_ih) + b_ih
    r, z, n = np.split(gates, 3, axis=-1)
    of_h = product(h, w_hh[: 2 * H]) + b_hh[: 2 * H]
    r, z = sigmoid(r + of_h[:, :H]), sigmoid(z + of_h[:, H:])
    last = product(h if after else r * h, w_hh[2 * H :]) + b_hh[2 * H :]
    n = np.tanh(n + (r * last if after else last))
    return ((1 - z) * n + z * h,)


def rnn_step(product, weights, x, state):
    w_ih, w_hh, b_ih, b_hh = weights
    return (np.tanh(product(x, w_ih) + b_ih + product(state[0], w_hh) + b_hh),)


STEPS = {
    "rnn": (RNN(I, H, seed=0), rnn_step),
    "lstm": (LSTM(I, H, seed=0), lstm_step),
    "lstm proj_size": (LSTM(I, H, proj_size=4, seed=0), lstm_step),
    "gru": (GRU(I, H, seed=0), lambda *given: gru_step(*given, after=True)),
    "gru reset_after": (GRU(I, H, reset_after=False, seed=0), lambda *given: gru_step(*given, after=False)),
}


@bits
@pytest.mark.parametrize("name", STEPS)
def test_steps_with_8_bits_are_those_of_rounded_numbers(backend, name, bits):
    """What rounding the activations does is a hundred times as large, but with 16 bits."""
    layer, step = STEPS[name]
    found, x = layer.compress("int8", activations=bits), x_of(T, B, I)
    weights = [array.astype("float64") for array in found.parameters.values()]
    state = [np.zeros(member.shape[1:]) for member in members(layer(x)[1])]

    def product(rows, matrix):
        return rounded_rows(rows, 2 ** (bits - 1) - 1) @ matrix.T

    y, stream = found(x)[0], found.stream(B)
    for x_t, y_t in zip(x, y, strict=True):
        state = step(product, weights, x_t, state)
        np.testing.assert_allclose(y_t, state[0], atol=2e-5)
        same_bits([stream.step(x_t)], [y_t])


@pytest.mark.parametrize("options", [{"peephole": True}, {"layer_norm": True}, {"coupled": True}])
def test_forms_with_8_bits_are_those_of_rounded_steps(backend, options):
    """Of an LSTM, where h is of no other use: a float64 layer gets what the products get."""
    layer = LSTM(I, H, seed=0, **options).compress("int8", activations=8)
    wide, x = LSTM(I, H, dtype="float64", seed=0, **options), x_of(T, B, I)
    wide.load_state_dict(layer.parameters)
    state = np.zeros((1, B, H)), np.zeros((1, B, H))
    for x_t, y_t in zip(x, layer(x)[0], strict=True):
        y, state = wide(rounded_rows(x_t, 127)[None], (rounded_rows(state[0], 127), state[1]))
        np.testing.assert_allclose(y_t, y[0], atol=1e-5)


# -- the same bits, however it is computed


@formats
@pytest.mark.parametrize("name", LAYERS)
def test_rows_steps_and_threads_make_no_difference(threads, name, format):
    layer = small(LAYERS[name](I, 40, 2, seed=0), format)
    x = x_of(T, 9, I)
    y, state = layer(x)
    for n in (1, 2, 3):
        threads(n)
        same_bits([layer(x)[0]], [y])
    for row in range(9):
        same_bits([layer(x[:, [row]])[0]], [np.ascontiguousarray(y[:, [row]])])
    first, between = layer(x[:2])
    second, last = layer(x[2:], between)
    same_bits([np.concatenate([first, second]), *members(last)], [y, *members(state)])
    stream = layer.stream(9)
    same_bits([stream.step(x_t) for x_t in x[:3]], y[:3])
    same_bits(
        [stream.copy().step_many(x[3:]), pickle.loads(pickle.dumps(stream)).step_many(x[3:])], [y[3:]] * 2
    )
    last_first = LAYERS[name](I, 40, 2, batch_first=True, seed=0)
    same_bits([np.ascontiguousarray(small(last_first, format)(x.swapaxes(0, 1))[0].swapaxes(0, 1))], [y])


@formats
def test_large_layers_too(threads, format):
    """With more than one block of 512, and more rows than a tile has."""
    layer = small(Sequential(LSTM(600, 64, seed=0), Linear(64, 30, seed=0)), format)
    x = x_of(3, 70, 600)
    y = layer(x)
    threads(2)
    same_bits([layer(x)], [y])
    for rows in (slice(1), slice(1, 4), slice(4, 37)):
        same_bits([layer(x[:, rows])], [np.ascontiguousarray(y[:, rows])])
    stream = layer.stream(70)
    same_bits([stream.step(x_t) for x_t in x], y)


@formats
def test_networks_and_their_streams(backend, format):
    whole = network()
    found = small(whole, format)
    tokens = np.random.default_rng(0).integers(0, 11, (T, B))
    y = found(tokens, lengths=[6, 1, 3, 6, 2])
    parts = [each.compress(found.weights, activations=8 if "x8" in format else 16) for each in whole._row()
             if hasattr(each, "compress")]  # fmt: skip
    embedded = parts[0](tokens)
    same_bits([embedded], [found.parameters["0.weight"][tokens]])
    _, h = parts[1](embedded, lengths=[6, 1, 3, 6, 2])
    same_bits([y], [parts[2](h[1])])
    stream = found.stream(B)
    for t in range(T):
        same_bits([stream.step(tokens[t])], [found(tokens[: t + 1])])
    several = Parallel([network(seed) for seed in range(3)])
    same_bits(
        small(several, format)([tokens] * 3), [small(network(seed), format)(tokens) for seed in range(3)]
    )


# -- copies and files


@formats
def test_copies_pickles_and_files_are_compressed(backend, format, tmp_path):
    x = np.random.default_rng(0).integers(0, 11, (T, B))
    found = small(network(), format)
    found.save(tmp_path / "small.safetensors")
    for other in (
        copy.copy(found),
        copy.deepcopy(found),
        pickle.loads(pickle.dumps(found)),
        fastrnn.load(tmp_path / "small.safetensors"),
        fastrnn.load(tmp_path / "small.safetensors", weights=None),
    ):
        assert repr(other) == repr(found) and other.weights == found.weights
        same_bits([other(x)], [found(x)])
        assert not any(array.flags.writeable for array in other.parameters.values())


@formats
def test_files_are_narrow(format, tmp_path):
    layer = LSTM(64, 64, seed=0)
    layer.save(tmp_path / "wide.safetensors")
    small(layer, format).save(tmp_path / "small.safetensors")
    sizes = [(tmp_path / name).stat().st_size for name in ("small.safetensors", "wide.safetensors")]
    assert sizes[0] / sizes[1] < (0.53 if format in HALVES else 0.29)
    arrays, metadata = checkpoint.load(tmp_path / "small.safetensors")
    dtype = {"float16": "float16", "bfloat16": "uint16"}.get(format, "int8")
    assert metadata["weights"] == {"": format}
    for name, array in layer.parameters.items():
        assert arrays[name].dtype == (dtype if name.startswith("weight") else "float32")
        assert arrays[name].shape == array.shape


def test_files_of_before_hold_nothing_new(tmp_path):
    LSTM(3, 5, seed=0).save(tmp_path / "wide.safetensors")
    assert "weights" not in checkpoint.load(tmp_path / "wide.safetensors")[1]


SPOILT = [
    (lambda arrays, metadata: arrays.pop("weight_scale"), "'weight' must have float32 scales of shape (5,)"),
    (lambda arrays, metadata: arrays.update(weight_scale=np.ones(4, "f4")), "must have float32 scales"),
    (lambda arrays, metadata: arrays.update(weight_scale=np.full(5, np.inf, "f4")), "weight must be finite"),
    (lambda arrays, metadata: arrays.update(weight=np.ones((5, 3), "f4")), "'weight_scale' is unexpected"),
    (lambda arrays, metadata: metadata.update(weights={"": "int4"}), "weights must be formats of layers"),
    (lambda arrays, metadata: metadata.update(weights=["int8"]), "weights must be formats of layers"),
    (lambda arrays, metadata: metadata.update(weights={"": ["int8"]}), "weights must be formats of layers"),
    (lambda arrays, metadata: metadata.update(weights={}), "'weight_scale' is unexpected"),
    (
        lambda arrays, metadata: metadata.update(weights={"": "int8", "no": "int8"}),
        "weights are of layer 'no'",
    ),
]


@pytest.mark.parametrize("spoil, message", SPOILT)
def test_spoilt_files_are_refused(spoil, message, tmp_path):
    path = tmp_path / "small.safetensors"
    Linear(3, 5, seed=0).compress("int8").save(path)
    arrays, metadata = checkpoint.load(path)
    spoil(arrays, metadata)
    checkpoint.save(path, arrays, metadata)
    with pytest.raises(ValueError, match="inconsistent layer") as error:
        fastrnn.load(path)
    assert message in str(error.value)


def test_others_read_the_rounded_weights():
    torch = pytest.importorskip("torch")
    found, x = LSTM(I, H, seed=0).compress("float16"), x_of(T, B, I)
    with torch.no_grad():
        y, _ = interop.to_torch(found)(torch.from_numpy(x))
    np.testing.assert_allclose(found(x)[0], y.numpy(), atol=1e-6)


# -- models


def classifier():
    X = list(x_of(20, T, 4))
    model = SequenceClassifier(cell="gru", hidden_size=8, epochs=1, seed=0).fit(X, ["a", "b"] * 10)
    return model, X


@pytest.mark.parametrize("format", ["bfloat16", "int8x8"])
def test_models_are_compressed_and_saved(format, tmp_path, capsys):
    model, X = classifier()
    found = small(model, format, check=X, metric=lambda model: model.score(X, ["a"] * 20))
    assert capsys.readouterr().out == f"{found.compression_}\n"
    change = np.abs(found.predict_proba(X) - model.predict_proba(X))
    assert (found.compression_.largest, found.compression_.mean) == (change.max(), change.mean())
    assert found.compression_.before == model.score(X, ["a"] * 20)
    found.save(tmp_path / "small.safetensors")
    for other in (fastrnn.load(tmp_path / "small.safetensors"), pickle.loads(pickle.dumps(found))):
        assert repr(other.network_) == repr(found.network_)
        same_bits([other.predict_proba(X)], [found.predict_proba(X)])
    with pytest.raises(ValueError, match="is for inference"):
        found.partial_fit(X, ["a", "b"] * 10)
    with pytest.raises(ValueError, match="is compressed already"):
        found.compress("int8")
    with pytest.raises(RuntimeError, match="fit"):
        SequenceClassifier().compress("int8")
    assert found.fit(X, ["a", "b"] * 10).network_.weights == "float32"  # anew, as ever
    assert found.compression_ is None


def test_models_of_text_and_of_series(tmp_path):
    text = "the quick brown fox jumps over the lazy dog. " * 9
    model = TextGenerator(hidden_size=8, epochs=1, seed=0).fit(text)
    found = model.compress("int8", metric=lambda model: model.bits_per_character(text))
    assert found.compression_.after == pytest.approx(found.compression_.before, rel=0.01)
    assert found.generate("the ", 20, seed=0) == fastrnn.load(saved(found, tmp_path)).generate(
        "the ", 20, seed=0
    )
    with pytest.raises(TypeError, match="check goes with a model that predicts"):
        model.compress("int8", check=text)
    series = {name: np.sin(np.arange(90) * pace) for name, pace in {"slow": 0.2, "fast": 0.9}.items()}
    options = {"context": 6, "horizon": 3, "hidden_size": 4, "max_steps": 9, "seed": 0}
    model = Forecaster(global_model=False, **options).fit(series)
    found = model.compress("int8", check=series)
    assert 0 < found.compression_.largest < 0.05
    loaded = fastrnn.load(saved(model, tmp_path), weights="int8")
    same_bits(loaded.predict().values(), found.predict().values())
    LSTM(3, 5, seed=0).save(tmp_path / "layer.safetensors")
    assert fastrnn.load(tmp_path / "layer.safetensors", weights="float16").weights == "float16"


def saved(model, folder):
    model.save(folder / "model.safetensors")
    return folder / "model.safetensors"


def test_a_network_that_a_model_is_given_may_be_compressed(tmp_path):
    given = Sequential(LSTM(4, 3, seed=0), Last(), Linear(3, 2, seed=1)).compress("int8")
    model, X = SequenceClassifier.from_network(given, ["a", "b"]), list(x_of(5, T, 4))
    loaded = fastrnn.load(saved(model, tmp_path))
    assert loaded.network_.weights == "int8"
    same_bits([loaded.predict_proba(X)], [model.predict_proba(X)])


# -- what is said of the change


def test_check_says_how_much_changes(backend, capsys):
    layer, x = LSTM(I, H, seed=0), x_of(T, B, I)
    found = layer.compress("int8", check=x, metric=lambda layer: layer(x)[0].mean())
    change = np.abs(found(x)[0].astype("float64") - layer(x)[0])
    kept = found.compression
    assert (kept.weights, kept.largest, kept.mean) == ("int8", change.max(), change.mean())
    assert kept.size == np.abs(layer(x)[0]).max()
    assert (kept.before, kept.after) == (layer(x)[0].mean(), found(x)[0].mean())
    assert capsys.readouterr().out == (
        f"int8: y changes by {kept.largest:.3g} at most and {kept.mean:.3g} in the mean, and had "
        f"{kept.size:.3g} at most; the metric is {kept.after:.5g}, and was {kept.before:.5g}\n"
    )
    assert layer.compress("int8").compression is None and not capsys.readouterr().out
    assert layer.compress("float16", metric=lambda _: 1).compression == ("float16", None, None, None, 1, 1)


def test_the_example_in_the_docstring():
    names = {"np": np, "fastrnn": fastrnn}
    results = doctest.testmod(compression, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert results.attempted and not results.failed


# -- what bad input gets


def beyond(value, kind=Linear):
    layer = kind(3, 5, seed=0)
    next(iter(layer.parameters.values()))[1, 2] = value
    return layer


def tiny():
    layer = Linear(3, 5, seed=0)
    layer.parameters["weight"][...] *= 1e-4
    return layer


REFUSED = [
    (lambda: LSTM(3, 5).compress("int4"), ValueError, "weights must be one of 'float16', 'bfloat16', 'int8'"),
    (lambda: LSTM(3, 5).compress("float32"), ValueError, "weights must be one of"),
    (lambda: LSTM(3, 5).compress(8), TypeError, "weights must be one of"),
    (lambda: LSTM(3, 5).compress("int8", activations=7), ValueError, "activations must be 16 or 8"),
    (lambda: LSTM(3, 5).compress("int8", activations="8"), TypeError, "activations must be"),
    (lambda: LSTM(3, 5).compress("float16", activations=8), ValueError, "activations=8 goes with weights="),
    (lambda: LSTM(3, 5).compress("int8").compress("int8"), ValueError, "is compressed already"),
    (lambda: network().compress("int8").compress("float16"), ValueError, "layer 0, Embedding(11, 7)."),
    (lambda: LSTM(3, 5, dtype="float64").compress("int8"), TypeError, "must be float32 to be compressed"),
    (lambda: Sequential(ReLU()).compress("int8"), ValueError, "there are no weights to compress"),
    (lambda: beyond(np.nan).compress("int8"), ValueError, "weight must be finite to be compressed, got 1"),
    (lambda: beyond(np.inf, GRU).compress("bfloat16"), ValueError, "weight_ih_l0 must be finite"),
    (lambda: beyond(-65520).compress("float16"), ValueError, "weight must be within the range of float16"),
    (lambda: Sequential(head=beyond(1e9)).compress("float16"), ValueError, "head.weight must be within the"),
    (lambda: beyond(3.4e38).compress("bfloat16"), ValueError, "range of bfloat16, got 3.4e+38"),
    (lambda: beyond(np.finfo('f4').max).compress("int8"), ValueError, "must be within the range of int8"),
    (lambda: LSTM(3, 5).compress("int8", metric=1), TypeError, "metric must be a function"),
    (lambda: LSTM(3, 5).compress("int8", check=x_of(2, 2, 4)), ValueError, "x must have shape"),
    (lambda: LSTM(3, 5).compress("int8", check=x_of(0, 2, 3)), ValueError, "check must be data of which"),
    (lambda: network().compress("int8").forward(np.ones((2, 2), int)), ValueError, "is for inference: train"),
    (lambda: LSTM(3, 5).compress("int8").forward(x_of(2, 2, 3)), ValueError, "is for inference: train"),
    (lambda: Linear(3, 5).compress("int8").forward(x_of(2, 3)), ValueError, "is for inference: train"),
    (lambda: Embedding(3, 5).compress("int8").forward([1, 2]), ValueError, "is for inference: train"),
    (lambda: Parallel([LSTM(3, 5).compress("int8")]).forward([x_of(2, 2, 3)]), ValueError, "inference"),
    (lambda: load(LSTM(3, 5).compress("int8")), ValueError, "'weight_ih_l0' of LSTM is read-only"),
    (lambda: load(network().compress("int8")), ValueError, "'0.weight' of Sequential is read-only"),
    (lambda: write(Linear(3, 5).compress("int8"), "weight"), ValueError, "'weight' is read-only"),
    (lambda: write(network().compress("int8"), "3.bias"), ValueError, "'3.bias' is read-only"),
    (lambda: optim.Adam(network().compress("int8").parameters), ValueError, "as compressed layers have them"),
    (lambda: fit(network().compress("int8")), ValueError, "is for inference: train"),
    (lambda: tiny().compress("float16"), ValueError, "weight must have a largest number from 6.1"),
    (lambda: LSTM(3, 5).compress("int8", check=x_of(2, 2, 3) * np.nan), ValueError, "which finite numbers"),
    (lambda: LSTM(3, 5).compress("int8", metric=lambda layer: None), TypeError, "metric must return a"),
    (lambda: Linear(3, 5).compress("int8").parameters["bias"].setflags(write=True), ValueError, "WRITEABLE"),
    (lambda: call(RNN(3, 5).compress("int8")), ValueError, "parameters[0].format must be one of 'float32'"),
]  # fmt: skip


def call(layer):
    fastrnn.functional.stack("rnn_tanh", x_of(2, 2, 3), [layer._parameters_of("_l0")])


def load(layer):
    layer.load_state_dict(layer.state_dict())


def write(layer, name):
    layer.parameters[name] = layer.parameters[name]


def fit(network):
    training.fit(network, ([[1, 2], [3]], [0, 1]), loss="softmax_cross_entropy", epochs=1)


@pytest.mark.parametrize("call, kind, message", REFUSED)
def test_bad_input_is_refused(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert message in str(error.value)


def test_a_refusal_changes_nothing():
    """Neither the layers of a network that could be compressed, nor the masks of dropout before those."""
    whole = Sequential(one=Linear(2, 3, seed=0), two=beyond(1e9))
    before = whole.state_dict()
    with pytest.raises(ValueError, match=r"two\.weight"):
        whole.compress("float16")
    assert whole.weights == "float32"
    same_bits(whole.state_dict().values(), before.values())
    assert all(array.flags.writeable for array in whole.parameters.values())
    dropped = fastrnn.Dropout(0.5, seed=0)
    mixed = Sequential(dropped, LSTM(3, 5, seed=0).compress("int8"), Linear(5, 2, seed=0))
    assert mixed.weights == "float32, int8"
    state = dropped._rng.bit_generator.state
    with pytest.raises(ValueError, match="layer 1, LSTM"):
        mixed.forward(x_of(2, 2, 3))
    assert dropped._rng.bit_generator.state == state


def test_attention_stays_as_it_is():
    whole = fastrnn.layers.Composite(attention=Attention(3, 4, seed=0), head=Linear(3, 2, seed=0))
    found = whole.compress("int8")
    for name in ("weight_score", "weight_output"):
        same_bits([found.parameters[f"attention.{name}"]], [whole.parameters[f"attention.{name}"]])
    assert not hasattr(whole.parts["attention"], "compress")
