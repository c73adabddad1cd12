"""Stacks in training, with only arrays between `train` and `back`; packed sequences against padded ones."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from cells import FORMS, members
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import reference, use_backend
from fastrnn.backend import kernels
from fastrnn.checks import Array
from fastrnn.functional import Options, Parameters, stack

SIZES = [np.array(sizes) for sizes in ([4, 4, 3, 1, 1], [3, 3], [1] * 6, [5])]
every_form = pytest.mark.parametrize("cell", FORMS)


class Problem(NamedTuple):
    """Arguments of a stack: packed, or the same padded."""

    stack: Any
    x: Array
    state: Any
    lengths: Array | None
    batch_sizes: Array | None
    batch_first: bool
    dy: Array
    dstate: Any

    @property
    def arguments(self):
        return self.x, self.state, self.lengths, self.batch_sizes, self.batch_first

    def train(self, **options):
        return self.stack.train(*self.arguments, **options)

    def back(self, memory, y, *, again=False, **options):
        gradients = self.dy, self.dstate, True, again
        return self.stack.back(memory, y, *self.arguments, *gradients, **options)


def problem(cell, sizes, *, I=3, H=5, layers=2, directions=2, tokens=False, dtype="float32"):
    rng, form = np.random.default_rng(0), FORMS[cell]
    N, B, widths = sizes.sum(), sizes[0], form.widths(H)

    def normal(*shape):
        return rng.normal(scale=0.5, size=shape).astype(dtype)

    places = [
        form.parameters(directions * widths[0] if layer else I, H, lambda shape: normal(*shape))
        for layer in range(layers)
        for _ in range(directions)
    ]
    stack = kernels().Stack(None, form.cell, places, directions, form.options)
    x = rng.integers(0, I, N) if tokens else normal(N, I)
    states = [tuple(normal(len(places), B, width) for width in widths) for _ in range(2)]
    state, dstate = (each if len(each) > 1 else each[0] for each in states)
    return Problem(stack, x, state, None, sizes, False, normal(N, directions * widths[0]), dstate)


def padded(problem, *, batch_first=False, order=slice(None)):
    """The same with padding, and perhaps with its sequences in another order."""
    rows = places(problem, batch_first, order)
    lengths = np.ascontiguousarray(reference.lengths_of(problem.batch_sizes)[order])
    x, dy = (fill(problem, array, rows, batch_first) for array in (problem.x, problem.dy))
    state, dstate = (
        tuple(np.ascontiguousarray(member[:, order]) for member in members(each))
        for each in (problem.state, problem.dstate)
    )
    if len(state) == 1:
        (state,), (dstate,) = state, dstate
    return Problem(problem.stack, x, state, lengths, None, batch_first, dy, dstate)


def places(problem, batch_first=False, order=slice(None)):
    """Where a padded array has the packed rows."""
    sizes = problem.batch_sizes
    t = np.repeat(np.arange(len(sizes)), sizes)
    b = np.argsort(np.arange(sizes[0])[order])[np.concatenate([np.arange(size) for size in sizes])]
    return (b, t) if batch_first else (t, b)


def fill(problem, array, rows, batch_first):
    T, B = len(problem.batch_sizes), problem.batch_sizes[0]
    made = np.zeros(((B, T) if batch_first else (T, B)) + array.shape[1:], array.dtype)
    made[rows] = array
    return made


def flat(results):
    """All arrays of nested results."""
    if isinstance(results, (tuple, list)):
        return [array for each in results for array in flat(each)]
    return [] if results is None else [results]


def assert_same(found, expected):
    for k, (a, b) in enumerate(zip(flat(found), flat(expected), strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=f"result {k}")


def assert_close(found, expected):
    for k, (a, b) in enumerate(zip(flat(found), flat(expected), strict=True)):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-5 * max(1, np.abs(b).max()), err_msg=f"result {k}")


@every_form
@pytest.mark.parametrize("tokens", [False, True])
def test_packed_sequences_are_the_padded_ones(backend, cell, tokens):
    # NumPy's products round as their rows are put together.
    same = assert_same if backend == "native" else assert_close
    turned = slice(None, None, -1)
    for k, sizes in enumerate(SIZES):
        packed = problem(cell, sizes, tokens=tokens, dtype=["float32", "float64"][k % 2])
        other = padded(packed, batch_first=k == 1, order=turned)
        rows = places(packed, k == 1, turned)
        y, state_n, memory = packed.train()
        z, other_n, room = other.train()
        same((y, *members(state_n)), (z[rows], *(member[:, ::-1] for member in members(other_n))))
        assert_same(packed.stack.run(*packed.arguments), (y, state_n))
        dx, arrays, dstate = packed.back(memory, y)
        du, others, dother = other.back(room, z)
        same(
            (dx, *members(dstate)),
            (None if tokens else du[rows], *(each[:, ::-1] for each in members(dother))),
        )
        assert_close(arrays, others)  # whose sums go over the sequences in another order


@every_form
def test_the_way_back_needs_nothing_but_arrays(backend, cell):
    """The memory is as large as is said, has the same numbers each time, and serves from elsewhere, again."""
    for k, sizes in enumerate(SIZES):
        dtype = np.dtype(["float32", "float64"][k % 2])
        one = problem(cell, sizes, H=[5, 16, 17, 8][k], dtype=dtype)
        y, _, memory = one.train()
        same = one.train()[2]
        np.testing.assert_array_equal(memory, same)
        form, H = FORMS[cell], [5, 16, 17, 8][k]
        P = form.widths(H)[0] if form.projected else 0
        per_row, per_sequence = kernels().train_memory(form.cell, dtype, H, P, 2, 2)
        assert memory.size == per_row * sizes.sum() + per_sequence * sizes[0]
        assert memory.dtype == dtype and memory.flags.writeable and y.flags.writeable
        copy = np.empty(memory.size + 1, dtype)[1:]
        copy[...] = memory
        copy.flags.writeable = False
        expected = one.back(memory, y)
        for _ in range(2):
            assert_same(one.back(copy, y.copy(), again=True), expected)
        np.testing.assert_array_equal(copy, same)


@given(
    cell=st.sampled_from(list(FORMS)),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    I=st.integers(1, 9),
    H=st.integers(1, 20),
    layers=st.integers(1, 3),
    directions=st.integers(1, 2),
    tokens=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=60)
def test_native_packed_sequences_are_the_reference_s(cell, lengths, I, H, layers, directions, tokens, dtype):
    pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    sizes = np.count_nonzero(np.array(lengths)[:, None] > np.arange(max(lengths)), axis=0)
    np.testing.assert_array_equal(reference.lengths_of(sizes), np.sort(lengths)[::-1])
    options = {"I": I, "H": H, "layers": layers, "directions": directions, "tokens": tokens}
    results = []
    for backend in "native", "reference":
        with use_backend(backend):
            one = problem(cell, sizes, dtype=dtype if backend == "native" else "float64", **options)
            y, state_n, memory = one.train()
            results.append((y, state_n, one.back(memory, y)))
    tolerance = {"float32": 1e-5, "float64": 1e-13}[dtype] * (300 if "layer_norm" in cell else 10)
    for k, (a, b) in enumerate(zip(*map(flat, results), strict=True)):
        scale = max(1.0, np.abs(b).max(initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=f"result {k}")


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, True)])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "lstm projected"])
def test_equals_pytorch_s_packed_sequences(backend, kind, layers, bidirectional, tokens):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    I, H, P = 4, 6, 3 if "projected" in kind else 0
    options = {"num_layers": layers, "bidirectional": bidirectional, "dtype": torch.float64}
    module = getattr(torch.nn, kind.split()[0].upper())(I, H, **options, **({"proj_size": P} if P else {}))
    lengths = [3, 5, 1, 5, 2]
    given = [torch.randint(I, (n,)) if tokens else torch.randn(n, I, dtype=torch.float64) for n in lengths]
    packed = torch.nn.utils.rnn.pack_sequence(given, enforce_sorted=False)
    x = packed.data
    one_hot = torch.nn.functional.one_hot(x, I).double() if tokens else x.requires_grad_()
    y, state_n = module(packed._replace(data=one_hot))
    h_n, *c_n = [member[:, packed.sorted_indices] for member in members(state_n)]
    dy, dh = torch.randn_like(y.data), torch.randn_like(h_n)
    ((y.data * dy).sum() + (h_n * dh).sum()).backward()

    cell = {"rnn": "rnn_tanh"}.get(kind, kind.split()[0])
    arrays = [weight.detach().numpy() for weight in module.parameters()]
    each = len(arrays) // (layers * (1 + bidirectional))
    parameters = [Parameters(*arrays[k : k + each]) for k in range(0, len(arrays), each)]
    options = {"batch_sizes": packed.batch_sizes.numpy(), "bidirectional": bidirectional}
    z, end_n, reserve = stack.forward(cell, x.detach().numpy(), parameters, **options)
    found = stack(cell, x.detach().numpy(), parameters, **options)
    for results in (z, *members(end_n)), (found[0], *members(found[1])):
        for a, b in zip(results, (y.data, h_n, *c_n), strict=True):
            np.testing.assert_allclose(a, b.detach(), rtol=0, atol=1e-14)
    dx, gradients, *_ = stack.backward(reserve, dy.numpy(), (dh.numpy(), None) if c_n else dh.numpy())
    expected = [weight.grad for weight in module.parameters()]
    pairs = [*zip([a for each in gradients for a in each.arrays()], expected, strict=True)]
    for a, b in pairs if tokens else [*pairs, (dx, x.grad)]:
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"batch_sizes": [3, 0, 1]},
            ValueError,
            "batch_sizes must be within 1..N = 1..4, got batch_sizes[1] = 0",
        ),
        ({"batch_sizes": [1, 3]}, ValueError, "batch_sizes must not increase, got 1 and then 3 at step 1"),
        ({"batch_sizes": [2, 1]}, ValueError, "batch_sizes must add up to the rows of x, N = 4, got 3"),
        ({"batch_sizes": []}, ValueError, "batch_sizes must add up to the rows of x, N = 4, got 0"),
        ({"batch_sizes": [3.0, 1.0]}, TypeError, "batch_sizes must be an integer array of shape (T,)"),
        ({"batch_sizes": [[3], [1]]}, ValueError, "batch_sizes must have shape (T,), got (2, 1)"),
        ({"batch_sizes": 4}, ValueError, "batch_sizes must have shape (T,), got ()"),
        ({"lengths": [2, 1, 1]}, ValueError, "batch_sizes must be left out with lengths"),
        ({"batch_first": True}, ValueError, "batch_sizes must be left out with batch_first"),
        ({"x": np.ones((4, 1, 3), "f4")}, ValueError, "x must have shape (N, 3), got (4, 1, 3)"),
        ({"x": np.array([0, 1, 2, 3])}, ValueError, "x must be within 0..V-1 = 0..2"),
        ({"state": np.ones((1, 2, 2), "f4")}, ValueError, "state must have shape (1, 3, 2), got (1, 2, 2)"),
    ],
)
def test_bad_input_is_refused(backend, change, error, words):
    parameters = [Parameters(np.ones((2, 3), "f4"), np.ones((2, 2), "f4"))]
    arguments = {"x": np.ones((4, 3), "f4"), "batch_sizes": [3, 1], **change}
    for call in stack, stack.forward:
        with pytest.raises(error) as found:
            call("rnn_tanh", parameters=parameters, **arguments)
        assert words in str(found.value)


def test_a_stack_declines_what_is_not_plain(backend):
    one = problem("lstm", SIZES[0])
    y, _, memory = one.train()
    frozen = memory.copy()
    frozen.flags.writeable = False
    sizes = one.batch_sizes
    for change in (
        {"batch_sizes": sizes.astype("int32")},
        {"batch_sizes": sizes[::-1].copy()},
        {"batch_sizes": sizes[:-1].copy()},
        {"batch_sizes": np.array([4, 4, 4, 1, 0])},
        {"batch_sizes": np.array([2**62, 2**62, 2**62, 2**62, 13])},
        {"batch_sizes": sizes.tolist()},
        {"lengths": np.full(4, 3)},
        {"x": one.x[:, None]},
        {"x": one.x.tolist()},
        {"state": one.dy},
    ):
        other = one._replace(**change)
        assert other.train() is None and one.stack.run(*other.arguments) is None
        assert other.back(memory, y, again=True) is None
    assert one._replace(dy=one.dy[1:]).back(memory, y) is None
    if backend == "native":  # the reference needs neither
        for room in (memory[1:], frozen, memory.astype("f8"), memory.tolist(), None):
            assert one.back(room, y) is None
        assert one.back(memory, y[1:]) is None
    assert_same(one.back(memory, y), one.back(one.train()[2], y))


def test_a_stack_of_memory_that_is_another_library_s(backend):
    """Nobody knows who writes to it: so what is kept of it goes by its numbers."""
    torch = pytest.importorskip("torch")

    class Owner:
        _handed_out = object()

    weights = [torch.randn(shape) for shape in ((20, 3), (20, 5), (20,), (20,))]
    parameters = [Parameters(*(weight.numpy() for weight in weights))]
    kept = kernels().Stack(Owner(), "lstm", parameters, 1, Options())
    x = np.ones((4, 2, 3), "float32")
    for _ in range(3):
        fresh = kernels().Stack(None, "lstm", parameters, 1, Options())
        for _ in range(2):
            assert_same(kept.run(x, None, None, None, False), fresh.run(x, None, None, None, False))
        weights[1][7, 3] += 1
    if backend == "native":
        with pytest.raises(TypeError, match="owner: has no _handed_out"):
            kernels().Stack(object(), "lstm", parameters, 1, Options())


def test_a_stack_takes_and_returns_tensors_where_it_is_told_of_them():
    torch = pytest.importorskip("torch")
    pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    one = problem("lstm", SIZES[0])
    expected = [one.train(), one.back(one.train()[2], one.train()[0]), one.stack.run(*one.arguments)]
    turned = one._replace(
        x=torch.from_numpy(one.x).requires_grad_(),
        state=tuple(map(torch.from_numpy, one.state)),
        batch_sizes=torch.from_numpy(one.batch_sizes),
        dy=torch.nn.Parameter(torch.from_numpy(one.dy).t().contiguous().t()),
        dstate=tuple(map(torch.from_numpy, one.dstate)),
    )
    assert turned.train() is None and not one.stack.takes_tensors
    if not one.stack.take_tensors(torch.Tensor, torch.nn.Parameter):
        pytest.skip("this PyTorch does not offer the exchange API")
    y, state_n, memory = turned.train()
    assert turned.back(memory, y) is None  # the features of dy are not side by side
    turned = turned._replace(dy=torch.from_numpy(one.dy))
    found = [(y, state_n, memory.clone()), turned.back(memory, y), turned.stack.run(*turned.arguments)]
    assert all(type(each) is torch.Tensor and not each.requires_grad for each in flat(found))
    assert_same(found, expected)
    assert type(one.stack.run(*one.arguments)[0]) is np.ndarray  # as x is
    assert {tuple(each.stride()) for each in state_n} == {(20, 5, 1)}

    class Other(torch.Tensor):
        pass

    negated = torch.complex(*torch.ones(2, 13, 3)).conj().imag
    tokens = torch.zeros(13, dtype=torch.int64)
    others = turned.x.double(), turned.x.to("meta"), turned.x.as_subclass(Other), turned.x[None]
    for x in negated, tokens, *others:
        assert turned._replace(x=x).train() is None

    def of_a_batch(x):
        assert turned._replace(x=x).train() is None
        return x

    torch.func.vmap(of_a_batch)(turned.x[None])


def test_a_stack_knows_tensors_that_are_its_parameters():
    torch = pytest.importorskip("torch")
    core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")
    weights = list(torch.nn.LSTM(3, 5).parameters())
    parameters = [Parameters(*(weight.detach().numpy() for weight in weights))]
    one = core.Stack(None, "lstm", parameters, 1, Options())
    if not one.take_tensors(torch.Tensor, torch.nn.Parameter):
        pytest.skip("this PyTorch does not offer the exchange API")
    assert one.lies_in(weights) and one.lies_in([weight.detach() for weight in weights])
    for others in (
        weights[:3],
        [*weights, weights[0]],
        [*weights[:2], weights[3], weights[2]],
        [weights[0].detach().t().contiguous().t(), *weights[1:]],
        [weights[0].detach().view(3, 20), *weights[1:]],
        [weights[0].detach().view(torch.int32), *weights[1:]],
        [],
    ):
        assert not one.lies_in(others)
