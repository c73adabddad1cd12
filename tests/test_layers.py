"""Layers: equal to PyTorch's with the same weights, in both passes and whatever the options; what they
refuse; and what they promise about seeds, dropout, threads and state."""

import doctest
import importlib
import itertools
import re
import threading
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from cells import LAYERS, WITH_C, members, normal, state_of, torch_class
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.backend import BACKENDS, use_backend
from fastrnn.layers import CELLS, GRU, LSTM, RNN, Attention, Dropout, Embedding, Linear

# The largest difference allowed, as a part of the largest element of the expected array.
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}


@pytest.fixture
def reference():
    with use_backend("reference"):
        yield


def assert_close(got, expected, name=""):
    """Equal in shape and dtype, and in value by TOLERANCE; nested results member by member."""
    if isinstance(expected, (tuple, list)):
        assert len(got) == len(expected)
        for k, pair in enumerate(zip(got, expected, strict=True)):
            assert_close(*pair, f"{name}[{k}]")
    elif isinstance(expected, Mapping):
        assert list(got) == list(expected)
        for key in expected:
            assert_close(got[key], expected[key], key)
    elif expected is None:
        assert got is None
    else:
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), name
        scale = np.abs(expected).max(initial=0) or 1
        error = np.abs(got - expected).max(initial=0) / scale
        assert error <= TOLERANCE[expected.dtype.name], f"{name}: {error:.1e}"


def state_for(layer, batch, seed=1):
    """A state that is not zero."""
    return state_of(layer, lambda shape, k: normal(*shape, dtype=layer.dtype, seed=(seed, k)), batch)


def both_passes(layer, x, state=None, lengths=None):
    """All that a layer computes, for gradients that are not special."""
    layer.clear_gradients()
    y, state_n, back = layer.forward(x, state, lengths)
    dstate_n = tuple(normal(*member.shape, dtype=layer.dtype, seed=2) for member in members(state_n))
    dstate_n = dstate_n if isinstance(state_n, tuple) else dstate_n[0]
    dx, dstate = back(normal(*y.shape, dtype=layer.dtype, seed=3), dstate_n)
    return {"y": y, "state_n": state_n, "dx": dx, "dstate": dstate, **layer.gradients}


# -- against PyTorch


def both_passes_in_torch(module, x, state, lengths):
    """The same as `both_passes`, by PyTorch: its packed sequences if there are lengths."""
    torch = pytest.importorskip("torch")
    dtype = x.dtype
    x = torch.tensor(x, requires_grad=True)
    state = tuple(torch.tensor(member, requires_grad=True) for member in members(state))
    given = state if len(state) == 2 else state[0]
    if lengths is None:
        y, state_n = module(x, given)
    else:
        rnn = torch.nn.utils.rnn
        first = module.batch_first
        packed = rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=first, enforce_sorted=False)
        y, state_n = module(packed, given)
        T = x.shape[1 if first else 0]
        y, _ = rnn.pad_packed_sequence(y, batch_first=first, total_length=T)
    loss = (y * torch.tensor(normal(*y.shape, dtype=dtype, seed=3))).sum()
    for member in members(state_n):
        loss = loss + (member * torch.tensor(normal(*member.shape, dtype=dtype, seed=2))).sum()
    loss.backward()

    arrays = tuple(member.detach().numpy() for member in members(state_n))
    gradients = tuple(member.grad.numpy() for member in state)
    pair = isinstance(state_n, tuple)
    return {
        "y": y.detach().numpy(),
        "state_n": arrays if pair else arrays[0],
        "dx": x.grad.numpy(),
        "dstate": gradients if pair else gradients[0],
        **{name: parameter.grad.numpy() for name, parameter in module.named_parameters()},
    }


