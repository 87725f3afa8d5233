//! The program's messages tell what happened, and what to type.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::libvirt::{Host, WATCHED};
use support::world::{STAMP, World};

/// The exit status, and what was printed.
fn text(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_name_that_is_almost_a_profiles_brings_a_guess_and_no_table() {
    let world = World::new();
    let verbs: [&[&str]; 4] = [&["status"], &["libvirt", "status"], &["touch"], &["update"]];
    for verb in verbs {
        let (status, out, err) = text(world.output(&[verb, &["--profile", "quemu"]].concat()));
        let sentence = "modstamp: there is no profile “quemu”; did you mean “qemu”?\n";
        assert_eq!((status, &*out, &*err), (Some(1), "", sentence), "{verb:?}");
    }
    let (_, _, err) = text(world.output(&["status", "--profile", "mpv"]));
    let file = world.path("etc/modstamp/profiles.d/mpv.toml");
    let remedy = format!("write it to {}, ", file.display());
    assert!(err.contains(&remedy), "{err}");
}

#[test]
fn a_witness_that_cannot_be_read_is_named_with_the_cause_and_the_remedy() {
    let world = World::new();
    let (status, out, err) = text(world.output(&["check", "/such/a/file"]));
    let sentence = "modstamp: cannot read the witness /such/a/file: No such file or directory \
                    (os error 2); name a file that “modstamp observe” filled\n";
    assert_eq!((status, &*out, &*err), (Some(2), "", sentence));
}

#[test]
fn the_name_of_a_file_here_brings_the_way_to_write_it() {
    let world = World::new();
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("p.toml"), "").unwrap();
    fs::write(here.path().join("my p.toml"), "").unwrap();
    for (name, path) in [("p.toml", "./p.toml"), ("my p.toml", "'./my p.toml'")] {
        let mut command = world.modstamp(&["status", "--profile", name]);
        let (_, _, err) = text(command.current_dir(here.path()).output().unwrap());
        let sentence =
            format!("modstamp: there is no profile “{name}”; write “{path}” to name the file\n");
        assert_eq!(err, sentence);
    }
}

#[test]
fn a_touch_tells_what_it_did_unless_it_shall_be_quiet() {
    let world = World::new();
    let (_, out, _) = text(world.output(&["touch"]));
    let first = out.lines().next().unwrap();
    assert_eq!(first, format!("touched {}", world.path(STAMP).display()));
    for quiet in ["-q", "--quiet"] {
        let (status, out, err) = text(world.output(&["touch", quiet]));
        assert_eq!((status, &*out, &*err), (Some(0), "", ""));
    }
    let full = fs::File::options().write(true).open("/dev/full");
    let mut command = world.modstamp(&["touch"]);
    let output = command.stdout(full.unwrap()).output().unwrap();
    let (status, _, err) = text(output);
    assert_eq!(status, Some(0), "it was touched: {err}");
    assert!(
        err.starts_with("modstamp: warning: cannot write to standard output: "),
        "{err}"
    );
}

/// The JSON of a verb.
#[track_caller]
fn report(host: &Host, verb: &[&str]) -> Value {
    let (out, _) = host.say(&[verb, &["--json"]].concat());
    let json: Value = serde_json::from_str(&out).unwrap();
    let at = verb.iter().position(|word| *word == "--profile");
    let profile = at.map_or("qemu", |at| verb[at + 1]);
    assert_eq!(
        (&json["version"], &json["profile"]),
        (&json!(1), &json!(profile))
    );
    json
}

