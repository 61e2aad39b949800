# `make demo` and `make test` are all a newcomer needs; both set up everything they use in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard src/luce/_native/*.cpp src/luce/_native/*.hpp)

.PHONY: demo test check bench docs sanitize clean
demo: $(VENV)/.installed
	$(BIN)/luce fit digits -o digits.luce

test: $(VENV)/.test
	$(BIN)/python -m pytest

check: $(VENV)/.test $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test $(VENV)/.bench
	$(BIN)/python -m benchmarks

# Both languages from scratch, every chapter run, warnings are errors; then open build/docs/index.html.
docs: $(VENV)/.test $(VENV)/.docs
	rm -rf build/docs
	$(BIN)/sphinx-build -W --keep-going -q -c docs docs/en build/docs/en
	$(BIN)/sphinx-build -W --keep-going -q -c docs -t zh docs/zh build/docs/zh
	cp docs/index.html build/docs/

# The kernels under the address and undefined-behaviour sanitizers, in an environment of their own that
# borrows everything but luce from .venv.
SANITIZED := build/sanitize
PRELOADED := $(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libubsan.so)
sanitize: $(VENV)/.test
	$(PYTHON) -m venv $(SANITIZED)
	echo $(CURDIR)/$(VENV)/lib/python*/site-packages > $$(echo $(SANITIZED)/lib/python*/site-packages)/borrowed.pth
	$(SANITIZED)/bin/pip install --quiet --no-deps --force-reinstall . \
	  -C cmake.define.LUCE_SANITIZE=ON -C build-dir=build/sanitize-objects
	LD_PRELOAD="$(PRELOADED)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(SANITIZED)/bin/python -m pytest tests/test_kernels.py -k "not memory and not oversubscribe"

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

$(VENV)/.bench: requirements/bench.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --requirement requirements/bench.txt
	@touch $@

$(VENV)/.docs: requirements/docs.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --requirement requirements/docs.txt
	@touch $@

$(VENV)/.check: requirements/check.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --requirement requirements/check.txt
	@touch $@
