"""The modules of a PyTorch model, alike whether they are live, inert, or but the names of tensors.

What an object tells of itself, its class and its options, comes along; a state dict tells neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn.checks import Array
from fastrnn.interop.inert import ARRAYS, Inert, numpy_array
from fastrnn.interop.tensors import Source, Tensor

DEEPEST = 64  # modules within each other; deeper is a cycle, or an attack
MOST = 30_000  # modules and tensors
LONGEST = 5_000_000  # steps through what dicts and lists hold, where each may be in others many times

NN = "torch.nn.modules."
PLAIN = (bool, int, float, str, bytes, type(None))
OURS = "fastrnn.torch."
NETWORK = f"{OURS}network."  # the modules that `to_torch` makes

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")

#: Names of tensors that weights are made of at each call, and what gives these.
_REMADE = {
    r"_raw$": "; WeightDrop's true weights are those named _raw: put them in the places of the others",
    r"_[gv]$|_orig$|^parametrizations\.": "; remove_weight_norm, remove_spectral_norm, prune.remove or "
    "remove_parametrizations makes plain weights of them",
}

_WEIGHT = re.compile(r"(.*\.)?(weight|bias)(_\w+)?", re.DOTALL)


class Module:
    """A name with what is below it.

    Attributes
    ----------
    path : str
        The names from the root to it, with dots between.
    kind : str or None
        The class, as ``torch.nn.modules.rnn.LSTM``; None where nothing tells.
    options : dict
        What its attributes tell.
    hooked : bool
        Whether functions change what goes in or comes out of it.
    tensors : dict
        Its own, by name: arrays, PyTorch's tensors or parts of a file.
    children : dict of str to Module
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.kind: str | None = None
        self.options: dict[str, Any] = {}
        self.hooked = False
        self.tensors: dict[str, Any] = {}
        self.children: dict[str, Module] = {}

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"module {self.path!r}" if self.path else "the module"

    def walk(self) -> Iterator[Module]:
        """It and all below."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def names(self) -> list[str]:
        """Of its tensors and those below, from it on."""
        start = len(self.path) + 1 if self.path else 0
        return [
            f"{module.path}.{name}"[start:].lstrip(".") for module in self.walk() for name in module.tensors
        ]

    def require_plain(self) -> None:
        """Refuse hooks, which compute something besides."""
        if self.hooked:
            raise ValueError(
                f"{self.where} has hooks or a forward of its own, which compute something besides: remove "
                "them, as torch.nn.utils.remove_weight_norm does, or give its state_dict()"
            )

    def require(self, expected: set[str]) -> None:
        """Refuse tensors that are missing, or that a layer would leave out."""
        names = set(self.names())
        problems = [f"{name} is missing" for name in sorted(expected - names)]
        problems += [f"{name} is not of such a layer" for name in sorted(names - expected)]
        if not problems:
            return
        hint = next(
            (hint for mark, hint in _REMADE.items() if any(re.search(mark, name) for name in names)), ""
        )
        more = f" and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise ValueError(f"{self.where} does not fit: {', '.join(problems[:6])}{more}{hint}")


class Reader:
    """Makes the tree of what there is.

    Parameters
    ----------
    source : Source, optional
        Of the file that it is from.
    constants : callable
        What a class of TorchScript's has as constants, by its module and name.
    """

    def __init__(self, source: Source | None, constants: Callable[[str, str], dict[str, Any]]) -> None:
        self.source, self.constants = source, constants
        self.count = self.steps = 0

    def read(self, held: Any, path: str = "", depth: int = 0) -> Module | None:
        """A module, or a collection of them; None where there is no tensor in it.

        Raises
        ------
        ValueError
            If it is nested too deep, or has too many parts.
        """
        self.count += 1
        if depth > DEEPEST or self.count > MOST:
            raise ValueError(f"it nests dicts or modules deeper than {DEEPEST}, or has more than {MOST:,}")
        module = Module(path)
        if isinstance(held, Mapping):
            self._add(module, held.items(), depth)
        elif isinstance(held, (list, tuple)):
            self._add(module, ((str(place), each) for place, each in enumerate(held)), depth)
        elif isinstance(held, Inert) and held.name.startswith("__torch__."):
            self._about(module, held.name, held.attributes | self.constants(*held.name.rsplit(".", 1)))
            module.kind = _known(re.sub(r"^__torch__\.|___torch_mangle_\d+\.", "", held.name))
            lists = (list, tuple)  # of tensors that go by names too
            self._add(
                module, [each for each in held.attributes.items() if not isinstance(each[1], lists)], depth
            )
        elif isinstance(held, Inert) and {"_parameters", "_modules"} <= held.attributes.keys():
            self._about(module, held.name, held.attributes)
            self._add_module(module, held.attributes, depth)
        elif is_module(held):
            kind = type(held)
            if kind.__module__.startswith("torch.jit"):
                self._add(module, held.state_dict().items(), depth)
                module.kind = None if module.tensors else f"TorchScript {held.original_name}"
            else:
                self._about(module, _kind_of(held), vars(held))
                self._add_module(module, vars(held), depth)
        return module if module.tensors or module.children or module.kind else None

    def _go(self, steps: int) -> None:
        self.steps += steps
        if self.steps > LONGEST:
            raise ValueError(f"it holds dicts, lists or objects of more than {LONGEST:,} entries")

    def _about(self, module: Module, kind: str, attributes: Mapping[Any, Any]) -> None:
        self._go(len(attributes))
        module.kind = _known(kind)
        module.options = {name: value for name, value in attributes.items() if isinstance(value, PLAIN)}
        module.hooked = any(attributes.get(hooks) for hooks in _HOOKS) or "forward" in attributes

    def _add_module(self, module: Module, attributes: Mapping[Any, Any], depth: int) -> None:
        for part in ("_parameters", "_buffers", "_modules"):
            found = attributes.get(part)
            self._add(module, found.items() if isinstance(found, Mapping) else (), depth)

    def _add(self, module: Module, items: Any, depth: int) -> None:
        others = []
        for name, value in items:
            self._go(1)
            if isinstance(value, PLAIN) or not isinstance(name, str):  # an optimizer's state goes by numbers
                continue
            tensor = self._array(value)
            if tensor is not None:
                self._put(module, name, tensor, depth)
            elif _WEIGHT.fullmatch(name) and not _holds_no_numbers(value):
                others.append((name, value))
            elif isinstance(value, (Mapping, list, tuple, Inert)) or is_module(value):
                path = f"{module.path}.{name}" if module.path else name
                child = self.read(value, path, depth + 1)
                if child is not None and module.children.setdefault(name, child) is not child:
                    raise ValueError(f"it has two modules of the name {path!r}")
        for name, value in others:  # else a layer would be without bias; but hyperparameters may be called so
            if module.tensors or re.search(r"\.|_ih|_hh", name):
                self._put(module, name, NoTensor(name, value), depth)

    def _put(self, module: Module, name: str, value: Any, depth: int) -> None:
        """A tensor, whose name may have dots."""
        self.count += 1
        *above, last = name.split(".", DEEPEST)
        if depth + len(above) >= DEEPEST:
            raise ValueError(f"it nests names deeper than {DEEPEST}")
        for each in above:
            if each not in module.children:
                self.count += 1
                module.children[each] = Module(f"{module.path}.{each}" if module.path else each)
            module = module.children[each]
        if module.tensors.setdefault(last, value) is not value:
            raise ValueError(f"it has two tensors of the name {last!r} in {module.where}")

    def _array(self, value: Any) -> Any:
        if isinstance(value, Inert):
            return numpy_array(value, self.source) if self.source and value.name in ARRAYS else None
        return value if is_tensor(value) else None


class NoTensor:
    """What has the name of a weight, and is of a class that is not read: who asks for its shape is told."""

    dtype = "?"

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.kind = name, value.name if isinstance(value, Inert) else type(value).__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """It has none."""
        what = "must be a tensor or an array of numbers"
        raise ValueError(
            f"{self.name!r} {what}, got a {self.kind}; numpy.asarray(..., 'float32') may make one"
        )


def _holds_no_numbers(value: Any) -> bool:
    """Whether it is a module, a dict, an option or nothing, whatever its name is."""
    if isinstance(value, Inert):
        return value.name.startswith("__torch__.") or "_modules" in value.attributes
    return isinstance(value, Mapping) or is_module(value)


def is_module(value: Any) -> bool:
    """Whether it is a module of PyTorch's, which is not imported for the question."""
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(value).__mro__)


