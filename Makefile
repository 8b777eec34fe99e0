# make alone says what there is. Two commands matter: make demo, and make test.

PREFIX     ?= /usr/local
DESTDIR    ?=
BINDIR     ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/libexec/nexus
# share/systemd/user is searched below /usr, /usr/local and ~/.local alike.
UNITDIR    ?= $(PREFIX)/share/systemd/user
DBUSDIR    ?= $(PREFIX)/share/dbus-1/services
# lib/systemd/catalog is searched below /usr and /usr/local.
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog

# What make demo runs and make install installs: release, or debug (which make test has built already).
PROFILE    ?= release

CARGO      ?= cargo
TARGET     := $(or $(CARGO_TARGET_DIR),target)
TRIPLE     := x86_64-unknown-linux-gnu
AGENT      := $(TARGET)/guest/$(TRIPLE)/release/guest-agent
PEER       := $(TARGET)/guest/$(TRIPLE)/release/nexus-bench-peer
BINARIES   := $(TARGET)/$(PROFILE)
# In debug mode everything at once, tests included: that is what make test builds, and what it leaves is used again.
BUILD_release := --release -p nexusd -p nexusctl -p nexus-host --bins
BUILD_debug   := --workspace --all-targets
# The daemon that tests break.
BUILD_failpoints := --workspace --features nexusd/failpoints --bin nexusd-failpoints
STEP       := tools/step

# The vsock device, cargo-deny and cargo-fuzz are put there by tools/vsock-device and tools/crate.
export PATH := $(CURDIR)/build/tools/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test build agent guest bench chaos fuzz lint fmt docs units install uninstall clean

help: ## this list
	@echo "Nexus gives every AI agent on this machine its own supervised microVM."
	@echo
	@echo "Start here:"
	@echo "  make demo       everything from nothing: packages, build, a VM, a command in it, crash and recovery"
	@echo "  make test       every check and every test, with real VMs"
	@echo
	@echo "All targets:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
		printf '  %-15s %s\n' "make $$name" "$$what"; done
	@echo
	@echo "KEEP=1 (demo) leaves the daemon and the VM running; PREFIX= and DESTDIR= (install) say where to."

demo: ## boot a VM and run a command in it; with KEEP=1 it stays
	@PROFILE=$(PROFILE) KEEP=$(KEEP) demo/run $(BINARIES)

build: agent ## the programs, in release mode; the guest agent as a static binary
	$(CARGO) build --locked $(BUILD_$(PROFILE))
	@tools/vsock-device

# With a target named, the flags are for the agent alone and not for build scripts and macros. The folder is its own, too:
# other flags in the same one would have everything compiled anew at each turn.
STATIC     := RUSTFLAGS='-C target-feature=+crt-static' \
	$(CARGO) build --locked --release --target $(TRIPLE) --target-dir $(TARGET)/guest

agent:
	$(STATIC) -p guest-agent

guest: agent
	@tools/guest $(AGENT)

test: ## all checks and all tests, with real VMs
	@rm -f build/steps
	@$(STEP) packages tools/packages test
# Where it can't be had, the tests that need it fail, and all others run.
	@-$(STEP) mcp-client tools/mcp-client
	@$(STEP) agent $(MAKE) --no-print-directory agent
	@$(STEP) guest tools/guest $(AGENT) test
	@$(MAKE) --no-print-directory lint docs units
	@$(STEP) build $(CARGO) build --locked $(BUILD_debug)
	@$(STEP) failpoints $(CARGO) build --locked $(BUILD_failpoints)
	@NEXUS_REQUIRE_ALL=1 $(STEP) tests tools/tests
	@$(STEP) fuzz tools/fuzz 60
	@echo "All checks and all tests passed."

bench: ## measure what docs/benchmarks.md claims, or ONLY="restart storm" of it; BENCH_QUICK=1 only shows that it can be
	@tools/packages bench
	@$(MAKE) --no-print-directory build guest BUILD_release='$(BUILD_release) -p nexus-benches'
	$(STATIC) -p nexus-bench-peer
	$(CARGO) build --locked --release -p nexusd --features nexusd/failpoints --bin nexusd-failpoints
	$(BINARIES)/nexus-bench --programs $(BINARIES) --agent $(AGENT) --peer $(PEER) --guest build/guest --report docs/benchmarks.md \
		$(ONLY:%=--only %)

