//! rpm's trigger as `make` builds it, without std, beside the same program with std.
//!
//! Both programs come from the same sources. They differ in the parts that stand for std: paths,
//! the texts of errors, memory, the environment and the start. Each scenario has a root directory
//! of its own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use support::named;
use support::rpm_trigger::{Build, build, is_without_std, program};
use support::test::{self, Needs, Test};

type Scenario = fn();

/// The directories of QEMU's modules, as rpm's macro writes them.
const BODY: &str = "--profile qemu --no-sync /usr/lib64/qemu /usr/lib64/qemu-kvm\n";

/// A path in one of these directories.
const PATH: &str = "/usr/lib64/qemu/a.so\n";

pub fn tests() -> Vec<Test> {
    let scenarios: &'static [(&'static str, Scenario)] = named![
        it_judges_paths_like_the_program_with_std,
        it_reads_bodies_like_the_program_with_std,
        it_meets_trouble_like_the_program_with_std,
        it_says_the_time_that_no_touch_stored,
        it_waits_no_longer_for_a_lock_than_the_program_with_std,
        a_list_of_a_million_paths_takes_no_memory,
        the_longest_body_of_mistakes_and_ten_thousand_stamps_have_room,
        its_memory_never_exceeds_half_a_mebibyte,
        little_address_space_is_enough,
        memory_that_runs_out_ends_it_even_if_it_ignores_the_signal,
    ];
    test::tests(
        &Needs::root_and(&["chroot", "ldd", "pgrep", "strace"]),
        scenarios,
    )
    .collect()
}

static STD: LazyLock<PathBuf> = LazyLock::new(|| build(Build::Std));

/// The outcome of a run of the program.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: Option<i32>,
    warnings: String,
    /// The files of the stamps, with their kinds, their modes, and their texts without times.
    files: Vec<(String, String)>,
}

impl Outcome {
    fn is_touched(&self) -> bool {
        self.files.iter().any(|(_, text)| text.contains("by: rpm"))
    }
}

/// A root directory with the program in it.
struct Place(tempfile::TempDir);

impl Place {
    fn of(program: &Path) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        let script = r#"
            cd "$1"
            mkdir -p dev etc run var/lib bin
            cp -L /dev/null dev/null
            cp "$2" trigger
            copy() {
                for file in $(ldd "$1" | grep -o '/[^ ]*'); do
                    mkdir -p ".${file%/*}"
                    cp -L "$file" ".$file"
                done
            }
            copy "$2" || :
        "#;
        let mut prepare = Command::new("sh");
        prepare.args(["-ec", script, "sh"]).arg(place.0.path());
        support::run(prepare.arg(program));
        place.write("body", BODY);
        place
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(path), text).unwrap();
    }

    /// Runs a script for sh(1) in the root directory.
    fn sh(&self, script: &str) {
        let mut sh = Command::new("sh");
        support::run(sh.args(["-ec", script]).current_dir(self.0.path()));
    }

    /// Runs the program. `shell` stands before its command.
    fn run(&self, shell: &str, paths: &[u8]) -> Outcome {
        let script = format!("{shell} chroot . /trigger /body 1");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(self.0.path());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        let piped = Stdio::piped;
        let mut child = command
            .stdin(piped())
            .stdout(piped())
            .stderr(piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = stdin.write_all(paths); // It may leave before the end.
            });
            child.wait_with_output().unwrap()
        });
        Outcome {
            status: output.status.code(),
            warnings: String::from_utf8(output.stderr).unwrap(),
            files: self.files(),
        }
    }

    fn files(&self) -> Vec<(String, String)> {
        let directory = self.0.path().join("var/lib/modstamp");
        let entries = fs::read_dir(directory).into_iter().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let stat = entry.metadata().unwrap();
                let mode = stat.permissions().mode();
                let mut text = format!("{mode:o} ");
                if stat.is_file() && !stat.file_type().is_fifo() {
                    let content = fs::read(entry.path()).unwrap();
                    let content = String::from_utf8_lossy(&content).into_owned();
                    let lines = content.lines();
                    let lines = lines
                        .filter(|line| !line.starts_with("mtime: ") && !line.starts_with("when: "));
                    text.extend(lines);
                }
                (entry.file_name().to_string_lossy().into_owned(), text)
            })
            .collect();
        files.sort();
        files
    }
}

