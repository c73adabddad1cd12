"""Computes the coefficients in math.h: minimax polynomials by Remez's exchange, from exp and tanh alone.

    python coefficients.py            print the block of C++, and each polynomial's error on standard error
    python coefficients.py --write    put the block into math.h
    python coefficients.py --check    fail if math.h holds another one

Needs mpmath. The lowest coefficients are fixed at numbers that the machine holds exactly; rounding the others
costs little then, as they meet a power of the small variable. Remez 1934; Muller, "Elementary Functions".
"""

import argparse
import pathlib
import sys

import mpmath as mp

mp.mp.dps = 40
HEADER = pathlib.Path(__file__).with_name("math.h")
BEGIN, END = "// coefficients.py writes from here\n", "// to here\n"
REALS = (("float", 24), ("double", 53))  # and the bits of their mantissas


def rounded(value, bits):
    with mp.workprec(bits):
        return +value


def nodes(a, b, count=500):
    """Points of [a, b], denser towards the ends."""
    return [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]


def alternation(errors, count):
    """Where the errors are largest, `count` times with alternating sign."""
    found = []
    for i, error in enumerate(errors):
        if found and (error > 0) == (errors[found[-1]] > 0):
            if abs(error) > abs(errors[found[-1]]):
                found[-1] = i
        else:
            found.append(i)
    while len(found) > count:
        found.pop(0 if abs(errors[found[0]]) < abs(errors[found[-1]]) else -1)
    return found


def minimax(f, points, known, degree):
    """The polynomial of least relative error to f whose lowest coefficients are known."""
    first, size = len(known), degree + 2 - len(known)
    table = [[x**k for k in range(degree + 1)] for x in points]
    values = [f(x) for x in points]
    sides = [-1 if x < 0 and first % 2 else 1 for x in points]  # the sign of x^first, in all unknown terms
    reference = [round((len(points) - 1) * (2 * k + 1) / (2 * size)) for k in range(size)]
    while True:
        # sum c_k x^k + (-1)^n E f = f at the points of the reference
        matrix = mp.matrix(
            [[*table[i][first:], (-1) ** n * sides[i] * values[i]] for n, i in enumerate(reference)]
        )
        right = mp.matrix([values[i] - mp.fdot(known, table[i][:first]) for i in reference])
        *free, level = mp.lu_solve(matrix, right)
        errors = relative_errors(known + free, table, values)
        if max(map(abs, errors)) <= abs(level) * mp.mpf("1.001"):
            return known + free
        reference = alternation([side * e for side, e in zip(sides, errors, strict=True)], size)


def relative_errors(coefficients, table, values):
    return [mp.fdot(coefficients, row) / v - 1 for row, v in zip(table, values, strict=True)]


def fit(name, bits, f, points, known, degree):
    """Coefficients in the machine's format, without the constant 1."""
    exact = minimax(f, points, known, degree)
    table, values = [[x**k for k in range(degree + 1)] for x in points], [f(x) for x in points]
    held = [rounded(c, bits) for c in exact]
    before, after = (max(map(abs, relative_errors(c, table, values))) * 2**bits for c in (exact, held))
    report = f"{name}: degree {degree}, error {mp.nstr(before, 3)}, rounded {mp.nstr(after, 3)} / 2^{bits}"
    print(report, file=sys.stderr)
    return held[1:]


def literal(value, bits):
    mantissa, exponent = float(value).hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{int(exponent)}" + ("f" if bits == 24 else "")


def constants(real, bits):
    ln2 = mp.log(2)
    high = rounded(ln2, {24: 16, 53: 42}[bits])  # short: n * high is exact for the exponents n of the format
    values = {
        "log2e": 1 / ln2,
        "ln2": ln2,
        "ln2_high": high,
        "ln2_low": ln2 - high,
        "log_smallest": {24: -126, 53: -1022}[bits] * ln2,  # of the normal numbers
    }
    literals = {name: literal(rounded(value, bits), bits) for name, value in values.items()}
    lines = [f"  static constexpr {real} {name} = {text};" for name, text in literals.items()]
    return "\n".join([f"template <>\nstruct Constant<{real}> {{", *lines, "};\n"])


def function(name, real, variable, coefficients, bits):
    head = f"FASTRNN_INLINE Vec<{real}> {name}(Vec<{real}> {variable}) {{\n"
    head += f"  return polynomial<{real}>({variable}"
    words = [literal(c, bits) for c in coefficients]
    text, width = head, len(head) - head.index("\n") - 1
    for word in words:
        broken = width + len(word) + 4 > 110
        text += (",\n" + " " * 6 if broken else ", ") + word
        width = 6 + len(word) if broken else width + 2 + len(word)
    return text + ");\n}"


def block():
    parts = [constants(real, bits) for real, bits in REALS]
    one, wider = mp.mpf(1), 1 + mp.mpf(2) ** -10  # n comes from a rounded product: r may be a little larger
    points = nodes(-mp.log(2) / 2 * wider, mp.log(2) / 2 * wider)
    for (real, bits), degree in zip(REALS, (6, 11), strict=True):
        c = fit(f"{real} e^-r", bits, lambda r: mp.exp(-r), points, [one, -one, one / 2], degree)
        parts.append(function("exp_quotient", real, "r", c, bits))
    for (real, bits), reach, degree in zip(
        REALS, (mp.log(2) / 4 * wider, mp.mpf("0.5625")), (2, 10), strict=True
    ):
        points = nodes(mp.mpf("1e-8"), reach**2)  # of y = r^2
        c = fit(
            f"{real} tanh(r) / r", bits, lambda y: mp.tanh(mp.sqrt(y)) / mp.sqrt(y), points, [one], degree
        )
        parts.append(function("tanh_quotient", real, "y", c, bits))
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--write", action="store_true", help="put the block into math.h")
    mode.add_argument("--check", action="store_true", help="fail if math.h holds another one")
    arguments = parser.parse_args()
    made, text = block(), HEADER.read_text()
    before, held = text.split(BEGIN)
    held, after = held.split(END)
    if arguments.write:
        HEADER.write_text(before + BEGIN + made + END + after)
    elif arguments.check:
        sys.exit(0 if held == made else "math.h holds other coefficients")
    else:
        print(made, end="")


if __name__ == "__main__":
    main()
