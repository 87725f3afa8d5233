//! A file whose stat was no evidence at a touch counts as touched. An untouched file costs no
//! second probe.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use support::libvirt::{Host, QXL, WATCHED, X86};
use support::world::STAMP;

/// The clock's tick is over after this time. A write could still be under way.
const YOUNG: Duration = Duration::from_millis(50);

/// The ways in which libvirt is made to probe again after a change.
const WAYS: [&[&str]; 4] = [
    &["touch"],
    &["trigger", "dpkg", "/usr/lib/x86_64-linux-gnu/qemu"],
    &["update"],
    &["libvirt", "refresh"],
];

/// A host in which only a module is young.
struct Young {
    host: Host,
    writes: u32,
}

impl Young {
    fn new() -> Young {
        let host = Host::new();
        host.settle();
        refresh_by(&host, &["update"]);
        Young { host, writes: 0 }
    }

    /// Writes the module anew, and refreshes libvirt for that a moment later.
    fn change(&mut self, wait: Duration, way: &[&str]) {
        self.writes += 1;
        self.host.write(QXL, &format!("module {}", self.writes));
        sleep(wait);
        refresh_by(&self.host, way);
    }
}

fn refresh_by(host: &Host, way: &[&str]) {
    let output = host.modstamp(way).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{way:?}: {:?}", host.said(&output));
}

#[track_caller]
fn assert_not_fresh_until_an_update(host: &Host, way: &[&str]) {
    assert!(host.serves(X86), "{way:?}: libvirt sees nothing of it");
    let says = host.words(X86);
    assert!(says.starts_with("stale: "), "{way:?}: {says}");
    let (out, _) = host.say(&["update"]);
    assert!(out.contains("moved the time of "), "{way:?}: {out}");
    assert!(!host.serves(X86), "{way:?}");
    host.ask(X86);
    assert_eq!(host.words(X86), "fresh", "{way:?}");
}

#[test]
fn a_change_there_and_back_just_after_a_touch_for_a_young_module_is_not_taken_for_fresh() {
    let mut young = Young::new();
    for way in WAYS {
        young.change(YOUNG, way);
        let host = &young.host;
        let before = fs::read_to_string(host.path(QXL)).unwrap();
        host.keep_mtime(QXL, || host.write(QXL, "another!"));
        host.ask(X86);
        host.keep_mtime(QXL, || host.write(QXL, &before));
        assert_not_fresh_until_an_update(host, way);
    }
}

#[test]
fn a_name_that_comes_and_goes_in_a_young_directory_just_after_a_touch_is_not_taken_for_fresh() {
    let mut young = Young::new();
    for way in WAYS {
        let sh = |script: &str| {
            young
                .host
                .sh(&script.replace("BELOW", &format!("{WATCHED}/below")))
        };
        sh("rm -rf BELOW; mkdir BELOW");
        young.change(YOUNG, way);
        let sh = |script: &str| {
            young
                .host
                .sh(&script.replace("BELOW", &format!("{WATCHED}/below")))
        };
        sh("touch BELOW/new.so");
        young.host.ask(X86);
        sh("rm BELOW/new.so");
        assert_not_fresh_until_an_update(&young.host, way);
    }
}

#[test]
fn a_young_module_that_stays_untouched_costs_no_second_probe() {
    let mut young = Young::new();
    // A refresh of libvirt alone leaves it to the update to touch the stamp.
    for way in &WAYS[..3] {
        for wait in [Duration::ZERO, YOUNG] {
            young.change(wait, way);
            young.host.ask(X86);
            assert_eq!(young.host.words(X86), "fresh", "{way:?}");
            let (out, _) = young.host.say(&["update"]);
            assert!(!out.contains("moved"), "{way:?}: {out}");
            assert!(young.host.serves(X86), "{way:?}");
        }
    }
}

/// The last touch saw young modules, and at most an update looked since.
#[test]
fn a_redeploy_of_equal_files_after_a_touch_for_young_modules_moves_no_stamp() {
    let mut young = Young::new();
    for way in WAYS {
        young.change(YOUNG, way);
        young.host.say(&["update"]);
        let stamp = || {
            fs::metadata(young.host.path(STAMP))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = stamp();
        young
            .host
            .sh("cp -r usr usr.new; rm -r usr; mv usr.new usr");
        young.host.say(&["update"]);
        assert_eq!(stamp(), before, "{way:?}");
    }
}
