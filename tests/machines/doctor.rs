//! `modstamp doctor` in machines of Debian's with a real QEMU, libvirt, dpkg and rpm, and with the
//! scripts and units of modstamp's packages.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use support::consumer;
use support::deb::{self, Host, MODULES, Package, RELEASES, Release, module};
use support::test::{Needs, Test, test};
use support::{named, run, sources};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&[&deb::PROGRAMS[..], &["rpmbuild"]].concat());
    let of = |release: &'static Release| {
        let needs = needs.clone();
        SCENARIOS.iter().map(move |(name, scenario)| {
            test(format!("{}::{name}", release.dpkg), &needs, move || {
                let host = Broken {
                    host: consumer::host(release),
                    scenario: format!("{}: {}", release.dpkg, name.replace('_', " ")),
                };
                make_sound(&host);
                scenario(&host);
            })
        })
    };
    RELEASES.iter().flat_map(of).collect()
}

/// A host that a scenario breaks.
struct Broken {
    host: Host,
    scenario: String,
}

impl Deref for Broken {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// What the doctor told of each broken host, a line for each finding.
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The table of broken hosts, if a test made one.
pub fn table() -> String {
    let told = TOLD.lock().unwrap();
    if told.is_empty() {
        return String::new();
    }
    let rows: String = told.iter().map(|line| format!("    {line}\n")).collect();
    format!("\nWhat the doctor told of broken hosts, each finding with its remedy:\n{rows}")
}

type Scenario = fn(&Broken);

const SCENARIOS: &[(&str, Scenario)] = named![
    the_doctor_finds_nothing_wrong_with_the_packages,
    the_doctor_finds_a_trigger_that_dpkg_put_off,
    the_doctor_finds_a_trigger_that_did_not_run,
    the_doctor_finds_a_unit_that_is_disabled,
    the_doctor_finds_that_the_package_is_gone,
    the_doctor_finds_a_daemon_without_its_drop_in,
    the_doctor_finds_a_directory_that_no_unit_watches,
    the_doctor_finds_what_rpms_triggers_lack,
];

/// Gives a machine with QEMU and libvirt the program under test, its units, and a package
/// modstamp-qemu with the scripts of `debian/`. Its doctor then finds nothing.
fn make_sound(host: &Broken) {
    let program = Path::new(env!("CARGO_BIN_EXE_modstamp"));
    host.machine.put(program, "/usr/bin/modstamp");
    crate::booted::install_units(&host.machine.root, &["PREFIX=/usr"]);
    install_modstamp_qemu(host);
    assert_eq!(findings(host), NOTHING);
}

/// Builds the package as `dh_modstamp` does, which would take minutes, and installs it.
fn install_modstamp_qemu(host: &Host) {
    let read = |path: &str| std::fs::read_to_string(sources().join(path)).unwrap();
    let modules = &**MODULES;
    let touch = read("packaging/debhelper/autoscripts/postinst-modstamp")
        .replace("#FIRED#", &format!("triggered*\" {modules} \"*"))
        .replace("#PROFILE#", "qemu")
        .replace("#PACKAGE#", "modstamp-qemu");
    let script = read("debian/modstamp-qemu.postinst").replace("#DEBHELPER#", &touch);
    let package = host.build(&Package {
        name: "modstamp-qemu",
        version: "1",
        contents: &[("DEBIAN/triggers", &format!("interest-noawait {modules}\n"))],
        script: Some(("postinst", &script)),
        ..Package::default()
    });
    host.dpkg(&format!("--install {package}"));
}

const NOTHING: [String; 0] = [];

/// What the doctor tells, a line for each finding and each unseen place: its check and the remedy.
fn findings(host: &Broken) -> Vec<String> {
    let output = host
        .machine
        .command("modstamp")
        .arg("doctor")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut findings = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let after = match line.split_once(" (") {
            Some(("problem", _)) => 2,
            Some(("could not check", _)) => 1,
            _ => continue,
        };
        let (_, rest) = line.split_once(" (").unwrap();
        let (check, _) = rest.split_once("): ").unwrap();
        findings.push(format!("{check}: {}", lines[number + after].trim()));
    }
    let status = output.status.code();
    assert_eq!(status == Some(0), findings.is_empty(), "{status:?}: {text}");
    let lines = findings
        .iter()
        .map(|line| format!("{}: {line}", host.scenario));
    TOLD.lock().unwrap().extend(lines);
    findings
}

