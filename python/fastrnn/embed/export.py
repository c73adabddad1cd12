"""A network as one C99 file and its header.

Letters: T time, I input, O output.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checkpoint, checks
from fastrnn.embed import parts
from fastrnn.embed.cells import recurrent
from fastrnn.embed.parts import Part
from fastrnn.embed.text import MARK, Source
from fastrnn.interop.rows import refuse, row_of, warn_of_network_alone
from fastrnn.layers import Composite, Layer
from fastrnn.layers.compression import WEIGHTS
from fastrnn.layers.stream import Stage
from fastrnn.reference.stream import sizes

KEYWORDS = frozenset(  # of C and C++
    "alignas alignof and asm auto bool break case catch char class concept const constexpr continue "
    "default delete do double else enum explicit export extern false float for friend goto if inline int "
    "long mutable namespace new noexcept not nullptr operator or private protected public register "
    "requires restrict return short signed sizeof static struct switch template this throw true try "
    "typedef typeid typename typeof union unsigned using virtual void volatile while xor".split()
)
NO_FORM = "it has no form in C"
OF_PARTS = ", which knows layers and Sequentials: a Sequential of some of its parts may have one"


def export_c(
    network: Any,
    path: str | os.PathLike[str],
    *,
    name: str = "model",
    dtype: npt.DTypeLike | None = None,
    weights: str | None = None,
    tokens: bool = False,
) -> None:
    """A trained network as one C99 file and its header: for a microcontroller, a plug-in, a robot, a browser.

    What `network.stream` does with one sequence, step by step, this does, with the same bits. It needs no
    library, takes no memory and has no variables of its own: the state is yours, one for each sequence, in a
    struct that may be copied. ::

        NAME_state state;
        NAME_init(&state);               the state of a beginning: zeros, or what the layer has learned
        NAME_step(&state, x, y);         x [I] to y [O], one step on
        NAME_run(&state, x, T, y);       x [T][I] to y [T][O], T steps on

    x and y of a step may be one array. Of tokens, `NAME_step` takes an ``int32_t`` and `NAME_run` an array of
    T; both return 0 or, with the state unmoved and nothing written, -1 for a token out of range.

    Where the processor that it is compiled for multiplies and adds with one rounding, and on any with
    ``-DNAME_FMA=1``, the bits are those of fastrnn on processors with AVX2, AVX-512 or NEON; elsewhere, and
    with ``-DNAME_FMA=0``, those of fastrnn without (``FASTRNN_ISA=baseline``). Compile with ``-std=c99`` or
    ``-ffp-contract=off``, and without ``-ffast-math``. Numbers below 1.2e-38 (2.2e-308 of float64) are 0 in
    fastrnn; here they are in states alone, unless the program has its processor flush them: so a state that
    fades away to nothing may differ in digits below 1e-37.

    Parameters
    ----------
    network : Layer or fitted model
        A recurrent layer, or a `Sequential` of such, `Embedding`, `Linear`, `Dropout`, `Last` and
        activations; or a model whose ``network_`` is one, of which neither scaling nor classes nor
        vocabulary are written.
    path : str or path-like
        The file to write, which ends in ``.c``; beside it the header, in ``.h``. Each is written in one step,
        over nothing but what an earlier call wrote.
    name : str
        What all names in C begin with.
    dtype : {"float32", "float64"}, optional
        What C computes in; by default the network's. Weights of another are rounded to it.
    weights : {"float32", "float64", "float16", "bfloat16", "int8"}, optional
        What C has weights as; by default as they are in the network. What has fewer bits is compressed as by
        `compress`, with the bits of that.
    tokens : bool
        Whether a recurrent layer that comes first takes tokens. After an `Embedding` there is no question.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type or out of range; if a layer has no step, as bidirectional ones and
        means, or no form in C; or if weights are not finite. It names the layer, and nothing is written.
    RuntimeError
        If a model is not fitted.
    FileExistsError
        If one of the two files is there, and is not of an earlier call.
    OSError
        If one cannot be written.

    Examples
    --------
    >>> network = fastrnn.layers.Sequential(fastrnn.LSTM(1, 16, seed=0), fastrnn.layers.Linear(16, 1, seed=0))
    >>> export_c(network, "filter.c", name="filter")
    >>> print(open("filter.h").read())
    /* Made by fastrnn ...
    """
    source, header = _paths(path)
    prefix = _identifier(name)
    layers = _layers(network)
    found = _source(prefix, _stored(layers, weights), dtype, weights, checks.boolean("tokens", tokens))
    texts = {source: found.source(os.path.basename(header)), header: found.header()}  # the large one first
    for file in texts:
        _require_ours(file)
    if layers is not network:
        warn_of_network_alone(network)
    for file, text in texts.items():
        checkpoint.write(file, text.encode())


def _paths(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The file and its header."""
    source = os.fspath(path)
    if not isinstance(source, str):
        raise TypeError(f"path must be a str or a path, got {checks.came(path)}")
    stem, ending = os.path.splitext(source)
    if ending != ".c":
        raise ValueError(f"path must end in .c, got {source!r}")
    called = os.path.basename(stem)
    if not called.isprintable() or re.search(r'["\\]|\?\?', called):
        raise ValueError(
            f"path must end in a name that C can #include: no quotes, backslashes or ??, got {source!r}"
        )
    return source, f"{stem}.h"


def _identifier(name: str) -> str:
    """What all names begin with."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {checks.came(name)}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or name in KEYWORDS:
        raise ValueError(
            f"name must be an identifier of C: a letter, then letters, digits and _, no keyword; got {name!r}"
        )
    return name


def _require_ours(file: str) -> None:
    """Refuse to write over what another hand wrote, or where nothing can be written."""
    if os.path.isfile(file):
        with open(file, "rb") as found:
            if found.read(len(MARK)) != MARK.encode():
                raise FileExistsError(
                    f"{file!r} is there already, and not of export_c: remove it, or take another path"
                )
    elif os.path.exists(file):
        raise FileExistsError(f"{file!r} is there already, and no file")
    checkpoint.require_writable(file)


def _layers(network: Any) -> Any:
    """The network itself, or that of a fitted model."""
    if isinstance(network, Layer):
        return network
    if hasattr(network, "_require_fitted"):
        network._require_fitted("network_")
    return getattr(network, "network_", network)


def _stored(network: Any, weights: str | None) -> Layer:
    """The layers to write, compressed if wanted."""
    if weights is not None:
        checks.one_of("weights", weights, ("float32", "float64", *WEIGHTS))
    row = row_of(network)
    if weights in WEIGHTS and any(getattr(layer, "weights", weights) != weights for layer in row.values()):
        network = network.compress(weights)
    return network  # type: ignore[no-any-return]


def _source(
    prefix: str, network: Layer, dtype: npt.DTypeLike | None, weights: str | None, tokens: bool
) -> Source:
    """What is written of a network."""
    stages: list[tuple[str, Stage]] = []
    for name, layer in row_of(network).items():
        try:
            found = layer._stages(1)
        except ValueError as error:
            refuse(name, layer, str(error))
        for stage in found:
            if not isinstance(stage, Stage) or stage.kind.endswith("layer_norm"):
                refuse(name, layer, NO_FORM + (OF_PARTS if isinstance(layer, Composite) else ""))
            stages.append((f"layer {name}, {layer!r}", stage))
    if not any(stage.start for _, stage in stages):
        raise ValueError("network needs a recurrent layer: without one there are no steps")
    recurrent_first = bool(stages[0][1].start)
    if tokens and not recurrent_first:
        raise ValueError(
            "tokens must be False: the first layer is not recurrent (an Embedding always has them)"
        )
    dtype = None if dtype is None else checks.float_dtype("dtype", dtype)
    stages = [(called, _rounded(called, stage, dtype)) for called, stage in stages]
    layers = [each for _, stage in stages for each in stage.layers]
    own = layers[0].w_ih.dtype.name
    if any(each.format != "float32" for each in layers):
        if own != "float32":
            raise ValueError(
                "dtype must be float32, as what compressed weights are multiplied in, got float64"
            )
        if weights not in (None, *WEIGHTS):
            raise ValueError(f"weights must be those of the network, which is compressed, got {weights!r}")
    elif weights not in (None, own):
        raise ValueError(
            f"weights must be {own!r}, as dtype is, or 'float16', 'bfloat16' or 'int8', got {weights!r}"
        )
    opening = next(stage for _, stage in stages if stage.layers)
    takes: int = sizes(*opening[:2])[0]
    made: list[Part] = []
    for called, stage in stages:
        if stage.layers:
            made += _of_weights(called, stage, made, tokens)
        else:
            name, width = _name(stage.kind, made), made[-1].width if made else takes
            made.append(parts.activation(name, called, stage.kind, stage.numbers, width, own))
    return Source(prefix, repr(network), made, own, takes)


def _rounded(layer: str, stage: Stage, dtype: npt.DTypeLike | None) -> Stage:
    """The arrays in C's dtype, without what the kernels take for 0."""

    def of(array: Any) -> Any:
        with np.errstate(over="ignore"):
            found = np.asarray(array, dtype or array.dtype)
        if not np.isfinite(found).all():
            raise ValueError(
                f"{layer}: its weights must be finite{'' if dtype is None else f' in {found.dtype}'}"
            )
        return np.where(np.abs(found) < np.finfo(found.dtype).tiny, 0 * found, found)

    layers = []
    for each in stage.layers:
        arrays = {name: of(array) for name, array in each._asdict().items() if isinstance(array, np.ndarray)}
        layers.append(each._replace(**arrays, vectors=tuple(map(of, each.vectors))))
    return stage._replace(layers=layers, start=tuple(map(of, stage.start)))


def _of_weights(layer: str, stage: Stage, before: Sequence[Part], tokens: bool) -> list[Part]:
    """The parts of a stage that has any, behind others."""
    name = _name(stage.kind, before)
    if stage.kind == "embedding":
        return [parts.embedding(name, layer, stage.layers[0])]
    if stage.kind == "linear":
        return [parts.linear(name, layer, stage.layers[0])]
    made: list[Part] = []
    for place, parameters in enumerate(stage.layers):
        one_of = f", its layer {place}" if len(stage.layers) > 1 else ""
        name, first = _name(stage.kind, [*before, *made]), tokens and not before and not made
        start = [state[place, 0] for state in stage.start]
        made.append(recurrent(name, layer + one_of, stage.kind, parameters, start, stage.options, first))
    return made


def _name(kind: str, before: Sequence[Part]) -> str:
    """A name for a part, with how many of its kind are before it."""
    kind = "rnn" if kind.startswith("rnn") else kind.removesuffix("_any").removesuffix("_before")
    return f"{kind}{sum(part.name.rstrip('0123456789') == kind for part in before)}"
