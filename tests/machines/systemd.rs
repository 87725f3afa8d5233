//! The units in packaging/systemd: systemd-analyze(1)'s view of them, and their effect under a real
//! systemd.
//!
//! systemd-nspawn(1) boots systemd 252 and 257 in throw-away machines, within two seconds. They
//! share the kernel and the file systems of the tests. The machines of lab/ have their own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use support::deb::{self, MODULES, RELEASES};
use support::test::{self, Needs, Test, test};
use support::{named, run};

use crate::booted::{Booted, install_units};

const PAGE: &str = include_str!("../../docs/security.md");

pub fn tests() -> Vec<Test> {
    let analyze = Needs::of(&["make", "systemctl", "systemd-analyze"]);
    let mut tests: Vec<Test> = test::tests(&analyze, FILES).collect();
    let needs = Needs::root_and(&[&deb::PROGRAMS[..], &["nsenter", "systemd-nspawn"]].concat());
    for release in &RELEASES {
        tests.extend(SCENARIOS.iter().map(|(name, scenario)| {
            let scenario = *scenario;
            test(format!("{}::{name}", release.suite), &needs, move || {
                scenario(&mut Booted::new(release));
            })
        }));
    }
    tests
}

const FILES: &[(&str, fn())] = &[
    (
        "systemd_finds_nothing_wrong_with_any_unit",
        systemd_finds_nothing_wrong_with_any_unit,
    ),
    (
        "no_service_is_more_exposed_than_the_page_says",
        no_service_is_more_exposed_than_the_page_says,
    ),
    (
        "each_service_may_do_what_the_page_says",
        each_service_may_do_what_the_page_says,
    ),
    (
        "the_watches_are_those_of_the_profiles_directories",
        the_watches_are_those_of_the_profiles_directories,
    ),
    (
        "make_install_enables_no_unit_and_the_presets_enable_each",
        make_install_enables_no_unit_and_the_presets_enable_each,
    ),
];

type Scenario = fn(&mut Booted);

const SCENARIOS: &[(&str, Scenario)] = named![
    a_boot_after_a_change_touches_before_libvirts_sockets_and_another_one_does_not,
    on_a_read_only_usr_what_is_stale_goes_from_another_users_cache_before_libvirts_sockets,
    a_directory_that_is_mounted_late_holds_up_no_boot_and_is_looked_at_once_it_is_there,
    a_change_is_looked_at_and_what_the_look_changes_ends_it,
    a_change_while_a_look_is_under_way_is_looked_at,
    a_hundred_modules_cost_a_few_looks_and_the_watch_goes_on,
    a_look_that_cannot_be_remembered_does_not_go_round_and_round,
    what_happens_beside_a_missing_directory_is_not_looked_at,
    the_watch_sees_what_the_page_says,
    a_users_manager_looks_before_its_other_units,
    a_touch_has_a_command_run_and_a_users_cache_removed_while_both_managers_run,
    after_a_plain_touch_the_units_make_caches_good_below_usr_and_var,
    the_packages_enable_the_units_and_leave_none,
];

/// What `make install` installs of systemd's, for the program that is under test.
fn installed(variables: &[&str]) -> tempfile::TempDir {
    let destination = tempfile::tempdir().unwrap();
    install_units(destination.path(), variables);
    destination
}

/// The same as it is analysed: started is the program itself, which has to be there.
static UNITS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let program = Path::new(env!("CARGO_BIN_EXE_modstamp"));
    let directory = program.parent().unwrap().display();
    installed(&["PREFIX=/usr", &format!("BINDIR={directory}")])
});

const SYSTEM: &str = "usr/lib/systemd/system";
const USER: &str = "usr/lib/systemd/user";

/// The path of a unit.
fn unit(path: &str) -> PathBuf {
    UNITS.path().join(path)
}

/// A unit's values of a setting, all that its lines have.
fn values(path: &Path, setting: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    let values = lines.flat_map(str::split_whitespace);
    values.map(str::to_owned).collect()
}

