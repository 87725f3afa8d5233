//! Throw-away machines: Debian roots to which a test may do anything.
//!
//! mmdebstrap makes one base root for each release. apt makes one layer over it for each set of
//! packages. Both are kept outside the checkout, and so are the packages that apt fetched. A
//! machine is an overlay over them. It is made in no time, and gone with the test. All mounts are
//! in the mount namespace of the test program, so none is left even if the program is killed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{kept, run};

/// A machine that a test may do anything to.
pub struct Machine {
    pub root: PathBuf,
    scratch: Option<tempfile::TempDir>,
}

impl Machine {
    /// A machine of a Debian `suite` with `packages` beside the smallest set.
    pub fn new(suite: &str, packages: &[&str]) -> Machine {
        let lower = lower(suite, packages);
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
            "lowerdir={lower},upperdir={},workdir={}",
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

    /// Runs a shell script inside the machine, and returns its output. Panics if it fails.
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

    /// Tells why the witness in /srv is stale. `None` if it is fresh.
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

    /// The mtime of the system's stamp of a profile, in nanoseconds since 1970. `None` if there is
    /// no stamp.
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
        // What is still mounted must not be removed file by file: something of this machine's may
        // be below.
        if !gone.is_ok_and(|status| status.success()) {
            let _ = self.scratch.take().map(tempfile::TempDir::keep);
        }
    }
}

/// The lower directories of a machine with `packages`, in the form of overlayfs: the uppermost
/// first.
fn lower(suite: &str, packages: &[&str]) -> String {
    let base = base(suite);
    match packages {
        [] => base.display().to_string(),
        _ => format!(
            "{}:{}",
            layer(suite, &base, packages).display(),
            base.display()
        ),
    }
}

/// The smallest root of a release.
fn base(suite: &str) -> PathBuf {
    let script = r#"
        mmdebstrap --quiet --variant=minbase "$2" "$1"
    "#;
    made_once(suite, script, &[suite])
}

/// The layer that `packages` add to the base root.
fn layer(suite: &str, base: &Path, packages: &[&str]) -> PathBuf {
    let mut packages = packages.to_vec();
    packages.sort_unstable();
    let packages = packages.join(" ");
    // dpkg syncs often, which is cheap in memory. policy-rc.d keeps daemons from starting.
    let script = r#"
        layer=$1 base=$2 archives=$3 packages=$4
        mkdir -p "$archives"
        exec 9> "$archives/turn"
        flock 9 # apt does not wait for one that has the directory
        top=$(mktemp -d)
        mount -t tmpfs -o mode=755 tmpfs "$top"
        mkdir "$top/upper" "$top/work" "$top/root"
        mount -t overlay -o "lowerdir=$base,upperdir=$top/upper,workdir=$top/work" overlay "$top/root"
        cd "$top/root"
        mount -t proc proc proc
        mount -t tmpfs tmpfs run
        mount --bind "$archives" var/cache/apt/archives
        printf '#!/bin/sh\nexit 101\n' > usr/sbin/policy-rc.d
        chmod +x usr/sbin/policy-rc.d
        apt_get() {
            env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive \
                chroot . apt-get -qq -o APT::Keep-Downloaded-Packages=true "$@"
        }
        apt_get update
        apt_get install --no-install-recommends $packages
        rm usr/sbin/policy-rc.d
        find var/lib/apt/lists -type f -delete
        umount var/cache/apt/archives run proc
        cd /
        umount "$top/root"
        cp -a "$top/upper" "$layer"
        umount "$top"
        rmdir "$top"
    "#;
    let state = blake3::hash(format!("{packages}{script}").as_bytes()).to_hex();
    let name = format!("{suite}-{}", &state[..16]);
    let archives = kept().join(format!("archives-{suite}"));
    let arguments = [base, &archives, Path::new(&packages)];
    made_once(&name, script, &arguments)
}

/// Makes a directory by `script`, at its `$1`, unless it was made before. Of two callers at once,
/// one makes it.
fn made_once(name: &str, script: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> PathBuf {
    let at = kept().join("roots").join(name);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    let script = format!(
        "test -e \"$1\" && exit\nnew=$1.new; rm -rf \"$new\"\n(set -- \"$new\" \"${{@:2}}\"; {script})\nmv \"$new\" \"$1\""
    );
    run(Command::new("flock")
        .arg(at.with_extension("lock"))
        .args(["bash", "-euc", &script, "bash"])
        .arg(&at)
        .args(arguments));
    at
}
