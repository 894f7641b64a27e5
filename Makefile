# Two commands from a fresh clone: `make fit` trains, `make test` tests. Each first brings .venv up to
# the lock that the command needs: requirements/train.txt to train, requirements/dev.txt for
# everything. The pins of train.txt are those of dev.txt, so one folder holds either.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# uv installs where it is on the PATH, and pip where it is not. pip compiles what it installs; uv has
# to be told, or every process would compile the packages where PYTHONDONTWRITEBYTECODE is set.
UV := $(shell command -v uv)
UV_INSTALL = uv pip install --python $(1)/bin/python --compile-bytecode
PIP_INSTALL = $(1)/bin/python -m pip install
INSTALL = $(call $(if $(UV),UV,PIP)_INSTALL,$(1))

# W&B's sweeps engine needs NumPy 1, so it has an environment of its own.
SWEEPS_VENV := .venv-sweeps

.PHONY: help environment fit test test-fast lint docs links images serve-image train-image lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

environment: $(VENV)/.dev  ## create the environment for everything

fit: $(VENV)/.train  ## train on synthetic patches, in one to three minutes after the installation
	$(BIN)/eurosat fit --config configs/quickstart.yaml

# The stamps .train and .dev say which locks the environment satisfies; what satisfies dev.txt
# satisfies train.txt. A lock is complete, so no dependency is looked up (--no-deps): pip refuses a
# dependency with an extra, such as google-auth[pyopenssl], once a newer version is out. The CPU
# builds of torch have other hashes than the lock, and do without the CUDA packages.
$(VENV)/.train $(VENV)/.dev: $(VENV)/.%: requirements/%.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed; choose one with make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
ifeq ($(TORCH),cpu)
	$(if $(UV),,$(error TORCH=cpu needs uv, which knows where the CPU builds \
		of torch are: install uv))
	grep -oE '^torch(vision)?==[^ ;]+' $< | xargs $(call INSTALL,$(VENV)) --torch-backend cpu --no-deps
	awk '/^[a-z]/ { cuda = /^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==/ } !cuda' $< \
		>$(VENV)/without-torch.txt
	$(call INSTALL,$(VENV)) --no-deps --require-hashes --requirement $(VENV)/without-torch.txt
else
	$(call INSTALL,$(VENV)) --no-deps --require-hashes --requirement $<
endif
	$(call INSTALL,$(VENV)) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.train $@

$(SWEEPS_VENV)/.complete: requirements/sweeps.txt
	$(PYTHON) -m venv $(SWEEPS_VENV)
	@# There is no NumPy 1 for Python 3.13 and later; the tests that need it are skipped there.
	if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
		$(call INSTALL,$(SWEEPS_VENV)) --no-deps --require-hashes --requirement $<; \
	fi
	@touch $@

# Each process of pytest-xdist takes a block of neighbouring tests, and one that has finished takes
# tests from the end of another's block.
PROCESSES := --numprocesses auto --dist worksteal

test: environment $(SWEEPS_VENV)/.complete  ## run the tests, one process per core
	$(BIN)/python -m pytest $(PROCESSES) --durations=15

test-fast: environment  ## run the tests that need neither a service nor a process of their own
	$(BIN)/python -m pytest $(PROCESSES) -m fast

lint: environment  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: environment  ## build the documentation site in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "documentation in docs/_build/html/index.html"

links: environment  ## check the links of the documentation to other sites (needs the internet)
	$(BIN)/python -m sphinx --builder linkcheck --quiet docs docs/_build/links

# Container images. BASE, BACKEND and TORCH are the arguments of the files in docker/, and MODEL is a
# file, a folder or a pattern of one model's files. OPTIONS goes to the engine, such as
# OPTIONS='--secret id=pip,src=pip.conf'. Podman's own format has no health check.
ENGINE ?= $(shell for engine in docker podman buildah; do \
	$$engine info >/dev/null 2>&1 && echo $$engine && break; done)
MODEL ?= models
OPTIONS ?=
ARGUMENT = $(if $($(1)),--build-arg $(1)='$($(1))')
IMAGE = $(if $(ENGINE),$(ENGINE),$(error no container engine runs here: install docker, podman or buildah)) \
	build $(if $(filter-out docker,$(ENGINE)),--format docker) $(OPTIONS) --file docker/$(1).Dockerfile --tag eurosat-$(1) $(call ARGUMENT,BASE) \
	--build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
	--build-arg REVISION="$$(git describe --always --dirty --abbrev=40 --exclude '*')"

images: serve-image train-image  ## build both images: MODEL=<model file>

serve-image:  ## build the image of the service: MODEL=<model file> BACKEND=onnx|openvino
	@ls $(MODEL) | grep -qE '\.(onnx|xml)$$' || { echo "$(MODEL) holds no .onnx or .xml file: run \
	'dvc repro', or export a checkpoint and pass MODEL=<file>" >&2; exit 2; }
	@case '$(MODEL)' in models|models/*|outputs/*) ;; *) echo "$(MODEL) does not reach the build: \
	copy the model to outputs/ or models/, and pass MODEL=outputs/..." >&2; exit 2;; esac
	$(call IMAGE,serve) $(call ARGUMENT,BACKEND) --build-arg MODEL='$(if $(wildcard $(MODEL)/.),$(MODEL)/*,$(MODEL))' .

train-image:  ## build the image of the training: TORCH=cuda|cpu
	$(call IMAGE,train) $(call ARGUMENT,TORCH) .

# Locks name no registry. dev.txt comes first, and the others take their versions from it.
COMPILE = uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	--custom-compile-command "make lock" --output-file requirements/$(1).txt
UPGRADE ?=

lock:  ## pin what pyproject.toml asks for (needs uv); UPGRADE=--upgrade takes the newest versions
	$(call COMPILE,dev) pyproject.toml --extra dev $(UPGRADE)
	$(call COMPILE,train) pyproject.toml --extra build --extra train --constraint requirements/dev.txt
	$(call COMPILE,serve) pyproject.toml --extra build --extra serve --constraint requirements/dev.txt
	$(call COMPILE,cloud) pyproject.toml --extra cloud --constraint requirements/dev.txt
	echo sweeps | $(call COMPILE,sweeps) - $(UPGRADE)

clean:  ## remove the environments, decoded data and runs; and keep data/raw
	rm -rf $(VENV) $(SWEEPS_VENV) outputs $(filter-out data/raw,$(wildcard data/*))
