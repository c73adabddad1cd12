"""Docstrings that say all: what a class shares with its bases is pasted in, from where it is said."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator

SHARED = ("Parameters", "Attributes")


def complete(cls: type, *bases: type) -> None:
    """Add to a class's docstring what bases of it, by default all, say of parameters and attributes."""
    text, own = _sections(cls)
    places = {name: place for place, name in enumerate(inspect.signature(cls).parameters)}
    for title in reversed(SHARED):
        entries: dict[str, str] = {}  # each by its names
        known: set[str] = set()
        said = [own.pop(title, ""), *(_sections(base)[1].get(title, "") for base in bases or cls.__mro__[1:])]
        for names, rest in itertools.chain(*map(_entries, said)):
            new = [name for name in names if name not in known]
            known.update(new)
            if new:
                entries[", ".join(new)] = rest
        ordered = sorted(entries, key=lambda names: places.get(names.split(", ")[0], -1))
        if entries:
            own = {title: "\n".join(names + entries[names] for names in ordered), **own}
    if text:
        cls.__doc__ = "\n\n".join([text, *(f"{title}\n{'-' * len(title)}\n{own[title]}" for title in own)])


def _sections(cls: type) -> tuple[str, dict[str, str]]:
    """A class's own docstring: what comes first, and the sections by their titles."""
    text, *rest = re.split(r"\n\n(\w+)\n-+\n", inspect.cleandoc(cls.__dict__.get("__doc__") or ""))
    return text, {title: body.rstrip() for title, body in zip(rest[::2], rest[1::2], strict=True)}


def _entries(section: str) -> Iterator[tuple[list[str], str]]:
    """The names of each entry, and what follows them."""
    for entry in re.split(r"\n(?=\S)", section) if section else []:
        names, rest = re.fullmatch(r"(\w+(?:, \w+)*)(.*)", entry, re.DOTALL).groups()  # type: ignore[union-attr]
        yield names.split(", "), rest
