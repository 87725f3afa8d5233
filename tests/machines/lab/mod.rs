//! Debian 13 machines that boot: what the first consumer after a boot knows where no package manager's trigger ran.
//!
//! Each machine is QEMU's plain emulation of a processor, with a disk of its own (`image.rs`), and is told what to do over
//! a serial line (`machine.rs`). The real units are enabled in it, and the real libvirtd answers.
//!
//! A boot takes some 15 s. So in `make check-all` a few machines live through many changes (`lives.rs`). In `make
//! check-release` each change has machines of its own (`swaps.rs`, `running.rs`, `power_cut.rs`), and also runs without
//! modstamp, to show that it can fail. The table at the end tells what was seen.

mod image;
mod lives;
mod machine;
mod power_cut;
mod running;
mod scene;
mod swaps;

use image::Filesystem;
pub use scene::table;
use scene::{Scene, With};
use support::deb;
use support::test::{Needs, Test, test};

pub fn tests() -> Vec<Test> {
    let needs =
        Needs::root_and(&[&deb::PROGRAMS[..], &image::PROGRAMS, &machine::PROGRAMS].concat());
    let long = needs.clone().of_release();
    let mut tests = Vec::new();
    let mut add = |needs: &Needs, scenarios: &[(&'static str, Scenario)], with: With| {
        tests.extend(scenarios.iter().map(|(name, scenario)| {
            let (scenario, play) = (*scenario, Play { name, with });
            let below = with.words().replace(' ', "_");
            test(format!("{below}::{name}"), needs, move || scenario(play))
        }));
    };
    add(&needs, lives::LIVES, With::Modstamp);
    add(&needs, lives::UNNOTICED, With::MaskedUnits);
    for scenarios in [power_cut::SCENARIOS, swaps::SCENARIOS, running::SCENARIOS] {
        add(&long, scenarios, With::Modstamp);
        add(&long, scenarios, With::Nothing);
    }
    tests
}

type Scenario = fn(Play);

/// A scenario that is to run, and what its machines have.
#[derive(Clone, Copy)]
struct Play {
    name: &'static str,
    with: With,
}

impl Play {
    /// Whether the machines have modstamp, and its units.
    fn has_modstamp(self) -> bool {
        self.with == With::Modstamp
    }

    fn scene(self, filesystem: Filesystem) -> Scene {
        Scene::new(self.name, self.with, filesystem)
    }
}