fn systemd_finds_nothing_wrong_with_any_unit() {
    // libvirt's own, by which systemd reads the drop-ins.
    for daemon in ["libvirtd.service", "virtqemud.service"] {
        let text = "[Service]\nExecStart=/bin/true\n";
        fs::write(unit(SYSTEM).join(daemon), text).unwrap();
    }
    for (manager, directory, units) in [
        (
            "--system",
            SYSTEM,
            &[
                "modstamp-update@qemu.service",
                "modstamp-update@qemu.path",
                "modstamp-update@nbdkit.path",
                "modstamp-update@own.path",
                "modstamp-settle@qemu.service",
                "modstamp-refresh@qemu.service",
                "libvirtd.service",
                "virtqemud.service",
            ][..],
        ),
        (
            "--user",
            USER,
            &[
                "modstamp-update@qemu.service",
                "modstamp-update@qemu.path",
                "modstamp-settle@qemu.service",
                "modstamp-refresh@qemu.service",
            ],
        ),
    ] {
        let output = Command::new("systemd-analyze")
            .args([manager, "--man=no", "verify"])
            .args(units.iter().map(|name| unit(directory).join(name)))
            .env("XDG_RUNTIME_DIR", UNITS.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // What it says of the machine's own units.
        let own: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("modstamp"))
            .collect();
        assert_eq!(own, [""; 0]);
        assert!(output.status.success(), "{output:?}");
    }
}

/// The rows of the page's table of units: name, manager, user, capabilities, writable paths, and
/// the highest exposure.
fn rows() -> Vec<[&'static str; 5]> {
    let cells = |line: &'static str| -> Option<[&'static str; 5]> {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        line.split(" | ").collect::<Vec<_>>().try_into().ok()
    };
    let head = ["unit", "runs as", "capabilities", "may write", "exposure"];
    let mut lines = PAGE.lines();
    assert!(lines.any(|line| cells(line) == Some(head)), "no table");
    let rows: Vec<_> = lines.skip(1).map_while(cells).collect();
    assert_eq!(rows.len(), 6);
    rows
}

/// Where the unit of a row is.
fn path([name, who, ..]: &[&str; 5]) -> PathBuf {
    let directory = match who.starts_with("root") {
        true => SYSTEM,
        false => USER,
    };
    unit(directory).join(name.trim_matches('`'))
}

