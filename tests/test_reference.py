"""The reference against finite differences, against PyTorch, and against itself run in other ways."""

import numpy as np
import pytest
from cells import FORMS, every_activation, flat, torch_class

from fastrnn import reference
from fastrnn.reference import ACTIVATIONS, CELLS, Call, Options

T, B, I, H, V = 4, 3, 2, 3, 5

forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["onward", "reverse"])


def random_call(rng, form, *, tokens=False, b_ih=True, b_hh=True, state=True, T=T, B=B, **options):
    """A call with random arrays."""
    parameters = form.parameters(V if tokens else I, H, lambda shape: rng.normal(size=shape))
    parameters = parameters._replace(
        b_ih=parameters.b_ih if b_ih else None, b_hh=parameters.b_hh if b_hh else None
    )
    x = rng.integers(V, size=(T, B)) if tokens else rng.normal(size=(T, B, I))
    states = tuple(rng.normal(size=(B, width)) if state else None for width in form.widths(H))
    call = Call(form.cell, x, parameters, states, training=True, options=form.options)
    return call._replace(**options)


def random_gradients(rng, form, T=T, B=B):
    """A gradient with respect to y, and one for each final state."""
    widths = form.widths(H)
    return rng.normal(size=(T, B, widths[0])), tuple(rng.normal(size=(B, width)) for width in widths)


def run(call):
    return reference.forward(call)


def arrays_of(call):
    """What gradients are of, in the order of `flat`."""
    x = [] if call.x.ndim == 2 else [call.x]
    return [*x, *call.parameters.arrays(), *call.states]


def assert_close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# -- finite differences


