"""The measurements: one training step of a copy, with its recurrent layers recording; then each layer and
direction in them alone, with a loss at its last step only."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn import checks, reference, states
from fastrnn.checks import Array
from fastrnn.diagnostics.diagnosis import Diagnosis, Direction, Gate
from fastrnn.functional.door import run_directions, run_directions_back
from fastrnn.layers import Composite
from fastrnn.layers.record import Pass
from fastrnn.layers.recurrent import Recurrent
from fastrnn.reference import Call

EDGE = 0.05  # of the range of a sigmoid or tanh: so near to its ends it is saturated

BINS = 40
FITTED = 200  # points at most, of which the slopes of all pairs are taken

NetworkT = TypeVar("NetworkT")


def diagnose(
    layer: Recurrent[Any],
    x: npt.ArrayLike,
    dy: npt.ArrayLike | None = None,
    *,
    state: Any = None,
    lengths: npt.ArrayLike | None = None,
) -> Diagnosis:
    """How gradients flow through a recurrent layer, and what its gates do.

    Parameters
    ----------
    layer : Recurrent
        It is copied: neither it nor its gradients change.
    x, state, lengths
        As of the layer's ``forward``.
    dy : array_like, shape of y, optional
        The gradient with respect to y of the loss that ``gradient_norms`` are of. Left out, that is a loss
        at the last step only, as it is for ``flow_norms`` in any case.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        If an argument is not what the layer takes, or x has no steps.

    Examples
    --------
    >>> from fastrnn import RNN
    >>> layer = RNN(3, 16, seed=0)
    >>> x = np.random.default_rng(0).normal(size=(100, 8, 3)).astype("float32")
    >>> diagnosis = diagnose(layer, x)
    >>> diagnosis.verdict[:9], diagnosis.directions[0].flow_norms.shape
    ('vanishing', (100,))
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(f"layer must be a recurrent layer, got {checks.came(layer)}")

    def step(layer: Recurrent[Any]) -> None:
        if dy is None:
            _loss_at_the_end(layer, x, state, lengths)
        else:
            layer.forward(x, state, lengths)[-1](dy)

    return diagnose_network(layer, step)


def diagnose_network(network: NetworkT, step: Callable[[NetworkT], object]) -> Diagnosis:
    """The same for every recurrent layer in a network of one's own.

    Parameters
    ----------
    network : object
        An object whose attributes, or theirs in turn, also in lists and dicts, are layers. It is copied.
    step : callable
        Runs forward and backward through the network that it is given, a copy. A layer that it runs more than
        once counts as in the last time.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        If there is no recurrent layer, or `step` did not go forward and back through one that has steps.
    """
    network = copy.deepcopy(network)
    layers = list(recurrent_layers(network))
    if not layers:
        raise ValueError(f"network must hold a recurrent layer, got {checks.came(network)}")
    for _, layer in layers:
        layer.recording, layer.record = True, ()
    step(network)
    found: list[Direction] = []
    for name, layer in layers:
        found += _directions(f"{name}." if name else "", layer)
    if not found:
        raise ValueError("step must go forward and back through a recurrent layer, over one step at least")
    return Diagnosis(tuple(found))


def diagnose_model(model: Any, *data: Any, **named: Any) -> Diagnosis:
    """The same for a fitted model, at a step of its training on some data.

    Parameters
    ----------
    model : TextGenerator or another of `fastrnn.models`
        Fitted. It is copied: nothing of it changes.
    *data, **named
        As of its ``fit``, by place or by name: a text; X, y and lengths; or y and covariates. Of several
        batches one is used.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        If the data is not what the model takes, or the model has no recurrent layers.
    RuntimeError
        If it is not fitted.
    """
    if not hasattr(model, "_training_step"):
        raise TypeError(f"model must be one that fastrnn.models trains, got {checks.came(model)}")
    model._require_fitted("history_")
    return diagnose_network(model, lambda model: model._training_step(*data, **named))


