"""Text as integer tokens, and tokens as the windows that truncated BPTT trains on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastrnn.checks import Array, positive_int


class Vocabulary:
    """The characters that a model knows; a character's token is its place in their sorted order.

    Parameters
    ----------
    text : str
        Any text that is not empty: the vocabulary is the set of its characters.

    Attributes
    ----------
    characters : str
        The characters, each once, in the order of their code points.
    """

    def __init__(self, text: str) -> None:
        self.characters = "".join(sorted(set(nonempty_text("text", text))))
        self._codes = _code_points(self.characters)

    def encode(self, text: str, name: str = "text") -> npt.NDArray[np.int64]:
        """The tokens of a text.

        Parameters
        ----------
        text : str
            The text, which may be empty.
        name : str
            What an error calls the text.

        Returns
        -------
        ndarray of int64, shape ``(len(text),)``

        Raises
        ------
        TypeError
            If ``text`` is not a str.
        ValueError
            If the vocabulary lacks characters of the text; the error names them.
        """
        codes = _code_points(text_argument(name, text))
        tokens = np.searchsorted(self._codes, codes)
        known = self._codes[np.minimum(tokens, len(self) - 1)] == codes
        if not known.all():
            unknown = dict.fromkeys(text[position] for position in np.flatnonzero(~known))
            shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in list(unknown)[:10])
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            raise ValueError(f"{name} must use the vocabulary's {len(self)} characters, got {shown}{more}")
        return tokens.astype(np.int64, copy=False)

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text that integer tokens stand for, shape ``(N,)``."""
        return "".join(self.characters[token] for token in np.asarray(tokens))

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: object) -> bool:
        return character in set(self.characters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"


class Windows:
    """A stream of tokens as windows for stateful truncated BPTT.

    The stream is cut into ``batch_size`` contiguous streams of equal length that run side by side, and those
    into windows of ``steps`` steps: row b of a window goes on where row b of the window before stopped, so
    that a network may carry its state from one to the next. A window's target at every step is the token
    that follows. The fewer than ``batch_size`` tokens at the end that do not fill a step are left out.

    Parameters
    ----------
    tokens : ndarray of int64, shape ``(N,)``
        The stream; a window never copies more of it than itself.
    batch_size : int
        B, the number of parallel streams; N must exceed it.
    steps : int
        T, the length of a window; the last one may be shorter.

    Yields
    ------
    inputs, targets : ndarray of int64, shape ``(T, B)``
        C-contiguous. Iterating again starts over.
    """

    def __init__(self, tokens: npt.NDArray[np.int64], batch_size: int, steps: int) -> None:
        self.batch_size = positive_int("batch_size", batch_size)
        self.steps = positive_int("steps", steps)
        self.length = (len(tokens) - 1) // self.batch_size
        if self.length < 1:
            raise ValueError(f"tokens must be more than batch_size = {batch_size}, got {len(tokens)}")
        self._tokens = tokens

    @property
    def targets(self) -> int:
        """The number of targets in all windows."""
        return self.length * self.batch_size

    def __len__(self) -> int:
        return -(-self.length // self.steps)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        shape = (self.batch_size, self.length)
        inputs = self._tokens[: self.targets].reshape(shape).T
        targets = self._tokens[1 : self.targets + 1].reshape(shape).T
        for start in range(0, self.length, self.steps):
            window = slice(start, start + self.steps)
            yield np.ascontiguousarray(inputs[window]), np.ascontiguousarray(targets[window])


def text_argument(name: str, value: object) -> str:
    """A str; bytes get the hint to decode them."""
    if not isinstance(value, str):
        hint = f": decode it first, {name}.decode()" if isinstance(value, bytes) else ""
        raise TypeError(f"{name} must be a str, got {type(value).__name__}{hint}")
    return value


def nonempty_text(name: str, value: object) -> str:
    """A str of at least one character."""
    text = text_argument(name, value)
    if not text:
        raise ValueError(f"{name} must have at least one character, got an empty str")
    return text


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
