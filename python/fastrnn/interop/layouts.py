"""How other systems lay out the weights of recurrent layers: what all readers and writers share.

Letters: I input, H hidden, G gates, L layers, D directions. A place is one layer in one direction; places go
as the parameters of a layer do: layer by layer, and of each the direction forwards first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.checks import Array
from fastrnn.functional.variants import FIELDS, OPTIONS
from fastrnn.layers import CELLS, Embedding, Linear, Recurrent
from fastrnn.layers.description import Blank
from fastrnn.reference import Parameters

#: The gates' blocks in the order in which a system has them: i input, f forget, g what comes in, o output;
#: r reset, z update, n new. Ours are PyTorch's.
ORDERS = {
    "pytorch": {"rnn": "h", "lstm": "ifgo", "gru": "rzn", "peephole": "ifo"},
    "onnx": {"rnn": "h", "lstm": "iofg", "gru": "zrn", "peephole": "iof"},
    "keras": {"rnn": "h", "lstm": "ifgo", "gru": "zrn"},
}

#: The options of a kind of layer that name its activations, in ONNX's order too, with what is usual.
ACTIVATIONS = {
    kind: {name: usual for name, usual in options.items() if FIELDS.get(name) in ("gate", "state", "output")}
    for kind, options in OPTIONS.items()
}


def reordered(array: Array, kind: str, have: str, want: str) -> Array:
    """An array whose first axis is the gates' blocks, as another system has them.

    Parameters
    ----------
    array : ndarray, (G*H, ...)
    kind : {"rnn", "lstm", "gru", "peephole"}
    have, want : str
        Keys of `ORDERS`.
    """
    before, after = ORDERS[have][kind], ORDERS[want][kind]
    blocks = dict(zip(before, np.split(array, len(before)), strict=True))
    return np.concatenate([blocks[gate] for gate in after])


def recurrent(
    kind: str,
    places: Sequence[Parameters],
    *,
    bidirectional: bool = False,
    batch_first: bool = False,
    initial: Sequence[Array] = (),
    **options: Any,
) -> Recurrent[Any]:
    """A layer with such weights.

    Parameters
    ----------
    kind : {"rnn", "lstm", "gru"}
    places : sequence of Parameters
        The weights by place, in our layout; of float64 all, or else float32 is what the layer gets.
    bidirectional, batch_first, **options
        As of the layer.
    initial : sequence of ndarray, (L*D, H)
        The state that sequences start from, if it is learned: each member of it.
    """
    first, arrays = places[0], [array for place in places for array in place.arrays()]
    arrays += initial
    gates = len(ORDERS["pytorch"][kind])
    if first.w_hr is not None:
        options["proj_size"] = len(first.w_hr)
    layer = CELLS[kind](
        first.w_ih.shape[1],
        len(first.w_ih) // gates,
        len(places) // (2 if bidirectional else 1),
        bias=first.b_ih is not None,
        bidirectional=bidirectional,
        batch_first=batch_first,
        learned_state=bool(initial),
        dtype=_dtype(arrays),
        seed=Blank(arrays),
        **options,
    )
    layer.load_state_dict(dict(zip(layer.parameters, arrays, strict=True)))
    return layer


def linear(weight: Array, bias: Array | None = None, dtype: npt.DTypeLike | None = None) -> Linear:
    """A layer with such weights, (O, I) and (O,): of that dtype, or by the same rule as `recurrent`."""
    arrays = [weight] if bias is None else [weight, bias]
    biased, dtype = bias is not None, dtype or _dtype(arrays)
    layer = Linear(*weight.shape[::-1], bias=biased, dtype=dtype, seed=Blank(arrays))
    layer.load_state_dict(dict(zip(layer.parameters, arrays, strict=True)))
    return layer


def embedding(weight: Array, dtype: npt.DTypeLike | None = None) -> Embedding:
    """A layer with such weights, (V, E), and that dtype, as of `linear`."""
    layer = Embedding(*weight.shape, dtype=dtype or _dtype([weight]), seed=Blank([weight]))
    layer.load_state_dict({"weight": weight})
    return layer


def _dtype(arrays: Sequence[Array]) -> str:
    return "float64" if all(array.dtype == np.float64 for array in arrays) else "float32"


def places(layer: Recurrent[Any]) -> list[Parameters]:
    """The weights of a layer by place; not a learned state."""
    suffixes = [suffix for level in range(layer.num_layers) for suffix in layer._suffixes(level)]
    return [layer._parameters_of(suffix) for suffix in suffixes]


def part_name(name: str, taken: Collection[str]) -> str:
    """A name in a file as one of a part of a `Sequential`, where dots separate: another than those taken, and
    than its arguments have."""
    base = name.replace(".", "_").replace("/", "_").strip("_") or "layer"
    found, count = base, 1
    while found in taken or found in ("self", "bptt_steps"):
        count += 1
        found = f"{base}_{count}"
    return found
