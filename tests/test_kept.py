"""Packed weights that are kept without a look at the arrays, and every way to write to these meanwhile."""

import copy
import ctypes
import pickle
import threading
import weakref

import numpy as np
import pytest
from test_arrays import COPIES

from fastrnn import LSTM, Linear, use_backend
from fastrnn.layers import Composite, Layer, Sequential
from fastrnn.optim import SGD

LAYERS = {
    "lstm": (lambda: LSTM(5, 9, 2, bidirectional=True, seed=0), (6, 3, 5)),
    "linear": (lambda: Linear(5, 9, seed=0), (6, 3, 5)),  # 18 rows: few ones read the weights as they lie
}
layers = pytest.mark.parametrize("kind", LAYERS)


def name_in(layer):
    return "weight_hh_l0" if isinstance(layer, LSTM) else "weight"


def warm(kind):
    """A layer whose weights are packed and known to be its own, and an input."""
    make, shape = LAYERS[kind]
    layer, x = make(), np.random.default_rng(0).normal(size=shape).astype("float32")
    layer(x)
    layer(x)
    return layer, x


def result(layer, x):
    y = layer(x)
    return y[0] if isinstance(y, tuple) else y


def assert_up_to_date(kind, layer, x):
    found = result(layer, x)  # before the arrays are taken to compare
    fresh = LAYERS[kind][0]()
    fresh.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(found, result(fresh, x))


def by_address(address, factor):
    ctypes.cast(address, ctypes.POINTER(ctypes.c_float))[0] *= factor


# -- who has the array, or something of it, may write


def scaled(array):
    array[...] *= 1.5


def torch_tensor(array):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(array)


def as_ctypes(array):
    return np.ctypeslib.as_ctypes(array.reshape(-1))


#: What is kept, made of an array that is dropped then, and how it writes.
HOLDERS = {
    "array": (lambda array: array, scaled),
    "view": (lambda array: array[1:, ::2], scaled),
    "view of a view": (lambda array: array.T[:3].reshape(3, -1)[:, :2], scaled),
    "other dtype": (lambda array: array.view("int32"), lambda view: view.__setitem__((0, 0), 0)),
    "strided": (lambda array: np.lib.stride_tricks.as_strided(array, (2,), (4,)), scaled),
    "memoryview": (memoryview, lambda view: view.__setitem__((0, 0), 9.0)),
    "buffer": (lambda array: np.ndarray(array.shape, "f4", buffer=array), scaled),
    "from buffer": (lambda array: np.frombuffer(array, "f4"), scaled),
    "flat": (lambda array: array.flat, lambda flat: flat.__setitem__(0, 9.0)),
    "rows": (iter, lambda rows: scaled(next(rows))),
    "ctypes": (as_ctypes, lambda numbers: numbers.__setitem__(0, 9.0)),
    "ctypes data": (
        lambda array: array.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
        lambda p: p.__setitem__(0, 9.0),
    ),
    "interface": (lambda array: array.__array_struct__, None),
    "torch": (torch_tensor, lambda tensor: tensor.mul_(1.5)),
    "dlpack": (np.from_dlpack, None),
    "closure": (lambda array: lambda: scaled(array), lambda write: write()),
    "weakref": (weakref.ref, lambda ref: scaled(ref())),
    "list": (lambda array: [array], lambda found: scaled(found[0])),
    "cycle": (lambda array: (lambda d: d.update(self=d, array=array) or d)({}), lambda d: scaled(d["array"])),
}


@layers
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
def test_whoever_holds_something_of_an_array_is_seen(backend, kind, holder, early):
    """Taken before the first call, or between two calls; written to between others, twice."""
    hold, write = HOLDERS[holder]
    layer, x = (LAYERS[kind][0](), None) if early else warm(kind)
    x = np.ones(LAYERS[kind][1], "float32") if x is None else x
    held = hold(layer.parameters[name_in(layer)])
    for _ in range(2):
        result(layer, x)
        result(layer, x)
        if write:
            write(held)
        assert_up_to_date(kind, layer, x)
    del held


WRITERS = {
    "item": lambda layer, name: layer.parameters[name].__setitem__((0, 0), 9.0),
    "in place": lambda layer, name: scaled(layer.parameters[name]),
    "augmented": lambda layer, name: layer.parameters.__setitem__(name, layer.parameters[name] * 2),
    "assigned": lambda layer, name: layer.parameters.update({name: np.ones_like(layer.parameters[name])}),
    "get": lambda layer, name: scaled(layer.parameters.get(name)),
    "values": lambda layer, name: [scaled(array) for array in layer.parameters.values()],
    "items": lambda layer, name: [scaled(array) for _, array in layer.parameters.items()],
    "dict": lambda layer, name: scaled(dict(layer.parameters)[name]),
    "setdefault": lambda layer, name: scaled(layer.parameters.setdefault(name, None)),
    "load": lambda layer, name: layer.load_state_dict({k: a + 1 for k, a in layer.state_dict().items()}),
    "optimizer": lambda layer, name: SGD(layer.parameters, 0.1).step(layer.state_dict()),
    "composite": lambda layer, name: scaled(Composite(part=layer).parameters[f"part.{name}"]),
    "composite assigned": lambda layer, name: Composite(part=layer).parameters.update(
        {f"part.{name}": np.ones_like(layer.parameters[name])}
    ),
    "nested": lambda layer, name: scaled(Composite(a=Composite(b=layer)).parameters[f"a.b.{name}"]),
    "shallow copy": lambda layer, name: scaled(copy.copy(layer).parameters[name]),
    "shallow copy of the arrays": lambda layer, name: scaled(copy.copy(layer.parameters)[name]),
    "out": lambda layer, name: np.add(1, 1, out=layer.parameters[name]),
    "copyto": lambda layer, name: np.copyto(layer.parameters[name], 0.25),
    "shape": lambda layer, name: scaled(layer.parameters[name].reshape(-1)),
}


