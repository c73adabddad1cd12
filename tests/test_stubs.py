"""What `_core.pyi` says of the compiled module, against what pybind11 says of it."""

import ast
from pathlib import Path

import pytest

import fastrnn

_core = pytest.importorskip("fastrnn._core", reason="the native kernels are not built")

STUBS = (Path(fastrnn.__file__).parent / "_core.pyi").read_text()


def arguments(function):
    """Their names, and the defaults of the last of them."""
    return [each.arg for each in function.args.args], [ast.unparse(each) for each in function.args.defaults]


def of_stubs(text):
    found = {}
    for node in ast.parse(text).body:
        for each in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(each, ast.FunctionDef) and not each.decorator_list and not each.args.vararg:
                found[each.name if each is node else f"{node.name}.{each.name}"] = arguments(each)
    return found


def of_the_module():
    """The first line of a function's docstring is its signature."""
    classes = {name: vars(thing) for name, thing in vars(_core).items() if isinstance(thing, type)}
    found = {}
    for prefix, members in {"": vars(_core), **{f"{name}.": own for name, own in classes.items()}}.items():
        for name, member in members.items():
            signature = (getattr(member, "__doc__", None) or "").split("\n")[0]
            if callable(member) and signature.startswith(f"{name}("):
                found[prefix + name] = arguments(ast.parse(f"def {signature}: ...").body[0])
    return found


def test_the_stubs_have_the_arguments_of_the_module():
    assert of_stubs(STUBS) == of_the_module()


def test_a_wrong_stub_is_noticed():
    wrong = STUBS.replace("def set_num_threads(count: int)", "def set_num_threads(threads: int)")
    assert wrong != STUBS
    assert of_stubs(wrong) != of_the_module()
