//! `modstamp doctor` about units that failed or do not run, under a real systemd.

use support::deb::{self, RELEASES, Release};
use support::named;
use support::test::{Needs, Test, test};

use crate::booted::Booted;

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&[&deb::PROGRAMS[..], &["nsenter", "systemd-nspawn"]].concat());
    let of = |release: &'static Release| {
        let of = |(name, scenario): &(&str, Scenario)| {
            let scenario = *scenario;
            test(format!("{}::{name}", release.suite), &needs, move || {
                let mut machine = Booted::new(release);
                machine.boot(&[]);
                machine.wait();
                assert_eq!(findings(&machine), NOTHING);
                scenario(&machine);
                assert_eq!(findings(&machine), NOTHING);
                // The watch works again.
                assert!(machine.is_seen(CHANGE));
            })
        };
        SCENARIOS.iter().map(of).collect::<Vec<_>>()
    };
    RELEASES.iter().flat_map(of).collect()
}

type Scenario = fn(&Booted);

const SCENARIOS: &[(&str, Scenario)] = named![
    the_doctor_finds_a_look_that_failed,
    the_doctor_finds_a_watch_that_failed,
    the_doctor_finds_a_watch_that_was_stopped,
    the_doctor_finds_a_watch_that_is_disabled,
];

const NOTHING: [(String, String); 0] = [];

/// A change that the watch sees.
const CHANGE: &str = "install -D /dev/null /usr/lib64/qemu/seen.so";

/// What the doctor tells of the units: each finding with its remedy. Nothing else is installed as a
/// package would, so it also finds other problems.
fn findings(machine: &Booted) -> Vec<(String, String)> {
    let text = machine.sh("modstamp doctor || test $? = 1");
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        assert!(!line.starts_with("could not check (unit)"), "{text}");
        if let Some(problem) = line.strip_prefix("problem (unit): ") {
            findings.push((problem.to_owned(), lines[number + 2].trim().to_owned()));
        }
    }
    findings
}

/// Runs the remedy of the one finding in the machine.
#[track_caller]
fn mend(machine: &Booted, problem: &str) {
    let findings = findings(machine);
    let [(found, remedy)] = &findings[..] else {
        panic!("{problem} is not alone in {findings:?}");
    };
    assert_eq!(found, problem);
    machine.sh(remedy);
    machine.wait();
}

fn the_doctor_finds_a_look_that_failed(machine: &Booted) {
    // It changes no path that the other unit watches, so nothing starts the service again.
    machine.sh("cd /run/systemd/system
         mkdir modstamp-update@qemu.service.d
         printf '[Service]\\nExecStartPre=false\\n' > modstamp-update@qemu.service.d/fail.conf
         systemctl daemon-reload
         ! systemctl start modstamp-update@qemu.service");
    let problem = "the unit modstamp-update@qemu.service failed";
    assert_eq!(findings(machine)[0].0, problem);
    machine.sh("rm -r /run/systemd/system/modstamp-update@qemu.service.d; systemctl daemon-reload");
    mend(machine, problem);
}

/// A path unit fails if it cannot start its service.
fn the_doctor_finds_a_watch_that_failed(machine: &Booted) {
    machine.sh(&format!(
        "systemctl mask modstamp-settle@qemu.service
         {CHANGE}
         until systemctl is-failed modstamp-update@qemu.path; do sleep 0.1; done
         systemctl unmask modstamp-settle@qemu.service"
    ));
    mend(machine, "the unit modstamp-update@qemu.path failed");
}

fn the_doctor_finds_a_watch_that_was_stopped(machine: &Booted) {
    machine.sh("systemctl stop modstamp-update@qemu.path");
    mend(
        machine,
        "the unit modstamp-update@qemu.path is enabled, but was not started",
    );
}

fn the_doctor_finds_a_watch_that_is_disabled(machine: &Booted) {
    machine.sh("systemctl disable --now modstamp-update@qemu.path");
    mend(machine, "the unit modstamp-update@qemu.path is not enabled");
}
