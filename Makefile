# Everything a contributor runs. Needs Python 3.11, make, and Go for the local control plane; installs the rest itself.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTEST_FLAGS ?=

VENV := .venv
DEPENDENCIES := $(VENV)/.dependencies
INSTALLED := $(VENV)/.installed
RUN := $(VENV)/bin/python
PLAYGROUND := .run
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

# What decides, and does no I/O: every branch of it is tested.
CORE := api defaults validation sources endpoints limits reserved rules names lab submission steps identity observed stores plan routes status text live
WORKSPACES := browsers buckets claims creation credentials edits grants members memory objects operations overviews patches permissions problems \
	proxies rates reads reference refusals sessions settings sharing signatures snippets stores usage
UI := access actions activity additions buckets components failures forms headers home inputs keys languages listing members paging screens sessions sharing sizes stores
COVERAGE := $(CORE:%=--cov=datalabd.%) $(WORKSPACES:%=--cov=workspaces.%) $(UI:%=--cov=workspaces.ui.%) --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

# The lock files were resolved for 3.11; Debian's Python comes without venv.
define REQUIRE_PYTHON
fail() { echo "$$1" >&2; exit 1; }; \
[ -n "$(PYTHON)" ] || fail "there is no Python here: install 3.11, or say PYTHON=/path/to/python3.11"; \
version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || version="not a Python that runs"; \
[ "$$version" = 3.11 ] || fail "$(PYTHON) is $$version: install 3.11, or say PYTHON=/path/to/python3.11"; \
"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	fail "$(PYTHON) lacks its venv module: install it (on Debian, package python3.11-venv)"
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: $(INSTALLED) control-plane ## Show the whole line on a control plane of its own; KEEP=1 leaves it up until Ctrl-C
	$(RUN) -m hack.demo $(if $(KEEP),--keep)

.PHONY: up
up: $(INSTALLED) control-plane ## Start a control plane with datalabd on it, to try things by hand
	@$(RUN) -m hack.playground up $(PLAYGROUND)

.PHONY: down
down: $(INSTALLED) ## Stop what `make up` started, and remove its files
	@$(RUN) -m hack.playground down $(PLAYGROUND)

# Tests that need nothing but Python, and little time.
QUICK := not cluster and not servers and not thorough

.PHONY: check
check: $(INSTALLED) ## What every change has to pass, without a cluster: `lint` and `core` side by side
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint core

.PHONY: test
test: core control-plane keycloak oauth2-proxy minio tools ## All tests, those on the local control plane included
	$(RUN) -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not ($(QUICK))" --durations=10 $(PYTEST_FLAGS)

.PHONY: lint
lint: $(INSTALLED) ## Format, lint, types, layers, and whether what is made of code, and every catalogue, is current
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m hack.generate_manifests --check
	$(RUN) -m hack.generate_reference --check
	$(RUN) -m hack.catalogues --check

.PHONY: core
core: $(INSTALLED) ## Tests that need no cluster, which have to reach every branch of the core
	$(RUN) -m pytest -q -n 2 --dist worksteal -m "$(QUICK)" $(COVERAGE) $(PYTEST_FLAGS)

.PHONY: bench
bench: $(INSTALLED) control-plane ## Measure speed and memory, and write the reference page (15 min)
	$(RUN) -m hack.bench --write

.PHONY: screenshots
screenshots: $(INSTALLED) control-plane minio ## Take the pictures in docs/images anew, made small by pngquant; look at each
	$(RUN) -m hack.screenshots

.PHONY: snapshots
snapshots: $(INSTALLED) control-plane minio ## Write what screen readers are told of the pages anew; read what changed
	SNAPSHOTS=write $(RUN) -m pytest -q tests/browser/test_snapshots.py

.PHONY: crds
crds: $(INSTALLED) ## Write what is made of code: CRDs, webhook registrations, rights, reference pages
	$(RUN) -m hack.generate_manifests
	$(RUN) -m hack.generate_reference

.PHONY: texts
texts: $(INSTALLED) ## Read the texts of the pages out of their sources, and compile what is translated
	$(RUN) -m hack.catalogues

.PHONY: lock
lock: $(DEPENDENCIES) ## Resolve the dependencies again; UPGRADE=1 takes newer versions
	$(COMPILE) --output-file=requirements.lock pyproject.toml
	$(COMPILE) --extra=dev --constraint=requirements.lock --output-file=requirements-dev.lock pyproject.toml
	$(COMPILE) --only-build-deps --build-deps-for=wheel --build-deps-for=editable \
		--constraint=requirements-dev.lock --output-file=requirements-build.lock pyproject.toml
	$(COMPILE) --output-file=requirements-tools.lock requirements-tools.in

COMPILE = $(VENV)/bin/pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras --no-emit-options \
	$(if $(UPGRADE),--upgrade)

.PHONY: image
image: ## Build the container image datalabd:VERSION
	@for engine in docker podman; do \
		if $$engine info >/dev/null 2>&1; then exec $$engine build --tag datalabd:$(VERSION) .; fi; \
	done; \
	echo "neither docker nor podman answers here; 'make image-steps' tries the same steps without them" >&2; exit 1

.PHONY: image-steps
image-steps: ## Try the image's install steps in a scratch directory, without a container engine
	@$(REQUIRE_PYTHON)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
		PYTHON="$(PYTHON)" hack/install_image.sh "$$scratch/datalabd" && cd / && "$$scratch/datalabd/bin/datalabd" version

.PHONY: clean
clean: ## Remove what the other targets made here, once `make down` has stopped a playground
	@[ ! -d $(PLAYGROUND) ] || $(RUN) -m hack.playground clean $(PLAYGROUND)  # which fails where it runs: it needs .venv
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- What the targets above need

.PHONY: control-plane
control-plane: $(INSTALLED)
ifndef KUBEBUILDER_ASSETS
	@$(RUN) -m hack.cluster build >/dev/null
endif

.PHONY: keycloak
keycloak: $(INSTALLED)  # where it cannot be had, tests say so
	-@$(RUN) -m hack.keycloak build >/dev/null

.PHONY: oauth2-proxy
oauth2-proxy: $(INSTALLED)  # where it cannot be had, tests say so
	-@$(RUN) -m hack.oauth2_proxy build >/dev/null

.PHONY: minio
minio: $(INSTALLED)  # where it cannot be had, tests say so
	-@$(RUN) -m hack.minio build >/dev/null

.PHONY: tools
tools: $(INSTALLED)  # where they cannot be had, tests say so
	-@$(RUN) -m hack.tools build >/dev/null

# A lock file names everything: pip that resolves again trips over an extra (coverage[toml]) once a newer version is out.
LOCKED := --quiet --disable-pip-version-check --no-deps --require-hashes

$(DEPENDENCIES): requirements-dev.lock
	@$(REQUIRE_PYTHON)
	@echo "installing what the targets need into $(VENV) (first time only, about a minute) …" >&2
	"$(PYTHON)" -m venv $(VENV)
	$(RUN) -m pip install $(LOCKED) --requirement requirements-dev.lock
	@touch $@

$(INSTALLED): $(DEPENDENCIES) requirements-build.lock pyproject.toml
	$(RUN) -m pip install $(LOCKED) --requirement requirements-build.lock
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(RUN) -m pip check --quiet
	@touch $@
