# make test is the command of the README: it installs what the tests need, then
# runs all of them under the race detector.

GO        ?= go
LINT      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME  ?= 60s
TESTFLAGS ?=

DURATION  ?= 1h
SEED      ?=
STORE     ?=
RATE      ?= 300
SCALE     ?= 1

.PHONY: build man test docs short lint fuzz fleet chaos scenarios soak bench servers clean

build:
	$(GO) build -trimpath -o bin/oncemq ./cmd/oncemq

# The manual pages of all commands, into man.
man: build
	bin/oncemq man --dir man

# Real servers are required here; go test ./... alone skips what they are
# missing for, and says so.
test: servers
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	ONCEMQ_REQUIRE_SERVERS=1 $(GO) test -race -shuffle=on -timeout 20m $(TESTFLAGS) ./...

# Every command of the documentation and of the helps, as it is written, and the tests
# that its tables name: an hour or so. make test runs what takes a few seconds.
docs: servers
	ONCEMQ_REQUIRE_SERVERS=1 ONCEMQ_DOCS=all $(GO) test -count=1 -timeout 0 -v -run 'TestDocs' ./cmd/oncemq

short:
	$(GO) test ./...

lint:
	$(GO) run $(LINT) run ./...

# Every fuzz target for FUZZTIME. What makes one fail lands in its testdata/fuzz, to be
# committed with the repair; what only reaches new code stays in go's build cache.
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

# Processes on one store, killed, stopped and continued at random: what the README
# says of it, in full. make test runs a shorter one.
fleet: servers
	ONCEMQ_REQUIRE_SERVERS=1 ONCEMQ_FLEET_MESSAGES=100000 $(GO) test -count=1 -timeout 30m -v -p 1 -parallel 1 -run 'Test(Postgres|Redis)$$' ./internal/fleet

# All faults on the three stores at once: more than 250,000 messages and 200 faults
# in a few minutes; then all scenarios of oncemq chaos, in short. The lines that begin
# with RESULT say what came of it.
chaos: servers
	ONCEMQ_REQUIRE_SERVERS=1 ONCEMQ_CHAOS_MESSAGES=84000 ONCEMQ_CHAOS_FAULTS=70 ONCEMQ_CHAOS_RATE=1100 \
	  ONCEMQ_CHAOS_SEED=$(SEED) ONCEMQ_CHAOS_STORE=$(STORE) \
	  $(GO) test -count=1 -timeout 15m -v -parallel 3 -run 'TestChaos$$' ./internal/chaos
	$(MAKE) scenarios SCALE=0.2

# oncemq chaos run all on each of the three stores, through the embedded broker and
# through mosquitto, all at once: nothing is lost, nothing doubled; then it is with
# --sabotage. It takes two and a half minutes, or less with a smaller SCALE.
scenarios: servers
	ONCEMQ_REQUIRE_SERVERS=1 ONCEMQ_SCENARIOS_SCALE=$(SCALE) \
	  $(GO) test -count=1 -timeout 15m -v -parallel 8 -run 'TestScenarios' ./cmd/oncemq

# The same for DURATION on each store, one after another, or on STORE (sqlite,
# postgres or redis) alone, RATE messages a second; as long again on PostgreSQL and on
# Redis while they fail over; then a hundred ends under load and a hundred returns of
# the broker. SEED repeats a run.
soak: servers
	ONCEMQ_REQUIRE_SERVERS=1 ONCEMQ_CHAOS_DURATION=$(DURATION) ONCEMQ_CHAOS_SEED=$(SEED) ONCEMQ_CHAOS_STORE=$(STORE) \
	  ONCEMQ_CHAOS_RATE=$(RATE) ONCEMQ_SIGTERM_ROUNDS=100 ONCEMQ_RECOVERY_ROUNDS=100 \
	  $(GO) test -count=1 -timeout 0 -v -parallel 1 -run 'Test(Chaos|ChaosFailover|Sigterm|Recovery)$$' ./internal/chaos

bench: servers
	cd bench && $(GO) build -o ../bin/bench . && for b in publish consume enqueue backlog outbox ingest claims; do ../bin/bench $$b; done

# mosquitto, PostgreSQL, Redis, PgBouncer, zsh and fish, those that are missing,
# from Debian's packages where apt is at hand.
servers:
	@scripts/install-servers

clean:
	rm -rf bin man
