"""Streams: step by step the same bits as the layer on the whole sequence."""

import copy
import ctypes
import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref

import cells
import numpy as np
import pytest
from cells import members
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import GRU, LSTM, RNN
from fastrnn.layers import (
    ELU,
    GELU,
    SELU,
    Dropout,
    Embedding,
    HardSigmoid,
    Last,
    Layer,
    LeakyReLU,
    Linear,
    LogSoftmax,
    Max,
    Mean,
    Merge,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)

LAYERS = {
    **cells.LAYERS,
    "relu": lambda *a, **k: RNN(*a, nonlinearity="relu", **k),
}


def assert_states(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(members(one), members(other), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture(params=LAYERS)
def make(request, backend):
    return LAYERS[request.param]


@given(
    sizes=st.tuples(*[st.integers(1, 40)] * 2, st.integers(1, 3)),
    batch=st.integers(1, 5),
    T=st.integers(0, 6),
    dtype=st.sampled_from(["float32", "float64"]),
    bias=st.booleans(),
    split=st.integers(0, 6),
)
@pytest.mark.parametrize("cell", LAYERS)
def test_steps_give_the_bits_of_the_whole_sequence(cell, sizes, batch, T, dtype, bias, split):
    layer = LAYERS[cell](*sizes, dtype=dtype, bias=bias, seed=0)
    x = np.random.default_rng(1).normal(size=(T, batch, sizes[0])).astype(dtype)
    y, state_n = layer(x)
    stream = layer.stream(batch)
    some = min(split, T)
    h = [*(stream.step(x_t) for x_t in x[:some]), *stream.step_many(x[some:])]
    np.testing.assert_array_equal(np.array(h).reshape(y.shape), y)
    for ours, theirs in zip(members(stream.state), members(state_n), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_backends_agree(make):
    layer = make(4, 7, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32")
    stream = layer.stream(3)
    np.testing.assert_allclose([stream.step(x_t) for x_t in x], layer(x)[0], rtol=0, atol=1e-6)


def test_tokens(make):
    layer = make(9, 5, 2, seed=0)
    tokens = np.array([[0, 8], [3, 3], [7, 1]])
    stream = layer.stream(2)
    y = layer(tokens)[0]
    np.testing.assert_allclose([stream.step(t) for t in tokens], y, rtol=0, atol=1e-6)
    stream.reset()
    np.testing.assert_allclose([stream.step(t.tolist()) for t in tokens], y, rtol=0, atol=1e-6)
    stream.reset()
    np.testing.assert_allclose(stream.step_many(tokens), y, rtol=0, atol=1e-6)


def test_state_can_be_taken_set_and_copied(make):
    layer = make(3, 6, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(8, 1, 3)).astype("float32")
    stream = layer.stream()
    stream.step_many(x[:4])
    state, other = stream.state, stream.copy()
    rest = stream.step_many(x[4:])
    np.testing.assert_array_equal(other.step_many(x[4:]), rest)
    stream.state = state
    np.testing.assert_array_equal(stream.step_many(x[4:]), rest)
    again = copy.deepcopy(layer).stream()
    again.state = state
    np.testing.assert_array_equal(again.step_many(x[4:]), rest)
    stream.reset()
    np.testing.assert_array_equal(stream.step_many(x[:4]), layer.stream().step_many(x[:4]))
    assert all((member == 0).all() for member in members(layer.stream().state))


def with_outputs(make, inputs, outputs):
    """A layer that gives so many features, also where h is projected, to half of its units."""
    layer = make(inputs, outputs, seed=0)
    return layer if layer.output_size == outputs else make(inputs, 2 * outputs, seed=0)


def test_out_is_filled_and_returned(make):
    layer = with_outputs(make, 5, 5)
    x, out = np.ones((2, 5), "float32"), np.full((2, 5), np.nan, "float32")
    expected = layer.stream(2).step(x)
    assert layer.stream(2).step(x, out) is out
    np.testing.assert_array_equal(out, expected)
    layer.stream(2).step(x, out=x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    "hold",
    [
        lambda y: y,
        lambda y: y[0, 1:],
        lambda y: y.view(np.int32),
        memoryview,
        weakref.ref,
        lambda y: np.ndarray(y.shape, y.dtype, y),
    ],
)
def test_a_result_that_somebody_has_is_nobody_elses(backend, hold):
    stream, x = LSTM(3, 4, seed=0).stream(2), X + 1
    held, copies = [], []
    for _ in range(5):
        y = stream.step(x)
        held.append(hold(y))
        copies.append(bytes(y) if isinstance(held[-1], weakref.ref) else np.array(held[-1]).tobytes())
        del y
    for one, before in zip(held, copies, strict=True):
        if isinstance(one, weakref.ref):
            assert one() is None or one().tobytes() == before
        else:
            assert np.array(one).tobytes() == before


def test_what_was_done_to_a_result_is_not_done_to_another(backend):
    stream, x = LSTM(3, 4, seed=0).stream(2), X + 1
    changes = [
        lambda y: y.setflags(write=False),
        lambda y: setattr(y, "shape", (8,)),
        lambda y: setattr(y, "dtype", np.int32),
        lambda y: y.fill(9),
    ]
    for change in changes * 3:
        y = stream.step(x)
        assert (y.shape, y.dtype, y.flags.writeable) == ((2, 4), np.float32, True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy would rather have none of it
            change(y)
        del y
    other = LSTM(3, 4, seed=0).stream(2)
    other.step_many(np.array([x] * 3 * len(changes)))
    np.testing.assert_array_equal(stream.step(x), other.step(x))


def test_weights_are_those_of_the_moment(make):
    layer = make(2, 4, seed=0)
    x = np.ones((1, 2), "float32")
    stream = layer.stream()
    before = stream.copy().step(x)
    for parameter in layer.parameters.values():
        parameter *= 2
    np.testing.assert_array_equal(stream.step(x), before)
    assert (layer.stream().step(x) != before).any()


def misaligned(array):
    """A copy at an odd address."""
    memory = bytearray(array.nbytes + 1)
    copied = np.ndarray(array.shape, array.dtype, memory, offset=1)
    copied[...] = array
    return copied


def with_metadata(array):
    return array.astype(np.dtype(array.dtype, metadata={"unit": "m"}))


def subclassed(array):
    return array.view(type("Sub", (np.ndarray,), {}))


# Equal to the plain array, with a dtype that is equal to the plain one's or that other doors take for it.
FORMS = {
    "pickled": lambda array: pickle.loads(pickle.dumps(array)),
    "with metadata": with_metadata,
    "misaligned": misaligned,
    "subclassed": subclassed,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    "a list": lambda array: array.tolist() if array.dtype.kind == "i" else list(array),
    "longlong": lambda array: array.astype(np.longlong if array.dtype.kind == "i" else array.dtype),
    "int8": lambda array: array.astype(np.int8 if array.dtype.kind == "i" else array.dtype),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [False, True])
def test_every_array_that_is_equal_is_taken(backend, form, tokens):
    layer = LSTM(3, 4, seed=0)
    x = np.array([[0, 2], [1, 1]]) if tokens else np.random.default_rng(0).normal(size=(2, 2, 3)).astype("f4")
    expected = layer.stream(2).step_many(x)
    stream = layer.stream(2)
    for x_t, h in zip(x, expected, strict=True):
        np.testing.assert_array_equal(stream.step(FORMS[form](x_t)), h)
    stream.reset()
    np.testing.assert_array_equal(stream.step_many(FORMS[form](x)), expected)


@pytest.mark.parametrize("form", ["pickled", "with metadata"])
def test_out_may_be_of_any_equal_dtype(backend, form):
    layer = LSTM(3, 4, seed=0)
    out = FORMS[form](np.zeros((2, 4), "f4"))
    assert layer.stream(2).step(X, out) is out
    np.testing.assert_array_equal(out, layer.stream(2).step(X))


X = np.zeros((2, 3), "float32")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 4), "float32"),), ValueError, "x must have shape"),
        ((np.zeros((3,), "float32"),), ValueError, "x must have shape"),
        ((X.astype("float64"),), TypeError, "x must have the layer's dtype float32"),
        ((None,), TypeError, "x must be"),
        ((np.array([0, 3]),), ValueError, "x"),
        ((np.array([0, -1]),), ValueError, "x"),
        ((X, np.zeros((2, 5), "float32")), ValueError, r"out must be a float32 array of shape .* = \(2, 4\)"),
        ((X, np.zeros((4, 2), "float32").T), ValueError, "out must be C-contiguous"),
        ((X, [[0.0] * 4] * 2), ValueError, "out must be a float32 array"),
        ((X, misaligned(np.zeros((2, 4), "float32"))), ValueError, "out must be C-contiguous, aligned"),
        ((X, np.frombuffer(bytes(32), "float32").reshape(2, 4)), ValueError, "out must be .* writable"),
        ((X, np.ma.zeros((2, 4), "float32")), ValueError, "out must be a float32 array"),
        ((np.ma.masked_invalid(X),), TypeError, "x must be .* masked"),
        ((np.ma.array([0, 1], mask=[0, 1]),), TypeError, "x must be .* masked"),
        ((np.array([True, False]),), (TypeError, ValueError), "x must"),
        ((X.astype(complex),), TypeError, "x must"),
    ],
)
def test_bad_arguments_do_not_move_the_state(make, arguments, error, message):
    stream = with_outputs(make, 3, 4).stream(2)
    stream.step(X)
    before = stream.state
    with pytest.raises(error, match=message):
        stream.step(*arguments)
    for ours, theirs in zip(members(stream.state), members(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (X, ValueError),
        (X[None].astype("float64"), TypeError),
        (np.array([[0, 3]]), ValueError),
        (np.array([[0, 1], [-1, 1]]), ValueError),
        (None, TypeError),
        (np.array(0), ValueError),
    ],
)
def test_bad_inputs_of_many_steps_do_not_move_the_state(make, x, error):
    stream = make(3, 4, seed=0).stream(2)
    stream.step_many(X[None])
    before = stream.state
    with pytest.raises(error, match="x must"):
        stream.step_many(x)
    assert_states([stream.state], [before])


