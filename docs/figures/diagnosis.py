"""What `diagnose` measures, of three networks: the first panel of its figure."""

import matplotlib.pyplot as plt
import numpy as np

import fastrnn
from fastrnn.diagnostics import diagnose
from fastrnn.layers import initial

x = 0.1 * np.random.default_rng(0).standard_normal((100, 16, 4))
LAYERS = {
    "vanilla": fastrnn.RNN(4, 64, dtype="float64", seed=0),
    "LSTM": fastrnn.LSTM(4, 64, dtype="float64", seed=0),
    "LSTM, forget bias 3": fastrnn.LSTM(4, 64, dtype="float64", seed=0),
}
initial.forget_bias(LAYERS["LSTM, forget bias 3"], 3)

figure, panels = plt.subplots(1, 3, figsize=(9, 2.8))
for axes, (name, layer) in zip(panels, LAYERS.items(), strict=True):
    diagnose(layer, x).plot(axes)
    axes.set_title(name)
plt.show()
