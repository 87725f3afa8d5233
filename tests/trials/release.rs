//! What a release promises beside what the programs do: its version, its public Rust API, its documentation, and the
//! licences of all that is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::test::{NOTHING, Needs, Test, test};
use support::{kept, run};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The `cargo deny` that reads deny.toml.
const CARGO_DENY: &str = "0.20.2";

/// The version of rustdoc's JSON that the public-api in tests/api/Cargo.toml reads.
const JSON: &str = "57";

pub fn tests() -> Vec<Test> {
    let minutes = Needs::minutes();
    let rustdoc = match minutes.are_met() {
        true => minutes.clone().and(no_rustdoc()),
        false => minutes.clone(),
    };
    vec![
        test(
            "every_file_that_names_the_version_names_the_crates",
            &NOTHING,
            every_file_that_names_the_version_names_the_crates,
        ),
        test(
            "the_changelog_tells_what_is_in_this_version",
            &NOTHING,
            the_changelog_tells_what_is_in_this_version,
        ),
        test(
            "the_public_api_is_the_one_that_is_written_down",
            &rustdoc,
            the_public_api_is_the_one_that_is_written_down,
        ),
        test(
            "every_crate_that_is_shipped_is_licensed_once_there_and_of_crates_io",
            &minutes,
            every_crate_that_is_shipped_is_licensed_once_there_and_of_crates_io,
        ),
    ]
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first line that begins with `start`, without it.
fn after<'a>(text: &'a str, start: &str) -> &'a str {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(start));
    found.unwrap_or_else(|| panic!("no line begins with “{start}”"))
}

fn every_file_that_names_the_version_names_the_crates() {
    let spec = text("rpm/modstamp.spec");
    assert_eq!(
        after(&spec, "Version:").trim(),
        VERSION,
        "rpm/modstamp.spec"
    );
    let debian = text("debian/changelog");
    let debian = after(&debian, "modstamp (").split(')').next().unwrap();
    // A Debian revision may follow.
    let upstream = debian
        .rsplit_once('-')
        .map_or(debian, |(version, _)| version);
    assert_eq!(upstream, VERSION, "debian/changelog");
    let python = text("python/pyproject.toml");
    let python = after(&python, "version = ").trim_matches('"');
    assert_eq!(python, VERSION, "python/pyproject.toml");
}

fn the_changelog_tells_what_is_in_this_version() {
    let changelog = text("CHANGELOG.md");
    let headings = changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## ["));
    let headings: Vec<&str> = headings.collect();
    let newest = headings
        .iter()
        .find(|heading| !heading.starts_with("Unreleased]"));
    let (version, date) = newest.unwrap().split_once("] - ").unwrap();
    assert_eq!(version, VERSION, "the newest version in CHANGELOG.md");
    let is_date = date.len() == 10 && date.split('-').all(|part| part.parse::<u16>().is_ok());
    assert!(
        is_date,
        "“{date}” in CHANGELOG.md is no date of the form 2026-11-22"
    );
    // https://keepachangelog.com/en/1.1.0/ has these and no others.
    let kinds = [
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    ];
    for kind in changelog
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
    {
        assert!(kinds.contains(&kind), "CHANGELOG.md has “### {kind}”");
    }
}

/// A rustdoc that takes the options which a released one keeps to itself. Cargo itself must not see the variable: build
/// scripts would, and everything were built anew.
fn rustdoc() -> PathBuf {
    let wrapper = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rustdoc");
    let script = "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n";
    if fs::read_to_string(&wrapper).ok().as_deref() != Some(script) {
        fs::write(&wrapper, script).unwrap();
    }
    run(Command::new("chmod").arg("+x").arg(&wrapper));
    wrapper
}

/// Why the public API cannot be listed here.
fn no_rustdoc() -> Option<String> {
    let scratch = tempfile::tempdir().unwrap();
    let empty = scratch.path().join("empty.rs");
    fs::write(&empty, "").unwrap();
    let output = Command::new(rustdoc())
        .args(["-Zunstable-options", "--output-format", "json"])
        .args(["--crate-type", "lib", "--out-dir"])
        .arg(scratch.path())
        .arg(empty)
        .output();
    let written = fs::read_to_string(scratch.path().join("empty.json")).unwrap_or_default();
    match written.contains(&format!("\"format_version\":{JSON}}}")) {
        true => None,
        false => Some(format!(
            "a rustdoc that writes JSON of version {JSON}, as 1.95 does; for a later one, take a later public-api in \
             tests/api/Cargo.toml, set JSON in tests/trials/release.rs, and run `make api`. This one: {output:?}"
        )),
    }
}

fn the_public_api_is_the_one_that_is_written_down() {
    run(Command::new(env!("CARGO"))
        .args(["rustdoc", "--lib", "--locked", "--manifest-path"])
        .arg(top().join("Cargo.toml"))
        .args(["--", "-Zunstable-options", "--output-format", "json"])
        .env("RUSTDOC", rustdoc()));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let api = run(Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--manifest-path"])
        .arg(top().join("tests/api/Cargo.toml"))
        .arg("--target-dir")
        .arg(kept().join("public-api"))
        .arg("--")
        .arg(target.join("doc/modstamp.json")));
    let written = top().join("tests/api/listing.txt");
    if std::env::var_os("MODSTAMP_API").is_some_and(|value| value == "write") {
        fs::write(&written, api).unwrap();
        return;
    }

    let old = fs::read_to_string(&written).unwrap_or_default();
    let (before, now): (BTreeSet<&str>, BTreeSet<&str>) =
        (old.lines().collect(), api.lines().collect());
    let gone = before.difference(&now).map(|line| format!("- {line}\n"));
    let come = now.difference(&before).map(|line| format!("+ {line}\n"));
    let changes: String = gone.chain(come).collect();
    assert!(
        changes.is_empty(),
        "the public Rust API is another than tests/api/listing.txt says:\n{changes}\
         If that is meant, run `make api`, tell it in CHANGELOG.md, and raise the version in Cargo.toml as told there: \
         what is gone or different breaks programs."
    );
}

fn cargo_deny() -> PathBuf {
    kept().join(format!("cargo-deny-{CARGO_DENY}"))
}

fn every_crate_that_is_shipped_is_licensed_once_there_and_of_crates_io() {
    // Building it takes minutes, so it is kept. Two of these may want it at once: flock(1) lets one build it.
    let script = r#"
        test -e "$1" && exit
        cargo install cargo-deny --quiet --locked --version "$2" --root "$1.new" --target-dir "$1.new/target"
        mv "$1.new/bin/cargo-deny" "$1"
        rm -r "$1.new"
    "#;
    run(Command::new("flock")
        .arg(kept().join("cargo-deny.lock"))
        .args(["sh", "-ec", script, "sh"])
        .arg(cargo_deny())
        .arg(CARGO_DENY));
    run(Command::new(cargo_deny())
        .args(["--locked", "--manifest-path"])
        .arg(top().join("Cargo.toml"))
        .args([
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]));
}
