# Development tasks; `make` without a target lists them.
#
# Requires make and Python 3.11 or newer, not root. Everything is installed into .venv from hash-checked lock files.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
# The first interpreter that is new enough. To use another: make demo PYTHON=/path/to/python (after `make clean`).
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c '$(RECENT)' 2>/dev/null && echo "$$p" && break; done)
# Further arguments for the command of a target: make demo ARGS="--port 8000", make test ARGS="-x tests/cli"
ARGS ?=

# Python keeps the bytecode of tests with rewritten asserts, and pytest reads it in half the time.
unexport PYTHONDONTWRITEBYTECODE

# Two test processes per core, as most tests wait. Without parallelism: make test WORKERS=0
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
PYTEST = -m pytest --quiet -n $(WORKERS) --dist worksteal
UNIT_TESTS := $(addprefix tests/,app auth bench http limits observability outbound providers runs settings store) \
	$(wildcard tests/test_*.py)

.PHONY: help demo check test coverage test-slow test-redis lint format chart dashboards errors log-reference bench bench-peers soak lock lock-check hooks upgrade clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.runtime ## Run a gateway with emulated providers, and print example requests
	@$(BIN)/runward demo $(ARGS)

# Lint runs beside the tests, and its output follows theirs.
check: $(VENV)/.dev ## Run the quick checks (under a minute on two cores): lint and unit tests
	@$(MAKE) --no-print-directory lint >$(VENV)/lint.log 2>&1 & lint=$$!; \
	$(BIN)/python $(PYTEST) -m "not slow and not process" $(UNIT_TESTS) $(ARGS); tests=$$?; \
	wait $$lint; lint=$$?; cat $(VENV)/lint.log; exit $$((tests || lint))

test: lint $(VENV)/sdk-1.3.0/.installed $(VENV)/sdk-js/.installed $(VENV)/crds/.installed $(VENV)/checkov/.installed ## Run lint and all tests except the slow ones
	@$(BIN)/python $(PYTEST) -m "not slow" $(ARGS)

coverage: $(VENV)/.dev ## Measure branch coverage of the unit tests and of some process tests
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(PYTEST) -m "not slow" $(UNIT_TESTS) tests/cli tests/durable_runs/test_async_runs.py $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-slow: $(VENV)/.dev ## Run the slow tests (minutes): random kills, alerts, overload, the image
	@$(BIN)/python -m pytest --quiet -n 2 --dist worksteal -m slow $(ARGS)

test-redis: $(VENV)/.dev ## Run the tests of the Redis store and limits with another server: REDIS=/usr/bin/redis-server
	@RUNWARD_TEST_REDIS=$(REDIS) $(BIN)/python $(PYTEST) -m "not slow" tests/redis tests/store tests/limits/redis $(ARGS)

lint: $(VENV)/.dev ## Check style, types, spelling and pyproject.toml
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/codespell
	@VALIDATE_PYPROJECT_NO_NETWORK=1 $(BIN)/validate-pyproject pyproject.toml >/dev/null

format: $(VENV)/.dev ## Fix the style with ruff
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

chart: $(VENV)/.dev ## Regenerate the generated parts of the Helm chart
	@$(BIN)/python helm/generate.py

dashboards: $(VENV)/.dev ## Regenerate the Grafana dashboards, and their copies in the Helm chart
	@$(BIN)/python -m deploy.grafana.generate
	@$(BIN)/python helm/generate.py

errors: $(VENV)/.dev ## Regenerate docs/errors.md, and its copy in the console, from the table of error codes
	@$(BIN)/python -m gateway.api.docs.error_reference > docs/errors.md
	@$(BIN)/python -m gateway.api.docs.error_reference json > gateway/api/console/assets/problem_codes.json

log-reference: $(VENV)/.dev ## Regenerate docs/logs.md from the table of log events
	@$(BIN)/python -m gateway.observability.log_reference > docs/logs.md

bench: $(VENV)/.dev ## Measure the overhead of the gateway
	@$(BIN)/python -m bench.run $(ARGS)

bench-peers: $(VENV)/.dev ## Measure the gateway beside others (ten minutes): ARGS=--install installs those first
	@$(BIN)/python -m bench.compare $(ARGS)

soak: $(VENV)/.dev ## Run the leak test: load with mixed faults for minutes
	@$(BIN)/python -m bench.soak $(ARGS)

