"""What a pickle may hold and call, as data: names, objects of which nothing but a name and attributes is
known, and the few functions that stand for tensors, arrays and collections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from fastrnn.interop.tensors import DTYPES, Source, Tensor

COST = 100  # bytes of memory of an object without what it holds: an empty list, or a number's place in a dict

#: What Python 2 called its modules.
RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}

#: The dtypes of PyTorch's storages, by their classes' names.
STORAGES = {
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16"},
    **{"BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16"},
    **{"CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8"},
}


class Global:
    """A class or a function, as a name."""

    __slots__ = ("name",)

    def __init__(self, module: str, name: str) -> None:
        self.name = f"{RENAMED.get(module, module)}.{name}"


class Inert:
    """An object of a class that is a name, and what it was given: nothing of the class itself."""

    __slots__ = ("arguments", "attributes", "name")

    def __init__(self, name: str, arguments: Sequence[Any] = ()) -> None:
        self.name, self.arguments = name, arguments
        self.attributes: dict[Any, Any] = {}


class Storage(NamedTuple):
    """The numbers that tensors are views of."""

    key: str
    dtype: str
    length: int


class Machine(Protocol):
    """What calls need of the interpreter."""

    source: Source

    def call(self, function: Any, arguments: Any) -> Any:
        """What another call stands for."""


def set_items(holder: Any, items: Sequence[Any]) -> None:
    if isinstance(holder, Inert):  # a subclass of a dict
        holder = holder.attributes
    if type(holder) is not dict or len(items) % 2:
        raise ValueError(f"its pickle puts items into {type(holder).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        holder[_key(key)] = value


def _key(key: Any) -> Any:
    """A key whose hash takes no time to speak of, and differs from others'."""
    if isinstance(key, (str, bytes, float, bool, type(None))) or (isinstance(key, int) and abs(key) < 2**60):
        return key
    if isinstance(key, (Global, Inert)):  # whose hashes are their identities
        return key
    if isinstance(key, tuple):  # which would look for the hashes of all that it holds
        return Inert("builtins.tuple", key)
    raise ValueError(f"its pickle has a dict with a key of type {type(key).__name__}")


def integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"it has a size, stride or offset {str(value)[:40]}")
    return value


# -- what calls stand for


def _tensor(
    machine: Machine,
    storage: Storage,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    grad: Any = None,
    hooks: Any = None,
    bits: Any = None,
) -> Tensor:
    if bits and (len(bits) > 8 or any(bits.values())):
        raise ValueError(
            f"it has a tensor with the bits {', '.join(map(str, [*bits][:8]))}: save tensor.resolve_neg()"
        )
    shape, strides = tuple(map(integer, shape)), tuple(map(integer, strides))
    return machine.source.tensor(storage.key, storage.dtype, storage.length, integer(offset), shape, strides)


def _tensor_v3(
    machine: Machine,
    storage: Storage,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    grad: Any,
    hooks: Any,
    dtype: Global,
    bits: Any = None,
) -> Tensor:
    """A view of bytes as another dtype, which is named."""
    name = dtype.name.rpartition(".")[2]
    if name not in DTYPES:
        raise ValueError(f"it has a tensor of dtype {name}, which is not supported")
    count = storage.length // DTYPES[name].itemsize
    return _tensor(machine, Storage(storage.key, name, count), offset, shape, strides, bits=bits)


def _of_type(machine: Machine, function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor of a subclass, of which PyTorch's own are known."""
    if kind.name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        hint = "save a plain one of it, as tensor.as_subclass(torch.Tensor) may be"
        raise ValueError(f"it has a tensor of class {kind.name!r}, which is not supported: {hint}")
    return machine.call(function, arguments)


def _mapping(machine: Machine, items: Any = (), *rest: Any) -> dict[Any, Any]:
    """Of another, or of pairs."""
    made: dict[Any, Any] = {}
    for key, value in items.items() if isinstance(items, dict) else _elements(machine, items):
        machine.source.spend(COST)
        set_items(made, [key, value])
    return made


def _elements(machine: Machine, items: Any = (), *rest: Any) -> list[Any]:
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"its pickle makes a list of {type(items).__name__}")
    machine.source.spend(8 * len(items))
    return [*items]


