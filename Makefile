# Two commands: `make demo` and `make test`. Both set up .venv when they must.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread a process: on few cores more threads are many times slower.
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo demo-compare bench-learner check test clean

setup: $(STAMP)

$(STAMP): requirements/cpu.txt requirements/dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps -r requirements/cpu.txt -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/mixsd-cluster up configs/smoke.yaml

demo-compare: setup
	$(BIN)/mixsd-cluster up configs/smoke.yaml
	$(BIN)/mixsd-cluster up configs/sft-smoke.yaml
	$(BIN)/mixsd-cluster compare smoke sft-smoke

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup
	$(BIN)/python -m pytest -q

# Measures the learner against TRL and plain PyTorch: about six minutes on one core.
bench-learner: setup
	$(BIN)/pip install --quiet --no-deps -r requirements/bench.txt
	$(BIN)/python -m tests.benchmarks.learner

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