def recurrent_layers(network: object) -> Iterator[tuple[str, Recurrent[Any]]]:
    """The recurrent layers in an object, each once, with the public attributes that lead to them."""
    seen: set[int] = set()

    def walk(name: str, value: Any) -> Iterator[tuple[str, Recurrent[Any]]]:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Recurrent):
            yield name, value
            return
        inside: dict[Any, Any] = {}
        if isinstance(value, Composite):
            inside = value.parts
        elif isinstance(value, dict):
            inside = value
        elif isinstance(value, (list, tuple)):
            inside = dict(enumerate(value))
        elif type(value).__module__.partition(".")[0] not in ("numpy", "builtins"):
            inside = getattr(value, "__dict__", {})
        for key, each in inside.items():
            nameless = str(key).startswith("_") or str(key).endswith("_")  # as a model's network_
            yield from walk(name if nameless else f"{name}.{key}".lstrip("."), each)

    return walk("", network)


# -- one layer


def _loss_at_the_end(layer: Recurrent[Any], *arguments: Any) -> None:
    """Forward and back, where the loss is a random projection of the last h of the top layer's directions."""
    _, state_n, back = layer.forward(*arguments)
    h_n = states.members(state_n)[0]
    dh_n = np.zeros_like(h_n)
    top = slice(-2 if layer.bidirectional else -1, None)
    dh_n[top] = np.random.default_rng(0).standard_normal(h_n[top].shape)
    back(None, states.of_h(state_n, dh_n))


def _directions(prefix: str, layer: Recurrent[Any]) -> Iterator[Direction]:
    """What was measured in each layer and direction, if it was passed at all."""
    tiny = float(np.finfo(layer.dtype).tiny)
    suffixes = [suffix for k in range(layer.num_layers) for suffix in layer._suffixes(k)]
    for suffix, passed in zip(suffixes, layer.record, strict=False):
        T, B, _ = passed.y.shape
        lengths = np.full(B, T) if passed.lengths is None else np.asarray(passed.lengths)
        if not lengths.any():
            return
        reverse = suffix.endswith("_reverse")
        call = _call(layer, suffix, passed)
        norms = _flow_norms(_flow(call, passed.y), lengths, reverse)
        received = _norms(passed.dhidden, (1, 2))
        gates, cell = _gates(call), reference.CELLS[layer._cell](call.parameters.vectors, layer._told)
        keeps = cell.keeps if cell.activation(cell.keeps).high == 1 else ""
        yield Direction(
            name=prefix + suffix[1:],
            cell=layer._cell,
            gradient_norms=received,
            flow_norms=norms,
            rate=decay_rate(norms, tiny) if np.isfinite(passed.y).all() else math.inf,
            gates={name: _gate(values, cell.activation(name)) for name, values in gates.items()},
            time_constants=time_constants(gates[keeps]) if keeps else None,
            not_finite=_not_finite(call.parameters.arrays(), passed, lengths, received),
        )


def _not_finite(weights: Sequence[Array], passed: Pass, lengths: Array, received: Array) -> str | None:
    """What came to a direction with NaN or infinities already in it, so that no measure means anything."""
    valid = np.arange(len(passed.x))[:, None] < lengths
    if not all(np.isfinite(array).all() for array in weights):
        return "weights"
    if not np.isfinite(passed.x[valid]).all():
        return "input"
    return None if np.isfinite(received).any() else "gradient"


def _call(layer: Recurrent[Any], suffix: str, passed: Pass) -> Call:
    """What the layer called in one direction."""
    return Call(
        layer._cell,
        passed.x,
        layer._parameters_of(suffix),
        passed.state,
        None if passed.lengths is None else np.asarray(passed.lengths),
        reverse=suffix.endswith("_reverse"),
        training=True,
        mask=passed.mask,
        options=layer._told,
        starts=passed.starts,
        start_states=passed.start_state,
    )


