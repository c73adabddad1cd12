"""The gradient of every h against finite differences and PyTorch; gates, rates and verdicts against what they
were made to be."""

import doctest
import math
import os
import re
import sys
import zipfile
from pathlib import Path

import cells
import numpy as np
import pytest
from cells import KEEPING, backward, forward, members, state_of, torch_class
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import GRU, LSTM, RNN, Linear, checkpoint, cli, reference
from fastrnn.backend import use_backend
from fastrnn.diagnostics import diagnose, diagnose_model, diagnose_network, measure
from fastrnn.layers import CELLS
from fastrnn.models import (
    Forecaster,
    SequenceClassifier,
    SequenceGenerator,
    SequenceRegressor,
    SequenceTagger,
    SequenceToSequence,
    TextGenerator,
)
from fastrnn.reference import Call, Parameters

MAKERS = {**cells.LAYERS, "relu": lambda *args, **options: RNN(*args, nonlinearity="relu", **options)}
UNBOUNDED = [name for name in MAKERS if "told" not in name]  # what is clipped is finite, and no gate closed
SHAPE = {"T": 6, "B": 3, "I": 2, "H": 4}


def make(cell, *, seed=0, **options):
    layer = MAKERS[cell](SHAPE["I"], SHAPE["H"], dtype="float64", seed=seed, **options)
    for name, array in layer.parameters.items():
        if "weight" in name:
            array *= 2
    return layer


def recorded(layer, x, dy, lengths=None, state=None):
    layer.recording = True
    *_, back = layer.forward(x, state, lengths)
    back(dy)
    return layer.record


def with_h(state, h):
    return (h, state[1]) if isinstance(state, tuple) else h


# -- the gradient of every h


@pytest.mark.parametrize("cell", MAKERS)
def test_hidden_gradients_against_finite_differences(backend, cell, rng):
    """The loss of what follows, when a run is stopped after step t and goes on from another h."""
    T, B, I, H = SHAPE.values()
    layer = make(cell)
    H = layer.output_size
    x, dy = rng.normal(size=(T, B, I)), rng.normal(size=(T, B, H))
    (passed,) = recorded(layer, x, dy)
    for t in range(T):
        _, state = layer(x[: t + 1])
        h = state[0] if isinstance(state, tuple) else state

        def loss(h, state=state, t=t):
            return (dy[t] * h[0]).sum() + (dy[t + 1 :] * layer(x[t + 1 :], with_h(state, h))[0]).sum()

        slopes = np.zeros((B, H))
        for place in np.ndindex(B, H):
            step = np.zeros_like(h)
            step[0][place] = 1e-6
            slopes[place] = (loss(h + step) - loss(h - step)) / 2e-6
        np.testing.assert_allclose(passed.dhidden[t], slopes, rtol=0, atol=1e-7)


def torch_hidden_gradients(torch, layer, cell, x, dy, lengths):
    """What PyTorch retains for every h of a stack of cells that run in Python, row by row."""
    T, B, _ = x.shape
    below = [[torch.tensor(x[t, b]) for b in range(B)] for t in range(T)]
    kept = []
    for k in range(layer.num_layers):
        sides = []
        for suffix in layer._suffixes(k):
            w_ih, w_hh, b_ih, b_hh = layer._parameters_of(suffix)[:4]
            step = torch_class(torch, cell, "Cell")(w_ih.shape[1], w_hh.shape[1], dtype=torch.float64)
            for parameter, value in zip(step.parameters(), (w_ih, w_hh, b_ih, b_hh), strict=True):
                parameter.data = torch.tensor(value)
            hidden = {}
            for b in range(B):
                times = range(lengths[b])
                state = None
                for t in reversed(times) if suffix.endswith("_reverse") else times:
                    state = step(below[t][b][None], state)
                    hidden[t, b] = state[0] if isinstance(state, tuple) else state
                    hidden[t, b].retain_grad()
            sides.append(hidden)
        kept += sides
        below = [
            [torch.cat([s[t, b][0] for s in sides]) if t < lengths[b] else None for b in range(B)]
            for t in range(T)
        ]
    loss = sum((torch.tensor(dy[t, b]) * below[t][b]).sum() for b in range(B) for t in range(lengths[b]))
    loss.backward()
    gradients = np.zeros((len(kept), T, B, layer.hidden_size))
    for place, hidden in enumerate(kept):
        for (t, b), h in hidden.items():
            gradients[place, t, b] = h.grad[0].numpy()
    return gradients


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_hidden_gradients_against_pytorch(backend, cell, batch_first, rng):
    """Two layers in two directions over a ragged batch."""
    torch = pytest.importorskip("torch")
    T, B, I, H = SHAPE.values()
    lengths = np.array([4, 6, 1])
    layer = make(cell, num_layers=2, bidirectional=True, batch_first=batch_first)
    x, dy = rng.normal(size=(T, B, I)), rng.normal(size=(T, B, 2 * H))
    swap = (lambda array: array.swapaxes(0, 1)) if batch_first else (lambda array: array)
    record = recorded(layer, swap(x), swap(dy), lengths)
    truth = torch_hidden_gradients(torch, layer, cell, x, dy, lengths)
    np.testing.assert_allclose([each.dhidden for each in record], truth, rtol=0, atol=1e-13)
    norms = np.sqrt((truth**2).sum((2, 3)))
    found = diagnose(layer, swap(x), swap(dy), lengths=lengths)
    np.testing.assert_allclose([each.gradient_norms for each in found.directions], norms, rtol=1e-12)


