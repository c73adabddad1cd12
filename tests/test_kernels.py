"""The native kernels against the float64 reference: cells, dtypes, ISAs, sizes and numbers of threads."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from cells import FORMS, backward, flat, forward

from fastrnn import reference
from fastrnn.arrays import Arrays
from fastrnn.reference import Call, Options, Parameters

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")

CELLS = list(FORMS)
DTYPES = ["float32", "float64"]
# Largest error in units of the result's largest entry: sums of some hundred terms, over tens of steps.
TOLERANCE = {"float32": 1e-5, "float64": 2e-14}

# One, one lane less and more than a vector of any ISA holds (2, 4, 8, 16), primes, and 257.
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 33, 257]


def each(name, values, step):
    """Every form of a cell with all values; with some, if what is compiled for it is another's as well."""
    pairs = []
    for cell in CELLS:
        shared = FORMS[cell].projected or FORMS[cell].facts.options
        pairs += [(cell, value) for value in (values[::step] if shared else values)]
    return pytest.mark.parametrize(f"cell, {name}", pairs)


class Problem:
    """Random arguments of one call, forward and backward."""

    def __init__(
        self, cell, dtype, T, B, I, H, *, lengths=False, reverse=False, tokens=False, mask=False, seed=0
    ):
        rng = np.random.default_rng([T, B, I, H, lengths, reverse, seed])
        self.form, self.reverse, self.rng = FORMS[cell], reverse, rng

        def normal(*shape):
            return rng.normal(size=shape).astype(dtype)

        self.x = rng.integers(0, I, (T, B)) if tokens else normal(T, B, I)
        weights = self.form.parameters(I, H, lambda shape: normal(*shape))
        self.parameters = weights._replace(
            w_ih=weights.w_ih / np.sqrt(I).astype(dtype),
            w_hh=weights.w_hh * np.array(0.5 / np.sqrt(H), dtype),
        )
        widths = self.form.widths(H)
        self.states = tuple(normal(B, width) for width in widths)
        self.lengths = rng.integers(0, T + 1, B) if lengths else None
        self.dy = normal(T, B, widths[0])
        self.dstates = tuple(normal(B, width) for width in widths)
        self.mask = (rng.integers(0, 3, (B, widths[0])) / 2).astype(dtype) if mask else None

    def call(self, convert=lambda a: a, **options):
        *weights, vectors, _ = self.parameters
        weights = [None if array is None else convert(array) for array in weights]
        call = Call(
            self.form.cell,
            self.x if self.x.ndim == 2 else convert(self.x),
            Parameters(*weights, tuple(map(convert, vectors))),
            tuple(map(convert, self.states)),
            self.lengths,
            self.reverse,
            mask=None if self.mask is None else convert(self.mask),
            options=self.form.options,
        )
        return call._replace(**options)

    def run(self, backend, convert=lambda a: a, **options):
        """All results of forward and backward, in one flat list."""
        y, states_n, reserve = forward(backend, self.call(convert, training=True, **options))
        dhidden = np.zeros_like(y)
        dstates = tuple(map(convert, self.dstates))
        gradients = backward(backend, reserve, convert(self.dy), dstates, dhidden=dhidden)
        return [y, *states_n, *flat(gradients), dhidden]

    def tolerance(self, dtype):
        """Normalisation multiplies rounding by one over a deviation, which in a small row is near 0."""
        return TOLERANCE[dtype] * (200 if "layer_norm" in self.form.cell else 1)

    def truth(self):
        return self.run(reference, lambda a: a.astype(np.float64))

    def infer(self):
        y, states_n, reserve = forward(_core, self.call())
        assert reserve is None
        return [y, *states_n]


def assert_close(results, truth, tolerance):
    assert len(results) == len(truth)
    for k, (a, b) in enumerate(zip(results, truth, strict=True)):
        assert a.shape == b.shape, k
        scale = max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=f"result {k}")


def assert_same_bits(results, others):
    for k, (a, b) in enumerate(zip(results, others, strict=True)):
        assert a.tobytes() == b.tobytes(), f"result {k}"


def test_the_cells_are_those_of_the_reference():
    assert set(_core.cells()) == set(reference.CELLS)


