//! The rpm packages under real rpms: does the stamp move exactly when it should?
//!
//! The packages are built by rpmbuild from the tarball that `make dist` writes, and installed into throw-away machines
//! with rpm 4.18 and 4.20, together with small packages of the tests' own. After each scenario `rpm -V` must find
//! nothing wrong.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use support::machine::Machine;
use support::rpm::{self, MODULES, PACKAGES, Package};
use support::test::{Needs, Test, test};
use support::{named, run};

/// The rpms, and the suites of Debian that have them.
const RPMS: [(&str, &str); 2] = [("rpm_4_18", "bookworm"), ("rpm_4_20", "trixie")];

/// What rpm's triggers start, for each package and at the end of a transaction.
const TRIGGERS: [&str; 2] = [
    "/usr/libexec/modstamp/rpm-trigger",
    "/usr/libexec/modstamp/rpm-transaction",
];

pub fn tests() -> Vec<Test> {
    let of = |(rpm, suite): &(&str, &'static str)| scenarios(rpm, suite);
    RPMS.iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const SCENARIOS: &[(&str, Scenario)] = named![
    installing_a_module_package_moves_the_stamp,
    upgrading_to_one_more_module_moves_the_stamp,
    upgrading_to_another_content_moves_the_stamp,
    upgrading_to_one_module_less_moves_the_stamp,
    upgrading_to_no_module_at_all_moves_the_stamp,
    reinstalling_a_module_package_moves_the_stamp,
    downgrading_a_module_package_moves_the_stamp,
    removing_a_module_package_moves_the_stamp,
    a_module_in_a_directory_further_below_moves_the_stamp,
    rhels_directory_moves_the_stamp,
    several_packages_in_one_transaction_move_the_stamp,
    a_package_that_obsoletes_a_module_package_moves_the_stamp,
    the_last_modules_removal_moves_the_stamp_before_and_after,
    twenty_thousand_modules_move_the_stamp,
    a_package_elsewhere_does_not_touch,
    a_directory_whose_name_only_begins_like_the_modules_does_not_touch,
    a_transaction_that_is_only_tried_does_not_touch,
    a_transaction_that_rpm_refuses_does_not_touch,
    without_scriptlets_the_modules_themselves_tell,
    without_triggers_the_modules_themselves_tell,
    the_same_package_again_without_triggers_is_fresh,
    an_answer_from_before_a_transaction_is_stale_and_one_from_after_it_fresh,
    rpm_from_outside_the_root_moves_the_stamp_in_it_alone,
    the_triggers_start_no_shell,
    a_transaction_ends_with_its_one_synced_touch,
    a_transaction_moves_the_directory_that_libvirt_watches_to_a_second_that_it_never_had,
    the_last_modules_removal_moves_the_programs_ctimes_for_libvirt,
    an_administrator_who_wants_libvirt_left_alone_is_heeded,
    a_missing_stamp_directory_is_made_again,
    a_full_stamp_directory_fails_no_transaction,
    a_read_only_stamp_directory_fails_no_transaction,
    a_file_in_the_stamp_directorys_place_fails_no_transaction,
    a_stamp_that_is_a_link_fails_no_transaction_and_leaves_its_target_alone,
    a_stamp_that_is_a_directory_fails_no_transaction,
    a_stamp_that_is_a_fifo_fails_no_transaction,
    a_program_that_is_not_there_fails_no_transaction,
    installing_modstamp_qemu_beside_modules_moves_the_stamp,
    upgrading_modstamp_qemu_moves_the_stamp,
    a_touch_changes_nothing_that_rpm_verifies,
    removing_modstamp_leaves_nothing,
    removing_modstamp_together_with_the_modules_leaves_nothing,
];

/// The tests of one rpm.
fn scenarios(rpm: &str, suite: &'static str) -> Vec<Test> {
    let needs = Needs::root_and(&rpm::PROGRAMS);
    let of = |(name, scenario): &(&str, Scenario)| {
        let scenario = *scenario;
        test(format!("{rpm}::{name}"), &needs, move || {
            let host = Host::new(suite);
            scenario(&host);
            host.is_well();
        })
    };
    SCENARIOS.iter().map(of).collect()
}

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
        let first = host.module("first", "1", "first.so");
        host.rpm(&[
            "-i",
            &host.own("modstamp"),
            &host.own("modstamp-qemu"),
            &first,
        ]);
        assert!(host.stamp().is_some());
        host
    }

    /// The path, in the machine, of one of the packages that the spec builds.
    fn own(&self, name: &str) -> String {
        format!("{PACKAGES}/{name}-1.rpm")
    }

    /// The same as a later release.
    fn own_again(&self, name: &str) -> String {
        format!("{PACKAGES}/{name}-1.again.rpm")
    }

    /// Builds a package into the machine; returns its path there.
    fn build(&self, package: &Package) -> String {
        let path = format!("{PACKAGES}/{}-{}.rpm", package.name, package.version);
        self.machine.put(&package.build(), &path);
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

    /// Runs rpm in the machine; returns whether it succeeded, and what it printed as errors. Nothing here takes minutes,
    /// so what does is stuck.
    fn try_rpm(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.machine.command("timeout");
        let output = command
            .args(["120", "rpm"])
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), without_debians_advice(&errors))
    }

    /// Runs rpm in the machine, which must succeed without a word.
    fn rpm(&self, arguments: &[&str]) {
        assert_eq!(
            self.try_rpm(arguments),
            (true, String::new()),
            "rpm {arguments:?}"
        );
    }

    /// Runs rpm in the machine, which must succeed although the stamp cannot be touched, and pass on a warning that
    /// says so.
    fn rpm_warns(&self, arguments: &[&str]) {
        let (succeeded, errors) = self.try_rpm(arguments);
        assert!(succeeded, "{errors}");
        let about_stamp = |line: &str| {
            line.starts_with("modstamp: warning: ") && line.contains("/var/lib/modstamp")
        };
        assert!(
            !errors.is_empty() && errors.lines().all(about_stamp),
            "{errors:?}"
        );
    }

    /// The stamp's mtime in nanoseconds since 1970.
    fn stamp(&self) -> Option<i128> {
        self.machine.stamp("qemu")
    }

    /// Whether the stamp moves while `action` runs. It never goes back.
    fn moves<T>(&self, action: impl FnOnce() -> T) -> bool {
        self.machine.moves(action)
    }

    /// Whether the stamp moves when rpm runs, which must succeed without a word.
    fn rpm_moves(&self, arguments: &[&str]) -> bool {
        self.moves(|| self.rpm(arguments))
    }

    /// The path, from outside, of `path` in the machine.
    fn outside(&self, path: &str) -> PathBuf {
        self.machine.root.join(path.trim_start_matches('/'))
    }

    fn exists(&self, path: &str) -> bool {
        self.outside(path).symlink_metadata().is_ok()
    }

    /// rpm finds no file of an installed package that is not as it was packed.
    fn is_well(&self) {
        let mut command = self.machine.command("rpm");
        assert_eq!(run(command.args(["-V", "--all"])), "");
    }
}

