//! The triggers, with the input of each package manager.
//!
//! tests/machines/rpm.rs tests the program that rpm starts. Only its arguments differ.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use modstamp::trigger::{self, Body, Cause, Deadline};
use modstamp::{Profile, Root};
use support::rpm_trigger;

/// Sends `paths` to `modstamp trigger rpm`. Returns whether the stamp moved, and the output.
fn rpm_in(root: &Path, paths: &[u8]) -> (bool, Output) {
    let stamp = root.join("var/lib/modstamp/qemu.stamp");
    let mtime = || {
        fs::symlink_metadata(&stamp)
            .and_then(|stat| stat.modified())
            .ok()
    };
    let before = mtime();
    let mut child = Command::new(env!("CARGO_BIN_EXE_modstamp"))
        .args(["trigger", "rpm", "--root"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(paths); // It may leave before the end.
        });
        child.wait_with_output().unwrap()
    });
    (mtime() != before, output)
}

#[track_caller]
fn rpm(paths: &[u8]) -> bool {
    let scratch = tempfile::tempdir().unwrap();
    let (moved, output) = rpm_in(scratch.path(), paths);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.stdout.is_empty());
    moved
}

#[test]
fn a_path_in_a_module_directory_touches_and_one_beside_it_does_not() {
    assert!(rpm(b"/usr/lib64/qemu/a.so\n"));
    assert!(rpm(b"/etc/a\n/usr/lib64/qemu-kvm/a.so\n"));
    assert!(
        rpm(b"/etc/a\n/usr/lib64/qemu"),
        "a last line without its end counts too"
    );
    assert!(!rpm(
        b"/usr/lib64/qemu-anything/a.so\n/usr/lib64/qemu.conf\n"
    ));
}

#[test]
fn no_paths_at_all_touch() {
    assert!(rpm(b""));
    assert!(rpm(b"\n\n"));
}

#[test]
fn paths_of_any_bytes_and_any_length_are_read() {
    assert!(!rpm(b"/usr/lib64/\0qemu/a.so\n/\xff\xfe/qemu\n\x80\n"));
    assert!(rpm(b"/\xff\xfe\0\n/usr/lib64/qemu/\xff.so\n"));
    let long = [b"/".repeat(3_000_000), b"x\n".to_vec()].concat();
    assert!(!rpm(&long));
    let long = [b"/usr/lib64/qemu/".to_vec(), b"x".repeat(3_000_000)].concat();
    assert!(rpm(&long));
}

#[test]
fn a_million_paths_are_read_to_the_last() {
    let qemu = Profile::built_in("qemu", &Root::system().unwrap()).unwrap();
    let cause = |paths: &[u8]| {
        let mut list = tempfile::tempfile().unwrap();
        list.write_all(paths).unwrap();
        list.seek(SeekFrom::Start(0)).unwrap();
        // The programs of a busy test may need longer than those that are installed.
        let deadline = Deadline::after(Duration::from_secs(300));
        trigger::read_paths(|path| qemu.covers(path), list, deadline)
    };
    let mut paths = b"/usr/share/doc/some/path/or/other\n".repeat(1_000_000);
    assert_eq!(cause(&paths), None);
    paths.extend_from_slice(b"/usr/lib64/qemu/a.so\n");
    let last = Cause::Path("/usr/lib64/qemu/a.so".to_owned());
    assert_eq!(cause(&paths), Some(last));
    paths.reverse(); // no newline in sight, and nothing to match
    assert_eq!(cause(&paths), None);
}

/// The types of the segments of a 64-bit ELF file (elf(5)).
fn segments(file: &[u8]) -> Vec<u32> {
    let word = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap()).into();
    let begin = u64::from_le_bytes(file[32..40].try_into().unwrap()) as usize;
    let (size, count): (usize, usize) = (word(54), word(56));
    let kind = |number| file[begin + number * size..][..4].try_into().unwrap();
    (0..count)
        .map(|number| u32::from_le_bytes(kind(number)))
        .collect()
}