/// Runs the remedy of a finding of `check` in the machine.
#[track_caller]
fn mend(host: &Broken, check: &str) {
    let all = findings(host);
    let prefix = format!("{check}: ");
    let remedy = all.iter().find_map(|line| line.strip_prefix(&prefix));
    let remedy = remedy.unwrap_or_else(|| panic!("no {check} in {all:?}"));
    host.sh(remedy);
}

/// Waits until the second of the stamp's last touch is over. dpkg's log has whole seconds, and the
/// doctor takes a touch of the same second for the later one.
fn wait_for_a_later_second(host: &Broken) {
    host.sh(
        "until [ $(date +%s) -gt $(stat -c %Y /var/lib/modstamp/qemu.stamp) ]; do sleep 0.1; done",
    );
}

/// The checks that found something.
fn checks(host: &Broken) -> Vec<String> {
    let check = |line: String| line.split(':').next().unwrap().to_owned();
    findings(host).into_iter().map(check).collect()
}

fn the_doctor_finds_nothing_wrong_with_the_packages(host: &Broken) {
    host.dpkg(&format!(
        "--install {}",
        host.package("first", "1", &[&module("first.so")])
    ));
    assert_eq!(findings(host), NOTHING);
}

fn the_doctor_finds_a_trigger_that_dpkg_put_off(host: &Broken) {
    wait_for_a_later_second(host);
    let first = host.package("first", "1", &[&module("first.so")]);
    host.dpkg(&format!("--no-triggers --install {first}"));
    let all = [
        "dpkg-trigger",
        "dpkg-last-run",
        "modules",
        "libvirt-answers",
    ];
    assert_eq!(checks(host), all);
    mend(host, "dpkg-trigger");
    assert_eq!(findings(host), NOTHING);
}

fn the_doctor_finds_a_trigger_that_did_not_run(host: &Broken) {
    wait_for_a_later_second(host);
    host.sh("sed -i.kept /modstamp-qemu/d /var/lib/dpkg/triggers/File");
    let first = host.package("first", "1", &[&module("first.so")]);
    host.dpkg(&format!("--install {first}"));
    host.sh("mv /var/lib/dpkg/triggers/File.kept /var/lib/dpkg/triggers/File");
    let all = ["dpkg-last-run", "modules", "libvirt-answers"];
    assert_eq!(checks(host), all);
    mend(host, "dpkg-last-run");
    assert_eq!(findings(host), NOTHING);
}

fn the_doctor_finds_a_unit_that_is_disabled(host: &Broken) {
    host.sh("systemctl disable modstamp-update@qemu.path");
    assert_eq!(checks(host), ["unit"]);
    mend(host, "unit");
    host.sh("systemctl mask modstamp-update@qemu.service");
    assert_eq!(checks(host), ["unit"]);
    mend(host, "unit");
    assert_eq!(findings(host), NOTHING);
}

fn the_doctor_finds_that_the_package_is_gone(host: &Broken) {
    host.dpkg("--remove modstamp-qemu");
    // The units are not the package's here, but those of `make install-units`.
    assert_eq!(findings(host), NOTHING, "the units watch");
    host.sh("systemctl disable modstamp-update@qemu.path modstamp-update@qemu.service");
    assert_eq!(checks(host), ["dpkg-trigger", "unit"]);
    mend(host, "dpkg-trigger");
    assert_eq!(findings(host), NOTHING);
    host.sh("rm -r /usr/lib/systemd/system/*modstamp* /usr/lib/systemd/system/*.service.d");
    assert_eq!(checks(host), ["dpkg-trigger", "unit"]);
    crate::booted::install_units(&host.machine.root, &["PREFIX=/usr"]);
    install_modstamp_qemu(host);
    assert_eq!(findings(host), NOTHING);
}

