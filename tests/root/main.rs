//! Tests on this machine that need root and tools: file systems, other users, C programs, QEMU.
//!
//! `make check-root` installs the tools and runs these tests, and some of tests/trials. The
//! machine's own files are hidden or left alone.

mod attributes;
mod bounds;
mod c;
mod doctor;
mod filesystems;
mod libraries;
mod mapped;
mod profiles;
mod python;
mod qemu;
mod racy;
mod remedies;
mod rpm_trigger;
mod tree;
mod trouble;
mod trust;
mod watch;

use std::process::Command;

use libtest_mimic::Arguments;
use support::test::Needs;

fn main() {
    let mut arguments = Arguments::from_args();
    if Needs::root_and(&[]).are_met() {
        support::enter_own_mount_namespace();
        // Root touches the system's stamp: hide this machine's.
        support::run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/var/lib"]));
    }
    // The tests mostly wait until something has settled.
    arguments.test_threads.get_or_insert(8);
    let tests = [
        ("attributes", attributes::tests()),
        ("bounds", bounds::tests()),
        ("c", c::tests()),
        ("doctor", doctor::tests()),
        ("filesystems", filesystems::tests()),
        ("libraries", libraries::tests()),
        ("mapped", mapped::tests()),
        ("profiles", profiles::tests()),
        ("python", python::tests()),
        ("qemu", qemu::tests()),
        ("racy", racy::tests()),
        ("remedies", remedies::tests()),
        ("rpm_trigger", rpm_trigger::tests()),
        ("trouble", trouble::tests()),
        ("tree", tree::tests()),
        ("trust", trust::tests()),
        ("watch", watch::tests()),
    ];
    let named = |(module, tests)| {
        Vec::into_iter(tests).map(move |test: support::test::Test| test.of(module))
    };
    let tests = tests.into_iter().flat_map(named).collect();
    support::test::run(&arguments, tests).exit();
}
