//! Root believes nothing that another user could have written. It changes only what it just made,
//! by descriptor.
//!
//! The other user wins each race: strace(1) stops the program right after a system call, until that
//! user is done.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::libvirt::{Host, RECORD, X86};
use support::mounted::Mounted;
use support::named;
use support::test::{self, Needs, Test};

use super::filesystems::{NOBODY, NOTHING, modstamp_for_all, stamp_on, touch};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["chroot", "ldd", "mknod", "mount", "setpriv", "strace"]);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    nobody_is_served_an_answer_that_another_user_could_have_written,
    a_directory_that_an_acl_opens_to_another_user_is_refused_as_a_cache,
    an_acl_that_lets_nobody_else_write_is_no_reason_to_refuse,
    a_lock_that_another_user_planted_holds_nobody_up,
    what_another_user_could_have_written_beside_a_stamp_is_not_believed,
    another_user_can_not_bend_the_way_to_the_stamp_by_an_acl,
    a_profile_in_the_home_of_another_user_is_none_of_roots,
    a_mode_is_only_given_to_the_directory_that_was_just_made,
    a_plain_touch_gives_a_mode_only_to_the_directory_that_was_just_made,
    a_cache_gives_a_mode_only_to_the_directory_that_was_just_made,
];

/// Another ordinary user.
const READER: u32 = 1234;

/// A command that says which user asked it, and a shared directory for its answers.
struct Shared(Mounted);

