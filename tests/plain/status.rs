//! `modstamp status` tells what it cannot read, and ends with 1.

use std::fs;
use std::os::unix::fs::symlink;

use support::world::{MODULES, STAMP, World};

/// The output of the status, which must end with 1, and what it tells of.
fn failing(world: &World) -> (String, String) {
    let output = world.output(&["status", "--profile", "qemu"]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    (out, err)
}

#[test]
fn a_status_that_cannot_read_a_module_directory_says_so_and_fails() {
    let world = World::new();
    fs::remove_dir_all(world.path(MODULES)).unwrap();
    symlink("x".repeat(300), world.path(MODULES)).unwrap(); // Too long a name.
    let (out, err) = failing(&world);
    let sentence = format!(
        "modstamp: module directory /{MODULES} not known: File name too long (os error 36); make it"
    );
    assert!(err.starts_with(&sentence), "{err}");
    let mut lines = out.lines();
    let line = lines.find(|line| line.contains(MODULES)).unwrap();
    assert!(line.ends_with("not known"), "{line}");
}

#[test]
fn a_status_that_cannot_read_a_stamp_says_so_and_fails() {
    let world = World::new();
    fs::remove_file(world.path(STAMP)).unwrap();
    fs::create_dir(world.path(STAMP)).unwrap();
    let (out, err) = failing(&world);
    let sentence = "is a directory, not a regular file; remove it and touch again";
    assert!(
        out.contains(sentence) && err.contains(sentence),
        "{out}{err}"
    );
}
