"""Layers whose weights have fewer bits, for inference: how they are made, and what they are in a file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastrnn import checks
from fastrnn.arrays import Fixed
from fastrnn.checks import Array
from fastrnn.layers.layer import Composite, Layer
from fastrnn.reference import narrowed, rounded, widened

LayerT = TypeVar("LayerT", bound=Layer)
CompressibleT = TypeVar("CompressibleT", bound="Compressible")

WEIGHTS = ("float16", "bfloat16", "int8")
BITS = {16: "", 8: "x8"}  # of the activations that int8 weights are multiplied by
LEAST_FLOAT16 = 2.0**-14  # of its numbers with all bits
SCALE = "_scale"  # what the name of an array of scales ends in, in a file

DTYPES = {"float16": np.float16, "bfloat16": np.uint16, "int8": np.int8, "int8x8": np.int8}  # in a file


class Compression(NamedTuple):
    """What `compress` has changed, on data of the user's; printed, it is a line."""

    weights: str
    largest: float | None = None  # how far a number of y is from what it was, at most,
    mean: float | None = None  # and in the mean
    size: float | None = None  # the largest number of y, without its sign, as it was
    before: float | None = None  # the metric
    after: float | None = None

    def __str__(self) -> str:
        """Of y, and of the metric."""
        parts = []
        if self.largest is not None:
            parts.append(
                f"y changes by {self.largest:.3g} at most and {self.mean:.3g} in the mean, "
                f"and had {self.size:.3g} at most"
            )
        if self.after is not None:
            parts.append(f"the metric is {self.after:.5g}, and was {self.before:.5g}")
        return f"{self.weights}: {'; '.join(parts)}"


class Compressible(Layer):
    """A layer with weights that can be compressed: `Recurrent`, `Linear` or `Embedding`."""

    dtype: np.dtype[Any]

    #: What its weights are rounded to: of `fastrnn.reference.FORMATS`.
    _format = "float32"

    #: What that has changed, where `compress` was to say it.
    compression: Compression | None = None

    @property
    def weights(self) -> str:
        """What its weights are: "float32", "float64", or after `compress` "float16", "bfloat16" or "int8"."""
        return self.dtype.name if self._format == "float32" else _weights(self._format)

    def compress(
        self: CompressibleT,
        weights: str,
        *,
        activations: int = 16,
        check: Any = None,
        metric: Callable[[Any], float] | None = None,
    ) -> CompressibleT:
        """A copy for inference whose weights have fewer bits.

        What is rounded are the matrices: ``weight_ih_l0``, ``weight_hh_l0``, ``weight_hr_l0``, ``weight``.
        All else, states and sums stay float32. A copy by copy, deepcopy or pickle, and a file by `save`, are
        compressed likewise; a file has a half or a quarter of the size. Its arrays are read-only, and cannot
        be trained.

        Parameters
        ----------
        weights : {"float16", "bfloat16", "int8"}
            "float16" has numbers up to 65504 and 11 bits of precision, fewer below 6.1e-5, "bfloat16" the
            range of float32 and 8 bits: results have the very bits of a layer with weights that are so
            rounded. "int8" is for each row of a matrix a scale, and 8 bits for each number, from -127 to 127
            times the scale; a row of zeros stays that, also one whose numbers are below 1e-31.
        activations : {16, 8}
            With "int8" each row of inputs and of h is rounded, too, at each step, to so many bits of its
            largest number, and sums are of integers. A row with an infinity or NaN gives NaN alone.
        check : as x of a call, optional
            Data to compute on with both: how much y changes is printed, and kept as the `compression` of
            what is returned.
        metric : callable, optional
            Of a layer like this one, which returns a number, such as the accuracy on some data: likewise.

        Returns
        -------
        A layer of the same class.

        Raises
        ------
        TypeError, ValueError
            If `weights` or `activations` is none of these; if the layer is compressed already, or not
            float32; or if weights are not finite, or beyond the range of float16, or all below 6.1e-5 in it:
            it names the array.

        Examples
        --------
        >>> layer = fastrnn.LSTM(3, 5, seed=0)
        >>> x = np.ones((7, 2, 3), "float32")
        >>> small = layer.compress("int8", check=x)
        int8: y changes by ... at most and ... in the mean, and had ... at most
        >>> small
        LSTM(3, 5).compress('int8')
        """
        return compressed(self, weights, activations, check, metric)

    def __repr__(self) -> str:
        """The calls that make such a layer."""
        usual = super().__repr__()
        if self._format == "float32":
            return usual
        bits = ", activations=8" if self._format.endswith(BITS[8]) else ""
        return f"{usual}.compress({self.weights!r}{bits})"

    def _matrices(self) -> list[str]:
        """The names of what is rounded."""
        return [name for name in self._parameters if name.startswith("weight")]

    def _require_trainable(self, path: str = "") -> None:
        if self._format != "float32":
            here = f"layer {path}, {self!r}," if path else repr(self)
            raise ValueError(f"{here} is for inference: train the one that it was made from, and compress it")

    def _compress(self, format: str, rounded: Mapping[str, Array]) -> None:
        """Have such weights from now on."""
        self._parameters = Fixed({**self._parameters, **rounded})
        self._format, self._made = format, None


