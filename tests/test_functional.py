"""The checked door: what it refuses and in which words, and that whatever it lets in comes out right."""

import re
import threading
from contextlib import suppress

import numpy as np
import pytest
from cells import FORMS, FUNCTIONS, cell_of, function_of, offered
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import functional, reference
from fastrnn.layers import CELLS
from fastrnn.reference import Call, Parameters


def good_arguments(kind="lstm", dtype="f8"):
    """Arguments that any function of the kind takes, by name: T=4, B=2, I=3, H=5."""
    rng = np.random.default_rng(0)
    gates = len(cell_of(kind).gates)
    sizes = {
        "x": (4, 2, 3),
        "w_ih": (gates * 5, 3),
        "w_hh": (gates * 5, 5),
        "b_ih": gates * 5,
        "b_hh": gates * 5,
    }
    arguments = {name: rng.normal(size=size).astype(dtype) for name, size in sizes.items()}
    h, c = rng.normal(size=(2, 2, 5)).astype(dtype)
    return {**arguments, "state": (h, c) if len(cell_of(kind).states) == 2 else h}


def forward(kind, **arguments):
    return getattr(functional, kind + "_forward")(**arguments)


def backward(kind, reserve, *gradients):
    return getattr(functional, kind + "_backward")(reserve, *gradients)


def flat(*results):
    """The arrays of nested results in a row, None left out."""
    for result in results:
        if isinstance(result, Parameters):
            yield from result.arrays()
        elif isinstance(result, (tuple, list)):
            yield from flat(*result)
        elif result is not None:
            yield result


# -- what is refused


def of(**arguments):
    return arguments


x, w_ih, w_hh, b_ih, _, (h, c) = good_arguments().values()
tokens = np.array([[0, 1], [2, 0], [1, 1], [0, 2]])
one = np.array([[0, 1]])
masked = np.ma.masked_array(x, x > 0)

