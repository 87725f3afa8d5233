//! Inputs that a profile names by patterns, beside each program, or only since an answer was taken.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use modstamp::{Cache, Profile, Root, Witness};

use crate::inputs::{NOTHING, World, sentences};

#[test]
fn a_file_that_a_pattern_among_module_directories_matches_counts_by_its_content() {
    let world = World::new(&["opt/j/drv.json", "opt/k/below/a.so", "opt/file"]);
    let file = "/opt/j/drv.json";
    for pattern in ["/opt/j/*.json", "/opt/*/drv.json", "/opt/j/*"] {
        let profile = world.profile().module_directories([pattern]).unwrap();
        assert!(profile.covers(file.as_ref()), "{pattern}");
        let told = world.after(&profile, || world.write(file, "another"));
        let [told] = &told[..] else {
            panic!("{pattern}: {told:?}")
        };
        assert!(
            told.starts_with(&format!("file {file} changed: its size")),
            "{told}"
        );
        let told = world.after(&profile, || fs::remove_file(world.path(file)).unwrap());
        assert_eq!(told, [format!("file {file} removed")], "{pattern}");
        let told = world.after(&profile, || world.write(file, "before"));
        assert_eq!(told, [format!("file {file} added")], "{pattern}");
    }
    // A link counts with its target, and a directory that a pattern matches as before.
    let profile = world
        .profile()
        .module_directories(["/opt/link*", "/opt/k*"])
        .unwrap();
    let told = world.after(&profile, || {
        symlink("file", world.path("opt/link")).unwrap()
    });
    assert_eq!(told, ["file /opt/link added"]);
    let told = world.after(&profile, || world.write("opt/file", "another"));
    assert!(
        told.len() == 1 && told[0].starts_with("file /opt/link changed"),
        "{told:?}"
    );
    let told = world.after(&profile, || world.write("opt/k/below/b.so", ""));
    assert_eq!(told, ["module below/b.so added to /opt/k"]);
}

#[test]
fn a_pattern_among_module_directories_counts_no_socket_no_cache_and_nothing_excluded() {
    let world = World::new(&["opt/j/drv.json", "opt/drv.json"]);
    let text = "module-directories = [\"/opt/j/*\", \"/opt/*/drv.json\"]\nexclude = [\"*.pid\"]\n\
        [[cache]]\nfiles = [\"/opt/j/*.cache\"]\nremedy = \"remove\"\n";
    let changes: [fn(&World); 4] = [
        |world| drop(UnixListener::bind(world.path("opt/j/socket")).unwrap()),
        |world| world.write("opt/j/daemon.pid", "1"),
        |world| world.write("opt/j/plugins.cache", ""),
        // It is no directory, so the pattern does not go on below it.
        |world| world.write("opt/drv.json", "another"),
    ];
    for (index, change) in changes.iter().enumerate() {
        let told = world.told(text, &[], || change(&world), &[]);
        assert_eq!(told, "fresh\n", "{index}");
    }
    let told = world.told(text, &[], || world.write("opt/j/b.json", ""), &[]);
    assert_eq!(told, "stale: file /opt/j/b.json added\n");
}

#[test]
fn status_shows_a_file_that_a_pattern_among_module_directories_matches() {
    let world = World::new(&["opt/j/drv.json"]);
    let text = "module-directories = [\"/opt/j/*.json\", \"/opt/none/*.json\"]";
    let (_, table) = world.modstamp(text, &["status"], &[]);
    let file = world.path("opt/j/drv.json").display().to_string();
    let row = table.lines().find(|line| line.contains(&file));
    assert!(
        row.is_some_and(|row| row.contains("file") && row.contains("found")),
        "{table}"
    );
    let (_, json) = world.modstamp(text, &["status", "--json"], &[]);
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    let profile = &status["profiles"][0];
    assert_eq!(
        profile["files"],
        serde_json::json!(["/opt/j/drv.json"]),
        "{json}"
    );
    let missing = serde_json::json!([{"input": "module-directory", "item": "/opt/none/*.json"}]);
    assert_eq!(profile["missing"], missing, "{json}");
}

/// Programs `a` and `b` below `/opt`, with modules beside each and in one directory for both.
fn two_programs() -> (World, Profile) {
    let world = World::new(&[
        "opt/a/bin/tool",
        "opt/a/lib/tool/1.so",
        "opt/b/bin/tool",
        "opt/b/lib/tool/1.so",
        "usr/lib/tool/0.so",
    ]);
    let profile = world.profile().programs(["/opt/*/bin/tool"]);
    let profile = profile.and_then(|it| it.files(["{program}/../etc/*.conf"]));
    let directories = ["{program}/../lib/tool", "/usr/lib/tool"];
    let profile = profile.and_then(|it| it.module_directories(directories));
    (world, profile.unwrap())
}

