//! The promises of `--root DIR` to root, if DIR is another user's, or the way to it goes through
//! that user's directories.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::libvirt::{Host, SYSTEM, USER, WATCHED, X86, at_home, file_name};
use support::named;
use support::tally::Promise;
use support::test::{self, Needs, Test};

use super::filesystems::NOBODY;

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["sleep"]);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_link_that_another_user_could_have_put_on_the_way_to_the_root_is_refused,
    a_link_of_the_callers_own_on_the_way_to_the_root_is_followed,
    a_root_is_named_from_the_working_directory_and_by_a_process,
    a_chroot_of_roots_in_another_users_home_goes_on_working,
    root_changes_nothing_of_a_tree_that_another_user_owns,
    root_leaves_no_tree_by_a_link_in_it,
    a_program_that_another_user_could_have_linked_is_left_alone,
];

/// Every verb that may change something, as arguments.
const CHANGES: [&[&str]; 6] = [
    &["libvirt", "evict", "--all"],
    &["libvirt", "evict"],
    &["libvirt", "refresh"],
    &["touch"],
    &["update"],
    &["trigger", "dpkg", "/usr/lib/x86_64-linux-gnu/qemu"],
];

const LOOKS: [&[&str]; 3] = [&["status"], &["observe"], &["libvirt", "status"]];

/// A host with an answer in each cache, and another user's home beside it.
struct Scene {
    host: Host,
    home: PathBuf,
}

impl Scene {
    fn new() -> Scene {
        let host = Host::new();
        for cache in [SYSTEM, USER] {
            host.keep(cache, &host.answer(X86));
        }
        let home = host.beside("home");
        fs::create_dir(&home).unwrap();
        chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        // The scratch directory is root's alone, and the user has a way to the home.
        let top = home.parent().unwrap();
        fs::set_permissions(top, fs::Permissions::from_mode(0o755)).unwrap();
        Scene { host, home }
    }

    /// All that is on the host, with every fact but atimes.
    fn facts(&self) -> String {
        self.host
            .sh(r"find . -printf '%p %y %m %U:%G %s %T@ %C@ %l\n' | sort")
    }

    /// Gives a link at `path` that leads to the host to a user.
    fn link(&self, path: &Path, owner: u32) {
        symlink(self.host.path(""), path).unwrap();
        lchown(path, Some(owner), Some(owner)).unwrap();
    }
}

/// Runs a verb as root on the tree at `root`.
fn run(arguments: &[&str], root: &Path) -> Output {
    let mut command = at_home(Command::new(support::program("modstamp")));
    command.args(arguments).arg("--root").arg(root);
    command.output().unwrap()
}

