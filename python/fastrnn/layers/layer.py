"""What every layer is made of: named arrays, their gradients, and initial values."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.arrays import Arrays, Joined
from fastrnn.backend import Backend, kernels
from fastrnn.checks import Array
from fastrnn.whole import at_once, copying, setting

T = TypeVar("T")
CompositeT = TypeVar("CompositeT", bound="Composite")
Seed: TypeAlias = "int | np.random.Generator | None"  # a string: numpy.random loads when it is needed
Back: TypeAlias = "Callable[[npt.ArrayLike], Array]"  # from the gradient of y to that of x


class Layer:
    """What all layers share. Copies and pickles have the weights, but no gradients.

    A layer keeps nothing of what goes through it: what ``forward`` returns last, `back`, holds all that the
    way back needs, for as long as somebody holds it.

    Parameters
    ----------
    parameters : mapping of str to ndarray, optional
        The arrays that the layer owns from now on.
    """

    #: The features of what it takes and of what it gives: None is any number, and as many as come.
    _features: tuple[int | None, int | None] = (None, None)

    #: Whether it is of steps of sequences, and takes how many are valid as its `lengths`.
    _takes_lengths = False

    #: How many times the learning rate some of its arrays need, by name.
    _rates: Mapping[str, float] = {}

    #: What a backend has made of the parameters, and which one.
    _made: tuple[Backend, Any] | None = None

    def __init__(self, parameters: Mapping[str, Array] | None = None) -> None:
        self._parameters = Arrays(parameters or {})
        self._gradients = Arrays({})

    @property
    def parameters(self) -> Arrays:
        """The arrays by name, for an optimizer to update in place. What is assigned to a name is copied into
        its array.

        Calls see whatever is written to an array, at any time, by whoever holds it or a view, buffer or
        tensor of it. What writes by an address alone, kept from an array that was dropped, must take the
        array from here once more afterwards."""
        return self._parameters

    @property
    def gradients(self) -> Arrays:
        """The sums of what each `back` has found since they were taken, to look at and to clip; empty before
        the first one."""
        return self._gradients

    def add_gradients(self, gradients: Mapping[str, Array]) -> None:
        """Add to the gradients what a `back` has found: for layers of one's own.

        The first are kept as they are; sums are new arrays, as two names may share one.

        Parameters
        ----------
        gradients : mapping of str to ndarray
            With the keys of `parameters`.
        """
        self._gradients = self._sum(gradients)

    def _sum(self, gradients: Mapping[str, Array]) -> Arrays:
        """What the layer's own gradients become when these are added."""
        found = dict(gradients)
        if self._gradients:
            with np.errstate(all="ignore"):
                for name, before in self._gradients.items():
                    found[name] = before + found[name] if name in found else before
        return Arrays(found)

    def take_gradients(self) -> dict[str, Array]:
        """Hand the gradients over, for a step of an optimizer: the layer has none then until a `back` runs
        again, so that none is applied twice.

        Returns
        -------
        dict of str to ndarray
            With the keys of `parameters`.

        Raises
        ------
        RuntimeError
            If no `back` has run since they were taken: it names those that are missing, and the others stay.
        """
        gradients = dict(self.gradients)
        missing = [name for name in self.parameters if name not in gradients]
        if missing:
            raise RuntimeError(
                f"{type(self).__name__} has no gradients of {', '.join(missing)}: "
                "back must run before they are taken, each time"
            )
        self.clear_gradients()
        return gradients

    def clear_gradients(self) -> None:
        """Forget the gradients: what comes next is added to nothing."""
        self._gradients = Arrays({})

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters, by name."""
        return {name: array.copy() for name, array in self.parameters.items()}

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Copy values into the parameters, cast to their dtype.

        Parameters
        ----------
        state : mapping of str to array_like
            One float array for every parameter, of its shape.

        Raises
        ------
        TypeError
            If `state` is not a mapping.
        ValueError
            If entries are missing, unexpected, misshapen or not floats: it names them all, and no parameter
            has changed. Also if the layer, or one in it, is compressed.
        """
        parameters = self.parameters
        fixed = [name for name, array in parameters.items() if not array.flags.writeable]
        if fixed:
            raise ValueError(
                f"{fixed[0]!r} of {type(self).__name__} is read-only, as all arrays of a compressed layer: "
                "load into the one that it was made from, and compress that"
            )
        found = checks.matching_arrays(f"state of {type(self).__name__}", state, parameters)
        own = [array.copy() for array in found.values()]  # as they may be parameters, under other names
        at_once(copying(own, map(parameters.__getitem__, found)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the layer to a file, its options and its weights, which `fastrnn.load` makes a layer of
        again. Seeds are not kept.

        Parameters
        ----------
        path : str or path-like
            The file, of safetensors: it is the old one or the whole new one at any time, whatever happens.

        Raises
        ------
        TypeError, ValueError
            If it or a layer in it is of a class of one's own, or comes twice.
        OSError
            If the file cannot be written.
        """
        from fastrnn import checkpoint
        from fastrnn.layers.compression import stored, told
        from fastrnn.layers.description import describe

        checkpoint.save(path, stored(self), {"layer": describe(self), **told(self)})

    @property
    def _mixes(self) -> bool:
        """Whether a feature that it gives comes from several."""
        return self._features != (None, None)

    @property
    def _needs_whole(self) -> bool:
        """Whether what it gives for a step depends on steps that come later."""
        return False

    def _takes(self, given: int | None) -> int | None:
        """How many features it takes, where it has to give so many; None if that is not known."""
        takes, gives = self._features
        return given if gives is None else takes

    def _gives(self, taken: int | None) -> int | None:
        """How many features it gives, where so many come."""
        gives = self._features[1]
        return taken if gives is None else gives

    def _with_batch_first(self) -> Layer:
        """The layer as it stands in a `Sequential` whose recurrent layers have `batch_first`."""
        return self

    def _stages(self, batch: int) -> list[Any]:
        """What a stream makes of the layer: none, some `Stage`, or layers to be called at each step."""
        return [self]

    def __repr__(self) -> str:
        """The call that makes such a layer: sizes, and the options that are not as usual."""
        shown = []
        for name, option in checks.options_of(type(self)).items():
            if name not in vars(self):  # as a seed
                continue
            value = getattr(self, name)
            value = value.name if isinstance(value, np.dtype) else value
            if option.default is option.empty:
                shown.append(repr(value))
            elif value != option.default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle has: no gradients, and nothing that a backend has made."""
        return {**self.__dict__, "_gradients": Arrays({}), "_made": None}

    def _for_inference(self) -> Any:
        """What the backend in use makes of the parameters, which is made once."""
        backend, made = kernels(), self._made
        if made is None or made[0] is not backend:
            self._made = made = backend, self._make(backend)
        return made[1]

    def _make(self, backend: Backend) -> Any:
        raise NotImplementedError


class Composite(Layer):
    """Layers that are trained as one: each array goes by its layer's name and its own, as ``head.bias``.

    It can be used as it is, to join layers for an optimizer, or be the base of a network of one's own.

    Parameters
    ----------
    **parts : Layer
        The layers by name.

    Attributes
    ----------
    parts : dict of str to Layer
        Each is an attribute too: ``network.head``.

    Raises
    ------
    TypeError, ValueError
        If a part is not a layer, or its name has a dot.

    Examples
    --------
    >>> from fastrnn.layers import LSTM, Linear
    >>> network = Composite(lstm=LSTM(3, 5), head=Linear(5, 2))
    >>> list(network.parameters)[-2:]
    ['head.weight', 'head.bias']
    """

    def __init__(self, **parts: Layer) -> None:
        for name, layer in parts.items():
            if not isinstance(layer, Layer):
                came = (
                    f"the class {layer.__name__}: call it" if isinstance(layer, type) else checks.came(layer)
                )
                raise TypeError(f"part {name} must be a layer, got {came}")
            if "." in name:
                raise ValueError(f"part {name} must have a name without dots: they stand before its arrays'")
        super().__init__()
        self.parts = parts

    def __getattr__(self, name: str) -> Any:
        """A part by its name."""
        try:
            return self.__dict__["parts"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute or part {name!r}") from None

    def __repr__(self) -> str:
        """A line for each part."""
        parts = "".join(f"\n({name}): {layer!r}" for name, layer in self.parts.items()).replace("\n", "\n  ")
        return f"{type(self).__name__}({parts}\n)" if parts else f"{type(self).__name__}()"

    @property
    def parameters(self) -> Arrays:
        """The parts' own arrays, not copies."""
        return Joined({name: layer.parameters for name, layer in self.parts.items()})

    @property
    def gradients(self) -> Arrays:
        """What the parts have: those whose `back` has run."""
        return Joined({name: layer.gradients for name, layer in self.parts.items()})

    #: What `compress` has changed, where it was to say it.
    compression: Any = None

    @property
    def weights(self) -> str:
        """That of its layers, see `fastrnn.layers.Compressible.weights`; several, where they differ."""
        from fastrnn.layers.compression import compressible

        return ", ".join(sorted({layer.weights for layer in compressible(self).values()}))

    def compress(
        self: CompositeT,
        weights: str,
        *,
        activations: int = 16,
        check: Any = None,
        metric: Callable[[Any], float] | None = None,
    ) -> CompositeT:
        """A copy for inference whose weights have fewer bits: those of all recurrent layers, `Linear` and
        `Embedding` in it. All others stay as they are.

        Parameters
        ----------
        weights, activations, check, metric
            As of `fastrnn.layers.Compressible.compress`.

        Returns
        -------
        A network of the same class.

        Raises
        ------
        TypeError, ValueError
            As of a layer, which is named; or if there is none of these.
        """
        from fastrnn.layers.compression import compressed

        return compressed(self, weights, activations, check, metric)

    def add_gradients(self, gradients: Mapping[str, Array]) -> None:
        """Add to the parts' gradients."""
        owners = self._owners()
        sums = [layer._sum(_of_part(name, gradients)) for name, layer in owners.items()]
        at_once(setting("_gradients", owners.values(), sums))

    def clear_gradients(self) -> None:
        """Forget the parts' gradients."""
        owners = self._owners().values()
        at_once(setting("_gradients", owners, [Arrays({}) for _ in owners]))

    def _all_or_none(self, back: Callable[[], T]) -> T:
        """What a way back through the parts returns. If it is ended, the gradients are those of before, where
        some layers may have added to theirs."""
        owners = self._owners().values()
        gradients = [owner._gradients for owner in owners]
        try:
            return back()
        except BaseException:
            at_once(setting("_gradients", owners, gradients))
            raise

    def _owners(self) -> dict[str, Layer]:
        """The layers in it whose arrays are their own, each by the first of its names."""
        found: dict[int, tuple[str, Layer]] = {}
        for name, layer in self.parts.items():
            inner = layer._owners() if isinstance(layer, Composite) else {"": layer}
            for own, each in inner.items():
                found.setdefault(id(each), (f"{name}.{own}" if own else name, each))
        return dict(found.values())


def _of_part(part: str, gradients: Mapping[str, Array]) -> dict[str, Array]:
    """Those of a part, by its own names."""
    names = {name: name.removeprefix(f"{part}.") for name in gradients}
    return {own: gradients[name] for name, own in names.items() if own != name and "." not in own}


def held_in(*holders: Any) -> list[Any]:
    """Some objects, what is in their attributes and collections, and in these in turn, each once."""
    waiting: list[Any] = list(holders)
    seen: dict[int, Any] = {}
    for value in waiting:  # which grows meanwhile
        if id(value) not in seen:
            seen[id(value)] = value
            waiting += _held_by(value)
    return list(seen.values())


def _held_by(value: Any) -> list[Any]:
    """What a collection holds, or an object, such as a layer, but for modules, which hold everything."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    return [] if isinstance(value, ModuleType) else list(getattr(value, "__dict__", {}).values())


def generator(seed: Seed, *owner: object) -> np.random.Generator:
    """What an owner, told by its name and sizes, draws its numbers from: an int is mixed with these, so that
    one seed for several layers makes no two of them alike, but those of one class and one size."""
    if seed is None or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    seed = checks.non_negative_int("seed", seed)
    key = zlib.crc32(repr(owner).encode())
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))


def uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return rng.uniform(-bound, bound, shape).astype(dtype)


def floats(name: str, value: npt.ArrayLike, dtype: np.dtype[Any], shape: Sequence[int | str]) -> Array:
    """A float array of a shape, in which letters stand for any size, and of the layer's dtype."""
    array = checks.float_array(name, value, shape)
    if array.dtype != dtype:
        hint = f'cast it first: {name}.astype("{dtype}")'
        raise TypeError(f"{name} must have the layer's dtype {dtype}, got {array.dtype}; {hint}")
    return array
