# Stablehand's targets; `make help` lists them. A fresh Debian or Ubuntu machine needs only make, python3 and root.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= /var/lib/stablehand

.PHONY: help setup system tools demo test unit integration check lock format bench up down clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { scripts/system python3-venv && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

setup: $(BIN)/.installed ## the virtual environment

system: ## what pods need, from Debian's packages
	@scripts/system containerd runc containernetworking-plugins nftables iproute2 mmdebstrap nfs-ganesha nfs-ganesha-vfs rpcbind nfs-common

tools: ## what only the tests need, from Debian's packages
	@scripts/system etcd-server docker-registry

demo: setup system ## play the main job: stable names, order and storage
	@$(BIN)/python scripts/demo.py

test: setup system check unit integration ## everything that is tested

unit: setup tools ## the fast tests
	@$(BIN)/pytest -q tests/unit tests/contract

integration: setup system tools ## the tests on real containerd, real kubectl
	@$(BIN)/pytest -q tests/integration

check: setup ## format, lint, types, layers
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports | tail -3

lock: ## refresh requirements.lock with the newest versions that pyproject.toml allows
	@folder=$$(mktemp -d) && $(PYTHON) -m venv $$folder && \
	$$folder/bin/pip install --quiet --disable-pip-version-check -e '.[dev]' && \
	{ head -1 requirements.lock; $$folder/bin/pip freeze --exclude-editable | sort -f; } > requirements.lock.new && \
	mv requirements.lock.new requirements.lock; rm -rf $$folder

format: setup ## format the sources
	@$(BIN)/ruff format -q . && $(BIN)/ruff check -q --fix .

bench: setup ## measure, and print each figure
	@$(BIN)/python benchmarks/run.py

up: setup system ## start Stablehand in the background
	@$(BIN)/stablehand up --detach --data-dir $(DATA)

down: setup ## stop it, and its pods
	@$(BIN)/stablehand down --pods --data-dir $(DATA)

clean: ## leave nothing behind: pods, network, data, environment
	@for data in $(DATA) $(CURDIR)/.cache/demo; do \
	  [ -d $$data ] || continue; \
	  [ ! -x $(BIN)/stablehand ] || $(BIN)/stablehand down --pods --data-dir $$data || exit 1; \
	  if grep -q " $$data/" /proc/self/mounts; then \
	    echo "something is still mounted below $$data: run \`make setup clean\` as root" >&2; exit 1; fi; \
	done
	@rm -rf --one-file-system $(DATA) .cache $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