impl Shared {
    /// The directory belongs to `owner`, a user and a group.
    fn new(owner: (u32, u32), mode: u32) -> Shared {
        let shared = Shared(Mounted::tmpfs("mode=755"));
        for below in ["usr/lib64/qemu", "cache", "theirs"] {
            fs::create_dir_all(shared.path(below)).unwrap();
        }
        let ask = "#!/bin/sh\nid -u\nexit ${STATUS:-0}\n";
        support::executable(&shared.path("ask"), ask);
        chown(&shared.path("cache"), owner);
        set_mode(&shared.path("cache"), mode);
        chown(&shared.path("theirs"), (NOBODY, NOBODY));
        shared
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Asks as a user with a primary group. Returns the answer and the messages. The command ends
    /// with `status`.
    #[track_caller]
    fn ask(&self, (user, group): (u32, u32), cache: &str, status: i32) -> (String, String) {
        let mut ask = Command::new("timeout"); // Nothing may keep the user waiting.
        ask.args(["20", "setpriv", "--clear-groups"]);
        ask.args([format!("--reuid={user}"), format!("--regid={group}")]);
        ask.arg(modstamp_for_all());
        ask.args(["run", "--profile", "qemu", "--explain", "--root"]);
        ask.arg(self.path(""));
        ask.arg("--cache").arg(self.path(cache)).arg("--");
        ask.arg(self.path("ask")).env("STATUS", status.to_string());
        let output = ask.current_dir("/").output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    /// Puts a copy of NOBODY's answer into the shared directory, as a file of `owner`. Returns its
    /// path.
    fn plant(&self, owner: (u32, u32)) -> PathBuf {
        let (out, _) = self.ask((NOBODY, NOBODY), "theirs", 0);
        assert_eq!(out, format!("{NOBODY}\n"));
        let theirs = fs::read_dir(self.path("theirs")).unwrap();
        let mut theirs = theirs.map(|entry| entry.unwrap().path());
        let theirs = theirs.find(|path| path.extension().is_none()).unwrap();
        let planted = self.path("cache").join(theirs.file_name().unwrap());
        fs::copy(theirs, &planted).unwrap();
        chown(&planted, owner);
        set_mode(&planted, 0o644);
        planted
    }
}

fn chown(path: &Path, (user, group): (u32, u32)) {
    std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Sets an ACL with the permissions of the group and of the user `user`. Its form is that of
/// linux/posix_acl_xattr.h.
fn set_acl(path: &Path, group: u16, user: u32, named: u16) {
    const NO_ID: u32 = u32::MAX;
    let entries = [
        (1, 7, NO_ID),
        (2, named, user),
        (4, group, NO_ID),
        (0x10, group | named, NO_ID), // the mask, which the mode's group bits then show
        (0x20, 5, NO_ID),
    ];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(u16::to_le_bytes(tag));
        acl.extend(u16::to_le_bytes(permissions));
        acl.extend(u32::to_le_bytes(id));
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &acl, flags).unwrap();
}

/// A change of a planted answer.
type Change = fn(&Path);

fn nobody_is_served_an_answer_that_another_user_could_have_written() {
    const ROOT: (u32, u32) = (0, 0);
    const USER: (u32, u32) = (READER, READER);
    const THEIRS: (u32, u32) = (NOBODY, NOBODY);
    // Another user shares the reader's primary group.
    const MEMBER: (u32, u32) = (READER, 100);
    const OTHER_MEMBER: (u32, u32) = (NOBODY, 100);
    let [sticky, roots, own, of_group] = [
        (ROOT, 0o1777),
        (ROOT, 0o755),
        (USER, 0o700),
        (MEMBER, 0o775),
    ];
    let nothing: Change = |_| ();
    let shut: Change = |answer| set_mode(answer, 0o600);
    let open_to_group: Change = |answer| set_mode(answer, 0o620);
    let open_to_all: Change = |answer| set_mode(answer, 0o602);
    let open_by_acl: Change = |answer| set_acl(answer, 4, NOBODY, 2);
    let link: Change = |answer| fs::hard_link(answer, answer.with_extension("2")).unwrap();
    let symlink: Change = |answer| {
        fs::rename(answer, answer.with_extension("2")).unwrap();
        link_to(&answer.with_extension("2"), answer);
    };
    let fifo: Change = |answer| {
        fs::remove_file(answer).unwrap();
        support::run(Command::new("mknod").arg(answer).arg("p"));
    };
    let belongs = "belongs to user 65534, so";
    let group = |gid: u32| format!("can be written by group {gid} or by others that its ACL names");
    let [group_0, group_100, group_1234] = &[0, 100, READER].map(group);
    let (is_link, unread) = (
        "is a symbolic link, so",
        "cannot be read: Permission denied",
    );
    let cases = [
        ("/tmp, by root", sticky, THEIRS, nothing, ROOT, belongs),
        ("/tmp, by a user", sticky, THEIRS, nothing, USER, belongs),
        (
            "/tmp, of mode 0600, by root",
            sticky,
            THEIRS,
            shut,
            ROOT,
            belongs,
        ),
        (
            "/tmp, of mode 0600, by a user",
            sticky,
            THEIRS,
            shut,
            USER,
            unread,
        ),
        (
            "/tmp, of the reader's, with two names",
            sticky,
            USER,
            link,
            USER,
            "has 2 names, so",
        ),
        (
            "/tmp, a link, by root",
            sticky,
            THEIRS,
            symlink,
            ROOT,
            is_link,
        ),
        (
            "/tmp, a link, by a user",
            sticky,
            THEIRS,
            symlink,
            USER,
            is_link,
        ),
        (
            "/tmp, a FIFO",
            sticky,
            THEIRS,
            fifo,
            ROOT,
            "is not a regular file, so",
        ),
        ("root's directory", roots, THEIRS, nothing, ROOT, belongs),
        (
            "a group's directory",
            of_group,
            OTHER_MEMBER,
            nothing,
            MEMBER,
            belongs,
        ),
        (
            "a group's file",
            of_group,
            MEMBER,
            open_to_group,
            MEMBER,
            group_100,
        ),
        (
            "the file of root's group",
            roots,
            ROOT,
            open_to_group,
            ROOT,
            group_0,
        ),
        (
            "root's file with an ACL",
            roots,
            ROOT,
            open_by_acl,
            ROOT,
            group_0,
        ),
        (
            "a user's file with an ACL",
            own,
            USER,
            open_by_acl,
            USER,
            group_1234,
        ),
        (
            "everybody's file",
            roots,
            ROOT,
            open_to_all,
            ROOT,
            "can be written by every user, so",
        ),
    ];
    for (what, (owner, mode), owner_of_file, change, reader, problem) in cases {
        let shared = Shared::new(owner, mode);
        let planted = shared.plant(owner_of_file);
        change(&planted);
        let owner_of_file = fs::symlink_metadata(&planted).unwrap().uid();
        let answer = format!("{}\n", reader.0);
        let (out, said) = shared.ask(reader, "cache", 3);
        assert_eq!(out, answer, "{what}: {said}");
        let planted = planted.display();
        let expected = format!("modstamp: asked again: {planted} {problem}");
        assert!(said.starts_with(&expected), "{what}: {said}");
        let remedy = "so its answer is not believed; \
            remove it, or name a directory of your own\n";
        assert!(said.contains(remedy), "{what}: {said}");
        // A user that may replace it does, and is served the new one.
        let (out, said) = shared.ask(reader, "cache", 0);
        assert_eq!(out, answer, "{what}: {said}");
        let is_kept = said.lines().count() == 1;
        let expected = format!("\nmodstamp: not kept: cannot keep the answer in {planted}: ");
        assert_eq!(is_kept, !said.contains(&expected), "{what}: {said}");
        let may_replace = reader == ROOT || mode != 0o1777 || owner_of_file == reader.0;
        assert_eq!(is_kept, may_replace, "{what}: {said}");
        let (out, said) = shared.ask(reader, "cache", 0);
        assert_eq!(out, answer, "{what}: {said}");
        let is_served = said == "modstamp: served from the cache: nothing changed\n";
        assert_eq!(is_served, is_kept, "{what}: {said}");
    }
}

fn a_directory_that_an_acl_opens_to_another_user_is_refused_as_a_cache() {
    for reader in [(READER, READER), (0, 0)] {
        let shared = Shared::new(reader, 0o755);
        let planted = shared.plant(reader);
        set_acl(&shared.path("cache"), 5, NOBODY, 7);
        let (out, said) = shared.ask(reader, "cache", 3);
        assert_eq!(out, format!("{}\n", reader.0), "{said}");
        let cache = planted.parent().unwrap().display();
        let expected = format!(
            "modstamp: warning: refused to use the cache {cache}: {cache} can be written by user {NOBODY}, "
        );
        assert!(said.starts_with(&expected), "{said}");
        assert!(
            said.ends_with("; running the command without a cache\n"),
            "{said}"
        );
    }
}

fn an_acl_that_lets_nobody_else_write_is_no_reason_to_refuse() {
    // The reader's own group may write, and somebody else may read.
    for reader in [(READER, READER), (0, 0)] {
        for (group, user, named) in [(7, NOBODY, 5), (5, reader.0, 7), (7, 0, 7)] {
            let shared = Shared::new(reader, 0o755);
            set_acl(&shared.path("cache"), group, user, named);
            assert_eq!(mode(&shared.path("cache")), 0o775);
            let (_, said) = shared.ask(reader, "cache", 0);
            assert_eq!(said, "modstamp: asked: no answer was cached\n");
            let (_, said) = shared.ask(reader, "cache", 0);
            assert_eq!(said, "modstamp: served from the cache: nothing changed\n");
        }
    }
}

fn a_lock_that_another_user_planted_holds_nobody_up() {
    type Lock = fn(&Shared, &Path);
    let theirs: Lock = |_, lock| {
        fs::write(lock, "").unwrap();
        chown(lock, (NOBODY, NOBODY));
        set_mode(lock, 0o666);
    };
    // It is the reader's own file by another name, locked for another purpose.
    let linked: Lock = |shared, lock| {
        let own = shared.path("lock of something else");
        fs::write(&own, "").unwrap();
        chown(&own, (READER, READER));
        set_mode(&own, 0o600);
        fs::hard_link(own, lock).unwrap();
    };
    let fifo: Lock = |_, lock| {
        support::run(Command::new("mknod").arg(lock).arg("p"));
        chown(lock, (NOBODY, NOBODY));
        set_mode(lock, 0o666);
    };
    for (what, plant) in [("theirs", theirs), ("linked", linked), ("a FIFO", fifo)] {
        let shared = Shared::new((0, 0), 0o1777);
        let planted = shared.plant((READER, READER));
        fs::remove_file(&planted).unwrap();
        let name = planted.file_name().unwrap().to_str().unwrap();
        let lock = planted.with_file_name(format!(".{name}.modstamp-lock"));
        plant(&shared, &lock);
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&lock)
            .unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let (_, said) = shared.ask((READER, READER), "cache", 0);
        assert_eq!(said, "modstamp: asked: no answer was cached\n", "{what}");
        let (_, said) = shared.ask((READER, READER), "cache", 0);
        assert_eq!(
            said, "modstamp: served from the cache: nothing changed\n",
            "{what}"
        );
    }
}

fn what_another_user_could_have_written_beside_a_stamp_is_not_believed() {
    let host = Host::new();
    host.settle();
    host.say(&["update"]);
    let loosen: [(&str, Change); 4] = [
        ("its group may write", |kept| set_mode(kept, 0o664)),
        ("all may write", |kept| set_mode(kept, 0o646)),
        ("an ACL names a user", |kept| set_acl(kept, 4, NOBODY, 6)),
        ("another user's", |kept| chown(kept, (NOBODY, NOBODY))),
    ];
    for (what, loosen) in loosen {
        assert_eq!(host.say(&["update"]).0, NOTHING, "{what}");
        loosen(&host.path("var/lib/modstamp/qemu.witness"));
        let (out, _) = host.say(&["update"]);
        let expected = "touched the stamp: no record of the modules at the last touch was kept";
        assert!(out.starts_with(expected), "{what}: {out}");
        host.ask(X86);
        assert_eq!(host.words(X86), "fresh", "{what}");
        loosen(&host.path(RECORD));
        let not_known = "stale: cannot read the record of the last refresh ";
        assert!(host.words(X86).starts_with(not_known), "{what}");
        host.refresh();
        assert_eq!(mode(&host.path(RECORD)), 0o644, "{what}");
    }
}

fn another_user_can_not_bend_the_way_to_the_stamp_by_an_acl() {
    for below in ["var", "var/lib", "var/lib/modstamp"] {
        let disk = Mounted::tmpfs("mode=755");
        fs::create_dir_all(disk.path().join("var/lib/modstamp")).unwrap();
        set_acl(&disk.path().join(below), 5, NOBODY, 7);
        let error = touch(&stamp_on(&disk)).unwrap_err().to_string();
        let expected =
            format!("/{below} can be written by user 65534, so others could redirect it");
        assert!(error.contains(&expected), "{error}");
        assert!(!stamp_on(&disk).path().exists());
    }
}

/// Root has another user's home as HOME, as by sudo(8).
fn a_profile_in_the_home_of_another_user_is_none_of_roots() {
    let disk = Mounted::tmpfs("mode=755");
    let below = disk.path().join("home/.config/modstamp/profiles.d");
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join("qemu.toml"), "programs = 1").unwrap();
    let mut command = Command::new(support::program("modstamp"));
    command.args(["observe", "--root"]).arg(disk.path());
    command.env("HOME", "/home").env_remove("XDG_CONFIG_HOME");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "it is root's: {output:?}");
    chown(&disk.path().join("home"), (NOBODY, NOBODY));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn copy_environment(from: &Command, to: &mut Command) {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
}

