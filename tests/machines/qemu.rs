//! Debian's QEMU while packages with its modules come and go: is it asked anew when it should?
//!
//! The questions go through `modstamp run`. After each scenario dpkg must find nothing wrong.

use support::deb::{self, BLOCK, Host, RELEASES, Release, add_repository};
use support::test::{Needs, Test, test};
use support::{named, run};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&deb::PROGRAMS);
    let of = |release: &'static Release| {
        let needs = needs.clone();
        SCENARIOS.iter().map(move |(name, scenario)| {
            test(format!("{}::{name}", release.dpkg), &needs, move || {
                let host = Host::new(release, &release.qemu());
                scenario(&host);
                host.is_well();
            })
        })
    };
    RELEASES.iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const SCENARIOS: &[(&str, Scenario)] = named![
    debians_block_modules_by_apt_make_qemu_answer_anew,
    debians_device_modules_by_apt_make_qemu_answer_anew,
    a_device_module_of_ones_own_makes_qemu_answer_anew,
];

/// Asks a question through the cache; says whether the answer was served from it.
fn ask(host: &Host, question: &[&str]) -> (bool, String) {
    let mut command = host.machine.command("modstamp");
    // Some questions are a shell's.
    command.args(["run", "--profile", "qemu", "--explain", "--"]);
    command.args(question);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let explanation = String::from_utf8_lossy(&output.stderr);
    let answer = String::from_utf8_lossy(&output.stdout);
    let is_served = explanation.contains("modstamp: served from the cache");
    let is_asked = explanation.contains("modstamp: asked");
    assert!(is_served != is_asked, "{explanation}");
    (is_served, answer.into_owned())
}

/// The answer without a cache.
fn truth(host: &Host, question: &[&str]) -> String {
    run(host.machine.command(question[0]).args(&question[1..]))
}

/// A question is served from the cache until apt changes a package, and then asked of QEMU again.
/// `package` brings what the answer shows as `word`.
fn by_apt(host: &Host, package: &str, question: &[&str], word: &str) {
    add_repository(host);
    let elsewhere = host.package("elsewhere", "1", &["/usr/share/elsewhere"]);
    let steps = [
        (format!("remove {package}"), false),
        (format!("install --no-install-recommends {package}"), true),
        (format!("install --reinstall {package}"), true),
        (format!("purge {package}"), false),
    ];
    ask(host, question);
    for (step, brings) in steps {
        let (is_served, before) = ask(host, question);
        assert!(is_served, "before {step}");
        assert!(
            !host
                .machine
                .moves(|| host.sh(&format!("apt-get -qy reinstall {elsewhere}")))
        );
        assert_eq!(ask(host, question), (true, before));

        assert!(
            host.machine
                .moves(|| host.sh(&format!("apt-get -qy {step}"))),
            "{step}"
        );
        let (is_served, answer) = ask(host, question);
        assert!(!is_served, "after {step}");
        assert_eq!(answer, truth(host, question), "after {step}");
        assert_eq!(answer.contains(word), brings, "after {step}: {answer}");
    }
}

fn debians_block_modules_by_apt_make_qemu_answer_anew(host: &Host) {
    // No help text of QEMU's lists the block drivers that it has as opposed to those that it knows.
    let ask_for_ssh = "qemu-system-x86_64 -M none -nodefaults -display none \
        -drive if=none,file.driver=ssh 2>&1 | grep -c 'Unknown driver' | sed 's/^0/available/'";
    by_apt(host, BLOCK, &["sh", "-c", ask_for_ssh], "available");
}

fn debians_device_modules_by_apt_make_qemu_answer_anew(host: &Host) {
    let question = ["qemu-system-x86_64", "-device", "help"];
    let device = format!("name \"{}\"", host.release.device);
    by_apt(host, host.release.devices, &question, &device);
}

fn a_device_module_of_ones_own_makes_qemu_answer_anew(host: &Host) {
    let package = host.qxl();

    let question = ["qemu-system-x86_64", "-device", "help"];
    let has_qxl = |answer: &str| answer.contains("name \"qxl\"");
    ask(host, &question);
    assert!(ask(host, &question).0);
    host.dpkg(&format!("--install {package}"));
    for step in ["--remove qxl".to_owned(), format!("--install {package}")] {
        ask(host, &question);
        assert!(ask(host, &question).0, "before {step}");
        assert!(host.machine.moves(|| host.dpkg(&step)));
        let (is_served, answer) = ask(host, &question);
        assert!(!is_served, "after {step}");
        assert_eq!(answer, truth(host, &question));
        assert_eq!(has_qxl(&answer), step.starts_with("--install"), "{answer}");
    }
}
