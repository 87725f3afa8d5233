//! Tests in throw-away machines of Debian's, with real package managers, libvirts, systemds, and
//! kernels that boot.
//!
//! A test's name begins with its part, such as `dpkg::` or `packages::`, by which `make check-PART`
//! selects it. The parts share base roots, built packages and the processors. One part runs while
//! another waits.

mod booted;
mod debhelper;
mod debian;
mod doctor;
mod dpkg;
mod ecosystems;
mod lab;
mod libvirt;
mod macros;
mod manager;
mod pacman;
mod qemu;
mod repositories;
mod restart;
mod rpm;
mod security;
mod systemd;
mod transactions;
mod trouble;
mod units;
mod vendored;

use libtest_mimic::Arguments;
use support::test::{Needs, Test};

fn main() {
    let mut arguments = Arguments::from_args();
    if Needs::root_and(&[]).are_met() {
        support::enter_own_mount_namespace();
    }
    // The tests wait half of their time.
    arguments.test_threads.get_or_insert(5);
    // The longest tests come first.
    let tests = [
        ("lab", lab::tests()),
        ("packages::vendored", vendored::tests()),
        ("packages::debian", debian::tests()),
        ("dpkg::debhelper", debhelper::tests()),
        ("libvirt", libvirt::tests()),
        ("ecosystems", ecosystems::tests()),
        ("systemd", systemd::tests()),
        ("systemd::restart", restart::tests()),
        ("systemd::doctor", units::tests()),
        ("security", security::tests()),
        ("dpkg", qemu::tests()),
        ("dpkg", dpkg::tests()),
        ("dpkg::doctor", doctor::tests()),
        ("rpm::macros", macros::tests()),
        ("rpm::repositories", repositories::tests()),
        ("rpm", rpm::tests()),
        ("pacman", pacman::tests()),
    ];
    let named = |(module, tests)| Vec::into_iter(tests).map(move |test: Test| test.of(module));
    let tests = tests.into_iter().flat_map(named).collect();
    let conclusion = support::test::run(&arguments, tests);
    print!(
        "{}{}{}{}",
        libvirt::table(),
        ecosystems::table(),
        lab::table(),
        doctor::table()
    );
    conclusion.exit();
}
