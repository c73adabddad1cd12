"""Sequences that start anew in the middle, against the same sequences split by hand.

Letters: T time, B batch, I input, H hidden.
"""

import numpy as np
import pytest
from cells import FORMS, LAYERS, backward, forward, members, normal, state_of

import fastrnn
from fastrnn import layers, reference
from fastrnn.functional import stack
from fastrnn.layers import GRU, LSTM, RNN, Last, Linear, Masking, Reverse, Sequential
from fastrnn.reference import Call

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")

BACKENDS = {"native": _core, "reference": reference}


def segments(starts, length):
    """Where the parts of one sequence begin and end."""
    cuts = [t for t in range(1, length) if starts[t]]
    return list(zip([0, *cuts], [*cuts, length], strict=True)) if length else []


# -- one layer in one direction: every cell


class Problem:
    """Random arguments of one call with starts, and of its way back."""

    def __init__(self, form, dtype, seed, *, mask=False):
        rng = np.random.default_rng(seed)
        T, B, I, H = (int(rng.integers(1, most)) for most in (9, 6, 5, 20))
        self.form, self.T, self.B = form, T, B

        def normal(*shape):
            return rng.normal(size=shape).astype(dtype)

        widths = form.widths(H)
        tokens, ragged, given = rng.integers(0, 2, 3)
        self.starts = rng.random((T, B)) < rng.choice([0.2, 0.5])
        self.lengths = rng.integers(0, T + 1, B) if ragged else np.full(B, T)
        self.call = Call(
            form.cell,
            rng.integers(0, I, (T, B)) if tokens else normal(T, B, I),
            form.parameters(I, H, lambda shape: normal(*shape)),
            [normal(B, width) for width in widths],
            self.lengths if ragged else None,
            bool(rng.integers(0, 2)),
            training=True,
            recompute=bool(rng.integers(0, 2)),
            mask=(rng.integers(0, 3, (B, widths[0])) / 2).astype(dtype) if mask else None,
            options=form.options,
            starts=self.starts,
            start_states=[normal(B, width) for width in widths] if given else None,
        )
        self.dy, self.dstates = normal(T, B, widths[0]), [normal(B, width) for width in widths]

    def run(self, backend, call, dy, dstates):
        """y, the states, dx, the gradients of all parameters, those of both states, and that of every h."""
        y, states, reserve = forward(backend, call)
        dhidden = np.zeros_like(y)
        found = backward(backend, reserve, dy, dstates, dhidden=dhidden)
        return y, states, found.x, found.parameters.arrays(), found.state, found.start_state, dhidden

    def whole(self, backend):
        return self.run(backend, self.call, self.dy, self.dstates)

    def by_hand(self, backend):
        """The same of each part of each sequence, a call of its own."""
        call, B = self.call, self.B
        zeros = [np.zeros_like(state) for state in call.states]
        start = call.start_states or zeros
        y, dhidden = (np.zeros_like(self.dy) for _ in range(2))
        states, dstates = ([state.copy() for state in each] for each in (call.states, self.dstates))
        dstart, dx = [np.zeros_like(state) for state in zeros], None
        dx = None if call.x.ndim == 2 else np.zeros_like(call.x)
        dparameters = [np.zeros(array.shape) for array in call.parameters.arrays()]
        for b in range(B):
            row = slice(b, b + 1)
            parts = segments(self.starts[:, b], self.lengths[b])
            ends = [state[row] for state in self.dstates]
            for k, (first, end) in reversed([*enumerate(parts[:: -1 if call.reverse else 1])]):
                anew = k > 0 or (self.starts[0, b] and not call.reverse)
                part = slice(first, end), row
                own = [state[row] for state in (start if anew else call.states)]
                alone = call._replace(
                    x=call.x[part].copy(),
                    states=own,
                    lengths=None,
                    mask=None if call.mask is None else call.mask[row],
                    starts=None,
                    start_states=None,
                )
                y[part], finals, dx_part, dparts, given, _, dhidden[part] = self.run(
                    backend, alone, self.dy[part].copy(), ends
                )
                if dx is not None:
                    dx[part] = dx_part
                for total, found in zip(dparameters, dparts, strict=True):
                    total += found
                for member, found in enumerate(finals):
                    if k == len(parts) - 1:
                        states[member][row] = found
                for member, found in enumerate(given):
                    if anew:
                        dstart[member][row] += found
                    dstates[member][row] = 0 if anew else found
                ends = [np.zeros_like(end) for end in ends]
        return y, states, dx, dparameters, dstates, dstart, dhidden


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mask", [False, True])
def test_a_call_is_its_parts(backend, dtype, form, mask):
    """By the kernels with the same bits, but for sums over all steps; NumPy's products have others."""
    for seed in range(4):
        problem = Problem(FORMS[form], dtype, [seed, mask], mask=mask)
        found, expected = (run(BACKENDS[backend]) for run in (problem.whole, problem.by_hand))
        for k, (own, parts) in enumerate(zip(found, expected, strict=True)):
            assert (own is None) == (parts is None)
            for one, other in () if own is None else zip(own, parts, strict=True):
                if k == 3 or backend == "reference":
                    scale = max(1, np.abs(other).max(initial=0)) * (1e-4 if dtype == "float32" else 1e-11)
                    np.testing.assert_allclose(one, other, rtol=0, atol=scale)
                else:
                    assert one.tobytes() == other.tobytes(), (seed, k)