def central_differences(loss, array, step=1e-7):
    """The gradient of loss(), a function of the array's present content, by moving one number at a time."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        here = array[index]
        array[index] = here + step
        above = loss()
        array[index] = here - step
        below = loss()
        array[index] = here
        gradient[index] = (above - below) / (2 * step)
    return gradient


def assert_gradients(call, dy, dstates, given=None):
    """Those of `backward` are those of central differences."""

    def loss():
        y, states, _ = run(call)
        return np.vdot(y, dy) + sum(map(np.vdot, states, dstates))

    gradients = reference.backward(run(given or call)[2], dy, dstates)
    arrays, found = arrays_of(call), flat(gradients)
    assert (gradients.x is None) == (call.x.ndim == 2)
    for array, gradient in zip(arrays, found, strict=True):
        scale = max(1, np.abs(gradient).max(initial=0))
        assert_close(gradient / scale, central_differences(loss, array) / scale, 5e-7)


def lengths_of(lengths):
    return None if lengths is None else np.array(lengths)


# What is given, how long rows are, whether they are turned round, whether they are tokens: all pairs.
SITUATIONS = [
    ("b_ih b_hh state", None, False, False),
    ("b_ih b_hh state", (2, 4, 0), True, True),
    ("b_ih", (2, 4, 0), False, False),
    ("b_ih", None, True, True),
    ("b_hh state", None, True, False),
    ("b_hh state", (2, 4, 0), False, True),
    ("", (2, 4, 0), True, False),
    ("", None, False, True),
]


@forms
@pytest.mark.parametrize(("given", "lengths", "reverse", "tokens"), SITUATIONS)
def test_gradients_are_those_of_central_differences(form, given, lengths, reverse, tokens):
    rng = np.random.default_rng(1)
    options = {name: name in given for name in ("b_ih", "b_hh", "state")}
    call = random_call(rng, form, tokens=tokens, **options, lengths=lengths_of(lengths), reverse=reverse)
    as_given = call
    if not options["state"]:  # zeros, so that they can be moved
        call = call._replace(states=tuple(np.zeros((B, width)) for width in form.widths(H)))
    assert_gradients(call, *random_gradients(rng, form), as_given)


@forms
@pytest.mark.parametrize(("lengths", "reverse"), [(None, False), ((2, 4, 0), True)])
def test_gradients_under_a_mask_are_those_of_central_differences(form, reverse, lengths):
    rng = np.random.default_rng(4)
    mask = rng.integers(0, 3, (B, form.widths(H)[0])) / 2
    call = random_call(rng, form, lengths=lengths_of(lengths), reverse=reverse, mask=mask)
    assert_gradients(call, *random_gradients(rng, form))


ANY = [cell for cell, facts in CELLS.items() if facts.options]


@pytest.mark.parametrize("cell", ANY)
def test_gradients_through_every_activation_are_those_of_central_differences(cell):
    rng = np.random.default_rng(6)
    for form in every_activation(cell):
        assert_gradients(random_call(rng, form, T=3), *random_gradients(rng, form, T=3))


@forms
def test_a_mask_of_one_row_is_one_of_the_weights_columns(form):
    rng = np.random.default_rng(5)
    mask = np.array([[0.0, 2.0, 0.5]])[:, : form.widths(H)[0]]
    call = random_call(rng, form, B=1)
    dy, dstates = random_gradients(rng, form, B=1)
    y, states, reserve = run(call._replace(mask=mask))
    gradients = reference.backward(reserve, dy, dstates)
    w_hh = call.parameters.w_hh * mask
    y_plain, states_plain, reserve = run(call._replace(parameters=call.parameters._replace(w_hh=w_hh)))
    plain = reference.backward(reserve, dy, dstates)
    assert_close(y, y_plain)
    for state, state_plain in zip(states, states_plain, strict=True):
        assert_close(state, state_plain)
    assert_close(gradients.parameters.w_hh, plain.parameters.w_hh * mask)
    assert_close(gradients.x, plain.x)


@forms
def test_gradients_left_out_are_zeros(form):
    rng = np.random.default_rng(2)
    call = random_call(rng, form)
    dy, dstates = random_gradients(rng, form)
    nothing, zeros = (None,) * len(dstates), tuple(map(np.zeros_like, dstates))

    def gradients(dy, dstates):
        return flat(reference.backward(run(call)[2], dy, dstates))

    for actual, expected in zip(gradients(dy, nothing), gradients(dy, zeros), strict=True):
        assert_close(actual, expected)
    for actual, expected in zip(gradients(None, dstates), gradients(0 * dy, dstates), strict=True):
        assert_close(actual, expected)


def test_a_peephole_may_be_left_out():
    rng, cell = np.random.default_rng(2), "lstm_any"
    form = FORMS[cell]
    call, (dy, dstates) = random_call(rng, form), random_gradients(rng, form)
    zeros = call.parameters._replace(vectors=(np.zeros(3 * H),))
    none = call.parameters._replace(vectors=())
    results = []
    for parameters in none, zeros, none:
        y, states, reserve = run(
            call._replace(cell="lstm" if len(results) == 2 else cell, parameters=parameters)
        )
        gradients = reference.backward(reserve, dy, dstates)
        assert len(gradients.parameters.vectors) == len(parameters.vectors)
        gradients = gradients._replace(parameters=gradients.parameters._replace(vectors=()))
        results.append([y, *states, *flat(gradients)])
    for arrays in zip(*results, strict=True):
        for other in arrays[1:]:
            np.testing.assert_array_equal(arrays[0], other)


# -- PyTorch


IN_TORCH = {  # forms that PyTorch has
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "lstm projected": ("LSTM", {"proj_size": 1}),
    "gru": ("GRU", {}),
}
NAMES = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh", "w_hr": "weight_hr"}


@pytest.mark.parametrize("name", IN_TORCH)
@directions
@pytest.mark.parametrize("lengths", [None, (2, 4, 1)], ids=["equal", "packed"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_equals_pytorch(name, reverse, lengths, bias):
    """Results and all gradients; the two directions are the two halves of one bidirectional torch module."""
    torch = pytest.importorskip("torch")
    rng, form = np.random.default_rng(3), FORMS[name]
    call = random_call(rng, form, b_ih=bias, b_hh=bias, lengths=lengths_of(lengths), reverse=reverse)
    dy, dstates = random_gradients(rng, form)
    kind, options = IN_TORCH[name]
    module = torch_class(torch, kind)(I, H, bias=bias, bidirectional=True, **options).double()
    suffix = "_l0_reverse" if reverse else "_l0"
    given = {
        name: array for name, array in call.parameters._asdict().items() if isinstance(array, np.ndarray)
    }
    weights = {name: getattr(module, NAMES[name] + suffix) for name in given}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.from_numpy(given[name]))

    def in_its_half(array, axis):
        """The array on this direction's side, zeros on the other one."""
        halves = [array, np.zeros_like(array)]
        return np.concatenate(halves[::-1] if reverse else halves, axis)

    x = torch.tensor(call.x, requires_grad=True)
    states = [torch.tensor(in_its_half(s[None], 0), requires_grad=True) for s in call.states]
    pack = torch.nn.utils.rnn.pack_padded_sequence
    inputs = x if lengths is None else pack(x, torch.tensor(lengths), enforce_sorted=False)
    outputs, states_n = module(inputs, tuple(states) if len(states) == 2 else states[0])
    if lengths is not None:
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs)
    states_n = states_n if len(states) == 2 else (states_n,)
    loss = (outputs * torch.from_numpy(in_its_half(dy, 2))).sum()
    for state_n, dstate in zip(states_n, dstates, strict=True):
        loss = loss + (state_n * torch.from_numpy(in_its_half(dstate[None], 0))).sum()
    loss.backward()

    y, our_states_n, reserve = run(call)
    gradients = reference.backward(reserve, dy, dstates)
    half = slice(y.shape[2], None) if reverse else slice(y.shape[2])
    assert_close(y, outputs.detach().numpy()[..., half], 1e-10)
    assert_close(gradients.x, x.grad.numpy(), 1e-10)
    for field, weight in weights.items():
        assert_close(getattr(gradients.parameters, field), weight.grad.numpy(), 1e-10)
    for k, (state, state_n) in enumerate(zip(states, states_n, strict=True)):
        assert_close(our_states_n[k], state_n.detach().numpy()[int(reverse)], 1e-10)
        assert_close(gradients.state[k], state.grad.numpy()[int(reverse)], 1e-10)


