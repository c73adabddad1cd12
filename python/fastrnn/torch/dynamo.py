"""``torch.compile`` takes our layers whole.

Its tracer, Dynamo, gives up at every instance of PyTorch's recurrent layers, of which ours are some. Its
option `allow_rnn` would let all of them in, and unroll PyTorch's own into their steps. But first it looks
into a table for what to do with an object of exactly this type: there ours are entered, and each class that
is derived from them. That waits until Dynamo is imported, which takes longer than all of fastrnn, and which
nobody needs who does not compile.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any
from weakref import WeakSet

_BUILDER = "torch._dynamo.variables.builder"
_kinds: WeakSet[type] = WeakSet()


def _wrap(builder: Any, module: Any) -> Any:
    """As it wraps a module of the user's."""
    from torch._dynamo import config

    with config.patch(allow_rnn=True):
        return builder.wrap_module(module)


def _enter(module: Any) -> None:
    table: Any = getattr(module.VariableBuilder, "_type_dispatch", dict)()
    table.update(dict.fromkeys(_kinds, _wrap))


class _Waiting(MetaPathFinder):
    """Sees Dynamo imported, once."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                _enter(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def tell_dynamo(kind: type) -> None:
    """Of a class, now or when it is imported."""
    _kinds.add(kind)
    if hasattr(builder := sys.modules.get(_BUILDER), "VariableBuilder"):
        _enter(builder)


if _BUILDER not in sys.modules:
    sys.meta_path.insert(0, _Waiting())
