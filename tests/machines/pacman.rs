//! The Arch package under real pacmans: does the stamp move exactly when it should?
//!
//! makepkg builds `packaging/arch/PKGBUILD` from the tarball that `make dist` writes. Throw-away
//! machines of Debian's with pacman 6.0 and 7.0 install the package, together with small ones of
//! the tests' own. After each scenario `pacman -Qkk` must find nothing wrong. manager.rs has the
//! scenarios that all managers share.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::machine::Machine;
use support::test::{Needs, Test};
use support::{built, named, run};

use crate::manager::Verb::{self, Install, Purge, Remove, Replace};
use crate::manager::{self, Arguments, Facts, Manager, Rival};

/// The pacmans, and the suites of Debian that have them.
const PACMANS: [(&str, &str); 2] = [("pacman_6_0", "bookworm"), ("pacman_7_0", "trixie")];

/// What making such machines and packages takes.
const PROGRAMS: [&str; 16] = [
    "bsdtar",
    "cargo",
    "chroot",
    "fakeroot",
    "flock",
    "git",
    "gzip",
    "make",
    "makepkg",
    "mmdebstrap",
    "mount",
    "pacman",
    "python3",
    "timeout",
    "unshare",
    "zstd",
];

/// Where Arch's QEMU has its modules.
const MODULES: &str = "/usr/lib/qemu";

/// How pacman runs here: from packages that nobody signed.
const CONFIGURATION: &str = "[options]\nSigLevel = Never\nArchitecture = auto\n";

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&PROGRAMS);
    let of = |(pacman, suite): (&str, &'static str)| {
        manager::tests(pacman, &needs, move || Host::new(suite), OWN)
    };
    PACMANS.into_iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const OWN: &[(&str, Scenario)] = named![
    several_packages_in_one_transaction_touch_once,
    a_hook_that_is_disabled_leaves_it_to_the_modules_themselves,
    the_package_has_what_arch_expects,
];

/// The package that `packaging/arch` builds, made once for each state of the source tree.
fn package() -> &'static Path {
    // The error is kept too, so that not every test tries again.
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(build);
    built
        .as_ref()
        .unwrap_or_else(|error| panic!("the package cannot be built: {error}"))
}

fn build() -> Result<PathBuf, String> {
    let script = r#"
        # What the tests are makes no difference to the package.
        state=$( (rustc -V; makepkg --version; git ls-tree "$tree" | grep -v '	\(tests\|benches\)$') |
            sha256sum | cut -c -16)
        package=$kept/$state.pkg.tar.zst
        echo "$package"
        if test -e "$package"; then exit; fi

        find "$kept" -mindepth 1 -maxdepth 1 -name '*.zst' -mmin +600 -exec rm {} +
        # Always the same path, so that cargo finds what it built before.
        rm -rf "$kept/build"
        mkdir "$kept/build"
        exec >"$kept/log" 2>&1
        make dist TREE="$tree" DISTDIR="$kept/build"
        unset GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_OBJECT_DIRECTORY GIT_INDEX_FILE
        cd "$kept/build"
        bsdtar -xf modstamp-*.tar.gz --strip-components 3 '*/packaging/arch/*'
        # As Arch's own makepkg.conf has it, where it bears on the build.
        cat /etc/makepkg.conf - > ../makepkg.conf <<'EOF'
            CFLAGS="-march=x86-64 -mtune=generic -O2 -pipe -fno-plt -fexceptions -Wp,-D_FORTIFY_SOURCE=3 -flto=auto"
            LDFLAGS="-Wl,-O1 -Wl,--sort-common -Wl,--as-needed -Wl,-z,relro -Wl,-z,now -flto=auto"
            OPTIONS=(strip docs !libtool !staticlibs emptydirs zipman purge !debug lto)
            PKGEXT=.pkg.tar.zst
EOF
        # --nodeps: what it needs is here, but not as packages of pacman's. --nocheck: the library's own tests are run by
        # themselves. makepkg refuses root, so it runs as a user who is root by another number.
        CARGO_TARGET_DIR=$kept/target unshare --user --map-user=1000 --map-group=1000 \
            makepkg --config "$kept/makepkg.conf" --nodeps --nocheck --noconfirm
        mv modstamp-*.pkg.tar.zst "$package"
        rm -rf "$kept/build"
    "#;
    built::of_working_tree("pacman", script)
}

