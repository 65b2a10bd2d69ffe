# SPDX-License-Identifier: GPL-2.0
#
# The entry points of the build. 'make help' lists them; Kbuild has the modules' own rules.
#
# The first use of a target sets up what it needs: scripts/lab builds the program tools/lab with the machine's own cargo, and
# lab does the rest. With KDIR set, the modules are built against that prepared kernel with the caller's own tools, and
# nothing is set up.

MAKEFLAGS += --no-print-directory
# Each target uses all processors.
.NOTPARALLEL:

CARGO ?= cargo
cargo := $(CARGO) --locked
cargo_jobs := $(addprefix -j,$(shell nproc))

# The directory of static programs for the virtual machines.
programs := $(CURDIR)/target/static
programs_target := x86_64-unknown-linux-gnu

# Options that are passed on to the kernel's build. The first line's are taken from the command line only, as the kernel does.
kernel_options = $(foreach option,V W C CLIPPY,$(if $(filter command%,$(origin $(option))),$(option)='$($(option))')) \
	$(foreach option,KCFLAGS KRUSTFLAGS INSTALL_MOD_PATH INSTALL_MOD_STRIP,$(if $($(option)),$(option)='$($(option))'))

# $(call kernel_make,<targets>): the kernel's build on this tree.
ifdef KDIR
kernel_make = $(MAKE) -C $(KDIR) M=$(CURDIR) $(1)
else
kernel_make = scripts/lab kernel-make $(1) $(kernel_options)
endif

.PHONY: modules
modules: ## build the kernel modules (for your own kernel: KDIR=/path/to/prepared/kernel)
	$(call kernel_make,modules)

.PHONY: modules_install
modules_install: ## install the modules below INSTALL_MOD_PATH, or with KDIR for that kernel
	$(call kernel_make,modules_install)

.PHONY: debug-modules
debug-modules: ## build the modules for the debug kernel, in build/debug
	scripts/lab kernel-make --debug --in debug modules $(kernel_options)

.PHONY: programs
programs: ## build the static programs that run in the virtual machines
	RUSTFLAGS='-Ctarget-feature=+crt-static' \
		$(cargo) build $(cargo_jobs) --target-dir $(programs) --target $(programs_target) \
		-p lab-host -p lab-guest -p vfio-migration-selftests

.PHONY: tools
tools: ## build the command line tools
	$(cargo) build $(cargo_jobs) -p lab

.PHONY: demo
demo: ## live-migrate a guest with a Ferry device from one QEMU to another and back, and show how it went
	scripts/lab demo $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

.PHONY: bench
bench: ## compare a Ferry disk with disks that QEMU emulates, and measure the cost of moving one and the engine
	scripts/lab bench $(ARGS)

.PHONY: test
test: ## run all checks and tests on the stock kernel; ends with the number passed and failed
	scripts/lab test $(ARGS)

.PHONY: test-debug
test-debug: ## run the kselftests and a live migration on the debug kernel; any splat fails
	scripts/lab test --debug $(ARGS)

.PHONY: host-test
host-test: ## run the tests that need no virtual machine
	$(cargo) test $(cargo_jobs) --workspace --no-fail-fast

.PHONY: fmt
fmt: ## format all Rust code as the kernel does
	scripts/lab fmt

.PHONY: check-fmt
check-fmt: ## check the format of all Rust code
	scripts/lab fmt --check

.PHONY: clippy
clippy: ## lint the Rust code of the host and of the pure crates; a warning is an error
	$(cargo) clippy $(cargo_jobs) --workspace --all-targets -- -D warnings

.PHONY: rustdoc
rustdoc: ## document the crates: of the modules in build/doc, of the tools in target/doc
	scripts/lab kernel-make modules $(kernel_options)
	scripts/rustdoc $$(scripts/lab setup toolchain)
	RUSTDOCFLAGS='-D warnings' $(cargo) doc $(cargo_jobs) --no-deps --document-private-items --workspace \
		--exclude migration --exclude nvme --exclude uart --exclude pci_config --exclude vfio_uapi --exclude device_model

.PHONY: rust-analyzer
rust-analyzer: ## write rust-project.json, from which rust-analyzer knows the modules' crates
	scripts/lab kernel-make modules $(kernel_options)
	scripts/lab kernel-make rust-analyzer
	scripts/in-root $$(scripts/lab setup toolchain) -- python3 scripts/rust-analyzer $(CURDIR)

.PHONY: setup
setup: ## fetch and build the components of the other targets, except the debug kernel
	scripts/lab setup

.PHONY: update-lock
update-lock: ## pin the newest packages of the series in scripts/versions.lock
	scripts/lab update-lock

.PHONY: clean
clean: ## remove build products from the source tree, except cargo's directories
	scripts/clean

.PHONY: distclean
distclean: clean ## remove all build products from the source tree
	$(MAKE) -C tools/testing/selftests/vfio-migration clean
	rm -rf target rust-project.json

.PHONY: clean-cache
clean-cache: ## remove components and downloads that are out of date from the cache, and list the others
	scripts/lab clean-cache

.PHONY: help
help: ## list the targets
	@echo 'Targets (without one: modules):'
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'Variables:'
	@echo '  KDIR=DIR         build the modules against the prepared kernel in DIR with your own tools'
	@echo '  V=1 W=1 CLIPPY=1 as in the kernel: show commands, more warnings, lint with clippy'
	@echo '  DEVICE=NAME      the device of the demonstration: nvme (usual), uart or e1000e'
	@echo '  ARGS=...         further arguments of demo, bench, test and test-debug'
	@echo '  HOST_QEMU=NAME   the QEMU that runs the host VM: qemu-11.1 (usual) or qemu-10.0'
	@echo '  FERRY_CACHE=DIR  the cache, instead of ferry in XDG_CACHE_HOME'
	@echo 'The rest is in Documentation/setup.rst.'
