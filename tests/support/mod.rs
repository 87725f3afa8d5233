//! Throw-away machines: a root of Debian's that package managers can be let loose on.
//!
//! A base root is made once by mmdebstrap and kept outside the checkout, named after what it is made of. A machine is
//! an overlay over it: made in no time, written to as one likes, and gone with the test. All mounts are in a mount
//! namespace of the test program's own, so that nothing is left behind even where it is killed.
#![allow(dead_code, missing_docs)] // Each test program uses its own part of this.

pub mod consumer;
pub mod deb;
pub mod libvirt;
pub mod mounted;
pub mod rpm;
pub mod world;

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Completion, Failed, Trial};

/// Which of `programs` cannot be found, or that root is what is missing; `None` where all is there.
pub fn missing(programs: &[&str]) -> Option<String> {
    missing_of(&[programs, &[ROOT]].concat())
}

/// The need for root's rights.
pub const ROOT: &str = "root";

/// Which of `needs`, programs and perhaps root's rights, are not there; `None` where all is.
pub fn missing_of(needs: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = |need: &&&str| match **need {
        ROOT => rustix::process::geteuid().is_root(),
        program => path.split(':').any(|d| Path::new(d).join(program).exists()),
    };
    let missing: Vec<&str> = needs.iter().filter(|need| !found(need)).copied().collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Whether a test that lacks something is to fail, and not to be shown as ignored.
pub fn all_wanted() -> bool {
    std::env::var_os("MODSTAMP_TESTS").is_some_and(|value| value == "all")
}

/// One test. Where something is missing it is ignored, and says what it is; with MODSTAMP_TESTS=all it fails.
pub fn trial(
    name: impl Into<String>,
    missing: &Option<String>,
    scenario: impl FnOnce() + Send + 'static,
) -> Trial {
    let missing = missing.as_ref().map(|what| format!("missing: {what}"));
    Trial::ignorable_test(name, move || match missing {
        Some(missing) if all_wanted() => Err(Failed::from(missing)),
        Some(missing) => Ok(Completion::ignored_with(missing)),
        None => {
            scenario();
            Ok(Completion::Completed)
        }
    })
}

/// The names of functions with the functions.
#[macro_export]
macro_rules! named {
    ($($scenario:ident,)*) => { &[$((stringify!($scenario), $scenario as Scenario)),*] };
}

/// Runs the rest of the program in a mount namespace of its own. Call it first in `main`.
pub fn enter_own_mount_namespace() {
    const MARK: &str = "MODSTAMP_OWN_MOUNT_NAMESPACE";
    if std::env::var_os(MARK).is_none() {
        let own = std::env::current_exe().unwrap();
        let error = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(own)
            .args(std::env::args_os().skip(1))
            .env(MARK, "1")
            .exec();
        panic!("cannot start unshare(1) of util-linux: {error}");
    }
}

/// Where the programs are that `make` built.
pub fn release() -> PathBuf {
    let directory = std::env::var_os("MODSTAMP_RELEASE").expect("run this by `make bench`");
    PathBuf::from(directory)
}

/// The folder for what is slow to make and can be kept.
pub fn kept() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache =
        cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let kept = cache.join("modstamp-tests");
    std::fs::create_dir_all(&kept).unwrap();
    kept
}

