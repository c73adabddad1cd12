"""What every model shares with scikit-learn's estimators, without scikit-learn: parameters by name."""

from __future__ import annotations

import inspect
import reprlib
import sys
from typing import Any, ClassVar, TypeVar

Self = TypeVar("Self", bound="Estimator")


class Estimator:
    """A model whose constructor only stores parameters; `fit` checks them and learns attributes."""

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
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

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
        defaults = inspect.signature(type(self)).parameters
        changed = [
            f"{name}={reprlib.repr(value)}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name].default)  # arrays have no single truth
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _require_fitted(self, attribute: str) -> None:
        if not hasattr(self, attribute):
            raise _not_fitted(f"this {type(self).__name__} is not fitted yet: call fit first")


def _not_fitted(message: str) -> RuntimeError:
    """A RuntimeError that is scikit-learn's NotFittedError too, where scikit-learn is in use."""
    module = sys.modules.get("sklearn.exceptions")
    if module is None:
        return RuntimeError(message)
    error: RuntimeError = type("NotFittedError", (RuntimeError, module.NotFittedError), {})(message)
    return error
