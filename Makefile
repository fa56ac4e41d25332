# stepstream: `make` lists what there is. Nothing is needed beforehand but Python >= 3.11, make and git.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --no-emit-package stepstream
# The download of a wheel this large can be slow behind a mirror.
export UV_HTTP_TIMEOUT ?= 300
PYTEST_ARGS ?=

.PHONY: help install demo test test-integrations check format lock bench coverage chart docs kubernetes wheels clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(READY) ## a .venv with everything, from the hashed lock

$(READY): requirements.lock pyproject.toml sdk/pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] < (3, 14); sys.exit(0 if ok else "stepstream needs Python 3.11, 3.12 or 3.13, and %s is %s: install one, or name one with make PYTHON=python3.13" % (sys.executable, sys.version.split()[0]))'
	@echo "Installing into $(VENV) (first time: about 200 MB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e sdk -e .
	@touch $@

demo: $(READY) ## real training runs, streamed live into the browser
	@exec $(BIN)/stepstream demo

test: $(READY) ## every test; what needs Docker or Chromium is skipped with a reason where absent
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-integrations: .venv-integrations/.ready .venv-rollouts/.ready ## the SDK against the training libraries and trackers themselves
	@.venv-integrations/bin/python -m pytest $(PYTEST_ARGS) --confcutdir=tests/integration/sdk tests/integration/sdk
	@.venv-rollouts/bin/python -m pytest $(PYTEST_ARGS) --confcutdir=tests/integration/sdk tests/integration/sdk/test_{trl,verifiers}.py

# torch comes from the system's Python (Debian's python3-torch) or not at all: its wheel brings gigabytes.
.venv-%/.ready: requirements-%.lock sdk/pyproject.toml | $(READY)
	@echo "Installing into .venv-$* (first time: about 300 MB)"
	@with_torch=$$(for each in $(PYTHON) /usr/bin/python3; do \
	  if $$each -c 'import sys, torch; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$each; break; fi; done); \
	  $(UV) venv --quiet --clear --python "$${with_torch:-$(BIN)/python}" $${with_torch:+--system-site-packages} .venv-$*
	@$(UV) pip install --quiet --python .venv-$*/bin/python --require-hashes --no-deps -r requirements-$*.lock
	@$(UV) pip install --quiet --python .venv-$*/bin/python --no-deps -e sdk
	@touch $@

check: $(READY) ## ruff, mypy strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY) ## resolve the dependencies anew; names no host
	@$(COMPILE) --all-extras --group dev -o requirements.lock pyproject.toml
	@for group in integrations rollouts; do $(COMPILE) --group $$group -o requirements-$$group.lock; done

bench: $(READY) ## every measured bar, as one table; ROWS="name ..." for some of them
	@$(BIN)/python -m benchmarks $(ROWS)

coverage: $(READY) ## lines that the unit and contract tests run; fails below the floor in pyproject.toml
	@$(BIN)/python -m pytest -q --cov --cov-report=term $(PYTEST_ARGS) tests/unit tests/contract

chart: $(READY) ## what the Helm chart takes from the code: settings, rights, the README's table
	@$(BIN)/python -m infra.deploy.chart

docs: $(READY) ## the documentation site, into site/; a broken link fails
	@$(BIN)/python -m cli.reference docs/reference
	@$(BIN)/zensical build --clean --strict

kubernetes: $(READY) ## a real Kubernetes for the chart's tests, into the cache; needs Go, and ten minutes
	@$(BIN)/python -m tests.support.kubernetes

wheels: $(READY) ## both wheels, into dist/
	@$(UV) build --quiet --no-build-isolation --python $(BIN)/python --wheel --out-dir dist .
	@$(UV) build --quiet --no-build-isolation --python $(BIN)/python --wheel --out-dir dist sdk
	@ls dist/*.whl

clean: ## remove what make made; data of runs stays
	rm -rf $(VENV) .venv-integrations .venv-rollouts .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache site dist sdk/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
