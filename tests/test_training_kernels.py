"""What a training step does besides products: the kernels against the reference, on every ISA, and the same
bits for any number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import reference

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 1e-6, "float64": 1e-14}
# Around a vector of any ISA and a block of 16, more than a block of a sum, and enough for several threads.
SIZES = [0, 1, 2, 3, 7, 15, 16, 17, 33, 4097, 600_001]


def normal(*shape, dtype="float64", seed=0):
    return (np.random.default_rng((seed, *shape)).standard_normal(shape) * 3).astype(dtype)


def assert_close(got, expected, tolerance):
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


# -- the loss


def cross_entropy_of(N, V, dtype):
    logits, targets = normal(N, V, dtype=dtype), np.random.default_rng(N).integers(-1, V, N)
    return logits, targets


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("V", [1, 2, 3, 7, 8, 15, 16, 17, 33, 100])
def test_cross_entropy(isa, V, dtype):
    logits, targets = cross_entropy_of(5, V, dtype)
    before = logits.copy(), targets.copy()
    loss, dlogits = _core.softmax_cross_entropy(logits, targets)
    expected, gradient = reference.softmax_cross_entropy(logits.astype(np.float64), targets)
    assert loss == pytest.approx(expected, rel=TOLERANCE[dtype])
    assert dlogits.dtype == dtype
    assert_close(dlogits, gradient, TOLERANCE[dtype])
    assert not dlogits[targets < 0].any()
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(targets, before[1])


@settings(max_examples=200)
@given(st.integers(0, 9), st.integers(1, 40), st.sampled_from(DTYPES), st.integers(0, 5), st.data())
def test_cross_entropy_of_any_shape_and_of_extremes(N, V, dtype, extremes, data):
    logits, targets = cross_entropy_of(N, V, dtype)
    for _ in range(extremes if N else 0):
        place = data.draw(st.integers(0, N - 1)), data.draw(st.integers(0, V - 1))
        logits[place] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 88, 0.0, -0.0]))
    loss, dlogits = _core.softmax_cross_entropy(logits, targets)
    expected, gradient = reference.softmax_cross_entropy(logits.astype(np.float64), targets)
    np.testing.assert_allclose(loss, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    np.testing.assert_allclose(dlogits, gradient, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_over_many_classes(dtype):
    logits, targets = normal(3, 100_003, dtype=dtype), np.array([5, 100_002, 77])
    loss, dlogits = _core.softmax_cross_entropy(logits, targets)
    expected, gradient = reference.softmax_cross_entropy(logits.astype(np.float64), targets)
    assert loss == pytest.approx(expected, rel=TOLERANCE[dtype])
    np.testing.assert_allclose(dlogits, gradient, rtol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_is_the_same_bits_for_any_number_of_threads_and_any_batch(threads, isa, dtype):
    logits, targets = cross_entropy_of(3001, 103, dtype)
    threads(1)
    loss, dlogits = _core.softmax_cross_entropy(logits, targets)
    for count in (2, 3):
        threads(count)
        again, gradient = _core.softmax_cross_entropy(logits, targets)
        assert again == loss
        assert gradient.tobytes() == dlogits.tobytes()
    one = int(np.flatnonzero(targets >= 0)[9])  # alone, with as many counted rows beside it
    other = np.where(np.arange(3001) == one, targets, np.where(targets < 0, -1, 0))
    _, gradient = _core.softmax_cross_entropy(np.roll(logits, 1, 0), np.roll(other, 1))
    assert gradient[(one + 1) % 3001].tobytes() == dlogits[one].tobytes()


@pytest.mark.parametrize("size", [63, 64, 100])
def test_not_a_number_stays_in_its_row(isa, size):
    logits, targets = normal(4, size, dtype="float32"), np.array([0, 1, 2, 3])
    clean = _core.softmax_cross_entropy(logits, targets)[1]
    for column in range(size):
        dirty = logits.copy()
        dirty[2, column] = np.nan
        loss, dlogits = _core.softmax_cross_entropy(dirty, targets)
        assert np.isnan(loss)
        assert np.isnan(dlogits[2]).all()
        assert np.delete(dlogits, 2, 0).tobytes() == np.delete(clean, 2, 0).tobytes()


# -- updates: the same operations in the same order, and so the same bits


UPDATES = {
    "sgd": ("sgd", "", (0.05, 0.0, 0.0)),
    "sgd, decay": ("sgd", "", (0.05, 0.0, 0.1)),
    "sgd, momentum": ("sgd", "m", (0.05, 0.9, 0.0)),
    "sgd, both": ("sgd", "m", (0.05, 0.9, 0.1)),
    "rmsprop": ("rmsprop", "v", (0.01, 0.99, 1e-8)),
    "adam": ("adam", "mv", (1e-3, 1.0, 0.9, 0.999, 1e-8)),
    "adamw": ("adam", "mv", (1e-3, 0.999, 0.9, 0.999, 1e-8)),
}


def updated(backend, name, size, dtype, steps=2):
    function, slots, numbers = UPDATES[name]
    p, averages = normal(size, dtype=dtype), [np.zeros(size, dtype) for _ in slots]
    for step in range(steps):
        getattr(backend, function)([(p, normal(size, dtype=dtype, seed=step + 1), *averages)], *numbers)
    return [p, *averages]


def assert_same_bits(results, others):
    for result, other in zip(results, others, strict=True):
        assert result.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", UPDATES)
def test_updates(threads, isa, name, size, dtype):
    expected = updated(reference, name, size, dtype)
    assert not size or (expected[0] != normal(size, dtype=dtype)).mean() > 0.9
    for count in (1, 2, 3) if size == SIZES[-1] else (1,):
        threads(count)
        assert_same_bits(updated(_core, name, size, dtype), expected)


def tiny(size, dtype, seed=0):
    """Numbers whose squares, products and halves are denormal, or are so themselves, and zeros."""
    rng, least = np.random.default_rng(seed), np.finfo(dtype).smallest_subnormal
    exponents = np.log10(np.float64(least)) * rng.choice([0.4, 0.5, 0.6, 0.9, 0.98, 1], size)
    return (rng.choice([-1, 0, 1], size) * 10.0**exponents * rng.uniform(1, 9, size)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_updates_of_denormal_numbers(isa, name, dtype):
    function, slots, numbers = UPDATES[name]
    size = SIZES[-2]
    if "v" in slots:
        numbers = (*numbers[:-1], 1e-30)  # eps, as small as the root of what would be flushed

    def after(backend):
        p, averages = tiny(size, dtype), [np.zeros(size, dtype) for _ in slots]
        for step in range(2):
            getattr(backend, function)([(p, tiny(size, dtype, step + 1), *averages)], *numbers)
        return [p, *averages]

    expected = after(reference)
    limit = np.finfo(dtype).smallest_normal
    assert any(((array != 0) & (abs(array) < limit)).any() for array in expected)
    for ours, theirs in zip(after(_core), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # of NaN, the sign may differ


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_numbers_are_scaled_dropped_and_squared(threads, isa, dtype):
    x = tiny(SIZES[-1], dtype)
    random = np.random.default_rng(0).integers(0, 2**16, x.size, np.uint16)
    scaled = x.copy()
    reference.scale([scaled], 0.3)
    for count in (1, 2):
        threads(count)
        y = x.copy()
        _core.scale([y], 0.3)
        assert y.tobytes() == scaled.tobytes()
        native, expected = (b.drop(x, random, 6554, 1.25) for b in (_core, reference))
        np.testing.assert_array_equal(native, expected)
        assert _core.sum_of_squares(x) == pytest.approx(reference.sum_of_squares(x), rel=1e-13, abs=0)


@pytest.mark.parametrize("name", UPDATES)
def test_updates_let_nan_and_infinity_through(isa, name):
    function, slots, numbers = UPDATES[name]
    results = []
    for backend in (_core, reference):
        p, g = normal(40), normal(40, seed=1)
        g[[3, 11, 12, 30]] = np.nan, np.inf, -np.inf, 1e300
        averages = [np.zeros(40) for _ in slots]
        getattr(backend, function)([(p, g, *averages)], *numbers)
        results.append([p, *averages])
    for native, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(native, expected)


# -- clipping and dropout


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_sum_of_squares(threads, isa, size, dtype):
    x = normal(size, dtype=dtype)
    threads(1)
    total = _core.sum_of_squares(x)
    assert total == pytest.approx(reference.sum_of_squares(x), rel=1e-13)
    for count in (2, 3):
        threads(count)
        assert _core.sum_of_squares(x) == total


def test_sum_of_squares_is_the_same_bits_on_every_isa():
    x, before = normal(100_003, dtype="float32"), _core.config()["isa"]
    results = set()
    for isa in _core.config()["isas"]:
        _core.set_isa(isa)
        results.add(_core.sum_of_squares(x))
    _core.set_isa(before)
    assert len(results) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_scale_and_drop(threads, isa, size, dtype):
    x, random = normal(size, dtype=dtype), np.random.default_rng(0).integers(0, 2**16, size, np.uint16)
    x[: size // 8] = np.inf
    scaled = x.copy()
    reference.scale([scaled], 0.3)
    for count in (1, 2, 3):
        threads(count)
        y = x.copy()
        _core.scale([y], 0.3)
        assert y.tobytes() == scaled.tobytes()
        for threshold in (0, 1, 6554, 2**15, 2**16):
            native, expected = (b.drop(x, random, threshold, 1.25) for b in (_core, reference))
            np.testing.assert_array_equal(native, expected)


BAD_CALLS = [
    (lambda: _core.softmax_cross_entropy(normal(3, 4), np.array([0, 4, 1])), "targets"),
    (lambda: _core.softmax_cross_entropy(normal(3, 4), np.array([0, 1])), "targets"),
    (lambda: _core.softmax_cross_entropy(normal(3, 0), np.array([-1, -1, -1])), "logits"),
    (lambda: _core.sgd([(normal(4), normal(3))], 0.1, 0.0, 0.0), "gradient"),
    (lambda: _core.sgd([(normal(4), normal(4), normal(3))], 0.1, 0.0, 0.0), "m: "),
    (lambda: _core.sgd([(normal(4)[::2], normal(2))], 0.1, 0.0, 0.0), "parameter"),
    (lambda: _core.rmsprop([(normal(4), normal(4, dtype="float32"), normal(4))], 0.1, 0.9, 1e-8), "gradient"),
    (lambda: _core.rmsprop([(normal(4), normal(4))], 0.1, 0.9, 1e-8), "another number"),
    (lambda: _core.adam([(normal(4),) * 3], 0.1, 1.0, 0.9, 0.9, 1e-8), "another number"),
    (lambda: _core.adam([(normal(4),) * 5], 0.1, 1.0, 0.9, 0.9, 1e-8), "another number"),
    (lambda: _core.drop(normal(4), np.zeros(3, np.uint16), 5, 1.0), "random"),
    (lambda: _core.scale([np.broadcast_to(1.0, (4,))], 0.5), "x: "),
    (lambda: _core.sum_of_squares(normal(4)[::2]), "x: "),
]


@pytest.mark.parametrize(("call", "name"), BAD_CALLS)
def test_the_binding_refuses_what_would_crash(call, name):
    with pytest.raises(ValueError, match=name):
        call()


def test_what_is_read_only_is_not_written():
    frozen = normal(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        _core.scale([frozen], 0.5)
    np.testing.assert_array_equal(frozen, normal(4))
