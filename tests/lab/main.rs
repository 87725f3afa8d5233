//! Debian 13 machines that boot: what the first consumer after a boot knows where no package manager's trigger ran.
//!
//! Each machine is QEMU's plain emulation of a processor, with a disk of its own (`image.rs`), and is told what to do over
//! a serial line (`machine.rs`). The real units are enabled in it, and the real libvirtd answers. Each scenario also
//! runs without modstamp, to show that it can fail. The table at the end tells what was seen.

mod image;
mod machine;
mod power_cut;
mod running;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod swaps;

use image::Filesystem;
use libtest_mimic::Arguments;
use scene::Scene;
use support::deb;

fn main() {
    let mut arguments = Arguments::from_args();
    let missing =
        support::missing(&[&deb::PROGRAMS[..], &image::PROGRAMS, &machine::PROGRAMS].concat());
    if missing.is_none() {
        support::enter_own_mount_namespace();
    }
    // Each machine keeps one processor busy.
    arguments.test_threads.get_or_insert(2);
    let scenarios = [power_cut::SCENARIOS, swaps::SCENARIOS, running::SCENARIOS].concat();
    let trials = scenarios.into_iter().flat_map(|(name, scenario)| {
        [("with", true), ("without", false)].map(|(word, modstamp)| {
            let play = Play { name, modstamp };
            let name = format!("{word}_modstamp::{name}");
            support::trial(name, &missing, move || scenario(play))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    print!("{}", scene::table());
    conclusion.exit();
}

type Scenario = fn(Play);

/// A scenario that is to run, with modstamp or without.
#[derive(Clone, Copy)]
struct Play {
    name: &'static str,
    modstamp: bool,
}

impl Play {
    fn scene(self, filesystem: Filesystem) -> Scene {
        Scene::new(self.name, self.modstamp, filesystem)
    }
}
