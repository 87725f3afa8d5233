//! A scratch root with something of everything that a profile watches, and that profile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use filetime::FileTime;
use modstamp::{Profile, Root, Verdict, Witness};
use rustix::fs::Mode;

use crate::{program, run};

/// The module directory, in the root.
pub const MODULES: &str = "usr/lib64/qemu";

/// One of the modules, in the root. At first it holds “before 1”.
pub const GTK: &str = "usr/lib64/qemu/ui-gtk.so";

/// The stamp, in the root. At first its time is [`STAMPED`], in seconds since 1970.
pub const STAMP: &str = "var/lib/modstamp/qemu.stamp";
pub const STAMPED: i64 = 1_600_000_000;

/// All files but the stamp, in the root. Contents are of one length, so that one can take another's
/// place unseen by stat.
const FILES: [(&str, &str); 18] = [
    ("usr/lib64/qemu/hw-display-qxl.so", "before 0"),
    ("usr/lib64/qemu/ui-gtk.so", "before 1"),
    ("usr/lib64/qemu/ui-sdl.so", "before 2"),
    ("usr/lib64/qemu/below/a.so", "before 1"),
    ("usr/lib64/qemu/below/b.so", "before 2"),
    ("usr/share/linked.so", "before 1"),
    ("usr/share/plugins/c.so", "before 1"),
    ("usr/share/plugins-2/c.so", "before 2"),
    ("usr/share/modules/m.so", "before 1"),
    ("usr/share/modules-2/m.so", "before 2"),
    ("usr/share/kvm-1", "before 1"),
    ("usr/share/kvm-2", "before 2"),
    ("opt/modules/o.so", "before 1"),
    ("opt/modules-2/o.so", "before 2"),
    ("usr/bin/qemu-system-arm", "before 2"),
    ("usr/bin/qemu-system-x86_64", "before 1"),
    ("etc/qemu/a.conf", "before 1"),
    ("etc/qemu/b.conf", "before 2"),
];

const LINKS: [(&str, &str); 6] = [
    ("usr/lib64/qemu/link.so", "/usr/share/linked.so"),
    ("usr/lib64/qemu/below/link.so", "../../../share/linked.so"),
    ("usr/lib64/qemu/plugins", "../../share/plugins"),
    ("usr/lib/qemu", "../share/modules"),
    ("usr/libexec/qemu-kvm", "/etc/alternatives/qemu-kvm"),
    ("etc/alternatives/qemu-kvm", "../../usr/share/kvm-1"),
];

/// An inode that changed so long before an observation is settled: its stat identity is evidence.
pub const SETTLED: Duration = Duration::from_secs(5);

/// A root directory that a test may do anything to.
pub struct World {
    pub profile: Profile,
    top: PathBuf,
    prepare: fn(&World),
    made: Instant,
    mounts: Mutex<Vec<PathBuf>>,
    scratch: Option<tempfile::TempDir>,
}

impl World {
    pub fn new() -> World {
        World::prepared(|_| ())
    }

    /// A world to which something is done before all else.
    pub fn prepared(prepare: fn(&World)) -> World {
        let scratch = tempfile::tempdir().unwrap();
        let mut world = World::on(scratch.path(), prepare);
        world.scratch = Some(scratch);
        world
    }

    /// A world on the file system that is mounted at `top`.
    pub fn on(top: &Path, prepare: fn(&World)) -> World {
        let root = top.join("root");
        fs::create_dir(&root).unwrap();
        let root = Root::open(&root).unwrap();
        let mut world = World {
            profile: Profile::built_in("qemu", &root).unwrap(),
            top: top.to_owned(),
            prepare,
            made: Instant::now(),
            mounts: Mutex::default(),
            scratch: None,
        };
        world.fill();
        world.profile = Profile::load_in("qemu", &root).unwrap();
        world.made = Instant::now();
        world
    }

