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

# The planning benchmark at two sizes.
bench:
    cargo build --release
    python3 bench/plan.py 1000 20000
