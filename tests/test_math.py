"""The activations of the kernels on every ISA: error, symmetry, order, bounds and special numbers.

`python tests/test_math.py` does what no test has the time for: it takes the error of each float32 there is.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")

ISAS = _core.config()["isas"]
COEFFICIENTS = Path(__file__).parent.parent / "csrc" / "kernel" / "coefficients.py"

# Largest error in units in the last place, as math.h states it.
BOUND = {
    ("sigmoid", "float32"): 2.5,
    ("sigmoid", "float64"): 2.0,
    ("tanh", "float32"): 2.8,
    ("tanh", "float64"): 1.7,
    ("exp", "float32"): 1.5,
    ("exp", "float64"): 1.5,
    ("expm1", "float32"): 1.5,
    ("expm1", "float64"): 1.5,
}
# Largest step back between neighbours, in the same units.
STEP_BACK = {"sigmoid": 1, "tanh": 4, "exp": 1, "expm1": 1}
ENDS = {"sigmoid": (0, 1), "tanh": (-1, 1), "exp": (0, 1), "expm1": (-1, 0)}
WIDER = {"float32": np.float64, "float64": np.longdouble}
BITS = {"float32": np.uint32, "float64": np.uint64}
CASES = pytest.mark.parametrize("name, dtype", BOUND)
DTYPES = pytest.mark.parametrize("dtype", WIDER)


def kernel(name, x):
    """What the kernels give; expm1 is what `ELU` gives of numbers that are not positive."""
    return _core.activation("elu", x, (1.0, 1.0)) if name == "expm1" else _core.activation(name, x)


def truth(name, x):
    wider = WIDER[x.dtype.name]
    if np.finfo(wider).nmant == np.finfo(x.dtype).nmant:
        pytest.skip("no type is wider than float64 here")
    x = x.astype(wider)
    if name in ("tanh", "expm1"):
        return getattr(np, name)(x)
    with np.errstate(over="ignore"):
        return np.exp(x) if name == "exp" else 1 / (1 + np.exp(-x))


def domain(name, x):
    """Those of the numbers for which the function is made."""
    return x[x <= 0] if name in ("exp", "expm1") else x


def ulps(name, x):
    """The error of each result; what may be flushed to 0 is right if it is no larger than that."""
    y, true = kernel(name, x), truth(name, x)
    smallest = np.finfo(x.dtype).smallest_normal
    _, exponent = np.frexp(np.maximum(np.abs(true), smallest))
    unit = np.ldexp(true.dtype.type(1), exponent - np.finfo(x.dtype).nmant - 1)
    errors = np.abs(y - true) / unit
    errors[(np.abs(true) < smallest) & (np.abs(y) <= smallest)] = 0
    return errors


def numbers(dtype):
    """Of every exponent, denormals too: the ends and 100 numbers between; both signs. In order, no NaN."""
    info, bits = np.finfo(dtype), BITS[dtype]
    binades = np.arange(2**info.iexp - 1, dtype=bits)[:, None] << bits(info.nmant)
    rng = np.random.default_rng(1)
    fractions = np.concatenate([[0, 1, 2**info.nmant - 1], rng.integers(2**info.nmant, size=100)])
    positive = np.sort((binades | fractions.astype(bits)).ravel()).view(dtype)
    return np.concatenate([[-np.inf], -positive[::-1], positive, [np.inf]]).astype(dtype)


def neighbours(dtype):
    """Runs of successive numbers: around 0.5625, where formulas change, and over the range of interest."""
    rng = np.random.default_rng(2)
    for start in np.concatenate([[0.5625, 1e-3], rng.uniform(0, 1, 60), rng.uniform(0, 40, 100)]):
        first = np.array(start, dtype).view(BITS[dtype]) - 1000
        yield (first + np.arange(2000, dtype=BITS[dtype])).view(dtype)


@CASES
def test_error(isa, name, dtype):
    rng = np.random.default_rng(3)
    where_it_bends = rng.normal(scale=[[0.1], [1], [10]], size=(3, 100_000)).ravel().astype(dtype)
    for x in domain(name, numbers(dtype)), domain(name, where_it_bends):
        errors = ulps(name, x)
        assert errors.max() <= BOUND[name, dtype], x[errors.argmax()]


@CASES
def test_order_and_bounds(isa, name, dtype):
    y = kernel(name, domain(name, numbers(dtype)))
    low, high = ENDS[name]
    assert y[0] == y.min() == low
    assert y[-1] == y.max() == high
    runs = [y]
    for run in neighbours(dtype):
        runs = [*runs, *(kernel(name, x) for x in (run, -run[::-1]) if domain(name, x).size)]
    for run in runs:
        back = (run[:-1] - run[1:]) / np.spacing(np.abs(run[:-1]))
        assert back.max() <= STEP_BACK[name]


@DTYPES
def test_tanh_is_odd_and_keeps_the_sign_of_zero(isa, dtype):
    x = numbers(dtype)
    assert kernel("tanh", -x).tobytes() == (-kernel("tanh", x)).tobytes()
    zeros = np.array([0.0, -0.0], dtype)
    assert kernel("tanh", zeros).tobytes() == zeros.tobytes()


@DTYPES
def test_sigmoid_is_a_half_at_zero(isa, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    assert (kernel("sigmoid", np.array([0.0, -0.0, tiny, -tiny], dtype)) == 0.5).all()


@DTYPES
def test_relu(isa, dtype):
    x = numbers(dtype)
    x = x[(x == 0) | (np.abs(x) >= np.finfo(dtype).smallest_normal)]  # others may be flushed
    assert kernel("relu", x).tobytes() == np.where(x < 0, np.array(0, dtype), x).tobytes()


@DTYPES
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "expm1"])
def test_nan_stays_in_its_lane(isa, name, dtype):
    x = np.linspace(-3, 3, 37, dtype=dtype)
    clean = kernel(name, x)
    for k in range(x.size):
        for nan in np.nan, -np.nan:
            dirty = x.copy()
            dirty[k] = nan
            y = kernel(name, dirty)
            assert np.isnan(y[k])
            assert np.delete(y, k).tobytes() == np.delete(clean, k).tobytes()


@CASES
def test_each_lane_gives_the_same_bits(isa, name, dtype):
    x = np.random.default_rng(4).normal(size=67).astype(dtype)
    y = kernel(name, x)
    for start in range(17):
        for stop in range(start, x.size):
            assert kernel(name, x[start:stop].copy()).tobytes() == y[start:stop].tobytes()


@CASES
def test_each_isa_with_fma_gives_the_same_bits(name, dtype):
    before, x = _core.config()["isa"], domain(name, numbers(dtype))
    results = set()
    for isa in {"avx2", "avx512"} & set(ISAS):
        _core.set_isa(isa)
        results.add(kernel(name, x).tobytes())
    _core.set_isa(before)
    assert len(results) <= 1


def test_the_coefficients_are_those_that_the_script_computes():
    pytest.importorskip("mpmath", reason="coefficients.py needs mpmath")
    checked = subprocess.run([sys.executable, COEFFICIENTS, "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def all_of_float32():
    for isa in ISAS:
        _core.set_isa(isa)
        for name in "sigmoid", "tanh", "exp", "expm1":
            worst, where = 0.0, 0.0
            for first in range(0, 2**32, 2**22):
                x = np.arange(first, first + 2**22, dtype=np.uint64).astype(np.uint32).view(np.float32)
                x = domain(name, x[~np.isnan(x)])
                if x.size and (errors := ulps(name, x)).max() > worst:
                    worst, where = errors.max(), x[errors.argmax()]
            print(f"{isa} {name}: {worst:.3f} ULP at {where!r}", flush=True)
            assert worst <= BOUND[name, "float32"]


if __name__ == "__main__":
    all_of_float32()
