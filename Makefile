# What one does with this project; `make` alone lists it.
#
# Needs make, Python 3.11 or newer, and no root. Everything goes into .venv, from lists with versions and hashes.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
# The first one that is new enough. Another: make demo PYTHON=/path/to/python (after `make clean`).
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c '$(RECENT)' 2>/dev/null && echo "$$p" && break; done)
# More words for the command behind a target: make demo ARGS="--port 8000", make test ARGS="-x tests/cli"
ARGS ?=

# Two test processes a core: the tests wait more than they compute. One after another: make test WORKERS=0
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
PYTEST = -m pytest --quiet -n $(WORKERS) --dist worksteal
# make test COVERAGE=1 measures branches over all processes, prints what is missing and fails below the floor.
COVERAGE ?=
UNIT_TESTS := $(addprefix tests/,app auth http limits observability outbound providers runs settings store) \
	$(wildcard tests/test_*.py)

.PHONY: help demo check test test-slow lint format chart errors bench soak lock lock-check hooks upgrade clean

help: ## List what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.runtime ## Try it: both providers emulated, lines to paste
	@$(BIN)/runward demo $(ARGS)

check: lint ## Check in a minute: style, types and unit tests
	@$(BIN)/python $(PYTEST) -m "not slow and not process" $(UNIT_TESTS) $(ARGS)

test: lint $(VENV)/sdk-1.3.0/.installed $(VENV)/sdk-js/.installed $(VENV)/crds/.installed $(VENV)/checkov/.installed ## Check everything but the slow tests
ifdef COVERAGE
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(PYTEST) -m "not slow" $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
else
	@$(BIN)/python $(PYTEST) -m "not slow" $(ARGS)
endif

test-slow: $(VENV)/.dev ## Random kills, firing alerts, overload: minutes, which CI runs too
	@$(BIN)/python -m pytest --quiet -n 2 --dist worksteal -m slow $(ARGS)

lint: $(VENV)/.dev ## Check style, types, spelling and schemas only
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/codespell
	@VALIDATE_PYPROJECT_NO_NETWORK=1 $(BIN)/validate-pyproject pyproject.toml >/dev/null
	@$(BIN)/check-jsonschema --schemafile config/gateway.schema.json config/gateway.yaml >/dev/null
	@$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml >/dev/null

format: $(VENV)/.dev ## Let ruff put the style right, where it can
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

chart: $(VENV)/.dev ## Regenerate the generated parts of the Helm chart
	@$(BIN)/python helm/generate.py

errors: $(VENV)/.dev ## Regenerate docs/errors.md from the table of error codes
	@$(BIN)/python -m gateway.api.docs.error_reference > docs/errors.md

bench: $(VENV)/.dev ## Measure how much the gateway adds
	@$(BIN)/python -m bench.run $(ARGS)

soak: $(VENV)/.dev ## Run it under mixed faults for minutes: nothing may grow
	@$(BIN)/python -m bench.soak $(ARGS)

lock: $(VENV)/.dev ## Write both lists anew; versions stay where they can
	@$(COMPILE) --group build --output-file requirements.lock
	@$(COMPILE) --group dev --constraints requirements.lock --output-file requirements-dev.lock
	@$(BIN)/uv pip compile --group pyproject.toml:build $(LOCKED) --constraints requirements.lock \
		--output-file deploy/image/build.lock
	@$(COMPILE) --group image --constraints requirements.lock --output-file deploy/image/runtime.lock
	@echo promptlayer==1.3.0 | $(BIN)/uv pip compile - $(LOCKED) $(UPGRADE) --output-file tests/sdk/requirements-1.3.0.lock
	@echo checkov==3.3.30 | $(BIN)/uv pip compile - $(LOCKED) $(UPGRADE) --output-file tests/helm/requirements-checkov.lock