    fn fill(&self) {
        rustix::process::umask(Mode::WGRP | Mode::WOTH); // Sentences tell permissions.
        let write = |path: &str, text: &str| {
            fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
            self.write(path, text);
        };
        for (path, text) in FILES {
            write(path, text);
        }
        let profile = "files = [\"/etc/qemu/*.conf\"]";
        write("etc/modstamp/profiles.d/qemu.toml", profile);
        write(STAMP, "");
        let stamped = FileTime::from_unix_time(STAMPED, 0);
        filetime::set_file_mtime(self.path(STAMP), stamped).unwrap();
        for (path, target) in LINKS {
            fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
            self.link(path, target);
        }
        (self.prepare)(self);
    }

    /// Makes all of it anew: other inodes and ctimes, and otherwise as it was.
    pub fn put_back(&self) {
        self.unmount();
        for entry in fs::read_dir(self.path("")).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        self.fill();
    }

    /// Waits until all that was there at first is settled.
    pub fn settle(&self) {
        std::thread::sleep(SETTLED.saturating_sub(self.made.elapsed()));
    }

    /// Outside the root, and on the same file system.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// The root, or a path in it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.top.join("root").join(below)
    }

    pub fn module(&self, name: &str) -> PathBuf {
        self.path(MODULES).join(name)
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// Makes a link. It replaces a file of that name.
    pub fn link(&self, path: &str, target: &str) {
        let _ = fs::remove_file(self.path(path));
        symlink(target, self.path(path)).unwrap();
    }

    pub fn set_permissions(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Runs `change` on the file at `path`, and puts its mtime back.
    pub fn keep_mtime(&self, path: &str, change: impl FnOnce()) {
        keep_mtime(&self.path(path), change);
    }

    /// Runs a shell script with the root as its working directory.
    pub fn sh(&self, script: &str) -> String {
        run(Command::new("sh")
            .args(["-euc", script])
            .current_dir(self.path("")))
    }

    /// Mounts something at a path in the root, until this is gone or [`World::unmount`] is called.
    pub fn mount(&self, arguments: &[&str], at: &str) {
        let at = self.path(at);
        run(Command::new("mount").args(arguments).arg(&at));
        self.mounts.lock().unwrap().push(at);
    }

    /// Ends all that was mounted.
    pub fn unmount(&self) {
        let mounts = std::mem::take(&mut *self.mounts.lock().unwrap());
        for at in mounts.iter().rev() {
            run(Command::new("umount").arg("--lazy").arg(at));
        }
    }

    /// A witness that went through its text, as a stored one does.
    pub fn observe(&self) -> Witness {
        let text = self.profile.observe().unwrap().to_string();
        text.parse().unwrap()
    }

    /// The verdict of now, which is the same whether or not the witness spared the walk a search.
    pub fn check(&self, before: &Witness) -> Verdict {
        let verdict = before.check(&self.profile).unwrap();
        assert_eq!(before.judge(&self.profile.inputs().unwrap()), verdict);
        verdict
    }

    /// The verdict on what was observed before `change`.
    pub fn verdict(&self, change: impl FnOnce(&World)) -> Verdict {
        let before = self.observe();
        change(self);
        self.check(&before)
    }

    /// The program, for a question about this root.
    pub fn modstamp(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("modstamp"));
        command.args(arguments).arg("--root").arg(self.path(""));
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.modstamp(arguments).output().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is still mounted must not be removed file by file.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.unmount())).is_err() {
            let _ = self.scratch.take().map(tempfile::TempDir::keep);
        }
    }
}

/// Runs `change` on the file at `path`, and puts its mtime back.
pub fn keep_mtime(path: &Path, change: impl FnOnce()) {
    let before = FileTime::from_last_modification_time(&fs::metadata(path).unwrap());
    change();
    filetime::set_file_mtime(path, before).unwrap();
}

/// What a verdict says, a line a reason.
pub fn sentences(verdict: &Verdict) -> Vec<String> {
    verdict.reasons_for_people(usize::MAX)
}

/// How many bytes `action` reads, in this thread: proc_pid_io(5).
pub fn bytes_read(action: impl FnOnce()) -> u64 {
    let so_far = || {
        let text = fs::read_to_string("/proc/thread-self/io").unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("rchar: "));
        count.unwrap().parse::<u64>().unwrap()
    };
    let before = so_far();
    action();
    so_far() - before
}
