"""`lengths` through scikit-learn's tools, without scikit-learn until it is asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

METHODS = ("fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "score")


def lengths_request(method: str) -> Callable[..., Any]:
    """The method ``set_<method>_request`` of a model whose method takes `lengths`."""

    def set_request(self: Any, *, lengths: bool | str | None) -> Any:
        requests = self.get_metadata_routing()
        getattr(requests, method).add_request(param="lengths", alias=lengths)
        self._metadata_request = requests  # which scikit-learn's clone copies too
        return self

    set_request.__name__ = f"set_{method}_request"
    set_request.__doc__ = f"""Whether scikit-learn's tools pass `lengths` on to `{method}`, with
        ``sklearn.set_config(enable_metadata_routing=True)``.

        Parameters
        ----------
        lengths : bool, str or None
            True, False, None, which makes it an error to be given any, or another name for them.

        Returns
        -------
        This model.
        """
    return set_request


class TakesLengths:
    """A model whose methods take `lengths` beside X, which scikit-learn's metadata routing can pass on."""

    set_fit_request = lengths_request("fit")
    set_partial_fit_request = lengths_request("partial_fit")
    set_predict_request = lengths_request("predict")
    set_score_request = lengths_request("score")

    def get_metadata_routing(self) -> Any:
        """What scikit-learn is to pass on, as a `sklearn.utils.metadata_routing.MetadataRequest`."""
        from sklearn.utils.metadata_routing import MetadataRequest

        if hasattr(self, "_metadata_request"):
            return copy.deepcopy(self._metadata_request)
        requests = MetadataRequest(owner=type(self).__name__)
        for method in METHODS:
            if hasattr(self, f"set_{method}_request"):
                getattr(requests, method).add_request(param="lengths", alias=None)
        requests.score.add_request(param="sample_weight", alias=None)  # a pipeline passes one to all, if None
        return requests
