"""Recurrent layers in C: a product of x, one or two of h, and what each unit makes of the sums.

``@``, REAL and constants in angle brackets are as in `functions`. Sums stand gate by gate, H of each.

Letters: I input, H hidden, P projection, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastrnn.checks import Array
from fastrnn.embed.functions import constant
from fastrnn.embed.parts import Part, stored
from fastrnn.reference import CELLS, Options, Parameters


def recurrent(
    name: str,
    layer: str,
    cell: str,
    parameters: Parameters,
    start: Sequence[Array],
    options: Options,
    tokens: bool,
) -> Part:
    """A layer of a cell of `fastrnn.reference.CELLS`, of tokens or of numbers."""
    made = _Layer(parameters, CELLS[cell].gates)
    part = Part(name, "", made.P, states=dict(zip("hc", start, strict=False)), needs={"flushed"})
    if cell == "rnn_relu":
        options = options._replace(state="relu")
    clip = None if options.clip is None else constant(options.clip, parameters.w_ih.dtype.name)
    functions = _Functions(part, options, clip)
    kind = cell.removesuffix("_any")
    if kind == "lstm":
        equations = _lstm(part, made, functions, options.coupled, tokens)
    elif kind == "gru":
        equations = _gru(part, made, functions, tokens)
    elif kind == "gru_before":
        equations = _gru_before(part, made, functions, tokens)
    else:
        equations = _rnn(part, made, functions, tokens)
    part.comment = f"{layer}, {'tokens' if tokens else 'numbers'} {made.I} to {made.P}:\n{equations}"
    return part


class _Layer:
    """The arrays of a layer, by gates."""

    def __init__(self, parameters: Parameters, gates: str) -> None:
        self.own, self.format, self.gates = parameters, parameters.format, gates
        self.H, self.I = len(parameters.w_ih) // len(gates), parameters.w_ih.shape[1]
        self.P = parameters.w_hh.shape[1]

    def rows(self, array: Array, gates: str) -> Array:
        """Those of some gates, in this order."""
        blocks = np.split(array, len(self.gates))
        return np.concatenate([blocks[self.gates.index(gate)] for gate in gates])

    def bias(self, which: int, gates: str) -> Array:
        """b_ih or b_hh, which may not be there; added to zeros, as by the kernels: so it is never -0."""
        found = (self.own.b_ih, self.own.b_hh)[which]
        zeros = np.zeros(len(gates) * self.H, self.own.w_ih.dtype)
        return zeros if found is None else zeros + self.rows(found, gates)

    def begin(self, part: Part, gates: str, bias: Array, sums: str, tokens: bool) -> None:
        """What x gives to some gates, on top of the bias: the first of the sums."""
        H, size = self.H, len(bias)
        w = part.matrix(
            "weight_ih", self.rows(self.own.w_ih, gates), self.format, f"weight_ih of {' '.join(gates)}"
        )
        b = part.array("bias", bias, f"what {sums} begin with, [{size}]")
        part.body.append(f"REAL a[{size}]; /* {sums} */")
        if not tokens:
            part.each(size, f"a[j] = {b}[j];")
            part.body.append(w.times("x", "a"))
            return
        part.takes, count = "int32_t token", len(gates) * H
        element, needs = stored(w.name, self.format, f"token * {count} + j", "j")
        part.needs |= needs
        part.each(count, f"a[j] = {b}[j] + {element};")
        if size > count:
            part.body.append(f"for (j = {count}; j < {size}; ++j) a[j] = {b}[j];")

    def add(self, part: Part, gates: str, x: str, place: int, name: str = "weight_hh") -> None:
        """What h gives to some gates, whose sums begin at a place."""
        comment = f"weight_hh of {' '.join(gates)}"
        w = part.matrix(name, self.rows(self.own.w_hh, gates), self.format, comment)
        part.body.append(w.times(x, f"a + {place * self.H}" if place else "a"))

    def units(self, part: Part, *statements: str) -> None:
        """What each unit makes of its sums."""
        part.each(self.H, "{\n    " + "\n    ".join(statements) + "\n  }")


class _Functions:
    """The calls of a cell's activations, and what they are called in equations."""

    def __init__(self, part: Part, options: Options, clip: str | None) -> None:
        self.part, self.clip = part, clip
        self.names = [name.removesuffix("_6") for name in options[:3]]
        self._slopes = ["<one_sixth>" if name.endswith("_6") else "<one_fifth>" for name in options[:3]]

    def gate(self, a: str) -> str:
        """Of a gate that opens and closes."""
        return self._call(0, self._bounded(a))

    def state(self, a: str) -> str:
        """Of what goes into the state."""
        return self._call(1, self._bounded(a))

    def output(self, a: str) -> str:
        """Of what comes out of it."""
        return self._call(2, a)

    def _bounded(self, a: str) -> str:
        if self.clip is None:
            return a
        self.part.needs.add("clipped")
        return f"@clipped({a}, {self.clip})"

    def _call(self, which: int, a: str) -> str:
        name = self.names[which]
        if name == "linear":
            return a
        self.part.needs.add(name)
        return f"@{name}({a}{', ' + self._slopes[which] if name == 'hard_sigmoid' else ''})"