fn messages(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_done(arguments: &[&str], root: &Path) {
    let output = run(arguments, root);
    assert!(
        output.status.success(),
        "{arguments:?} on {}: {output:?}",
        root.display()
    );
    assert_eq!(messages(&output), "", "{arguments:?} on {}", root.display());
}

/// The command line's own sentence for a link on the way to the root.
fn sentence(root: &Path, link: &Path, problem: &str) -> String {
    format!(
        "cannot enter the root directory {}: {} is a symbolic link {problem}; name the directory that it leads to",
        root.display(),
        link.display()
    )
}

fn a_link_that_another_user_could_have_put_on_the_way_to_the_root_is_refused() {
    let scene = Scene::new();
    let top = scene.home.parent().unwrap();
    let [theirs, roots, open, sticky] = ["theirs", "roots", "open", "sticky"];
    let theirs = scene.home.join(theirs);
    scene.link(&theirs, NOBODY);
    // Its owner may have moved root's link there, from another of the user's directories.
    let roots = scene.home.join(roots);
    scene.link(&roots, 0);
    for (name, mode) in [(open, 0o777), (sticky, 0o1777)] {
        fs::create_dir(top.join(name)).unwrap();
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let [open, sticky] = [open, sticky].map(|name| top.join(name).join("link"));
    scene.link(&open, 0);
    scene.link(&sticky, 0);
    fs::hard_link(&sticky, top.join("again")).unwrap();
    let user = format!("belongs to user {NOBODY}");
    let before = scene.facts();
    for (link, problem) in [
        (&theirs, format!("that {user}")),
        (&roots, format!("in a directory that {user}")),
        (
            &open,
            "in a directory that can be written by every user".to_owned(),
        ),
    ] {
        for verb in CHANGES.iter().chain(&LOOKS) {
            // The link may be the last step, and any other.
            for root in [link.clone(), link.join("."), link.join("usr/..")] {
                let output = run(verb, &root);
                let expected = sentence(&root, link, &problem);
                assert!(
                    messages(&output).contains(&expected),
                    "{verb:?}: {output:?}"
                );
                let code = i32::from(verb[0] != "trigger");
                assert_eq!(output.status.code(), Some(code), "{verb:?}: {output:?}");
                Promise::NoWriteOutside.held();
            }
        }
    }
    let said = messages(&run(&["touch"], &sticky));
    assert!(
        said.contains(&format!("{} has 2 names", sticky.display())),
        "{said}"
    );
    assert_eq!(scene.facts(), before);
}

fn a_link_of_the_callers_own_on_the_way_to_the_root_is_followed() {
    let scene = Scene::new();
    let top = scene.home.parent().unwrap();
    let sticky = top.join("sticky");
    fs::create_dir(&sticky).unwrap();
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
    for directory in [top, &sticky] {
        let link = directory.join("link");
        scene.link(&link, 0);
        let again = directory.join("again");
        symlink("link", &again).unwrap();
        for root in [
            &link,
            &again,
            &again.join("usr/.."),
            &again.join("usr/lib/../.."),
        ] {
            assert_done(&["touch"], root);
            assert_done(&["status"], root);
        }
    }
    // A user's own link counts for that user, and root's.
    let modstamp = super::filesystems::modstamp_for_all();
    let theirs = scene.home.join("theirs");
    scene.link(&theirs, NOBODY);
    for root in [&theirs, &top.join("link")] {
        let mut command = Command::new("setpriv");
        command.args([
            "--clear-groups",
            &format!("--reuid={NOBODY}"),
            &format!("--regid={NOBODY}"),
        ]);
        command.arg(&modstamp).args(["observe", "--root"]).arg(root);
        let output = command.current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn a_root_is_named_from_the_working_directory_and_by_a_process() {
    let scene = Scene::new();
    let stamp = scene.host.path(support::world::STAMP);
    let mtime = || {
        let stat = fs::metadata(&stamp).unwrap();
        (stat.mtime(), stat.mtime_nsec())
    };
    let mut sleep = Command::new("sleep");
    let mut sleep = sleep
        .arg("60")
        .current_dir(scene.host.path(""))
        .spawn()
        .unwrap();
    let here = format!("/proc/{}/cwd", sleep.id());
    for (root, from) in [(".", ""), ("./", ""), ("..", "usr"), ("../usr/..", "usr")] {
        let mut command = at_home(Command::new(support::program("modstamp")));
        command
            .args(["touch", "--root", root])
            .current_dir(scene.host.path(from));
        let last = mtime();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{root}: {output:?}");
        assert!(mtime() > last, "{root}");
    }
    let last = mtime();
    assert_done(&["touch"], Path::new(&here));
    assert!(mtime() > last, "by {here}");
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    for (root, cause) in [
        ("missing", "No such file"),
        ("usr/bin/qemu-system-arm", "Not a directory"),
    ] {
        let said = messages(&run(&["touch"], &scene.host.path(root)));
        assert!(said.contains(cause), "{said}");
        assert!(
            said.contains("name a directory that exists and that you may enter"),
            "{said}"
        );
    }
}

fn a_chroot_of_roots_in_another_users_home_goes_on_working() {
    let scene = Scene::new();
    let chroot = scene.home.join("chroot");
    fs::rename(scene.host.path(""), &chroot).unwrap();
    fs::create_dir(scene.host.path("")).unwrap(); // for the end of the test
    for verb in CHANGES.iter().chain(&LOOKS) {
        assert_done(verb, &chroot);
    }
    assert!(!chroot.join(SYSTEM).join(file_name(X86)).exists());
}

/// Gives a tree to the other user, links and all.
fn give_away(top: &Path) {
    let mut chown = Command::new("chown");
    support::run(chown.args(["-hR", &format!("{NOBODY}:{NOBODY}")]).arg(top));
}

fn root_changes_nothing_of_a_tree_that_another_user_owns() {
    let scene = Scene::new();
    give_away(&scene.host.path(""));
    let before = scene.facts();
    for verb in CHANGES {
        let output = run(verb, &scene.host.path(""));
        let code = i32::from(verb[0] != "trigger");
        assert_eq!(output.status.code(), Some(code), "{verb:?}: {output:?}");
        let said = messages(&output);
        assert!(
            said.contains(&format!("belongs to user {NOBODY}")),
            "{verb:?}: {said}"
        );
        assert_eq!(scene.facts(), before, "{verb:?}");
        Promise::NoWriteOutside.held();
    }
}

/// The links at each level are the other user's, and root's own.
fn root_leaves_no_tree_by_a_link_in_it() {
    for owner in [NOBODY, 0] {
        for place in [
            "var",
            "var/cache",
            "var/cache/libvirt",
            SYSTEM,
            "var/lib",
            "var/lib/modstamp",
            "usr",
            WATCHED,
        ] {
            let scene = Scene::new();
            let outside = scene.host.beside("outside");
            fs::rename(scene.host.path(place), &outside).unwrap();
            symlink(&outside, scene.host.path(place)).unwrap();
            lchown(scene.host.path(place), Some(owner), Some(owner)).unwrap();
            let facts = || {
                let find = r"find . -printf '%p %y %m %s %T@ %C@\n' | sort";
                support::run(Command::new("sh").args(["-c", find]).current_dir(&outside))
            };
            let before = facts();
            for verb in CHANGES {
                run(verb, &scene.host.path(""));
                assert_eq!(facts(), before, "{verb:?} with a link at {place}");
                Promise::NoWriteOutside.held();
            }
        }
    }
}

/// `fs.protected_hardlinks` may be off.
fn a_program_that_another_user_could_have_linked_is_left_alone() {
    let scene = Scene::new();
    let host = &scene.host;
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    let program = host.path(&X86[1..]);
    fs::hard_link(&program, scene.home.join("theirs")).unwrap();
    let ctime = || {
        let stat = fs::metadata(&program).unwrap();
        (stat.ctime(), stat.ctime_nsec())
    };
    // Nobody else could have linked it into a directory of root's.
    let before = ctime();
    host.refresh_by_ctime();
    assert_ne!(ctime(), before);
    host.set_permissions("usr/bin", 0o1777);
    let before = ctime();
    let (_, said) = host.fail(&["libvirt", "refresh"]);
    let problem = format!("{X86} has 2 names, in a directory to which others can add some");
    assert!(said.contains(&problem), "{said}");
    assert_eq!(ctime(), before);
}
