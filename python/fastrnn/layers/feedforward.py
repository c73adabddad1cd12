"""Layers without memory, for what comes before and after the recurrent ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn import checks, functional
from fastrnn.backend import Backend, kernels
from fastrnn.checks import Array
from fastrnn.layers.compression import Compressible
from fastrnn.layers.layer import Back, Layer, Seed, floats, generator, uniform
from fastrnn.layers.stream import Stage
from fastrnn.reference import Parameters


class Linear(Compressible):
    """y = x W^T + b on the last axis.

    The parameters are ``weight`` (out_features, in_features) and ``bias`` (out_features,).

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis of x and y.
    bias : bool
        Whether b is there.
    dtype : {"float32", "float64"}
        Of parameters, inputs and outputs.
    seed : int or numpy.random.Generator, optional
        Of the initial values, uniform between -1/sqrt(in_features) and 1/sqrt(in_features) as in PyTorch.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range.

    Examples
    --------
    >>> layer = Linear(3, 2, seed=0)
    >>> layer(np.ones((7, 4, 3), "float32")).shape
    (7, 4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike = "float32",
        seed: Seed = None,
    ) -> None:
        self.in_features = checks.positive_int("in_features", in_features)
        self.out_features = checks.positive_int("out_features", out_features)
        self.bias = checks.boolean("bias", bias)
        self.dtype = checks.float_dtype("dtype", dtype)
        shape, bound = (self.out_features, self.in_features), 1 / math.sqrt(self.in_features)
        self._features = self.in_features, self.out_features
        rng = generator(seed, type(self).__name__, *shape)
        shapes = {"weight": shape, "bias": shape[:1]} if self.bias else {"weight": shape}
        super().__init__({name: uniform(rng, bound, shape, self.dtype) for name, shape in shapes.items()})

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Inference: y, (..., out_features), of x, (..., in_features)."""
        made = self._for_inference()
        y: Array | None = made.run(x)
        return made.run(self._input(x)) if y is None else y

    def forward(self, x: npt.ArrayLike) -> tuple[Array, Back]:
        """The same as a call, and ``back(dy)``, which adds to `gradients` and returns dx, (..., in_features).

        `back` reads x and ``weight``: do not write to them before.
        """
        self._require_trainable()
        array = self._input(x)

        def back(dy: npt.ArrayLike) -> Array:
            """dx, (..., in_features), of dy, (..., out_features); adds to the layer's gradients."""
            dy = floats("dy", dy, self.dtype, (*array.shape[:-1], self.out_features))
            dx, dweight, dbias = functional.linear_backward(array, self.parameters["weight"], dy)
            self.add_gradients({"weight": dweight} | ({"bias": dbias} if self.bias else {}))
            return dx

        return functional.linear(array, *self.parameters.values()), back

    def _stages(self, batch: int) -> list[Stage]:
        weight, bias = self.parameters["weight"], self.parameters.get("bias")
        return [Stage("linear", [Parameters(weight, None, bias, format=self._format)])]

    def _input(self, x: npt.ArrayLike) -> Array:
        array = checks.array("x", x, f"a {self.dtype} array of shape (..., {self.in_features})")
        return floats("x", array, self.dtype, (*array.shape[:-1], self.in_features))

    def _make(self, backend: Backend) -> Any:
        weight, *bias = map(self._parameters.look_at, self._parameters)
        parameters = Parameters(weight, None, bias[0] if bias else None, format=self._format)
        return backend.Linear(self._parameters, parameters)


class Embedding(Compressible):
    """A vector for each token: y = weight[x]. The parameter is ``weight`` (V, E).

    Parameters
    ----------
    num_embeddings : int
        V, the size of the vocabulary.
    embedding_dim : int
        E, the size of a vector.
    dtype : {"float32", "float64"}
        Of parameters and outputs.
    seed : int or numpy.random.Generator, optional
        Of the initial values, standard normal as in PyTorch.

    Raises
    ------
    TypeError, ValueError
        If an option is of another type or out of range.

    Examples
    --------
    >>> layer = Embedding(100, 8, seed=0)
    >>> layer(np.array([[7, 99, 0], [3, 3, 3]])).shape
    (2, 3, 8)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, dtype: npt.DTypeLike = "float32", seed: Seed = None
    ) -> None:
        self.num_embeddings = checks.positive_int("num_embeddings", num_embeddings)
        self.embedding_dim = checks.positive_int("embedding_dim", embedding_dim)
        self.dtype = checks.float_dtype("dtype", dtype)
        self._features = None, self.embedding_dim
        shape = self.num_embeddings, self.embedding_dim
        normal = generator(seed, type(self).__name__, *shape).standard_normal(shape)
        super().__init__({"weight": normal.astype(self.dtype)})

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Inference: y, (..., E), of tokens x, (...), within 0 to V-1."""
        weight: Array = self.parameters["weight"]
        return weight[self._input(x)]

    def forward(self, x: npt.ArrayLike) -> tuple[Array, Callable[[npt.ArrayLike], None]]:
        """The same as a call, and ``back(dy)``, which adds to `gradients`; tokens have no gradient."""
        self._require_trainable()
        x = self._input(x)

        def back(dy: npt.ArrayLike) -> None:
            """Add to the layer's gradients those of dy, (..., E)."""
            dy = floats("dy", dy, self.dtype, (*x.shape, self.embedding_dim))
            order = np.argsort(x, axis=None, kind="stable")
            tokens, first = np.unique(x.reshape(-1)[order], return_index=True)
            dweight = np.zeros_like(self.parameters["weight"])
            with np.errstate(all="ignore"):  # equal tokens side by side, one sum for each
                dweight[tokens] = np.add.reduceat(dy.reshape(-1, self.embedding_dim)[order], first, axis=0)
            self.add_gradients({"weight": dweight})

        return self.parameters["weight"][x], back

    def _stages(self, batch: int) -> list[Stage]:
        return [Stage("embedding", [Parameters(self.parameters["weight"], None)])]

    def _input(self, x: npt.ArrayLike) -> Array:
        array = checks.array("x", x, "an integer array")
        return checks.int_array("x", x, array.shape, 0, self.num_embeddings - 1, "0..num_embeddings-1")


