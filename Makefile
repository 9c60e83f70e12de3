# Everything here needs a Python of at least 3.11 and make; the environment, .venv, is made on the first call and
# again when a pyproject.toml changes. Choose another Python with `make PYTHON=/path/to/python test`.

MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
.DEFAULT_GOAL := help

# A python3.x on PATH may be a shim that only prints an error, so each is asked to run.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	"$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { command -v "$$name"; break; }; done)

BIN := .venv/bin
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) -q

.PHONY: help demo test lint bench docs clean

help:
	@echo 'make demo    see real jobs judged on real databases'
	@echo 'make test    all tests: of the project, the examples and each plugin'
	@echo 'make lint    ruff and mypy'
	@echo 'make bench   measure'
	@echo 'make docs    build the site into site/'
	@echo 'make clean   remove what was built'

.venv/.ready: pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
	@test -n '$(PYTHON)' || { echo 'No Python >= 3.11 with venv was found on PATH.' \
		'Install one (Debian: apt install python3-venv), or: make PYTHON=/path/to/python $(MAKECMDGOALS)' >&2; exit 2; }
	@echo 'Making .venv with $(PYTHON) ...'
	@rm -rf .venv
	@'$(PYTHON)' -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -qq -e . --group lint --group test $(foreach p,$(PLUGINS),-e '$(p)[test]')
	@touch $@

demo: .venv/.ready
	@$(BIN)/idemfuzz demo

test: .venv/.ready
	$(PYTEST)
	@for folder in $(PLUGINS); do (set -x; cd $$folder && ../../$(PYTEST)) || exit 1; done

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.ready
	@$(BIN)/python -m benchmarks

docs: .venv/.ready
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --group docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir site

clean:
	rm -rf .venv .tox .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