@layers
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_taken_written_to_and_dropped_between_calls_is_seen(backend, kind, writer):
    layer, x = warm(kind)
    before = result(layer, x)
    WRITERS[writer](layer, name_in(layer))
    assert not np.array_equal(result(layer, x), before)
    assert_up_to_date(kind, layer, x)


@layers
def test_objects_that_look_arrays_up_are_seen(backend, kind):
    """An optimizer, a composite's arrays and iterators that were made long before."""
    layer, x = warm(kind)
    name = name_in(layer)
    optimizer, joined = SGD(layer.parameters, 0.1), Composite(part=layer).parameters
    shared, values = copy.copy(layer), iter(layer.parameters.values())
    for write in (
        lambda: optimizer.step(
            {key: np.ones(array.shape, "f4") for key, array in optimizer.parameters.items()}
        ),
        lambda: scaled(joined[f"part.{name}"]),
        lambda: joined.__setitem__(f"part.{name}", np.full_like(joined[f"part.{name}"], 0.5)),
        lambda: scaled(shared.parameters[name]),
        lambda: scaled(next(values)),
    ):
        result(layer, x), result(layer, x)
        write()
        assert_up_to_date(kind, layer, x)
        assert_up_to_date(kind, shared, x)


@layers
def test_arrays_that_somebody_gave_are_seen(backend, kind):
    """A layer of one's own, whose arrays are its maker's too, or views of a block."""

    class Own(Layer):
        def __init__(self, arrays):
            super().__init__(arrays)

    layer, x = warm(kind)
    block = np.zeros((3, *layer.parameters[name_in(layer)].shape), "float32")
    own = Own(
        {name: array if name != name_in(layer) else block[1] for name, array in layer.parameters.items()}
    )
    layer._parameters, layer._made = own.parameters, None
    for value in (0.25, 0.5):
        result(layer, x), result(layer, x)
        block[...] = value
        assert_up_to_date(kind, layer, x)


@layers
def test_an_array_that_was_resized_is_refused(kind):
    layer, x = warm(kind)
    with use_backend("native"):
        result(layer, x)
        array = layer.parameters[name_in(layer)]
        array.resize((300, 300), refcheck=False)
        for rows in (x, x[:1, :1]):
            with pytest.raises(RuntimeError, match="resized"):
                layer(rows)


@layers
def test_threads_that_take_write_and_drop(kind):
    """Whatever a call saw meanwhile, the calls after the last writer see what is there."""
    layer, x = warm(kind)
    name, done = name_in(layer), threading.Event()

    def write():
        rng = np.random.default_rng()
        while not done.is_set():
            layer.parameters[name][...] = rng.normal()
            layer.parameters[name] = np.full_like(layer.parameters[name], rng.normal())

    def call():
        while not done.is_set():
            layer(x)

    threads = [threading.Thread(target=target) for target in (write, write, call)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        layer(x)
    done.set()
    for thread in threads:
        thread.join()
    assert_up_to_date(kind, layer, x)


# -- and where nobody can have written, nobody looks


@layers
@pytest.mark.parametrize("made", ["new", "trained", *COPIES])
def test_nobody_looks_where_nobody_could_have_written(kind, made):
    """What is written by an address alone, which is not allowed, goes unseen until the array is taken."""
    pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    layer, x = warm(kind)
    optimizer = SGD(layer.parameters, 0.1)
    if made == "trained":
        y, *_, back = layer.forward(x)
        back(y)
        optimizer.step(layer.take_gradients())
        del back
    elif made != "new":
        layer = COPIES[made](layer)
    name = name_in(layer)
    address = layer.parameters[name].ctypes.data
    before = result(layer, x)
    by_address(address, 2.0)
    np.testing.assert_array_equal(result(layer, x), before)
    len(layer.parameters[name])
    assert not np.array_equal(result(layer, x), before)
    assert_up_to_date(kind, layer, x)


def test_learned_states_and_networks_hand_nothing_out():
    pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    network = Sequential(LSTM(5, 9, learned_state=True, seed=0), Linear(9, 2, seed=0))
    x = np.ones((6, 3, 5), "float32")
    network(x)
    tokens = [layer.parameters._handed_out for layer in network.parts.values()]
    network(x, [6, 2, 1])
    assert [layer.parameters._handed_out for layer in network.parts.values()] == tokens


def test_a_pickle_has_no_token_and_no_memory_of_others():
    layer = pickle.loads(pickle.dumps(LSTM(5, 9, seed=0), protocol=5))
    assert all(array.flags.owndata for array in layer.parameters.values())
