# `make` lists the targets. Demo, tests and benches share one cargo profile and one target directory, so that
# RocksDB, which takes about 12 minutes on two cores, is compiled once.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The compiler's name stays the same with and without ccache: changing it would compile RocksDB again.
ifneq ($(wildcard /usr/lib/ccache),)
export PATH := /usr/lib/ccache:$(PATH)
endif

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo
MIN_RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: build ## Start a server, push two versions of a real disk, restore and verify them
	@tests/scripts/demo.sh $(TARGET_DIR)/release

.PHONY: test
test: build ## Run all tests but the long ones
	$(CARGO) test --release --workspace

.PHONY: test-long
test-long: build ## Run the long versions of the tests; goes on where it was stopped (ARGS=--again starts over)
	@tests/scripts/test-long.sh $(TARGET_DIR) $(ARGS)

.PHONY: test-planted
test-planted: setup ## Plant bugs in a copy of the tree, and demand that a test finds each (ARGS=NAME... for some)
	@tests/scripts/planted.sh $(TARGET_DIR) $(ARGS)

.PHONY: lint
lint: setup ## Check formatting and lints, as CI does
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- --deny warnings

.PHONY: bench
bench: build ## Compare real disks with restic, borg and casync (root; options: ARGS=--help)
	@bench/scenarios/run.py --programs $(TARGET_DIR)/release $(ARGS)

.PHONY: bench-parts
bench-parts: setup ## Measure chunking, trees, packs and the catalog
	$(CARGO) bench --workspace

.PHONY: build
build: setup ## Build imprint and imprint-server
	$(CARGO) build --release --workspace --bins

.PHONY: thin
thin: setup ## Build an imprint that only reaches servers, without RocksDB, for deployed machines
	$(CARGO) build --release --package imprint-client --no-default-features --target-dir $(TARGET_DIR)/thin

.PHONY: setup
setup: ## Install what is missing, and check the Rust version
	@tests/scripts/setup.sh "$(MIN_RUST)"

.PHONY: clean
clean: ## Remove everything that was built, RocksDB included
	$(CARGO) clean
