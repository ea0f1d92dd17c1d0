# make test is the command of the README: it installs what the tests need, then
# runs all of them under the race detector.

GO        ?= go
LINT      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME  ?= 60s
TESTFLAGS ?=

.PHONY: build test short lint fuzz fleet bench servers clean

build:
	$(GO) build -trimpath -o bin/oncemq ./cmd/oncemq

# Real servers are required here; go test ./... alone skips what they are
# missing for, and says so.
test: servers
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	ONCEMQ_REQUIRE_SERVERS=1 $(GO) test -race -shuffle=on -timeout 20m $(TESTFLAGS) ./...

short:
	$(GO) test ./...

lint:
	$(GO) run $(LINT) run ./...

# Every fuzz target for FUZZTIME; new inputs land in testdata/fuzz.
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

bench: servers
	cd bench && $(GO) build -o ../bin/bench . && for b in publish consume enqueue backlog outbox ingest claims; do ../bin/bench $$b; done

# mosquitto, PostgreSQL, Redis and PgBouncer, those that are missing, from
# Debian's packages where apt is at hand.
servers:
	@scripts/install-servers

clean:
	rm -rf bin
