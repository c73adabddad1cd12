"""An LSTM's unit that writes and forgets when told to, and a vanilla unit that is driven in the same way."""

import matplotlib.pyplot as plt
import numpy as np

import fastrnn

x = np.zeros((60, 1, 2), "float32")
x[10, 0, 0] = x[45, 0, 1] = 1

lstm = fastrnn.LSTM(2, 1)
lstm.parameters["weight_ih_l0"][...] = [[20, 0], [0, -20], [0, 0], [0, 0]]  # i f g o
lstm.parameters["weight_hh_l0"][...] = 0
lstm.parameters["bias_ih_l0"][...] = [-10, 10, 10, 10]
lstm.parameters["bias_hh_l0"][...] = 0

vanilla = fastrnn.RNN(2, 1)
vanilla.parameters["weight_ih_l0"][...] = [[3, -3]]
vanilla.parameters["weight_hh_l0"][...] = 1
vanilla.parameters["bias_ih_l0"][...] = vanilla.parameters["bias_hh_l0"][...] = 0

stream, cells = lstm.stream(), []
for x_t in x:
    stream.step(x_t)
    cells.append(stream.state[1].item())
h, _ = vanilla(x)

figure, axes = plt.subplots(figsize=(5.5, 2.4))
axes.step(range(60), cells, where="mid", label="LSTM, $c_t$")
axes.plot(h[:, 0, 0], label="vanilla, $h_t$")
for step, word in (10, "write"), (45, "forget"):
    axes.axvline(step, color="0.7", linestyle=":")
    axes.text(step, 1.1, word, ha="center", fontsize=8)
axes.set(xlabel="step, t", ylim=(-1.1, 1.1))
axes.legend(loc="lower left")
plt.show()
