# What one does with this repository. `make` alone tells.

PYTHON ?= python3
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOWEST := .venv-lowest
RUNTIME := $(VENV)/.setup-runtime
DEVELOPMENT := $(VENV)/.setup-development
JS := tests/js
INDEPENDENT := tests/js/independent
CLIENT := clients/js
AUDIT := .audit
PACKAGES := $(JS)/node_modules/.setup
INDEPENDENT_PACKAGES := $(INDEPENDENT)/node_modules/.setup
CLIENT_PACKAGES := $(CLIENT)/node_modules/.setup
CLIENT_BUILT := $(CLIENT)/dist/.built

# Tests wait more than they compute. Each process has its own servers: many would need much memory.
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(4, 2 * (os.cpu_count() or 1)))')
SIDE_BY_SIDE := -n $(PROCESSES) --dist loadfile

# Two installations into one environment at once would spoil it, so -j changes nothing.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help docs test-unit setup setup-js demo test coverage test-fast lint audit bench prove clean browser nginx pgbouncer test-lowest

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(DEVELOPMENT) ## Everything for work on the Python side, in .venv (PYTHON=python3.12 to choose)

setup-js: $(PACKAGES) $(INDEPENDENT_PACKAGES) $(CLIENT_BUILT) ## The JavaScript client and what its tests use (needs Node.js 20 or later)

demo: $(RUNTIME) ## Run the demo (PORT=8000)
	PORT=$(PORT) $(BIN)/tidings demo

test: setup setup-js browser nginx pgbouncer ## All tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

coverage: setup setup-js browser nginx pgbouncer ## The same, and which lines they reach (slower)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term

test-fast: setup setup-js ## All tests but those in a browser
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not browser"

test-unit: setup ## The quick ones: units, layers and papers, without Node.js
	$(BIN)/python -m pytest -q -n 2 --dist load tests/unit tests/test_layers.py tests/docs/test_coverage.py tests/docs/test_site.py

test-lowest: ## The main tests with the oldest versions that are supported
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet -e '.[all]' --group dev -c tests/lowest.txt
	$(LOWEST)/bin/python -m pytest $(SIDE_BY_SIDE) -q -p no:cacheprovider -W ignore::DeprecationWarning \
		tests/unit tests/http tests/matching tests/auth tests/realtime tests/test_cli.py tests/test_serving.py tests/test_explain.py \
		tests/existing/test_models.py tests/existing/test_capture.py tests/existing/test_declaring.py

lint: setup ## Style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy examples/guide/app.py
	$(BIN)/mypy examples/quickstart/app.py
	cd examples/fastapi && ../../$(BIN)/mypy --strict live.py

docs: setup ## The documentation as a site, in build/site (Zensical)
	$(PIP) install --quiet --group docs
	$(BIN)/python scripts/reference.py docs/reference/index.md
	$(BIN)/zensical build --config-file mkdocs.yml --strict
	cp docs/*.md build/site/

audit: setup ## Known vulnerabilities of the dependencies (needs a network)
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet pip-audit
	$(PIP) freeze --exclude-editable > $(AUDIT)/installed.txt
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip -r $(AUDIT)/installed.txt
	cd $(JS) && npm audit
	cd $(INDEPENDENT) && npm audit
	cd $(CLIENT) && npm audit --omit=dev
	cd benchmarks/node && npm audit

bench: setup ## The benchmarks
	$(BIN)/python -m benchmarks

prove: setup setup-js ## At length: filters on each database, who may know; fuzzing; kills and outages (SEED=123 repeats)
	$(BIN)/python -m tests.proof $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.security $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.security.fuzz $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.existing --worlds 170 $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.clients --schedules 10000 $(if $(SEED),--seed $(SEED))

clean: ## Remove what tests and builds leave behind (not .venv)
	rm -rf $(AUDIT) build dist $(CLIENT)/dist $(CLIENT)/.recipes htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . \( -name $(VENV) -o -name node_modules -o -name .git \) -prune -o \
		-type d -name __pycache__ -exec rm -rf {} +

browser:
	@scripts/install-browser

nginx:
	@scripts/install-nginx

pgbouncer:
	@scripts/install-pgbouncer

# A virtual environment that exists is used as it is; one without pip is completed.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tidings needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(PIP) install --quiet -e .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(PIP) install --quiet -e '.[all]' --group dev --group independent
	@touch $@

$(PACKAGES): $(JS)/package.json $(JS)/package-lock.json
	@command -v npm >/dev/null || { echo "setup-js needs npm: install Node.js 20 or later" >&2; exit 1; }
	cd $(JS) && npm ci --no-audit --no-fund
	@touch $@

$(INDEPENDENT_PACKAGES): $(INDEPENDENT)/package.json $(INDEPENDENT)/package-lock.json | $(PACKAGES)
	cd $(INDEPENDENT) && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

# esbuild runs without its install script: the binary is a package of its own.
$(CLIENT_PACKAGES): $(CLIENT)/package.json $(CLIENT)/package-lock.json
	@command -v npm >/dev/null || { echo "setup-js needs npm: install Node.js 20 or later" >&2; exit 1; }
	cd $(CLIENT) && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

$(CLIENT_BUILT): $(CLIENT_PACKAGES) $(wildcard $(CLIENT)/src/*.ts) $(CLIENT)/tsconfig.json $(CLIENT)/scripts/build.mjs
	cd $(CLIENT) && npm run --silent build
	cp $(CLIENT)/dist/tidings.min.js src/tidings/starter/
	@touch $@