/// On a processor that `ground::start` does not know, rpm's program is a dynamic one of any size.
#[test]
fn rpms_program_has_at_most_64_kib_and_needs_no_library_and_no_loader() {
    let file = fs::read(rpm_trigger::program()).unwrap();
    if !rpm_trigger::is_without_std() {
        println!("rpm's program has std here: {} bytes", file.len());
        return;
    }
    assert!(file.len() <= 65_536, "{} bytes", file.len());
    const DYNAMIC: u32 = 2;
    const INTERPRETER: u32 = 3;
    let segments = segments(&file);
    assert!(!segments.is_empty());
    for kind in [DYNAMIC, INTERPRETER] {
        assert!(!segments.contains(&kind), "{segments:?}");
    }
}

/// rpm takes the lines between a trigger's section and the next one for its body.
#[test]
fn a_comment_below_a_trigger_in_a_spec_file_is_no_argument() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("body");
    let text = "--profile gstreamer /usr/lib64/gstreamer-1.0\n\n# What --profile qemu has is in /usr/lib64/qemu.\n";
    fs::write(&file, text).unwrap();
    let mut body = Body::read(Some(file.into()));
    let root = Root::open(scratch.path()).unwrap();
    assert_eq!(body.profiles(&root), ["gstreamer"]);
    assert_eq!(body.directories, [Path::new("/usr/lib64/gstreamer-1.0")]);
    assert!(body.warnings.is_empty(), "{:?}", body.warnings);
}

#[test]
fn a_list_whose_sender_does_not_close_it_is_not_waited_for_once_a_path_matches() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_modstamp"))
        .args(["trigger", "rpm", "--root"])
        .arg(scratch.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"/usr/lib64/qemu/a.so\n/usr/").unwrap();
    assert!(child.wait().unwrap().success()); // While we still hold the other end.
    drop(stdin);
    assert!(scratch.path().join("var/lib/modstamp/qemu.stamp").exists());
}

#[test]
fn a_sender_that_stays_silent_is_taken_for_a_change() {
    let (reader, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let root = Root::system().unwrap();
    let qemu = Profile::built_in("qemu", &root).unwrap();
    let start = Instant::now();
    let deadline = Deadline::after(Duration::from_millis(200));
    let cause = trigger::read_paths(|path| qemu.covers(path), reader, deadline);
    assert!(matches!(cause, Some(Cause::Unknown(_))), "{cause:?}");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn no_standard_input_at_all_touches() {
    let scratch = tempfile::tempdir().unwrap();
    let script = r#"exec "$0" trigger rpm --root "$1" <&- >&- 2>&-"#;
    let status = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_modstamp")])
        .arg(scratch.path())
        .status()
        .unwrap();
    assert!(status.success());
    let text = fs::read_to_string(scratch.path().join("var/lib/modstamp/qemu.stamp")).unwrap();
    assert!(text.contains("\nby: rpm\n"), "{text}");
}

#[test]
fn a_profile_that_cannot_be_read_touches_and_warns() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("etc/modstamp/profiles.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("qemu.toml"), "= = =").unwrap();
    let (moved, output) = rpm_in(scratch.path(), b"/usr/share/x\n");
    assert!(moved && output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("modstamp: warning: ") && text.contains("qemu.toml:1: "),
        "{text}"
    );
}

#[test]
fn a_profile_that_an_administrator_changed_is_what_counts() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("etc/modstamp/profiles.d");
    fs::create_dir_all(&directory).unwrap();
    let text = "module-directories = [\"/usr/lib64/qemu-anything\"]";
    fs::write(directory.join("qemu.toml"), text).unwrap();
    assert!(rpm_in(scratch.path(), b"/usr/lib64/qemu-anything/a.so\n").0);
    assert!(!rpm_in(scratch.path(), b"/usr/lib64/qemu/a.so\n").0);
}

#[test]
fn trouble_never_fails_a_transaction() {
    let scratch = tempfile::tempdir().unwrap();
    fs::create_dir_all(scratch.path().join("var/lib")).unwrap();
    fs::write(
        scratch.path().join("var/lib/modstamp"),
        "a file where the directory should be",
    )
    .unwrap();
    let (_, output) = rpm_in(scratch.path(), b"");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("modstamp: warning: cannot touch the stamp "),
        "{text}"
    );
    let missing = Path::new("/no/such/root");
    let (_, output) = rpm_in(missing, b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("/no/such/root")
    );
}

