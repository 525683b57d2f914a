# Two commands: `make run` (the main job) and `make test`. Each sets up its own environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test lint bench leaderboard records clean

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

# the committed page, from the committed records
leaderboard: $(VENV)/.run
	$(BIN)/nibench leaderboard --results leaderboard --out leaderboard

# the committed records themselves: every method, three quarters of an hour on two cores; DATA and MODEL are yours, see leaderboard/README.md
TRUTH_METHODS = $(foreach file,$(filter-out methods/corpus_generation.py,$(wildcard methods/*.py)),--method $(basename $(notdir $(file))))
records: $(VENV)/.run
	$(BIN)/nibench run --method all --out results/default
	$(BIN)/nibench run --suite truth $(TRUTH_METHODS) --out results/truth
	$(BIN)/nibench run --suite real-text --method all --cap 16000 --model $(MODEL) --data $(DATA) --out results/real-text
	for suite in default truth real-text; do \
		$(BIN)/nibench leaderboard --results results/$$suite --pack leaderboard/records/$$suite.tar.xz; done

clean:
	rm -rf $(VENV)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# torch first and pinned: a dependency that asks for it later then finds it
$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Setting up $(VENV), once: a minute or two"
	@$(PIP) torch==2.13.0
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) --editable ".[test,dev]"
	touch $@