@pytest.mark.parametrize("recompute", [False, True])
def test_recording_changes_nothing_else(backend, recompute, rng):
    x, dy = rng.normal(size=(50, 12, 2)), rng.normal(size=(50, 12, 4))
    results = []
    for recording in (False, True):
        layer = make("lstm", recompute=recompute)
        layer.recording = recording
        *_, back = layer.forward(x)
        results.append([back(dy)[0], *layer.gradients.values()])
        assert len(layer.record) == recording
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()


def test_read_only_or_misshapen_output_is_refused():
    core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    x, w_ih, w_hh = np.zeros((3, 2, 1)), np.zeros((4, 1)), np.zeros((4, 4))
    frozen = np.zeros((3, 2, 4))
    frozen.flags.writeable = False
    for out in (np.zeros((3, 2, 5)), np.zeros((3, 2, 4), "float32"), frozen):
        *_, reserve = forward(core, Call("rnn_tanh", x, Parameters(w_ih, w_hh), (None,), training=True))
        with pytest.raises(ValueError, match=r"dhidden|not writeable"):
            backward(core, reserve, None, (None,), dhidden=out)


# -- the flow back from the last step


@settings(max_examples=25)
@given(
    cell=st.sampled_from(sorted(MAKERS)),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
    bidirectional=st.booleans(),
    tokens=st.booleans(),
)
def test_flow_norms_by_steps_back(cell, lengths, bidirectional, tokens):
    """A batch is the root mean square of its rows alone; and the last step has the projection itself."""
    rng = np.random.default_rng(0)
    layer = make(cell, bidirectional=bidirectional)
    x = rng.integers(0, 2, (5, len(lengths))) if tokens else rng.normal(size=(5, len(lengths), 2))
    found = diagnose(layer, x, lengths=lengths).directions
    projection = np.random.default_rng(0).standard_normal((len(lengths), layer._states.widths[0]))
    for place, suffix in enumerate(layer._suffixes(0)):
        squares = np.zeros((max(lengths), len(lengths)))
        for b, length in enumerate(lengths):
            rows = x[:length, b : b + 1]
            states = [None] * len(layer._states.widths)
            call = Call(layer._cell, rows, layer._parameters_of(suffix), states, options=layer._told)
            y, _, reserve = reference.forward(call._replace(reverse=place == 1, training=True))
            alone = np.zeros_like(y)
            reference.backward(reserve, None, [projection[b : b + 1], *states[1:]], True, alone)
            flow = (alone**2).sum((1, 2))
            squares[:length, b] = flow if suffix.endswith("_reverse") else flow[::-1]
        rows = (np.arange(max(lengths))[:, None] < lengths).sum(1)
        np.testing.assert_allclose(found[place].flow_norms, np.sqrt(squares.sum(1) / rows), rtol=1e-9)


def scaled_rnn(radius, H=32):
    """Nearly linear, with an orthogonal W_hh times a number."""
    layer = RNN(1, H, dtype="float64", seed=0)
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(H, H)))
    layer.parameters["weight_hh_l0"][...] = radius * q
    for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
        layer.parameters[name][...] *= 1e-30
    return layer


@pytest.mark.parametrize("radius, verdict", [(0.5, "vanishing"), (1.0, "healthy"), (1.5, "exploding")])
def test_verdict_on_a_known_spectral_radius(backend, radius, verdict):
    diagnosis = diagnose(scaled_rnn(radius), np.ones((60, 2, 1)))
    (direction,) = diagnosis.directions
    assert direction.verdict == verdict and diagnosis.verdict.startswith(verdict)
    assert direction.rate == pytest.approx(radius, rel=1e-6)
    assert f"×{radius:.3g} per step" in diagnosis.verdict and "\n" not in diagnosis.verdict
    assert ("try" in diagnosis.verdict) == (verdict != "healthy")
    np.testing.assert_allclose(direction.flow_norms[1:] / direction.flow_norms[:-1], radius)


def test_reach_is_where_a_hundredth_is_left():
    diagnosis = diagnose(scaled_rnn(0.5), np.ones((60, 2, 1)))
    assert diagnosis.directions[0].reach == 7  # 0.5 ** 7 < 0.01 < 0.5 ** 6
    assert "less than a hundredth is left after 7 of 59;" in diagnosis.verdict
    assert diagnose(scaled_rnn(1.5), np.ones((60, 2, 1))).directions[0].reach == math.inf


