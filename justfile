# What CI runs, piece by piece. `just` alone lists the recipes.

default:
    @just --list

# Everything that CI checks.
check:
    .ci/run

# All tests.
test:
    cargo test --workspace

# Format, lints and docs.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

# Write down the public APIs of the libraries anew, after a change that is meant.
api:
    cargo run -p pivot-tests --features public-api --bin public-api -- --update

# The benchmarks beside other programs, and those of single functions.
bench:
    cargo build --release -p pivot-cli
    cargo build --release -p pivot-cache --example store
    python3 bench/compare.py
    cargo bench -p pivot-dag -p pivot-lock -p pivot-fingerprint -p pivot-cache -p pivot-exec --benches

# The benchmarks in small, to see that they work.
bench-smoke:
    .ci/bench_smoke
