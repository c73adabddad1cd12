"""Optimizers and gradient clipping, by PyTorch's formulas.

An optimizer is made from a dict of parameter arrays, which every step updates in place from a dict of
gradients with the same keys. The work goes block by block through the arrays, so that the intermediate
values of an update stay in the processor's cache and take no memory of the model's size. NaN and infinity
in the gradients flow through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array

BLOCK = 32768  # elements at a time: measured the fastest for Adam, whose five operands then fit into L2


class Optimizer:
    """What the optimizers share: the parameters, a learning rate, and moving averages ("slots") by parameter.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        float32 or float64 arrays, writable, of any shape and memory layout. They are the ones updated, not
        copies.
    lr : float
        The learning rate, also a settable attribute: a schedule assigns it between steps.

    Raises
    ------
    TypeError
        If a parameter is not a float32 or float64 array, or an option not a number.
    ValueError
        If a parameter is read-only, or an option is out of its range or not finite.
    """

    _slots: tuple[str, ...] = ()  # a subclass's moving averages, as its `_update` takes them

    def __init__(self, parameters: Mapping[str, Array], lr: float) -> None:
        self.parameters = _writable("parameters", parameters)
        self.lr = lr
        self.steps = 0
        self._averages = {
            f"{slot}.{name}": np.zeros_like(array)
            for slot in self._slots
            for name, array in self.parameters.items()
        }
        sizes = [block.size for array in self.parameters.values() for (block,) in _blocks(array)]
        self._scratch = np.empty(max(sizes, default=0), dtype=np.float64)

    @property
    def lr(self) -> float:
        """The learning rate: finite, not negative."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = checks.non_negative_float("lr", value)

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Update every parameter in place.

        Parameters
        ----------
        gradients : mapping of str to ndarray
            One gradient per parameter, of its shape and dtype. They are only read.

        Raises
        ------
        TypeError
            If `gradients` is not a mapping.
        ValueError
            If gradients are missing, unexpected, or of another shape or dtype: it names them all, and no
            parameter has been touched.
        """
        arrays = checks.matching_arrays("gradients", gradients, self.parameters)
        self.steps += 1
        with np.errstate(all="ignore"):
            for name, parameter in self.parameters.items():
                averages = [self._averages[f"{slot}.{name}"] for slot in self._slots]
                for p, g, *slots in _blocks(parameter, arrays[name], *averages):
                    scratch = self._scratch.view(p.dtype)[: p.size].reshape(p.shape)
                    self._update(scratch, p, g, *slots)

    def _update(self, scratch: Array, p: Array, g: Array, *slots: Array) -> None:
        """Update one block: parameter `p` and its slots in place, from gradient `g`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """Copies of all that the next step depends on besides the parameters and the options given at
        construction.

        Returns
        -------
        dict of str to ndarray
            ``"step"`` (int64) and ``"lr"`` (float64), of shape (), and one array per moving average and
            parameter, such as ``"m.weight_ih_l0"``: names and arrays that can go into a safetensors file as
            they are.
        """
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from a state that `state_dict` gave: bit for bit as if there had been no interruption.

        Parameters
        ----------
        state : mapping of str to ndarray
            As `state_dict` returns it, from an optimizer of the same kind on the same parameters.

        Raises
        ------
        TypeError
            If `state` is not a mapping.
        ValueError
            If entries are missing, unexpected, or of another shape or dtype: it names them all, and nothing
            has changed.
        """
        arrays = checks.matching_arrays("state", state, self._state())
        steps = checks.non_negative_int("state['step']", int(arrays["step"]))
        self.lr = float(arrays["lr"])
        self.steps = steps
        for name, average in self._averages.items():
            average[...] = arrays[name]

    def _state(self) -> dict[str, Array]:
        return {"step": np.array(self.steps, np.int64), "lr": np.array(self.lr, np.float64), **self._averages}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964, in PyTorch's form) if asked for.

    d = g + weight_decay p;  m' = momentum m + d;  p' = p - lr m'

    Parameters
    ----------
    parameters : mapping of str to ndarray
        float32 or float64 arrays, updated in place.
    lr : float
        Learning rate, finite and not negative.
    momentum : float
        In [0, 1).
    weight_decay : float
        The factor of an L2 penalty's gradient, finite and not negative.

    Examples
    --------
    >>> parameters = {"w": np.array([1.0, 2.0])}
    >>> SGD(parameters, lr=0.5).step({"w": np.array([2.0, -2.0])})
    >>> parameters["w"].tolist()
    [0.0, 3.0]
    """

    def __init__(
        self, parameters: Mapping[str, Array], lr: float, *, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        self.momentum = checks.fraction("momentum", momentum)
        self.weight_decay = checks.non_negative_float("weight_decay", weight_decay)
        if self.momentum:
            self._slots = ("m",)
        super().__init__(parameters, lr)

    def _update(self, scratch: Array, p: Array, g: Array, *slots: Array) -> None:
        direction = g
        if self.weight_decay:
            direction = np.multiply(p, self.weight_decay, out=scratch)
            direction += g
        for m in slots:
            m *= self.momentum
            m += direction
            direction = m
        p -= np.multiply(direction, self.lr, out=scratch)


class RMSprop(Optimizer):
    """The gradient divided by a moving root mean square of itself (Hinton 2012, lecture 6e of "Neural
    Networks for Machine Learning", in PyTorch's form).

    v' = alpha v + (1 - alpha) g^2;  p' = p - lr g / (sqrt(v') + eps)

    Parameters
    ----------
    parameters : mapping of str to ndarray
        float32 or float64 arrays, updated in place.
    lr : float
        Learning rate, finite and not negative.
    alpha : float
        Decay of the moving average, in [0, 1).
    eps : float
        What keeps the divisor from 0: positive and finite.
    """

    _slots = ("v",)

    def __init__(
        self, parameters: Mapping[str, Array], lr: float = 1e-2, *, alpha: float = 0.99, eps: float = 1e-8
    ) -> None:
        self.alpha = checks.fraction("alpha", alpha)
        self.eps = checks.positive_float("eps", eps)
        super().__init__(parameters, lr)

    def _update(self, scratch: Array, p: Array, g: Array, *slots: Array) -> None:
        (v,) = slots
        _average_square(scratch, v, g, self.alpha)
        np.sqrt(v, out=scratch)
        scratch += self.eps
        np.divide(g, scratch, out=scratch)
        scratch *= self.lr
        p -= scratch


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1, with the two bias corrections of step t merged as at the end of
    its section 2).

    m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2
    p' = p - lr (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)

    Parameters
    ----------
    parameters : mapping of str to ndarray
        float32 or float64 arrays, updated in place.
    lr : float
        Learning rate, finite and not negative.
    betas : pair of float
        Decays b1 and b2 of the two moving averages, each in [0, 1).
    eps : float
        What keeps the divisor from 0: positive and finite.

    Examples
    --------
    >>> parameters = {"w": np.array([1.0, 2.0])}
    >>> optimizer = Adam(parameters, lr=0.1)
    >>> for _ in range(200):
    ...     optimizer.step({"w": 2 * parameters["w"]})  # the gradient of w^2
    >>> bool(np.abs(parameters["w"]).max() < 1e-3)
    True
    """

    _slots = ("m", "v")

    def __init__(
        self,
        parameters: Mapping[str, Array],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.betas = _betas(betas)
        self.eps = checks.positive_float("eps", eps)
        super().__init__(parameters, lr)

    def _update(self, scratch: Array, p: Array, g: Array, *slots: Array) -> None:
        m, v = slots
        beta1, beta2 = self.betas
        np.subtract(g, m, out=scratch)
        scratch *= 1 - beta1
        m += scratch
        _average_square(scratch, v, g, beta2)

        # lr (m / c1) / (sqrt(v) / c2 + eps) = (lr c2 / c1) m / (sqrt(v) + c2 eps): one pass less
        correction1 = 1 - beta1**self.steps
        correction2 = (1 - beta2**self.steps) ** 0.5
        np.sqrt(v, out=scratch)
        scratch += correction2 * self.eps
        np.divide(m, scratch, out=scratch)
        scratch *= self.lr * correction2 / correction1
        p -= scratch


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, in PyTorch's form).

    p' = (1 - lr weight_decay) p, and then Adam's step.

    Parameters
    ----------
    parameters, lr, betas, eps
        As in `Adam`.
    weight_decay : float
        Finite and not negative.
    """

    def __init__(
        self,
        parameters: Mapping[str, Array],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        self.weight_decay = checks.non_negative_float("weight_decay", weight_decay)
        super().__init__(parameters, lr, betas=betas, eps=eps)

    def _update(self, scratch: Array, p: Array, g: Array, *slots: Array) -> None:
        p *= 1 - self.lr * self.weight_decay
        super()._update(scratch, p, g, *slots)


def clip_grad_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    """Scale all gradients by one factor, in place, so that their common Euclidean norm is at most `max_norm`.

    Pascanu, Mikolov & Bengio 2013, algorithm 1; as in PyTorch the factor is max_norm / (norm + 1e-6) where
    that is below 1.

    Parameters
    ----------
    gradients : mapping of str to ndarray
        float32 or float64 arrays, writable.
    max_norm : float
        Positive and finite.

    Returns
    -------
    float
        The norm before clipping. It is not finite if a gradient is not; the gradients are of no use then.

    Examples
    --------
    >>> gradients = {"w": np.array([3.0, 4.0])}
    >>> clip_grad_norm(gradients, 1.0), gradients["w"].round(3).tolist()
    (5.0, [0.6, 0.8])
    """
    max_norm = checks.positive_float("max_norm", max_norm)
    arrays = _writable("gradients", gradients).values()
    norm = math.sqrt(sum(_sum_of_squares(array) for array in arrays))
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # so that a NaN is spread, not hidden
        with np.errstate(all="ignore"):
            for array in arrays:
                array *= factor
    return norm


def clip_grad_value(gradients: Mapping[str, Array], clip_value: float) -> None:
    """Bring every element of the gradients, in place, between -clip_value and clip_value; NaN stays NaN.

    Parameters
    ----------
    gradients : mapping of str to ndarray
        float32 or float64 arrays, writable.
    clip_value : float
        Positive and finite.

    Examples
    --------
    >>> gradients = {"w": np.array([3.0, -0.5])}
    >>> clip_grad_value(gradients, 1.0); gradients["w"].tolist()
    [1.0, -0.5]
    """
    clip_value = checks.positive_float("clip_value", clip_value)
    arrays = _writable("gradients", gradients).values()
    for array in arrays:
        np.clip(array, -clip_value, clip_value, out=array)


def _average_square(scratch: Array, v: Array, g: Array, decay: float) -> None:
    """v' = decay v + (1 - decay) g^2"""
    v *= decay
    np.multiply(g, g, out=scratch)
    scratch *= 1 - decay
    v += scratch


def _sum_of_squares(array: Array) -> float:
    """In float64, in which no float32's square overflows; einsum takes no temporary array and no BLAS."""
    flat = array.ravel("K")
    return float(np.einsum("i,i", flat, flat, dtype=np.float64))


def _blocks(*arrays: Array) -> Iterator[list[Array]]:
    """Arrays of one shape in matching blocks of about BLOCK elements: slices of the first axis, which are
    views whatever the memory layout."""
    views = [np.atleast_1d(array) for array in arrays]
    rows = len(views[0])
    rows_at_once = max(1, BLOCK * rows // max(1, views[0].size))
    for start in range(0, rows, rows_at_once):
        yield [view[start : start + rows_at_once] for view in views]


def _writable(what: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays that can be updated in place, by name."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{what} must be a mapping of names to arrays, got {checks.came(arrays)}")
    for name, array in arrays.items():
        place = f"{what}[{name!r}]"
        if type(array) is not np.ndarray or array.dtype not in checks.FLOATS:
            raise TypeError(f"{place} must be a float32 or float64 NumPy array, got {checks.came(array)}")
        if not array.flags.writeable:
            raise ValueError(f"{place} is updated in place and must be writable, got a read-only array")
    return dict(arrays)


def _betas(betas: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas must be a pair of numbers, got {checks.came(betas)}")
    return checks.fraction("betas[0]", betas[0]), checks.fraction("betas[1]", betas[1])