def _flow(call: Call, y: Array) -> Array:
    """The gradient (T, B, H) of a random projection of a direction's last h with respect to every h."""
    ((_, state_n, reserve),) = run_directions([call])
    h_n = states.members(state_n)[0]
    dh_n = np.random.default_rng(0).standard_normal(h_n.shape).astype(h_n.dtype)
    dhidden = np.zeros_like(y)
    run_directions_back([(reserve, None, states.of_h(state_n, dh_n), False, dhidden)])
    return dhidden


@np.errstate(all="ignore")
def _norms(dhidden: Array, axis: int | tuple[int, ...]) -> Array:
    """Euclidean norms over some axes, in float64, where squares do not underflow."""
    norms: Array = np.sqrt(np.square(dhidden, dtype=np.float64).sum(axis))
    return norms


def _flow_norms(dhidden: Array, lengths: Array, reverse: bool) -> Array:
    """(T, B, H) to norms by steps back from each row's last one: root mean squares over rows that long."""
    longest = int(lengths.max())
    back = np.arange(longest)[:, None]
    times = np.broadcast_to(back if reverse else lengths - 1 - back, (longest, len(lengths)))
    valid = back < lengths
    squares = _norms(dhidden, 2)[np.where(valid, times, 0), np.arange(len(lengths))] ** 2
    norms: Array = np.sqrt(np.where(valid, squares, 0).sum(1) / valid.sum(1))
    return norms


def decay_rate(norms: Array, tiny: float = 0.0) -> float:
    """exp of the median slope of ln(norms) over their places (Theil 1950, Sen 1968).

    Only what comes before the first norm that is not finite counts, and of it what is well above `tiny`,
    below which a dtype has few digits. With less than two such norms: nan if there are not two at all,
    infinity if the second is not finite, else 0.
    """
    if len(norms) < 2:
        return math.nan
    finite = np.isfinite(norms)
    end = len(norms) if finite.all() else int(finite.argmin())
    places = np.flatnonzero(norms[:end] > 1e4 * tiny)
    if len(places) < 2:
        return math.inf if end < 2 else 0.0
    places = places[np.linspace(0, len(places) - 1, min(len(places), FITTED)).astype(int)]
    logs = np.log(norms[places])
    a, b = np.triu_indices(len(places), 1)
    return float(np.exp(np.median((logs[b] - logs[a]) / (places[b] - places[a]))))


@np.errstate(divide="ignore")
def time_constants(keep: Array) -> Array:
    """-1 / mean(ln f) for values (N, H) of the gate that keeps: infinite if it is always 1, 0 if ever 0."""
    steps: Array = -1 / np.log(keep, dtype=np.float64).mean(0)
    return np.abs(steps)  # -1 / 0 is -inf: nothing is forgotten


# -- gates


def _gates(call: Call) -> dict[str, Array]:
    """The values (N, H) of every gate in all N valid steps, by the reference, which keeps them."""
    state, start = (
        tuple(states.named(call.cell, "state", each).values()) for each in (call.states, call.start_states)
    )
    _, _, reserve = reference.forward(call._replace(states=state, start_states=start))
    assert reserve is not None  # it is training
    gates = enumerate(reference.CELLS[call.cell].gates)
    return {name: np.concatenate([step.kept[k] for step in reserve.steps]) for k, name in gates}


@np.errstate(all="ignore")
def _gate(values: Array, activation: reference.Activation) -> Gate:
    low, high = activation.low, activation.high
    edge = EDGE * (high - low) if math.isfinite(high - low) else 0.0
    saturated = (values < low + edge) | (values > high - edge) if edge else values == low
    if not edge:
        finite = values[np.isfinite(values)]
        low = max(low, float(finite.min(initial=0)))
        high = float(finite.max(initial=low)) or 1.0
    counts, edges = np.histogram(values, BINS, (low, high))
    return Gate(values.mean(0), saturated.mean(0), counts / values.size, edges)
