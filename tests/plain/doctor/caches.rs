//! Caches of other programs that a profile names.

use std::fs;

use super::Sound;

const PROFILE: &str = "etc/modstamp/profiles.d/toy.toml";
const CACHE: &str = "var/cache/toy/one.bin";
const STAMP: &str = "var/lib/modstamp/toy.stamp";

/// A sound host with a program that has plug-ins, a cache of them, and a profile with this remedy.
/// Nobody has asked modstamp for anything yet.
fn with_toy(remedy: &str) -> Sound {
    let host = Sound::new();
    host.put("usr/lib/toy/a.so", "a module");
    host.put(CACHE, "answers");
    let text = format!(
        "
        module-directories = [\"/usr/lib/toy\"]
        [[cache]]
        files = [\"/var/cache/toy/*.bin\"]
        remedy = {remedy}
        [[cache]]
        files = [\"/var/cache/of-another-distribution/*.bin\"]
        remedy = {remedy}
    "
    );
    host.put(PROFILE, &text);
    host
}

/// Makes the cache good, and has the program make it anew.
fn make_good(host: &Sound) {
    host.say(&["update", "--profile", "toy"]);
    host.put(CACHE, "answers");
}

fn touch_by_hand(host: &Sound) {
    let stamp = fs::File::options().write(true).open(host.path(STAMP));
    let now = std::time::SystemTime::now();
    stamp.unwrap().set_modified(now).unwrap();
}

fn enable(host: &Sound) {
    for unit in ["service", "path"] {
        host.enable(&format!("modstamp-update@toy.{unit}"));
    }
    let watches = "etc/systemd/system/modstamp-update@toy.path.d/toy.conf";
    host.put(watches, "[Path]\nPathModified=/usr/lib/toy\n");
}

#[test]
fn a_cache_that_nobody_wants_fresh_is_no_finding() {
    let host = with_toy("\"remove\"");
    host.assert_well();
    // Packages touch every stamp whose modules they bring.
    host.put(STAMP, "");
    touch_by_hand(&host);
    host.assert_well();
    assert_eq!(host.notes(), []);
}

#[test]
fn a_cache_that_was_good_once_and_is_stale_now_is_found_and_a_refresh_mends_it() {
    let host = with_toy("\"remove\"");
    make_good(&host);
    host.assert_well();
    touch_by_hand(&host);
    let (seen, remedy) = host.assert_ill("cache");
    let expected = "the cache /var/cache/toy/*.bin of the profile toy is stale: the stamp was \
                    touched since the last remedy";
    assert_eq!(seen, expected);
    assert_eq!(remedy, "modstamp refresh --stale --profile toy");
    host.assert_mended("cache");
    assert!(!host.path(CACHE).exists());
}

#[test]
fn a_stale_cache_without_a_unit_is_noted_with_the_command_that_enables_both() {
    let host = with_toy("\"remove\"");
    make_good(&host);
    assert_eq!(host.notes(), []);
    touch_by_hand(&host);
    let notes = host.notes();
    let [(check, why)] = &notes[..] else {
        panic!("{notes:?}");
    };
    assert_eq!(check, "unit");
    let enabling = "“systemctl enable modstamp-update@toy.service modstamp-update@toy.path”";
    assert!(why.contains(enabling), "{why}");
    enable(&host);
    assert_eq!(host.notes(), []);
    host.assert_ill("cache");
}

#[test]
fn a_cache_of_a_profile_with_enabled_units_is_found_before_its_first_remedy() {
    let host = with_toy("\"remove\"");
    enable(&host);
    let (seen, _) = host.assert_ill("cache");
    assert!(seen.ends_with("is stale: no remedy is on record"), "{seen}");
    host.assert_mended("cache");
}

#[test]
fn a_cache_without_files_is_no_finding() {
    let host = with_toy("\"remove\"");
    make_good(&host);
    touch_by_hand(&host);
    host.remove(CACHE);
    host.assert_well();
}

#[test]
fn a_remedy_that_failed_is_found_with_its_error_until_it_succeeds() {
    let host = with_toy("\"remove\"");
    let odd = "var/cache/toy/sub.bin";
    fs::create_dir(host.path(odd)).unwrap();
    host.fail(&["update", "--profile", "toy"]);
    let (seen, remedy) = host.assert_ill("cache");
    let failure = "is stale: the last remedy failed: ";
    assert!(seen.contains(failure), "{seen}");
    assert!(seen.contains("sub.bin: it is a directory"), "{seen}");
    fs::remove_dir(host.path(odd)).unwrap();
    host.paste(&remedy);
    host.assert_well();
}

#[test]
fn a_cache_that_only_a_command_mends_waits_for_the_first_update_of_that_system() {
    let host = with_toy("[\"true\"]");
    make_good(&host);
    enable(&host);
    touch_by_hand(&host);
    host.assert_well();
}
