"""A warning, and with -W an error, for each public name that no page documents."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import fastrnn

logger = logging.getLogger(__name__)


def public_modules() -> list[ModuleType]:
    return [fastrnn, *(import_module(f"fastrnn.{name}") for name in ("layers", *fastrnn._MODULES))]


def public_names(module: ModuleType) -> Iterator[tuple[str, object]]:
    """What `from module import *` brings, but for what it imported itself."""
    if hasattr(module, "__all__"):
        yield from ((name, getattr(module, name)) for name in module.__all__)
        return
    for name, value in vars(module).items():
        if name[0] != "_" and getattr(value, "__module__", None) == module.__name__:
            yield name, value


def find(path: str) -> object:
    """The object that a dotted name stands for, or None."""
    value: object = fastrnn
    for name in path.split(".")[1:]:
        value = getattr(value, name, None)
    return value


def check(app: Sphinx, env: BuildEnvironment) -> None:
    documented = [find(path) for path in env.domains.python_domain.objects if path != "fastrnn"]
    for module in public_modules():
        for name, value in public_names(module):
            # A method of what is documented, as lstm_forward is of lstm, is on its page.
            shown = getattr(value, "__self__", value) if inspect.ismethod(value) else value
            if inspect.ismodule(value) or any(shown is found for found in documented):
                continue
            logger.warning("%s.%s is public, but on no page", module.__name__, name)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
