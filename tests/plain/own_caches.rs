//! Programs that answer from caches of their own: `run` never keeps an answer of an outdated one,
//! and `status` tells of one. These tests need nothing. Other users: `tests/root/remedies.rs`.

use std::fs;

use filetime::FileTime;
use serde_json::Value;
use support::world::{MODULES, keep_mtime};

use crate::remedies::{CACHE, REMOVE, exists, fail, status, succeed, updated};
use crate::run::World;
use crate::run_inputs::told;

const FRESH: &str = "modstamp: served from the cache: nothing changed\n";

/// A program that believes its own list of modules, and makes it only if there is none.
const BELIEVES: &str = "
    cd $ROOT
    test -e var/cache/toy/list || ls usr/lib64/qemu > var/cache/toy/list
    cat var/cache/toy/list
";

/// A world with that program, whose list gets this remedy.
fn world(remedy: &str, more: &str) -> World {
    let world = World::new();
    let profile = format!(
        "
        module-directories = [\"/usr/lib64/qemu\"]
        {more}
        [[cache]]
        files = [\"/var/cache/toy/*\"]
        remedy = {remedy}
    "
    );
    world.write("etc/modstamp/profiles.d/toy.toml", &profile);
    fs::create_dir_all(world.path("var/cache/toy")).unwrap();
    world.command(BELIEVES);
    world
}

/// What the program printed, and what `run` told.
fn ask(world: &World) -> (String, String) {
    let mut run = world.run_with(&["--profile", "toy"]);
    told(run.arg(world.path("ask")).output().unwrap())
}

/// Adds a module with the directory's mtime put back.
fn add_unseen(world: &World) {
    let directory = world.path("usr/lib64/qemu");
    keep_mtime(&directory, || {
        fs::write(directory.join("new.so"), "").unwrap()
    });
}

#[test]
fn no_answer_is_kept_from_a_cache_that_is_older_than_the_modules() {
    let world = world("\"remove\"", "");
    ask(&world);
    let before = ask(&world).0;
    assert_eq!(ask(&world), (before, FRESH.to_owned()));
    add_unseen(&world);
    let (said, why) = ask(&world);
    assert_eq!(said, "new.so\nqxl.so\n", "{why}");
    // The program made its list anew meanwhile, so the next answer is the one that is kept.
    ask(&world);
    assert_eq!(ask(&world), (said, FRESH.to_owned()));
}

#[test]
fn a_cache_is_made_good_once_for_a_change_however_many_commands_ask() {
    let world = world("\"remove\"", "");
    ask(&world);
    add_unseen(&world);
    ask(&world);
    let list = world.path("var/cache/toy/list");
    let made = || FileTime::from_last_modification_time(&fs::metadata(&list).unwrap());
    let first = made();
    for other in ["a", "b"] {
        let mut run = world.run_with(&["--force", "--profile", "toy"]);
        told(run.arg(world.path("ask")).arg(other).output().unwrap());
    }
    assert_eq!(made(), first);
}

#[test]
fn an_answer_from_a_stale_cache_that_a_command_has_to_make_good_is_not_kept() {
    let world = world("[\"true\"]", "");
    world.write("var/cache/toy/list", "stale\n");
    let (said, why) = ask(&world);
    assert_eq!(said, "stale\n");
    let sentence = "modstamp: not kept: it may come from the stale cache /var/cache/toy/*: no \
                    remedy is on record; run “modstamp update” for the profile\n";
    assert!(why.ends_with(sentence), "{why}");
    assert!(ask(&world).1.starts_with("modstamp: asked: no answer"));
    assert_eq!(world.count(), 2);
    // Without a file there is nothing to believe.
    fs::remove_file(world.path("var/cache/toy/list")).unwrap();
    world.command("ls $ROOT/usr/lib64/qemu");
    ask(&world);
    assert_eq!(ask(&world).1, FRESH);
}

#[test]
fn an_answer_is_not_kept_if_no_update_looks_at_what_its_cache_depends_on() {
    let world = world("\"remove\"", "files = [\"$TOY_PLUGINS\"]");
    world.write("opt/toys/a.so", "1");
    let ask = |plugins: &str| {
        let mut run = world.run_with(&["--profile", "toy"]);
        run.env("TOY_PLUGINS", plugins).arg(world.path("ask"));
        told(run.output().unwrap()).1
    };
    ask("");
    ask("");
    assert_eq!(ask(""), FRESH);
    for _ in 0..2 {
        let why = ask("/opt/toys");
        let sentence = format!(
            "not kept: it may come from the cache /var/cache/toy/*, and no update looks at {}; \
             name that in the profile without a variable\n",
            world.path("opt/toys").display()
        );
        assert!(why.ends_with(&sentence), "{why}");
    }
    assert_eq!(ask(""), FRESH);
}

#[test]
fn a_hit_touches_no_stamp_and_no_cache() {
    let world = world("\"remove\"", "");
    ask(&world);
    ask(&world);
    let everything = || {
        let mut find = std::process::Command::new("find");
        let find = find
            .arg(world.path(""))
            .args(["-path", "*/cache", "-prune"]);
        support::run(find.args(["-o", "-printf", "%P %i %m %s %T@ %C@\n"]))
    };
    let before = everything();
    assert_eq!(ask(&world).1, FRESH);
    assert_eq!(everything(), before);
}

#[test]
fn cached_makes_caches_good_before_its_probe_too() {
    let world = world("\"remove\"", "");
    let root = modstamp::Root::open(&world.path("")).unwrap();
    let profile = modstamp::Profile::load_in("toy", &root).unwrap();
    let list = world.path("var/cache/toy/list");
    fs::write(&list, "stale").unwrap();
    let probe = || Ok::<_, ()>(fs::read(&list).unwrap_or_default());
    let answer = modstamp::cached(&profile, world.path("answer"), probe).unwrap();
    assert_eq!(answer.bytes, b"");
    assert!(answer.not_kept.is_none(), "{:?}", answer.not_kept);
}

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

/// The names in the JSON of a verb with `--all`.
fn names_of_all(output: std::process::Output, code: i32) -> Vec<String> {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = json.as_array().unwrap().iter();
    names.map(|it| it["profile"].to_string()).collect()
}

#[test]
fn all_profiles_of_which_something_is_installed_are_updated_and_refreshed() {
    let world = updated(REMOVE);
    let toy =
        "files = [\"/opt/toy\"]\n[[cache]]\nfiles = [\"/var/cache/toy/two\"]\nremedy = \"remove\"";
    world.write("etc/modstamp/profiles.d/toy.toml", toy);
    for verb in ["update", "refresh"] {
        let output = world.output(&[verb, "--all", "--json"]);
        assert_eq!(names_of_all(output, 0), ["\"qemu\""], "{verb}");
    }
    world.sh("mkdir -p opt; echo > opt/toy; echo > var/cache/toy/two");
    let said = succeed(&world, &["update", "--all"]);
    let expected = "qemu: nothing changed since the last touch\n\
                    toy: touched the stamp: no record of the modules at the last touch was kept\n\
                    toy: removed /var/cache/toy/two\n";
    assert_eq!(said, expected);
    // One that fails hides no other, and is told by the exit status.
    world.write("etc/modstamp/profiles.d/bad.toml", "files = 1");
    world.write("var/cache/toy/two", "");
    for verb in ["update", "refresh"] {
        let output = world.output(&[verb, "--all", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("modstamp: bad: "), "{said}");
        assert_eq!(names_of_all(output, 1), ["\"qemu\"", "\"toy\""], "{verb}");
    }
    assert!(!exists(&world, "var/cache/toy/two"));
    let both = world.output(&["refresh", "--all", "--profile", "toy"]);
    assert_eq!(both.status.code(), Some(2));
}
