//! The look after a probe, observations that trust an older one, and checks by the stamps alone.

use std::fs;

use modstamp::{Profile, Witness};
use support::world::{GTK, MODULES, STAMP, World, bytes_read, sentences};

type Change = fn(&World);

/// The reason that the look after a probe gives if `during` happens while it runs.
fn disturbed(world: &World, during: impl FnOnce(&World)) -> Option<String> {
    let before = world.profile.observe().unwrap();
    during(world);
    let after = world.profile.inputs().unwrap();
    let why = before.disturbed(&after);
    // A program that keeps the text alone gets the same reason.
    let of_text: Witness = before.to_string().parse().unwrap();
    assert_eq!(of_text.disturbed(&after), why);
    why.map(|why| why.to_string())
}

#[test]
fn a_probe_that_nothing_disturbed_is_believed() {
    let world = World::new();
    assert_eq!(disturbed(&world, |_| ()), None);
    let reads = |world: &World| drop(fs::read(world.path(GTK)).unwrap());
    assert_eq!(disturbed(&world, reads), None);
    let unrelated = |world: &World| world.write("usr/share/unrelated", "");
    assert_eq!(disturbed(&world, unrelated), None);
    world.settle();
    assert_eq!(disturbed(&world, |_| ()), None);
}

#[test]
fn what_is_changed_during_a_probe_is_told() {
    let world = World::new();
    let why = disturbed(&world, |world| world.write(GTK, "other"));
    let told = "module ui-gtk.so in /usr/lib64/qemu changed: its size was 8 bytes, now 5 bytes";
    assert_eq!(why.as_deref(), Some(told));
}

#[test]
fn what_is_changed_and_changed_back_during_a_probe_is_told() {
    let there_and_back: [(&str, Change); 6] = [
        ("module ui-gtk.so", |world| {
            world.keep_mtime(GTK, || {
                world.write(GTK, "during 1");
                world.write(GTK, "before 1");
            });
        }),
        ("module ui-gtk.so", |world| {
            world.rename(GTK, "away");
            world.rename("away", GTK);
        }),
        ("module ui-gtk.so", |world| {
            world.set_permissions(GTK, 0o600);
            world.set_permissions(GTK, 0o644);
        }),
        ("module directory /usr/lib64/qemu", |world| {
            world.keep_mtime(MODULES, || {
                world.write("usr/lib64/qemu/new.so", "");
                world.remove("usr/lib64/qemu/new.so");
            });
        }),
        ("module below", |world| {
            world.keep_mtime("usr/lib64/qemu/below", || {
                world.write("usr/lib64/qemu/below/new.so", "");
                world.remove("usr/lib64/qemu/below/new.so");
            });
        }),
        ("program /usr/bin/qemu-system-arm", |world| {
            world.rename("usr/bin/qemu-system-arm", "away");
            world.rename("away", "usr/bin/qemu-system-arm");
        }),
    ];
    for (name, there_and_back) in there_and_back {
        let world = World::new();
        let told = format!("{name} was touched during the probe, or changed and changed back");
        assert_eq!(disturbed(&world, there_and_back), Some(told));
    }
}

#[test]
fn an_observation_that_trusts_an_older_one_reads_only_what_changed() {
    let world = World::prepared(|world| world.write(GTK, &"1".repeat(1 << 16)));
    world.settle();
    let older = world.observe();
    let again = |older: &Witness| {
        let mut again = None;
        let read = bytes_read(|| again = Some(world.profile.observe_again(older).unwrap()));
        (again.unwrap().to_string(), read)
    };
    let (text, nothing) = again(&older);
    assert_eq!(text, older.to_string());
    world.keep_mtime(GTK, || world.write(GTK, &"2".repeat(1 << 16)));
    std::thread::sleep(std::time::Duration::from_millis(50)); // The same text must differ later.
    let (text, read) = again(&older);
    // Counting takes some bytes itself.
    assert!((1 << 16..1 << 17).contains(&(read - nothing)), "{read}");
    assert_eq!(text, world.observe().to_string());
    // The command line prints the same.
    let file = world.path("older").display().to_string();
    fs::write(&file, older.to_string()).unwrap();
    let output = world.output(&["observe", "--trust", &file]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
}

#[test]
fn an_observation_says_that_what_it_was_to_trust_is_no_witness_and_reads_all() {
    let world = World::new();
    world.settle();
    let file = world.path("older").display().to_string();
    fs::write(&file, "hello").unwrap();
    let output = world.output(&["observe", "--trust", &file]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("; so every content is read"), "{said}");
    assert!(said.contains("does not begin with"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, world.observe().to_string());
    let output = world.output(&["observe", "--trust", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_check_by_the_stamps_alone_sees_touches_and_nothing_else() {
    let world = World::new();
    world.write("etc/other.toml", "files = [\"/etc/other.toml\"]");
    let before = world.observe();
    world.write(GTK, "other");
    assert!(before.check_stamps(&world.profile).is_fresh());
    assert!(world.output(&["touch"]).status.success());
    let said = sentences(&before.check_stamps(&world.profile));
    let [said] = said.try_into().unwrap();
    assert!(said.starts_with("system stamp touched: "), "{said}");
    // A witness of another profile says nothing about this one.
    let other = Profile::load_in(
        world.path("etc/other.toml").to_str().unwrap(),
        world.profile.root(),
    );
    let said = sentences(&before.check_stamps(&other.unwrap()));
    let sentence = "the witness is of the profile qemu, and the question about other-";
    assert!(said.len() == 1 && said[0].starts_with(sentence), "{said:?}");
    world.remove(STAMP);
    let said = sentences(&before.check_stamps(&world.profile));
    assert_eq!(said, ["system stamp gone"]);
}
