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
mod swaps;

use image::Filesystem;
use scene::Scene;
pub use scene::table;
use support::deb;
use support::test::{Needs, Test, test};

pub fn tests() -> Vec<Test> {
    let needs =
        Needs::root_and(&[&deb::PROGRAMS[..], &image::PROGRAMS, &machine::PROGRAMS].concat());
    let scenarios = [power_cut::SCENARIOS, swaps::SCENARIOS, running::SCENARIOS].concat();
    let of = |(name, scenario): (&'static str, Scenario)| {
        [("with", true), ("without", false)].map(|(word, modstamp)| {
            let play = Play { name, modstamp };
            test(format!("{word}_modstamp::{name}"), &needs, move || {
                scenario(play)
            })
        })
    };
    scenarios.into_iter().flat_map(of).collect()
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