/// Runs a program that makes directories, and stops it right after its `number`th, at `made`.
///
/// It goes on once `swap` is done: however slow this machine is, the swap is never too late.
fn swapped(program: &Command, number: usize, made: &Path, swap: impl FnOnce()) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e"]);
    strace.arg(format!("inject=mkdirat:signal=STOP:when={number}"));
    strace.arg(program.get_program()).args(program.get_args());
    copy_environment(program, &mut strace);
    strace.stdout(std::process::Stdio::piped());
    strace.stderr(std::process::Stdio::piped());
    let strace = strace.spawn().unwrap();
    support::consumer::wait_until("a directory is made", || made.exists());
    swap();
    let id = strace.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let child = rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::CONT).unwrap();
    strace.wait_with_output().unwrap()
}

/// Moves a directory away that was just made, and puts something in its place. `elsewhere` holds a
/// private file of root's, and a private directory with something in it.
type Swap = fn(made: &Path, elsewhere: &Path);

const SWAPS: [(&str, Swap); 5] = [
    ("a link to a file", |made, elsewhere| {
        link_to(&elsewhere.join("file"), made);
    }),
    ("a link to a directory", |made, elsewhere| {
        link_to(&elsewhere.join("directory"), made);
    }),
    ("another directory", |made, elsewhere| {
        fs::rename(elsewhere.join("directory"), made).unwrap();
        link_to(made, &elsewhere.join("directory"));
    }),
    ("another user's directory", |made, _| {
        fs::create_dir(made).unwrap();
        set_mode(made, 0o700);
        chown(made, (NOBODY, NOBODY));
    }),
    ("nothing", |_, _| {}),
];