#: Kinds and options that PyTorch has too.
IN_TORCH = {**{kind: (kind, {}) for kind in CELLS}, "lstm proj_size": ("lstm", {"proj_size": 2})}
IN_TORCH = {name: found for name, found in IN_TORCH.items() if name in LAYERS}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("lengths", [None, [3, 7, 1, 5]], ids=["equal", "ragged"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("batch_first", [False, True], ids=["", "batch_first"])
@pytest.mark.parametrize("bias", [True, False], ids=["", "no_bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["", "both_ways"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("name", IN_TORCH)
def test_equals_torch(name, num_layers, bidirectional, bias, batch_first, dtype, lengths):
    torch = pytest.importorskip("torch")
    kind, own = IN_TORCH[name]
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional, **own}
    layer = CELLS[kind](3, 5, num_layers, dtype=dtype, seed=0, **options)
    module = torch_class(torch, kind)(3, 5, num_layers, dtype=getattr(torch, dtype), **options)
    assert list(layer.parameters) == [name for name, _ in module.named_parameters()]
    layer.load_state_dict({name: tensor.numpy() for name, tensor in module.state_dict().items()})

    x = normal(4, 7, 3, dtype=dtype) if batch_first else normal(7, 4, 3, dtype=dtype)
    state = state_for(layer, 4)
    assert_close(both_passes(layer, x, state, lengths), both_passes_in_torch(module, x, state, lengths))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_nonlinearity_equals_torch(nonlinearity):
    torch = pytest.importorskip("torch")
    module = torch.nn.RNN(3, 5, 2, nonlinearity=nonlinearity, dtype=torch.float64)
    layer = RNN(3, 5, 2, nonlinearity=nonlinearity, dtype="float64")
    layer.load_state_dict({name: tensor.numpy() for name, tensor in module.state_dict().items()})
    x, state = normal(7, 4, 3), state_for(layer, 4)
    assert_close(both_passes(layer, x, state), both_passes_in_torch(module, x, state, None))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", IN_TORCH)
def test_weights_move_to_torch(name, reference):
    torch = pytest.importorskip("torch")
    kind, own = IN_TORCH[name]
    layer = CELLS[kind](3, 5, 2, bidirectional=True, seed=0, **own)
    module = torch_class(torch, kind)(3, 5, 2, bidirectional=True, **own)
    state_dict = layer.state_dict()
    assert list(state_dict) == list(module.state_dict())
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state_dict.items()})
    x = normal(7, 4, 3, dtype="float32")
    with torch.no_grad():
        y, _ = module(torch.from_numpy(x))
    assert_close(layer(x)[0], y.numpy())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(6,), (7, 4, 6), (6, 1), (0, 6), (2, 0, 3, 6)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torch(bias, shape, dtype):
    torch = pytest.importorskip("torch")
    layer = Linear(shape[-1], 2, bias=bias, dtype=dtype, seed=0)
    module = torch.nn.Linear(shape[-1], 2, bias=bias, dtype=getattr(torch, dtype))
    assert list(layer.state_dict()) == list(module.state_dict())
    layer.load_state_dict({name: tensor.numpy() for name, tensor in module.state_dict().items()})

    x = normal(*shape, dtype=dtype)
    given = torch.tensor(x, requires_grad=True)
    expected = module(given)
    dy = normal(*expected.shape, dtype=dtype, seed=1)
    expected.backward(torch.tensor(dy))
    assert_close(layer(x), expected.detach().numpy())
    y, back = layer.forward(x)
    assert_close(y, expected.detach().numpy())
    assert_close(back(dy), given.grad.numpy())
    assert_close(layer.gradients, {name: p.grad.numpy() for name, p in module.named_parameters()})


@pytest.mark.parametrize("shape", [(), (9,), (7, 4), (0, 4)], ids=str)
def test_embedding_equals_torch(shape):
    torch = pytest.importorskip("torch")
    layer, module = Embedding(5, 3, seed=0), torch.nn.Embedding(5, 3)
    assert list(layer.state_dict()) == list(module.state_dict())
    layer.load_state_dict({"weight": module.weight.detach().numpy()})
    x = np.random.default_rng(0).integers(0, 5, shape)
    expected = module(torch.tensor(x))
    dy = normal(*shape, 3, dtype="float32")
    expected.backward(torch.tensor(dy))
    assert_close(layer(x), expected.detach().numpy())
    y, back = layer.forward(x)
    assert_close(y, expected.detach().numpy())
    assert back(dy) is None
    assert_close(layer.gradients, {"weight": module.weight.grad.numpy()})


# -- what holds without PyTorch


@st.composite
def recurrent_calls(draw):
    """A layer with any options, and arguments for it."""
    sizes = st.integers(1, 9)
    options = {name: draw(st.booleans()) for name in ("bias", "batch_first", "bidirectional")}
    kind = draw(st.sampled_from(list(LAYERS)))
    layer = LAYERS[kind](
        draw(sizes), draw(sizes), draw(st.integers(1, 3)), **options, dtype="float64", seed=0
    )
    T, B = draw(st.integers(0, 6)), draw(st.integers(0, 4))
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    state = draw(st.booleans()) and state_for(layer, B)
    axes = (B, T) if layer.batch_first else (T, B)
    tokens = np.random.default_rng(0).integers(0, layer.input_size, axes)
    x = tokens if draw(st.booleans()) else normal(*axes, layer.input_size)
    return layer, x, None if state is False else state, lengths


@settings(max_examples=100)
@given(recurrent_calls())
def test_backends_agree(call):
    """Any layer, also on no steps and no rows, gives on the kernels what it gives on the reference."""
    pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    results = {}
    for name in BACKENDS:
        with use_backend(name):
            results[name] = both_passes(*call)
    assert_close(results["native"], results["reference"])


@settings(max_examples=60)
@given(recurrent_calls())
def test_call_equals_forward(call):
    layer, *arguments = call
    with use_backend("reference"):
        assert_close(layer(*arguments), layer.forward(*arguments)[:2])


@settings(max_examples=60)
@given(recurrent_calls())
def test_a_batch_is_its_rows(call):
    """Every row of a ragged batch gives what it gives alone; gradients of weights are sums over rows."""
    layer, x, state, lengths = call
    x = x.swapaxes(0, 1) if layer.batch_first else x
    layer.batch_first = False
    T, B = x.shape[:2]
    lengths = np.full(B, T) if lengths is None else lengths
    state = state_for(layer, B) if state is None else state
    with use_backend("reference"):
        y, state_n, back = layer.forward(x, state, lengths)
        dy, dstate_n = normal(*y.shape), state_for(layer, B, seed=4)
        dx, dstate = back(dy, dstate_n)
        total = layer.take_gradients()
        for row, length in enumerate(lengths):
            one = slice(row, row + 1)

            def of_row(state, one=one):
                picked = tuple(member[:, one] for member in members(state))
                return picked if len(picked) == 2 else picked[0]

            y_row, state_row, back = layer.forward(x[:length, one], of_row(state))
            dx_row, dstate_row = back(dy[:length, one], of_row(dstate_n))
            assert_close((y[:length, one], of_row(state_n)), (y_row, state_row))
            assert_close(of_row(dstate), dstate_row)
            assert not y[length:, row].any()
            if dx is not None:
                assert_close(dx[:length, one], dx_row)
                assert not dx[length:, row].any()
    if B:
        assert_close(total, layer.take_gradients())  # which have added up


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_tokens_are_one_hot(kind, batch_first):
    layer = LAYERS[kind](6, 5, 2, bidirectional=True, batch_first=batch_first, dtype="float64", seed=0)
    tokens = np.random.default_rng(0).integers(0, 6, (4, 4))
    with_tokens = both_passes(layer, tokens, lengths=[4, 0, 3, 1])
    one_hot = both_passes(layer, np.eye(6)[tokens], lengths=[4, 0, 3, 1])
    assert with_tokens.pop("dx") is None
    del one_hot["dx"]
    assert_close(with_tokens, one_hot)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("kind", LAYERS)
def test_chunks_with_the_state_carried_equal_the_whole(kind):
    layer = LAYERS[kind](3, 5, 2, dtype="float64", seed=0)
    x = normal(7, 4, 3)
    whole, state_n = layer(x)
    first, state = layer(x[:3])
    second, state = layer(x[3:], state)
    assert_close((np.concatenate([first, second]), state), (whole, state_n))


@pytest.mark.parametrize("kind", LAYERS)
def test_members_of_gradients_left_out_are_zeros(kind, reference):
    layer = LAYERS[kind](3, 5, 2, dtype="float64", seed=0)
    x = normal(7, 4, 3)
    y, state_n, _ = layer.forward(x)
    zeros = [np.zeros_like(member) for member in members(state_n)]
    cases = [(np.ones_like(y), None), (None, state_n)]
    filled = [(np.ones_like(y), zeros if len(zeros) == 2 else zeros[0]), (np.zeros_like(y), state_n)]
    if kind in WITH_C:
        cases += [(None, (state_n[0], None)), (None, (None, state_n[1]))]
        filled += [(np.zeros_like(y), (state_n[0], zeros[1])), (np.zeros_like(y), (zeros[0], state_n[1]))]
    for less, more in zip(cases, filled, strict=True):
        results = []
        for gradients in less, more:
            *_, back = layer.forward(x)
            results.append((back(*gradients), layer.take_gradients()))
        assert_close(*results)


def awkward(array):
    """The same values in all the layouts an array can have."""
    yield array[::-1].copy()[::-1]
    yield np.asfortranarray(array)
    yield np.repeat(array, 2, axis=-1)[..., ::2]
    yield array.astype(array.dtype.newbyteorder())
    buffer = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    buffer[...] = array
    yield buffer
    frozen = array.copy()
    frozen.flags.writeable = False
    yield frozen


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("batch_first", [False, True])
def test_layouts(batch_first):
    layer = LSTM(3, 5, 2, batch_first=batch_first, dtype="float64", seed=0)
    x, lengths = normal(4, 4, 3), np.array([3, 0, 4, 2])
    state = state_for(layer, 4)

    def results(x, state, lengths, layout):
        before = [array.copy() for array in (x, *state, lengths)]
        y, state_n, back = layer.forward(x, state, lengths)
        dy, *dstate_n = (layout(normal(*array.shape)) for array in (y, *state_n))
        passed = (y, state_n, back(dy, tuple(dstate_n)), layer.take_gradients())
        for array, copy in zip((x, *state, lengths), before, strict=True):
            np.testing.assert_array_equal(array, copy)
        return passed

    expected = results(x, state, lengths, lambda array: array)
    for k in range(6):

        def layout(array, k=k):
            return list(awkward(array))[k]

        assert_close(results(layout(x), tuple(map(layout, state)), layout(lengths), layout), expected)


@pytest.mark.parametrize(
    "layer", [Linear(3, 2, dtype="float64", seed=0), Dropout(0.0)], ids=["linear", "dropout"]
)
def test_layouts_of_feedforward_layers(layer):
    x = normal(4, 5, 3)
    y, back = layer.forward(x)
    dx = back(np.ones_like(y))
    for array in awkward(x):
        again, back = layer.forward(array)
        assert_close((layer(array), again), (layer(x), y))
        assert_close(back(np.ones_like(y)), dx)
        np.testing.assert_array_equal(array, x)


def test_non_finite_values_flow_through_without_a_word(reference):
    for value in (np.nan, np.inf, -np.inf):
        x = normal(4, 2, 3, dtype="float32")
        x[1, 0, 0] = value
        for layer in (LSTM(3, 5, 2, bidirectional=True, seed=0), GRU(3, 5, seed=0)):
            y, _, back = layer.forward(x)
            assert np.isfinite(y[:, 1]).all()
            back(np.full_like(y, value))
        for layer in (Linear(3, 5, seed=0), Dropout(0.5, seed=0)):
            y, back = layer.forward(x)
            assert not np.isfinite(y).all()
            for _ in range(2):  # also added up
                back(np.full_like(y, value))
        layer = Embedding(3, 2)
        y, back = layer.forward([0, 1, 1])
        back(np.array([[1, 1], [value, 1], [-value, 1]], "float32"))
        assert np.isfinite(layer.gradients["weight"][[0, 2]]).all()


def test_threads_share_a_layer(backend):
    layer = LSTM(3, 5, 2, bidirectional=True, dropout=0.5, seed=0)
    inputs = [normal(20, 4, 3, dtype="float32", seed=k) for k in range(8)]
    expected = [layer(x)[0] for x in inputs]
    results = [None] * len(inputs)

    def run(k):
        for _ in range(5):
            results[k] = layer(inputs[k])[0]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, y in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, y)


