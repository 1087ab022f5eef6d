# Everything runs inside .venv. Each target installs what it needs and does not find: `train` little, `test` all tools.
# Written for GNU make 3.81 and newer.

PYTHON ?= python3
TASK   ?= spread
ARGS   ?=

BIN       := .venv/bin
RUNNABLE  := .venv/.runnable
INSTALLED := .venv/.installed
TRACKERS  := .venv-trackers/bin
STRESS    := PYTHONPATH=tests/support $(BIN)/python
PIP_FLAGS := --quiet --disable-pip-version-check
# Compiled modules would take a sixth of the disk; Python compiles what it imports.
PIP        = $(BIN)/python -m pip install --no-compile $(PIP_FLAGS)

# On Linux torch's default build brings gigabytes of CUDA libraries. Without an NVIDIA GPU the CPU build is installed, from
# torch's own index. CUDA=1 or CUDA=0 chooses by hand, TORCH_INDEX= keeps to the default index. The choice stays.
TORCH       ?= $(shell grep '^torch==' constraints.txt)
CUDA        := $(or $(patsubst .venv/.cuda-%,%,$(wildcard .venv/.cuda-[01])),$(shell command -v nvidia-smi > /dev/null 2>&1 && echo 1 || echo 0))
OTHER_TORCH := $(wildcard .venv/.cuda-$(filter-out $(CUDA),0 1))
TORCH_INDEX ?= $(if $(filter Linux_0,$(shell uname)_$(CUDA)),https://download.pytorch.org/whl/cpu)
CPU_TORCH    = $(PIP) --no-deps --retries 0 --timeout 15 --index-url "$(TORCH_INDEX)" "$(TORCH)"

AT_LEAST_3_11 := import sys; sys.exit(sys.version_info < (3, 11))
PIP_FAILED    := echo "pip could not install all of it; 'make install PIP_FLAGS=' shows its every step." >&2; exit 1
EXACTLY_3_11  := import sys; sys.exit(sys.version_info[:2] != (3, 11))

.DEFAULT_GOAL := help
.PHONY: always help install train test slow gpl cluster trackers gpu mutants soak faults fuzz check prose format bench results docs browser house lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## Make .venv and install mappo and its tools into it

train: $(RUNNABLE) ## Train on TASK (spread), with any further ARGS="--flag value"
	$(BIN)/mappo train $(TASK) $(ARGS)

test: $(INSTALLED) ## Run the tests, the slow ones left out
	$(BIN)/pytest $(ARGS)

slow: $(INSTALLED) ## Run the slow tests
	$(BIN)/pytest -m slow --timeout 3600 $(ARGS)

mutants: $(INSTALLED) ## Put a bug in for each law, one at a time, and see the tests turn red (a quarter of an hour)
	$(BIN)/python tests/laws/mutants.py $(ARGS)

soak: $(INSTALLED) ## Kill and interrupt workers and runs some two hundred times (seven minutes), or ARGS="--minutes 20"
	$(STRESS) tests/stress/soak.py $(ARGS)

faults: $(INSTALLED) ## Kill runs 200 times and ranks 100, let each write fail, damage 500 checkpoints: nothing is lost (an hour)
	$(STRESS) tests/stress/faults $(ARGS)

fuzz: $(INSTALLED) ## Draw ten thousand command lines, config files and damaged run directories (half an hour)
	$(STRESS) tests/stress/fuzz.py $(ARGS)

gpl: $(INSTALLED) ## Install vmas, which is under the GPL, and run its tests
	$(PIP) -c constraints.txt -e ".[vmas]"
	$(BIN)/pytest -m gpl $(ARGS)

cluster: $(INSTALLED) ## Install submitit and ray, and run the recipes for clusters that need them
	$(PIP) "submitit>=1.5" "ray>=2.50"
	$(BIN)/pytest -m cluster $(ARGS)

# In an environment of their own above .venv: the trackers need other versions of locked packages, and 0.9 GB.
trackers: $(INSTALLED) ## Install wandb, mlflow and trackio into .venv-trackers, and record a run with each (minutes)
	@[ -x $(TRACKERS)/python ] || $(BIN)/python -m venv .venv-trackers
	@$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
	  > "$$($(TRACKERS)/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	$(TRACKERS)/python -m pip install --no-compile $(PIP_FLAGS) -e ".[track]"
	$(TRACKERS)/python -m pytest -m trackers $(ARGS)

gpu: $(INSTALLED) ## Run the tests that need a CUDA device
	$(BIN)/pytest -m gpu $(ARGS)

prose: $(INSTALLED) ## Check that code, messages and pages are in plain words
	$(BIN)/python docs/prose.py

check: $(INSTALLED) ## Lint, check the format, the types, the rooms and the prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python docs/prose.py

format: $(INSTALLED) ## Sort the imports and format the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Measure the speed on this machine
	$(BIN)/python benchmarks/speed.py $(ARGS)

results: $(INSTALLED) ## Build the tables and figures of docs/results.md from the rows in results/
	$(BIN)/python docs/build_results.py

docs: $(INSTALLED) ## Build the site into build/docs; open build/docs/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

browser: $(INSTALLED) ## Look at the site in a headless Chromium; needs chromium, and npm for axe-core
	$(PIP) -c constraints.txt websockets
	npm install --silent --no-save --prefix build/axe axe-core@4.14.1
	$(BIN)/pytest -m browser $(ARGS)

house: $(INSTALLED) ## Draw the pictures of the pages anew: the rooms of the package, and those of the tutorial
	$(BIN)/python docs/draw_house.py
	$(BIN)/python docs/draw_tutorial.py

# torch goes in first, by its exact version: a build already chosen then satisfies the range that follows.
$(RUNNABLE): pyproject.toml constraints.txt $(if $(OTHER_TORCH),always)
	@if [ -x $(BIN)/python ]; then python=$(BIN)/python; else python="$(PYTHON)"; fi; \
	"$$python" -c '$(AT_LEAST_3_11)' || { \
	  echo "mappo needs Python 3.11 or newer; '$$python' is $$("$$python" --version 2> /dev/null || echo missing)." >&2; \
	  echo "Name a newer one: make install PYTHON=python3.12 (and remove .venv if it holds an older one)." >&2; \
	  exit 1; }
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv --clear .venv
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(BIN)/python -m ensurepip
	@echo "Installing mappo into .venv (minutes, the first time)"
	@[ -z "$(OTHER_TORCH)" ] || $(BIN)/python -m pip uninstall --quiet --yes torch
	@[ -z "$(TORCH_INDEX)" ] || $(CPU_TORCH) 2> /dev/null || \
	  echo "No $(TORCH) from $(TORCH_INDEX): it comes from pip's default index."
	@{ $(PIP) -c constraints.txt "$(TORCH)" && $(PIP) -c constraints.txt -e ".[mpe]"; } || { $(PIP_FAILED); }
	@rm -f .venv/.cuda-* && touch .venv/.cuda-$(CUDA) $@

$(INSTALLED): $(RUNNABLE)
	@echo "Installing all that the tests need (minutes, the first time)"
	@$(PIP) -c constraints.txt -e ".[dev]" || { $(PIP_FAILED); }
	@touch $@

# Locked with the oldest supported Python, so that every version locked installs on the newer ones too.
# torch's own CUDA packages are left out: they differ by platform, and torch pins them itself.
lock: ## Lock the newest versions in constraints.txt; TORCH=torch==X.Y.Z to move torch
	@"$(PYTHON)" -c '$(EXACTLY_3_11)' || { \
	  echo "Lock with Python 3.11, the oldest supported: make lock PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing into .venv-lock (a few minutes)"
	@"$(PYTHON)" -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip install $(PIP_FLAGS) "$(TORCH)"
	@.venv-lock/bin/python -m pip install $(PIP_FLAGS) ".[dev,vmas,envpool]"
	@.venv-lock/bin/python -m pip freeze --all --exclude mappo --exclude pip --exclude wheel > .venv-lock/frozen
	@{ sed -n '/^#/p' constraints.txt; \
	   sed 's/+.*//' .venv-lock/frozen | grep == | grep -Eiv '^(nvidia-|cuda-|triton)'; } > .venv-lock/constraints.txt
	@mv .venv-lock/constraints.txt constraints.txt
	@rm -rf .venv-lock build
	@echo "constraints.txt is rewritten; run the checks and the tests before keeping it."

clean: ## Remove .venv and every cache; runs/ stays
	rm -rf .venv .venv-trackers .venv-lock .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist src/*.egg-info
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
