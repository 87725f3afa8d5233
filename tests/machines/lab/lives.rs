//! A few machines that live through many changes: `make check-all` has time for no more boots.
//!
//! Each promise keeps its own assertions, and a row of its own in the table.

use super::image::Filesystem;
use super::machine::{Boot, Disk};
use super::power_cut::rewrite_and_cut;
use super::running::{
    YEAR, clock, copy, correct, empty, is_touched, now, restore, stamp, ten_years_ahead,
};
use super::scene::{Libvirt, MODULE, told};
use super::swaps::{
    NOT_KNOWN, has_no_times, module_images, roots, times, was_removed_before_consumers_started,
};
use super::{Play, Scenario};
use Libvirt::{Session, System};
use support::deb::MODULES;
use support::named;

pub const LIVES: &[(&str, Scenario)] = named![
    roots_swapped_over_one_var_and_modules_rewritten_are_noticed,
    images_swapped_under_wrong_clocks_are_noticed,
    a_snapshot_rolled_back_while_var_stays_is_noticed,
];

/// This shows that a life can fail.
pub const UNNOTICED: &[(&str, Scenario)] =
    named![an_image_swapped_between_two_boots_is_not_noticed,];

const BOTH: [Libvirt; 2] = [System, Session];

const IMAGE: &str = "an image swapped between two boots is noticed";
const REBOOT: &str = "a reboot that changed nothing costs no probe";
const READ_ONLY_REBOOT: &str = "a reboot on a read-only usr removes nothing and costs no probe";
const CLOCK: &str = "a clock that is wrong at boot and corrected leaves nothing stale";
const COPY: &str = "a copy by make install is noticed";
const ROOT: &str = "another root over the same var is noticed";
const READ_ONLY: &str = "on a read-only usr what is stale goes before its consumer starts";
const REWRITE: &str = "a rewrite in place while the machine runs is noticed";
const CUT: &str = "a module rewritten right before a power cut is noticed at boot";

/// The module directory is an image, and all its times are 0.
fn images_swapped_under_wrong_clocks_are_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let [without, with] = module_images(&image);
    let boot = |modules| Boot::new(&image, &disk).mounted(modules, &MODULES, "erofs", "ro");

    scene.promise(CLOCK);
    let mut machine = scene.start(boot(&without).clock("1970-01-01T00:00:00"));
    assert!(clock(&mut machine) < now() - YEAR / 12);
    has_no_times(&mut machine);
    scene.linger(&mut machine);
    scene.fill(&mut machine, &BOTH);
    scene.observe(&mut machine);
    correct(&mut machine);
    scene.unchanged(&mut machine, &BOTH);
    machine.shut_down();

    scene.promise(IMAGE);
    let mut machine = scene.start(boot(&with).clock(&ten_years_ahead()));
    assert!(clock(&mut machine) > now() + 9 * YEAR);
    scene.changed(&mut machine, &BOTH, true);
    scene.check(&mut machine, Some(MODULE));
    scene.observe(&mut machine);
    let ahead = stamp(&mut machine);
    scene.promise(CLOCK);
    correct(&mut machine);
    scene.unchanged(&mut machine, &[System]);
    machine.shut_down();

    scene.promise(REBOOT);
    let mut machine = scene.start(boot(&with));
    assert!(clock(&mut machine) < now() + YEAR);
    scene.unchanged(&mut machine, &BOTH);
    scene.check(&mut machine, None);
    assert_eq!(stamp(&mut machine), ahead);
    // The next touch is later than the one ten years ahead.
    scene.promise(COPY);
    copy(&mut machine);
    scene.check(&mut machine, Some("/usr/local/lib/qemu"));
    is_touched(&mut machine, ahead);
    machine.shut_down();
    scene.end();
}

/// A and B partitions over one /var, which is empty at first. B has a read-only /usr.
fn roots_swapped_over_one_var_and_modules_rewritten_are_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let [a, b] = roots(&image);
    let var = Disk::formatted(512, &["mkfs.ext4", "-q"]);
    let boot = |root| Boot::new(&image, root).mounted(&var, "/var", "ext4", "");
    let read_only = |root| boot(root).word("systemd.mount-extra=/usr:/usr:none:bind,ro");

    scene.promise(ROOT);
    let mut machine = scene.start(boot(&a));
    assert!(told(&mut machine).contains(NOT_KNOWN));
    scene.linger(&mut machine);
    scene.fill(&mut machine, &BOTH);
    machine.shut_down();

    scene.promise(READ_ONLY);
    let mut machine = scene.start(read_only(&b));
    let before = times(&mut machine);
    scene.changed(&mut machine, &BOTH, false);
    was_removed_before_consumers_started(&mut machine);
    machine.shut_down();

    scene.promise(READ_ONLY_REBOOT);
    let mut machine = scene.start(read_only(&b));
    scene.unchanged(&mut machine, &BOTH);
    assert_eq!(times(&mut machine), before);
    machine.shut_down();

    scene.promise(ROOT);
    let mut machine = scene.start(boot(&a));
    scene.changed(&mut machine, &BOTH, true);
    scene.promise(REWRITE);
    for (script, has_module) in [(empty(), false), (restore(), true)] {
        scene.observe(&mut machine);
        let before = stamp(&mut machine);
        machine.sh(&script);
        is_touched(&mut machine, before);
        scene.check(&mut machine, Some(MODULE));
        scene.changed(&mut machine, &BOTH, has_module);
    }
    rewrite_and_cut(machine);

    scene.promise(CUT);
    let mut machine = scene.start(boot(&a));
    scene.changed(&mut machine, &BOTH, false);
    machine.shut_down();
    scene.end();
}

/// As openSUSE has it: /var is a subvolume of its own.
fn a_snapshot_rolled_back_while_var_stays_is_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Btrfs);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let boot = |root| Boot::new(&image, &disk).subvolume(root);

    let mut machine = scene.start(boot("@updated"));
    scene.linger(&mut machine);
    scene.fill(&mut machine, &BOTH);
    machine.shut_down();

    let mut machine = scene.start(boot("@"));
    scene.changed(&mut machine, &BOTH, true);
    machine.shut_down();
    scene.end();
}

/// The system's libvirt answers as before.
fn an_image_swapped_between_two_boots_is_not_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let [without, with] = module_images(&image);
    let boot = |modules| Boot::new(&image, &disk).mounted(modules, &MODULES, "erofs", "ro");

    scene.promise(IMAGE);
    let mut machine = scene.start(boot(&without));
    scene.fill(&mut machine, &[System]);
    machine.shut_down();

    let mut machine = scene.start(boot(&with));
    scene.changed(&mut machine, &[System], true);
    machine.shut_down();
    scene.end();
}
