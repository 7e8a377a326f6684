# One way to run each thing. `make help` says each in one line.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
NAME ?= tenantplane
E2E_NAME ?= tenantplane-test
ARGS ?=
export PYTHONUNBUFFERED := 1

.PHONY: help
help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install the environment into .venv (done by the others when it is missing or stale)
	@tools/setup.sh

.PHONY: demo dev
demo: setup ## The main job on embedded servers: two tenants, two answers, caps and refusals; exits 0
	@.venv/bin/tenantplane demo $(ARGS)
dev: setup ## The same, kept running; prints what to try
	@.venv/bin/tenantplane dev $(ARGS)

.PHONY: up down cluster-up cluster-down
up: setup ## The main job on a real Kubernetes API (kind, a kubeconfig of yours, or a bare node)
	@$(PY) -m tools.up --name $(NAME) $(ARGS)
down: cluster-down ## Take the cluster of `make up` away, with all that it left
cluster-up: setup ## A Kubernetes cluster alone
	@$(PY) -m tools.cluster up --name $(NAME) $(ARGS)
cluster-down: setup ## Remove that cluster: processes, networks, mounts and folders
	@$(PY) -m tools.cluster down --name $(NAME) $(ARGS)

.PHONY: test unit integration proofs soak mutants e2e lint format bench requirements faults crds docs lock
test: setup lint ## Lint, types, unit, integration and proofs on the embedded servers
	@$(PY) -m pytest -n 2 --dist loadgroup tests tools --ignore tests/e2e $(ARGS)
unit: setup ## Pure tests alone, in seconds
	@$(PY) -m pytest tests/unit tools $(ARGS)
integration: setup ## Tests on the embedded Postgres and Valkey alone
	@$(PY) -m pytest -n 2 --dist loadgroup tests/integration $(ARGS)
proofs: setup ## The proof suites (isolation, money); each ends with `proved N cases, V violations`
	@$(PY) -m pytest tests/proofs $(ARGS)
soak: setup ## The long forms of the proofs: a thousand schedules of kills
	@$(PY) -m pytest -n 2 --dist loadgroup tests/proofs/money --schedules 1000 $(ARGS)
mutants: setup ## Take each line of defence away, one at a time; prints killed of all (some 12 minutes)
	@$(PY) -m tools.mutants $(ARGS)
e2e: setup ## `make up`'s path with real pods, and tests against it
	@$(PY) -m pytest tests/e2e --cluster-name $(E2E_NAME) $(ARGS)
lint: setup ## ruff, mypy --strict, import contracts, generated files
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy .
	@.venv/bin/lint-imports --no-logo
	@$(PY) -m tenantplane.core.apis.crd --check crds charts/tenantplane-crds/templates
	@$(PY) -m tools.docs --check
	@$(PY) -m tools.sql_lint
format: setup ## Let ruff format and mend what it can
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .
bench: setup ## Measure; ARGS names the suite: make bench ARGS=smoke
	@$(PY) -m bench $(ARGS)
requirements: setup ## Table of requirements, the tests that prove each, and their last result
	@$(PY) -m tools.evidence requirements
faults: setup ## Table of faults, the tests that make each happen, and their last result
	@$(PY) -m tools.evidence faults
crds: setup ## Write crds/ from the models in core/apis
	@$(PY) -m tenantplane.core.apis.crd crds charts/tenantplane-crds/templates
docs: setup ## Write docs/configuration.md from the settings
	@$(PY) -m tools.docs
lock: setup ## Resolve the pins anew
	@tools/lock.sh
