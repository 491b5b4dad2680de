# `make demo` and `make test` set everything up themselves.
PYTHON ?= python3.11
SOURCE ?= city
PYTEST ?= .venv/bin/python -m pytest

.PHONY: setup pins demo test bench docker-test lint

setup:
	@$(PYTHON) freshrank/bootstrap.py

# requirements/*.txt from pyproject.toml; what still fits stays. UPGRADE="--upgrade-package httpx" moves one on.
pins:
	@$(PYTHON) -m freshrank.pins $(UPGRADE)

demo: setup
	@.venv/bin/freshrank demo --source $(SOURCE)

# Style, spelling, types, import direction, dependencies.
lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/deptry .
	.venv/bin/deptry . --exclude '\.' --exclude runs --optional-dependencies-dev-groups dev

# Everything that is checked: lint, the examples in docstrings, then unit, property, contract, integration, browser tests.
test: lint
	$(PYTEST) -q --doctest-modules --ignore=serving/runtime/model.py features trainer serving freshrank simulator
	$(PYTEST) -m "not docker" --ignore=tests/benchmarks tests

bench: setup
	$(PYTEST) tests/benchmarks

docker-test: setup
	$(PYTEST) -m docker tests/docker
