//! The rpm packages under real rpms: does the stamp move exactly when it should?
//!
//! rpmbuild builds the packages from the tarball that `make dist` writes. Throw-away machines with
//! rpm 4.18 and 4.20 install them, together with small packages of the tests' own. After each
//! scenario `rpm -V` must find nothing wrong. manager.rs has the scenarios that all managers share.

use std::process::Command;

use support::machine::Machine;
use support::rpm::{self, MODULES, PACKAGES, Package};
use support::test::{Needs, Test};
use support::{named, run};

use crate::manager::Verb::{self, Downgrade, Install, Purge, Reinstall, Remove, Upgrade};
use crate::manager::{self, Arguments, Facts, Manager, Rival, words};

/// The rpms, and the suites of Debian that have them.
const RPMS: [(&str, &str); 2] = [("rpm_4_18", "bookworm"), ("rpm_4_20", "trixie")];

/// The programs that rpm's triggers start, for each package and at the end of a transaction.
const TRIGGERS: [&str; 2] = [
    "/usr/libexec/modstamp/rpm-trigger",
    "/usr/libexec/modstamp/rpm-transaction",
];

/// RHEL's directory of QEMU's modules.
const RHELS: &str = "/usr/lib64/qemu-kvm";

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&rpm::PROGRAMS);
    let of = |(rpm, suite): (&str, &'static str)| {
        manager::tests(rpm, &needs, move || Host::new(suite), OWN)
    };
    RPMS.into_iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const OWN: &[(&str, Scenario)] = named![
    rhels_directory_moves_the_stamp,
    a_package_that_replaces_itself_moves_the_stamp,
    the_last_modules_removal_moves_the_stamp_before_and_after,
    the_triggers_start_no_shell,
    the_program_of_the_triggers_has_at_most_64_kib,
    a_transaction_ends_with_its_one_synced_touch,
    modstamp_removed_by_force_fails_no_transaction,
    upgrading_modstamp_qemu_moves_the_stamp,
    a_package_in_any_directory_of_the_ecosystems_moves_that_stamp,
    a_package_beside_the_ecosystems_directories_moves_no_stamp,
];

/// Profiles of modstamp-ecosystems, with a file in each directory that packages may have: those of
/// several Pythons, and those of a 32-bit program beside one with 64 bits.
const ECOSYSTEMS: &[(&str, &[&str])] = &[
    (
        "entry-points",
        &[
            "/usr/lib/python3.9/site-packages/a-1.egg-info/entry_points.txt",
            "/usr/lib/python3.99/site-packages/a-1.dist-info/entry_points.txt",
            "/usr/lib64/python3.9/site-packages/a-1.egg-info/entry_points.txt",
            "/usr/lib64/python3.99/site-packages/a-1.dist-info/entry_points.txt",
        ],
    ),
    (
        "gstreamer",
        &[
            "/usr/lib/gstreamer-1.0/a.so",
            "/usr/lib64/gstreamer-1.0/a.so",
        ],
    ),
    (
        "libguestfs",
        &[
            "/usr/lib/qemu/a.so",
            "/usr/lib64/qemu/a.so",
            "/usr/lib64/qemu-kvm/a.so",
        ],
    ),
    (
        "nbdkit",
        &[
            "/usr/lib/nbdkit/filters/a.so",
            "/usr/lib/nbdkit/plugins/a.so",
            "/usr/lib64/nbdkit/filters/a.so",
            "/usr/lib64/nbdkit/plugins/a.so",
        ],
    ),
];

const FACTS: Facts = Facts {
    command: &["rpm"],
    only_tried: "--test",
    without_triggers: &[&["--noscripts"], &["--notriggers"]],
    put_off: None,
    in_root: &[&["--root", "/srv/root"]],
    own: &["modstamp", "modstamp-qemu"],
    programs: &TRIGGERS,
    further_directories: &[RHELS],
};

/// A machine with modstamp, modstamp-qemu and one module, so that there is a stamp.
struct Host {
    machine: Machine,
}

impl Host {
    fn new(suite: &str) -> Host {
        let host = Host {
            machine: Machine::new(suite, &["rpm"]),
        };
        rpm::put(&host.machine);
        host.transact(Install, &words(&host.own_paths()));
        assert_eq!(host.machine.stamp("qemu"), None, "there is no module");
        host.transact(Install, &[&host.module("first", "1", "first.so")]);
        assert!(host.machine.stamp("qemu").is_some());
        host
    }