# -- what PyTorch does not have, written anew


def test_layer_norm_equals_pytorchs_autograd():
    """haste's LSTM and GRU in PyTorch's operations, results and all gradients."""
    torch = pytest.importorskip("torch")
    norm = torch.nn.functional.layer_norm

    def lstm(x, h, c, w_ih, w_hh, b_ih, b_hh, gamma_ih, gamma_hh, gamma_c, beta_c):
        a = norm(x @ w_ih.T, (4 * H,)) * gamma_ih + norm(h @ w_hh.T, (4 * H,)) * gamma_hh + b_ih + b_hh
        i, f, g, o = a.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * (norm(c, (H,)) * gamma_c + beta_c).tanh(), c

    def gru(x, h, w_ih, w_hh, b_ih, b_hh, gamma_ih, gamma_hh):
        x_r, x_z, x_n = (norm(x @ w_ih.T, (3 * H,)) * gamma_ih + b_ih).chunk(3, 1)
        h_r, h_z, h_n = (norm(h @ w_hh.T, (3 * H,)) * gamma_hh + b_hh).chunk(3, 1)
        z = (x_z + h_z).sigmoid()
        return ((1 - z) * (x_n + (x_r + h_r).sigmoid() * h_n).tanh() + z * h,)

    for cell, step in ("lstm_layer_norm", lstm), ("gru_layer_norm", gru):
        rng, form = np.random.default_rng(11), FORMS[cell]
        call, (dy, dstates) = random_call(rng, form), random_gradients(rng, form)
        arrays = [torch.tensor(array, requires_grad=True) for array in arrays_of(call)]
        x, parameters, states = arrays[0], arrays[1 : -len(dstates)], arrays[-len(dstates) :]
        outputs = []
        for x_t in x:
            states = step(x_t, *states, *parameters)
            outputs.append(states[0])
        loss = (torch.stack(outputs) * torch.tensor(dy)).sum()
        loss = loss + sum((s * torch.tensor(d)).sum() for s, d in zip(states, dstates, strict=True))
        loss.backward()
        y, _, reserve = run(call)
        assert_close(y, torch.stack(outputs).detach().numpy(), 1e-10)
        for ours, theirs in zip(flat(reference.backward(reserve, dy, dstates)), arrays, strict=True):
            assert_close(ours, theirs.grad.numpy(), 1e-9)