lock-check: $(VENV)/.dev ## Check that both lists are what pyproject.toml asks for
	@for list in requirements requirements-dev; do cp $$list.lock $(VENV)/$$list.lock; done
	@$(COMPILE) --group build --output-file $(VENV)/requirements.lock
	@$(COMPILE) --group dev --constraints requirements.lock --output-file $(VENV)/requirements-dev.lock
	@for list in requirements requirements-dev; do diff $$list.lock $(VENV)/$$list.lock \
		|| { echo "$$list.lock is not up to date: make lock" >&2; exit 1; }; done

hooks: $(VENV)/.dev ## Run the checks of .pre-commit-config.yaml before each commit
	@$(BIN)/pre-commit install

upgrade: ## Write both lists anew, with the newest versions
	@$(MAKE) --no-print-directory lock UPGRADE=--upgrade

clean: ## Remove everything that was made
	@rm -rf $(VENV) dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

UPGRADE ?=
LOCKED := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
COMPILE = $(BIN)/uv pip compile pyproject.toml $(LOCKED) --extra uvloop --extra redis $(UPGRADE)

# The stamps say what is installed, so that a second `make demo` starts at once. The second list contains the first.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing what Runward needs into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing what Runward and its tests need into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@touch $(VENV)/.runtime $@

# The official SDKs that the tests run besides the one in the list. They stand apart: their dependencies are not ours.
$(VENV)/sdk-1.3.0/.installed: tests/sdk/requirements-1.3.0.lock | $(BIN)/python
	@echo "Installing an older PromptLayer SDK for the tests ..."
	@rm -rf $(@D)
	@$(PIP) install --require-hashes --target $(@D) -r $<
	@touch $@

# npm checks what it installs by the hashes in the lock file. Where it is not, or can not, those tests are skipped.
$(VENV)/sdk-js/.installed: tests/sdk/js/package.json tests/sdk/js/package-lock.json tests/sdk/js/.npmrc | $(BIN)/python
	@rm -rf $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing PromptLayer's SDK for JavaScript for the tests ..."; \
		mkdir -p $(@D) && cp $^ $(@D) && (cd $(@D) && npm ci --silent) && touch $@ \
			|| { rm -rf $(@D); echo "npm could not install it; its tests are skipped." >&2; }; \
	fi

# The types of custom resources, for the chart's tests: as PromptLayer's SDK for JavaScript.
$(VENV)/crds/.installed: tests/helm/crds/package.json tests/helm/crds/package-lock.json tests/helm/crds/.npmrc | $(BIN)/python
	@rm -rf $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing the types of custom resources for the tests ..."; \
		mkdir -p $(@D) && cp $^ $(@D) && (cd $(@D) && npm ci --silent) && touch $@ \
			|| { rm -rf $(@D); echo "npm could not install them; their tests are skipped." >&2; }; \
	fi

# The policies for the chart's tests. They stand apart: their dependencies are not ours, and not for every Python.
$(VENV)/checkov/.installed: tests/helm/requirements-checkov.lock | $(BIN)/python
	@echo "Installing the policies for the chart's tests ..."
	@rm -rf $(@D)
	@$(PIP) install --no-deps --require-hashes --target $(@D) -r $< && touch $@ \
		|| { rm -rf $(@D); echo "Checkov could not be installed; its tests are skipped." >&2; }

# Some systems ship a Python that can not put pip into a new environment: then its own pip does it, or uv.
$(BIN)/python:
	@"$(PYTHON)" -c '$(RECENT)' 2>/dev/null || { \
		echo "Runward needs Python 3.11 or newer. Where is it? make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 \
		|| { "$(PYTHON)" -m venv --clear --without-pip $(VENV) \
			&& "$(PYTHON)" -m pip --python $(BIN)/python install --quiet pip; } >/dev/null 2>&1 \
		|| uv venv --quiet --clear --seed --python "$(PYTHON)" $(VENV) 2>/dev/null \
		|| { rm -rf $(VENV); echo "$(PYTHON) can not make an environment with pip in it. Install its venv package" \
			"(Debian and Ubuntu: python3-venv), or uv, or name another: make PYTHON=/path/to/python" >&2; exit 1; }