def test_bad_states_are_refused(backend):
    stream = LSTM(3, 4).stream()
    with pytest.raises(TypeError, match=r"tuple \(h, c\)"):
        stream.state = np.zeros((1, 1, 4), "float32")
    with pytest.raises(ValueError, match=r"state\[1\] must have shape"):
        stream.state = (np.zeros((1, 1, 4), "float32"), np.zeros((1, 4), "float32"))
    with pytest.raises(ValueError, match="bidirectional"):
        LSTM(3, 4, bidirectional=True).stream()
    with pytest.raises(ValueError, match="batch"):
        LSTM(3, 4).stream(0)


def test_a_second_thread_is_told():
    """Two threads in one stream: each step is done whole or refused, and none is lost in a crash."""
    stream = LSTM(512, 512, seed=0).stream(8)
    x = np.ones((8, 512), "float32")
    outcomes = []

    def work():
        for _ in range(200):
            try:
                stream.step(x)
                outcomes.append("done")
            except RuntimeError as error:
                assert "another thread" in str(error)
                outcomes.append("refused")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 600 and "done" in outcomes


IN_A_FORK = """
import os, threading, time
import numpy as np, fastrnn

stream = fastrnn.LSTM(64, 64, 2, seed=0).stream()
steps = np.ones((1_000_000, 1, 64), "float32")
threading.Thread(target=stream.step_many, args=(steps,), daemon=True).start()
while True:
    try:
        stream.step(steps[0])  # until the other thread is in
    except RuntimeError as error:
        assert "another thread" in str(error)
        break
child = os.fork()
if child == 0:
    try:
        stream.step(steps[0])
    except RuntimeError as error:
        assert "forked" in str(error)
    stream.reset()
    expected = fastrnn.LSTM(64, 64, 2, seed=0).stream().step(steps[0])
    os._exit(0 if (stream.step(steps[0]) == expected).all() else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_stream_that_was_at_work_in_a_fork_can_be_reset():
    subprocess.run([sys.executable, "-c", IN_A_FORK], check=True, timeout=120)


class Interrupted(Exception):
    pass


STACKS = {
    "layer": LSTM(64, 64, 3, seed=0),
    "network": Sequential(
        LSTM(64, 64, seed=0), Tanh(), GRU(64, 64, seed=0), Linear(64, 500, seed=0), Softmax()
    ),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("steps", [60_000, 2_000])  # more and less than between two looks at signals
def test_an_interrupted_call_leaves_the_state_where_it_was(steps, stack):
    stream = STACKS[stack].stream()
    x = np.ones((steps, 1, 64), "float32")
    for _ in range(2):  # the first one takes longer
        begin = time.perf_counter()
        stream.step_many(x)
        whole = time.perf_counter() - begin
    interrupted, at_work = 0, False

    def interrupt(*_):
        if at_work:
            raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for part in (0.7, 0.5, 0.3, 0.1):  # of the time: each layer is at work once
            before, at_work = stream.state, True
            signal.setitimer(signal.ITIMER_REAL, part * whole)
            try:
                stream.step_many(x)
                at_work = False
            except Interrupted:
                at_work = False
                interrupted += 1
                assert_states(stream.state, before)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted


@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal that waits")
def test_a_few_steps_that_a_signal_ends_leave_the_state_where_it_was():
    """It waits when they begin: between two calls from C no handler runs."""
    stream = Sequential(LSTM(4, 4, 2, seed=0), GRU(4, 4, seed=0), Linear(4, 3, seed=0)).stream(2)
    x = np.ones((3, 2, 4), "float32")
    stream.step_many(x)
    before = stream.state
    expected = stream.copy().step_many(x)

    def interrupt(*_):
        raise Interrupted

    previous = signal.signal(signal.SIGALRM, interrupt)
    calls = [
        functools.partial(ctypes.PyDLL(None)["raise"], int(signal.SIGALRM)),
        functools.partial(stream._inner.steps, x),
    ]
    try:
        with pytest.raises(Interrupted):
            list(map(functools.partial.__call__, calls))
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert_states(stream.state, before)
    np.testing.assert_array_equal(stream.step_many(x), expected)


def test_an_interrupted_call_of_the_reference_leaves_the_state_where_it_was(monkeypatch):
    from fastrnn.reference import stream as module

    with fastrnn.use_backend("reference"):
        stream = LSTM(3, 4, 2, seed=0).stream(2)
        stream.step(X)
        before, forward, calls = stream.state, module.forward, []

        def interrupted(*arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return forward(*arguments)

        monkeypatch.setattr(module, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.step_many(X[None])
        for ours, theirs in zip(stream.state, before, strict=True):
            np.testing.assert_array_equal(ours, theirs)


# -- copies


def joblib_copy(stream):
    joblib = pytest.importorskip("joblib")
    import io

    file = io.BytesIO()
    joblib.dump({"stream": stream}, file)
    file.seek(0)
    return joblib.load(file)["stream"]


COPIES = {
    "copy": lambda stream: stream.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda stream: pickle.loads(pickle.dumps(stream)),
    "joblib": joblib_copy,
    "in a container": lambda stream: copy.deepcopy({"policy": [stream]})["policy"][0],
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_goes_its_own_way_with_the_same_bits(make, how):
    layer = make(4, 9, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(6, 2, 4)).astype("float32")
    stream, other = layer.stream(2), layer.stream(2)
    for s in (stream, other):
        s.step_many(x[:2])
    for parameter in layer.parameters.values():
        parameter *= 2  # the stream has those of before, and so have its copies
    copied = COPIES[how](stream)
    assert type(copied) is type(stream) and repr(copied) == repr(stream)
    state = stream.state
    expected = other.step_many(x[2:])
    np.testing.assert_array_equal(copied.step_many(x[2:4]), expected[:2])
    for ours, theirs in zip(members(stream.state), members(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(stream.step_many(x[2:]), expected)
    np.testing.assert_array_equal([copied.step(x_t) for x_t in x[4:]], expected[2:])
    copied.reset()
    other.reset()
    np.testing.assert_array_equal(copied.step(x[0]), other.step(x[0]))


def test_a_stream_in_two_places_is_one_in_a_deep_copy():
    stream = LSTM(3, 4, seed=0).stream(2)
    first, second = copy.deepcopy([stream, stream])
    assert first is second is not stream


def test_a_stream_moves_between_backends_by_pickle():
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    stream = GRU(3, 5, 2, seed=0).stream(2)
    stream.step_many(x[:2])
    data, expected = pickle.dumps(stream), stream.step_many(x[2:])
    with fastrnn.use_backend("reference"):
        np.testing.assert_allclose(pickle.loads(data).step_many(x[2:]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_show(threads):
    layer = GRU(300, 300, 2, seed=0)
    x = np.random.default_rng(0).normal(size=(4, 2, 300)).astype("float32")
    y = layer(x)[0]
    fastrnn.set_num_threads(threads)
    try:
        stream = layer.stream(2)
        np.testing.assert_array_equal([stream.step(x_t) for x_t in x], y)
        for count in (1, 4, 2):  # later than the stream was made
            fastrnn.set_num_threads(count)
            stream.reset()
            np.testing.assert_array_equal([stream.step(x_t) for x_t in x], y)
    finally:
        fastrnn.set_num_threads(0)


# -- streams of networks


def networks():
    """By what is in them, each with an input of seven steps of B = 2."""
    rng = np.random.default_rng(0)
    floats, tokens = rng.normal(size=(7, 2, 5)).astype("f4"), rng.integers(0, 9, (7, 2))
    return {
        "head": (Sequential(LSTM(5, 19, 2, seed=rng), Linear(19, 33, seed=rng)), floats),
        "head without bias": (Sequential(GRU(5, 6, seed=rng), Linear(6, 100, bias=False, seed=rng)), floats),
        "tokens": (Sequential(RNN(9, 4, seed=rng), Linear(4, 9, seed=rng)), tokens),
        "embedding": (
            Sequential(Embedding(9, 7, seed=rng), LSTM(7, 16, seed=rng), Linear(16, 9, seed=rng)),
            tokens,
        ),
        "no head": (Sequential(Embedding(9, 7, seed=rng), GRU(7, 3, seed=rng)), tokens),
        "projection": (
            Sequential(Linear(5, 8, seed=rng), GRU(8, 4, seed=rng), Linear(4, 1, seed=rng)),
            floats,
        ),
        "cells": (
            Sequential(
                LSTM(5, 8, seed=rng), GRU(8, 17, 2, seed=rng), Linear(17, 6, seed=rng), RNN(6, 33, seed=rng)
            ),
            floats,
        ),
        "dropout": (
            Sequential(Dropout(0.5), LSTM(5, 8, seed=rng), Dropout(0.5), Linear(8, 3, seed=rng)),
            floats,
        ),
        "activations": (
            Sequential(
                Linear(5, 8, seed=rng), Tanh(), LSTM(8, 8, seed=rng), ReLU(), GRU(8, 4, seed=rng), Sigmoid()
            ),
            floats,
        ),
        "activations at both ends": (
            Sequential(
                Tanh(), LSTM(5, 8, 2, seed=rng), Linear(8, 6, seed=rng), ReLU(), Linear(6, 2, seed=rng)
            ),
            floats,
        ),
        "activations that are called": (
            Sequential(
                *(Linear(5, 8, seed=rng), Softplus(), LSTM(8, 8, seed=rng), GELU(), Tanh(), LogSoftmax()),
                *(GRU(8, 4, seed=rng), Merge("sum"), Sigmoid()),
            ),
            floats,
        ),
        "an activation of vectors": (
            Sequential(Embedding(9, 7, seed=rng), Tanh(), LSTM(7, 16, seed=rng), Linear(16, 9, seed=rng)),
            tokens,
        ),
        "learned states": (
            Sequential(learned(LSTM(5, 8, 2, learned_state=True, seed=rng)), Linear(8, 3, seed=rng)),
            floats,
        ),
        "batch first": (Sequential(LSTM(5, 8, batch_first=True, seed=rng), Linear(8, 3, seed=rng)), floats),
    }


def learned(layer):
    for name in ("initial_h", "initial_c"):
        layer.parameters[name] += 0.5
    return layer


NETWORKS = networks()


def whole(network, x):
    """y of all steps, time first, and the states."""
    if not network.batch_first:
        return network(x, return_state=True)
    y, states = network(x.swapaxes(0, 1), return_state=True)
    return y.swapaxes(0, 1), states


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_steps_give_the_bits_of_its_call(name, isa):
    network, x = NETWORKS[name]
    y, states = whole(network, x)
    stream = network.stream(2)
    assert stream.output_size == y.shape[-1]
    np.testing.assert_array_equal([*(stream.step(x_t) for x_t in x[:3]), *stream.step_many(x[3:])], y)
    assert_states(stream.state, states)
    stream.reset()
    out = np.empty_like(y[0])
    for x_t, y_t in zip(x, y, strict=True):
        assert stream.step(x_t.tolist() if x.ndim == 2 else x_t.astype("f4", order="F"), out) is out
        np.testing.assert_array_equal(out, y_t)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_reference_streams_networks_too(name):
    network, x = NETWORKS[name]
    y, states = whole(network, x)
    with fastrnn.use_backend("reference"):
        stream = network.stream(2)
        ours = [*(stream.step(x_t) for x_t in x[:3]), *stream.step_many(x[3:])]
    np.testing.assert_allclose(ours, y, rtol=0, atol=1e-5)
    for one, other in zip(stream.state, states, strict=True):
        for a, b in zip(members(one), members(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@given(
    sizes=st.tuples(*[st.integers(1, 40)] * 3),
    batch=st.integers(1, 6),
    T=st.integers(0, 6),
    dtype=st.sampled_from(["float32", "float64"]),
    bias=st.booleans(),
)
@pytest.mark.parametrize("cell", LAYERS)
def test_a_head_gives_the_bits_of_the_whole_sequence(cell, sizes, batch, T, dtype, bias):
    I, H, O = sizes
    options = {"dtype": dtype, "bias": bias, "seed": 0}
    layer = LAYERS[cell](I, H, **options)
    network = Sequential(layer, Linear(layer.output_size, O, **options))
    x = np.random.default_rng(1).normal(size=(T, batch, I)).astype(dtype)
    stream = network.stream(batch)
    y = network(x)
    np.testing.assert_array_equal(np.array([stream.step(x_t) for x_t in x]).reshape(y.shape), y)
    stream.reset()
    np.testing.assert_array_equal(stream.step_many(x), y)


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_threads_do_not_show_in_a_network(threads, batch):
    """Layers whose steps are shared by units, by rows and not at all, next to each other."""
    rng = np.random.default_rng(0)
    network = Sequential(
        Embedding(50, 300, seed=rng),
        LSTM(300, 200, seed=rng),
        SiLU(),
        GRU(200, 7, seed=rng),
        Softmax(),
        LSTM(7, 300, 2, seed=rng),
        Linear(300, 1001, seed=rng),
        Softmax(),
        Tanh(),
    )
    tokens = rng.integers(0, 50, (12, batch))
    threads(1)
    y = network(tokens)
    for count in (1, 2, 3):
        threads(count)
        stream = network.stream(batch)
        np.testing.assert_array_equal([stream.step(token) for token in tokens], y)
        stream.reset()
        np.testing.assert_array_equal(stream.step_many(tokens), y)


def test_a_networks_out_may_be_its_x(backend):
    network = Sequential(LSTM(5, 4, seed=0), Linear(4, 5, seed=0))
    x = np.ones((2, 5), "float32")
    expected = network.stream(2).step(x)
    assert network.stream(2).step(x, out=x) is x
    np.testing.assert_array_equal(x, expected)


IN_THE_STREAM = [
    ReLU(),
    LeakyReLU(0.2),
    ELU(0.5),
    SELU(),
    Tanh(),
    Sigmoid(),
    HardSigmoid(),
    HardSigmoid(0.2),
    SiLU(),
    GELU("tanh"),
    Softsign(),
    Softmax(),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", IN_THE_STREAM, ids=repr)
def test_activations_are_stages_of_the_kernels_stream(isa, activation, dtype):
    """First, between layers, two of them and last, one step at a time, some steps and many."""
    options = {"dtype": dtype, "seed": 0}
    network = Sequential(
        activation,
        Linear(5, 19, **options),
        activation,
        GRU(19, 8, **options),
        activation,
        Tanh(),
        Linear(8, 37, **options),
        activation,
    )
    x = np.random.default_rng(0).normal(size=(90, 3, 5)).astype(dtype)
    y, states = network(x, return_state=True)
    stream = network.stream(3)
    assert type(stream._inner).__module__ == "fastrnn._core"
    assert (stream.input_size, stream.output_size) == (5, 37)
    ours = [*(stream.step(x_t) for x_t in x[:4]), *stream.step_many(x[4:7]), *stream.step_many(x[7:])]
    assert np.array(ours).tobytes() == y.tobytes()
    assert_states(stream.state, states)
    with pytest.raises(TypeError, match="x must"):
        stream.step(np.array([0, 1, 2]))


def test_a_stream_after_last_is_at_the_last_step_so_far(backend):
    network = Sequential(LSTM(3, 5, seed=0), Last(), Linear(5, 2, seed=0))
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    stream = network.stream(2)
    for t, x_t in enumerate(x, 1):
        np.testing.assert_allclose(stream.step(x_t), network(x[:t]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((LSTM(3, 4), Mean()), "Mean has no stream: it is of all steps"),
        ((LSTM(3, 4), Max(), Linear(4, 2)), "Max has no stream: it is of all steps"),
        ((LSTM(3, 4, bidirectional=True), Linear(8, 2)), "bidirectional"),
        ((Linear(3, 4), Tanh()), "needs a recurrent layer"),
    ],
)
def test_networks_without_a_stream_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        Sequential(*layers).stream()
    with pytest.raises(ValueError, match="batch"):
        Sequential(LSTM(3, 4)).stream(0)


@pytest.mark.parametrize("name", ["cells", "embedding", "activations", "activations that are called"])
def test_bad_arguments_leave_a_networks_state(backend, name):
    network, x = NETWORKS[name]
    stream = network.stream(2)
    stream.step(x[0])
    before, out = stream.state, np.zeros((2, stream.output_size), "f4")
    tokens = x.ndim == 2
    wrong = [
        ((x[0][:1],), ValueError, "x must have shape|x must be"),
        ((x[0] + 9 if tokens else x[0][:, :3],), ValueError, "x"),
        ((np.ones((2, 7), "f4") if tokens else x[0].astype("f8"),), TypeError, "x must"),
        ((None,), TypeError, "x must be"),
        ((x[0], out[:, 1:]), ValueError, "out must be a float32 array of shape"),
        ((x[0], np.asfortranarray(out)), ValueError, "out must be C-contiguous"),
    ]
    for arguments, error, message in wrong:
        with pytest.raises(error, match=message):
            stream.step(*arguments)
    with pytest.raises((TypeError, ValueError), match="x must"):
        stream.step_many(x[0])
    assert_states(stream.state, before)


def test_the_state_of_a_network_can_be_taken_and_set(backend):
    network, x = NETWORKS["cells"]
    stream = network.stream(2)
    stream.step_many(x[:3])
    state, rest = stream.state, stream.step_many(x[3:])
    assert [len(members(each)) for each in state] == [2, 1, 1]
    assert state[1].shape == (2, 2, 17)
    stream.state = state
    np.testing.assert_array_equal(stream.step_many(x[3:]), rest)
    stream.state = network(x[:3], return_state=True)[1]
    np.testing.assert_allclose(stream.step_many(x[3:]), rest, rtol=0, atol=1e-6)
    before = stream.state
    for wrong, error, message in [
        (state[:2], TypeError, "tuple of the states of the recurrent layers, of which there are 3"),
        (state[0], TypeError, "of which there are 3"),
        ((state[0][0], *state[1:]), TypeError, r"state\[0\] must be a tuple"),
        ((state[0], state[1][:1], state[2]), ValueError, r"state\[1\] must have shape"),
        ((*state[:2], state[2].astype("f8")), TypeError, r"state\[2\] must have the layer's dtype"),
    ]:
        with pytest.raises(error, match=message):
            stream.state = wrong
        assert_states(stream.state, before)


@pytest.mark.parametrize(
    "name",
    ["embedding", "cells", "activations at both ends", "activations that are called", "learned states"],
)
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_networks_stream_goes_its_own_way(backend, name, how):
    network, x = copy.deepcopy(NETWORKS[name])
    stream, other = network.stream(2), network.stream(2)
    for s in (stream, other):
        s.step_many(x[:2])
    for parameter in network.parameters.values():
        parameter *= 2  # the stream has those of before, and so have its copies
    copied = COPIES[how](stream)
    assert repr(copied) == repr(stream)
    expected = other.step_many(x[2:])
    np.testing.assert_array_equal(copied.step_many(x[2:]), expected)
    np.testing.assert_array_equal(stream.step_many(x[2:]), expected)
    copied.reset()
    other.reset()
    np.testing.assert_array_equal(copied.step(x[0]), other.step(x[0]))


class Failing(Layer):
    """Lets so many calls pass."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __call__(self, x):
        self.calls -= len(x) > 0
        if self.calls < 0:
            raise KeyboardInterrupt
        return x