#[test]
fn the_json_of_a_change_says_changed_only_if_something_changed() {
    let host = Host::new();
    let (stamp, watched) = (format!("/{STAMP}"), format!("/{WATCHED}"));
    let json = report(&host, &["update"]);
    assert_eq!(
        (&json["changed"], &json["stamp"]),
        (&json!(true), &json!(stamp))
    );
    assert_eq!(json["reasons"][0]["cause"], "nothing-kept");
    assert_eq!(json["moved"][0]["path"], *watched);
    let before = host.listing();
    let json = report(&host, &["update"]);
    let nothing = json!({
        "version": 1, "profile": "qemu", "changed": false, "stamp": stamp, "touched": null,
        "reasons": [], "why": null, "moved": [], "ctimes_moved": [], "removed": [], "foreign_caches": [], "warnings": [], "errors": []
    });
    assert_eq!((json, host.listing()), (nothing, before));
    let json = report(&host, &["touch"]);
    let mtime = host.mtime(STAMP).to_string();
    let touched = json["touched"].as_str().unwrap();
    assert!(
        json["changed"] == true && touched.starts_with(&mtime),
        "{json}"
    );
    assert_eq!(json["why"], "touched by hand");
    let json = report(&host, &["libvirt", "refresh"]);
    let moved = json!([{"path": watched, "mtime": host.mtime(WATCHED)}]);
    assert_eq!((&json["changed"], &json["moved"]), (&json!(true), &moved));
    assert_eq!(
        (&json["stamp"], &json["touched"]),
        (&Value::Null, &Value::Null)
    );
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    let json = report(&host, &["libvirt", "refresh"]);
    assert_eq!(
        (&json["changed"], &json["moved"], &json["removed"]),
        (&json!(true), &json!([]), &json!([]))
    );
    assert!(
        json["ctimes_moved"]
            .as_array()
            .is_some_and(|all| all.len() > 1),
        "{json}"
    );
}

#[test]
fn the_json_of_a_change_says_unchanged_while_an_image_is_built() {
    let host = Host::new();
    host.remove(STAMP);
    for verb in ["touch", "update"] {
        let mut command = host.modstamp(&[verb, "--json"]);
        let output = command.env("SOURCE_DATE_EPOCH", "1").output().unwrap();
        let (status, out, err) = text(output);
        let json: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (status, &json["changed"]),
            (Some(0), &json!(false)),
            "{err}"
        );
        assert!(
            err.starts_with("modstamp: note: no stamp was made"),
            "{err}"
        );
    }
    assert!(!host.path(STAMP).exists());
}

#[test]
fn the_json_of_a_refresh_of_nothing_says_unchanged() {
    let host = Host::new();
    fs::remove_dir_all(host.path("usr")).unwrap();
    let json = report(&host, &["libvirt", "refresh"]);
    assert_eq!(json["changed"], false, "{json}");
}

#[test]
fn the_json_of_a_refresh_that_removes_nothing_has_empty_lists() {
    let host = Host::new();
    let profile = format!(
        "module-directories = [\"/{WATCHED}\"]\n\
         [[cache]]\nfiles = [\"/var/cache/toy/*.bin\"]\nremedy = \"remove\"\n"
    );
    host.write("etc/modstamp/profiles.d/toy.toml", &profile);
    let refresh = |more: &[&str]| report(&host, &[&["refresh", "--profile", "toy"], more].concat());
    let json = refresh(&[]);
    let cure = json!([{
        "cache": "/var/cache/toy/*.bin", "remedy": "remove", "result": "good",
        "removed": [], "ran": [], "output": [], "left": null
    }]);
    assert_eq!(
        (&json["changed"], &json["removed"], &json["foreign_caches"]),
        (&json!(false), &json!([]), &cure)
    );
    assert_eq!(json["why"], "asked for");
    let json = refresh(&["--stale"]);
    assert_eq!(
        (&json["changed"], &json["removed"], &json["foreign_caches"]),
        (&json!(false), &json!([]), &json!([]))
    );
}

#[test]
fn a_command_without_the_dashes_before_it_brings_a_tip() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        text(command.arg("run").args(arguments).output().unwrap())
    };
    let tip = "tip: write “--” before the command";
    let (status, _, err) = run(&["date"]);
    assert!(status == Some(2) && err.contains(tip), "{err}");
    let (_, _, err) = run(&["--such", "--", "date"]);
    assert!(!err.contains(tip), "{err}");
}

#[test]
fn a_profile_of_which_nothing_is_installed_takes_one_line_unless_it_is_asked_for() {
    let world = World::new();
    let status = |arguments: &[&str]| text(world.output(&[&["status"], arguments].concat())).1;
    let rows = |out: &str| {
        out.lines()
            .filter(|line| line.starts_with("nbdkit "))
            .count()
    };
    let out = status(&[]);
    let top = world.path("");
    let all = format!("modstamp status --all --root {}", top.display());
    let last = format!("nothing is installed of: nbdkit; “{all}” shows them");
    assert_eq!((rows(&out), out.lines().last()), (0, Some(&*last)), "{out}");
    for asked in [&["--all"][..], &["--profile", "nbdkit"]] {
        let out = status(asked);
        assert!(
            rows(&out) > 0 && !out.contains("nothing is installed"),
            "{out}"
        );
    }
    assert!(text(world.output(&["touch", "--profile", "nbdkit"])).0 == Some(0));
    assert!(rows(&status(&[])) > 0, "it was touched");
}

