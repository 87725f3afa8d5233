//! A module directory with several names is one directory, whichever name leads to it.

use std::fs;

use support::world::{GTK, MODULES, World, sentences};

/// The module directory has two names, and is itself one of them.
const FIRST: &str = "usr/lib/qemu";

fn two_names() -> World {
    World::prepared(|world| world.link(FIRST, "/usr/lib64/qemu"))
}

/// Now both names are links, and another of them comes first.
fn swap(world: &World) {
    world.sh("mkdir -p usr/other");
    world.rename(MODULES, "usr/other/qemu");
    world.link(MODULES, "/usr/other/qemu");
}

fn swap_back(world: &World) {
    world.remove(MODULES);
    world.rename("usr/other/qemu", MODULES);
}

#[test]
fn a_directory_whose_names_swap_their_parts_is_the_same() {
    let world = two_names();
    let before = world.observe();
    assert!(
        before.to_string().contains("/usr/lib/qemu\ndirectory"),
        "an alias"
    );
    swap(&world);
    assert_eq!(sentences(&world.check(&before)), [""; 0]);
    let between = world.observe();
    swap_back(&world);
    assert_eq!(sentences(&world.check(&before)), [""; 0]);
    assert_eq!(sentences(&world.check(&between)), [""; 0]);
}

#[test]
fn a_directory_whose_names_swap_their_parts_is_not_read_again() {
    let world = two_names();
    fs::write(world.path(GTK), "1".repeat(1 << 16)).unwrap();
    let before = world.observe();
    // A settled file is evidence by the next look, too.
    std::thread::sleep(support::world::SETTLED);
    let before = world.profile.observe_again(&before).unwrap();
    swap(&world);
    let read = support::world::bytes_read(|| assert!(world.check(&before).is_fresh()));
    assert!(read < 1 << 16, "{read} bytes");
}

#[test]
fn a_change_in_a_directory_whose_names_swap_their_parts_is_told() {
    let world = two_names();
    let before = world.observe();
    swap(&world);
    world.keep_mtime("usr/other/qemu/ui-gtk.so", || {
        world.write("usr/other/qemu/ui-gtk.so", "after  1")
    });
    assert_eq!(
        sentences(&world.check(&before)),
        ["module ui-gtk.so in /usr/lib/qemu changed: its content differs"]
    );
}

#[test]
fn a_name_that_leads_to_another_directory_of_equal_content_is_told() {
    let world = two_names();
    let before = world.observe();
    world.sh("mkdir usr/other; cp -rp usr/lib64/qemu usr/other/copy");
    world.link(FIRST, "/usr/other/copy");
    let said = sentences(&world.check(&before));
    assert_eq!(
        said,
        ["module directory /usr/lib64/qemu changed: its content differs"]
    );
}

#[test]
fn names_of_two_directories_that_change_places_are_told() {
    let world = World::prepared(|world| {
        world.sh("mkdir -p opt/two usr/lib/x; printf 2 > opt/two/two.so");
        world.link("usr/lib/x/qemu", "/opt/two");
        world.link(FIRST, "/usr/lib64/qemu");
    });
    let before = world.observe();
    world.link("usr/lib/x/qemu", "/usr/lib64/qemu");
    world.link(FIRST, "/opt/two");
    assert!(!world.check(&before).is_fresh());
}

#[test]
fn a_variable_whose_value_is_one_path_with_a_colon_names_that_directory_too() {
    let world = World::new();
    world.sh("mkdir -p usr/a:/b; echo 1 > usr/a:/b/module.so");
    let profile = world.beside("own.toml");
    fs::write(&profile, "module-directories = [\"$OWN_MODULES\"]").unwrap();
    let stored = world.beside("witness");
    let ask = |arguments: &[&str]| {
        let mut command = world.modstamp(arguments);
        command.arg("--profile").arg(&profile);
        command.env("OWN_MODULES", "/usr/a:/b");
        command
    };
    fs::write(&stored, ask(&["observe"]).output().unwrap().stdout).unwrap();
    let check = || ask(&["check", stored.to_str().unwrap()]);
    assert_eq!(check().status().unwrap().code(), Some(0));
    let output = check().env_remove("OWN_MODULES").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let told = "variable OWN_MODULES changed: it was “/usr/a:/b”, now not set\n";
    assert!(text.contains(told), "{text}");
    world.write("usr/a:/b/module.so", "2");
    assert_eq!(check().status().unwrap().code(), Some(1));
}

#[test]
fn a_link_to_a_directory_beside_it_is_told_if_it_is_written_otherwise() {
    let world = World::new();
    world.sh("mkdir -p usr/lib64/qemu/below; ln -s below usr/lib64/qemu/again");
    let before = world.observe();
    assert_eq!(sentences(&world.check(&before)), [""; 0]);
    world.sh("ln -sfn ./below usr/lib64/qemu/again");
    let told = "module again in /usr/lib64/qemu changed: its content differs";
    assert_eq!(sentences(&world.check(&before)), [told]);
}

#[test]
fn a_link_that_cannot_be_followed_is_not_known() {
    let world = World::new();
    world.link("usr/lib64/qemu/long.so", &"x".repeat(300));
    let before = world.observe();
    let told = sentences(&world.check(&before));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("module long.so in /usr/lib64/qemu not known: "),
        "{told:?}"
    );
}
