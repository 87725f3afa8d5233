//! What a machine finds at its next boot is not what it left: another image, another root, an older snapshot.

use std::process::Command;

use super::image::{Filesystem, Image};
use super::machine::{Boot, Disk, Machine};
use super::scene::{Libvirt, MODULE, module, told};
use super::{Play, Scenario};
use Libvirt::{Session, System};
use support::deb::MODULES;
use support::named;
use support::run;

pub const SCENARIOS: &[(&str, Scenario)] = named![
    an_image_swapped_between_two_boots_is_noticed,
    another_root_and_back_over_the_same_var_is_noticed,
    a_snapshot_rolled_back_while_var_stays_is_noticed,
    on_a_read_only_usr_what_is_stale_goes_before_its_consumer_starts,
];

/// The module directory is an image, and all its times are 0, as on hosts of composefs and bootc.
fn an_image_swapped_between_two_boots_is_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let [without, with] = module_images(&image);
    let boot = |modules| Boot::new(&image, &disk).mounted(modules, &MODULES, "erofs", "ro");
    let both = [System, Session];

    let mut machine = scene.start(boot(&without));
    has_no_times(&mut machine);
    scene.linger(&mut machine);
    scene.fill(&mut machine, &both);
    scene.observe(&mut machine);
    machine.shut_down();

    let mut machine = scene.start(boot(&with));
    scene.changed(&mut machine, &both, true);
    scene.check(&mut machine, Some(MODULE));
    scene.observe(&mut machine);
    machine.shut_down();
    if scene.modstamp {
        let mut machine = scene.start(boot(&with));
        scene.unchanged(&mut machine, &both);
        scene.check(&mut machine, None);
        machine.shut_down();
    }
    scene.end();
}

/// Images of the module directory, without the module and with it.
pub fn module_images(image: &Image) -> [Disk; 2] {
    let tree = tempfile::tempdir().unwrap();
    run(Command::new("cp")
        .arg("-a")
        .arg(image.modules().join("."))
        .arg(tree.path()));
    std::fs::remove_file(tree.path().join(MODULE)).unwrap();
    [Disk::erofs(tree.path()), Disk::erofs(&image.modules())]
}

#[track_caller]
pub fn has_no_times(machine: &mut Machine) {
    let times = format!("stat -c '%Y %Z' {0} {0}/* | sort -u", *MODULES);
    assert_eq!(machine.sh(&times), "0 0\n");
}

/// Two roots of which every time and every inode is the same, as image builders make them; the second lacks the module.
pub fn roots(image: &Image) -> [Disk; 2] {
    let first = Disk::over(image);
    let second = Disk::edited(image, &format!("rm {}", module()));
    [first, second]
}

/// What an update says that finds nothing of the last touch.
pub const NOT_KNOWN: &str = "no record of the modules at the last touch was kept";

/// A and B partitions, over a /var that is empty at first. On the way back, what modstamp knew is lost.
fn another_root_and_back_over_the_same_var_is_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let [a, b] = roots(&image);
    let var = Disk::formatted(512, &["mkfs.ext4", "-q"]);
    let boot = |root| Boot::new(&image, root).mounted(&var, "/var", "ext4", "");

    let mut machine = scene.start(boot(&a));
    if scene.modstamp {
        assert!(told(&mut machine).contains(NOT_KNOWN));
    }
    scene.fill(&mut machine, &[System]);
    machine.shut_down();

    let mut machine = scene.start(boot(&b));
    scene.changed(&mut machine, &[System], false);
    if scene.modstamp {
        machine.sh("rm -r /var/lib/modstamp");
    } else {
        scene.fill_anew(&mut machine);
    }
    machine.shut_down();

    let mut machine = scene.start(boot(&a));
    if scene.modstamp {
        assert!(told(&mut machine).contains(NOT_KNOWN));
    }
    scene.changed(&mut machine, &[System], true);
    machine.shut_down();
    scene.end();
}

/// As openSUSE has it: /var is a subvolume of its own.
fn a_snapshot_rolled_back_while_var_stays_is_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Btrfs);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let boot = |root| Boot::new(&image, &disk).subvolume(root);

    let mut machine = scene.start(boot("@"));
    scene.fill(&mut machine, &[System]);
    machine.shut_down();

    // libvirt sees the same times.
    let mut machine = scene.start(boot("@updated"));
    scene.changed(&mut machine, &[System], false);
    if !scene.modstamp {
        scene.fill_anew(&mut machine);
    }
    machine.shut_down();

    let mut machine = scene.start(boot("@"));
    scene.changed(&mut machine, &[System], true);
    machine.shut_down();
    if scene.modstamp {
        let mut machine = scene.start(boot("@"));
        scene.unchanged(&mut machine, &[System]);
        machine.shut_down();
    }
    scene.end();
}

/// All that a refresh could move.
pub fn times(machine: &mut Machine) -> String {
    machine.sh(&format!(
        "find /usr/bin {} -printf '%p %T@ %C@\\n'",
        *MODULES
    ))
}

#[track_caller]
pub fn was_removed_before_consumers_started(machine: &mut Machine) {
    let said = told(machine);
    for (removed, started) in [
        ("removed /var/cache/libvirt/", "Started libvirtd.service"),
        (
            "removed /var/home/me/.cache/",
            "Started lab-libvirtd.service",
        ),
    ] {
        let [removed, started] = [removed, started].map(|what| said.find(what).expect(&said));
        assert!(removed < started, "{said}");
    }
}

/// Nothing below /usr can be written, so no time can be moved there: what is stale in libvirt's caches has to go.
fn on_a_read_only_usr_what_is_stale_goes_before_its_consumer_starts(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let [a, b] = roots(&image);
    let var = Disk::formatted(512, &["mkfs.ext4", "-q"]);
    let boot = |root| {
        let boot = Boot::new(&image, root).mounted(&var, "/var", "ext4", "");
        boot.word("systemd.mount-extra=/usr:/usr:none:bind,ro")
    };
    let both = [System, Session];

    let mut machine = scene.start(boot(&a));
    scene.linger(&mut machine);
    scene.fill(&mut machine, &both);
    machine.shut_down();

    let mut machine = scene.start(boot(&b));
    let before = times(&mut machine);
    scene.changed(&mut machine, &both, false);
    if scene.modstamp {
        was_removed_before_consumers_started(&mut machine);
    }
    machine.shut_down();
    if scene.modstamp {
        let mut machine = scene.start(boot(&b));
        scene.unchanged(&mut machine, &both);
        assert_eq!(times(&mut machine), before);
        machine.shut_down();
    }
    scene.end();
}
