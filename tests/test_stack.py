"""`functional.stack`: layers as a function of their weights, against layers; reserves that serve again."""

import pickle
import threading

import numpy as np
import pytest

from fastrnn import GRU, LSTM, RNN, functional
from fastrnn.functional import Options, Parameters, stack
from fastrnn.states import members

LAYERS = {"lstm": LSTM, "gru": GRU, "rnn_tanh": RNN}
kinds = pytest.mark.parametrize("kind", LAYERS)
T, B, I, H = 6, 3, 4, 5


def problem(
    kind, *, layers=2, bidirectional=True, batch_first=False, tokens=False, dtype="float32", **options
):
    rng = np.random.default_rng(0)
    layer = LAYERS[kind](
        I, H, layers, bidirectional=bidirectional, batch_first=batch_first, dtype=dtype, seed=0
    )
    suffixes = [suffix for k in range(layers) for suffix in layer._suffixes(k)]
    parameters = [layer._parameters_of(suffix) for suffix in suffixes]
    shape = (B, T) if batch_first else (T, B)
    x = rng.integers(0, I, shape) if tokens else rng.normal(size=(*shape, I)).astype(dtype)
    made = [rng.normal(size=(len(suffixes), B, H)).astype(dtype) for _ in layer._states.widths]
    state = tuple(made) if len(made) > 1 else made[0]
    dy = rng.normal(size=(*shape, (1 + bidirectional) * H)).astype(dtype)
    return layer, x, parameters, state, dy


def flat(gradients):
    dx, parameters, dstate, _ = gradients
    return [*([] if dx is None else [dx]), *(a for p in parameters for a in p.arrays()), *members(dstate)]


@kinds
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 0, 6]])
def test_it_is_what_a_layer_does(backend, kind, bidirectional, batch_first, tokens, lengths):
    layer, x, parameters, state, dy = problem(
        kind, bidirectional=bidirectional, batch_first=batch_first, tokens=tokens
    )
    options = {"lengths": lengths, "bidirectional": bidirectional, "batch_first": batch_first}
    for found in (layer(x, state, lengths), stack.forward(kind, x, parameters, state, **options)[:2]):
        y, state_n = stack(kind, x, parameters, state, **options)
        for a, b in zip((y, *members(state_n)), (found[0], *members(found[1])), strict=True):
            np.testing.assert_array_equal(a, b)
    assert y.flags.c_contiguous
    y, state_n, back = layer.forward(x, state, lengths)
    dx, dstate = back(dy, state_n)
    *_, reserve = stack.forward(kind, x, parameters, state, **options)
    gradients = stack.backward(reserve, dy, state_n)
    expected = [*([] if dx is None else [dx]), *layer.gradients.values(), *members(dstate)]
    for a, b in zip(flat(gradients), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@kinds
@pytest.mark.parametrize("recompute", [False, True])
def test_a_reusable_reserve_serves_again_and_again(backend, kind, recompute):
    _, x, parameters, state, dy = problem(kind)
    options = {"lengths": [6, 2, 5], "bidirectional": True, "recompute": recompute}
    *_, once = stack.forward(kind, x, parameters, state, **options)
    expected = flat(stack.backward(once, dy))
    with pytest.raises(RuntimeError, match="reserve was used before"):
        stack.backward(once, dy)
    *_, again = stack.forward(kind, x, parameters, state, **options, reusable=True)
    other = flat(stack.backward(again, 2 * dy, input_gradient=False))
    assert len(other) == len(expected) - 1
    for _ in range(3):
        for a, b in zip(flat(stack.backward(again, dy)), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_reusable_reserve_in_two_threads():
    pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    _, x, parameters, state, dy = problem("lstm")
    *_, reserve = stack.forward("lstm", x, parameters, state, bidirectional=True, reusable=True)
    expected, results = flat(stack.backward(reserve, dy)), []

    def work():
        for _ in range(50):
            results.append(flat(stack.backward(reserve, dy)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 100
    for found in results:
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@kinds
@pytest.mark.parametrize("layout", ["views", "F", "reversed", "lists", "big-endian"])
def test_any_layout_gives_the_same_bits(backend, kind, layout):
    _, x, parameters, state, dy = problem(kind, dtype="float64")
    change = {
        "views": lambda a: np.repeat(a, 2, axis=0)[::2],
        "F": np.asfortranarray,
        "reversed": lambda a: a[::-1].copy()[::-1],
        "lists": lambda a: a.tolist(),
        "big-endian": lambda a: a.astype(">f8"),
    }[layout]

    def run(convert):
        given = [Parameters(*(None if a is None else convert(a) for a in p[:4])) for p in parameters]
        states = tuple(map(convert, members(state)))
        states = states if len(states) > 1 else states[0]
        y, state_n, reserve = stack.forward(kind, convert(x), given, states, bidirectional=True)
        return [y, *members(state_n), *flat(stack.backward(reserve, convert(dy), states))]

    for a, b in zip(run(change), run(lambda a: a), strict=True):
        np.testing.assert_array_equal(a, b)


def test_contiguous_inputs_are_not_copied_and_results_share_nothing(backend):
    _, x, parameters, state, dy = problem("gru", batch_first=True)
    before = [a.copy() for a in (x, state, dy, *(a for p in parameters for a in p.arrays()))]
    y, state_n, reserve = stack.forward("gru", x, parameters, state, bidirectional=True, batch_first=True)
    found = [y, state_n, *flat(stack.backward(reserve, dy))]
    given = [x, state, dy, *(a for p in parameters for a in p.arrays())]
    assert all((a == b).all() for a, b in zip(given, before, strict=True))
    assert not any(np.shares_memory(a, b) for a in found for b in given)
    assert not y.flags.writeable


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"cell": "transformer"}, ValueError, "cell must be"),
        ({"x": np.zeros((T, B, I + 1), "f4")}, ValueError, "x must have shape (T, B, 4), got (6, 3, 5)"),
        ({"x": np.zeros((T, B, I))}, TypeError, "must have the same dtype"),
        ({"x": np.full((T, B), I)}, ValueError, "x must be within 0..V-1"),
        ({"x": None}, TypeError, "x must be"),
        ({"parameters": []}, ValueError, "parameters must be those of each layer and direction"),
        ({"parameters": [1]}, TypeError, "parameters[0] must be a record Parameters"),
        ({"lengths": [7, 1, 1]}, ValueError, "lengths must be within 0..T"),
        ({"state": np.zeros((4, B, H), "f4")}, TypeError, "state must be a tuple (h, c)"),
        ({"state": (np.zeros((2, B, H), "f4"), None)}, ValueError, "state[0] must have shape (4, 3, 5)"),
        ({"batch_first": 1}, TypeError, "batch_first"),
        ({"options": None}, TypeError, "options must be a record Options, got None"),
        ({"options": Options(clip=1.0)}, ValueError, "lstm takes no clip; its options are none"),
        ({"options": Options(gate="selu")}, ValueError, "options.gate must be one of 'sigmoid'"),
        ({"options": Options(clip=-1)}, ValueError, "options.clip must be a positive"),
        ({"cell": "lstm_layer_norm"}, ValueError, "vectors must be (gamma_ih, gamma_hh, gamma_c, beta_c)"),
    ],
)
def test_bad_input_is_refused(backend, change, error, words):
    _, x, parameters, state, _ = problem("lstm")
    arguments = {
        "cell": "lstm",
        "x": x,
        "parameters": parameters,
        "state": state,
        "bidirectional": True,
        **change,
    }
    for call in (stack, stack.forward):
        with pytest.raises(error) as found:
            call(**arguments)
        assert words in str(found.value)


