# Two commands: `make run` (the main job) and `make test`. Each sets up its own environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test lint bench clean

run: $(VENV)/.run
	$(BIN)/nibench run

test: $(VENV)/.test
	$(BIN)/pytest --benchmark-skip --numprocesses auto --maxprocesses 4 --dist loadfile

bench: $(VENV)/.test
	$(BIN)/pytest tests/benchmarks --benchmark-only --benchmark-columns=min,median,rounds

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch first and pinned: a dependency that asks for it later then finds it
$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) --editable ".[test,dev]"
	touch $@
