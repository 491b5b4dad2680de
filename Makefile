# `make demo` and `make test` set everything up themselves.
PYTHON ?= python3.11
SOURCE ?= city
PYTEST ?= .venv/bin/python -m pytest

.PHONY: setup demo test bench docker-test lint

setup:
	@$(PYTHON) freshrank/bootstrap.py

demo: setup
	@.venv/bin/freshrank demo --source $(SOURCE)

# Style, types, import direction.
lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# Everything that is checked: lint, the examples in docstrings, then unit, property, contract, integration, browser tests.
test: lint
	$(PYTEST) -q --doctest-modules --ignore=serving/runtime/model.py features trainer serving freshrank simulator
	$(PYTEST) -m "not docker" --ignore=tests/benchmarks tests

bench: setup
	$(PYTEST) tests/benchmarks

docker-test: setup
	$(PYTEST) -m docker tests/docker
