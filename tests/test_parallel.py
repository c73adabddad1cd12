"""Many models in one call, against each of them alone."""

import copy
import functools
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from battery import _layers
from battery._interrupted import bits

import fastrnn
from fastrnn import _core, data
from fastrnn.layers import (
    GRU,
    LSTM,
    RNN,
    Dropout,
    Embedding,
    Last,
    Linear,
    Mean,
    Parallel,
    Sequential,
    Tanh,
)
from fastrnn.losses import mean_squared_error
from fastrnn.optim import SGD, Adam
from fastrnn.training import fit


def mixture(rng, count):
    """Members of all kinds, and what each is called with."""
    kinds = [_layers.recurrent, _layers.network]
    members = [_layers.one_of(rng, kinds)(rng) for _ in range(count)]
    return members, [_layers.arguments(rng, member) for member in members]


def listed(given, name):
    return [each.get(name) for each in given]


def all_at_once(members, given, gradients):
    """What `both_passes` finds of each, by a `Parallel` of them."""
    parallel = Parallel(members)
    options = {name: listed(given, name) for name in ("x", "lengths", "state")}
    y, states, back = parallel.forward(**options, return_state=True)
    dx = back([each["dy"] for each in gradients])
    taken = parallel.take_gradients()
    found = []
    for place, (member, state) in enumerate(zip(members, states, strict=True)):
        states_n = _layers.named("state_n", state if isinstance(member, Sequential) else [state])
        own = {f"d{name}": taken[f"{place}.{name}"] for name in member.parameters}
        found.append({"y": y[place], **states_n, "dx": dx[place], **own})
    return found


def one_by_one(members, given, gradients):
    found = []
    for member, own, each in zip(members, given, gradients, strict=True):
        results = _layers.both_passes(member, own, {"dy": each["dy"]})
        found.append({name: array for name, array in results.items() if not name.startswith("dstate")})
    return found


@pytest.mark.parametrize("seed", range(12))
def test_each_member_gives_what_it_gives_alone(threads, seed):
    rng = np.random.default_rng(seed)
    members, given = mixture(rng, 12)
    gradients = [_layers.upstream(rng, *each) for each in zip(members, given, strict=True)]
    threads(1)
    inferred = [member(**own) for member, own in zip(members, given, strict=True)]
    inferred = [y[0] if isinstance(y, tuple) else y for y in inferred]
    expected = bits(one_by_one(copy.deepcopy(members), given, gradients))
    for count in (1, 2, 3):
        threads(count)
        parallel = Parallel(members)
        y = parallel(*(listed(given, name) for name in ("x", "lengths")), state=listed(given, "state"))
        assert bits(y) == bits(inferred)
        assert bits(all_at_once(copy.deepcopy(members), given, gradients)) == expected


def test_on_the_reference_backend_too(backend, rng):
    members, given = mixture(rng, 4)
    gradients = [_layers.upstream(rng, *each) for each in zip(members, given, strict=True)]
    expected = bits(one_by_one(copy.deepcopy(members), given, gradients))
    assert bits(all_at_once(members, given, gradients)) == expected


def small(count, kind=LSTM):
    return [kind(3, 4, seed=seed) for seed in range(count)]


def steps(rng, count, T=5, B=2, features=3):
    return [rng.standard_normal((T, B, features)).astype("float32") for _ in range(count)]


@pytest.mark.parametrize("names", [("native", "reference"), ("reference", "native")])
def test_a_way_back_is_the_backends_that_went_forward(rng, names):
    """Also that of windows, which go forward once more by the one in use, and of several layers."""
    networks = [Sequential(GRU(2, 3, seed=0), Mean(), bptt_steps=3), LSTM(2, 3, 2, dropout=0.5, seed=0)]
    x = [rng.normal(size=(8, 2, 2)).astype("float32") for _ in networks]
    with fastrnn.use_backend(names[0]):
        y, back = Parallel(copy.deepcopy(networks)).forward(x)
        ways = [each.forward(own)[-1] for each, own in zip(networks, x, strict=True)]
    with fastrnn.use_backend(names[1]):
        found, expected = back(y), [ways[0](y[0]), ways[1](y[1])[0]]
    assert found[0] is None and expected[0] is None
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("sizes", [[300], [200, 2, 2], [2, 300, 2, 250, 2], [60] * 5, [1] * 40])
def test_large_members_and_small_ones(threads, rng, sizes):
    """Some have all threads, some one each."""
    members = [GRU(3, size, seed=0) for size in sizes]
    x = steps(rng, len(sizes), T=9, B=8)
    expected = bits([member(each)[0] for member, each in zip(members, x, strict=True)])
    for count in (2, 3, 5):
        threads(count)
        assert bits(Parallel(members)(x)) == expected


