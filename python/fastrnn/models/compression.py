"""Fitted models whose networks have weights of fewer bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from fastrnn.layers.compression import Compression, compared, compressed
from fastrnn.models.files import Stored

Self = TypeVar("Self", bound="CanBeCompressed")


class CanBeCompressed(Stored):
    """A model with a network that can be compressed."""

    compression_: Compression | None
    _optimizers: Any

    def compress(
        self: Self,
        weights: str,
        *,
        activations: int = 16,
        check: Any = None,
        metric: Callable[[Any], float] | None = None,
    ) -> Self:
        """A copy of the fitted model for inference, whose network has weights of fewer bits. `fit` begins
        anew, with those of float32; `partial_fit` is an error.

        Parameters
        ----------
        weights, activations
            As of `fastrnn.layers.Compressible.compress`.
        check : as the first argument of `predict`, optional
            How much what `predict_proba`, or else `predict`, gives for it changes is printed, and kept as the
            `compression_` of what is returned.
        metric : callable, optional
            Of a model, which returns a number: likewise, as ``lambda model: model.score(X, y)``.

        Returns
        -------
        A model of the same class.

        Raises
        ------
        TypeError, ValueError
            As of a layer; or if `check` goes with a model that does not predict numbers.
        RuntimeError
            If the model is not fitted.
        """
        self._require_fitted("history_")
        network = compressed(self.network_, weights, activations, None, None)
        model = copy.deepcopy(self, {id(self.network_): network})
        model._optimizers = None
        if check is not None or metric is not None:
            output = None if check is None else partial(_predicted, check)
            model.compression_ = compared(self, model, weights, output, metric)
        return model


def _predicted(data: Any, model: Any) -> Any:
    predict = getattr(model, "predict_proba", getattr(model, "predict", None))
    if predict is None:
        raise TypeError(f"check goes with a model that predicts, got {model!r}: take a metric instead")
    return predict(data)