/// Runs both programs in the same circumstances. Returns their outcome, which has to be the same.
#[track_caller]
fn both(script: &str, shell: &str, paths: &[u8]) -> Outcome {
    let [ours, theirs] = [program(), &STD].map(|program| {
        let place = Place::of(program);
        place.sh(script);
        let outcome = place.run(shell, paths);
        place.sh("umount var/lib 2>/dev/null || :");
        outcome
    });
    assert_eq!(ours, theirs, "{script}");
    assert_eq!(ours.status, Some(0), "{ours:?}");
    ours
}

fn it_judges_paths_like_the_program_with_std() {
    for (paths, touches) in [
        ("", true),
        (PATH, true),
        ("/usr/lib64/qemu/a.so", true),
        ("/etc/a\n\n\n/usr/lib64/qemu-kvm/b\n", true),
        ("usr/lib64/qemu/a.so\n", true),
        ("//usr//lib64/.//./qemu\n", true),
        ("/usr/lib64/qemu/../a\n", true),
        ("/usr/lib64/x/../qemu/a\n", false),
        (
            "/usr/lib64/qemu-x/a.so\n/usr/lib64/qemu.so\n/usr/lib64\n/\n",
            false,
        ),
        ("./usr/lib64/qemu/a\n", true),
        ("../usr/lib64/qemu/a\n", false),
        ("/usr/lib64/qemu/\u{1b}[31m“é”\\\n", true),
    ] {
        let outcome = both("", "", paths.as_bytes());
        assert_eq!(outcome.is_touched(), touches, "{paths}");
        assert_eq!(outcome.warnings, "");
    }
    let outcome = both("", "", b"/usr/lib64/qemu/\xff\xfe\xc3.so\n");
    assert!(outcome.is_touched());
    let long = [b"/usr/lib64/qemu/".as_slice(), &[b'x'; 10_000]].concat();
    assert!(both("", "", &long).is_touched());
}

fn it_reads_bodies_like_the_program_with_std() {
    let stamps = "mkdir -p var/lib/modstamp; cd var/lib/modstamp
        touch a.stamp b.stamp -- -x.stamp \"$(printf '\\377').stamp\"; cd /";
    for (script, warning) in [
        ("rm body", "No such file or directory (os error 2)"),
        ("rm body; mkdir body", "Is a directory (os error 21)"),
        ("rm body; ln -s body body", "symbolic links (os error 40)"),
        ("rm body; mkfifo body", ""),
        (
            "rm body; echo > d; ln -s d/x body",
            "Not a directory (os error 20)",
        ),
        (
            "head -c 65537 /dev/zero > body",
            "File too large (os error 27)",
        ),
        ("printf -- '--profile' > body", "tells no profile"),
        (
            "printf -- '--profile ../x /usr' > body",
            "cannot be a profile",
        ),
        (
            "printf -- '--profile \\377 /usr' > body",
            "cannot be a profile",
        ),
        (
            "printf '/usr/lib64/qemu/./ x \\033[31m \\377\\n#/etc\\n' > body",
            "the body of rpm",
        ),
        ("printf '//usr//lib64' > body", ""),
        ("printf 'usr' > body", "it may have --profile NAME"),
    ] {
        let outcome = both(&format!("{script}; {stamps}"), "", PATH.as_bytes());
        assert!(outcome.warnings.contains(warning), "{script}: {outcome:?}");
        assert_eq!(
            warning.is_empty(),
            outcome.warnings.is_empty(),
            "{outcome:?}"
        );
    }
    assert!(!both("echo /etc > body", "", PATH.as_bytes()).is_touched());
}