@pytest.mark.parametrize(
    "form", ["lstm", "lstm projected", "lstm_layer_norm", "gru", "gru_before", "rnn_tanh"]
)
def test_threads_make_no_difference(threads, form):
    problem = Problem(FORMS[form], "float32", 3, mask=True)
    problem.call = problem.call._replace(recompute=False)
    alone = [threads(1), problem.whole(_core)][1]
    for count in (2, 3):
        threads(count)
        for one, other in zip(problem.whole(_core), alone, strict=True):
            assert one is other is None or [a.tobytes() for a in one] == [a.tobytes() for a in other]


# -- layers on top of each other


def split(layer, x, state, starts, lengths, start, dy, dstate_n):
    """y, state_n, dx, dstate and dstart of a layer that is called with each part of each sequence alone; and
    the layer's gradients. All is time first, and states are members."""
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    state_n, dstate = [a.copy() for a in state], [a.copy() for a in dstate_n]
    dstart = [np.zeros_like(a) for a in state]
    there = np.arange(len(state[0])) % 2 if layer.bidirectional else np.zeros(len(state[0]), int)
    for b in range(x.shape[1]):
        row, parts, came = slice(b, b + 1), segments(starts[:, b], lengths[b]), [[] for _ in state]
        for k, (first, end) in enumerate(parts):
            # Of both directions: whether this part begins a sequence's, and ends it.
            begins = np.where(there, k == len(parts) - 1, k == 0 and not starts[0, b])
            ends = np.where(there, k == 0, k == len(parts) - 1)

            def chosen(which, ours, others, row=row):
                pairs = zip(ours, others, strict=True)
                return [np.where(which[:, None, None], one[:, row], other[:, row]) for one, other in pairs]

            found, finals, back = layer.forward(
                np.ascontiguousarray(x[first:end, row]), joined(chosen(begins, state, start))
            )
            y[first:end, row] = found
            dends = chosen(ends, dstate_n, [np.zeros_like(a) for a in dstate_n])
            dx[first:end, row], given = back(np.ascontiguousarray(dy[first:end, row]), joined(dends))
            for member, (last, gradient) in enumerate(zip(members(finals), members(given), strict=True)):
                state_n[member][ends, b] = last[ends, 0]
                dstate[member][begins, b] = gradient[begins, 0]
                came[member].append(np.where(begins[:, None], 0, gradient[:, 0]))
        for member, gradients in enumerate(came if parts else []):  # in the order of the ways back
            dstart[member][there == 0, b] = sum(reversed(gradients))[there == 0]
            dstart[member][there == 1, b] = sum(gradients)[there == 1]
        if parts and starts[0, b]:
            for member in dstate:
                member[there == 0, b] = 0
    return [y, *state_n, dx, *dstate, *dstart], layer.take_gradients()


