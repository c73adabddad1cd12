"""Boxes and arrows, for the figures that are diagrams."""

import matplotlib.pyplot as plt

COLOURS = {"input": "#cfe3f5", "hidden": "#fbd9a6", "output": "#cdebc8"}
SIZE = 0.25  # half the side of a box


def canvas(width, height):
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set_aspect("equal")
    axes.axis("off")
    return figure, axes


def box(axes, x, y, text="", kind="hidden"):
    corner, side = (x - SIZE, y - SIZE), 2 * SIZE
    axes.add_patch(plt.Rectangle(corner, side, side, facecolor=COLOURS[kind], edgecolor="0.3", lw=0.8))
    axes.text(x, y, text, ha="center", va="center")
    axes.update_datalim([(x - 2 * SIZE, y - 2 * SIZE), (x + 2 * SIZE, y + 2 * SIZE)])
    axes.autoscale_view()


def arrow(axes, start, end, text="", *, curve=0.0, colour="0.3", shrink=None):
    """From the edge of one box to that of the next, both given by their centres."""
    if shrink is None:
        (x0, y0), (x1, y1) = start, end
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        dx, dy = (x1 - x0) / length * SIZE, (y1 - y0) / length * SIZE
        start, end = (x0 + dx, y0 + dy), (x1 - dx, y1 - dy)
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    axes.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={curve}"})
    if text:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        upright = abs(start[0] - end[0]) < 1e-9
        where = {"ha": "left", "va": "center"} if upright else {"ha": "center", "va": "bottom"}
        axes.text(x + 0.06 * upright, y + 0.08 * (not upright), text, fontsize=7, color=colour, **where)
