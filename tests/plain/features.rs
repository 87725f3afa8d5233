//! The crates that a program compiles with the library. These tests also need cargo.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
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

/// A crate that takes the library without its default features. The tests' own build has them all.
#[test]
fn a_build_without_libraries_refuses_a_profile_that_asks_for_them() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let manifest = format!(
        "[package]\nname = \"user\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         modstamp = {{ path = {sources:?}, default-features = false }}\n"
    );
    let code = r#"fn main() {
        let name = std::env::args().nth(1).unwrap();
        print!("{}", modstamp::Profile::load(&name).map_or_else(|it| it.to_string(), |_| "taken".into()));
    }"#;
    fs::write(path("Cargo.toml"), manifest).unwrap();
    fs::copy(sources.join("Cargo.lock"), path("Cargo.lock")).unwrap();
    fs::create_dir(path("src")).unwrap();
    fs::write(path("src/main.rs"), code).unwrap();
    // The build takes over the crates that are compiled already.
    let target = Path::new(env!("CARGO_BIN_EXE_modstamp")).ancestors().nth(2);
    for (key, is_taken) in [
        ("libraries = true", false),
        (
            "manifests = [{ files = [\"/opt/*.json\"], library = \"ICD.library_path\" }]",
            false,
        ),
        ("libraries = false", true),
    ] {
        let text = format!("module-directories = [\"/opt/modules\"]\n{key}\n");
        fs::write(path("x.toml"), text).unwrap();
        let mut user = Command::new(env!("CARGO"));
        user.current_dir(scratch.path())
            .args(["run", "--quiet", "--offline", "--target-dir"]);
        let output = user
            .arg(target.unwrap())
            .arg("--")
            .arg(path("x.toml"))
            .output()
            .unwrap();
        let texts = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        let name = key.split(' ').next().unwrap();
        let refused = format!("x.toml:2: “{name}” needs the feature “libraries”");
        assert_eq!(texts[0].contains(&refused), !is_taken, "{texts:?}");
        assert_eq!(texts[0] == "taken", is_taken, "{texts:?}");
    }
}