BAD_INPUTS = [
    # name, changed arguments, error, the words it must contain
    ("x none", of(x=None), TypeError, "(T, B, I) or an integer array of shape (T, B), got None"),
    ("x float rank 2", of(x=x[0]), ValueError, "x must have shape (T, B, 3), got (2, 3)"),
    ("x float rank 4", of(x=x[None]), ValueError, "x must have shape (T, B, 3), got (1, 4, 2, 3)"),
    ("x scalar", of(x=1.0), ValueError, "x must have shape (T, B, 3), got ()"),
    ("x other I", of(x=x[..., :2]), ValueError, "x must have shape (T, B, 3), got (4, 2, 2)"),
    ("x empty I", of(x=x[..., :0]), ValueError, "x must have shape (T, B, 3), got (4, 2, 0)"),
    ("x integers rank 3", of(x=np.ones((4, 2, 3), int)), TypeError, "of shape (T, B, 3), got dtype int64"),
    ("x ragged", of(x=[[[1.0, 2.0, 3.0]], [[1.0]]]), ValueError, "x must be a float array"),
    ("x complex", of(x=x + 0j), TypeError, "got dtype complex128"),
    ("x object", of(x=x.astype(object)), TypeError, "got dtype object"),
    ("x strings", of(x=x.astype(str)), TypeError, "got dtype <U"),
    ("x datetime", of(x=x.astype("M8[s]")), TypeError, "got dtype datetime64[s]"),
    ("x bool", of(x=x > 0), TypeError, "got dtype bool"),
    ("x bool tokens", of(x=tokens > 0), TypeError, "got dtype bool"),
    ("x half", of(x=x.astype("f2")), TypeError, 'got dtype float16; cast it first: x.astype("float32")'),
    ("x long double", of(x=x.astype("g")), TypeError, f"got dtype {np.dtype('g')}"),
    ("x mapping", of(x={"x": x}), TypeError, "got dtype object"),
    ("x masked", of(x=masked), TypeError, "got a masked array; fill it first: x.filled(...)"),
    ("x masked tokens", of(x=np.ma.masked_array(tokens)), TypeError, "x must be"),
    ("x single", of(x=x.astype("f4")), TypeError, "the same dtype, got x float32 and w_ih float64"),
    ("tokens rank 1", of(x=tokens[0]), ValueError, "x must have shape (T, B), got (2,)"),
    ("token V", of(x=tokens + one), ValueError, "x must be within 0..V-1 = 0..2, got x[3, 1] = 3"),
    ("token -1", of(x=tokens - 1), ValueError, "x must be within 0..V-1 = 0..2, got x[0, 0] = -1"),
    ("token huge", of(x=np.full((4, 2), 2**63, "u8")), ValueError, "got x[0, 0] = 9223372036854775808"),
    ("token V in padding", of(x=tokens + one, lengths=[3, 3]), ValueError, "got x[3, 1] = 3"),
    ("w_ih none", of(w_ih=None), TypeError, "float64 array of shape (20, I), got None"),
    ("w_ih rank 1", of(w_ih=b_ih), ValueError, "w_ih must have shape (20, I), got (20,)"),
    ("w_ih rows", of(w_ih=w_ih[:15]), ValueError, "w_ih must have shape (20, I), got (15, 3)"),
    ("w_ih I=0", of(w_ih=w_ih[:, :0], x=x[..., :0]), ValueError, "w_ih must not be empty, got shape (20, 0)"),
    ("w_ih V=0", of(w_ih=w_ih[:, :0], x=tokens), ValueError, "w_ih must not be empty, got shape (20, 0)"),
    ("w_ih integers", of(w_ih=np.ones((20, 3), int)), TypeError, "w_ih must be a float32 or float64 array"),
    ("w_hh none", of(w_hh=None), TypeError, "float64 array of shape (4*H, H), got None"),
    ("w_hh rank 3", of(w_hh=w_hh[None]), ValueError, "w_hh must have shape (4*H, H), got (1, 20, 5)"),
    ("w_hh not 4*H", of(w_hh=w_hh[:, :4]), ValueError, "w_hh must have shape (16, 4), got (20, 4)"),
    ("w_hh H=0", of(w_hh=w_hh[:0, :0], w_ih=w_ih[:0]), ValueError, "w_hh must not be empty, got"),
    ("w_hh masked", of(w_hh=np.ma.masked_array(w_hh)), TypeError, "w_hh must be a float32 or float64 array"),
    ("w_hh single", of(w_hh=w_hh.astype("f4")), TypeError, "the same dtype, got x float64 and w_hh float32"),
    ("w_hh not w_ih", of(x=tokens, w_hh=w_hh.astype("f4")), TypeError, "w_ih and w_hh must have the same"),
    ("b_ih rank 2", of(b_ih=b_ih[None]), ValueError, "b_ih must have shape (20,), got (1, 20)"),
    ("b_ih size", of(b_ih=b_ih[:5]), ValueError, "b_ih must have shape (20,), got (5,)"),
    ("b_ih single", of(b_ih=b_ih.astype("f4")), TypeError, "x and b_ih must have the same dtype"),
    ("b_hh half", of(b_hh=b_ih.astype("f2")), TypeError, 'cast it first: b_hh.astype("float32")'),
    ("state one array", of(state=np.stack([h, c])), TypeError, "state must be a tuple (h, c), got an array"),
    ("state three", of(state=(h, c, c)), TypeError, "state must be a tuple (h, c)"),
    ("state string", of(state="hc"), TypeError, "state must be a tuple (h, c), got 'hc' of type str"),
    ("state h", of(state=(h[:1], c)), ValueError, "state[0] must have shape (2, 5), got (1, 5)"),
    ("state c", of(state=(h, c[0])), ValueError, "state[1] must have shape (2, 5), got (5,)"),
    ("state single", of(state=(h, c.astype("f4"))), TypeError, "x and state[1] must have the same dtype"),
    ("lengths negative", of(lengths=[4, -1]), ValueError, "must be within 0..T = 0..4, got lengths[1] = -1"),
    ("lengths too long", of(lengths=[5, 1]), ValueError, "must be within 0..T = 0..4, got lengths[0] = 5"),
    ("lengths floats", of(lengths=[4.0, 1.0]), TypeError, "integer array of shape (2,), got dtype float64"),
    ("lengths bools", of(lengths=[True, False]), TypeError, "got dtype bool"),
    ("lengths shape", of(lengths=[4, 1, 2]), ValueError, "lengths must have shape (2,), got (3,)"),
    ("lengths scalar", of(lengths=4), ValueError, "lengths must have shape (2,), got ()"),
    ("lengths masked", of(lengths=np.ma.masked_array([4, 1])), TypeError, "lengths must be an integer array"),
    ("reverse integer", of(reverse=1), TypeError, "reverse must be True or False, got 1 of type int"),
]  # fmt: skip


