# `make` alone explains itself. Everything runs in .venv, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SIMS ?= $(if $(filter pusht,$(DEMO)),pusht,robosuite)
STORE ?= outputs/demo
# make demo DEMO=reach: seconds of training, no simulator; DEMO=pusht: another simulator; make demo RUNNER=docker DEMO=lift: every step in its image
RUNNER ?= process
DEMO ?= $(if $(filter docker,$(RUNNER)),reach,lift)
VARIANT ?= $(if $(filter docker,$(RUNNER)),cpu)
# one more than the cores: many tests wait for what they started
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min((os.cpu_count() or 2) + 1, 4))')

.DEFAULT_GOAL := help
.PHONY: help setup sims system demo images test-images test test-long test-sim lint types twice format compile bench bench-against parity faults results works keep-results docs doctor clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[train,tracking,kubeflow,dev]' --constraint constraints.txt
	@touch $@

setup: $(INSTALLED) ## the virtual environment with everything but simulators

system: ## the libraries that a simulator needs to draw (Debian; only as root, only when missing)
	@if ! ldconfig -p | grep -q libEGL.so.1 || ! ldconfig -p | grep -q libOSMesa; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing libegl1 libosmesa6 libgl1 (a simulator draws with them)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libegl1 libosmesa6 libgl1 >/dev/null; \
	  else echo "no drawing libraries: the report will have no clips. sudo apt-get install -y libegl1 libosmesa6 libgl1"; fi; fi

sims: $(INSTALLED) system ## the simulators, each in an environment of its own (SIMS="robosuite ...")
	@for sim in $(SIMS); do $(BIN)/tendon sims install $$sim || exit $$?; done

demo: $(if $(filter docker,$(RUNNER)),images,$(if $(filter lift pusht,$(DEMO)),sims,$(INSTALLED))) ## demonstrations -> policy -> defended success rate, on this machine (about 4 minutes after installation)
	@$(if $(filter docker,$(RUNNER)),$(BIN)/python docker/demo.py $(DEMO),$(BIN)/tendon demo --task $(DEMO) --store-uri $(STORE))

images: $(INSTALLED) ## the three container images, tagged by content (IMAGES="data" VARIANT=cpu BUILD="--base IMAGE --network host")
	@$(BIN)/python docker/build.py $(IMAGES) $(if $(VARIANT),--variant $(VARIANT)) $(BUILD)

test-images: images ## convert, stats and a whole run inside the images, with an object store between the steps
	TENDON_TEST_IMAGES=1 $(BIN)/python -m pytest -q -m images tests/docker

test: $(INSTALLED) ## the tests that need no simulator: unit, rules, the whole DAG on a toy task (two and more cores share them)
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'not sim and not long'

test-long: $(INSTALLED) ## wider forms of some of them: more kinds of networks, more moments, more ways through the whole DAG
	$(BIN)/python -m pytest -q -n $(WORKERS) -m 'long and not sim'

test-sim: sims ## the tests that need a real simulator
	$(BIN)/python -m pytest -q -m sim

lint: $(INSTALLED) ## style, types, logic written twice, freshness of what is generated
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(MAKE) --no-print-directory --jobs 2 types twice

types: $(INSTALLED) ## every type, which takes longest: beside the rest of lint
	$(BIN)/mypy

twice: $(INSTALLED)
	$(BIN)/pylint --jobs 2 src/tendon && $(BIN)/python pipelines/compile.py --check && $(BIN)/python -m docs.builder --check

format: $(INSTALLED) ## let ruff write the style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

compile: $(INSTALLED) ## pipelines/compiled/*.yaml and the DAG pictures
	$(BIN)/python pipelines/compile.py

bench: $(INSTALLED) ## speed beside the peers: build/bench.json (ROWS="loader step")
	$(BIN)/python -m tests.benchmarks bench $(ROWS)

bench-against: $(INSTALLED) ## CPU time of loop, loader, conversion and rollouts beside another commit: build/against.json (REF=...)
	$(BIN)/python -m tests.benchmarks.against $(REF)

parity: $(INSTALLED) ## numbers beside a peer in a scratch environment: build/parity.json (PEER=robomimic)
	$(BIN)/python -m tests.benchmarks parity $(PEER)

faults: $(INSTALLED) ## kill, cut and resume: build/faults.json
	$(BIN)/python -m tests.benchmarks faults $(ROWS)

works: $(INSTALLED) ## the README's table of what works, of the rows that were measured
	$(BIN)/python -m tests.benchmarks.works

keep-results: $(INSTALLED) ## take what bench, parity and faults left in build/ into that table
	$(BIN)/python -m tests.benchmarks.works keep

docs: $(INSTALLED) ## the guide, into build/docs; dead links, stale pages and broken snippets fail it (CHECK=1: without notebooks and snippets)
	$(BIN)/python -m docs.builder $(if $(CHECK),--check)
	@$(if $(CHECK),true,$(BIN)/python -m pip install --quiet --editable '.[docs]' --constraint constraints.txt && \
	  TENDON_TEST_DOCS=1 $(BIN)/python -m pytest -q tests/docs && $(BIN)/python -m mkdocs build --quiet)

results: $(INSTALLED) ## policies trained and rolled out from nothing: build/results.json (ROWS=internmanip-act_clip)
	$(BIN)/python -m tests.benchmarks results $(ROWS)

doctor: $(INSTALLED) ## what this machine has and what it lacks
	@$(BIN)/tendon doctor

clean: ## forget builds and caches; keeps outputs and the environment
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
