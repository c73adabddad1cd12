"""The C functions that exported networks are made of: each is the kernels' own, number by number.

In their texts ``@`` stands for the prefix of all names, REAL for float or double, WORD for an integer of that
width, and what is in angle brackets for the entry of `CONSTANTS` of that name. All arithmetic that could be
contracted is an explicit ``@fma`` or, as in the kernels, a product and a sum with two roundings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from fastrnn.reference.formats import BLOCK, LEAST_ACTIVATION


class Function(NamedTuple):
    """A function in C, and those that it calls."""

    text: str
    needs: Sequence[str] = ()


#: Of csrc/kernel/math.h, in which they are computed and explained.
CONSTANTS: dict[str, dict[str, str]] = {
    "float32": {
        "log2e": "0x1.715476p0",
        "ln2": "0x1.62e43p-1",
        "ln2_high": "0x1.62e4p-1",
        "ln2_low": "0x1.7f7d1cp-20",
        "log_smallest": "-0x1.5d58ap6",
        "rounder": "0x1.8000fep23",  # 1.5 * 2^23, and the bias of the exponent
    },
    "float64": {
        "log2e": "0x1.71547652b82fep0",
        "ln2_high": "0x1.62e42fefa38p-1",
        "ln2_low": "0x1.ef35793c7673p-45",
        "log_smallest": "-0x1.6232bdd7abcd2p9",
        "rounder": "0x1.80000000003ffp52",
    },
}

#: The polynomials there, lowest coefficient first.
POLYNOMIALS: dict[str, dict[str, str]] = {
    "float32": {
        "exp_quotient": "-0x1p0 0x1p-1 -0x1.5554a2p-3 0x1.55568ap-5 -0x1.123006p-7 0x1.6b6deep-10",
        "tanh_quotient": "-0x1.554feap-2 0x1.0c7f6ep-3",
    },
    "float64": {
        "exp_quotient": "-0x1p0 0x1p-1 -0x1.5555555555501p-3 0x1.55555555531c7p-5 -0x1.1111111128afcp-7 "
        "0x1.6c16c17cd9a06p-10 -0x1.a01a011b7e34dp-13 0x1.a019aadfa242bp-16 -0x1.71df561edd8e3p-19 "
        "0x1.289fde9425558p-22 -0x1.ad1fbdd08b5b2p-26",
        "tanh_quotient": "-0x1.555555555543dp-2 0x1.11111110fbf98p-3 -0x1.ba1ba1a8763dap-5 "
        "0x1.664f44d8caeddp-6 -0x1.226dc51800a8ap-7 0x1.d6c31bfc54b27p-9 -0x1.7cd660749737ap-10 "
        "0x1.2ef64f21c4c7ap-11 -0x1.b4b0a5afbd99ep-13 0x1.a01bcefb71529p-15",
    },
}

SHARED = {
    "kept": Function("""\
/* x, or 0 where `keep` is 0: without a branch, so that loops become vectors. */
static inline REAL @kept(int keep, REAL x) {
  WORD bits;
  memcpy(&bits, &x, sizeof bits);
  bits &= (WORD)0 - (WORD)keep;
  memcpy(&x, &bits, sizeof x);
  return x;
}
"""),
    "flushed": Function("""\
/* 0, with its sign, in the place of numbers too small to be normal, which would slow down what follows. */
static inline REAL @flushed(REAL x) {
  const WORD sign = (WORD)1 << <bits>;
  WORD bits;
  memcpy(&bits, &x, sizeof bits);
  bits &= ((WORD)0 - (WORD)((bits & (sign - 1)) >= (WORD)1 << <mantissa>)) | sign;
  memcpy(&x, &bits, sizeof x);
  return x;
}
"""),
    "power_of_two": Function("""\
/* 2^n of a sum that has n in its last bits, and with it the bias of the exponent. */
static inline REAL @power_of_two(REAL sum) {
  WORD bits;
  memcpy(&bits, &sum, sizeof bits);
  bits <<= <mantissa>;
  memcpy(&sum, &bits, sizeof sum);
  return sum;
}
"""),
    "exp": Function(
        """\