def test_a_clip_bounds_what_gates_and_the_state_are_made_of():
    """Of an LSTM with a peephole and coupled gates, step by step; c is as it is."""
    rng, clip = np.random.default_rng(12), 0.4
    form = FORMS["lstm_any"]
    call = random_call(rng, form, options=Options(clip=clip, coupled=True))
    y, (_, c_n), _ = run(call)
    h, c = call.states
    w_ih, w_hh, b_ih, b_hh, _, (peephole,), _ = call.parameters
    p_i, _, p_o = np.split(peephole, 3)
    for x_t, y_t in zip(call.x, y, strict=True):
        a_i, _, a_g, a_o = np.split(x_t @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
        i = reference.sigmoid(np.clip(a_i + p_i * c, -clip, clip))
        c = (1 - i) * c + i * np.tanh(np.clip(a_g, -clip, clip))
        o = reference.sigmoid(np.clip(a_o + p_o * c, -clip, clip))
        h = o * np.tanh(c)
        assert_close(y_t, h)
    assert np.abs(c).max() > clip
    assert_close(c_n, c)


# -- the same thing said differently


@forms
def test_tokens_are_columns_of_the_weights(form):
    rng = np.random.default_rng(4)
    call = random_call(rng, form, tokens=True, lengths=np.array([4, 1, 3]), reverse=True)
    dy, dstates = random_gradients(rng, form)
    results = []
    for x in (call.x, np.eye(V)[call.x]):
        y, states, reserve = run(call._replace(x=x))
        gradients = reference.backward(reserve, dy, dstates)
        results.append([y, *states, *flat(gradients._replace(x=None))])
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)


@forms
@directions
def test_a_padded_row_runs_as_if_alone(form, reverse):
    """Whatever stands in the padding, NaN included, and wherever the row stands."""
    rng = np.random.default_rng(5)
    lengths = (2, 0, 4)
    call = random_call(rng, form, lengths=np.array(lengths), reverse=reverse)
    dy, dstates = random_gradients(rng, form)
    for row, length in enumerate(lengths):
        call.x[length:, row] = np.nan
        dy[length:, row] = np.nan
    y, states, reserve = run(call)
    gradients = reference.backward(reserve, dy, dstates)
    sums = [np.zeros_like(array) for array in call.parameters.arrays()]
    for row, length in enumerate(lengths):
        here = slice(row, row + 1)
        alone = call._replace(
            x=call.x[:length, here], states=tuple(state[here] for state in call.states), lengths=None
        )
        y_alone, states_alone, reserve = run(alone)
        dstates_alone = tuple(dstate[here] for dstate in dstates)
        gradients_alone = reference.backward(reserve, dy[:length, here], dstates_alone)
        assert_close(y[:length, here], y_alone)
        assert not y[length:, here].any()
        assert_close(gradients.x[:length, here], gradients_alone.x)
        assert not gradients.x[length:, here].any()
        for state, state_alone in zip(
            states + gradients.state, states_alone + gradients_alone.state, strict=True
        ):
            assert_close(state[here], state_alone)
        for total, gradient in zip(sums, gradients_alone.parameters.arrays(), strict=True):
            total += gradient
    for gradient, total in zip(gradients.parameters.arrays(), sums, strict=True):
        assert_close(gradient, total)


@forms
def test_reverse_is_time_turned_round(form):
    rng = np.random.default_rng(6)
    call = random_call(rng, form)
    y, states, _ = run(call._replace(reverse=True))
    y_turned, states_turned, _ = run(call._replace(x=call.x[::-1]))
    assert_close(y, y_turned[::-1])
    for state, turned in zip(states, states_turned, strict=True):
        assert_close(state, turned)


@forms
def test_a_sequence_may_be_cut_in_two(form):
    """The second part starts where the first one ended, and the gradient goes the other way."""
    rng = np.random.default_rng(7)
    call = random_call(rng, form)
    dy, dstates = random_gradients(rng, form)
    y, states, reserve = run(call)
    whole = reference.backward(reserve, dy, dstates)

    y_1, states_1, reserve_1 = run(call._replace(x=call.x[:1]))
    y_2, states_2, reserve_2 = run(call._replace(x=call.x[1:], states=states_1))
    late = reference.backward(reserve_2, dy[1:], dstates)
    early = reference.backward(reserve_1, dy[:1], late.state)
    assert_close(np.concatenate([y_1, y_2]), y)
    assert_close(np.concatenate([early.x, late.x]), whole.x)
    for a, b in zip(states_2 + early.state, states + whole.state, strict=True):
        assert_close(a, b)
    parameters = early.parameters.arrays(), late.parameters.arrays(), whole.parameters.arrays()
    for a, b, both in zip(*parameters, strict=True):
        assert_close(a + b, both)


