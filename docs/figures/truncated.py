"""Truncated BPTT: states go on from window to window, gradients do not."""

import matplotlib.pyplot as plt
from _drawing import arrow, box, canvas

figure, axes = canvas(width=7, height=1.7)
WINDOW, WINDOWS = 3, 3
before = 0.0

for step in range(WINDOW * WINDOWS):
    window, within = divmod(step, WINDOW)
    x = step * 0.95 + window * 0.35
    box(axes, x, 0, f"$h_{{{step + 1}}}$")
    if step:
        arrow(axes, (before, 0.1), (x, 0.1), colour="C0")
    if within:
        arrow(axes, (x, -0.1), (before, -0.1), colour="C1")
    if within == 1:
        axes.text(x, 0.5, f"window {window + 1}", ha="center", fontsize=8)
    before = x
    if within == WINDOW - 1:
        frame = plt.Rectangle((x - 2.3, -0.42), 2.7, 0.84, fill=False, edgecolor="0.6", linestyle="--")
        axes.add_patch(frame)
axes.text(0, -0.75, "states", color="C0", ha="center", fontsize=8)
axes.text(0.95, -0.75, "gradients", color="C1", ha="center", fontsize=8)
axes.set_ylim(-0.9, 0.75)
plt.show()