/* exp(x) for x <= 0 as 2^n e^-r with n the integer nearest to x / ln 2; 0 where it is not normal. */
static inline REAL @exp(REAL x) {
  const REAL sum = @fma(x, <log2e>, <rounder>), n = sum - <rounder>;
  const REAL r = @fma(n, <ln2_low>, @fma(n, <ln2_high>, -x));
  const REAL y = @fma(r, @exp_quotient(r), 1) * @power_of_two(sum);
  return @kept(!(x < <log_smallest>), y);
}
""",
        ("exp_quotient", "power_of_two", "kept"),
    ),
    "expm1": Function(
        """\
/* exp(x) - 1 for x <= 0. */
static inline REAL @expm1(REAL x) {
  const REAL sum = @fma(x, <log2e>, <rounder>), n = sum - <rounder>;
  const REAL r = @fma(n, <ln2_low>, @fma(n, <ln2_high>, -x)), power = @power_of_two(sum);
  const REAL y = @fma(r * @exp_quotient(r), power, power - 1);
  return x < <log_smallest> ? -1 : y;
}
""",
        ("exp_quotient", "power_of_two"),
    ),
    "relu": Function("static inline REAL @relu(REAL x) { return 0 > x ? 0 : x; }\n"),
    "linear": Function("static inline REAL @linear(REAL x) { return x; }\n"),
    "hard_sigmoid": Function("""\
/* The line through (0, 1/2), between 0 and 1. */
static inline REAL @hard_sigmoid(REAL x, REAL slope) {
  const REAL line = @fma(x, slope, <half>), below = 1 < line ? 1 : line;
  return 0 > below ? 0 : below;
}
"""),
    "clipped": Function("""\
/* x within -bound .. bound. */
static inline REAL @clipped(REAL x, REAL bound) {
  const REAL below = bound < x ? bound : x;
  return -bound > below ? -bound : below;
}
"""),
    "gelu": Function(
        """\
/* x times the probability that a standard normal number is below x, as tanh has it. */
static inline REAL @gelu(REAL x) {
  const REAL part = <half> * x, cubic = @fma(<cubed> * x, x, 1);
  return @fma(part, @tanh(<root> * x * cubic), part);
}
""",
        ("tanh",),
    ),
    "multiply": Function("""\
/* a[j] += x[k] w[k][j] for each k, one after the other: the same sums in the same order on any processor. */
static void @multiply(int K, int N, const REAL *@RESTRICT w, const REAL *@RESTRICT x, REAL *@RESTRICT a) {
  const int whole = K - K % 4;
  int k, j;
  for (k = 0; k < whole; k += 4, w += 4 * N)
    for (j = 0; j < N; ++j) {
      const REAL two = @fma(x[k + 1], w[N + j], @fma(x[k], w[j], a[j]));
      a[j] = @fma(x[k + 3], w[3 * N + j], @fma(x[k + 2], w[2 * N + j], two));
    }
  for (k = whole; k < K; ++k, w += N)
    for (j = 0; j < N; ++j) a[j] = @fma(x[k], w[j], a[j]);
}
"""),
    "wide_float16": Function("""\
/* The float that 16 bits stand for. */
static inline float @wide_float16(uint16_t w) {
  const uint32_t rest = w & 0x7fffu, normal = (rest << 13) + (112u << 23);
  const float fixed = (float)(int32_t)rest * <half_unit>; /* below the normal ones */
  uint32_t bits;
  float x;
  memcpy(&bits, &fixed, sizeof bits);
  bits = (rest < 0x400u ? bits : normal) | (uint32_t)(w & 0x8000u) << 16;
  memcpy(&x, &bits, sizeof x);
  return x;
}
"""),
    "wide_bfloat16": Function("""\