# -- edges


@forms
@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize(("T", "B"), [(0, 3), (4, 0), (0, 0)])
def test_nothing_to_do(form, tokens, T, B):
    rng = np.random.default_rng(8)
    call = random_call(rng, form, tokens=tokens, T=T, B=B)
    dy, dstates = random_gradients(rng, form, T, B)
    y, states, reserve = run(call)
    gradients = reference.backward(reserve, dy, dstates)
    assert y.shape == (T, B, form.widths(H)[0])
    for state, initial in zip(states, call.states, strict=True):
        assert_close(state, initial)
        assert not np.shares_memory(state, initial)
    for dstate, final in zip(gradients.state, dstates, strict=True):
        assert_close(dstate, final)
    for gradient, array in zip(gradients.parameters.arrays(), call.parameters.arrays(), strict=True):
        assert gradient.shape == array.shape
        assert not gradient.any()


@forms
def test_float32_stays_float32(form):
    rng = np.random.default_rng(9)
    call = random_call(rng, form, state=False)
    *weights, vectors, _ = call.parameters
    narrow = [None if array is None else array.astype("f4") for array in (*weights, *vectors)]
    parameters = type(call.parameters)(*narrow[:5], tuple(narrow[5:]))
    y, states, reserve = run(call._replace(x=call.x.astype("f4"), parameters=parameters))
    gradients = reference.backward(reserve, np.ones_like(y), call.states)
    assert {array.dtype for array in (y, *states, *flat(gradients))} == {np.dtype("f4")}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sigmoid_is_accurate_and_never_overflows(dtype):
    a = np.array([-np.inf, -1e4, -80, -1, 0, 1, 80, 1e4, np.inf], dtype)
    expected = [0, 0, np.exp(-80.0), 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1, 1, 1]
    with np.errstate(all="raise", under="ignore"):
        result = reference.sigmoid(a)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, rtol=8 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_activations_are_those_of_their_definitions(dtype):
    """Keras's hard sigmoid is relu6(x + 3) / 6, ONNX's max(0, min(1, 0.2 x + 0.5))."""
    x = np.array([-np.inf, -3.5, -2.75, -2.5, -1, 0, 0.5, 1, 2.6, 3, 4, np.inf], dtype)
    expected = {
        "hard_sigmoid": np.maximum(0, np.minimum(1, 0.2 * x + 0.5)),
        "hard_sigmoid_6": np.minimum(np.maximum(x + 3, 0), 6) / 6,
        "relu": [0, 0, 0, 0, 0, 0, 0.5, 1, 2.6, 3, 4, np.inf],
        "linear": x,
        "tanh": np.tanh(x),
        "sigmoid": reference.sigmoid(x),
    }
    assert expected.keys() == ACTIVATIONS.keys()
    assert ACTIVATIONS["hard_sigmoid"].of(np.array([1.0])) == 0.7
    assert ACTIVATIONS["hard_sigmoid_6"].of(np.array([1.0])) == pytest.approx(2 / 3)
    for name, activation in ACTIVATIONS.items():
        y = activation.of(x)
        assert y.dtype == activation.slope(y[1:-1]).dtype == dtype
        np.testing.assert_allclose(y, expected[name], rtol=1e-6)
        assert activation.low <= y.min() and y.max() <= activation.high


def test_kinks_have_no_slope():
    for name, kinks in ("hard_sigmoid", [-2.5, 2.5]), ("hard_sigmoid_6", [-3, 3]), ("relu", [0]):
        activation = ACTIVATIONS[name]
        assert not activation.slope(activation.of(np.array(kinks, float))).any()


@forms
def test_infinities_and_nan_flow_through_in_silence(form):
    call = random_call(np.random.default_rng(10), form)
    call.x[1, 0], call.x[1, 1] = np.inf, np.nan
    with np.errstate(all="raise"):
        y, states, reserve = run(call)
        reference.backward(reserve, np.ones_like(y), states)
    assert np.isnan(y[1:, 1]).all()
    assert np.isfinite(y[:, 2]).all()