def test_an_overflow_explodes_and_a_dead_layer_vanishes():
    layer = RNN(1, 4, nonlinearity="relu", seed=0)
    layer.parameters["weight_hh_l0"][...] = 1e10 * np.eye(4)
    layer.parameters["weight_ih_l0"][...] = 1e-30
    for bias in ("bias_ih_l0", "bias_hh_l0"):
        layer.parameters[bias][...] = 0
    explodes = diagnose(layer, np.ones((5, 1, 1), "float32"))
    assert explodes.verdict.startswith("exploding") and explodes.directions[0].rate == pytest.approx(1e10)
    assert not np.isfinite(explodes.directions[0].flow_norms[-1])
    states_too = diagnose(layer, np.ones((9, 1, 1), "float32"))
    assert states_too.verdict.startswith("exploding") and states_too.directions[0].rate == math.inf
    layer.parameters["bias_ih_l0"][...] = -9
    layer.parameters["weight_hh_l0"][...] = np.eye(4)
    dead = diagnose(layer, np.ones((9, 1, 1), "float32"))
    assert dead.verdict.startswith("vanishing") and dead.directions[0].rate == 0
    assert dead.directions[0].gates["h"].saturation.tolist() == [1] * 4


def test_the_verdict_is_about_the_worst_layer():
    layer = RNN(1, 32, 2, dtype="float64", seed=0)
    for k, radius in enumerate((1.0, 0.5)):
        source = scaled_rnn(radius)
        for part in ("weight_hh", "bias_ih", "bias_hh"):
            layer.parameters[f"{part}_l{k}"][...] = source.parameters[f"{part}_l0"]
        layer.parameters[f"weight_ih_l{k}"][...] *= 1e-20
    diagnosis = diagnose(layer, np.ones((60, 2, 1)))
    assert [each.verdict for each in diagnosis.directions] == ["healthy", "vanishing"]
    assert diagnosis.verdict.startswith("vanishing in l1")
    layer.parameters["weight_hh_l0"] *= 1.5
    assert diagnose(layer, np.ones((60, 2, 1))).verdict.startswith("exploding in l0")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("cell", UNBOUNDED)
def test_what_is_not_finite_is_not_called_exploding(cell, bad, tmp_path):
    x = np.ones((9, 2, 2))
    layer = make(cell, num_layers=2)
    layer.parameters["weight_hh_l1"][0, 0] = bad
    found = diagnose(layer, x)
    assert found.verdict.startswith("not finite in l1: NaN or infinity in the weights; try training again, ")
    if cell != "relu":  # which takes NaN for negative, and lets no gradient through
        assert [each.not_finite for each in found.directions] == ["gradient", "weights"]
    x[3, 1, 0] = bad
    found = diagnose(make(cell, bidirectional=True), x)
    assert found.verdict.startswith("not finite in l0: NaN or infinity in the input; try to find them")
    found = diagnose(make(cell), x, lengths=[9, 3])  # they are in the padding
    assert found.directions[0].not_finite is None
    pytest.importorskip("matplotlib")
    diagnose(layer, x).plot(tmp_path / "figure.png")


def test_a_gradient_that_is_not_finite_when_it_comes_is_not_called_exploding():
    layer, x = make("gru"), np.ones((9, 2, 2))
    dy = np.ones((9, 2, 4))
    dy[-1] = np.nan
    assert diagnose(layer, x, dy).verdict.startswith("not finite: NaN or infinity in the gradient; try ")


@pytest.mark.parametrize("cell", UNBOUNDED)
def test_gates_that_are_saturated_nearly_always_are_not_healthy(cell):
    """Inputs and weights so large that all gates are at their ends; a dead relu vanishes instead."""
    layer = make(cell)
    assert diagnose(layer, np.ones((3, 5, 2))).directions[0].verdict in ("healthy", "vanishing")
    for array in layer.parameters.values():
        array *= 1e3
    x = np.random.default_rng(0).normal(size=(2, 5, 2)) * 1e3
    verdict = diagnose(layer, x).verdict
    if cell == "relu":
        assert "saturated" not in verdict
    else:
        assert diagnose(layer, x).directions[0].saturated
        assert "try a lower learning_rate, smaller weights or inputs (nearly all" in verdict


def test_a_saturated_layer_with_a_steady_gradient_is_called_so():
    """A GRU whose z, which alone carries the gradient then, is nearly 1, and whose other gates are so too."""
    layer = open_gates(GRU(2, 3, dtype="float64"), {0: [0.999] * 3, 1: [0.999] * 3})
    layer.parameters["bias_ih_l0"][6:9] = np.arctanh(0.95)
    (found,) = diagnose(layer, np.ones((30, 2, 2))).directions
    assert found.verdict == "saturated" and found.rate == pytest.approx(0.999)
    layer.parameters["bias_ih_l0"][0:3] = 0  # a single gate that is not
    assert diagnose(layer, np.ones((30, 2, 2))).verdict.startswith("healthy: ")


def test_a_single_step_has_no_rate():
    diagnosis = diagnose(GRU(1, 2, seed=0), np.ones((1, 3, 1), "float32"))
    assert diagnosis.verdict.startswith("unknown") and math.isnan(diagnosis.directions[0].rate)
    assert "unknown" in str(diagnosis)


