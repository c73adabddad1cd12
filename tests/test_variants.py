"""The options of recurrent layers that PyTorch has not: the states of all steps, learned initial states and
recurrent dropout."""

import copy
import re

import numpy as np
import pytest
from cells import LAYERS, cell_of, members, normal, state_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import LSTM, RNN
from fastrnn.backend import BACKENDS, use_backend

kinds = pytest.mark.parametrize("kind", LAYERS)


def as_state(like, make):
    """h, or h and c, as make(k) gives them for one that there is."""
    made = tuple(make(k) for k in range(len(members(like))))
    return made if len(made) > 1 else made[0]


def same(backend):
    """How results that come by two ways must agree: NumPy's products depend on the rows around."""
    if backend == "native":
        return np.testing.assert_array_equal
    return lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def gradients_of(layer, x, state=None, lengths=None):
    layer.clear_gradients()
    y, state_n, back = layer.forward(x, state, lengths)
    dstate_n = as_state(state_n, lambda k: normal(*members(state_n)[k].shape, dtype=layer.dtype, seed=2 + k))
    dx, dstate = back(normal(*y.shape, dtype=layer.dtype, seed=1), dstate_n)
    return y, state_n, dx, dstate


def loss_of(layer, x, state=None, lengths=None):
    """The number whose gradients those of `gradients_of` are."""
    y, state_n, _ = layer.forward(x, state, lengths)
    loss = np.vdot(y, normal(*y.shape, seed=1))
    return loss + sum(np.vdot(m, normal(*m.shape, seed=2 + k)) for k, m in enumerate(members(state_n)))


def central_difference(loss, array, index, step=1e-5):
    here = array[index]
    array[index] = here + step
    above = loss()
    array[index] = here - step
    below = loss()
    array[index] = here
    return (above - below) / (2 * step)


# -- the states of all steps


@settings(max_examples=40)
@given(
    kind=st.sampled_from(list(LAYERS)),
    name=st.sampled_from(BACKENDS),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 20)),
    T=st.integers(0, 6),
    lengths=st.lists(st.integers(0, 6), max_size=4),
    reverse=st.booleans(),
    tokens=st.booleans(),
)
def test_every_state_is_the_last_of_a_shorter_sequence(kind, name, sizes, T, lengths, reverse, tokens):
    if name == "native":
        pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    lengths = np.minimum(lengths, T).astype(int)
    B = len(lengths)
    with use_backend(name):
        layer = LAYERS[kind](*sizes, bidirectional=reverse, dtype="float64", seed=0)
        D = 1 + reverse
        state = state_of(layer, lambda shape, k: normal(*shape, seed=k), B)
        x = np.random.default_rng(0).integers(0, sizes[0], (T, B)) if tokens else normal(T, B, sizes[0])
        y, state_n, states = layer(x, state, lengths, return_all_states=True)
        plain = layer(x, state, lengths)
        np.testing.assert_array_equal(y, plain[0])
        for all_steps, last, last_plain in zip(
            members(states), members(state_n), members(plain[1]), strict=True
        ):
            assert all_steps.shape == (D, T, *last.shape[1:])
            np.testing.assert_array_equal(last, last_plain)
        np.testing.assert_array_equal(np.concatenate(list(members(states)[0]), axis=-1), y)
        for t in range(T):
            _, onward = layer(x, state, np.minimum(lengths, t + 1))
            _, backward = layer(x[t:], state, np.maximum(lengths - t, 0))
            for all_steps, first, second in zip(
                members(states), members(onward), members(backward), strict=True
            ):
                valid = t < lengths
                same(name)(all_steps[0, t, valid], first[0, valid])
                if reverse:
                    same(name)(all_steps[1, t, valid], second[1, valid])
                assert not all_steps[:, t, ~valid].any()


@kinds
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_states_have_the_bits_of_a_stream(backend, kind, dtype):
    layer = LAYERS[kind](5, 21, 3, dtype=dtype, seed=0)
    x = normal(9, 2, 5, dtype=dtype)
    states = layer(x, return_all_states=True)[2]
    stream = layer.stream(2)
    for t, x_t in enumerate(x):
        stream.step(x_t)
        for all_steps, now in zip(members(states), members(stream.state), strict=True):
            np.testing.assert_array_equal(all_steps[:, t], now)


@kinds
@pytest.mark.parametrize("batch_first", [False, True])
def test_states_of_a_stack_are_those_of_its_layers(backend, kind, batch_first):
    stack = LAYERS[kind](5, 7, 2, bidirectional=True, batch_first=batch_first, dtype="float64", seed=0)
    x, lengths = normal(6, 3, 5), [4, 0, 6]
    y, _, states = stack(x.swapaxes(0, 1) if batch_first else x, None, lengths, return_all_states=True)
    y = y.swapaxes(0, 1) if batch_first else y
    for level in range(2):
        layer = LAYERS[kind](x.shape[2], 7, bidirectional=True, dtype="float64")
        ends = "_l0", "_l0_reverse"
        names = [name for name in stack.parameters if f"_l{level}" in name]
        layer.load_state_dict({n.replace(f"_l{level}", "_l0"): stack.parameters[n] for n in names})
        assert all(name.endswith(ends) for name in layer.parameters)
        x, _, of_layer = layer(x, None, lengths, return_all_states=True)
        for all_steps, expected in zip(members(states), members(of_layer), strict=True):
            np.testing.assert_array_equal(all_steps[2 * level : 2 * level + 2], expected)
    np.testing.assert_array_equal(x, y)