class Merge(Layer):
    """One out of the two halves of the features: of what a bidirectional layer gives, its directions.

    Parameters
    ----------
    mode : {"sum", "mul", "ave"}
        Their sum, their product or their mean: the names are those of Keras's ``merge_mode``.

    Raises
    ------
    TypeError, ValueError
        If `mode` is another.

    Examples
    --------
    >>> Merge("ave")(np.array([[1.0, 2.0, 3.0, 6.0]])).tolist()
    [[2.0, 4.0]]
    """

    _mixes = True

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = checks.one_of("mode", mode, ("sum", "mul", "ave"))

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Inference: y, (..., F/2), of x, (..., F) float32 or float64."""
        return self.forward(x)[0]

    def forward(self, x: npt.ArrayLike) -> tuple[Array, Back]:
        """The same as a call, and ``back(dy)``, which returns dx, (..., F). It reads x: do not write to it
        before."""
        array = checks.array("x", x, "a float32 or float64 array")
        array = checks.float_array("x", array, array.shape)
        half = self._gives(array.shape[-1] if array.ndim else 0)
        first, second = array[..., :half], array[..., half:]
        with np.errstate(all="ignore"):
            y = first * second if self.mode == "mul" else first + second
            y = y / 2 if self.mode == "ave" else y

        def back(dy: npt.ArrayLike) -> Array:
            """dx, (..., F), of dy, (..., F/2)."""
            dy = checks.float_array("dy", dy, y.shape)
            checks.same_dtype(y=y, dy=dy)
            with np.errstate(all="ignore"):
                dy = dy / 2 if self.mode == "ave" else dy
                halves = (dy * second, dy * first) if self.mode == "mul" else (dy, dy)
            return np.concatenate(halves, axis=-1)

        return y, back

    def _takes(self, given: int | None) -> int | None:
        return None if given is None else 2 * given

    def _gives(self, taken: int | None) -> int | None:
        if taken is None:
            return None
        if taken % 2 or not taken:
            raise ValueError(
                f"{self!r} takes an even number of features, of which it makes half, got {taken}"
            )
        return taken // 2


class Dropout(Layer):
    """In training each element is zeroed with probability p, and the others are multiplied by 1 / (1 - p), so
    that the mean stays (Srivastava et al. 2014, in the inverted form); in inference y = x.

    Parameters
    ----------
    p : float
        From 0 to 1. The random numbers have 16 bits: the probability is the multiple of 1/65536 next to p.
    seed : int or numpy.random.Generator, optional
        Of the masks, a new one for each call of `forward`. Two layers with one p and one int draw the same
        masks: give those of a network one Generator, from which they draw in turn.

    Raises
    ------
    TypeError, ValueError
        If p is not a number from 0 to 1.

    Examples
    --------
    >>> layer = Dropout(0.5, seed=3)
    >>> y, back = layer.forward(np.ones(8))
    >>> y.tolist()
    [2.0, 0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 2.0]
    >>> back(np.ones(8)).tolist()
    [2.0, 0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 2.0]
    """

    def __init__(self, p: float, *, seed: Seed = None) -> None:
        super().__init__()
        self.p = checks.probability("p", p)
        self._rng = generator(seed, type(self).__name__, self.p)

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Inference: x, unchanged."""
        return self._input(x)

    def forward(self, x: npt.ArrayLike) -> tuple[Array, Back]:
        """x with elements dropped, with p = 0 x itself; and ``back(dy)``, which drops the same of dy."""
        array = self._input(x)
        shape, random = array.shape, self._random(array.size) if self.p else None

        def back(dy: npt.ArrayLike) -> Array:
            """dx of dy."""
            dy = checks.float_array("dy", dy, shape)
            checks.same_dtype(x=array, dy=dy)
            return self._drop(dy, random)

        return self._drop(array, random), back

    def _stages(self, batch: int) -> list[Stage]:
        return []

    def _input(self, x: npt.ArrayLike) -> Array:
        array = checks.array("x", x, "a float32 or float64 array")
        return checks.float_array("x", array, array.shape)

    def _random(self, count: int) -> Array:
        """So many uint16, four out of each number drawn."""
        words = self._rng.integers(2**64 - 1, size=(count + 3) // 4, dtype=np.uint64, endpoint=True)
        return words.view(np.uint16)[:count]

    def _drop(self, array: Array, random: Array | None) -> Array:
        if random is None:
            return array
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        dropped: Array = kernels().drop(array, random, round(self.p * 65536), scale)
        return dropped
