# What CI does, and each part of it alone. `make ci` before you push.

.PHONY: profile-chrome profile-flamegraph profile-nsys ci format lints house docs supply unsafe corpus audit-gpu-syncs cuda-check cuda-stand-in profiling build test report page page-served check-targets test-neon soak clients fuzz

ci: format lints house docs supply unsafe corpus audit-gpu-syncs cuda-check profiling build test report

format:
	cargo fmt --all --check

lints:
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Dependencies point one way, and what a package must not know is not in its tree.
house:
	bench/check-house

# What the pages name is there, and the map has every room and is not too long.
docs:
	bench/check-docs

# Licences, sources, duplicates: what deny.toml allows, offline. Advisories where `cargo deny` is there.
supply:
	bench/check-supply

# The files with unsafe code are those that are known to have some.
unsafe:
	bench/check-unsafe

# The malformed checkpoints are what their script makes.
corpus:
	made=$$(mktemp -d) && python3 engine/tests/corpus/make.py "$$made" && \
	diff -r --exclude=make.py --exclude=corpus.rs engine/tests/corpus "$$made" && rm -r "$$made"

# Places in the source that wait for the device; each says so or says when, and there are this many.
audit-gpu-syncs:
	bench/audit-gpu-syncs --check 24

# The feature `cuda` compiles without a warning, on a machine without CUDA: the kernels are empty.
cuda-check:
	MODE=check bench/cuda-stand-in/with cargo clippy --locked --workspace --all-targets --features cli/cuda,bench/cuda -- -D warnings

# The tests of the feature `cuda`, on a stand-in for a device that measures nothing (bench/cuda-stand-in).
cuda-stand-in:
	bench/cuda-stand-in/with cargo test --locked --release --workspace --features cli/cuda,bench/cuda --test cuda_device --test cuda --test ring
	bench/cuda-stand-in/with cargo test --locked --release --workspace --features cli/cuda,bench/cuda --test cli -- on_a_device

# The feature `profiling`: compiles without a warning, and its spans are as documented. Leaves its
# binary in target/release/engine until the next build, so `ci` builds after it.
profiling:
	cargo clippy --locked --workspace --all-targets --features cli/profiling,bench/profiling -- -D warnings
	cargo test --locked --release --workspace --features cli/profiling --test spans

build:
	cargo build --locked --release --workspace

test:
	cargo test --locked --release --workspace

# The report page, in a real browser: needs chromium and python3.
report: build
	bench/check-report

# The page of the server, in a real browser beside a stand-in for the server: the same needs, no build.
page:
	bench/check-page

# What of it any server can show, with the built one.
page-served: build
	bench/check-page --engine target/release/engine

# A run, to look at: `make profile-chrome MODEL_DIR=models/bench-1.3b`. PROFILE_DIR is where its
# files go, PROFILE_FLAGS are flags of `engine generate`, or of `engine speak` for a model that speaks,
# in place of a short prompt and 32 tokens.
PROFILE_DIR = target/profile
PROFILE_FLAGS =
profile-chrome profile-flamegraph profile-nsys:
	@bench/profile $@ "$(MODEL_DIR)" "$(PROFILE_DIR)" $(PROFILE_FLAGS)

# The same work over and over, at full length (some 20 minutes); `test` has a short version.
soak:
	SOAK=full cargo test --locked --release --workspace --test soak --test cli -- soak_ --nocapture

# Clients that no one here wrote, against the built server (bench/clients): the first time installs
# them, which needs the registries of Python and npm.
clients: build
	bench/clients/run

# Checks the code for the systems that CI does not run on: no C compiler for them is needed, but two
# minutes each.
# Needs their standard libraries: rustup target add $(OTHER_TARGETS)
OTHER_TARGETS = aarch64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-msvc
check-targets:
	for target in $(OTHER_TARGETS); do \
		cargo check --locked --workspace --target $$target --target-dir target/check || exit 1; \
	done

# The kernels' tests on an emulated ARM processor: needs qemu-user and gcc-aarch64-linux-gnu.
test-neon:
	bench/test-neon

# Looks for files that make the program panic, hang or take memory: ten minutes a target.
fuzz:
	fuzz/run all 600
