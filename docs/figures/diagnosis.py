"""What `diagnose` measures of four networks: what remains of a gradient at the last step."""

import matplotlib.pyplot as plt
import numpy as np

import fastrnn
from fastrnn.diagnostics import diagnose
from fastrnn.layers import initial

x = 0.1 * np.random.default_rng(0).standard_normal((100, 16, 4))
orthogonal = fastrnn.RNN(4, 64, dtype="float64", seed=0)
initial.orthogonal(orthogonal, seed=0)
open_gates = fastrnn.LSTM(4, 64, dtype="float64", seed=0)
initial.forget_bias(open_gates, 3)

figure, axes = plt.subplots(figsize=(6, 2.8))
for name, layer in {
    "vanilla": fastrnn.RNN(4, 64, dtype="float64", seed=0),
    "vanilla, orthogonal": orthogonal,
    "LSTM": fastrnn.LSTM(4, 64, dtype="float64", seed=0),
    "LSTM, forget bias 3": open_gates,
}.items():
    (found,) = diagnose(layer, x).directions
    axes.semilogy(found.flow_norms, label=f"{name}: ×{found.rate:.2f} per step, {found.verdict}")
axes.set(xlabel="steps back", ylabel="norm of ∂L/∂h", ylim=(1e-12, None))
axes.legend(fontsize=7)
plt.show()
