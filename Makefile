# `make demo` and `make test` set everything up themselves.
PYTHON ?= python3.11
SOURCE ?= city
PYTEST ?= .venv/bin/python -m pytest

.PHONY: setup pins demo test quick coverage bench docker-test lint

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
	$(PYTEST) -q --doctest-modules features trainer serving freshrank simulator
	$(PYTEST) -m "not docker" --ignore=tests/benchmarks tests

# What an edit is checked by, within a minute: unit and property tests without those marked slow.
quick: setup
	$(PYTEST) -q -m "not slow and not integration and not browser and not docker" tests/unit tests/property

# Which lines the unit, property, contract and model tests run; the page is runs/coverage/index.html.
coverage: setup
	.venv/bin/coverage run -m pytest -q -m "not docker" tests/unit tests/property tests/contract tests/models
	.venv/bin/coverage html -q
	.venv/bin/coverage report

# Measurements, and one JSON a benchmark in runs/benchmarks; they take minutes.
bench: setup
	$(PYTEST) -s tests/benchmarks

docker-test: setup
	$(PYTEST) -m docker tests/docker
