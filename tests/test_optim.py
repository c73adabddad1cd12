"""Optimizers: many steps equal to PyTorch's; layouts, schedules, resuming; clipping; and what they refuse."""

import doctest
import re
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import optim
from fastrnn.arrays import Arrays
from fastrnn.optim import SGD, Adam, AdamW, RMSprop, clip_grad_norm, clip_grad_value

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

OPTIMIZERS = {
    "SGD": (SGD, {"lr": 0.05}),
    "SGD, momentum": (SGD, {"lr": 0.05, "momentum": 0.9}),
    "SGD, decay": (SGD, {"lr": 0.05, "weight_decay": 0.1}),
    "SGD, both": (SGD, {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1}),
    "RMSprop": (RMSprop, {}),
    "RMSprop, options": (RMSprop, {"lr": 0.02, "alpha": 0.5, "eps": 1e-3}),
    "Adam": (Adam, {}),
    "Adam, options": (Adam, {"lr": 0.02, "betas": (0.5, 0.7), "eps": 1e-3}),
    "Adam, no memory": (Adam, {"lr": 0.02, "betas": (0.0, 0.0)}),
    "AdamW": (AdamW, {}),
    "AdamW, options": (AdamW, {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.3}),
}
SHAPES = {"w": (5, 3), "b": (7,), "scalar": (), "cube": (2, 3, 4), "empty": (0, 3)}


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def make(request, backend):
    """parameters -> optimizer"""
    cls, options = request.param
    return lambda parameters: cls(parameters, **options)


def arrays(dtype="float64", seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in shapes.items()}


def assert_same(got, expected):
    """The same bits, by name."""
    assert list(got) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_equals_torch(cls, options, dtype):
    """Over 50 steps of changing gradients, some of them 0, and a learning rate that falls."""
    torch = pytest.importorskip("torch")
    parameters = arrays(dtype)
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in parameters.items()}
    optimizer = cls(parameters, **options)
    other = getattr(torch.optim, cls.__name__)(tensors.values(), **{"foreach": False, **options})
    for step in range(50):
        gradients = arrays(dtype, seed=step)
        gradients["b"] *= step % 3
        optimizer.step(gradients)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[name])
        other.step()
        optimizer.lr *= 0.99
        other.param_groups[0]["lr"] *= 0.99
    for name, tensor in tensors.items():
        assert parameters[name].dtype == dtype
        expected = tensor.detach().numpy()
        error = np.abs(parameters[name] - expected).max(initial=0)
        assert error <= TOLERANCE[dtype] * np.abs(expected).max(initial=0)


def test_any_layout(make):
    """Parameters and gradients need not be contiguous; parameters change in place, gradients not at all."""
    plain, gradients = arrays(), arrays(seed=1)
    strided = {
        "w": np.asfortranarray(plain["w"]),
        "b": np.repeat(plain["b"], 2)[::-2][::-1],
        "scalar": plain["scalar"].copy(),
        "cube": plain["cube"].transpose(2, 0, 1).copy().transpose(1, 2, 0),
        "empty": plain["empty"],
    }
    assert_same(strided, plain)
    optimizers = make(plain), make(strided)
    views = {name: array[...] for name, array in strided.items()}
    frozen = {
        name: np.asfortranarray(array[::-1])[::-1] if array.ndim else array
        for name, array in gradients.items()
    }
    for array in frozen.values():
        array.flags.writeable = False
    for _ in range(3):
        optimizers[0].step(gradients)
        optimizers[1].step(frozen)
    assert_same(views, plain)
    assert_same(gradients, arrays(seed=1))


def test_lr_of_0_only_moves_averages(make):
    parameters = arrays()
    optimizer = make(parameters)
    optimizer.lr = 0
    optimizer.step(arrays(seed=1))
    assert_same(parameters, arrays())


def test_non_finite_gradients_flow_through_without_a_word(make):
    parameters, gradients = arrays(), arrays(seed=1)
    gradients["w"][0] = np.nan
    gradients["w"][1] = np.inf
    gradients["w"][2] = 1e300  # whose square is infinite
    optimizer = make(parameters)
    for _ in range(3):
        optimizer.step(gradients)
    assert np.isnan(parameters["w"][0]).all()
    assert np.isfinite(parameters["w"][3:]).all()
    assert np.isfinite(parameters["b"]).all()