@pytest.mark.parametrize("many", [False, True])
def test_a_layer_that_fails_between_others_leaves_the_state(backend, many):
    stream = Sequential(LSTM(3, 4, seed=0), Failing(1), GRU(4, 2, seed=0), Failing(1)).stream(2)
    stream.step(X)
    before = stream.state
    with pytest.raises(KeyboardInterrupt):
        stream.step_many(np.stack([X] * 3)) if many else stream.step(X)
    assert_states(stream.state, before)


class Meeting(Layer):
    """Where one thread waits until it is let go."""

    def __init__(self, come, go):
        super().__init__()
        self.come, self.go = come, go

    def __deepcopy__(self, memo):
        return self

    def __call__(self, x):
        if len(x):
            self.come.set()
            self.go.wait(60)
        return x


def test_a_second_thread_is_told_between_layers_too():
    come, go = threading.Event(), threading.Event()
    layer = LSTM(3, 4, seed=0)
    stream = Sequential(layer, Meeting(come, go)).stream(2)
    first = threading.Thread(target=stream.step, args=(X,))
    first.start()
    come.wait(60)
    with pytest.raises(RuntimeError, match="another thread"):
        stream.step(X)
    go.set()
    first.join()
    np.testing.assert_array_equal(stream.step(X), layer.stream(2).step_many(np.stack([X, X]))[1])