fn no_service_is_more_exposed_than_the_page_says() {
    for row in rows() {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=yes"])
            .arg(path(&row))
            .env("SYSTEMD_COLORS", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let (_, exposure) = said.split_once("Overall exposure level for ").unwrap();
        let exposure = exposure.split_whitespace().nth(1).unwrap();
        let most = row[4].trim_start_matches("at most ");
        assert!(
            exposure.parse::<f32>().unwrap() <= most.parse().unwrap(),
            "{row:?}: {said}"
        );
    }
}

fn each_service_may_do_what_the_page_says() {
    for row in rows() {
        let [_, who, capabilities, writes, _] = row;
        let path = path(&row);
        let quoted = |cell: &'static str| cell.split('`').skip(1).step_by(2);
        if who.starts_with("root") {
            let found = values(&path, "CapabilityBoundingSet");
            assert_eq!(quoted(capabilities).collect::<Vec<_>>(), found, "{row:?}");
            assert_eq!(values(&path, "ProtectSystem"), ["strict"]);
            let state = values(&path, "StateDirectory");
            let state = state.iter().map(|name| format!("/var/lib/{name}"));
            let paths = values(&path, "ReadWritePaths");
            let paths = paths
                .iter()
                .map(|path| path.trim_start_matches('-').to_owned());
            let found: Vec<_> = state.chain(paths).collect();
            assert_eq!(quoted(writes).collect::<Vec<_>>(), found, "{row:?}");
        }
        assert_eq!(values(&path, "NoNewPrivileges"), ["yes"]);
        let families = match quoted(row[0]).any(|name| name.starts_with("modstamp-update@")) {
            true => "none",
            false => "AF_UNIX", // It may ask systemd.
        };
        assert_eq!(values(&path, "RestrictAddressFamilies"), [families]);
    }
}

/// Each watch is of a directory that a pattern of the profile stands for, and each pattern has one.
fn the_watches_are_those_of_the_profiles_directories() {
    for multiarch in ["x86_64-linux-gnu", ""] {
        let installed = installed(&["PREFIX=/usr", &format!("MULTIARCH={multiarch}")]);
        for (profile, text) in [
            ("qemu", include_str!("../../packaging/qemu.toml")),
            ("nbdkit", include_str!("../../packaging/nbdkit.toml")),
        ] {
            let text = toml::de::DeTable::parse(text).unwrap();
            let patterns = text.get_ref()["module-directories"].get_ref();
            let patterns = patterns.as_array().unwrap();
            let patterns = patterns
                .iter()
                .map(|pattern| pattern.get_ref().as_str().unwrap());
            let drop_in = format!("{SYSTEM}/modstamp-update@{profile}.path.d/directories.conf");
            let watches = values(&installed.path().join(drop_in), "PathModified");
            let options = glob::MatchOptions {
                require_literal_separator: true,
                ..glob::MatchOptions::new()
            };
            let mut watched = BTreeSet::new();
            // A variable is the caller's. Next to a program lies what the plain items name, too.
            for pattern in patterns.filter(|pattern| !pattern.starts_with(['$', '{'])) {
                // What comes and goes in a directory is seen from that.
                let seen_from = pattern.strip_suffix("/*").unwrap_or(pattern);
                let glob = glob::Pattern::new(seen_from).unwrap();
                let matching = watches
                    .iter()
                    .filter(|watch| glob.matches_with(watch, options));
                let matching: Vec<_> = matching.collect();
                let is_of_architecture = pattern.contains("lib/*-linux-*/");
                assert!(
                    !matching.is_empty() || is_of_architecture && multiarch.is_empty(),
                    "{profile}: there is no watch for {pattern} in {watches:?}"
                );
                watched.extend(matching);
            }
            assert_eq!(watched, watches.iter().collect(), "{profile}");
        }
    }
}

fn make_install_enables_no_unit_and_the_presets_enable_each() {
    let installed = installed(&[]);
    let top = installed.path();
    let files = |directory: &str| {
        let files = run(Command::new("find")
            .args([directory, "-not", "-type", "d"])
            .current_dir(top));
        let files = files.lines().map(str::to_owned);
        files.collect::<BTreeSet<_>>()
    };
    let expected = [
        "system/libvirtd.service.d/modstamp.conf",
        "system/modstamp-refresh@.service",
        "system/modstamp-settle@.service",
        "system/modstamp-update@.path",
        "system/modstamp-update@.service",
        "system/modstamp-update@nbdkit.path.d/directories.conf",
        "system/modstamp-update@qemu.path.d/directories.conf",
        "system/virtqemud.service.d/modstamp.conf",
        "user/modstamp-refresh@.service",
        "user/modstamp-settle@.service",
        "user/modstamp-update@.path",
        "user/modstamp-update@.service",
    ];
    let expected = expected.map(|file| format!("./usr/local/lib/systemd/{file}"));
    assert_eq!(files("."), expected.into());
    let service = top.join("usr/local/lib/systemd/system/modstamp-update@.service");
    let started = values(&service, "ExecStart");
    assert_eq!(started[0], "/usr/local/bin/modstamp");

    let enabled = [
        "system/basic.target.wants/modstamp-update@qemu.service",
        "system/paths.target.wants/modstamp-update@qemu.path",
        "user/basic.target.wants/modstamp-update@qemu.service",
        "user/paths.target.wants/modstamp-update@qemu.path",
    ];
    let enabled = enabled.map(|link| format!("etc/systemd/{link}"));
    // As dpkg's scripts name the units, and as rpm's do.
    for instance in ["", "qemu"] {
        for (manager, option, kinds) in [
            ("system", "--system", &["service", "path"][..]),
            ("user", "--global", &["service", "path"]),
        ] {
            let name = format!("{manager}-preset/90-modstamp-qemu.preset");
            let to = top.join("etc/systemd").join(&name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let presets = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd");
            fs::copy(format!("{presets}/{name}"), &to).unwrap();
            // As where nothing is enabled that is not named.
            fs::write(to.with_file_name("99-default.preset"), "disable *\n").unwrap();
            let kinds = kinds.iter();
            run(Command::new("systemctl")
                .arg(format!("--root={}", top.display()))
                .args([option, "preset"])
                .args(kinds.map(|kind| format!("modstamp-update@{instance}.{kind}"))));
            fs::remove_dir_all(to.parent().unwrap()).unwrap();
        }
        assert_eq!(files("etc"), enabled.clone().into(), "{instance}");
        fs::remove_dir_all(top.join("etc")).unwrap();
    }
}

/// With /var empty at first, as an image's.
fn a_boot_after_a_change_touches_before_libvirts_sockets_and_another_one_does_not(
    machine: &mut Booted,
) {
    let stamp = |machine: &mut Booted| {
        machine.stop();
        machine.boot(&[]);
        machine.wait();
        machine.sh("systemctl --failed --no-legend; journalctl -q -b | grep -i 'ordering cycle' || true")
            + &machine.sh("cmp /run/seen/qemu.stamp /var/lib/modstamp/qemu.stamp; stat -c %y /run/seen/qemu.stamp")
    };
    assert!(!machine.host.outside("/var/lib/modstamp").exists());
    let first = stamp(machine);
    assert_eq!(first.lines().count(), 1, "{first}");
    assert_eq!(
        machine.sh("stat -c '%a %U' /var/lib/modstamp"),
        "755 root\n"
    );
    assert_eq!(stamp(machine), first);
    machine.change();
    let second = stamp(machine);
    assert_ne!(second, first);
    assert_eq!(stamp(machine), second);
}

fn on_a_read_only_usr_what_is_stale_goes_from_another_users_cache_before_libvirts_sockets(
    machine: &mut Booted,
) {
    let usr = machine.host.outside("/usr");
    let read_only = format!("--bind-ro={}:/usr", usr.display());
    machine.boot(&[&read_only]);
    machine.stop();

    // It is no cache file of libvirt's, and so it is stale.
    let cache = "/var/cache/libvirt/qemu/capabilities";
    machine.host.sh(&format!(
        "mkdir -p {cache}; echo '<qemuCaps/>' > {cache}/a.xml
         chown libvirt-qemu /var/cache/libvirt/qemu {cache}; chmod 700 /var/cache/libvirt/qemu {cache}"
    ));
    machine.boot(&[&read_only]);
    assert_eq!(machine.sh("cat /run/cached"), "a.xml\n", "nothing changed");
    machine.stop();

    machine.change();
    let before = machine
        .host
        .sh("find /usr -printf '%p %i %m %T@ %C@\\n' | sort | sha256sum");
    machine.boot(&[&read_only]);
    assert_eq!(machine.sh("cat /run/cached"), "");
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    machine.stop();
    let after = machine
        .host
        .sh("find /usr -printf '%p %i %m %T@ %C@\\n' | sort | sha256sum");
    assert_eq!(before, after);
}

/// As /usr/local from the network is, which needs services that need basic.target.
fn a_directory_that_is_mounted_late_holds_up_no_boot_and_is_looked_at_once_it_is_there(
    machine: &mut Booted,
) {
    let at = |name: &str| machine.host.outside(&format!("/etc/systemd/system/{name}"));
    let mount = "[Mount]\nWhat=/srv/local\nWhere=/usr/local\nOptions=bind,_netdev\n\
        [Install]\nWantedBy=remote-fs.target\n";
    fs::write(at("usr-local.mount"), mount).unwrap();
    let online = "[Unit]\nBefore=network-online.target\n[Service]\nType=oneshot\n\
        ExecStart=/bin/sleep 2\nRemainAfterExit=yes\n[Install]\nWantedBy=network-online.target\n";
    fs::write(at("online.service"), online).unwrap();
    machine.host.sh(
        "mkdir -p /srv/local/lib/qemu; echo 1 > /srv/local/lib/qemu/a.so
         systemctl enable usr-local.mount remote-fs.target online.service",
    );
    machine.boot(&[]);
    machine.wait();
    let said = machine.sh("journalctl -q -b -o cat");
    assert!(!said.contains("ordering cycle"), "{said}");
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    let [looked, mounted] = [
        "Finished modstamp-update@qemu.service",
        "Mounted usr-local.mount",
    ]
    .map(|what| {
        said.find(what)
            .unwrap_or_else(|| panic!("no “{what}” in {said}"))
    });
    assert!(looked < mounted, "{said}");
    assert!(
        said[mounted..].contains("module directory /usr/local/lib/qemu added"),
        "{said}"
    );
    assert!(machine.is_seen("echo 2 > /usr/local/lib/qemu/a.so"));
}

fn a_change_is_looked_at_and_what_the_look_changes_ends_it(machine: &mut Booted) {
    machine.boot(&[]);
    machine.wait();
    let times = |machine: &Booted| {
        let stat = format!("stat -c %y /var/lib/modstamp/qemu.stamp {}", *MODULES);
        let times = machine.sh(&stat);
        times.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (looks, before) = (machine.looks(), times(machine));
    machine.change();
    machine.wait();
    // The first moves the time of the directory, for libvirt, which the second finds.
    assert_eq!(machine.looks(), looks + 2);
    let after = times(machine);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before != after),
        "{after:?}"
    );
    machine.sh("modstamp check /var/lib/modstamp/qemu.witness");
}

fn a_change_while_a_look_is_under_way_is_looked_at(machine: &mut Booted) {
    let drop_in = machine
        .host
        .outside("/etc/systemd/system/modstamp-update@qemu.service.d");
    fs::create_dir(&drop_in).unwrap();
    // A look that is over, of a service that is not.
    fs::write(
        drop_in.join("slow.conf"),
        "[Service]\nExecStartPost=sleep 8\n",
    )
    .unwrap();
    machine.boot(&[]);
    machine.wait();
    for number in 0..2 {
        machine.sh(&format!("echo 1 > {}/{number}.so", *MODULES));
        let touched = "modstamp check /var/lib/modstamp/qemu.witness >/dev/null";
        machine.sh(&format!("until {touched}; do sleep 0.1; done"));
        let state = machine.sh("systemctl is-active modstamp-update@qemu.service || true");
        assert_eq!(state, "activating\n");
        machine.sh(&format!("echo 22 > {}/{number}.so", *MODULES));
        machine.wait();
        machine.sh(touched);
    }
}

fn a_hundred_modules_cost_a_few_looks_and_the_watch_goes_on(machine: &mut Booted) {
    machine.boot(&[]);
    machine.wait();
    let before = machine.looks();
    // As dpkg does it, within some seconds.
    machine.sh(&format!(
        "cd {}; for i in $(seq 100); do echo $i > $i.so.dpkg-new; mv $i.so.dpkg-new $i.so; sleep 0.03; done",
        *MODULES
    ));
    machine.wait();
    let looks = machine.looks() - before;
    assert!((2..=10).contains(&looks), "{looks}");
    assert!(machine.is_seen(&format!("rm {}/1.so", *MODULES)));
}

fn a_look_that_cannot_be_remembered_does_not_go_round_and_round(machine: &mut Booted) {
    machine.boot(&[]);
    machine.wait();
    machine.sh(
        "mount -t tmpfs -o size=64k full /var/lib/modstamp; modstamp touch
        cat /dev/zero > /var/lib/modstamp/full || true",
    );
    machine.sh("sleep 5");
    let before = machine.looks();
    machine.change();
    machine.sh("sleep 10; systemctl is-failed modstamp-update@qemu.service");
    // As it would some eight times.
    assert!(machine.looks() <= before + 1);
}

fn what_happens_beside_a_missing_directory_is_not_looked_at(machine: &mut Booted) {
    machine.boot(&[]);
    machine.host.outside("/usr/lib/qemu").try_exists().unwrap();
    assert!(!machine.is_seen(
        "test ! -e /usr/local/lib64 -a ! -e /run/qemu
         for i in $(seq 50); do
             mkdir /usr/lib/$i /usr/local/$i /run/$i; echo 1 > /usr/lib/$i.so; mv /usr/lib/$i.so /usr/lib/$i-so
         done"
    ));
}

/// What docs/images.md says that it sees, and that it does not see.
fn the_watch_sees_what_the_page_says(machine: &mut Booted) {
    machine.host.sh(&format!(
        "mkdir {0}/below /srv/real; echo 1 > {0}/a.so; echo 1 > /srv/real/a.so
         cp -r /srv/real /srv/other; rm /srv/other/a.so; mkdir -p /usr/lib64; ln -s /srv/real /usr/lib64/qemu",
        *MODULES
    ));
    machine.boot(&[]);
    let seen = [
        "echo 2 > MODULES/a.so",
        "perl -e 'truncate(\"MODULES/a.so\", 1)'",
        "chmod 600 MODULES/a.so",
        "echo 1 > MODULES/b.so",
        "mv MODULES/b.so MODULES/c.so",
        "rm MODULES/c.so",
        "cp -a MODULES MODULES.new; rm MODULES.new/a.so; mv MODULES MODULES.old; mv MODULES.new MODULES",
        "rm -r MODULES",
        "mv MODULES.old MODULES",
        "mkdir -p /usr/local/lib64/qemu; echo 1 > /usr/local/lib64/qemu/a.so",
        "rm -r /usr/local/lib64",
        "mkdir -p /run/qemu/9.2",
        "echo 2 > /usr/lib64/qemu/a.so",
        "echo 'files = [\"/etc/hostname\"]' > /tmp/a; mkdir -p /etc/modstamp/profiles.d; mv /tmp/a /etc/modstamp/profiles.d/qemu.toml",
    ];
    let unseen = [
        "echo 2 > MODULES/below/a.so",
        "echo 1 > /run/qemu/9.2/a.so",
        "ln MODULES/a.so /srv/hard; echo 3 > /srv/hard",
        "ln -sfn /srv/other /usr/lib64/qemu",
        "mount -t tmpfs tmpfs MODULES",
    ];
    let script = |script: &str| script.replace("MODULES", &MODULES);
    for change in seen {
        assert!(machine.is_seen(&script(change)), "{change}");
        let now = machine.sh("modstamp update");
        assert_eq!(now, "nothing changed since the last touch\n", "{change}");
    }
    for change in unseen {
        assert!(!machine.is_seen(&script(change)), "{change}");
        let now = machine.sh("modstamp update");
        assert!(now.starts_with("touched the stamp: "), "{change}: {now}");
    }
}

fn a_users_manager_looks_before_its_other_units(machine: &mut Booted) {
    let own = machine.host.outside("/etc/systemd/user/own.service");
    let seen = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'stat -c %%y .local/state/modstamp/qemu.stamp > seen'\n";
    fs::write(own, seen).unwrap();
    let wants = machine
        .host
        .outside("/etc/systemd/user/default.target.wants");
    fs::create_dir_all(&wants).unwrap();
    symlink("../own.service", wants.join("own.service")).unwrap();
    // The system's service is not there to touch.
    machine
        .host
        .sh("systemctl mask modstamp-update@qemu.service");
    machine
        .host
        .sh("mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/one");
    machine.boot(&[]);
    machine.sh("until test -s /home/one/seen; do sleep 0.1; done
        systemctl is-active user@$(id -u one).service");
    let first = machine.sh("cat /home/one/seen; rm /home/one/seen");

    // A start of another unit asks for no look.
    machine.sh(
        "setpriv --reuid one --regid one --clear-groups env XDG_RUNTIME_DIR=/run/user/$(id -u one) systemctl --user start own.service",
    );
    let log = machine.sh("journalctl -q -b _UID=$(id -u one) -o cat");
    let looks = log
        .lines()
        .filter(|line| line.starts_with("Starting modstamp-update"));
    assert_eq!(looks.count(), 1, "{log}");

    machine.sh("rm /home/one/seen");
    machine.stop();
    machine.boot(&[]);
    machine.sh("until test -s /home/one/seen; do sleep 0.1; done");
    assert_eq!(machine.sh("cat /home/one/seen"), first);
}

/// A profile with a cache of the system's and one of each user's.
const TOY: &str = "module-directories = [\"/srv/toy\"]\n\
    [[cache]]\nfiles = [\"/var/cache/toy/*\"]\nremedy = [\"/srv/make\"]\n\
    [[cache]]\nfiles = [\"~/.cache/toy/*\"]\nremedy = \"remove\"\n";

fn a_touch_has_a_command_run_and_a_users_cache_removed_while_both_managers_run(
    machine: &mut Booted,
) {
    let host = &machine.host;
    host.sh(
        "mkdir -p /etc/modstamp/profiles.d /srv/toy /var/cache/toy /var/lib/systemd/linger
        touch /srv/toy/a.so /var/lib/systemd/linger/one
        systemctl enable modstamp-update@toy.path modstamp-update@toy.service
        systemctl --global enable modstamp-update@toy.path modstamp-update@toy.service",
    );
    fs::write(host.outside("/etc/modstamp/profiles.d/toy.toml"), TOY).unwrap();
    let make = "#!/bin/sh\necho >> /var/cache/toy/ran\n";
    support::executable(&host.outside("/srv/make"), make);
    machine.boot(&[]);
    let ran = |times: usize| {
        machine.sh(&format!(
            "until test \"$(cat /var/cache/toy/ran | wc -l)\" = {times}; do sleep 0.1; done"
        ));
    };
    ran(1);
    machine.sh("until test -e ~one/.local/state/modstamp/toy.remedies; do sleep 0.1; done");
    for times in 2..4 {
        machine.sh(
            "cd ~one; mkdir -p .cache/toy; echo answers > .cache/toy/one; chown -R one: .cache",
        );
        machine.sh("modstamp touch --profile toy");
        ran(times);
        machine.sh("while test -e ~one/.cache/toy/one; do sleep 0.1; done");
    }
    let status = machine.sh("modstamp status --profile toy");
    assert!(status.contains("ran /srv/make"), "{status}");
    assert!(!status.contains("stale"), "{status}");
}

/// A profile with a cache that a command makes, and one that is removed.
const PLUG: &str = "module-directories = [\"/srv/plug\"]\n\
    [[cache]]\nfiles = [\"/usr/lib/plug/made\"]\nremedy = [\"/srv/make\"]\n\
    [[cache]]\nfiles = [\"/var/cache/plug/*\"]\nremedy = \"remove\"\n";

fn after_a_plain_touch_the_units_make_caches_good_below_usr_and_var(machine: &mut Booted) {
    let host = &machine.host;
    host.sh(
        "mkdir -p /etc/modstamp/profiles.d /srv/plug /usr/lib/plug /var/cache/plug
        touch /srv/plug/a.so
        systemctl enable modstamp-update@plug.path modstamp-update@plug.service",
    );
    fs::write(host.outside("/etc/modstamp/profiles.d/plug.toml"), PLUG).unwrap();
    let make = "#!/bin/sh\necho list > /usr/lib/plug/made\n";
    support::executable(&host.outside("/srv/make"), make);
    let read_only = format!("--bind-ro={}:/usr", host.outside("/usr").display());
    let is_good = |machine: &Booted, made: &str| {
        machine.sh(&format!(
            "for i in $(seq 200); do
                 test {made} -a ! -e /var/cache/plug/one && exit
                 sleep 0.1
             done
             modstamp status --profile plug; journalctl -q -b -o cat | tail -n 20; exit 1"
        ));
    };
    machine.boot(&[]);
    is_good(machine, "-e /usr/lib/plug/made");
    let touch = "echo answers > /var/cache/plug/one; touch /var/lib/modstamp/plug.stamp";
    machine.sh(&format!("rm /usr/lib/plug/made; {touch}"));
    is_good(machine, "-e /usr/lib/plug/made");
    machine.stop();

    machine.host.sh("rm /usr/lib/plug/made");
    machine.boot(&[&read_only]);
    machine.sh(touch);
    is_good(machine, "! -e /usr/lib/plug/made");
    let told = "its directory /usr/lib/plug is read-only; the builder of the image makes it";
    machine.sh(&format!(
        "until modstamp status --profile plug | grep '{told}'; do sleep 0.1; done"
    ));
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
}

fn the_packages_enable_the_units_and_leave_none(machine: &mut Booted) {
    let host = &machine.host;
    host.sh(
        "systemctl disable modstamp-update@qemu.service modstamp-update@qemu.path
        systemctl --global disable modstamp-update@qemu.service
        rm -r /usr/bin/modstamp; find /usr/lib/systemd -name '*modstamp*' -delete || true
        rm -rf /usr/lib/systemd/system/modstamp-update@*",
    );
    for name in ["modstamp", "modstamp-qemu"] {
        host.machine
            .put(&deb::built(name), &format!("/srv/{name}.deb"));
    }
    machine.boot(&[]);
    // It omits units that exist only while they run.
    let units = || {
        machine.sh(
            "find /etc/systemd /run/systemd /var/lib/systemd -name '*modstamp*' \
                ! -path '/run/systemd/units/*' ! -path '/run/systemd/propagate/*' | sort",
        )
    };
    assert_eq!(units(), "");
    let state = || machine.sh("systemctl is-active modstamp-update@qemu.path || true");
    let dpkg = |arguments: &str| machine.sh(&format!("dpkg {arguments} 2>&1"));
    dpkg("--install /srv/modstamp.deb");
    assert_eq!(units(), "");
    dpkg("--install /srv/modstamp-qemu.deb");
    assert_eq!(state(), "active\n");
    let enabled = units();
    for link in [
        "/etc/systemd/system/basic.target.wants/modstamp-update@qemu.service",
        "/etc/systemd/system/paths.target.wants/modstamp-update@qemu.path",
        "/etc/systemd/user/basic.target.wants/modstamp-update@qemu.service",
        "/etc/systemd/user/paths.target.wants/modstamp-update@qemu.path",
    ] {
        assert!(enabled.lines().any(|line| line == link), "{enabled}");
    }
    machine.wait();
    let said = machine.sh("journalctl -q -b -o cat -t modstamp");
    assert!(
        said.ends_with("nothing changed since the last touch\n"),
        "{said}"
    );
    assert!(machine.is_seen(&format!("echo 1 > {}/a.so", *MODULES)));

    machine.sh("systemctl disable --now modstamp-update@qemu.path");
    dpkg("--install /srv/modstamp-qemu.deb");
    assert_eq!(state(), "inactive\n", "the administrator's choice");
    machine.sh("systemctl enable --now modstamp-update@qemu.path");
    dpkg("--remove modstamp-qemu");
    assert_eq!(state(), "inactive\n");
    let is_enabled = machine.sh("systemctl is-enabled modstamp-update@qemu.service || true");
    assert_eq!(is_enabled, "masked\n");
    dpkg("--install /srv/modstamp-qemu.deb");
    assert_eq!((state(), units()), ("active\n".to_owned(), enabled));
    dpkg("--purge modstamp-qemu modstamp");
    assert_eq!(units(), "");
    let said = machine.sh("journalctl -q -b -o cat | tail -n 40");
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "", "{said}");
}
