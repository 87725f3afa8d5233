//! Every look ends. What it leaves out is not known, with the reason.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use modstamp::{Profile, Witness};
use support::world::{GTK, MODULES, SETTLED, World, sentences};

/// Much longer than a look takes, and much shorter than one that goes on and on.
const SECONDS: Duration = Duration::from_secs(20);

fn in_time<T>(look: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let found = look();
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    found
}

const TOO_LARGE: &str = "module ui-gtk.so in /usr/lib64/qemu not known: it is larger than 4 GiB";

#[test]
fn a_module_of_any_size_is_not_known_within_seconds() {
    let world = World::new();
    let before = world.observe();
    File::options()
        .write(true)
        .open(world.path(GTK))
        .unwrap()
        .set_len(8 << 40)
        .unwrap();
    assert!(!in_time(|| world.check(&before)).is_fresh());
    let large = in_time(|| world.observe());
    assert_eq!(sentences(&in_time(|| world.check(&large))), [TOO_LARGE]);
    // Its stat identity is evidence by now, and proves nothing of what nobody read.
    std::thread::sleep(SETTLED);
    let settled = in_time(|| world.observe());
    assert_eq!(sentences(&in_time(|| world.check(&settled))), [TOO_LARGE]);
    world.write(GTK, "before 1");
    let said = sentences(&world.check(&large));
    assert!(
        said.iter()
            .any(|line| line.contains("changed: its size was ")),
        "{said:?}"
    );
}

#[test]
fn a_link_to_a_file_of_any_size_is_not_known_within_seconds() {
    let world = World::new();
    let before = world.observe();
    File::create(world.path("usr/share/linked.so"))
        .unwrap()
        .set_len(8 << 40)
        .unwrap();
    let said = sentences(&in_time(|| world.check(&before)));
    assert!(
        said[0].ends_with(" not known: it is larger than 4 GiB"),
        "{said:?}"
    );
}

const NOT_STORED: &str = "not known: it is of a file system such as /proc, \
    which stores nothing, and is not looked at";

/// A profile of the running system, whose module directory is `directory`.
fn of_system(directory: &Path) -> Profile {
    let profile = Profile::new("ends").unwrap();
    profile
        .module_directories([directory.to_str().unwrap()])
        .unwrap()
}

#[test]
fn a_module_directory_that_leads_to_proc_is_not_known_within_seconds() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("a.so"), "a module").unwrap();
    let profile = of_system(scratch.path());
    let before = profile.observe().unwrap();
    std::os::unix::fs::symlink("/proc", scratch.path().join("proc")).unwrap();
    let verdict = in_time(|| before.check(&profile).unwrap());
    assert_eq!(
        sentences(&verdict),
        [format!(
            "module proc in {} {NOT_STORED}",
            scratch.path().display()
        )]
    );
    let witness = in_time(|| profile.observe().unwrap());
    assert_eq!(
        sentences(&witness.check(&profile).unwrap()),
        sentences(&verdict)
    );
    assert!(witness.to_string().contains(" a.so\n"), "the rest is there");
}

#[test]
fn proc_as_a_module_directory_is_not_known_within_seconds() {
    let profile = of_system(Path::new("/proc/self"));
    let witness: Witness = in_time(|| profile.observe().unwrap());
    let said = sentences(&in_time(|| witness.check(&profile).unwrap()));
    assert_eq!(said, [format!("module directory /proc/self {NOT_STORED}")]);
}

/// A profile may name the kernel's own files: they are facts of the host.
#[test]
fn a_file_of_the_kernel_that_a_profile_names_is_read() {
    let profile = Profile::new("ends").unwrap();
    let profile = profile.files(["/proc/sys/kernel/ostype"]).unwrap();
    let witness = profile.observe().unwrap();
    assert!(witness.check(&profile).unwrap().is_fresh());
}

#[test]
fn what_is_too_deep_is_not_known_and_says_so() {
    let world = World::new();
    let before = world.observe();
    let deep = vec!["d"; 40].join("/");
    fs::create_dir_all(world.path(MODULES).join(deep)).unwrap();
    let said = sentences(&in_time(|| world.check(&before)));
    let expected = "not known: it is more than 32 directories deep";
    assert!(said.iter().any(|line| line.ends_with(expected)), "{said:?}");
}
