//! The stamp and the witness on file systems that are coarse, full or read-only, and against other users. These tests need
//! root: they mount file systems, in a mount namespace of their own, and become another user.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::Arguments;
use modstamp::{Durability, Mtime, Profile, Root, Stamp};
use support::mounted::{Loop, Mounted};
use support::world::{SETTLED, World, sentences};

const PROGRAMS: [&str; 9] = [
    "debugfs",
    "losetup",
    "mkfs.ext2",
    "mkfs.ext4",
    "mknod",
    "mount",
    "setpriv",
    "strace",
    "unshare",
];

fn main() {
    let mut arguments = Arguments::from_args();
    let missing = support::missing(&PROGRAMS);
    if missing.is_none() {
        support::enter_own_mount_namespace();
    }
    // Most of the time they wait until something has settled.
    arguments.test_threads.get_or_insert(8);
    let trials = SCENARIOS
        .iter()
        .map(|(name, scenario)| support::trial(*name, &missing, *scenario));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_touch_moves_the_stamp_where_whole_seconds_are_kept,
    a_stamp_that_is_as_late_as_its_file_system_can_store_says_so,
    a_full_file_system_does_not_keep_the_stamp_from_moving,
    a_full_file_system_without_a_stamp_says_so,
    a_read_only_file_system_says_so,
    a_read_only_cache_just_runs_the_command,
    a_full_cache_serves_whole_answers,
    a_stamp_that_is_a_device_is_refused,
    a_touch_by_hand_in_the_midst_of_a_touch_is_passed,
    a_touch_that_is_killed_has_remembered_its_time,
    another_user_can_not_hold_the_lock_of_the_systems_stamp,
    another_user_can_not_bend_the_way_to_the_stamp,
    another_user_moves_a_stamp_of_their_own_and_not_the_systems,
    another_device_number_for_the_same_file_system_is_fresh,
    an_empty_directory_that_only_others_can_read_is_stale_with_that_reason,
    files_mounted_over_modules_are_told_apart_when_they_swap,
    module_directories_beyond_the_limit_of_open_files_are_all_seen,
    the_same_image_is_fresh_and_another_with_the_same_times_is_stale,
];

fn stamp_on(disk: &Mounted) -> Stamp {
    Stamp::system(&Root::open(disk.path()).unwrap(), "qemu").unwrap()
}

fn touch(stamp: &Stamp) -> modstamp::Result<Mtime> {
    stamp.touch("a test", "", Durability::Synced)
}

fn a_touch_moves_the_stamp_where_whole_seconds_are_kept() {
    let disk = Mounted::ext2();
    let stamp = stamp_on(&disk);
    let mut last = touch(&stamp).unwrap();
    assert_eq!(
        last.nanoseconds, 0,
        "this file system was to keep whole seconds"
    );
    for _ in 0..20 {
        let next = touch(&stamp).unwrap();
        assert!(
            next > last && stamp.mtime().unwrap() == Some(next),
            "{next} after {last}"
        );
        last = next;
    }
    // Also after it was gone for a moment, within the same second.
    fs::remove_file(stamp.path()).unwrap();
    assert!(touch(&stamp).unwrap() > last);
}

fn a_stamp_that_is_as_late_as_its_file_system_can_store_says_so() {
    let disk = Mounted::ext2();
    touch(&stamp_on(&disk)).unwrap();
    let path = stamp_on(&disk).path();
    support::run(Command::new("touch").args(["-d", "2100-01-01"]).arg(&path));
    let latest = stamp_on(&disk).mtime().unwrap();
    let error = touch(&stamp_on(&disk)).unwrap_err().to_string();
    assert!(
        error.contains("its file system stores no later time; remove the stamp"),
        "{error}"
    );
    assert_eq!(stamp_on(&disk).mtime().unwrap(), latest);
}