    /// Builds a package into the machine; returns its path there.
    fn put(&self, package: &Package) -> String {
        let path = format!("{PACKAGES}/{}-{}.rpm", package.name, package.version);
        self.machine.put(&package.build(), &path);
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
            Install => &["-i"],
            Reinstall => &["--reinstall"],
            Downgrade => &["-U", "--oldpackage"],
            Remove | Purge => &["-e"],
            _ => &["-U"],
        }
    }

    /// Debian's rpm advises against itself, and rpm 4.20 warns of every other root.
    fn is_complaint(&self, line: &str) -> bool {
        let harmless = [
            "rpm: RPM should not be used directly",
            "rpm: However assuming you know",
            "warning: private mounts in chroot not implemented",
        ];
        !harmless.iter().any(|words| line.starts_with(words))
    }

    fn modules(&self) -> &str {
        MODULES
    }

    fn build(&self, name: &str, version: &str, files: &[(&str, &str)], rival: Rival) -> String {
        // With the directory that a module lies in.
        let is_module = |(path, _): &(&str, _)| path.starts_with("/usr/lib64/qemu/");
        let has_module = files.iter().any(is_module);
        let directory = if has_module {
            "%dir /usr/lib64/qemu\n"
        } else {
            ""
        };
        self.put(&Package {
            name,
            version,
            files,
            tags: &match rival {
                Rival::None => String::new(),
                Rival::Kept(name) => format!("Conflicts: {name}"),
                Rival::Replaced(name) => format!("Obsoletes: {name}"),
            },
            sections: directory,
            ..Package::default()
        })
    }

    fn own_path(&self, name: &str) -> String {
        format!("{PACKAGES}/{name}-1.rpm")
    }

    fn own_later(&self) -> Vec<String> {
        let later = |name| format!("{PACKAGES}/{name}-1.again.rpm");
        FACTS.own.iter().map(later).collect()
    }

    fn make_root(&self) {
        // modstamp needs a C library, which no package of rpm's brings here.
        self.sh("cd /srv
             mkdir root
             cp -L --parents $(ldd /usr/bin/modstamp | grep -o '/lib[^ ]*') root");
    }

    fn is_well(&self) {
        self.run(&["-V", "--all"]);
    }
}

fn rhels_directory_moves_the_stamp(host: &Host) {
    let module = host.package("nfs", "1", &[&format!("{RHELS}/nfs.so")]);
    assert!(host.moves(Install, &[&module]));
    assert!(host.moves(Remove, &["nfs"]));
}

fn a_package_that_replaces_itself_moves_the_stamp(host: &Host) {
    let nfs = host.module("nfs", "1", "nfs.so");
    host.transact(Install, &[&nfs]);
    assert!(host.run_moves(&["-U", "--replacepkgs", &nfs]));
    let own = host.own_paths();
    assert!(host.run_moves(&["-U", "--replacepkgs", &own[0], &own[1]]));
}

/// Scriptlets note, while the last module goes, how the stamp is and which modules are there.
fn the_last_modules_removal_moves_the_stamp_before_and_after(host: &Host) {
    host.transact(Remove, &["first"]);
    let note = |section: &str| {
        format!(
            "{section}\necho $(stat -c %.9Y /var/lib/modstamp/qemu.stamp) $(ls /usr/lib64/qemu 2>/dev/null) \
             >> /srv/notes\n"
        )
    };
    let module = host.put(&Package {
        name: "nfs",
        version: "1",
        files: &[("/usr/lib64/qemu/nfs.so", "")],
        sections: &format!("%dir {MODULES}\n{}{}", note("%preun"), note("%postun")),
        ..Package::default()
    });
    // The higher priority runs it before modstamp's trigger. The machine's shell is in no package.
    let observer = host.put(&Package {
        name: "observer",
        version: "1",
        tags: "Provides: /bin/sh",
        sections: &note("%filetriggerpostun -P 2000000 -- /usr/lib64/qemu"),
        ..Package::default()
    });
    host.transact(Install, &[&module, &observer]);
    let at_first = host.machine.stamp("qemu").unwrap();

    host.transact(Remove, &["nfs"]);

    let notes = std::fs::read_to_string(host.outside("/srv/notes")).unwrap();
    let notes: Vec<_> = notes
        .lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(time, modules)| (time.replace('.', "").parse::<i128>().unwrap(), modules))
        .collect();
    let [(before, there), (gone, none), (after, none_either)] = notes[..] else {
        panic!("{notes:?}");
    };
    assert_eq!([there, none, none_either], ["nfs.so", "", ""]);
    assert!(before > at_first, "%filetriggerun moved it");
    assert_eq!(gone, before, "nothing moves it while the files go");
    assert!(after > gone, "%filetriggerpostun moved it");
    assert!(
        host.machine.stamp("qemu").unwrap() > after,
        "%transfiletriggerpostun moved it"
    );
}

fn the_program_of_the_triggers_has_at_most_64_kib(host: &Host) {
    let program = host.machine.root.join(&TRIGGERS[0][1..]);
    let size = std::fs::metadata(program).unwrap().len();
    assert!(size <= 64 << 10, "{size} bytes");
}

