# What CI does, and each part of it alone. `make ci` before you push.

.PHONY: ci format lints house build test report

ci: format lints house build test report

format:
	cargo fmt --all --check

lints:
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Dependencies point one way, and what a package must not know is not in its tree.
house:
	bench/check-house

build:
	cargo build --locked --release --workspace

test:
	cargo test --locked --release --workspace

# The report page, in a real browser: needs chromium and python3.
report: build
	bench/check-report
