//! Inputs that a profile names by patterns, beside each program, or only since an answer was taken.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use crate::inputs::World;

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
