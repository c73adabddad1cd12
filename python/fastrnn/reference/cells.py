"""The cells: what happens in one step.

A cell says of itself, and everyone who needs to know asks it:

``gates``
    a letter for each block of H rows that the weights have, in their order;
``states``
    a letter for each array that is carried from step to step; the first is the output, h, of which W_hh makes
    the products;
``sigmoids``
    those of the gates that are between 0 and 1: `Options.gate` makes them, `Options.state` the others;
``keeps``
    the one of them that multiplies what is remembered, if there is one: open, it keeps the state as it is;
``vectors``
    parameters of its own by name, with a letter for each block of H numbers that one has; ``gamma_ih`` and
    ``gamma_hh``, if it has them, normalise what W_ih and W_hh give: see `Affine`;
``options``
    the fields of `Options` that it is told; the others, and all where it is told none, are its `usual`;
``projected``
    whether h may be a projection by W_hr: not where a step takes h itself up into the next;
``forward(multiply, x, previous) -> (following, kept)``
    the states after the step, and whatever else `backward` will want to know: the values of the gates first.
    x is what the input gives to each gate, with b_ih, and ``multiply("rz", h)`` what W_hh and b_hh make of h
    for some gates that stand side by side. A step may multiply more than once, by what it has found so far;
``backward(undo, kept, previous, following, dfollowing) -> (dx, dprevious, dvectors)``
    the chain rule through the same step. ``undo("rz", da)`` is the gradient of what `multiply` was given,
    and adds to those of W_hh and b_hh. dvectors are (B, blocks*H), of those of its vectors that the cell
    itself reads.

References
----------
Elman, "Finding structure in time", Cognitive Science 14 (1990).
Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
Gers, Schmidhuber and Cummins, "Learning to forget: continual prediction with LSTM", Neural Computation 12
(2000).
Gers, Schraudolph and Schmidhuber, "Learning precise timing with LSTM recurrent networks", JMLR 3 (2002).
Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP (2014).
Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450 (2016).
Greff et al., "LSTM: a search space odyssey", IEEE TNNLS 28 (2017), for the coupled gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from fastrnn.checks import Array
from fastrnn.reference.activations import ACTIVATIONS, Activation
from fastrnn.reference.products import layer_norm, layer_norm_backward
from fastrnn.reference.records import Options, Parameters

Arrays: TypeAlias = Sequence[Array]
Multiply: TypeAlias = Callable[[str, Array], Arrays]
Undo: TypeAlias = Callable[[str, Arrays], Array]
Back: TypeAlias = tuple[Arrays, Arrays, Mapping[str, Array]]


class Cell:
    """What the loop over time needs to know of a cell; an instance is one for a call.

    Every array that a cell sees is (B, H), but for h before the step where it is projected: (B, P).
    """

    gates: ClassVar[str]
    states: ClassVar[str]
    sigmoids: ClassVar[str] = ""
    keeps: ClassVar[str] = ""
    vectors: ClassVar[Mapping[str, str]] = {}
    options: ClassVar[Sequence[str]] = ()
    usual: ClassVar[Options] = Options()
    projected: ClassVar[bool] = True

    def __init__(self, vectors: Arrays, options: Options) -> None:
        told = options if self.options else self.usual
        self.gate, self.state, self.output = (ACTIVATIONS[name] for name in told[:3])
        self.bound, self.coupled = told.clip, told.coupled
        self.own = dict(zip(self.vectors, vectors, strict=False))

    @classmethod
    def widths(cls, parameters: Parameters) -> list[int]:
        """Those of the states: of h what W_hh multiplies, of all others H."""
        w_ih, w_hh, *_ = parameters
        return [w_hh.shape[1], *[len(w_ih) // len(cls.gates)] * (len(cls.states) - 1)]

    def forward(self, multiply: Multiply, x: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        """The next states, and what `backward` needs."""
        raise NotImplementedError

    def backward(
        self, undo: Undo, kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> Back:
        """The gradients of x, the states before and the vectors."""
        raise NotImplementedError

    def activation(self, gate: str) -> Activation:
        """That of one of the gates."""
        return self.gate if gate in self.sigmoids else self.state

    def clip(self, a: Array) -> Array:
        """What a gate or the state is made of, within the bounds that there may be."""
        return a if self.bound is None else np.clip(a, -self.bound, self.bound)

    def unclip(self, da: Array, a: Array) -> Array:
        """The gradient of what was clipped to a: times a slope of 0 or 1, as NaN is not to be hidden."""
        return da if self.bound is None else da * (np.abs(a) < self.bound)


class RNN(Cell):
    """The simple recurrent network, h_t = tanh(x + h) (Elman 1990)."""

    gates, states = "h", "h"

    def forward(self, multiply: Multiply, x: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (x_h,), (h_h,) = x, multiply("h", previous[0])
        a = self.clip(x_h + h_h)
        h = self.state.of(a)
        return [h], [h, a]

    def backward(
        self, undo: Undo, kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> Back:
        (h, a), (dh,) = kept, dfollowing
        da = [self.unclip(dh * self.state.slope(h), a)]
        return da, [undo("h", da)], {}


class ReluRNN(RNN):
    """The simple recurrent network with h_t = max(0, x + h)."""

    usual = Options(state="relu")


class AnyRNN(RNN):
    """The simple recurrent network with any activation."""

    options = "state", "clip"


class LSTM(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with the forget gate of Gers et al. (2000).

    ::

        i, f, o = sigmoid(x + h)        g = tanh(x + h)         gates in the order i f g o
        c_t     = f c_{t-1} + i g       h_t = o tanh(c_t)

    With a peephole (Gers et al. 2002) i and f also see p c_{t-1}, and o sees p c_t. Coupled (Greff et al.
    2017), f is 1 - i, and what W and b give to it is of no use.
    """

    gates, states, sigmoids, keeps = "ifgo", "hc", "ifo", "f"

    def forward(self, multiply: Multiply, x: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        h, c_previous = previous
        a_i, a_f, a_g, a_o = (x_k + h_k for x_k, h_k in zip(x, multiply("ifgo", h), strict=True))
        if "peephole" in self.own:
            p_i, p_f, p_o = np.split(self.own["peephole"], 3)
            a_i, a_f = a_i + p_i * c_previous, a_f + p_f * c_previous
        a_i, a_f, a_g = self.clip(a_i), self.clip(a_f), self.clip(a_g)
        i, g = self.gate.of(a_i), self.state.of(a_g)
        f = 1 - i if self.coupled else self.gate.of(a_f)
        c = f * c_previous + i * g
        if "peephole" in self.own:
            a_o = a_o + p_o * c
        a_o = self.clip(a_o)
        o, shown = self.gate.of(a_o), self.output.of(self.shown(c))
        return [o * shown, c], [i, f, g, o, shown, a_i, a_f, a_g, a_o]

    def backward(
        self, undo: Undo, kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> Back:
        (_, c_previous), (_, c), (dh, dc) = previous, following, dfollowing
        i, f, g, o, shown, a_i, a_f, a_g, a_o = kept
        da_o = self.unclip(dh * shown * self.gate.slope(o), a_o)
        # The cell state also acts through h.
        dshown, dvectors = self.shown_back(dh * o * self.output.slope(shown), c)
        dc = dc + dshown
        if "peephole" in self.own:
            p_i, p_f, p_o = np.split(self.own["peephole"], 3)
            dc = dc + p_o * da_o
        di, df = dc * g, dc * c_previous
        da_f = self.unclip(df * self.gate.slope(f), a_f)
        if self.coupled:
            di, da_f = di - df, np.zeros_like(df)
        da_i = self.unclip(di * self.gate.slope(i), a_i)
        da_g = self.unclip(dc * i * self.state.slope(g), a_g)
        dc_previous = dc * f
        if "peephole" in self.own:
            dc_previous = dc_previous + p_i * da_i + p_f * da_f
            dpeephole = [da_i * c_previous, da_f * c_previous, da_o * c]
            dvectors = {"peephole": np.concatenate(dpeephole, axis=1)}
        da = [da_i, da_f, da_g, da_o]
        return da, [undo("ifgo", da), dc_previous], dvectors

    def shown(self, c: Array) -> Array:
        """What the output's activation is applied to."""
        return c

    def shown_back(self, d: Array, c: Array) -> tuple[Array, Mapping[str, Array]]:
        """The gradients of its c, and of vectors."""
        return d, {}


class AnyLSTM(LSTM):
    """The LSTM with any activations, coupled gates and a peephole; without that vector it has none."""

    vectors: ClassVar[Mapping[str, str]] = {"peephole": "ifo"}
    options = Options._fields


class LayerNormLSTM(LSTM):
    """The LSTM with layer normalisation (Ba et al. 2016): haste's form, without shifts beside b_ih and b_hh.

    ::

        x = LN(W_ih x_t) gamma_ih + b_ih        h = LN(W_hh h_{t-1}) gamma_hh + b_hh
        h_t = o tanh(LN(c_t) gamma_c + beta_c)

    Mean and variance are of all gates of a row together, 4H numbers, and of the H numbers of c_t.
    """

    vectors: ClassVar[Mapping[str, str]] = {
        "gamma_ih": "ifgo",
        "gamma_hh": "ifgo",
        "gamma_c": "c",
        "beta_c": "c",
    }

    def shown(self, c: Array) -> Array:
        return layer_norm(c) * self.own["gamma_c"] + self.own["beta_c"]

    def shown_back(self, d: Array, c: Array) -> tuple[Array, Mapping[str, Array]]:
        dc = layer_norm_backward(c, d * self.own["gamma_c"])
        return dc, {"gamma_c": d * layer_norm(c), "beta_c": d}


class GRU(Cell):
    """The gated recurrent unit (Cho et al. 2014) in cuDNN's form: r acts after the product with W_hn.

    ::

        r, z = sigmoid(x + h)           n = tanh(x + r h)       gates in the order r z n
        h_t  = (1 - z) n + z h_{t-1}
    """

    gates, states, sigmoids, keeps = "rzn", "h", "rz", "z"
    projected = False

    def forward(self, multiply: Multiply, x: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (x_r, x_z, x_n), (h,) = x, previous
        h_r, h_z, h_n = multiply("rzn", h)
        a_r, a_z = self.clip(x_r + h_r), self.clip(x_z + h_z)
        r, z = self.gate.of(a_r), self.gate.of(a_z)
        a_n = self.clip(x_n + r * h_n)
        n = self.state.of(a_n)
        return [(1 - z) * n + z * h], [r, z, n, h_n, a_r, a_z, a_n]

    def backward(
        self, undo: Undo, kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> Back:
        (r, z, n, h_n, a_r, a_z, a_n), (h,), (dh,) = kept, previous, dfollowing
        da_n = self.unclip(dh * (1 - z) * self.state.slope(n), a_n)
        da_z = self.unclip(dh * (h - n) * self.gate.slope(z), a_z)
        da_r = self.unclip(da_n * h_n * self.gate.slope(r), a_r)
        return [da_r, da_z, da_n], [dh * z + undo("rzn", [da_r, da_z, da_n * r])], {}


class AnyGRU(GRU):
    """The GRU with any activations."""

    options = "gate", "state", "clip"


class LayerNormGRU(GRU):
    """The GRU with layer normalisation (Ba et al. 2016): haste's form, without shifts beside b_ih and b_hh.

    ::

        x = LN(W_ih x_t) gamma_ih + b_ih        h = LN(W_hh h_{t-1}) gamma_hh + b_hh

    Mean and variance are of all gates of a row together, 3H numbers.
    """

    vectors: ClassVar[Mapping[str, str]] = {"gamma_ih": "rzn", "gamma_hh": "rzn"}


class GRUBefore(GRU):
    """The gated recurrent unit as it came (Cho et al. 2014): r acts before the product with W_hn.

    ::

        r, z = sigmoid(x + h)           n = tanh(x + W_hn (r h_{t-1}) + b_hn)
        h_t  = (1 - z) n + z h_{t-1}
    """

    def forward(self, multiply: Multiply, x: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (x_r, x_z, x_n), (h,) = x, previous
        h_r, h_z = multiply("rz", h)
        a_r, a_z = self.clip(x_r + h_r), self.clip(x_z + h_z)
        r, z = self.gate.of(a_r), self.gate.of(a_z)
        (h_n,) = multiply("n", r * h)
        a_n = self.clip(x_n + h_n)
        n = self.state.of(a_n)
        return [(1 - z) * n + z * h], [r, z, n, a_r, a_z, a_n]

    def backward(
        self, undo: Undo, kept: Arrays, previous: Arrays, following: Arrays, dfollowing: Arrays
    ) -> Back:
        (r, z, n, a_r, a_z, a_n), (h,), (dh,) = kept, previous, dfollowing
        da_n = self.unclip(dh * (1 - z) * self.state.slope(n), a_n)
        da_z = self.unclip(dh * (h - n) * self.gate.slope(z), a_z)
        drh = undo("n", [da_n])
        da_r = self.unclip(drh * h * self.gate.slope(r), a_r)
        return [da_r, da_z, da_n], [dh * z + drh * r + undo("rz", [da_r, da_z])], {}


class AnyGRUBefore(GRUBefore):
    """The same with any activations."""

    options = "gate", "state", "clip"


CELLS: dict[str, type[Cell]] = {
    "rnn_tanh": RNN,
    "rnn_relu": ReluRNN,
    "rnn_any": AnyRNN,
    "lstm": LSTM,
    "lstm_any": AnyLSTM,
    "lstm_layer_norm": LayerNormLSTM,
    "gru": GRU,
    "gru_any": AnyGRU,
    "gru_layer_norm": LayerNormGRU,
    "gru_before": GRUBefore,
    "gru_before_any": AnyGRUBefore,
}
