# Every target works from a fresh Debian 12 with a Rust toolchain and nothing else; see docs/testing.md.
# What Debian packages are missing is installed first, by name and with sudo only when not root.

DEB_PROFILE ?= release

help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 20

demo: deps deb ## a gateway, a broker and the service: watch a remote reboot and two updates
	scripts/demo

demo-machine: deps-machine deb ## the same with an emulated machine: UEFI, GRUB, verity bundles (slow)
	scripts/demo --machine

check: deps ## the quick part of the tests: format, lints, unit and documentation tests
	scripts/stages check

test: deps-machine ## everything
	scripts/stages check deb machine simulation parts gateway

bench: deps ## speed and memory: a download beside curl, the journal beside journalctl, a storm of errors; by hand
	cargo bench --bench download --bench journal --bench storm

deb: deps ## the Debian package: build/iotdm-agent.deb
	scripts/deb $(DEB_PROFILE)

deps: ## install the Debian packages that building and testing need
	@scripts/deps

deps-machine: ## the same, and what the emulated machine needs
	@scripts/deps machine

clean: ## remove what was built (the cached Debian images stay)
	cargo clean
	rm -rf build

.PHONY: help demo demo-machine check test bench deb deps deps-machine clean
