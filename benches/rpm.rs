//! The trigger's program inside transactions of a real rpm, against an empty program there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::table::Table;
use support::machine::Machine;
use support::rpm::{MODULES, Package};
use support::run;

/// The packages of one transaction. Each starts the trigger once when it is installed.
const PACKAGES: usize = 40;

const ROUNDS: usize = 30;

/// The trigger's program in the machines.
const PROGRAM: &str = "/usr/libexec/trigger";

pub fn transactions(table: &mut Table, scratch: &Path) {
    let ours = support::program("modstamp-rpm-trigger");
    let empty = compile_empty(scratch);
    // A transaction without any trigger, one with an empty program, and one with ours.
    let hosts = [None, Some(&*empty), Some(&*ours)].map(host);
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..ROUNDS + 2 {
        for (host, times) in hosts.iter().zip(&mut times) {
            let time = transact(host, "rpm -i /srv/module-*.rpm");
            transact(host, "rpm -e $(rpm -qa 'module-*')");
            if round >= 2 {
                times.push(time);
            }
        }
    }
    let stamp = hosts[2].root.join("var/lib/modstamp/qemu.stamp");
    assert!(stamp.exists(), "the trigger did not touch");
    let [bare, empty, ours] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    let each = |time: Duration| time.saturating_sub(bare) / PACKAGES as u32;
    table.ratio(
        "rpm-trigger inside a transaction of rpm 4.20, a start",
        each(ours),
        "an empty static program there",
        each(empty),
        "at most 1.15",
    );
}

/// A static program in C that does nothing.
fn compile_empty(scratch: &Path) -> PathBuf {
    let (source, program) = (scratch.join("empty.c"), scratch.join("empty"));
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut compiler = Command::new("cc");
    run(compiler
        .args(["-O2", "-static", "-o"])
        .args([&program, &source]));
    program
}

/// A machine with packages of modules to install, and with a trigger that starts the program.
fn host(program: Option<&Path>) -> Machine {
    let machine = Machine::new("trixie", &["rpm"]);
    machine.sh("mkdir -p /etc/rpm; echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros.tests");
    for number in 0..PACKAGES {
        let name = format!("module-{number}");
        let file = format!("{MODULES}/{number}.so");
        let package = Package {
            name: &name,
            version: "1",
            files: &[(&file, "a module")],
            ..Package::default()
        };
        machine.put(&package.build(), &format!("/srv/{name}.rpm"));
    }
    if let Some(program) = program {
        machine.put(program, PROGRAM);
        let package = Package {
            name: "trigger",
            version: "1",
            sections: &format!(
                "\n%filetriggerin -p {PROGRAM} -- {MODULES}\n--profile qemu --no-sync {MODULES}\n"
            ),
            ..Package::default()
        };
        machine.put(&package.build(), "/srv/trigger.rpm");
        machine.sh("rpm -i --nodeps /srv/trigger.rpm");
    }
    machine
}

/// Runs a command in the machine. Returns its time.
fn transact(machine: &Machine, script: &str) -> Duration {
    let begun = Instant::now();
    machine.sh(script);
    begun.elapsed()
}
