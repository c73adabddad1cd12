"""Models of Keras 3 and 2, from their files, without Keras."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastrnn import checks
from fastrnn.interop.archive import Archive, Path, Refusal, opened, reading
from fastrnn.interop.hdf5 import Hdf5
from fastrnn.interop.keras_bare import cells_in
from fastrnn.interop.keras_cells import Answers
from fastrnn.interop.keras_graph import PACKAGES, Node, chain, everywhere, has_layers, node_of, short
from fastrnn.interop.keras_layers import RECURRENT, Reader
from fastrnn.interop.keras_weights import ByPlace, Weights, in_file, in_model
from fastrnn.layers import Recurrent, Sequential

SIGNATURES = b"\x89HDF\r\n\x1a\n", b"PK"  # of the two kinds of files

WEIGHTS = "model.weights.h5"  # within one of the second kind

KIND = "a Keras model"

LIMIT = 1 << 22  # bytes of an architecture: parsed it is larger


class _Question(NamedTuple):
    """What is asked for."""

    layers: bool
    architecture: dict[str, Any] | None
    answers: Answers


def from_keras(
    model: Any,
    *,
    layers: bool = False,
    architecture: str | Path | Mapping[str, Any] | None = None,
    version: int | None = None,
    reset_after: bool | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
) -> Sequential | dict[str, Recurrent[Any]]:
    """A trained model of Keras 3 or 2 as a network of ours, which computes the same.

    Keras is not needed, and nothing in a file is executed. A file of weights alone needs `architecture`; the
    other answers are asked for where the file leaves something open.

    Parameters
    ----------
    model : str, path-like or keras.Model
        A file that ``model.save`` or ``model.save_weights`` wrote, ``.keras``, ``.h5`` or ``.weights.h5``,
        or a model.
    layers : bool
        Whether to read the recurrent layers alone, whatever stands around them.
    architecture : str, path-like or mapping, optional
        Of weights alone: what ``model.to_json()`` gives, or a file with that.
    version : {2, 3}, optional
        The Keras that made the model.
    reset_after : bool, optional
        Of a ``GRU``.
    activation, recurrent_activation : str, optional
        Of the recurrent layers: "tanh" and "sigmoid" are usual.

    Returns
    -------
    Sequential, or with `layers` a dict of str to Recurrent
        Its recurrent layers have `batch_first`, as Keras has it. float64 stays, and everything else becomes
        float32.

    Raises
    ------
    ImportError
        If a file is to be read and h5py is not installed.
    OSError
        If there is no such file.
    TypeError
        If an argument is of another type.
    ValueError
        If it is no file of Keras, is damaged, has something that cannot be represented or leaves something
        open: the error names the layer, and what to do.

    Warns
    -----
    UserWarning
        If something that acts in training only is left out, or something is left to do.

    Examples
    --------
    ::

        network = fastrnn.interop.from_keras("model.keras")
        y = network(x)  # as of model.predict(x)
    """
    layers = checks.boolean("layers", layers)
    reset_after = checks.optional(checks.boolean)("reset_after", reset_after)
    if version not in (None, 2, 3):
        raise ValueError(f"version must be 2 or 3, got {checks.came(version)}")
    told = None if version is None else str(version)
    answers = Answers(told, reset_after, activation, recurrent_activation)
    question = _Question(layers, _architecture(architecture), answers)
    if isinstance(model, (str, os.PathLike)):
        return _of_file(model, question)
    if not callable(getattr(model, "to_json", None)) or not hasattr(model, "layers"):
        raise TypeError(f"model must be a path or a model of Keras, got {checks.came(model)}")
    name = str(model.name)
    with _telling(name):
        return _made(name, _json(model.to_json()), _version_of(model), in_model(model.layers), question)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """Around the reading of a model: whatever is wrong with it is told with its name."""
    with reading(name, KIND):
        try:
            yield
        except Refusal:
            raise
        except ValueError as error:
            raise Refusal(f"{name!r}: {error}") from None


def _of_file(path: Path, question: _Question) -> Sequential | dict[str, Recurrent[Any]]:
    name = os.fspath(path)
    with opened(path) as file:
        start, size = file.read(8), os.fstat(file.fileno()).st_size
        if start.startswith(SIGNATURES[0]):
            file.seek(0)
            with Hdf5(name, file, size) as hdf5, _telling(name):
                return _of_hdf5(hdf5, question)
        if not start.startswith(SIGNATURES[1]):
            raise Refusal(f"{name!r} is no file of Keras: neither HDF5 nor a zip archive")
    with Archive(path) as archive:
        config, metadata = (archive.read(member) for member in ("config.json", "metadata.json"))
        content = archive.read(WEIGHTS)
    with Hdf5(name, io.BytesIO(content), len(content)) as hdf5, _telling(name):
        found, version = _json(config), _json(metadata).get("keras_version")
        if question.layers and not has_layers(node_of(found, (), ())):
            return _made(name, cells_in(hdf5, named=False), version, ByPlace(hdf5), question)
        return _made(name, found, version, ByPlace(hdf5), question)


def _of_hdf5(file: Hdf5, question: _Question) -> Sequential | dict[str, Recurrent[Any]]:
    """Of a model, or of weights alone by their names or by their places."""
    text, version = file.text("model_config"), file.text("keras_version")
    if text is not None:
        return _made(file.name, _json(text), version, in_file(file, "model_weights"), question)
    named = file.has("layer_names") or file.has("layer_names0")
    weights: Weights = in_file(file) if named else ByPlace(file)
    if question.architecture is not None:
        version = version or question.architecture.get("keras_version")
    elif not question.layers:
        told = "what model.to_json() gives, or read the recurrent layers alone with layers=True"
        raise ValueError(f"has weights alone: give architecture=, {told}")
    nodes = cells_in(file, named) if question.architecture is None else None
    return _made(file.name, nodes, version, weights, question)


def _made(
    name: str, found: dict[str, Any] | list[Node] | None, version: Any, weights: Weights, question: _Question
) -> Sequential | dict[str, Recurrent[Any]]:
    """Layers of a configuration or of nodes, whichever was found, or else of the architecture given."""
    answers = question.answers._replace(version=_version(version, question.answers.version))
    if found is not None and question.architecture is not None:
        raise ValueError("architecture= is for weights alone, and this has its own")
    nodes = found if isinstance(found, list) else _nodes(found or question.architecture, question.layers)
    reader = Reader(nodes, weights, answers)
    if question.layers and not nodes:
        raise ValueError("has no LSTM, GRU or SimpleRNN of Keras's own, by class, names and shapes")
    made = reader.recurrent() if question.layers else reader.network()
    if reader.training:
        left = ", ".join(reader.training)
        checks.warn(f"{name!r}: what acts in training only is left out, the results are the same: {left}")
    if reader.yours:
        checks.warn(f"{name!r}: what is left to do: {'; '.join(reader.yours)}")
    return made


def _nodes(config: Any, layers: bool) -> list[Node]:
    """The layers in a line, or all recurrent ones."""
    model = node_of(config, (), ())._replace(names=())
    if not layers:
        return list(chain(model))
    if not has_layers(model):
        raise model.wrong("does not describe its layers: save it, and read the file")
    return [node for node in everywhere(model) if node.kind in RECURRENT and node.own is None]


def _version(told: Any, answer: str | None) -> str | None:
    """The version that the file or else the user says."""
    if told is None:
        return answer
    if not isinstance(told, str) or told[:2] not in ("2.", "3."):
        raise ValueError(f"is of Keras {short(told)}, and only those of Keras 2 and 3 are known")
    if answer not in (None, told[0]):
        raise ValueError(f"is of Keras {told}, got version={answer}")
    return told


def _version_of(model: Any) -> str | None:
    """That of the package from which a model's class comes."""
    roots = [each.__module__.partition(".")[0] for each in type(model).__mro__]
    found = [getattr(sys.modules.get(root), "__version__", None) for root in roots if root in PACKAGES]
    return found[0] if found else None


def _json(text: Any) -> dict[str, Any]:
    if len(text) > LIMIT:
        raise ValueError(f"its JSON has {len(text):,} bytes, more than {LIMIT:,}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its JSON cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"its JSON is no object, but {short(found)}")
    return found


def _architecture(given: str | Path | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    if not isinstance(given, (str, os.PathLike, Mapping)):
        expected = "what model.to_json() gives, or a path"
        raise TypeError(f"architecture must be {expected}, got {checks.came(given)}")
    if isinstance(given, Mapping) or (isinstance(given, str) and given.lstrip().startswith("{")):
        with _telling("architecture"):
            return _json(json.dumps(dict(given)) if isinstance(given, Mapping) else given)
    with opened(given) as file, _telling(os.fspath(given)):
        return _json(file.read(LIMIT + 1))
