//! The doctor finds each fault of the stamps.

use std::fs;

use filetime::FileTime;
use support::libvirt::QXL;
use support::world::{STAMP, World};

use super::{Sound, text};

#[test]
fn a_stamp_that_is_missing_or_no_file_is_found() {
    let host = Sound::new();
    host.remove(STAMP);
    let (report, _) = host.examine();
    assert_eq!(text(&report["findings"][0]["check"]), "stamp", "{report:#}");
    host.link(STAMP, "/etc/hostname");
    let (report, _) = host.examine();
    let finding = &report["findings"][0];
    assert!(
        text(&finding["seen"]).ends_with("is a symbolic link"),
        "{finding}"
    );
    let remedy = format!("rm -r /{STAMP} && ");
    assert!(text(&finding["remedy"]).starts_with(&remedy), "{finding}");
}

#[test]
fn a_stamp_that_others_cannot_read_or_can_write_is_found_and_mended() {
    let host = Sound::new();
    for (path, mode) in [
        (STAMP, 0o600),
        (STAMP, 0o666),
        ("var/lib/modstamp", 0o700),
        ("var/lib", 0o750),
        ("var", 0o775),
        ("", 0o700),
    ] {
        host.set_permissions(path, mode);
        host.assert_mended("stamp-rights");
    }
    host.set_permissions("var/lib/modstamp", 0o777);
    // What others could have written is not believed.
    assert_eq!(host.checks(), ["stamp-rights", "libvirt-answers"]);
    host.set_permissions("var/lib/modstamp", 0o755);
    host.assert_well();
}

#[test]
fn a_missing_directory_of_stamps_is_one_finding_with_the_missing_stamp() {
    let host = Sound::new();
    fs::remove_dir_all(host.path("var/lib/modstamp")).unwrap();
    assert_eq!(host.checks(), ["stamp", "libvirt-answers"]);
    let (report, _) = host.examine();
    assert_eq!(report["unseen"].as_array().unwrap().len(), 0, "{report:#}");
    host.say(&["update"]);
    host.assert_well();
}

#[test]
fn a_directory_of_stamps_that_is_a_dangling_link_is_named_and_mended() {
    let host = Sound::new();
    fs::remove_dir_all(host.path("var/lib/modstamp")).unwrap();
    host.link("var/lib/modstamp", "/gone");
    assert_eq!(host.checks(), ["stamp", "libvirt-answers"]);
    let (_, err) = host.fail(&["touch"]);
    let remedy = "remove what is in a directory's place, such as a dangling link\n";
    assert!(err.ends_with(remedy), "{err}");
    let (report, _) = host.examine();
    let finding = &report["findings"][0];
    assert_eq!(
        text(&finding["seen"]).replace(host.path("").to_str().unwrap(), "/"),
        "/var/lib/modstamp is a symbolic link that leads nowhere"
    );
    host.paste(&text(&finding["remedy"]));
    host.say(&["update"]);
    host.assert_well();
}

#[test]
fn a_missing_directory_of_stamps_is_found_on_a_host_without_qemu() {
    let host = World::new();
    host.sh(
        "rm -r usr opt etc/qemu var/lib/modstamp; mkdir -p usr/lib/foo; touch usr/lib/foo/a.so",
    );
    let text = "module-directories = [\"/usr/lib/foo\"]\n";
    host.write("etc/modstamp/profiles.d/foo.toml", text);
    let doctor = || String::from_utf8(host.output(&["doctor"]).stdout).unwrap();
    let said = doctor();
    let remedy = "\n  inside that system: install -d -m 0755 /var/lib/modstamp\n";
    assert!(
        said.contains("problem (stamp-rights): there is no directory "),
        "{said}"
    );
    assert!(
        said.contains(remedy) && said.contains("1 problem found"),
        "{said}"
    );
    host.sh("install -d -m 0755 var/lib/modstamp");
    assert!(!doctor().contains("problem"), "{}", doctor());
}

#[test]
fn a_stamp_far_ahead_of_the_clock_is_found() {
    let host = Sound::new();
    let later = FileTime::from_unix_time(4_000_000_000, 0);
    filetime::set_file_mtime(host.path(STAMP), later).unwrap();
    // libvirt was not refreshed after this touch by hand.
    assert_eq!(host.checks(), ["clock", "libvirt-answers"]);
    let (report, _) = host.examine();
    let seen = text(&report["findings"][0]["seen"]);
    assert!(
        seen.contains("is 2096-10-02T07:06:40Z, more than a day ahead"),
        "{seen}"
    );
}

#[test]
fn a_change_that_no_trigger_saw_is_found_and_an_update_mends_it() {
    let host = Sound::new();
    host.write(QXL, "another module");
    let (report, _) = host.examine();
    let findings = report["findings"].as_array().unwrap();
    let checks: Vec<String> = findings.iter().map(|it| text(&it["check"])).collect();
    assert_eq!(checks, ["modules", "libvirt-answers"], "{report:#}");
    assert!(
        text(&findings[0]["seen"]).contains("hw-display-qxl.so"),
        "{report:#}"
    );
    host.say(&["update"]);
    host.assert_well();
}
