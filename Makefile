# Every target sets up what it needs: a virtual environment in .venv with the pinned versions of constraints.txt.
PYTHON ?= python3
# `make wheelhouse` takes as PYTHON the version that another machine has.
VERSION := $(filter 3.%,$(PYTHON))
HERE := $(if $(VERSION),python3,$(PYTHON))
SHELL := /bin/bash
BIN := .venv/bin
RUN := $(BIN)/python -m microevo
# Shape hints are checked at each call, which makes the loops of the solvers four times slower: there `make test-all` does it.
SHAPES := microevo.models,microevo.metrics,microevo.benchmark,microevo.data.windows,microevo.data.datamodule
PYTEST := $(BIN)/pytest --jaxtyping-packages

.DEFAULT_GOAL := help
.PHONY: help install demo lint test test-all published benchmark paper study results pretrained soak wheelhouse clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## Make .venv and install microevo into it

.venv/installed: pyproject.toml constraints.txt
	@$(HERE) -c 'import sys; assert sys.version_info >= (3, 11), "microevo needs Python 3.11 or newer, not " + sys.version.split()[0]'
	$(HERE) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	@touch $@

demo: .venv/installed ## Simulate, train four models, compare them (CPU, 15 to 20 minutes on two slow cores)
	$(RUN) simulate --config data/recipes/demo.yaml
	@# Two at a time with a thread each: the local network takes as long as the other three.
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory --jobs 2 fit-local fit-fcn fit-convlstm fit-predrnn
	$(RUN) test --config experiments/demo/demo-local.yaml --ckpt_path best
	$(RUN) predict --config experiments/demo/demo-local.yaml --ckpt_path best
	$(RUN) benchmark --config experiments/demo/benchmark.yaml --overwrite
	@echo "look at:    results/demo/report.html, data/demo.png, runs/demo-local/*.png and *.gif"
	@echo "try next:   your own frames (README, 'Your own data'), or the paper's network on a GPU:"
	@echo "            .venv/bin/python -m microevo simulate --config data/recipes/spinodal.yaml"
	@echo "            .venv/bin/python -m microevo fit --config experiments/spinodal-fcn.yaml"

fit-%: .venv/installed
	$(RUN) fit --config experiments/demo/demo-$*.yaml --ckpt_path last --trainer.enable_progress_bar false

lint: .venv/installed ## Format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## Lint and the default tests (five minutes on 2 cores)
	$(PYTEST)=$(SHAPES),beartype.beartype -n 2 -m "not slow"

test-all: lint ## Lint and all tests, the long ones too, with the shapes of all arrays checked
	$(PYTEST)=microevo,beartype.beartype -n 2

REAL := ../shared/real
PUBLISHED := results/published
CRYSTALS := 0:1.0:16.3 1:1.21:28.7 2:1.0:28.1 3:1.37:-29.9
published: .venv/installed ## Simulated against published samples (in REAL): tables and pictures, about five minutes
	$(RUN) simulate --config data/recipes/spinodal-published.yaml --output $(PUBLISHED)/spinodal.zarr --splits '{test: 24}' \
		--sample null --fraction_sampled 1 --frames 240 --process.init_args.first_frame 1
	$(RUN) simulate --config data/recipes/grain-growth.yaml --output $(PUBLISHED)/grain-growth.zarr --splits '{test: 8}' \
		--sample null --fraction_sampled 1 --frames 140 --process.init_args.first_frame 2
	$(RUN) simulate --config data/recipes/plane-wave.yaml --output $(PUBLISHED)/plane-wave.zarr --splits '{test: 1}' \
		--sample null --resample false --frames 112 --process.init_args.alpha 0.007503
	for crystal in $(CRYSTALS); do \
		IFS=: read number undercooling angle <<< "$$crystal"; \
		$(RUN) simulate --config data/recipes/dendrite.yaml --output $(PUBLISHED)/dendrite-$$number.zarr --splits '{test: 1}' \
			--sample null --process.init_args.undercooling $$undercooling --process.init_args.theta0=$$angle || exit; \
	done
	$(RUN) compare --simulated $(PUBLISHED)/spinodal.zarr --published $(REAL)/Spinodal_decomposition_test_10_10.npy \
		--intervals data/published/spinodal.yaml --output $(PUBLISHED)/spinodal --overwrite
	$(RUN) compare --simulated $(PUBLISHED)/grain-growth.zarr --published $(REAL)/Grain_growth_test_10_10.npy \
		--intervals data/published/grain-growth.yaml --output $(PUBLISHED)/grain-growth --overwrite
	$(RUN) compare --simulated $(PUBLISHED)/plane-wave.zarr --published $(REAL)/Plane_wave_propagation_test_10_10.npy \
		--intervals data/published/plane-wave.yaml --output $(PUBLISHED)/plane-wave --overwrite
	$(RUN) compare --simulated '[$(PUBLISHED)/dendrite-0.zarr, $(PUBLISHED)/dendrite-1.zarr, $(PUBLISHED)/dendrite-2.zarr, $(PUBLISHED)/dendrite-3.zarr]' \
		--published $(REAL)/Dendrite_growth_test_10_10.npy --intervals data/published/dendrite.yaml --output $(PUBLISHED)/dendrite --overwrite

