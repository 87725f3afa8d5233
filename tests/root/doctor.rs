//! `modstamp doctor` finds what only root can break: labels, mounts, and another user's rights.
//! It tells each user of their own caches, and so does `modstamp status`.

use std::process::Command;

use rustix::fs::XattrFlags;
use support::libvirt::{DRIVER, Host, SYSTEM, WATCHED, X86};
use support::test::{self, Needs, Test};
use support::world::{STAMP, World};
use support::{executable, named};

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::root_and(&["mount", "umount"]), SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_label_that_is_not_that_of_var_lib_is_found,
    a_tiny_limit_of_inotify_is_found_on_the_running_system,
    a_limit_of_inotify_that_roots_programs_use_up_is_found,
    stamps_on_a_read_only_file_system_are_found,
    a_stamp_of_another_users_is_found_and_mended,
    everybody_is_told_of_the_caches_that_they_make_good_and_of_each_failed_remedy,
    status_tells_a_user_to_ask_as_root_about_a_cache_of_libvirts_that_is_closed,
    an_ordinary_users_remedies_are_for_root,
    a_read_only_module_directory_is_noted,
];

/// What the doctor says about a world; nothing, if all is well.
fn findings(world: &World) -> String {
    let output = world.output(&["doctor"]);
    let said = String::from_utf8(output.stdout).unwrap();
    match output.status.code() {
        Some(0) => {
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with("all is well: "), "{said}");
            String::new()
        }
        Some(1) => said,
        status => panic!("{status:?}: {said}"),
    }
}

fn sound() -> World {
    let world = World::new();
    assert!(world.output(&["update"]).status.success());
    assert_eq!(findings(&world), "");
    world
}

/// The last line of the only finding.
#[track_caller]
fn remedy(world: &World, check: &str) -> String {
    let said = findings(world);
    let lines: Vec<&str> = said.lines().collect();
    assert!(said.starts_with(&format!("problem ({check}): ")), "{said}");
    assert!(said.contains("1 problem found"), "{said}");
    let remedy = lines[2].trim().strip_prefix("inside that system: ");
    remedy.expect(lines[2]).to_owned()
}

fn a_label_that_is_not_that_of_var_lib_is_found() {
    let world = sound();
    let label = |value: &str| {
        let (path, flags) = (world.path(STAMP), XattrFlags::empty());
        rustix::fs::setxattr(path, "security.selinux", value.as_bytes(), flags).unwrap();
    };
    label("system_u:object_r:var_lib_t:s0\0");
    assert_eq!(findings(&world), "");
    label("system_u:object_r:user_home_t:s0\n  rm -r /\0");
    assert_eq!(findings(&world), "", "SELinux is off");
    world.sh("mkdir -p sys/fs/selinux; touch sys/fs/selinux/enforce");
    let said = findings(&world);
    assert!(said.contains("user_home_t:s0\\x0a  rm -r /\n"), "{said}");
    let remedy = remedy(&world, "stamp-label");
    assert_eq!(remedy, "chcon -R -t var_lib_t /var/lib/modstamp");
    // A missing stamp has no label. It is another finding.
    world.remove(STAMP);
    let said = findings(&world);
    assert!(said.contains("problem (stamp): "), "{said}");
    assert!(!said.contains("stamp-label"), "{said}");
}

/// The doctor's findings about inotify, as root of the host.
fn of_inotify(host: &Host, instances: usize, watches: usize) -> Vec<String> {
    host.sh(&format!(
        "mkdir -p proc/sys/fs/inotify
         echo {instances} > proc/sys/fs/inotify/max_user_instances
         echo {watches} > proc/sys/fs/inotify/max_user_watches"
    ));
    let output = host.inside(0, "/usr/bin/modstamp").arg("doctor").output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut lines = said.lines();
    let mut told = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(seen) = line.strip_prefix("problem (inotify): ") {
            let why = lines.next().unwrap();
            assert!(
                why.contains("modstamp-update@qemu.path may not start"),
                "{why}"
            );
            told.push(format!("{seen}: {}", lines.next().unwrap().trim()));
        }
    }
    told
}

fn a_tiny_limit_of_inotify_is_found_on_the_running_system() {
    let host = Host::new();
    host.sh("mkdir -p usr/lib/systemd");
    executable(&host.path("usr/lib/systemd/systemd"), "");
    assert_eq!(of_inotify(&host, 16, 64), [""; 0]);
    let instances = "fs.inotify.max_user_instances is 15, which leaves less than 16: sysctl -w \
                     fs.inotify.max_user_instances=128";
    assert_eq!(of_inotify(&host, 15, 64), [instances]);
    let watches = "fs.inotify.max_user_watches is 63, which leaves less than 64: sysctl -w \
                   fs.inotify.max_user_watches=8192";
    assert_eq!(of_inotify(&host, 16, 63), [watches]);
    host.remove("usr/lib/systemd/systemd");
    assert_eq!(
        of_inotify(&host, 0, 0),
        [""; 0],
        "without systemd nothing watches"
    );
}

