"""Which examples a model is validated on, and not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import Examples


def held_out(classes: Sequence[Array], part: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The places of examples to hold out, drawn at random, of each class its part.

    The last example of a class is never taken: its loss would only rise while the other classes are learned,
    and weights that know nothing would look best.

    Parameters
    ----------
    classes : sequence of N integer arrays
        What each example holds that at least one of the others has to hold too, no class twice; the first is
        the class it is drawn from.
    part : float
        How much of the examples. If that is less than one example, none is taken.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int64
        As many places, or fewer where more would take the last example of a class.
    """
    count = len(classes)
    wanted = round(count * part) if count * part >= 1 else 0
    order = rng.permutation(count)
    order = order[np.argsort(np.array([found[0] for found in classes])[order], kind="stable")]
    drawn = ((np.arange(wanted) + rng.random()) * count / max(1, wanted)).astype(np.int64)
    left = np.bincount(np.concatenate(classes))
    places: list[int] = []
    for place in (*order[drawn], *rng.permutation(np.delete(order, drawn))):
        if len(places) == wanted:
            break
        if (left[classes[place]] > 1).all():
            left[classes[place]] -= 1
            places.append(int(place))
    return np.array(places, np.int64)


def cut_end(examples: Examples, part: float) -> tuple[Examples, Examples | None]:
    """The start and the end of a single sequence with a class for each step; with a warning all of it and
    None if the end is empty, or has a class that the start has not.
    """
    steps = int(examples.x.steps * part)
    start, end = examples.cut(0, -steps), examples.cut(-steps)
    if steps == 0 or not np.isin(end.y.items[0], start.y.items[0]).all():
        warn_of_no_validation(1, part)
        return examples, None
    return start, end


def warn_of_no_validation(count: int, part: float) -> None:
    """Say that nothing could be held out, to who called `fit`."""
    checks.warn(
        f"nothing is held out for validation, and the last weights are kept: validation_fraction={part} of "
        f"{count} sequence(s) is less than one, or has the last example of a class. Pass validation_data, or "
        "validation_fraction=0 to train on everything without this warning",
    )
