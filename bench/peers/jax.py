"""JAX: `lax.scan` over the steps, compiled; the input's product is one for all of them."""

from __future__ import annotations

import numpy as np

from cases import Case, Data
from peers.base import Base, Results, Run, require, stepped

UNROLL = (1, 4)  # steps of the compiled loop's body


class Peer(Base):
    label = "JAX"

    def __init__(self, threads: int) -> None:
        import jax

        self.jax = jax
        jax.config.update("jax_platforms", "cpu")

    @property
    def version(self) -> str:
        return self.jax.__version__

    def runs(self, case: Case, data: Data) -> dict[str, Run]:
        require(case.set in ("train", "infer", "stream", "ragged"), "not compared here")
        jax = self.jax
        weights = tuple(jax.device_put(array) for array in data.layer())
        x = jax.device_put(data.x)
        if case.set == "stream":
            return {"step": self._stream(case, weights, x)}
        if case.set == "infer":
            return {f"unroll {n}": self._infer(_layer(case.cell, n), weights, x) for n in UNROLL}
        return {f"unroll {n}": self._train(_layer(case.cell, n), weights, x, data) for n in UNROLL}

    def _infer(self, layer, weights, x) -> Run:
        compiled = self.jax.jit(layer).lower(weights, x).compile()

        def call():
            return compiled(weights, x).block_until_ready()

        return Run(call, lambda: {"y": np.asarray(call())})

    def _train(self, layer, weights, x, data: Data) -> Run:
        """Padded rows run to the end, and the loss ignores the padding, its dy being 0 there."""
        jax = self.jax
        dy = jax.device_put(data.dy)

        def step(weights, x, dy):
            y, backward = jax.vjp(layer, weights, x)
            return y, backward(dy)

        compiled = jax.jit(step).lower(weights, x, dy).compile()

        def call():
            return jax.block_until_ready(compiled(weights, x, dy))

        def results() -> Results:
            y, (dweights, dx) = call()
            names = "dw_ih", "dw_hh", "db_ih", "db_hh"
            gradients = {name: np.asarray(array) for name, array in zip(names, dweights, strict=True)}
            return {"y": np.asarray(y) * data.mask, "dx": np.asarray(dx), **gradients}

        return Run(call, results)

    def _stream(self, case: Case, weights, x) -> Run:
        jax = self.jax
        zeros = jax.numpy.zeros((case.B, case.H))
        start = (zeros, zeros) if case.cell == "lstm" else (zeros,)

        def one(weights, state, x):
            w_ih, w_hh, b_ih, b_hh = weights
            return _CELLS[case.cell](state, x[0] @ w_ih.T + b_ih, w_hh, b_hh)

        compiled = jax.jit(one).lower(weights, start, x).compile()

        def advance(state):
            state = compiled(weights, state, x)
            state[0].block_until_ready()
            return state

        return stepped(start, advance, lambda state: np.asarray(state[0])[None])


def _layer(cell: str, unroll: int):
    """y of the weights and x."""
    import jax

    step = _CELLS[cell]

    def layer(weights, x):
        w_ih, w_hh, b_ih, b_hh = weights
        zeros = jax.numpy.zeros((x.shape[1], w_hh.shape[1]))
        start = (zeros, zeros) if cell == "lstm" else (zeros,)

        def body(state, z):
            state = step(state, z, w_hh, b_hh)
            return state, state[0]

        return jax.lax.scan(body, start, x @ w_ih.T + b_ih, unroll=unroll)[1]

    return layer


def _lstm(state, z, w_hh, b_hh):
    from jax import nn, numpy

    h, c = state
    i, f, g, o = numpy.split(z + h @ w_hh.T + b_hh, 4, axis=-1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * numpy.tanh(g)
    return nn.sigmoid(o) * numpy.tanh(c), c


def _gru(state, z, w_hh, b_hh):
    from jax import nn, numpy

    (h,) = state
    z_r, z_z, z_n = numpy.split(z, 3, axis=-1)
    h_r, h_z, h_n = numpy.split(h @ w_hh.T + b_hh, 3, axis=-1)
    n = numpy.tanh(z_n + nn.sigmoid(z_r + h_r) * h_n)
    return (n + nn.sigmoid(z_z + h_z) * (h - n),)


def _rnn(state, z, w_hh, b_hh):
    from jax import numpy

    (h,) = state
    return (numpy.tanh(z + h @ w_hh.T + b_hh),)


_CELLS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
