# Ackledger. `make help` lists every target.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}'

# The environment is made anew when the lock or this rule's inputs change; nothing else is needed first.
$(VENV)/.ready: requirements/dev.lock pyproject.toml
	@deploy/make-environment "$(PYTHON)" "$(VENV)" requirements/dev.lock
	@touch $@

.PHONY: setup
setup: $(VENV)/.ready ## Make the Python environment in .venv (the other targets do it by themselves)

.PHONY: run
run: setup ## Start everything (servers, one of each process); Ctrl-C stops it
	@exec $(BIN)/ackledger run

.PHONY: demo
demo: setup ## Move some thousands of transactions over HTTP and AMQP, then prove the books
	@exec $(BIN)/ackledger demo

# Programs of others have a folder of their own: none of them is ever beside the product.
AUDITORS := .local/auditors
$(AUDITORS)/.ready: $(VENV)/.ready requirements/audit.lock deploy/make-auditors
	@deploy/make-auditors "$(PYTHON)" $(BIN)/uv $(AUDITORS) requirements/audit.lock

.PHONY: audit
audit: setup $(AUDITORS)/.ready ## Have hledger, ledger and beancount recompute the books of the demo
	@exec $(BIN)/ackledger audit --auditors $(AUDITORS)

# BROKER=4.3 (or 4.0, 3.10) runs, tests, attacks or measures on a private RabbitMQ of that series,
# unpacked from the Debian release that carries it.
ifdef BROKER
BROKER_ROOT := .local/broker-$(BROKER)
run demo audit test test-long test-tools chaos bench: export ACKLEDGER_STACK_BROKER_ROOT := $(CURDIR)/$(BROKER_ROOT)
run demo audit test test-long test-tools chaos bench: $(BROKER_ROOT)/.ready
$(BROKER_ROOT)/.ready: deploy/make-broker
	@deploy/make-broker $(BROKER) $(BROKER_ROOT)
endif

