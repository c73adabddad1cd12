"""Text as integer tokens: of characters, of words, or of bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from fastrnn import checks

Tokens: TypeAlias = "npt.NDArray[np.unsignedinteger[Any]]"  # the smallest that hold the whole vocabulary

CHUNK = 1 << 16  # characters that are looked at together: what a text needs besides its tokens stays small

_WORD = re.compile(r" ?\w+|\W")


class Known:
    """What a model knows, by token; vocabularies that know the same are equal."""

    level: ClassVar[str]  # what a text is made of

    def __init__(self, symbols: Any) -> None:
        self.symbols = symbols

    @classmethod
    def of(cls, symbols: Any) -> Any:
        """The vocabulary that knows what another one does."""
        vocabulary = cls.__new__(cls)
        Known.__init__(vocabulary, symbols)
        return vocabulary

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.symbols == other.symbols

    def __hash__(self) -> int:
        return hash((type(self), *(self.symbols or ())))

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self)} tokens"

    def _smallest(self) -> np.dtype[Any]:
        return np.min_scalar_type(len(self) - 1)


class Vocabulary(Known):
    """The characters that a model knows; a character's token is its place in their sorted order.

    Parameters
    ----------
    text : str
        Any text that is not empty: the vocabulary is the set of its characters.

    Attributes
    ----------
    symbols : str
        The characters, each once, in the order of their code points.
    """

    level = "character"

    def __init__(self, text: str) -> None:
        super().__init__("".join(sorted(set(nonempty_text("text", text)))))

    def encode(self, text: str, name: str = "text") -> Tokens:
        """The tokens of a text.

        Parameters
        ----------
        text : str
            The text, which may be empty.
        name : str
            What an error calls the text.

        Returns
        -------
        ndarray of the smallest unsigned integers that hold all tokens, shape ``(len(text),)``

        Raises
        ------
        TypeError
            If ``text`` is not a str.
        ValueError
            If the vocabulary lacks characters of the text; the error names them.
        """
        tokens = np.empty(len(text_argument(name, text)), self._smallest())
        known = _code_points(self.symbols)
        order = np.argsort(known)
        for start in range(0, len(text), CHUNK):
            codes = _code_points(text[start : start + CHUNK])
            found = order[np.minimum(np.searchsorted(known, codes, sorter=order), len(self) - 1)]
            if not (known[found] == codes).all():
                characters = set(self.symbols)
                unknown = list(dict.fromkeys(each for each in text if each not in characters))
                shown = ", ".join(f"{character!r} (U+{ord(character):04X})" for character in unknown[:10])
                shown += f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
                raise ValueError(f"{name} must use the vocabulary's {len(self)} characters, got {shown}")
            tokens[start : start + CHUNK] = found
        return tokens

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text that integer tokens stand for, shape ``(N,)``."""
        return "".join(self.symbols[token] for token in checks.array("tokens", tokens, "an array of tokens"))


class Words(Known):
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
    symbols : list of str
        The words.

    Examples
    --------
    >>> vocabulary = Words("to be, or not to be")
    >>> vocabulary.symbols
    ['\ufffd', 'to', ' be', ',', ' or', ' not', ' to']
    >>> vocabulary.decode(vocabulary.encode("to be or to do"))
    'to be or to\ufffd'
    """

    level = "word"
    UNKNOWN = "\ufffd"

    def __init__(self, text: str, size: int | None = None) -> None:
        counted = Counter(self.split(nonempty_text("text", text)))
        counted.pop(self.UNKNOWN, None)
        kept = None if size is None else checks.positive_int("size", size) - 1
        super().__init__([self.UNKNOWN, *(word for word, _ in counted.most_common(kept))])

    @staticmethod
    def split(text: str) -> Iterator[str]:
        """The words of a text, known or not; together they are the text."""
        return map(re.Match.group, _WORD.finditer(text))

    def encode(self, text: str, name: str = "text") -> Tokens:
        """The tokens of a text, (N,): see `Vocabulary.encode`."""
        places = {word: token for token, word in enumerate(self.symbols)}
        words = self.split(text_argument(name, text))
        return np.fromiter((places.get(word, 0) for word in words), self._smallest())

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text that integer tokens stand for, shape ``(N,)``."""
        return "".join(self.symbols[token] for token in checks.array("tokens", tokens, "an array of tokens"))


class Bytes(Known):
    """All 256 bytes, each its own token: any text, as UTF-8, or any bytes."""

    level = "byte"

    def __init__(self) -> None:
        super().__init__(None)  # of which nothing needs to be said

    def __len__(self) -> int:
        return 256

    def encode(self, text: Any, name: str = "text") -> Tokens:
        """The tokens of a text, (N,): of bytes, in whatever buffer they are, such as an `mmap`, a view."""
        if isinstance(text, str):
            text = text.encode("utf-8", "surrogatepass")
        try:
            data = text if isinstance(text, np.ndarray) else memoryview(text)
        except TypeError:
            raise TypeError(f"{name} must be a str or bytes, got {checks.came(text)}") from None
        tokens = checks.array(name, data, "a str or bytes")
        if tokens.dtype != np.uint8 or tokens.ndim != 1:
            raise TypeError(f"{name} must be a str or bytes, shape (N,), got {checks.came(tokens)}")
        return tokens

    def decode(self, tokens: npt.ArrayLike) -> bytes:
        """The bytes that integer tokens stand for, shape ``(N,)``."""
        return checks.array("tokens", tokens, "an array of tokens").astype(np.uint8).tobytes()


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
