//! The rpm packages as people get them: dnf and zypper install them from a repository, and really
//! solve their dependencies.
//!
//! A throw-away Debian machine has both package managers, and a repository that createrepo_c
//! writes. It holds the packages that `rpm/modstamp.spec` builds, and small ones of the tests' own.
//! One more package provides the names that they require of a distribution. There is no network,
//! and nothing is signed. After each scenario, `rpm -V` must find no fault. rpm.rs tests the
//! triggers in detail.

use std::path::PathBuf;
use std::process::Command;

use support::machine::Machine;
use support::rpm::{self, MODULES, PACKAGES, Package};
use support::test::{Needs, Test, test};
use support::{named, run};

/// What is needed beside what the packages need.
const PROGRAM: &str = "createrepo_c";

/// Where machines have the repository.
const REPOSITORY: &str = "/srv/repository";

/// The repository, for both package managers.
const CONFIGURATION: &str =
    "[tests]\nname=tests\nbaseurl=file:///srv/repository\nenabled=1\nautorefresh=1\ngpgcheck=0\n";

/// A package manager of a suite, and how it is called. What it asks is answered, and the repository
/// is read anew each time.
struct Manager {
    name: &'static str,
    suite: &'static str,
    is_zypper: bool,
}

const MANAGERS: [Manager; 4] = [
    Manager {
        name: "dnf_4_14",
        suite: "bookworm",
        is_zypper: false,
    },
    Manager {
        name: "dnf_4_23",
        suite: "trixie",
        is_zypper: false,
    },
    Manager {
        name: "zypper_1_14_42",
        suite: "bookworm",
        is_zypper: true,
    },
    Manager {
        name: "zypper_1_14_89",
        suite: "trixie",
        is_zypper: true,
    },
];

type Scenario = fn(&Host);

const SCENARIOS: &[(&str, Scenario)] = named![
    modstamp_qemu_brings_modstamp,
    modstamp_devel_brings_the_library_and_what_that_needs,
    installing_a_module_package_makes_an_answer_stale,
    a_module_package_that_comes_as_a_dependency_makes_an_answer_stale,
    upgrading_a_module_package_makes_an_answer_stale,
    downgrading_a_module_package_makes_an_answer_stale,
    reinstalling_a_module_package_makes_an_answer_stale,
    removing_a_module_package_makes_an_answer_stale,
    a_package_that_obsoletes_a_module_package_makes_an_answer_stale,
    removing_what_is_no_longer_needed_makes_an_answer_stale,
    packages_elsewhere_leave_an_answer_fresh,
    a_transaction_that_nobody_agreed_to_does_not_touch,
    another_root_gets_a_stamp_of_its_own,
    a_stamp_that_cannot_be_written_fails_no_transaction,
    removing_modstamp_leaves_nothing,
];

/// What dnf alone can do.
const OF_DNF: &[(&str, Scenario)] = named![undoing_a_transaction_makes_an_answer_stale,];

pub fn tests() -> Vec<Test> {
    MANAGERS.iter().flat_map(scenarios).collect()
}

/// The tests of one package manager.
fn scenarios(manager: &'static Manager) -> Vec<Test> {
    let needs = Needs::root_and(&[&rpm::PROGRAMS[..], &[PROGRAM]].concat());
    let of = |(name, scenario): &(&str, Scenario)| {
        let scenario = *scenario;
        test(format!("{}::{name}", manager.name), &needs, move || {
            let host = Host::new(manager);
            scenario(&host);
            host.is_well();
        })
    };
    let alone = if manager.is_zypper { &[] } else { OF_DNF };
    SCENARIOS.iter().chain(alone).map(of).collect()
}

/// A machine with modstamp, modstamp-qemu and one module, so that there is a stamp.
struct Host {
    machine: Machine,
    manager: &'static Manager,
}