# -- what is printed


@pytest.mark.parametrize(
    "text",
    [
        "LSTM(3, 5, num_layers=2, bidirectional=True, dtype='float64')",
        "RNN(3, 5, recurrent_dropout=0.5, nonlinearity='relu')",
        "GRU(3, 5)",
        "GRU(3, 5, reset_after=False, clip=2.0)",
        "LSTM(3, 5, proj_size=2, peephole=True, gate_activation='hard_sigmoid', coupled=True)",
        "LSTM(3, 5, layer_norm=True)",
        "Linear(3, 2, bias=False)",
        "Embedding(10, 3)",
        "Attention(3, 4)",
        "Dropout(0.25)",
    ],
)
def test_a_layer_prints_the_call_that_makes_it(text):
    assert repr(eval(text)) == text


def test_a_network_prints_a_line_for_each_part():
    network = fastrnn.Sequential(Linear(1, 16), fastrnn.Tanh(), fastrnn.Sequential(Linear(16, 2)))
    inner = "Sequential(\n    (0): Linear(16, 2)\n  )"
    assert str(network) == f"Sequential(\n  (0): Linear(1, 16)\n  (1): Tanh()\n  (2): {inner}\n)"
    assert repr(fastrnn.Sequential()) == "Sequential()"


# -- initial values and seeds