/* The float that 16 bits stand for: its upper half. */
static inline float @wide_bfloat16(uint16_t w) {
  const uint32_t bits = (uint32_t)w << 16;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
"""),
    "multiply_int8": Function("""\
/* a[j] += x[k] w[k][j] scale[j]. x is made integers q of a scale of its own, the largest of them `largest`;
   <block> at a time, sums of q and w are exact, so that nothing depends on their order. */
static void @multiply_int8(int K, int N, const int8_t *@RESTRICT w, const float *@RESTRICT scale,
                           float largest, const float *@RESTRICT x, float *@RESTRICT a) {
  int32_t sum[<widest>];
  int16_t q[<block>];
  uint32_t top = 0;
  float most, factor, unit;
  int finite, first, k, j;
  for (k = 0; k < K; ++k) {
    uint32_t bits;
    memcpy(&bits, &x[k], sizeof bits);
    bits &= 0x7fffffffu;
    top = bits > top ? bits : top;
  }
  memcpy(&most, &top, sizeof most);
  finite = top < 0x7f800000u;
  factor = finite && !(most < <least>) ? largest / most : 0;
  unit = finite ? most < <least> ? 0 : most / largest : most - most; /* NaN */
  for (first = 0; first < K; first += <block>, w += <block> * N) {
    const int depth = K - first < <block> ? K - first : <block>;
    for (k = 0; k < depth; ++k) {
      const float rounded = x[first + k] * factor;
      q[k] = (int16_t)(finite ? rounded + <shift> - <shift> : 0);
    }
    for (j = 0; j < N; ++j) sum[j] = 0;
    for (k = 0; k < depth - 1; k += 2)
      for (j = 0; j < N; ++j) sum[j] += q[k] * w[k * N + j] + q[k + 1] * w[(k + 1) * N + j];
    if (k < depth)
      for (j = 0; j < N; ++j) sum[j] += q[k] * w[k * N + j];
    for (j = 0; j < N; ++j) a[j] = @fma((float)sum[j], scale[j] * unit, a[j]);
  }
}
"""),
    "softmax": Function(
        """\
/* exp(x) divided by its sum, which is added up in order. */
static void @softmax(int N, const REAL *@RESTRICT x, REAL *@RESTRICT y) {
  REAL most = x[0], total = 0;
  int j;
  for (j = 1; j < N; ++j) most = x[j] > most ? x[j] : most;
  for (j = 0; j < N; ++j) y[j] = @exp(x[j] - most);
  for (j = 0; j < N; ++j) total += y[j];
  for (j = 0; j < N; ++j) y[j] = @flushed(y[j] / total);
}
""",
        ("exp", "flushed"),
    ),
}

for _format in ("float16", "bfloat16"):
    _text = (
        SHARED["multiply"]
        .text.replace("@multiply", f"@multiply_{_format}")
        .replace("REAL *@RESTRICT w", "uint16_t *@RESTRICT w")
    )
    SHARED[f"multiply_{_format}"] = Function(
        re.sub(r"\bw(\[[^]]*\])", rf"@wide_{_format}(w\1)", _text), (f"wide_{_format}",)
    )

OF_DTYPE = {
    "float32": {
        "sigmoid": Function(
            """\
/* 1 / (1 + 2^n e^-r) with n the integer nearest to -x / ln 2 and r = x + n ln 2. */
static inline float @sigmoid(float x) {
  const float bounded = 64 < x ? 64 : x;
  const float sum = @fma(bounded, -<log2e>, <rounder>), n = sum - <rounder>;
  const float r = @fma(n, <ln2_low>, @fma(n, <ln2_high>, bounded));
  const float y = 1 / @fma(@fma(r, @exp_quotient(r), 1), @power_of_two(sum), 1);
  return @kept(!(x < <log_smallest>), y);
}
""",
            ("exp_quotient", "power_of_two", "kept"),
        ),
        "tanh": Function(
            """\
/* (2^n - 1 + (2^n + 1) t) / (2^n + 1 + (2^n - 1) t) with t = tanh(r), r = x - n ln 2 / 2. */
static inline float @tanh(float x) {
  const float below = 16 < x ? 16 : x, bounded = -16 > below ? -16 : below;
  const float sum = @fma(bounded, 2 * <log2e>, <rounder>), n = sum - <rounder>;
  const float r = @fma(n, -<ln2> / 2, bounded), y = r * r, t = r * @fma(y, @tanh_quotient(y), 1);
  const float power = @power_of_two(sum), plus = 1 + power, minus = 1 - power;
  return @fma(plus, t, -minus) / @fma(minus, -t, plus);
}
""",
            ("tanh_quotient", "power_of_two"),
        ),
    },
    "float64": {
        "sigmoid": Function(
            """\
/* 1 / (1 + 2^n e^-r) with n the integer nearest to -x / ln 2 and r = x + n ln 2. */
static inline double @sigmoid(double x) {
  const double bounded = 64 < x ? 64 : x;
  const double sum = @fma(bounded, -<log2e>, <rounder>), n = sum - <rounder>;
  const double r = @fma(n, <ln2_low>, @fma(n, <ln2_high>, bounded)), power = @power_of_two(sum);
  const double large = 1 > power ? 1 : power, small = 1 < power ? 1 : power;
  const double y = 1 / (large + @fma(r * @exp_quotient(r), power, small));
  return @kept(!(x < <log_smallest>), y);
}
""",
            ("exp_quotient", "power_of_two", "kept"),
        ),
        "tanh": Function(
            """\
/* Of |x|: t = tanh(r) below 0.5625, else 1 - (1 - t) / (2^m + 1/2 + (2^m - 1/2) t), r = x - n ln 2 / 2. */
static inline double @tanh(double x) {
  const double halver = <rounder> - 1;
  uint64_t bits, sign;
  double a, sum, n, r, y, t, power, end;
  int small;
  memcpy(&bits, &x, sizeof bits);
  sign = bits & (uint64_t)1 << 63;
  bits ^= sign;
  memcpy(&a, &bits, sizeof a);
  a = 20 < a ? 20 : a;
  small = a < 0.5625;
  sum = small ? halver : @fma(a, 2 * <log2e>, halver);
  n = sum - halver;
  r = @fma(n, -<ln2_low> / 2, @fma(n, -<ln2_high> / 2, a));
  y = r * r;
  t = @fma(r * y, @tanh_quotient(y), r);
  power = @power_of_two(sum);
  end = small ? 0 : 1;
  y = end + (t - end) / @fma(power - 0.5, t, power + 0.5);
  memcpy(&bits, &y, sizeof bits);
  bits |= sign;
  memcpy(&y, &bits, sizeof y);
  return y;
}
""",
            ("tanh_quotient", "power_of_two"),
        ),
    },
}


def constant(value: str | float, dtype: str) -> str:
    """A number in C that is read as just this one: decimal, as C++ knew no other form for long."""
    exact = float.fromhex(value) if isinstance(value, str) else value
    return f"{np.float32(exact)!s}f" if dtype == "float32" else repr(float(exact))


def functions(wanted: Iterable[str], dtype: str, widest: tuple[int, int]) -> str:
    """The text of some functions and of those that they call, each after what it calls.

    Parameters
    ----------
    wanted : iterable of str
        Names.
    dtype : {"float32", "float64"}
        What REAL is.
    widest : tuple of int
        The most numbers that are made integers for one product, and the most sums of such.
    """
    polynomials = {name: _polynomial(name, each, dtype) for name, each in POLYNOMIALS[dtype].items()}
    depth, width = widest
    known = {**SHARED, **polynomials, **OF_DTYPE[dtype]}
    found: dict[str, str] = {}

    def take(name: str) -> None:
        for need in known[name].needs:
            take(need)
        found.setdefault(name, known[name].text)

    for name in known:
        if name in wanted:
            take(name)
    return filled("\n".join(found.values()), dtype, {"block": str(min(BLOCK, depth)), "widest": str(width)})


def _polynomial(name: str, coefficients: str, dtype: str) -> Function:
    *lower, highest = (constant(each, dtype) for each in coefficients.split())
    steps = "".join(f"  y = @fma(x, y, {each});\n" for each in reversed(lower))
    return Function(f"static inline REAL @{name}(REAL x) {{\n  REAL y = {highest};\n{steps}  return y;\n}}\n")


def filled(text: str, dtype: str, more: Mapping[str, str] = MappingProxyType({})) -> str:
    """A text with its types and constants."""
    values = {name: constant(value, dtype) for name, value in CONSTANTS[dtype].items()}
    values |= {"mantissa": "23", "bits": "31"} if dtype == "float32" else {"mantissa": "52", "bits": "63"}
    values |= {"half": constant(0.5, dtype), **more}
    values |= {"half_unit": constant(2.0**-24, dtype), "shift": constant(1.5 * 2**23, dtype)}
    values |= {
        "cubed": constant(0.044715, dtype),
        "root": constant(0.7978845608028654, dtype),
    }  # sqrt(2 / pi)
    number = np.dtype(dtype).type
    values |= {
        "one_fifth": constant(number(1) / number(5), dtype),
        "one_sixth": constant(number(1) / number(6), dtype),
    }
    values |= {"least": constant(LEAST_ACTIVATION, dtype)}
    real, word = ("float", "uint32_t") if dtype == "float32" else ("double", "uint64_t")
    text = re.sub(r"<([a-z0-9_]+)>", lambda match: values.get(match[1], match[0]), text)
    return text.replace("REAL", real).replace("WORD", word)
