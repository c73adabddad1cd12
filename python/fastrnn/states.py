"""The state of a cell as users see it, decided here alone: h, or a tuple of h and what else there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastrnn import checks, reference


def named(cell: str, name: str, state: Any) -> dict[str, Any]:
    """The members of a state that was given, by the names that errors call them.

    Parameters
    ----------
    cell : str
        A key of `fastrnn.reference.CELLS`.
    name : str
        The argument's name.
    state
        Each member may be None, and so may the whole.

    Raises
    ------
    TypeError
        If there are not as many members as the cell has.
    """
    expected = reference.CELLS[cell].states
    if len(expected) == 1:
        return {name: state}
    if state is None:
        state = (None,) * len(expected)
    if not isinstance(state, (tuple, list)) or len(state) != len(expected):
        raise TypeError(f"{name} must be a tuple ({', '.join(expected)}), got {checks.came(state)}")
    return {f"{name}[{k}]": member for k, member in enumerate(state)}


def members(state: Any) -> tuple[Any, ...]:
    """Those of a state that fastrnn has made: h first."""
    return state if isinstance(state, tuple) else (state,)


def joined(members: Sequence[Any]) -> Any:
    """The state of these members."""
    return members[0] if len(members) == 1 else tuple(members)


def of_h(like: Any, h: Any) -> Any:
    """A state with this h, and None for what else one like it has: a gradient that h alone has."""
    return joined([h] + [None] * (len(members(like)) - 1))