#[test]
fn dpkg_sends_directories_as_an_argument_and_nothing_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_modstamp"))
        .args(["trigger", "dpkg", "--root"])
        .arg(scratch.path())
        .arg("/usr/lib/x86_64-linux-gnu/qemu /usr/lib/other")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success()); // While its standard input is still open.
    let text = fs::read_to_string(scratch.path().join("var/lib/modstamp/qemu.stamp")).unwrap();
    assert!(
        text.contains("why: something in /usr/lib/x86_64-linux-gnu/qemu came"),
        "{text}"
    );
}

#[test]
fn pacman_sends_paths_without_the_leading_slash_and_is_read_to_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let send = |paths: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_modstamp"))
            .args(["trigger", "pacman", "/usr/lib/qemu", "--root"])
            .arg(scratch.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let sent = child.stdin.take().unwrap().write_all(paths.as_bytes());
        assert!(child.wait().unwrap().success());
        sent.unwrap();
        fs::read_to_string(scratch.path().join("var/lib/modstamp/qemu.stamp"))
    };
    assert!(send("usr/lib/qemu-anything/a.so\nusr/share/qemu/\n").is_err());
    // A pipe holds less. To pacman it is an error if nobody reads the rest.
    let paths = "usr/lib/qemu/a.so\n".to_owned() + &"usr/lib/qemu/b.so\n".repeat(100_000);
    let text = send(&paths).unwrap();
    assert!(
        text.contains("\nby: pacman\nwhy: /usr/lib/qemu/a.so came"),
        "{text}"
    );
}

#[test]
fn a_directory_that_a_hook_names_is_watched_whatever_the_profile_has() {
    let scratch = tempfile::tempdir().unwrap();
    let profiles = scratch.path().join("etc/modstamp/profiles.d");
    fs::create_dir_all(&profiles).unwrap();
    fs::write(profiles.join("gstreamer.toml"), "files = [\"/opt/a\"]").unwrap();
    let trigger = |words: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_modstamp"))
            .args(["trigger", "pacman", "--root"])
            .arg(scratch.path())
            .args(words)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"usr/lib/gst/a.so\n");
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let stamp = scratch.path().join("var/lib/modstamp/gstreamer.stamp");
        (stamp.exists(), String::from_utf8(output.stderr).unwrap())
    };
    let nothing = (false, String::new());
    assert_eq!(trigger(&["--profile", "gstreamer", "/usr/lib/gs"]), nothing);
    let touched = (true, String::new());
    assert_eq!(
        trigger(&["--profile", "gstreamer", "/usr/lib/gst"]),
        touched
    );
    let (_, warning) = trigger(&["gstreamer", "/usr/lib/gst"]);
    assert!(
        warning.contains("“gstreamer” is not the absolute path"),
        "{warning}"
    );
}

/// Runs apk's trigger script like apk, which itself is not here. Returns whether the stamp moved.
///
/// apk starts the shell in the root that it installs to. It passes the directories that changed as
/// arguments, and only PATH of the environment.
fn apk(shell: &[&str], path: &str, root: &Path, directories: &[&str]) -> (bool, Output) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/packaging/alpine/modstamp-qemu.trigger"
    );
    let stamp = root.join("var/lib/modstamp/qemu.stamp");
    let mtime = || fs::metadata(&stamp).and_then(|stat| stat.modified()).ok();
    let before = mtime();
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(script)
        .args(directories)
        .env_clear()
        .env("PATH", path)
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (mtime() != before, output)
}

