# From a fresh clone with Python >= 3.11 and make: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= random
WORKERS ?= 2
READY := $(VENV)/.ready

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PARALLEL := -n $(WORKERS) --dist worksteal

.PHONY: demo test check lint soak bars gpu clean

demo: $(READY)  ## train on the embedded data set
	$(BIN)/proxprop train --preset digits-mlp

test: lint  ## lint, types, import rules and all fast tests
	$(PYTEST) $(PARALLEL) -m "not system and not timing and not slow and not gpu"

check: $(READY)  ## what needs real processes, terminals, clusters or disks; then the bars on time
	$(PYTEST) $(PARALLEL) -m "system and not timing and not slow and not gpu"
	$(PYTEST) -m "timing and not slow and not gpu"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(READY)  ## every promise of docs/reliability.md, and the fuzz tests, often; SEED=N repeats
	$(PYTEST) $(PARALLEL) -m "(promise or fuzz or slow) and not timing and not gpu" --seed $(SEED) --promises=soak.md

bars: $(READY)  ## all bars on time, for a machine that does nothing else
	$(PYTEST) -m "timing and not gpu"

gpu: $(READY)  ## what needs a CUDA device
	$(PYTEST) -m gpu

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