/// Makes another user's link, which leads to the same place in a root directory and outside of it.
fn link_to(target: &Path, link: &Path) {
    let common = |path: &&Path| target.starts_with(path);
    let (up, top) = (0..)
        .zip(link.ancestors().skip(1))
        .find(|(_, path)| common(path))
        .unwrap();
    let target = Path::new(&"../".repeat(up)).join(target.strip_prefix(top).unwrap());
    std::os::unix::fs::symlink(target, link).unwrap();
    std::os::unix::fs::lchown(link, Some(NOBODY), None).unwrap();
}

/// Tries every swap at every directory that a program makes, each time below a new top.
fn try_swaps(
    levels: &[&str],
    umask: &str,
    mut program: impl FnMut() -> (PathBuf, Command),
) -> Vec<Output> {
    let mut outputs = Vec::new();
    for (number, below) in (1..).zip(levels) {
        for (what, swap) in SWAPS {
            let (top, command) = program();
            let stat = fs::metadata(&top).unwrap();
            let is_open = number == 1 && (stat.uid() != 0 || stat.mode() & 0o022 != 0);
            if what == "another directory" && !is_open {
                continue; // Nobody but root can move one of root's there.
            }
            let elsewhere = top.join("elsewhere");
            fs::create_dir_all(elsewhere.join("directory")).unwrap();
            for file in ["file", "directory/secret"] {
                fs::write(elsewhere.join(file), "secret").unwrap();
                set_mode(&elsewhere.join(file), 0o600);
            }
            set_mode(&elsewhere.join("directory"), 0o500);
            let mut masked = Command::new("sh");
            masked.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
            masked.arg(command.get_program()).args(command.get_args());
            copy_environment(&command, &mut masked);
            let made = top.join(below);
            let output = swapped(&masked, number, &made, || {
                fs::rename(&made, elsewhere.join("made")).unwrap();
                swap(&made, &elsewhere);
            });
            let modes = ["file", "directory", "directory/secret"];
            let modes = modes.map(|name| mode(&elsewhere.join(name)));
            assert_eq!(modes, [0o600, 0o500, 0o600], "{below}: {what}: {output:?}");
            if what != "another directory" {
                let names = fs::read_dir(elsewhere.join("directory")).unwrap();
                assert_eq!(names.count(), 1, "{below}: {what}: {output:?}");
            }
            if what == "another user's directory" {
                assert_eq!(mode(&made), 0o700, "{below}: {output:?}");
                assert_eq!(
                    fs::read_dir(&made).unwrap().count(),
                    0,
                    "{below}: {output:?}"
                );
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                said.contains(&format!("/{below} ")),
                "{below}: {what}: {said}"
            );
            outputs.push(output);
        }
    }
    outputs
}