@pytest.fixture
def no_backend(monkeypatch):
    """Nothing behind the door: whoever gets through fails."""

    def refuse():
        raise AssertionError("the arguments reached the backend")

    for module in functional.door, functional.feedforward:
        monkeypatch.setattr(module, "kernels", refuse)


@pytest.mark.usefixtures("no_backend")
@pytest.mark.parametrize("function", [functional.lstm, functional.lstm_forward])
@pytest.mark.parametrize(
    ("changes", "error", "words"), [b[1:] for b in BAD_INPUTS], ids=[b[0] for b in BAD_INPUTS]
)
def test_bad_input_is_refused_before_any_kernel_runs(function, changes, error, words):
    with pytest.raises(error, match=re.escape(words)):
        function(**{**good_arguments(), **changes})


@pytest.mark.usefixtures("no_backend")
@pytest.mark.parametrize(
    ("kind", "changes", "error", "words"),
    [
        ("gru", of(w_hh=w_hh), ValueError, "w_hh must have shape (15, 5), got (20, 5)"),
        ("gru", of(state=(h, c)), ValueError, "state must have shape (2, 5), got (2, 2, 5)"),
        ("gru", of(state=h.astype("f4")), TypeError, "x and state must have the same dtype"),
        ("rnn", of(b_hh=b_ih), ValueError, "b_hh must have shape (5,), got (20,)"),
        (
            "rnn",
            of(nonlinearity="gelu"),
            ValueError,
            "nonlinearity must be one of 'sigmoid', 'hard_sigmoid', 'hard_sigmoid_6', 'tanh', 'relu', 'li",
        ),
        ("rnn", of(nonlinearity=None), TypeError, "'relu', 'linear', got None"),
        (
            "rnn",
            of(nonlinearity=["tanh"]),
            TypeError,
            "'relu', 'linear', got ['tanh']",
        ),
        ("rnn", of(clip=0.0), ValueError, "clip must be a positive finite number, got 0"),
        (
            "rnn",
            of(peephole=b_ih),
            TypeError,
            "rnn has no peephole; its options are w_hr, nonlinearity, clip",
        ),
        (
            "gru",
            of(w_hr=w_hh),
            TypeError,
            "gru has no w_hr; its options are gamma_ih, gamma_hh, reset_after, ",
        ),
        ("gru", of(peephole=b_ih), TypeError, "gru has no peephole"),
        ("gru", of(layer_norm=True), TypeError, "gru has no layer_norm"),
        ("gru", of(nonlinearity="relu"), TypeError, "gru has no nonlinearity"),
        ("gru", of(gamma_c=c[0]), TypeError, "gru has no gamma_c"),
        ("gru", of(reset_after=0), TypeError, "reset_after must be True or False, got 0 of type int"),
        (
            "gru",
            of(gamma_ih=b_ih[:15]),
            TypeError,
            "gamma_hh must be a float32 or float64 array of shape (15,)",
        ),
        ("lstm", of(reset_after=False), TypeError, "lstm has no reset_after"),
        ("lstm", of(peephole=b_ih), ValueError, "peephole must have shape (15,), got (20,)"),
        ("lstm", of(peephole=b_ih[:15].astype("f4")), TypeError, "x and peephole must have the same dtype"),
        ("lstm", of(w_hr=w_hh), ValueError, "w_hh must have shape (20, 20), got (20, 5)"),
        ("lstm", of(w_hr=w_hh[:2]), ValueError, "w_hh must have shape (20, 2), got (20, 5)"),
        (
            "lstm",
            of(w_hr=w_hh[:2], w_hh=w_hh[:, :2]),
            ValueError,
            "state[0] must have shape (2, 2), got (2, 5)",
        ),
        ("lstm", of(w_hr=w_hh[:0], w_hh=w_hh[:, :0]), ValueError, "w_hr must not be empty, got shape (0, 5)"),
        ("lstm", of(w_hr=b_ih), ValueError, "w_hr must have shape (P, H), got (20,)"),
        ("lstm", of(gamma_ih=b_ih, peephole=b_ih[:15]), ValueError, "goes with no other form of the cell"),
        ("lstm", of(coupled=None), TypeError, "coupled must be True or False, got None"),
    ],
)
def test_every_cell_has_its_own_sizes(kind, changes, error, words):
    with pytest.raises(error, match=re.escape(words)):
        getattr(functional, kind)(**{**good_arguments(kind), **changes})


