"""The reference against finite differences, against PyTorch, and against itself run in other ways."""

import numpy as np
import pytest
from cells import torch_class

from fastrnn import reference
from fastrnn.reference import CELLS, Call, Parameters

T, B, I, H, V = 4, 3, 2, 3, 5

cells = pytest.mark.parametrize("cell", CELLS)
directions = pytest.mark.parametrize("reverse", [False, True], ids=["onward", "reverse"])
some_lengths = pytest.mark.parametrize("lengths", [None, (2, 4, 0)], ids=["equal", "lengths"])


def random_arguments(rng, cell, *, tokens=False, b_ih=True, b_hh=True, state=True):
    """The arrays of a `Call`, by name."""
    rows = len(CELLS[cell].gates) * H
    columns = V if tokens else I

    def normal(*shape, given=True):
        return rng.normal(size=shape) if given else None

    return {
        "x": rng.integers(V, size=(T, B)) if tokens else normal(T, B, I),
        "w_ih": normal(rows, columns),
        "w_hh": normal(rows, H),
        "b_ih": normal(rows, given=b_ih),
        "b_hh": normal(rows, given=b_hh),
        "states": tuple(normal(B, H, given=state) for _ in CELLS[cell].states),
    }


def run(cell, arguments, lengths=None, reverse=False, training=False, mask=None):
    x, *parameters, states = arguments.values()
    lengths = None if lengths is None else np.array(lengths)
    return reference.forward(
        Call(cell, x, Parameters(*parameters), states, lengths, reverse, training, mask=mask)
    )


def gradient_of(gradients, name):
    """That of an argument that `random_arguments` has."""
    return gradients.x if name == "x" else getattr(gradients.parameters, name)


def random_gradients(rng, cell, T=T, B=B):
    """A gradient with respect to y, and one for each final state."""
    return rng.normal(size=(T, B, H)), tuple(rng.normal(size=(B, H)) for _ in CELLS[cell].states)


def assert_close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# -- finite differences


def central_differences(loss, array, step=1e-5):
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


@cells
@directions
@some_lengths
@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize("given", ["b_ih b_hh state", "b_ih", "b_hh state", ""])
def test_gradients_are_those_of_central_differences(cell, reverse, lengths, tokens, given):
    rng = np.random.default_rng(1)
    options = {name: name in given for name in ("b_ih", "b_hh", "state")}
    arguments = random_arguments(rng, cell, tokens=tokens, **options)
    if not options["state"]:  # zeros, so that they can be moved
        arguments["states"] = tuple(np.zeros((B, H)) for _ in arguments["states"])
    dy, dstates = random_gradients(rng, cell)

    def loss():
        y, states, _ = run(cell, arguments, lengths, reverse)
        return np.vdot(y, dy) + sum(
            np.vdot(state, dstate) for state, dstate in zip(states, dstates, strict=True)
        )

    as_given = arguments if options["state"] else {**arguments, "states": (None,) * len(dstates)}
    _, _, reserve = run(cell, as_given, lengths, reverse, training=True)
    gradients = reference.backward(reserve, dy, dstates)

    assert (gradients.x is None) == tokens
    for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh"):
        gradient = gradient_of(gradients, name)
        if gradient is None:
            assert (name == "x" and tokens) or not options.get(name, True)
        else:
            assert_close(gradient, central_differences(loss, arguments[name]), 1e-7)
    for state, gradient in zip(arguments["states"], gradients.state, strict=True):
        assert_close(gradient, central_differences(loss, state), 1e-7)


@cells
@directions
@some_lengths
def test_gradients_under_a_mask_are_those_of_central_differences(cell, reverse, lengths):
    rng = np.random.default_rng(4)
    arguments = random_arguments(rng, cell)
    dy, dstates = random_gradients(rng, cell)
    mask = rng.integers(0, 3, (B, H)) / 2

    def forward():
        return run(cell, arguments, lengths, reverse, training=True, mask=mask)

    def loss():
        y, states, _ = forward()
        return np.vdot(y, dy) + sum(np.vdot(*pair) for pair in zip(states, dstates, strict=True))

    gradients = reference.backward(forward()[2], dy, dstates)
    for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh"):
        assert_close(gradient_of(gradients, name), central_differences(loss, arguments[name]), 1e-7)
    for state, gradient in zip(arguments["states"], gradients.state, strict=True):
        assert_close(gradient, central_differences(loss, state), 1e-7)