def _lstm(part: Part, layer: _Layer, functions: _Functions, coupled: bool, tokens: bool) -> str:
    H, P, hr = layer.H, layer.P, layer.own.w_hr
    layer.begin(part, "ifgo", layer.bias(0, "ifgo") + layer.bias(1, "ifgo"), "i f g o", tokens)
    layer.add(part, "ifgo", "h", 0)
    i, f, g, o = "a[j]", f"a[{H} + j]", f"a[{2 * H} + j]", f"a[{3 * H} + j]"
    seen = ""
    if layer.own.vectors:
        seen, p = " + p c", part.array("peephole", layer.own.vectors[0], "of i f o")
        i, f = f"{i} + {p}[j] * c[j]", f"{f} + {p}[{H} + j] * c[j]"
        o = f"@fma({p}[{2 * H} + j], next, {o})"
    if hr is not None:
        part.body.insert(0, f"REAL made[{H}];")
    layer.units(
        part,
        f"const REAL i = {functions.gate(i)}, g = {functions.state(g)};",
        f"const REAL f = {'1 - i' if coupled else functions.gate(f)};",
        "const REAL next = @flushed(@fma(f, c[j], i * g));",
        f"const REAL o = {functions.gate(o)};",
        "c[j] = next;",
        f"{'made' if hr is not None else 'h'}[j] = @flushed(o * {functions.output('next')});",
    )
    if hr is not None:
        w = part.matrix("weight_hr", hr, layer.format, "weight_hr")
        part.each(P, "h[j] = 0;")
        part.body.append(w.times("made", "h"))
        part.each(P, "h[j] = @flushed(h[j]);")
    gate, state, output = functions.names
    first, last = ("i, o", "   f = 1 - i") if coupled else ("i, f, o", "")
    return (
        f"{first} = {gate}(W_ih x + b_ih + W_hh h + b_hh{seen})   g = {state}(the same){last}\n"
        f"c = f c + i g   h = {'o' if hr is None else 'W_hr (o'} {output}(c){'' if hr is None else ')'}"
    )


def _gru(part: Part, layer: _Layer, functions: _Functions, tokens: bool) -> str:
    H = layer.H
    both = layer.bias(0, "rz") + layer.bias(1, "rz")
    bias = np.concatenate([layer.bias(0, "n"), both, layer.bias(1, "n")])
    layer.begin(part, "nrz", bias, "n r z q", tokens)
    layer.add(part, "rzn", "h", 1)
    part.each(
        2 * H, f"a[{H} + j] = {functions.gate(f'a[{H} + j]')};"
    )  # in one loop with n Clang makes no vectors
    layer.units(
        part,
        f"const REAL n = {functions.state(f'@fma(a[{H} + j], a[{3 * H} + j], a[j])')};",
        f"h[j] = @flushed(@fma(a[{2 * H} + j], h[j] - n, n));",
    )
    gate, state, _ = functions.names
    return (
        f"r, z = {gate}(W_ih x + b_ih + W_hh h + b_hh)   q = W_hn h + b_hn\n"
        f"n = {state}(W_in x + b_in + r q)   h = (1 - z) n + z h"
    )


def _gru_before(part: Part, layer: _Layer, functions: _Functions, tokens: bool) -> str:
    H = layer.H
    layer.begin(part, "nrz", layer.bias(0, "nrz") + layer.bias(1, "nrz"), "n r z", tokens)
    part.body.insert(0, f"REAL some[{H}]; /* r h */")
    layer.add(part, "rz", "h", 1)
    part.each(H, f"some[j] = {functions.gate(f'a[{H} + j]')} * h[j];")
    layer.add(part, "n", "some", 0, "weight_hn")
    layer.units(
        part,
        f"const REAL z = {functions.gate(f'a[{2 * H} + j]')}, n = {functions.state('a[j]')};",
        "h[j] = @flushed(@fma(z, h[j] - n, n));",
    )
    gate, state, _ = functions.names
    return (
        f"r, z = {gate}(W_ih x + b_ih + W_hh h + b_hh)\n"
        f"n = {state}(W_in x + b_in + W_hn (r h) + b_hn)   h = (1 - z) n + z h"
    )


def _rnn(part: Part, layer: _Layer, functions: _Functions, tokens: bool) -> str:
    layer.begin(part, "h", layer.bias(0, "h") + layer.bias(1, "h"), "h", tokens)
    layer.add(part, "h", "h", 0)
    part.each(layer.H, f"h[j] = @flushed({functions.state('a[j]')});")
    return f"h = {functions.names[1]}(W_ih x + b_ih + W_hh h + b_hh)"