def test_recompute_must_be_a_choice(no_backend):
    with pytest.raises(TypeError, match="recompute must be True or False, got 1 of type int"):
        functional.lstm_forward(**good_arguments(), recompute=1)


dy = np.ones((4, 2, 5))


@pytest.mark.parametrize(
    ("gradients", "error", "words"),
    [
        (of(dy=dy[:3]), ValueError, "dy must have shape (4, 2, 5), got (3, 2, 5)"),
        (of(dy=1.0), ValueError, "dy must have shape (4, 2, 5), got ()"),
        (
            of(dy=dy.astype("f4")),
            TypeError,
            "y and dy must have the same dtype, got y float64 and dy float32",
        ),
        (
            of(dy=dy + 0j),
            TypeError,
            "dy must be a float32 or float64 array of shape (4, 2, 5), got dtype complex128",
        ),
        (of(dy=np.ma.masked_array(dy)), TypeError, "dy must be a float32 or float64 array"),
        (of(dstate_n=h), TypeError, "dstate_n must be a tuple (h, c), got an array"),
        (of(dstate_n=(h, c, c)), TypeError, "dstate_n must be a tuple (h, c)"),
        (of(dstate_n=(h, c[:, :4])), ValueError, "dstate_n[1] must have shape (2, 5), got (2, 4)"),
        (of(dstate_n=(h.astype("f4"), None)), TypeError, "y and dstate_n[0] must have the same dtype"),
    ],
)
def test_bad_gradients_are_refused_and_the_reserve_stays_good(backend, gradients, error, words):
    _, _, reserve = functional.lstm_forward(**good_arguments())
    with pytest.raises(error, match=re.escape(words)):
        functional.lstm_backward(reserve, **gradients)
    functional.lstm_backward(reserve, dy)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_every_kind_of_layer_is_public_and_so_are_its_functions(kind):
    for name in (kind, f"{kind}_forward", f"{kind}_backward"):
        assert name in fastrnn.__all__
        assert getattr(fastrnn, name) is getattr(functional, name)
    name = CELLS[kind].__name__
    assert name in fastrnn.__all__
    assert getattr(fastrnn, name) is getattr(fastrnn.layers, name) is CELLS[kind]


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_reserve_serves_one_backward_call_of_its_own_kind(backend, kind):
    _, _, reserve = forward(kind, **good_arguments(kind))
    for other in set(FUNCTIONS) - {kind}:
        with pytest.raises(
            TypeError, match=f"reserve must come from {other}_forward, got <Reserve of {kind}"
        ):
            backward(other, reserve)
    with pytest.raises(TypeError, match=f"reserve must come from {kind}_forward, got None"):
        backward(kind, None)
    backward(kind, reserve)
    with pytest.raises(RuntimeError, match="reserve was used before"):
        backward(kind, reserve)
    _, _, reserve = forward(kind, **good_arguments(kind))
    with pytest.raises(RuntimeError, match="reserve was used before"):
        functional.door.run_directions_back([(reserve, None, None, True, None)] * 2)


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("recompute", [False, True])
def test_tokens_and_lengths_may_change_before_backward(backend, kind, recompute):
    """They lead kernels into other arrays, so these keep copies: gradients are those of then."""
    arguments = {**good_arguments(kind), "recompute": recompute}
    tokens, lengths, dy = np.array([[0, 1], [2, 2], [1, 0], [0, 0]]), np.array([4, 2]), np.ones((4, 2, 5))

    def gradients(change):
        given = {"x": tokens.copy(), "lengths": lengths.copy()}
        *_, reserve = forward(kind, **{**arguments, **given})
        for array in given.values():
            change(array)
        return flat(*backward(kind, reserve, dy))

    expected = list(gradients(lambda array: None))
    for value in (10**9, -(10**9), 1):
        for got, want in zip(gradients(lambda array, value=value: array.fill(value)), expected, strict=True):
            assert got.tobytes() == want.tobytes()