/// What rpm printed but for Debian's advice to use another package manager.
fn without_debians_advice(errors: &str) -> String {
    let advice = [
        "rpm: RPM should not be used directly",
        "rpm: However assuming you know",
    ];
    let is_advice = |line: &&str| advice.iter().any(|advice| line.starts_with(advice));
    errors
        .split_inclusive('\n')
        .filter(|line| !is_advice(line))
        .collect()
}

fn installing_a_module_package_moves_the_stamp(host: &Host) {
    assert!(host.rpm_moves(&["-i", &host.module("nfs", "1", "nfs.so")]));
}

fn upgrading_to_one_more_module_moves_the_stamp(host: &Host) {
    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    let more = host.package(
        "nfs",
        "2",
        &["/usr/lib64/qemu/nfs.so", "/usr/lib64/qemu/more.so"],
    );
    assert!(host.rpm_moves(&["-U", &more]));
}

fn upgrading_to_another_content_moves_the_stamp(host: &Host) {
    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    let other = host.build(&Package {
        name: "nfs",
        version: "2",
        files: &[("/usr/lib64/qemu/nfs.so", "other")],
        ..Package::default()
    });
    assert!(host.rpm_moves(&["-U", &other]));
}

fn upgrading_to_one_module_less_moves_the_stamp(host: &Host) {
    let two = host.package(
        "nfs",
        "1",
        &["/usr/lib64/qemu/nfs.so", "/usr/lib64/qemu/more.so"],
    );
    host.rpm(&["-i", &two]);
    assert!(host.rpm_moves(&["-U", &host.module("nfs", "2", "nfs.so")]));
    assert!(!host.exists("/usr/lib64/qemu/more.so"));
}

