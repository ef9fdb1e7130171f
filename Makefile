# make demo   bring up example clusters in containers, run jobs on them, take them down
# make test   every test, those on real Slurm in containers included
# make lint   ruff and mypy
# make bench  the benchmarks, as ratios to peers
#
# Each sets up what it needs: a virtual environment, Docker's engine, the images. Nothing but Python 3.11 or
# newer, make and git has to be there before.

SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: demo test unit lint bench images engine clean

# Two at a time, a file's tests together: most of them wait for daemons.
test: $(VENV)/.ready images
	$(BIN)/pytest -n 2 --dist loadfile $(PYTEST_ARGS)

demo: $(VENV)/.ready images
	$(BIN)/python examples/demo.py

# Tests that need no container.
unit: $(VENV)/.ready
	$(BIN)/pytest tests/unit $(PYTEST_ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready images
	$(BIN)/python -m benchmarks

engine:
	sh containers/engine.sh

images: $(VENV)/.ready engine
	$(BIN)/python -m hpadmin.lab.image 24.11 26.05

$(VENV)/.ready: pyproject.toml
	sh containers/python.sh $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -exec rm -rf {} +
