# make demo · make test · make docs · make bench · make compare: each is complete on a fresh clone (python3 with venv, g++).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test docs bench compare clean

demo: $(VENV)/demo
	$(BIN)/fastrnn demo -o demo

test: $(VENV)/test
	$(BIN)/ruff check python tests bench docs
	$(BIN)/mypy
	$(BIN)/python -m pytest

docs: $(VENV)/docs
	$(BIN)/sphinx-build -E -W --keep-going -n -q docs docs/_build

bench: $(VENV)/bench
	$(BIN)/python -m pytest bench -q

compare: $(VENV)/peers
	$(BIN)/python bench/compare.py $(OPTIONS)

# A stamp for each set of extras; built again when a source has changed.
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc python -name '*.cpp' -o -name '*.h' -o -name '*.py' -o -name '*.pyi')

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/%: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install --quiet '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo docs/_build
