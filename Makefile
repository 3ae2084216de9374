# make train     a virtual environment, gpucnn in it, and the default model trained on the embedded digits
# make test      the same for the tests
# make test-all  the tests for every architecture and more orders of threads
# make coverage  the tests with coverage (of compiled kernels: the lines that were compiled), at least 95 %
# make lint      ruff, mypy and clang-format
# make bench     the training step of the course models compared with PyTorch's (requires PyTorch in the environment)
# make clean     remove the environment and everything built

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The compilers for GPUs and CuPy come as wheels, 280 MB; on a machine with a GPU: make test EXTRAS=dev,cuda12
EXTRAS ?= dev,compile,emulated-gpu
WORKERS ?= 2
# The longest tests first, so that no worker waits for the other at the end.
FIRST ?= $(addprefix tests/,whole/test_gpu_all.py kernels/test_traffic.py kernels/test_compilers.py \
  models/test_training_on_devices.py kernels/test_agreement.py)
COMPILED := $(abspath $(VENV))/compiled
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
COVERAGE = --cov --cov-report= --cov-fail-under=0
CACHES = NUMBA_CACHE_DIR=$(COMPILED)/numba GPUCNN_CACHE=$(COMPILED)/gpucnn

.PHONY: train test coverage test-all lint bench clean

train: $(VENV)/.installed
	$(BIN)/gpucnn train

test: $(VENV)/.installed-dev
	rm -rf $(COMPILED)
	$(CACHES) $(PYTEST) $(FIRST) tests

coverage: $(VENV)/.installed-dev
	rm -rf $(COMPILED)
	$(CACHES) NUMBA_JIT_COVERAGE=1 COVERAGE_CORE=pytrace $(PYTEST) -m jit tests/kernels/test_agreement.py $(COVERAGE)
	$(CACHES) $(PYTEST) -m 'not jit' $(FIRST) tests $(COVERAGE) --cov-append
	$(BIN)/coverage report

test-all:
	GPUCNN_TEST_ALL=1 $(MAKE) test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.cu' '*.cuh' '*.cpp' '*.h' | xargs $(BIN)/clang-format --dry-run --Werror

bench: $(VENV)/.installed
	$(BIN)/python bench/train_step_vs_torch.py

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .pytest_cache .hypothesis .mypy_cache .ruff_cache

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("gpucnn needs Python 3.11 or newer and " + \
	sys.executable + " is " + sys.version.split()[0] + ": run make PYTHON=/path/to/python3.12 ...")'
	@echo "Making a virtual environment in $(VENV) and installing gpucnn into it (a minute or two)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	@touch $@ $(VENV)/.installed
