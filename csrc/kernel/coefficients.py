"""Computes the coefficients of math.h (minimax by Remez exchange) and keeps the block there that holds them.

    python coefficients.py            print the block, and the error of each approximation on standard error
    python coefficients.py --write    put it into math.h
    python coefficients.py --check    fail if math.h holds anything else

Needs mpmath. The exchange is Remez's in the form for rationals of Cody, Fraser and Hart (1968); the coefficients
are rounded to the machine's format one by one, the others being fitted again after each, so that rounding costs
almost nothing of the error.
"""

import argparse
import pathlib
import struct
import sys

import mpmath as mp

mp.mp.dps = 50
HEADER = pathlib.Path(__file__).with_name("math.h")
BEGIN, END = "// coefficients.py writes from here", "// to here"


def chebyshev(a, b, count):
    """`count` points of [a, b], denser towards its ends."""
    return [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]


def solve(table, reference, values, numerator, denominator):
    """The rational whose relative error alternates as +E, -E, ... on the reference. None marks a free coefficient.

    N - f (1 ± E) D = 0 at each point is bilinear in E and D: repeat with E from the last round.
    """
    free_n = [k for k, c in enumerate(numerator) if c is None]
    free_d = [k for k, c in enumerate(denominator) if c is None]
    size = len(free_n) + len(free_d) + 1
    error, previous = mp.mpf(0), [c if c is not None else mp.mpf(0) for c in denominator]
    for _ in range(50):
        matrix, right = mp.matrix(size, size), mp.matrix(size, 1)
        for row, i in enumerate(reference):
            powers, f, sign = table[i], values[i], (-1) ** row
            target = f * (1 + sign * error)
            slope = sign * f * sum(c * p for c, p in zip(previous, powers))  # of the equation in E
            for column, k in enumerate(free_n):
                matrix[row, column] = powers[k]
            for column, k in enumerate(free_d):
                matrix[row, len(free_n) + column] = -target * powers[k]
            matrix[row, size - 1] = -slope
            right[row] = target * sum(c * p for c, p in zip(denominator, powers) if c is not None) - slope * error
            right[row] -= sum(c * p for c, p in zip(numerator, powers) if c is not None)
        solution = list(mp.lu_solve(matrix, right))
        n, d, last = list(numerator), list(denominator), error
        for k, c in zip(free_n, solution):
            n[k] = c
        for k, c in zip(free_d, solution[len(free_n) :]):
            d[k] = c
        error, previous = solution[-1], d
        if abs(error - last) <= abs(error) * mp.mpf(10) ** -10:
            break
    return n, d, error


def alternation(errors, count):
    """The `count` largest extrema of alternating sign."""
    extrema = []
    for i, error in enumerate(errors):
        if extrema and (error > 0) == (errors[extrema[-1]] > 0):
            if abs(error) > abs(errors[extrema[-1]]):
                extrema[-1] = i
        else:
            extrema.append(i)
    while len(extrema) > count:
        if len(extrema) == count + 1:
            extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
        else:
            height = [abs(errors[i]) for i in extrema]
            k = min(range(len(extrema) - 1), key=lambda k: max(height[k], height[k + 1]))
            del extrema[k : k + 2]
    return extrema


def minimax(f, variable, points, numerator, denominator):
    """N(y) / D(y) of least maximal relative error against f(x) over the points, y = variable(x)."""
    degree = max(len(numerator), len(denominator))
    table = [[variable(x) ** k for k in range(degree)] for x in points]
    values = [f(x) for x in points]
    size = sum(c is None for c in numerator + denominator) + 1

    def errors(n, d):
        ratios = (
            sum(c * p for c, p in zip(n, row)) / sum(c * p for c, p in zip(d, row)) / v
            for row, v in zip(table, values)
        )
        return [ratio - 1 for ratio in ratios]

    if size == 1:
        return numerator, denominator, max(map(abs, errors(numerator, denominator)))
    last = len(points) - 1
    reference = [round(last * (2 * k + 1) / (2 * size)) for k in range(size)]
    for _ in range(40):
        n, d, level = solve(table, reference, values, numerator, denominator)
        curve = errors(n, d)
        worst = max(map(abs, curve))
        if worst <= abs(level) * (1 + mp.mpf(10) ** -4):
            break
        exchanged = alternation(curve, size)
        if len(exchanged) < size:  # the rounded coefficients leave fewer extrema: near enough
            break
        reference = exchanged
    return n, d, worst