benchmark: .venv/installed ## Our solvers against their transforms, py-pde, exponax and FiPy (one core, about seven minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[benchmark]"
	$(BIN)/python experiments/solvers/benchmark.py

OUT := results/paper-out
SCALE := full
MINUTES = $(if $(filter tiny,$(SCALE)),2.8,9)
# A node without a network has no .venv: there the wheels of `make wheelhouse` are installed beside its own packages.
paper: ## The paper's setting in MINUTES=9 of a GPU, into OUT=folder; SCALE=tiny rehearses it on a CPU
	$(or $(wildcard $(BIN)/python),$(PYTHON)) experiments/paper/paper.py --out $(OUT) --minutes $(MINUTES) --scale $(SCALE)

STUDIES := $(basename $(notdir $(wildcard experiments/studies/*.yaml)))
study: .venv/installed ## What changes when one thing is changed: NAME=receptive-field, or another of experiments/studies
	$(if $(filter $(NAME),$(STUDIES)),,$(error NAME must be one of $(STUDIES)))
	OMP_NUM_THREADS=1 $(BIN)/python experiments/studies/study.py --config experiments/studies/$(NAME).yaml

COMPARED := grain-growth spinodal-published spinodal plane-wave dendrite
results: .venv/installed ## Networks at equal computing time, one process after the other (hours; NAME=process for one)
	$(if $(filter-out $(COMPARED),$(NAME)),$(error NAME must be one of $(COMPARED)))
	for process in $(or $(NAME),$(COMPARED)); do OMP_NUM_THREADS=1 $(BIN)/python experiments/studies/study.py \
		--config experiments/results/$$process.yaml --output experiments/results --runs runs/results || exit; done

pretrained: .venv/installed ## Train anew a network that comes with microevo: NAME=spinodal, or another (an hour of a core)
	OMP_NUM_THREADS=1 $(BIN)/python experiments/results/pretrained.py $(NAME)

ROUNDS := 100
SEED := 0
soak: .venv/installed ## Kill simulate, fit and benchmark at random moments, ROUNDS=100 times, and compare (a quarter of an hour)
	OMP_NUM_THREADS=1 $(BIN)/python experiments/soak/soak.py --rounds $(ROUNDS) --seed $(SEED)

wheelhouse: .venv/installed ## Wheels for a machine without a network: PYTHON=3.12 HAVE=list of its packages
	$(BIN)/python experiments/paper/wheelhouse.py $(addprefix --python ,$(VERSION)) $(addprefix --have ,$(HAVE)) \
		$(addprefix --without ,$(WITHOUT)) $(addprefix --extras ,$(EXTRAS))

clean: ## Remove caches, runs and results, but no data
	rm -rf runs results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +
