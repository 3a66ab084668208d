# The console's commands. `make demo` and `make test` set themselves up on a fresh machine.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo run test check bench-scan bench-rematch bench-sync lock secrets runtime development

PYTHON ?= python3
export PYTHON
BIN := .venv/bin
# Many tests wait for processes and servers: twice as many run at once as there are processors.
WORKERS ?= $$(( $$(nproc) * 2 ))
# pytest's own options, as in: make test T="tests/test_text.py -n 0"
T ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  TCSS_PORT (8000), TCSS_DATA_DIR (.data) and TCSS_ADMIN_PASSWORD may be set; .env.example has the rest."

demo: runtime ## The console with demo registries, their images synced and scanned
	@exec $(BIN)/python -m tcss.embedded demo

run: runtime ## The console, empty
	@exec $(BIN)/python -m tcss.embedded run

test: development ## Every check, then every test
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 15 $(T)

check: development ## Style, types, import contracts, templates, migrations, deployment
	@sh tcss/embedded/check

bench-rematch: development ## A new vulnerability database for 10,000 images beside `trivy sbom` in a loop
	$(BIN)/python -m bench.rematch $(ARGS)

bench-sync: development ## A data update of 100,000 images beside a bare client (ARGS="--only harbor2 --projects 4")
	$(BIN)/python -m bench.sync $(ARGS)

bench-scan: development ## Scans of 24 images beside `trivy image` and `clamscan` in a loop (ARGS="--applications 1")
	$(BIN)/python -m bench.scan $(ARGS)

lock: ## Resolve the dependencies into the two lock files (UPGRADE=1: newest versions)
	@sh tcss/embedded/lock $(if $(UPGRADE),--upgrade)

secrets: ## The secret files docker-compose.yml reads
	@sh tcss/embedded/compose-secrets

runtime:
	@sh tcss/embedded/bootstrap runtime

development:
	@sh tcss/embedded/bootstrap development