chaos: ## random operations while things break; SEED=1 ROUNDS=100 LIVES=10 VMM=process|qemu SETTLE=2, STEADY=1 leaves nexusd alone
	@tools/packages test
	$(CARGO) build --locked $(BUILD_debug)
	$(CARGO) build --locked $(BUILD_failpoints)
	NEXUS_CHAOS_SEED=$(or $(SEED),1) NEXUS_CHAOS_ROUNDS=$(or $(ROUNDS),100) NEXUS_CHAOS_VMM=$(or $(VMM),process) \
		NEXUS_CHAOS_STEADY=$(or $(STEADY),0) NEXUS_CHAOS_LIVES=$(or $(LIVES),10) NEXUS_CHAOS_SETTLE_SEC=$(or $(SETTLE),2) \
		$(CARGO) test --locked --workspace --test chaos -- --nocapture --test-threads 1

fuzz: ## bytes that no honest guest sends, for whatever reads them on the host; SECONDS=60 for each, two at a time
	@tools/packages test
	tools/fuzz $(or $(SECONDS),60)

lint: ## formatting, clippy, licences and sources of crates, Rust version, shell scripts
	@$(STEP) fmt $(CARGO) fmt --all --check
	@$(STEP) fmt-fuzz $(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	@$(STEP) clippy tools/clippy
	@$(STEP) msrv tools/msrv
	@$(STEP) deny tools/deny
	@$(STEP) shellcheck shellcheck --external-sources $$(git ls-files tools demo .ci | xargs grep -l -e '^#!.*sh$$' -e '^# shellcheck shell=')

fmt: ## format the code
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

docs: ## the API documentation, in target/doc
	@RUSTDOCFLAGS='-D warnings' $(STEP) rustdoc $(CARGO) doc --quiet --locked --workspace --no-deps

units:
	@$(STEP) units tools/units

install: ## put what make build made below PREFIX (/usr/local)
	@test -x $(BINARIES)/nexusd -a -x $(AGENT) || { echo "Nothing to install yet: run make build first." >&2; exit 1; }
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(DBUSDIR) $(DESTDIR)$(CATALOGDIR)
	install -m 755 $(BINARIES)/nexusd $(BINARIES)/nexusctl $(DESTDIR)$(BINDIR)/
	install -m 755 $(BINARIES)/nexus-shim $(AGENT) $(DESTDIR)$(LIBEXECDIR)/
	install -m 755 build/tools/bin/vhost-device-vsock $(DESTDIR)$(LIBEXECDIR)/
	for file in systemd/user/nexus.service systemd/user/nexus.slice; do \
		sed 's|@bindir@|$(BINDIR)|g' dist/$$file | install -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/$${file##*/}; done
	sed 's|@bindir@|$(BINDIR)|g' dist/dbus-1/services/org.workfort.Nexus1.service | \
		install -m 644 /dev/stdin $(DESTDIR)$(DBUSDIR)/org.workfort.Nexus1.service
	install -m 644 dist/systemd/catalog/nexus.catalog $(DESTDIR)$(CATALOGDIR)/
	@echo "Installed. Go on with: systemctl --user daemon-reload && systemctl --user reload dbus &&"
	@echo "  systemctl --user start nexus && nexusctl status"
	@echo "For the explanations of journalctl -x, as root: journalctl --update-catalog"

uninstall: ## take away what make install put there
	rm -f $(DESTDIR)$(BINDIR)/nexusd $(DESTDIR)$(BINDIR)/nexusctl
	rm -rf $(DESTDIR)$(LIBEXECDIR)
	rm -f $(DESTDIR)$(UNITDIR)/nexus.service $(DESTDIR)$(UNITDIR)/nexus.slice
	rm -f $(DESTDIR)$(DBUSDIR)/org.workfort.Nexus1.service
	rm -f $(DESTDIR)$(CATALOGDIR)/nexus.catalog
	@echo "If the journal's catalogue was updated with Nexus' entries, again as root: journalctl --update-catalog"

clean: ## remove everything that was built or downloaded
	$(CARGO) clean
	rm -rf build
