//! Verbs that only look write nothing, whoever runs them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::mounted::Mounted;
use support::named;
use support::tally::Promise;
use support::test::{self, Test};

use crate::campaign;
use crate::injection;
use crate::scene::{AFTER, BEFORE, Programs, Scene};

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] =
    named![verbs_that_only_look_write_nothing_whoever_runs_them,];

pub fn tests() -> Vec<Test> {
    test::tests(&campaign::needs(), SCENARIOS).collect()
}

/// A command inside the scene: a program, and its arguments.
type Look = (&'static str, &'static [&'static str]);

const LOOKS: &[Look] = &[
    ("modstamp", &["observe"]),
    ("modstamp", &["observe", "--trust", "/usr/share/witness"]),
    ("modstamp", &["observe", "--profile", "nbdkit"]),
    ("modstamp", &["check", "/usr/share/witness"]),
    ("modstamp", &["check", "--json", "/usr/share/witness"]),
    ("modstamp", &["check", "/usr/share/body"]),
    ("modstamp", &["status"]),
    ("modstamp", &["status", "--json"]),
    ("modstamp", &["log"]),
    ("modstamp", &["libvirt", "status"]),
    ("modstamp", &["libvirt", "status", "--json"]),
    ("modstamp", &["libvirt", "evict", "--all", "--dry-run"]),
    ("calls", &["observe"]),
    ("calls", &["check", "/usr/share/witness"]),
    ("calls", &["disturbed", "/usr/share/witness"]),
];

/// Root, and the user whose home it is, or somebody else's.
const USERS: [u32; 3] = [0, 1000, 65534];

/// Directories that a verb could make, in the root.
const OWN: [&str; 4] = [
    "var/lib/modstamp",
    "var/cache",
    "home/me/.cache",
    "home/me/.local",
];

fn verbs_that_only_look_write_nothing_whoever_runs_them() {
    let mounted = Mounted::tmpfs("mode=755");
    let programs = Programs::build(mounted.path());
    let scene = Scene::new(&mounted.path().join("0"), &programs);
    give_home_to(&scene, 1000);
    for module in [BEFORE, AFTER] {
        scene.set_module(module);
        look_at(&scene);
    }
    for directory in OWN {
        let _ = fs::remove_dir_all(scene.host.path(directory));
    }
    look_at(&scene);
    let _ = fs::remove_dir_all(scene.host.path("home"));
    look_at(&scene);
}

fn give_home_to(scene: &Scene, user: u32) {
    let home = scene.host.path("home/me");
    let owner = format!("{user}:{user}");
    support::run(Command::new("chown").args(["-R", &owner]).arg(home));
}

fn look_at(scene: &Scene) {
    for user in USERS {
        for (program, arguments) in LOOKS {
            let before = listing(&scene.host.path(""));
            let log = trace(scene, user, program, arguments);
            let writes: Vec<String> = injection::calls(&log).filter_map(written).collect();
            let what = format!("{program} {arguments:?} of user {user}");
            assert_eq!(writes, Vec::<String>::new(), "{what}");
            assert_eq!(listing(&scene.host.path("")), before, "{what}");
            Promise::ReadersChangeNothing.held();
        }
    }
}

/// All calls of a program in the scene, after its start.
fn trace(scene: &Scene, user: u32, program: &str, arguments: &[&str]) -> String {
    let log = scene.scratch.join("trace");
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={user}:{user}"));
    command.arg(scene.host.path(""));
    command.arg(format!("/usr/libexec/modstamp/{program}"));
    command
        .args(arguments)
        .env("HOME", "/home/me")
        .env_remove("LD_LIBRARY_PATH");
    let input = scene.scratch.join("nothing");
    let ran = injection::run_traced(&command, &log, &input, &scene.scratch);
    let status = ran.code.unwrap_or(9);
    assert!(
        status <= 2 && !ran.err.contains("panicked"),
        "{command:?}: {ran:?}"
    );
    let log = fs::read_to_string(log).unwrap();
    let started = format!("execve(\"/usr/libexec/modstamp/{program}\"");
    let (_, log) = log
        .split_once(&started)
        .unwrap_or_else(|| panic!("{command:?}: {ran:?}"));
    log.to_owned()
}

/// A call that writes, or would have if it had not failed.
fn written((_, name, rest): (&str, &str, &str)) -> Option<String> {
    let call = format!("{name}({rest}");
    let is_standard = ["1,", "2,"].iter().any(|fd| rest.starts_with(fd));
    let changes = match name {
        "open" | "openat" | "openat2" => {
            let flags = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"];
            flags.iter().any(|flag| rest.contains(flag)) && !rest.contains("\"/dev/null\"")
        }
        "write" | "writev" => !is_standard,
        "creat" | "mkdir" | "mkdirat" | "rmdir" | "unlink" | "unlinkat" | "rename" | "renameat"
        | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" | "mknod" | "mknodat"
        | "chmod" | "fchmod" | "fchmodat" | "fchmodat2" | "chown" | "lchown" | "fchown"
        | "fchownat" | "utimensat" | "utime" | "utimes" | "futimesat" | "truncate"
        | "ftruncate" | "fallocate" | "setxattr" | "lsetxattr" | "fsetxattr" | "removexattr"
        | "lremovexattr" | "fremovexattr" | "pwrite64" | "pwritev" | "pwritev2"
        | "copy_file_range" | "sendfile" | "splice" | "flock" | "fsync" | "fdatasync"
        | "execve" | "socket" | "mount" | "umount2" | "setsid" => true,
        "mmap" => rest.contains("MAP_SHARED") && rest.contains("PROT_WRITE"),
        _ => false,
    };
    changes.then_some(call)
}

/// Each path, with all that a stat tells but the time of the last look.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let (mode, owner, group) = (stat.mode(), stat.uid(), stat.gid());
        let mtime = (stat.mtime(), stat.mtime_nsec());
        let ctime = (stat.ctime(), stat.ctime_nsec());
        let inode = (stat.ino(), stat.nlink(), stat.size());
        let facts = format!("{mode:o} {owner}:{group} {inode:?} {mtime:?} {ctime:?}");
        found.insert(path, facts);
    }
    found
}
