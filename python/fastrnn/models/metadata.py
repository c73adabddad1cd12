"""`lengths` and `sample_weight` through scikit-learn's tools, without scikit-learn until it is asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

WITH_WEIGHTS = ("fit", "partial_fit", "score")
METHODS = (*WITH_WEIGHTS, "predict", "predict_proba", "predict_log_proba")


def request(method: str) -> Callable[..., Any]:
    """The method ``set_<method>_request`` of a model whose method takes `lengths`, or `sample_weight` too."""
    names = _names(method)

    def set_request(self: Any, **given: bool | str | None) -> Any:
        requests = self.get_metadata_routing()
        for name, alias in given.items():
            if name not in names:
                raise TypeError(f"set_{method}_request takes {' and '.join(names)}, got {name!r}")
            getattr(requests, method).add_request(param=name, alias=alias)
        self._metadata_request = requests  # which scikit-learn's clone copies too
        return self

    set_request.__name__ = f"set_{method}_request"
    set_request.__doc__ = f"""Whether scikit-learn's tools pass {" and ".join(names)} on to `{method}`, with
        ``sklearn.set_config(enable_metadata_routing=True)``.

        Parameters
        ----------
        {", ".join(names)} : bool, str or None
            True, False, None, which makes it an error to be given any, or another name for them.

        Returns
        -------
        This model.
        """
    return set_request


def _names(method: str) -> tuple[str, ...]:
    return ("lengths", "sample_weight") if method in WITH_WEIGHTS else ("lengths",)


class TakesMetadata:
    """A model whose methods take more than X and y, which scikit-learn's metadata routing can pass on."""

    set_fit_request = request("fit")
    set_partial_fit_request = request("partial_fit")
    set_predict_request = request("predict")
    set_score_request = request("score")

    def get_metadata_routing(self) -> Any:
        """What scikit-learn is to pass on, as a `sklearn.utils.metadata_routing.MetadataRequest`."""
        from sklearn.utils.metadata_routing import MetadataRequest

        if hasattr(self, "_metadata_request"):
            return copy.deepcopy(self._metadata_request)
        requests = MetadataRequest(owner=type(self).__name__)
        for method in METHODS:
            if hasattr(self, f"set_{method}_request"):
                for name in _names(method):
                    getattr(requests, method).add_request(param=name, alias=None)
        return requests
