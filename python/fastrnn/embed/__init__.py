"""Out of Python: a network as one C file, and a step of a stream as a function of C."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastrnn.embed.export import export_c

if TYPE_CHECKING:
    from fastrnn.embed.native import message, reset, step, step_tokens

__all__ = ["export_c", "message", "reset", "step", "step_tokens"]


def __getattr__(name: str) -> Any:
    """What needs the native kernels loads when it is first used."""
    if name in __all__:
        return getattr(import_module("fastrnn.embed.native"), name)
    raise AttributeError(f"module 'fastrnn.embed' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