def compressed(network: LayerT, weights: str, activations: int, check: Any, metric: Any) -> LayerT:
    """A compressed copy of a layer, or of a network of them: see `Compressible.compress`."""
    format = format_of(weights, activations)
    owners = compressible(network)
    if not owners:
        raise ValueError(
            f"there are no weights to compress in {network!r}: those of recurrent layers, Linear and "
            "Embedding can be"
        )
    found = {path: _rounded(layer, path, format) for path, layer in owners.items()}
    made: Any = copy.deepcopy(network)
    for path, layer in compressible(made).items():
        layer._compress(format, found[path])
    if check is not None or metric is not None:
        made.compression = compared(network, made, weights, None if check is None else _output(check), metric)
    return made  # type: ignore[no-any-return]


def compared(
    before: Any, after: Any, weights: str, output: Callable[[Any], Any] | None, metric: Any
) -> Compression:
    """What an output of two, and a metric, say of them; it is printed."""
    if metric is not None:
        checks.function("metric", metric)
    found = Compression(weights)
    if output is not None:
        old, new = (_numbers(output(each)) for each in (before, after))
        if not old.size:
            raise ValueError("check must be data of which something comes out, got none")
        wrong = old.size - np.count_nonzero(np.isfinite(old) & np.isfinite(new))
        if wrong:
            raise ValueError(f"check must be data of which finite numbers come out, got {wrong} that are not")
        change, size = np.abs(new - old), np.abs(old)
        found = Compression(weights, float(change.max()), float(change.mean()), float(size.max()))
    if metric is not None:
        found = found._replace(before=_measured(metric, before), after=_measured(metric, after))
    print(found)
    return found


def _measured(metric: Callable[[Any], Any], of: Any) -> float:
    found = metric(of)
    try:
        return float(found)
    except (TypeError, ValueError):
        raise TypeError(f"metric must return a number, got {checks.came(found)}") from None


def format_of(weights: str, activations: int) -> str:
    """Of `fastrnn.reference.FORMATS`."""
    checks.one_of("weights", weights, WEIGHTS)
    activations = checks.positive_int("activations", activations)
    if activations not in BITS:
        raise ValueError(f"activations must be 16 or 8, the bits that they have, got {activations}")
    if activations == 8 and weights != "int8":
        raise ValueError(f"activations=8 goes with weights='int8': with {weights!r} they stay float32")
    return weights + BITS[activations]


def compressible(network: Layer) -> dict[str, Compressible]:
    """The layers in it that can be compressed, itself or its parts, by their names."""
    owners = network._owners() if isinstance(network, Composite) else {"": network}
    return {path: layer for path, layer in owners.items() if isinstance(layer, Compressible)}


def require_trainable(network: Layer) -> None:
    """Refuse compressed layers."""
    for path, layer in compressible(network).items():
        layer._require_trainable(path)


# -- in a file


def formats(network: Layer) -> dict[str, str]:
    """What its layers are compressed to, by their names, of those that are."""
    found = {path: layer._format for path, layer in compressible(network).items()}
    return {path: format for path, format in found.items() if format != "float32"}