impl Host {
    fn new(manager: &'static Manager) -> Host {
        let host = Host {
            machine: Machine::new(manager.suite, &["dnf", "rpm", "zypper"]),
            manager,
        };
        rpm::put(&host.machine);
        for directory in ["etc/yum.repos.d", "etc/zypp/repos.d"] {
            let directory = host.outside(directory);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("tests.repo"), CONFIGURATION).unwrap();
        }
        host.machine.sh(&format!(
            "mkdir {REPOSITORY}; mv {PACKAGES}/modstamp*-1.rpm {REPOSITORY}"
        ));
        host.add(&Package {
            name: "system",
            version: "1",
            tags: &host.provides(),
            ..Package::default()
        });
        host.module("first", "1", "first.so");
        host.install(&["modstamp-qemu", "first"]);
        assert!(host.machine.stamp("qemu").is_some());
        host
    }

    /// As tags of a spec, what the packages need of a distribution.
    fn provides(&self) -> String {
        let needs = format!("rpm -qp --requires {REPOSITORY}/*.rpm 2>/dev/null | sort -u");
        let needs = self.machine.sh(&needs);
        let own = [
            "rpmlib(",
            "modstamp",
            "libmodstamp",
            "/usr/libexec/modstamp/",
        ];
        let of_system = |need: &&str| !own.iter().any(|own| need.starts_with(own));
        let tag = |need: &str| format!("Provides: {need}\n");
        needs.lines().filter(of_system).map(tag).collect()
    }

    /// Adds a package to the repository.
    fn add(&self, package: &Package) {
        let path = format!("{REPOSITORY}/{}-{}.rpm", package.name, package.version);
        self.machine.put(&package.build(), &path);
        run(Command::new(PROGRAM)
            .args(["--quiet", "--update"])
            .arg(self.outside(REPOSITORY)));
    }

    /// Adds a package with one file in QEMU's module directory.
    fn module(&self, name: &str, version: &str, file: &str) {
        let path = format!("{MODULES}/{file}");
        self.add(&Package {
            name,
            version,
            files: &[(&path, version)],
            ..Package::default()
        });
    }

    /// Runs the package manager, with other arguments for each; returns whether it succeeded, and
    /// what it printed. Nothing here takes minutes, so what does is stuck.
    fn try_one(&self, dnf: &[&str], zypper: &[&str]) -> (bool, String) {
        let arguments = if self.manager.is_zypper {
            [&["zypper", "--non-interactive"], zypper].concat()
        } else {
            // Debian is no release that dnf knows.
            [&["dnf", "--assumeyes", "--refresh", "--releasever=1"], dnf].concat()
        };
        let mut command = self.machine.command("timeout");
        let output = command.arg("300").args(&arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = format!("{arguments:?}: {}", String::from_utf8_lossy(&text));
        (output.status.success(), text)
    }

    /// Runs the package manager, which must succeed and pass on no complaint of a trigger's.
    fn one(&self, dnf: &[&str], zypper: &[&str]) -> String {
        let (succeeded, text) = self.try_one(dnf, zypper);
        assert!(succeeded, "{text}");
        for complaint in ["modstamp: ", "scriptlet failed", "Error in"] {
            assert!(!text.contains(complaint), "{text}");
        }
        text
    }

    fn install(&self, packages: &[&str]) {
        let arguments = [&["install"], packages].concat();
        self.one(&arguments, &arguments);
    }

    fn remove(&self, packages: &[&str]) {
        let arguments = [&["remove"], packages].concat();
        self.one(&arguments, &arguments);
    }

    fn upgrade(&self) {
        self.one(&["upgrade"], &["update"]);
    }

    /// `action` moves the stamp, and makes an answer from before it stale with this among its
    /// reasons; one from after it is fresh.
    fn makes_stale(&self, reason: &str, action: impl FnOnce()) {
        self.machine.observe();
        assert!(self.machine.moves(action), "the stamp stayed");
        let reasons = self.machine.check().expect("fresh");
        for reason in ["stamp touched", reason] {
            assert!(reasons.contains(reason), "no “{reason}” in {reasons}");
        }
        self.machine.observe();
    }

    /// The path, from outside, of `path` in the machine.
    fn outside(&self, path: &str) -> PathBuf {
        self.machine.root.join(path.trim_start_matches('/'))
    }

    fn exists(&self, path: &str) -> bool {
        self.outside(path).symlink_metadata().is_ok()
    }

    /// rpm finds no file of an installed package that is not as it was packed, and no dependency
    /// that is not met.
    fn is_well(&self) {
        let mut command = self.machine.command("rpm");
        assert_eq!(run(command.args(["-V", "--all"])), "");
    }
}

fn modstamp_qemu_brings_modstamp(host: &Host) {
    host.machine.sh("rpm -q modstamp modstamp-qemu");
}

fn modstamp_devel_brings_the_library_and_what_that_needs(host: &Host) {
    host.install(&["modstamp-devel"]);
    host.machine.sh("rpm -q modstamp-libs system");
}

fn installing_a_module_package_makes_an_answer_stale(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    host.makes_stale("module nfs.so added", || host.install(&["nfs"]));
}

fn a_module_package_that_comes_as_a_dependency_makes_an_answer_stale(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    user(host);
    host.makes_stale("module nfs.so added", || host.install(&["user"]));
}

/// Adds a package that needs the package “nfs”.
fn user(host: &Host) {
    host.add(&Package {
        name: "user",
        version: "1",
        tags: "Requires: nfs",
        ..Package::default()
    });
}

fn upgrading_a_module_package_makes_an_answer_stale(host: &Host) {
    host.module("first", "2", "first.so");
    host.makes_stale("module first.so", || host.upgrade());
    host.module("first", "3", "other.so");
    host.makes_stale("module first.so removed", || host.upgrade());
    assert!(!host.exists("/usr/lib64/qemu/first.so"));
}

fn downgrading_a_module_package_makes_an_answer_stale(host: &Host) {
    host.module("first", "2", "first.so");
    host.upgrade();
    let downgrade = || {
        let zypper = ["install", "--oldpackage", "first=1"];
        host.one(&["downgrade", "first"], &zypper);
    };
    host.makes_stale("module first.so", downgrade);
}

