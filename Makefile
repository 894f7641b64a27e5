# Two commands from a fresh clone: `make fit` trains, `make test` tests. Each creates the exact
# environment of requirements.txt in .venv first, if it is not there yet.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# W&B's sweeps engine needs NumPy 1, so it has an environment of its own.
SWEEPS_VENV := .venv-sweeps

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

$(SWEEPS_VENV)/.complete: tests/sweeps-requirements.txt
	$(PYTHON) -m venv $(SWEEPS_VENV)
	@# There is no NumPy 1 for Python 3.13 and later; the tests that need it are skipped there.
	if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
		$(SWEEPS_VENV)/bin/python -m pip install --require-hashes --requirement $<; \
	fi
	@touch $@

test: environment $(SWEEPS_VENV)/.complete  ## run the tests, one process a core
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: environment  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock:  ## pin the environments anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-annotate --upgrade --quiet \
		--custom-compile-command "make lock" --output-file requirements.txt
	echo sweeps | uv pip compile - --universal --python-version 3.11 \
		--generate-hashes --no-annotate --upgrade --quiet \
		--custom-compile-command "make lock" --output-file tests/sweeps-requirements.txt

clean:  ## remove the environments, decoded data and runs; data/raw is left
	rm -rf $(VENV) $(SWEEPS_VENV) outputs $(filter-out data/raw,$(wildcard data/*))