fn it_meets_trouble_like_the_program_with_std() {
    let touched = "mkdir -p var/lib/modstamp; echo old > var/lib/modstamp/qemu.stamp";
    let lib = "mount -t tmpfs -o size=1M,nr_inodes=2 tmpfs var/lib";
    for (script, shell, warning) in [
        ("", "SOURCE_DATE_EPOCH=1", None),
        (touched, "SOURCE_DATE_EPOCH=1", None),
        ("", "SOURCE_DATE_EPOCH=x", None),
        ("", "exec <&- >&- 2>&-;", None),
        ("rm -r dev", "", None),
        (
            "mkdir -p etc/modstamp/profiles.d; touch etc/modstamp/profiles.d/qemu.toml",
            "",
            None,
        ),
        ("rmdir var/lib; ln -s ../srv var/lib; mkdir srv", "", None),
        (
            "rmdir var/lib; ln -s /../../srv var/lib; mkdir srv",
            "",
            None,
        ),
        (
            "rmdir var/lib; ln -s /srv var/lib",
            "",
            Some("No such file or directory"),
        ),
        (
            "rmdir var/lib; ln -s lib var/lib",
            "",
            Some("Too many levels of symbolic links"),
        ),
        (
            "rmdir var/lib; touch var/lib",
            "",
            Some("Not a directory (os error 20)"),
        ),
        ("chown 1000 var/lib", "", Some("belongs to user 1000")),
        ("chmod 777 var", "", Some("can be written by every user")),
        (
            "chgrp 7 var; chmod 775 var",
            "",
            Some("can be written by group 7"),
        ),
        (
            "rmdir var/lib; ln -s ../srv var/lib; mkdir srv; chown -h 9 var/lib",
            "",
            Some("user 9"),
        ),
        (
            "mkdir -p var/lib/modstamp/qemu.stamp",
            "",
            Some("is a directory, not a regular file"),
        ),
        (
            "mkdir var/lib/modstamp; mkfifo var/lib/modstamp/qemu.stamp",
            "",
            Some("is a FIFO"),
        ),
        (
            "mkdir var/lib/modstamp; ln -s x var/lib/modstamp/qemu.stamp",
            "",
            Some("symbolic link"),
        ),
        (
            "mkdir -p var/lib/modstamp/.qemu.lock",
            "",
            Some("cannot lock"),
        ),
        (
            "mkdir -p var/lib/modstamp/.qemu.stamp.new/x",
            "",
            Some("Directory not empty"),
        ),
        (
            "mkdir var/lib/modstamp; cd var/lib/modstamp; umask 77; touch .qemu.lock; ln .qemu.lock x",
            "",
            Some("Too many links (os error 31)"),
        ),
        (
            "mount -t tmpfs -o ro tmpfs var/lib",
            "",
            Some("Read-only file system (os error 30)"),
        ),
        (lib, "", Some("No space left on device (os error 28)")),
        ("mkdir var/lib/modstamp", "ulimit -f 0;", None),
        (touched, "ulimit -f 0;", None),
        (
            touched,
            "ulimit -n 4;",
            Some("Too many open files (os error 24)"),
        ),
    ] {
        for paths in ["/etc/a\n", PATH] {
            let outcome = both(script, shell, paths.as_bytes());
            if let (Some(warning), PATH) = (warning, paths) {
                let warnings = &outcome.warnings;
                assert!(warnings.contains(warning), "{script}: {warnings}");
            }
        }
    }
}

fn it_says_the_time_that_no_touch_stored() {
    let ahead = "mkdir var/lib/modstamp; cd var/lib/modstamp; umask 77; echo > .qemu.lock
        touch qemu.stamp; touch -d 2200-01-01 .qemu.lock; sleep 0.1";
    let outcome = both(ahead, "", PATH.as_bytes());
    let warning = "is more than a day ahead of the clock and the stamp";
    assert!(outcome.warnings.contains(warning), "{outcome:?}");
    assert!(outcome.is_touched());
}