/// The directories of the shells, and a PATH that also has modstamp.
fn paths() -> (&'static str, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_modstamp")).parent().unwrap();
    let shells = "/usr/bin:/bin";
    (shells, format!("{}:{shells}", program.display()))
}

/// The shells of this machine that may be `/bin/sh`. Alpine's is busybox.
fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    let shells: [&[&str]; 3] = [&["sh"], &["dash"], &["busybox", "sh"]];
    let is_here = |shell: &&[&str]| Command::new(shell[0]).args(["-c", ":"]).output().is_ok();
    shells.into_iter().filter(is_here)
}

#[test]
fn apks_trigger_script_touches_the_stamp_of_the_root_that_it_runs_in() {
    let (_, path) = paths();
    for shell in shells() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        for directories in [
            &["/usr/lib/qemu"][..],
            &["/usr/lib/qemu/9.0", "/usr/lib/qemu"],
        ] {
            let (moved, output) = apk(shell, &path, root, directories);
            assert!(moved && output.status.success(), "{shell:?}: {output:?}");
            assert!(output.stdout.is_empty() && output.stderr.is_empty());
        }
        let text = fs::read_to_string(root.join("var/lib/modstamp/qemu.stamp")).unwrap();
        let why = "\nby: apk\nwhy: something in /usr/lib/qemu/9.0 came, went or was replaced";
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn apks_trigger_script_fails_no_transaction() {
    let (without, with) = paths();
    for shell in shells() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let (moved, output) = apk(shell, without, root, &["/usr/lib/qemu"]);
        assert!(!moved && output.status.success(), "{shell:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "a shell says that it is missing");

        fs::create_dir_all(root.join("var/lib")).unwrap();
        fs::write(root.join("var/lib/modstamp"), "a file").unwrap();
        let (moved, output) = apk(shell, &with, root, &["/usr/lib/qemu"]);
        assert!(!moved && output.status.success(), "{shell:?}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("modstamp: warning: "), "{text}");
    }
}

#[test]
fn wrong_arguments_are_the_one_thing_that_fails() {
    let status = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .arg("trigger")
            .args(arguments)
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(status(&[]), Some(2));
    assert_eq!(status(&["apt"]), Some(2));
    assert_eq!(status(&["rpm", "--no-such-option"]), Some(2));
}

#[test]
fn a_purge_leaves_no_file_of_a_killed_writer_and_all_of_another_profile() {
    let script = include_str!("../../packaging/debhelper/autoscripts/postrm-modstamp");
    let scratch = tempfile::tempdir().unwrap();
    let state = scratch.path().join("var/lib/modstamp");
    fs::create_dir_all(&state).unwrap();
    let names = |profile: &str| -> Vec<String> {
        let mut names = vec![format!(".{profile}.lock")];
        for extension in ["libvirt", "log", "stamp", "witness"] {
            let name = format!("{profile}.{extension}");
            names.extend(["new", "new.123", "new.12.3"].map(|end| format!(".{name}.{end}")));
            names.push(name);
        }
        names.sort();
        names
    };
    let others = names("qemu.more");
    for name in names("qemu").iter().chain(&others) {
        fs::write(state.join(name), "").unwrap();
    }
    let run = |action: &str| {
        let mut sh = Command::new("sh");
        sh.args([
            "-euc",
            &script.replace("#PROFILE#", "qemu"),
            "postrm",
            action,
        ])
        .env("DPKG_ROOT", scratch.path());
        assert!(sh.status().unwrap().success());
        let left = fs::read_dir(&state).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = left.collect();
        left.sort();
        left
    };
    assert_eq!(run("remove").len(), 2 * others.len());
    assert_eq!(run("purge"), others);
}
