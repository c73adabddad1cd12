"""Calls of layers that stop where kernels are to compute something. Then it is done alone, or together with
what other models want, by threads that are dealt whole models.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
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


def together(courses: Iterable[Course[T]], names: Sequence[str]) -> list[T]:
    """What courses return, whose requests are done all at once: the first of each, then the second ones.

    None goes on from a None that it has yielded before all others have come to one, or to a request. An error
    names the member whose course has ended by it.
    """
    backend, results = kernels(), dict[int, T]()
    begun: list[Course[T]] = []
    calls: list[tuple[int, Course[T], Any]] = []

    def begin() -> Iterator[tuple[int, Course[T], Any]]:
        for place, course in enumerate(courses):
            begun.append(course)
            yield place, course, None

    def advance(waiting: Iterable[tuple[int, Course[T], Any]]) -> Iterator[Any]:
        """The next calls of courses, which are sent what has come of those before."""
        while waiting:
            checked = []
            for place, course, found in waiting:
                try:
                    call = _next_call(course, found, backend)
                except StopIteration as end:
                    results[place] = end.value
                except (TypeError, ValueError, RuntimeError) as error:
                    error.args = (f"member {names[place]}: {error}",)
                    raise
                else:
                    if call is None:
                        checked.append((place, course, None))
                    else:
                        calls.append((place, course, call))
                        yield call
            waiting = checked

    try:
        backend.compute(advance(begin()), len(names))
        while calls:
            waiting = [(place, course, call.results()) for place, course, call in calls]
            calls.clear()
            backend.compute(advance(waiting), len(names))
    finally:
        for course in begun:
            course.close()
    return [results[place] for place in range(len(results))]


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


def _next_call(course: Course[Any], found: Any, backend: Any) -> Any:
    """What its next request has prepared, or None. What a way back asks of another backend, which was in use
    when it was made, is done at once."""
    while True:
        request = course.send(found)
        if request is None:
            return None
        if not isinstance(request.stack, backend.Stack):
            found = getattr(request.stack, request.name)(*request.arguments)
            continue
        call = request.stack.prepare(request.name, request.arguments)
        if call is not None:
            return call
        found = None
