# Each target makes its own environment. Needs Python 3.11 or later and nothing else.

PYTHON ?= python3
export IMAGES ?=
export EMAIL
JSON ?=
OUT ?= demo-output
API_PORT ?= 8000
CLOUD_PORT ?= 4566
SEED ?= 1
STAGE ?= dev

PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help
.PHONY: help demo run deploy test chaos check lint fix clean screenshots schemas bench-imaging

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/local ## pictures through the whole pipeline (IMAGES="…" JSON=file OUT=folder)
	@$(PY) -m localcloud demo $(if $(JSON),--json "$(JSON)") --out "$(OUT)"

run: .venv/local ## the cloud with the API, until Ctrl-C (API_PORT=… CLOUD_PORT=… API_AUTH=none|key|iam|cognito MODERATION_RULES=file)
	@$(PY) -m localcloud run --api-port $(API_PORT) --cloud-port $(CLOUD_PORT)

deploy: .venv-deploy/done ## a stage onto AWS, or up to date there (STAGE=dev EMAIL=… PYTHON=python3.13)
	@.venv-deploy/bin/python -m infrastructure deploy --stage "$(STAGE)" $(if $(filter command line,$(origin EMAIL)),--email "$$EMAIL")

test: .venv/dev ## all tests, with branch coverage
	@# By file, since the tests of a file share what they start, and slow files first, as they stand.
	@$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered --cov-fail-under=97

chaos: .venv/dev ## a thousand schedules of faults, and a burst with workers killed (SEED=…)
	@$(PY) -m tests.chaos --seed $(SEED)

check: lint test ## all that CI asks for

lint: .venv/dev .venv-checkov/done ## formatter, linters, types, layers, templates
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/cfn-lint infrastructure/*.yaml
	@# Checkov does not see what is in a loop, so it gets templates with their loops written out.
	@rm -rf .venv-checkov/templates && mkdir .venv-checkov/templates
	@for template in infrastructure/*.yaml; do \
		$(PY) -m tests.template $$template > .venv-checkov/templates/$$(basename $$template .yaml).json || exit; \
	done
	.venv-checkov/bin/checkov --config-file .checkov.yaml

fix: .venv/dev ## what the formatter and the linter can mend by themselves
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

screenshots: .venv/dev ## the pictures of the README: docs/images
	@$(PY) -m tests.browser.screenshots

schemas: .venv/dev ## the JSON Schema of events: docs/events
	@$(PY) -m tests.schemas

bench-imaging: .venv/dev ## the imaging step beside its peers
	$(PY) -m benchmarks.imaging

clean: ## forget the local cloud's state and all output
	rm -rf .localcloud demo-output .bench .chalice/deployments
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv-deploy/done: requirements.txt requirements-infrastructure.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { echo "$$($(PYTHON) --version) is too old to deploy: Lambda needs 3.12 or later; name one: make deploy PYTHON=python3.13 …" >&2; exit 1; }
	@test -x .venv-deploy/bin/python || $(PYTHON) -m venv .venv-deploy
	@echo "Installing requirements-infrastructure.txt into .venv-deploy …"
	@.venv-deploy/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-infrastructure.txt && touch $@

.venv/local: requirements.txt requirements-local.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or later, or name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: 3.11 or later is needed; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make environments: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Installing requirements-local.txt into .venv …"
	@$(PIP) -r requirements-local.txt && touch $@

.venv/dev: .venv/local requirements-dev.txt requirements-infrastructure.txt
	@echo "Installing requirements-dev.txt into .venv …"
	@$(PIP) -r requirements-dev.txt && touch $@

.venv-checkov/done: .venv/local requirements-checkov.txt
	@echo "Installing requirements-checkov.txt into .venv-checkov …"
	@test -x .venv-checkov/bin/python || $(PYTHON) -m venv .venv-checkov
	@.venv-checkov/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-checkov.txt && touch $@