@cells
def test_a_mask_of_one_row_is_one_of_the_weights_columns(cell):
    rng = np.random.default_rng(5)
    arguments = random_arguments(rng, cell)
    arguments |= {"x": arguments["x"][:, :1], "states": tuple(s[:1] for s in arguments["states"])}
    dy, dstates = random_gradients(rng, cell, B=1)
    mask = np.array([[0.0, 2.0, 0.5]])
    y, states, reserve = run(cell, arguments, training=True, mask=mask)
    gradients = reference.backward(reserve, dy, dstates)
    arguments["w_hh"] = arguments["w_hh"] * mask
    y_plain, states_plain, reserve = run(cell, arguments, training=True)
    plain = reference.backward(reserve, dy, dstates)
    assert_close(y, y_plain)
    assert_close(states, states_plain)
    assert_close(gradients.parameters.w_hh, plain.parameters.w_hh * mask)
    assert_close(gradients.x, plain.x)


@cells
def test_gradients_left_out_are_zeros(cell):
    rng = np.random.default_rng(2)
    arguments = random_arguments(rng, cell)
    dy, dstates = random_gradients(rng, cell)
    nothing = (None,) * len(dstates)
    zeros = tuple(np.zeros((B, H)) for _ in dstates)

    def gradients(dy, dstates):
        dx, parameters, states = reference.backward(run(cell, arguments, training=True)[2], dy, dstates)
        return [dx, *parameters.arrays(), *states]

    for actual, expected in zip(gradients(dy, nothing), gradients(dy, zeros), strict=True):
        assert_close(actual, expected)
    for actual, expected in zip(gradients(None, dstates), gradients(0 * dy, dstates), strict=True):
        assert_close(actual, expected)


# -- PyTorch


