//! A look that fails is told. It is neither a finding nor silence.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use modstamp::doctor::CHECK_NAMES;
use serde_json::Value;
use support::program;

use super::{LOG, PATH_UNIT, STATUS, Sound, TRIGGERS, text};

/// The checks and the texts of the places that could not be looked at.
fn unseen(report: &Value) -> Vec<(String, String)> {
    let unseen = report["unseen"].as_array().unwrap().iter();
    let unseen = unseen.map(|it| (text(&it["check"]), text(&it["seen"])));
    unseen.collect()
}

/// Puts a link to itself in the place of a file.
pub fn circle(host: &Sound, path: &str) {
    let _ = fs::remove_file(host.path(path));
    fs::create_dir_all(host.path(path).parent().unwrap()).unwrap();
    let name = path.rsplit('/').next().unwrap();
    host.link(path, name);
}

#[test]
fn a_circle_of_links_in_the_place_of_a_database_is_told() {
    let paths = [
        (STATUS, "dpkg-trigger"),
        (TRIGGERS, "dpkg-trigger"),
        (LOG, "dpkg-last-run"),
        ("usr/lib/systemd/system/modstamp-update@.path", "unit"),
        ("etc/systemd/system", "unit"),
        ("etc/modstamp/profiles.d", "profile"),
    ];
    for (path, check) in paths {
        let host = Sound::new();
        let _ = fs::remove_dir_all(host.path(path));
        circle(&host, path);
        let (report, status) = host.examine();
        let unseen = unseen(&report);
        assert_eq!(status, 2, "{path}: {report:#}");
        assert!(unseen.iter().any(|(it, _)| it == check), "{report:#}");
        let tells = |seen: &str| seen.contains("Too many levels of symbolic links");
        assert!(unseen.iter().all(|(_, seen)| tells(seen)), "{report:#}");
    }
}

#[test]
fn a_circle_of_links_in_the_place_of_a_program_starts_nothing_and_is_found() {
    let host = Sound::new();
    circle(&host, "usr/bin/modstamp");
    assert_eq!(host.checks(), ["dpkg-trigger", "unit"]);
}

#[test]
fn a_doctor_without_descriptors_invents_nothing_and_passes_over_nothing() {
    for is_broken in [false, true] {
        let host = Sound::new();
        if is_broken {
            host.remove(TRIGGERS);
            host.remove(PATH_UNIT);
            host.remove("var/lib/modstamp/qemu.libvirt");
        }
        let examine = |limit: usize| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
            command.arg(program("modstamp"));
            command
                .args(["doctor", "--json", "--root"])
                .arg(host.path(""));
            let output = command.output().unwrap();
            let report = serde_json::from_slice::<Value>(&output.stdout);
            report.map_err(|_| String::from_utf8(output.stderr).unwrap())
        };
        let seen = |report: &Value| -> BTreeSet<String> {
            let findings = report["findings"].as_array().unwrap().iter();
            findings.map(|finding| text(&finding["seen"])).collect()
        };
        let whole = examine(1000).unwrap();
        assert_eq!(whole["unseen"], Value::Array(Vec::new()), "{whole:#}");
        let (mut blind, mut limits) = (0, 0);
        for limit in 3..30 {
            let report = match examine(limit) {
                Ok(report) => report,
                Err(error) => {
                    assert!(!error.is_empty());
                    continue;
                }
            };
            let is_all = unseen(&report).is_empty();
            blind += usize::from(!is_all);
            let (found, all) = (seen(&report), seen(&whole));
            assert!(found.is_subset(&all), "{limit}: {report:#}");
            assert!(found == all || !is_all, "{limit}: {report:#}");
            for place in report["unseen"].as_array().unwrap() {
                let again = text(&place["remedy"]);
                let doctor = format!("modstamp doctor --root {}", host.path("").display());
                assert!(again.ends_with(&doctor), "{again}");
                limits += usize::from(again.starts_with("ulimit -n 1024; "));
            }
            for (_, cause) in unseen(&report) {
                let causes = ["Too many open files", "could not be looked at"];
                assert!(causes.iter().any(|it| cause.contains(it)), "{cause}");
            }
        }
        assert!(blind > 0 && limits > 0, "no limit was tight");
    }
}

#[test]
fn a_profile_that_libvirt_knows_nothing_of_and_that_asks_for_its_refresh_is_found() {
    let host = Sound::new();
    host.put("usr/lib/foo/a.so", "a module");
    let profile = "etc/modstamp/profiles.d/foo.toml";
    let text = "module-directories = [\"/usr/lib/foo\"]\n";
    host.put(profile, &format!("{text}refresh-libvirt = true\n"));
    let (_, err) = host.say(&["touch", "--profile", "foo"]);
    let remedy = "take the remedy “libvirt”, or the line refresh-libvirt, out of its file\n";
    assert!(err.ends_with(remedy), "{err}");
    let (seen, remedy) = host.assert_ill("libvirt-answers");
    assert_eq!(seen, "the profile foo has refresh-libvirt = true");
    host.paste(&remedy);
    assert_eq!(fs::read_to_string(host.path(profile)).unwrap(), text);
    host.assert_well();
    assert_eq!(host.say(&["touch", "--profile", "foo"]).1, "");
    // The new spelling takes several lines, so the remedy is an editor.
    host.put(profile, &format!("{text}[[cache]]\nremedy = \"libvirt\"\n"));
    let (seen, remedy) = host.assert_ill("libvirt-answers");
    assert_eq!(
        seen,
        "the profile foo has a cache with the remedy “libvirt”"
    );
    assert_eq!(remedy, format!("\"${{EDITOR:-vi}}\" /{profile}"));
}

#[test]
fn the_administrators_page_has_every_key_and_every_check() {
    let page = support::sources().join("docs/administrators.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\n## JSON of the doctor\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let host = Sound::new();
    host.put("etc/modstamp/profiles.d/qemu.toml", "files = []\n");
    host.remove(TRIGGERS);
    circle(&host, LOG);
    let (report, _) = host.examine();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut all = keys(&report);
    for list in ["findings", "notes", "unseen"] {
        all.extend(keys(&report[list][0]));
    }
    all.extend(CHECK_NAMES.map(str::to_owned));
    for word in all {
        assert!(section.contains(&format!("`{word}`")), "{word}");
    }
}