def test_decay_rate():
    falling = 0.9 ** np.arange(300)
    assert measure.decay_rate(falling) == pytest.approx(0.9)
    falling[::5] *= 1e6  # the median does not see them
    assert measure.decay_rate(falling) == pytest.approx(0.9)
    lost = np.concatenate([10.0 ** -np.arange(40), np.zeros(100)])
    assert measure.decay_rate(lost, np.finfo("float32").tiny) == pytest.approx(0.1)
    assert measure.decay_rate(np.array([1.0, 2.0, 4.0, np.inf, np.nan])) == pytest.approx(2)
    assert measure.decay_rate(np.array([1.0, np.inf])) == math.inf
    assert measure.decay_rate(np.array([1.0, 0.0, 0.0])) == 0
    assert math.isnan(measure.decay_rate(np.array([1.0])))


# -- gates


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cell", KEEPING)
def test_gates_are_those_of_the_forward_pass(backend, cell, bias, tokens, rng):
    T, B, I, _ = SHAPE.values()
    lengths = np.array([4, 6, 0])
    layer = make(cell, bias=bias, bidirectional=True)
    x = rng.integers(0, I, (T, B)) if tokens else rng.normal(size=(T, B, I))
    state = state_of(layer, lambda shape, k: rng.normal(size=shape), B)
    record = recorded(layer, x, rng.normal(size=(T, B, layer.output_size)), lengths, state)
    for place, suffix in enumerate(layer._suffixes(0)):
        states = tuple(member[place] for member in members(state))
        call = Call(layer._cell, x, layer._parameters_of(suffix), states, lengths, place == 1, training=True)
        *_, reserve = reference.forward(call._replace(options=layer._told))
        gates = measure._gates(measure._call(layer, suffix, record[place]))
        assert "".join(gates) == cells.cell_of(cell).gates
        for k, values in enumerate(gates.values()):
            truth = np.concatenate([step.kept[k] for step in reserve.steps])
            np.testing.assert_allclose(values, truth, rtol=0, atol=1e-14)


def test_gates_make_what_comes_out(backend, rng):
    """The new state of a GRU, from its gates and the state before."""
    layer = make("gru")
    x = rng.normal(size=(6, 1, 2))
    (passed,) = recorded(layer, x, rng.normal(size=(6, 1, 4)))
    _, z, n = measure._gates(measure._call(layer, "_l0", passed)).values()
    before = np.concatenate([np.zeros((1, 4)), passed.y[:-1, 0]])
    np.testing.assert_allclose(passed.y[:, 0], (1 - z) * n + z * before, rtol=1e-12)


@pytest.mark.parametrize("cell", KEEPING)
def test_gates_and_flow_under_recurrent_dropout_are_those_of_the_pass(backend, cell, rng):
    """The same mask, as weights whose columns it is in: then nothing needs to be dropped."""
    T, _, I, _ = SHAPE.values()
    layer = make(cell, recurrent_dropout=0.5, seed=1)
    H = layer.output_size
    x, dy = rng.normal(size=(T, 1, I)), rng.normal(size=(T, 1, H))
    (passed,) = recorded(layer, x, dy)
    while set(np.unique(passed.mask)) != {0, 2}:  # of few units all may be dropped, or none
        (passed,) = recorded(layer, x, dy)
    plain = make(cell, seed=1)
    plain.parameters["weight_hh_l0"] *= passed.mask
    (expected,) = recorded(plain, x, dy)
    np.testing.assert_allclose(passed.dhidden, expected.dhidden, atol=1e-12)
    ours, theirs = (measure._directions("", each) for each in (layer, plain))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.flow_norms, other.flow_norms, rtol=1e-9)
        for name, gate in one.gates.items():
            np.testing.assert_allclose(gate.mean, other.gates[name].mean, rtol=1e-12)


def open_gates(layer, values):
    """All weights 0 and biases such that the gates have these values."""
    for array in layer.parameters.values():
        array[...] = 0
    rows = layer.parameters["bias_ih_l0"].reshape(-1, layer.hidden_size)
    for k, value in values.items():
        rows[k] = np.log(value) - np.log1p(-np.asarray(value))
    return layer


@pytest.mark.parametrize("maker, row, gate", [(LSTM, 1, "f"), (GRU, 1, "z")])
def test_time_constants_of_known_gates(backend, maker, row, gate):
    keeps = np.array([0.1, 0.5, 0.9, 0.99])
    layer = open_gates(maker(2, 4, dtype="float64"), {row: keeps})
    (found,) = diagnose(layer, np.ones((9, 3, 2))).directions
    np.testing.assert_allclose(found.time_constants, -1 / np.log(keeps))
    np.testing.assert_allclose(found.gates[gate].mean, keeps)
    if maker is GRU:  # nothing but z carries the gradient
        (slowest,) = diagnose(
            open_gates(GRU(2, 1, dtype="float64"), {1: 0.97}), np.ones((9, 3, 2))
        ).directions
        assert slowest.rate == pytest.approx(0.97)


