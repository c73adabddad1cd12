"""A recurrent unit, and the same unit unrolled in time."""

import matplotlib.pyplot as plt
from _drawing import arrow, box, canvas

figure, axes = canvas(width=7, height=2.2)


def unit(x, index):
    box(axes, x, 1, f"$h{index}$", "hidden")
    box(axes, x, 0, f"$x{index}$", "input")
    box(axes, x, 2, f"$y{index}$", "output")
    arrow(axes, (x, 0), (x, 1), "$W_{ih}$")
    arrow(axes, (x, 1), (x, 2))


unit(0, "")
arrow(axes, (0.25, 1.15), (0.25, 0.85), curve=-2.2, shrink=2)
axes.text(0.78, 1, "$W_{hh}$", va="center", fontsize=8)
axes.text(1.65, 1, "=", ha="center", va="center", fontsize=16)

for step in range(4):
    unit(3.6 + 1.5 * step, f"_{step + 1}")
    arrow(axes, (2.1 + 1.5 * step, 1), (3.6 + 1.5 * step, 1), "$W_{hh}$")
axes.text(2.27, 1, "$h_0$", ha="right", va="center")
axes.update_datalim([(9.8, 1)])  # room for what goes on
axes.autoscale_view()
arrow(axes, (8.1, 1), (9.6, 1), "$W_{hh}$")
axes.text(9.45, 1, "…", va="center")
plt.show()