fn upgrading_to_no_module_at_all_moves_the_stamp(host: &Host) {
    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    assert!(host.rpm_moves(&["-U", &host.package("nfs", "2", &["/usr/share/nfs/text"])]));
    assert!(!host.exists("/usr/lib64/qemu/nfs.so"));
}

fn reinstalling_a_module_package_moves_the_stamp(host: &Host) {
    let module = host.module("nfs", "1", "nfs.so");
    host.rpm(&["-i", &module]);
    assert!(host.rpm_moves(&["-U", "--replacepkgs", &module]));
    assert!(host.rpm_moves(&["--reinstall", &module]));
}

fn downgrading_a_module_package_moves_the_stamp(host: &Host) {
    let (old, new) = (
        host.module("nfs", "1", "nfs.so"),
        host.module("nfs", "2", "nfs.so"),
    );
    host.rpm(&["-i", &new]);
    assert!(host.rpm_moves(&["-U", "--oldpackage", &old]));
}

fn removing_a_module_package_moves_the_stamp(host: &Host) {
    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    assert!(host.rpm_moves(&["-e", "nfs"]));
}

fn a_module_in_a_directory_further_below_moves_the_stamp(host: &Host) {
    assert!(host.rpm_moves(&["-i", &host.module("nfs", "1", "9.0/nfs.so")]));
    assert!(host.rpm_moves(&["-e", "nfs"]));
}

fn rhels_directory_moves_the_stamp(host: &Host) {
    let module = host.package("nfs", "1", &["/usr/lib64/qemu-kvm/nfs.so"]);
    assert!(host.rpm_moves(&["-i", &module]));
    assert!(host.rpm_moves(&["-e", "nfs"]));
}

fn several_packages_in_one_transaction_move_the_stamp(host: &Host) {
    let elsewhere = host.package("elsewhere", "1", &["/usr/share/elsewhere/text"]);
    let (nfs, ssh) = (
        host.module("nfs", "1", "nfs.so"),
        host.module("ssh", "1", "ssh.so"),
    );
    assert!(host.rpm_moves(&["-i", &elsewhere, &nfs, &ssh]));

    let (nfs, new) = (
        host.module("nfs", "2", "nfs.so"),
        host.module("new", "1", "new.so"),
    );
    assert!(host.rpm_moves(&["-U", &nfs, &new]));

    assert!(host.rpm_moves(&["-e", "elsewhere", "nfs", "ssh", "new"]));
}

fn a_package_that_obsoletes_a_module_package_moves_the_stamp(host: &Host) {
    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    let heir = host.build(&Package {
        name: "heir",
        version: "1",
        tags: "Obsoletes: nfs",
        ..Package::default()
    });
    assert!(host.rpm_moves(&["-U", &heir]));
    assert!(!host.exists("/usr/lib64/qemu/nfs.so"));
}

/// Scriptlets note, while the last module goes, how the stamp is and which modules are there.
fn the_last_modules_removal_moves_the_stamp_before_and_after(host: &Host) {
    host.rpm(&["-e", "first"]);
    let note = |section: &str| {
        format!(
            "{section}\necho $(stat -c %.9Y /var/lib/modstamp/qemu.stamp) $(ls /usr/lib64/qemu 2>/dev/null) \
             >> /srv/notes\n"
        )
    };
    let module = host.build(&Package {
        name: "nfs",
        version: "1",
        files: &[("/usr/lib64/qemu/nfs.so", "")],
        sections: &format!("%dir {MODULES}\n{}{}", note("%preun"), note("%postun")),
        ..Package::default()
    });
    // The higher priority runs it before the same trigger of modstamp's. The machine's shell is of no package of rpm's.
    let observer = host.build(&Package {
        name: "observer",
        version: "1",
        tags: "Provides: /bin/sh",
        sections: &note("%filetriggerpostun -P 2000000 -- /usr/lib64/qemu"),
        ..Package::default()
    });
    host.rpm(&["-i", &module, &observer]);
    let at_first = host.stamp().unwrap();

    host.rpm(&["-e", "nfs"]);

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
        host.stamp().unwrap() > after,
        "%transfiletriggerpostun moved it"
    );
}

