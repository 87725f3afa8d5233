//! `modstamp status` tells what it cannot read, and ends with 1. It shows what cached answers depend
//! on.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};
use support::libvirt::{ARM, Host, QXL, SYSTEM, USER, WATCHED, X86};
use support::world::{MODULES, STAMP, World};

use crate::run::World as Asked;
use crate::run_inputs::told;

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

/// `status` or `run` for a user whose home is below the root, with the output as it is.
fn at_home(world: &Asked, arguments: &[&str]) -> String {
    let (verb, rest) = arguments.split_first().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    command
        .args([verb, "--root"])
        .arg(world.0.path())
        .args(rest);
    command.env("HOME", "/home").env_remove("XDG_CACHE_HOME");
    command.env_remove("COLUMNS");
    told(command.output().unwrap()).0
}

/// The rows of the profile without a name, each as its words.
fn rows(status: &str) -> Vec<String> {
    let rows = status.lines().filter_map(|line| line.strip_prefix("- "));
    rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn status_shows_what_each_answer_depends_on() {
    let world = Asked::new();
    world.write("opt/a/x.so", "");
    world.write("opt/a/below/y.so", "");
    world.write("opt/b/x.so", "");
    world.write("etc/conf", "");
    let echo = at_home(&world, &["run", "--dir", "/opt/a", "--", "which", "echo"]);
    let echo = format!("{} same", echo.trim());
    at_home(&world, &["run", "--dir", "/opt/a", "--", "echo", "same"]);
    let both = ["--dir", "/opt/b", "--file", "/etc/conf", "--env", "KIND"];
    at_home(
        &world,
        &[&["run"][..], &both, &["--", "echo", "same"]].concat(),
    );
    let status = at_home(&world, &["status"]);
    let root = world.0.path().display();
    let a = format!("its directory {root}/opt/a 2 files");
    let b = format!("its directory {root}/opt/b 1 file");
    let file = format!("its file {root}/etc/conf found");
    let rows = rows(&status);
    let answers: Vec<&[String]> = rows.split(|row| row.starts_with("cached answer")).collect();
    let answer = format!("cached answer {echo} fresh");
    assert_eq!(
        rows.iter().filter(|row| **row == answer).count(),
        2,
        "{status}"
    );
    let variable = "its variable KIND not set".to_owned();
    assert!(answers.contains(&&[a][..]), "{status}");
    assert!(answers.contains(&&[b, file, variable][..]), "{status}");
    assert_eq!(
        answers[0], [""; 0],
        "each input is below an answer: {status}"
    );

    let json: serde_json::Value =
        serde_json::from_str(&at_home(&world, &["status", "--json"])).unwrap();
    let profiles = json["profiles"].as_array().unwrap();
    let unnamed = profiles.iter().find(|it| it["profile"] == "-").unwrap();
    let here = std::env::current_dir().unwrap();
    let asked_with = |directories: &[&str], files: &[&str], variables: &[&str]| {
        serde_json::json!({
            "directories": directories,
            "files": files,
            "variables": variables,
            "working_directory": here,
        })
    };
    let caches = unnamed["caches"].as_array().unwrap();
    let all: Vec<_> = caches.iter().map(|it| it["asked_with"].clone()).collect();
    assert!(all.contains(&asked_with(&["/opt/a"], &[], &[])), "{json}");
    let both = asked_with(&["/opt/b"], &["/etc/conf"], &["KIND"]);
    assert!(all.contains(&both), "{json}");
}

#[test]
fn status_says_plainly_that_an_input_is_missing_or_is_a_directory() {
    let world = Asked::new();
    world.write("etc/conf/a", "");
    world.write("opt/a.so", "");
    let options = ["--dir", "/opt", "--dir", "/later", "--file", "/etc/conf"];
    at_home(&world, &[&["run"][..], &options, &["--", "echo"]].concat());
    fs::remove_dir_all(world.path("opt")).unwrap();
    let status = at_home(&world, &["status"]);
    let root = world.0.path().display();
    let rows = rows(&status);
    for row in [
        format!("its directory {root}/opt missing"),
        format!("its directory {root}/later missing"),
        format!("its file {root}/etc/conf 1 file"),
    ] {
        assert!(rows.contains(&row), "{row}: {status}");
    }
    assert_eq!(rows.len(), 4, "and the answer: {status}");
    assert!(
        rows[0].ends_with("stale: module directory /opt removed"),
        "{status}"
    );
}

#[test]
fn status_shows_the_working_directory_of_answers_that_nothing_else_tells_apart() {
    let world = Asked::new();
    world.write("etc/conf", "");
    for (directory, word) in [("/", "same"), ("/usr", "same"), ("/usr", "other")] {
        let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        run.args(["run", "--root"]).arg(world.0.path());
        run.args(["--file", "/etc/conf", "--", "echo", word]);
        run.env("HOME", "/home").env_remove("XDG_CACHE_HOME");
        told(run.current_dir(directory).output().unwrap());
    }
    let status = at_home(&world, &["status"]);
    let shown = rows(&status).into_iter();
    let shown: Vec<_> = shown.filter(|row| row.starts_with("its working")).collect();
    let expected = ["/", "/usr"];
    let expected =
        expected.map(|path| format!("its working directory {path} the command starts there"));
    assert_eq!(shown, expected, "{status}");
}

/// The caches of libvirt's in the status of `qemu`: as data, and as the words of their rows.
fn of_libvirt(host: &Host) -> (Vec<Value>, Vec<String>) {
    let (out, err) = host.say(&["status", "--profile", "qemu", "--json"]);
    assert_eq!(err, "");
    let json: Value = serde_json::from_str(&out).unwrap();
    let caches = json["profiles"][0]["libvirt_caches"].as_array().unwrap();
    let (table, _) = host.say(&["status", "--profile", "qemu"]);
    let rows = table.lines().filter(|line| line.contains(" cache "));
    let words = |row: &str| row.split_whitespace().collect::<Vec<_>>().join(" ");
    (caches.clone(), rows.map(words).collect())
}

#[test]
fn status_sums_up_libvirts_cache_and_tells_of_the_last_refresh() {
    let host = Host::new();
    assert_eq!(of_libvirt(&host), (vec![], vec![]), "nothing is cached");
    let file = host.ask(X86);
    let (caches, rows) = of_libvirt(&host);
    assert_eq!(caches[0]["last"], Value::Null);
    let never =
        format!("qemu system cache /{SYSTEM} stale: modstamp has not refreshed libvirt yet");
    assert!(rows[0].starts_with(&never), "{rows:?}");

    host.refresh();
    host.ask(X86);
    host.keep(USER, &host.answer(ARM));
    let (caches, rows) = of_libvirt(&host);
    let mut fresh = caches[0].clone();
    let last = fresh.as_object_mut().unwrap().remove("last").unwrap();
    let outside = |path: &str| format!("/{path}"); // as it is told inside
    let expected = json!({
        "owner": "system",
        "path": outside(SYSTEM),
        "files": [outside(&file)],
        "stale": [],
        "verdict": { "version": 2, "fresh": true, "reasons": [] },
    });
    assert_eq!(fresh, expected);
    let what = format!("moved the time of {}", outside(WATCHED));
    assert_eq!(last["what"], *what);
    let second: f64 = last["time"].as_str().unwrap().parse().unwrap();
    assert!((second as i64 - host.ctime(WATCHED)).abs() <= 1, "{last}");
    assert_eq!(caches[1]["owner"], "user");
    let row = format!("qemu system cache /{SYSTEM} fresh; 2");
    assert!(rows[0].starts_with(&row), "{rows:?}");
    let end = format!(" ago): moved the time of /{WATCHED}");
    assert!(rows[0].ends_with(&end), "{rows:?}");
    assert!(rows[1].contains("user cache"), "{rows:?}");
}

#[test]
fn status_tells_why_libvirts_cache_is_stale_and_how_much_of_it() {
    let host = Host::new();
    let old = host.ask(ARM);
    host.refresh();
    host.ask(X86);
    let (caches, rows) = of_libvirt(&host);
    assert!(caches[0]["stale"][0].as_str().unwrap().ends_with(&old));
    assert_eq!(caches[0]["verdict"]["fresh"], false);
    assert!(rows[0].contains("(1 of 2 answers); 2"), "{rows:?}");
    host.write(QXL, "other");
    let (_, rows) = of_libvirt(&host);
    assert!(rows[0].contains("module hw-display-qxl.so"), "{rows:?}");
    assert!(!rows[0].contains("answers)"), "all are stale: {rows:?}");

    host.refresh();
    for program in [ARM, X86] {
        host.ask(program);
    }
    host.write(QXL, "another");
    let (caches, rows) = of_libvirt(&host);
    let stale = caches[0]["stale"].as_array().unwrap();
    let reasons = caches[0]["verdict"]["reasons"].as_array().unwrap();
    assert_eq!((stale.len(), reasons.len()), (2, 1), "told once: {rows:?}");
}

#[test]
fn status_leaves_libvirts_cache_out_if_the_profile_does() {
    let host = Host::new();
    host.refresh();
    host.ask(X86);
    assert_eq!(of_libvirt(&host).0.len(), 1);
    host.write("etc/modstamp/profiles.d/qemu.toml", "cache = []\n");
    assert_eq!(of_libvirt(&host), (vec![], vec![]));
}

#[test]
fn the_json_of_a_fresh_cache_has_no_reason_and_a_stale_one_has_a_word() {
    let host = Host::new();
    let profile = format!(
        "module-directories = [\"/{WATCHED}\"]\n\
         [[cache]]\nfiles = [\"/var/cache/toy/*.bin\"]\nremedy = \"remove\"\n"
    );
    host.write("etc/modstamp/profiles.d/toy.toml", &profile);
    let cache = || {
        let (out, _) = host.say(&["status", "--profile", "toy", "--json"]);
        let json: Value = serde_json::from_str(&out).unwrap();
        json["profiles"][0]["foreign_caches"][0].clone()
    };
    let never = cache();
    assert_eq!(
        (&never["why"], &never["last"]),
        (&json!("never"), &json!(null))
    );
    host.say(&["update", "--profile", "toy"]);
    let fresh = cache();
    // A missing key would be null, too.
    assert!(fresh.as_object().unwrap().contains_key("why"), "{fresh}");
    assert_eq!(fresh["why"], Value::Null, "{fresh}");
    assert_eq!(fresh["last"]["output"], json!([]), "{fresh}");
}
