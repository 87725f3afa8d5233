//! The stamp, the witness and libvirt's cache on file systems that are coarse, full or read-only,
//! and against other users.
//!
//! These tests need root: they mount file systems, in a mount namespace of their own, and become
//! another user.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use modstamp::{Durability, Mtime, Profile, Root, Stamp};
use support::libvirt::{ARM, DRIVER, Host, QXL, RECORD, SYSTEM, USER, WATCHED, X86, file_name};
use support::mounted::{Loop, Mounted};
use support::named;
use support::test::{self, Needs, Test};
use support::world::{SETTLED, World, sentences};

const PROGRAMS: [&str; 11] = [
    "chroot",
    "debugfs",
    "ldd",
    "losetup",
    "mkfs.ext2",
    "mkfs.ext4",
    "mknod",
    "mount",
    "setpriv",
    "strace",
    "unshare",
];

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::root_and(&PROGRAMS), SCENARIOS).collect()
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
    a_cache_file_that_is_a_device_is_left_alone,
    a_cache_file_of_another_users_is_left_alone_and_named,
    what_cannot_be_removed_where_usr_is_read_only_is_not_taken_for_fresh,
    an_ordinary_user_sees_and_evicts_their_own_cache_alone,
    an_ordinary_users_touch_does_not_refresh_libvirt,
    an_ordinary_user_can_not_refresh_libvirt_and_is_told_so,
    the_end_of_rpms_transaction_refreshes_libvirt,
    a_body_of_rpms_transaction_that_can_not_be_read_refreshes_all_the_same,
    each_refresh_leaves_another_second_where_whole_seconds_are_kept,
    a_refresh_that_is_killed_has_remembered_its_second,
    programs_are_changed_where_no_later_second_can_be_stored,
    what_is_stale_is_removed_from_the_systems_cache_where_usr_is_read_only,
    an_update_of_another_usr_that_is_read_only_removes_what_is_stale_once,
    the_json_of_a_refresh_that_only_removes_says_changed,
    an_update_tries_to_write_nothing_where_usr_is_read_only,
    an_update_that_is_killed_in_a_first_refresh_is_made_up_for_by_the_next,
    an_update_that_could_not_remove_what_is_stale_is_made_up_for_by_the_next,
    an_update_that_is_overtaken_by_a_trigger_keeps_what_the_trigger_saw,
    a_file_of_another_users_in_the_systems_cache_keeps_no_user_from_an_update,
    an_ordinary_users_update_touches_nothing_for_which_root_touched,
    a_module_directory_that_hangs_keeps_no_trigger_from_its_touch,
    a_container_with_the_hosts_stamps_mounted_read_only_sees_a_touch_and_makes_none,
    an_ordinary_users_update_leaves_to_the_system_what_that_says,
    an_ordinary_users_update_touches_a_stamp_of_their_own_where_nothing_says_it,
    an_ordinary_users_update_removes_what_is_stale_where_usr_is_read_only,
];

pub fn stamp_on(disk: &Mounted) -> Stamp {
    Stamp::system(&Root::open(disk.path()).unwrap(), "qemu").unwrap()
}

pub fn touch(stamp: &Stamp) -> modstamp::Result<Mtime> {
    let touched = stamp.touch("a test", "", Durability::Synced);
    touched.map(Option::unwrap)
}

