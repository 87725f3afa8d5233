//! A scratch root with a few modules, its profile, and the changes that are made in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use filetime::FileTime;
use modstamp::{Profile, Root, Witness};

const MODULES: [&str; 4] = [
    "usr/lib64/qemu/audio-alsa.so",
    "usr/lib64/qemu/hw-display-qxl.so",
    "usr/lib64/qemu/ui-gtk.so",
    "usr/lib64/qemu/below/accel-tcg.so",
];

/// Later than this after a change, stat identities are evidence.
const SETTLED: Duration = Duration::from_millis(3500);

/// A root directory that a target may do anything to.
pub struct World {
    top: PathBuf,
    pub profile: Profile,
}

impl World {
    /// Makes a world below `directory`. `name` is its profile's.
    pub fn new(directory: &Path, name: &str) -> World {
        let top = directory.join(name);
        fs::create_dir(&top).unwrap();
        let root = Root::open(&top).unwrap();
        let profile = Profile::new(name).unwrap().in_root(&root);
        let profile = profile.module_directories(["/usr/lib64/qemu"]).unwrap();
        let profile = profile.programs(["/usr/bin/qemu-system-*"]).unwrap();
        let profile = profile.files(["/etc/qemu/*.conf"]).unwrap();
        let world = World { top, profile };
        for module in MODULES {
            world.write(module, "a module");
        }
        world.write("usr/bin/qemu-system-x86_64", "a program");
        world.write("etc/qemu/a.conf", "a file");
        world.write(&world.stamp(), "");
        world.link("/usr/share/first.so", "usr/lib64/qemu/link.so");
        world.write("usr/share/first.so", "one");
        world.write("usr/share/second.so", "two");
        world
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.top.join(below)
    }

    /// The stamp, in the root.
    pub fn stamp(&self) -> String {
        format!("var/lib/modstamp/{}.stamp", self.profile.name())
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, target: &str, at: &str) {
        let _ = fs::remove_file(self.path(at));
        symlink(target, self.path(at)).unwrap();
    }

    /// Takes a witness, makes a change, and remembers both.
    pub fn changed_by(self, change: Change) -> Changed {
        let before = self.profile.observe().unwrap();
        change.make(&self);
        let after = self.profile.observe().unwrap();
        let verdict = before.check(&self.profile).unwrap();
        assert!(!verdict.is_fresh(), "{change:?} is not seen");
        Changed {
            facts: Facts::between(&before.to_string(), &after.to_string()),
            world: self,
            before,
        }
    }
}

/// A change of what an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    ModuleRewritten,
    ModuleBelowRewritten,
    ModuleAdded,
    ModuleRemoved,
    ModuleShut,
    LinkRedirected,
    DirectoryGone,
    ProgramRewritten,
    ProgramAdded,
    FileRewritten,
    StampTouched,
}

impl Change {
    pub const ALL: [Change; 11] = [
        Change::ModuleRewritten,
        Change::ModuleBelowRewritten,
        Change::ModuleAdded,
        Change::ModuleRemoved,
        Change::ModuleShut,
        Change::LinkRedirected,
        Change::DirectoryGone,
        Change::ProgramRewritten,
        Change::ProgramAdded,
        Change::FileRewritten,
        Change::StampTouched,
    ];

    /// Makes the change. A rewritten file keeps its size and its mtime.
    pub fn make(self, world: &World) {
        match self {
            Change::ModuleRewritten => rewrite(&world.path(MODULES[1]), "A MODULE"),
            Change::ModuleBelowRewritten => rewrite(&world.path(MODULES[3]), "A MODULE"),
            Change::ModuleAdded => world.write("usr/lib64/qemu/zz-added-later.so", "a module"),
            Change::ModuleRemoved => fs::remove_file(world.path(MODULES[2])).unwrap(),
            Change::ModuleShut => {
                let shut = fs::Permissions::from_mode(0o4711);
                fs::set_permissions(world.path(MODULES[0]), shut).unwrap();
            }
            Change::LinkRedirected => world.link("/usr/share/second.so", "usr/lib64/qemu/link.so"),
            Change::DirectoryGone => fs::remove_dir_all(world.path("usr/lib64/qemu")).unwrap(),
            Change::ProgramRewritten => {
                rewrite(&world.path("usr/bin/qemu-system-x86_64"), "A PROGRAM");
            }
            Change::ProgramAdded => world.write("usr/bin/qemu-system-added-later", "a program"),
            Change::FileRewritten => rewrite(&world.path("etc/qemu/a.conf"), "A FILE"),
            Change::StampTouched => {
                let time = FileTime::from_unix_time(1_234_567_891, 987_654_321);
                filetime::set_file_mtime(world.path(&world.stamp()), time).unwrap();
            }
        }
    }
}

fn rewrite(path: &Path, content: &str) {
    let before = FileTime::from_last_modification_time(&fs::metadata(path).unwrap());
    fs::write(path, content).unwrap();
    filetime::set_file_mtime(path, before).unwrap();
}

/// A world after a change, and a witness from before it.
pub struct Changed {
    pub world: World,
    pub before: Witness,
    facts: Facts,
}

impl Changed {
    /// Like [`Facts::expect_stale`].
    #[track_caller]
    pub fn expect_stale(&self, is_fresh: bool, text: &[u8]) {
        self.facts.expect_stale(is_fresh, text);
    }
}

/// The facts that tell the world after a change from the one before it.
pub struct Facts {
    /// The words that only the later witness has.
    new: Vec<String>,
    /// The names that only the earlier witness has.
    gone: Vec<String>,
}

impl Facts {
    /// The facts that differ between the texts of two witnesses.
    pub fn between(before: &str, after: &str) -> Facts {
        let words = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with("end "));
            let words = lines.flat_map(|line| line.split([' ', '.', '~']));
            words.map(str::to_lowercase).collect()
        };
        let names = |text: &str| -> Vec<String> {
            let names = text.lines().filter_map(|line| line.rsplit(' ').next());
            let names = names.filter(|name| name.ends_with(".so") || name.starts_with('/'));
            names.map(str::to_owned).collect()
        };
        let (old_words, names_now) = (words(before), names(after));
        let mut new = words(after);
        new.retain(|word| word.len() > 2 && !old_words.contains(word));
        let mut gone = names(before);
        gone.retain(|name| !names_now.contains(name));
        Facts { new, gone }
    }

    /// Checks that a verdict on the changed world is stale. `text` is what the verdict rests on.
    ///
    /// A text that has facts of the changed world is a witness of that, and may be fresh.
    ///
    /// # Panics
    /// If the verdict is fresh.
    #[track_caller]
    pub fn expect_stale(&self, is_fresh: bool, text: &[u8]) {
        if is_fresh && !self.are_in(text) {
            let text = String::from_utf8_lossy(text);
            panic!("this is called fresh about a changed world:\n{text}");
        }
    }

    /// Whether a text has a fact of the later world, or lacks a name of the earlier one.
    fn are_in(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let lower = text.to_lowercase();
        let ends_a_line = |name: &String| text.contains(&format!(" {name}\n"));
        self.new.iter().any(|word| lower.contains(word)) || !self.gone.iter().all(ends_a_line)
    }
}

/// Waits until all that was made so far is settled.
pub fn settle() {
    std::thread::sleep(SETTLED);
}