def test_all_states_must_be_a_choice():
    with pytest.raises(TypeError, match="return_all_states must be True or False, got 1 of type int"):
        LSTM(2, 3)(normal(4, 1, 2, dtype="float32"), return_all_states=1)


# -- learned initial states


def learned(kind, **options):
    """A layer whose initial state is not zero, and that state for a batch of 3."""
    layer = LAYERS[kind](4, 5, 2, learned_state=True, dtype="float64", seed=0, **options)
    names = [f"initial_{letter}" for letter in cell_of(kind).states]
    for k, name in enumerate(names):
        assert not layer.parameters[name].any()
        layer.parameters[name][...] = normal(*layer.parameters[name].shape, seed=k)
    return layer, state_of(layer, lambda _, k: np.stack([layer.parameters[names[k]]] * 3, axis=1), 3)


@kinds
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [2, 0, 6]])
def test_a_learned_state_is_one_that_all_sequences_share(backend, kind, bidirectional, lengths):
    layer, state = learned(kind, bidirectional=bidirectional)
    x = normal(6, 3, 4)
    own = gradients_of(layer, x, None, lengths)
    gradients = layer.gradients
    given = gradients_of(layer, x, state, lengths)
    for a, b in zip(own, given, strict=True):
        for m, n in zip(members(a), members(b), strict=True):
            np.testing.assert_array_equal(m, n)
    np.testing.assert_array_equal(layer(x, None, lengths)[0], own[0])
    assert list(gradients) == list(layer.parameters)
    for name, dstate in zip(("initial_h", "initial_c"), members(own[3]), strict=False):
        np.testing.assert_allclose(gradients[name], sum(dstate[:, b] for b in range(3)), rtol=1e-14)
        assert not layer.gradients[name].any()  # one that was not used has no share in the loss
        array = layer.parameters[name]
        for index in [(0, 0), (-1, -1)]:
            expected = central_difference(lambda: loss_of(layer, x, None, lengths), array, index)
            np.testing.assert_allclose(gradients[name][index], expected, rtol=1e-6, atol=1e-9)


def test_a_member_left_out_is_the_learned_one(backend):
    layer, (h, c) = learned("lstm")
    x, other = normal(6, 3, 4), normal(2, 3, 5, seed=9)
    np.testing.assert_array_equal(gradients_of(layer, x, (other, None))[0], layer(x, (other, c))[0])
    assert not layer.gradients["initial_h"].any()
    assert layer.gradients["initial_c"].all()
    np.testing.assert_array_equal(layer(x, (None, other))[0], layer(x, (h, other))[0])


@kinds
def test_a_state_given_to_a_batch_of_nothing(backend, kind):
    layer, _ = learned(kind)
    gradients_of(layer, normal(6, 0, 4), state_of(layer, lambda shape, _: np.zeros(shape), 0), None)
    assert not any(gradient.any() for gradient in layer.gradients.values())


@kinds
def test_streams_start_from_the_learned_state_and_return_to_it(backend, kind):
    layer, state = learned(kind)
    x = normal(5, 3, 4)
    y, _ = layer(x)
    stream = layer.stream(3)
    for start, now in zip(members(state), members(stream.state), strict=True):
        np.testing.assert_array_equal(start, now)
    np.testing.assert_array_equal(stream.step_many(x), y)
    other = stream.copy()
    for name in layer.parameters:
        layer.parameters[name][...] = 0  # a stream has what the layer had when it was made
    for again in stream, other:
        again.reset()
        np.testing.assert_array_equal(again.step_many(x), y)


@kinds
def test_a_learned_state_changes_nothing_until_it_is_learned(kind):
    plain, layer = (LAYERS[kind](4, 5, 2, learned_state=way, seed=0) for way in (False, True))
    names = [f"initial_{letter}" for letter in cell_of(kind).states]
    assert list(layer.parameters) == [*plain.parameters, *names]
    x = normal(6, 3, 4, dtype="float32")
    np.testing.assert_array_equal(layer(x)[0], plain(x)[0])
    *_, back = layer.forward(x[:, :0])
    back(np.zeros((6, 0, layer.output_size), "float32"))
    assert layer.gradients["initial_h"].shape == layer.parameters["initial_h"].shape
    other = LAYERS[kind](4, 5, 2, learned_state=True, seed=1)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other(x)[0], layer(x)[0])


# -- recurrent dropout


