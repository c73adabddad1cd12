"""Calls of layers that stop where kernels are to compute something. Then it is done alone, or together with
what other models want, by threads that are dealt whole models.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, NamedTuple, TypeAlias, TypeVar

from fastrnn.backend import kernels

T = TypeVar("T")


class Request(NamedTuple):
    """What a stack is to do: `run`, `train` or `back`, and its arguments."""

    stack: Any  # of the backend in use: see `fastrnn.reference.Stack`
    name: str
    arguments: tuple[Any, ...]


#: What yields requests and is sent what comes of each, to return the result of the call. A request may come
#: before arguments have been checked. Where something is to change first, such as the state of a generator,
#: it yields None once they are: then others are checked.
Course: TypeAlias = Generator[Request | None, Any, T]


def alone(course: Course[T]) -> T:
    """What a course returns, whose requests are done one by one."""
    found = None
    with closing(course):
        try:
            while True:
                request = course.send(found)
                found = None if request is None else getattr(request.stack, request.name)(*request.arguments)
        except StopIteration as end:
            result: T = end.value
            return result


def together(courses: Sequence[Course[T]], names: Sequence[str]) -> list[T]:
    """What courses return, whose requests are done all at once: the first of each, then the second ones.

    Nothing is computed or changed before each has come to its first request or None. An error names the
    member whose course has ended by it.
    """
    results: dict[int, T] = {}
    found: dict[int, Any] = dict.fromkeys(range(len(courses)))
    try:
        while found:
            calls: dict[int, Any] = {}
            while found:  # until each has a request, or has ended
                checked: dict[int, Any] = {}
                for place, sent in found.items():
                    try:
                        call = _advanced(courses[place], sent)
                    except StopIteration as end:
                        results[place] = end.value
                    except (TypeError, ValueError, RuntimeError) as error:
                        error.args = (f"member {names[place]}: {error}",)
                        raise
                    else:
                        (checked if call is None else calls)[place] = call
                found = checked
            kernels().compute([*calls.values()])
            found = {place: call.results() for place, call in calls.items()}
    finally:
        for course in courses:
            course.close()
    return [results[place] for place in range(len(courses))]


def taken(waiting: list[T]) -> Course[T]:
    """What a way back holds, once, when all else has been checked: two threads may want it."""
    used = RuntimeError("back was called before: each serves one call; run forward again")
    if not waiting:
        raise used
    yield None
    try:
        return waiting.pop()
    except IndexError:
        raise used from None


def _advanced(course: Course[Any], found: Any) -> Any:
    """Its next request as a call that is prepared, or None."""
    while True:
        request = course.send(found)
        if request is None:
            return None
        call = request.stack.prepare(request.name, request.arguments)
        if call is not None:
            return call
        found = None
