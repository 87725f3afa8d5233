//! Programs that answer from caches of their own: `status` tells of one that is stale. These tests
//! need nothing. Users of their own: `tests/root/remedies.rs`.

use std::fs;

use serde_json::Value;
use support::world::MODULES;

use crate::remedies::{CACHE, REMOVE, exists, fail, status, succeed, updated};
use crate::run_inputs::told;

#[test]
fn a_cache_is_stale_by_a_change_that_nobody_touched_for() {
    let world = updated(REMOVE);
    assert_eq!(status(&world)["verdict"], "fresh");
    world.write(&format!("{MODULES}/new.so"), "new");
    let stale = status(&world);
    assert_eq!(
        (&stale["verdict"], &stale["why"]),
        (&Value::from("stale"), &Value::from("changed"))
    );
    let table = succeed(&world, &["status", "--profile", "qemu"]);
    let sentence = "stale: modules changed since the last touch; “modstamp update” makes it good";
    assert!(table.contains(sentence), "{table}");
    succeed(&world, &["update"]);
    assert!(!exists(&world, CACHE));
    assert_eq!(status(&world)["verdict"], "fresh");
}

#[test]
fn a_variable_that_no_update_looks_at_makes_no_cache_stale() {
    let caches = format!("module-directories = [\"/{MODULES}\", \"$TOY_PLUGINS\"]\n{REMOVE}");
    let world = updated(&caches);
    world.sh("mkdir -p opt/toys; echo > opt/toys/a.so");
    let mut command = world.modstamp(&["status", "--profile", "qemu", "--json"]);
    let (json, _) = told(command.env("TOY_PLUGINS", "/opt/toys").output().unwrap());
    let json: Value = serde_json::from_str(&json).unwrap();
    let profile = &json["profiles"][0];
    let directories = profile["module_directories"].as_array().unwrap();
    assert!(directories.iter().any(|it| it["path"] == "/opt/toys"));
    assert_eq!(profile["foreign_caches"][0]["verdict"], "fresh");
}

#[test]
fn a_stamp_without_a_record_of_the_modules_makes_a_cache_stale() {
    let world = updated(REMOVE);
    world.remove("var/lib/modstamp/qemu.witness");
    assert_eq!(status(&world)["why"], "unknown");
}

#[test]
fn a_remedy_that_failed_hides_not_when_the_cache_was_last_made_good() {
    let world = updated(REMOVE);
    let good = status(&world)["last"]["time"].clone();
    assert_eq!(status(&world)["last"]["last_good"], Value::Null);
    fs::create_dir(world.path("var/cache/toy/sub.bin")).unwrap();
    for name in ["one", "two"] {
        world.write(&format!("var/cache/toy/{name}.bin"), "");
        fail(&world, &["refresh"]);
        let failed = status(&world);
        assert_eq!(failed["why"], "failed");
        assert_eq!(failed["last"]["last_good"], good);
    }
    let table = succeed(&world, &["status", "--profile", "qemu"]);
    assert!(table.contains("; it was last made good 2"), "{table}");
}
