# Two commands from a fresh clone: `make fit` trains, `make test` tests. Each first brings .venv up to
# the lock that the command needs: requirements/train.txt to train, requirements/dev.txt for
# everything. The pins of train.txt are those of dev.txt, so one folder holds either.

VENV ?= .venv
ifeq ($(OS),Windows_NT)
PYTHON ?= python
SCRIPTS := Scripts
else
PYTHON ?= python3
SCRIPTS := bin
endif
BIN := $(VENV)/$(SCRIPTS)

# uv installs where it is on the PATH, and pip where it is not. pip compiles what it installs; uv has
# to be told, or every process would compile the packages where PYTHONDONTWRITEBYTECODE is set.
UV := $(shell command -v uv)
UV_INSTALL = uv pip install --python $(1)/$(SCRIPTS)/python --compile-bytecode
PIP_INSTALL = $(1)/$(SCRIPTS)/python -m pip install
INSTALL = $(call $(if $(UV),UV,PIP)_INSTALL,$(1))

# W&B's sweeps engine needs NumPy 1, so it has an environment of its own.
SWEEPS_VENV := .venv-sweeps

# The tools of a release, which needs none of the packages that eurosat needs.
RELEASE_VENV := .venv-release

# The clients of Triton and KServe, for the tests of the service. KServe's client depends on a server.
CLIENTS_VENV := .venv-clients

PACKAGE_VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: help environment monitor fit test test-fast test-long test-wheel coverage lint check-workflows docs links dist \
	images serve-image train-image scan-image push-image sample-model fetch-model gate check-data \
	deploy audit check-release lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

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

$(RELEASE_VENV)/.complete $(CLIENTS_VENV)/.complete: .venv-%/.complete: requirements/%.txt
	$(PYTHON) -m venv .venv-$*
	$(call INSTALL,.venv-$*) --no-deps --require-hashes --requirement $<
	@touch $@

# Each process of pytest-xdist takes a block of neighbouring tests, and one that has finished takes
# tests from the end of another's block.
PROCESSES := --numprocesses auto --dist worksteal

test: environment $(SWEEPS_VENV)/.complete $(RELEASE_VENV)/.complete $(CLIENTS_VENV)/.complete  ## run the tests, one process per core
	$(BIN)/python -m pytest $(PROCESSES) --durations=15

test-long: environment  ## run the tests that take many minutes each
	$(BIN)/python -m pytest -m long --durations=0

test-fast: environment  ## run the tests that need neither a service nor a process of their own
	$(BIN)/python -m pytest $(PROCESSES) -m fast

coverage: environment  ## run the fast tests, and check the floor of their coverage
	$(BIN)/python -m pytest $(PROCESSES) -m fast --cov --cov-report=term

lint: environment check-workflows  ## check style, types and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: environment  ## build the documentation site in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "documentation in docs/_build/html/index.html"

links: environment  ## check the links of the documentation to other sites (needs the internet)
	$(BIN)/python -m sphinx --builder linkcheck --quiet docs docs/_build/links

CHECK_SCHEMA = $(BIN)/check-jsonschema --quiet --builtin-schema vendor.$(1) $(2)

