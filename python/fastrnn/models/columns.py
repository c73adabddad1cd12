"""The columns of frames, by their names."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import checks
from fastrnn.checks import Array
from fastrnn.data import column_names


class KnowsColumns:
    """A model that remembers the names of X's columns, and wants the same in their order, as scikit-learn's.

    Attributes
    ----------
    feature_names_in_ : ndarray of str
        The names, if `fit` got frames whose columns are strings; else there is no such attribute.
    """

    _names: list[str] | None = None

    @property
    def feature_names_in_(self) -> Array:
        """The names of the columns in `fit`."""
        if self._names is None:
            raise AttributeError(f"this {type(self).__name__} was not fitted with named columns")
        return np.array(self._names, dtype=object)

    def _read_names(self, X: Any, learn: bool) -> None:
        """Learn the names, or compare them."""
        names = column_names("X", X)
        if learn:
            self._names = names
        elif names is None or self._names is None:
            if names is not self._names:
                has, had = ("does not have valid", "with") if names is None else ("has", "without")
                checks.warn(
                    f"X {has} feature names, but {type(self).__name__} was fitted {had} feature names"
                )
        elif names != self._names:
            raise ValueError(f"X must have the columns of fit, in their order: {self._names}, got {names}")
