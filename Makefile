# What developers type. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP_INSTALL := $(BIN)/python -m pip install --progress-bar off --disable-pip-version-check --no-input --require-hashes
PROGRESS := $(BIN)/python requirements/progress.py
PIP_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help run test quick check audit bench chaos cluster fuzz lock wheels npm clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

run: $(VENV)/run.stamp ## serve on http://127.0.0.1:8000 with a private PostgreSQL and Valkey (PORT, FUNDAPI_HOME)
	@$(BIN)/python -m fundapi.embedded.run --with-parent

test: $(VENV)/dev.stamp ## run every test, in parallel (ARGS="-k idempotency -x")
	@$(BIN)/python -m pytest -n logical $(ARGS)

quick: $(VENV)/dev.stamp ## run the tests that need no browser and no whole deployment
	@$(BIN)/python -m pytest -n logical -m "not browser and not deployment" $(ARGS)

# Settings of a deployment, for the checks; nothing is served with them.
check: export SECRET_KEY = only-for-checks-0123456789-abcdefghijklmnopqrstuvwxyz
check: export ALLOWED_HOSTS = fundapi.example
check: export HTTPS = on
check: export TRUSTED_PROXIES = 1
check: lint types ## lint, format, bandit, types, import directions, deployment settings, missing migrations

.PHONY: lint types
lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/python -m tests.comments
	@$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level medium --recursive fundapi idempotency rollout
	@$(BIN)/lint-imports
	@$(BIN)/python manage.py check --deploy --fail-level WARNING
	@$(BIN)/python manage.py makemigrations --check --dry-run

types: $(VENV)/dev.stamp
	@$(BIN)/mypy

audit: export SECRET_KEY = only-for-checks-0123456789-abcdefghijklmnopqrstuvwxyz
audit: $(VENV)/dev.stamp ## known vulnerabilities in the pinned requirements; says so if the database cannot be reached
	@$(BIN)/python manage.py validate_local --only-audit || [ $$? = 2 ]

bench: $(VENV)/dev.stamp ## measure ours beside stock DRF, other packages and the bare SQL (ARGS="scale --keys 1000000")
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/dev.stamp ## break everything under load, and count what is lost (ARGS="postgres --seconds 60")
	@$(BIN)/python -m chaos $(ARGS)

cluster: $(VENV)/dev.stamp ## serve on three nodes of PostgreSQL under Patroni, HAProxy and PgBouncer (PORT)
	@$(BIN)/python -m chaos.cluster --with-parent

fuzz: $(VENV)/dev.stamp ## attack the API automatically, and print the bytes of each finding (ARGS="--seconds 600 --seed 7")
	@$(BIN)/python -m fuzz $(ARGS)

lock: $(VENV)/dev.stamp ## pin pyproject.toml and requirements/*.in anew, with hashes (ARGS=--upgrade)
	@$(PIP_COMPILE) $(ARGS) pyproject.toml -o requirements/base.txt
	@$(PIP_COMPILE) $(ARGS) --all-extras pyproject.toml -o requirements/image.txt
	@$(PIP_COMPILE) $(ARGS) pyproject.toml requirements/run.in -o requirements/run.txt
	@$(PIP_COMPILE) $(ARGS) --all-extras pyproject.toml requirements/run.in requirements/dev.in -o requirements/dev.txt
	@$(PIP_COMPILE) $(ARGS) requirements/node20.in -o requirements/node20.txt

wheels: $(VENV)/dev.stamp ## build a wheel of each app, and of the whole project: dist/*.whl
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist \
		. ./idempotency ./rollout

npm: node_modules/npm.stamp ## pack the browser modules with their types, for npm: dist/fundapi-VERSION.tgz
	@mkdir -p dist
	@npm pack --silent --pack-destination dist

clean: ## remove the virtualenv and every cache; your data stays (FUNDAPI_HOME)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .bench test-results staticfiles \
		node_modules dist types
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that `venv` puts there, so a half-made virtualenv is made anew.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fundapi needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtualenvs: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)

$(VENV)/run.stamp: requirements/run.txt | $(BIN)/pip
	@$(PROGRESS) 110 $(PIP_INSTALL) -r requirements/run.txt
	@touch $@

# dev.txt holds all of run.txt: after it, there is nothing left to install for `make run`.
$(VENV)/dev.stamp: requirements/dev.txt requirements/run.txt | $(BIN)/pip
	@$(PROGRESS) 310 $(PIP_INSTALL) -r requirements/dev.txt
	@touch $(VENV)/run.stamp $@

# A second Node.js beside the one of dev.txt, so in a directory of its own.
$(VENV)/node20.stamp: requirements/node20.txt | $(BIN)/pip
	@rm -rf $(VENV)/node20
	@$(PROGRESS) 50 $(PIP_INSTALL) --target $(VENV)/node20 -r requirements/node20.txt
	@touch $@

# The browser modules need npm for their types, their package and OpenFeature's SDK. Without it these checks are skipped.
ifneq ($(shell command -v npm 2>/dev/null),)
test quick check: node_modules/npm.stamp
test quick: $(VENV)/node20.stamp
check: modules

.PHONY: modules
modules: node_modules/npm.stamp
	@node_modules/.bin/tsc

node_modules/npm.stamp: package-lock.json .npmrc
	@echo "Installing package-lock.json into node_modules ..."
	@npm ci --ignore-scripts --loglevel=error
	@touch $@
endif