check-workflows: environment  ## check .github/ and CITATION.cff, without the network
	$(BIN)/jactionlint --strict-exit --shellcheck= --pyflakes=
	$(BIN)/zizmor --offline --quiet --persona pedantic --strict-collection .github
	$(call CHECK_SCHEMA,github-workflows,.github/workflows/*.yml)
	$(call CHECK_SCHEMA,dependabot,.github/dependabot.yml)
	$(call CHECK_SCHEMA,github-issue-config,.github/ISSUE_TEMPLATE/config.yml)
	$(call CHECK_SCHEMA,github-issue-forms,$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml)))
	$(call CHECK_SCHEMA,citation-file-format,CITATION.cff)

audit: environment  ## look up known vulnerabilities of the locked packages (needs the internet)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		$(patsubst %,--requirement %,$(wildcard requirements/*.txt))

# A release without the upload. The first build makes the wheel from the sdist, and the second makes
# both from the tree: equal bytes say that the builds are reproducible and that the sdist is complete.
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist: $(RELEASE_VENV)/.complete  ## build and check sdist, wheel and SBOM of a release in dist/
	rm -rf dist build
	$(RELEASE_VENV)/$(SCRIPTS)/python -m build --no-isolation
	$(RELEASE_VENV)/$(SCRIPTS)/python -m build --no-isolation --sdist --wheel --outdir build
	cmp dist/*.tar.gz build/*.tar.gz
	cmp dist/*.whl build/*.whl
	@tar -tf dist/*.tar.gz | cut -d/ -f2- | grep -vx PKG-INFO | LC_ALL=C sort >build/sdist.txt; \
	git ls-files | LC_ALL=C sort | diff - build/sdist.txt || { echo "the sdist differs from git's \
	files (< only in git, > only in the sdist): commit or remove the file, or name it in \
	pyproject.toml, [tool.hatch.build.targets.sdist]" >&2; exit 1; }
	$(RELEASE_VENV)/$(SCRIPTS)/twine check --strict dist/*
	$(RELEASE_VENV)/$(SCRIPTS)/check-wheel-contents --toplevel eurosat dist/*.whl
	$(RELEASE_VENV)/$(SCRIPTS)/python requirements/make_sbom.py requirements/train.txt \
		dist/eurosat.cdx.json
	@rm -r build
	@echo "dist/ holds the release of $$(git describe --always --dirty --exclude '*')"

# The fast tests away from the clone: in the unpacked sdist without eurosat/, so that the tests
# import the installed wheel. `lowest` installs the lower bounds of pyproject.toml themselves.
RESOLUTION ?= locked
PINS_locked = cat requirements/dev.txt
PINS_lowest = grep -oE '"[a-z0-9-]+(\[[a-z]+\])?>=[^",]+' pyproject.toml | \
	sed -E 's/"([a-z0-9-]+)(\[[a-z]+\])?>=/\1==/'

test-wheel: dist  ## run the fast tests on the installed wheel: RESOLUTION=locked|lowest (needs uv)
	$(if $(UV),,$(error test-wheel needs uv: install uv))
	$(if $(PINS_$(RESOLUTION)),,$(error there is no RESOLUTION=$(RESOLUTION): choose locked or lowest))
	@set -e; unset PYTHONPATH; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	trap 'exit 130' INT TERM; set -x; \
	{ $(PINS_$(RESOLUTION)); } >$$folder/pins.txt; \
	mkdir $$folder/project; tar -xf dist/*.tar.gz -C $$folder/project --strip-components 1; \
	rm -r $$folder/project/eurosat; \
	$(PYTHON) -m venv $$folder/venv; \
	$(call UV_INSTALL,$$folder/venv) --constraint $$folder/pins.txt "$$(ls dist/*.whl)[dev]"; \
	cd $$folder/project; ../venv/bin/python -m pytest $(PROCESSES) -m fast

# Container images. BASE, BACKEND, PACKAGES and TORCH are the arguments of the files in docker/, and MODEL is a
# file, a folder or a pattern of one model's files. OPTIONS goes to the engine, such as
# OPTIONS='--secret id=pip,src=pip.conf'. Podman's own format has no health check.
ENGINE ?= $(shell for engine in docker podman buildah; do \
	$$engine info >/dev/null 2>&1 && echo $$engine && break; done)
MODEL ?= models
OPTIONS ?=
ARGUMENT = $(if $($(1)),--build-arg $(1)='$($(1))')
BUILD = $(if $(ENGINE),$(ENGINE),$(error no container engine runs here: install docker, podman or buildah)) \
	build $(if $(filter-out docker,$(ENGINE)),--format docker) $(OPTIONS) --file docker/$(1).Dockerfile --tag eurosat-$(1) $(call ARGUMENT,BASE) \
	--build-arg VERSION=$(PACKAGE_VERSION) \
	--build-arg REVISION="$$(git describe --always --dirty --abbrev=40 --exclude '*')"

images: serve-image train-image  ## build both images: MODEL=<model file>

serve-image:  ## build the image of the service: MODEL=<model file> BACKEND=onnx|openvino PACKAGES=serve|monitor
	@ls $(MODEL) | grep -qE '\.(onnx|xml)$$' || { echo "$(MODEL) holds no .onnx or .xml file: run \
	'dvc repro', or export a checkpoint and pass MODEL=<file>" >&2; exit 2; }
	@case '$(MODEL)' in models|models/*|outputs/*) ;; *) echo "$(MODEL) does not reach the build: \
	copy the model to outputs/ or models/, and pass MODEL=outputs/..." >&2; exit 2;; esac
	$(call BUILD,serve) $(call ARGUMENT,BACKEND) $(call ARGUMENT,PACKAGES) --build-arg MODEL='$(if $(wildcard $(MODEL)/.),$(MODEL)/*,$(MODEL))' .

train-image:  ## build the image of the training: TORCH=cuda|cpu
	$(call BUILD,train) $(call ARGUMENT,TORCH) .

# What docker/compose.yaml starts, without containers: docker/Procfile. Debian calls the program of
# Alertmanager prometheus-alertmanager.
FOLDER ?= outputs/monitor
ALERTMANAGER = $(shell command -v prometheus-alertmanager || command -v alertmanager)

monitor: environment  ## the service, its drift service, Prometheus and Alertmanager: MODEL=<model file>
	@command -v prometheus >/dev/null && [ -n "$(ALERTMANAGER)" ] || { echo "make monitor needs \
	Prometheus and Alertmanager: install Debian's packages prometheus and prometheus-alertmanager" >&2; exit 2; }
	@mkdir -p '$(FOLDER)' && cp docker/alerts.yaml '$(FOLDER)' && \
	sed -e "s/service:8002/127.0.0.1:$${METRICS_PORT:-8002}/" -e "s/drift:8001/127.0.0.1:$${DRIFT_PORT:-8001}/" \
		-e "s/alertmanager:9093/127.0.0.1:$${ALERTMANAGER_PORT:-9093}/" docker/prometheus.yaml \
		>'$(FOLDER)/prometheus.yaml'
	@MODEL='$(MODEL)' FOLDER='$(FOLDER)' ALERTMANAGER='$(ALERTMANAGER)' PATH="$(abspath $(BIN)):$$PATH" \
		$(BIN)/honcho start --procfile docker/Procfile --app-root .

# Refuses a target while one of its variables is empty.
REQUIRE = @for name in $(1); do [ -n "$$(printenv $$name)" ] || \
	{ echo "make $@ needs $$name: pass $$name=... or set the variable" >&2; exit 2; }; done

scan-image:  ## refuse an image that lacks a security update of Debian: IMAGE=eurosat-serve
	$(call REQUIRE,IMAGE)
	@updates=$$($(ENGINE) run --rm --user 0 --entrypoint sh '$(IMAGE)' -ec \
		'apt-get update -qq; apt-get -qq --simulate dist-upgrade') || exit; \
	if printf '%s\n' "$$updates" | grep '^Inst.*[Ss]ecurity' >&2; then \
		echo "$(IMAGE) lacks these security updates: build it again on a newer BASE" >&2; exit 1; fi

push-image:  ## push an image and show its digest: IMAGE=eurosat-serve REPOSITORY=... VERSION=...
	$(call REQUIRE,IMAGE REPOSITORY VERSION)
	@[ -z "$$REGISTRY_USER" ] || printf '%s' "$$REGISTRY_PASSWORD" | \
		$(ENGINE) login --username "$$REGISTRY_USER" --password-stdin "$${REPOSITORY%%/*}"
	@# A repository has lower-case letters only, and the name of an account may have others. Docker
	@# knows the digest that the registry stored; the other engines write the digest to a file.
	@name=$$(printf '%s' '$(REPOSITORY)/$(IMAGE)' | tr '[:upper:]' '[:lower:]') && mkdir -p outputs && \
	$(ENGINE) tag '$(IMAGE)' "$$name:$(VERSION)" && \
	if [ '$(ENGINE)' = docker ]; then docker push "$$name:$(VERSION)" && \
		docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$$name:$(VERSION)" \
		| sed -n "s|^$$name@||p" >outputs/digest; \
	else $(ENGINE) push --digestfile outputs/digest "$$name:$(VERSION)"; fi && \
	[ "$$(wc -w <outputs/digest)" -eq 1 ] || { echo "the digest of the pushed image is unknown" >&2; exit 1; }; \
	printf 'name=%s\ndigest=%s\n' "$$name" "$$(cat outputs/digest)" | tee -a $(GITHUB_OUTPUT)

# The registry. `git tag` shows the tags of stages, such as eurosat#production#3.
sample-model: environment  ## train on synthetic patches, and export the model to outputs/sample.onnx
	rm -rf outputs/sample
	$(BIN)/eurosat fit --config configs/quickstart.yaml --trainer.max_epochs 2 --report false \
		--run_directory outputs/sample
	$(BIN)/eurosat export outputs/sample/checkpoints/best*.ckpt --format onnx \
		--output outputs/sample.onnx --overwrite true

MODEL_URI ?= registry:production
FETCH_MODEL = rm -rf outputs/registered && mkdir -p outputs/registered && \
	$(BIN)/python -c 'import sys; sys.tracebacklimit = 0; from pathlib import Path; \
	from eurosat.registry.find import find_model; \
	print(find_model(sys.argv[1], Path("outputs/registered")))'

fetch-model: environment  ## download a registered model to outputs/registered: MODEL_URI=registry:staging
	@$(FETCH_MODEL) '$(MODEL_URI)'

gate: environment  ## compare the pipeline's model with the model in production
	$(BIN)/dvc pull data/prepared models/eurosat.onnx
	rm -rf outputs/gate
	@$(BIN)/eurosat gate models/eurosat.onnx --against registry:production --source data/prepared; \
	code=$$?; [ ! -f outputs/gate/gate.md ] || cat outputs/gate/gate.md >>"$${GITHUB_STEP_SUMMARY:-/dev/null}"; \
	exit $$code

check-data: environment  ## check that dvc.lock belongs to the committed data, which the remote holds
	$(BIN)/dvc pull $(wildcard data/raw/*.dvc) data/prepared
	$(BIN)/dvc status prepare
	@$(BIN)/dvc status --quiet prepare || { echo "data/prepared is not made of the committed sources \
	and settings: run 'dvc repro' and 'dvc push', and commit dvc.lock" >&2; exit 1; }
	$(BIN)/eurosat prepare --source data/prepared

deploy: environment  ## deploy the model of a stage's newest tag on Cloud Run: TAG='eurosat#production#3'
	$(call REQUIRE,TAG GCP_PROJECT GCP_REGION GCP_IMAGES GCP_SIDECAR GCP_RUN_ACCOUNT)
	@printf '%s\n' "$$TAG" | grep -qE '^[a-z][a-z0-9-]*#(staging|production)#[0-9]+$$' || \
	{ echo "$$TAG is no tag of a stage, such as eurosat#production#3" >&2; exit 2; }
	@newest=$$(git tag --list "$${TAG%#*}#*" --sort=-version:refname | head -n 1); \
	[ "$$TAG" = "$$newest" ] || { echo "$$TAG is not the stage's newest tag ($${newest:-none is in \
	this clone}): fetch the tags, or promote the version to deploy" >&2; exit 2; }
	@$(FETCH_MODEL) "registry:$$(printf '%s' "$${TAG%#*}" | tr '#' '@')"
	gcloud builds submit --project "$$GCP_PROJECT" --config deploy/cloudrun/cloudbuild.yaml \
		--substitutions "_IMAGE=$$GCP_IMAGES/eurosat-serve:$$(printf '%s' "$$TAG" | tr '#' '-'),\
	_SIDECAR=$$GCP_SIDECAR,_ACCOUNT=$$GCP_RUN_ACCOUNT,_REGION=$$GCP_REGION,\
	_MODEL=outputs/registered,_BACKEND=$$(ls outputs/registered | grep -q '\.xml$$' && echo openvino || echo onnx)"

check-release:  ## check that a tag has the version of pyproject.toml, and CHANGELOG.md its section: TAG=v0.1.0
	$(call REQUIRE,TAG)
	@version='$(PACKAGE_VERSION)'; \
	[ "$$TAG" = "v$$version" ] || \
	{ echo "the tag is $$TAG, and the version in pyproject.toml is $$version: change one of them" >&2; exit 2; }; \
	grep -qF "## [$$version]" CHANGELOG.md || \
	{ echo "CHANGELOG.md has no section [$$version]: add the section" >&2; exit 2; }

# Locks name no registry. dev.txt comes first, and the others take their versions from it.
COMPILE = uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	--custom-compile-command "make lock" --output-file requirements/$(1).txt
UPGRADE ?=

lock:  ## pin what pyproject.toml asks for (needs uv); UPGRADE=--upgrade takes the newest versions
	$(call COMPILE,dev) pyproject.toml --extra dev $(UPGRADE)
	$(call COMPILE,train) pyproject.toml --extra build --extra train --constraint requirements/dev.txt
	$(call COMPILE,serve) pyproject.toml --extra build --extra serve --constraint requirements/dev.txt
	$(call COMPILE,monitor) pyproject.toml --extra build --extra serve --extra monitor --constraint requirements/dev.txt
	$(call COMPILE,cloud) pyproject.toml --extra cloud --constraint requirements/dev.txt
	$(call COMPILE,release) --group release --constraint requirements/dev.txt
	echo sweeps | $(call COMPILE,sweeps) - $(UPGRADE)
	printf 'tritonclient[http]\nkserve; python_version < "3.14"\n' | $(call COMPILE,clients) - $(UPGRADE)

clean:  ## remove the environments, decoded data, runs and releases; and keep data/raw
	rm -rf $(VENV) $(SWEEPS_VENV) $(RELEASE_VENV) $(CLIENTS_VENV) outputs dist build $(filter-out data/raw,$(wildcard data/*))