const FACTS: Facts = Facts {
    command: &["pacman", "--noconfirm"],
    only_tried: "--print",
    without_triggers: &[&["--hookdir", "/srv/no-hooks"]],
    put_off: None,
    // pacman reads the hooks of the root that it installs to, and runs them in it.
    in_root: &[&["--root", "/srv/root"], &["--sysroot", "/srv/root"]],
    own: &["modstamp"],
    programs: &["/usr/bin/modstamp"],
    further_directories: &[],
};

/// A machine with modstamp and one module, so that there is a stamp.
struct Host {
    machine: Machine,
}

impl Host {
    fn new(suite: &str) -> Host {
        let host = Host {
            machine: Machine::new(suite, &["pacman-package-manager"]),
        };
        host.machine.put(package(), &host.own_path("modstamp"));
        std::fs::write(host.outside("/etc/pacman.conf"), CONFIGURATION).unwrap();
        host.sh("mkdir /srv/no-hooks; ln -s /dev/null /srv/no-hooks/modstamp-qemu.hook");
        // For pacman, nothing is installed of what Debian brought.
        let system = host.pack(
            "system",
            "1",
            &[],
            "provides = glibc\nprovides = gcc-libs\n",
        );
        host.transact(Install, &[&system]);
        let first = host.module("first", "1", "first.so");
        host.transact(Install, &[&host.own_path("modstamp"), &first]);
        assert!(host.machine.stamp("qemu").is_some());
        host
    }

    /// Builds a package as makepkg would; returns its path in the machine.
    ///
    /// `fields` are further lines of .PKGINFO.
    fn pack(&self, name: &str, version: &str, files: &[(&str, &str)], fields: &str) -> String {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (path, content) in files {
            write(path, content);
        }
        write(
            ".PKGINFO",
            &format!(
                "pkgname = {name}\npkgbase = {name}\npkgver = {version}-1\npkgdesc = A test's own package\n\
                 builddate = 1\npackager = Nobody\nsize = 1\narch = any\n{fields}"
            ),
        );
        let path = self.own_path(&format!("{name}-{version}"));
        let script = r#"
            cd "$1"
            chmod -R u=rwX,go=rX .
            bsdtar -cf - --format=mtree \
                --options='!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link' .PKGINFO * | gzip -n > .MTREE
            bsdtar --zstd -cf "$2" .MTREE .PKGINFO *
        "#;
        run(Command::new("bash")
            .args(["-O", "nullglob", "-euo", "pipefail", "-c", script, "bash"])
            .args([tree.path(), &self.outside(&path)]));
        path
    }
}

impl Manager for Host {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn verb(&self, verb: Verb) -> Arguments {
        match verb {
            Remove | Purge => &["-R"],
            // Yes to the question whether to remove a package that conflicts.
            Replace => &["-U", "--ask", "4"],
            _ => &["-U"],
        }
    }

    fn is_complaint(&self, line: &str) -> bool {
        let is_harmless = line.contains("reinstalling") || line.contains("downgrading");
        line.contains("error") || line.contains("warning") && !is_harmless
    }

    fn modules(&self) -> &str {
        MODULES
    }

    fn build(&self, name: &str, version: &str, files: &[(&str, &str)], rival: Rival) -> String {
        let fields = match rival {
            Rival::None => String::new(),
            Rival::Kept(name) => format!("conflict = {name}\n"),
            Rival::Replaced(name) => format!("conflict = {name}\nprovides = {name}\n"),
        };
        self.pack(name, version, files, &fields)
    }

    fn own_path(&self, name: &str) -> String {
        format!("/srv/{name}.pkg.tar.zst")
    }

