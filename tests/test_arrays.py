"""Arrays with one owner: what cannot come apart, copies that are one network again, gradients that are
applied once, and layers that keep nothing of the data."""

import copy
import doctest
import gc
import io
import pickle
import weakref

import numpy as np
import pytest

from fastrnn import arrays
from fastrnn.arrays import Arrays, Joined
from fastrnn.layers import (
    GRU,
    LSTM,
    RNN,
    Attention,
    Composite,
    Dropout,
    Embedding,
    Last,
    Linear,
    Max,
    Mean,
    Recurrent,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    layer,
)
from fastrnn.optim import SGD, Adam


def through_joblib(value):
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "joblib": through_joblib,
}


def network():
    rng = np.random.default_rng(0)
    inner = Composite(lstm=LSTM(3, 4, seed=rng), drop=Dropout(0.5, seed=rng))
    return Composite(inner=inner, head=Linear(4, 2, seed=rng))


def train(network, optimizer):
    """One step, by gradients that depend on the weights."""
    lstm, head = network.parts["inner"].parts["lstm"], network.parts["head"]
    x = np.linspace(-1, 1, 2 * 5 * 3, dtype="float32").reshape(5, 2, 3)
    y, _, lstm_back = lstm.forward(x)
    out, head_back = head.forward(y)
    lstm_back(head_back(out - 1))
    optimizer.step(network.take_gradients())
    return head(lstm(x)[0])


# -- names and arrays stay


