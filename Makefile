# Each target makes .venv with the locked versions on first use; later calls reuse it until a lock file or pyproject.toml changes.
# PYTHON      the interpreter .venv is made from, 3.10 or newer
# TORCH_ARGS  more arguments for the one step that installs PyTorch, such as an --index-url with its CPU builds
# JOBS        how many tests run side by side
PYTHON ?= python3
TORCH_ARGS ?=
JOBS ?= 2
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test test-slow test-devices bench lint lock clean
.DELETE_ON_ERROR:

# The whole job on this machine's CPU, from space to verified subnet. TRAIN=1 trains the supernet itself instead of taking the shipped one.
demo: $(INSTALLED)
	$(BIN)/profiler run --space ofa-mobilenetv3-tiny --device local --preset demo --out runs/demo $(if $(filter 1,$(TRAIN)),--train)

test: lint
	$(BIN)/python -m pytest -m "not slow and not device_services" -n $(JOBS) --dist worksteal

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m "slow and not device_services"

# Against a real adbd, real SSH servers and an arm64 userland, which are built into .cache first. What this machine cannot do is skipped by name.
test-devices: $(INSTALLED)
	-tests/adbd/build.sh
	-PYTHON=$(CURDIR)/$(BIN)/python tests/arm64_userland.sh
	$(BIN)/python -m pytest -m device_services -n $(JOBS) --dist loadfile -rs

# The benchmarks that need no files of their own; the others say in their first lines how they are called.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/search_speed.py
	$(BIN)/python benchmarks/predictor_speed.py
	$(BIN)/python benchmarks/kernel_cliff.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/controller_against_random.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# PyTorch comes first and by itself: which build of it fits is the machine's affair. The lock holds all else, and none of its CUDA packages.
$(INSTALLED): requirements/torch.txt requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is Python %d.%d; expected 3.10 or newer; name one with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint requirements/lock.txt --requirement requirements/torch.txt $(TORCH_ARGS)
	$(PIP) install --no-deps --requirement requirements/lock.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Resolve the newest versions for Python 3.10 and newer on every platform; run it by hand, look at the difference, commit it.
lock:
	$(UV) pip compile pyproject.toml --extra all --extra dev --upgrade --constraint requirements/torch.txt --constraint requirements/constraints.txt \
	    --universal --python-version 3.10 --no-python-downloads --no-header --no-annotate --quiet --output-file requirements/lock.new
	grep -vE '^(elastic-latency|torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)(\[.*\])?==' requirements/lock.new > requirements/lock.txt
	rm requirements/lock.new

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
