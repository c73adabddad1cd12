"""Sequences of symbols, such as letters, words or phonemes, as sequences of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data.vocabulary import Known

Symbol: TypeAlias = "str | int"


class Symbols(Known):
    """The symbols that a model knows, each a str or an int; a symbol's token is its place in their sorted
    order.

    Parameters
    ----------
    symbols : iterable of str or int
        Any symbols, of which equal ones are one.

    Attributes
    ----------
    symbols : list of str or int
        Each once, ints before strings.

    Examples
    --------
    >>> letters = Symbols("banana")
    >>> letters.symbols, letters.encode("X", "nab").tolist()
    (['a', 'b', 'n'], [2, 0, 1])
    """

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        super().__init__(sorted(set(symbols), key=lambda symbol: (isinstance(symbol, str), symbol)))
        self._tokens = {symbol: token for token, symbol in enumerate(self.symbols)}

    def encode(self, name: str, sequence: Iterable[Symbol], unknown: int | None = None) -> Array:
        """The tokens of a sequence, an int64 array, with `unknown` for strings that are not known; a
        ValueError names other symbols that are not, and without `unknown` these strings too.
        """
        lacking: dict[type, int | None] = {str: unknown}
        tokens = [self._tokens.get(symbol, lacking.get(type(symbol))) for symbol in sequence]
        if None in tokens:
            wrong = dict.fromkeys(each for each, token in zip(sequence, tokens, strict=True) if token is None)
            shown = ", ".join(map(repr, [*wrong][:10])) + (", …" if len(wrong) > 10 else "")
            raise ValueError(
                f"{name} must use the {len(self)} symbols that the model was fitted with, got {shown}"
            )
        return np.array(tokens, np.int64)

    def decode(self, tokens: Iterable[int]) -> list[Symbol]:
        """The symbols that tokens stand for."""
        return [self.symbols[token] for token in tokens]


def symbol_sequences(name: str, value: Any, *, shortest: int = 0) -> list[str | list[Symbol]]:
    """Sequences of symbols as a user has them, checked.

    Parameters
    ----------
    name : str
        What errors call `value`.
    value : list, tuple, array or any other sized iterable
        Its members are sequences: strings, whose symbols are their characters, or lists, tuples or arrays of
        strings and integers.
    shortest : int
        The least number of symbols.

    Returns
    -------
    list of str or list
        Strings as they are, other sequences as lists of str and int.

    Raises
    ------
    TypeError, ValueError
        If there are no sequences, or one is too short or holds anything else: the error says which and where.
    """
    expected = "a list of sequences of symbols: strings, or lists of strings and integers"
    if (
        isinstance(value, (str, bytes, dict))
        or not hasattr(value, "__len__")
        or not hasattr(value, "__iter__")
    ):
        raise TypeError(f"{name} must be {expected}, got {checks.came(value)}")
    if not len(value):
        raise ValueError(f"{name} must have at least one sequence, got none")
    found = [_sequence(f"{name}[{place}]", item) for place, item in enumerate(value)]
    for place, item in enumerate(found):
        if len(item) < shortest:
            raise ValueError(f"{name}[{place}] must have at least {shortest} symbol, got an empty sequence")
    return found


def begins_with_str(value: Any) -> bool:
    """Whether sequences are strings, or lists or arrays of them, as far as the first one shows."""
    return isinstance(_first(_first(value)), str) and not isinstance(value, str)


def _first(value: Any) -> Any:
    """The first member of a list, a Series or an array; other things as they are."""
    listed = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1
    if listed or (isinstance(value, np.ndarray) and value.ndim):
        return next(iter(value), None)
    return value


def _sequence(name: str, value: Any) -> str | list[Symbol]:
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, bytes):
        raise TypeError(f"{name} must be a str or a list of strings and integers, got {checks.came(value)}")
    if isinstance(value, np.ndarray):
        value = checks.array(name, value, "an array of strings and integers")
    return [_symbol(f"{name}[{place}]", item) for place, item in enumerate(value)]


def _symbol(name: str, value: Any) -> Symbol:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise TypeError(f"{name} must be a symbol, a str or an int, got {checks.came(value)}")