@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_mask_for_all_steps_of_a_sequence(backend, bidirectional):
    """With h_t = h_{t-1} otherwise, the factors show: 0, or 1 / (1 - p) to the power of T."""
    layer = RNN(1, 400, nonlinearity="relu", bidirectional=bidirectional, recurrent_dropout=0.75, seed=0)
    for name, array in layer.parameters.items():
        array[...] = np.eye(400) if name.startswith("weight_hh") else 0
    places = 1 + bidirectional
    ones = np.ones((places, 6, 400), "float32")
    _, h, back = layer.forward(np.zeros((3, 6, 1), "float32"), ones)
    assert set(np.unique(h)) == {0, 4**3}
    kept = h > 0
    assert np.abs(kept.mean(axis=-1) - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 400)
    rows = kept.reshape(-1, 400)
    assert len(np.unique(rows, axis=0)) == len(rows)  # every sequence and direction has its own
    _, dstate = back(None, ones)
    np.testing.assert_array_equal(dstate, h)
    again = layer.forward(np.zeros((3, 6, 1), "float32"), ones)[1]
    assert (again != h).any()  # and every call
    np.testing.assert_array_equal(layer(np.zeros((3, 6, 1), "float32"), ones)[1], ones)


def twins(kind, **options):
    """The same layer with dropout, so often as is wanted, each with its masks still to draw."""
    layer = LAYERS[kind](
        3, 4, 2, bidirectional=True, dtype="float64", recurrent_dropout=0.5, seed=0, **options
    )
    while True:
        yield copy.deepcopy(layer)


@kinds
@pytest.mark.parametrize("lengths", [None, [2, 0, 6]])
def test_dropouts_gradients_are_those_of_central_differences(backend, kind, lengths):
    layers = twins(kind, dropout=0.5, learned_state=True)
    x, layer = normal(6, 3, 3), next(layers)
    _, _, dx, _ = gradients_of(layer, x, None, lengths)

    def loss(name):
        twin = next(layers)
        twin.parameters[name] = layer.parameters[name]
        return lambda: loss_of(copy.deepcopy(twin), x, None, lengths)

    for name, array in layer.parameters.items():
        for index in [(0,) * array.ndim, tuple(size - 1 for size in array.shape)]:
            here = array[index]
            values = []
            for step in (1e-6, -1e-6):
                array[index] = here + step
                values.append(loss(name)())
            array[index] = here
            expected = (values[0] - values[1]) / 2e-6
            np.testing.assert_allclose(layer.gradients[name][index], expected, rtol=1e-5, atol=1e-8)
    expected = central_difference(lambda: loss_of(next(layers), x, None, lengths), x, (1, 2, 0))
    np.testing.assert_allclose(dx[1, 2, 0], expected, rtol=1e-6, atol=1e-9)


@kinds
def test_backends_drop_the_same(kind):
    pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    results = {}
    for name in BACKENDS:
        layer = next(twins(kind))
        with use_backend(name):
            y, *_, dstate = gradients_of(layer, normal(6, 3, 3), None, [6, 2, 4])
        results[name] = [y, *members(dstate), *layer.gradients.values()]
    for native, reference in zip(results["native"], results["reference"], strict=True):
        scale = max(1, np.abs(reference).max())
        np.testing.assert_allclose(native, reference, rtol=0, atol=1e-11 * scale)


@kinds
def test_recomputing_drops_the_same(backend, kind):
    x = normal(300, 3, 3)
    layers = [next(twins(kind, recompute=way)) for way in (False, True)]
    results = [gradients_of(layer, x, None, [300, 20, 200]) for layer in layers]
    for plain, recomputed in zip(*(r[:3] for r in results), strict=True):
        for a, b in zip(members(plain), members(recomputed), strict=True):
            np.testing.assert_array_equal(a, b)
    for name in layers[0].gradients:
        np.testing.assert_array_equal(layers[0].gradients[name], layers[1].gradients[name])


@kinds
def test_inference_and_streams_never_drop(backend, kind):
    options = {"num_layers": 2, "dtype": "float64", "seed": 0}
    plain, layer = (LAYERS[kind](3, 4, recurrent_dropout=p, **options) for p in (0.0, 0.5))
    x = normal(6, 2, 3)
    np.testing.assert_array_equal(layer(x)[0], plain(x)[0])
    np.testing.assert_array_equal(layer.stream(2).step_many(x), plain(x)[0])
    assert not np.array_equal(layer.forward(x)[0], plain(x)[0])


@kinds
def test_dropping_all_leaves_no_product(backend, kind):
    layer = LAYERS[kind](3, 4, recurrent_dropout=1.0, dtype="float64", seed=0)
    gradients_of(layer, normal(6, 2, 3))
    assert not layer.gradients["weight_hh_l0"].any()
    assert layer.gradients["bias_hh_l0"].any()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"recurrent_dropout": 1.5}, ValueError, "recurrent_dropout must be a number from 0 to 1, got 1.5"),
        ({"recurrent_dropout": None}, TypeError, "recurrent_dropout must be a number from 0 to 1, got None"),
        ({"learned_state": 1}, TypeError, "learned_state must be True or False, got 1 of type int"),
    ],
)
@kinds
def test_bad_options(kind, options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        LAYERS[kind](2, 3, **options)