lock: $(VENV)/.dev ## Regenerate the lock files; versions change only if necessary
	@$(COMPILE) --group build --output-file requirements.lock
	@$(COMPILE) --group dev --constraints requirements.lock --output-file requirements-dev.lock
	@$(BIN)/uv pip compile --group pyproject.toml:build $(LOCKED) --constraints requirements.lock \
		--output-file deploy/image/build.lock
	@$(COMPILE) --group image --constraints requirements.lock --output-file deploy/image/runtime.lock
	@echo promptlayer==1.3.0 | $(BIN)/uv pip compile - $(LOCKED) $(UPGRADE) --output-file tests/sdk/requirements-1.3.0.lock
	@echo checkov==3.3.30 | $(BIN)/uv pip compile - $(LOCKED) $(UPGRADE) --output-file tests/helm/requirements-checkov.lock

lock-check: $(VENV)/.dev ## Check that the lock files match pyproject.toml
	@for list in requirements requirements-dev; do cp $$list.lock $(VENV)/$$list.lock; done
	@$(COMPILE) --group build --output-file $(VENV)/requirements.lock
	@$(COMPILE) --group dev --constraints requirements.lock --output-file $(VENV)/requirements-dev.lock
	@for list in requirements requirements-dev; do diff $$list.lock $(VENV)/$$list.lock \
		|| { echo "$$list.lock is not up to date: make lock" >&2; exit 1; }; done

hooks: $(VENV)/.dev ## Run the checks of .pre-commit-config.yaml before each commit
	@$(BIN)/pre-commit install

upgrade: ## Regenerate the lock files with the newest versions
	@$(MAKE) --no-print-directory lock UPGRADE=--upgrade

clean: ## Remove generated files
	@rm -rf $(VENV) dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

UPGRADE ?=
LOCKED := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
COMPILE = $(BIN)/uv pip compile pyproject.toml $(LOCKED) --extra uvloop --extra redis --extra encryption --extra oidc --extra otel $(UPGRADE)

# Stamp files record installed lock files, so that a second `make demo` starts at once. requirements-dev.lock contains
# requirements.lock.
$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Runward into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing Runward and its development tools into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@touch $(VENV)/.runtime $@

# Official SDKs for the tests, besides the one in requirements-dev.lock. Separate folders: their dependencies conflict.
$(VENV)/sdk-1.3.0/.installed: tests/sdk/requirements-1.3.0.lock | $(BIN)/python
	@echo "Installing an older PromptLayer SDK for the tests ..."
	@rm -rf $(@D)
	@$(PIP) install --require-hashes --target $(@D) -r $<
	@touch $@

# npm verifies the hashes of the lock file. If npm is absent or fails, the tests of this SDK are skipped.
$(VENV)/sdk-js/.installed: tests/sdk/js/package.json tests/sdk/js/package-lock.json tests/sdk/js/.npmrc | $(BIN)/python
	@rm -rf $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing PromptLayer's SDK for JavaScript for the tests ..."; \
		mkdir -p $(@D) && cp $^ $(@D) && (cd $(@D) && npm ci --silent) && touch $@ \
			|| { rm -rf $(@D); echo "npm could not install it; its tests are skipped." >&2; }; \
	fi

# Schemas of custom resources for the chart's tests, installed by npm in the same way.
$(VENV)/crds/.installed: tests/helm/crds/package.json tests/helm/crds/package-lock.json tests/helm/crds/.npmrc | $(BIN)/python
	@rm -rf $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing the schemas of custom resources for the tests ..."; \
		mkdir -p $(@D) && cp $^ $(@D) && (cd $(@D) && npm ci --silent) && touch $@ \
			|| { rm -rf $(@D); echo "npm could not install them; their tests are skipped." >&2; }; \
	fi

# Checkov's policies for the chart's tests. A separate folder: its dependencies conflict and exclude some Pythons.
$(VENV)/checkov/.installed: tests/helm/requirements-checkov.lock | $(BIN)/python
	@echo "Installing the policies for the chart's tests ..."
	@rm -rf $(@D)
	@$(PIP) install --no-deps --require-hashes --target $(@D) -r $< && touch $@ \
		|| { rm -rf $(@D); echo "Checkov could not be installed; its tests are skipped." >&2; }

# Some systems ship a Python whose venv module cannot install pip: the system's pip or uv is used instead.
$(BIN)/python:
	@"$(PYTHON)" -c '$(RECENT)' 2>/dev/null || { \
		echo "Runward requires Python 3.11 or newer. Name the interpreter: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 \
		|| { "$(PYTHON)" -m venv --clear --without-pip $(VENV) \
			&& "$(PYTHON)" -m pip --python $(BIN)/python install --quiet pip; } >/dev/null 2>&1 \
		|| uv venv --quiet --clear --seed --python "$(PYTHON)" $(VENV) 2>/dev/null \
		|| { rm -rf $(VENV); echo "$(PYTHON) cannot create an environment with pip. Install its venv package" \
			"(Debian and Ubuntu: python3-venv) or uv, or name another interpreter: make PYTHON=/path/to/python" >&2; exit 1; }