def test_a_gate_that_never_closes_forgets_nothing():
    layer = open_gates(LSTM(2, 2, seed=0), {})
    layer.parameters["bias_ih_l0"][2:4] = 100, -200
    with np.errstate(all="raise"):
        (found,) = diagnose(layer, np.ones((5, 1, 2), "float32")).directions
    assert found.time_constants[0] == math.inf and 0 <= found.time_constants[1] < 0.01


def test_saturation_means_and_histograms():
    layer = open_gates(LSTM(2, 2, dtype="float64"), {0: [0.96, 0.94], 1: [0.04, 0.06], 3: [0.5, 0.5]})
    layer.parameters["bias_ih_l0"][4:6] = np.arctanh([0.95, -0.85])
    gates = diagnose(layer, np.ones((4, 3, 2))).directions[0].gates
    assert {name: gate.saturation.tolist() for name, gate in gates.items()} == {
        "i": [1, 0],
        "f": [1, 0],
        "g": [1, 0],
        "o": [0, 0],
    }
    np.testing.assert_allclose(gates["g"].mean, [0.95, -0.85])
    for name, gate in gates.items():
        assert gate.shares.sum() == pytest.approx(1) and np.count_nonzero(gate.shares) <= 2
        assert (gate.edges[0], gate.edges[-1]) == ((-1, 1) if name == "g" else (0, 1))
    assert gates["i"].shares[37:39].tolist() == [0.5, 0.5]


# -- networks and models


class Own:
    def __init__(self):
        self.parts = {"encoder": [GRU(2, 3, seed=0), Linear(3, 2, seed=0)]}
        self._hidden = LSTM(2, 3, seed=1)
        self.again = self._hidden
        self.here = self

    def train(self, x):
        encoder, linear = self.parts["encoder"]
        y, _, encoder_back = encoder.forward(x)
        y, linear_back = linear.forward(y)
        y, _, hidden_back = self._hidden.forward(y)
        encoder_back(linear_back(hidden_back(np.ones_like(y))[0]))


def test_every_recurrent_layer_of_a_network_is_found_and_none_changed(rng):
    network = Own()
    x = rng.normal(size=(5, 2, 2)).astype("float32")
    diagnosis = diagnose_network(network, lambda copy: copy.train(x))
    assert [each.name for each in diagnosis.directions] == ["parts.encoder.0.l0", "l0"]
    assert not network._hidden.gradients and not network._hidden.recording and not network._hidden.record


def test_what_cannot_be_diagnosed():
    layer, x = GRU(2, 3), np.ones((5, 2, 2), "float32")
    with pytest.raises(TypeError, match=r"layer must be a recurrent layer, got .*Linear"):
        diagnose(Linear(2, 3), x)
    with pytest.raises(ValueError, match="x must have shape"):
        diagnose(layer, np.ones((5, 2, 3), "float32"))
    with pytest.raises(ValueError, match=r"step must go forward and back .* one step at least"):
        diagnose(layer, x, lengths=[0, 0])
    with pytest.raises(ValueError, match="step must go forward and back"):
        diagnose_network(layer, lambda copy: copy.forward(x))
    with pytest.raises(ValueError, match="network must hold a recurrent layer"):
        diagnose_network(Linear(2, 3), lambda copy: None)
    with pytest.raises(TypeError, match=r"model must be one that fastrnn.models trains, got 5"):
        diagnose_model(5, "text")
    with pytest.raises(RuntimeError, match="not fitted"):
        diagnose_model(TextGenerator(), "text")


def test_a_model_is_diagnosed_at_its_training_and_stays_as_it_is():
    text = "the cat sat on the mat. " * 20
    options = {"epochs": 1, "batch_size": 4, "bptt_steps": 12, "hidden_size": 8, "num_layers": 2}
    model = TextGenerator(**options, dropout=0.3, seed=0).fit(text)
    before = {name: array.copy() for name, array in model.network_.parameters.items()}
    first, again = diagnose_model(model, text), diagnose_model(model, text)
    assert [each.name for each in first.directions] == ["recurrent.l0", "recurrent.l1"]
    assert all(len(each.flow_norms) == len(each.gradient_norms) == 12 for each in first.directions)
    assert str(first) == str(again)  # dropout of the model itself has not gone on
    assert all(np.array_equal(array, before[name]) for name, array in model.network_.parameters.items())
    with pytest.raises(ValueError, match="text must use the vocabulary"):
        diagnose_model(model, "ÄÖÜ")


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_classifier_is_diagnosed_with_its_labels(pooling, rng):
    X, y = [rng.normal(size=(T, 2)) for T in (5, 9, 3, 7)], ["a", "b", "a", "b"]
    model = SequenceClassifier(
        pooling=pooling, cell="gru", hidden_size=4, epochs=1, validation_fraction=0, seed=0
    ).fit(X, y)
    (found,) = diagnose_model(model, X, y).directions
    assert found.name == "recurrent.l0" and found.cell == "gru" and len(found.flow_norms) == 9
    assert np.count_nonzero(found.gradient_norms) == 9
    with pytest.raises(ValueError, match="requires y"):
        diagnose_model(model, X)
    with pytest.raises(ValueError, match="features"):
        diagnose_model(model, [np.ones((5, 3))], ["a"])
    signature = r"data must be as of SequenceClassifier\.fit\(X, y=None, lengths=None, sample_weight=None\): "
    with pytest.raises(TypeError, match=f"{signature}missing a required argument: 'X'"):
        diagnose_model(model, y=y)
    with pytest.raises(TypeError, match=f"{signature}too many positional arguments"):
        diagnose_model(model, X, y, None, None, None)
    with pytest.raises(TypeError, match=f"{signature}got an unexpected keyword argument 'checkpoint'"):
        diagnose_model(model, X, y, checkpoint="file")


