"""The shapes of sequence problems: where there are inputs, states and outputs."""

import matplotlib.pyplot as plt
from _drawing import arrow, box, canvas

SHAPES = {  # name: at which steps there are inputs, and outputs, of how many
    "one-to-one": ([0], [0], 1),
    "one-to-many": ([0], [0, 1, 2], 3),
    "many-to-one": ([0, 1, 2], [2], 3),
    "many-to-many,\naligned": ([0, 1, 2], [0, 1, 2], 3),
    "many-to-many,\nsequence-to-sequence": ([0, 1], [2, 3, 4], 5),
}
figure, axes = canvas(width=8.5, height=2.3)
left = 0.0
for name, (inputs, outputs, steps) in SHAPES.items():
    for step in range(steps):
        x = left + 0.8 * step
        box(axes, x, 1)
        if step:
            arrow(axes, (x - 0.8, 1), (x, 1))
        if step in inputs:
            box(axes, x, 0, kind="input")
            arrow(axes, (x, 0), (x, 1))
        if step in outputs:
            box(axes, x, 2, kind="output")
            arrow(axes, (x, 1), (x, 2))
    axes.text(left + 0.4 * (steps - 1), -0.5, name, ha="center", va="top", fontsize=8)
    left += 0.8 * steps + 0.85
axes.set_ylim(-1.2, 2.4)
plt.show()
