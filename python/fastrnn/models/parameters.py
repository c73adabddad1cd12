"""What every model shares with scikit-learn's estimators, without scikit-learn: parameters by name; and the
parameters of every network that is trained."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastrnn import checks
from fastrnn.checks import Check, optional
from fastrnn.docstrings import complete
from fastrnn.layers import CELLS
from fastrnn.optim import OPTIMIZERS
from fastrnn.training.run import OPTIONS
from fastrnn.training.schedules import Schedule

Self = TypeVar("Self", bound="Estimator")
NetworkSelf = TypeVar("NetworkSelf", bound="NetworkParameters")

OTHERWISE = {*"input_size hidden_size num_layers bidirectional dropout batch_first dtype seed".split()}


def named_or_function(*names: str) -> Check:
    """The check of a parameter that is one of some names or a function."""
    return lambda name, value: value if callable(value) else checks.one_of(name, value, names)


class Estimator:
    """A model whose constructor only stores parameters; `fit` checks them and learns attributes."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        complete(cls)

    _kind: ClassVar[str | None] = None  # what scikit-learn calls it: "classifier", "regressor"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters and their values.

        Parameters
        ----------
        deep : bool
            Present for scikit-learn's sake: no parameter is itself an estimator.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in checks.options_of(type(self))}

    def set_params(self: Self, **params: Any) -> Self:
        """Change parameters by name, for the next `fit`, and return the model.

        An unknown name is a ValueError.
        """
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}"
                )
        self.__dict__.update(params)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks a model about itself."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type=self._kind,
            target_tags=TargetTags(required=self._kind is not None, multi_output=self._kind == "regressor"),
            classifier_tags=ClassifierTags() if self._kind == "classifier" else None,
            regressor_tags=RegressorTags() if self._kind == "regressor" else None,
            input_tags=InputTags(three_d_array=True),
        )

    def __repr__(self) -> str:
        defaults = checks.options_of(type(self))
        changed = [
            f"{name}={' '.join(map(str.strip, reprlib.repr(value).splitlines()))}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)  # arrays have no single truth
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _require_fitted(self, attribute: str) -> None:
        if not hasattr(self, attribute):
            raise _not_fitted(f"this {type(self).__name__} is not fitted yet: call fit first")


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkParameters(Estimator):
    """The parameters of every model that trains a network.

    Parameters
    ----------
    cell : {"lstm", "gru", "rnn"}
        The recurrent cell; "rnn" is the vanilla one with tanh.
    hidden_size, num_layers : int
        Units in a layer and direction, and layers.
    dropout : float
        The part of each layer's outputs that is dropped in training, in [0, 1).
    layer_options : dict or None
        Further options of the recurrent layers, as ``{"recurrent_dropout": 0.2}``: see `fastrnn.LSTM`.
    initial : {"orthogonal", "identity"}, callable or None
        The recurrent weights at the start, by the function of `fastrnn.layers.initial` of this name; or a
        function of the network, which changes its parameters. None leaves them as the layers are made.
    forget_bias : float or None
        The bias of the gates that keep the state at the start: see `fastrnn.layers.initial.forget_bias`.
    epochs : int or None
        Passes over the data at most. With 0 the weights keep their initial values; with None there are as
        many as `max_steps` or `max_seconds` allow.
    max_steps : int or None
        Training stops after so many steps of the optimizer, and the learning rate falls accordingly.
    batch_size : int
        Sequences side by side in a step of training.
    bptt_steps : int or None
        Steps that gradients flow back through; None is all steps of a sequence.
    optimizer : {"adam", "rmsprop", "sgd"} or callable
        What the weights are learned by; or a function of the parameters by name and the learning rate that
        returns a `fastrnn.optim.Optimizer` or a list of them: arrays that are in none stay as they are.
    learning_rate : float
        The optimizer's, at its highest.
    weight_decay : float
        What weights, but not biases and initial states, lose in a step, times the learning rate: by "adam" as
        in `AdamW`, by "sgd" as an L2 penalty.
    schedule : {"cosine", "constant", "step", "warmup"} or callable
        How the learning rate changes: see `fastrnn.training.fit`.
    clip_norm : float or None
        Gradients of a greater norm are scaled down to it.
    validation_fraction : float
        The part of the data, in [0, 1), that is not trained on. After every epoch it is scored, and the
        weights that score best are kept. The last example of a class is never held out. With 0 there is no
        validation, and the last weights are kept; likewise, with a warning, where the part is less than one
        example, or all are the last of a class.
    patience : int or None
        Training stops after so many epochs without a better score; it needs a validation.
    max_seconds : float or None
        Training stops after so many seconds, and the learning rate falls accordingly. What comes out depends
        on the machine's speed then; without it, one ``seed`` gives the same model again.
    dtype : {"float32", "float64"}
        Of weights and computation.
    seed : int, numpy.random.Generator, numpy.random.RandomState or None
        Of all randomness: initial weights, dropout, order of the data. A generator gives a number for each
        `fit`. None takes fresh randomness.
    verbose : bool
        Show a progress bar, where somebody watches and tqdm is installed, and print a line for each epoch.
    """

    cell: str = "lstm"
    hidden_size: int = 64
    num_layers: int = 1
    dropout: float = 0.0
    layer_options: Mapping[str, Any] | None = None
    initial: str | Callable[[Any], Any] | None = None
    forget_bias: float | None = None
    epochs: int | None = 50
    max_steps: int | None = None
    batch_size: int = 32
    bptt_steps: int | None = None
    optimizer: str | Callable[..., Any] = "adam"
    learning_rate: float = 5e-3
    weight_decay: float = 0.0
    schedule: str | Schedule = "cosine"
    clip_norm: float | None = 1.0
    validation_fraction: float = 0.1
    patience: int | None = None
    max_seconds: float | None = None
    dtype: str = "float32"
    seed: int | None = None
    verbose: bool = False

    _checks: ClassVar[dict[str, Check]] = {
        "cell": lambda name, value: checks.one_of(name, value, tuple(CELLS)),
        "hidden_size": checks.positive_int,
        "num_layers": checks.positive_int,
        "dropout": checks.fraction,
        "layer_options": optional(lambda name, value: _options(name, value)),
        "initial": optional(named_or_function("orthogonal", "identity")),
        "forget_bias": optional(checks.finite_float),
        "batch_size": checks.positive_int,
        "bptt_steps": optional(checks.positive_int),
        "optimizer": named_or_function(*OPTIMIZERS),
        "learning_rate": checks.positive_float,
        "weight_decay": checks.non_negative_float,
        "validation_fraction": checks.fraction,
        "dtype": lambda name, value: checks.float_dtype(name, value).name,
        "seed": optional(lambda name, value: _seed(name, value)),
        **{name: check for name, check in OPTIONS.items() if name != "accumulate"},
    }

    def _checked_copy(self: NetworkSelf) -> NetworkSelf:
        """An unfitted model with the same parameters, as plain Python, which JSON can express."""
        params = self.get_params().items()
        model = type(self)(**{name: self._checks[name](name, value) for name, value in params})
        options = checks.options_of(CELLS[model.cell]).keys() - OTHERWISE
        for each in model.layer_options or {}:
            if each not in options:
                expected = f"{', '.join(sorted(options))} with cell={model.cell!r}"
                raise ValueError(f"layer_options must be of {expected}, got {each!r}")
        return model


def _options(name: str, value: Any) -> dict[str, Any]:
    """Options of recurrent layers, plain; the layers check them when they are made."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of options by name, got {checks.came(value)}")
    plain = {each: option.item() for each, option in value.items() if isinstance(option, np.generic)}
    return {**value, **plain}


def _seed(name: str, value: Any) -> int:
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**31))
    if isinstance(value, np.random.RandomState):
        return int(value.randint(2**31))
    return checks.non_negative_int(name, value)


def _not_fitted(message: str) -> RuntimeError:
    """A RuntimeError that is scikit-learn's NotFittedError too, where scikit-learn is in use."""
    module = sys.modules.get("sklearn.exceptions")
    if module is None:
        return RuntimeError(message)
    error: RuntimeError = type("NotFittedError", (RuntimeError, module.NotFittedError), {})(message)
    return error
