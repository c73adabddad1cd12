"""The checked door to the kernels: a layer's directions, as functions of arrays.

Every argument is checked here, before any kernel runs, and made the plain array that kernels want; an array
that is one already is not copied, and none is ever written to.

Letters: T time, B batch, I input, H hidden, G gates, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from fastrnn import reference, states
from fastrnn.backend import Backend, kernels
from fastrnn.checks import (
    Array,
    array,
    bool_array,
    boolean,
    came,
    float_array,
    int_array,
    one_of,
    require_shape,
    same_dtype,
)
from fastrnn.reference import Call, Gradients, Parameters


class Reserve:
    """What `CellFunction.forward` leaves for `CellFunction.backward`: opaque, and good for one call.

    It refers to the arrays of floats given to forward: do not write to them before the backward call.
    """

    __slots__ = ("_backend", "_cell", "_inner", "_shapes", "_y")

    def __init__(
        self, cell: str, backend: Backend, inner: object, y: Array, shapes: list[tuple[int, ...]]
    ) -> None:
        self._cell = cell
        self._shapes = shapes  # of the states
        self._backend = backend
        self._inner = [inner]  # until it is taken
        self._y = y

    def _take(self) -> object:
        """What the backend left, once: in one step, since two threads may want it."""
        try:
            return self._inner.pop()
        except IndexError:
            raise self._used() from None

    @staticmethod
    def _used() -> RuntimeError:
        return RuntimeError("reserve was used before: each serves one backward call; run forward again")

    def __repr__(self) -> str:
        return f"<Reserve of {self._cell}, y {self._y.shape} {self._y.dtype}>"


def run_directions(calls: Sequence[Call]) -> list[tuple[Array, Any, Any]]:
    """Forward through a layer's directions, which the kernels may take at the same time.

    Parameters
    ----------
    calls : sequence of Call
        With `states` and `start_states` as users give them, h or (h, c); its `mask` and `all_c` are the
        layer's own.

    Returns
    -------
    list of (y, state_n, reserve)
        The reserve is None if not training.
    """
    checked = [*map(_checked, calls)]
    backend = kernels()
    results = []
    for call, (y, states_n, inner) in zip(calls, backend.forward_all(checked), strict=True):
        reserve = None
        if inner is not None:
            y.flags.writeable = False  # backward will read it
            reserve = Reserve(call.cell, backend, inner, y, [state.shape for state in states_n])
        results.append((y, states.joined(states_n), reserve))
    return results


def run_directions_back(
    directions: Sequence[tuple[Reserve, Any, Any, bool, Array | None]],
) -> list[Gradients]:
    """Backward through a layer's directions.

    Parameters
    ----------
    directions : sequence of tuple
        For each a reserve, dy, dstate_n, input_gradient, and zeros in the shape of y in which to write the
        whole gradient with respect to every h (what comes from y and what flows back through time), or None.

    Returns
    -------
    list of Gradients
    """
    checked = [_checked_back(*arguments) for arguments in directions]
    reserves = [reserve for reserve, *_ in directions]
    calls = [(reserve._take(), *arguments) for reserve, arguments in zip(reserves, checked, strict=True)]
    results = reserves[0]._backend.backward_all(calls)
    return [
        gradients._replace(
            state=states.joined(gradients.state),
            start_state=None if gradients.start_state is None else states.joined(gradients.start_state),
        )
        for gradients in results
    ]


def _checked(call: Call) -> Call:
    """A call as backends take it."""
    parameters = parameters_of(call.cell, call.parameters)
    x = _input(call.x, parameters.w_ih)
    T, B = x.shape[:2]
    shapes = [(B, width) for width in reference.CELLS[call.cell].widths(parameters)]
    given = states_of("state", call.states, call.cell, shapes)
    lengths, starts = call.lengths, call.starts
    if lengths is not None:
        lengths = int_array("lengths", lengths, (B,), 0, T, "0..T")
    if starts is not None:
        starts = bool_array("starts", starts, (T, B))
    start = start_state_of(call.start_states, starts, call.cell, shapes)
    arrays = dict(zip(Parameters._fields[:5], parameters, strict=False))
    own = dict(zip(reference.CELLS[call.cell].vectors, parameters.vectors, strict=False))
    same_dtype(x=None if x.ndim == 2 else x, **arrays, **own, **given, **start)
    return call._replace(
        x=x,
        parameters=parameters,
        states=tuple(given.values()),
        lengths=lengths,
        starts=starts,
        start_states=tuple(start.values()),
        reverse=boolean("reverse", call.reverse),
        recompute=boolean("recompute", call.recompute),
    )


def _checked_back(
    reserve: Reserve,
    dy: npt.ArrayLike | None,
    dstate_n: Any,
    input_gradient: bool,
    dhidden: Array | None,
) -> tuple[Any, ...]:
    """The arguments of a backend's ``backward``, but for the first."""
    if not reserve._inner:
        raise reserve._used()
    y = reserve._y
    dy = _optional("dy", dy, y.shape)
    dstates = states_of("dstate_n", dstate_n, reserve._cell, reserve._shapes)
    same_dtype(y=y, dy=dy, **dstates)
    input_gradient = boolean("input_gradient", input_gradient)
    return dy, tuple(dstates.values()), input_gradient, dhidden


