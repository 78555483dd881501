# `make demo`, `make test-fast`, `make test`, …: each sets up .venv if needed.
# Python 3.11 or 3.12.
# The first that runs: version managers put names on the path that only print an error.
PYTHON ?= $(or $(shell for name in python3.11 python3.12; do \
	$$name -c "" 2> /dev/null && echo $$name && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
# Packages for CUDA where there is an NVIDIA GPU, else for the CPU. GPU=0 or GPU=1 decides, and
# what is installed stays until then.
INSTALLED := $(patsubst $(VENV)/.installed-%,%,$(wildcard $(VENV)/.installed-*))
GPU ?= $(if $(INSTALLED),$(if $(filter gpu,$(INSTALLED)),1,0),$(if $(shell \
	nvidia-smi --list-gpus 2> /dev/null),1,0))
SET := $(if $(filter 1,$(GPU)),gpu,torch cpu)
STAMP := $(VENV)/.installed-$(lastword $(SET))
# Every package by hash, and none that a lock file does not list.
INSTALL := install --quiet --no-deps --no-build-isolation
LOCKED := $(INSTALL) --require-hashes
# One thread a test process, since two run at once. A run sets its own (cluster.threads).
export OMP_NUM_THREADS ?= 1

.PHONY: setup demo demo-compare demo-opsd check test-fast coverage test test-all test-gpu soak generated lock clean

setup: $(STAMP)

# First what builds: packages without a wheel, and this one. The other set's torch and vLLM would
# stay beside these, so a change of the set begins anew.
LOCKS := $(patsubst %,requirements/%.txt,$(SET) model dev)
$(STAMP): requirements/build.txt $(LOCKS) pyproject.toml
	$(if $(filter-out $(STAMP),$(wildcard $(VENV)/.installed*)),rm -rf $(VENV))
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(LOCKED) -r requirements/build.txt
	$(BIN)/pip $(LOCKED) $(addprefix -r ,$(LOCKS))
	$(BIN)/pip $(INSTALL) --editable .
	touch $@

demo: setup
	$(BIN)/mixsd-cluster up configs/smoke.yaml

# The same facts by SFT and by MixSD at two rates: about ten minutes on two cores. Benchmarks come
# from the Hub, or from local copies: make demo-compare DATA_ROOT=FOLDER. Without either their
# rows are left out, and the table gives the reason.
COMPARE := --set 'evaluator.suites=[recall,small,text_nll]' --set evaluator.limit=40 \
	--set evaluator.benchmark_tokens=128 --set evaluator.text_tokens=2048 \
	--set 'evaluator.fisher={}' \
	$(if $(DATA_ROOT),--set evaluator.data_root=$(abspath $(DATA_ROOT)))

demo-compare: setup
	$(BIN)/mixsd-cluster up configs/sft-smoke.yaml --set name=compare-sft $(COMPARE)
	$(BIN)/mixsd-cluster up configs/smoke.yaml --set name=compare-0.1 $(COMPARE)
	$(BIN)/mixsd-cluster up configs/smoke.yaml --set name=compare-0.3 \
		--set method.mix_rate=0.3 $(COMPARE)
	$(BIN)/mixsd-cluster compare compare-sft compare-0.1 compare-0.3
	$(BIN)/mixsd-cluster report compare-sft compare-0.1 compare-0.3

# On-policy self-distillation, SFT and MixSD on the same eight facts, with the same learning rate,
# steps and prompts a step: about twelve minutes on two cores.
SAME := --set data.limit=8 --set learner.lr=2e-4 --set learner.epochs=24 \
	--set learner.batch_size=4 --set learner.checkpoint_every=16

demo-opsd: setup
	$(BIN)/mixsd-cluster up configs/opsd-smoke.yaml
	$(BIN)/mixsd-cluster up configs/sft-smoke.yaml --set name=opsd-smoke-sft $(SAME)
	$(BIN)/mixsd-cluster up configs/smoke.yaml --set name=opsd-smoke-mixsd $(SAME)
	$(BIN)/mixsd-cluster compare opsd-smoke opsd-smoke-sft opsd-smoke-mixsd

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Three lanes on any machine. The fast one starts no engine, no Ray and no learner ranks.
PYTEST := $(BIN)/python -m pytest -q
FAST := -m "not slow and not thorough and not gpu" -n 2

test-fast: setup
	$(PYTEST) $(FAST) --durations=5

# The fast lane once more, with the coverage of what it can reach. Separate, since tracing triples
# its time on Python 3.11.
coverage: setup
	$(PYTEST) $(FAST) --cov --cov-report=term

# The gate: all but the long matrices and the slowest faults. First the fast lane, then what is slow
# but takes one core (engines with one thread each, graders), by files, whose tests share what took
# long to make. Then the rest on one worker, since Ray and roles take both cores, and some tests
# bound how long these take.
GATE := slow and not thorough and not gpu
test: setup
	$(PYTEST) $(FAST)
	$(PYTEST) -m "one_core and $(GATE)" -n 2 --dist loadfile --durations=20
	$(PYTEST) -m "not one_core and $(GATE)" --durations=20

test-all: setup
	MIXSD_FULL=1 $(PYTEST) -m "not gpu" --durations=20 --timeout=3600 -o faulthandler_timeout=3540

# The lane for one GPU: about ten minutes, and a report of every figure in runs/gpu-lane.json or
# MIXSD_GPU_REPORT. DEVICE=cpu tries the same code without a GPU.
DEVICE ?= cuda
test-gpu: setup
	MIXSD_GPU_LANE_DEVICE=$(DEVICE) $(PYTEST) -m gpu tests/gpu -rs

# Measurements: bench-rollout, bench-replay, bench-simulation, …; see tests/benchmarks.
bench-%: setup
	$(BIN)/python -m tests.benchmarks.$(subst -,_,$*)

# What matters on one GPU, 13 minutes at most; ONLY="paired vllm" measures less. DEVICE=cpu tries the
# same code, at tiny shapes.
bench-gpu: setup
	$(BIN)/python -m tests.benchmarks.gpu --device $(DEVICE) $(if $(ONLY),--only $(ONLY)) \
		--out runs/bench-gpu.json

# Half an hour of a run whose processes are killed at random.
MINUTES ?= 30
soak: setup
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

# Files that are committed and made from code; tests compare.
generated: setup
	$(BIN)/python -m common.metrics > docs/metrics.md
	$(BIN)/python -m deploy.observability.grafana.panels deploy/observability/grafana/dashboards
	$(BIN)/python -m deploy.kuberay.folder

# Rewrites requirements/*.txt from requirements/*.in, all but torch.txt. Versions that a lock file
# has stay, unless its .in asks for others.
UV := $(VENV)/lock/bin/uv
COMPILE := $(UV) pip compile --quiet --no-header --no-annotate --generate-hashes \
	--no-python-downloads --python-version 3.11 --build-constraints requirements/build.txt

lock: $(UV)
	for name in build cpu model dev bench lock; do $(COMPILE) --no-deps --universal \
		requirements/$$name.in --output-file requirements/$$name.txt || exit; done
	$(COMPILE) --python-platform x86_64-manylinux_2_28 \
		pyproject.toml --extra gpu requirements/gpu.in --output-file requirements/gpu.txt

$(UV): requirements/lock.txt
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip $(LOCKED) -r requirements/lock.txt
	touch $@

# Measures the learner against TRL and plain PyTorch: about six minutes on one core.
bench-learner: setup
	$(BIN)/pip $(LOCKED) -r requirements/bench.txt
	$(BIN)/python -m tests.benchmarks.learner

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
