"""What `fastrnn.diagnostics` looks at."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastrnn.checks import Array


class Pass(NamedTuple):
    """Forward and back through one layer in one direction, time first, whatever the layer's `batch_first`.

    Letters: T time, B batch, I input, H hidden.
    """

    x: Array  # (T, B, I) floats or (T, B) tokens; above the first layer after dropout
    state: Any  # the initial (B, H), for the LSTM a pair; None is zeros, also in the pair
    lengths: Any  # (B,); None is T for all
    starts: Any  # (T, B) booleans: before which steps a row starts anew; None is nowhere
    start_state: Any  # as `state`: where from
    mask: Any  # (B, H), of the recurrent dropout; None where nothing is dropped
    y: Array  # (T, B, H)  every h; 0 where a row is padded
    dhidden: Array  # (T, B, H)  the whole gradient of the loss with respect to every h, likewise
