# `make demo` and `make test` are all a new user needs; both build .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
VENV := .venv/.installed
SNAKEMAKE := $(BIN)/snakemake --cores all
# Containers like to set it; every job would then compile the package anew, and take longer to
# start than to work.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check test-faults test-slurm gpu fuzz lint format venv clean

demo: $(VENV)
	$(SNAKEMAKE) --config experiment=demo
	@echo; cat results/table2.md; echo; echo "All tables and figures: results/report.html"

# Two files at a time; the slowest come first (tests/conftest.py).
test: $(VENV)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The fast lane: lint, and unit tests of pure functions.
FAST := tests/test_house.py tests/config tests/losses tests/runtime/test_provenance.py tests/datasets/test_registry.py \
	tests/retrieval/test_metrics.py tests/retrieval/test_parts.py tests/nn/test_part_pooling.py
check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(FAST)

# The long version: kills on the way through the whole workflow, full disks, damaged files.
test-faults: export PGFL_KILLS ?= 24
test-faults: $(VENV)
	$(BIN)/python -m pytest -s tests/workflow/test_faults.py tests/training/test_stage.py -k "kills or disk or damaged or second"

# Debian's Slurm on this host, with two pretended GPUs; needs root, is skipped where it cannot be.
test-slurm: $(VENV)
	@tests/workflow/install_slurm.sh $(BIN) envs/requirements-slurm.txt; case $$? in \
		0) PGFL_TEST_SLURM=1 $(BIN)/python -m pytest -s -o faulthandler_timeout=1800 tests/workflow/test_slurm.py ;; \
		3) ;; \
		*) exit 1 ;; \
	esac

# All about one GPU on one page, in eight minutes, by the first python here whose torch sees it;
# needs no .venv. GPU="--device cpu --small" rehearses it without one (docs/benchmarks.md).
gpu: ASKED = $(if $(filter command environment,$(origin PYTHON)),$(PYTHON))
gpu:
	@for python in $(ASKED) $(BIN)/python $(PYTHON) python3 python; do \
		"$$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null && break; \
	done || for python in $(ASKED) $(BIN)/python $(PYTHON) python3; do \
		"$$python" -c 'import torch' 2>/dev/null && break; \
	done; exec "$$python" benchmarks/gpu.py $(GPU)

# Damaged and hostile inputs: as many of each kind as EXAMPLES says, others at every run.
EXAMPLES ?= 2000
fuzz: $(VENV)
	PGFL_FUZZ=$(EXAMPLES) $(BIN)/python -m pytest tests/fuzz

lint: $(VENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(VENV)

# MMPose and its kin go in without their declared dependencies: one of them (chumpy) no longer
# builds and is never imported; what they do import is pinned in requirements.txt.
PINS := envs/requirements.txt envs/requirements-export.txt envs/requirements-dev.txt
$(VENV): $(PINS) envs/requirements-mmpose.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "error: Python 3.11 (or 3.12) is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check $(addprefix -r ,$(PINS))
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -r envs/requirements-mmpose.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv .snakemake data cache runs logs results