# POSTGRES=system tests on the machine's own PostgreSQL instead of the wheel's.
ifdef POSTGRES
test test-long test-tools: export ACKLEDGER_STACK_POSTGRES := $(POSTGRES)
endif
# Much of the time goes into waiting for processes and servers. Three workers, each with a stack of
# its own, keep two cores busy. DEV=1 runs in Python's development mode, which also watches the event
# loop and takes a third longer. TOOLS=1 runs the tools' tests with them: so neither waits for the
# other's last file.
ifdef DEV
PYTEST := $(BIN)/python -X dev -m pytest
endif
WORKERS := 3*popen//python=$(BIN)/python$(if $(DEV), -X dev)
SPREAD := $(PYTEST) --tx "$(WORKERS)" --dist loadfile --no-loadscope-reorder
# A file's tests stay together, in their order, and the files go out in the order below: what takes
# longest first. A test marked `long` guards what seldom changes: before a release, and after a change
# of its subject.
NOT_HERE := tests/browser/ tests/samples/ tests/tools/ tests/__pycache__/
SUITE := $(filter-out $(NOT_HERE),$(sort $(wildcard tests/*/)))
.PHONY: test
test: setup ## Run the product's test suite on private stacks (POSTGRES=system, BROKER=4.3, TOOLS=1)
	$(SPREAD) -m "not long" $(if $(TOOLS),tests/tools) $(SUITE)

.PHONY: test-long
test-long: setup ## Run the tests that take long and guard what seldom changes
	$(SPREAD) -m long tests/tools $(SUITE)

# Needs Debian's packages chromium and npm; the driver has an environment of its own.
BROWSER_VENV := .local/browser-environment
AXE := .local/axe/package/axe.min.js
$(BROWSER_VENV)/.ready: requirements/browser.lock pyproject.toml
	@deploy/make-environment "$(PYTHON)" "$(BROWSER_VENV)" requirements/browser.lock
	@touch $@
$(AXE):
	@mkdir -p .local/axe && cd .local/axe && npm pack --silent axe-core@4.14.1 >/dev/null && tar xzf axe-core-*.tgz

.PHONY: test-browser
test-browser: $(BROWSER_VENV)/.ready $(AXE) ## Look at every page of the console in Chromium
	@test -x /usr/bin/chromium || { echo "chromium is not installed: apt-get install chromium" >&2; exit 2; }
	$(BROWSER_VENV)/bin/python -m pytest tests/browser

# Needs node, npm and javac; the libraries are unpacked under .local.
SAMPLES := .local/samples
$(SAMPLES)/.ready: deploy/make-samples
	@deploy/make-samples $(SAMPLES)

.PHONY: test-samples
test-samples: setup $(SAMPLES)/.ready ## Run the samples in JavaScript and Java, and the collection
	$(PYTEST) tests/samples

.PHONY: test-tools
test-tools: setup ## Run the tests of the stack, the demo, chaos and bench
	$(SPREAD) -m "not long" tests/tools

# The same SEED is the same shape and plan; without one it is chosen and printed. FAULTS=a,b picks
# some. CAMPAIGN=200 JOBS=4 runs so many seeds of SECONDS=30 each, goes on where it was interrupted,
# and writes its table into docs/reliability.md.
.PHONY: chaos
chaos: setup ## Attack a private system for MINUTES=10 with SEED=..., then prove every promise
	@exec $(BIN)/ackledger chaos $(if $(CAMPAIGN),--campaign $(CAMPAIGN) --jobs $(or $(JOBS),4) --seconds $(or $(SECONDS),30) --report docs/reliability.md,--minutes $(or $(MINUTES),10)) $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS))

# The rivals' libraries have an environment of their own: none of them is ever beside the product.
BENCH_VENV := .local/bench-environment
$(BENCH_VENV)/.ready: requirements/bench.lock pyproject.toml
	@deploy/make-environment "$(PYTHON)" "$(BENCH_VENV)" requirements/bench.lock
	@touch $@

# CASES=a,b picks some, RUNS=5 takes more samples; QUICK=1 only tries whether all of it works.
# POSTGRES=15 runs all on the installed 15, and leaves the page alone: its report stands beside ours.
BENCH_KEPT = $(if $(POSTGRES),--report docs/performance/report-postgresql-$(POSTGRES).json,--report docs/performance/report.json --page docs)
# BASE=<commit> measures that tree beside this one afterwards, in turns, for the same page (`compare`).
.PHONY: bench
bench: $(BENCH_VENV)/.ready ## Measure everything beside its rivals, and write docs/performance.md
	@exec $(BENCH_VENV)/bin/ackledger bench $(if $(CASES),--cases $(CASES)) $(if $(RUNS),--runs $(RUNS)) $(if $(POSTGRES),--postgres $(POSTGRES)) $(if $(QUICK),--quick,$(BENCH_KEPT))
	@$(if $(BASE),$(MAKE) --no-print-directory compare CASES= KEPT=docs)

# MESSAGES over AMQP, EXAMPLES of each operation over HTTP.
.PHONY: hostile
hostile: setup ## Send a private system what no contract knows, over both doors, and prove it unharmed
	@$(BIN)/python -m tools.hostile --messages $(or $(MESSAGES),20000) --examples $(or $(EXAMPLES),60)

.PHONY: restore-drill
restore-drill: setup ## Destroy a private PostgreSQL and restore it: TRANSACTIONS=100000, DISASTERS=2
	@$(BIN)/python -m tools.restore_drill --transactions $(or $(TRANSACTIONS),100000) --disasters $(or $(DISASTERS),2)

# READERS=5000 follow one ingress; ROUNDS=3 drains with the log of events and without it.
.PHONY: bench-events
bench-events: setup ## Measure what the log of events and those who follow it cost
	@exec $(BIN)/python -m tools.bench.following $(or $(READERS),5000) $(or $(ROUNDS),3)

# Lays a book of TRANSACTIONS=10000000 once (12 minutes), then asks for each page ROUNDS=50 times.
.PHONY: bench-console
bench-console: setup ## Measure every page of the console over a long history
	@exec $(BIN)/python -m tools.bench.console_pages $(or $(TRANSACTIONS),10000000) $(or $(ROUNDS),50)

# 1,000 programs log in, with 100,000 accounts, while others submit; ROUNDS=5.
.PHONY: bench-logins
bench-logins: setup ## Measure what logins cost those who submit
	@exec $(BIN)/python -m tools.bench.logins --rounds $(or $(ROUNDS),5)

# PART=metrics, tracing or rules; TRANSACTIONS=10000 over HTTP, ROUNDS=5, in turns without that part.
.PHONY: bench-overheads
bench-overheads: setup ## Measure what metrics, tracing or rules cost: PART=metrics
	@exec $(BIN)/python -m tools.bench.overheads $(or $(PART),metrics) --rounds $(or $(ROUNDS),5) --transactions $(or $(TRANSACTIONS),10000)

# BASE=<commit> is the release that runs before; the default is the last one whose transactions were
# plain moves alone.
.PHONY: migrate-proof
migrate-proof: BASE ?= 275fbb1
migrate-proof: setup ## Upgrade a book of TRANSACTIONS=2000000 from BASE=<commit> under traffic
	@test -d .local/base-$(BASE) || git worktree add --quiet --detach .local/base-$(BASE) $(BASE)
	@$(MAKE) --quiet -C .local/base-$(BASE) setup PYTHON="$(PYTHON)"
	@$(BIN)/python -m tools.upgrade .local/base-$(BASE) --transactions $(or $(TRANSACTIONS),2000000)

# The other checkout is made under .local, with its own environment. Needs wrk for the part over HTTP.
# CASES="drain latency" compares only some. KEPT=docs keeps the samples there, and writes their table
# into performance.md.
.PHONY: compare
compare: setup ## Measure this tree and BASE=<commit> in turns, ROUNDS=3, and print their ratios
	@test -n "$(BASE)" || { echo "BASE=<commit> is missing" >&2; exit 2; }
	@test -d .local/base-$(BASE) || git worktree add --quiet --detach .local/base-$(BASE) $(BASE)
	@$(MAKE) --quiet -C .local/base-$(BASE) setup PYTHON="$(PYTHON)"
	@$(BIN)/python -m tools.bench.trees .local/base-$(BASE) --rounds $(or $(ROUNDS),$(RUNS),3) $(if $(CASES),--cases $(CASES)) $(if $(KEPT),--report $(KEPT)/performance/beside-$(BASE).json --page $(KEPT))

# PROMTOOL=/usr/bin/promtool takes another than Debian's, which is unpacked under .local.
PROMETHEUS := .local/prometheus
PROMTOOL ?= $(PROMETHEUS)/usr/bin/promtool
$(PROMETHEUS)/usr/bin/promtool:
	@deploy/make-prometheus $(PROMETHEUS)

OBSERVERS := .local/observers
$(OBSERVERS)/.ready: deploy/make-prometheus
	@deploy/make-prometheus $(OBSERVERS) prometheus-alertmanager prometheus-node-exporter prometheus-postgres-exporter

# PICTURES=docs/images draws the dashboards there; else they are drawn under .local/observability.
.PHONY: test-observability
test-observability: setup $(OBSERVERS)/.ready ## Ask a real Prometheus whether every panel and alert is alive
	@$(BIN)/python -m tools.observability $(OBSERVERS) $(if $(PICTURES),--pictures $(PICTURES))

.PHONY: check-alerts
check-alerts: $(PROMTOOL) ## Check Prometheus's rules, and that each alert fires when it should
	$(PROMTOOL) check config deploy/prometheus/prometheus.yml
	$(PROMTOOL) test rules deploy/prometheus/tests/alerts.yml

.PHONY: check
check: setup check-alerts ## Everything that needs no server: lint, types, layers, documents, alerts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.documents --check
	$(BIN)/squawk migrations/*.sql
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

.PHONY: check-dependencies
check-dependencies: setup ## Ask PyPI whether a pinned dependency has a known weakness
	$(BIN)/pip-audit --disable-pip --requirement requirements/production.lock

.PHONY: format
format: setup ## Format the code and mend what the linter can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: documents
documents: setup ## Generate OpenAPI, AsyncAPI, the collection and the pages anew
	$(BIN)/python -m tools.documents

.PHONY: lock
lock: setup ## Resolve the dependencies anew into requirements/*.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra dev --output-file requirements/dev.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements/production.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra bench --constraint requirements/dev.lock --output-file requirements/bench.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra browser --constraint requirements/dev.lock --output-file requirements/browser.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --output-file requirements/audit.lock requirements/audit.in

.PHONY: clean
clean: ## Remove the environment, the private servers' data and all caches
	@if [ -x $(BIN)/ackledger ]; then $(BIN)/ackledger stack down; fi
	rm -rf $(VENV) .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
