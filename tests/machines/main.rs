//! Tests in throw-away machines of Debian's, with real package managers, libvirts, systemds, and kernels that boot.
//!
//! `make help` lists the parts, each of which is a module here. They share a base root for each release, the packages that
//! are built, and the processors: while one part waits, another runs.

mod debhelper;
mod debian;
mod dpkg;
mod lab;
mod libvirt;
mod macros;
mod manager;
mod pacman;
mod qemu;
mod repositories;
mod rpm;
mod security;
mod systemd;
mod transactions;
mod trouble;
mod vendored;

use libtest_mimic::Arguments;
use support::test::{Needs, Test};

fn main() {
    let mut arguments = Arguments::from_args();
    if Needs::root_and(&[]).are_met() {
        support::enter_own_mount_namespace();
    }
    // Which wait half of the time.
    arguments.test_threads.get_or_insert(5);
    // Those first that take longest.
    let tests = [
        ("lab", lab::tests()),
        ("packages::vendored", vendored::tests()),
        ("packages::debian", debian::tests()),
        ("dpkg::debhelper", debhelper::tests()),
        ("libvirt", libvirt::tests()),
        ("systemd", systemd::tests()),
        ("security", security::tests()),
        ("dpkg", qemu::tests()),
        ("dpkg", dpkg::tests()),
        ("rpm::macros", macros::tests()),
        ("rpm::repositories", repositories::tests()),
        ("rpm", rpm::tests()),
        ("pacman", pacman::tests()),
    ];
    let named = |(module, tests)| Vec::into_iter(tests).map(move |test: Test| test.of(module));
    let tests = tests.into_iter().flat_map(named).collect();
    let conclusion = support::test::run(&arguments, tests);
    print!("{}{}", libvirt::table(), lab::table());
    conclusion.exit();
}
