//! A model's world on real files: what its actors do, done by real calls.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use filetime::FileTime;
use modstamp::{Durability, Mtime, Profile, Root, Stamp};
use support::mounted::Mounted;
use support::tally::Promise;

use super::protocol::{Action, Time, Unsynced, World};

/// A directory for all worlds, with the module directories on a file system of whole seconds.
pub struct Lab {
    top: Mounted,
    /// Holds the stamps, too, of worlds with stamps of whole seconds.
    seconds: Mounted,
}

impl Lab {
    pub fn new() -> Lab {
        let top = Mounted::tmpfs("mode=755");
        // Inodes of 128 bytes keep whole seconds.
        let seconds = Mounted::image(64, "mkfs.ext2", &["-q", "-I", "128"]);
        let below = top.path().join("modules");
        fs::create_dir(&below).unwrap();
        let bind = ["--bind", seconds.path().to_str().unwrap()];
        support::run(Command::new("mount").args(bind).arg(&below));
        fs::create_dir(seconds.path().join("modules")).unwrap();
        Lab { top, seconds }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let below = self.top.path().join("modules");
        let _ = Command::new("umount").arg("--lazy").arg(below).output();
    }
}

/// The clock of a world.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// A tick lasts so many seconds.
    Real { tick: u64 },
    /// A tick takes no time. A touch by hand sets a time that this second begins.
    Unreal { begin: i64 },
}

impl Clock {
    /// Waits for the next tick.
    pub fn tick(self) {
        let Clock::Real { tick } = self else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let next = Duration::from_secs((now.as_secs() / tick + 1) * tick);
        // The kernel's coarse clock is some milliseconds behind.
        thread::sleep(next - now + Duration::from_millis(20));
    }

    /// The time that a plain touch(1) by hand leaves.
    fn by_hand(self, time: Time) -> FileTime {
        let begin = match self {
            // In the real time's tick, whatever the model's is.
            Clock::Real { tick } if time.era == 0 => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                return FileTime::from_unix_time((now.as_secs() / tick * tick) as i64, 0);
            }
            // Nobody can set back the real clock. A touch by hand can leave an earlier time.
            Clock::Real { .. } => 1_500_000_000,
            Clock::Unreal { begin } => begin,
        };
        FileTime::from_unix_time(
            begin + 2 * i64::from(time.tick),
            u32::from(time.era) * 1_000_000 + u32::from(time.nanoseconds),
        )
    }
}

/// One model's world on real files.
pub struct Real {
    pub profile: Profile,
    pub clock: Clock,
    pub stamp: Stamp,
    /// The root directory, as seen from outside.
    pub root: PathBuf,
    pub name: String,
    modules: PathBuf,
    /// Whether each change sets an mtime, as package managers do. Then no write can be under way,
    /// and an identity is evidence as soon as its tick is over.
    pub sets_mtimes: bool,
    /// The latest time that a touch left.
    highest: Option<Mtime>,
    /// The stamp that a power loss leaves.
    durable: Option<FileTime>,
}

/// How a touch by modstamp ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending {
    Synced,
    NotSynced,
    /// It is killed as soon as the new time is remembered.
    Killed,
}

impl Real {
    /// A world with one module and a stamp, both older than a tick. `settle` waits for that tick.
    pub fn new(lab: &Lab, number: usize, whole_seconds: bool, clock: Clock) -> Real {
        let top = match whole_seconds {
            true => lab.seconds.path(),
            false => lab.top.path(),
        };
        let name = format!("w{number}");
        let profiles = top.join("etc/modstamp/profiles.d");
        fs::create_dir_all(&profiles).unwrap();
        // Without real ticks an observation must not wait for whole seconds.
        let (modules, below) = match (clock, whole_seconds) {
            (Clock::Unreal { .. }, _) => (top.join(&name), String::new()),
            (_, true) => (top.join("modules").join(&name), "/modules".to_owned()),
            (_, false) => (lab.seconds.path().join(&name), "/modules".to_owned()),
        };
        let text = format!("module-directories = [\"{below}/{name}\"]");
        fs::write(profiles.join(format!("{name}.toml")), text).unwrap();
        let root = Root::open(top).unwrap();
        fs::create_dir(&modules).unwrap();
        let real = Real {
            profile: Profile::load_in(&name, &root).unwrap(),
            clock,
            stamp: Stamp::system(&root, &name).unwrap(),
            root: top.to_owned(),
            name,
            modules,
            sets_mtimes: true,
            highest: None,
            durable: None,
        };
        real.write(0, 1);
        real
    }

    /// Makes the first touch, at the model's tick 0.
    pub fn begin(&mut self) {
        self.touch(Ending::Synced);
        let begin = match self.clock {
            Clock::Real { .. } => self.stamp_time().unwrap(),
            Clock::Unreal { begin } => FileTime::from_unix_time(begin, 0),
        };
        for path in [self.stamp.path(), self.lock()] {
            filetime::set_file_mtime(path, begin).unwrap();
        }
        self.durable = Some(begin);
        self.highest = self.stamp.mtime().unwrap();
    }

