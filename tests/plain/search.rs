//! What a profile's patterns find below a root directory, and what they cannot look at.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use modstamp::{Inputs, Profile, Root};
use support::world::sentences;

/// A root directory with these files, each in the directories that it needs.
fn root_with(files: &[&str]) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    for file in files {
        let file = scratch.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    scratch
}

fn profile(root: &Path) -> Profile {
    let root = Root::open(root).unwrap();
    Profile::new("searched").unwrap().in_root(&root)
}

fn files(inputs: &Inputs) -> Vec<&str> {
    inputs.files().map(|path| path.to_str().unwrap()).collect()
}

#[test]
fn a_pattern_finds_what_it_matches_and_nothing_else() {
    let root = root_with(&[
        "opt/one/a.conf",
        "opt/one/a.conf.old",
        "opt/two/b.conf",
        "opt/two/below/c.conf",
        "opt/d.conf",
    ]);
    let profile = profile(root.path()).files(["/opt/*/*.conf"]).unwrap();
    let inputs = profile.inputs().unwrap();
    assert_eq!(files(&inputs), ["/opt/one/a.conf", "/opt/two/b.conf"]);
    let witness = profile.observe().unwrap();
    fs::write(root.path().join("opt/one/other"), "").unwrap();
    fs::write(root.path().join("opt/e.conf"), "").unwrap();
    assert!(witness.check(&profile).unwrap().is_fresh());
    fs::write(root.path().join("opt/two/e.conf"), "").unwrap();
    let told = sentences(&witness.check(&profile).unwrap());
    assert_eq!(told, ["file /opt/two/e.conf added"]);
}

#[test]
fn a_pattern_follows_links_as_the_system_in_the_root_would() {
    let root = root_with(&["elsewhere/in-the-root/qemu/a.so", "usr/lib/plain/qemu/b.so"]);
    symlink("/elsewhere/in-the-root", root.path().join("usr/lib/linked")).unwrap();
    symlink("/etc", root.path().join("usr/lib/out")).unwrap();
    let profile = profile(root.path());
    let profile = profile.module_directories(["/usr/lib/*/qemu"]).unwrap();
    let profile = profile.files(["/usr/lib/*/*/*"]).unwrap();
    let inputs = profile.inputs().unwrap();
    let found = inputs.module_directories().map(|(path, _)| path.to_owned());
    let found: Vec<_> = found.collect();
    let [linked, plain] = ["/usr/lib/linked/qemu", "/usr/lib/plain/qemu"];
    assert_eq!(found, [Path::new(linked), Path::new(plain)]);
    let modules = [format!("{linked}/a.so"), format!("{plain}/b.so")];
    assert_eq!(files(&inputs), modules, "there is no /etc in the root");
}

/// Nobody can look for a name of 300 bytes.
#[test]
fn a_place_that_cannot_be_looked_at_is_never_fresh() {
    let root = root_with(&["opt/one/a.conf"]);
    let far = "x".repeat(300);
    symlink(&far, root.path().join("far")).unwrap();
    symlink(&far, root.path().join("opt/far")).unwrap();
    for pattern in ["/far/*.conf", "/opt/*/a.conf"] {
        let profile = profile(root.path()).files([pattern]).unwrap();
        let witness = profile.observe().unwrap();
        let told = sentences(&witness.check(&profile).unwrap()).concat();
        assert!(
            told.contains("not known: File name too long"),
            "{pattern}: {told}"
        );
    }
}