def test_minimises(make):
    """A bowl, whose lowest point is 0."""
    parameters = arrays()
    optimizer = make(parameters)
    optimizer.lr = 0.1
    for _ in range(300):
        optimizer.step({name: 2 * array for name, array in parameters.items()})
        optimizer.lr *= 0.98
    for array in parameters.values():
        assert np.abs(array).max(initial=0) < 1e-2


# -- whose arrays they are


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(("cls", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_tied_weights_are_updated_once_as_in_torch(cls, options):
    """An array under two names, by the sum of its gradients, which PyTorch's one parameter has as .grad."""
    torch = pytest.importorskip("torch")
    w, v = arrays()["w"], arrays()["b"]
    optimizer = cls({"in": w, "v": v, "out": w}, **options)
    tensors = [torch.tensor(w, requires_grad=True), torch.tensor(v, requires_grad=True)]
    other = getattr(torch.optim, cls.__name__)(tensors, **{"foreach": False, **options})
    for step in range(50):
        first, second = (arrays(seed=seed) for seed in (step, step + 1000))
        optimizer.step({"in": first["w"], "v": first["b"], "out": second["w"]})
        tensors[0].grad = torch.tensor(first["w"] + second["w"])
        tensors[1].grad = torch.tensor(first["b"])
        other.step()
    for array, tensor in ((w, tensors[0]), (v, tensors[1])):
        np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=1e-12, atol=1e-14)
    assert not any(name.endswith(".out") for name in optimizer.state_dict())


def test_the_gradients_of_two_names_add_up_to_infinity_without_a_word():
    w = np.zeros(2)
    gradients = {"in": np.array([1e308, np.inf]), "out": np.array([1e308, -np.inf])}
    SGD({"in": w, "out": w}, 0.1).step(gradients)
    np.testing.assert_array_equal(w, [-np.inf, np.nan])


def test_parameters_that_overlap_without_being_one_are_refused():
    w = np.arange(12.0).reshape(3, 4)
    for other in (w.T, w[1:], w.reshape(-1), w[...]):
        with pytest.raises(
            ValueError, match=r"parameters\['w'\] and \['v'\] must be one array or apart, got two"
        ):
            SGD({"w": w, "v": other}, 0.1)
    SGD({"even": w[:, ::2], "odd": w[:, 1::2]}, 0.1)  # within the same bounds, but apart


def test_a_mapping_is_looked_up_at_each_step(make):
    """An array that took the place of another one is trained, if it is like it; else nothing is."""
    parameters, gradients = arrays(), arrays(seed=1)
    optimizer = make(parameters)
    new = parameters["w"] = np.ones((5, 3))
    old = arrays()["w"]
    optimizer.step(gradients)
    assert (new != 1).all() and (old == arrays()["w"]).all()
    state = optimizer.state_dict()
    parameters["b"] = parameters["b"].tolist()
    before = arrays_of(parameters)
    with pytest.raises((TypeError, ValueError), match="'b'"):
        optimizer.step(gradients)
    assert_same(arrays_of(parameters), before)
    assert_same(optimizer.state_dict(), state)


def arrays_of(parameters):
    return {name: np.copy(array) for name, array in parameters.items()}


@pytest.mark.parametrize(
    ("value", "gradient"),
    [(np.zeros(8), np.zeros(8)), (np.zeros(7, "f4"), np.zeros(7, "f4"))],
    ids=["shape", "dtype"],
)
def test_an_array_unlike_the_one_it_replaced_is_refused(value, gradient):
    parameters, gradients = arrays(), arrays(seed=1)
    optimizer = Adam(parameters)
    parameters["b"], gradients["b"] = value, gradient
    before = arrays_of(parameters)
    with pytest.raises(
        ValueError, match=r"parameters\['b'\] must be the array that the optimizer was made for, or"
    ):
        optimizer.step(gradients)
    assert_same(parameters, before)
    assert optimizer.steps == 0


def test_options():
    assert SGD(arrays(), 0.1, momentum=0.5).options == {"momentum": 0.5, "weight_decay": 0.0}
    assert RMSprop(arrays()).options == {"alpha": 0.99, "eps": 1e-8}
    assert Adam(arrays(), betas=[0.5, 0.6]).options == {"betas": (0.5, 0.6), "eps": 1e-8}
    assert AdamW(arrays()).options == {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}


# -- state


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_resuming_is_bit_equal(make, dtype):
    parameters = arrays(dtype)
    optimizer = make(parameters)
    for step in range(6):
        if step == 3:
            saved = {name: array.copy() for name, array in parameters.items()}, optimizer.state_dict()
        optimizer.lr *= 0.9
        optimizer.step(arrays(dtype, seed=step))

    resumed, state = saved
    other = make(resumed)
    other.load_state_dict(state)
    for step in range(3, 6):
        other.lr *= 0.9
        other.step(arrays(dtype, seed=step))
    assert_same(resumed, parameters)
    assert_same(other.state_dict(), optimizer.state_dict())


def test_state_dict_is_flat_and_goes_through_safetensors(make):
    safetensors = pytest.importorskip("safetensors.numpy")
    optimizer = make(arrays("float32"))
    optimizer.step(arrays("float32", seed=1))
    state = optimizer.state_dict()
    assert {name.split(".")[0] for name in state} <= {"step", "lr", "m", "v"}
    assert (state["step"].dtype, state["step"].shape, state["step"]) == (np.int64, (), 1)
    assert (state["lr"].dtype, state["lr"].shape, state["lr"]) == (np.float64, (), optimizer.lr)
    again = safetensors.load(safetensors.save(state))
    assert_same({name: again[name] for name in state}, state)
    optimizer.load_state_dict(again)
    assert_same(optimizer.state_dict(), state)


def test_state_dict_names():
    parameters = {"w": np.zeros(3), "step": np.zeros(2)}
    assert list(Adam(parameters).state_dict()) == ["step", "lr", "m.w", "m.step", "v.w", "v.step"]
    assert list(RMSprop(parameters).state_dict()) == ["step", "lr", "v.w", "v.step"]
    assert list(SGD(parameters, 0.1, momentum=0.5).state_dict()) == ["step", "lr", "m.w", "m.step"]
    assert list(SGD(parameters, 0.1).state_dict()) == ["step", "lr"]


def test_state_dict_is_a_copy():
    optimizer = Adam(arrays())
    optimizer.step(arrays(seed=1))
    for array in optimizer.state_dict().values():
        array[...] = 0
    assert optimizer.state_dict()["m.w"].all()
    assert optimizer.state_dict()["step"] == 1


BAD_STATES = {
    "missing": (lambda s: s.pop("m.w"), ["'m.w' is missing"]),
    "unexpected": (lambda s: s.update(momentum=np.zeros(3)), ["'momentum' is unexpected"]),
    "misshapen": (
        lambda s: s.update({"v.w": np.zeros((3, 5))}),
        ["'v.w' must have shape (5, 3), got (3, 5)"],
    ),
    "complex": (
        lambda s: s.update({"v.b": np.zeros(7, "c16")}),
        ["'v.b' must have dtype float64, got complex128"],
    ),
    "step": (lambda s: s.update(step=np.array(2.0)), ["'step' must have dtype int64, got float64"]),
    "all at once": (
        lambda s: (s.pop("step"), s.pop("v.b"), s.update({"x": 1, "m.b": np.zeros(8)})),
        [
            "'step' is missing",
            "'v.b' is missing",
            "'x' is unexpected",
            "'m.b' must have shape (7,), got (8,)",
        ],
    ),
    "negative step": (
        lambda s: s.update(step=np.array(-1)),
        ["state['step'] must be a non-negative integer"],
    ),
    "lr": (lambda s: s.update(lr=np.array(np.nan)), ["lr must be a non-negative finite number, got nan"]),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_STATES.values(), ids=BAD_STATES)
def test_bad_states_change_nothing(spoil, words):
    optimizer = Adam(arrays())
    optimizer.step(arrays(seed=1))
    before, bad = optimizer.state_dict(), optimizer.state_dict()
    spoil(bad)
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(bad)
    for word in words:
        assert word in str(error.value)
    assert_same(optimizer.state_dict(), before)


# -- clipping


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("max_norm", [0.1, 3.0, 100.0])
def test_clip_grad_norm_equals_torch(max_norm, dtype):
    torch = pytest.importorskip("torch")
    gradients = arrays(dtype)
    tensors = [torch.zeros(array.shape, requires_grad=True) for array in gradients.values()]
    for tensor, array in zip(tensors, gradients.values(), strict=True):
        tensor.data = tensor.grad = torch.tensor(array)
    expected = torch.nn.utils.clip_grad_norm_(tensors, max_norm)
    norm = clip_grad_norm(gradients, max_norm)
    assert type(norm) is float
    assert norm == pytest.approx(expected.item(), rel=TOLERANCE[dtype])
    for tensor, array in zip(tensors, gradients.values(), strict=True):
        assert array.dtype == dtype
        np.testing.assert_allclose(array, tensor.grad.numpy(), rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_clip_grad_value_equals_torch(dtype):
    torch = pytest.importorskip("torch")
    gradients = arrays(dtype)
    tensors = {name: torch.tensor(array) for name, array in gradients.items()}
    clip_grad_value(gradients, 0.5)
    assert_same(gradients, {name: tensor.clamp(-0.5, 0.5).numpy() for name, tensor in tensors.items()})


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_clipped_norm_is_at_most_max_norm(values, max_norm):
    """And the direction stays; also of float32 values whose squares are too large for it."""
    gradients = {"w": np.array(values, "float32")}
    norm = clip_grad_norm(gradients, max_norm)
    assert norm == pytest.approx(np.linalg.norm(values), rel=1e-6)
    clipped = gradients["w"].astype("float64")
    assert np.linalg.norm(clipped) <= max_norm * (1 + 1e-6)
    if norm > 1e-3:
        np.testing.assert_allclose(
            clipped, np.multiply(values, min(1, max_norm / norm)), rtol=2e-3, atol=1e-30
        )


def test_a_gradient_with_two_names_is_scaled_once():
    """Its norm is that of both."""
    gradient = np.array([3.0, 4.0])
    assert clip_grad_norm({"a": gradient, "b": gradient}, 1.0) == pytest.approx(np.sqrt(50))
    np.testing.assert_allclose(gradient, np.array([3, 4]) / np.sqrt(50), rtol=1e-6)


def test_below_the_limits_nothing_changes():
    gradients = arrays()
    norm = clip_grad_norm(gradients, 1e3)
    assert clip_grad_norm(gradients, 1.2 * norm) == norm < 1e3
    clip_grad_value(gradients, 1e3)
    assert_same(gradients, arrays())


@pytest.mark.usefixtures("backend")
def test_clipping_without_gradients():
    assert clip_grad_norm({}, 1.0) == 0.0
    assert clip_grad_norm({"w": np.zeros((0, 3)), "v": np.zeros(3)}, 1.0) == 0.0
    clip_grad_value({}, 1.0)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2], lambda a: a[::-1]]
)
def test_clipping_any_layout(layout):
    array = layout(arrays()["w"])
    norm = np.linalg.norm(array)
    assert clip_grad_norm({"w": array}, norm / 2) == pytest.approx(norm)
    assert np.linalg.norm(array) == pytest.approx(norm / 2)
    clip_grad_value({"w": array}, 0.1)
    assert np.abs(array).max() == 0.1