fn a_limit_of_inotify_that_roots_programs_use_up_is_found() {
    let host = Host::new();
    host.sh(
        "mkdir -p usr/lib/systemd proc/1/fd proc/7/fd proc/8/fd proc/self/fd
         for number in 3 4 5; do ln -s anon_inode:inotify proc/7/fd/$number; done
         ln -s anon_inode:[eventpoll] proc/7/fd/6
         for process in 1 8 self; do ln -s anon_inode:inotify proc/$process/fd/3; done
         chown 1000 proc/8",
    );
    executable(&host.path("usr/lib/systemd/systemd"), "");
    // Neither systemd's own instance nor those of other users count.
    assert_eq!(of_inotify(&host, 19, 64), [""; 0]);
    let told = "fs.inotify.max_user_instances is 18, and programs other than systemd use up to 3, which \
                leaves less than 16: sysctl -w fs.inotify.max_user_instances=131";
    assert_eq!(of_inotify(&host, 18, 64), [told]);
}

fn stamps_on_a_read_only_file_system_are_found() {
    let world = sound();
    let directory = world.path("var/lib/modstamp");
    world.mount(&["--bind", directory.to_str().unwrap()], "var/lib/modstamp");
    support::run(
        Command::new("mount")
            .args(["-o", "remount,bind,ro"])
            .arg(&directory),
    );
    let remedy = remedy(&world, "stamp-disk");
    assert!(remedy.starts_with("mount -o remount,rw "), "{remedy}");
}

fn a_stamp_of_another_users_is_found_and_mended() {
    let world = sound();
    std::os::unix::fs::chown(world.path(STAMP), Some(99), Some(99)).unwrap();
    let remedy = remedy(&world, "stamp-rights");
    world.sh(&remedy.replace(" /", " ")); // from the root's top
    assert_eq!(findings(&world), "");
}

/// The caches that the doctor finds stale for a user, each with its remedy.
fn stale_caches(host: &Host, user: u32) -> Vec<(String, String)> {
    let output = host
        .inside(user, "/usr/bin/modstamp")
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let caches = findings.filter(|finding| finding["check"] == "cache");
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    caches
        .map(|it| (text(it, "seen"), text(it, "remedy")))
        .collect()
}

fn everybody_is_told_of_the_caches_that_they_make_good_and_of_each_failed_remedy() {
    const USER: u32 = 1000;
    let host = Host::new();
    let caches = ["/var/cache/toy", "$XDG_CACHE_HOME/toy"];
    let tables = caches.map(|directory| {
        format!("[[cache]]\nfiles = [\"{directory}/*.bin\"]\nremedy = \"remove\"\n")
    });
    let profile = format!(
        "module-directories = [\"/usr/lib/toy\"]\n{}",
        tables.concat()
    );
    host.write("etc/modstamp/profiles.d/toy.toml", &profile);
    host.sh("mkdir -p usr/lib/toy var/cache/toy home/me/.cache/toy; touch usr/lib/toy/a.so");
    host.sh(&format!("chown -R {USER}:{USER} home/me"));
    let modstamp = |user: u32, verb: &str| {
        let mut command = host.inside(user, "/usr/bin/modstamp");
        command.args([verb, "--profile", "toy"]).output().unwrap();
    };
    let fill = || {
        host.sh("touch var/cache/toy/one.bin home/me/.cache/toy/one.bin");
        host.sh(&format!("chown {USER} home/me/.cache/toy/one.bin"));
    };
    for user in [0, USER] {
        modstamp(user, "update");
    }
    fill();
    for user in [0, USER] {
        assert_eq!(stale_caches(&host, user), [], "{user}");
    }
    host.sh("touch var/lib/modstamp/toy.stamp");
    let mend = "modstamp refresh --stale --profile toy".to_owned();
    for (user, cache) in [(0, "/var/cache/toy/"), (USER, "$XDG_CACHE_HOME/toy/")] {
        let found = stale_caches(&host, user);
        let [(seen, remedy)] = &found[..] else {
            panic!("{user}: {found:?}");
        };
        assert!(seen.starts_with(&format!("the cache {cache}")), "{seen}");
        assert_eq!(*remedy, mend);
    }
    host.sh("mkdir var/cache/toy/sub.bin");
    for user in [0, USER] {
        modstamp(user, "update");
    }
    for (user, remedy) in [(0, mend.clone()), (USER, format!("sudo {mend}"))] {
        let found = stale_caches(&host, user);
        let [(seen, told)] = &found[..] else {
            panic!("{user}: {found:?}");
        };
        assert!(
            seen.contains("is stale: the last remedy failed: "),
            "{seen}"
        );
        assert_eq!(*told, remedy);
    }
    // No remedy was applied yet. If a unit of a user's manager is enabled, the cache should be good.
    host.sh("rm -r home/me/.local var/cache/toy/sub.bin");
    modstamp(0, "update");
    fill();
    assert_eq!(stale_caches(&host, USER), []);
    for wants in ["etc/systemd/user", "home/me/.config/systemd/user"] {
        let wants = format!("{wants}/default.target.wants");
        host.sh(&format!(
            "mkdir -p {wants}; ln -s x {wants}/modstamp-update@toy.path"
        ));
        let found = stale_caches(&host, USER);
        assert_eq!(found.len(), 1, "{wants}: {found:?}");
        host.sh(&format!("rm -r {wants}"));
    }
}