def several(kind):
    """A fitted model and what it was fitted with, by the names of its `fit`."""
    rng = np.random.default_rng(0)
    options = {"epochs": 1, "hidden_size": 4, "seed": 0, "validation_fraction": 0.3}
    X, series = rng.normal(size=(8, 6, 2)), np.sin(np.arange(80) * 0.3)
    words = np.array(["ab", "b", "bab", "a"] * 2)
    made = {
        "classifier": (SequenceClassifier, {"X": X, "y": np.arange(8) % 2, "lengths": np.arange(8) % 6 + 1}),
        "regressor": (SequenceRegressor, {"X": X, "y": rng.normal(size=8)}),
        "tagger": (SequenceTagger, {"X": X, "y": (X[:, :, 0] > 0).astype(int)}),
        "translator": (SequenceToSequence, {"X": words, "y": words[::-1]}),
        "inventor": (SequenceGenerator, {"X": X[:, 0], "y": words}),
        "forecaster": (Forecaster, {"y": series}),
        "forecaster of channels": (Forecaster, {"y": np.stack([series, -series], axis=1)}),
        "forecaster with covariates": (Forecaster, {"y": series, "covariates": rng.normal(size=(80, 3))}),
    }
    cls, data = made[kind]
    if cls is Forecaster:
        options["context"] = 8
    return cls(**options).fit(**data), data


KINDS = ("classifier", "regressor", "tagger", "translator", "inventor", "forecaster")
KINDS = (*KINDS, "forecaster of channels", "forecaster with covariates")


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_is_diagnosed_with_what_its_fit_takes(kind, tmp_path, capsys):
    """By place, by name, and from a file by the command: each the same."""
    model, data = several(kind)
    expected = str(diagnose_model(model, *data.values()))
    assert str(diagnose_model(model, **data)) == expected
    np.savez(tmp_path / "data.npz", **data)
    model.save(tmp_path / "model")
    expected = str(diagnose_model(type(model).load(tmp_path / "model"), **data))
    assert cli.main(["diagnose", str(tmp_path / "model"), str(tmp_path / "data.npz")]) == 0
    assert capsys.readouterr().out == f"{expected}\n"


@pytest.mark.parametrize("kind", ["forecaster", "forecaster of channels"])
def test_a_forecaster_is_diagnosed_with_its_series_alone(kind, tmp_path, capsys):
    model, data = several(kind)
    model.save(tmp_path / "model")
    expected = diagnose_model(Forecaster.load(tmp_path / "model"), data["y"])
    np.save(tmp_path / "series.npy", data["y"])
    np.savetxt(tmp_path / "series.csv", data["y"], "%.17g", delimiter=",")
    np.savetxt(tmp_path / "named.CSV", data["y"], "%.17g", delimiter=",", header="a,b", comments="\ufeff")
    for name in ("series.npy", "series.csv", "named.CSV"):
        assert cli.main(["diagnose", str(tmp_path / "model"), str(tmp_path / name)]) == 0
        assert capsys.readouterr().out == f"{expected}\n"


def test_the_example_in_the_documentation():
    results = doctest.testmod(measure, extraglobs={"np": np})
    assert results.attempted > 0 and results.failed == 0


# -- words and figures


def test_the_table_has_a_row_for_each_direction():
    layer = LSTM(2, 3, 2, bidirectional=True, seed=0)
    text = str(diagnose(layer, np.ones((30, 2, 2), "float32")))
    verdict, _, table = text.partition("\n\n")
    header, *rows = table.splitlines()
    assert verdict.startswith("vanishing in l") and header.startswith("layer")
    assert max(map(len, text.splitlines())) < 80
    assert [row.split()[0] for row in rows] == ["l0", "l0_reverse", "l1", "l1_reverse"]