def test_tokens_and_lengths_may_change_during_a_call(backend):
    """Another thread's numbers are read once, before they are checked: calls are right or refused."""
    tokens, lengths = np.zeros((50, 8), int), np.full(8, 50)
    arguments = {**good_arguments("gru"), "state": None}
    done = threading.Event()

    def change():
        while not done.is_set():
            for value in (10**9, 0):
                tokens.fill(value)
                lengths.fill(value + 50)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200 if backend == "native" else 5):
            with suppress(ValueError):
                y, _ = functional.gru(**{**arguments, "x": tokens, "lengths": lengths})
                assert (y == y[:, :1]).all()
    finally:
        done.set()
        thread.join()


# -- what is let in


def in_reverse(array):
    everywhere = (slice(None, None, -1),) * array.ndim
    return array[everywhere].copy()[everywhere]


def with_gaps(array):
    wide = np.full([2 * size + 1 for size in array.shape], 99, array.dtype)
    gaps = wide[(slice(1, None, 2),) * array.ndim]
    gaps[...] = array
    return gaps


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def misaligned(array):
    odd = np.ndarray(array.shape, array.dtype, bytearray(array.nbytes + 1), offset=1)
    odd[...] = array
    return odd


LAYOUTS = {
    "plain": np.copy,
    "reversed": in_reverse,
    "F-ordered": np.asfortranarray,
    "transposed": lambda array: array.T.copy().T,
    "with gaps": with_gaps,
    "read-only": read_only,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "misaligned": misaligned,
}
TOLERANCE = {"f4": 1e-4, "f8": 1e-11}
AVAILABLE = [form for form in FORMS.values() if offered(form)]