# -- packed weights that a layer keeps


@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_sees_every_change_of_its_weights(cell, dtype):
    layer = LAYERS[cell](5, 19, 2, dtype=dtype, seed=0)
    x = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(dtype)
    rng = np.random.default_rng(1)
    y = layer(x)[0]
    np.testing.assert_array_equal(layer(x)[0], y)
    for name, parameter in layer.parameters.items():
        place = tuple(rng.integers(0, n) for n in parameter.shape)
        for change in (np.negative, lambda value: np.nextafter(value, np.inf, dtype=dtype)):
            parameter[place] = change(parameter[place])
            fresh = LAYERS[cell](5, 19, 2, dtype=dtype)
            fresh.load_state_dict(layer.state_dict())
            np.testing.assert_array_equal(layer(x)[0], fresh(x)[0], err_msg=name)


def test_changes_of_sign_do_not_cancel():
    """Negating whole rows flips top bits only, which a weaker fingerprint would not see."""
    layer = LSTM(64, 64, seed=0)
    x = np.ones((2, 1, 64), "float32")
    seen = [layer(x)[0]]
    for rows in (slice(None), slice(0, 2), slice(8, 10), slice(None, None, 2)):
        layer.parameters["weight_hh_l0"][rows] *= -1
        layer.parameters["weight_ih_l0"][rows] *= -1
        y = layer(x)[0]
        fresh = LSTM(64, 64)
        fresh.load_state_dict(layer.state_dict())
        np.testing.assert_array_equal(y, fresh(x)[0])
        assert not any((y == earlier).all() for earlier in seen)
        seen.append(y)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_layer_sees_changes_anywhere_in_large_weights(isa, threads):
    """The weights are looked at in pieces of 256 KB, which threads share."""
    layer = GRU(3, 301, seed=0)
    x = np.ones((2, 1, 3), "float32")
    flat = layer.parameters["weight_hh_l0"].reshape(-1)
    fastrnn.set_num_threads(threads)
    try:
        for place in (0, 65535, 65536, 100_003, 131_072, flat.size - 2, flat.size - 1):
            layer(x)
            flat[place] += 1
            fresh = GRU(3, 301)
            fresh.load_state_dict(layer.state_dict())
            np.testing.assert_array_equal(layer(x)[0], fresh(x)[0], err_msg=str(place))
    finally:
        fastrnn.set_num_threads(0)


