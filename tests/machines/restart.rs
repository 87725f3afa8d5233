//! A restart of libvirt's daemon: the real one, in machines that systemd-nspawn(1) boots, with the
//! drop-in of packaging/systemd. Its unit file is these tests' own, and no other look is enabled.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use support::deb::{self, MODULES, QXL, RELEASES, Release};
use support::test::{Needs, Test, test};
use support::{executable, named, run};

use crate::booted::Booted;

pub fn tests() -> Vec<Test> {
    let programs = ["fsfreeze", "mkfs.ext4", "nsenter", "systemd-nspawn"];
    let needs = Needs::root_and(&[&deb::PROGRAMS[..], &programs].concat());
    let of = |release: &'static Release| {
        let of = |(name, scenario): &(&str, Scenario)| {
            let scenario = *scenario;
            test(format!("{}::{name}", release.suite), &needs, move || {
                scenario(&mut machine(release));
            })
        };
        SCENARIOS.iter().map(of).collect::<Vec<_>>()
    };
    RELEASES.iter().flat_map(of).collect()
}

type Scenario = fn(&mut Booted);

const SCENARIOS: &[(&str, Scenario)] = named![
    a_restart_of_libvirts_daemon_is_enough,
    a_restart_on_a_read_only_usr_is_enough,
    a_look_that_fails_or_hangs_stops_no_daemon,
    a_restart_of_virtqemud_looks_too,
];

/// Without a limit, because a test restarts it more often than a person.
const DAEMON: &str = "[Unit]\nStartLimitIntervalSec=0\n\
    [Service]\nType=notify\nExecStart=/usr/sbin/libvirtd\n";

fn machine(release: &'static Release) -> Booted {
    let machine = Booted::new(release);
    let unit = machine.host.outside("/etc/systemd/system/libvirtd.service");
    fs::write(unit, DAEMON).unwrap();
    machine.host.sh("systemctl disable virtqemud.socket modstamp-update@qemu.service modstamp-update@qemu.path
         echo 'log_filters = \"1:qemu.qemu_capabilities\"' > /etc/libvirt/libvirtd.conf
         echo 'log_outputs = \"1:file:/var/log/libvirt/libvirtd.log\"' >> /etc/libvirt/libvirtd.conf");
    machine
}

/// Whether libvirt lists QXL, and how often it probed to answer.
fn look_up(machine: &Booted) -> (bool, usize) {
    let log = machine.host.outside("/var/log/libvirt/libvirtd.log");
    let probes = || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        log.matches("virQEMUCapsSaveFile").count()
    };
    let before = probes();
    let answer = machine.sh("virsh --connect qemu:///system domcapabilities");
    (answer.contains("<value>qxl</value>"), probes() - before)
}

const RESTART: &str = "systemctl restart libvirtd.service";

/// Takes QXL's module away and back. No time of the directory tells of that. After a restart the
/// answers are right, after one probe each; without a change a restart costs none.
fn restarts_are_enough(machine: &mut Booted, options: &[&str]) {
    let module = machine.host.outside(&format!("{}/{QXL}", *MODULES));
    let kept = machine.host.machine.beside("kept");
    let directory = module.parent().unwrap().to_owned();
    let change = |from: &PathBuf, to: &PathBuf| {
        let time = fs::metadata(&directory).unwrap();
        let time = format!("@{}.{:09}", time.mtime(), time.mtime_nsec());
        run(Command::new("mv").args([from, to]));
        run(Command::new("touch").args(["-d", &time]).arg(&directory));
    };
    machine.boot(options);
    machine.sh(RESTART);
    assert_eq!(look_up(machine), (true, 1));
    for _ in 0..2 {
        machine.sh(RESTART);
        assert_eq!(look_up(machine), (true, 0));
        change(&module, &kept);
        machine.sh(RESTART);
        assert_eq!(look_up(machine), (false, 1));
        machine.sh(RESTART);
        assert_eq!(look_up(machine), (false, 0));
        change(&kept, &module);
        machine.sh(RESTART);
        assert_eq!(look_up(machine), (true, 1));
    }
}

fn a_restart_of_libvirts_daemon_is_enough(machine: &mut Booted) {
    restarts_are_enough(machine, &[]);
}

/// The running daemon has the old answer in memory, and no time can be moved.
fn a_restart_on_a_read_only_usr_is_enough(machine: &mut Booted) {
    let usr = machine.host.outside("/usr");
    let read_only = format!("--bind-ro={}:/usr", usr.display());
    restarts_are_enough(machine, &[&read_only]);
}

/// A file system in which each write waits, and no signal ends the wait, until it is gone.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(&self) {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.0));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let mut thaw = Command::new("fsfreeze");
        let _ = thaw.arg("--unfreeze").arg(&self.0).status();
    }
}

fn a_look_that_fails_or_hangs_stops_no_daemon(machine: &mut Booted) {
    let state = machine.host.outside("/var/lib/modstamp");
    let disk = machine.host.machine.beside("disk");
    fs::create_dir_all(&state).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk).arg("16M"));
    run(Command::new("mount")
        .args(["-o", "loop"])
        .args([&disk, &state]));
    machine.boot(&[]);
    let started = |machine: &Booted| {
        machine.sh(&format!("{RESTART}; systemctl is-active libvirtd.service"));
        machine.sh("journalctl -q -b -o cat -u libvirtd.service | tail -n 20")
    };
    let said = started(machine);
    assert!(said.contains("touched the stamp: "), "{said}");

    machine.change();
    let frozen = Frozen(state);
    frozen.freeze();
    // The look is still there, since the kernel does not end it.
    let said = started(machine);
    assert!(said.contains("(modstamp) in control group"), "{said}");
    drop(frozen);

    let program = machine.host.outside("/usr/bin/modstamp");
    fs::remove_file(&program).unwrap(); // A unit may be running it.
    executable(&program, "#!/bin/sh\nexit 1\n");
    started(machine);
    executable(
        &program,
        "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 60; done\n",
    );
    started(machine);
    fs::remove_file(&program).unwrap();
    started(machine);
}

/// No Debian has virtqemud, so its unit is the one of [`Booted`].
fn a_restart_of_virtqemud_looks_too(machine: &mut Booted) {
    machine.boot(&[]);
    for expected in ["touched the stamp: ", "nothing changed"] {
        machine.sh("systemctl restart virtqemud.service");
        let said = machine.sh("journalctl -q -b -o cat -u virtqemud.service");
        assert!(said.contains(expected), "{said}");
    }
}
