"""Text as integer tokens: of characters, of words, or of bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastrnn import checks


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
        return "".join(
            self.characters[token] for token in checks.array("tokens", tokens, "an array of tokens")
        )

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


class Words:
    """The words that a model knows. A text is cut into words, each with the space before it if there is one,
    and single characters of any other kind, such as punctuation and further white space: put together again
    they are the text.

    What is not known is the unknown token's, 0, which decodes to U+FFFD.

    Parameters
    ----------
    text : str
        Any text that is not empty: the vocabulary is made of its words.
    size : int, optional
        Know only the most frequent words, so many together with the unknown token; of equally frequent ones
        those that come first.

    Attributes
    ----------
    words : list of str
        By token.

    Examples
    --------
    >>> vocabulary = Words("to be, or not to be")
    >>> vocabulary.words
    ['\ufffd', 'to', ' be', ',', ' or', ' not', ' to']
    >>> vocabulary.decode(vocabulary.encode("to be or to do"))
    'to be or to\ufffd'
    """

    UNKNOWN = "\ufffd"

    def __init__(self, text: str, size: int | None = None) -> None:
        counted = Counter(self.split(nonempty_text("text", text)))
        counted.pop(self.UNKNOWN, None)
        kept = None if size is None else checks.positive_int("size", size) - 1
        self.words = [self.UNKNOWN, *(word for word, _ in counted.most_common(kept))]
        self._tokens = {word: token for token, word in enumerate(self.words)}

    @classmethod
    def of(cls, words: Sequence[str]) -> Words:
        """The vocabulary that has these as its `words`."""
        vocabulary = cls.__new__(cls)
        vocabulary.words = list(words)
        vocabulary._tokens = {word: token for token, word in enumerate(vocabulary.words)}
        return vocabulary

    @staticmethod
    def split(text: str) -> list[str]:
        """The words of a text, known or not; together they are the text."""
        return _WORD.findall(text)

    def encode(self, text: str, name: str = "text") -> npt.NDArray[np.int64]:
        """The tokens of a text, (N,)."""
        words = self.split(text_argument(name, text))
        return np.fromiter((self._tokens.get(word, 0) for word in words), np.int64, len(words))

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text that integer tokens stand for, shape ``(N,)``."""
        return "".join(self.words[token] for token in checks.array("tokens", tokens, "an array of tokens"))

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words) and self.words == other.words

    def __hash__(self) -> int:
        return hash(tuple(self.words))

    def __repr__(self) -> str:
        return f"Words of {len(self)} tokens"


class Bytes:
    """All 256 bytes, each its own token: any text, as UTF-8, or any bytes."""

    def encode(self, text: str | bytes, name: str = "text") -> npt.NDArray[np.int64]:
        """The tokens of a text, (N,)."""
        data = text if isinstance(text, bytes) else text_argument(name, text).encode("utf-8", "surrogatepass")
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decode(self, tokens: npt.ArrayLike) -> bytes:
        """The bytes that integer tokens stand for, shape ``(N,)``."""
        return checks.array("tokens", tokens, "an array of tokens").astype(np.uint8).tobytes()

    def __len__(self) -> int:
        return 256

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bytes)

    def __hash__(self) -> int:
        return hash(Bytes)

    def __repr__(self) -> str:
        return "Bytes()"


_WORD = re.compile(r" ?\w+|\W")


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
