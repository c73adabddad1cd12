"""A call of one layer in one direction, and what comes back, as records: from the doors to the kernels.

Letters: T time, B batch, I input, H hidden, P projection, G gates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastrnn.checks import Array


class Parameters(NamedTuple):
    """The arrays of one layer in one direction, in PyTorch's layouts; or their gradients."""

    w_ih: Array  # (G*H, I) or (G*H, V)
    w_hh: Any  # (G*H, H); None in a stream's layers without memory
    b_ih: Array | None = None  # (G*H,)
    b_hh: Array | None = None  # (G*H,)
    w_hr: Array | None = None  # (P, H): h is projected by it. Then w_hh is (G*H, P), and y and h have P units
    vectors: Sequence[Array] = ()  # the cell's own
    format: str = "float32"  # of `fastrnn.reference.FORMATS`: the weights are rounded to it already

    def arrays(self) -> list[Array]:
        """Those that are there, in this order."""
        return [array for array in (*self[:5], *self.vectors) if array is not None]


class Options(NamedTuple):
    """What a cell whose name ends in ``_any`` is told at each call; others take only this default."""

    gate: str = "sigmoid"  # activations: of the gates that open and close,
    state: str = "tanh"  # of what goes into the state,
    output: str = "tanh"  # and of what comes out of it
    clip: float | None = None  # what gates and the state are made of is clipped to -clip ... clip
    coupled: bool = False  # f = 1 - i


class Call(NamedTuple):
    """One call of one layer in one direction."""

    cell: str  # a key of `fastrnn.reference.CELLS`
    x: Array  # (T, B, I) floats or (T, B) integers: tokens, which stand for columns of w_ih
    parameters: Parameters
    states: Sequence[Array | None]  # one for each of the cell's, (B, H): the initial ones. None is zeros
    lengths: Array | None = None  # (B,) integers: how many steps of each row are valid. None is all T
    reverse: bool = False  # whether each row runs from its last valid step to its first
    training: bool = False  # whether to keep what `backward` needs,
    recompute: bool = False  # or little of it, in less memory, and compute the rest again
    mask: Array | None = None  # (B, H): what h_{t-1} is multiplied by before w_hh is, the same in every step
    all_c: Array | None = None  # (T, B, H), written to where there is a step: c after it
    options: Options = Options()
    starts: Array | None = None  # (T, B) booleans, or None: before such a step a row goes back to
    start_states: Sequence[Array | None] | None = None  # these, as `states`; None is zeros


class Gradients(NamedTuple):
    """The gradient of a loss with respect to each argument of a forward function, in that argument's shape.

    `x` is None where the input was tokens or its gradient is not wanted. `parameters` are a record like those
    given, with None for what was not there. `state` is there even if the initial state was left out: a (B, H)
    array, for the LSTM the pair (dh, dc); from a backend a tuple also where there is one. `start_state` is
    that of the states that rows have started anew from, likewise, and None for a call without `starts`.
    """

    x: Array | None
    parameters: Parameters
    state: Any
    start_state: Any = None
