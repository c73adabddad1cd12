"""Which cells and initial values learn to recall a value after a delay."""

import math

import matplotlib.pyplot as plt
import numpy as np

import fastrnn
from fastrnn.layers import Composite, initial
from fastrnn.losses import softmax_cross_entropy
from fastrnn.optim import Adam, clip_grad_norm

DELAY, BATCH, H, STEPS = 40, 64, 32, 400


def batch(rng):
    """x (T, B, 2): a value and whether it counts, which it does in the first step only."""
    x = np.zeros((DELAY + 1, BATCH, 2), "float32")
    x[:, :, 0] = rng.choice([-1, 1], x.shape[:2])
    x[0, :, 1] = 1
    return x, (x[0, :, 0] > 0).astype(int)


def losses(layer):
    head, rng = fastrnn.Linear(H, 2, seed=0), np.random.default_rng(0)
    network = Composite(layer=layer, head=head)
    optimizer = Adam(network.parameters, lr=3e-3)
    for _ in range(STEPS):
        x, label = batch(rng)
        y, _, layer_back = layer.forward(x)
        logits, head_back = head.forward(y[-1])
        loss, dlogits = softmax_cross_entropy(logits, label)
        dy = np.zeros_like(y)
        dy[-1] = head_back(dlogits)
        layer_back(dy, input_gradient=False)
        gradients = network.take_gradients()
        clip_grad_norm(gradients, 1.0)
        optimizer.step(gradients)
        yield loss


def orthogonal():
    layer = fastrnn.RNN(2, H, seed=0)
    initial.orthogonal(layer, seed=0)
    return layer


def open_gates():
    layer = fastrnn.LSTM(2, H, seed=0)
    initial.forget_bias(layer, 3)
    return layer


figure, axes = plt.subplots(figsize=(6, 3))
for name, layer in {
    "vanilla": fastrnn.RNN(2, H, seed=0),
    "vanilla, orthogonal": orthogonal(),
    "GRU": fastrnn.GRU(2, H, seed=0),
    "LSTM": fastrnn.LSTM(2, H, seed=0),
    "LSTM, forget bias 3": open_gates(),
}.items():
    smooth = np.convolve(list(losses(layer)), np.ones(10) / 10, "valid")
    axes.plot(smooth, label=name)
axes.axhline(math.log(2), color="0.4", linestyle=":")
axes.set(xlabel="training step", ylabel="loss", ylim=(0, 1))
axes.legend(fontsize=7)
plt.show()
