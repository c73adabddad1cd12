"""What is in a model's file, whoever wrote it, and one file made of another: `fastrnn info` and `convert`."""

from __future__ import annotations

import ast
import inspect
import io
import math
import os
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from fastrnn import checkpoint, interop, models
from fastrnn.interop import files, rows
from fastrnn.layers import Layer
from fastrnn.layers.compression import SCALE
from fastrnn.layers.description import CLASSES


def tell(path: str) -> None:
    """Print what a file holds."""
    kind = files.kind_of(path)
    arrays, metadata = (kind.arrays(path), {}) if kind.arrays else checkpoint.load(path)
    going_on = ", and the state of its training (--resume)" if "training" in metadata else ""
    _line("file", f"{os.path.getsize(path):,} bytes, {kind.what}{going_on}")
    if kind.arrays:
        _tell_network(path, kind.read)
    elif metadata.get("model") in models.__all__:
        given = {name: value for name, value in metadata["parameters"].items() if value is not None}
        network = given.pop("network", None)
        shown = (f"{name}={value!r}" for name, value in given.items())
        _line("model", f"{metadata['model']}({', '.join(shown)})")
        _line("trained", _trained(metadata))
        if network is not None:
            _block("network", kind.read(path).network_)
    elif "layer" in metadata:
        _block("layer", kind.read(path))
    beside = () if kind.arrays else ("training.", "learned.")  # what a model file has besides
    _weights({name: array for name, array in arrays.items() if not name.startswith(beside)})


def convert(source: str, target: str, options: Mapping[str, Any]) -> None:
    """Write a file of the kind that its name ends in, and print what is in it.

    Parameters
    ----------
    source, target : str
        A file that `fastrnn.load` reads, and the one to write.
    options : mapping
        Some for the reader, some for the writer; an `order` is words, names in it or of layers. With
        `weights` what is written is compressed, and a model as a whole.

    Raises
    ------
    ValueError
        If neither takes an option, or the file's name ends in anything else; as by `fastrnn.load`.
    """
    ending = os.path.splitext(target)[1].lower()
    if ending not in WRITERS:
        raise ValueError(f"OUT must end in {', '.join(WRITERS)}, got {target!r}")
    weights = options.get("weights")
    if weights is not None and ending != ".safetensors":
        raise ValueError(f"--weights goes with OUT in .safetensors, as others have no such, got {target!r}")
    kind, write = files.kind_of(source), WRITERS[ending]
    reading, writing = _taken(options, kind.read), _taken(options, write)
    for name in options.keys() - reading.keys() - writing.keys() - {"weights"}:
        raise ValueError(f"--{name.replace('_', '-')} goes with other files than {source!r} and {target!r}")
    if "order" in reading:
        reading["order"] = [_part(word) for word in reading["order"]]
    network = kind.read(source, **reading)
    if weights is not None:
        network = files.compressed(source, network, weights)
        write = type(network).save
    elif not isinstance(network, Layer):
        rows.warn_of_network_alone(network)
        network = network.network_
    write(network, target, **writing)
    _block("network", network if isinstance(network, Layer) else network.network_)
    if os.path.isfile(target):  # and no pipe
        _line("written", f"{os.path.getsize(target):,} bytes, {files.kind_of(target).what}")


def _taken(options: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    known = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in known}


def _part(word: str) -> Any:
    """A layer, as ``Last`` or ``Last(bidirectional=False)``; or a name in the file."""
    name, called, _ = word.partition("(")
    if name not in CLASSES:
        return word
    try:
        arguments: Any = ast.parse(word if called else f"{word}()", mode="eval").body
        named = {each.arg: ast.literal_eval(each.value) for each in arguments.keywords}
        return CLASSES[name](*map(ast.literal_eval, arguments.args), **named)
    except Exception as error:  # of many kinds: of Python's grammar, of literals, of layers
        if not called:  # a module may be called Linear
            return word
        raise ValueError(f"--order {word!r} is no layer: {error}") from None


def _write_torch(network: Layer, path: str, *, tokens: bool = False) -> None:
    module, file = interop.to_torch(network, tokens=tokens), io.BytesIO()
    import torch

    torch.save(module.state_dict(), file)
    checkpoint.write(path, file.getvalue())


WRITERS: dict[str, Callable[..., Any]] = {
    ".safetensors": Layer.save,
    ".onnx": interop.to_onnx,
    ".keras": interop.to_keras,
    ".pt": _write_torch,
}


def _tell_network(path: str, read: Callable[..., Any]) -> None:
    """The network in a file; or why there is none, and the recurrent layers that there are."""
    try:
        _block("network", read(path))
        return
    except ValueError as error:
        refusal = str(error)
    _line("refused", refusal)
    try:
        for name, layer in read(path, layers=True).items():
            _block("layer", f"{name}: {layer!r}")
    except ValueError as error:
        if str(error) != refusal:
            _line("layers", f"refused too: {error}")


def _trained(metadata: Mapping[str, Any]) -> str:
    """How long a model was trained, and how good it was in validation."""
    history, best = metadata.get("history", []), metadata.get("best_epoch")
    if not history:
        return "not by epochs"
    last = f"{len(history)} epoch{'s' * (len(history) > 1)}, {history[-1]['seconds']:.1f} s"
    if best is None:
        return f"{last}, not validated"
    scores = {name: score for name, score in history[best - 1].items() if name.startswith("validation_")}
    words = (f"{name.replace('_', ' ')} {score:.4g}" for name, score in scores.items())
    return f"{last}; the weights are of epoch {best}: {', '.join(words)}"


def _line(what: str, words: str) -> None:
    line = f"{what:<9} {' '.join(words.split())}"
    print(textwrap.fill(line, 78, subsequent_indent=" " * 10, break_on_hyphens=False))


def _block(what: str, layer: object) -> None:
    """A layer, with a line for each part."""
    print(f"{what:<9} " + f"{layer}".replace("\n", "\n" + " " * 10))


def _weights(arrays: Mapping[str, Any]) -> None:
    scales = {name + SCALE for name, array in arrays.items() if str(array.dtype) == "int8"}
    counted = (math.prod(array.shape) for name, array in arrays.items() if name not in scales)
    _line("weights", f"{sum(counted):,}")
    width = max(map(len, arrays), default=0)
    for name, array in arrays.items():
        print(f"  {name:<{width}}  {array.dtype}  {' × '.join(map(str, array.shape)) or 'a number'}")
