"""How much the last output depends on the input k steps before, untrained."""

import matplotlib.pyplot as plt
import numpy as np

import fastrnn
from fastrnn.layers import initial

T, B, I, H = 100, 16, 4, 64
x = 0.1 * np.random.default_rng(0).standard_normal((T, B, I))


def reach(layer):
    y, _, back = layer.forward(x)
    dy = np.zeros_like(y)
    dy[-1] = np.random.default_rng(1).standard_normal(dy[-1].shape)
    dx, _ = back(dy)
    norms = np.linalg.norm(dx, axis=(1, 2))[::-1]
    return norms / norms[0]


def scaled(gain):
    layer = fastrnn.RNN(I, H, dtype="float64", seed=0)
    initial.orthogonal(layer, gain, seed=0)
    return layer


def with_forget_bias(bias):
    layer = fastrnn.LSTM(I, H, dtype="float64", seed=0)
    initial.forget_bias(layer, bias)
    return layer


figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
for gain in (1.3, 1.1, 1.0, 0.9, 0.7):
    left.semilogy(reach(scaled(gain)), label=f"{gain} × orthogonal")
for name, layer in {
    "vanilla": fastrnn.RNN(I, H, dtype="float64", seed=0),
    "GRU": fastrnn.GRU(I, H, dtype="float64", seed=0),
    "LSTM": fastrnn.LSTM(I, H, dtype="float64", seed=0),
    "LSTM, forget bias 1": with_forget_bias(1),
    "LSTM, forget bias 3": with_forget_bias(3),
}.items():
    right.semilogy(reach(layer), label=name)
left.set(title="vanilla", xlabel="steps back, k", ylabel="norm, relative to k = 0", ylim=(1e-12, 1e4))
right.set(title="the cells", xlabel="steps back, k")
for axes in (left, right):
    axes.legend(fontsize=7)
plt.show()