@pytest.mark.parametrize("dtype", DTYPES)
@each("size", SIZES, 5)
def test_awkward_sizes(isa, cell, dtype, size):
    """Each letter in turn takes the size; lengths and direction alternate."""
    small = {"T": 3, "B": 2, "I": 3, "H": 5}
    for k, letter in enumerate(small):
        shape = {**small, letter: size}
        problem = Problem(cell, dtype, *shape.values(), lengths=bool(k & 1), reverse=bool(size & 1))
        assert_close(problem.run(_core), problem.truth(), problem.tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@each("way", [*itertools.product([False, True], repeat=3)], 3)
def test_lengths_directions_and_tokens(isa, cell, dtype, way):
    lengths, reverse, tokens = way
    problem = Problem(cell, dtype, 9, 11, 18, 21, lengths=lengths, reverse=reverse, tokens=tokens)
    assert_close(problem.run(_core), problem.truth(), problem.tolerance(dtype))


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (4, 0, 2, 2), (0, 0, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("cell", CELLS)
def test_nothing_to_do(cell, shape):
    problem = Problem(cell, "float32", *shape, lengths=True)
    assert_close(problem.run(_core), problem.truth(), problem.tolerance("float32"))


@pytest.mark.parametrize("lengths", [(0, 0, 0), (2, 0, 1), (3, 3, 3)])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_what_memory_held_before_does_not_show(cell, tokens, lengths):
    """Large arrays lie where those of an earlier call were."""
    problem = Problem(cell, "float32", 3, 3, 200, 130, lengths=True, tokens=tokens)
    problem.lengths[:] = lengths
    truth = problem.truth()
    _spoil_memory(problem)
    assert_close(problem.run(_core), truth, problem.tolerance("float32"))


def _spoil_memory(problem):
    dy, problem.dy = problem.dy, np.full_like(problem.dy, np.nan)
    parameters = problem.parameters
    problem.parameters = parameters._replace(w_hh=np.full_like(parameters.w_hh, np.nan))
    problem.run(_core)
    problem.dy, problem.parameters = dy, parameters


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_what_memory_held_before_does_not_show_in_linear(rng, rows):
    w = rng.normal(size=(150, 130)).astype("float32")
    _core.linear_backward(np.full((1000, 130), np.nan, "float32"), w, np.full((1000, 150), np.nan, "float32"))
    x, dy = (rng.normal(size=(rows, n)).astype("float32") for n in (130, 150))
    truth = reference.linear_backward(*(a.astype(np.float64) for a in (x, w, dy)))
    assert_close(_core.linear_backward(x, w, dy), truth, TOLERANCE["float32"])


# By rows with an equal and an unequal share; by units; the recurrence on one thread beside others that wait.
# Ragged batches go from one to the next as rows end.
# All are large enough to be given to several threads, whatever the cell.
SPLITS = [(30, 24, 40, 40), (60, 13, 33, 47), (120, 3, 20, 70), (40, 1, 5, 257), (1000, 2, 24, 24)]


# Each dtype with rows that end together, and with ragged ones, of floats or of tokens.
RAGGED = [
    ("float32", False, False),
    ("float64", False, False),
    ("float32", True, True),
    ("float64", True, False),
]


@each("shape", SPLITS, 3)
@pytest.mark.parametrize("dtype, lengths, tokens", RAGGED)
def test_the_same_bits_for_any_number_of_threads(threads, isa, cell, dtype, shape, lengths, tokens):
    problem = Problem(cell, dtype, *shape, lengths=lengths, tokens=tokens)
    threads(1)
    alone, inferred = problem.run(_core), problem.infer()
    assert_same_bits(alone[: len(inferred)], inferred)
    for count in (2, 3):
        threads(count)
        assert_same_bits(problem.run(_core), alone)
        assert_same_bits(problem.infer(), inferred)


def test_the_same_bits_where_weights_outgrow_a_cache(threads):
    """Then units are split although there are rows enough."""
    problem = Problem("lstm", "float64", 3, 16, 3, 340, lengths=True)
    threads(1)
    alone = problem.run(_core)
    assert_close(alone, problem.truth(), problem.tolerance("float64"))
    for count in (2, 3):
        threads(count)
        assert_same_bits(problem.run(_core), alone)


@pytest.mark.parametrize("hidden, lengths", [(16, False), (50, True)])
@pytest.mark.parametrize("cell", CELLS)
def test_more_threads_than_rows_or_units(threads, isa, cell, hidden, lengths):
    """Some members have nothing to do."""
    problem = Problem(cell, "float32", 40, 16, 300, hidden, lengths=lengths)
    threads(1)
    alone, inferred = problem.run(_core), problem.infer()
    for count in (5, 9, 33):
        threads(count)
        assert_same_bits(problem.run(_core), alone)
        assert_same_bits(problem.infer(), inferred)


# Groups of rows whose members share the units; fewer members than threads; from one to the other as rows end.
GRIDS = [(30, 64, 40, 100), (25, 3, 40, 130), (9, 40, 130, 300), (60, 6, 20, 250), (300, 1, 300, 50)]


@each("shape", GRIDS, 3)
@pytest.mark.parametrize("lengths, reverse", [(False, False), (True, True)])
def test_the_same_bits_for_many_threads(threads, cell, shape, lengths, reverse):
    problem = Problem(cell, "float32", *shape, lengths=lengths, reverse=reverse)
    threads(1)
    alone, inferred = problem.run(_core), problem.infer()
    for count in (16, 64):
        threads(count)
        assert_same_bits(problem.run(_core), alone)
        assert_same_bits(problem.infer(), inferred)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_gives_the_same_bits_for_many_threads(threads, rng, dtype):
    x, w, dy = (rng.normal(size=shape).astype(dtype) for shape in ((1500, 150), (170, 150), (1500, 170)))
    threads(1)
    y, gradients = _core.linear(x, w, None), _core.linear_backward(x, w, dy)
    for count in (16, 64):
        threads(count)
        assert_same_bits([_core.linear(x, w, None), *_core.linear_backward(x, w, dy)], [y, *gradients])


# Backward goes in blocks of 512 rows: part of one, one, a step more, some and a part, a step each; nothing.
BLOCKS = [
    (9, 11, 18, 21),
    (32, 16, 3, 5),
    (33, 16, 3, 17),
    (150, 11, 18, 21),
    (513, 1, 5, 16),
    (3, 600, 2, 7),
    (0, 3, 2, 2),
    (4, 0, 2, 2),
    (1, 1, 1, 1),
]


# Each three of a dtype, lengths, direction and tokens, in half of all combinations of the four.
HALF = [
    (dtype, lengths, reverse, (dtype == "float64") ^ lengths ^ reverse)
    for dtype in DTYPES
    for lengths in (False, True)
    for reverse in (False, True)
]


@each("shape", BLOCKS, 3)
@pytest.mark.parametrize("dtype, lengths, reverse, tokens", HALF)
def test_what_is_recomputed_has_the_same_bits(isa, cell, dtype, shape, lengths, reverse, tokens):
    problem = Problem(cell, dtype, *shape, lengths=lengths, reverse=reverse, tokens=tokens)
    assert_same_bits(problem.run(_core, recompute=True), problem.run(_core))


@each("shape", SPLITS, 3)
@pytest.mark.parametrize("dtype, lengths, tokens", RAGGED)
def test_threads_recompute_the_same_bits(threads, cell, dtype, shape, lengths, tokens):
    problem = Problem(cell, dtype, *shape, lengths=lengths, tokens=tokens)
    threads(1)
    alone = problem.run(_core)
    for count in (1, 2, 3):
        threads(count)
        assert_same_bits(problem.run(_core, recompute=True), alone)


# By rows, by units and one thread alone; one block of backward and several; a size that fills no vector.
MASKED = [(9, 11, 18, 21), (60, 13, 33, 47), (120, 3, 20, 70), (513, 1, 5, 16), (4, 0, 2, 2), (0, 3, 2, 2)]


@each("shape", MASKED, 3)
@pytest.mark.parametrize("dtype, lengths, reverse", [some[:3] for some in HALF if not some[3]])
def test_a_mask_of_h(threads, isa, cell, dtype, shape, lengths, reverse):
    problem = Problem(cell, dtype, *shape, lengths=lengths, reverse=reverse, mask=True)
    threads(1)
    alone = problem.run(_core)
    assert_close(alone, problem.truth(), 50 * problem.tolerance(dtype))
    for count in (1, 2, 3):
        threads(count)
        assert_same_bits(problem.run(_core), alone)
        assert_same_bits(problem.run(_core, recompute=True), alone)


@pytest.mark.parametrize("cell", CELLS)
def test_a_mask_of_ones_changes_nothing(isa, cell):
    """Forward not a bit; backward adds what comes through the product and past it in another order."""
    problem = Problem(cell, "float32", 20, 7, 5, 37, lengths=True)
    plain = problem.run(_core)
    problem.mask = np.ones(problem.states[0].shape, "float32")
    masked = problem.run(_core)
    forward = 1 + len(problem.states)
    assert_same_bits(masked[:forward], plain[:forward])
    assert_close(masked, plain, TOLERANCE["float32"])


@pytest.mark.parametrize("cell", CELLS)
def test_what_would_crash_is_refused(cell):
    problem = Problem(cell, "float32", 3, 2, 4, 5)
    with pytest.raises(ValueError, match="mask: wrong dtype, layout or shape"):
        forward(_core, problem.call(mask=np.ones((2, 4), "float32")))
    with pytest.raises(ValueError, match="all_c: wrong dtype, layout or shape"):
        forward(_core, problem.call(all_c=np.ones((3, 2, 5), "float64")))
    frozen = np.ones((3, 2, 5), "float32")
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        forward(_core, problem.call(all_c=frozen))


@each("shape", SPLITS, 3)
def test_threads_against_the_reference(threads, cell, shape):
    threads(3)
    problem = Problem(cell, "float64", *shape, lengths=True)
    # Hundreds of steps and up to a thousand summands: a longer sum than the other tests'.
    assert_close(problem.run(_core), problem.truth(), 50 * problem.tolerance("float64"))


LINEAR_SHAPES = [(0, 3, 2), (1, 1, 1), (5, 1, 17), (129, 16, 16), (130, 7, 5), (3, 33, 65), (700, 70, 103)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LINEAR_SHAPES)
def test_linear(threads, isa, rng, shape, dtype):
    """Against the reference, and the same bits for any number of threads; the last shape is split."""
    N, I, O = shape
    x, w, b, dy = (rng.normal(size=s).astype(dtype) for s in ((N, I), (O, I), (O,), (N, O)))
    wide = [a.astype(np.float64) for a in (x, w, b, dy)]
    threads(1)
    y, gradients = _core.linear(x, w, b), _core.linear_backward(x, w, dy)
    truth = [reference.linear(*wide[:3]), *reference.linear_backward(*wide[:2], wide[3])]
    assert_close([y, *gradients], truth, TOLERANCE[dtype])
    assert_close([_core.linear(x, w, None)], [reference.linear(*wide[:2])], TOLERANCE[dtype])
    for count in (2, 3):
        threads(count)
        assert_same_bits([_core.linear(x, w, b), *_core.linear_backward(x, w, dy)], [y, *gradients])
        layer = _core.Linear(Arrays({"weight": w, "bias": b}), Parameters(w, None, b))
        for _ in range(2):  # anew, and what was kept
            assert_same_bits([layer.run(x)], [y])


@pytest.mark.parametrize("cell", CELLS)
def test_a_row_does_not_depend_on_its_batch(isa, cell):
    problem = Problem(cell, "float32", 7, 23, 19, 37)
    y, *_ = problem.infer()
    for row in range(23):
        x = np.ascontiguousarray(problem.x[:, row : row + 1])
        states = tuple(s[row : row + 1].copy() for s in problem.states)
        alone, *_ = forward(_core, problem.call(x=x, states=states))
        assert alone.tobytes() == np.ascontiguousarray(y[:, row : row + 1]).tobytes()


@pytest.mark.parametrize("cut", [1, 50, 99])
@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_cut_in_two_gives_the_same_bits(isa, cell, cut):
    problem = Problem(cell, "float32", 100, 3, 19, 37)
    whole = problem.infer()
    y1, states, _ = forward(_core, problem.call(x=problem.x[:cut].copy()))
    y2, states, _ = forward(_core, problem.call(x=problem.x[cut:].copy(), states=states))
    assert_same_bits([np.concatenate([y1, y2]), *states], whole)


@pytest.mark.parametrize("cell", CELLS)
def test_not_a_number_stays_in_its_row(isa, cell):
    problem = Problem(cell, "float32", 5, 4, 6, 20)
    problem.x[2, 1, 0] = np.nan
    y, *_ = problem.infer()
    assert np.isnan(y[2:, 1]).all()
    assert np.isfinite(y[:, [0, 2, 3]]).all() and np.isfinite(y[:2]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_infinity_reaches_the_gates_bounds(isa, cell):
    problem = Problem(cell, "float32", 2, 1, 1, 5)
    problem.x[:] = np.inf
    for got, want in zip(problem.infer(), problem.truth(), strict=False):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["x", "state", "dy"])
@pytest.mark.parametrize("options", [{"coupled": True}, {"clip": 0.2}, {"output": "linear"}], ids=str)
def test_not_a_number_goes_as_far_as_in_the_reference(isa, options, place, value):
    """Neither further, through a peephole that is not there, nor less far, past a bound."""
    problem = Problem("lstm_any", "float64", 5, 4, 6, 20)
    problem.parameters = problem.parameters._replace(vectors=())
    problem.form = problem.form._replace(options=Options(**options))
    array = {"x": problem.x[2], "state": problem.states[1], "dy": problem.dy[3]}[place]
    array[1, 5] = value
    for k, (found, expected) in enumerate(zip(problem.run(_core), problem.run(reference), strict=True)):
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected), err_msg=f"result {k}")


