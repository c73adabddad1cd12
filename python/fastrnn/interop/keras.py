"""Models of Keras 3 and 2, from their files, without Keras."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import Any

from fastrnn import checks
from fastrnn.interop import keras_weights
from fastrnn.interop.archive import Archive, Path, Refusal, opened, reading
from fastrnn.interop.hdf5 import Hdf5
from fastrnn.interop.keras_cells import Answers
from fastrnn.interop.keras_graph import chain, everywhere, node_of
from fastrnn.interop.keras_layers import Reader
from fastrnn.interop.keras_weights import ByPlace, Weights
from fastrnn.layers import Recurrent, Sequential

SIGNATURE = b"\x89HDF\r\n\x1a\n"

WEIGHTS = "model.weights.h5"

KIND = "a Keras model"


def from_keras(
    model: Any,
    *,
    layers: bool = False,
    architecture: str | Path | Mapping[str, Any] | None = None,
    version: int | None = None,
    reset_after: bool | None = None,
) -> Sequential | dict[str, Recurrent[Any]]:
    """A trained model of Keras 3 or 2 as a network of ours.

    Parameters
    ----------
    model : str, path-like or keras.Model
        A file that ``model.save`` or ``model.save_weights`` wrote, ``.keras``, ``.h5`` or ``.weights.h5``,
        or a model.
    layers : bool
        Whether to read the recurrent layers alone, whatever stands around them.
    architecture : str, path-like or dict, optional
        Of weights alone: what ``model.to_json()`` gives, or a file with it.
    version : {2, 3}, optional
        Of the Keras that the model was made with, where the file does not tell and it matters.
    reset_after : bool, optional
        Of a `GRU`, where nothing tells.

    Returns
    -------
    Sequential, or with `layers` a dict of str to Recurrent
        The recurrent layers have `batch_first`, as all of Keras is (B, T, ...).

    Raises
    ------
    ImportError
        If h5py is not installed, which reads the files.
    OSError
        If there is no such file.
    ValueError
        If it is no file of Keras, damaged, or has what cannot be represented: the error names the layer.
    """
    layers = checks.boolean("layers", layers)
    reset_after = checks.optional(checks.boolean)("reset_after", reset_after)
    if version not in (None, 2, 3):
        raise ValueError(f"version must be 2 or 3, got {checks.came(version)}")
    options = layers, version, reset_after
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"model must be a path or a model of Keras, got {checks.came(model)}")
    name = os.fspath(model)
    with opened(model) as file:
        start, size = file.read(len(SIGNATURE)), os.fstat(file.fileno()).st_size
        if start == SIGNATURE:
            file.seek(0)
            with Hdf5(name, file, size) as hdf5:
                text, told = hdf5.text("model_config"), hdf5.text("keras_version")
                return _read(name, text, told, keras_weights.in_file(hdf5, "model_weights"), *options)
    with Archive(model) as archive:
        config, metadata = (archive.read(member) for member in ("config.json", "metadata.json"))
        content = archive.read(WEIGHTS)
    with Hdf5(name, io.BytesIO(content), len(content)) as hdf5:
        told = _json(name, metadata).get("keras_version")
        return _read(name, config, told, ByPlace(hdf5), *options)


def _json(name: str, text: Any) -> dict[str, Any]:
    with reading(name, KIND):
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("its JSON is no object")
        return found


def _read(
    name: str,
    text: Any,
    told: str | None,
    weights: Weights,
    layers: bool,
    version: int | None,
    reset_after: bool | None,
) -> Sequential | dict[str, Recurrent[Any]]:
    major = str(told).partition(".")[0]
    answers = Answers(int(major) if major in ("2", "3") else version, reset_after)
    with reading(name, KIND):
        try:
            model = node_of(_json(name, text), (), ())._replace(names=())
            reader = Reader((everywhere if layers else chain)(model), weights, answers)
            made = reader.recurrent() if layers else reader.network()
        except Refusal:
            raise
        except ValueError as error:
            raise Refusal(f"{name!r}: {error}") from None
    if reader.untold:
        checks.warn(
            f"{name!r}: what is for training only has been left out, the network computes the same without: "
            + ", ".join(reader.untold)
        )
    return made
