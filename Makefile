# Upkeep's commands. A fresh machine needs Python 3.11 and make; `make setup` does the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# every step of an update is a process of its own: compile a module once, not each time
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup setup-tensorflow demo demo-tensorflow test test-tensorflow test-cluster check simulate fire format bench bench-rollout compile images test-images lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(READY) ## a virtual environment with exactly the locked packages

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Upkeep needs Python 3.11 or newer")'
	@echo "setting up $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r requirements/dev.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

TENSORFLOW := $(VENV)/.tensorflow

setup-tensorflow: $(TENSORFLOW) ## the same, and TensorFlow with Keras

$(TENSORFLOW): $(READY) requirements/tensorflow.txt
	@echo "adding TensorFlow to $(VENV)"
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes --compile-bytecode -r requirements/tensorflow.txt
	@touch $@

demo: setup ## flights: updates, a rollout that is promoted, one that is taken back, and a page of both
	@$(BIN)/python examples/flights/demo.py

# what TensorFlow says of the machine goes to a file, and is shown where it ends badly
demo-tensorflow: setup-tensorflow ## networks: reviews read by adapters, month by month; transfer to an airport (SMALL=1: do all parts run?)
	@$(BIN)/python examples/reviews/demo.py $(if $(SMALL),--small)
	@mkdir -p build && $(BIN)/python examples/flights/transfer.py $(if $(SMALL),--samples 1 --share 0.1) \
	  2>build/transfer.log || (tail -n 20 build/transfer.log && false)

test: setup ## all tests
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q

fire: setup ## rollouts on the real one-machine cluster, three steps, 200 requests a second
	@UPKEEP_FIRE_RATE=200 UPKEEP_FIRE_STEPS="5%, 25%, 50%" $(BIN)/python -m pytest tests/e2e/test_rollout_fire.py -q

test-tensorflow: setup-tensorflow ## the networks' tests (make test skips them where TensorFlow is not installed)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q tests/tensorflow tests/contract/test_strategies.py tests/contract/test_bases.py

test-cluster: setup ## what Kubernetes itself keeps, on the cluster of the current kubeconfig, in a namespace of its own
	@UPKEEP_TEST_CLUSTER=1 $(BIN)/python -m pytest -q tests/cluster

check: setup ## style, types, import direction, locks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@rm -rf build/lib build/bdist.* build/installed && VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --target build/installed .
	@# components/ and pipelines/ are upkeep.components and upkeep.pipelines once installed: checked as users get them
	@cd build/installed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p upkeep
	@cd build/installed && PYTHONPATH=. ../../$(BIN)/lint-imports --config ../../.importlinter --no-cache
	@! grep -nEi 'index-url|extra-index|https?://' requirements/*.txt || (echo "a lock file names an index" && false)

simulate: setup ## rollouts under faults: COUNT of them from seed START on
	@$(BIN)/python -m tests.simulation.run --count $(or $(COUNT),100000) --start $(or $(START),0) --jobs 2
	@# and, slower by far, one in a hundred under the whole controller
	@$(BIN)/python -m tests.simulation.whole --count $$(($(or $(COUNT),100000) / 100)) --start $(or $(START),0)
	@# two of them at once, that know nothing of each other; and elections
	@$(BIN)/python -m tests.simulation.whole --count $$(($(or $(COUNT),100000) / 200)) --start $(or $(START),0) --controllers 2
	@$(BIN)/python -m tests.simulation.leases --count $$(($(or $(COUNT),100000) / 50)) --start $(or $(START),0)

format: setup ## put everything in its usual form
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

bench: setup ## measure, and write docs/benchmarks.md (ONLY=drift: one table; PEERS=1: install what it is compared with)
	@UPKEEP_BENCH_PEERS=$(PEERS) $(BIN)/python tests/benchmarks/run.py $(if $(ONLY),--only $(ONLY))

bench-rollout: setup ## simulate canary analyses, ours and others (about five minutes)
	@$(BIN)/python tests/benchmarks/bench_rollout.py

compile: setup ## the pipelines of the examples, as IR YAML
	@for example in flights basics; do \
	  $(BIN)/upkeep compile --spec examples/$$example/upkeep.yaml -o build/$$example.yaml || exit 1; done

images: ## container images by podman or docker, and what is in each (TARGETS="server controller": these)
	@docker/build.sh $(TARGETS)

test-images: setup ## build the images that need no TensorFlow, run them, and an update in them (needs podman)
	@tests/images/run.sh

lock: ## resolve the dependencies anew (the locks name no index)
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  --extra dev pyproject.toml -o requirements/dev.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  -c requirements/dev.txt pyproject.toml -o requirements/runtime.txt
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11 \
	  -c requirements/dev.txt --extra tensorflow pyproject.toml -o requirements/tensorflow.txt
	@echo uv | $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header - -o requirements/uv.txt

clean: ## remove what the targets made
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis examples/*/work
