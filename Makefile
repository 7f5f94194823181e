# Every target sets up what it needs: a virtual environment in .venv with the pinned versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m microevo
PYTEST := $(BIN)/pytest --jaxtyping-packages=microevo,beartype.beartype

.DEFAULT_GOAL := help
.PHONY: help install demo lint test test-all benchmark clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## Make .venv and install microevo into it

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "microevo needs Python 3.11 or newer, not " + sys.version.split()[0]'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	@touch $@

demo: .venv/installed ## Simulate, train three models, compare them (CPU, under ten minutes)
	$(RUN) simulate --config data/recipes/demo.yaml
	$(RUN) fit --config experiments/demo/demo-fcn.yaml --ckpt_path last
	$(RUN) fit --config experiments/demo/demo-convlstm.yaml --ckpt_path last
	$(RUN) fit --config experiments/demo/demo-predrnn.yaml --ckpt_path last
	$(RUN) test --config experiments/demo/demo-fcn.yaml --ckpt_path best
	$(RUN) predict --config experiments/demo/demo-fcn.yaml --ckpt_path best
	$(RUN) benchmark --config experiments/demo/benchmark.yaml --overwrite
	@echo "pictures:   results/demo/report.png, data/demo.png, runs/demo-fcn/*.png and *.gif"
	@echo "try next:   your own frames (README, 'Your own data'), or the paper's network on a GPU:"
	@echo "            .venv/bin/python -m microevo simulate --config data/recipes/spinodal.yaml"
	@echo "            .venv/bin/python -m microevo fit --config experiments/spinodal-fcn.yaml"

lint: .venv/installed ## Format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## Lint and the default tests (under ten minutes on 2 cores)
	$(PYTEST) -n 2 -m "not slow"

test-all: lint ## Lint and all tests, the long ones too
	$(PYTEST) -n 2

benchmark: .venv/installed ## Our solvers against their transforms, py-pde, exponax and FiPy (one core, about seven minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[benchmark]"
	$(BIN)/python experiments/solvers/benchmark.py

clean: ## Remove caches, runs and results, but no data
	rm -rf runs results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +
