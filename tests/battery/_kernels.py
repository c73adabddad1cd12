"""How the battery sets the kernels, and how it tampers with them: what comes from Python looks as before."""

from contextlib import contextmanager

import numpy as np

from fastrnn import backend
from fastrnn.config import _core


@contextmanager
def kernels_of(isa, threads):
    """This ISA, and so many threads which work whatever else the machine is doing."""
    before = _core.config()["isa"]
    _core.set_isa(isa)
    _core.insist_on_teams(True)
    _core.set_num_threads(threads)
    try:
        yield
    finally:
        _core.set_isa(before)
        _core.insist_on_teams(False)
        _core.set_num_threads(0)


class _Replaced:
    """The native kernels, but for some of their names."""

    def __init__(self, replacements):
        vars(self).update(replacements)

    def __getattr__(self, name):
        return getattr(_core, name)


@contextmanager
def tampered(**replacements):
    """Something else in the place of some of the kernels' names."""
    real, replaced = backend._backend, _Replaced(replacements)
    backend._backend = lambda name: replaced if name == "native" else real(name)
    try:
        yield
    finally:
        backend._backend = real


class Stack:
    """The kernels' `Stack`; a subclass does something wrong before it or after it."""

    def __init__(self, owner, cell, parameters, directions, options):
        self._inner = _core.Stack(owner, cell, self.made_of(parameters), directions, options)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def run(self, x, state, lengths, batch_sizes, *more, **named):
        found = self._inner.run(*self.before(x, state, lengths), batch_sizes, *more, **named)
        return found if found is None else self.after(found, batch_sizes)

    def train(self, x, state, lengths, batch_sizes, *more, **named):
        found = self._inner.train(*self.before(x, state, lengths), batch_sizes, *more, **named)
        return found if found is None else self.after(found, batch_sizes)

    def back(self, *arguments, **named):
        return self._inner.back(*arguments, **named)

    def made_of(self, parameters):
        return parameters

    def before(self, x, state, lengths):
        return x, state, lengths

    def after(self, found, batch_sizes):
        return found


def one_bit(array):
    """The array with its last number the next greater one."""
    other = array.copy()
    if other.size:
        with np.errstate(all="ignore"):
            other.flat[-1] = np.nextafter(other.flat[-1], np.inf, dtype=other.dtype)
    return other


def with_y(found, change):
    """What a stack found, with another y."""
    y, *others = found
    return (change(y), *others)
