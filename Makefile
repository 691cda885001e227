# The one place that says how each check is run; .ci/run calls these targets.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0
BENCHSTAT   = golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
FUZZTIME   ?= 8s
PLATFORMS   = linux/arm linux/arm64 linux/386 linux/mipsle linux/riscv64 windows/amd64 darwin/arm64

.PHONY: help
help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

.PHONY: test
test: ## what the README promises: go test ./...
	go test ./...

.PHONY: race
race: ## all tests with the race detector, in random order
	go test -race -shuffle=on ./...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not gofmt'ed: $$files"; exit 1; }
	go vet ./...
	go -C cmd/bench vet ./...
	go -C cmd/bench vet -tags peers ./...
	go run $(STATICCHECK) ./...
	cd cmd/bench && go run $(STATICCHECK) -tags peers ./...
	go -C store/postgres vet ./...
	cd store/postgres && go run $(STATICCHECK) ./...

.PHONY: test-postgres
test-postgres: ## the PostgreSQL store, on a server of its own: a minute or two; fails without one
	GOUTBOX_POSTGRES_REQUIRED=1 go -C store/postgres test ./...

.PHONY: race-postgres
race-postgres: ## the same with the race detector
	GOUTBOX_POSTGRES_REQUIRED=1 go -C store/postgres test -race -shuffle=on ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (8s); go's fuzzer at times calls its own end a failure (golang/go#75804)
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "fuzz $$target $$pkg"; \
			out=$$(go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg 2>&1) || case $$out in \
				*"Failing input"*) echo "$$out"; exit 1;; \
				*"context deadline exceeded"*) ;; \
				*) echo "$$out"; exit 1;; \
			esac; \
		done; \
	done

.PHONY: cross
cross: ## build for every platform we promise, without cgo
	@set -e; for p in $(PLATFORMS); do \
		echo "build $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go build ./...; \
	done; \
	for p in linux/386 windows/amd64 darwin/arm64; do \
		echo "vet $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} go vet ./outbox ./wal ./store/...; \
	done

.PHONY: small
small: ## the tests of log and store as a 32-bit program, but those that end processes
	@if [ "$$(go env GOHOSTOS)/$$(go env GOHOSTARCH)" = linux/amd64 ]; then \
		CGO_ENABLED=0 GOARCH=386 go test -skip 'PowerCut|Kill' ./wal ./store/...; \
	else echo "not run: needs linux/amd64"; fi

.PHONY: cpus
cpus: ## the tests of the core on 1, 2 and 4 processors
	go test -cpu 1,2,4 ./outbox ./wal ./store/mem

.PHONY: examples
examples: ## run the examples as a user would
	go run ./examples/quickstart
	go run ./examples/transaction
	go run ./examples/cli
	go run ./examples/webhook
	go run ./examples/edge-gateway

.PHONY: bench
bench: ## the benchmark harness, under a minute
	go -C cmd/bench run .

.PHONY: bench-peers
bench-peers: ## the same with the queues, logs and databases of others in the same run: some ten minutes
	go -C cmd/bench run -tags peers . -peers all

REF        ?= HEAD
BENCHCOUNT ?= 6
BENCHFLAGS ?= -workloads enqueue,batch,pipeline,drain
BENCHUNITS  = events_per_second OR call_p99 OR disk_bytes_per_event OR allocs_per_event OR cpu_per_event

.PHONY: bench-compare
bench-compare: ## benchstat: this tree against the commit REF (HEAD), in turns, by this tree's harness
	@set -e; tmp=$$(mktemp -d); trap 'git worktree remove --force $$tmp/tree; rm -rf $$tmp' EXIT; \
	git worktree add --quiet --detach $$tmp/tree $(REF); \
	cp cmd/bench/go.mod cmd/bench/go.sum $$tmp/; \
	go mod edit -replace github.com/goutbox/goutbox=$$tmp/tree -replace github.com/goutbox/goutbox/store/postgres=$$tmp/tree/store/postgres $$tmp/go.mod; \
	go -C cmd/bench build -modfile $$tmp/go.mod -o $$tmp/before .; \
	go -C cmd/bench build -o $$tmp/after .; \
	for i in $$(seq $(BENCHCOUNT)); do for one in before after; do \
		$$tmp/$$one -o bench -rounds 1 $(BENCHFLAGS) >>$$tmp/$$one.txt; \
	done; done; \
	go run $(BENCHSTAT) -ignore folder,note -filter '.unit:($(BENCHUNITS))' before=$$tmp/before.txt after=$$tmp/after.txt

.PHONY: bench-smoke
bench-smoke: ## the harness' own tests: every workload on every store and peer for a moment
	go -C cmd/bench test -tags peers ./...

.PHONY: micro
micro: ## benchmarks beside the code
	go test -run '^$$' -bench . -benchmem ./wal ./outbox ./store/bolt

.PHONY: torture
torture: ## the long forms of all tests: thousands of power cuts, hundreds of kills and random lives
	GOUTBOX_TORTURE=1 go test -count 3 -timeout 2h ./wal/... ./store/...
	GOUTBOX_TORTURE=1 GOUTBOX_POSTGRES_REQUIRED=1 go -C store/postgres test -timeout 1h ./...