/// Writes a witness beside the root, and returns its path.
fn kept_witness(world: &World, witness: &str) -> String {
    let file = world.beside("kept.witness");
    fs::write(&file, witness).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_check_without_a_profile_takes_that_of_the_witness() {
    let world = World::new();
    let (_, witness, _) = text(world.output(&["observe", "--profile", "nbdkit"]));
    let file = kept_witness(&world, &witness);
    let (status, out, err) = text(world.output(&["check", &file]));
    assert_eq!((status, &*out), (Some(0), "fresh\n"), "{err}");
    let (status, out, _) = text(world.output(&["check", "--profile", "qemu", &file]));
    let sentence = "stale: the witness is of the profile nbdkit, and the question about qemu\n";
    assert_eq!((status, &*out), (Some(1), sentence));
}

#[test]
fn a_check_compares_the_tag_only_if_it_is_given() {
    let world = World::new();
    let (_, witness, _) = text(world.output(&["observe", "--tag", "libvirt 11.2"]));
    let file = kept_witness(&world, &witness);
    for same in [&[][..], &["--tag", "libvirt 11.2"]] {
        let (status, out, _) = text(world.output(&[&["check", &file], same].concat()));
        assert_eq!((status, &*out), (Some(0), "fresh\n"));
    }
    let (status, out, _) = text(world.output(&["check", &file, "--tag", "libvirt 11.3"]));
    let sentence = "stale: consumer changed: it was “libvirt 11.2”, now “libvirt 11.3”\n";
    assert_eq!((status, &*out), (Some(1), sentence));
}

#[test]
fn a_witness_of_one_program_is_checked_without_another_word() {
    let world = World::new();
    let x86 = ["observe", "--program", "/usr/bin/qemu-system-x86_64"];
    let (_, witness, _) = text(world.output(&x86));
    let file = kept_witness(&world, &witness);
    world.write("usr/bin/qemu-system-arm", "upgraded");
    let (status, out, _) = text(world.output(&["check", &file]));
    assert_eq!((status, &*out), (Some(0), "fresh\n"));
    world.write("usr/bin/qemu-system-x86_64", "upgraded");
    let (status, _, _) = text(world.output(&["check", &file]));
    assert_eq!(status, Some(1));
}

#[test]
fn a_check_whose_profile_cannot_be_had_names_it_and_the_option() {
    let world = World::new();
    let own = world.beside("gst.toml");
    fs::write(&own, "files = [\"/etc/qemu/*.conf\"]").unwrap();
    let own = own.to_str().unwrap();
    let (_, witness, _) = text(world.output(&["observe", "--profile", own]));
    let file = kept_witness(&world, &witness);
    let (status, out, err) = text(world.output(&["check", &file]));
    assert_eq!((status, &*out), (Some(2), ""), "{err}");
    let start = "modstamp: the witness is of the profile “gst-";
    assert!(
        err.starts_with(start) && err.contains("”, which cannot be loaded: "),
        "{err}"
    );
    assert!(
        err.ends_with("; add --profile NAME, or --profile FILE\n"),
        "{err}"
    );
    let (status, out, _) = text(world.output(&["check", "--profile", own, &file]));
    assert_eq!((status, &*out), (Some(0), "fresh\n"));
    // A witness can have been made up, so a path in it is not followed.
    for name in [own, "../gst", "-"] {
        let made_up = format!("modstamp-witness 1 {name}\nend 1\n");
        let (status, out, err) = text(world.output(&["check", &kept_witness(&world, &made_up)]));
        assert_eq!((status, &*out), (Some(2), ""), "{name}: {err}");
        assert!(err.contains("cannot be a profile's name"), "{name}: {err}");
    }
}

#[test]
fn a_touch_for_no_reason_is_refused() {
    let world = World::new();
    let before = fs::metadata(world.path(STAMP)).unwrap().modified().unwrap();
    for reason in ["", " ", "\t \n"] {
        let (status, _, err) = text(world.output(&["touch", "--reason", reason]));
        assert_eq!(status, Some(2), "{reason:?}: {err}");
        assert!(err.contains("a reason has at least one word"), "{err}");
    }
    let after = fs::metadata(world.path(STAMP)).unwrap().modified().unwrap();
    assert_eq!(before, after);
}