def test_kept_weights_are_of_one_isa(isa):
    layer = LSTM(6, 9, seed=0)
    x = np.ones((2, 3, 6), "float32")
    expected = LSTM(6, 9, seed=0)(x)[0]
    from fastrnn import _core

    layer(x)
    for name in _core.config()["isas"]:
        _core.set_isa(name)
        np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-6)


def test_weights_that_change_while_they_are_packed_are_not_kept_for_others():
    """Another thread changes the weights and takes it back, again and again, while a call packs them."""
    n = 256
    layer, fresh, x = LSTM(n, n, seed=0), LSTM(n, n), np.ones((1, 1, n), "float32")
    last = layer.parameters["weight_ih_l0"][-1]
    for attempt in range(60):
        original = np.full(n, 0.01 * (1 + attempt) / n, "float32")  # so that nothing packed serves
        last[...] = original
        done = threading.Event()

        def change(original=original, done=done):
            while not done.is_set():
                last[...] = -original
                time.sleep(1e-4)
                last[...] = original
                time.sleep(1e-4)

        thread = threading.Thread(target=change)
        thread.start()
        layer(x)
        done.set()
        thread.join()
        fresh.load_state_dict(layer.state_dict())
        np.testing.assert_array_equal(layer(x)[0], fresh(x)[0])


