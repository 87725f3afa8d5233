//! Whatever others call their files, a terminal gets no character from it that it would obey.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use modstamp::{Root, Stamp};
use serde_json::Value;
use support::libvirt::{SAMPLE, at_home, element};

/// A title for the terminal, a colour by C1, a deletion, a reversal, isolates, separators, a line.
const HOSTILE: &str =
    "\u{1b}]0;x\u{7}\u{9b}31m\u{7f}\u{202e}\u{61c}\u{200f}\u{2066}\u{2028}\n\\x1b";

/// The same, and bytes that are not UTF-8: a C1 character of its own, and others.
fn hostile(before: &str, after: &str) -> OsString {
    let bytes = [
        before.as_bytes(),
        HOSTILE.as_bytes(),
        b"\x9b\xff",
        after.as_bytes(),
    ];
    OsString::from_vec(bytes.concat())
}

/// A root with a hostile name, and hostile names of everything in it.
struct Scene {
    _scratch: tempfile::TempDir,
    top: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let scratch = tempfile::tempdir().unwrap();
        let scene = Scene {
            top: scratch.path().join(hostile("root", "")),
            _scratch: scratch,
        };
        let modules = Path::new("usr/lib64").join(hostile("qemu", ""));
        scene.write(modules.join(hostile("m", ".so")), "a module");
        scene.write(modules.join("plain.so"), "a module");
        for directory in ["usr/bin", "usr/libexec"] {
            let name = hostile("qemu-system-", "");
            scene.write(Path::new(directory).join(name), "a program");
        }
        scene.write(Path::new("etc/qemu").join(hostile("", ".conf")), "a file");
        let profiles = Path::new("etc/modstamp/profiles.d");
        let profile = r#"
            module-directories = ["/usr/lib64/qemu*", "$HOSTILE"]
            programs = ["/usr/bin/qemu-system-*", "/usr/libexec/qemu-system-*"]
            files = ["/etc/qemu/*.conf"]
        "#;
        scene.write(profiles.join("qemu.toml"), profile);
        let wrong = format!("programs = [\"x{}\"]", "\\u001B\\u009B\\u202E");
        scene.write(profiles.join("wrong.toml"), &wrong);
        let wrong = format!("\"{}\" = 1", "\\u001B\\u009B\\u202E");
        scene.write(profiles.join("unknown.toml"), &wrong);
        scene.write(profiles.join(hostile("", ".toml")), profile);
        scene.write(hostile("mine", ".toml"), profile);
        let ask = "#!/bin/sh\necho an answer\n";
        support::executable(&scene.top.join(hostile("ask", "")), ask);
        scene.note("var/lib/modstamp");
        scene.note("home/me/.local/state/modstamp");
        scene.libvirt();
        scene
    }

    fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a stamp whose note has hostile lines, as its owner can.
    fn note(&self, directory: &str) {
        let path = Path::new(directory).join("qemu.stamp");
        let line = HOSTILE.replace('\n', "");
        let note = format!("mtime: 1600000000.000000000\nwhen: {line}\nby: {line}\nwhy: {line}\n");
        self.write(&path, note);
        let mtime = filetime::FileTime::from_unix_time(1_600_000_000, 0);
        filetime::set_file_mtime(self.top.join(path), mtime).unwrap();
    }

    /// Fills libvirt's caches: a program with a hostile name, a hostile file, and no XML.
    fn libvirt(&self) {
        use sha2::{Digest, Sha256};
        let program = Path::new("/usr/bin").join(hostile("qemu-system-", ""));
        let program = program.as_os_str().as_bytes();
        let old = element(SAMPLE, "emulator").unwrap();
        let (before, after) = SAMPLE.split_once(old).unwrap();
        let text = [before.as_bytes(), program, after.as_bytes()].concat();
        let digest: String = Sha256::digest(program)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let wrong = format!("<qemuCaps><a></{HOSTILE}></qemuCaps>");
        for cache in [
            "var/cache/libvirt/qemu",
            "home/me/.cache/libvirt/qemu/cache",
        ] {
            let cache = Path::new(cache).join("capabilities");
            self.write(cache.join(format!("{digest}.xml")), &text);
            self.write(cache.join(hostile("other", ".xml")), &text);
            self.write(cache.join(hostile("wrong", ".xml")), &wrong);
            fs::create_dir_all(self.top.join(cache).join(hostile("directory", ".xml"))).unwrap();
        }
    }

    fn modstamp(&self, arguments: &[&OsStr]) -> Command {
        let mut command = at_home(Command::new(env!("CARGO_BIN_EXE_modstamp")));
        command.args(arguments).env("SUDO_USER", HOSTILE);
        command.env("HOSTILE", Path::new("/usr/lib64").join(hostile("qemu", "")));
        command
    }

    /// Runs a verb on this root. Returns what it printed on standard output.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let mut command = self.modstamp(&arguments);
        command.arg("--root").arg(&self.top);
        harmless(&command.output().unwrap(), &format!("{arguments:?}"))
    }
}