def told(network: Layer) -> dict[str, Any]:
    """What a file says of them beside its arrays: nothing where none is."""
    found = formats(network)
    return {"weights": found} if found else {}


def stored(network: Layer) -> dict[str, Array]:
    """Its parameters as a file has them: those of compressed layers narrow, with scales beside them."""
    arrays = dict(network.parameters)
    for path, layer in compressible(network).items():
        for own in layer._matrices() if layer._format != "float32" else ():
            name = _joined(path, own)
            arrays[name], scales = narrowed(arrays[name], layer._format)
            if scales is not None:
                arrays[name + SCALE] = scales
    return arrays


def from_stored(arrays: Mapping[str, Array], formats: Mapping[str, str]) -> dict[str, Array]:
    """The parameters again, in float32, of what a file holds: anything.

    Raises
    ------
    ValueError
        If these are no arrays in such formats.
    """
    known = isinstance(formats, Mapping) and all(format in [*DTYPES] for format in formats.values())
    if not known:
        raise ValueError(f"weights must be formats of layers by name, got {checks.came(formats)}")
    found = dict(arrays)
    for name, array in arrays.items():
        format = formats.get(name.rpartition(".")[0])
        if format is None or array.dtype != DTYPES[format] or array.ndim != 2:
            continue
        scales = found.pop(name + SCALE, None) if format.startswith("int8") else None
        if format.startswith("int8") and (
            scales is None or scales.dtype != np.float32 or scales.shape != array.shape[:1]
        ):
            raise ValueError(f"{name!r} must have float32 scales of shape {array.shape[:1]} beside it")
        found[name] = widened(array, scales, format)
    return found


def restore(network: Layer, formats: Mapping[str, str]) -> None:
    """Compress layers in place that were so when they were saved: rounding again changes nothing."""
    layers = compressible(network)
    for path, format in formats.items():
        if path not in layers:
            raise ValueError(f"weights are of layer {path!r}, and there is none with weights to compress")
        layers[path]._compress(format, _rounded(layers[path], path, format))


def _rounded(layer: Compressible, path: str, format: str) -> dict[str, Array]:
    """Its matrices, rounded."""
    here = f"layer {path}, {layer!r}," if path else repr(layer)
    if layer._format != "float32":
        raise ValueError(f"{here} is compressed already: compress the one that it was made from")
    if layer.dtype != np.float32:
        how = "load its state_dict() into one of float32"
        raise TypeError(f"{here} must be float32 to be compressed, got {layer.dtype}: {how}")
    found, weights = {}, _weights(format)
    for own in layer._matrices():
        array, name = layer._parameters.look_at(own), _joined(path, own)
        wrong = array.size - np.count_nonzero(np.isfinite(array))
        if wrong:
            raise ValueError(f"{name} must be finite to be compressed, got {wrong} numbers that are not")
        found[own] = rounded(array, format)
        largest = np.abs(array).max(initial=0)
        if not np.isfinite(found[own]).all():
            hint = "; int8 has the range of float32, and bfloat16 nearly" if weights == "float16" else ""
            raise ValueError(f"{name} must be within the range of {weights}, got {largest:g}{hint}")
        if weights == "float16" and 0 < largest < LEAST_FLOAT16:
            what = f"a largest number from {LEAST_FLOAT16:g} on, below which float16 loses precision"
            raise ValueError(f"{name} must have {what}, got {largest:g}: bfloat16 and int8 do not")
    return found


def _weights(format: str) -> str:
    return format.removesuffix(BITS[8])


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _output(x: Any) -> Callable[[Any], Any]:
    """y of a layer's call."""

    def output(layer: Any) -> Any:
        y = layer(x)
        return y[0] if isinstance(y, tuple) else y

    return output


def _numbers(found: Any) -> Array:
    """All numbers in an output, in a row."""
    values = [*found.values()] if isinstance(found, Mapping) else found
    if isinstance(values, (list, tuple)):
        return np.concatenate([np.zeros(0), *map(_numbers, values)])
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        came = checks.came(found)
        raise TypeError(f"check goes with outputs that are numbers, got {came}: take a metric instead")
    return np.ravel(array).astype(np.float64)