fn fill(directory: &Path) {
    let mut file = fs::File::create(directory.join("fill")).unwrap();
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    let mut number = 0;
    while fs::File::create(directory.join(format!("inode{number}"))).is_ok() {
        number += 1;
    }
}

fn a_full_file_system_does_not_keep_the_stamp_from_moving() {
    let disk = Mounted::tmpfs("size=64k,nr_inodes=32");
    let mut last = touch(&stamp_on(&disk)).unwrap();
    fill(disk.path());
    for _ in 0..5 {
        let next = touch(&stamp_on(&disk)).unwrap();
        assert!(next > last);
        last = next;
    }
}

fn a_full_file_system_without_a_stamp_says_so() {
    let disk = Mounted::tmpfs("size=64k,nr_inodes=32");
    fill(disk.path());
    let error = touch(&stamp_on(&disk)).unwrap_err().to_string();
    assert!(
        error.contains("/var/lib/modstamp/qemu.stamp: No space left on device"),
        "{error}"
    );
}

fn a_read_only_file_system_says_so() {
    let disk = Mounted::tmpfs("size=1m");
    let before = touch(&stamp_on(&disk)).unwrap();
    disk.mount(&["-o", "remount,ro"]);
    let error = touch(&stamp_on(&disk)).unwrap_err().to_string();
    assert!(
        error.contains("Read-only file system") && error.contains("touch again once"),
        "{error}"
    );
    assert_eq!(stamp_on(&disk).mtime().unwrap(), Some(before));
}

fn a_read_only_cache_just_runs_the_command() {
    let disk = Mounted::tmpfs("size=1m");
    fs::create_dir(disk.path().join("cache")).unwrap();
    disk.mount(&["-o", "remount,ro"]);
    let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    run.args(["run", "--cache"]).arg(disk.path().join("cache"));
    let output = run.args(["--", "echo", "answer"]).output().unwrap();
    assert_eq!(output.stdout, b"answer\n");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("Read-only file system") && text.contains("without a cache"),
        "{text}"
    );
}

fn a_full_cache_serves_whole_answers() {
    let disk = Mounted::tmpfs("size=256k,nr_inodes=64");
    fs::create_dir_all(disk.path().join("usr/lib64/qemu")).unwrap();
    fs::write(disk.path().join("usr/lib64/qemu/a.so"), "").unwrap();
    let ask = || {
        let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        run.args(["run", "--root"])
            .arg(disk.path())
            .arg("--cache")
            .arg(disk.path().join("cache"));
        run.args(["--", "seq", "10000"]).output().unwrap().stdout
    };
    let whole = ask();
    assert_eq!(whole.len(), 48894);
    // Once what changed just now is evidence, a hit keeps the answer anew, and there is room for half of it.
    std::thread::sleep(std::time::Duration::from_secs(5));
    fill(disk.path());
    fs::remove_file(disk.path().join("inode0")).unwrap();
    let filling = fs::File::options()
        .write(true)
        .open(disk.path().join("fill"))
        .unwrap();
    filling
        .set_len(filling.metadata().unwrap().len() - (24 << 10))
        .unwrap();
    for _ in 0..2 {
        assert!(ask() == whole);
    }
}

/// Starts a touch, and does to the step that makes it seen what strace(1) calls `injection`.
fn touch_with(disk: &Mounted, injection: &str) -> std::process::Child {
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "-e"]);
    strace.arg(format!("inject=renameat2:{injection}"));
    strace.args([env!("CARGO_BIN_EXE_modstamp"), "touch", "--root"]);
    strace.arg(disk.path()).spawn().unwrap()
}

fn touch_an_hour_ahead(stamp: &Stamp) -> Mtime {
    let mut touch = Command::new("touch");
    support::run(touch.args(["-d", "1 hour"]).arg(stamp.path()));
    stamp.mtime().unwrap().unwrap()
}

fn a_touch_by_hand_in_the_midst_of_a_touch_is_passed() {
    let disk = Mounted::tmpfs("size=1m");
    touch(&stamp_on(&disk)).unwrap();
    let mut slow = touch_with(&disk, "delay_enter=1s");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let by_hand = touch_an_hour_ahead(&stamp_on(&disk));
    assert!(slow.wait().unwrap().success());
    assert!(stamp_on(&disk).mtime().unwrap() > Some(by_hand));
}

fn a_touch_that_is_killed_has_remembered_its_time() {
    let disk = Mounted::tmpfs("size=1m");
    touch(&stamp_on(&disk)).unwrap();
    let ahead = touch_an_hour_ahead(&stamp_on(&disk));
    let _ = touch_with(&disk, "signal=KILL").wait().unwrap();
    fs::remove_file(stamp_on(&disk).path()).unwrap();
    assert!(touch(&stamp_on(&disk)).unwrap() > ahead);
}

fn a_stamp_that_is_a_device_is_refused() {
    let disk = Mounted::tmpfs("size=1m");
    let directory = disk.path().join("var/lib/modstamp");
    fs::create_dir_all(&directory).unwrap();
    support::run(
        Command::new("mknod")
            .arg(directory.join("qemu.stamp"))
            .args(["c", "1", "3"]),
    );
    let error = touch(&stamp_on(&disk)).unwrap_err().to_string();
    assert!(error.contains("is a device, not a regular file"), "{error}");
}

/// Runs a shell script as the user 65534.
fn as_nobody(script: &str, home: &Path) -> Output {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
        script,
        "sh",
    ]);
    command
        .arg(modstamp_for_all())
        .env("HOME", home)
        .output()
        .unwrap()
}

/// The program, where every user can start it.
fn modstamp_for_all() -> PathBuf {
    static COPY: std::sync::OnceLock<Mounted> = std::sync::OnceLock::new();
    let copy = COPY.get_or_init(|| {
        let copy = Mounted::tmpfs("mode=755");
        fs::copy(env!("CARGO_BIN_EXE_modstamp"), copy.path().join("modstamp")).unwrap();
        // Its directory is 0700 otherwise, and on top of it is what was mounted.
        copy
    });
    copy.path().join("modstamp")
}

fn another_user_can_not_hold_the_lock_of_the_systems_stamp() {
    let disk = Mounted::tmpfs("mode=755");
    touch(&stamp_on(&disk)).unwrap();
    let directory = disk.path().join("var/lib/modstamp");
    let script = format!(
        "exec 9<{}/.qemu.lock && flock --nonblock 9 && echo held",
        directory.display()
    );
    let output = as_nobody(&script, Path::new("/"));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("held"));
    // The stamp itself can be locked by everybody, and that holds up nothing.
    let script = format!("exec flock {}/qemu.stamp sleep 60", directory.display());
    let mut holder = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            &script,
        ])
        .spawn()
        .unwrap();
    let start = std::time::Instant::now();
    touch(&stamp_on(&disk)).unwrap();
    assert!(start.elapsed().as_secs() < 4);
    holder.kill().unwrap();
    holder.wait().unwrap();
}

fn another_user_can_not_bend_the_way_to_the_stamp() {
    for below in ["var", "var/lib", "var/lib/modstamp"] {
        let disk = Mounted::tmpfs("mode=755");
        fs::create_dir_all(disk.path().join("var/lib/modstamp")).unwrap();
        std::os::unix::fs::chown(disk.path().join(below), Some(65534), None).unwrap();
        let error = touch(&stamp_on(&disk)).unwrap_err().to_string();
        assert!(
            error.contains("belongs to user 65534, who could redirect it"),
            "{error}"
        );
        assert!(!stamp_on(&disk).path().exists());
    }
}

