//! Trouble with the stamp, which must fail no transaction of any package manager.

use support::named;

use crate::manager::Verb::{self, Install, Reinstall, Remove};
use crate::manager::{Manager, Scenario};

pub const SCENARIOS: &[(&str, Scenario)] = named![
    a_missing_stamp_directory_is_made_again,
    a_full_stamp_directory_fails_no_transaction,
    a_read_only_stamp_directory_fails_no_transaction,
    a_file_in_the_stamp_directorys_place_fails_no_transaction,
    a_stamp_that_is_a_link_fails_no_transaction_and_leaves_its_target_alone,
    a_stamp_that_is_a_directory_fails_no_transaction,
    a_stamp_that_is_a_fifo_fails_no_transaction,
    a_stamp_that_is_a_device_fails_no_transaction,
    a_program_that_is_not_there_fails_no_transaction,
];

fn a_missing_stamp_directory_is_made_again(host: &dyn Manager) {
    host.sh("rm -r /var/lib/modstamp");
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    assert!(host.machine().stamp("qemu").is_some());
}

/// Makes a transaction, which must succeed with complaints, each of them an expected one.
fn complains(
    host: &dyn Manager,
    verb: Verb,
    package: &str,
    is_expected: impl Fn(Verb, &str) -> bool,
) {
    let complaints = host.complaints(&host.arguments(&[], verb, &[package]));
    let are_expected = complaints.iter().all(|line| is_expected(verb, line));
    assert!(
        !complaints.is_empty() && are_expected,
        "{verb:?} {package}: {complaints:?}"
    );
}

/// Whether a complaint is modstamp's, and says this of the stamp or of its log.
fn says(verb: Verb, line: &str, trouble: &str) -> bool {
    let beginning = match verb {
        // dpkg then makes a touch that is no trigger's.
        Reinstall => "modstamp: ",
        _ => "modstamp: warning: ",
    };
    let files = ["/var/lib/modstamp/qemu.stamp", "/var/lib/modstamp/qemu.log"];
    let names_one = files.iter().any(|file| line.contains(file));
    line.starts_with(beginning) && names_one && line.contains(trouble)
}

/// No transaction fails while the stamp cannot be touched, and each complains of this trouble.
fn no_transaction_fails(host: &dyn Manager, trouble: &str) {
    none_fails(host, |verb, line| says(verb, line, trouble));
}

/// Installs and removes a module package, although the stamp does not move.
fn none_fails(host: &dyn Manager, is_expected: impl Fn(Verb, &str) -> bool) {
    let nfs = host.module("nfs", "1", "nfs.so");
    let all = || {
        complains(host, Install, &nfs, &is_expected);
        assert!(host.has_module("nfs.so"));
        complains(host, Remove, "nfs", &is_expected);
        assert!(!host.has_module("nfs.so"));
        // The triggers may be a package of their own, whose installation must not fail either.
        if let [_, triggers] = host.facts().own {
            complains(host, Reinstall, &host.own_path(triggers), &is_expected);
        }
    };
    assert!(!host.machine().moves(all));
}

fn a_full_stamp_directory_fails_no_transaction(host: &dyn Manager) {
    host.sh(
        "mount -t tmpfs -o size=16k,mode=0755 tmpfs /var/lib/modstamp
         touch /var/lib/modstamp/qemu.stamp
         ! cat /dev/zero > /var/lib/modstamp/full 2>/dev/null",
    );
    let trouble = "No space left on device";
    // A time needs no room, but the record of libvirt's refresh does.
    let nfs = host.module("nfs", "1", "nfs.so");
    for (verb, package) in [(Install, &*nfs), (Remove, "nfs")] {
        let is_expected = |verb, line: &str| says(verb, line, trouble);
        assert!(
            host.machine()
                .moves(|| complains(host, verb, package, is_expected))
        );
    }
    host.sh("cd /var/lib/modstamp
         rm qemu.stamp
         ! cat /dev/zero > fuller 2>/dev/null");
    no_transaction_fails(host, trouble);
}

fn a_read_only_stamp_directory_fails_no_transaction(host: &dyn Manager) {
    host.sh("mount --bind /var/lib/modstamp /var/lib/modstamp
         mount -o remount,bind,ro /var/lib/modstamp");
    no_transaction_fails(host, "Read-only file system");
}

fn a_file_in_the_stamp_directorys_place_fails_no_transaction(host: &dyn Manager) {
    host.sh("mv /var/lib/modstamp /srv/kept; echo precious > /var/lib/modstamp");
    no_transaction_fails(host, "Not a directory");
    assert_eq!(host.sh("cat /var/lib/modstamp"), "precious\n");
    host.sh("rm /var/lib/modstamp; mv /srv/kept /var/lib/modstamp");
}

/// Has a script put a `kind` of file in the place of `$stamp`: it and `precious` stay as they are.
fn in_the_stamps_place(host: &dyn Manager, kind: &str, script: &str, precious: &str) {
    let sh = |script: &str| host.sh(&format!("stamp=/var/lib/modstamp/qemu.stamp; {script}"));
    sh(&format!("rm $stamp; {script}"));
    let state = format!("stat -c '%n %i %F %s %y %z' $stamp {precious}");
    let before = sh(&state);
    no_transaction_fails(host, &format!("is a {kind}, not a regular file"));
    assert_eq!(sh(&state), before);
    sh("rm -r $stamp");
}

fn a_stamp_that_is_a_link_fails_no_transaction_and_leaves_its_target_alone(host: &dyn Manager) {
    let script = "echo precious > /srv/target; ln -s /srv/target $stamp";
    in_the_stamps_place(host, "symbolic link", script, "/srv/target");
}

fn a_stamp_that_is_a_directory_fails_no_transaction(host: &dyn Manager) {
    let script = "mkdir $stamp; echo precious > $stamp/file";
    in_the_stamps_place(host, "directory", script, "$stamp/file");
}

fn a_stamp_that_is_a_fifo_fails_no_transaction(host: &dyn Manager) {
    in_the_stamps_place(host, "FIFO", "mkfifo $stamp", "");
}

fn a_stamp_that_is_a_device_fails_no_transaction(host: &dyn Manager) {
    // full(4)
    in_the_stamps_place(host, "device", "mknod $stamp c 1 7", "");
}

/// The package manager itself complains then, and goes on.
fn a_program_that_is_not_there_fails_no_transaction(host: &dyn Manager) {
    let kept = |program: &str| program.replace('/', "_");
    for program in host.facts().programs {
        host.sh(&format!("mv {program} /srv/{}", kept(program)));
    }
    none_fails(host, |_, line| !line.starts_with("modstamp: "));
    for program in host.facts().programs {
        host.sh(&format!("mv /srv/{} {program}", kept(program)));
    }
}
