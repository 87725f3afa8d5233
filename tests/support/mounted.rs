//! File systems of many kinds, for a test program in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// A directory with a file system of its own mounted on it.
pub struct Mounted(pub tempfile::TempDir);

impl Mounted {
    pub fn new(arguments: &[&str]) -> Mounted {
        let mounted = Mounted(tempfile::tempdir().unwrap());
        mounted.mount(arguments);
        mounted
    }

    pub fn tmpfs(options: &str) -> Mounted {
        Mounted::new(&["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// ext2 as it was made for small disks: inodes of 128 bytes keep whole seconds, until 2038.
    pub fn ext2() -> Mounted {
        Mounted::image(8, "mkfs.ext2", &["-q", "-I", "128"])
    }

    /// A new file system of so many megabytes, most of which are never written.
    pub fn image(megabytes: u64, mkfs: &str, arguments: &[&str]) -> Mounted {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(megabytes << 20).unwrap();
        run(Command::new(mkfs).args(arguments).arg(image.path()));
        // The loop device keeps the image until nothing of it is mounted any more.
        Mounted::new(&["-o", "loop", image.path().to_str().unwrap()])
    }

    /// An overlay over what `fill` writes into its lower directory.
    pub fn overlay(fill: impl FnOnce(&Path)) -> Mounted {
        let layers = Mounted::tmpfs("mode=755");
        let layer = |name| {
            let layer = layers.path().join(name);
            fs::create_dir(&layer).unwrap();
            layer
        };
        let (lower, upper, work) = (layer("lower"), layer("upper"), layer("work"));
        fill(&lower);
        let [lower, upper, work] = [lower, upper, work].map(|path| path.display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        // The overlay keeps its layers when they are no longer mounted.
        Mounted::new(&["-t", "overlay", "-o", &options, "overlay"])
    }

    pub fn mount(&self, arguments: &[&str]) {
        run(Command::new("mount").args(arguments).arg(self.0.path()));
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Unmounts it, and waits until it is unused: a child of another thread has its descriptors for
    /// a moment.
    pub fn end(self) {
        for _ in 0..1000 {
            let unmounted = Command::new("umount").arg(self.path()).output().unwrap();
            if unmounted.status.success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} is still used", self.path().display());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .output();
    }
}

/// A loop device that keeps its number until this is gone.
pub struct Loop(PathBuf);

impl Loop {
    pub fn of(image: &Path) -> Loop {
        let mut attach = Command::new("losetup");
        let name = run(attach.args(["--find", "--show"]).arg(image));
        Loop(PathBuf::from(name.trim_end()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}