def test_an_assigned_value_is_copied_into_the_array():
    linear = Linear(3, 2, seed=0)
    optimizer, array = SGD(linear.parameters, lr=1.0), linear.parameters["weight"]
    value = np.arange(6.0).reshape(2, 3)
    linear.parameters["weight"] = value
    assert linear.parameters["weight"] is array is optimizer.parameters["weight"]
    np.testing.assert_array_equal(array, value)
    assert array.dtype == np.float32
    value[...] = 9  # it was copied
    assert array.max() == 5
    linear.parameters["weight"] *= 2
    linear.parameters.update(bias=[1, 2.0])
    assert linear.parameters["weight"] is array and array.max() == 10
    assert linear.parameters["bias"].tolist() == [1, 2]
    optimizer.step({"weight": np.ones((2, 3)), "bias": np.zeros(2)})
    assert linear(np.eye(3, dtype="float32")).tolist() == [[0, 7], [2, 9], [4, 11]]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.zeros((3, 2)), r"'weight' must have shape \(2, 3\), got \(3, 2\)"),
        (0.0, r"'weight' must have shape \(2, 3\), got \(\)"),
        (np.zeros((2, 3), int), "'weight' must have dtype float32, got int64"),
        (np.zeros((2, 3), complex), "'weight' must have dtype float32, got complex128"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(value, error):
    linear = Linear(3, 2, seed=0)
    before = linear.state_dict()
    for owner, name in ((linear, "weight"), (Composite(head=linear), "head.weight")):
        with pytest.raises(ValueError, match=error.replace("weight", name)):
            owner.parameters[name] = value
    for name, array in before.items():
        np.testing.assert_array_equal(linear.parameters[name], array)


@pytest.mark.parametrize("owner", [Linear(3, 2), Composite(head=Linear(3, 2))], ids=["layer", "composite"])
def test_names_are_fixed(owner):
    name = next(iter(owner.parameters))
    with pytest.raises(KeyError, match="there is no array 'bais' to assign to, and names are fixed: "):
        owner.parameters["bais"] = np.zeros(2)
    for delete in (lambda p: p.pop(name), lambda p: p.clear(), lambda p: p.popitem()):
        with pytest.raises(TypeError, match="cannot be deleted: names are fixed"):
            delete(owner.parameters)
    with pytest.raises(TypeError, match=f"'{name}' cannot be deleted"):
        del owner.parameters[name]
    with pytest.raises(AttributeError):
        owner.parameters = {}
    assert len(owner.parameters) == 2


def test_they_can_be_compared_and_printed():
    assert Arrays({}) == {} and repr(Linear(3, 2).parameters) == "<weight float32(2, 3), bias float32(2,)>"


def test_a_composite_shows_its_parts_arrays_and_takes_layers_only():
    whole = network()
    head = whole.parts["head"]
    assert whole.parameters["head.bias"] is head.parameters["bias"]
    assert list(whole.parameters)[:1] == ["inner.lstm.weight_ih_l0"]
    whole.parameters["head.bias"] = [7.0, 8.0]
    assert head.parameters["bias"].tolist() == [7, 8]
    with pytest.raises(TypeError, match="head must be a layer, got"):
        Composite(head=np.tanh)


def test_a_layer_with_two_names_is_there_once():
    """As PyTorch's parameters() has it: an optimizer would apply its gradient twice."""
    shared, act = Linear(2, 2, seed=0), Tanh()
    twice = Composite(a=Composite(x=shared, act=act), b=shared, c=Composite(act=act, y=shared))
    assert list(twice.parameters) == ["a.x.weight", "a.x.bias"]
    _, back = shared.forward(np.ones((1, 2), "float32"))
    back(np.ones((1, 2), "float32"))
    assert twice.take_gradients().keys() == twice.parameters.keys()
    assert not shared.gradients


# -- copies


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make", [lambda p: Adam(p, 0.1), lambda p: SGD(p, 0.1, momentum=0.9)])
def test_a_copy_of_network_and_optimizer_trains_as_they_do(copied, make):
    original = network()
    optimizer = make(original.parameters)
    train(original, optimizer)
    other, its = copied((original, optimizer))
    assert all(its.parameters[name] is array for name, array in other.parameters.items())
    assert all(array is not original.parameters[name] for name, array in other.parameters.items())
    for _ in range(3):
        np.testing.assert_array_equal(train(other, its), train(original, optimizer))


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_what_is_loaded_into_a_copy_is_used(copied):
    layers = Sequential(Linear(3, 4, seed=0), Tanh(), Linear(4, 2, seed=0))
    layers = copied(layers)
    layers.load_state_dict({name: np.zeros(array.shape) for name, array in layers.parameters.items()})
    assert not layers(np.ones((5, 3), "float32")).any()
    layers.parameters["2.bias"] = [1.0, 2.0]
    assert layers(np.ones((1, 3), "float32")).tolist() == [[1, 2]]


def test_a_shallow_copy_shares_the_arrays():
    linear = Linear(3, 2, seed=0)
    assert copy.copy(linear.parameters)["bias"] is linear.parameters["bias"]
    joined = Joined({"head": linear.parameters})
    assert copy.copy(joined)["head.bias"] is linear.parameters["bias"]


# -- gradients


def test_gradients_are_taken_once():
    linear = Linear(3, 2, seed=0)
    adam = Adam(linear.parameters)
    with pytest.raises(RuntimeError, match="Linear has no gradients of weight, bias: back must run"):
        linear.take_gradients()
    _, back = linear.forward(np.ones((1, 3), "float32"))
    back(np.ones((1, 2), "float32"))
    looked_at = linear.gradients["bias"]
    taken = linear.take_gradients()
    assert type(taken) is dict and taken["bias"] is looked_at and linear.gradients == {}
    adam.step(taken)
    with pytest.raises(RuntimeError, match="back must run before they are taken, each time"):
        linear.take_gradients()
    assert Tanh().take_gradients() == {}


def test_a_step_takes_no_gradients_that_are_still_the_layers():
    whole = network()
    adam = Adam(whole.parameters)
    train(whole, adam)
    before = whole.state_dict()
    for gradients in (whole.gradients, whole.parts["head"].gradients):
        with pytest.raises(TypeError, match=r"optimizer\.step\(layer\.take_gradients\(\)\)"):
            adam.step(gradients)
    assert adam.steps == 1
    for name, array in before.items():
        np.testing.assert_array_equal(whole.parameters[name], array)


def test_a_part_without_gradients_is_named_and_the_others_keep_theirs():
    whole = network()
    head = whole.parts["head"]
    _, back = head.forward(np.ones((1, 4), "float32"))
    back(np.ones((1, 2), "float32"))
    with pytest.raises(RuntimeError, match=r"Composite has no gradients of inner\.lstm\.weight_ih_l0, "):
        whole.take_gradients()
    assert list(whole.gradients) == ["head.weight", "head.bias"]


def test_gradients_can_be_changed_through_a_composite():
    whole = network()
    head = whole.parts["head"]
    _, back = head.forward(np.ones((1, 4), "float32"))
    back(np.ones((1, 2), "float32"))
    whole.gradients["head.bias"] = [3.0, 5.0]
    whole.gradients["head.weight"] *= 0
    assert head.gradients["bias"].tolist() == [3, 5] and not head.gradients["weight"].any()


# -- nothing of the data is kept

MARK = 1234.5625
OPTIONS = {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "recurrent_dropout": 0.2, "seed": 0}
LAYERS = {
    "RNN": lambda: RNN(4, 5, **OPTIONS),
    "LSTM": lambda: LSTM(4, 5, **OPTIONS, learned_state=True),
    "GRU": lambda: GRU(4, 5, **OPTIONS, recompute=True),
    "Linear": lambda: Linear(4, 5, seed=0),
    "Attention": lambda: Attention(4, 4, seed=0),
    "Dropout": lambda: Dropout(0.5, seed=0),
    "no dropout": lambda: Dropout(0.0),
    "ReLU": ReLU,
    "Tanh": Tanh,
    "Sigmoid": Sigmoid,
    "Sequential": lambda: Sequential(Linear(4, 5, seed=0), ReLU(), Dropout(0.5, seed=0), Linear(5, 2)),
    "Embedding": lambda: Embedding(2000, 3, seed=0),
    "tokens": lambda: GRU(2000, 3, seed=0),
    **{
        f"{kind.__name__}, {steps}": lambda kind=kind, steps=steps: Sequential(
            LSTM(4, 5, seed=0), kind(), bptt_steps=steps
        )
        for kind in (Last, Mean, Max)
        for steps in (None, 3)
    },
}


def data_for(made):
    """Inputs with a number that nothing else has."""
    if isinstance(made, Embedding) or getattr(made, "input_size", 0) == 2000:
        return np.full((7, 300), 1234), np.int64(1234).tobytes()
    return np.full((7, 300, 4), MARK, "float32"), np.float32(MARK).tobytes()


def passed_through(made, x):
    """y, and the way back."""
    y, *_, back = made.forward(*[x] * (1 + isinstance(made, Attention)))
    return y, back


def assert_light(made, mark):
    """Its pickle has its weights, the states of its generators, and none of the data."""
    pickled = pickle.dumps(made)
    assert mark not in pickled
    assert len(pickled) < sum(array.nbytes for array in made.parameters.values()) + 5000


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_pickle_has_nothing_of_the_data(make):
    made = make()
    x, mark = data_for(made)
    y, back = passed_through(made, x)
    assert_light(made, mark)  # also between forward and back
    back(np.ones_like(y))
    assert_light(made, mark)
    if isinstance(made, Recurrent):
        made.recording = True
        y, back = passed_through(made, x)
        back(np.ones_like(y))
        assert made.record and not copy.deepcopy(made).record
        assert_light(made, mark)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_the_way_back_alone_holds_the_data(make):
    made = make()
    x, _ = data_for(made)
    data = weakref.ref(x)
    y, back = passed_through(made, x)
    back(np.ones_like(y))
    if isinstance(made, (Recurrent, Sequential)):  # which serve once
        del x, y
        assert data() is None
    else:
        del x, y, back
        assert data() is None


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_forward_without_a_way_back_leaves_nothing(make):
    made = make()
    x, _ = data_for(made)
    data = weakref.ref(x)
    passed_through(made, x)
    del x
    assert data() is None
    assert made.gradients == {}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_call_keeps_nothing(make):
    made = make()
    x, _ = data_for(made)
    data = weakref.ref(x)
    made(*[x, x] if isinstance(made, Attention) else [x])
    del x
    gc.collect()
    assert data() is None


@pytest.mark.parametrize("module", [arrays, layer])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed
