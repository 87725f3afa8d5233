# Users, rpm/modstamp.spec and debian/rules call these targets. `make help` lists them.

PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
LIBEXECDIR  ?= $(PREFIX)/libexec
LIBDIR      ?= $(PREFIX)/lib
INCLUDEDIR  ?= $(PREFIX)/include
DATADIR     ?= $(PREFIX)/share
MANDIR      ?= $(DATADIR)/man
STATEDIR    ?= /var/lib
UNITDIR     ?= $(PREFIX)/lib/systemd/system
USERUNITDIR ?= $(PREFIX)/lib/systemd/user
# The programs know this path, whatever PREFIX is.
PROFILEDIR  := /usr/lib/modstamp/profiles.d
# python3 looks there for what the administrator installs.
PYTHONDIR   ?= $(shell python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# The architecture's part of Debian's library directories. It is empty on other distributions.
MULTIARCH   ?= $(shell $(or $(CC),cc) -print-multiarch 2>/dev/null)
# Set it to nothing if something else strips the library.
STRIPPED    ?= -s
DESTDIR     ?=

CARGO       ?= cargo
VERSION     := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# `make dist` packs TREE into DISTDIR.
TREE        ?= HEAD
DISTDIR     ?= dist
TARGET_DIR  := $(or $(CARGO_TARGET_DIR),target)
# cargo refuses an empty value, so this exports the default instead.
export CARGO_TARGET_DIR := $(TARGET_DIR)
# Root by sudo(8) may have no rustc. Then this is the machine of the last build.
HOST        := $(or $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p'),$(lastword \
	$(patsubst $(TARGET_DIR)/%/release/modstamp,%,$(wildcard $(TARGET_DIR)/*/release/modstamp))))
BUILT       := $(TARGET_DIR)/$(HOST)
RELEASE     := $(BUILT)/release
FFI         := $(BUILT)/ffi
LIBRARY     := libmodstamp.so.$(VERSION)
MANUAL      := $(TARGET_DIR)/manual

# `modstamp` is linked statically if libc.a is installed: a dynamic program spends most of its start-up
# on loading libraries. Debian has libc.a in libc6-dev, Fedora in glibc-static, openSUSE in
# glibc-devel-static. `--target` keeps the flag from build scripts and macros, which need a dynamic one.
# `make STATIC=` links it dynamically, as packages do.
STATIC := $(shell echo 'int main(void) { return 0; }' | $(or $(CC),cc) -static -x c -o /dev/null - 2>/dev/null && echo -C target-feature=+crt-static)
# The build leaves out the path of the sources, unless the path has a space, which RUSTFLAGS cannot hold.
REMAP  := $(if $(word 2,$(CURDIR)),,--remap-path-prefix=$(CURDIR)=)
BUILD  := $(CARGO) build --locked --target $(HOST)

# rpm's trigger has no libc and no std, because their start-up takes longer than its work. A start without them needs
# code for each processor (src/ground/start.rs). On other processors, and with TRIGGER=std, the trigger is a dynamic
# program of the same sources.
TRIGGER := $(if $(filter x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu,$(HOST)),no-std,std)
NO_STD  := --cfg modstamp_no_std -C relocation-model=static -C force-unwind-tables=no \
	-C link-arg=-nostartfiles -C link-arg=-nostdlib -C link-arg=-static \
	-C link-arg=-Wl,-T,src/rpm_trigger.ld,--no-eh-frame-hdr,-z,noseparate-code,-z,norelro

.PHONY: all programs trigger library manual install install-library install-units install-python uninstall demo screen site check test check-all check-proof check-root \
	check-torture check-rpm check-dpkg check-pacman check-libvirt check-ecosystems \
	check-systemd check-security check-lab check-packages torture fuzz coverage miri mutants check-release \
	api bench dist dist-vendored clean help

all: programs library manual ## build all that `make install` installs

programs: trigger
	RUSTFLAGS="$$RUSTFLAGS $(REMAP) $(STATIC)" $(BUILD) --release --bin modstamp

# This is a call of its own, because a program without libc needs rustix in another form.
trigger:
	RUSTFLAGS="$$RUSTFLAGS $(REMAP) $(if $(filter no-std,$(TRIGGER)),$(NO_STD))" \
		$(BUILD) --profile trigger --no-default-features --bin modstamp-rpm-trigger

# cargo would give the linker a version script of its own, without versions, so this calls it.
library:
	RUSTFLAGS="$$RUSTFLAGS $(REMAP)" $(CARGO) rustc --profile ffi --no-default-features --features ffi --lib --crate-type staticlib --locked --target $(HOST)
	$(or $(CC),cc) $(CFLAGS) $(LDFLAGS) -shared -o $(FFI)/$(LIBRARY) -Wl,-soname,libmodstamp.so.0 \
		-Wl,--version-script,include/libmodstamp.map -Wl,-u,modstamp_version \
		$(STRIPPED) -Wl,--gc-sections,-z,defs,-z,relro,-z,now,-z,nodelete $(FFI)/libmodstamp.a -lgcc_s -lc

# This program runs on this machine, so it is built without the flags for another one.
manual:
	rm -rf $(MANUAL)
	env -u CARGO_BUILD_TARGET -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CC -u CFLAGS \
		$(CARGO) run --quiet --locked --features manual --bin modstamp-manual -- $(MANUAL)

# Without a cargo, as for root by sudo(8), this installs the last build.
install: $(if $(shell command -v $(CARGO)),all) install-library install-units ## install them: DESTDIR=, PREFIX=
	install -D -m 0755 $(RELEASE)/modstamp $(DESTDIR)$(BINDIR)/modstamp
	install -D -m 0755 $(BUILT)/trigger/modstamp-rpm-trigger $(DESTDIR)$(LIBEXECDIR)/modstamp/rpm-trigger
	ln -sfr $(DESTDIR)$(BINDIR)/modstamp $(DESTDIR)$(LIBEXECDIR)/modstamp/rpm-transaction
	install -d -m 0755 $(DESTDIR)$(STATEDIR)/modstamp
	install -D -m 0644 -t $(DESTDIR)$(MANDIR)/man1 $(MANUAL)/man1/*.1
	install -D -m 0644 -t $(DESTDIR)$(MANDIR)/man3 man/*.3
	install -D -m 0644 -t $(DESTDIR)$(MANDIR)/man5 man/*.5
	install -D -m 0644 -t $(DESTDIR)$(PROFILEDIR) packaging/profiles/*.toml
	install -D -m 0644 $(MANUAL)/modstamp.bash $(DESTDIR)$(DATADIR)/bash-completion/completions/modstamp
	install -D -m 0644 $(MANUAL)/_modstamp $(DESTDIR)$(DATADIR)/zsh/site-functions/_modstamp
	install -D -m 0644 $(MANUAL)/modstamp.fish $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/modstamp.fish

install-library: $(if $(shell command -v $(CARGO)),library)
	install -D -m 0755 $(FFI)/$(LIBRARY) $(DESTDIR)$(LIBDIR)/$(LIBRARY)
	ln -sf $(LIBRARY) $(DESTDIR)$(LIBDIR)/libmodstamp.so.0
	ln -sf libmodstamp.so.0 $(DESTDIR)$(LIBDIR)/libmodstamp.so
	install -D -m 0644 include/modstamp.h $(DESTDIR)$(INCLUDEDIR)/modstamp.h
	install -d -m 0755 $(DESTDIR)$(LIBDIR)/pkgconfig
	$(if $(DESTDIR),,ldconfig 2>/dev/null || true)
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@INCLUDEDIR@|$(INCLUDEDIR)|; s|@VERSION@|$(VERSION)|' include/modstamp.pc.in \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/modstamp.pc
	chmod 0644 $(DESTDIR)$(LIBDIR)/pkgconfig/modstamp.pc

UNITS = $(shell cd packaging/systemd && find system user ! -type d)
unit_path = $(DESTDIR)$(patsubst user/%,$(USERUNITDIR)/%,$(patsubst system/%,$(UNITDIR)/%,$(1:.in=)))

# This enables no unit. Packages and administrators do.
install-units:
	set -e; $(foreach unit,$(UNITS),install -D -m 0644 packaging/systemd/$(unit) $(call unit_path,$(unit));)
	sed -i 's|@BINDIR@|$(BINDIR)|; $(if $(MULTIARCH),s|@MULTIARCH@|$(MULTIARCH)|,/@MULTIARCH@/d)' \
		$(foreach unit,$(UNITS),$(call unit_path,$(unit)))

# The stamps stay, as the host's data. So do directories in which others have files.
uninstall:         ## remove what `make install` and `make install-python` installed: DESTDIR=, PREFIX=, PYTHONDIR=
	rm -f $(DESTDIR)$(BINDIR)/modstamp $(DESTDIR)$(LIBEXECDIR)/modstamp/rpm-trigger \
		$(DESTDIR)$(LIBEXECDIR)/modstamp/rpm-transaction $(DESTDIR)$(MANDIR)/man1/modstamp.1 \
		$(DESTDIR)$(MANDIR)/man1/modstamp-*.1 $(patsubst man/%.3,$(DESTDIR)$(MANDIR)/man3/%.3,$(wildcard man/*.3)) \
		$(patsubst man/%.5,$(DESTDIR)$(MANDIR)/man5/%.5,$(wildcard man/*.5)) \
		$(DESTDIR)$(DATADIR)/bash-completion/completions/modstamp $(DESTDIR)$(DATADIR)/zsh/site-functions/_modstamp \
		$(DESTDIR)$(DATADIR)/fish/vendor_completions.d/modstamp.fish \
		$(patsubst packaging/profiles/%,$(DESTDIR)$(PROFILEDIR)/%,$(wildcard packaging/profiles/*.toml)) \
		$(DESTDIR)$(LIBDIR)/$(LIBRARY) $(DESTDIR)$(LIBDIR)/libmodstamp.so.0 $(DESTDIR)$(LIBDIR)/libmodstamp.so \
		$(DESTDIR)$(LIBDIR)/pkgconfig/modstamp.pc $(DESTDIR)$(INCLUDEDIR)/modstamp.h \
		$(foreach unit,$(UNITS),$(call unit_path,$(unit)))
	$(if $(PYTHONDIR),rm -f $(patsubst python/modstamp/%,$(DESTDIR)$(PYTHONDIR)/modstamp/%,$(wildcard python/modstamp/*.py)) \
		$(DESTDIR)$(PYTHONDIR)/modstamp/py.typed $(DESTDIR)$(PYTHONDIR)/modstamp/__pycache__/*.pyc)
	rmdir --ignore-fail-on-non-empty $(if $(PYTHONDIR),$(DESTDIR)$(PYTHONDIR)/modstamp/__pycache__ $(DESTDIR)$(PYTHONDIR)/modstamp) \
		$(DESTDIR)$(LIBEXECDIR)/modstamp $(DESTDIR)$(STATEDIR)/modstamp \
		$(DESTDIR)$(PROFILEDIR) $(DESTDIR)$(dir $(PROFILEDIR)) \
		$(foreach directory,$(filter %.d/,$(dir $(UNITS))),$(call unit_path,$(directory))) 2>/dev/null || true
	$(if $(DESTDIR),,ldconfig 2>/dev/null || true)

install-python:    ## install the Python module, which loads the C library: DESTDIR=, PYTHONDIR=
	install -D -m 0644 -t $(DESTDIR)$(PYTHONDIR)/modstamp python/modstamp/*.py python/modstamp/py.typed

dist:              ## write dist/modstamp-VERSION.tar.gz for rpmbuild and dpkg-buildpackage
	mkdir -p $(DISTDIR)
	git archive --format=tar.gz --prefix=modstamp-$(VERSION)/ -o $(DISTDIR)/modstamp-$(VERSION).tar.gz $(TREE)

dist-vendored:     ## write dist/modstamp-VERSION-vendored.tar.gz, which has all crates, to build offline
	mkdir -p $(DISTDIR)
	packaging/dist-vendored $(TREE) $(DISTDIR) $(VERSION)

demo: programs        ## see it work, in a scratch directory
	packaging/demo $(RELEASE)

screen: programs      ## write docs/demo.svg, the screen of the first page, from `make demo` with a QEMU
	packaging/demo $(RELEASE) 2>&1 | packaging/screen > docs/demo.svg

# mdBook 0.4.52, of the Rust project, is built once; it takes some minutes.
MDBOOK := $(TARGET_DIR)/mdbook/bin

$(MDBOOK)/mdbook:
	$(CARGO) install mdbook --version 0.4.52 --locked --no-default-features --features search --root $(TARGET_DIR)/mdbook

site: $(MDBOOK)/mdbook ## build the pages as a book, target/site/book/index.html, and check its links
	PATH="$(abspath $(MDBOOK)):$$PATH" packaging/site $(TARGET_DIR)/site

check:             ## run the tests that need neither root nor packages (5 min from a fresh clone, 2 later)
	tests/check

test: check

# Each part installs its needs, as root on Debian. With MODSTAMP_TESTS, a test that lacks something fails.
# With SOURCE_DATE_EPOCH, modstamp believes that an image is being built, and makes no first stamp.
PARTS = proof root torture rpm dpkg pacman libvirt ecosystems systemd security lab packages
ALL   = env -u SOURCE_DATE_EPOCH MODSTAMP_TESTS=check-all $(CARGO) test --locked

check-all:         ## run the rest, all parts side by side on both processors (28 min the first time)
	tests/install-needs $(PARTS)
	$(ALL) --no-fail-fast --test proof --test trials --test root --test torture --test machines

check-proof:       ## run only the models, and ten thousand random sequences (3 min)
	$(ALL) --test proof
	$(ALL) --test trials sequences::

check-root:        ## run only what mounts file systems, becomes other users or compiles C (3 min)
	tests/install-needs root
	$(ALL) --test root
	$(ALL) --test trials changes::
	$(ALL) --test trials manual::

check-torture:     ## run only the short form of `make torture` (3 min)
	tests/install-needs torture
	$(ALL) --test torture

check-rpm:         ## run only the rpm packages and macros under real rpms, dnf and zypper (1 min)
check-dpkg:        ## run only the Debian packages and dh_modstamp under real dpkgs (3 min)
check-pacman:      ## run only the Arch package under real pacmans (1 min)
check-libvirt:     ## run only real libvirts beside packages that come and go (3 min)
check-ecosystems:  ## run only GStreamer, fontconfig, libguestfs and their like, with plug-ins that come and go (5 min)
check-systemd:     ## run only the units under real systemds (2 min)
check-security:    ## run only the claims of docs/security.md, under strace and SELinux's policy (1 min)
check-lab:         ## run only machines that boot (4 min)
check-rpm check-dpkg check-pacman check-libvirt check-ecosystems check-systemd check-security check-lab: check-%:
	tests/install-needs $*
	$(ALL) --test machines $*::

check-packages:    ## run only lintian, autopkgtest, licences, the public API, an offline build (4 min)
	tests/install-needs packages
	$(ALL) --test machines packages::
	$(ALL) --test trials release::

torture:           ## try to break every promise of SECURITY.md, and write docs/reliability.md
	tests/install-needs torture fuzz coverage
	tests/reliability

fuzz:              ## try random bytes on all that is read, MODSTAMP_FUZZ_SECONDS=30 for each kind
	tests/install-needs fuzz
	MODSTAMP_TORTURE=long $(ALL) --no-fail-fast --test torture fuzz::

coverage:          ## print how many lines of each layer the tests run
	tests/install-needs coverage
	tests/coverage $(TARGET_DIR)/coverage

miri:              ## run under Miri what makes no system call, if a nightly toolchain has it
	tests/miri $(TARGET_DIR)/miri

mutants:           ## plant each fault of a long list, and print those that no test sees: MUTANTS=evidence
	tests/install-needs mutants
	nice -n 19 tests/mutants/run $(TARGET_DIR)/mutants $(MUTANTS)

check-release: site ## run the long forms, and write docs/check-release.md and docs/reliability.md
	tests/install-needs lab packages torture fuzz coverage
	tests/release
	tests/reliability

api:               ## write down the public Rust API, which then has changed: tests/api/listing.txt
	MODSTAMP_API=write $(ALL) --test trials release::the_public_api

bench: programs library ## measure, print the ratios as a table, and draw them: docs/bench.svg
	benches/install-needs
	MODSTAMP_RELEASE=$(abspath $(RELEASE)) $(CARGO) bench --locked --bench ratios > $(TARGET_DIR)/bench/table
	$(CARGO) bench --locked --profile as-a-dependency --bench ratios -- as-a-dependency >> $(TARGET_DIR)/bench/table
	cat $(TARGET_DIR)/bench/table
	packaging/chart < $(TARGET_DIR)/bench/table > docs/bench.svg

clean:             ## remove what was built
	$(CARGO) clean
	rm -rf dist

help:              ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST)
