//! The crates that a program compiles with the library. These tests also need cargo.

use std::collections::BTreeSet;
use std::process::Command;

/// The names of the crates on Linux with these features, the library's own included.
fn crates(features: &[&str]) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(env!("CARGO_MANIFEST_DIR"));
    tree.args(["tree", "--offline", "--locked", "--edges=normal"]);
    tree.args(["--target=x86_64-unknown-linux-gnu", "--prefix=none"]);
    let output = tree.args(features).output().unwrap();
    let (names, error) = (output.stdout, output.stderr);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&error)
    );
    // “name v1.2.3”, and a mark on a crate that is listed again
    let names = String::from_utf8(names).unwrap();
    let versions = names.lines().filter(|line| !line.is_empty());
    let versions = versions.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    versions.collect()
}

#[test]
fn a_user_of_the_library_compiles_at_most_30_crates_and_no_command_line() {
    let crates = crates(&["--no-default-features"]);
    assert!(crates.len() <= 30, "{} crates: {crates:#?}", crates.len());
    for name in [
        "clap",
        "anyhow",
        "jiff",
        "comfy-table",
        "serde_json",
        "humantime",
        "quick-xml",
        "sha2",
    ] {
        let start = format!("{name} ");
        let unwanted = crates.iter().find(|found| found.starts_with(&start));
        assert_eq!(unwanted, None);
    }
}

#[test]
fn humantime_and_what_the_manual_needs_are_in_no_program() {
    let crates = crates(&[]);
    assert!(crates.iter().any(|found| found.starts_with("clap ")));
    for name in ["humantime ", "clap_complete ", "clap_mangen "] {
        assert!(
            !crates.iter().any(|found| found.starts_with(name)),
            "{name}"
        );
    }
}