fn another_user_moves_a_stamp_of_their_own_and_not_the_systems() {
    let home = Mounted::tmpfs("mode=755,uid=65534,gid=65534");
    let system = Path::new("/var/lib/modstamp");
    let before = fs::metadata(system).and_then(|stat| stat.modified()).ok();
    let output = as_nobody("exec \"$1\" touch --reason mine", home.path());
    assert!(output.status.success(), "{output:?}");
    let own = home.path().join(".local/state/modstamp/qemu.stamp");
    let stat = fs::metadata(&own).unwrap();
    assert_eq!(
        (stat.uid(), stat.permissions().mode() & 0o777),
        (65534, 0o644)
    );
    assert!(
        fs::read_to_string(own)
            .unwrap()
            .contains("by: user 65534\nwhy: mine\n")
    );
    assert_eq!(
        fs::metadata(system).and_then(|stat| stat.modified()).ok(),
        before
    );
}

/// Root's witness has a number for all that is in the module directory, and it still is the same number.
fn an_empty_directory_that_only_others_can_read_is_stale_with_that_reason() {
    let disk = Mounted::tmpfs("mode=755");
    let below = disk.path().join("usr/lib64/qemu/below");
    fs::create_dir_all(&below).unwrap();
    fs::set_permissions(&below, fs::Permissions::from_mode(0o700)).unwrap();
    std::thread::sleep(SETTLED);
    let profile = Profile::load_in("qemu", &Root::open(disk.path()).unwrap()).unwrap();
    let witness = disk.path().join("witness");
    fs::write(&witness, profile.observe().unwrap().to_string()).unwrap();
    let (root, witness) = (disk.path().display(), witness.display());
    let script = format!("exec \"$1\" check --root {root} {witness}");
    let text = String::from_utf8(as_nobody(&script, Path::new("/")).stdout).unwrap();
    let expected = "module below in /usr/lib64/qemu not known: Permission denied";
    assert!(text.contains(expected), "{text}");
}

/// Not even a ctime moves: each file stays what it is, and is there by another name.
fn files_mounted_over_modules_are_told_apart_when_they_swap() {
    let disk = Mounted::tmpfs("mode=755");
    let path = |below: &str| disk.path().join(below);
    fs::create_dir_all(path("usr/lib64/qemu")).unwrap();
    for name in ["usr/lib64/qemu/a.so", "usr/lib64/qemu/b.so", "one", "two"] {
        fs::write(path(name), name).unwrap();
    }
    let mount = |from: &str, over: &str| {
        let mut mount = Command::new("mount");
        support::run(mount.arg("--bind").args([path(from), path(over)]));
    };
    let [a, b] = ["usr/lib64/qemu/a.so", "usr/lib64/qemu/b.so"];
    mount("one", a);
    mount("two", b);
    std::thread::sleep(SETTLED);
    let profile = Profile::load_in("qemu", &Root::open(disk.path()).unwrap()).unwrap();
    let before = profile.observe().unwrap();
    assert!(before.check(&profile).unwrap().is_fresh());
    for over in [a, b] {
        support::run(Command::new("umount").arg(path(over)));
    }
    mount("one", b);
    mount("two", a);
    let verdict = before.check(&profile).unwrap();
    let differ = ["a.so", "b.so"]
        .map(|name| format!("module {name} in /usr/lib64/qemu changed: its content differs"));
    assert_eq!(verdict.reasons_for_people(9), differ);
}