@pytest.mark.parametrize("function", ["relu", "linear"])
def test_the_slope_at_infinity_is_that_of_the_function(isa, function):
    weights = Parameters(np.array([[2.0]]), np.array([[1.0]]))
    call = Call("rnn_any", np.array([[[np.inf]]]), weights, (None,), options=Options(state=function))
    for backend in (_core, reference):
        y, _, reserve = forward(backend, call._replace(training=True))
        assert backward(backend, reserve, np.ones_like(y), (None,)).x.item() == 2


def test_inputs_are_not_written(threads):
    threads(2)
    for cell in CELLS:
        problem = Problem(cell, "float32", 6, 24, 40, 40, lengths=True)
        arrays = [problem.x, *problem.parameters.arrays(), *problem.states, problem.dy, *problem.dstates]
        arrays.append(problem.lengths)
        before = [a.copy() for a in arrays]
        problem.run(_core)
        assert_same_bits(arrays, before)


def test_denormal_numbers_are_as_before_a_call(threads):
    """The kernels flush denormals, but only in themselves."""
    tiny = np.array([1e-40], np.float32)
    for count in (1, 2):
        threads(count)
        Problem("lstm", "float32", 6, 24, 40, 40).run(_core)
        assert (tiny * np.float32(0.5))[0] != 0


