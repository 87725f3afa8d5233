//! The Arch package under real pacmans: does the stamp move exactly when it should?
//!
//! `packaging/arch/PKGBUILD` is built by makepkg from the tarball that `make dist` writes, and installed into throw-away
//! machines of Debian's with pacman 6.0 and 7.0, together with small packages of the tests' own. After each scenario
//! `pacman -Qkk` must find nothing wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::machine::Machine;
use support::test::{Needs, Test, test};
use support::{built, named, run};

/// The pacmans, and the suites of Debian that have them.
const PACMANS: [(&str, &str); 2] = [("pacman_6_0", "bookworm"), ("pacman_7_0", "trixie")];

/// What making such machines and packages takes.
const PROGRAMS: [&str; 15] = [
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
    "timeout",
    "unshare",
    "zstd",
];

/// Where Arch's QEMU has its modules.
const MODULES: &str = "usr/lib/qemu";

/// How pacman runs here: from packages that nobody signed.
const CONFIGURATION: &str = "[options]\nSigLevel = Never\nArchitecture = auto\n";

pub fn tests() -> Vec<Test> {
    let of = |(pacman, suite): &(&str, &'static str)| scenarios(pacman, suite);
    PACMANS.iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const SCENARIOS: &[(&str, Scenario)] = named![
    installing_a_module_package_moves_the_stamp,
    upgrading_a_module_package_moves_the_stamp,
    upgrading_to_no_module_at_all_moves_the_stamp,
    reinstalling_a_module_package_moves_the_stamp,
    removing_a_module_package_moves_the_stamp,
    a_module_in_a_directory_further_below_moves_the_stamp,
    a_package_that_replaces_a_module_package_moves_the_stamp,
    several_packages_in_one_transaction_touch_once,
    a_package_elsewhere_does_not_touch,
    a_transaction_that_is_only_printed_does_not_touch,
    a_transaction_that_pacman_refuses_does_not_touch,
    an_answer_from_before_a_transaction_is_stale_and_one_from_after_it_fresh,
    an_answer_from_before_a_removal_is_stale,
    a_hook_that_is_disabled_leaves_it_to_the_modules_themselves,
    pacman_from_outside_the_root_moves_the_stamp_in_it_alone,
    a_transaction_moves_the_directory_that_libvirt_watches,
    a_missing_stamp_directory_is_made_again,
    a_read_only_stamp_directory_fails_no_transaction,
    a_file_in_the_stamp_directorys_place_fails_no_transaction,
    a_stamp_that_is_a_directory_fails_no_transaction,
    a_program_that_is_not_there_fails_no_transaction,
    a_transaction_of_many_modules_ends_without_a_complaint,
    installing_modstamp_beside_modules_moves_the_stamp,
    the_package_has_what_arch_expects,
    removing_modstamp_leaves_nothing,
];

/// The tests of one pacman.
fn scenarios(pacman: &str, suite: &'static str) -> Vec<Test> {
    let needs = Needs::root_and(&PROGRAMS);
    let of = |(name, scenario): &(&str, Scenario)| {
        let scenario = *scenario;
        test(format!("{pacman}::{name}"), &needs, move || {
            let host = Host::new(suite);
            scenario(&host);
            host.is_well();
        })
    };
    SCENARIOS.iter().map(of).collect()
}

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

/// A package of the tests' own.
#[derive(Default)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    /// Paths, without the leading slash as pacman has them, and contents.
    files: &'a [(&'a str, &'a str)],
    /// Further lines of .PKGINFO.
    fields: &'a str,
}

/// A machine with modstamp and one module, so that there is a stamp.
struct Host {
    machine: Machine,
}

impl Host {
    fn new(suite: &str) -> Host {
        let host = Host {
            machine: Machine::new(suite, &["pacman-package-manager"]),
        };
        host.machine.put(package(), "/srv/modstamp.pkg.tar.zst");
        std::fs::write(host.outside("etc/pacman.conf"), CONFIGURATION).unwrap();
        // For pacman, nothing is installed of what Debian brought.
        let system = host.build(&Package {
            name: "system",
            version: "1",
            fields: "provides = glibc\nprovides = gcc-libs\n",
            ..Package::default()
        });
        host.pacman(&["-U", &system]);
        host.pacman(&[
            "-U",
            "/srv/modstamp.pkg.tar.zst",
            &host.module("first", "1", "first.so"),
        ]);
        assert!(host.machine.stamp("qemu").is_some());
        host
    }

    /// Builds a package into the machine, as makepkg would; returns its path there.
    fn build(&self, package: &Package) -> String {
        let Package {
            name,
            version,
            fields,
            ..
        } = package;
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for (path, content) in package.files {
            write(path, content);
        }
        write(
            ".PKGINFO",
            &format!(
                "pkgname = {name}\npkgbase = {name}\npkgver = {version}-1\npkgdesc = A test's own package\n\
                 builddate = 1\npackager = Nobody\nsize = 1\narch = any\n{fields}"
            ),
        );
        let path = format!("/srv/{name}-{version}.pkg.tar.zst");
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

    /// A package with these files, each with its path as its content.
    fn package(&self, name: &str, version: &str, paths: &[&str]) -> String {
        let files: Vec<_> = paths.iter().map(|path| (*path, *path)).collect();
        self.build(&Package {
            name,
            version,
            files: &files,
            ..Package::default()
        })
    }

    /// A package with one file in QEMU's module directory.
    fn module(&self, name: &str, version: &str, file: &str) -> String {
        self.package(name, version, &[&format!("{MODULES}/{file}")])
    }

    /// Runs pacman in the machine; returns whether it succeeded, and what it printed. Nothing here takes minutes, so what
    /// does is stuck.
    fn try_pacman(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.machine.command("timeout");
        let output = command
            .args(["120", "pacman", "--noconfirm"])
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// Runs pacman in the machine, which must succeed and complain of nothing.
    fn pacman(&self, arguments: &[&str]) -> String {
        let (succeeded, text) = self.try_pacman(arguments);
        let complains = |line: &str| {
            let is_error = line.contains("error") || line.starts_with("modstamp: warning");
            is_error
                || line.contains("warning")
                    && !line.contains("reinstalling")
                    && !line.contains("downgrading")
        };
        assert!(
            succeeded && !text.lines().any(complains),
            "pacman {arguments:?}: {text}"
        );
        text
    }

    /// Runs pacman in the machine, which must succeed and print this.
    fn pacman_says(&self, arguments: &[&str], what: &str) {
        let (succeeded, text) = self.try_pacman(arguments);
        assert!(
            succeeded && text.contains(what),
            "pacman {arguments:?}: {text}"
        );
    }

    /// Whether the stamp moves when pacman runs.
    fn moves(&self, arguments: &[&str]) -> bool {
        self.machine.moves(|| self.pacman(arguments))
    }

    /// The path, from outside, of `path` in the machine.
    fn outside(&self, path: &str) -> PathBuf {
        self.machine.root.join(path.trim_start_matches('/'))
    }

    fn exists(&self, path: &str) -> bool {
        self.outside(path).symlink_metadata().is_ok()
    }

    /// pacman finds no file of an installed package that is not as it was packed.
    fn is_well(&self) {
        let text = self.pacman(&["-Qkk"]);
        let is_well = |line: &str| line.ends_with(", 0 altered files");
        assert!(text.lines().all(is_well), "{text:?}");
    }
}

fn installing_a_module_package_moves_the_stamp(host: &Host) {
    assert!(host.moves(&["-U", &host.module("nfs", "1", "nfs.so")]));
}

fn upgrading_a_module_package_moves_the_stamp(host: &Host) {
    let package = |version, content| {
        host.build(&Package {
            name: "nfs",
            version,
            files: &[("usr/lib/qemu/nfs.so", content)],
            ..Package::default()
        })
    };
    host.pacman(&["-U", &package("1", "a")]);
    assert!(host.moves(&["-U", &package("2", "b")]));
    assert!(host.moves(&["-U", &package("1", "a")]), "a downgrade, too");
}

fn upgrading_to_no_module_at_all_moves_the_stamp(host: &Host) {
    host.pacman(&["-U", &host.module("nfs", "1", "nfs.so")]);
    assert!(host.moves(&["-U", &host.package("nfs", "2", &["usr/share/nfs/text"])]));
    assert!(!host.exists("usr/lib/qemu/nfs.so"));
}

fn reinstalling_a_module_package_moves_the_stamp(host: &Host) {
    let module = host.module("nfs", "1", "nfs.so");
    host.pacman(&["-U", &module]);
    assert!(host.moves(&["-U", &module]));
}

fn removing_a_module_package_moves_the_stamp(host: &Host) {
    host.pacman(&["-U", &host.module("nfs", "1", "nfs.so")]);
    assert!(host.moves(&["-R", "nfs"]));
    assert!(host.moves(&["-R", "first"]), "the last one");
    assert!(!host.exists(MODULES));
}

fn a_module_in_a_directory_further_below_moves_the_stamp(host: &Host) {
    assert!(host.moves(&["-U", &host.module("nfs", "1", "9.0/a/nfs.so")]));
    assert!(host.moves(&["-R", "nfs"]));
}

fn a_package_that_replaces_a_module_package_moves_the_stamp(host: &Host) {
    host.pacman(&["-U", &host.module("nfs", "1", "nfs.so")]);
    let heir = host.build(&Package {
        name: "heir",
        version: "1",
        fields: "conflict = nfs\nprovides = nfs\n",
        ..Package::default()
    });
    // --ask 4: yes to the question whether what conflicts is to be removed.
    assert!(host.moves(&["-U", "--ask", "4", &heir]));
    assert!(!host.exists("usr/lib/qemu/nfs.so"));
}

fn several_packages_in_one_transaction_touch_once(host: &Host) {
    host.machine.sh(r#"cd /usr/bin; mv modstamp modstamp.real
         printf '#!/bin/sh\necho "$@" >> /srv/log\nexec modstamp.real "$@"\n' > modstamp
         chmod 0755 modstamp"#);
    let (nfs, ssh) = (
        host.module("nfs", "1", "nfs.so"),
        host.module("ssh", "1", "ssh.so"),
    );
    assert!(host.moves(&["-U", &nfs, &ssh]));
    assert!(host.moves(&["-R", "nfs", "ssh"]));
    let line = "trigger pacman /usr/lib/qemu\n";
    assert_eq!(host.machine.sh("cat /srv/log"), line.repeat(2));
    host.machine.sh("cd /usr/bin; mv modstamp.real modstamp");
}

/// pacman compares the hook's pattern with whole paths.
fn a_package_elsewhere_does_not_touch(host: &Host) {
    let package = |version| {
        let paths = [
            "usr/share/elsewhere/usr/lib/qemu/a.so",
            "usr/lib/qemu-anything/a.so",
            "usr/lib/qemu.so",
        ];
        host.package("elsewhere", version, &paths)
    };
    assert!(!host.moves(&["-U", &package("1")]));
    assert!(!host.moves(&["-U", &package("2")]));
    assert!(!host.moves(&["-R", "elsewhere"]));
}

fn a_transaction_that_is_only_printed_does_not_touch(host: &Host) {
    assert!(!host.moves(&["-U", "--print", &host.module("nfs", "1", "nfs.so")]));
    assert!(!host.moves(&["-R", "--print", "first"]));
}

fn a_transaction_that_pacman_refuses_does_not_touch(host: &Host) {
    let conflict = host.module("conflict", "1", "first.so");
    let refused = || {
        let (succeeded, text) = host.try_pacman(&["-U", &conflict]);
        assert!(!succeeded && text.contains("conflicting files"), "{text}");
    };
    assert!(!host.machine.moves(refused));
}

fn an_answer_from_before_a_transaction_is_stale_and_one_from_after_it_fresh(host: &Host) {
    host.machine.observe();
    host.pacman(&[
        "-U",
        &host.package("elsewhere", "1", &["usr/share/elsewhere/text"]),
    ]);
    assert_eq!(host.machine.check(), None);

    host.pacman(&["-U", &host.module("nfs", "1", "nfs.so")]);
    let reasons = host.machine.check().unwrap();
    assert!(
        reasons.contains("stamp touched") && reasons.contains("nfs.so added to /usr/lib/qemu"),
        "{reasons}"
    );
    let stamp = host.machine.sh("cat /var/lib/modstamp/qemu.stamp");
    let why = "why: /usr/lib/qemu/nfs.so came, went or was replaced\n";
    assert!(
        stamp.contains("by: pacman\n") && stamp.contains(why),
        "{stamp}"
    );

    host.machine.observe();
    assert_eq!(host.machine.check(), None);
}

fn an_answer_from_before_a_removal_is_stale(host: &Host) {
    host.pacman(&["-U", &host.module("nfs", "1", "nfs.so")]);
    host.machine.observe();
    host.pacman(&["-R", "nfs"]);
    let reasons = host.machine.check().unwrap();
    assert!(
        reasons.contains("stamp touched") && reasons.contains("nfs.so removed from /usr/lib/qemu"),
        "{reasons}"
    );
}

fn a_hook_that_is_disabled_leaves_it_to_the_modules_themselves(host: &Host) {
    host.machine.sh("mkdir -p /etc/pacman.d/hooks
         ln -s /dev/null /etc/pacman.d/hooks/modstamp-qemu.hook");
    host.machine.observe();
    assert!(!host.moves(&["-U", &host.module("nfs", "1", "nfs.so")]));
    let added = "stale: module nfs.so added to /usr/lib/qemu\n";
    assert_eq!(host.machine.check().as_deref(), Some(added));
}

/// pacman reads the hooks of the root that it installs to, and runs them in it.
fn pacman_from_outside_the_root_moves_the_stamp_in_it_alone(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    // In the root, and so on the same path for each pacman: the packages, and what scriptlets are run by.
    host.machine.sh(
        "mkdir -p /srv/root/etc /srv/root/srv /srv/root/var/lib/pacman /srv/root/var/cache/pacman/pkg
         cp /etc/pacman.conf /srv/root/etc
         cp /srv/*.zst /srv/root/srv
         cp -L --parents /bin/sh $(ldd /bin/sh | grep -o '/lib[^ ]*') /srv/root",
    );
    let stamp = || {
        let stamp = host.outside("srv/root/var/lib/modstamp/qemu.stamp");
        std::fs::metadata(stamp).unwrap().modified().unwrap()
    };
    for option in ["--root", "--sysroot"] {
        let pacman =
            |arguments: &[&str]| host.pacman(&[&[option, "/srv/root"], arguments].concat());
        let all = || {
            pacman(&["-U", "/srv/system-1.pkg.tar.zst"]);
            pacman(&["-U", "/srv/modstamp.pkg.tar.zst"]);
            let before = stamp();
            pacman(&["-U", "/srv/nfs-1.pkg.tar.zst"]);
            let installed = stamp();
            assert!(installed > before, "{option}");
            pacman(&["-R", "nfs"]);
            assert!(stamp() > installed, "{option}");
            pacman(&["-R", "modstamp", "system"]);
        };
        assert!(!host.machine.moves(all));
    }
}

fn a_transaction_moves_the_directory_that_libvirt_watches(host: &Host) {
    let is_refreshed = || {
        host.machine
            .sh("stat -c %.9Y /usr/lib/qemu")
            .ends_with(".000000000\n")
    };
    host.machine.sh("touch /usr/lib/qemu");
    assert!(!is_refreshed());
    host.pacman(&["-U", &host.module("nfs", "1", "nfs.so")]);
    assert!(is_refreshed());
}

fn a_missing_stamp_directory_is_made_again(host: &Host) {
    host.machine.sh("rm -r /var/lib/modstamp");
    host.pacman(&["-U", &host.module("nfs", "1", "nfs.so")]);
    assert!(host.machine.stamp("qemu").is_some());
}

/// Installs and removes a module package, where the stamp cannot be touched.
fn no_transaction_fails(host: &Host, warning: &str) {
    let all = || {
        host.pacman_says(&["-U", &host.module("nfs", "1", "nfs.so")], warning);
        assert!(host.exists("usr/lib/qemu/nfs.so"));
        host.pacman_says(&["-R", "nfs"], warning);
        assert!(!host.exists("usr/lib/qemu/nfs.so"));
    };
    assert!(!host.machine.moves(all));
}

const WARNING: &str = "modstamp: warning: cannot touch the stamp /var/lib/modstamp/qemu.stamp";

fn a_read_only_stamp_directory_fails_no_transaction(host: &Host) {
    host.machine
        .sh("mount --bind /var/lib/modstamp /var/lib/modstamp
         mount -o remount,bind,ro /var/lib/modstamp");
    no_transaction_fails(host, WARNING);
}

fn a_file_in_the_stamp_directorys_place_fails_no_transaction(host: &Host) {
    host.machine
        .sh("mv /var/lib/modstamp /srv/kept; echo text > /var/lib/modstamp");
    no_transaction_fails(host, WARNING);
    assert_eq!(host.machine.sh("cat /var/lib/modstamp"), "text\n");
    host.machine
        .sh("rm /var/lib/modstamp; mv /srv/kept /var/lib/modstamp");
}

fn a_stamp_that_is_a_directory_fails_no_transaction(host: &Host) {
    host.machine
        .sh("cd /var/lib/modstamp; rm qemu.stamp; mkdir qemu.stamp; touch qemu.stamp/text");
    no_transaction_fails(host, "qemu.stamp is a directory");
    host.machine.sh("rm -r /var/lib/modstamp/qemu.stamp");
}

/// Somebody removed it by force. pacman itself complains then, and goes on.
fn a_program_that_is_not_there_fails_no_transaction(host: &Host) {
    host.machine.sh("mv /usr/bin/modstamp /srv");
    no_transaction_fails(host, "command failed to execute correctly");
    host.machine.sh("mv /srv/modstamp /usr/bin");
}

/// pacman complains of a reader that leaves early, where the list is longer than a pipe holds.
fn a_transaction_of_many_modules_ends_without_a_complaint(host: &Host) {
    let names: Vec<String> = (0..5_000)
        .map(|n| format!("{MODULES}/a-module-of-some-name-{n}.so"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(host.moves(&["-U", &host.package("many", "1", &names)]));
    assert!(host.moves(&["-R", "many"]));
}

fn installing_modstamp_beside_modules_moves_the_stamp(host: &Host) {
    host.pacman(&["-R", "modstamp"]);
    assert_eq!(host.machine.stamp("qemu"), None);
    host.pacman(&["-U", "/srv/modstamp.pkg.tar.zst"]);
    assert!(host.machine.stamp("qemu").is_some());
}

fn the_package_has_what_arch_expects(host: &Host) {
    let list = host.pacman(&["-Qlq", "modstamp"]);
    for path in [
        "/usr/bin/modstamp",
        "/usr/include/modstamp.h",
        "/usr/lib/libmodstamp.so.0",
        "/usr/lib/pkgconfig/modstamp.pc",
        "/usr/lib/systemd/system/modstamp-update@.path",
        "/usr/lib/systemd/system/modstamp-update@qemu.path.d/directories.conf",
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
    // What is rpm's alone, and where Arch has nothing.
    for path in ["/rpm-", "/usr/libexec", "/usr/lib64", "/usr/local"] {
        assert!(!list.contains(path), "{path} in {list}");
    }
    // By what the library is called in the package, makepkg found out what to provide.
    let information = host.pacman(&["-Qi", "modstamp"]);
    assert!(
        information.contains(": libmodstamp.so=0-64\n"),
        "{information}"
    );
}

fn removing_modstamp_leaves_nothing(host: &Host) {
    host.pacman(&["-R", "modstamp"]);
    let left = "find / -xdev -path /srv -prune -o -name '*modstamp*' -print";
    assert_eq!(host.machine.sh(left), "");
    assert!(host.exists("usr/lib/qemu/first.so"));
}