def _attribute(machine: Machine, holder: Any, name: Any) -> Global:
    """``torch.tanh`` and its like, which are attributes of a class of PyTorch's."""
    if not isinstance(holder, Global) or holder.name != "torch._C._VariableFunctionsClass":
        raise ValueError("its pickle calls 'builtins.getattr', which is not data. Nothing was executed")
    return Global("torch", str(name))


def _encoded(machine: Machine, text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError(f"its pickle has bytes in encoding {encoding!r}")
    machine.source.spend(len(text))
    return text.encode("latin1")


def _buffered(machine: Machine, data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> Inert:
    """An array of NumPy's, as pickles of protocol 5 have it."""
    array = Inert("numpy.ndarray")
    if axes is None:
        array.attributes[None] = (1, shape, dtype, order == "F", data)
    return array


def _inert(name: str) -> Callable[..., Any]:
    return lambda machine, *arguments: Inert(name, arguments)


ARRAYS = {"numpy.ndarray", "numpy.dtype"}
_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")

#: The functions that a pickle may call, which only make data of data.
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda machine, data, *rest: data,
    "torch._utils._rebuild_parameter_with_state": lambda machine, data, *rest: data,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": lambda machine, sizes=(): sizes,
    "torch.jit._pickle.restore_type_tag": lambda machine, value, *rest: value,
    **{f"torch.jit._pickle.build_{kind}list": _elements for kind in ("tensor", "int", "double", "bool")},
    **{f"collections.{name}": _mapping for name in ("OrderedDict", "Counter")},
    "collections.defaultdict": lambda machine, *factory: {},
    **{f"builtins.{name}": _elements for name in ("set", "frozenset", "list")},
    "builtins.getattr": _attribute,
    "_codecs.encode": _encoded,
    "copyreg._reconstructor": lambda machine, kind, *rest: Inert(kind.name),
    **{name: _inert("numpy.ndarray") for name in _RECONSTRUCT},
    **{name: _inert("numpy.generic") for name in _SCALAR},
    **{f"numpy.{core}.numeric._frombuffer": _buffered for core in ("core", "_core")},
    **{
        name: _inert(name)
        for name in (
            *("numpy.dtype", "torch.device", "torch.serialization._get_layout"),
            *(f"builtins.{name}" for name in ("complex", "slice", "range", "xrange", "bytearray")),
            *(f"pathlib.{local}{kind}Path" for local in ("", "_local.") for kind in ("Posix", "Windows", "")),
            *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
            *("zoneinfo.ZoneInfo._unpickle", "uuid.UUID", "decimal.Decimal", "fractions.Fraction"),
            *("collections.deque", "types.SimpleNamespace", "re._compile", "functools.partial"),
            *(
                f"numpy.random._pickle.__{kind}_ctor"
                for kind in ("generator", "bit_generator", "randomstate")
            ),
            *("numpy.random.bit_generator.__pyx_unpickle_SeedSequence", "fastrnn.torch.stacks.Kept"),
        )
    },
}

#: Others that honest files call, and what to do about it.
REFUSED = {
    "torch._utils._rebuild_qtensor": "a quantized tensor is not supported; save the float model",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor is not supported; save it dense",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor on the device meta has no numbers",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device; save it from the CPU",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another device; save it from the CPU",
    "torch.package._package_unpickler": "packages of torch.package are not supported; save the state_dict()",
}


def numpy_array(array: Inert, source: Source) -> Tensor | None:
    """An array of NumPy's as a tensor; None if it is not plain numbers."""
    state = array.attributes.get(None)
    if not isinstance(state, tuple) or len(state) != 5:
        return None
    _, shape, dtype, fortran, data = state
    if not isinstance(dtype, Inert) or not isinstance(data, (bytes, bytearray)) or not dtype.arguments:
        return None
    names = {found.str[1:]: name for name, found in DTYPES.items() if name != "bfloat16"}
    name, own = names.get(str(dtype.arguments[0])), dtype.attributes.get(None)
    if name is None or not isinstance(shape, tuple) or not isinstance(own, tuple) or own[1:2] == (">",):
        return None
    return source.given(data, name, [*map(integer, shape)], fortran=bool(fortran))
