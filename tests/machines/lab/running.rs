//! What changes while the machine runs, without a package manager: by hand, by “make install”, under any clock.

use std::process::Command;
use std::time::SystemTime;

use super::image::Filesystem;
use super::machine::{Boot, Disk, Machine};
use super::scene::{Libvirt, MODULE, module};
use super::{Play, Scenario};
use Libvirt::System;
use support::named;
use support::run;

pub const SCENARIOS: &[(&str, Scenario)] = named![
    a_copy_by_make_install_and_a_rewrite_in_place_are_noticed,
    a_clock_that_is_wrong_at_boot_and_corrected_leaves_nothing_stale,
];

/// Takes the module out of it in place, so that no time changes but its own.
pub fn empty() -> String {
    format!(
        "[ -e /srv/kept.so ] || cp {0} /srv/kept.so; : > {0}",
        module()
    )
}

/// The same back.
pub fn restore() -> String {
    format!("cat /srv/kept.so > {}", module())
}

/// Installs the module where QEMU does not look; one that was built from source would.
pub fn copy(machine: &mut Machine) {
    machine.sh(&format!(
        "install -D -m 0644 {} /usr/local/lib/qemu/copied.so",
        module()
    ));
}

/// When the stamp was touched last, in nanoseconds since 1970; 0 where there is none.
pub fn stamp(machine: &mut Machine) -> u128 {
    let said = machine.sh("date -r /var/lib/modstamp/qemu.stamp +%s%N 2>/dev/null || echo 0");
    said.trim().parse().unwrap()
}

/// Waits until the stamp was touched after a change, and all that modstamp does of itself is done.
#[track_caller]
pub fn is_touched(machine: &mut Machine, before: u128) {
    machine.sh(&format!(
        "for _ in $(seq 300); do
            sleep 0.5
            if [ $(date -r /var/lib/modstamp/qemu.stamp +%s%N) -eq {before} ]; then continue; fi
            state=$(systemctl show --property=ActiveState --value modstamp-settle@qemu.service modstamp-update@qemu.service)
            case $state in *activ*ing*) calm=0 ;; *) calm=$((calm + 1)) ;; esac
            if [ $calm -eq 4 ]; then exit; fi
        done
        echo the stamp is not touched; exit 1"
    ));
    let after = stamp(machine);
    assert!(after > before, "{before}, {after}");
}

fn a_copy_by_make_install_and_a_rewrite_in_place_are_noticed(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let mut machine = scene.start(Boot::new(&image, &disk));
    scene.fill(&mut machine, &[System]);

    if scene.modstamp {
        scene.observe(&mut machine);
        scene.check(&mut machine, None);
        let before = stamp(&mut machine);
        copy(&mut machine);
        scene.check(&mut machine, Some("/usr/local/lib/qemu"));
        is_touched(&mut machine, before);
        scene.observe(&mut machine);
    }
    let before = stamp(&mut machine);
    machine.sh(&empty());
    if scene.modstamp {
        is_touched(&mut machine, before);
        scene.check(&mut machine, Some(MODULE));
    }
    scene.changed(&mut machine, &[System], false);

    if scene.modstamp {
        // Many changes, while libvirt is asked all the time; the last one as an update runs that may have looked already.
        let before = stamp(&mut machine);
        let (empty, restore) = (empty(), restore());
        machine.sh(&format!(
            "until [ -e /run/enough ]; do virsh domcapabilities >/dev/null; done &
            for _ in $(seq 50); do {restore}; {empty}; done
            until [ $(systemctl show --property=ActiveState --value modstamp-update@qemu.service) = activating ]; do :; done
            {restore}
            for _ in $(seq 50); do {empty}; {restore}; done
            touch /run/enough
            wait"
        ));
        is_touched(&mut machine, before);
        scene.changed_meanwhile(&mut machine, &[System], true);
        assert_eq!(
            machine.sh("modstamp update"),
            "nothing changed since the last touch\n"
        );
    }
    machine.shut_down();
    scene.end();
}

/// At boot the clock of the machine says 1970, of which systemd makes the time when it was built, or it is ten years ahead.
fn a_clock_that_is_wrong_at_boot_and_corrected_leaves_nothing_stale(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let boot = || Boot::new(&image, &disk);
    let ahead = ten_years_ahead();
    let change = |machine: &mut Machine, script: String| {
        let before = stamp(machine);
        machine.sh(&script);
        if play.has_modstamp() {
            is_touched(machine, before);
        }
    };

    let mut machine = scene.start(boot().clock("1970-01-01T00:00:00"));
    assert!(clock(&mut machine) < now() - YEAR / 12);
    scene.fill(&mut machine, &[System]);
    correct(&mut machine);
    scene.unchanged(&mut machine, &[System]);
    change(&mut machine, empty());
    scene.changed(&mut machine, &[System], false);
    let first = stamp(&mut machine);
    machine.shut_down();
    if !scene.modstamp {
        scene.end();
        return;
    }

    let mut machine = scene.start(boot().clock(&ahead));
    assert!(clock(&mut machine) > now() + 9 * YEAR);
    scene.unchanged(&mut machine, &[System]);
    assert_eq!(stamp(&mut machine), first);
    change(&mut machine, restore());
    scene.changed(&mut machine, &[System], true);
    correct(&mut machine);
    scene.unchanged(&mut machine, &[System]);
    change(&mut machine, empty());
    scene.changed(&mut machine, &[System], false);
    let second = stamp(&mut machine);
    // While nobody watches.
    machine.sh(&format!(
        "systemctl stop modstamp-update@qemu.path; {}",
        restore()
    ));
    machine.shut_down();

    let mut machine = scene.start(boot());
    assert!(clock(&mut machine) < now() + YEAR);
    scene.changed(&mut machine, &[System], true);
    assert!(stamp(&mut machine) > second);
    machine.shut_down();
    scene.end();
}

/// As a machine's clock takes it.
pub fn ten_years_ahead() -> String {
    let time = run(Command::new("date").args(["-u", "-d", "10 years", "+%Y-%m-%dT%H:%M:%S"]));
    time.trim().to_owned()
}

/// In seconds.
pub const YEAR: u64 = 31_557_600;

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// What the machine's clock says, in seconds since 1970.
pub fn clock(machine: &mut Machine) -> u64 {
    machine.sh("date +%s").trim().parse().unwrap()
}

/// Sets the machine's clock right.
pub fn correct(machine: &mut Machine) {
    machine.sh(&format!("date --set=@{}", now()));
}
