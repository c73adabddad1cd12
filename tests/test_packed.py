"""Stacks in training, with only arrays between `train` and `back`; packed sequences against padded ones."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from cells import FORMS, members

from fastrnn import reference
from fastrnn.backend import kernels
from fastrnn.checks import Array

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