@pytest.mark.usefixtures("backend")
def test_clipping_shows_what_is_not_finite():
    gradients = {"w": np.array([1.0, np.nan]), "v": np.array([2.0])}
    assert np.isnan(clip_grad_norm(gradients, 1.0))
    assert np.isnan(gradients["v"]).all()  # as in PyTorch: no half-hidden NaN
    gradients = {"w": np.array([1.0, np.inf])}
    assert clip_grad_norm(gradients, 1.0) == np.inf
    assert gradients["w"][0] == 0
    gradients = {"w": np.array([3.0, np.nan, -np.inf])}
    clip_grad_value(gradients, 1.0)
    np.testing.assert_array_equal(gradients["w"], [1, np.nan, -1])


# -- what is refused

BAD_OPTIONS = [
    (lambda p: SGD(p, float("nan")), ValueError, "lr must be a non-negative finite number, got nan"),
    (lambda p: SGD(p, -0.1), ValueError, "lr must be a non-negative finite number, got -0.1"),
    (lambda p: SGD(p, "0.1"), TypeError, "lr must be a non-negative finite number, got '0.1'"),
    (lambda p: SGD(p, None), TypeError, "lr must be a non-negative finite number, got None"),
    (lambda p: SGD(p, 0.1, momentum=1.0), ValueError, "momentum must be a number from 0 to below 1, got 1.0"),
    (
        lambda p: SGD(p, 0.1, weight_decay=float("inf")),
        ValueError,
        "weight_decay must be a non-negative finite",
    ),
    (lambda p: RMSprop(p, alpha=-0.1), ValueError, "alpha must be a number from 0 to below 1, got -0.1"),
    (lambda p: RMSprop(p, eps=0), ValueError, "eps must be a positive finite number, got 0"),
    (lambda p: RMSprop(p, float("inf")), ValueError, "lr must be a non-negative finite number, got inf"),
    (lambda p: Adam(p, eps=float("nan")), ValueError, "eps must be a positive finite number, got nan"),
    (lambda p: Adam(p, betas=0.9), TypeError, "betas must be a pair of numbers, got 0.9"),
    (lambda p: Adam(p, betas=(0.9, 0.99, 0.999)), TypeError, "betas must be a pair of numbers"),
    (lambda p: Adam(p, betas=(0.9, 1)), ValueError, "betas[1] must be a number from 0 to below 1, got 1"),
    (lambda p: Adam(p, betas=(float("nan"), 0)), ValueError, "betas[0] must be a number from 0 to below 1"),
    (
        lambda p: AdamW(p, weight_decay=-1),
        ValueError,
        "weight_decay must be a non-negative finite number, got -1",
    ),
    (lambda p: clip_grad_norm(p, 0), ValueError, "max_norm must be a positive finite number, got 0"),
    (
        lambda p: clip_grad_norm(p, float("nan")),
        ValueError,
        "max_norm must be a positive finite number, got nan",
    ),
    (lambda p: clip_grad_value(p, -1.0), ValueError, "clip_value must be a positive finite number, got -1.0"),
    (lambda p: clip_grad_value(p, "1"), TypeError, "clip_value must be a positive finite number, got '1'"),
]