/// What makes a witness of one program stale: by a look at that program, and by one at all.
fn judged(witness: &Witness, profile: &Profile) -> Vec<String> {
    let now = profile.inputs().unwrap();
    let [judged, checked] = [witness.judge(&now), witness.check(profile).unwrap()];
    assert_eq!(judged, checked);
    assert_eq!(witness.disturbed(&now).is_none(), judged.is_fresh());
    sentences(&judged)
}

#[test]
fn an_upgrade_beside_another_program_leaves_the_answer_of_one_fresh() {
    let (world, profile) = two_programs();
    let of_a = profile.observe_for("/opt/a/bin/tool").unwrap();
    let of_all = profile.observe().unwrap();
    assert!(!of_a.to_string().contains("/opt/b"), "{of_a}");
    let changes = [
        "opt/b/lib/tool/1.so",
        "opt/b/lib/tool/2.so",
        "opt/b/bin/tool",
        "opt/b/etc/x.conf",
    ];
    changes
        .iter()
        .for_each(|file| world.write(file, "upgraded"));
    // Another program whose modules are those of this one, by a link.
    world.write("opt/0/bin/tool", "");
    symlink("../a/lib", world.path("opt/0/lib")).unwrap();
    assert_eq!(judged(&of_a, &profile), NOTHING);
    assert!(judged(&of_all, &profile).len() > changes.len());
}

#[test]
fn an_upgrade_beside_a_program_makes_its_own_answer_stale() {
    let (world, profile) = two_programs();
    let told = |file: &str| {
        let of_a = profile.observe_for("/opt/a/bin/tool").unwrap();
        world.write(file, "upgraded");
        judged(&of_a, &profile)
    };
    assert_eq!(
        told("opt/a/lib/tool/2.so"),
        ["module 2.so added to /opt/a/lib/tool"]
    );
    assert_eq!(
        told("usr/lib/tool/2.so"),
        ["module 2.so added to /usr/lib/tool"]
    );
    assert_eq!(told("opt/a/etc/x.conf"), ["file /opt/a/etc/x.conf added"]);
    assert_eq!(told("opt/a/bin/tool").len(), 1);
}

#[test]
fn the_modules_beside_the_file_that_a_program_links_to_count_in_another_root() {
    let (world, profile) = two_programs();
    world.write("usr/bin/other", "");
    symlink("/opt/a/bin/tool", world.path("usr/bin/tool")).unwrap();
    let of_link = profile.observe_for("/usr/bin/tool").unwrap();
    let of_link = |file: &str| {
        world.write(file, "upgraded");
        sentences(&of_link.check(&profile).unwrap())
    };
    assert_eq!(of_link("opt/b/lib/tool/2.so"), NOTHING);
    assert_eq!(
        of_link("opt/a/lib/tool/2.so"),
        ["module 2.so added to /opt/a/lib/tool"]
    );
}

#[test]
fn an_answer_of_one_program_is_cached_after_an_upgrade_of_another() {
    let (world, _) = two_programs();
    let top = world.path("").display().to_string();
    let top = top.trim_end_matches('/');
    for program in ["a", "b"] {
        let tool = world.path(&format!("opt/{program}/bin/tool"));
        support::executable(&tool, format!("#!/bin/sh\necho {program}\n"));
    }
    let text = format!(
        "programs = [\"{top}/opt/*/bin/tool\"]\nmodule-directories = [\"{{program}}/../lib/tool\"]"
    );
    world.write("tool.toml", &text);
    let told = |program: &str| {
        let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        run.env_clear().env("HOME", world.path("home"));
        run.args(["run", "--explain", "--profile"])
            .arg(world.path("tool.toml"));
        run.arg("--cache").arg(world.path("cache")).arg("--");
        let output = run
            .arg(world.path(&format!("opt/{program}/bin/tool")))
            .output()
            .unwrap();
        assert_eq!(
            output.stdout,
            format!("{program}\n").into_bytes(),
            "{output:?}"
        );
        String::from_utf8(output.stderr).unwrap()
    };
    let cached = "modstamp: served from the cache: nothing changed\n";
    for program in ["a", "b"] {
        assert_eq!(told(program), "modstamp: asked: no answer was cached\n");
        assert_eq!(told(program), cached);
    }
    support::executable(&world.path("opt/b/bin/tool"), "#!/bin/sh\n# new\necho b\n");
    world.write("opt/b/lib/tool/2.so", "");
    assert_eq!(told("a"), cached);
    let why = told("b");
    assert!(
        why.contains("program ") && why.contains("module 2.so added"),
        "{why}"
    );
    // Its own upgrade asks again.
    world.write("opt/a/lib/tool/2.so", "");
    assert!(told("a").contains("module 2.so added"));
}

