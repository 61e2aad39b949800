# `make demo` and `make test` are all a newcomer needs; both set up everything they use in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard src/luce/_native/*.cpp src/luce/_native/*.hpp)

.PHONY: demo test check bench clean
demo: $(VENV)/.installed
	$(BIN)/luce fit digits -o digits.luce

test: $(VENV)/.test
	$(BIN)/python -m pytest

check: $(VENV)/.test $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist

# Each stamp is rebuilt only when what it was made from changes.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(NATIVE) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --requirement requirements/test.txt
	@touch $@

$(VENV)/.check: requirements/check.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --requirement requirements/check.txt
	@touch $@
