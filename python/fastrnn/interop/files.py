"""A trained model from whatever file it is in: what a file holds is seen by its content, not by its name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from fastrnn import checkpoint, interop
from fastrnn.interop.archive import Archive, Refusal, opened
from fastrnn.interop.inventory import Entry, of_keras, of_onnx, of_torch
from fastrnn.interop.torch_files import EXPORTED
from fastrnn.layers import Layer, compression
from fastrnn.layers.description import build

HEAD = 64  # bytes that tell

#: An ONNX file begins with the version of its format, a small number, and then another field of a ModelProto.
ONNX = rb"\x08[\x01-\x3f][\x12\x1a\x22\x28\x32\x3a\x42]"

#: What a file begins with that has no reader, and what to say of it.
OTHERS = {
    rb"\x93NUMPY": "a single array of NumPy: save several by their names, with numpy.savez",
    rb"\x1f\x8b|x[\x01\x9c\xda]|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd": "compressed: unpack it first",
    rb".{4}TFL3": "a TensorFlow Lite model: take the Keras model that it was made of",
    rb".{4}ORTM": "a model in ONNX Runtime's own format: take the .onnx file that it was made of",
    rb"version https://git-lfs": "a pointer of Git LFS in the place of the file: git lfs pull brings it",
    rb"\s*<[!?a-zA-Z]": "a page of HTML or XML: was it downloaded rightly?",
    rb"\s*[{\[]": "JSON, which has no weights",
    rb"[\t\n\r\x20-\x7e]+$": "text",
}


class Kind(NamedTuple):
    """What a file is, in words; what makes a model of it; and what lists its arrays, if it is of others."""

    what: str
    read: Callable[..., Any]
    arrays: Callable[[str], dict[str, Entry]] | None = None


def load(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes], *, weights: str | None = None, **options: Any
) -> Any:
    """A trained model from a file of fastrnn, PyTorch, ONNX, Keras or NumPy.

    What it is is seen by its content: its name does not matter. No framework is needed, and nothing in the
    file is run.

    Parameters
    ----------
    path : path
        A file that a model's or a layer's ``save`` wrote; or one for `fastrnn.interop.from_torch`,
        `fastrnn.interop.from_onnx` or `fastrnn.interop.from_keras`.
    weights : {"float16", "bfloat16", "int8"}, optional
        What the weights are to be compressed to, for inference: see `fastrnn.layers.Compressible.compress`.
    **options
        As of that function: ``layers=True`` gives a dict of all recurrent layers by their names in the file,
        whatever stands around them; ``order=[...]`` says what a state dict of PyTorch does not. Of a model of
        `fastrnn.models` as of its ``load``.

    Returns
    -------
    Layer, Sequential, dict of str to layer, or a model of `fastrnn.models`

    Raises
    ------
    OSError
        If the file cannot be read, as FileNotFoundError when there is none.
    ValueError
        If it is damaged, is no model that fastrnn knows, or has something in it that fastrnn cannot compute
        in just the same way: it says what, and what to do instead. Or if it cannot be compressed.
    TypeError
        If it takes no such option.
    ImportError
        If it is of ONNX or Keras, and the package that reads it is missing: it says which.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastrnn import LSTM, load
    >>> layer = LSTM(3, 5, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "encoder.npz")
    ...     np.savez(path, **{f"encoder.{name}": array for name, array in layer.parameters.items()})
    ...     load(path, batch_first=False)
    LSTM(3, 5)
    """
    name = os.fsdecode(path)
    found = kind_of(name).read(name, **options)
    return found if weights is None else compressed(name, found, weights)


def compressed(path: str, found: Any, weights: str) -> Any:
    """What a file held, compressed; several layers each by itself."""
    if isinstance(found, dict):
        return {name: compressed(path, each, weights) for name, each in found.items()}
    if not hasattr(found, "compress"):
        raise ValueError(f"weights goes with recurrent layers, Linear, Embedding and networks, got {found!r}")
    try:
        return found.compress(weights)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path!r}: {error}") from error


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """What a file is, as far as its beginning tells, or its list of contents.

    Raises
    ------
    OSError, ValueError
        As by `load`.
    """
    name = os.fspath(path)
    with opened(name) as file:
        head = file.read(HEAD)
    if not head:
        raise ValueError(f"{name!r} is no model: it is empty")
    if re.match(rb".{4}\0{4}\{", head, re.DOTALL):  # the length of a header, and the header
        return _of_safetensors(name)
    if re.match(rb"PK[\x03\x05]", head):
        return _of_archive(name)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Kind("an HDF5 file, as Keras writes them", interop.from_keras, of_keras)
    if re.match(rb"\x80[\x02-\x05]", head):
        return Kind("a pickle, as PyTorch wrote them before 1.6", interop.from_torch, of_torch)
    if re.match(ONNX, head):
        return Kind("an ONNX model", interop.from_onnx, of_onnx)
    for begins, what in OTHERS.items():
        if re.match(begins, head, re.DOTALL):
            raise ValueError(f"{name!r} is no model that fastrnn reads, but {what}")
    raise ValueError(f"{name!r} is no model that fastrnn reads: it begins with {head[:8]!r}")


def _of_archive(name: str) -> Kind:
    with Archive(name) as archive:
        members = [*archive.sizes]
    if {"config.json", "model.weights.h5"} <= {*members}:
        return Kind("a model of Keras", interop.from_keras, of_keras)
    if any(re.search(rf"(^|/)data\.pkl$|{EXPORTED}", member) for member in members):
        script = any(re.search(r"(^|/)code/", member) for member in members)
        what = "a TorchScript archive" if script else "a file of PyTorch"
        return Kind(what, interop.from_torch, of_torch)
    if members and all(member.endswith(".npy") for member in members):
        return Kind("arrays of NumPy", interop.from_torch, of_torch)
    shown = ", ".join(map(repr, members[:3])) + (", …" if len(members) > 3 else "")
    raise Refusal(f"{name!r} is no model that fastrnn reads, but a zip archive of {shown or 'nothing'}")


def _of_safetensors(name: str) -> Kind:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(name, framework="numpy") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise Refusal(f"{name!r} is a damaged safetensors file: {error}") from None
    if "fastrnn_format" not in header:
        return Kind("a safetensors file", interop.from_torch, of_torch)
    _, metadata = checkpoint.load(name)
    if "model" in metadata:
        from fastrnn import models  # where a layer is wanted, they need not load

        if metadata["model"] in models.__all__:
            return Kind("a model", getattr(models, metadata["model"]).load)
    if "layer" in metadata:
        return Kind("a layer", load_layer)
    if "settings" in metadata:
        return Kind("the state of a training", _of_training)
    return Kind("arrays that fastrnn.checkpoint.save wrote", interop.from_torch)


def _of_training(path: str | os.PathLike[str], **options: Any) -> Any:
    hint = "fastrnn.training.fit goes on from it, by resume="
    raise ValueError(f"{os.fspath(path)!r} is no model, but the state of a training: {hint}")


def load_layer(path: str | os.PathLike[str]) -> Layer:
    """The layer that its ``save`` wrote."""
    arrays, metadata = checkpoint.load(path)
    try:
        formats = metadata.get("weights", {})
        layer = build(metadata["layer"], compression.from_stored(arrays, formats))
        compression.restore(layer, formats)
        return layer
    except ValueError as error:
        raise Refusal(f"{os.fspath(path)!r} holds an inconsistent layer: {error}") from None
