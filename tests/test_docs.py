"""The site: its code runs, its figures are drawn, and what is public has a docstring."""

import importlib
import inspect
import re
import runpy
import shutil
from pathlib import Path

import pages
import pytest

import fastrnn
from fastrnn import backend, config

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if any(pages.blocks(path)))
FIGURES = sorted((DOCS / "figures").glob("[a-z]*.py"))
OPTIONAL = ("torch", "sklearn", "pandas", "h5py", "onnx", "onnxruntime", "mpi4py", "Cython", "numba")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_code_runs(path, tmp_path, monkeypatch):
    for package in OPTIONAL:
        if re.search(rf"^(import|from) {package}\b", path.read_text(), re.MULTILINE):
            pytest.importorskip(package)
    if "$ python setup.py" in path.read_text() and not shutil.which("cc"):
        pytest.skip("needs a compiler")
    if "stream.address" in path.read_text() and backend.name_in_use() != "native":
        pytest.skip("the reference has no step in C")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as where a reader starts Python
    with config.threads(0):  # as a reader's process begins, and the number that a page sets ends with it
        pages.run(path)


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_figures_are_drawn(path, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    monkeypatch.syspath_prepend(DOCS / "figures")
    try:
        runpy.run_path(str(path))
        figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
        assert figures and all(figure.axes for figure in figures)
    finally:
        pyplot.close("all")


def test_every_figure_is_on_a_page():
    text = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    assert {path.name for path in FIGURES} == set(re.findall(r"\.\. plot:: figures/(\w+\.py)", text))


@pytest.mark.parametrize("name", ["", "layers", *fastrnn._MODULES])
def test_public_names_have_docstrings(name):
    module = importlib.import_module(f"fastrnn.{name}".rstrip("."))
    missing = []
    for key, value in vars(module).items():
        ours = str(getattr(value, "__module__", "")).startswith("fastrnn")
        if key[0] == "_" or not ours or (hasattr(module, "__all__") and key not in module.__all__):
            continue
        if callable(value) and not inspect.getdoc(value):
            missing.append(key)
        if inspect.isclass(value):
            members = inspect.getmembers(value, lambda m: inspect.isfunction(m) or isinstance(m, property))
            public = [(f"{key}.{name}", member) for name, member in members if name[0] != "_"]
            missing += [name for name, member in public if not inspect.getdoc(member)]
    assert not missing