fn it_waits_no_longer_for_a_lock_than_the_program_with_std() {
    let locked = "mkdir var/lib/modstamp; cd var/lib/modstamp; umask 77; touch .qemu.lock
        flock .qemu.lock sleep 20 >&- 2>&- <&- & sleep 0.5";
    let outcome = both(locked, "", PATH.as_bytes());
    assert!(outcome.warnings.contains("timed out"), "{outcome:?}");
    assert!(outcome.is_touched());
}

fn a_list_of_a_million_paths_takes_no_memory() {
    let place = Place::of(program());
    let paths = "/usr/share/doc/some/package/with/a/long/name/file\n".repeat(1_000_000);
    let outcome = place.run("ulimit -v 40000;", format!("{paths}{PATH}").as_bytes());
    assert_eq!(outcome.status, Some(0), "{}", outcome.warnings);
    assert!(outcome.is_touched());
}

fn the_longest_body_of_mistakes_and_ten_thousand_stamps_have_room() {
    let mistakes = "yes x | head -c 65536 > body";
    let outcome = both(mistakes, "", PATH.as_bytes());
    assert_eq!(outcome.warnings.lines().count(), 32_768);
    let place = Place::of(program());
    place.sh(
        "rm body; mount -t tmpfs tmpfs var/lib; mkdir var/lib/modstamp; cd var/lib/modstamp; seq -f %g.stamp 10000 | xargs touch",
    );
    let outcome = place.run("", PATH.as_bytes());
    assert_eq!(outcome.status, Some(0), "{}", outcome.warnings);
    let touched = outcome
        .files
        .iter()
        .filter(|(_, text)| text.contains("by: rpm"));
    let touched = touched.count();
    place.sh("umount var/lib");
    assert_eq!(touched, 10_000);
}

fn little_address_space_is_enough() {
    let place = Place::of(program());
    let outcome = place.run("ulimit -v 8000; ulimit -d 8000;", PATH.as_bytes());
    assert_eq!(outcome.status, Some(0), "{}", outcome.warnings);
    assert!(outcome.is_touched());
}

/// The signal of abort(3) may be ignored. The program would then run for ever, and rpm would wait.
fn memory_that_runs_out_ends_it_even_if_it_ignores_the_signal() {
    let place = Place::of(program());
    place.sh("yes x | head -c 65536 > body");
    let outcome = place.run("trap '' ABRT; ulimit -v 8000;", PATH.as_bytes());
    assert_eq!(outcome.status, Some(134), "{}", outcome.warnings);
    assert!(
        outcome.warnings.contains("run “modstamp touch”"),
        "{}",
        outcome.warnings
    );
}

/// strace holds the program at its exit. `VmHWM` there is the peak of the program itself, and not
/// that of the process before the program started.
fn its_memory_never_exceeds_half_a_mebibyte() {
    let place = Place::of(program());
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-e"]);
    strace.arg("inject=exit_group:delay_enter=60s");
    strace.args(["chroot", ".", "/trigger", "/body"]);
    strace.current_dir(place.0.path()).stdin(Stdio::piped());
    let mut strace = strace.spawn().unwrap();
    let paths = strace.stdin.take().unwrap();
    (&paths).write_all(PATH.as_bytes()).unwrap();
    let stamp = place.0.path().join("var/lib/modstamp/qemu.stamp");
    let begin = Instant::now();
    while !stamp.exists() && begin.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500)); // The program still ends its turn.
    let child = support::run(Command::new("pgrep").args(["-P", &strace.id().to_string()]));
    let status = fs::read_to_string(format!("/proc/{}/status", child.trim())).unwrap();
    strace.kill().unwrap();
    strace.wait().unwrap();
    support::run(Command::new("kill").args(["-KILL", child.trim()]));
    assert!(status.starts_with("Name:\ttrigger\n"), "{status}");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    println!("VmHWM is {peak} KiB");
    assert!(peak <= 512 || !is_without_std(), "{peak} KiB");
}
