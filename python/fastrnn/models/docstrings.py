"""Docstrings that say all: what a class shares with its bases is pasted in, from where it is said."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

SHARED = ("Parameters", "Attributes")


def complete(cls: type) -> None:
    """Add to a class's docstring the parameters and attributes of its bases that it does not describe."""
    text, own = _sections(cls)
    for name in reversed(SHARED):
        entries: dict[str, str] = {}  # each by its names
        known: set[str] = set()
        for section in [own.pop(name, ""), *(_sections(base)[1].get(name, "") for base in cls.__mro__[1:])]:
            for names, rest in _entries(section):
                new = [each for each in names if each not in known]
                known.update(new)
                if new:
                    entries[", ".join(new)] = rest
        if entries:
            own = {name: "\n".join(key + rest for key, rest in entries.items()), **own}
    if text:
        cls.__doc__ = "\n\n".join([text, *(f"{name}\n{'-' * len(name)}\n{own[name]}" for name in own)])


def _sections(cls: type) -> tuple[str, dict[str, str]]:
    """A class's own docstring: what comes first, and the sections by their titles."""
    text, *rest = re.split(r"\n\n(\w+)\n-+\n", inspect.cleandoc(cls.__dict__.get("__doc__") or ""))
    return text, {title: body.rstrip() for title, body in zip(rest[::2], rest[1::2], strict=True)}


def _entries(section: str) -> Iterator[tuple[list[str], str]]:
    """The names of each entry, and what follows them."""
    for entry in re.split(r"\n(?=\S)", section) if section else []:
        names, rest = re.fullmatch(r"(\w+(?:, \w+)*)(.*)", entry, re.DOTALL).groups()  # type: ignore[union-attr]
        yield names.split(", "), rest
