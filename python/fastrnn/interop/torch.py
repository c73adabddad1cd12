"""From PyTorch's models to layers: which modules there are, in which order, and what must be asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fastrnn import checks
from fastrnn.interop.layouts import part_name
from fastrnn.interop.rows import of_halves
from fastrnn.interop.torch_files import contents
from fastrnn.interop.torch_layers import feedforward
from fastrnn.interop.torch_modules import NN, Module, Reader, is_module
from fastrnn.interop.torch_recurrent import Answers, is_recurrent, recurrent
from fastrnn.layers import Last, Layer, Pooling, Recurrent, Sequential

#: Modules that compute what the only module in them computes, and what it is called there.
_WRAPPERS = (["_orig_mod"], ["module"], ["model"])
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"  # which has a forward of its own
_WRAPPING = {
    _COMPILED,
    "torch.nn.parallel.distributed.DistributedDataParallel",
    "torch.nn.parallel.data_parallel.DataParallel",
}


def from_torch(
    source: Any,
    *,
    order: Sequence[str | Layer] | None = None,
    layers: bool = False,
    batch_first: bool | None = None,
    nonlinearity: str | None = None,
    embedding: bool | None = None,
    ignore: Sequence[str] = (),
) -> Any:
    """Layers with the weights of a PyTorch model.

    A file is read without PyTorch, and nothing in it is executed. What cannot be computed just as PyTorch
    computes it is refused by its name; what the source does not tell is asked for.

    Parameters
    ----------
    source : str, path-like, mapping or torch.nn.Module
        A file: of ``torch.save``, of any version, with a state dict, a checkpoint that has one in it, or a
        whole module; a TorchScript archive; safetensors; or npz with PyTorch's names. Or a state dict, of
        tensors or arrays. Or a module.
    order : list or tuple of str and Layer, optional
        What the model does one after the other: its modules by name, and fastrnn layers for what it computes
        between them: ``["embedding", "lstm", Last(), "fc"]``. Behind two directions, which end at different
        steps, `Last` must be told what is meant. The end of a name is enough where no other module's ends so.
        A name of an ``nn.Sequential`` stands for all in it, where the source is a module.
    layers : bool
        Whether to return all recurrent layers by their names, and nothing else.
    batch_first : bool, optional
        Whether the recurrent layers take (batch, time, ...): a state dict does not tell.
    nonlinearity : {"tanh", "relu"}, optional
        Of an RNN: a state dict does not tell.
    embedding : bool, optional
        Whether the first in `order` is an Embedding and no Linear: asked for where it might be both.
    ignore : list or tuple of str
        Names of tensors and modules that have no part in what is computed, such as a second copy; or, with
        `layers`, that are not wanted.

    Returns
    -------
    layer or Sequential or dict of str to layer
        The recurrent layer, where there is nothing else; a `Sequential`, of `order` or of an
        ``nn.Sequential``; with `layers` a dict.

    Raises
    ------
    OSError
        If there is no such file.
    TypeError
        If an argument is of another type.
    ValueError
        If a file is damaged, or calls what is not data; if a module or tensor is not supported: it is named;
        or if something must be answered: it says by which keyword.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> state = {
    ...     "encoder.weight_ih_l0": rng.standard_normal((32, 3)),
    ...     "encoder.weight_hh_l0": rng.standard_normal((32, 8)),
    ...     "encoder.bias_ih_l0": np.zeros(32),
    ...     "encoder.bias_hh_l0": np.zeros(32),
    ...     "fc.weight": rng.standard_normal((2, 8)),
    ...     "fc.bias": np.zeros(2),
    ... }
    >>> fastrnn.interop.from_torch(state, order=["encoder", fastrnn.Last(), "fc"], batch_first=True)
    Sequential(
      (encoder): LSTM(3, 8, batch_first=True, dtype='float64')
      (last): Last()
      (fc): Linear(8, 2, dtype='float64')
    )
    """
    answers = Answers(
        checks.optional(checks.boolean)("batch_first", batch_first),
        None if nonlinearity is None else checks.one_of("nonlinearity", nonlinearity, ("tanh", "relu")),
        checks.optional(checks.boolean)("embedding", embedding),
    )
    row, layers = _checked(order), checks.boolean("layers", layers)
    if not isinstance(ignore, (list, tuple)) or not all(isinstance(name, str) for name in ignore):
        raise TypeError(f"ignore must be a list or tuple of names, got {checks.came(ignore)}")
    if layers and row is not None:
        raise ValueError("order goes without layers=True, which gives the recurrent layers alone")
    if isinstance(source, Mapping) or is_module(source):
        return _made(Reader(None, lambda module, name: {}).read(source), row, layers, answers, ignore)
    if not isinstance(source, (str, os.PathLike)):
        expected = "a path, a state dict or a torch.nn.Module"
        raise TypeError(f"source must be {expected}, got {checks.came(source)}")
    with contents(source) as content:
        root = Reader(content.source, content.constants).read(content.held)
        return _made(root, row, layers, answers, ignore)


def _checked(order: Any) -> list[str | Layer] | None:
    if order is None:
        return None
    if not isinstance(order, (list, tuple)):
        raise TypeError(f"order must be a list or tuple of names and layers, got {checks.came(order)}")
    if not any(isinstance(each, str) for each in order):
        raise ValueError(f"order must name a module, got {checks.came(order)}")
    for place, each in enumerate(order):
        if not isinstance(each, (str, Layer)):
            raise TypeError(f"order[{place}] must be a name or a fastrnn layer, got {checks.came(each)}")
    return list(order)


def _made(root: Module | None, row: Any, layers: bool, answers: Answers, ignore: Sequence[str]) -> Any:
    root = root or Module("")
    for name in ignore:
        _forget(root, name)
    for module in root.walk():
        if ".quantized." in str(module.kind):
            raise ValueError(f"{module.where} is a {module.kind}: quantized modules are not supported")
    if row is not None:
        return _in_order(root, row, answers)
    found = [module for module in root.walk() if is_recurrent(module)]
    if layers and found:
        return {module.path or "layer": recurrent(module, answers) for module in found}
    if layers:
        raise ValueError(f"it has no recurrent layer with PyTorch's names. {_listed(root)}")
    inner = _unwrapped(root)
    if is_recurrent(inner):
        return recurrent(inner, answers)
    if str(inner.kind).startswith(NN):
        return _network(_expanded(inner), answers)
    if inner.kind is None and len(found) == 1 and len(root.names()) == len(found[0].names()):
        return recurrent(found[0], answers)
    whose = f"a {inner.kind}" if inner.kind else "a state dict"
    raise ValueError(
        f"order must be given: nothing tells in which order {whose} uses its modules, and what is between: "
        f'order=["name", ..., Last(), "name"]; or layers=True for the recurrent layers alone. {_listed(root)}'
    )


def _unwrapped(root: Module) -> Module:
    """The module that there is, without what is only around it."""
    while not root.tensors and len(root.children) == 1 and (root.kind is None or root.kind in _WRAPPING):
        if root.kind != _COMPILED:
            root.require_plain()
        (root,) = root.children.values()
    return root


def _listed(root: Module) -> str:
    """The modules that have tensors, for an error."""
    shown = []
    for module in root.walk():
        if module.tensors:
            shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in module.tensors.items()][:3]
            dots = ", ..." if len(module.tensors) > 3 else ""
            shown.append(f"{module.path or 'the module itself'}: {', '.join(shapes)}{dots}")
    if not shown:
        frozen = "; torch.jit.freeze puts them into the code: save the module before it" if root.kind else ""
        return f"It has no tensors{frozen}"
    more = f"; and {len(shown) - 12} more" if len(shown) > 12 else ""
    keras = any(name.endswith("recurrent_kernel") for name in root.names())
    hint = "; a recurrent_kernel is Keras's, see from_keras" if keras else ""
    return f"It has {'; '.join(shown[:12])}{more}{hint}"


# -- names


def _find(root: Module, name: str) -> Module:
    """The module of this name, within what is only around all of them; or the only one whose name ends so."""
    inner = root
    while not inner.tensors and [*inner.children] in _WRAPPERS:
        (inner,) = inner.children.values()
    start = f"{inner.path}." if inner.path else ""
    paths = {module.path: module for module in root.walk() if module.path}
    plain = {path.replace("._orig_mod", ""): module for path, module in paths.items()}
    exact = [each[path] for path in (name, f"{start}{name}") for each in (paths, plain) if path in each]
    found = exact[:1] or [module for path, module in plain.items() if path.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"order names {name!r}, which is no module of it. {_listed(root)}")
    names = ", ".join(repr(module.path) for module in found[:8])
    raise ValueError(f"order names {name!r}, which may be each of {names}: give the whole name")


def _forget(root: Module, name: str) -> None:
    """Take a tensor or a module out of the tree."""
    for module in [*root.walk()]:
        start = f"{module.path}." if module.path else ""
        for held in (module.tensors, module.children):
            if name.startswith(start) and name[len(start) :] in held:
                del held[name[len(start) :]]
                return
    raise ValueError(f"ignore names {name!r}, which is no module or tensor of it. {_listed(root)}")


# -- networks


def _in_order(root: Module, order: Sequence[str | Layer], answers: Answers) -> Sequential:
    row: list[tuple[str, Module | Layer]] = []
    named = []
    for each in order:
        if isinstance(each, str):
            module = _find(root, each)
            named.append(module)
            row += _expanded(module)
        else:
            row.append((type(each).__name__.lower(), each))
    _require_all(root, named)
    return _network(row, answers)


def _expanded(module: Module) -> list[tuple[str, Module | Layer]]:
    """A module by its name, or those of a container."""
    if module.kind != f"{NN}container.Sequential":
        return [(module.path, module)]
    module.require_plain()
    return [pair for child in module.children.values() for pair in _expanded(child)]


def _require_all(root: Module, named: Sequence[Module]) -> None:
    """Refuse tensors beside those of the modules that are named: they may have a part in what is computed.

    They are looked for in all that is around the modules, and in the smallest part that has them all.
    """
    around = [each for each in root.walk() if all(_within(module.path, each.path) for module in named)]
    left = [
        f"{module.path}.{name}".lstrip(".")
        for module in (*around[:-1], *around[-1].walk())
        for name in module.tensors
        if not any(_within(module.path, each.path) for each in named)
    ]
    if left:
        shown = ", ".join(left[:6]) + (f" and {len(left) - 6} more" if len(left) > 6 else "")
        how = "name their modules too, or give them as ignore= if they have no part in what is computed"
        raise ValueError(f"order leaves out {shown}: {how}")


def _within(path: str, whole: str) -> bool:
    return not whole or path == whole or path.startswith(f"{whole}.")


def _network(row: Sequence[tuple[str, Module | Layer]], answers: Answers) -> Sequential:
    """The layers one after the other; made from the last to the first, as what a layer gives may depend on
    what the next one takes."""
    made: list[tuple[str, Layer]] = []
    wanted: int | None = None
    for place, (name, each) in reversed([*enumerate(row)]):
        if isinstance(each, Layer):
            parts = [each]
        elif is_recurrent(each):
            parts = [recurrent(each, answers)]
        else:
            first = not any(_gives_features(before) for _, before in row[:place])
            axes = _axes(row, place)
            parts = feedforward(each, first=first, wanted=wanted, axes=axes, answers=answers)
        made += [(name, part) for part in reversed(parts)]
        for part in parts:
            if part._features != (None, None):
                wanted = part._features[0]
    named: dict[str, Any] = {}
    for name, layer in reversed(made):
        if isinstance(layer, Last) and layer.bidirectional is None and of_halves(layer, [*named.values()]):
            raise ValueError(
                "order must say which Last() it means behind two directions: Last(bidirectional=True) for "
                "h_n of both, the second at the first step; Last(bidirectional=False) for output[:, -1]"
            )
        named[part_name(name, named)] = layer
    return Sequential(**named)


def _gives_features(each: Module | Layer) -> bool:
    return bool(each.names()) if isinstance(each, Module) else each._features != (None, None)


def _axes(row: Sequence[tuple[str, Module | Layer]], place: int) -> int | None:
    """Of what comes to a place: two behind a pooling, three in a network of sequences."""
    if any(isinstance(each, Pooling) for _, each in row[:place]):
        return 2
    sequences = any(
        isinstance(each, Recurrent) or (isinstance(each, Module) and is_recurrent(each)) for _, each in row
    )
    return 3 if sequences else None