def test_calls_from_several_python_threads(threads):
    threads(2)
    problems = [Problem(cell, "float32", 6, 24, 40, 40, seed=k) for k, cell in enumerate(CELLS)]
    alone = [p.run(_core) for p in problems]
    results = [[] for _ in problems]

    def work(k):
        results[k] = [problems[k].run(_core) for _ in range(5)]

    workers = [threading.Thread(target=work, args=(k,)) for k in range(len(problems))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for k, runs in enumerate(results):
        assert len(runs) == 5
        for run in runs:
            assert_same_bits(run, alone[k])


SCRIPT = """
import numpy as np, os, sys
from fastrnn import lstm, set_num_threads
rng = np.random.default_rng(0)
def run():
    return lstm(x, w_ih, w_hh)[0]
x = rng.normal(size=(6, 24, 40)); w_ih, w_hh = rng.normal(size=(2, 160, 40)) / 9
set_num_threads(2)
"""


def run_script(body, **env):
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + body],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **env},
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same():
    """A thread pool does not survive a fork; the child must not wait for it."""
    done = run_script("""
before = run()
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(run(), before) and np.array_equal(run(), before) else 1)
    assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(run(), before)
print("same")
""")
    assert done.stdout == "same\n", done.stderr


RESERVES = """
from fastrnn.functional import lstm_forward
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
def growth(recompute):
    before = resident()
    kept.append(lstm_forward(x, w_ih, w_hh, recompute=recompute))
    return resident() - before
x = rng.normal(size=(4000, 8, 1)).astype("f4"); w_ih, w_hh = np.ones((256, 1), "f4"), np.ones((256, 64), "f4")
kept = [lstm_forward(x[:9], w_ih, w_hh)]
print(4 * growth(True) < growth(False))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_to_recompute_takes_a_small_part_of_the_memory():
    """y included: 8 MB, where keeping all takes 48."""
    done = run_script(RESERVES)
    assert done.stdout == "True\n", done.stdout + done.stderr


LONG_CALL = """
x = np.zeros((4000, 8, 8)); w_ih, w_hh = np.zeros((4096, 8)), np.zeros((4096, 1024))
print("ready", flush=True)
lstm(x, w_ih, w_hh)
"""


def test_interrupt_ends_a_long_call():
    """Ctrl-C is seen within a call, not after it: this one does 270 GFLOP."""
    command = [sys.executable, "-c", SCRIPT + LONG_CALL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate()[1]
    assert process.returncode != 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("I, O", [(1, 1), (7, 5), (16, 32), (33, 65), (300, 10_000)])
def test_few_rows_give_the_bits_of_many(threads, isa, rng, I, O, dtype):
    """Few are multiplied with the weights as they lie, many with packed ones; the last shape is split."""
    x, w, b = (rng.normal(size=s).astype(dtype) for s in ((9, I), (O, I), (O,)))
    b[::3], x[0], w[0] = -0.0, 0.0, -1.0
    for bias in (b, None):
        threads(1)
        y = _core.linear(x, w, bias)
        for rows in (1, 2, 3, 4, 5):
            for count in (1, 2) if O > 1000 else (1,):
                threads(count)
                for first in (0, 9 - rows):
                    some = slice(first, first + rows)
                    assert _core.linear(x[some], w, bias).tobytes() == y[some].tobytes()


# What a thread that is lost at the end of the process may be doing then.
AT_WORK = {
    "a layer": "layer = fastrnn.LSTM(64, 64, 2); work = lambda: layer(x)",
    "training": "layer = fastrnn.GRU(64, 64)\ndef work():\n  y, _, back = layer.forward(x)\n  back(y)",
    "two directions": "layer = fastrnn.RNN(64, 64, bidirectional=True); work = lambda: layer(x)",
    "many steps": "stream = fastrnn.LSTM(64, 64).stream(8); work = lambda: stream.step_many(x)",
    "long steps": "stream = fastrnn.LSTM(64, 512).stream(8); work = lambda: stream.step(x[0])",
    "linear": "layer = fastrnn.Linear(64, 300)\ndef work():\n  y, back = layer.forward(x)\n  back(y)",
    "a loss": "work = lambda: fastrnn.losses.softmax_cross_entropy(x, np.zeros(x.shape[:2], int))",
}


@pytest.mark.parametrize("work", AT_WORK)
def test_a_process_may_end_while_a_thread_is_at_work(work):
    done = run_script(f"""