MAKERS = {
    **{
        kind: lambda seed, make=make: make(3, 5, 2, bidirectional=True, seed=seed)
        for kind, make in LAYERS.items()
    },
    "Linear": lambda seed: Linear(3, 5, seed=seed),
    "Embedding": lambda seed: Embedding(3, 5, seed=seed),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_seeds(make):
    def values(seed):
        parameters = make(seed).parameters.items()
        drawn = [array.ravel() for name, array in parameters if not name.startswith(("gamma", "beta"))]
        return np.concatenate(drawn)

    np.testing.assert_array_equal(values(7), values(7))
    np.testing.assert_array_equal(values(np.random.default_rng(7)), values(np.random.default_rng(7)))
    assert (values(7) != values(8)).all()
    assert (values(None) != values(None)).all()
    rng = np.random.default_rng(7)
    assert (values(rng) != values(rng)).all()  # one generator, drawn from in turn


ONE_SEED = {
    "Linear": lambda seed: Linear(32, 32, seed=seed),
    "another Linear": lambda seed: Linear(32, 64, seed=seed),
    "Embedding": lambda seed: Embedding(32, 32, seed=seed),
    "Attention": lambda seed: Attention(32, 32, seed=seed),
    "RNN": lambda seed: RNN(32, 32, seed=seed),
    "LSTM": lambda seed: LSTM(32, 32, seed=seed),
    "GRU": lambda seed: GRU(32, 32, seed=seed),
    "narrow GRU": lambda seed: GRU(1, 32, seed=seed),
    "deep GRU": lambda seed: GRU(32, 32, 2, seed=seed),
    "GRU of two directions": lambda seed: GRU(32, 32, bidirectional=True, seed=seed),
}


def test_layers_of_one_seed_have_no_numbers_in_common():
    """Not in other units either: ``seed=0`` for every layer of a network is what people write."""
    scaled = {}
    for name, make in ONE_SEED.items():
        for key, array in make(0).parameters.items():
            values = array.astype("float64").ravel()
            scaled[f"{name}, {key}"] = values / np.sqrt(np.square(values).mean())
    for (one, a), (other, b) in itertools.combinations(scaled.items(), 2):
        assert abs(np.corrcoef(a[:32], b[:32])[0, 1]) < 0.8, f"{one} and {other}"
    same = np.concatenate([np.unique(values.round(6)) for values in scaled.values()])
    assert len(np.unique(same)) > 0.98 * len(same)


def test_dropouts_of_one_seed_and_another_p_have_other_masks():
    x = np.ones(1000)
    masks = [Dropout(p, seed=0).forward(x)[0] != 0 for p in (0.5, 0.4999)]
    assert (masks[0] != masks[1]).mean() > 0.4
    rng = np.random.default_rng(0)
    masks = [Dropout(0.5, seed=rng).forward(x)[0] != 0 for _ in range(2)]  # what a network of several wants
    assert (masks[0] != masks[1]).mean() > 0.4


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "layer",
    [lambda **options: GRU(50, 100, 2, **options), lambda **options: Linear(100, 300, **options)],
    ids=["recurrent", "linear"],
)
def test_initial_values_are_uniform(layer, dtype):
    """Between -1/sqrt(100) and 1/sqrt(100): the bounds, and the mean and variance in every part."""
    for array in layer(dtype=dtype, seed=0).parameters.values():
        assert array.dtype == dtype
        scaled = array.astype("float64") * 10
        error = 5 / np.sqrt(array.size)
        assert 1 - 10 / array.size * 3 < np.abs(scaled).max() <= 1 + 1e-6
        assert abs(scaled.mean()) < error
        assert abs(scaled.var() - 1 / 3) < error


def test_initial_embedding_is_standard_normal():
    weight = Embedding(100, 300, seed=0).parameters["weight"]
    assert weight.dtype == "float32"
    assert abs(weight.mean()) < 0.03
    assert abs(weight.var() - 1) < 0.05
    assert abs((np.abs(weight) < 1).mean() - 0.6827) < 0.02


def test_dtype():
    for dtype in ("float64", np.float64, np.dtype("float64"), float):
        assert LSTM(3, 5, dtype=dtype).parameters["weight_hh_l0"].dtype == np.float64
    assert LSTM(3, 5).dtype == np.float32


# -- dropout


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_statistics(p, dtype):
    layer = Dropout(p, seed=0)
    x = np.ones((200, 500), dtype)
    y, back = layer.forward(x)
    assert y.dtype == dtype
    kept = y != 0
    deviation = np.sqrt(p * (1 - p) / x.size)
    assert abs(kept.mean() - (1 - p)) < 5 * deviation
    np.testing.assert_allclose(y[kept], 1 / (1 - p), rtol=1e-6)
    neighbours = (kept[:, 1:] & kept[:, :-1]).mean()  # independent of each other
    assert abs(neighbours - (1 - p) ** 2) < 5 * deviation
    np.testing.assert_array_equal(back(3 * x), 3 * y)  # by the same mask
    assert (layer.forward(x)[0] != y).any()
    assert (x == 1).all()


