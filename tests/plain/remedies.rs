//! Caches of other programs that a profile names: they are made good after a touch, once. These
//! tests need nothing. Commands, and other users: `tests/root/remedies.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use modstamp::{Profile, Root};
use serde_json::Value;
use support::world::{MODULES, STAMP, World};

use crate::run::World as Asked;
use crate::run_inputs::told;

const NOTHING: &str = "nothing changed since the last touch\n";

/// The cache, in the root.
pub const CACHE: &str = "var/cache/toy/one.bin";

pub const REMOVE: &str = "
    [[cache]]
    files = [\"/var/cache/toy/*.bin\"]
    remedy = \"remove\"
";

/// A world with a profile that names a cache, after an update.
pub fn updated(caches: &str) -> World {
    let world = World::new();
    fs::create_dir_all(world.path("var/cache/toy")).unwrap();
    world.write("etc/modstamp/profiles.d/qemu.toml", caches);
    world.settle();
    succeed(&world, &["update"]);
    assert_eq!(succeed(&world, &["update"]), NOTHING);
    world.write(CACHE, "answers");
    world
}

/// The output of a verb, which has to succeed and to warn of nothing.
#[track_caller]
pub fn succeed(world: &World, arguments: &[&str]) -> String {
    let (out, err) = told(world.output(arguments));
    assert_eq!(err, "", "{out}");
    out.replace(&world.path("").display().to_string(), "/")
}

/// The messages of a verb, which has to fail.
#[track_caller]
pub fn fail(world: &World, arguments: &[&str]) -> String {
    let output = world.output(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let err = String::from_utf8(output.stderr).unwrap();
    err.replace(&world.path("").display().to_string(), "/")
}

/// Touches the stamp by hand.
fn touch_file(world: &World) {
    let stamp = fs::File::options().write(true).open(world.path(STAMP));
    stamp
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
}

pub fn exists(world: &World, path: &str) -> bool {
    world.path(path).symlink_metadata().is_ok()
}

/// Everything in the root, with its inode, size and times.
fn everything(world: &World) -> String {
    world.sh("find . -printf '%P %i %m %s %T@ %C@\\n'")
}

/// The status of the one cache.
pub fn status(world: &World) -> Value {
    let json = succeed(world, &["status", "--profile", "qemu", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    json["profiles"][0]["foreign_caches"][0].clone()
}

#[test]
fn a_touch_removes_the_files_of_a_cache_and_an_update_after_it_does_nothing() {
    let world = updated(REMOVE);
    let said = succeed(&world, &["touch"]);
    assert!(
        said.ends_with("\nremoved /var/cache/toy/one.bin\n"),
        "{said}"
    );
    assert!(!exists(&world, CACHE));
    // The program has made it anew.
    world.write(CACHE, "answers");
    assert_eq!(succeed(&world, &["update"]), NOTHING);
    assert!(exists(&world, CACHE));
}

#[test]
fn a_transactions_end_removes_the_files_of_a_cache() {
    let world = updated(REMOVE);
    let directory = format!("/{MODULES}");
    succeed(&world, &["trigger", "dpkg", &directory]);
    assert!(!exists(&world, CACHE));
}

#[test]
fn a_plain_touch_of_the_stamp_makes_a_cache_stale_and_an_update_makes_it_good_once() {
    let world = updated(REMOVE);
    touch_file(&world);
    let said = succeed(&world, &["update"]);
    let expected = "not touched: a cache was not made good since the last touch\n\
                    removed /var/cache/toy/one.bin\n";
    assert_eq!(said, expected);
    world.write(CACHE, "answers");
    assert_eq!(succeed(&world, &["update"]), NOTHING);
    assert!(exists(&world, CACHE));
}

#[test]
fn an_update_for_a_change_makes_a_cache_good() {
    let world = updated(REMOVE);
    world.write(&format!("{MODULES}/new.so"), "new");
    let said = succeed(&world, &["update"]);
    assert!(
        said.ends_with("\nremoved /var/cache/toy/one.bin\n"),
        "{said}"
    );
}

#[test]
fn an_update_that_finds_no_stale_cache_writes_nothing_and_logs_nothing() {
    let world = updated(REMOVE);
    let before = everything(&world);
    assert_eq!(succeed(&world, &["update"]), NOTHING);
    assert_eq!(everything(&world), before);
}

#[test]
fn a_refresh_makes_a_fresh_cache_good_too_and_tells_it_as_json() {
    let world = updated(REMOVE);
    assert_eq!(
        succeed(&world, &["refresh", "--stale"]),
        "there was nothing to do\n"
    );
    assert!(exists(&world, CACHE));
    let json = succeed(&world, &["refresh", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(!exists(&world, CACHE));
    let path = "/var/cache/toy/one.bin";
    assert_eq!(json["changed"], true, "{json}");
    assert_eq!(
        (
            &json["removed"][0],
            json["foreign_caches"][0]["result"].as_str()
        ),
        (&path.into(), Some("good"))
    );
    assert_eq!(succeed(&world, &["refresh"]), "there was nothing to do\n");
    let log = succeed(&world, &["log", "--profile", "qemu"]);
    let line = log.lines().find(|line| line.contains("asked for")).unwrap();
    assert!(line.ends_with("removed /var/cache/toy/one.bin"), "{line}");
}

#[test]
fn a_link_and_a_directory_in_the_place_of_a_cache_get_a_sentence_and_the_rest_goes_on() {
    let world = updated(REMOVE);
    symlink("/etc/qemu/a.conf", world.path("var/cache/toy/link.bin")).unwrap();
    fs::create_dir(world.path("var/cache/toy/sub.bin")).unwrap();
    touch_file(&world);
    let said = fail(&world, &["update"]);
    for (name, what) in [("link", "a symbolic link"), ("sub", "a directory")] {
        let sentence = format!(
            "modstamp: cannot remove the cache /var/cache/toy/{name}.bin: it is {what}; look at \
             it, and remove it by hand if that is right\n"
        );
        assert!(said.contains(&sentence), "{said}");
    }
    assert!(!exists(&world, CACHE));
    assert!(exists(&world, "var/cache/toy/link.bin") && exists(&world, "etc/qemu/a.conf"));
    // A remedy that failed is tried again, and told in the log once.
    fail(&world, &["update"]);
    let log = || succeed(&world, &["log"]).lines().count();
    let lines = log();
    fail(&world, &["update"]);
    assert_eq!(log(), lines);
    world.sh("rm var/cache/toy/link.bin; rmdir var/cache/toy/sub.bin");
    succeed(&world, &["update"]);
    assert_eq!(succeed(&world, &["update"]), NOTHING);
}

#[test]
fn no_glob_leads_out_of_the_root() {
    let world = updated(REMOVE);
    let outside = world.beside("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("one.bin"), "answers").unwrap();
    let caches = "
        [[cache]]
        files = [\"/var/cache/top/one.bin\", \"/var/cache/*/one.bin\", \"/var/*/below/one.bin\"]
        remedy = \"remove\"
    ";
    world.write("etc/modstamp/profiles.d/qemu.toml", caches);
    let target = outside.to_str().unwrap();
    world.link("var/cache/top", target);
    world.link("var/cache/wild", target);
    world.link("var/cache/below", target);
    let up = format!("../../../../../../../../../../{target}");
    world.link("var/cache/up", &up);
    let said = fail(&world, &["update"]);
    let refused = "/var/cache/below is a symbolic link below a pattern";
    assert!(said.contains(refused), "{said}");
    assert!(outside.join("one.bin").exists());
    assert!(!exists(&world, CACHE), "the rest goes on");
}

#[test]
fn a_command_runs_for_no_other_root_and_the_cache_stays_stale() {
    let world = updated(REMOVE);
    let trace = world.beside("trace");
    let caches = format!(
        "
        [[cache]]
        files = [\"/var/cache/toy/*.bin\"]
        remedy = [\"touch\", \"{}\"]
        ",
        trace.display()
    );
    world.write("etc/modstamp/profiles.d/qemu.toml", &caches);
    let why = "a command runs for / alone; the first “modstamp update” there runs it";
    let left = format!("left /var/cache/toy/*.bin: {why}\n");
    assert_eq!(succeed(&world, &["refresh"]), left);
    assert_eq!(succeed(&world, &["update"]), NOTHING);
    assert!(!trace.exists());
    assert_eq!(status(&world)["why"], "never");
    // The advice is for the same profile.
    let toy = format!("module-directories = [\"/usr/lib64/qemu\"]\n{caches}");
    world.write("etc/modstamp/profiles.d/toy.toml", &toy);
    let why = why.replace("update", "update --profile toy");
    let left = format!("left /var/cache/toy/*.bin: {why}\n");
    assert_eq!(succeed(&world, &["refresh", "--profile", "toy"]), left);
}

#[test]
fn the_trigger_of_a_manager_that_rebuilds_a_cache_makes_it_good_and_no_other_touch_does() {
    let caches = "
        [[cache]]
        files = [\"/var/cache/toy/*.bin\"]
        remedy = [\"true\"]
        packages-rebuild = [\"dpkg\"]
    ";
    let world = updated(caches);
    let directory = format!("/{MODULES}");
    // rpm is a mere tool there. No trigger of its own makes the cache anew.
    succeed(&world, &["trigger", "rpm", &directory]);
    assert_eq!(status(&world)["verdict"], "stale");
    succeed(&world, &["trigger", "dpkg", &directory]);
    let fresh = status(&world);
    assert_eq!(fresh["verdict"], "fresh");
    assert_eq!(fresh["last"]["what"], "the package manager makes it anew");
    assert!(exists(&world, CACHE));
    succeed(&world, &["touch"]);
    assert_eq!(status(&world)["why"], "touched");

    let usual = updated(&caches.replace("packages-rebuild = [\"dpkg\"]", ""));
    succeed(&usual, &["trigger", "dpkg", &directory]);
    assert_eq!(status(&usual)["verdict"], "stale");
}

#[test]
fn the_status_tells_when_and_by_what_a_cache_was_made_good_and_why_it_is_stale() {
    let world = updated(REMOVE);
    assert_eq!(status(&world)["verdict"], "fresh");
    touch_file(&world);
    let stale = status(&world);
    assert_eq!(
        (&stale["verdict"], &stale["why"]),
        (&"stale".into(), &"touched".into())
    );
    succeed(&world, &["update"]);
    let fresh = status(&world);
    assert_eq!(fresh["verdict"], "fresh");
    assert_eq!(fresh["last"]["what"], "removed /var/cache/toy/one.bin");
    let table = succeed(&world, &["status", "--profile", "qemu"]);
    let line = table.lines().find(|line| line.contains("system cache"));
    let line = line.unwrap();
    assert!(
        line.contains("/var/cache/toy/*.bin") && line.contains("fresh; 2"),
        "{line}"
    );
    assert!(
        line.contains(" ago): removed /var/cache/toy/one.bin"),
        "{line}"
    );
    fs::create_dir(world.path("var/cache/toy/sub.bin")).unwrap();
    fail(&world, &["refresh"]);
    let failed = status(&world);
    assert_eq!(
        (&failed["why"], &failed["last"]["result"]),
        (&"failed".into(), &"failed".into())
    );
}

#[test]
fn a_record_that_is_torn_makes_a_cache_stale() {
    let world = updated(REMOVE);
    let record = "var/lib/modstamp/qemu.remedies";
    let text = fs::read_to_string(world.path(record)).unwrap();
    world.write(record, &text[..text.len() - 1]);
    assert_eq!(status(&world)["why"], "never");
    let said = succeed(&world, &["update"]);
    assert!(said.contains("removed /var/cache/toy/one.bin\n"), "{said}");
}

#[test]
fn a_change_of_the_remedy_makes_a_cache_stale() {
    let world = updated(REMOVE);
    let caches = REMOVE.replace("*.bin", "one.bin");
    world.write("etc/modstamp/profiles.d/qemu.toml", &caches);
    let said = succeed(&world, &["update"]);
    assert!(said.contains("removed /var/cache/toy/one.bin\n"), "{said}");
}

#[test]
fn a_cache_in_a_module_directory_is_no_module_and_an_update_does_not_count_it() {
    let world = World::new();
    let caches = format!(
        "
        module-directories = [\"/{MODULES}\"]
        [[cache]]
        files = [\"/{MODULES}/below/*.cache\"]
        remedy = \"remove\"
    "
    );
    world.write("etc/modstamp/profiles.d/qemu.toml", &caches);
    world.settle();
    succeed(&world, &["update"]);
    let before = world.observe();
    world.write(&format!("{MODULES}/below/a.cache"), "answers");
    assert_eq!(succeed(&world, &["update"]), NOTHING);
    let profile = Profile::load_in("qemu", &Root::open(&world.path("")).unwrap()).unwrap();
    let verdict = before.check(&profile).unwrap();
    let reasons = support::world::sentences(&verdict);
    assert!(
        reasons.iter().all(|reason| !reason.contains("a.cache")),
        "{reasons:?}"
    );
    world.write(&format!("{MODULES}/below/a.so"), "other");
    assert!(succeed(&world, &["update"]).contains("module below/a.so"));
}

/// A module of the cache's name counts in every directory but the cache's own.
#[test]
fn a_cache_in_a_module_directory_hides_no_module_of_its_name_in_another_one() {
    let world = World::new();
    let caches = "
        module-directories = [\"/opt/a\", \"/opt/b\", \"/srv/link\"]
        [[cache]]
        files = [\"/opt/a/plugins.dat\"]
        remedy = \"remove\"
    ";
    world.write("etc/modstamp/profiles.d/qemu.toml", caches);
    for directory in ["opt/a", "opt/b", "srv"] {
        fs::create_dir_all(world.path(directory)).unwrap();
    }
    // By another name, too, it is the directory of the cache.
    std::os::unix::fs::symlink("/opt/a", world.path("srv/link")).unwrap();
    let profile = Profile::load_in("qemu", &Root::open(&world.path("")).unwrap()).unwrap();
    let told = |file: &str| {
        let before = profile.observe().unwrap();
        world.write(file, "anything");
        support::world::sentences(&before.check(&profile).unwrap())
    };
    assert_eq!(told("opt/a/plugins.dat"), NO_SENTENCES);
    assert_eq!(
        told("opt/b/plugins.dat"),
        ["module plugins.dat added to /opt/b"]
    );
    assert!(profile.covers("/opt/b/plugins.dat".as_ref()));
    assert!(!profile.covers("/opt/a/plugins.dat".as_ref()));
    // The walk takes the first name that is no link.
    let caches = caches
        .replace("/opt/a\"", "/srv/dir/a\"")
        .replace("/opt/a/", "/srv/dir/a/");
    let caches = caches.replace("/srv/link", "/opt/a");
    std::os::unix::fs::symlink("/opt", world.path("srv/dir")).unwrap();
    world.write("etc/modstamp/profiles.d/qemu.toml", &caches);
    let profile = Profile::load_in("qemu", &Root::open(&world.path("")).unwrap()).unwrap();
    let before = profile.observe().unwrap();
    fs::remove_file(world.path("opt/a/plugins.dat")).unwrap();
    assert_eq!(
        support::world::sentences(&before.check(&profile).unwrap()),
        NO_SENTENCES
    );
}

const NO_SENTENCES: [String; 0] = [];

#[test]
fn a_programs_own_cache_counts_as_an_input_of_run() {
    let world = Asked::new();
    let caches = "
        module-directories = [\"/usr/lib64/qemu\"]
        [[cache]]
        files = [\"/var/cache/toy/*.bin\"]
        remedy = \"remove\"
    ";
    world.write("etc/modstamp/profiles.d/toy.toml", caches);
    world.write("var/cache/toy/one.bin", "stale answers");
    let ask = || {
        let mut run = world.run_with(&["--profile", "toy"]);
        told(run.arg(world.path("ask")).output().unwrap()).1
    };
    let fresh = "modstamp: served from the cache: nothing changed\n";
    ask();
    assert!(!world.path("var/cache/toy/one.bin").exists(), "made good");
    assert_eq!(ask(), fresh);
    world.write("var/cache/toy/one.bin", "answers of another program");
    let said = ask();
    assert!(said.contains("file /var/cache/toy/one.bin added"), "{said}");
    assert_eq!(ask(), fresh);
    // It was made good. The command then makes it anew, so that its answer is kept one run later.
    fs::remove_file(world.path("var/cache/toy/one.bin")).unwrap();
    world.command("echo answers > $ROOT/var/cache/toy/one.bin");
    let said = ask();
    assert!(said.contains("file /var/cache/toy/one.bin"), "{said}");
    let again = ask();
    assert!(again.starts_with("modstamp: asked"), "{again}");
}

#[test]
fn a_command_that_makes_its_cache_is_asked_again_and_then_kept() {
    let world = Asked::new();
    let caches = "
        module-directories = [\"/usr/lib64/qemu\"]
        [[cache]]
        files = [\"/var/cache/toy/*.bin\"]
        remedy = \"remove\"
    ";
    world.write("etc/modstamp/profiles.d/toy.toml", caches);
    fs::create_dir_all(world.path("var/cache/toy")).unwrap();
    world.command("test -e $ROOT/var/cache/toy/one.bin || echo > $ROOT/var/cache/toy/one.bin");
    let ask = || {
        let mut run = world.run_with(&["--profile", "toy"]);
        told(run.arg(world.path("ask")).output().unwrap());
        world.count()
    };
    assert_eq!([ask(), ask(), ask(), ask()], [1, 2, 2, 2]);
}

/// The error of a profile with this text, without the path.
#[track_caller]
fn error(text: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("toy.toml");
    fs::write(&path, format!("files = [\"/etc/toy\"]\n{text}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    let output = command
        .args(["check", "-", "--profile"])
        .arg(&path)
        .output();
    let output = command_error(output.unwrap());
    output.replace(&format!("{}:", path.display()), "")
}

fn command_error(output: std::process::Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_wrong_cache_is_told_with_its_line_and_a_remedy() {
    for (text, problem) in [
        (
            "cache = 1",
            "2: “cache” is of type integer; write a table for each, [[cache]]",
        ),
        (
            "cache = [1]",
            "2: “cache” is of type integer; write a table for each, [[cache]]",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]",
            "2: this cache has no remedy; write remedy = \"remove\", or",
        ),
        (
            "[[cache]]\nremedy = \"remove\"",
            "2: this cache names no files; write files = [",
        ),
        (
            "[[cache]]\nremedy = \"libvirt\"\nfiles = [\"/a\"]",
            "2: this cache names files, and libvirt's rule knows its own",
        ),
        (
            "[[cache]]\nfile = \"/a\"",
            "3: there is no key “file” of a cache; the keys are files, remedy, \
             packages-rebuild, time-limit",
        ),
        (
            "[[cache]]\nfiles = [\"a\"]",
            "3: “files” holds “a”, a relative path; begin it with “/”",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = \"delete\"",
            "4: “remedy” is “delete”; write \"remove\", \"libvirt\", or a command as a list",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = []",
            "4: “remedy” names no program; write [\"PROGRAM\", \"ARGUMENT\"]",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = [\"bin/x\"]",
            "4: “remedy” holds the program “bin/x”, a relative path; begin it with “/”, or write a name",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = [\"x\"]\ntime-limit = 0",
            "5: “time-limit” is no number of seconds from 1 to 3600; write time-limit = 60",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = \"remove\"\ntime-limit = 5",
            "5: “time-limit” is for a command; leave it out",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = \"remove\"\npackages-rebuild = [\"dpkg\"]",
            "5: “packages-rebuild” is for a command; leave it out",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = [\"x\"]\npackages-rebuild = true",
            "5: “packages-rebuild” is of type boolean; write the package managers, \
             packages-rebuild = [\"dpkg\"]",
        ),
        (
            "[[cache]]\nfiles = [\"/a\"]\nremedy = [\"x\"]\npackages-rebuild = [\"apt\"]",
            "5: “packages-rebuild” holds “apt”, which starts no trigger of modstamp's; write \
             \"rpm\", \"dpkg\", \"pacman\" or \"apk\"",
        ),
    ] {
        let error = error(text);
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn refresh_libvirt_is_the_old_spelling_of_a_cache_with_libvirts_rule() {
    let loaded = |text: &str| {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("etc/modstamp/profiles.d/qemu.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let profile = format!("{:?}", Profile::load_in("qemu", &root).unwrap());
        profile.split_once("caches: ").unwrap().1.to_owned()
    };
    let built_in = loaded("");
    assert!(built_in.contains("Libvirt"), "{built_in}");
    let none = loaded("cache = []");
    assert_eq!(loaded("refresh-libvirt = true"), built_in);
    assert_eq!(loaded("[[cache]]\nremedy = \"libvirt\""), built_in);
    assert_eq!(loaded("refresh-libvirt = false"), none);
    assert_eq!(loaded("cache = []\nrefresh-libvirt = true"), built_in);
}
