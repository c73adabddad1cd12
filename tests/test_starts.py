"""Sequences that start anew in the middle, against the same sequences split by hand.

Letters: T time, B batch, I input, H hidden.
"""

import numpy as np
import pytest
from cells import FORMS, backward, forward

from fastrnn import reference
from fastrnn.reference import Call

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")

BACKENDS = {"native": _core, "reference": reference}


def segments(starts, length):
    """Where the parts of one sequence begin and end."""
    cuts = [t for t in range(1, length) if starts[t]]
    return list(zip([0, *cuts], [*cuts, length], strict=True)) if length else []


# -- one layer in one direction: every cell


class Problem:
    """Random arguments of one call with starts, and of its way back."""

    def __init__(self, form, dtype, seed, *, mask=False):
        rng = np.random.default_rng(seed)
        T, B, I, H = (int(rng.integers(1, most)) for most in (9, 6, 5, 20))
        self.form, self.T, self.B = form, T, B

        def normal(*shape):
            return rng.normal(size=shape).astype(dtype)

        widths = form.widths(H)
        tokens, ragged, given = rng.integers(0, 2, 3)
        self.starts = rng.random((T, B)) < rng.choice([0.2, 0.5])
        self.lengths = rng.integers(0, T + 1, B) if ragged else np.full(B, T)
        self.call = Call(
            form.cell,
            rng.integers(0, I, (T, B)) if tokens else normal(T, B, I),
            form.parameters(I, H, lambda shape: normal(*shape)),
            [normal(B, width) for width in widths],
            self.lengths if ragged else None,
            bool(rng.integers(0, 2)),
            training=True,
            recompute=bool(rng.integers(0, 2)),
            mask=(rng.integers(0, 3, (B, widths[0])) / 2).astype(dtype) if mask else None,
            options=form.options,
            starts=self.starts,
            start_states=[normal(B, width) for width in widths] if given else None,
        )
        self.dy, self.dstates = normal(T, B, widths[0]), [normal(B, width) for width in widths]

    def run(self, backend, call, dy, dstates):
        """y, the states, dx, the gradients of all parameters, those of both states, and that of every h."""
        y, states, reserve = forward(backend, call)
        dhidden = np.zeros_like(y)
        found = backward(backend, reserve, dy, dstates, dhidden=dhidden)
        return y, states, found.x, found.parameters.arrays(), found.state, found.start_state, dhidden

    def whole(self, backend):
        return self.run(backend, self.call, self.dy, self.dstates)

    def by_hand(self, backend):
        """The same of each part of each sequence, a call of its own."""
        call, B = self.call, self.B
        zeros = [np.zeros_like(state) for state in call.states]
        start = call.start_states or zeros
        y, dhidden = (np.zeros_like(self.dy) for _ in range(2))
        states, dstates = ([state.copy() for state in each] for each in (call.states, self.dstates))
        dstart, dx = [np.zeros_like(state) for state in zeros], None
        dx = None if call.x.ndim == 2 else np.zeros_like(call.x)
        dparameters = [np.zeros(array.shape) for array in call.parameters.arrays()]
        for b in range(B):
            row = slice(b, b + 1)
            parts = segments(self.starts[:, b], self.lengths[b])
            ends = [state[row] for state in self.dstates]
            for k, (first, end) in reversed([*enumerate(parts[:: -1 if call.reverse else 1])]):
                anew = k > 0 or (self.starts[0, b] and not call.reverse)
                part = slice(first, end), row
                own = [state[row] for state in (start if anew else call.states)]
                alone = call._replace(
                    x=call.x[part].copy(),
                    states=own,
                    lengths=None,
                    mask=None if call.mask is None else call.mask[row],
                    starts=None,
                    start_states=None,
                )
                y[part], finals, dx_part, dparts, given, _, dhidden[part] = self.run(
                    backend, alone, self.dy[part].copy(), ends
                )
                if dx is not None:
                    dx[part] = dx_part
                for total, found in zip(dparameters, dparts, strict=True):
                    total += found
                for member, found in enumerate(finals):
                    if k == len(parts) - 1:
                        states[member][row] = found
                for member, found in enumerate(given):
                    if anew:
                        dstart[member][row] += found
                    dstates[member][row] = 0 if anew else found
                ends = [np.zeros_like(end) for end in ends]
        return y, states, dx, dparameters, dstates, dstart, dhidden


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mask", [False, True])
def test_a_call_is_its_parts(backend, dtype, form, mask):
    """By the kernels with the same bits, but for sums over all steps; NumPy's products have others."""
    for seed in range(6):
        problem = Problem(FORMS[form], dtype, [seed, mask], mask=mask)
        found, expected = (run(BACKENDS[backend]) for run in (problem.whole, problem.by_hand))
        for k, (own, parts) in enumerate(zip(found, expected, strict=True)):
            assert (own is None) == (parts is None)
            for one, other in () if own is None else zip(own, parts, strict=True):
                if k == 3 or backend == "reference":
                    scale = max(1, np.abs(other).max(initial=0)) * (1e-4 if dtype == "float32" else 1e-11)
                    np.testing.assert_allclose(one, other, rtol=0, atol=scale)
                else:
                    assert one.tobytes() == other.tobytes(), (seed, k)
