# Everything a person or CI runs. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Files that are tested at once; two make it faster on a machine that has nothing else to do.
JOBS ?= 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: ## make .venv with everything pinned
	@PYTHON="$(PYTHON)" sh scripts/environment.sh run

.PHONY: dev
dev: ## also what tests and linters need
	@PYTHON="$(PYTHON)" sh scripts/environment.sh dev

.PHONY: up
up: install ## start Fieldpost (ARGS="--port 5055 --data /tmp/x")
	@exec $(BIN)/fieldpost up $(ARGS)

.PHONY: demo
demo: install ## a simulated fleet against a running Fieldpost (ARGS="--seconds 60")
	@exec $(BIN)/fieldpost demo $(ARGS)

.PHONY: cluster
cluster: install ## start all roles over real engines (ARGS="--small", "--full")
	@exec $(BIN)/fieldpost cluster up $(ARGS)

.PHONY: engines
engines: ## install the system packages that tests drive (Debian, Ubuntu)
	@sh scripts/engines.sh

.PHONY: lint
lint: dev ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: engines lint ## everything CI runs: lint, types, contracts, all tests
	$(BIN)/python -m pytest -m "not long" $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile --no-loadscope-reorder) $(ARGS)

.PHONY: test-long
test-long: engines dev ## the full-length fault tests
	$(BIN)/python -m pytest -m long $(ARGS)

.PHONY: bench
bench: engines dev ## measure against peers in the same run
	@PYTHON="$(PYTHON)" sh scripts/environment.sh bench
	$(BIN)/python -m bench $(ARGS)

.PHONY: format
format: dev ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: ## pin again: names, versions and hashes, no hosts (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml scripts/build-requirements.txt -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--group bench -c requirements-dev.lock -o requirements-bench.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		scripts/patroni-requirements.txt -o scripts/patroni.lock