def test_threads_are_dealt_whole_models(threads, rng):
    threads(2)
    parallel, x = Parallel(small(40)), steps(rng, 40, T=100, B=4)
    before = _core.config()["teams"]["team"]
    parallel(x)
    assert _core.config()["teams"]["team"] == before + 1


def test_a_member_that_comes_twice(rng):
    layer, x = LSTM(3, 4, seed=0), steps(rng, 2)
    parallel = Parallel([layer, layer])
    assert [*parallel.parameters] == [f"0.{name}" for name in layer.parameters]
    y, back = parallel.forward(x)
    back(y)
    together = parallel.take_gradients()
    for each in x:
        y, _, back = layer.forward(each)
        back(y)
    assert bits(together) == bits({f"0.{name}": array for name, array in layer.take_gradients().items()})


# -- errors


def network(seed=0, p=0.5):
    return Sequential(
        Embedding(7, 3, seed=seed),
        Dropout(p, seed=seed),
        LSTM(3, 4, seed=seed),
        Last(),
        Linear(4, 1, seed=seed),
    )


LIST = "must be a list with one for each of the 3 members, got"
WRONG = {  # of x, and what else is given
    "not a list": (lambda x: {"x": x[0]}, f"x {LIST} an array"),
    "too few": (lambda x: {"x": x[:2]}, f"x {LIST} 2"),
    "lengths": (lambda x: {"x": x, "lengths": [None]}, f"lengths {LIST} 1"),
    "one length": (lambda x: {"x": x, "lengths": 3}, f"lengths {LIST} 3 of type int"),
    "states": (lambda x: {"x": x, "state": (None,)}, f"state {LIST} 1"),
    "width": (lambda x: {"x": [*x[:2], x[2][..., :2]]}, "member 2: x must have shape (T, B, 3)"),
    "dtype": (lambda x: {"x": [*x[:2], x[2].astype("float64")]}, "member 2: x must have the layer's dtype"),
    "token": (lambda x: {"x": [x[0], x[1] + 7, x[2]]}, "member 1: x must be within"),
    "length": (lambda x: {"x": x, "lengths": [None, None, [1, 9]]}, "member 2: lengths must be within 0..T"),
    "return": (lambda x: {"x": x, "return_state": 1}, "return_state must be"),
}


@pytest.mark.parametrize("call", ["__call__", "forward"])
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_and_changes_nothing(what, call, rng, threads):
    """A dropout before the member that fails has drawn nothing."""
    threads(2)
    make, message = WRONG[what]
    members = [network(), network(1), LSTM(3, 4, seed=0)]
    parallel, untouched = Parallel(members), Parallel(copy.deepcopy(members))
    tokens = rng.integers(0, 7, (2, 5, 2))
    x = [*tokens, *steps(rng, 1)]
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        getattr(parallel, call)(**make(x))
    found, expected = ([*map(bits, each.forward(x)[0])] for each in (parallel, untouched))
    assert found == expected