def parameters_of(cell: str, given: Parameters) -> Parameters:
    """Those of a layer, whose sizes are everyone's; H, I and V must not be 0."""
    one_of("format", given.format, ("float32",))
    facts = reference.CELLS[cell]
    gates, H, w_hr = len(facts.gates), "H", None
    if given.w_hr is not None:
        if not facts.projected:
            raise ValueError(f"w_hr must be None: {cell} has no projection")
        w_hr, H = float_array("w_hr", given.w_hr, ("P", "H")), "P"
    w_hh = float_array("w_hh", given.w_hh, (f"{gates}*H", H))
    units = w_hh.shape[1] if w_hr is None else w_hr.shape[1]
    rows = gates * units
    require_shape("w_hh", w_hh, (rows, units if w_hr is None else len(w_hr)))
    w_ih = float_array("w_ih", given.w_ih, (rows, "I"))
    for name, weights in ("w_hr", w_hr), ("w_hh", w_hh), ("w_ih", w_ih):
        if weights is not None and weights.size == 0:
            raise ValueError(f"{name} must not be empty, got shape {weights.shape}")
    b_ih, b_hh = _optional("b_ih", given.b_ih, (rows,)), _optional("b_hh", given.b_hh, (rows,))
    vectors = given.vectors
    if not isinstance(vectors, (tuple, list)):
        raise TypeError(f"vectors must be a tuple of arrays, got {came(vectors)}")
    if facts.options and all(vector is None for vector in vectors):
        vectors = ()  # a peephole may be left out
    elif len(vectors) != len(facts.vectors):
        names = ", ".join(facts.vectors)
        raise ValueError(f"vectors must be ({names}) of {cell}, got {len(vectors)} of them")
    own = zip(facts.vectors.items(), vectors, strict=False)
    vectors = tuple(float_array(name, each, (len(letters) * units,)) for (name, letters), each in own)
    return Parameters(w_ih, w_hh, b_ih, b_hh, w_hr, vectors)


def _input(x: npt.ArrayLike, w_ih: Array) -> Array:
    """x as floats (T, B, I) or as int64 tokens (T, B), whichever it is."""
    x = array("x", x, "a float array of shape (T, B, I) or an integer array of shape (T, B)")
    columns = w_ih.shape[1]
    if x.dtype.kind in "iu" and x.ndim != 3:
        return int_array("x", x, ("T", "B"), 0, columns - 1, "0..V-1")
    return float_array("x", x, ("T", "B", columns))


def states_of(name: str, value: Any, cell: str, shapes: Sequence[tuple[int, ...]]) -> dict[str, Array | None]:
    """The cell's states, or their gradients, by the names that errors call them."""
    given = states.named(cell, name, value).items()
    return {key: _optional(key, each, shape) for (key, each), shape in zip(given, shapes, strict=True)}


def start_state_of(
    value: Any, starts: Array | None, cell: str, shapes: Sequence[tuple[int, ...]]
) -> dict[str, Array | None]:
    """As `states_of`, of what rows start anew from; nothing where none does."""
    if starts is None and value is not None:
        raise ValueError("start_state goes with starts: without them no sequence starts anew")
    return states_of("start_state", value, cell, shapes)


def _optional(name: str, value: npt.ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    return None if value is None else float_array(name, value, shape)


def unchanged(found: Any) -> Any:
    """What a backend made of arguments that had been checked."""
    if found is None:
        raise ValueError("an argument was changed by another thread")
    return found
