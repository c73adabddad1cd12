"""What the layers of a network are in C: of each its arrays, what it keeps between steps, and its function.

``@``, REAL and constants in angle brackets are as in `functions`.

Letters: I input, O output, H hidden, P projection, G gates, S sums, V vocabulary, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastrnn.checks import Array
from fastrnn.embed.functions import constant
from fastrnn.reference import Parameters
from fastrnn.reference.formats import narrowed


@dataclass
class Part:
    """A layer in C."""

    name: str  # of its function, with which those of its arrays and states begin
    comment: str
    width: int  # of what it gives
    takes: str = "const REAL *@RESTRICT x"  # or a token
    states: dict[str, Array] = field(
        default_factory=dict
    )  # by letter what each begins with; h is what it gives
    arrays: list[tuple[str, Array, str]] = field(default_factory=list)  # names, numbers, comments
    body: list[str] = field(default_factory=list)  # of the function
    needs: set[str] = field(default_factory=set)  # functions that it calls
    integers: tuple[int, int] = (0, 0)  # the most numbers made such for a product, and sums of them

    def array(self, name: str, numbers: Array, comment: str) -> str:
        """Add an array; what C calls it."""
        self.arrays.append((f"{self.name}_{name}", numbers, comment))
        return f"@{self.name}_{name}"

    def matrix(self, name: str, weights: Array, format: str, comment: str) -> Matrix:
        """Add weights (N, K) as they are stored, turned: so the sums of a product lie side by side."""
        numbers, scales = narrowed(weights, format)
        (N, K), kind = weights.shape, format.removesuffix("x8")
        found = Matrix(self.array(name, numbers.T, f"{comment}, turned: [{K}][{N}]"), format, K, N)
        if scales is not None:
            self.array(f"{name}_scale", scales, "what each column is multiplied by")
            self.integers = max(self.integers[0], K), max(self.integers[1], N)
        self.needs.add("multiply" if kind == "float32" else f"multiply_{kind}")
        return found

    def declared(self) -> list[str]:
        """What the lines of the function take for granted."""
        return ["int j;"] if any("(j = " in line for line in self.body) else []

    def each(self, count: int, statement: str) -> None:
        """Add a loop over j."""
        self.body.append(f"for (j = 0; j < {count}; ++j) {statement}")


@dataclass
class Matrix:
    """Weights, turned: K rows of N."""

    name: str
    format: str
    K: int
    N: int

    def times(self, x: str, sums: str) -> str:
        """Adds x times them to some sums."""
        kind, more = self.format.removesuffix("x8"), ""
        if kind == "int8":
            more = f"{self.name}_scale, {127 if self.format == 'int8x8' else 32767}, "
        suffix = "" if kind == "float32" else f"_{kind}"
        return f"@multiply{suffix}({self.K}, {self.N}, {self.name}, {more}{x}, {sums});"


def stored(name: str, format: str, index: str, scale: str) -> tuple[str, set[str]]:
    """An element of an array in a format, as a float, and what that needs."""
    element = f"{name}[{index}]"
    if format == "float32":
        return element, set()
    if format.startswith("int8"):
        return f"(float){element} * {name}_scale[{scale}]", set()
    return f"@wide_{format}({element})", {f"wide_{format}"}


def embedding(name: str, layer: str, parameters: Parameters) -> Part:
    """A row of a table for each token."""
    (V, E), format = parameters.w_ih.shape, parameters.format
    part = Part(name, f"{layer}: of each token, 0 to {V - 1}, a row of weight.", E, "int32_t token")
    numbers, scales = narrowed(parameters.w_ih, format)
    table = part.array("weight", numbers, f"weight, [{V}][{E}]")
    if scales is not None:
        part.array("weight_scale", scales, "what each row is multiplied by")
    element, part.needs = stored(table, format, f"token * {E} + j", "token")
    part.each(E, f"y[j] = {element};")
    return part


def linear(name: str, layer: str, parameters: Parameters) -> Part:
    """A product without memory."""
    (O, I), bias = parameters.w_ih.shape, parameters.b_ih
    part = Part(name, f"{layer}: y = weight x{'' if bias is None else ' + bias'}, of {I} numbers {O}.", O)
    weight = part.matrix("weight", parameters.w_ih, parameters.format, "weight")
    start = "0"
    if bias is not None:  # added to 0, as by the kernels: so it is never -0
        start = f"{part.array('bias', 0 + bias, f'bias, [{O}]')}[j]"
    part.each(O, f"y[j] = {start};")
    part.body.append(weight.times("x", "y"))
    return part


def activation(name: str, layer: str, kind: str, numbers: Sequence[float], width: int, dtype: str) -> Part:
    """A function of `fastrnn.reference.FUNCTIONS`, of each number or of all together, and its own numbers."""
    part = Part(name, f"{layer}.", width)
    text, part.needs = FUNCTIONS[kind]
    if kind == "elu":
        numbers = numbers[0] * numbers[1], numbers[1]
    for letter, number in zip("AB", numbers, strict=False):
        text = text.replace(letter, constant(number, dtype))
    if kind == "softmax":
        part.body.append(f"@softmax({width}, x, y);")
    else:
        part.each(width, f"y[j] = {text};")
    return part


#: In C, of x[j] and of numbers A and B, and what each needs.
FUNCTIONS: dict[str, tuple[str, set[str]]] = {
    "relu": ("@relu(x[j])", {"relu"}),
    "leaky_relu": ("x[j] > 0 ? x[j] : A * x[j]", set()),
    "elu": ("x[j] > 0 ? B * x[j] : A * @expm1(x[j])", {"expm1"}),
    "tanh": ("@tanh(x[j])", {"tanh"}),
    "sigmoid": ("@sigmoid(x[j])", {"sigmoid"}),
    "hard_sigmoid": ("@hard_sigmoid(x[j], A)", {"hard_sigmoid"}),
    "silu": ("x[j] * @sigmoid(x[j])", {"sigmoid"}),
    "gelu": ("@gelu(x[j])", {"gelu"}),
    "softsign": ("x[j] / (1 + (x[j] > 0 ? x[j] : -x[j]))", set()),
    "softmax": ("", {"softmax"}),
}
