# What users, rpm/modstamp.spec and debian/rules call. `make help` lists the targets.

PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
LIBEXECDIR  ?= $(PREFIX)/libexec
STATEDIR    ?= /var/lib
DESTDIR     ?=

CARGO       ?= cargo
VERSION     := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
HOST        := $(shell rustc -vV | sed -n 's/^host: //p')
# What `make dist` packs, and where to.
TREE        ?= HEAD
DISTDIR     ?= dist
TARGET_DIR  := $(or $(CARGO_TARGET_DIR),target)
RELEASE     := $(TARGET_DIR)/$(HOST)/release

# Linked statically where the C library can be: most of a dynamic program's start-up is loading libraries. Debian's
# libc6-dev has libc.a, Fedora's is in glibc-static, openSUSE's in glibc-devel-static.
# `--target` keeps the flag from the build scripts and macros, which cannot be linked so.
STATIC := $(shell echo 'int main(void) { return 0; }' | $(or $(CC),cc) -static -x c -o /dev/null - 2>/dev/null && echo -C target-feature=+crt-static)
BUILD  := RUSTFLAGS="$$RUSTFLAGS $(STATIC)" $(CARGO) build --release --locked --target $(HOST)

.PHONY: all install demo check bench dist clean help

all:               ## build the programs
	$(BUILD)

# Where there is no cargo, as for root by sudo(8), what was built before is installed.
install: $(if $(shell command -v $(CARGO)),all) ## install them: DESTDIR=, PREFIX=
	install -D -m 0755 $(RELEASE)/modstamp $(DESTDIR)$(BINDIR)/modstamp
	install -D -m 0755 $(RELEASE)/modstamp-rpm-trigger $(DESTDIR)$(LIBEXECDIR)/modstamp/rpm-trigger
	ln -sfr $(DESTDIR)$(BINDIR)/modstamp $(DESTDIR)$(LIBEXECDIR)/modstamp/rpm-transaction
	install -d -m 0755 $(DESTDIR)$(STATEDIR)/modstamp

dist:              ## write dist/modstamp-VERSION.tar.gz, what rpmbuild and dpkg-buildpackage take
	mkdir -p $(DISTDIR)
	git archive --format=tar.gz --prefix=modstamp-$(VERSION)/ -o $(DISTDIR)/modstamp-$(VERSION).tar.gz $(TREE)

demo: all          ## see it work, in a scratch directory
	packaging/demo $(RELEASE)

# Where the needs can be installed, a test that lacks one fails; elsewhere it is shown as ignored.
check:             ## run every test; as root on Debian, install what they need
	tests/install-needs
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then export MODSTAMP_TESTS=all; fi; \
	$(CARGO) test --locked

bench: all         ## measure, and print the ratios as a table
	benches/install-needs
	MODSTAMP_RELEASE=$(abspath $(RELEASE)) $(CARGO) bench --locked --bench ratios

clean:             ## remove what was built
	$(CARGO) clean
	rm -rf dist

help:              ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' $(MAKEFILE_LIST)
