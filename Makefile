# Each target makes what it needs: on a fresh machine `make demo` or `make test` is all there is
# to type. The Python is found by itself; `make test PYTHON=python3.12` chooses one.

VENV := .venv
RUN := $(VENV)/bin/python
# Passed on to pytest: make test ARGS="tests/models -k abf"
ARGS ?=
# Two test processes with one thread each use two cores; with more threads they fight for them.
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-portable test-lowest test-highest stress lint format docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: ## make .venv with the pinned packages and this checkout (reused when it is there)
	@sh .dev_scripts/setup_venv.sh

demo: setup ## distil a small classifier and a small detector and compare, in minutes
	@$(RUN) tools/demo.py

test: setup ## run the tests; ARGS="..." goes to pytest
	@$(ONE_THREAD) $(RUN) -m pytest -n $(WORKERS) $(ARGS)

test-portable: setup ## run the tests that compare numbers as on other processors, six times
	@sh .dev_scripts/test_portable.sh $(RUN) $(ARGS)

test-lowest: ## run the tests with the oldest supported packages, in .venv-lowest
test-highest: ## run the tests with the newest supported packages, in .venv-highest
test-lowest test-highest: test-%:
	@sh .dev_scripts/setup_venv.sh $*
	@$(ONE_THREAD) $(VENV)-$*/bin/python -m pytest -n $(WORKERS) $(ARGS)

stress: setup ## run the tests that take minutes: kills, restarts, bad input, long runs
	@$(ONE_THREAD) $(RUN) -m pytest -n $(WORKERS) -m stress $(ARGS)

lint: setup ## check style and formatting
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

format: setup ## fix what lint would complain of, where that can be done by itself
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

docs: setup ## build the pages into docs/_build
	@$(RUN) -m pip install -q -r requirements/docs.txt
	@$(RUN) -m sphinx -W -q docs docs/_build

clean: ## remove each .venv and everything that was built; work_dirs stay
	@rm -rf $(VENV) $(VENV)-lowest $(VENV)-highest build dist *.egg-info reviewkd_mm/.mim .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