fn the_doctor_finds_a_daemon_without_its_drop_in(host: &Broken) {
    let daemon = "/usr/lib/systemd/system/libvirtd.service";
    host.sh(&format!(
        "printf '[Service]\\nExecStart=/bin/true\\n' > {daemon}"
    ));
    assert_eq!(findings(host), NOTHING);
    let drop_in = "/etc/systemd/system/libvirtd.service.d/modstamp.conf";
    host.sh(&format!(
        "mkdir -p $(dirname {drop_in}); ln -s /dev/null {drop_in}"
    ));
    assert_eq!(findings(host), [format!("daemon-drop-in: rm {drop_in}")]);
    mend(host, "daemon-drop-in");
    assert_eq!(findings(host), NOTHING);
    host.sh(&format!("printf '[Service]\\nNice=5\\n' > {drop_in}"));
    assert_eq!(checks(host), ["daemon-drop-in"]);
    mend(host, "daemon-drop-in");
    assert_eq!(findings(host), NOTHING);
}

fn the_doctor_finds_a_directory_that_no_unit_watches(host: &Broken) {
    host.sh("mkdir -p /usr/lib/s390x-linux-gnu/qemu; modstamp update");
    assert_eq!(checks(host), ["unit-directories"]);
    mend(host, "unit-directories");
    assert_eq!(findings(host), NOTHING);
}

/// A package with triggers as modstamp.spec has them, or without. It brings a module.
fn rpm(host: &Broken, name: &str, triggers: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let module = "/usr/lib64/qemu/rpm.so";
    let spec = format!(
        "Name: {name}\nVersion: 1\nRelease: 1\nSummary: a test's own\nLicense: MIT\n\
         BuildArch: noarch\n%description\na test's own\n{triggers}\n\
         %install\ninstall -D /dev/null %{{buildroot}}{module}\n%files\n{module}\n"
    );
    let path = scratch.path().join("package.spec");
    std::fs::write(&path, spec).unwrap();
    run(Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--define"])
        .arg(format!("_topdir {}", scratch.path().display()))
        .arg(&path));
    let built = format!("RPMS/noarch/{name}-1-1.noarch.rpm");
    let inside = format!("/srv/{name}.rpm");
    host.machine.put(&scratch.path().join(built), &inside);
    inside
}

fn the_doctor_finds_what_rpms_triggers_lack(host: &Broken) {
    // Debian 12's rpm has its database in the caller's home.
    host.sh("mkdir -p /etc/rpm; echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros.tests");
    let install = |package: String| {
        host.sh(&format!(
            "rpm --install --nodeps --force --notriggers {package}; modstamp update"
        ));
    };
    install(rpm(host, "modules", ""));
    assert_eq!(findings(host), NOTHING, "the units watch");
    let units = "modstamp-update@qemu.service modstamp-update@qemu.path";
    host.sh(&format!("systemctl disable {units}"));
    let found = findings(host);
    assert_eq!(found[0], format!("rpm-trigger: systemctl enable {units}"));
    let drop_ins = "/usr/lib/systemd/system/modstamp-update@qemu.path.d";
    host.sh(&format!("mv {drop_ins} /srv"));
    let found = findings(host);
    assert_eq!(found[0], "rpm-trigger: dnf install modstamp-qemu");
    host.sh(&format!(
        "mv /srv/modstamp-update@qemu.path.d {drop_ins}; systemctl enable {units}"
    ));
    let trigger = "%filetriggerin -p /usr/libexec/modstamp/rpm-trigger -- /usr/lib64/qemu\n\
        --profile qemu --no-sync /usr/lib64/qemu\n";
    host.sh("sleep 1.1"); // rpm keeps whole seconds.
    install(rpm(host, "triggers", trigger));
    // The second package brought the same module, so the update did not touch.
    assert_eq!(checks(host), ["rpm-trigger", "rpm-last-run"]);
    assert_eq!(findings(host)[0], "rpm-trigger: dnf reinstall modstamp");
    host.sh("install -D /usr/bin/modstamp /usr/libexec/modstamp/rpm-trigger");
    mend(host, "rpm-last-run");
    assert_eq!(findings(host), NOTHING);
}