fn module_directories_beyond_the_limit_of_open_files_are_all_seen() {
    let disk = Mounted::tmpfs("mode=755");
    for number in 0..300 {
        let directory = disk.path().join(format!("run/qemu/{number:03}/sub"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("m.so"), "").unwrap();
    }
    let script = "ulimit -n 64; exec \"$0\" observe --root \"$1\"";
    let mut observe = Command::new("sh");
    observe.args(["-c", script, env!("CARGO_BIN_EXE_modstamp")]);
    let text = support::run(observe.arg(disk.path()));
    assert_eq!(text.matches(" sub/m.so\n").count(), 300);
}

/// Two images with the same names, sizes, inodes and times: only content tells them apart.
fn the_same_image_is_fresh_and_another_with_the_same_times_is_stale() {
    let images = tempfile::tempdir().unwrap();
    let image = |content: &str| {
        let (tree, image) = (images.path().join("tree"), images.path().join(content));
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("a.so"), content).unwrap();
        fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
        let mut make = Command::new("mkfs.ext2");
        make.args(["-q", "-E", "hash_seed=11111111-1111-1111-1111-111111111111"]);
        make.args(["-U", "11111111-1111-1111-1111-111111111111", "-d"])
            .arg(&tree)
            .arg(&image);
        support::run(&mut make);
        // As a maker of reproducible images has it: every time the same.
        for field in ["ctime", "mtime", "atime", "crtime"] {
            let set = format!("set_inode_field /a.so {field} 20200101000000");
            support::run(Command::new("debugfs").args(["-w", "-R", &set]).arg(&image));
        }
        image
    };
    let (one, two) = (image("content 1"), image("content 2"));
    let root = tempfile::tempdir().unwrap();
    let modules = root.path().join("usr/lib64/qemu");
    fs::create_dir_all(&modules).unwrap();
    let profile = Profile::load_in("qemu", &Root::open(root.path()).unwrap()).unwrap();
    // One device shows one image, and then the other in its place.
    let shown = images.path().join("shown");
    fs::copy(&one, &shown).unwrap();
    let device = Loop::of(&shown);
    let mount = |image: &Path| {
        let mut place = fs::File::options().write(true).open(&shown).unwrap();
        place.write_all(&fs::read(image).unwrap()).unwrap();
        let mut mount = Command::new("mount");
        support::run(mount.args(["-o", "ro"]).arg(device.path()).arg(&modules));
    };
    let unmount = || support::run(Command::new("umount").arg(&modules));
    let identity = || {
        let stat = fs::metadata(modules.join("a.so")).unwrap();
        (
            stat.dev(),
            stat.ino(),
            stat.size(),
            stat.ctime(),
            stat.ctime_nsec(),
            stat.mtime(),
        )
    };
    mount(&one);
    let (before, first) = (profile.observe().unwrap(), identity());
    unmount();
    mount(&one);
    let same = before.check(&profile).unwrap();
    unmount();
    mount(&two);
    let (other, second) = (before.check(&profile).unwrap(), identity());
    unmount();
    assert_eq!(first, second, "stat was to show no difference");
    assert!(same.is_fresh(), "{same:?}");
    assert!(
        other.reasons_for_people(1)[0].contains("a.so in /usr/lib64/qemu changed: its content"),
        "{other:?}"
    );
}

/// A reboot, or a disk at another port: everything is as it was but `st_dev`.
fn another_device_number_for_the_same_file_system_is_fresh() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(16 << 20).unwrap();
    support::run(Command::new("mkfs.ext4").arg("-q").arg(image.path()));
    let (one, other) = (Loop::of(image.path()), Loop::of(image.path()));
    let on = |device: &Loop| Mounted::new(&[device.path().to_str().unwrap()]);
    let number = |disk: &Mounted| fs::metadata(disk.path()).unwrap().dev();

    let disk = on(&one);
    let before = number(&disk);
    let world = World::on(disk.path(), |_| ());
    let on_a_new_tree = world.observe();
    world.settle();
    let on_a_settled_tree = world.observe();
    drop(world);
    disk.end();
    let disk = on(&other);
    assert_ne!(number(&disk), before);

    let root = Root::open(&disk.path().join("root")).unwrap();
    let now = Profile::load_in("qemu", &root).unwrap().inputs().unwrap();
    assert_eq!(sentences(&on_a_new_tree.judge(&now)), [""; 0]);
    assert_eq!(sentences(&on_a_settled_tree.judge(&now)), [""; 0]);
}