/// More paths than a pipe holds: the trigger leaves before rpm has sent them all.
fn twenty_thousand_modules_move_the_stamp(host: &Host) {
    let modules = host.build(&Package {
        name: "many",
        version: "1",
        install: "mkdir -p %{buildroot}/usr/lib64/qemu/many; cd %{buildroot}/usr/lib64/qemu/many; touch {1..20000}",
        sections: &format!("{MODULES}/many"),
        ..Package::default()
    });
    assert!(host.rpm_moves(&["-i", &modules]));
    assert!(host.exists("/usr/lib64/qemu/many/20000"));
    assert!(host.rpm_moves(&["-e", "many"]));
}

fn a_package_elsewhere_does_not_touch(host: &Host) {
    let package = |version| {
        let paths = [
            "/usr/share/elsewhere/usr/lib64/qemu/text",
            "/usr/lib64/qem/a.so",
            "/usr/lib64/elsewhere.so",
        ];
        host.package("elsewhere", version, &paths)
    };
    assert!(!host.rpm_moves(&["-i", &package("1")]));
    assert!(!host.rpm_moves(&["-U", &package("2")]));
    assert!(!host.rpm_moves(&["-e", "elsewhere"]));
}

/// rpm compares a trigger's prefix as a string.
fn a_directory_whose_name_only_begins_like_the_modules_does_not_touch(host: &Host) {
    let package = |version| {
        host.package(
            "anything",
            version,
            &["/usr/lib64/qemu-anything/a.so", "/usr/lib64/qemu.so"],
        )
    };
    assert!(!host.rpm_moves(&["-i", &package("1")]));
    assert!(!host.rpm_moves(&["-U", &package("2")]));
    assert!(!host.rpm_moves(&["-e", "anything"]));
}

fn a_transaction_that_is_only_tried_does_not_touch(host: &Host) {
    assert!(!host.rpm_moves(&["-i", "--test", &host.module("nfs", "1", "nfs.so")]));
    assert!(!host.rpm_moves(&["-e", "--test", "first"]));
}

fn a_transaction_that_rpm_refuses_does_not_touch(host: &Host) {
    let conflict = host.build(&Package {
        name: "conflict",
        version: "1",
        files: &[("/usr/lib64/qemu/first.so", "other")],
        ..Package::default()
    });
    let nfs = host.module("nfs", "1", "nfs.so");
    let refused = || {
        let (succeeded, errors) = host.try_rpm(&["-i", &nfs, &conflict]);
        assert!(
            !succeeded && errors.contains("conflicts with file"),
            "{errors}"
        );
    };
    assert!(!host.moves(refused));
    assert!(!host.exists("/usr/lib64/qemu/nfs.so"));
}

fn without_scriptlets_the_modules_themselves_tell(host: &Host) {
    the_modules_themselves_tell(host, "--noscripts");
}

fn without_triggers_the_modules_themselves_tell(host: &Host) {
    the_modules_themselves_tell(host, "--notriggers");
}

/// With this option rpm runs no triggers, so that the stamp stays.
fn the_modules_themselves_tell(host: &Host, option: &str) {
    host.machine.observe();
    assert!(!host.rpm_moves(&["-i", option, &host.module("nfs", "1", "nfs.so")]));
    let added = "stale: module nfs.so added to /usr/lib64/qemu\n";
    assert_eq!(host.machine.check().as_deref(), Some(added));

    host.machine.observe();
    assert!(!host.rpm_moves(&["-e", option, "nfs"]));
    let removed = "stale: module nfs.so removed from /usr/lib64/qemu\n";
    assert_eq!(host.machine.check().as_deref(), Some(removed));
}

