//! Debian 13 machines that boot: what the first consumer after a boot knows where no package manager's trigger ran.
//!
//! Each machine is QEMU's plain emulation of a processor, with a disk of its own (`image.rs`), and is told what to do over
//! a serial line (`machine.rs`). The real units are enabled in it, and the real libvirtd answers. Each scenario also
//! runs without modstamp, to show that it can fail. The table at the end tells what was seen.

mod image;
mod machine;
mod selftest;
#[path = "../support/mod.rs"]
mod support;

use libtest_mimic::Arguments;
use support::deb;

fn main() {
    let mut arguments = Arguments::from_args();
    let missing =
        support::missing(&[&deb::PROGRAMS[..], &image::PROGRAMS, &machine::PROGRAMS].concat());
    if missing.is_none() {
        support::enter_own_mount_namespace();
    }
    // Each machine has two processors.
    arguments.test_threads.get_or_insert(2);
    let scenarios = [selftest::SCENARIOS].concat();
    let trials = scenarios
        .into_iter()
        .map(|(name, scenario)| support::trial(name, &missing, scenario));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

type Scenario = fn();