#[test]
fn an_answer_of_one_program_by_another_command_is_judged_with_that_command() {
    let (world, profile) = two_programs();
    let cache = Cache::open(&Root::system().unwrap(), &world.path("cache")).unwrap();
    let ask = world.path("ask");
    support::executable(&ask, "#!/bin/sh\necho old\n");
    let of_a = profile.clone().of_program("/opt/a/bin/tool");
    cache.output(&of_a, &mut Command::new(&ask)).unwrap();
    let told = || {
        let found = cache.verdicts(&profile).unwrap();
        assert_eq!(found.len(), 1);
        sentences(&found[0].verdict)
    };
    world.write("opt/b/lib/tool/2.so", "");
    assert_eq!(told(), NOTHING);
    support::executable(&ask, "#!/bin/sh\necho other\n");
    let told = told();
    let expected = format!("command {} changed", ask.display());
    assert!(
        told.len() == 1 && told[0].starts_with(&expected),
        "{told:?}"
    );
}

/// What a new text of the profile makes a witness stale by.
fn told_after(world: &World, old: &str, new: &str) -> String {
    let (status, witness) = world.modstamp(old, &["observe"], &[]);
    assert_eq!(status, 0, "{witness}");
    fs::write(world.path("witness"), &witness).unwrap();
    let check = ["check", &world.path("witness").display().to_string()];
    let fresh = (0, "fresh\n".to_owned());
    assert_eq!(world.modstamp(old, &check, &[]), fresh, "{witness}");
    world.modstamp(new, &check, &[]).1
}

const OLD: &str = "module-directories = [\"/opt/m\"]\nexclude = [\"*.cache\"]";

#[test]
fn an_input_that_the_profile_newly_names_makes_an_older_witness_stale_by_that_reason() {
    let world = World::new(&["opt/m/a.so", "etc/there.conf"]);
    let and = |list: &str| format!("{OLD}\n{list}");
    let named =
        |what: &str| format!("stale: {what} was not observed, and the profile names it now\n");
    for (new, expected) in [
        (and("files = [\"/etc/x.conf\"]"), named("file /etc/x.conf")),
        (
            and("programs = [\"/usr/bin/x*\"]"),
            named("program /usr/bin/x*"),
        ),
        (
            OLD.replace("/opt/m\"", "/opt/m\", \"/opt/n\""),
            named("module directory /opt/n"),
        ),
        (
            OLD.replace("exclude", "# exclude"),
            "stale: modules *.cache were excluded, and the profile counts them now\n".to_owned(),
        ),
        (
            and("files = [\"/etc/there.conf\"]"),
            named("file /etc/there.conf") + "stale: file /etc/there.conf added\n",
        ),
    ] {
        assert_eq!(told_after(&world, OLD, &new), expected, "{new}");
        // The other way round, the witness has more than is asked.
        let less = told_after(&world, &new, OLD);
        match new.contains("exclude = ") {
            true => assert!(!less.contains("was not observed"), "{less}"),
            false => assert_eq!(less, "fresh\n"),
        }
    }
}

#[cfg(feature = "libraries")]
#[test]
fn a_manifest_that_the_profile_newly_names_or_reads_by_another_key_is_not_observed() {
    let world = World::new(&["opt/m/a.so"]);
    let profile = |place: &str| {
        let item = format!("{{ files = [\"/opt/*.json\"], library = \"{place}\" }}");
        format!("{OLD}\nmanifests = [{item}]")
    };
    let told = told_after(&world, &profile("a.b"), &profile("a.c"));
    let expected = "stale: libraries that /opt/*.json (a.c) names were not observed, and the \
                    profile asks for them now\n";
    assert_eq!(told, expected);
}

#[test]
fn a_witness_without_the_profile_s_items_is_judged_by_what_it_has() {
    let world = World::new(&["opt/m/a.so"]);
    let witness = world.modstamp(OLD, &["observe"], &[]).1;
    let lines = witness.lines();
    let lines = lines.filter(|line| !line.starts_with("named ") && !line.starts_with("end "));
    let mut lines: Vec<&str> = lines.collect();
    let end = format!("end {}\n", lines.len());
    lines.push(&end);
    assert!(lines.len() < witness.lines().count(), "{witness}");
    fs::write(world.path("witness"), lines.join("\n")).unwrap();
    let check = ["check", &world.path("witness").display().to_string()];
    let new = format!("{OLD}\nfiles = [\"/etc/x.conf\"]");
    assert_eq!(world.modstamp(&new, &check, &[]), (0, "fresh\n".to_owned()));
}

#[test]
fn an_update_touches_for_a_newly_named_input_only_if_something_is_there() {
    let world = World::new(&["opt/m/a.so", "etc/there.conf"]);
    let update = |text: &str| world.modstamp(text, &["update", "--json"], &[]).1;
    let is_changed = |text: &str| {
        let told = update(text);
        let json: serde_json::Value = serde_json::from_str(&told).unwrap();
        json["changed"]
            .as_bool()
            .unwrap_or_else(|| panic!("{told}"))
    };
    assert!(is_changed(OLD));
    assert!(!is_changed(OLD));
    assert!(!is_changed(&format!("{OLD}\nfiles = [\"/etc/x.conf\"]")));
    assert!(is_changed(&format!("{OLD}\nfiles = [\"/etc/there.conf\"]")));
}