    fn make_root(&self) {
        // Each option finds the packages on the same path. Scriptlets need a shell and rm. modstamp
        // needs a C library.
        self.sh("cd /srv
             mkdir -p root/etc root/srv root/var/lib/pacman root/var/cache/pacman/pkg
             cp /etc/pacman.conf root/etc
             cp *.zst root/srv
             cp -L --parents /bin/sh /bin/rm $(ldd /bin/sh /bin/rm /usr/bin/modstamp | grep -o '/lib[^ ]*' | sort -u) root");
        self.run(&["--root", "/srv/root", "-U", &self.own_path("system-1")]);
    }

    fn is_well(&self) {
        let (succeeded, text) = self.try_run(&["-Qkk"]);
        let is_well = |line: &str| line.ends_with(", 0 altered files");
        assert!(succeeded && text.lines().all(is_well), "{text:?}");
    }
}

fn several_packages_in_one_transaction_touch_once(host: &Host) {
    host.sh(r#"cd /usr/bin; mv modstamp modstamp.real
         printf '#!/bin/sh\necho "$@" >> /srv/log\nexec modstamp.real "$@"\n' > modstamp
         chmod 0755 modstamp"#);
    let [nfs, ssh] = ["nfs", "ssh"].map(|name| host.module(name, "1", name));
    assert!(host.moves(Install, &[&nfs, &ssh]));
    assert!(host.moves(Remove, &["nfs", "ssh"]));
    let line = "trigger pacman /usr/lib/qemu\n";
    assert_eq!(host.sh("cat /srv/log"), line.repeat(2));
    host.sh("cd /usr/bin; mv modstamp.real modstamp");
}

fn a_hook_that_is_disabled_leaves_it_to_the_modules_themselves(host: &Host) {
    host.sh("mkdir -p /etc/pacman.d/hooks
         ln -s /dev/null /etc/pacman.d/hooks/modstamp-qemu.hook");
    host.machine.observe();
    assert!(!host.moves(Install, &[&host.module("nfs", "1", "nfs.so")]));
    let added = "stale: module nfs.so added to /usr/lib/qemu\n";
    assert_eq!(host.machine.check().as_deref(), Some(added));
}

fn the_package_has_what_arch_expects(host: &Host) {
    let list = host.sh("pacman -Qlq modstamp");
    for path in [
        "/usr/bin/modstamp",
        "/usr/include/modstamp.h",
        "/usr/lib/libmodstamp.so.0",
        "/usr/lib/pkgconfig/modstamp.pc",
        "/usr/lib/systemd/system/libvirtd.service.d/modstamp.conf",
        "/usr/lib/systemd/system/modstamp-update@.path",
        "/usr/lib/systemd/system/modstamp-update@qemu.path.d/directories.conf",
        "/usr/lib/systemd/user/modstamp-refresh@.service",
        "/usr/lib/systemd/user/modstamp-update@.service",
        "/usr/share/bash-completion/completions/modstamp",
        "/usr/share/libalpm/hooks/modstamp-qemu.hook",
        "/usr/share/licenses/modstamp/LICENSE-MIT",
        "/usr/share/doc/modstamp/README.md",
        "/usr/share/man/man1/modstamp.1.gz",
        "/var/lib/modstamp/",
    ] {
        assert!(list.lines().any(|line| line == path), "{path} in {list}");
    }
    // Its path has the version of Python.
    let module = "/site-packages/modstamp/__init__.py";
    assert!(list.lines().any(|line| line.ends_with(module)), "{list}");
    // What is rpm's alone, and where Arch has nothing.
    for path in ["/rpm-", "/usr/libexec", "/usr/lib64", "/usr/local"] {
        assert!(!list.contains(path), "{path} in {list}");
    }
    // By what the library is called in the package, makepkg found out what to provide.
    let information = host.sh("pacman -Qi modstamp");
    assert!(
        information.contains(": libmodstamp.so=0-64\n"),
        "{information}"
    );
}