def test_a_wrong_gradient_is_told_and_changes_nothing(rng):
    parallel, x = Parallel(small(3)), steps(rng, 3)
    y, back = parallel.forward(x)
    for dy, message in [
        (y[:2], "dy must be a list with one for each of the 3 members, got 2"),
        ([y[0], y[1], y[2][:3]], "member 2: dy must have shape"),
        ([y[0], None, y[2]], "member 1: dy must be an array of the shape of y, got None"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            back(dy)
        assert not parallel.gradients
    expected = Parallel(small(3)).forward(x)[1](y)
    assert bits(back(y)) == bits(expected)
    with pytest.raises(RuntimeError, match="member 0: back was called before"):
        back(y)


class Own(Sequential):
    def forward(self, x, *_, **__):
        return x, lambda dy: dy


@pytest.mark.parametrize(
    ("layers", "named", "message"),
    [
        (LSTM(3, 4), {}, "layers must be a list of layers, got LSTM"),
        (3, {}, "layers must be a list of layers, got 3"),
        (
            [LSTM(3, 4), Linear(3, 4)],
            {},
            r"member 1 must be a recurrent layer or a Sequential.*Linear\(3, 4\)",
        ),
        ([LSTM], {}, "part 0 must be a layer, got the class LSTM: call it"),
        ([Own(LSTM(3, 4))], {}, "member 0 must be a recurrent layer or a Sequential"),
        ([], {"a": Parallel(small(2))}, "member a must be a recurrent layer or a Sequential"),
        (small(2), {"1": LSTM(3, 4)}, "multiple values for keyword argument '1'"),
    ],
)
def test_what_is_no_member(layers, named, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Parallel(layers, **named)


def test_a_member_with_a_forward_of_its_own_is_refused():
    member = LSTM(3, 4)
    member.forward = functools.partial(member.forward, lengths=[2, 2])
    with pytest.raises(TypeError, match="member 0 must be a recurrent layer or a Sequential"):
        Parallel([member])


class Interrupted(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in destructors
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("members", "size", "shape"), [(8, 128, (100, 32, 64)), (500, 4, (20, 1, 3))])
def test_an_interrupt_leaves_all_as_it_was(threads, rng, count, members, size, shape):
    threads(count)
    T, B, features = shape
    parallel = Parallel(LSTM(features, size, seed=seed) for seed in range(members))
    x = steps(rng, members, T, B, features)
    y, back = parallel.forward(x)
    start = time.perf_counter()
    dx = back(y)
    took, expected = time.perf_counter() - start, bits(parallel.gradients)
    previous = signal.signal(signal.SIGALRM, interrupt)
    ended = 0
    try:
        for part in (0.5, 0.25, 0.1, 0.03, 0.01):  # the first may have taken longer than usual
            _, back = parallel.forward(x)
            signal.setitimer(signal.ITIMER_REAL, part * took)
            try:
                back(y)
                signal.setitimer(signal.ITIMER_REAL, 0)
                parallel.clear_gradients()
                again, back = parallel.forward(x)
                back(again)
            except Interrupted:
                ended += 1
            assert bits(parallel.gradients) == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert ended
    parallel.clear_gradients()
    y, back = parallel.forward(x)
    assert (bits(back(y)), bits(parallel.gradients)) == (bits(dx), expected)


def interrupt(*_):
    raise Interrupted


NO_MEMORY = """
import resource
import numpy as np
from fastrnn import _core
from fastrnn.layers import LSTM, Parallel

_core.insist_on_teams(True)
_core.set_cache_limit(0)
_core.set_num_threads({threads})
layers = [LSTM(1, 4, seed=0), LSTM(1, 64, 2, proj_size=1, seed=0), LSTM(1, 4, seed=0)]
parallel = Parallel(layers)
few = [np.ones((3, 2, 1), "float32")] * 3
y, back = parallel.forward(few)
back(y)
before = [array.tobytes() for array in parallel.gradients.values()]
rows = [few[0], np.broadcast_to(np.float32(1), (3, 20_000, 1)), few[2]]
y, back = parallel.forward(rows)
pages = int(open("/proc/self/statm").read().split()[0])
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (2 << 20), limits[1]))
for call in (lambda: parallel(rows), lambda: parallel.forward(rows), lambda: back(y)):
    try:
        call()
    except MemoryError:
        print("none", end=" ")
    assert [array.tobytes() for array in parallel.gradients.values()] == before
resource.setrlimit(resource.RLIMIT_AS, limits)
assert [a.tobytes() for a in parallel(few)] == [layer(x)[0].tobytes() for layer, x in zip(layers, few)]
print("done")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_where_there_is_no_memory_all_is_as_before(threads):
    command = [sys.executable, "-c", NO_MEMORY.format(threads=threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
    assert (done.returncode, done.stdout) == (0, "none none none done\n"), done.stderr


# -- as other layers


def test_parameters_are_named_by_their_members():
    parallel = Parallel([RNN(2, 3, seed=0)], berlin=Sequential(GRU(2, 3, seed=0), Last()))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    assert [*parallel.parameters] == [f"{part}.{name}" for part in ("0", "berlin.0") for name in names]
    assert parallel.berlin is parallel.parts["berlin"]
    with pytest.raises(ValueError, match="member berlin: x must have shape"):
        parallel([np.ones((1, 1, 2), "float32")] * 1 + [np.ones((1, 1, 3), "float32")])
    with pytest.raises(RuntimeError, match=r"Parallel has no gradients of 0\.weight_ih_l0"):
        parallel.take_gradients()


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_a_step_of_an_optimizer_over_all_is_one_of_each(kind, rng):
    members = [LSTM(3, 4, seed=0), Sequential(GRU(3, 5, seed=0), Tanh(), Linear(5, 2, seed=0))]
    alone, x = copy.deepcopy(members), steps(rng, 2)
    parallel = Parallel(members)
    optimizer = kind(parallel.parameters, lr=0.1)
    others = [kind(member.parameters, lr=0.1) for member in alone]
    for _ in range(3):
        y, back = parallel.forward(x)
        back(y)
        optimizer.step(parallel.take_gradients())
        for member, each, other in zip(alone, x, others, strict=True):
            y, *_, back = member.forward(each)
            back(y)
            other.step(member.take_gradients())
    for member, other in zip(members, alone, strict=True):
        assert bits(member.state_dict()) == bits(other.state_dict())


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "file", "state_dict"])
def test_copies(way, rng, tmp_path):
    parallel = Parallel([LSTM(3, 4, seed=0), GRU(3, 2, seed=1)], third=Sequential(RNN(3, 2, seed=2), Last()))
    x = steps(rng, 3)
    if way == "file":
        parallel.save(tmp_path / "all")
        other = fastrnn.load(tmp_path / "all")
    elif way == "state_dict":
        other = Parallel([LSTM(3, 4, seed=7), GRU(3, 2, seed=7)], third=Sequential(RNN(3, 2, seed=7), Last()))
        other.load_state_dict(parallel.state_dict())
    else:
        other = copy.deepcopy(parallel) if way == "deepcopy" else pickle.loads(pickle.dumps(parallel))
    assert repr(other) == repr(parallel)
    assert bits(other(x)) == bits(parallel(x))
    optimizer = SGD(other.parameters, lr=1.0)
    y, back = other.forward(x)
    back(y)
    optimizer.step(other.take_gradients())
    assert all((a != b).any() for a, b in zip(other(x), parallel(x), strict=True))


def test_sequences_start_anew(rng):
    members = [LSTM(3, 4, seed=0), Sequential(GRU(3, 4, seed=0), Tanh())]
    x, starts = steps(rng, 2), rng.random((5, 2)) < 0.5
    y, back = Parallel(members).forward(x, starts=[starts, None])
    assert bits(y) == bits([members[0](x[0], starts=starts)[0], members[1](x[1])])
    expected = [each.forward(own)[-1](dy) for each, own, dy in zip(members, x, y, strict=True)]
    assert bits(back(y)[1]) == bits(expected[1])


class Ensemble(Parallel):
    """The mean of members that each learn by themselves."""

    def loss(self, batch, state, *, training):
        x = batch.x.padded()[0]
        everyone = [x] * len(self.parts)
        y, back = self.forward(everyone) if training else (self(everyone), None)
        losses, gradients = zip(*(mean_squared_error(each, batch.y.padded()[0]) for each in y), strict=True)
        if training:
            back(list(gradients), input_gradient=False)
        return float(np.mean(losses)), len(batch), None


def test_an_ensemble_learns_by_fit(rng):
    """Each as it does alone, as long as nothing is taken of all: no clipping, no stopping."""
    X = rng.standard_normal((20, 6, 3)).astype("float32")
    y = X.cumsum(axis=1)[..., :1]
    members = [Sequential(LSTM(3, 4, seed=seed), Linear(4, 1, seed=seed)) for seed in range(3)]
    alone = copy.deepcopy(members)
    fit(Ensemble(members), (X, y), epochs=3, seed=0)
    for member, other in zip(members, alone, strict=True):
        fit(other, (X, y), loss="mean_squared_error", epochs=3, seed=0)
        assert bits(member.state_dict()) == bits(other.state_dict())


def test_sequences_have_their_lengths(rng):
    rows = [rng.standard_normal((length, 3)).astype("float32") for length in (4, 2, 6)]
    member = Sequential(LSTM(3, 4, seed=0), Last())
    x = data.Sequences(rows)
    assert bits(Parallel([member, member])([x, x])) == bits([member(x)] * 2)
