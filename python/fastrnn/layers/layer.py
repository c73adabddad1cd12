"""What every layer is made of: named arrays, what forward keeps for backward, and initial values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastrnn import checks
from fastrnn.checks import Array

Seed: TypeAlias = "int | np.random.Generator | None"  # a string: numpy.random loads when it is needed


class Layer:
    """What all layers share.

    Attributes
    ----------
    parameters : dict of str to ndarray
        The arrays themselves: an optimizer updates them in place.
    gradients : dict of str to ndarray
        What the last `backward` computed, each call anew; empty before the first one.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self._kept: Any = None

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
            has changed.
        """
        arrays = checks.matching_arrays(f"state of {type(self).__name__}", state, self.parameters)
        for name, array in arrays.items():
            self.parameters[name][...] = array

    def _forward_kept(self) -> Any:
        """What the last forward call kept; backward discards it once its arguments have been checked."""
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward needs a call of forward before it; each serves one backward"
            )
        return self._kept


class Composite(Layer):
    """Layers that are trained as one: each array goes by its layer's name and its own, as ``head.bias``.

    A subclass calls `gather` at the end of its backward pass.

    Parameters
    ----------
    **parts : Layer
        The layers by name.

    Attributes
    ----------
    parts : dict of str to Layer
    parameters : dict of str to ndarray
        The parts' own arrays, not copies.
    """

    def __init__(self, **parts: Layer) -> None:
        super().__init__()
        self.parts = parts
        self.parameters = {
            f"{part}.{name}": array
            for part, layer in parts.items()
            for name, array in layer.parameters.items()
        }

    def gather(self) -> None:
        """Set `gradients` from those that the parts have."""
        self.gradients = {
            f"{part}.{name}": array
            for part, layer in self.parts.items()
            for name, array in layer.gradients.items()
        }


def generator(seed: Seed) -> np.random.Generator:
    if seed is not None and not isinstance(seed, np.random.Generator):
        seed = checks.non_negative_int("seed", seed)
    return np.random.default_rng(seed)


def uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return rng.uniform(-bound, bound, shape).astype(dtype)


def floats(name: str, value: npt.ArrayLike, dtype: np.dtype[Any], shape: Sequence[int | str]) -> Array:
    """A float array of a shape, in which letters stand for any size, and of the layer's dtype."""
    array = checks.float_array(name, value, shape)
    if array.dtype != dtype:
        hint = f'cast it first: {name}.astype("{dtype}")'
        raise TypeError(f"{name} must have the layer's dtype {dtype}, got {array.dtype}; {hint}")
    return array
