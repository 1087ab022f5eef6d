# Everything runs inside .venv, which the first target that needs it makes.
# Written for GNU make 3.81 and newer.

PYTHON ?= python3
TASK   ?= spread
ARGS   ?=

BIN       := .venv/bin
INSTALLED := .venv/.installed
STRESS    := PYTHONPATH=tests/support $(BIN)/python
TORCH     ?= $(shell grep '^torch==' constraints.txt)
PIP_FLAGS := --quiet --disable-pip-version-check

AT_LEAST_3_11 := import sys; sys.exit(sys.version_info < (3, 11))
EXACTLY_3_11  := import sys; sys.exit(sys.version_info[:2] != (3, 11))

.DEFAULT_GOAL := help
.PHONY: help install train test slow gpu mutants soak faults fuzz check format bench house lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## Make .venv and install mappo and its tools into it

train: $(INSTALLED) ## Train on TASK (spread), with any further ARGS="--flag value"
	$(BIN)/mappo train $(TASK) $(ARGS)

test: $(INSTALLED) ## Run the tests, the slow ones left out
	$(BIN)/pytest $(ARGS)

slow: $(INSTALLED) ## Run the slow tests
	$(BIN)/pytest -m slow --timeout 3600 $(ARGS)

mutants: $(INSTALLED) ## Put a bug in for each law, one at a time, and see the tests turn red (a quarter of an hour)
	$(BIN)/python tests/laws/mutants.py $(ARGS)

soak: $(INSTALLED) ## Kill and interrupt workers and runs some two hundred times (seven minutes), or ARGS="--minutes 20"
	$(STRESS) tests/stress/soak.py $(ARGS)

faults: $(INSTALLED) ## Kill runs 200 times, let each write fail, damage 500 checkpoints: nothing is lost (twenty minutes)
	$(STRESS) tests/stress/faults $(ARGS)

fuzz: $(INSTALLED) ## Draw ten thousand command lines, config files and damaged run directories (half an hour)
	$(STRESS) tests/stress/fuzz.py $(ARGS)

gpu: $(INSTALLED) ## Run the tests that need a CUDA device
	$(BIN)/pytest -m gpu $(ARGS)

check: $(INSTALLED) ## Lint, check the format, the types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(INSTALLED) ## Sort the imports and format the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Measure the speed on this machine
	$(BIN)/python benchmarks/speed.py $(ARGS)

house: $(INSTALLED) ## Draw the rooms of the package and their imports anew, into docs/images/house.svg
	$(BIN)/python docs/draw_house.py

# torch goes in first, by its exact version: a build already chosen then satisfies the range that follows.
$(INSTALLED): pyproject.toml constraints.txt
	@if [ -x $(BIN)/python ]; then python=$(BIN)/python; else python="$(PYTHON)"; fi; \
	"$$python" -c '$(AT_LEAST_3_11)' || { \
	  echo "mappo needs Python 3.11 or newer; '$$python' is $$("$$python" --version 2> /dev/null || echo missing)." >&2; \
	  echo "Name a newer one: make install PYTHON=python3.12 (and remove .venv if it holds an older one)." >&2; \
	  exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv --clear .venv
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip
	@echo "Installing into .venv (a few minutes the first time)"
	@{ $(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt "$(TORCH)" && \
	   $(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[dev]"; } || { \
	  echo "pip could not install all of it; 'make install PIP_FLAGS=' shows its every step." >&2; exit 1; }
	@touch $@

# Locked with the oldest supported Python, so that every version locked installs on the newer ones too.
# torch's own CUDA packages are left out: they differ by platform, and torch pins them itself.
lock: ## Lock the newest versions in constraints.txt; TORCH=torch==X.Y.Z to move torch
	@"$(PYTHON)" -c '$(EXACTLY_3_11)' || { \
	  echo "Lock with Python 3.11, the oldest supported: make lock PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing into .venv-lock (a few minutes)"
	@"$(PYTHON)" -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip install $(PIP_FLAGS) "$(TORCH)"
	@.venv-lock/bin/python -m pip install $(PIP_FLAGS) ".[dev]"
	@.venv-lock/bin/python -m pip freeze --all --exclude mappo --exclude pip --exclude wheel > .venv-lock/frozen
	@{ sed -n '/^#/p' constraints.txt; \
	   sed 's/+.*//' .venv-lock/frozen | grep == | grep -Eiv '^(nvidia-|cuda-|triton)'; } > .venv-lock/constraints.txt
	@mv .venv-lock/constraints.txt constraints.txt
	@rm -rf .venv-lock build
	@echo "constraints.txt is rewritten; run the checks and the tests before keeping it."

clean: ## Remove .venv and every cache; runs/ stays
	rm -rf .venv .venv-lock .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist src/*.egg-info
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