fn a_touch_moves_the_stamp_where_whole_seconds_are_kept() {
    let disk = Mounted::ext2();
    let stamp = stamp_on(&disk);
    let mut last = touch(&stamp).unwrap();
    assert_eq!(
        last.nanoseconds(),
        0,
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
    // The new time is also later after a removal within the same second.
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
    let lock = path.with_file_name(".qemu.lock");
    fs::remove_file(path).and(fs::remove_file(lock)).unwrap();
    assert!(touch(&stamp_on(&disk)).is_ok(), "the remedy helps");
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
    run.args(["run", "--profile", "qemu", "--cache"]);
    run.arg(disk.path().join("cache"));
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
        run.args(["run", "--profile", "qemu", "--root"])
            .arg(disk.path())
            .arg("--cache")
            .arg(disk.path().join("cache"));
        run.args(["--", "seq", "10000"]).output().unwrap().stdout
    };
    let whole = ask();
    assert_eq!(whole.len(), 48894);
    // Later the stat identities are evidence, and a hit stores the answer again. There is room for
    // half of it.
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

/// Starts a touch, with an `injection` of strace(1) at the step that puts the stamp in place.
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

/// A copy of the program that every user can start.
pub fn modstamp_for_all() -> PathBuf {
    static COPY: std::sync::OnceLock<Mounted> = std::sync::OnceLock::new();
    let copy = COPY.get_or_init(|| {
        let copy = Mounted::tmpfs("mode=755");
        let program = fs::read(env!("CARGO_BIN_EXE_modstamp")).unwrap();
        support::executable(&copy.path().join("modstamp"), program);
        // The mount's mode counts, and not the 0700 of the directory below it.
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
    // Everybody can lock the stamp itself, and that holds up nothing.
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
            error.contains("belongs to user 65534, so others could redirect it"),
            "{error}"
        );
        assert!(!stamp_on(&disk).path().exists());
    }
}

fn another_user_moves_a_stamp_of_their_own_and_not_the_systems() {
    let home = Mounted::tmpfs("mode=755,uid=65534,gid=65534");
    // Tests beside this one touch other stamps in that directory.
    let system = || fs::metadata("/var/lib/modstamp/qemu.stamp").and_then(|stat| stat.modified());
    let before = system().ok();
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
    assert_eq!(system().ok(), before);
}

/// The sum in root's witness is still the same.
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

/// Not even a ctime moves: the files stay the same, and swap their names.
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
        // Makers of reproducible images give all files the same times.
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
    // One device shows the one image first, and then the other.
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

/// A reboot, or another port for the disk, changes `st_dev` and nothing else.
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

pub const NOBODY: u32 = 65534;

fn a_cache_file_that_is_a_device_is_left_alone() {
    let host = Host::new();
    let file = format!("{SYSTEM}/{}", file_name(X86));
    host.sh(&format!("mknod {file} c 1 5")); // zero(4), which never ends
    let says = "it is not a regular file";
    assert_eq!(host.rows(&[])[0]["modstamp"]["reasons"][0]["error"], says);
    assert!(host.fail(&["libvirt", "evict", "--all"]).1.contains(says));
    assert!(host.path(&file).exists());
}

fn a_cache_file_of_another_users_is_left_alone_and_named() {
    let host = Host::new();
    let (theirs, own) = (host.ask(X86), host.ask(ARM));
    std::os::unix::fs::chown(host.path(&theirs), Some(NOBODY), None).unwrap();
    let (out, err) = host.fail(&["libvirt", "evict", "--all"]);
    let expected =
        format!("cannot remove libvirt's cache file /{theirs}: it belongs to another user");
    assert!(err.contains(&expected), "{err}");
    assert!(out.contains(&own) && !out.contains(&theirs), "{out}");
    assert!(host.path(&theirs).exists() && !host.path(&own).exists());
}

fn an_ordinary_user_sees_and_evicts_their_own_cache_alone() {
    let host = Host::new();
    let own = host.keep(USER, &host.answer(X86));
    let theirs = host.ask(X86);
    host.sh(&format!(
        "chown -R {NOBODY} home/me; chmod 700 var/cache/libvirt"
    ));
    let ask = |arguments: &[&str]| {
        let output = host
            .inside(NOBODY, "/usr/bin/modstamp")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        host.said(&output)
    };
    let (out, err) = ask(&["libvirt", "status"]);
    assert!(
        out.contains("  user  ") && !out.contains("  system  "),
        "{out}"
    );
    assert!(
        err.contains(
            "cannot look at libvirt's cache in /var/cache/libvirt/qemu: Permission denied"
        ),
        "{err}"
    );
    let (out, err) = ask(&["libvirt", "evict"]);
    assert!(out.starts_with(&format!("removed /{own}")), "{out}");
    let left_alone = "modstamp: note: the system's cache was left alone; \
                      as root, “modstamp libvirt evict” removes what is stale there\n";
    assert_eq!((out.lines().count(), &*err), (1, left_alone));
    assert!(host.path(&theirs).exists() && !host.path(&own).exists());

    host.sh(&format!("chmod 755 var/cache/libvirt; chmod 600 {theirs}"));
    let (out, err) = ask(&["libvirt", "status"]);
    let row = out.lines().nth(1).unwrap();
    assert!(
        row.contains("  system  ") && row.contains("  run as root"),
        "{out}"
    );
    assert!(!out.contains("stale:") && err.is_empty(), "{out}{err}");
    for arguments in [&["libvirt", "evict"][..], &["libvirt", "evict", "--all"]] {
        assert_eq!(
            ask(arguments),
            ("nothing to remove\n".to_owned(), left_alone.to_owned())
        );
    }
    assert!(host.path(&theirs).exists());
}

fn an_ordinary_users_touch_does_not_refresh_libvirt() {
    let host = Host::new();
    host.sh(&format!("chown -R {NOBODY} home/me"));
    let mut touch = host.inside(NOBODY, "/usr/bin/modstamp");
    let before = host.listing();
    let output = touch.arg("touch").output().unwrap();
    assert!(output.status.success());
    let (out, err) = host.said(&output);
    let told = "touched /home/me/.local/state/modstamp/qemu.stamp, which counts for you alone; ";
    assert!(out.starts_with(told) && err.is_empty(), "{out}{err}");
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(
        host.path("home/me/.local/state/modstamp/qemu.stamp")
            .exists()
    );
    assert_eq!(host.listing(), before);
    assert!(!host.path(RECORD).exists());
}

fn an_ordinary_user_can_not_refresh_libvirt_and_is_told_so() {
    let host = Host::new();
    let mut refresh = host.inside(NOBODY, "/usr/bin/modstamp");
    let before = host.listing();
    let output = refresh.args(["libvirt", "refresh"]).output().unwrap();
    let (out, err) = host.said(&output);
    assert_eq!((output.status.code(), &*out), (Some(1), ""));
    let expected = format!(
        "modstamp: cannot make libvirt ask again by the mtime or ctime of /{WATCHED}: \
         Operation not permitted (os error 1); run as root; \
         “modstamp libvirt evict” removes what is stale from your own cache\n"
    );
    assert_eq!(err, expected);
    assert_eq!(host.listing(), before);
}

fn what_cannot_be_removed_where_usr_is_read_only_is_not_taken_for_fresh() {
    let host = Host::new();
    host.refresh();
    let stale = host.ask(X86);
    support::run(Command::new("chown").arg("65534").arg(host.path(&stale)));
    host.write(QXL, "another module");
    let usr = host.path("usr").display().to_string();
    host.mount(&["--bind", &usr], "usr");
    support::run(Command::new("mount").args(["-o", "remount,bind,ro", &usr]));
    for _ in 0..2 {
        let (_, err) = host.fail(&["libvirt", "refresh"]);
        assert!(err.contains("it belongs to another user"), "{err}");
        // The file is not read, so its program is unknown.
        let row = &host.rows(&[])[0];
        assert_eq!(row["modstamp"]["fresh"], false, "{row:#}");
    }
}

/// Runs the program that rpm starts at the end of a transaction.
fn end_transaction(host: &Host, script: &str) -> String {
    let output = host
        .inside(0, "/usr/libexec/modstamp/rpm-transaction")
        .arg(script)
        .output()
        .unwrap();
    let (out, err) = host.said(&output);
    assert_eq!((output.status.code(), &*out), (Some(0), ""), "{err}");
    err
}

fn the_end_of_rpms_transaction_refreshes_libvirt() {
    let host = Host::new();
    host.refresh();
    host.ask(X86);
    let before = host.mtime(WATCHED);
    host.write(
        "tmp-body",
        &format!("--profile qemu --no-sync /{WATCHED}\n"),
    );
    assert_eq!(end_transaction(&host, "/tmp-body"), "");
    assert!(host.mtime(WATCHED) > before);
    let note = fs::read_to_string(host.path("var/lib/modstamp/qemu.stamp")).unwrap();
    assert!(note.contains("\nby: rpm\n"), "{note}");
    assert_eq!(host.words(X86), "stale: cached before the last refresh");
    host.ask(X86);
    assert_eq!(host.words(X86), "fresh");
    let (stamp, before) = (
        host.mtime("var/lib/modstamp/qemu.stamp"),
        host.mtime(WATCHED),
    );
    host.write(
        "etc/modstamp/profiles.d/qemu.toml",
        "refresh-libvirt = false",
    );
    assert_eq!(end_transaction(&host, "/tmp-body"), "");
    assert!(host.mtime("var/lib/modstamp/qemu.stamp") >= stamp);
    assert_eq!(host.mtime(WATCHED), before);
}

fn a_body_of_rpms_transaction_that_can_not_be_read_refreshes_all_the_same() {
    let host = Host::new();
    host.say(&["touch"]);
    let before = host.mtime(WATCHED);
    let warning = end_transaction(&host, "/no-such-body");
    assert!(
        warning.starts_with(
            "modstamp: warning: cannot read the body of rpm's trigger /no-such-body: "
        ),
        "{warning}"
    );
    assert!(host.mtime(WATCHED) > before);
}

fn each_refresh_leaves_another_second_where_whole_seconds_are_kept() {
    let disk = Mounted::ext2();
    let host = Host::on(disk.path());
    let mut last = host.refresh();
    for _ in 0..3 {
        let next = host.refresh();
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    host.ask(X86);
    assert_eq!(host.words(X86), "fresh");
}

fn a_refresh_that_is_killed_has_remembered_its_second() {
    let host = Host::new();
    host.refresh();
    let ahead = host.refresh() + 3600;
    host.set_mtime(WATCHED, ahead);
    let mut killed = Command::new("strace");
    // The first call sets the record's time, and the second one the directory's.
    let kill = "inject=utimensat:signal=KILL:when=2";
    killed.args(["-o", "/dev/null", "-e", kill]);
    killed.args([
        env!("CARGO_BIN_EXE_modstamp"),
        "libvirt",
        "refresh",
        "--root",
    ]);
    assert!(!killed.arg(host.path("")).status().unwrap().success());
    host.set_mtime(WATCHED, 1_600_000_000);
    assert!(host.refresh() > ahead + 1);
}

fn programs_are_changed_where_no_later_second_can_be_stored() {
    let disk = Mounted::ext2();
    let host = Host::on(disk.path());
    host.set_mtime(WATCHED, i64::from(i32::MAX)); // in 2038
    host.refresh_by_ctime();
    host.ask(X86);
    assert_eq!(host.words(X86), "fresh");
    // The record remembers that second. No refresh leaves an earlier one, which may not be new.
    host.set_mtime(WATCHED, 1_600_000_000);
    host.refresh_by_ctime();
    host.ask(X86);
    assert_eq!(host.words(X86), "fresh");
}

fn what_is_stale_is_removed_from_the_systems_cache_where_usr_is_read_only() {
    let host = Host::new();
    host.refresh();
    let fresh = host.ask(X86);
    let stale = host.ask(ARM);
    let own = host.keep(USER, &host.answer(ARM));
    host.write(&ARM[1..], "another program");
    let usr = host.path("usr").display().to_string();
    host.mount(&["--bind", &usr], "usr");
    support::run(Command::new("mount").args(["-o", "remount,bind,ro", &usr]));
    assert!(
        fs::write(host.path(QXL), "").is_err(),
        "it was to be read-only"
    );
    let moved = host.different(|| {
        let (out, err) = host.say(&["libvirt", "refresh"]);
        assert_eq!(out, format!("removed /{stale}\n"));
        assert!(
            err.starts_with(
                "modstamp: warning: cannot make libvirt ask again by the mtime or ctime of /usr/"
            ),
            "{err}"
        );
        assert!(
            err.contains(": Read-only file system (os error 30); ")
                && err.ends_with("; so stale files were removed from the system's cache instead\n"),
            "{err}"
        );
    });
    assert_eq!(moved, [""; 0]);
    assert_eq!(
        [fresh, stale, own].map(|file| host.path(&file).exists()),
        [true, false, true]
    );
    // The system's cache holds only answers from after the change. A user's may be older.
    assert_eq!(host.words(X86), "fresh");
    assert!(
        host.words(ARM).starts_with("stale: "),
        "{:?}",
        host.words(ARM)
    );
    host.ask(ARM);
    let rows = host.rows(&["--profile", "qemu"]);
    let fresh = rows
        .iter()
        .map(|row| (row["owner"].as_str(), row["modstamp"]["fresh"].as_bool()));
    let expected = [("system", true), ("system", true), ("user", false)];
    assert!(
        fresh.eq(expected.map(|(owner, fresh)| (Some(owner), Some(fresh)))),
        "{rows:#?}"
    );
    // A touch only warns, like a refresh.
    let (_, err) = host.say(&["touch"]);
    assert!(
        err.starts_with("modstamp: warning: cannot make libvirt ask again"),
        "{err}"
    );
    assert!(host.path(DRIVER).exists());
}

/// Makes `/usr` read-only, or writable again.
fn make_read_only(host: &Host, is_read_only: bool) {
    match is_read_only {
        true => {
            let usr = host.path("usr").display().to_string();
            host.mount(&["--bind", &usr], "usr");
            support::run(Command::new("mount").args(["-o", "remount,bind,ro", &usr]));
        }
        false => host.unmount(),
    }
}

/// Swaps the image for another one with the same times.
fn swap_usr(host: &Host, module: &str) {
    make_read_only(host, false);
    host.keep_mtime(WATCHED, || host.keep_mtime(QXL, || host.write(QXL, module)));
    make_read_only(host, true);
}

pub const NOTHING: &str = "nothing changed since the last touch\n";

fn an_update_of_another_usr_that_is_read_only_removes_what_is_stale_once() {
    let host = Host::new();
    make_read_only(&host, true);
    let answer = host.ask(X86);
    let (out, _) = host.say(&["update"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("touched the stamp: "), "{out}");
    assert_eq!(lines[1..], [format!("removed /{answer}")]);
    for round in ["image 1.", "image 2."] {
        host.ask(X86);
        let before = host.listing();
        let stamp = stamp_of(&host);
        let nothing = || {
            let said = host.say(&["update"]);
            assert_eq!(said, (NOTHING.to_owned(), String::new()));
        };
        nothing();
        nothing();
        assert_eq!(host.words(X86), "fresh");
        assert_eq!(stamp_of(&host), stamp);
        assert_eq!(host.listing(), before);
        swap_usr(&host, round);
        let (out, _) = host.say(&["update"]);
        assert!(out.contains("module hw-display-qxl.so in "), "{out}");
        assert!(out.ends_with(&format!("\nremoved /{answer}\n")), "{out}");
        assert!(stamp_of(&host) > stamp);
    }
}

fn the_json_of_a_refresh_that_only_removes_says_changed() {
    let host = Host::new();
    make_read_only(&host, true);
    let answer = host.ask(X86);
    let (out, _) = host.say(&["libvirt", "refresh", "--json"]);
    let removed = format!(r#""removed":["/{answer}"]"#);
    for part in [r#""changed":true"#, r#""moved":[]"#, &removed] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
}

fn an_update_tries_to_write_nothing_where_usr_is_read_only() {
    let host = Host::new();
    make_read_only(&host, true);
    host.ask(X86);
    let log = host.beside("log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(&log);
    strace.args([env!("CARGO_BIN_EXE_modstamp"), "update", "--root"]);
    support::run(strace.arg(host.path("")));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("unlinkat("), "it was to remove something");
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("EROFS")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

fn stamp_of(host: &Host) -> (i64, i64) {
    let stat = fs::metadata(host.path("var/lib/modstamp/qemu.stamp")).unwrap();
    (stat.mtime(), stat.mtime_nsec())
}

/// The output of an ordinary user's update.
fn update_of_user(host: &Host) -> String {
    let mut update = host.inside(NOBODY, "/usr/bin/modstamp");
    let output = update.arg("update").output().unwrap();
    let (out, err) = host.said(&output);
    assert!(output.status.success() && err.is_empty(), "{out}{err}");
    out
}

/// A host in which `modstamp` can run, with a home for the ordinary user.
fn host_with_a_user() -> Host {
    let host = Host::new();
    host.inside(0, "/usr/bin/modstamp");
    host.sh(&format!("chown -R {NOBODY} home/me"));
    host
}

const OWN: &str = "home/me/.local/state/modstamp";

fn an_ordinary_users_update_leaves_to_the_system_what_that_says() {
    let host = host_with_a_user();
    for round in ["module 1", "module 2"] {
        host.say(&["update"]);
        let own = host.keep(USER, &host.answer(X86));
        assert_eq!(update_of_user(&host), NOTHING);
        assert!(host.path(&own).exists() && !host.path(OWN).exists());
        host.write(QXL, round);
    }
}

fn an_ordinary_users_update_touches_a_stamp_of_their_own_where_nothing_says_it() {
    let host = host_with_a_user();
    host.say(&["update"]);
    host.write(QXL, "A MODULE");
    let said = update_of_user(&host);
    assert!(
        said.starts_with("touched your own stamp: module hw-display-qxl.so in "),
        "{said}"
    );
    assert!(host.path(&format!("{OWN}/qemu.stamp")).exists());
    assert_eq!(update_of_user(&host), NOTHING);
    // A change back to the state at the system's touch counts, too: the own stamp was touched
    // since.
    host.write(QXL, "a module");
    assert!(update_of_user(&host).starts_with("touched your own stamp: "));
}

/// What an update says that removes a file of libvirt's, and does nothing else.
fn only_removed(file: &str) -> String {
    let why = "something changed since the last refresh of libvirt";
    format!("not touched: {why}\nremoved /{file}\n")
}

fn an_ordinary_users_update_removes_what_is_stale_where_usr_is_read_only() {
    let host = host_with_a_user();
    make_read_only(&host, true);
    host.say(&["update"]);
    let keep = || {
        let own = host.keep(USER, &host.answer(X86));
        support::run(Command::new("chown").arg("65534").arg(host.path(&own)));
        own
    };
    let mut own = keep();
    assert_eq!(update_of_user(&host), only_removed(&own));
    for module in ["image 1.", "image 2."] {
        own = keep();
        assert_eq!(update_of_user(&host), NOTHING);
        let mut status = host.inside(NOBODY, "/usr/bin/modstamp");
        let output = status.args(["libvirt", "status"]).output().unwrap();
        let (out, _) = host.said(&output);
        assert!(out.contains(" fresh\n"), "{out}");
        assert!(host.path(&own).exists());
        swap_usr(&host, module);
        host.say(&["update"]);
        assert_eq!(update_of_user(&host), only_removed(&own));
        assert!(!host.path(&own).exists());
    }
}

/// docs/images.md has this as a command line for podman.
fn a_container_with_the_hosts_stamps_mounted_read_only_sees_a_touch_and_makes_none() {
    let host = World::new();
    let container = host_with_a_user();
    let stamps = host.path("var/lib/modstamp").display().to_string();
    fs::create_dir_all(container.path("var/lib/modstamp")).unwrap();
    container.mount(&["--bind", &stamps], "var/lib/modstamp");
    let mounted = container.path("var/lib/modstamp");
    let mut read_only = Command::new("mount");
    support::run(read_only.args(["-o", "remount,bind,ro"]).arg(mounted));
    let ask = |user: u32, arguments: &[&str]| {
        let mut command = container.inside(user, "/usr/bin/modstamp");
        let output = command.args(arguments).output().unwrap();
        let (out, err) = container.said(&output);
        (output.status.code(), out, err)
    };

    let (_, witness, _) = ask(NOBODY, &["observe"]);
    container.write("home/me/witness", &witness);
    let check = || ask(NOBODY, &["check", "/home/me/witness"]);
    assert_eq!(check(), (Some(0), "fresh\n".to_owned(), String::new()));
    // Twice, because a touch puts another file in the stamp's place. A mount of the file alone
    // would show the old one.
    for _ in 0..2 {
        let (_, witness, _) = ask(NOBODY, &["observe"]);
        container.write("home/me/witness", &witness);
        assert!(host.output(&["touch"]).status.success());
        let (code, out, _) = check();
        assert!(
            code == Some(1) && out.contains("system stamp touched: "),
            "{out}"
        );
    }

    // The container's own modules count, too.
    let (_, witness, _) = ask(NOBODY, &["observe"]);
    container.write("home/me/witness", &witness);
    container.write(QXL, "another module");
    let (code, out, _) = check();
    assert!(
        code == Some(1) && out.contains("module hw-display-qxl.so in "),
        "{out}"
    );
    let (code, _, err) = ask(0, &["update"]);
    assert!(
        code == Some(1) && err.contains("Read-only file system"),
        "{err}"
    );
}

/// The program under strace(1), with an `injection` at a system call.
fn injected(host: &Host, injection: &str, arguments: &[&str]) -> Command {
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-o",
        "/dev/null",
        "-e",
        &format!("inject={injection}"),
    ]);
    strace.arg(env!("CARGO_BIN_EXE_modstamp")).args(arguments);
    strace.arg("--root").arg(host.path(""));
    strace
}

fn an_update_that_is_killed_in_a_first_refresh_is_made_up_for_by_the_next() {
    let host = Host::new();
    host.say(&["update"]);
    for when in 1..8 {
        host.remove(RECORD);
        host.set_mtime(WATCHED, 1_600_000_000);
        let kill = format!("utimensat:signal=KILL:when={when}");
        let _ = injected(&host, &kill, &["update"]).status().unwrap();
        host.modstamp(&["update"]).output().unwrap();
        assert!(host.mtime(WATCHED) > 1_600_000_000, "{when}");
    }
}

fn an_update_that_could_not_remove_what_is_stale_is_made_up_for_by_the_next() {
    let host = Host::new();
    make_read_only(&host, true);
    host.say(&["update"]);
    let answer = host.ask(X86);
    swap_usr(&host, "image 1.");
    let cache = host.path("var/cache").display().to_string();
    support::run(Command::new("mount").args(["--bind", &cache, &cache]));
    support::run(Command::new("mount").args(["-o", "remount,bind,ro", &cache]));
    for _ in 0..2 {
        let (_, err) = host.fail(&["update"]);
        assert!(err.contains("Read-only file system"), "{err}");
    }
    support::run(Command::new("umount").arg(&cache));
    let (out, _) = host.say(&["update"]);
    assert_eq!(out, only_removed(&answer));
    assert_eq!(host.say(&["update"]).0, NOTHING);
}

fn an_update_that_is_overtaken_by_a_trigger_keeps_what_the_trigger_saw() {
    let host = Host::new();
    host.settle();
    host.say(&["update"]);
    host.write(QXL, "module X");
    // The update has looked, and waits for its turn.
    let delay = "flock:delay_enter=3s:when=1";
    let mut slow = injected(&host, delay, &["update"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    host.write(QXL, "module Y");
    host.say(&["trigger", "dpkg", &format!("/{WATCHED}")]);
    assert!(slow.wait().unwrap().success());
    assert_eq!(host.say(&["update"]).0, NOTHING);
    // An answer that was probed at Y must not be served for X.
    host.write(QXL, "module X");
    assert!(host.say(&["update"]).0.starts_with("touched the stamp: "));
}

fn a_file_of_another_users_in_the_systems_cache_keeps_no_user_from_an_update() {
    let host = host_with_a_user();
    let own = host.keep(USER, &host.answer(X86));
    let theirs = host.ask(ARM);
    for (file, user) in [(&own, NOBODY), (&theirs, 1234)] {
        std::os::unix::fs::chown(host.path(file), Some(user), None).unwrap();
    }
    make_read_only(&host, true);
    let (_, err) = host.fail(&["update"]);
    assert!(err.contains("it belongs to another user"), "{err}");
    assert_eq!(update_of_user(&host), only_removed(&own));
}

fn an_ordinary_users_update_touches_nothing_for_which_root_touched() {
    let host = host_with_a_user();
    host.settle();
    host.say(&["update"]);
    let mut touch = host.inside(NOBODY, "/usr/bin/modstamp");
    assert!(touch.arg("touch").status().unwrap().success());
    assert_eq!(update_of_user(&host), NOTHING);
    for module in ["module 1", "module 2"] {
        host.write(QXL, module);
        host.settle();
        host.say(&["trigger", "dpkg", &format!("/{WATCHED}")]);
        assert_eq!(update_of_user(&host), NOTHING);
    }
}

fn a_module_directory_that_hangs_keeps_no_trigger_from_its_touch() {
    let host = Host::new();
    host.say(&["update"]);
    let before = stamp_of(&host);
    let directory = format!("/{WATCHED}");
    let delay = "getdents64:delay_enter=60s";
    let mut hanging = injected(&host, delay, &["trigger", "dpkg", &directory]);
    // strace(1) does not let the process end.
    let mut hanging = hanging.stderr(std::process::Stdio::null()).spawn().unwrap();
    support::consumer::wait_until("the stamp moves", || stamp_of(&host) > before);
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    // The update also makes up for the refresh.
    let (out, _) = host.say(&["update"]);
    assert!(
        out.starts_with("touched the stamp: ") && out.contains("moved the time of "),
        "{out}"
    );
}
