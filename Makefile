# Two commands from a fresh clone: `make fit` trains, `make test` tests. Each creates the exact
# environment of requirements.txt in .venv first, if it is not there yet.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help environment fit test lint lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

environment: $(VENV)/.complete  ## create the environment

$(VENV)/.complete: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed; choose one with make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

fit: environment  ## train on synthetic patches, offline, in about a minute
	$(BIN)/eurosat fit --config configs/quickstart.yaml

test: environment  ## run the tests
	$(BIN)/python -m pytest

lint: environment  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:  ## pin the environment anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --upgrade --quiet \
		--custom-compile-command "make lock" --output-file requirements.txt

clean:  ## remove the environment, decoded data and runs
	rm -rf $(VENV) data outputs