/// Other inodes and times, the same modules, and no trigger that says otherwise.
fn the_same_package_again_without_triggers_is_fresh(host: &Host) {
    let nfs = host.module("nfs", "1", "nfs.so");
    host.rpm(&["-i", &nfs]);
    let inode = || {
        std::fs::metadata(host.outside("/usr/lib64/qemu/nfs.so"))
            .unwrap()
            .ino()
    };
    for option in ["--notriggers", "--noscripts"] {
        host.machine.observe();
        let before = inode();
        assert!(!host.rpm_moves(&["-U", "--replacepkgs", option, &nfs]));
        assert_ne!(inode(), before);
        assert_eq!(host.machine.check(), None);
    }
}

fn an_answer_from_before_a_transaction_is_stale_and_one_from_after_it_fresh(host: &Host) {
    host.machine.observe();
    host.rpm(&[
        "-i",
        &host.package("elsewhere", "1", &["/usr/share/elsewhere/text"]),
    ]);
    assert_eq!(host.machine.check(), None);

    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    assert!(
        host.machine
            .check()
            .is_some_and(|reasons| reasons.contains("stamp touched"))
    );

    host.machine.observe();
    assert_eq!(host.machine.check(), None);
}

/// A root with nothing in it but what the packages bring.
fn rpm_from_outside_the_root_moves_the_stamp_in_it_alone(host: &Host) {
    host.machine.sh("mkdir /srv/root");
    let in_root = |arguments: &[&str]| {
        let (succeeded, errors) = host.try_rpm(&[&["--root", "/srv/root"], arguments].concat());
        // rpm 4.20 says so of every transaction with --root.
        let errors = errors.replace("warning: private mounts in chroot not implemented\n", "");
        assert_eq!((succeeded, errors.as_str()), (true, ""));
    };
    let stamp = || {
        let stat = std::fs::symlink_metadata(host.outside("/srv/root/var/lib/modstamp/qemu.stamp"))
            .ok()?;
        Some((stat.mtime(), stat.mtime_nsec()))
    };
    let all = || {
        in_root(&["-i", &host.own("modstamp"), &host.own("modstamp-qemu")]);
        assert_eq!(stamp(), None);
        in_root(&["-i", &host.module("nfs", "1", "nfs.so")]);
        let installed = stamp();
        assert!(installed.is_some());
        in_root(&["-e", "nfs"]);
        assert!(stamp() > installed);
    };
    assert!(!host.moves(all));
}