@st.composite
def problems(draw):
    """A form of a cell, plain arrays for forward and backward, a layout for each, and a direction."""
    form = draw(st.sampled_from(AVAILABLE))
    T, B = draw(st.integers(0, 6)), draw(st.integers(0, 4))
    I, H = draw(st.integers(1, 5)), draw(st.integers(1, 18))
    dtype = draw(st.sampled_from(["f4", "f8"]))
    token_dtype = draw(st.sampled_from([None, "i1", "u2", "i4", "i8", "u8"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shapes, widths = form.shapes(I, H), form.widths(H)
    vectors = dict(zip(form.facts.vectors, shapes.pop("vectors"), strict=True))

    def uniform(*shape):
        return rng.uniform(-1, 1, shape).astype(dtype)

    def maybe(*shape):
        return uniform(*shape) if draw(st.booleans()) else None

    arrays = {
        "x": rng.integers(I, size=(T, B)).astype(token_dtype) if token_dtype else uniform(T, B, I),
        **{name: (maybe if name in ("b_ih", "b_hh") else uniform)(*shape) for name, shape in shapes.items()},
        **{name: (maybe if form.facts.options else uniform)(*shape) for name, shape in vectors.items()},
        "lengths": rng.integers(T + 1, size=B) if draw(st.booleans()) else None,
        "dy": maybe(T, B, widths[0]),
        **{f"state{k}": maybe(B, width) for k, width in enumerate(widths)},
        **{f"dstate{k}": maybe(B, width) for k, width in enumerate(widths)},
    }
    layouts = {
        name: draw(st.sampled_from(list(LAYOUTS))) for name, array in arrays.items() if array is not None
    }
    return form, dtype, arrays, layouts, draw(st.booleans())


def states_among(form, arrays):
    """The states, and the gradients of the final ones."""
    return [
        tuple(arrays[f"{name}{k}"] for k in range(len(form.facts.states))) for name in ("state", "dstate")
    ]


def expected_results(form, arrays, reverse):
    """What the float64 reference makes of the arrays."""
    wide = {
        name: array.astype("f8") if array is not None and array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }
    states, dstates = states_among(form, wide)
    vectors = tuple(wide[name] for name in form.facts.vectors if wide[name] is not None)
    parameters = Parameters(*(wide.get(name) for name in Parameters._fields[:5]), vectors)
    call = Call(form.cell, wide["x"], parameters, states, wide["lengths"], reverse, options=form.options)
    y, states_n, reserve = reference.forward(call._replace(training=True))
    return y, states_n, reference.backward(reserve, wide["dy"], dstates)


def actual_results(form, arrays, reverse):
    """The same by way of the door; inference must say what training says."""
    kind, options = function_of(form)
    states, dstates = states_among(form, arrays)
    if len(states) == 1:
        (states,), (dstates,) = states, dstates
    inputs = {name: array for name, array in arrays.items() if "state" not in name and name != "dy"}
    inputs |= {"state": states, "reverse": reverse, **options}
    y, state_n, reserve = forward(kind, **inputs)
    for trained, inferred in zip(flat(y, state_n), flat(getattr(functional, kind)(**inputs)), strict=True):
        np.testing.assert_array_equal(trained, inferred)
    return y, state_n, backward(kind, reserve, arrays["dy"], dstates)


def test_any_shape_dtype_and_layout_gives_the_reference(backend):
    @settings(max_examples=300, derandomize=True)
    @given(problems())
    def check(problem):
        form, dtype, plain, layouts, reverse = problem
        arrays = {name: LAYOUTS[layouts[name]](plain[name]) if name in layouts else None for name in plain}
        before = {name: arrays[name].tobytes() for name in layouts}

        actual = list(flat(actual_results(form, arrays, reverse)))

        expected = list(flat(expected_results(form, plain, reverse)))
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            assert ours.dtype == np.dtype(dtype)
            assert ours.shape == theirs.shape
            scale = max(1.0, np.abs(theirs).max(initial=0))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * scale)
        assert before == {name: arrays[name].tobytes() for name in layouts}

    check()


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_lists_are_taken_for_the_arrays_they_make(backend, kind):
    arguments = good_arguments(kind)
    lists = {name: value.tolist() for name, value in arguments.items() if name != "state"}
    lists["state"] = [member.tolist() for member in arguments["state"]]
    for actual, expected in zip(
        flat(getattr(functional, kind)(**lists, lengths=[4, 2])),
        flat(getattr(functional, kind)(**arguments, lengths=np.array([4, 2]))),
        strict=False,
    ):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_an_empty_batch_may_have_an_empty_list_of_lengths(backend, kind):
    arguments = good_arguments(kind)
    y, state_n = getattr(functional, kind)(
        arguments["x"][:, :0], arguments["w_ih"], arguments["w_hh"], lengths=[]
    )
    assert y.shape == (4, 0, 5)
    assert all(state.shape == (0, 5) for state in flat(state_n))


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_padding_does_not_matter(backend, kind):
    arguments = good_arguments(kind)
    lengths = [1, 3]
    results = []
    for filler in (0.0, np.nan):
        x, dy = arguments["x"].copy(), np.ones((4, 2, 5))
        for row, length in enumerate(lengths):
            x[length:, row] = dy[length:, row] = filler
        y, state_n, reserve = forward(kind, **{**arguments, "x": x}, lengths=lengths)
        assert not y[1:, 0].any()
        assert not y[3:, 1].any()
        results.append(list(flat(y, state_n, backward(kind, reserve, dy))))
    for zero_filled, nan_filled in zip(*results, strict=True):
        np.testing.assert_array_equal(zero_filled, nan_filled)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_recomputing_changes_no_bit(backend, kind):
    results = []
    for recompute in (False, True):
        y, state_n, reserve = forward(kind, **good_arguments(kind), lengths=[4, 2], recompute=recompute)
        results.append(list(flat(y, state_n, backward(kind, reserve, dy))))
    for kept, recomputed in zip(*results, strict=True):
        np.testing.assert_array_equal(kept, recomputed)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_nan_and_infinity_flow_through_their_own_rows_only(backend, kind):
    arguments = good_arguments(kind)
    expected = list(flat(getattr(functional, kind)(**arguments)))
    arguments["x"][1, 0] = np.nan
    arguments["x"][2, 0, 1] = np.inf
    y, state_n = getattr(functional, kind)(**arguments)
    assert np.isnan(y[1:, 0]).all()
    for actual, clean in zip(flat(y, state_n), expected, strict=True):
        np.testing.assert_allclose(actual[..., 1, :], clean[..., 1, :], rtol=1e-12)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_outputs_are_new_arrays_and_a_kept_y_is_read_only(backend, kind):
    arguments = good_arguments(kind)
    for steps in (0, 4):
        x = arguments["x"][:steps]
        y, state_n, reserve = forward(kind, **{**arguments, "x": x})
        assert not y.flags.writeable
        dstate = arguments["state"]
        gradients = backward(kind, reserve, np.ones(y.shape), dstate)
        assert getattr(functional, kind)(**{**arguments, "x": x})[0].flags.writeable
        for output in flat(state_n, gradients):
            assert output.flags.writeable
            assert not any(np.shares_memory(output, given) for given in flat(list(arguments.values())))