@pytest.mark.parametrize("cell", MAKERS)
def test_figure(cell, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    diagnosis = diagnose(make(cell, bidirectional=True), np.ones((30, 2, 2)))
    figure = diagnosis.plot(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    flow, gradient, gates, _ = figure.axes
    np.testing.assert_array_equal(flow.lines[0].get_ydata(), diagnosis.directions[0].flow_norms)
    np.testing.assert_array_equal(gradient.lines[1].get_ydata(), diagnosis.directions[1].gradient_norms)
    assert len(gates.get_xticks()) == 2 * len(diagnosis.directions[0].gates)
    axes = Figure().add_subplot()
    assert diagnosis.plot(axes) is axes.figure and axes.lines


def test_a_figure_is_the_file_that_was_named(tmp_path):
    pytest.importorskip("matplotlib")
    diagnosis = diagnose(GRU(2, 3), np.ones((5, 2, 2), "float32"))
    diagnosis.plot(tmp_path / "figure")
    diagnosis.plot("/dev/null")  # nothing is made beside it
    assert [path.name for path in tmp_path.iterdir()] == ["figure"] and not Path("/dev/null.png").exists()
    assert (tmp_path / "figure").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"figure.xyz' must be of a format that matplotlib writes: .*png"):
        diagnosis.plot(tmp_path / "figure.xyz")
    assert not (tmp_path / "figure.xyz").exists()


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    (tmp_path / "figure").write_text("kept")
    monkeypatch.setattr(os, "replace", lambda *_: os.close(-1))
    with pytest.raises(OSError, match="figure'"):
        diagnose(GRU(2, 3), np.ones((5, 2, 2), "float32")).plot(tmp_path / "figure")
    assert (tmp_path / "figure").read_text() == "kept" and len(list(tmp_path.iterdir())) == 1


def test_figure_without_matplotlib(monkeypatch):
    for name in ("matplotlib", "matplotlib.axes", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install matplotlib, or the extra"):
        diagnose(GRU(2, 3), np.ones((5, 2, 2), "float32")).plot()


# -- the command


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A text and a model of it; sequences and a classifier of them."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    text = "the cat sat on the mat. " * 20
    (folder / "cat.txt").write_text(text)
    TextGenerator(epochs=1, hidden_size=8, bptt_steps=12, seed=0).fit(text).save(folder / "text")
    X, y, lengths = rng.normal(size=(6, 9, 2)), np.arange(6) % 2, np.array([9, 5, 7, 2, 9, 1])
    model = SequenceClassifier(epochs=1, hidden_size=4, validation_fraction=0, seed=0)
    model.fit(X, y, lengths).save(folder / "classifier")
    np.savez(folder / "both.npz", X=X, y=y, lengths=lengths)
    np.savez(folder / "alone.npz", X=X)
    np.savez(folder / "other.npz", Z=X)
    np.save(folder / "array.npy", X)
    (folder / "table.csv").write_text("a,b\n1,2\n3,4\n")
    (folder / "list.csv").write_text("1,2\n3,4\n")
    (folder / "marked.csv").write_bytes(b"\xef\xbb\xbf1,2\n3,4\n")
    (folder / "dos.csv").write_bytes(b"1,2\r\n3,4\r\n")
    (folder / "row.csv").write_text("1,2\n")
    (folder / "column.csv").write_text("x\n1\n2\n")
    np.savez(folder / "more.npz", X=X, y=y, Z=X)
    np.savez(folder / "strings.npz", X=np.array([["a", "b"], ["b", "a"]]), y=[0, 1])
    for name in ("folder.npz", "folder.csv"):
        (folder / name).mkdir()
    (folder / "link").symlink_to("cat.txt")
    (folder / "hard").hardlink_to(folder / "cat.txt")
    checkpoint.save(folder / "strange", {}, {"model": "Oracle"})
    checkpoint.save(folder / "training", {}, {"settings": {}})
    return folder


def test_diagnose_a_text_model(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    figure = tmp_path / "figure.png"
    assert cli.main(["diagnose", str(files / "text"), str(files / "cat.txt"), "-o", str(figure)]) == 0
    expected = diagnose_model(TextGenerator.load(files / "text"), (files / "cat.txt").read_text())
    assert capsys.readouterr().out == f"{expected}\n"
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_diagnose_a_classifier(files, capsys):
    assert cli.main(["diagnose", str(files / "classifier"), str(files / "both.npz")]) == 0
    assert "recurrent.l0" in capsys.readouterr().out


def test_arrays_from_files(files):
    nothing, named = cli._arrays(str(files / "both.npz"))
    assert nothing == () and named.keys() == {"X", "y", "lengths"}
    assert named["X"].shape == (6, 9, 2) and named["y"].shape == named["lengths"].shape == (6,)
    assert cli._arrays(str(files / "array.npy"))[0][0].shape == (6, 9, 2)
    for name in ("table.csv", "list.csv", "marked.csv", "dos.csv"):
        assert cli._arrays(str(files / name))[0][0].tolist() == [[1, 2], [3, 4]]
    assert cli._arrays(str(files / "row.csv"))[0][0].tolist() == [[1, 2]]
    assert cli._arrays(str(files / "column.csv"))[0][0].tolist() == [[1], [2]]


BAD_FILES = {
    "empty.npy": b"",
    "empty.npz": b"",
    "empty.csv": b"",
    "header.csv": b"a,b\n",
    "short.npz": b"PK\3\4x",
    "short.npy": b"\x93NUMPY\1\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }\n",
    "vast.npy": b"\x93NUMPY\1\0v\0"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999999,), }".ljust(117)
    + b"\n",
    "text.npy": b"these are words",
    "words.csv": b"1,2\n3,four\n",
    "ragged.csv": b"1,2\n3\n",
    "latin.csv": b"1,2\ncaf\xe9,2\n",
}


@pytest.mark.parametrize("name", [*BAD_FILES, "objects.npy", "objects.npz", "torn.npz", "torn.zip.npz"])
def test_a_file_of_no_arrays_is_one_line_that_names_it(files, tmp_path, capsys, name):
    path = tmp_path / name
    if name.startswith("objects"):
        whole = np.empty(2, object)
        whole[:] = [np.ones(3), "x"]
        np.savez(path, X=whole, y=[0, 1]) if name.endswith("z") else np.save(path, whole)
    elif name.startswith("torn"):
        np.savez_compressed(path, X=np.random.default_rng(0).normal(size=(6, 9, 2)))
        data = bytearray(path.read_bytes())
        place = zipfile.ZipFile(path).infolist()[0].compress_size // 2
        if "zip" in name:
            data[-22:-18] = b"????"
        else:
            data[place : place + 50] = bytes(50)
        path.write_bytes(data)
    else:
        path.write_bytes(BAD_FILES[name])
    assert cli.main(["diagnose", str(files / "classifier"), str(path)]) == 1
    said = capsys.readouterr()
    assert re.fullmatch(rf"fastrnn: error: '{path}' is not .*\n", said.err) and said.out == ""
    assert "--level" not in said.err  # which is of texts


@pytest.mark.parametrize(
    ("model", "data", "error"),
    [
        ("text", "missing.txt", "No such file or directory: '.*missing.txt'"),
        ("missing", "cat.txt", "No such file or directory: '.*missing'"),
        ("strange", "cat.txt", "holds no model that fastrnn knows, but 'Oracle'"),
        ("training", "cat.txt", "holds no model that fastrnn knows, but None"),
        ("cat.txt", "text", ".* is not a readable model file: .* MODEL comes first"),
        ("text", "both.npz", "is not UTF-8 text"),
        ("text", ".", r"Is a directory: '.*'"),
        (".", "cat.txt", r"Is a directory: '.*'"),
        ("classifier", ".", r"must be \.npz, \.npy or \.csv for this model"),
        ("classifier", "folder.npz", "Is a directory: '.*folder.npz'"),
        ("classifier", "folder.csv", "Is a directory: '.*folder.csv'"),
        ("classifier", "missing.csv", "No such file or directory: '.*missing.csv'"),
        ("classifier", "cat.txt", r"must be \.npz, \.npy or \.csv for this model"),
        ("classifier", "alone.npz", "requires y"),
        ("classifier", "array.npy", "requires y"),
        ("classifier", "strings.npz", "lengths must be passed with an array.*"),
        ("classifier", "other.npz", r"SequenceClassifier.fit\(X, .*\): .*'X'"),
        ("classifier", "more.npz", r"SequenceClassifier.fit\(.*\): .* unexpected .* 'Z'"),
    ],
)
def test_errors_of_the_command_are_one_line(files, capsys, model, data, error):
    assert cli.main(["diagnose", str(files / model), str(files / data)]) == 1
    assert re.fullmatch(rf"fastrnn: error: .*{error}.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("same", ["text", "cat.txt", "link", "hard", "folder.npz/../cat.txt"])
def test_a_figure_does_not_replace_what_it_is_made_from(files, capsys, same):
    before = (files / "text").read_bytes(), (files / "cat.txt").read_bytes()
    arguments = ["diagnose", str(files / "text"), str(files / "cat.txt"), "-o", str(files / same)]
    assert cli.main(arguments) == 1
    assert re.search("-o must be another file than (MODEL|DATA) '.*', got '.*'", capsys.readouterr().err)
    assert before == ((files / "text").read_bytes(), (files / "cat.txt").read_bytes())


def test_the_command_names_the_extra_after_its_table(files, tmp_path, capsys, monkeypatch):
    for name in ("matplotlib", "matplotlib.axes", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    where = str(tmp_path / "figure.png")
    assert cli.main(["diagnose", str(files / "text"), str(files / "cat.txt"), "-o", where]) == 1
    said = capsys.readouterr()
    assert "recurrent.l0" in said.out and "pip install matplotlib, or the extra fastrnn[plot]" in said.err


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_gates_without_bounds_have_no_time_constants(kind):
    layer = kind(2, 4, gate_activation="relu", seed=0)
    with use_backend("reference"):
        found = diagnose(layer, np.ones((60, 2, 2), "float32"))
    assert found.directions[0].time_constants is None
    assert found.directions[0].cell == f"{kind.__name__.lower()}_any"
    assert 'gate_activation="sigmoid"' in found.verdict