@cells
@directions
@pytest.mark.parametrize("lengths", [None, (2, 4, 1)], ids=["equal", "packed"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_equals_pytorch(cell, reverse, lengths, bias):
    """Results and all gradients; the two directions are the two halves of one bidirectional torch module."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    arguments = random_arguments(rng, cell, b_ih=bias, b_hh=bias)
    dy, dstates = random_gradients(rng, cell)
    kind, _, nonlinearity = cell.partition("_")
    options = {"nonlinearity": nonlinearity} if nonlinearity else {}
    module = torch_class(torch, kind)(I, H, bias=bias, bidirectional=True, **options).double()
    suffix = "_l0_reverse" if reverse else "_l0"
    names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    weights = {name: getattr(module, names[name] + suffix) for name in names if arguments[name] is not None}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.from_numpy(arguments[name]))

    def in_its_half(array, axis):
        """The array on this direction's side, zeros on the other one."""
        halves = [array, np.zeros_like(array)]
        return np.concatenate(halves[::-1] if reverse else halves, axis)

    x = torch.tensor(arguments["x"], requires_grad=True)
    states = [torch.tensor(in_its_half(s[None], 0), requires_grad=True) for s in arguments["states"]]
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

    y, our_states_n, reserve = run(cell, arguments, lengths, reverse, training=True)
    gradients = reference.backward(reserve, dy, dstates)
    half = slice(H, None) if reverse else slice(H)
    assert_close(y, outputs.detach().numpy()[..., half], 1e-10)
    assert_close(gradients.x, x.grad.numpy(), 1e-10)
    for name, weight in weights.items():
        assert_close(gradient_of(gradients, name), weight.grad.numpy(), 1e-10)
    for k, (state, state_n) in enumerate(zip(states, states_n, strict=True)):
        assert_close(our_states_n[k], state_n.detach().numpy()[int(reverse)], 1e-10)
        assert_close(gradients.state[k], state.grad.numpy()[int(reverse)], 1e-10)


# -- the same thing said differently


@cells
def test_tokens_are_columns_of_the_weights(cell):
    rng = np.random.default_rng(4)
    tokens = random_arguments(rng, cell, tokens=True)
    one_hot = {**tokens, "x": np.eye(V)[tokens["x"]]}
    dy, dstates = random_gradients(rng, cell)
    results = []
    for arguments in (tokens, one_hot):
        y, states, reserve = run(cell, arguments, (4, 1, 3), True, training=True)
        gradients = reference.backward(reserve, dy, dstates)
        results.append([y, *states, *gradients.parameters.arrays(), *gradients.state])
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)


@cells
@directions
def test_a_padded_row_runs_as_if_alone(cell, reverse):
    """Whatever stands in the padding, NaN included, and wherever the row stands."""
    rng = np.random.default_rng(5)
    arguments = random_arguments(rng, cell)
    dy, dstates = random_gradients(rng, cell)
    lengths = (2, 0, 4)
    for row, length in enumerate(lengths):
        arguments["x"][length:, row] = np.nan
        dy[length:, row] = np.nan
    y, states, reserve = run(cell, arguments, lengths, reverse, training=True)
    gradients = reference.backward(reserve, dy, dstates)
    sums = {name: np.zeros_like(arguments[name]) for name in ("w_ih", "w_hh", "b_ih", "b_hh")}
    for row, length in enumerate(lengths):
        here = slice(row, row + 1)
        alone = {
            **arguments,
            "x": arguments["x"][:length, here],
            "states": tuple(state[here] for state in arguments["states"]),
        }
        y_alone, states_alone, reserve = run(cell, alone, None, reverse, training=True)
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
        for name in sums:
            sums[name] += gradient_of(gradients_alone, name)
    for name, total in sums.items():
        assert_close(gradient_of(gradients, name), total)


@cells
def test_reverse_is_time_turned_round(cell):
    rng = np.random.default_rng(6)
    arguments = random_arguments(rng, cell)
    y, states, _ = run(cell, arguments, reverse=True)
    y_turned, states_turned, _ = run(cell, {**arguments, "x": arguments["x"][::-1]})
    assert_close(y, y_turned[::-1])
    assert_close(states, states_turned)


@cells
def test_a_sequence_may_be_cut_in_two(cell):
    """The second part starts where the first one ended, and the gradient goes the other way."""
    rng = np.random.default_rng(7)
    arguments = random_arguments(rng, cell)
    dy, dstates = random_gradients(rng, cell)
    y, states, reserve = run(cell, arguments, training=True)
    whole = reference.backward(reserve, dy, dstates)

    first = {**arguments, "x": arguments["x"][:1]}
    y_1, states_1, reserve_1 = run(cell, first, training=True)
    y_2, states_2, reserve_2 = run(
        cell, {**arguments, "x": arguments["x"][1:], "states": states_1}, training=True
    )
    late = reference.backward(reserve_2, dy[1:], dstates)
    early = reference.backward(reserve_1, dy[:1], late.state)
    assert_close(np.concatenate([y_1, y_2]), y)
    assert_close(states_2, states)
    assert_close(np.concatenate([early.x, late.x]), whole.x)
    assert_close(early.parameters.w_hh + late.parameters.w_hh, whole.parameters.w_hh)
    assert_close(early.state, whole.state)


# -- edges


@cells
@pytest.mark.parametrize("tokens", [False, True], ids=["floats", "tokens"])
@pytest.mark.parametrize(("T", "B"), [(0, 3), (4, 0), (0, 0)])
def test_nothing_to_do(cell, tokens, T, B):
    rng = np.random.default_rng(8)
    arguments = random_arguments(rng, cell, tokens=tokens)
    arguments["x"] = arguments["x"][:T, :B]
    arguments["states"] = tuple(state[:B] for state in arguments["states"])
    dy, dstates = random_gradients(rng, cell, T, B)
    y, states, reserve = run(cell, arguments, training=True)
    gradients = reference.backward(reserve, dy, dstates)
    assert y.shape == (T, B, H)
    for state, initial in zip(states, arguments["states"], strict=True):
        assert_close(state, initial)
        assert not np.shares_memory(state, initial)
    for dstate, final in zip(gradients.state, dstates, strict=True):
        assert_close(dstate, final)
    for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
        assert not gradient_of(gradients, name).any()


@cells
def test_float32_stays_float32(cell):
    rng = np.random.default_rng(9)
    arguments = random_arguments(rng, cell)
    narrow = {name: value.astype("f4") for name, value in arguments.items() if name != "states"}
    y, states, reserve = run(cell, {**narrow, "states": (None,) * len(CELLS[cell].states)}, training=True)
    dx, parameters, dstates = reference.backward(reserve, np.ones_like(y), (None,) * len(CELLS[cell].states))
    assert {array.dtype for array in (y, *states, dx, *parameters.arrays(), *dstates)} == {np.dtype("f4")}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sigmoid_is_accurate_and_never_overflows(dtype):
    a = np.array([-np.inf, -1e4, -80, -1, 0, 1, 80, 1e4, np.inf], dtype)
    expected = [0, 0, np.exp(-80.0), 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1, 1, 1]
    with np.errstate(all="raise", under="ignore"):
        result = reference.sigmoid(a)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, expected, rtol=8 * np.finfo(dtype).eps, atol=0)


@cells
def test_infinities_and_nan_flow_through_in_silence(cell):
    arguments = random_arguments(np.random.default_rng(10), cell)
    arguments["x"][1, 0], arguments["x"][1, 1] = np.inf, np.nan
    with np.errstate(all="raise"):
        y, states, reserve = run(cell, arguments, training=True)
        reference.backward(reserve, np.ones_like(y), states)
    assert np.isnan(y[1:, 1]).all()
    assert np.isfinite(y[:, 2]).all()