@pytest.mark.usefixtures("backend")
def test_dropout_of_nothing_and_of_all():
    x = normal(3, 4)
    for layer, y in (Dropout(0), x), (Dropout(1), np.zeros_like(x)):
        dropped, back = layer.forward(x)
        np.testing.assert_array_equal(dropped, y)
        np.testing.assert_array_equal(back(x), y)
        np.testing.assert_array_equal(layer(x), x)
    assert Dropout(0.5).parameters == Dropout(0.5).gradients == Dropout(0.5).state_dict() == {}


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_acts_on_all_layers_but_the_last(kind):
    """With all dropped, the second layer sees zeros, and no gradient reaches the first."""
    options = {"bidirectional": True, "dtype": "float64", "seed": 0}
    layer = LAYERS[kind](3, 5, 2, dropout=1.0, **options)
    last = LAYERS[kind](layer.output_size, 5, **options)
    for name in last.parameters:
        last.parameters[name][...] = layer.parameters[name.replace("l0", "l1")]
    x = normal(7, 4, 3)
    y, _, back = layer.forward(x)
    assert_close(y, last(np.zeros((7, 4, layer.output_size)))[0])
    dx, _ = back(np.ones_like(y))
    assert not dx.any()
    assert not layer.gradients["weight_ih_l0"].any()
    assert layer.gradients["weight_hh_l1"].any()


@pytest.mark.usefixtures("backend")
def test_inference_has_no_dropout_and_training_a_new_mask_each_time():
    with_dropout, without = (LSTM(3, 5, 3, dropout=p, seed=0) for p in (0.5, 0.0))
    x = normal(7, 4, 3, dtype="float32")
    y = without(x)[0]
    np.testing.assert_array_equal(with_dropout(x)[0], y)
    first, second = with_dropout.forward(x)[0], with_dropout.forward(x)[0]
    assert (first != y).any()
    assert (first != second).any()
    again = LSTM(3, 5, 3, dropout=0.5, seed=0)
    np.testing.assert_array_equal(again.forward(x)[0], first)
    np.testing.assert_array_equal(again.forward(x)[0], second)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("kind", LAYERS)
def test_gradient_through_dropout(kind):
    """Central differences of a layer whose seed, and with it every mask, is the same each time."""

    def forward(x):
        layer = LAYERS[kind](2, 3, 3, dropout=0.4, bidirectional=True, dtype="float64", seed=5)
        return layer.forward(x, lengths=[4, 2])

    x = normal(4, 2, 2)
    y, _, back = forward(x)
    dy = normal(*y.shape, seed=1)
    dx, _ = back(dy)
    numeric = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-6
        numeric[index] = ((forward(x + step)[0] - forward(x - step)[0]) * dy).sum() / 2e-6
    np.testing.assert_allclose(dx, numeric, atol=1e-8)
    assert np.abs(numeric).max() > 1e-5