fn the_triggers_start_no_shell(host: &Host) {
    host.sh("chmod 0 $(realpath /bin/sh)");
    let shell = host
        .machine
        .command("/bin/sh")
        .args(["-c", "true"])
        .output();
    assert!(!shell.unwrap().status.success());

    assert!(host.moves(Install, &[&host.module("nfs", "1", "nfs.so")]));
    assert!(host.moves(Remove, &["nfs"]));
}

fn a_transaction_ends_with_its_one_synced_touch(host: &Host) {
    let synced = |arguments: &[&str]| {
        let log = host.outside("/srv/strace");
        let command = host.machine.command("rpm");
        run(Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                "trace=execve,fsync,fdatasync,sync,syncfs",
                "-o",
            ])
            .args([log.as_os_str(), command.get_program()])
            .args(command.get_args())
            .args(arguments));
        syncs(&std::fs::read_to_string(log).unwrap())
    };
    for directory in [MODULES, RHELS] {
        let [nfs, ssh] = ["nfs", "ssh"]
            .map(|name| host.package(name, "1", &[&format!("{directory}/{name}.so")]));
        // %filetriggerin of each, then %transfiletriggerin.
        assert_eq!(synced(&["-i", &nfs, &ssh]), [false, false, true]);
        // %filetriggerun and %filetriggerpostun of each, then %transfiletriggerpostun.
        assert_eq!(
            synced(&["-e", "nfs", "ssh"]),
            [false, false, false, false, true]
        );
    }
}

/// For each trigger in what strace wrote, in their order, whether it synced anything.
fn syncs(log: &str) -> Vec<bool> {
    let mut triggers: Vec<(&str, bool)> = Vec::new();
    for line in log.lines() {
        let (process, call) = line.split_once(char::is_whitespace).unwrap();
        let call = call.trim_start();
        let is_of = |trigger| call.starts_with(&format!("execve(\"{trigger}\""));
        if TRIGGERS.into_iter().any(is_of) {
            triggers.push((process, false));
        } else if call.contains("sync") && !call.starts_with("execve") {
            let trigger = triggers
                .iter_mut()
                .rfind(|(trigger, _)| *trigger == process);
            trigger.into_iter().for_each(|(_, synced)| *synced = true);
        }
    }
    triggers.into_iter().map(|(_, synced)| synced).collect()
}

/// rpm itself complains then, and goes on.
fn modstamp_removed_by_force_fails_no_transaction(host: &Host) {
    host.run(&["-e", "--nodeps", "modstamp"]);
    host.complaints(&["-i", &host.module("nfs", "1", "nfs.so")]);
    host.complaints(&["-e", "nfs"]);
    host.transact(Install, &[&host.own_path("modstamp")]);
}

fn upgrading_modstamp_qemu_moves_the_stamp(host: &Host) {
    let (old, new) = (host.own_paths(), host.own_later());
    assert!(host.moves(Upgrade, &words(&new)));
    assert!(host.moves(Reinstall, &words(&new)));
    assert!(host.moves(Downgrade, &words(&old)));
    assert!(host.moves(Install, &[&host.module("nfs", "1", "nfs.so")]));
}

/// The profiles of [`ECOSYSTEMS`] whose stamps move in a transaction.
fn moved_ecosystems(host: &Host, verb: Verb, package: &str) -> Vec<&'static str> {
    let profiles = ECOSYSTEMS.iter().map(|(profile, _)| *profile);
    let stamps = || profiles.clone().map(|profile| host.machine.stamp(profile));
    let before: Vec<_> = stamps().collect();
    host.transact(verb, &[package]);
    let moved = before.into_iter().zip(stamps()).zip(profiles);
    let moved = moved.filter(|((before, after), _)| before < after);
    moved.map(|(_, profile)| profile).collect()
}

fn a_package_in_any_directory_of_the_ecosystems_moves_that_stamp(host: &Host) {
    host.transact(Install, &[&host.own_path("modstamp-ecosystems")]);
    for (profile, paths) in ECOSYSTEMS {
        for path in *paths {
            let package = host.package("plug-in", "1", &[path]);
            assert_eq!(
                moved_ecosystems(host, Install, &package),
                [*profile],
                "{path}"
            );
            assert_eq!(
                moved_ecosystems(host, Remove, "plug-in"),
                [*profile],
                "{path}"
            );
        }
    }
}

fn a_package_beside_the_ecosystems_directories_moves_no_stamp(host: &Host) {
    host.transact(Install, &[&host.own_path("modstamp-ecosystems")]);
    for path in [
        "/usr/lib/python2.7/site-packages/a-1.egg-info/entry_points.txt",
        "/usr/lib64/gstreamer-1.0-tools/a.so",
        "/usr/lib/qemu.conf",
        "/usr/lib64/nbdkit-tools/a.so",
    ] {
        let package = host.package("other", "1", &[path]);
        assert!(
            moved_ecosystems(host, Install, &package).is_empty(),
            "{path}"
        );
        assert!(moved_ecosystems(host, Remove, "other").is_empty(), "{path}");
    }
}
