"""A process that ends while its threads are at work: what the part `exits` starts, with a case in JSON."""

import atexit
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastrnn
from fastrnn.layers import GRU, LSTM, Last, Linear, Sequential
from fastrnn.models import SequenceClassifier
from fastrnn.optim import Adam
from fastrnn.training import fit


def ones(*shape):
    return np.ones(shape, "float32")


# What threads do: each returns one round of it.


def small(size):
    layer, x = LSTM(3, size, bidirectional=True, seed=0), ones(7, 2, 3)
    return lambda: layer(x)


def large(size):
    """Enough for a team of threads."""
    layer, x = LSTM(64, 50, seed=0), ones(40, size, 64)
    return lambda: layer(x)


def stream(size):
    steps = Sequential(GRU(3, 100, seed=0), Linear(100, 2, seed=0)).stream(size)
    one, many = ones(size, 3), ones(30, size, 3)
    return lambda: (steps.step(one), steps.step_many(many))


def passes(size):
    layer, x = GRU(64, 50, seed=0), ones(40, size, 64)
    optimizer = Adam(layer.parameters)

    def one_step():
        y, _, back = layer.forward(x)
        back(y)
        optimizer.step(layer.take_gradients())

    return one_step


def training(size):
    network = Sequential(LSTM(3, size, seed=0), Last(), Linear(size, 1, seed=0))
    data = list(ones(20, 9, 3)), ones(20, 1)
    return lambda: fit(network, data, loss="mean_squared_error", validation=data, epochs=3, seed=0)


def model(size):
    X, y = ones(12, 9, 3), np.arange(12) % 2
    learned = SequenceClassifier(hidden_size=size, epochs=2, seed=0).fit(X, y)
    return lambda: (learned.predict(X), learned.partial_fit(X, y))


def files(size):
    layer = LSTM(30, size, seed=0)
    name = f"{threading.get_ident()}.safetensors"
    return lambda: (layer.save(name), fastrnn.load(name))


WORK = [small, large, stream, passes, training, model, files]


def work(kind, size, rounds, begun):
    """So many rounds, or for ever."""
    one_round = WORK[kind](size)
    one_round()
    begun.release()
    while rounds is None or rounds > 0:
        one_round()
        rounds = rounds and rounds - 1


# What a bug would do.


def never_let_go():
    """A lock whose holder has ended, and which a hook wants."""
    lock = threading.Lock()
    lock.acquire()
    atexit.register(lock.acquire)


def crash():
    """The C++ runtime finds nobody to catch an exception."""
    atexit.register(os.abort)


def outlived():
    """Something is cleaned up after what it needs for that."""

    class Kept:
        def __del__(self):
            raise RuntimeError("what this needs is gone")

    fastrnn.kept = Kept()


def lost_code():
    atexit.register(os._exit, 0)


def early_end():
    """The weights go before the last call."""
    call = LSTM.__call__

    def changed(self, *arguments, **named):
        if ENDING:
            self.parameters["weight_ih_l0"] = 0 * self.parameters["weight_ih_l0"]
        return call(self, *arguments, **named)

    LSTM.__call__ = changed


BUGS = {each.__name__: each for each in (never_let_go, crash, outlived, lost_code, early_end)}

ENDING = []


def last_calls(layer, x, expected):
    """A hook: what was said at the beginning still holds."""
    ENDING.append(True)
    (y, _), (dx, _) = layer(x), layer.forward(x)[2](ones(7, 2, 10))
    if y.tobytes() == expected and np.isfinite(dx).all():
        print("the hook's bits are right", flush=True)


def end(how, seconds, layer, x):
    """Work until then, and end."""
    until = time.perf_counter() + seconds
    if how in ("SIGTERM", "SIGINT", "handler"):
        number = signal.SIGINT if how == "SIGINT" else signal.SIGTERM
        threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
        until += 3600
    while time.perf_counter() < until:
        layer(x)
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(4)
    if how == "exception":
        raise RuntimeError("the end")


def exit_politely(*_):
    sys.exit(5)


def main(case):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if case["ending"] == "handler":
        signal.signal(signal.SIGTERM, exit_politely)
    fastrnn.set_num_threads(case["threads"])
    layer, x = LSTM(3, 10, seed=0), ones(7, 2, 3)
    atexit.register(last_calls, layer, x, layer(x)[0].tobytes())
    if case["bug"]:
        BUGS[case["bug"]]()
    begun = threading.Semaphore(0)
    pool = ThreadPoolExecutor(4)
    for kind, size, rounds, held in case["work"]:
        if held:
            pool.submit(work, kind, size, rounds, begun)
        else:
            threading.Thread(target=work, args=(kind, size, rounds, begun), daemon=rounds is None).start()
    for _ in case["work"]:
        begun.acquire()
    end(case["ending"], case["seconds"], layer, x)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