fn status_tells_a_user_to_ask_as_root_about_a_cache_of_libvirts_that_is_closed() {
    let host = Host::new();
    let file = host.ask(X86);
    let asked = |arguments: &[&str]| {
        let mut command = host.inside(1000, "/usr/bin/modstamp");
        let output = command
            .args(["status", "--profile", "qemu"])
            .args(arguments);
        let output = output.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for closed in [
        format!("chmod 600 {file}"),
        "chmod 700 var/cache/libvirt".to_owned(),
    ] {
        host.sh(&closed);
        let table = asked(&[]);
        let row = table.lines().find(|line| line.contains("system cache"));
        let row = row.expect(&table);
        let directory = SYSTEM.trim_end_matches("/capabilities");
        assert!(row.contains(directory), "{row}");
        assert!(row.contains("  run as root, to see"), "{row}");
        let json: serde_json::Value = serde_json::from_str(&asked(&["--json"])).unwrap();
        let cache = &json["profiles"][0]["libvirt_caches"][0];
        assert_eq!(cache["verdict"], serde_json::Value::Null, "{cache}");
    }
}

fn an_ordinary_users_remedies_are_for_root() {
    let host = Host::new();
    host.remove(STAMP);
    host.sh("chown -R 65534 home/me");
    let told = |user: u32| {
        let output = host
            .inside(user, "/usr/bin/modstamp")
            .arg("doctor")
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let said = told(65534);
    for command in ["touch --profile qemu", "libvirt refresh"] {
        let remedy = format!("\n  sudo modstamp {command}\n");
        assert!(said.contains(&remedy), "{said}");
    }
    assert!(!told(0).contains("sudo"));
    // Root can look at places that a user cannot.
    host.sh("chmod 700 etc/modstamp");
    let said = told(65534);
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("\n  sudo modstamp doctor\n"), "{said}");
    host.sh("chmod 755 etc/modstamp");
    // A user edits a profile of the user's own without root.
    for (directory, sudo) in [("home/me/.config", ""), ("etc", "sudo ")] {
        let file = format!("{directory}/modstamp/profiles.d/foo.toml");
        host.sh(&format!(
            "mkdir -p {directory}/modstamp/profiles.d; echo 'program = []' > {file}"
        ));
        host.sh("chown -R 65534 home/me");
        let (said, edit) = (told(65534), format!("{sudo}\"${{EDITOR:-vi}}\" /{file}"));
        assert!(said.contains(&format!("\n  {edit}\n")), "{said}");
        host.remove(&file);
    }
    // The advice of other verbs is for the same profile.
    let mut touch = host.inside(65534, "/usr/bin/modstamp");
    let output = touch.args(["touch", "--profile", "nbdkit"]).output();
    let (out, _) = host.said(&output.unwrap());
    let advice = "as root, “modstamp touch --profile nbdkit” touches the system's stamp";
    assert!(out.contains(advice), "{out}");
    let mut update = host.inside(65534, "/usr/bin/modstamp");
    let (out, _) = host.said(&update.arg("update").output().unwrap());
    assert!(out.starts_with("touched your own stamp: "), "{out}");
}

fn a_read_only_module_directory_is_noted() {
    let host = Host::new();
    let library = std::path::Path::new(DRIVER).ancestors().nth(3).unwrap();
    host.write(library.join("libvirt.so.0.11003.0").to_str().unwrap(), "");
    let note = "the module directory is read-only, so running daemons need a restart";
    let told = || String::from_utf8(host.output(&["doctor"]).stdout).unwrap();
    assert!(!told().contains(note), "{}", told());
    let directory = host.path(WATCHED);
    host.mount(&["--bind", directory.to_str().unwrap()], WATCHED);
    let mut remount = Command::new("mount");
    support::run(remount.args(["-o", "remount,bind,ro"]).arg(&directory));
    assert!(told().contains(note), "{}", told());
}
