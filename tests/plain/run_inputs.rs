//! The inputs of `modstamp run`: directories, files, variables, and programs of no profile. These
//! tests need nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::run::World;

const FRESH: &str = "modstamp: served from the cache: nothing changed\n";
const NEW: &str = "modstamp: asked: no answer was cached\n";

/// What the command printed, and what was told, of a run that must succeed.
pub fn told(output: Output) -> (String, String) {
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

impl World {
    /// What `run` with these options tells.
    fn tells(&self, options: &[&str]) -> String {
        let mut run = self.run_with(options);
        told(run.arg(self.path("ask")).output().unwrap()).1
    }

    pub fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn a_change_in_a_named_directory_asks_again() {
    let world = World::new();
    world.write("opt/plugins/below/a.so", "1");
    let tells = || world.tells(&["--dir", "/opt/plugins"]);
    assert_eq!([tells(), tells()], [NEW, FRESH]);
    for (below, text, reason) in [
        ("b.so", "1", "module b.so added to /opt/plugins"),
        (
            "below/a.so",
            "2",
            "module below/a.so in /opt/plugins changed",
        ),
    ] {
        world.write(&format!("opt/plugins/{below}"), text);
        let why = tells();
        assert!(
            why.starts_with(&format!("modstamp: asked again: {reason}")),
            "{why}"
        );
        assert_eq!(tells(), FRESH);
    }
    // QEMU's modules and its stamp are no inputs now.
    world.write("usr/lib64/qemu/gtk.so", "");
    world.write("var/lib/modstamp/qemu.stamp", "");
    assert_eq!(tells(), FRESH);
}

#[test]
fn a_change_of_a_named_file_asks_again() {
    let world = World::new();
    world.write("etc/plugins.conf", "1");
    let tells = || world.tells(&["--file", "/etc/plugins.conf", "--file", "/etc/plugins.more"]);
    let warning = tells();
    assert!(warning.contains("there is no file ") && warning.contains("/etc/plugins.more; "));
    for (below, text, reason) in [
        (
            "etc/plugins.conf",
            "2",
            "file /etc/plugins.conf changed: its content differs",
        ),
        ("etc/plugins.more", "", "file /etc/plugins.more added"),
    ] {
        world.write(below, text);
        let why = tells();
        assert!(why.contains(&format!("asked again: {reason}")), "{why}");
        assert!(tells().ends_with(FRESH));
    }
    assert_eq!(tells(), FRESH, "both are there");
    fs::remove_file(world.path("etc/plugins.conf")).unwrap();
    let why = tells();
    assert!(
        why.contains("asked again: file /etc/plugins.conf removed"),
        "{why}"
    );
    world.write("etc/other.conf", "");
    assert!(tells().ends_with(FRESH));
}

#[test]
fn other_named_inputs_are_another_question() {
    let world = World::new();
    for below in ["a/x", "b/x"] {
        world.write(below, "");
    }
    let lists: [&[&str]; 6] = [
        &["--dir", "/a"],
        &["--dir", "/b"],
        &["--file", "/a/x"],
        &["--dir", "/a", "--dir", "/b"],
        &["--profile", "qemu"],
        &["--profile", "qemu", "--dir", "/a"],
    ];
    for expected in [NEW, FRESH] {
        for options in lists {
            assert_eq!(world.tells(options), expected, "{options:?}");
        }
    }
    let again = ["--dir", "b/.", "--dir", "/a/", "--dir", "/a"];
    assert_eq!(
        world.tells(&again),
        FRESH,
        "the same directories in other words"
    );
}

#[test]
fn a_relative_input_begins_at_the_working_directory() {
    let world = World::new();
    let name = "a b*[c]$d";
    world.write(&format!("{name}/x"), "");
    let tells = || {
        let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        run.args(["run", "--explain", "--cache"])
            .arg(world.path("cache"));
        run.args(["--dir", name, "--", "echo"]);
        told(run.current_dir(world.0.path()).output().unwrap()).1
    };
    assert_eq!([tells(), tells()], [NEW, FRESH]);
    world.write(&format!("{name}/y"), "");
    let why = tells();
    assert!(why.contains("asked again: module y added to "), "{why}");
}

#[test]
fn named_inputs_count_besides_those_of_a_named_profile() {
    let world = World::new();
    world.write("opt/a.so", "");
    let tells = || world.tells(&["--profile", "qemu", "--dir", "/opt"]);
    tells();
    for below in ["opt/b.so", "usr/lib64/qemu/b.so"] {
        world.write(below, "");
        let why = tells();
        assert!(why.contains("asked again: module b.so added to "), "{why}");
    }
    assert_eq!(tells(), FRESH);
}

#[test]
fn a_change_of_a_named_input_during_the_probe_is_never_kept() {
    let world = World::new();
    world.write("opt/a.so", "");
    world.write("etc/conf", "");
    for (during, options) in [
        ("echo > $ROOT/opt/b.so", ["--dir", "/opt"]),
        ("echo more > $ROOT/etc/conf", ["--file", "/etc/conf"]),
    ] {
        world.command(during);
        let why = world.tells(&options);
        assert!(why.contains("not kept: "), "{during}: {why}");
    }
}

#[test]
fn each_value_of_a_named_variable_has_an_answer_of_its_own() {
    let world = World::new();
    world.command("echo ${KIND-unset}");
    let ask = |kind: Option<&str>, other: &str| {
        let mut run = world.run_with(&["--profile", "qemu", "--env", "KIND", "--env", "MORE"]);
        run.arg(world.path("ask")).env("OTHER", other);
        match kind {
            Some(kind) => run.env("KIND", kind),
            None => run.env_remove("KIND"),
        };
        told(run.output().unwrap())
    };
    for (other, expected) in [("1", NEW), ("2", FRESH)] {
        for kind in [None, Some(""), Some("a"), Some("b=c")] {
            let answer = format!("{}\n", kind.unwrap_or("unset"));
            assert_eq!(ask(kind, other), (answer, expected.to_owned()));
        }
    }
    for wrong in ["KIND=a", ""] {
        let output = world
            .run_with(&["--env", wrong])
            .arg("true")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("write only the NAME"), "{text}");
    }
}

#[test]
fn a_forced_run_asks_again_and_keeps_the_new_answer() {
    let world = World::new();
    world.command("cat $ROOT/word");
    fs::write(world.path("word"), "old\n").unwrap();
    assert_eq!(world.ask().0, "old\n");
    fs::write(world.path("word"), "new\n").unwrap();
    assert_eq!(world.ask().0, "old\n", "it is no input");
    let forced = || {
        let mut run = world.run_with(&["--profile", "qemu", "--force"]);
        run.arg(world.path("ask")).output().unwrap()
    };
    let why = "modstamp: asked again: --force\n".to_owned();
    assert_eq!(told(forced()), ("new\n".to_owned(), why));
    assert_eq!(world.ask(), ("new\n".to_owned(), FRESH.to_owned()));
    // A failure does not cost the answer of before.
    fs::remove_file(world.path("word")).unwrap();
    assert_eq!(forced().status.code(), Some(1));
    assert_eq!(world.ask(), ("new\n".to_owned(), FRESH.to_owned()));
    world.command("echo > $ROOT/usr/lib64/qemu/new.so");
    let (_, why) = told(forced());
    assert!(why.contains("not kept: module new.so added to "), "{why}");
}

#[test]
fn an_input_that_nobody_finds_is_told_each_time_and_costs_no_status() {
    let world = World::new();
    world.command("exit 3");
    let output = |options: &[&str]| {
        let output = world
            .run_with(options)
            .arg(world.path("ask"))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let root = world.0.path().display();
    let missing = format!(
        "modstamp: warning: there is no directory {root}/opt; \
         check its name, or ignore this until it comes\n"
    );
    let (status, text) = output(&["--dir", "/opt"]);
    assert!(status == Some(3) && text.starts_with(&missing), "{text}");
    world.command("echo");
    for expected in [NEW, FRESH] {
        let (status, text) = output(&["--dir", "/opt"]);
        let rest = text.strip_prefix(&missing).unwrap();
        assert!(status == Some(0) && rest == expected, "{text}");
    }
    world.write("opt/a.so", "");
    let (_, text) = output(&["--dir", "/opt"]);
    let added = "modstamp: asked again: module directory /opt added\n";
    assert_eq!(text, added);
}

#[test]
fn a_profile_that_finds_nothing_on_the_host_is_told_each_time() {
    let world = World::new();
    fs::remove_dir_all(world.path("usr")).unwrap();
    world.command("echo");
    let warning = "modstamp: warning: nothing that the profile “qemu” names is on this host, \
        so no plug-in makes the answer stale; correct the profile, or name another one\n";
    for expected in [NEW, FRESH] {
        let told = world.tells(&["--profile", "qemu"]);
        assert_eq!(told, format!("{warning}{expected}"));
    }
    world.write("usr/lib64/qemu/a.so", "");
    let told = world.tells(&["--profile", "qemu"]);
    assert_eq!(
        told,
        "modstamp: asked again: module directory /usr/lib64/qemu added\n"
    );
}

#[test]
fn a_manifest_that_is_no_json_is_told_each_time_and_is_stale_once_it_is_mended() {
    let world = World::new();
    let file = "usr/share/vulkan/icd.d/a.json";
    let text = "manifests = [{ files = [\"/usr/share/vulkan/*.d/*.json\"], library = \"ICD.library_path\" }]";
    world.write("etc/modstamp/profiles.d/vulkan.toml", text);
    world.command("echo");
    let root = world.0.path().display();
    let told = |problem: &str, remedy: &str| {
        format!(
            "modstamp: warning: the manifest {root}/{file} {problem}, so no library that it names \
             counts; {remedy}\n"
        )
    };
    let no_json = told("is no JSON", "correct or remove it");
    world.write(file, "{");
    for expected in [NEW, FRESH] {
        let told = world.tells(&["--profile", "vulkan"]);
        assert_eq!(told, format!("{no_json}{expected}"));
    }
    let messages = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .args(arguments)
            .args(["--profile", "vulkan", "--root"]);
        let output = command.arg(world.0.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    assert_eq!(messages(&["status"]).1, no_json);
    let (witness, warning) = messages(&["observe"]);
    assert_eq!(warning, no_json);
    // What an older witness has is told again.
    world.write("witness", &witness);
    let older = world.path("witness").display().to_string();
    assert_eq!(
        messages(&["observe", "--trust", &older]),
        (witness, no_json)
    );
    // A manifest of several layers names no library at that place, and one may have a mark.
    world.write(file, "\u{feff}{\"layers\": []}");
    let told_now = world.tells(&["--profile", "vulkan"]);
    assert!(
        told_now.starts_with("modstamp: asked again: file "),
        "{told_now}"
    );
    assert_eq!(messages(&["status"]).1, "");
    world.write(file, &" ".repeat(2 << 20));
    let unread = told("cannot be read (", "make it readable");
    let (start, end) = unread.split_once('(').unwrap();
    let (_, now) = messages(&["observe"]);
    assert!(now.starts_with(start) && now.ends_with(end), "{now}");
}

#[test]
fn a_program_of_no_profile_is_run_each_time_and_the_caller_is_told_to_name_its_inputs() {
    let world = World::new();
    for count in 1..3 {
        let told = world.tells(&[]);
        let rest = "/ask is not a program of the profile “qemu”, which is the default; \
            name its inputs by --dir, --file or --profile; \
            running the command without a cache\n";
        assert!(
            told.starts_with("modstamp: warning: ") && told.ends_with(rest),
            "{told}"
        );
        assert_eq!(world.count(), count);
    }
    assert!(!world.path("cache").exists());
}

#[test]
fn a_program_of_the_default_profile_needs_no_options_by_whatever_name() {
    let world = World::new();
    let program = world.path("usr/bin/qemu-system-arm");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let link = |from: &Path, to: &str| {
        std::os::unix::fs::symlink(from, world.path(to)).unwrap();
        world.path(to)
    };
    fs::rename(world.path("ask"), &program).unwrap();
    let names = [
        program.clone(),
        link(&program, "qemu"),
        link(&world.path("qemu"), "kvm"),
    ];
    for expected in [NEW, FRESH] {
        for name in &names {
            let output = world.run_with(&[]).arg(name).output().unwrap();
            assert_eq!(told(output).1, expected, "{}", name.display());
        }
    }
    fs::write(world.path("other"), "").unwrap();
    fs::hard_link(world.path("other"), world.path("third")).unwrap();
    let output = world
        .run_with(&[])
        .arg(world.path("third"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("is not a program of the profile"), "{text}");
}

#[test]
fn status_judges_each_answer_by_the_inputs_that_it_was_asked_with() {
    let world = World::new();
    world.write("opt/a.so", "");
    world.write("etc/conf", "");
    let of = |command: &mut Command| {
        command.env("HOME", "/home").env_remove("XDG_CACHE_HOME");
        told(command.env("ROOT", world.0.path()).output().unwrap()).0
    };
    let modstamp = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command.args([verb, "--root"]).arg(world.0.path());
        command
    };
    fs::create_dir(world.path("home")).unwrap();
    let options: [&[&str]; 4] = [
        &["--dir", "/opt", "--", "echo", "1"],
        &["--file", "/etc/conf", "--dir", "/later", "--", "echo", "2"],
        &["--profile", "qemu", "--dir", "/opt", "--", "echo", "3"],
        &["--profile", "qemu", "--env", "KIND", "--", "echo", "4"],
    ];
    for options in options {
        of(modstamp("run").args(options));
    }
    let shows = |expected: [&str; 4]| {
        let text = of(&mut modstamp("status"));
        for (number, (profile, state)) in
            (1..).zip(["-", "-", "qemu", "qemu"].into_iter().zip(expected))
        {
            let command = format!("/echo {number} ");
            let line = text.lines().find(|line| line.contains(&command)).unwrap();
            assert!(
                line.starts_with(&format!("{profile} ")) && line.contains(state),
                "{text}"
            );
        }
    };
    shows([" fresh"; 4]);
    world.write("opt/b.so", "");
    let added = " stale: module b.so added to /opt";
    shows([added, " fresh", added, " fresh"]);
    world.write("later/c.so", "");
    shows([
        added,
        " stale: module directory /later added",
        added,
        " fresh",
    ]);
}
