//! A watch agrees with a whole check, whatever changes and by whichever name.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use filetime::FileTime;
use modstamp::{Profile, Root, Watch, Witness};
use rustix::event::{PollFd, PollFlags, Timespec};

/// A scratch root with a module directory, a program, a file and a stamp.
struct World(tempfile::TempDir);

/// In memory: an overlay, as in a container, does not tell of all changes.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let scratch = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    scratch.unwrap()
}

impl World {
    fn new() -> World {
        let world = World(scratch());
        for path in [
            "opt/x/modules/a.so",
            "opt/x/modules/sub/b.so",
            "usr/bin/x-one",
            "etc/x.conf",
            "var/lib/modstamp/x.stamp",
            "elsewhere/c.so",
        ] {
            world.write(path, "before");
        }
        symlink("/elsewhere/c.so", world.path("opt/x/modules/c.so")).unwrap();
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn profile(&self) -> Profile {
        let root = Root::open(self.0.path()).unwrap();
        let profile = Profile::new("x").unwrap().in_root(&root);
        let profile = profile.module_directories(["/opt/*/modules"]).unwrap();
        let profile = profile.programs(["/usr/bin/x-*"]).unwrap();
        profile.files(["/etc/x.conf"]).unwrap()
    }

    /// A watch that has called its witness fresh.
    fn watched(&self) -> (Watch, Witness) {
        let profile = self.profile();
        let witness = profile.observe().unwrap();
        let mut watch = profile.watch().unwrap();
        assert!(watch.check(&witness).unwrap().is_fresh());
        assert_eq!(watch.limit(), None);
        assert!(watch.check(&witness).unwrap().is_fresh());
        (watch, witness)
    }
}

/// Whether a main loop would wake up by the watch.
fn wakes(watch: &Watch) -> bool {
    let mut fds = [PollFd::new(watch, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut fds, Some(&now)).unwrap() > 0
}

/// Each change, by its name.
type Change = (&'static str, fn(&World));

const CHANGES: [Change; 22] = [
    ("a module is written", |it| {
        it.write("opt/x/modules/a.so", "after")
    }),
    ("a module is added below", |it| {
        it.write("opt/x/modules/sub/d.so", "new")
    }),
    ("a directory is added", |it| {
        it.write("opt/x/modules/new/d.so", "new")
    }),
    ("a module is removed", |it| {
        fs::remove_file(it.path("opt/x/modules/a.so")).unwrap()
    }),
    ("a module is replaced", |it| {
        it.write("spare", "after");
        it.rename("spare", "opt/x/modules/sub/b.so");
    }),
    ("a module is written with its time put back", |it| {
        let path = it.path("opt/x/modules/a.so");
        let times = FileTime::from_last_modification_time(&fs::metadata(&path).unwrap());
        it.write("opt/x/modules/a.so", "AFTER.");
        filetime::set_file_mtime(path, times).unwrap();
    }),
    ("a module's rights change", |it| {
        let rights = fs::Permissions::from_mode(0o600);
        fs::set_permissions(it.path("opt/x/modules/a.so"), rights).unwrap();
    }),
    ("the module directory's rights change", |it| {
        let rights = fs::Permissions::from_mode(0o711);
        fs::set_permissions(it.path("opt/x/modules"), rights).unwrap();
    }),
    ("a link's target is written", |it| {
        it.write("elsewhere/c.so", "after")
    }),
    ("a link's target goes", |it| {
        fs::remove_file(it.path("elsewhere/c.so")).unwrap()
    }),
    ("the directory of a link's target moves", |it| {
        it.rename("elsewhere", "nowhere")
    }),
    ("a link leads elsewhere", |it| {
        fs::remove_file(it.path("opt/x/modules/c.so")).unwrap();
        symlink("/nowhere", it.path("opt/x/modules/c.so")).unwrap();
    }),
    ("the module directory moves", |it| {
        it.rename("opt/x/modules", "opt/x/other")
    }),
    ("a directory above it moves", |it| it.rename("opt", "other")),
    ("a pattern matches one more directory", |it| {
        it.write("opt/y/modules/e.so", "new")
    }),
    ("a program comes", |it| it.write("usr/bin/x-two", "new")),
    ("a program is written", |it| {
        it.write("usr/bin/x-one", "after")
    }),
    ("a program goes", |it| {
        fs::remove_file(it.path("usr/bin/x-one")).unwrap()
    }),
    ("a file is truncated", |it| {
        let file = File::options().write(true).open(it.path("etc/x.conf"));
        file.unwrap().set_len(1).unwrap();
    }),
    ("a file goes with its directory", |it| {
        fs::remove_dir_all(it.path("etc")).unwrap()
    }),
    ("the stamp is touched by hand", |it| {
        let path = it.path("var/lib/modstamp/x.stamp");
        filetime::set_file_mtime(path, FileTime::from_unix_time(1, 0)).unwrap();
    }),
    ("the stamp goes", |it| {
        fs::remove_file(it.path("var/lib/modstamp/x.stamp")).unwrap()
    }),
];

#[test]
fn a_watch_sees_each_change_at_the_next_check() {
    for (name, change) in CHANGES {
        let world = World::new();
        let (mut watch, witness) = world.watched();
        assert!(!wakes(&watch), "{name}");
        change(&world);
        assert!(wakes(&watch), "{name}: the main loop slept");
        let (watched, whole) = (watch.check(&witness), witness.check(&world.profile()));
        assert_eq!(watched.unwrap(), whole.unwrap(), "{name}");
        assert!(!watch.check(&witness).unwrap().is_fresh(), "{name}");
    }
}

#[test]
fn a_watch_sees_a_write_by_a_name_or_a_descriptor_outside_of_the_module_directory() {
    let world = World::new();
    fs::create_dir(world.path("outside")).unwrap();
    fs::hard_link(world.path("opt/x/modules/a.so"), world.path("outside/a.so")).unwrap();
    let (mut watch, witness) = world.watched();
    let file = File::options().write(true).open(world.path("outside/a.so"));
    let file = file.unwrap();
    file.write_all_at(b"A", 0).unwrap();
    assert!(!watch.check(&witness).unwrap().is_fresh());
    file.write_all_at(b"b", 0).unwrap();
    assert!(watch.check(&witness).unwrap().is_fresh(), "it is as it was");
    fs::remove_file(world.path("outside/a.so")).unwrap();
    (&file).write_all(b"A").unwrap();
    assert!(!watch.check(&witness).unwrap().is_fresh());
}

#[test]
fn a_change_that_is_undone_is_fresh_again_and_unrelated_files_wake_nobody_up() {
    let world = World::new();
    let (mut watch, witness) = world.watched();
    for _ in 0..3 {
        world.rename("opt", "away");
        assert!(!watch.check(&witness).unwrap().is_fresh());
        assert!(!watch.check(&witness).unwrap().is_fresh(), "and still");
        world.rename("away", "opt");
        assert!(watch.check(&witness).unwrap().is_fresh());
    }
    world.write("var/lib/modstamp/.x.lock", "");
    world.write("etc/other.conf", "");
    assert!(watch.check(&witness).unwrap().is_fresh());
    assert!(!wakes(&watch));
}

#[test]
fn a_watch_judges_each_witness_by_itself() {
    let world = World::new();
    let profile = world.profile();
    let older = profile.observe().unwrap();
    world.write("opt/x/modules/a.so", "after");
    let newer = profile.observe().unwrap();
    let of_one = profile.observe_for("/usr/bin/x-one").unwrap();
    let mut watch = profile.watch().unwrap();
    for _ in 0..2 {
        assert!(!watch.check(&older).unwrap().is_fresh());
        assert!(watch.check(&newer).unwrap().is_fresh());
        assert!(watch.check(&of_one).unwrap().is_fresh());
    }
    world.write("usr/bin/x-two", "new");
    assert!(!watch.check(&newer).unwrap().is_fresh());
    assert!(watch.check(&of_one).unwrap().is_fresh());
    assert_eq!(watch.limit(), None);
}

#[test]
fn a_file_of_the_kernel_is_read_at_each_check_and_the_limit_is_told() {
    let world = World::new();
    let root = Root::system().unwrap();
    let modules = world.path("opt/x/modules");
    let modules = modules.to_str().unwrap();
    let profile = Profile::new("x-of-the-watch").unwrap().in_root(&root);
    let profile = profile.module_directories([modules]).unwrap();
    let host = world.path("etc/x.conf");
    let with_host = profile.clone().host([host.to_str().unwrap()]).unwrap();
    let witness = with_host.observe().unwrap();
    let mut watch = with_host.watch().unwrap();
    assert!(watch.check(&witness).unwrap().is_fresh());
    world.write("etc/x.conf", "after");
    assert!(!watch.check(&witness).unwrap().is_fresh());

    let with_proc = profile.files(["/proc/self/oom_score_adj"]).unwrap();
    let witness = with_proc.observe().unwrap();
    let mut watch = with_proc.watch().unwrap();
    assert!(watch.check(&witness).unwrap().is_fresh());
    let limit = watch.limit().unwrap();
    assert!(limit.contains("does not tell of all changes"), "{limit}");
    world.write("opt/x/modules/a.so", "after");
    assert!(!watch.check(&witness).unwrap().is_fresh());
}

#[test]
fn a_main_loop_wakes_up_while_it_waits() {
    let world = World::new();
    let (watch, _) = world.watched();
    let path = world.path("opt/x/modules/a.so");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        fs::write(path, "after").unwrap();
    });
    let fd = watch.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1));
    writer.join().unwrap();
}