import threading, time, fastrnn
x = np.ones((3000, 8, 64), "float32")
{AT_WORK[work]}
def forever():
    while True:
        work()
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.3)
""")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_equal_rows_add_up(isa, dtype):
    """A single sum of a million equal numbers is wrong by 1 % in float32."""
    n, tolerance = 1_000_000, {"float32": 1e-6, "float64": 1e-14}[dtype]
    dy = np.full((n, 2), [0.1, 1 / 3], dtype)
    *_, db = _core.linear_backward(np.ones((n, 1), dtype), np.ones((2, 1), dtype), dy)
    np.testing.assert_allclose(db, n * dy[0].astype(np.float64), rtol=tolerance)
    w_ih, w_hh, b = np.zeros((5, 1), dtype), np.zeros((5, 5), dtype), np.full(5, 0.3, dtype)
    x = np.zeros((1000, 1000, 1), dtype)
    y, _, reserve = forward(_core, Call("rnn_tanh", x, Parameters(w_ih, w_hh, b, b), (None,), training=True))
    gradients = backward(_core, reserve, np.full_like(y, 0.1), (None,)).parameters
    exact = n * 0.1 * (1 - np.float64(y[0, 0]) ** 2)
    for gradient in (gradients.b_ih, gradients.b_hh):
        np.testing.assert_allclose(gradient, exact, rtol=4 * tolerance)  # of which one summand has the most


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_sums_of_rows_become_what_one_of_them_is(isa, value):
    dy = np.ones((2000, 3), "float32")
    dy[5, 1] = value
    *_, db = _core.linear_backward(np.ones((2000, 1), "float32"), np.ones((3, 1), "float32"), dy)
    np.testing.assert_array_equal(db, [2000, value, 2000])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": np.array([[0, 3], [1, 1]])}, "x: out of range"),
        ({"x": np.array([[0, -1], [1, 1]])}, "x: out of range"),
        ({"lengths": np.array([1, 1, 1, 4])}, "lengths: out of range"),
        ({"lengths": np.array([-1, 1, 1, 1])}, "lengths: out of range"),
        ({"w_hh": np.ndarray((8, 2), "f8", bytearray(129), offset=1)}, "w_hh"),
        ({"w_hh": np.zeros((8, 3))}, "w_ih"),
        ({"w_ih": np.zeros((8, 3), np.float32)}, "dtype"),
        ({"x": np.zeros((4, 3, 2)).transpose(1, 0, 2)}, "x"),
        ({"cell": "transformer"}, "transformer"),
    ],
)
def test_the_binding_refuses_what_would_crash(change, message):
    x, w_ih, w_hh = np.zeros((3, 4, 3)), np.zeros((8, 3)), np.zeros((8, 2))
    weights = {"w_ih": w_ih, "w_hh": w_hh}
    parameters = Parameters(**{name: change.get(name, array) for name, array in weights.items()})
    call = Call("lstm", x, parameters, (None, None))
    with pytest.raises(ValueError, match=message):
        forward(
            _core, call._replace(**{name: value for name, value in change.items() if name not in weights})
        )


def test_the_binding_of_streams_refuses_what_would_crash():
    w_hh = np.zeros((8, 2))
    first, second = Parameters(np.zeros((8, 3)), w_hh), Parameters(np.zeros((8, 2)), w_hh)
    table, head = Parameters(np.zeros((9, 3)), None), Parameters(np.zeros((5, 2)), None, np.zeros(5))
    stream = _core.Stream([("lstm", [first, second])], 1)
    assert stream.steps(np.array([[0], [3]])) is None
    for wrong in (stream, _core.Stream.__new__(_core.Stream)):
        with pytest.raises(TypeError):
            wrong.step(*([np.array([0])] if wrong is stream else [np.array([0]), None]))
    other = Parameters(np.zeros((12, 2)), np.zeros((12, 3)))
    for stages, message in [
        ([("lstm", [first, first])], "does not fit"),
        ([("lstm", [first, other])], "does not fit"),
        ([("lstm", [first]), ("embedding", [table])], "does not fit"),
        ([("embedding", [table]), ("linear", [head])], "does not fit"),
        (
            [("lstm", [first]), ("linear", [Parameters(np.zeros((5, 2), "f4"), None)])],
            "weight: wrong dtype",
        ),
        (
            [("lstm", [first]), ("linear", [Parameters(np.zeros((5, 2)), None, np.zeros(4))])],
            "bias: wrong dtype",
        ),
        ([("lstm", [Parameters(np.zeros((9, 3)), w_hh)])], "w_ih: wrong dtype"),
        ([("lstm", [table])], "w_hh: missing"),
        ([("lstm", [first]), ("linear", [])], "a stage needs a layer"),
        ([], "a stream needs a layer"),
        ([("transformer", [first])], "transformer"),
    ]:
        with pytest.raises(ValueError, match=message):
            _core.Stream(stages, 1)
    for stages, x in [
        ([("embedding", [table]), ("lstm", [first])], np.array([[9]])),
        ([("embedding", [table]), ("lstm", [first])], np.zeros((1, 1, 9))),
        ([("linear", [head])], np.array([[0]])),
    ]:
        stream = _core.Stream(stages, 1)
        assert stream.steps(x) is None
        assert stream.step(x[0], None) is None


def test_the_binding_refuses_a_reserve_that_is_used():
    x, w_ih, w_hh = np.zeros((3, 4, 3)), np.zeros((8, 3)), np.zeros((8, 2))

    def reserve_of():
        return forward(_core, Call("lstm", x, Parameters(w_ih, w_hh), (None, None), training=True))[2]

    reserve = reserve_of()
    with pytest.raises(RuntimeError, match="used before"):
        _core.backward_all([(reserve, None, (None, None), True, None)] * 2)
    reserve = reserve_of()
    backward(_core, reserve, None, (None, None))
    with pytest.raises(RuntimeError, match="used before"):
        backward(_core, reserve, None, (None, None))