def rounded(value, bits):
    with mp.workprec(bits):
        return +value


def fit(name, bits, f, variable, points, numerator, denominator=(1,)):
    """`minimax` with every coefficient rounded to `bits`."""
    n = [None if c is None else mp.mpf(c) for c in numerator]
    d = [None if c is None else mp.mpf(c) for c in denominator]
    ideal = None
    for k in range(max(len(n), len(d))):
        for which in (0, 1):
            if k < len((n, d)[which]) and (n, d)[which][k] is None:
                free_n, free_d, worst = minimax(f, variable, points, n, d)
                ideal = worst if ideal is None else ideal
                (n, d)[which][k] = rounded((free_n, free_d)[which][k], bits)
    worst = minimax(f, variable, points, n, d)[2]
    unit = mp.mpf(2) ** bits
    print(f"{name}: error {mp.nstr(ideal * unit, 3)}, rounded {mp.nstr(worst * unit, 3)} / 2^{bits}", file=sys.stderr)
    return n, d


def literal(value, bits):
    text = float(value).hex()
    mantissa, exponent = text.split("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{int(exponent)}" + ("f" if bits == 24 else "")


def function(name, real, variable, coefficients, bits):
    """C++ of one polynomial, wrapped."""
    words = [literal(c, bits) for c in coefficients]
    lines, line = [], f"  return polynomial<{real}>({variable}"
    for word in words:
        if len(line) + 2 + len(word) > 106:
            lines.append(line + ",")
            line = "      " + word
        else:
            line += ", " + word
    lines.append(line + ");")
    return [f"FASTRNN_INLINE Vec<{real}> {name}(Vec<{real}> {variable}) {{", *lines, "}"]


def exponential(real, bits, degree, high_bits):
    """e^-r for |r| <= ln 2 / 2, and ln 2 in two parts, the higher short enough for n * high to be exact."""
    half = mp.log(2) / 2 * (1 + mp.mpf(2) ** -10)  # n is rounded from an inexact product
    points = chebyshev(-half, half, 801)
    n, _ = fit(f"{real} exp", bits, lambda r: mp.exp(-r), lambda r: r, points, [1] + [None] * degree)
    high = rounded(mp.log(2), high_bits)
    low = rounded(mp.log(2) - high, bits)
    return [
        f"constexpr {real} {real}_log2e = {literal(rounded(1 / mp.log(2), bits), bits)};",
        f"constexpr {real} {real}_ln2_high = {literal(high, bits)};",
        f"constexpr {real} {real}_ln2_low = {literal(low, bits)};",
        *function("exp_minus_reduced", real, "r", n, bits),
    ]


def block():
    lines = exponential("float", 24, 6, 16)
    lines += exponential("double", 53, 12, 42)

    points = chebyshev(mp.mpf("1e-3"), mp.mpf(9), 1201)
    n, d = fit("float tanh", 24, lambda x: mp.tanh(x) / x, lambda x: x * x, points, [1] + [None] * 4, [1] + [None] * 4)
    lines += function("tanh_numerator", "float", "y", n, 24)
    lines += function("tanh_denominator", "float", "y", d, 24)

    points = chebyshev(mp.mpf("1e-3"), mp.mpf("0.5625"), 601)
    n, d = fit(
        "double tanh - x",
        53,
        lambda x: (mp.tanh(x) - x) / x**3,
        lambda x: x * x,
        points,
        [None] * 4,
        [1] + [None] * 3,
    )
    lines += function("tanh_numerator", "double", "y", n, 53)
    lines += function("tanh_denominator", "double", "y", d, 53)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true", help="put the block into math.h")
    mode.add_argument("--check", action="store_true", help="fail if math.h holds another block")
    arguments = parser.parse_args()
    text = block()
    before, _, rest = HEADER.read_text().partition(BEGIN + "\n")
    _, _, after = rest.partition(END + "\n")
    whole = f"{before}{BEGIN}\n{text}\n{END}\n{after}"
    if arguments.write:
        HEADER.write_text(whole)
    elif arguments.check:
        sys.exit(None if HEADER.read_text() == whole else "math.h holds other coefficients")
    else:
        print(text)


if __name__ == "__main__":
    main()