fn the_triggers_start_no_shell(host: &Host) {
    host.machine.sh("chmod 0 $(realpath /bin/sh)");
    let shell = host
        .machine
        .command("/bin/sh")
        .args(["-c", "true"])
        .output();
    assert!(!shell.unwrap().status.success());

    assert!(host.rpm_moves(&["-i", &host.module("nfs", "1", "nfs.so")]));
    assert!(host.rpm_moves(&["-e", "nfs"]));
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
    for directory in [MODULES, "/usr/lib64/qemu-kvm"] {
        let nfs = host.package("nfs", "1", &[&format!("{directory}/nfs.so")]);
        let ssh = host.package("ssh", "1", &[&format!("{directory}/ssh.so")]);
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

/// A package with what stands for an emulator.
fn program(host: &Host) {
    host.rpm(&[
        "-i",
        &host.package("emulator", "1", &["/usr/bin/qemu-system-x86_64"]),
    ]);
}

/// The ctime of the emulator, in whole seconds as libvirt compares it.
fn program_ctime(host: &Host) -> i64 {
    let program = host.outside("/usr/bin/qemu-system-x86_64");
    std::fs::metadata(program).unwrap().ctime()
}

/// The mtime of a directory, in seconds and nanoseconds.
fn directory_mtime(host: &Host, directory: &str) -> (i64, i64) {
    let stat = std::fs::metadata(host.outside(directory)).unwrap();
    (stat.mtime(), stat.mtime_nsec())
}

fn a_transaction_moves_the_directory_that_libvirt_watches_to_a_second_that_it_never_had(
    host: &Host,
) {
    program(host);
    let ctime = program_ctime(host);
    for directory in [MODULES, "/usr/lib64/qemu-kvm"] {
        let package = |name: &str| host.package(name, "1", &[&format!("{directory}/{name}.so")]);
        let (nfs, ssh) = (package("nfs"), package("ssh"));
        let mut latest = 0;
        // Several of these are done within a second.
        for transaction in [["-i", &nfs], ["-i", &ssh], ["-e", "nfs"], ["-i", &nfs]] {
            host.rpm(&transaction);
            let (seconds, nanoseconds) = directory_mtime(host, directory);
            assert_eq!(nanoseconds, 0, "{transaction:?} refreshed");
            assert!(
                seconds > latest,
                "{transaction:?}: {seconds} after {latest}"
            );
            latest = seconds;
        }
        host.rpm(&["-e", "nfs", "ssh"]);
    }
    assert_eq!(program_ctime(host), ctime, "the directory was enough");
}

fn the_last_modules_removal_moves_the_programs_ctimes_for_libvirt(host: &Host) {
    program(host);
    // For what stands for a libvirt: a trigger leaves the programs of a host without one alone.
    host.machine
        .sh("mkdir -p /usr/lib64/libvirt/connection-driver
         touch /usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so");
    host.rpm(&["-e", "first"]);
    let sections = format!("%dir {MODULES}\n");
    let module = host.build(&Package {
        name: "nfs",
        version: "1",
        files: &[("/usr/lib64/qemu/nfs.so", "")],
        sections: &sections,
        ..Package::default()
    });
    // Twice within a second or so: a ctime can only become the clock's.
    for _ in 0..2 {
        host.rpm(&["-i", &module]);
        let before = program_ctime(host);
        host.rpm(&["-e", "nfs"]);
        assert!(!host.exists(MODULES));
        assert_ne!(program_ctime(host), before);
    }
}

fn an_administrator_who_wants_libvirt_left_alone_is_heeded(host: &Host) {
    host.machine.sh("mkdir -p /etc/modstamp/profiles.d
         echo 'refresh-libvirt = false' > /etc/modstamp/profiles.d/qemu.toml");
    assert!(host.rpm_moves(&["-i", &host.module("nfs", "1", "nfs.so")]));
    let (_, nanoseconds) = directory_mtime(host, MODULES);
    assert_ne!(nanoseconds, 0, "the time that rpm left");
}

fn a_missing_stamp_directory_is_made_again(host: &Host) {
    host.machine.sh("rm -r /var/lib/modstamp");
    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    assert!(host.stamp().is_some());
}

fn a_full_stamp_directory_fails_no_transaction(host: &Host) {
    host.machine.sh(
        "mount -t tmpfs -o size=16k,mode=0755 tmpfs /var/lib/modstamp
         touch /var/lib/modstamp/qemu.stamp
         cat /dev/zero > /var/lib/modstamp/full 2>/dev/null || true",
    );
    // It moves all the same, but there is no room for what is to be remembered of libvirt.
    assert!(host.moves(|| host.rpm_warns(&["-i", &host.module("nfs", "1", "nfs.so")])));
    assert!(host.moves(|| host.rpm_warns(&["-e", "nfs"])));
}

/// Installs and removes a module package, where the stamp cannot be touched.
fn no_transaction_fails(host: &Host) {
    let all = || {
        host.rpm_warns(&["-i", &host.module("nfs", "1", "nfs.so")]);
        assert!(host.exists("/usr/lib64/qemu/nfs.so"));
        host.rpm_warns(&["-e", "nfs"]);
        assert!(!host.exists("/usr/lib64/qemu/nfs.so"));
    };
    assert!(!host.moves(all));
}

fn a_read_only_stamp_directory_fails_no_transaction(host: &Host) {
    host.machine
        .sh("mount --bind /var/lib/modstamp /var/lib/modstamp
         mount -o remount,bind,ro /var/lib/modstamp");
    no_transaction_fails(host);
}

fn a_file_in_the_stamp_directorys_place_fails_no_transaction(host: &Host) {
    host.machine
        .sh("mv /var/lib/modstamp /srv/kept; echo text > /var/lib/modstamp");
    no_transaction_fails(host);
    assert_eq!(host.machine.sh("cat /var/lib/modstamp"), "text\n");
    host.machine
        .sh("rm /var/lib/modstamp; mv /srv/kept /var/lib/modstamp");
}

fn a_stamp_that_is_a_link_fails_no_transaction_and_leaves_its_target_alone(host: &Host) {
    host.machine.sh("echo text > /srv/target
         touch -d 2001-02-03T04:05:06Z /srv/target
         ln -sf /srv/target /var/lib/modstamp/qemu.stamp");
    no_transaction_fails(host);
    assert_eq!(
        host.machine.sh("cat /srv/target; stat -c %Y /srv/target"),
        "text\n981173106\n"
    );
    host.machine.sh("rm /var/lib/modstamp/qemu.stamp");
}

fn a_stamp_that_is_a_directory_fails_no_transaction(host: &Host) {
    host.machine
        .sh("cd /var/lib/modstamp; rm qemu.stamp; mkdir qemu.stamp; touch qemu.stamp/text");
    no_transaction_fails(host);
    host.machine.sh("rm -r /var/lib/modstamp/qemu.stamp");
}

fn a_stamp_that_is_a_fifo_fails_no_transaction(host: &Host) {
    host.machine
        .sh("rm /var/lib/modstamp/qemu.stamp; mkfifo /var/lib/modstamp/qemu.stamp");
    no_transaction_fails(host);
    host.machine.sh("rm /var/lib/modstamp/qemu.stamp");
}

/// Somebody removed it by force. rpm itself complains then, and goes on.
fn a_program_that_is_not_there_fails_no_transaction(host: &Host) {
    host.rpm(&["-e", "--nodeps", "modstamp"]);
    let (succeeded, _) = host.try_rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    assert!(succeeded);
    let (succeeded, _) = host.try_rpm(&["-e", "nfs"]);
    assert!(succeeded);
    host.rpm(&["-i", &host.own("modstamp")]);
}

fn installing_modstamp_qemu_beside_modules_moves_the_stamp(host: &Host) {
    host.rpm(&["-e", "modstamp-qemu"]);
    assert_eq!(host.stamp(), None);
    host.rpm(&["-i", &host.own("modstamp-qemu")]);
    assert!(host.stamp().is_some());
}

fn upgrading_modstamp_qemu_moves_the_stamp(host: &Host) {
    let old = [host.own("modstamp"), host.own("modstamp-qemu")];
    let new = [host.own_again("modstamp"), host.own_again("modstamp-qemu")];
    assert!(host.rpm_moves(&["-U", &new[0], &new[1]]));
    assert!(host.rpm_moves(&["-U", "--replacepkgs", &new[0], &new[1]]));
    assert!(host.rpm_moves(&["-U", "--oldpackage", &old[0], &old[1]]));
    assert!(host.rpm_moves(&["-i", &host.module("nfs", "1", "nfs.so")]));
}

fn a_touch_changes_nothing_that_rpm_verifies(host: &Host) {
    assert!(host.rpm_moves(&["-i", &host.module("nfs", "1", "nfs.so")]));
    host.is_well();
    host.machine
        .sh("modstamp touch --reason 'a test'; touch /var/lib/modstamp/qemu.stamp");
    host.is_well();
}

/// The paths of everything on the machine that has modstamp in its name, but for the packages.
fn leftovers(host: &Host) -> String {
    host.machine
        .sh("find / -xdev -path /srv -prune -o -name '*modstamp*' -print; ls -A /var/lib")
}

fn removing_modstamp_leaves_nothing(host: &Host) {
    host.rpm(&["-e", "modstamp-qemu", "modstamp"]);
    assert!(!leftovers(host).contains("modstamp"), "{}", leftovers(host));
    assert!(host.exists("/usr/lib64/qemu/first.so"));
}

fn removing_modstamp_together_with_the_modules_leaves_nothing(host: &Host) {
    host.rpm(&["-i", &host.module("nfs", "1", "nfs.so")]);
    host.rpm(&["-e", "modstamp-qemu", "modstamp", "first", "nfs"]);
    assert!(!leftovers(host).contains("modstamp"), "{}", leftovers(host));
}
