//! The power is cut while packages come and go: QEMU is killed, and what the machine had not brought to its disks is lost.
//!
//! Three disks, of ext4, xfs and btrfs, each have a root of dpkg's and one of rpm's, as small as they can be. In one of
//! each disk, by turns, a transaction changes, brings and removes modules, all three at once; at one of twenty moments that
//! is the end. At the next boot the journals are replayed, and what the boot's unit starts is started; then the consumers'
//! answers from before the cut are judged. A transaction that was cut is repeated in that root's next turn, and may be cut
//! again; in the end each is repeated without a cut, and all is well.
//!
//! The machine's own root is a fresh one in each of these boots, and nothing runs in it but what takes orders, so that a
//! boot takes seconds; `cut` is what it is told. The last scenario's boots are those of a whole machine.
//!
//! Consumers that ask through modstamp's cache look at all modules. Those that remember the stamp alone, with an answer
//! from before the transaction, rely on the boot's unit. An answer from within a transaction is another matter: it may be kept
//! where it is sooner on disk than the modules that it is of, and where the power cut takes these back, the stamp with which it was
//! asked is right again. Those are counted.
//!
//! Without modstamp, consumers are told by libvirt's rule, the second of the module directory's mtime. What a cut takes back
//! it takes back with that, since both are in the same journal: the rule's holes are others (docs/libvirt.md).

mod disks;
mod root;

use std::time::Duration;

use super::image::Filesystem;
use super::machine::{Boot, Disk, Machine};
use super::scene::{Libvirt, module};
use super::{Play, Scenario};
use disks::Disks;
use root::{MIXED, NEW, OLD, Phase, Root, SAVED, Seen};
use support::named;

pub const SCENARIOS: &[(&str, Scenario)] = named![
    a_power_cut_at_any_moment_of_a_transaction_leaves_no_stale_answer,
    a_module_rewritten_right_before_a_power_cut_is_noticed_at_boot,
];

/// Of these moments, so many aim at the triggers, which take less time than the rest.
const CUTS: usize = 20;
const AT_TRIGGERS: usize = 6;
/// Without modstamp there are no triggers to aim at.
const CUTS_WITHOUT: usize = 6;

/// When to cut.
struct Moment {
    after: After,
    delay: Duration,
}

enum After {
    /// This part of all that the package managers say.
    Percent(usize),
    /// The first dpkg has come to its triggers.
    Triggers,
}

impl Moment {
    fn of(cut: usize, play: Play) -> Moment {
        let spread = match play.has_modstamp() {
            true => CUTS - AT_TRIGGERS,
            false => CUTS_WITHOUT,
        };
        match cut.checked_sub(spread) {
            None => Moment {
                after: After::Percent(cut * 100 / (spread - 1)),
                delay: Duration::from_millis(cut as u64 * 70 % 200),
            },
            Some(number) => Moment {
                after: After::Triggers,
                delay: Duration::from_millis(number as u64 * 40),
            },
        }
    }
}

fn a_power_cut_at_any_moment_of_a_transaction_leaves_no_stale_answer(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let disks = Disks::new(scene.image.clone());
    let mut running = disks.boot(&mut scene);
    let mut roots = Root::all();
    let with = if play.has_modstamp() { "modstamp" } else { "" };
    let all: Vec<&Root> = roots.iter().collect();
    running.order(&format!("each set_up {with}; sync"), &all);
    let versions = running.order("for n in 1 2 3; do expected $n; done", &[]);
    let versions: Vec<&str> = versions.0.lines().collect();

    let mut seen = Seen::default();
    let cuts = if play.has_modstamp() {
        CUTS
    } else {
        CUTS_WITHOUT
    };
    for cut in 0..cuts {
        // Of each disk, dpkg's and rpm's by turns.
        let turn = [cut % 2, 2 + (cut + 1) % 2, 4 + cut % 2];
        let of_turn: Vec<&Root> = turn.iter().map(|n| &roots[*n]).collect();
        let said = running.cut(play, &of_turn, cut % 2 == 0, Moment::of(cut, play));
        turn.iter().for_each(|n| roots[*n].hear(&said));

        running = disks.boot(&mut scene);
        let look = match play.has_modstamp() {
            true => "each look; each configure",
            false => "each look_without; each configure",
        };
        let of_turn: Vec<&Root> = turn.iter().map(|n| &roots[*n]).collect();
        let said = running.order(look, &of_turn);
        let judge = |n: &usize| roots[*n].judge(&said, &versions, &mut scene, &mut seen);
        let found: Vec<String> = turn.iter().map(judge).collect();
        println!("cut {cut}: {}", found.join("; "));
    }
    let ask = if play.has_modstamp() {
        "; each ask 0"
    } else {
        ""
    };
    for root in &roots {
        let said = running.order(&format!("each repeat {}{ask}", root.to), &[root]);
        root.is_well(&said, play);
    }

    for (what, times) in &seen.0 {
        println!("{times} × {what}");
    }
    if play.has_modstamp() {
        let phases = [
            Phase::Begun,
            Phase::Unpacking,
            Phase::Triggers,
            Phase::Ended,
        ];
        let phases = phases.map(|phase| format!("{phase:?}"));
        phases.iter().for_each(|phase| seen.must_have(phase));
        for what in [OLD, NEW, MIXED, SAVED] {
            seen.must_have(what);
        }
    }
    scene.end();
}

/// In place, so that libvirt's own rule sees nothing; and right before the cut, so that no unit does.
fn a_module_rewritten_right_before_a_power_cut_is_noticed_at_boot(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let mut machine = scene.start(Boot::new(&image, &disk));
    scene.fill(&mut machine, &[Libvirt::System]);
    rewrite_and_cut(machine);

    let mut machine = scene.start(Boot::new(&image, &disk));
    scene.changed(&mut machine, &[Libvirt::System], false);
    machine.shut_down();
    scene.end();
}

pub fn rewrite_and_cut(mut machine: Machine) {
    let rewrite = "sync; tr ELF elf < $1 > /tmp/new; dd if=/tmp/new of=$1 conv=notrunc,fsync";
    machine.sh(&format!("set -- {}; {rewrite}", module()));
    machine.cut();
}
