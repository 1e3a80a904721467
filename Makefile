# hakoniwa: `make demo` shows it, `make test` tests it; both install what is missing on a Debian 12 first.

SHELL := /bin/bash
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
APT := apt-get -q -y -o Dpkg::Use-Pty=0
NEEDED := gcc libc6-dev libcap-dev python3-dev python3-venv busybox-static libseccomp2 tini catatonit uidmap bzip2 xz-utils zstd \
	pigz openssl libcap2-bin git debootstrap debian-archive-keyring mmdebstrap lxc lxc-templates rsync strace nftables iproute2
VM_NEEDED := debootstrap e2fsprogs qemu-system-x86 uidmap
PYTHONS := 3.13 3.14
PEERS := bubblewrap crun runc lxc systemd-container podman
UNPACKED := $(VENV)/.installed

SOURCES := $(shell find hakoniwa -name '*.py')

.PHONY: install demo test test-vm test-pythons check fmt bench bench-peers clean

install: $(BIN)/hako

# Debian's packages only where one is missing, so that an ordinary user can install on a prepared machine.
$(UNPACKED): setup.cfg Makefile
	@missing=$$(for p in $(NEEDED); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		[ $$(id -u) = 0 ] || { echo "missing packages, install them as root: $$missing" >&2; exit 1; }; \
		$(APT) update && DEBIAN_FRONTEND=noninteractive $(APT) install --no-install-recommends $$missing; \
	fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Anew when a source has changed: it compiles what a start loads.
$(BIN)/hako: $(UNPACKED) $(SOURCES) $(addprefix tools/,write_launcher.py bodies.py executed.txt write_strategies.py)
	$(BIN)/python tools/write_strategies.py
	$(BIN)/python -X no_debug_ranges tools/write_launcher.py

demo: install
	@tools/demo

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check
	$(BIN)/python -m pytest

# On Debian's own kernel with systemd, a pure v2 cgroup hierarchy and AppArmor, under qemu.
test-vm: install
	@missing=$$(for p in $(VM_NEEDED); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || echo $$p; done); \
	[ -z "$$missing" ] || { $(APT) update && DEBIAN_FRONTEND=noninteractive $(APT) install --no-install-recommends $$missing; }
	tests/vm/run

# Under the Pythons of newer Debians, each in a rootfs: all unit and system tests, or those that TESTS names.
test-pythons: install
	@failed=; for version in $(PYTHONS); do tests/pythons/run $$version $(TESTS) || failed="$$failed $$version"; done; \
	[ -z "$$failed" ] || { echo "failed with Python$$failed" >&2; exit 1; }

bench: install
	$(BIN)/python tests/bench/bench.py

bench-peers:
	DEBIAN_FRONTEND=noninteractive $(APT) install --no-install-recommends $(PEERS)

clean:
	rm -rf $(VENV) .vm build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
