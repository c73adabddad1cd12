"""Fitted models in files: what a file holds, and the state of a training beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fastrnn import checkpoint, parallel
from fastrnn.checks import Array
from fastrnn.layers.compression import from_stored, restore, stored, told
from fastrnn.layers.description import Blank, build, describe
from fastrnn.models.parameters import NetworkParameters
from fastrnn.training import Training
from fastrnn.training.state import part_of, same_settings

Self = TypeVar("Self", bound="Stored")

BUDGET = {"epochs", "max_steps", "patience", "max_seconds", "verbose"}  # may differ when a training goes on

FUNCTION = "<function>"  # what a file has of one

STATE = "training."  # what the names of a checkpoint begin with where they are not the model's own
LEARNED = "learned."  # and those of arrays of a model that are not weights


class Stored(NetworkParameters):
    """A model that can be saved; functions among its parameters are not: see `load`."""

    network_: Any
    history_: list[dict[str, Any]]
    best_epoch_: int | None
    _fitted_with: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a safetensors file, in one step: see `fastrnn.checkpoint.save`."""
        self._require_fitted("history_")
        arrays, metadata = self._metadata()
        checkpoint.save(path, {**stored(self.network_), **arrays}, metadata)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str], **parameters: Any) -> Self:
        """The model that `save` wrote, or a checkpoint of `fit`.

        Parameters
        ----------
        path : path
        **parameters
            Those to have others than in the file, which holds no functions: ``loss=my_loss``. Without one the
            model predicts, but where training needs it a ValueError says so.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is damaged, or holds anything else.
        """
        tensors, metadata = checkpoint.load(path)
        cls._require_own(path, metadata)
        try:
            narrow = {name: each for name, each in tensors.items() if not name.startswith((STATE, LEARNED))}
            formats = metadata.get("weights", {})
            weights = from_stored(narrow, formats)
            kept = {name: _kept(name, each, weights) for name, each in metadata["parameters"].items()}
            model = cls(**{**kept, **parameters})._checked_copy()
            model._restore({**metadata, **part_of(tensors, LEARNED)})
            blank = Blank(list(weights.values()))
            blank.require_layers(model.num_layers)
            model._build(blank)  # an error, if it is larger than the weights, before that takes memory
            model._begin()
            model.network_.load_state_dict(weights)
            restore(model.network_, formats)
            model.history_, model.best_epoch_ = metadata["history"], metadata["best_epoch"]
        except Exception as error:  # of many kinds, since a file may hold anything
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{os.fspath(path)!r} holds an inconsistent {cls.__name__}: {reason}") from None
        return model

    def _format(self) -> dict[str, Any]:
        raise NotImplementedError

    def _restore(self, metadata: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _build(self, rng: np.random.Generator) -> Any:
        raise NotImplementedError

    def _begin(self) -> None:
        raise NotImplementedError

    def _metadata(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """The model but for its weights: arrays by the names of a file, and what JSON can express."""
        learned = self._format()
        arrays = {name: value for name, value in learned.items() if isinstance(value, np.ndarray)}
        metadata = {
            "model": type(self).__name__,
            "parameters": self._storable(),
            **{name: value for name, value in learned.items() if name not in arrays},
            "history": self.history_,
            "best_epoch": self.best_epoch_,
            **told(self.network_),
        }
        return {f"{LEARNED}{name}": array for name, array in arrays.items()}, metadata

    def _storable(self) -> dict[str, Any]:
        """The parameters of `fit` as JSON can express them: a network by the description of what has become
        of it."""
        kept = {name: FUNCTION if callable(value) else value for name, value in self._fitted_with.items()}
        return {**kept, "network": describe(self.network_)} if kept.get("network") else kept

    def _told(self) -> dict[str, Any]:
        """What all ranks of a training have alike: what was learned of the data, and the parameters."""
        parameters = {name: value for name, value in self._storable().items() if name != "verbose"}
        return {"model": type(self).__name__, **parameters, **self._format()}

    def _save_checkpoint(self, path: str | os.PathLike[str], training: Training, samples: int | None) -> None:
        """A model file with the best weights, and beside them the state of the training."""
        tensors, state = training.state_dict()
        kept: Mapping[str, Array] = training.best_weights or self.network_.parameters
        arrays, metadata = self._metadata()
        beside = {f"{STATE}{name}": array for name, array in tensors.items()}
        metadata["training"] = {**state, "samples": samples}
        parallel.on_first(checkpoint.save, path, {**kept, **arrays, **beside}, metadata)

    def _read_checkpoint(
        self, path: str | os.PathLike[str], samples: int | None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """The state of a training that this one can go on from; with its history as the model's."""
        tensors, metadata = parallel.on_first(checkpoint.load, path)
        self._require_own(path, metadata)
        if "training" not in metadata:
            hint = f"{type(self).__name__}.load takes it, and partial_fit trains it further"
            raise ValueError(f"{os.fspath(path)!r} holds a model, but not the state of its training: {hint}")
        learned = {**self._format(), "parameters": self._storable()}
        metadata.update(part_of(tensors, LEARNED))
        found: dict[str, Any] = {name: _as_json(metadata.get(name)) for name in learned}
        found["parameters"] = {**_as_json(type(self)().get_params()), **found["parameters"]}  # some are newer
        wanted: dict[str, Any] = {name: _as_json(value) for name, value in learned.items()}
        for settings, count in ((found, metadata["training"]["samples"]), (wanted, samples)):
            parameters = settings.pop("parameters")
            others = {name: parameters[name] for name in parameters.keys() - settings.keys() - BUDGET}
            settings.update(dict(sorted(others.items())), samples=count)
        same_settings(found, wanted)
        self.history_, self.best_epoch_ = metadata["history"], metadata["best_epoch"]
        return part_of(tensors, STATE), metadata["training"]

    @classmethod
    def _require_own(cls, path: str | os.PathLike[str], metadata: Mapping[str, Any]) -> None:
        if metadata.get("model") != cls.__name__:
            raise ValueError(f"{os.fspath(path)!r} holds no {cls.__name__}, but {metadata.get('model')!r}")


@dataclass(frozen=True)
class Lost:
    """A parameter that was a function when the model was saved."""

    name: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise ValueError(
            f"{self.name} must be given again, as load(path, {self.name}=...): it was a function when the "
            "model was saved, which no file holds"
        )


def _kept(name: str, value: Any, weights: Mapping[str, Array]) -> Any:
    """A parameter as `Stored._storable` has it: a network gets the weights."""
    if value == FUNCTION:
        return Lost(name)
    return build(value, weights) if name == "network" and value is not None else value


def _as_json(value: Any) -> Any:
    """As JSON gives it back, to compare."""
    return json.loads(json.dumps(value.tolist() if isinstance(value, np.ndarray) else value))
