"""Many models side by side, each of its own data, in one call.

Letters: T time, B batch, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.layers.layer import Composite, Layer
from fastrnn.layers.recurrent import Recurrent
from fastrnn.layers.sequential import Sequential
from fastrnn.layers.together import together

#: How members run: what a subclass has of its own instead could not be taken apart.
_RUN = [(kind.__call__, kind.forward) for kind in (Recurrent, Sequential)]


class Parallel(Composite):
    """Models that have nothing to do with each other, each with an input of its own, in one call: a thousand
    small ones, a series, a user or a seed each.

    Threads are dealt whole models, the largest first; one that is larger than a thread's share of all has all
    threads, as it has alone. Each model gives the very bits that it gives alone, for any number of threads.

    Parameters
    ----------
    layers : iterable of Layer
        The members: recurrent layers and `Sequential`, of any sizes, cells and dtypes. Their parameters are
        named by their places: ``0.weight_ih_l0``.
    **named : Layer
        More members, after those, by names of their own.

    Attributes
    ----------
    parts : dict of str to Layer
        The members.

    Raises
    ------
    TypeError, ValueError
        If `layers` cannot be gone through, or a member is none of these layers.

    Notes
    -----
    The arguments of calls are lists with something for each member. What a recurrent member does runs on the
    kernels side by side with the others'; other layers of a `Sequential` run one member after the other, in
    Python, and so do the checks: 3 to 50 µs for each member. Memory is that of all members at once.

    Some members are another `Parallel`, of the same layers: to make it takes a microsecond for each.

    Examples
    --------
    >>> from fastrnn.layers import GRU, LSTM, Last, Linear, Parallel, Sequential
    >>> members = [LSTM(3, 5, seed=0), Sequential(GRU(2, 4, seed=0), Last(), Linear(4, 1, seed=0))]
    >>> parallel = Parallel(members)
    >>> x = [np.ones((7, 4, 3), "float32"), np.ones((9, 6, 2), "float32")]
    >>> y, back = parallel.forward(x)
    >>> [each.shape for each in y]
    [(7, 4, 5), (6, 1)]
    >>> dx = back(y)  # the gradients of sum(y^2) / 2
    >>> [each.shape for each in dx]
    [(7, 4, 3), (9, 6, 2)]
    >>> sorted(parallel.take_gradients())[-1]
    '1.2.weight'
    """

    def __init__(self, layers: Iterable[Layer] = (), **named: Layer) -> None:
        if isinstance(layers, Layer) or not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a list of layers, got {checks.came(layers)}")
        super().__init__(**{str(place): layer for place, layer in enumerate(layers)}, **named)
        for name, layer in self.parts.items():
            kind, forward = type(layer), getattr(layer, "forward", None)
            if (kind.__call__, getattr(forward, "__func__", None)) not in _RUN:
                expected = "a recurrent layer or a Sequential, which may consist of one layer"
                raise TypeError(f"member {name} must be {expected}, got {checks.came(layer)}")

    def __call__(
        self,
        x: Sequence[Any],
        lengths: Sequence[Any] | None = None,
        *,
        state: Sequence[Any] | None = None,
        starts: Sequence[Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """Inference: no dropout, nothing kept, safe from many threads.

        Parameters
        ----------
        x : list of array_like
            For each member its input, as its own call takes it; a `Sequential` also takes `Sequences`.
        lengths : list of array_like of integers, optional
            Each (B,), or None for all steps.
        state : list, optional
            Each as the member takes it, or None.
        starts : list of array_like of booleans, optional
            Each (T, B), or None: before which steps a sequence starts anew.
        return_state : bool
            Whether to return the states too.

        Returns
        -------
        y : list of ndarray
            What each member gives.
        state_n : list
            With `return_state` only: the state of each, of a `Sequential` a tuple of those of its recurrent
            layers.

        Raises
        ------
        TypeError, ValueError
            If an argument is not a list of as many as there are members; or as of a member, which is named.

        Examples
        --------
        >>> from fastrnn.layers import LSTM, Parallel
        >>> members = [LSTM(3, 5, seed=seed) for seed in range(4)]
        >>> x = np.ones((7, 2, 3), "float32")
        >>> y = Parallel(members)([x] * 4)
        >>> all((each == member(x)[0]).all() for each, member in zip(y, members))
        True
        """
        return_state = checks.boolean("return_state", return_state)
        y, states = self._all(2, "_inference", x, state=state, lengths=lengths, starts=starts)
        return (y, states) if return_state else y

    def forward(
        self,
        x: Sequence[Any],
        lengths: Sequence[Any] | None = None,
        *,
        state: Sequence[Any] | None = None,
        starts: Sequence[Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """Training: the same as a call, but with dropout, and with the way back.

        Parameters
        ----------
        x, lengths, state, starts, return_state
            As of a call. Do not write to them, nor to the parameters, before `back` has run.

        Returns
        -------
        y, state_n
            As of a call; the latter with `return_state` only.
        back : callable
            ``dx = back(dy, *, input_gradient=True)`` takes a list with the gradient of each y, goes back
            through all members, adds to their gradients, and returns a list with the gradient of each x, or
            None as of the member. It serves one call.

        Raises
        ------
        TypeError, ValueError
            As of a call, before anything is drawn or computed. By `back`, if `dy` is no such list, or one of
            it is of another dtype or shape; nothing has changed then.
        RuntimeError
            By `back`, if it was called before.
        """
        return_state = checks.boolean("return_state", return_state)
        y, states, ways = self._all(3, "_training", x, state=state, lengths=lengths, starts=starts)

        def back(dy: Sequence[Any], *, input_gradient: bool = True) -> list[Array | None]:
            """Once: the dx of each dy; adds to the members' gradients."""
            given = self._listed("dy", dy)
            for name, each in zip(self.parts, given, strict=True):
                if each is None:
                    raise TypeError(f"member {name}: dy must be an array of the shape of y, got None")
            wanted = checks.boolean("input_gradient", input_gradient)
            courses = [going_back(each, None, wanted) for going_back, each in zip(ways, given, strict=True)]
            return [dx for dx, *_ in self._all_or_none(lambda: together(courses, [*self.parts]))]

        return (y, states, back) if return_state else (y, back)

    def _all(self, count: int, course: str, x: Any, **others: Any) -> Iterator[list[Any]]:
        """What a course of each member returns: the lists of its parts, of which there are so many."""
        none = [None] * len(self.parts)
        given = [self._listed("x", x)]
        given += [none if each is None else self._listed(name, each) for name, each in others.items()]
        members: Any = self.parts.values()
        courses = (getattr(member, course)(*own) for member, *own in zip(members, *given, strict=True))
        found = together(courses, [*self.parts])
        return ([each[part] for each in found] for part in range(count))

    def _listed(self, name: str, values: Any) -> Sequence[Any]:
        """With something for each member."""
        expected = f"{name} must be a list with one for each of the {len(self.parts)} members"
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"{expected}, got {checks.came(values)}")
        if len(values) != len(self.parts):
            raise ValueError(f"{expected}, got {len(values)}")
        return values
