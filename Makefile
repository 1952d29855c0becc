# `make` lists what there is. CARGO_FLAGS goes to every cargo command that builds:
# `make test CARGO_FLAGS=--release`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

CARGO ?= cargo
CARGO_FLAGS ?=

# Defects that are planted, to show that the tests would see them.
TEST_FEATURES := --features saga-testkit/planted-defects

# Starts the services (a no-op when they are up) and points the recipe at them.
with_services = scripts/services up; eval "$$(scripts/services env)"

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: check
check: fmt-check lint alerts doc build test ## Most of what CI checks; the rest is api-check, browser, e2e and bench-verify

.PHONY: test
test: ## All tests and doctests, against a real PostgreSQL and Kafka
	$(with_services); $(CARGO) test --workspace $(TEST_FEATURES) $(CARGO_FLAGS)

# More of what is done by chance, and longer outages, for `make test-long ROUNDS=20 OUTAGE=300`.
ROUNDS ?= 3
OUTAGE ?= 60

.PHONY: test-long
test-long: ## What takes longer: outages of OUTAGE=60 seconds, and ROUNDS=3 times as many crashes and kills, and 30 times as many seeds
	$(with_services); OUTAGE_SECONDS=$(OUTAGE) $(CARGO) test -p saga-kafka --test outage $(TEST_FEATURES) $(CARGO_FLAGS) -- --ignored --nocapture
	$(with_services); CRASH_ROUNDS=$(ROUNDS) $(CARGO) test -p saga-kafka --test crash_matrix $(TEST_FEATURES) $(CARGO_FLAGS) -- --nocapture
	$(with_services); $(CARGO) test -p saga-kafka --test processes $(TEST_FEATURES) $(CARGO_FLAGS) -- --ignored --nocapture one_saga
	$(CARGO) build -p examples --examples $(CARGO_FLAGS)
	$(with_services); E2E_ROUNDS=$$((6 * $(ROUNDS))) $(CARGO) test -p examples --test e2e $(CARGO_FLAGS) -- --nocapture
	PROOF_SEEDS=$$((100000 * $(ROUNDS))) $(CARGO) test --release -p saga-testkit --test proof $(TEST_FEATURES) $(CARGO_FLAGS) -- --nocapture by_chance
	MODEL_SIZE=1 $(CARGO) test --release -p saga-testkit --test models $(TEST_FEATURES) $(CARGO_FLAGS) -- --nocapture relay

.PHONY: up down status logs
up: ## The whole system without containers: PostgreSQL, Kafka and the four services; SCALE=2 starts two of each
	@scripts/system up

down: ## Stop it; the data stays
	@scripts/system down

status: ## What runs, and where it answers
	@scripts/system status

logs: ## Follow the logs of the services
	@scripts/system logs

.PHONY: seed
seed: ## Put the seed data into the databases of payments and inventory; what is there stays as it is
	$(with_services); for service in payments inventory; do \
	  DATABASE_URL=$$(scripts/services database $$service) RUST_LOG=warn \
	  $(CARGO) run --quiet -p examples --example $$service $(CARGO_FLAGS) -- --seed; done

# For `make load RATE=200 SECONDS=20`.
RATE ?= 500
SECONDS ?= 60

.PHONY: load
load: ## Drive the system that `make up` started: RATE=500 orders a second for SECONDS=60, a histogram, and with TABLE=1 the README's table
	$(CARGO) build --quiet --release -p examples --example load $(CARGO_FLAGS)
	@environment=$$(scripts/services env); eval "$$environment"; \
	  target/release/examples/load --rate $(RATE) --seconds $(SECONDS) --svg target/load.svg \
    $(if $(TABLE),--table examples/README.md) $$(scripts/system processes)

.PHONY: e2e
e2e: ## The long run: the example services with faults injected; RUNNING=1 takes those of `make up` or `docker compose up` as they are
ifdef RUNNING
	$(CARGO) test -p examples --test e2e $(CARGO_FLAGS) -- --nocapture --ignored
else
	$(CARGO) build -p examples --examples $(CARGO_FLAGS)
	$(with_services); $(CARGO) test -p examples --test e2e $(CARGO_FLAGS) -- --nocapture
endif

.PHONY: browser
browser: ## The pages at /docs in a headless Chromium, installed if it is missing: one places an order
	scripts/browser
	$(CARGO) test -p examples --test browser $(CARGO_FLAGS)

.PHONY: bench
bench: ## The figures of every target, as a table: floor and engine within one run
	$(CARGO) build --release -p benches --bins $(CARGO_FLAGS)
	$(with_services); $(CARGO) run --release -p benches --bin targets $(CARGO_FLAGS)

.PHONY: bench-criterion
bench-criterion: ## The parts one by one, in memory, on PostgreSQL and over Kafka; about 6 minutes
	$(with_services); $(CARGO) bench -p benches $(CARGO_FLAGS) -- --warm-up-time 1 --measurement-time 2

.PHONY: bench-instructions
bench-instructions: ## Instructions of decide and the codec, here and in another commit: BASE=COMMIT
	scripts/bench-instructions $(BASE)

.PHONY: bench-verify
bench-verify: ## Each bench once, and every mode of order-saga with few orders: is each effect there once?
	$(with_services); $(CARGO) test -p benches --benches $(CARGO_FLAGS)
	$(with_services); for where in local kafka; do for variant in A B C; do \
	  for how in "--handlers each" "--handlers batch" --floor; do \
	    echo "order-saga --participants $$where --variant $$variant $$how"; \
	    timeout 300 $(CARGO) run -q -p benches --bin order-saga $(CARGO_FLAGS) -- \
	      --n 500 --participants $$where --variant $$variant $$how; \
	  done; done; done
	$(with_services); for how in --backlog "--engines 2" "--engines 2 --kill"; do \
	  echo "order-saga --participants kafka $$how"; \
	  timeout 300 $(CARGO) run -q -p benches --bin order-saga $(CARGO_FLAGS) -- \
	    --n 500 --participants kafka $$how; done

.PHONY: fmt-check
fmt-check: ## Is everything formatted?
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Clippy; a warning is an error
	$(CARGO) clippy --workspace --all-targets --features benches/instructions $(TEST_FEATURES) $(CARGO_FLAGS) -- -D warnings
	$(CARGO) clippy -p examples --test e2e --test browser $(CARGO_FLAGS) -- -D warnings

.PHONY: alerts
alerts: ## Check the alert rules with Prometheus' promtool, fetched if it is missing
	scripts/promtool

.PHONY: api-check
api-check: ## Ask the services what their descriptions allow and do not, with Schemathesis; EXAMPLES=50
	CARGO_FLAGS="$(CARGO_FLAGS)" scripts/api-check

.PHONY: doc
doc: ## The API documentation; a warning is an error
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --workspace --no-deps $(CARGO_FLAGS)

.PHONY: build
build: ## Build the examples and benches
	$(CARGO) build --workspace --examples --benches --bins $(CARGO_FLAGS)

.PHONY: services
services: ## Start PostgreSQL and Kafka and print where they are
	@scripts/services up
	@scripts/services env

.PHONY: clean-services
clean-services: ## Stop PostgreSQL and Kafka and remove their data
	scripts/services down --wipe