    /// Does what the surroundings do in this action of the model, if they do anything.
    pub fn imitate(&mut self, action: Action, before: &World) {
        match action {
            Action::Tick => self.clock.tick(),
            Action::Change(module, content) => self.change(module, content),
            Action::Redeploy(module) => self.lay(module, before.tree.modules[module].content),
            Action::HandTouch => self.touch_by_hand(before.clock),
            Action::RemoveStamp => self.remove_stamp(),
            Action::PowerLoss(unsynced) => self.lose_power(unsynced),
            _ => {}
        }
    }

    fn module(&self, module: usize) -> PathBuf {
        self.modules.join(["a.so", "b.so"][module])
    }

    pub fn lock(&self) -> PathBuf {
        let stamp = self.stamp.path();
        stamp.with_file_name(format!(".{}.lock", self.name))
    }

    fn write(&self, module: usize, content: u8) {
        fs::write(self.module(module), content.to_string()).unwrap();
        self.set_mtime(&self.module(module));
    }

    /// Sets the same mtime each time. So only the ctime tells a change.
    fn set_mtime(&self, path: &Path) {
        if self.sets_mtimes {
            filetime::set_file_mtime(path, FileTime::from_unix_time(1_000_000_000, 0)).unwrap();
        }
    }

    /// The content of a module: 0 if it is absent.
    pub fn content(&self, module: usize) -> u8 {
        let text = fs::read_to_string(self.module(module));
        text.map_or(0, |text| text.parse().unwrap())
    }

    /// Gives a module a content, in place.
    fn change(&self, module: usize, content: u8) {
        match content {
            0 => self.remove(module),
            _ => self.write(module, content),
        }
    }

    /// Removes a module. Moves the directory's ctime even if there is none, as the model does.
    fn remove(&self, module: usize) {
        let path = self.module(module);
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        fs::remove_file(path).unwrap();
    }

    /// Gives a module a content, by rename.
    pub fn lay(&self, module: usize, content: u8) {
        if content == 0 {
            return self.remove(module);
        }
        let spare = self.modules.with_extension("spare");
        fs::write(&spare, content.to_string()).unwrap();
        self.set_mtime(&spare);
        fs::rename(&spare, self.module(module)).unwrap();
    }

    /// Touches the stamp by modstamp.
    ///
    /// # Panics
    /// If the time is not later than all before.
    pub fn touch(&mut self, ending: Ending) {
        let durability = match ending {
            Ending::Killed => return self.killed_touch(),
            Ending::Synced => Durability::Synced,
            Ending::NotSynced => Durability::NotSynced,
        };
        let mtime = self.stamp.touch("a replay", "", durability);
        let mtime = mtime.unwrap().unwrap();
        assert_eq!(self.stamp.mtime().unwrap(), Some(mtime));
        let highest = self.highest.replace(mtime);
        assert!(Some(mtime) > highest, "{mtime} after {highest:?}");
        if ending == Ending::Synced {
            self.durable = self.stamp_time();
        }
        Promise::StampKept.held();
    }

    /// Kills `modstamp touch` as it is about to put the new stamp in place.
    fn killed_touch(&self) {
        let before = self.stamp.mtime().unwrap();
        let calls = "renameat,renameat2";
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
        strace.args([&format!("trace={calls}"), "-e"]);
        strace.arg(format!("inject={calls}:signal=SIGKILL"));
        strace.arg(support::program("modstamp")).arg("touch");
        strace.arg("--root").arg(&self.root);
        strace.args(["--profile", &self.name]);
        let status = strace.stderr(Stdio::null()).status().unwrap();
        assert!(!status.success(), "the touch was not killed");
        assert_eq!(self.stamp.mtime().unwrap(), before);
        Promise::StampKept.held();
    }

    /// A plain touch(1) of the stamp.
    fn touch_by_hand(&mut self, time: Time) {
        self.set_stamp(Some(self.clock.by_hand(time)));
    }

    fn set_stamp(&self, time: Option<FileTime>) {
        let path = self.stamp.path();
        let Some(time) = time else {
            return drop(fs::remove_file(path));
        };
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        filetime::set_file_mtime(path, time).unwrap();
    }

    fn remove_stamp(&self) {
        fs::remove_file(self.stamp.path()).unwrap();
    }

    fn stamp_time(&self) -> Option<FileTime> {
        let meta = fs::symlink_metadata(self.stamp.path()).ok()?;
        Some(FileTime::from_unix_time(
            meta.mtime(),
            meta.mtime_nsec() as u32,
        ))
    }

    /// Leaves the files that a power loss leaves.
    fn lose_power(&mut self, unsynced: Unsynced) {
        if unsynced == Unsynced::Lost {
            self.set_stamp(self.durable);
            let _ = fs::remove_file(self.lock());
            self.highest = self.stamp.mtime().unwrap();
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.modules);
        let _ = fs::remove_file(self.modules.with_extension("spare"));
    }
}