def test_a_warm_layer_in_many_threads_and_calls_without_steps():
    layer = LSTM(64, 64, seed=0)
    x = np.random.default_rng(0).normal(size=(3, 2, 64)).astype("float32")
    layer(x[:0])
    layer(x, lengths=np.zeros(2, int))
    expected, results = LSTM(64, 64, seed=0)(x)[0], []
    threads = [threading.Thread(target=lambda: results.append(layer(x)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for y in results:
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_a_linear_layer_sees_every_change_of_its_weights(isa, dtype, rows):
    layer, rng = Linear(7, 33, dtype=dtype, seed=0), np.random.default_rng(0)
    x = rng.normal(size=(rows, 7)).astype(dtype)
    y = layer(x)
    np.testing.assert_array_equal(layer(x), y)
    np.testing.assert_array_equal(layer.forward(x)[0], y)
    for name, parameter in layer.parameters.items():
        for change in (np.negative, lambda value: np.nextafter(value, np.inf, dtype=dtype)):
            place = tuple(rng.integers(0, n) for n in parameter.shape)
            parameter[place] = change(parameter[place])
            fresh = Linear(7, 33, dtype=dtype)
            fresh.load_state_dict(layer.state_dict())
            np.testing.assert_array_equal(layer(x), fresh.forward(x)[0], err_msg=name)


@pytest.mark.parametrize("how", ["copy.deepcopy", "pickle", "joblib"])
@pytest.mark.parametrize("make", [lambda: LSTM(40, 90, 2, seed=0), lambda: Linear(40, 90, seed=0)])
def test_copies_of_a_layer_have_no_packed_weights(make, how):
    layer, x = make(), np.ones((9, 5, 40), "float32")
    size = len(pickle.dumps(layer))
    layer(x)
    assert len(pickle.dumps(layer)) == size
    other = COPIES[how](layer)
    assert layer._made is not None and other._made is None
    np.testing.assert_array_equal(other(x)[0], layer(x)[0])
