"""How far predicted sequences are from the true ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from fastrnn import checks


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest symbols to insert, delete or replace that make one sequence of the other (Levenshtein 1966).

    Parameters
    ----------
    a, b : sequence of symbols
        Strings, lists or tuples.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If one is a masked array.

    Examples
    --------
    >>> edit_distance("kitten", "sitting")
    3
    """
    if checks.masked(a) or checks.masked(b):
        raise TypeError("a and b must not be masked: fill them first")
    row = list(range(len(b) + 1))  # the distances of what is read of a to each beginning of b
    for count, symbol in enumerate(a, 1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(b, 1):
            distance = min(row[place] + 1, row[place - 1] + 1, diagonal + (symbol != other))
            diagonal, row[place] = row[place], distance
    return row[-1]


def error_rate(y_true: Sequence[Sequence[Hashable]], y_pred: Sequence[Sequence[Hashable]]) -> float:
    """All edit distances together by all true symbols together: of characters, words or phonemes, whatever
    the symbols are.

    Parameters
    ----------
    y_true, y_pred : sequence of sequences of symbols
        The true sequences, and in the same order the predicted ones.

    Returns
    -------
    float
        0 if all are equal; it exceeds 1 if predictions are much too long.

    Raises
    ------
    ValueError
        If there are not as many predictions as true sequences, or no true symbols at all.

    Examples
    --------
    >>> error_rate(["kitten", "cat"], ["sitting", "cat"])
    0.3333333333333333
    """
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_pred must have as many sequences as y_true, {len(y_true)}, got {len(y_pred)}")
    symbols = sum(map(len, y_true))
    if symbols == 0:
        raise ValueError(f"y_true must have at least one symbol, got {checks.came(y_true)}")
    return sum(map(edit_distance, y_true, y_pred)) / symbols
