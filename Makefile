# SPDX-License-Identifier: Apache-2.0
# `make up` starts Holdfast, `make test` tests it; both install what they need on Debian 12.

PY := .venv/bin/python
PACKAGES := audit bench config console escrow holdfast hsm kernel keys operators recovery tenants tests
# The settings of development are named here and nowhere else: manage.py has no default that somebody could meet on a server.
DEVELOPMENT := DJANGO_SETTINGS_MODULE=config.settings.development
# Tests side by side: a process for each core and one more, since half of a test's time is waiting for the processes that
# it started, and no more than five; a file's tests stay together.
SIDE_BY_SIDE = -n $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 5))) --dist loadfile --no-loadscope-reorder

.PHONY: help up demo members totp test quick web lint types contracts check docs manual openapi audit seeds bench soak pictures requirements

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

up: ## Install what is missing and start Holdfast at http://127.0.0.1:8000
	@./deploy/install.sh run
	@exec env $(DEVELOPMENT) $(PY) manage.py up

demo: ## Walk the main job against the running server, in a second terminal
	@./deploy/install.sh run
	@exec env $(DEVELOPMENT) $(PY) -m tests.journeys.demo

members: ## Give the demo's alice and bob a fresh start, with enrolment codes in var/demo/codes
	@rm -f "$${HOLDFAST_STATE_DIR:-var}/demo/codes/alice.code" "$${HOLDFAST_STATE_DIR:-var}/demo/codes/bob.code"
	@$(DEVELOPMENT) HOLDFAST_ROLE=ceremony $(PY) manage.py demo --members-only

totp: ## Print the code that a demo person's authenticator shows now: WHO=olivia@acme.test
	@$(DEVELOPMENT) $(PY) manage.py totp "$(WHO)"

test: ## Install what is missing and run the tests: all on SQLite, and on PostgreSQL what a database decides
	@./deploy/install.sh test
	@$(PY) -m compileall -q $(PACKAGES)
	$(PY) -m pytest -q $(SIDE_BY_SIDE)
	$(PY) -m tests.cast.postgres --unsynced $(PY) -m pytest -q $(SIDE_BY_SIDE)

quick: ## The core's tests, and those of the folders that a branch has changed, in under two minutes
	@$(PY) -m compileall -q $(PACKAGES)
	$(PY) -m tests.quick

web: ## Build the TypeScript SDK: web/dist, and web/sdk/api.txt with what it exports
	@./deploy/install.sh test
	@$(PY) -m tests.cast.node run bundle
	@$(PY) -m tests.cast.node run report

lint: ## Style, as ruff sees it
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: ## Types, as mypy --strict sees them
	$(PY) -m mypy .

contracts: ## The arrows between the packages
	.venv/bin/lint-imports

check: ## Migrations are made, production settings are safe
	$(PY) -m tests.checks

docs: ## The API reference from the docstrings, into build/docs
	$(PY) docs/reference.py

manual: ## Write docs/cli.md and the man page from the help of the command
	$(PY) docs/manual.py

openapi: ## The OpenAPI document can be made without a warning
	DJANGO_SETTINGS_MODULE=config.settings.test $(PY) manage.py spectacular --validate --fail-on-warn --format openapi-json --file /dev/null

audit: ## No pinned dependency has a known advisory; says aloud when that could not be asked
	$(PY) -m tests.advisories

seeds: ## Break the code on purpose, fault by fault, and see the named test catch it
	@./deploy/install.sh test
	$(PY) -m tests.faults.seeds

bench: ## Measure, each figure beside its floor or peer: PART=<names>, ARGS=--no-goals; PART=page writes docs/performance.md
	@./deploy/install.sh test
	$(PY) -m tests.cast.postgres $(PY) -m bench $(PART) $(ARGS)

soak: ## The longer storms: PART=<name>, at most an hour each and resumed where it ended; without PART the list
	@./deploy/install.sh test
	@$(PY) -m tests.soak $(PART)

pictures: ## Make the pictures of the documentation anew, from a console with something on every page
	@./deploy/install.sh test
	HOLDFAST_DOCS_PICTURES=1 $(PY) -m pytest -q tests/browser/test_pictures.py

requirements: ## Pin the requirements again, with hashes
	$(PY) -m uv pip compile -q --python-version 3.11.2 --generate-hashes --no-emit-index-url --no-header --extra server pyproject.toml -o requirements.txt
	$(PY) -m uv pip compile -q --python-version 3.11.2 --generate-hashes --no-emit-index-url --no-header --extra server --extra dev pyproject.toml -o requirements-dev.txt