/// Asserts that a terminal obeys nothing that a program printed. Returns its standard output.
#[track_caller]
fn harmless(output: &Output, what: &str) -> String {
    for bytes in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(bytes);
        let text = text.unwrap_or_else(|error| panic!("{what}: {error}: {}", bytes.escape_ascii()));
        let obeyed = |c: &char| {
            matches!(*c, '\0'..='\u{9}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}'
                | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert_eq!(text.chars().find(obeyed), None, "{what}: {text:?}");
        assert!(
            !text.contains("\n\\x1b"),
            "{what}: a name broke a line: {text:?}"
        );
    }
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_look_shows_no_character_that_a_terminal_obeys() {
    let scene = Scene::new();
    let shown = "qemu-system-\\x1b]0;x\\x07\\xc2\\x9b31m\\x7f\\xe2\\x80\\xae\\xd8\\x9c";
    for verb in [&["status"][..], &["libvirt", "status"]] {
        let table = scene.run(verb);
        assert!(table.contains(shown), "{table}");
        let json = scene.run(&[verb, &["--json"]].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        assert!(
            json.to_string().contains("\u{9b}31m"),
            "the names stay as they are: {json}"
        );
    }
    let witness = scene.run(&["observe"]);
    assert!(witness.contains(shown), "{witness}");
    for verb in [&["doctor"][..], &["doctor", "--json"]] {
        let said = scene.run(verb);
        assert!(said.contains("unknown.toml"), "{said}");
    }
}

#[test]
fn one_program_whose_path_is_not_utf_8_hides_no_other_from_the_status() {
    let scene = Scene::new();
    let json = scene.run(&["libvirt", "status", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let programs = json["files"].as_array().unwrap().iter();
    let programs: Vec<&str> = programs
        .filter_map(|row| row["recorded"]["program"].as_str())
        .collect();
    assert_eq!(programs.len(), 2, "the system's and the user's own: {json}");
    assert!(
        programs
            .iter()
            .all(|program| program.ends_with("\u{fffd}\u{fffd}")),
        "{programs:?}"
    );
}

#[test]
fn a_verdict_shows_no_character_that_a_terminal_obeys() {
    let scene = Scene::new();
    let witness = scene.run(&["observe"]);
    let file = scene.top.join(hostile("witness", ""));
    fs::write(&file, witness).unwrap();
    let modules = scene.top.join("usr/lib64").join(hostile("qemu", ""));
    fs::write(modules.join(hostile("m", ".so")), "another").unwrap();
    fs::write(modules.join(hostile("new", ".so")), "another").unwrap();
    fs::remove_file(
        scene
            .top
            .join("usr/libexec")
            .join(hostile("qemu-system-", "")),
    )
    .unwrap();
    let wrong = scene.top.join(hostile("wrong", ""));
    fs::write(&wrong, format!("modstamp-witness 1 qemu\n{HOSTILE}")).unwrap();
    let missing = scene.top.join(hostile("missing", ""));
    for file in [&file, &wrong, &missing] {
        for arguments in [
            &["check"][..],
            &["check", "--json"],
            &["observe", "--trust"],
        ] {
            let mut all: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
            all.push(file.as_os_str());
            let mut command = scene.modstamp(&all);
            command
                .arg("--root")
                .arg(&scene.top)
                .env("HOSTILE", format!("/{HOSTILE}"));
            harmless(&command.output().unwrap(), &format!("{all:?}"));
        }
    }
}

#[test]
fn a_change_is_told_in_no_character_that_a_terminal_obeys() {
    let scene = Scene::new();
    let said = scene.run(&["update"]);
    assert!(said.contains("touched the stamp"), "{said}");
    scene.run(&["touch", "--reason", HOSTILE]);
    scene.run(&["status"]);
    let modules = scene.top.join("usr/lib64").join(hostile("qemu", ""));
    fs::write(modules.join(hostile("new", ".so")), "another").unwrap();
    scene.run(&["update"]);
    for arguments in [
        &["refresh"][..],
        &["status"],
        &["evict", "--dry-run"],
        &["evict", "--all"],
    ] {
        let said = scene.run(&[&["libvirt"], arguments].concat());
        assert!(said.contains("\\x1b"), "{arguments:?} shows a name: {said}");
    }
    for manager in ["dpkg", "apk", "pacman"] {
        scene.run(&["trigger", manager, HOSTILE, &format!("/{HOSTILE}")]);
    }
}

#[test]
fn run_tells_of_a_command_in_no_character_that_a_terminal_obeys() {
    let scene = Scene::new();
    let cache = scene.top.join(hostile("cache", ""));
    let ask = scene.top.join(hostile("ask", ""));
    let run = |program: &Path| {
        let mut command =
            scene.modstamp(&["run".as_ref(), "--explain".as_ref(), "--cache".as_ref()]);
        command
            .arg(&cache)
            .arg("--root")
            .arg(&scene.top)
            .args(["--profile", "qemu", "--dir"])
            .arg(hostile("missing", ""))
            .arg("--")
            .arg(program)
            .arg(HOSTILE);
        harmless(&command.output().unwrap(), "run")
    };
    assert_eq!(run(&ask), "an answer\n");
    let modules = scene.top.join("usr/lib64").join(hostile("qemu", ""));
    fs::write(modules.join(hostile("m", ".so")), "another").unwrap();
    assert_eq!(run(&ask), "an answer\n");
    for entry in fs::read_dir(&cache).unwrap() {
        fs::write(entry.unwrap().path(), "torn").unwrap();
    }
    run(&ask);
    run(&scene.top.join(hostile("missing", "")));
    let mut by_default = scene.modstamp(&["run".as_ref(), "--".as_ref(), ask.as_ref()]);
    harmless(&by_default.output().unwrap(), "a program of no profile");
    fs::write(scene.top.join("file"), "").unwrap();
    let mut command = scene.modstamp(&["run".as_ref(), "--cache".as_ref()]);
    command
        .arg(scene.top.join("file").join(hostile("", "")))
        .args(["--profile", "qemu", "--"])
        .arg("true");
    harmless(&command.output().unwrap(), "a cache that is none");
}

#[test]
fn a_wrong_argument_is_told_in_no_character_that_a_terminal_obeys() {
    let scene = Scene::new();
    // A line that the caller breaks breaks in the error of the arguments, too.
    let name = OsString::from(HOSTILE.replace('\n', ""));
    let path = scene.top.join(hostile("missing", ".toml"));
    let mine = scene.top.join(hostile("mine", ".toml"));
    let empty = scene.top.join("empty\u{202e}.toml");
    fs::write(&empty, "").unwrap();
    for verb in ["status", "touch", "update", "observe"] {
        for profile in [&name, path.as_os_str(), mine.as_os_str(), empty.as_os_str()] {
            let mut command = scene.modstamp(&[verb.as_ref(), "--profile".as_ref(), profile]);
            command.arg("--root").arg(&scene.top);
            harmless(&command.output().unwrap(), &format!("{verb} --profile"));
        }
        for profile in ["wrong", "unknown"] {
            scene.run(&[verb, "--profile", profile]);
        }
        let root = scene.top.join(hostile("missing", ""));
        let mut command = scene.modstamp(&[verb.as_ref(), "--root".as_ref(), root.as_ref()]);
        harmless(&command.output().unwrap(), &format!("{verb} --root"));
        let mut command = scene.modstamp(&[verb.as_ref(), &name]);
        harmless(
            &command.output().unwrap(),
            &format!("{verb} with a wrong word"),
        );
    }
    let mut command = scene.modstamp(&["trigger".as_ref(), &name]);
    harmless(&command.output().unwrap(), "trigger of a wrong manager");
    let mut help = scene.modstamp(&["--help".as_ref()]);
    let help = help.output().unwrap();
    assert!(help.status.success() && !harmless(&help, "--help").is_empty());
}

/// The profile's name is wrong, so that no stamp of this machine is touched.
#[test]
fn a_body_of_rpms_trigger_is_told_in_no_character_that_a_terminal_obeys() {
    let scratch = tempfile::tempdir().unwrap();
    let body = scratch.path().join("body");
    let line = HOSTILE.replace('\n', "");
    fs::write(&body, format!("--profile {line} {line} --{line}\n")).unwrap();
    for program in ["modstamp", "modstamp-rpm-trigger"] {
        let mut command = Command::new(support::program(program));
        command.arg0("rpm-transaction").arg(&body);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let paths = [b"/usr/lib64/qemu/".as_slice(), hostile("", "").as_bytes()].concat();
        let _ = child.stdin.take().unwrap().write_all(&paths);
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success() && !output.stderr.is_empty(),
            "{program}: {output:?}"
        );
        harmless(&output, program);
    }
}

/// Programs of other people use the library, and show its errors.
#[test]
fn an_error_of_the_library_has_no_character_that_a_terminal_obeys() {
    let scene = Scene::new();
    let root = Root::open(&scene.top).unwrap();
    fs::remove_dir_all(scene.top.join("var/lib/modstamp")).unwrap();
    let elsewhere = Path::new("/").join(hostile("elsewhere", ""));
    std::os::unix::fs::symlink(elsewhere, scene.top.join("var/lib/modstamp")).unwrap();
    let stamp = Stamp::system(&root, "qemu").unwrap();
    let error = stamp
        .touch("a test", "", modstamp::Durability::NotSynced)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("root\\x1b") && !text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\n']),
        "{text:?}"
    );
}
