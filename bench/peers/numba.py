"""A loop in Python, compiled by Numba with fast mathematics: one thread."""

from __future__ import annotations

import math

from peers.loops import LoopPeer


class Peer(LoopPeer):
    label = "Numba loop"

    def __init__(self, threads: int) -> None:
        import numba

        self.numba = numba
        jit = numba.njit(fastmath=True, error_model="numpy")
        add_product = jit(_add_product)
        sigmoid, tanh = jit(_sigmoid), jit(_tanh)
        self.functions = {
            make.__name__[1:]: jit(make(add_product, sigmoid, tanh)) for make in (_lstm, _gru, _rnn)
        }

    @property
    def version(self) -> str:
        return self.numba.__version__


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def _tanh(x):
    return 2 / (1 + math.exp(-2 * x)) - 1


def _add_product(z, x, w_t):
    """z += x w_t, four inputs at a time, so that z is loaded and stored less often."""
    inputs, units = w_t.shape
    whole = inputs - inputs % 4
    for k in range(0, whole, 4):
        a, b, c, d = x[k], x[k + 1], x[k + 2], x[k + 3]
        for j in range(units):
            z[j] += a * w_t[k, j] + b * w_t[k + 1, j] + c * w_t[k + 2, j] + d * w_t[k + 3, j]
    for k in range(whole, inputs):
        for j in range(units):
            z[j] += x[k] * w_t[k, j]


def _lstm(add_product, sigmoid, tanh):
    def lstm(x, w_ih_t, w_hh_t, b_ih, b_hh, h, c, z, y):
        T, B, _ = x.shape
        H = h.shape[1]
        for t in range(T):
            for b in range(B):
                s = z[0]
                for j in range(4 * H):
                    s[j] = b_ih[j] + b_hh[j]
                add_product(s, x[t, b], w_ih_t)
                add_product(s, h[b], w_hh_t)
                for j in range(H):
                    cell = sigmoid(s[H + j]) * c[b, j] + sigmoid(s[j]) * tanh(s[2 * H + j])
                    c[b, j] = cell
                    h[b, j] = y[t, b, j] = sigmoid(s[3 * H + j]) * tanh(cell)

    return lstm


def _gru(add_product, sigmoid, tanh):
    def gru(x, w_ih_t, w_hh_t, b_ih, b_hh, h, c, z, y):
        T, B, _ = x.shape
        H = h.shape[1]
        for t in range(T):
            for b in range(B):
                s, q = z[0], z[1]
                for j in range(3 * H):
                    s[j] = b_ih[j]
                    q[j] = b_hh[j]
                add_product(s, x[t, b], w_ih_t)
                add_product(q, h[b], w_hh_t)
                for j in range(H):
                    n = tanh(s[2 * H + j] + sigmoid(s[j] + q[j]) * q[2 * H + j])
                    h[b, j] = y[t, b, j] = n + sigmoid(s[H + j] + q[H + j]) * (h[b, j] - n)

    return gru


def _rnn(add_product, sigmoid, tanh):
    def rnn(x, w_ih_t, w_hh_t, b_ih, b_hh, h, c, z, y):
        T, B, _ = x.shape
        H = h.shape[1]
        for t in range(T):
            for b in range(B):
                s = z[0]
                for j in range(H):
                    s[j] = b_ih[j] + b_hh[j]
                add_product(s, x[t, b], w_ih_t)
                add_product(s, h[b], w_hh_t)
                for j in range(H):
                    h[b, j] = y[t, b, j] = tanh(s[j])

    return rnn