/// Runs a script for bash, one at a time: `$1` is the directory `name` of what is kept, and `$tree` the working tree as git
/// sees it, as a tree object, without a trace in the repository. Returns the path that it printed, or else what it said and
/// the last lines of `$1/log`.
pub fn build_of_working_tree(name: &str, script: &str) -> Result<PathBuf, String> {
    const TREE: &str = r#"
        kept=$1
        objects=$(mktemp -d)
        trap 'rm -rf "$objects"' EXIT
        git() { command git -c safe.directory='*' "$@"; }
        export GIT_ALTERNATE_OBJECT_DIRECTORIES=$(git rev-parse --path-format=absolute --git-path objects)
        export GIT_OBJECT_DIRECTORY=$objects GIT_INDEX_FILE=$objects/index
        git add --all
        tree=$(git write-tree)
    "#;
    let kept = kept().join(name);
    std::fs::create_dir_all(&kept).unwrap();
    let output = Command::new("flock")
        .arg(kept.join("lock"))
        .args(["bash", "-euo", "pipefail", "-c"])
        .arg(format!("{TREE}{script}"))
        .arg("bash")
        .arg(&kept)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let log = std::fs::read_to_string(kept.join("log")).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(30).collect();
    let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(format!(
        "{}\n{last}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Runs a command and returns what it printed; panics with all of it where it fails.
pub fn run(command: &mut Command) -> String {
    let output: Output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    out
}

/// A machine that a test may do anything to.
pub struct Machine {
    pub root: PathBuf,
    scratch: Option<tempfile::TempDir>,
}

impl Machine {
    /// A machine of a Debian `suite` with `packages` on top of the smallest set.
    pub fn new(suite: &str, packages: &[&str]) -> Machine {
        let base = base(suite, packages);
        let scratch = tempfile::tempdir().unwrap();
        let upper = scratch.path().join("tmpfs");
        std::fs::create_dir(&upper).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"])
            .arg(&upper));
        for name in ["upper", "work", "root"] {
            std::fs::create_dir(upper.join(name)).unwrap();
        }
        let root = upper.join("root");
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            upper.join("upper").display(),
            upper.join("work").display()
        );
        run(Command::new("mount")
            .args(["-t", "overlay", "-o", &options, "overlay"])
            .arg(&root));
        for (kind, at) in [("proc", "proc"), ("tmpfs", "tmp"), ("tmpfs", "run")] {
            run(Command::new("mount")
                .args(["-t", kind, kind])
                .arg(root.join(at)));
        }
        Machine {
            root,
            scratch: Some(scratch),
        }
    }

    /// A command that runs inside the machine.
    pub fn command(&self, program: &str) -> Command {
        inside(&self.root, &[], program)
    }

    /// Runs a shell script inside the machine; returns what it printed. Panics where it fails.
    pub fn sh(&self, script: &str) -> String {
        run(self.command("/bin/sh").args(["-ec", script]))
    }

    /// Copies a file into the machine.
    pub fn put(&self, from: &Path, to: &str) {
        let to = self.root.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }

    /// Where what belongs to the machine is kept beside its root, gone with it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.with_file_name(name)
    }

    /// What runs in the machine now, by its root directory.
    pub fn processes(&self) -> Vec<rustix::process::Pid> {
        let top = self.root.parent().unwrap();
        let numbers = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.unwrap().path();
            let is_inside = std::fs::read_link(path.join("root")).ok()?.starts_with(top);
            let number = path.file_name()?.to_str()?.parse().ok()?;
            is_inside.then_some(number)
        });
        numbers.filter_map(rustix::process::Pid::from_raw).collect()
    }

    /// Keeps a witness of now, as a reader would that fills its cache.
    pub fn observe(&self) {
        self.sh("modstamp observe --profile qemu > /srv/witness");
        assert_eq!(self.check(), None);
    }

    /// Why the kept witness is stale; `None` where it is fresh.
    pub fn check(&self) -> Option<String> {
        let mut command = self.command("modstamp");
        let output = command.args(["check", "/srv/witness"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => None,
            Some(1) => Some(text),
            status => panic!("check: {status:?}, {output:?}"),
        }
    }

    /// Whether QEMU's stamp moves while `action` runs. It never goes back.
    pub fn moves<T>(&self, action: impl FnOnce() -> T) -> bool {
        let before = self.stamp("qemu");
        action();
        let after = self.stamp("qemu");
        assert!(
            after >= before,
            "the stamp went back from {before:?} to {after:?}"
        );
        after > before
    }

    /// The mtime of the system's stamp of a profile, in nanoseconds since 1970; `None` where there is no stamp.
    pub fn stamp(&self, profile: &str) -> Option<i128> {
        let path = self.root.join(format!("var/lib/modstamp/{profile}.stamp"));
        let stat = std::fs::symlink_metadata(path).ok()?;
        Some(i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec()))
    }
}

/// A command that runs inside a root directory; chroot(8) has the options.
pub fn inside(root: &Path, options: &[&str], program: &str) -> Command {
    let mut command = Command::new("chroot");
    command
        .args(options)
        .arg(root)
        .arg(program)
        .env_clear()
        .env("HOME", "/root")
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

impl Drop for Machine {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
        let top = self.root.parent().unwrap();
        let gone = Command::new("umount")
            .args(["--recursive", "--lazy"])
            .arg(top)
            .status();
        // What is still mounted must not be removed file by file: something of this machine's may be below.
        if !gone.is_ok_and(|status| status.success()) {
            let _ = self.scratch.take().map(tempfile::TempDir::keep);
        }
    }
}

/// The base root: made by mmdebstrap the first time, found the next.
fn base(suite: &str, packages: &[&str]) -> PathBuf {
    let mut packages = packages.to_vec();
    packages.sort_unstable();
    let include = packages.join(",");
    let name = format!(
        "{suite}-{}",
        &blake3::hash(include.as_bytes()).to_hex()[..16]
    );
    let base = kept().join(&name);
    // Two test programs may want the same one at once: flock(1) lets one make it.
    let script = r#"
        test -e "$1" && exit
        rm -rf "$1.new"
        mmdebstrap --quiet --variant=minbase --include="$3" "$2" "$1.new"
        mv "$1.new" "$1"
    "#;
    run(Command::new("flock")
        .arg(kept().join(format!("{name}.lock")))
        .args(["sh", "-ec", script, "sh"])
        .arg(&base)
        .args([suite, &include]));
    base
}