def test_dropout_of_a_single_layer_warns():
    with pytest.warns(UserWarning, match="dropout acts between layers"):
        LSTM(3, 5, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSTM(3, 5, 2, dropout=0.5)


# -- recompute


@pytest.mark.parametrize("kind", LAYERS)
def test_recomputing_changes_no_bit(backend, kind):
    options = {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "seed": 0}
    kept, recomputed = (
        both_passes(layer, normal(150, 4, 3, dtype="float32"), state_for(layer, 4), [150, 3, 140, 129])
        for layer in (LAYERS[kind](3, 5, **options, recompute=recompute) for recompute in (False, True))
    )
    for name in kept:
        for one, other in zip(members(kept[name]), members(recomputed[name]), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


# -- state_dict


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_state_dict_round_trip(make):
    one, other = make(0), make(1)
    for name, array in one.parameters.items():
        one.parameters[name] = normal(*array.shape, dtype=array.dtype)
    state_dict = one.state_dict()
    live = dict(other.parameters)
    other.load_state_dict(state_dict)
    for name, array in state_dict.items():
        assert other.parameters[name] is live[name]  # optimizers hold it
        np.testing.assert_array_equal(live[name], array)
        array.fill(0)  # a copy: nothing else changes
        assert one.parameters[name].all()
        assert live[name].all()


def test_a_state_may_be_of_the_layers_own_arrays():
    layer = LSTM(5, 5, seed=0)
    before = layer.state_dict()
    names = {"weight_ih_l0": "weight_hh_l0", "weight_hh_l0": "weight_ih_l0"}
    layer.load_state_dict({name: layer.parameters[names.get(name, name)] for name in before})
    for name, array in layer.parameters.items():
        np.testing.assert_array_equal(array, before[names.get(name, name)])


def test_state_dict_is_cast():
    wide, narrow = LSTM(3, 5, dtype="float64", seed=0), LSTM(3, 5, seed=1)
    narrow.load_state_dict(wide.state_dict())
    for name, array in narrow.parameters.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, wide.parameters[name].astype("float32"))


BAD_STATES = {
    "missing": (lambda s: s.pop("bias_hh_l0"), ["'bias_hh_l0' is missing"]),
    "unexpected": (lambda s: s.update(weight_hr_l0=np.zeros(3)), ["'weight_hr_l0' is unexpected"]),
    "misshapen": (
        lambda s: s.update(weight_ih_l0=np.zeros((3, 20))),
        ["'weight_ih_l0' must have shape (20, 3), got (3, 20)"],
    ),
    "integers": (
        lambda s: s.update(weight_ih_l0=np.zeros((20, 3), int)),
        ["'weight_ih_l0' must have dtype float32, got int64"],
    ),
    "all at once": (
        lambda s: (s.pop("bias_ih_l0"), s.pop("bias_hh_l0"), s.update(x=1, weight_hh_l0=np.zeros(4))),
        [
            "'bias_ih_l0' is missing",
            "'bias_hh_l0' is missing",
            "'x' is unexpected",
            "'weight_hh_l0' must have",
        ],
    ),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_STATES.values(), ids=BAD_STATES)
def test_bad_states_change_nothing(spoil, words):
    layer = LSTM(3, 5, seed=0)
    before, bad = layer.state_dict(), LSTM(3, 5, seed=1).state_dict()
    spoil(bad)
    with pytest.raises(ValueError, match="state of LSTM does not fit: ") as error:
        layer.load_state_dict(bad)
    for word in words:
        assert word in str(error.value)
    for name, array in layer.parameters.items():
        np.testing.assert_array_equal(array, before[name])


def test_state_must_be_a_mapping():
    with pytest.raises(TypeError, match=r"state of LSTM must be a mapping.* got 'model.bin' of type str"):
        LSTM(3, 5).load_state_dict("model.bin")


# -- what is refused

BAD_OPTIONS = [
    ({"input_size": 0}, ValueError, "input_size must be a positive integer, got 0"),
    ({"input_size": 3.0}, TypeError, "input_size must be a positive integer, got 3.0 of type float"),
    ({"hidden_size": -1}, ValueError, "hidden_size must be a positive integer, got -1"),
    ({"hidden_size": True}, TypeError, "hidden_size must be a positive integer, got True of type bool"),
    ({"num_layers": 0}, ValueError, "num_layers must be a positive integer, got 0"),
    ({"num_layers": None}, TypeError, "num_layers must be a positive integer, got None"),
    ({"bias": 1}, TypeError, "bias must be True or False, got 1 of type int"),
    ({"batch_first": "yes"}, TypeError, "batch_first must be True or False, got 'yes'"),
    ({"bidirectional": 2}, TypeError, "bidirectional must be True or False, got 2"),
    ({"recompute": None}, TypeError, "recompute must be True or False, got None"),
    ({"dropout": 1.5}, ValueError, "dropout must be a number from 0 to 1, got 1.5"),
    ({"dropout": float("nan")}, ValueError, "dropout must be a number from 0 to 1, got nan"),
    ({"dropout": "0.5"}, TypeError, "dropout must be a number from 0 to 1, got '0.5'"),
    ({"dtype": "float16"}, TypeError, 'dtype must be "float32" or "float64", got \'float16\''),
    ({"dtype": "complex64"}, TypeError, 'dtype must be "float32" or "float64"'),
    ({"dtype": int}, TypeError, 'dtype must be "float32" or "float64"'),
    ({"dtype": None}, TypeError, 'dtype must be "float32" or "float64", got None'),
    ({"seed": -1}, ValueError, "seed must be a non-negative integer, got -1"),
    ({"seed": "now"}, TypeError, "seed must be a non-negative integer, got 'now'"),
    ({"seed": np.random.RandomState(0)}, TypeError, "seed must be"),
]


@pytest.mark.parametrize(("option", "error", "words"), BAD_OPTIONS)
@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_bad_options(make, option, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make(**{"input_size": 3, "hidden_size": 5, **option})


AMONG = "must be one of 'sigmoid', 'hard_sigmoid', 'hard_sigmoid_6', 'tanh', 'relu', 'linear', got"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: RNN(3, 5, nonlinearity="gelu"),
            ValueError,
            f"nonlinearity {AMONG} 'gelu'",
        ),
        (lambda: RNN(3, 5, nonlinearity=None), TypeError, f"nonlinearity {AMONG} None"),
        (
            lambda: LSTM(3, 5, activation="swish"),
            ValueError,
            f"activation {AMONG} 'swish'",
        ),
        (lambda: GRU(3, 5, gate_activation=1), TypeError, f"gate_activation {AMONG} 1"),
        (lambda: GRU(3, 5, proj_size=2), TypeError, "GRU has no proj_size; its options are reset_after, "),
        (lambda: GRU(3, 5, peephole=True), TypeError, "GRU has no peephole"),
        (lambda: GRU(3, 5, coupled=True), TypeError, "GRU has no coupled"),
        (
            lambda: RNN(3, 5, proj_size=2),
            TypeError,
            "RNN has no proj_size; its options are nonlinearity, clip",
        ),
        (lambda: RNN(3, 5, layer_norm=True), TypeError, "RNN has no layer_norm"),
        (lambda: LSTM(3, 5, reset_after=True), TypeError, "LSTM has no reset_after"),
        (lambda: LSTM(3, 5, nonlinearity="relu"), TypeError, "LSTM has no nonlinearity"),
        (lambda: LSTM(3, 5, proj_size=5), ValueError, "proj_size must be less than hidden_size = 5, got 5"),
        (lambda: LSTM(3, 5, proj_size=-1), ValueError, "proj_size must be a non-negative integer, got -1"),
        (lambda: LSTM(3, 5, proj_size=2.0), TypeError, "proj_size must be a non-negative integer, got 2.0"),
        (lambda: LSTM(3, 5, peephole=1), TypeError, "peephole must be True or False, got 1"),
        (lambda: LSTM(3, 5, layer_norm="yes"), TypeError, "layer_norm must be True or False, got 'yes'"),
        (lambda: LSTM(3, 5, clip=0), ValueError, "clip must be a positive finite number, got 0"),
        (lambda: GRU(3, 5, clip=-1.0), ValueError, "clip must be a positive finite number, got -1.0"),
        (lambda: RNN(3, 5, clip=np.nan), ValueError, "clip must be a positive finite number, got nan"),
        (lambda: RNN(3, 5, clip="1"), TypeError, "clip must be a positive finite number, got '1'"),
        (
            lambda: LSTM(3, 5, layer_norm=True, peephole=True),
            ValueError,
            "layer_norm goes with no other form of the cell, got peephole=True",
        ),
        (lambda: GRU(3, 5, layer_norm=True, reset_after=False), ValueError, "got reset_after=False"),
        (lambda: GRU(3, 5, layer_norm=True, activation="relu"), ValueError, "got activation='relu'"),
        (lambda: Linear(0, 5), ValueError, "in_features must be a positive integer, got 0"),
        (lambda: Linear(5, 2.5), TypeError, "out_features must be a positive integer, got 2.5"),
        (lambda: Linear(5, 2, bias=None), TypeError, "bias must be True or False, got None"),
        (lambda: Linear(5, 2, dtype="f2"), TypeError, 'dtype must be "float32" or "float64"'),
        (lambda: Embedding(0, 5), ValueError, "num_embeddings must be a positive integer, got 0"),
        (lambda: Embedding(5, "a"), TypeError, "embedding_dim must be a positive integer, got 'a'"),
        (lambda: Embedding(5, 2, seed=0.5), TypeError, "seed must be"),
        (lambda: Dropout(-0.1), ValueError, "p must be a number from 0 to 1, got -0.1"),
        (lambda: Dropout(float("inf")), ValueError, "p must be a number from 0 to 1, got inf"),
        (lambda: Dropout(None), TypeError, "p must be a number from 0 to 1, got None"),
    ],
)
def test_bad_options_of_one_layer(make, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make()


X = normal(7, 4, 3, dtype="float32")
H = np.zeros((4, 4, 5), "float32")

BAD_CALLS = {
    "rank": ({"x": X[0]}, ValueError, "x must have shape (T, B, 3), got (4, 3)"),
    "features": ({"x": X[..., :2]}, ValueError, "x must have shape (T, B, 3), got (7, 4, 2)"),
    "none": ({"x": None}, TypeError, "x must be a float32 array of shape (T, B, 3), got None"),
    "float64": (
        {"x": X.astype("f8")},
        TypeError,
        "x must have the layer's dtype float32, got float64; cast it",
    ),
    "float16": ({"x": X.astype("f2")}, TypeError, 'cast it first: x.astype("float32")'),
    "complex": ({"x": X.astype("c8")}, TypeError, "x must be a float32 or float64 array"),
    "object": ({"x": X.astype(object)}, TypeError, "x must be a float32 or float64 array"),
    "strings": ({"x": X.astype(str)}, TypeError, "x must be a float32 or float64 array"),
    "datetimes": ({"x": np.zeros((7, 4, 3), "M8[s]")}, TypeError, "x must be a float32 or float64 array"),
    "masked": ({"x": np.ma.masked_less(X, 0)}, TypeError, "got a masked array; fill it first: x.filled"),
    "ragged list": ({"x": [[1, 2], [3]]}, ValueError, "x must be"),
    "integers": ({"x": X.astype(int)}, TypeError, "got dtype int64"),
    "token": (
        {"x": [[0, 1], [2, 3]]},
        ValueError,
        "x must be within 0..input_size-1 = 0..2, got x[1, 1] = 3",
    ),
    "negative token": ({"x": [[0, -1]]}, ValueError, "got x[0, 1] = -1"),
    "tokens' rank": ({"x": [0, 1]}, ValueError, "x must have shape (T, B), got (2,)"),
    "no pair": ({"state": H}, TypeError, "state must be a tuple (h, c), got an array of shape (4, 4, 5)"),
    "triple": ({"state": (H, H, H)}, TypeError, "state must be a tuple (h, c)"),
    "state": (
        {"state": (H, H[:2])},
        ValueError,
        "state[1] must have shape (L*D, B, H) = (4, 4, 5), got (2, 4, 5)",
    ),
    "state's dtype": (
        {"state": (H.astype("f8"), H)},
        TypeError,
        "state[0] must have the layer's dtype float32",
    ),
    "lengths": ({"lengths": [1, 2, 3]}, ValueError, "lengths must have shape (4,), got (3,)"),
    "long": ({"lengths": [1, 2, 3, 8]}, ValueError, "lengths must be within 0..T = 0..7, got lengths[3] = 8"),
    "negative": ({"lengths": [1, 2, 3, -1]}, ValueError, "got lengths[3] = -1"),
    "float lengths": ({"lengths": [1.0, 2.0, 3.0, 4.0]}, TypeError, "lengths must be an integer array"),
}


@pytest.mark.parametrize("method", ["__call__", "forward"])
@pytest.mark.parametrize(("arguments", "error", "words"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(arguments, error, words, method, reference):
    layer = LSTM(3, 5, 2, bidirectional=True, seed=0)
    with pytest.raises(error, match=re.escape(words)):
        getattr(layer, method)(**{"x": X, **arguments})


def test_errors_name_the_axes_of_batch_first(reference):
    layer = GRU(3, 5, batch_first=True, seed=0)
    with pytest.raises(ValueError, match=re.escape("x must have shape (B, T, 3), got (4, 3)")):
        layer(X[0])
    with pytest.raises(ValueError, match=re.escape("x must have shape (B, T), got (2,)")):
        layer([0, 1])
    with pytest.raises(ValueError, match=re.escape("state must have shape (L*D, B, H) = (1, 7, 5)")):
        layer(X, np.zeros((1, 4, 5), "float32"))
    y, _, back = layer.forward(X)
    with pytest.raises(ValueError, match=re.escape("dy must have shape (7, 4, 5), got (4, 7, 5)")):
        back(y.swapaxes(0, 1))


BAD_GRADIENTS = {
    "both None": ((), ValueError, "dy or dstate_n must be given, got None for both"),
    "dy": ((np.zeros((7, 4, 5), "float32"),), ValueError, "dy must have shape (7, 4, 10), got (7, 4, 5)"),
    "dy's dtype": ((np.zeros((7, 4, 10)),), TypeError, "dy must have the layer's dtype float32, got float64"),
    "no pair": ((None, H), TypeError, "dstate_n must be a tuple (h, c)"),
    "dstate_n": (
        (None, (H[0], H)),
        ValueError,
        "dstate_n[0] must have shape (L*D, B, H) = (4, 4, 5), got (4, 5)",
    ),
}


@pytest.mark.parametrize(("gradients", "error", "words"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
def test_bad_gradients_use_nothing_up(gradients, error, words, reference):
    layer = LSTM(3, 5, 2, bidirectional=True, seed=0)
    y, _, back = layer.forward(X)
    with pytest.raises(error, match=re.escape(words)):
        back(*gradients)
    assert layer.gradients == {}
    back(np.ones_like(y))  # still possible


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (LSTM(3, 5, seed=0), X),
        (Linear(3, 5, seed=0), X),
        (Embedding(3, 5, seed=0), [0, 1]),
        (Dropout(0.5, seed=0), X),
        (Dropout(0.0, seed=0), X),
    ],
    ids=["LSTM", "Linear", "Embedding", "Dropout", "Dropout(0)"],
)
def test_a_way_back_that_was_refused_is_still_open(layer, x, reference):
    y, *_, back = layer.forward(x)
    with pytest.raises(ValueError, match=r"dy must have shape .*, got \(1, 1\)"):
        back(np.ones((1, 1), "float32"))
    assert layer.gradients == {}
    back(np.ones_like(y))
    if isinstance(layer, LSTM):
        first = layer.take_gradients()
        with pytest.raises(RuntimeError, match="back was called before: each serves one call; run forward"):
            back(np.ones_like(y))
        assert first and layer.gradients == {}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Linear(3, 2)(X[..., :2]), ValueError, "x must have shape (7, 4, 3), got (7, 4, 2)"),
        (lambda: Linear(3, 2)(np.float32(1)), ValueError, "x must have shape (3,), got ()"),
        (
            lambda: Linear(3, 2)(X.astype("f8")),
            TypeError,
            "x must have the layer's dtype float32, got float64",
        ),
        (lambda: Linear(3, 2)(X.astype(int)), TypeError, "x must be a float32 or float64 array"),
        (lambda: Linear(3, 2)(None), TypeError, "x must be a float32 array of shape (..., 3), got None"),
        (
            lambda: Embedding(5, 2)([4, 5]),
            ValueError,
            "x must be within 0..num_embeddings-1 = 0..4, got x[1] = 5",
        ),
        (lambda: Embedding(5, 2)([-1]), ValueError, "got x[0] = -1"),
        (lambda: Embedding(5, 2)([1.0]), TypeError, "x must be an integer array"),
        (
            lambda: Embedding(5, 2)(np.ma.array([1])),
            TypeError,
            "x must be an integer array, got a masked array",
        ),
        (lambda: Dropout(0.5)([1, 2]), TypeError, "x must be a float32 or float64 array"),
        (lambda: Dropout(0.5).forward(None), TypeError, "x must be a float32 or float64 array, got None"),
    ],
)
def test_bad_calls_of_feedforward_layers(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()


@pytest.mark.parametrize("module", ["recurrent", "cells", "feedforward", "initial"])
def test_examples(module, reference):
    module = importlib.import_module(f"fastrnn.layers.{module}")
    results = doctest.testmod(module, extraglobs={"fastrnn": fastrnn, "np": np})
    assert results.attempted
    assert not results.failed


@pytest.mark.parametrize("kind", LAYERS.values(), ids=LAYERS)
def test_gradients_do_not_depend_on_whether_that_of_x_is_wanted(kind, backend, rng):
    layer = kind(5, 7, 2, bidirectional=True, seed=0)
    x = rng.normal(size=(6, 3, 5)).astype("float32")
    y, _, back = layer.forward(x)
    back(np.ones_like(y))
    expected = layer.take_gradients()
    *_, back = layer.forward(x)
    dx, _ = back(np.ones_like(y), input_gradient=False)
    assert dx is None
    for name, gradient in layer.gradients.items():
        np.testing.assert_array_equal(gradient, expected[name])
    *_, back = layer.forward(x)
    with pytest.raises(TypeError, match="input_gradient must be True or False"):
        back(np.ones_like(y), input_gradient=1)


@pytest.mark.parametrize("kind", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("lengths", [None, [9, 0, 4, 7]])
def test_directions_side_by_side_give_the_bits_of_one_after_the_other(kind, lengths, threads, rng):
    layer = kind(6, 24, 2, bidirectional=True, seed=0)
    x, dy = (rng.normal(size=(9, 4, size)).astype("float32") for size in (6, layer.output_size))

    def everything():
        y, _, back = layer.forward(x, lengths=lengths)
        dx, _ = back(dy)
        return [y, dx, layer(x, lengths=lengths)[0], *layer.take_gradients().values()]

    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(everything())
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)
