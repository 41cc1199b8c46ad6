# Everything a person or CI runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fieldpost needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(STAMP) requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.PHONY: install
install: $(STAMP) ## make .venv with everything pinned

.PHONY: dev
dev: $(VENV)/.installed-dev ## also what tests and linters need

.PHONY: up
up: $(STAMP) ## start Fieldpost (ARGS="--port 5055 --data /tmp/x")
	@exec $(BIN)/fieldpost up $(ARGS)

.PHONY: demo
demo: $(STAMP) ## a simulated fleet against a running Fieldpost (ARGS="--seconds 60")
	@exec $(BIN)/fieldpost demo $(ARGS)

.PHONY: engines
engines: ## install the system packages that tests drive (Debian, Ubuntu)
	@sh scripts/engines.sh

.PHONY: lint
lint: $(VENV)/.installed-dev ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: engines lint ## everything CI runs: lint, types, contracts, all tests
	$(BIN)/python -m pytest -m "not long" $(ARGS)

.PHONY: test-long
test-long: engines $(VENV)/.installed-dev ## the full-length fault tests
	$(BIN)/python -m pytest -m long $(ARGS)

.PHONY: bench
bench: $(VENV)/.installed-dev ## measure against peers in the same run
	$(BIN)/python -m bench $(ARGS)

.PHONY: format
format: $(VENV)/.installed-dev ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: ## pin again: names, versions and hashes, no hosts (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml scripts/build-requirements.txt -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
