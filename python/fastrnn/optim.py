"""Optimizers and gradient clipping, by PyTorch's formulas.

An optimizer is made from a mapping of parameter arrays, which every step updates in place from a mapping of
gradients with the same keys, on the threads of the kernels. NaN and infinity in the gradients flow through.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.arrays import Arrays
from fastrnn.backend import kernels
from fastrnn.checks import Array
from fastrnn.docstrings import complete
from fastrnn.whole import at_once, copying, setting


class Optimizer:
    """What the optimizers share: the parameters, a learning rate, and moving averages ("slots") by parameter.

    Parameters
    ----------
    parameters : mapping of str to ndarray
        float32 or float64 arrays, writable, of any shape and memory layout. They are the ones updated, not
        copies, and looked up in this mapping at each step: those of a layer stay the layer's, also when both
        are copied or pickled together. An array with two names, as of weights that are tied, is updated once,
        by the sum of its gradients.
    lr : float
        The learning rate, also a settable attribute: a schedule assigns it between steps.

    Raises
    ------
    TypeError
        If a parameter is not a float32 or float64 array, or an option not a number.
    ValueError
        If a parameter is read-only or overlaps another one, or an option is out of its range or not finite.
    """

    def __init_subclass__(cls) -> None:
        complete(cls)

    _slots: tuple[str, ...] = ()  # a subclass's moving averages, as its `_update` takes them
    _options: tuple[str, ...] = ()  # what it is given besides the learning rate

    def __init__(self, parameters: Mapping[str, Array], lr: float) -> None:
        _require_writable("parameters", parameters)
        self.parameters = parameters
        self.lr = lr
        self.steps = 0
        each = _each_once(parameters)
        _require_apart(each)
        self._averages = {
            f"{slot}.{name}": np.zeros(array.shape, array.dtype)
            for slot in self._slots
            for name, array in each.items()
        }

    @property
    def lr(self) -> float:
        """The learning rate: finite, not negative."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = checks.non_negative_float("lr", value)

    @property
    def options(self) -> dict[str, Any]:
        """The options given at construction, the learning rate excepted, by name."""
        return {name: getattr(self, name) for name in self._options}

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Update every parameter in place.

        Parameters
        ----------
        gradients : mapping of str to ndarray
            One gradient per parameter, of its shape, and of floats, which are cast to its dtype. They are
            only read. Those of a layer are to be taken from it, ``layer.take_gradients()``, so that no step
            applies them again.

        Raises
        ------
        TypeError
            If `gradients` is not a mapping, or a layer's own.
        ValueError
            If gradients are missing, unexpected, misshapen or not floats: it names them all; or if a
            parameter has been replaced by an array of another shape or dtype. No parameter has been touched.
        """
        if isinstance(gradients, Arrays):
            raise TypeError(
                "gradients must be taken from their layer, so that no step applies them again: "
                "optimizer.step(layer.take_gradients())"
            )
        parameters = dict(self.parameters)
        _require_writable("parameters", parameters)
        arrays = checks.matching_arrays("gradients", gradients, parameters)
        if len(set(map(id, parameters.values()))) < len(parameters):
            parameters, arrays = _each_once(parameters), _summed(parameters, arrays)
        if not isinstance(self.parameters, Arrays):  # whose arrays are never others
            self._require_averages_of(parameters)
        update, numbers = self._rule(self.steps + 1)
        plain = {name: _plain(parameter) for name, parameter in parameters.items()}
        given = [(p, checks.plain(arrays[name], p.dtype), *self._slots_of(name)) for name, p in plain.items()]
        at_once(
            itertools.starmap(update, [(given, *numbers)]),
            _written_back(plain, parameters),
            setting("steps", [self], [self.steps + 1]),
        )

    def _require_averages_of(self, parameters: Mapping[str, Array]) -> None:
        for slot in self._slots:
            for name, array in parameters.items():
                average = self._averages.get(f"{slot}.{name}")
                if average is None or average.shape != array.shape or average.dtype != array.dtype:
                    expected = "the array that the optimizer was made for, or one like it"
                    raise ValueError(f"parameters[{name!r}] must be {expected}, got {checks.came(array)}")

    def _rule(self, steps: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """What updates parameters and their slots in place in the step of this number, from 1, given tuples
        (p, g, slots), and what it takes besides."""
        raise NotImplementedError

    def _slots_of(self, name: str) -> list[Array]:
        return [self._averages[f"{slot}.{name}"] for slot in self._slots]

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
        lr = checks.non_negative_float("lr", float(arrays["lr"]))
        averages = self._averages
        at_once(
            copying([arrays[name] for name in averages], averages.values()),
            setting("steps", [self], [steps]),
            setting("_lr", [self], [lr]),
        )

    def _state(self) -> dict[str, Array]:
        return {"step": np.array(self.steps, np.int64), "lr": np.array(self.lr), **self._averages}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964, in PyTorch's form) if asked for.

    d = g + weight_decay p;  m' = momentum m + d;  p' = p - lr m'

    Parameters
    ----------
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

    _options = ("momentum", "weight_decay")

    def __init__(
        self, parameters: Mapping[str, Array], lr: float, *, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        self.momentum = checks.fraction("momentum", momentum)
        self.weight_decay = checks.non_negative_float("weight_decay", weight_decay)
        if self.momentum:
            self._slots = ("m",)
        super().__init__(parameters, lr)

    def _rule(self, steps: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        return kernels().sgd, (self.lr, self.momentum, self.weight_decay)


class RMSprop(Optimizer):
    """The gradient divided by a moving root mean square of itself (Hinton 2012, lecture 6e of "Neural
    Networks for Machine Learning", in PyTorch's form).

    v' = alpha v + (1 - alpha) g^2;  p' = p - lr g / (sqrt(v') + eps)

    Parameters
    ----------
    alpha : float
        Decay of the moving average, in [0, 1).
    eps : float
        What keeps the divisor from 0: positive and finite.
    """

    _slots = ("v",)
    _options = ("alpha", "eps")

    def __init__(
        self, parameters: Mapping[str, Array], lr: float = 1e-2, *, alpha: float = 0.99, eps: float = 1e-8
    ) -> None:
        self.alpha = checks.fraction("alpha", alpha)
        self.eps = checks.positive_float("eps", eps)
        super().__init__(parameters, lr)

    def _rule(self, steps: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        return kernels().rmsprop, (self.lr, self.alpha, self.eps)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1, with the two bias corrections of step t merged as at the end of
    its section 2).

    m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2
    p' = p - lr (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)

    Parameters
    ----------
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
    _options: tuple[str, ...] = ("betas", "eps")

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

    def _rule(self, steps: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        # lr (m / c1) / (sqrt(v) / c2 + eps) = (lr c2 / c1) m / (sqrt(v) + c2 eps): two divisions less
        beta1, beta2 = self.betas
        correction1 = 1 - beta1**steps
        correction2 = (1 - beta2**steps) ** 0.5
        rate, eps = self.lr * correction2 / correction1, self.eps * correction2
        return kernels().adam, (rate, self._kept(), beta1, beta2, eps)

    def _kept(self) -> float:
        """The part of a parameter that stays before the step."""
        return 1.0


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, in PyTorch's form).

    p' = (1 - lr weight_decay) p, and then Adam's step.

    Parameters
    ----------
    weight_decay : float
        Finite and not negative.
    """

    _options = ("betas", "eps", "weight_decay")

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

    def _kept(self) -> float:
        return 1 - self.lr * self.weight_decay


class Some(Mapping[str, Array]):
    """Some of the arrays of a mapping, looked up in it: a copy of both looks them up in the other's copy."""

    def __init__(self, whole: Mapping[str, Array], names: list[str]) -> None:
        self._whole, self._names = whole, names

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}


def make(
    optimizer: Any,
    parameters: Mapping[str, Array],
    lr: float,
    weight_decay: float = 0.0,
    rates: Mapping[str, float] | None = None,
) -> list[Optimizer]:
    """Optimizers by name, or by a function.

    Parameters
    ----------
    optimizer : {"adam", "rmsprop", "sgd"} or callable
        A function of `parameters` and `lr` that returns an `Optimizer` or a list of them.
    parameters : mapping of str to ndarray
    lr : float
    weight_decay : float
        Of the arrays whose names, or last parts of them, begin with ``weight``: others, such as biases and
        initial states, have none. By "adam" it is that of `AdamW`; others than "sgd" have none.
    rates : mapping of str to float, optional
        How many times `lr` some arrays have, by name. A function does not get them.

    Raises
    ------
    ValueError
        If there is a `weight_decay` but the optimizer takes none.
    TypeError
        If the function returns something else.
    """
    if weight_decay and optimizer not in ("adam", "sgd"):
        raise ValueError(f'weight_decay goes with optimizer="adam" or "sgd" only, got {optimizer!r}')
    if callable(optimizer):
        made = optimizer(parameters, lr)
        made = list(made) if isinstance(made, (list, tuple)) else [made]
        if not made or not all(isinstance(each, Optimizer) for each in made):
            raise TypeError(f"optimizer must return an Optimizer or a list of some, got {checks.came(made)}")
        return made
    groups: dict[tuple[float, float], list[str]] = {}
    for name in parameters:
        rate = 1.0 if rates is None else rates.get(name, 1.0)
        decay = weight_decay / rate if name.rpartition(".")[2].startswith("weight") else 0.0
        groups.setdefault((rate, decay), []).append(name)
    found: list[Optimizer] = []
    for (rate, decay), names in sorted(groups.items()):  # the first is at `lr` itself, where records look
        kind: Any = AdamW if decay and optimizer == "adam" else OPTIMIZERS[optimizer]
        options = {"weight_decay": decay} if decay else {}
        found.append(kind(Some(parameters, names), lr * rate, **options))
    return found


def grad_norm(gradients: Mapping[str, Array]) -> float:
    """The common Euclidean norm of all gradients, float32 or float64 arrays, summed in double precision.

    It is not finite if a gradient is not.

    Examples
    --------
    >>> grad_norm({"w": np.array([3.0]), "b": np.array([4.0])})
    5.0
    """
    _require_floats("gradients", gradients)
    return _norm(gradients)


def _norm(gradients: Mapping[str, Array]) -> float:
    backend = kernels()
    return math.sqrt(sum(backend.sum_of_squares(_plain(array)) for array in gradients.values()))


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
    _require_writable("gradients", gradients)
    norm = _norm(gradients)
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:  # so that a NaN is spread, not hidden
        each = _each_once(gradients)
        plain = {name: _plain(array) for name, array in each.items()}
        scaled = itertools.starmap(kernels().scale, [(list(plain.values()), factor)])
        at_once(scaled, _written_back(plain, each))
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
    _require_writable("gradients", gradients)
    clipped = [np.clip(array, -clip_value, clip_value) for array in gradients.values()]
    at_once(copying(clipped, gradients.values()))


def _plain(array: Array) -> Array:
    """The array itself, or a copy if it has a layout that the kernels do not work in."""
    return checks.plain(array, array.dtype)


def _written_back(plain: Mapping[str, Array], arrays: Mapping[str, Array]) -> Iterator[None]:
    """Copies of those that are not the arrays themselves, for `at_once`."""
    others = [name for name, array in arrays.items() if plain[name] is not array]
    return copying([plain[name] for name in others], [arrays[name] for name in others])


def _each_once(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Each array by the first of its names."""
    first: dict[int, str] = {}
    for name, array in arrays.items():
        first.setdefault(id(array), name)
    return {name: arrays[name] for name in first.values()}


def _summed(parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> dict[str, Array]:
    """The sum of an array's gradients, by the first of its names."""
    sums: dict[int, tuple[str, Array]] = {}
    for name, array in parameters.items():
        first, total = sums.get(id(array), (name, None))
        with np.errstate(all="ignore"):
            sums[id(array)] = first, gradients[name] if total is None else total + gradients[name]
    return dict(sums.values())


def _require_apart(arrays: Mapping[str, Array]) -> None:
    for (one, a), (other, b) in itertools.combinations(arrays.items(), 2):
        if np.may_share_memory(a, b) and np.shares_memory(a, b):
            raise ValueError(
                f"parameters[{one!r}] and [{other!r}] must be one array or apart, got two that overlap"
            )


def _require_floats(what: str, arrays: Mapping[str, Array]) -> None:
    """Raise unless these are arrays of floats, by name."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{what} must be a mapping of names to arrays, got {checks.came(arrays)}")
    for name, array in arrays.items():
        place = f"{what}[{name!r}]"
        if type(array) not in (np.ndarray, np.memmap) or array.dtype not in checks.FLOATS:
            raise TypeError(f"{place} must be a float32 or float64 NumPy array, got {checks.came(array)}")


def _require_writable(what: str, arrays: Mapping[str, Array]) -> None:
    """Raise unless these can be updated in place, too."""
    _require_floats(what, arrays)
    for name, array in arrays.items():
        if not array.flags.writeable:
            place, came = f"{what}[{name!r}]", "a read-only array, as compressed layers have them"
            raise ValueError(f"{place} is updated in place and must be writable, got {came}")


def _betas(betas: tuple[float, float]) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas must be a pair of numbers, got {checks.came(betas)}")
    return checks.fraction("betas[0]", betas[0]), checks.fraction("betas[1]", betas[1])