const LEVELS: [&str; 3] = ["var", "var/lib", "var/lib/modstamp"];

fn a_mode_is_only_given_to_the_directory_that_was_just_made() {
    for umask in ["022", "077"] {
        let mut disks = Vec::new();
        let outputs = try_swaps(&LEVELS, umask, || {
            let disk = Mounted::tmpfs("mode=755,uid=65534");
            let top = disk.path().to_owned();
            disks.push(disk);
            let mut touch = Command::new(env!("CARGO_BIN_EXE_modstamp"));
            touch.args(["touch", "--root"]).arg(&top);
            (top, touch)
        });
        assert!(
            outputs.iter().all(|output| output.status.code() == Some(1)),
            "{outputs:?}"
        );
    }
}

fn a_plain_touch_gives_a_mode_only_to_the_directory_that_was_just_made() {
    let mut hosts = Vec::new();
    let outputs = try_swaps(&LEVELS, "077", || {
        let host = Host::new();
        let mut touch = host.inside(0, "/usr/bin/modstamp");
        touch.arg("touch");
        fs::remove_dir_all(host.path("var")).unwrap();
        let top = host.path("");
        hosts.push(host);
        (top, touch)
    });
    assert!(
        outputs.iter().all(|output| output.status.code() == Some(1)),
        "{outputs:?}"
    );
}

fn a_cache_gives_a_mode_only_to_the_directory_that_was_just_made() {
    let mut disks = Vec::new();
    let outputs = try_swaps(&["a", "a/b", "a/b/c"], "022", || {
        let disk = Mounted::tmpfs("mode=775");
        let top = disk.path().to_owned();
        disks.push(disk);
        let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        run.args(["run", "--profile", "qemu", "--root"]).arg(&top);
        run.arg("--cache")
            .arg(top.join("a/b/c"))
            .args(["--", "echo", "asked"]);
        (top, run)
    });
    for output in outputs {
        assert_eq!(
            (output.status.code(), &*output.stdout),
            (Some(0), &b"asked\n"[..])
        );
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("use the cache"), "{said}");
        assert!(
            said.contains("; running the command without a cache"),
            "{said}"
        );
    }
}
