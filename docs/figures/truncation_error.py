"""How much of the gradient of a loss at the last step is lost if BPTT goes back k steps only."""

import matplotlib.pyplot as plt
import numpy as np

import fastrnn
from fastrnn.layers import initial

T, B, I, H = 100, 16, 4, 32
x = np.random.default_rng(0).standard_normal((T, B, I))


def gradient(layer, k):
    """Of the sum of the last h, through the last k steps, as one vector."""
    _, state = layer(x[: T - k])
    y, _, back = layer.forward(x[T - k :], state)
    dy = np.zeros_like(y)
    dy[-1] = 1
    back(dy, input_gradient=False)
    return np.concatenate([array.ravel() for array in layer.take_gradients().values()])


def open_gates():
    layer = fastrnn.LSTM(I, H, dtype="float64", seed=0)
    initial.forget_bias(layer, 3)
    return layer


LAYERS = {
    "vanilla": fastrnn.RNN(I, H, dtype="float64", seed=0),
    "GRU": fastrnn.GRU(I, H, dtype="float64", seed=0),
    "LSTM": fastrnn.LSTM(I, H, dtype="float64", seed=0),
    "LSTM, forget bias 3": open_gates(),
}
figure, axes = plt.subplots(figsize=(5.5, 2.8))
steps = np.unique(np.geomspace(1, T - 1, 25).astype(int))
for name, layer in LAYERS.items():
    full = gradient(layer, T)
    errors = [np.linalg.norm(gradient(layer, k) - full) / np.linalg.norm(full) for k in steps]
    axes.semilogy(steps, errors, label=name)
axes.set(xlabel="steps back, k", ylabel="relative error of the gradient", ylim=(1e-4, 2))
axes.legend()
plt.show()