@pytest.mark.parametrize(
    ("call", "error", "words"), BAD_OPTIONS, ids=[words[:40] for _, _, words in BAD_OPTIONS]
)
def test_bad_options(call, error, words):
    parameters = arrays()
    with pytest.raises(error, match=re.escape(words)):
        call(parameters)
    assert_same(parameters, arrays())


def test_bad_lr_later():
    optimizer = Adam(arrays())
    with pytest.raises(ValueError, match="lr must be a non-negative finite number, got nan"):
        optimizer.lr = float("nan")
    assert optimizer.lr == 1e-3


def read_only(array):
    array.flags.writeable = False
    return array


BAD_ARRAYS = {
    "list": (
        [1.0, 2.0],
        TypeError,
        "['w'] must be a float32 or float64 NumPy array, got [1.0, 2.0] of type list",
    ),
    "integers": (np.zeros(3, int), TypeError, "['w'] must be a float32 or float64 NumPy array, got an array"),
    "float16": (np.zeros(3, "f2"), TypeError, "['w'] must be a float32 or float64 NumPy array"),
    "masked": (np.ma.zeros(3), TypeError, "['w'] must be a float32 or float64 NumPy array"),
    "none": (None, TypeError, "['w'] must be a float32 or float64 NumPy array, got None"),
    "read-only": (read_only(np.zeros(3)), ValueError, "['w'] is updated in place and must be writable"),
}