fn reinstalling_a_module_package_makes_an_answer_stale(host: &Host) {
    let reinstall = || {
        let zypper = ["install", "--force", "first"];
        host.one(&["reinstall", "first"], &zypper);
    };
    host.makes_stale("stamp touched", reinstall);
}

fn removing_a_module_package_makes_an_answer_stale(host: &Host) {
    host.makes_stale("first.so", || host.remove(&["first"]));
    assert!(!host.exists("/usr/lib64/qemu/first.so"));
}

fn a_package_that_obsoletes_a_module_package_makes_an_answer_stale(host: &Host) {
    host.add(&Package {
        name: "heir",
        version: "1",
        tags: "Obsoletes: first\nProvides: first = 2",
        ..Package::default()
    });
    // zypper follows those that obsolete only when the whole distribution is upgraded.
    let upgrade = || {
        host.one(&["upgrade"], &["dist-upgrade"]);
    };
    host.makes_stale("first.so", upgrade);
    assert!(!host.exists("/usr/lib64/qemu/first.so"));
}

fn removing_what_is_no_longer_needed_makes_an_answer_stale(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    user(host);
    host.install(&["user"]);
    let clean = || {
        let zypper = ["remove", "--clean-deps", "user"];
        host.one(&["remove", "--noautoremove", "user"], &zypper);
        if !host.manager.is_zypper {
            assert!(host.exists("/usr/lib64/qemu/nfs.so"));
            host.one(&["autoremove"], &[]);
        }
    };
    host.makes_stale("module nfs.so removed", clean);
}

fn undoing_a_transaction_makes_an_answer_stale(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    host.install(&["nfs"]);
    let undo = || {
        host.one(&["history", "undo", "last"], &[]);
    };
    host.makes_stale("module nfs.so removed", undo);
    host.makes_stale("module nfs.so added", undo);
}

fn packages_elsewhere_leave_an_answer_fresh(host: &Host) {
    let elsewhere = |version| {
        host.add(&Package {
            name: "elsewhere",
            version,
            files: &[("/usr/share/elsewhere/text", version)],
            ..Package::default()
        });
    };
    elsewhere("1");
    host.machine.observe();
    let all = || {
        host.install(&["elsewhere"]);
        elsewhere("2");
        host.upgrade();
        host.remove(&["elsewhere"]);
    };
    assert!(!host.machine.moves(all));
    assert_eq!(host.machine.check(), None);
}

fn a_transaction_that_nobody_agreed_to_does_not_touch(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    let only_tried = || {
        // Saying no is an error of dnf's.
        host.try_one(
            &["install", "--assumeno", "nfs"],
            &["install", "--dry-run", "nfs"],
        );
        host.one(
            &["install", "--downloadonly", "nfs"],
            &["install", "--download-only", "nfs"],
        );
    };
    assert!(!host.machine.moves(only_tried));
    assert!(!host.exists("/usr/lib64/qemu/nfs.so"));
}

/// A root that has only a C library and the files of the packages.
fn another_root_gets_a_stamp_of_its_own(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    host.machine.sh("mkdir -p /srv/root/etc/zypp
         cp -r /etc/zypp/repos.d /srv/root/etc/zypp
         cd /srv; cp -L --parents $(ldd /usr/bin/modstamp | grep -o '/lib[^ ]*') root");
    let in_root = |arguments: &[&str]| {
        let dnf = [
            "--installroot=/srv/root",
            "--setopt=reposdir=/etc/yum.repos.d",
        ];
        host.one(
            &[&dnf, arguments].concat(),
            &[&["--root", "/srv/root"], arguments].concat(),
        );
    };
    let stamp = || {
        let stamp = host.outside("/srv/root/var/lib/modstamp/qemu.stamp");
        stamp.metadata().unwrap().modified().unwrap()
    };
    let all = || {
        in_root(&["install", "modstamp-qemu", "first"]);
        let before = stamp();
        in_root(&["install", "nfs"]);
        let installed = stamp();
        assert!(installed > before);
        in_root(&["remove", "nfs"]);
        assert!(stamp() > installed);
    };
    assert!(!host.machine.moves(all));
}

fn a_stamp_that_cannot_be_written_fails_no_transaction(host: &Host) {
    host.module("nfs", "1", "nfs.so");
    host.machine
        .sh("mount --bind /var/lib/modstamp /var/lib/modstamp
         mount -o remount,bind,ro /var/lib/modstamp");
    let all = || {
        for (verb, is_there) in [("install", true), ("remove", false)] {
            let (succeeded, text) = host.try_one(&[verb, "nfs"], &[verb, "nfs"]);
            assert!(succeeded && text.contains("modstamp: warning: "), "{text}");
            assert_eq!(host.exists("/usr/lib64/qemu/nfs.so"), is_there);
        }
    };
    assert!(!host.machine.moves(all));
}

fn removing_modstamp_leaves_nothing(host: &Host) {
    host.remove(&["modstamp"]);
    let left =
        "find / -xdev -path /srv -prune -o -path '/var/cache' -prune -o -name '*modstamp*' -print";
    assert_eq!(host.machine.sh(left), "");
    assert!(host.exists("/usr/lib64/qemu/first.so"));
}