def is_tensor(value: Any) -> bool:
    """Whether there are numbers in it: an array, a tensor of PyTorch's, or a part of a file."""
    if isinstance(value, (Tensor, np.ndarray)):
        return True
    if isinstance(value, Inert):
        return value.name in ARRAYS
    return any(kind.__module__ == "torch" and kind.__name__ == "Tensor" for kind in type(value).__mro__)


def array_of(name: str, value: Any) -> Array:
    """The numbers of a tensor, as float32 or float64.

    Raises
    ------
    ValueError
        If they are no floats, or cannot be had.
    """
    if isinstance(value, Tensor):
        value = value.array()
    elif not isinstance(value, np.ndarray):
        if value.layout.__str__() != "torch.strided" or value.is_quantized or value.is_meta:
            raise ValueError(f"tensor {name!r} must be dense floats, got {value.layout} {value.dtype}")
        try:
            value = value.detach().resolve_neg().cpu()
            value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
        except (RuntimeError, TypeError) as error:  # of subclasses, and dtypes that NumPy has not
            what = f"{type(value).__name__} of {value.dtype}"
            raise ValueError(
                f"tensor {name!r} must have numbers as NumPy has them, got a {what}: {error}"
            ) from None
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"tensor {name!r} must be a plain array, got a masked one")
    if value.dtype.kind != "f":
        raise ValueError(f"tensor {name!r} must be of floats, got dtype {value.dtype}")
    return np.asarray(value, "float64" if value.dtype == np.float64 else "float32")


def _kind_of(module: Any) -> str:
    """The class of a live module; of a subclass that leaves its calls as they are, PyTorch's."""
    classes = type(module).__mro__
    does, calls = (
        next(kind.__module__ for kind in classes if name in vars(kind)) for name in ("forward", "__call__")
    )
    kind = classes[0]
    theirs = does.startswith((NN, OURS)) and not does.startswith(NETWORK[:-1]) and does != f"{NN}module"
    if theirs and calls == f"{NN}module":
        kind = next(each for each in classes if each.__module__.startswith("torch."))
    return f"{kind.__module__}.{kind.__qualname__}"


def _known(kind: str) -> str:
    """The class of PyTorch's that one of fastrnn's computes what it computes."""
    name = kind.rpartition(".")[2]
    if kind == f"{NETWORK}Network":
        return f"{NN}container.Sequential"
    return f"{NN}rnn.{name}" if kind.startswith(OURS) and not kind.startswith(NETWORK) else kind