@pytest.mark.parametrize(("array", "error", "words"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays(array, error, words):
    good = np.full(3, 5.0)
    for what, call in [
        ("parameters", lambda given: SGD(given, 0.1)),
        ("gradients", lambda given: clip_grad_norm(given, 1.0)),
        ("gradients", lambda given: clip_grad_value(given, 1.0)),
    ]:
        with pytest.raises(error, match=re.escape(what + words)):
            call({"good": good, "w": array})
        assert (good == 5).all()


def test_mappings_are_needed():
    for what, call in [
        ("parameters", lambda: SGD([np.zeros(3)], 0.1)),
        ("gradients", lambda: clip_grad_norm(np.zeros(3), 1.0)),
        ("gradients", lambda: SGD(arrays(), 0.1).step(None)),
        ("state", lambda: SGD(arrays(), 0.1).load_state_dict("state.bin")),
    ]:
        with pytest.raises(TypeError, match=f"{what} must be a mapping of names to arrays, got"):
            call()


BAD_GRADIENTS = {
    "missing": (lambda g: g.pop("b"), ["'b' is missing"]),
    "unexpected": (lambda g: g.update(c=np.zeros(3)), ["'c' is unexpected"]),
    "misshapen": (lambda g: g.update(w=g["w"].T), ["'w' must have shape (5, 3), got (3, 5)"]),
    "complex": (lambda g: g.update(w=g["w"] + 1j), ["'w' must have dtype float64, got complex128"]),
    "all at once": (
        lambda g: (g.pop("b"), g.update(c=1, w=np.zeros(1))),
        ["'b' is missing", "'c' is unexpected", "'w' must have shape (5, 3), got (1,)"],
    ),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
def test_bad_gradients_change_nothing(spoil, words, make):
    parameters, gradients = arrays(), arrays(seed=1)
    optimizer = make(parameters)
    spoil(gradients)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match="gradients does not fit") as error:
        optimizer.step(gradients)
    for word in words:
        assert word in str(error.value)
    assert_same(parameters, arrays())
    assert_same(optimizer.state_dict(), before)


def test_examples():
    results = doctest.testmod(optim)
    assert results.attempted
    assert not results.failed


def test_arrays_have_rates_of_their_own_and_decay_alike():
    """Without gradients a step of SGD is the decay alone, lr * weight_decay; else it is lr * rate."""
    parameters = {name: np.ones(2) for name in ("a.weight", "b.weight", "b.bias")}
    zeros, ones = ({name: np.full(2, value) for name in parameters} for value in (0.0, 1.0))
    made = optim.make("sgd", parameters, 0.1, 0.5, {"b.weight": 4.0})
    assert [each.lr for each in made] == pytest.approx([0.1, 0.1, 0.4])
    for each in made:
        each.step({name: zeros[name] for name in each.parameters})
    assert {name: array[0] for name, array in parameters.items()} == pytest.approx(
        {"a.weight": 0.95, "b.weight": 0.95, "b.bias": 1.0}
    )
    for each in optim.make("sgd", parameters, 0.1, rates={"b.weight": 4.0}):
        each.step({name: ones[name] for name in each.parameters})
    assert {name: array[0] for name, array in parameters.items()} == pytest.approx(
        {"a.weight": 0.85, "b.weight": 0.55, "b.bias": 0.9}
    )


def test_a_docstring_has_every_parameter():
    names = re.findall(r"^(\w+) : ", AdamW.__doc__, re.MULTILINE)
    assert names == ["parameters", "lr", "betas", "eps", "weight_decay"]


def test_each_name_makes_its_optimizer_and_only_weights_decay():
    parameters = {name: np.ones(2) for name in ("weight", "a.weight_hh", "a.bias", "weights.h_0")}
    for name, kind in optim.OPTIMIZERS.items():
        (made,) = optim.make(name, parameters, 0.1)
        assert type(made) is kind and made.lr == 0.1 and list(made.parameters) == list(parameters)
    for name, kind in [("adam", AdamW), ("sgd", SGD)]:
        others, weights = optim.make(name, parameters, 0.1, 0.3)
        assert type(others) is optim.OPTIMIZERS[name] and type(weights) is kind
        assert list(weights.parameters) == ["weight", "a.weight_hh"] and weights.weight_decay == 0.3
        assert list(others.parameters) == ["a.bias", "weights.h_0"]


def test_a_function_makes_optimizers():
    parameters = arrays()
    one, two = SGD(parameters, 0.1), Adam(parameters)
    for returned, made in [(one, [one]), ([one, two], [one, two]), ((two,), [two])]:
        assert optim.make(lambda *given, returned=returned: returned, parameters, 0.1) == made
    (made,) = optim.make(Adam, parameters, 0.2)
    assert type(made) is Adam and made.parameters is parameters and made.lr == 0.2
    for returned, came in [(None, r"\[None\]"), ([], r"\[\]"), ([one, None], r"\[<.*>, None\]")]:
        wanted = f"optimizer must return an Optimizer or a list of some, got {came} of type list"
        with pytest.raises(TypeError, match=wanted):
            optim.make(lambda *given, returned=returned: returned, parameters, 0.1)
    for optimizer in ("rmsprop", Adam):
        with pytest.raises(ValueError, match='weight_decay goes with optimizer="adam" or "sgd" only, got'):
            optim.make(optimizer, parameters, 0.1, 0.3)


def test_some_arrays_of_a_mapping_are_looked_up_in_it():
    whole = arrays()
    some = optim.Some(whole, ["b", "w"])
    assert list(some) == ["b", "w"] and len(some) == 2 and some["w"] is whole["w"]
    with pytest.raises(KeyError, match="cube"):
        some["cube"]
    copy, other = deepcopy((whole, some))
    assert other["b"] is copy["b"] is not whole["b"]


def test_gradients_that_stay_with_their_layer_are_refused():
    """They would be applied again by the next step."""
    parameters = arrays()
    with pytest.raises(TypeError, match=r"must be taken from their layer, .* optimizer\.step\(layer"):
        SGD(parameters, 0.1).step(Arrays(arrays()))
    assert_same(parameters, arrays())


def test_the_norm_is_that_of_all_gradients():
    assert optim.grad_norm({"w": np.array([[2.0, 4.0]], "f4")[:, ::-1], "b": np.array(4.0)}) == 6.0