@pytest.mark.parametrize("name", ["w_ih", "w_hh", "b_ih", "b_hh"])
@pytest.mark.parametrize("k", [0, 3])
def test_each_array_is_of_the_dtype_of_all(backend, k, name):
    _, x, parameters, _, _ = problem("lstm")
    parameters[k] = parameters[k]._replace(**{name: getattr(parameters[k], name).astype("f8")})
    words = rf"x and parameters\[{k}\]\.{name} must have the same dtype"
    for call in (stack, stack.forward):
        with pytest.raises(TypeError, match=words):
            call("lstm", x, parameters, bidirectional=True)


def test_layers_that_do_not_fit_are_refused(backend):
    _, x, parameters, _, dy = problem("lstm")
    with pytest.raises(ValueError, match=r"parameters\[1\]\.w_ih must have shape \(20, 5\), got \(20, 4\)"):
        stack("lstm", x, parameters)
    with pytest.raises(ValueError, match="of which there are 2, got 3"):
        stack("lstm", x, parameters[:3], bidirectional=True)
    *_, reserve = stack.forward("lstm", x, parameters, bidirectional=True)
    for given, words in ((dy[:, :, :H], "dy must have shape"), (dy.astype("f8"), "the same dtype")):
        with pytest.raises((TypeError, ValueError), match=words):
            stack.backward(reserve, given)
    stack.backward(reserve, dy)
    with pytest.raises(TypeError, match=r"reserve must come from stack\.forward, got None"):
        stack.backward(None, dy)


@pytest.mark.parametrize(
    ("cell", "change", "error", "words"),
    [
        ("lstm_layer_norm", {"vectors": (np.ones(20, "f4"),)}, ValueError, r"of lstm_layer_norm, got 1 of"),
        ("lstm_layer_norm", {"vectors": (None,) * 4}, TypeError, "gamma_ih must be a float32"),
        ("lstm", {"vectors": (np.ones(15, "f4"),)}, ValueError, r"must be \(\) of lstm, got 1"),
        ("lstm_any", {"vectors": np.ones(15, "f4")}, TypeError, "vectors must be a tuple of arrays"),
        ("lstm_any", {"vectors": (np.ones(15, "f4"),) * 2}, ValueError, r"\(peephole\) of lstm_any, got 2"),
        ("gru", {"w_hr": np.ones((2, H), "f4")}, ValueError, "w_hr must be None: gru has no projection"),
    ],
)
def test_arrays_that_a_cell_does_not_have_are_refused(backend, cell, change, error, words):
    _, x, (parameters,), _, _ = problem(cell.split("_")[0], layers=1, bidirectional=False)
    with pytest.raises(error, match=r"parameters\[0\]\." + ".*" + words):
        stack(cell, x, [parameters._replace(**change)])


def test_it_pickles_by_name():
    assert pickle.loads(pickle.dumps(functional.stack)) is functional.stack