def joined(arrays):
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bidirectional, batch_first", [(False, False), (True, True)])
def test_a_layer_is_its_parts(backend, kind, bidirectional, batch_first):
    rng = np.random.default_rng(1)
    options = {"num_layers": 2, "bidirectional": bidirectional, "dtype": "float64", "seed": 0}
    layer, alone = (LAYERS[kind](3, 6, batch_first=first, **options) for first in (batch_first, False))
    T, B, lengths = 7, 5, np.array([7, 4, 0, 1, 6])
    x, starts = rng.normal(size=(T, B, 3)), rng.random((T, B)) < 0.4
    state, start, dstate_n = (state_of(layer, lambda s, k: rng.normal(size=s), B) for _ in range(3))
    dy = rng.normal(size=(T, B, layer.output_size))
    swap = (lambda array: array.swapaxes(0, 1)) if batch_first else lambda array: array
    given = {"lengths": lengths, "starts": swap(starts), "start_state": start}
    y, state_n, back = layer.forward(swap(x), state, **given)
    dx, dstate, dstart = back(swap(dy), dstate_n)
    found = [swap(y), *members(state_n), swap(dx), *members(dstate), *members(dstart)]
    of_members = map(members, (state, start, dstate_n))
    state_, start_, dstate_n_ = map(list, of_members)
    expected, gradients = split(alone, x, state_, starts, lengths, start_, dy, dstate_n_)
    within = np.arange(T)[:, None] < lengths
    found[0], expected[0] = (array[within] for array in (found[0], expected[0]))
    for one, other in zip(found, expected, strict=True):
        if backend == "native":
            assert one.tobytes() == other.tobytes()
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11 * max(1, np.abs(other).max()))
    for name, gradient in layer.take_gradients().items():
        scale = max(1, np.abs(gradients[name]).max())
        np.testing.assert_allclose(gradient, gradients[name], rtol=0, atol=1e-11 * scale, err_msg=name)
    again, _, (h, *_) = layer(swap(x), state, **given, return_all_states=True)
    assert again.tobytes() == y.tobytes()
    assert h.shape[0] in (T, layer.num_layers * (1 + bidirectional))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_gradients_are_pytorchs(backend, kind):
    """Of a state that each of its steps multiplies by 0 where a sequence starts."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    layer, theirs = (
        getattr(fastrnn, kind)(3, 5, num_layers=2, dtype="float64"),
        getattr(torch.nn, kind)(3, 5, 2),
    )
    theirs.double().load_state_dict({name: torch.tensor(array) for name, array in layer.parameters.items()})
    x, starts = rng.normal(size=(8, 4, 3)), rng.random((8, 4)) < 0.3
    state, inputs = state_of(layer, lambda s, k: rng.normal(size=s), 4), torch.tensor(x, requires_grad=True)
    initial = [torch.tensor(each, requires_grad=True) for each in members(state)]
    current, rows = initial, []
    for x_t, keep in zip(inputs, torch.tensor(~starts), strict=True):
        current = [each * keep[:, None] for each in current]
        y_t, current = theirs(x_t[None], joined(current))
        current = members(current)
        rows.append(y_t)
    loss = torch.cat(rows).square().sum() + sum(each.sum() for each in current)
    gradients = torch.autograd.grad(loss, [inputs, *initial, *theirs.parameters()])
    y, state_n, back = layer.forward(x, state, starts=starts)
    dx, dstate = back(2 * y, joined([np.ones_like(each) for each in members(state_n)]))
    found = [dx, *members(dstate), *layer.take_gradients().values()]
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_learned_state_learns_from_every_start(backend, kind):
    """Its gradient is that of a state given for the first steps and of one given for starts, in all."""
    rng = np.random.default_rng(3)
    learned, plain = (
        LAYERS[kind](3, 5, dtype="float64", seed=0, learned_state=each) for each in (True, False)
    )
    start = {name: rng.normal(size=(1, 5)) for name in learned._start()}
    learned.load_state_dict({**plain.state_dict(), **start})
    x, starts, dy = rng.normal(size=(8, 4, 3)), rng.random((8, 4)) < 0.3, rng.normal(size=(8, 4, 5))
    same = joined([np.repeat(array[:, None], 4, axis=1) for array in start.values()])
    y, _, back = learned.forward(x, starts=starts)
    expected, _, plain_back = plain.forward(x, same, starts=starts, start_state=same)
    assert y.tobytes() == expected.tobytes() == learned(x, starts=starts)[0].tobytes()
    assert len(back(dy)) == 2
    _, dstate, dstart = plain_back(dy)
    gradients = learned.take_gradients()
    for name, one, other in zip(start, members(dstate), members(dstart), strict=True):
        assert gradients[name].tobytes() == (one.sum(axis=1) + other.sum(axis=1)).tobytes()
    _, _, back = learned.forward(x, same, starts=starts)  # which begin from what is given, but for starts
    back(dy)
    gradients = learned.take_gradients()
    for name, other in zip(start, members(dstart), strict=True):
        assert gradients[name].tobytes() == other.sum(axis=1).tobytes()


def test_dropout_and_records(rng):
    """Masks are drawn as without starts; the reference draws the same. What is recorded stops at starts."""
    x, starts = normal(6, 3, 4), np.zeros((6, 3), bool)
    starts[4, 1] = True
    found = []
    for name in ("native", "reference"):
        with fastrnn.use_backend(name):
            layer = LSTM(4, 5, 2, dropout=0.3, recurrent_dropout=0.3, dtype="float64", seed=0)
            layer.recording = True
            y, state_n, back = layer.forward(x, starts=starts)
            dx, dstate = back(None, tuple(np.ones_like(each) for each in state_n))
            found.append([y, *state_n, dx, *dstate, *layer.take_gradients().values()])
            top = layer.record[1]
            assert top.starts.tolist() == starts.tolist()
            assert (top.dhidden[:4, 1] == 0).all() and (top.dhidden[:, 0] != 0).any(axis=-1).all()
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)
    step = fastrnn.diagnostics.diagnose_network(layer, lambda layer: layer.forward(x, starts=starts)[2](y))
    assert len(step.directions) == 2


def test_packed_rows(backend):
    """Of `stack` with `batch_sizes`: starts lie as tokens would."""
    rng = np.random.default_rng(4)
    layer = LSTM(3, 4, bidirectional=True, dtype="float64", seed=0)
    parameters = [layer._parameters_of(suffix) for suffix in ("_l0", "_l0_reverse")]
    lengths, batch_sizes = np.array([5, 3, 1]), np.array([3, 2, 2, 1, 1])
    x, starts = rng.normal(size=(5, 3, 3)), rng.random((5, 3)) < 0.5
    within = np.arange(5)[:, None] < lengths
    y, _, back = layer.forward(x, lengths=lengths, starts=starts)
    dx, dstate = back(np.ones_like(y))
    options = {"batch_sizes": batch_sizes, "bidirectional": True, "starts": starts[within]}
    for reusable in (False, True):
        found, state, reserve = stack.forward(
            "lstm", x[within], parameters, **options, recompute=reusable, reusable=reusable
        )
        gradients = stack.backward(reserve, np.ones_like(found))
        assert found.tobytes() == y[within].tobytes()
        assert gradients.x.tobytes() == dx[within].tobytes()
        for one, other in zip(members(gradients.state), members(dstate), strict=True):
            assert one.tobytes() == other.tobytes()
        assert len(gradients.start_state) == len(state) == 2


def test_tokens_and_functions(backend):
    layer, rng = GRU(9, 4, seed=0), np.random.default_rng(5)
    x, starts = rng.integers(0, 9, (6, 3)), rng.random((6, 3)) < 0.4
    y, _ = layer(x, starts=starts)
    weights = list(layer.parameters.values())
    found, _, reserve = fastrnn.functional.gru_forward(x, *weights, starts=starts)
    assert found.tobytes() == y.tobytes() == fastrnn.functional.gru(x, *weights, starts=starts)[0].tobytes()
    gradients = fastrnn.functional.gru_backward(reserve, np.ones_like(y))
    assert gradients.start_state.shape == (3, 4) and gradients.start_state.any()


# -- networks and streams


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_sequential_hands_them_on(backend, batch_first):
    rng = np.random.default_rng(6)
    parts = [LSTM(3, 4, batch_first=batch_first, seed=0), GRU(4, 4, batch_first=batch_first, seed=0)]
    network = Sequential(*parts, Linear(4, 2, seed=0))
    shape = (3, 7) if batch_first else (7, 3)
    x, starts = rng.normal(size=(*shape, 3)).astype("float32"), rng.random(shape) < 0.3
    expected = x
    for part in parts:
        expected, _ = part(expected, starts=starts)
    y, back = network.forward(x, starts=starts)
    assert y.tobytes() == network.parts["2"](expected).tobytes() == network(x, starts=starts).tobytes()
    back(np.ones_like(y))
    rows = fastrnn.data.Sequences(list(np.moveaxis(x, batch_first ^ 1, 0)))
    assert network(rows, starts=starts).tobytes() == y.tobytes()


@pytest.mark.parametrize(
    "network", [Sequential(LSTM(3, 4, seed=0)), Sequential(LSTM(3, 4, seed=0), layers.Tanh())]
)
def test_a_stream_is_reset_by_rows(backend, network):
    rng = np.random.default_rng(7)
    x, starts = rng.normal(size=(9, 3, 3)).astype("float32"), rng.random((9, 3)) < 0.3
    stream, rows = network.stream(3), []
    for x_t, starts_t in zip(x, starts, strict=True):
        stream.reset(starts_t)
        rows.append(stream.step(x_t))
    assert np.array(rows).tobytes() == network(x, starts=starts).tobytes()
    before = stream.state
    for bad, error in (([1, 0, 0], TypeError), ([True], ValueError)):
        with pytest.raises(error, match="rows must"):
            stream.reset(bad)
    assert all(
        one.tobytes() == other.tobytes() for one, other in zip(before[0], stream.state[0], strict=True)
    )


# -- what is refused


@pytest.mark.parametrize(
    "bad, error", [("int", TypeError), ("float", TypeError), ("T", ValueError), ("B", ValueError)]
)
@pytest.mark.parametrize("learned_state", [False, True])
def test_starts_of_another_kind_are_refused(backend, bad, error, learned_state):
    layer = LSTM(3, 4, learned_state=learned_state, seed=0)
    network, x = Sequential(layer), normal(5, 2, 3, dtype="float32")
    starts = np.zeros((5, 2), bool)
    starts = {"T": starts[:4], "B": starts.T}[bad] if bad in "TB" else starts.astype(bad)
    weights = [layer.parameters[name] for name in list(layer.parameters)[:4]]
    for call in (layer, layer.forward, network, network.forward):
        with pytest.raises(error, match=r"starts must .*\(5, 2\)"):
            call(x, starts=starts)
    with pytest.raises(error, match="starts must"):
        fastrnn.functional.lstm(x, *weights, starts=starts)
    with pytest.raises(error, match="starts must"):
        stack("lstm", x, [layer._parameters_of("_l0")], starts=starts)


def test_a_start_state_needs_starts_and_a_states_shape(backend):
    layer, x = RNN(3, 4, seed=0), normal(5, 2, 3, dtype="float32")
    state = np.zeros((1, 2, 4), "float32")
    for call in (layer, layer.forward):
        with pytest.raises(ValueError, match="start_state goes with starts"):
            call(x, start_state=state)
        with pytest.raises(ValueError, match=r"start_state must have shape \(L\*D, B, H\) = \(1, 2, 4\)"):
            call(x, starts=np.zeros((5, 2), bool), start_state=state[:, :1])


def test_networks_that_are_not_of_steps_have_none(backend):
    lstm, starts = LSTM(3, 4, seed=0), np.zeros((5, 2), bool)
    for network in (
        Sequential(lstm, Last()),
        Sequential(Masking(), lstm),
        Sequential(Reverse(), lstm, Reverse()),
        Sequential(Linear(3, 4)),
    ):
        with pytest.raises(ValueError, match="starts goes with recurrent layers"):
            network(normal(5, 2, 3, dtype="float32"), starts=starts)


# -- in PyTorch


@pytest.fixture
def problem():
    """Modules, theirs and ours, with the same weights; x, starts and a state."""
    torch = pytest.importorskip("torch")
    ours = pytest.importorskip("fastrnn.torch")
    torch.manual_seed(0)

    def make(kind, **options):
        module = getattr(ours, kind)(3, 5, 2, dtype=torch.float64, **options)
        theirs = getattr(torch.nn, kind)(3, 5, 2, dtype=torch.float64)
        theirs.load_state_dict(module.state_dict())
        x = torch.randn(7, 4, 3, dtype=torch.float64, requires_grad=True)
        state = [
            torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(1 + (kind == "LSTM"))
        ]
        return module, theirs, x, torch.rand(7, 4) < 0.3, state

    return make


def learned(torch, run, inputs, module):
    """What comes of a run, and the gradients of a function of it."""
    y, state = run()
    loss = y.cos().sum() + sum(member.square().sum() for member in members(state))
    gradients = torch.autograd.grad(loss, [*inputs, *module.parameters()])
    return [y, *members(state), *gradients]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_module_takes_starts(problem, kind):
    torch = pytest.importorskip("torch")
    module, theirs, x, starts, state = problem(kind)

    def by_hand():
        rows, current = [], joined(state)
        for x_t, starts_t in zip(x, starts, strict=True):
            keep = ~starts_t[:, None]
            y_t, current = theirs(x_t[None], joined([each * keep for each in members(current)]))
            rows.append(y_t)
        return torch.cat(rows), current

    expected = learned(torch, by_hand, [x, *state], theirs)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for run in (module, compiled):
        found = learned(torch, lambda run=run: run(x, joined(state), starts=starts), [x, *state], module)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    first = problem(kind, batch_first=True)[0]
    first.load_state_dict(module.state_dict())
    y, _ = first(x.transpose(0, 1), joined(state), starts=starts.T)
    assert torch.equal(y.transpose(0, 1), found[0])
    alone, _ = module(x[:, 1], starts=starts[:, 1])
    assert torch.equal(alone, module(x, starts=starts)[0][:, 1])
    lengths = torch.tensor([3, 7, 2, 5])
    pack = torch.nn.utils.rnn.pack_padded_sequence
    packed, anew = (pack(each, lengths, enforce_sorted=False) for each in (x, starts))
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed, joined(state), starts=anew)[0])
    for b, length in enumerate(lengths):
        assert torch.equal(y[:length, b], found[0][:length, b])


def test_what_pytorch_would_compute_is_refused(problem):
    torch = pytest.importorskip("torch")
    module, _, x, starts, _ = problem("LSTM")
    for bad in (starts.int(), starts[:4], starts.numpy(), starts.T):
        with pytest.raises(ValueError, match=r"starts must be a tensor of bool of shape \(7, 4\)"):
            module(x, starts=bad)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    with pytest.raises(ValueError, match="starts must be packed as input is"):
        module(pack(x, torch.full((4,), 7)), starts=starts)
    lengths = torch.tensor([2, 7, 4, 7])
    packed = pack(x, lengths, enforce_sorted=False)
    for other in (lengths.clamp(max=6), lengths.flip(0)):
        with pytest.raises(ValueError, match="of the same lengths in the same order, got others"):
            module(packed, starts=pack(starts, other, enforce_sorted=False))
    with pytest.raises(ValueError, match="of the same lengths in the same order, got others"):
        module(packed, starts=pack(starts, lengths.sort(descending=True)[0]))
    with pytest.raises(ValueError, match="dtype"):
        module(x.float(), starts=starts)
    with (
        torch.autocast("cpu"),
        pytest.raises(RuntimeError, match=r"starts are for the kernels alone.* autocast"),
    ):
        module(x, starts=starts)
    y, _ = module(x, starts=starts)
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(TypeError, match="LSTMCell has no starts"):
        pytest.importorskip("fastrnn.torch").LSTMCell(3, 5)(x[0].float(), starts=starts)
