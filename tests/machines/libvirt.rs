//! Debian's libvirt, which knows nothing of modstamp: does it serve an answer from before a change?
//!
//! Real daemons run in throw-away machines with libvirt 9.0 and QEMU 7.2, and with libvirt 11.3 and
//! QEMU 10.0. Four libvirts share a machine's QEMU. Each has a cache of its own, and each scenario
//! runs with all of them. A scenario first shows their answers without modstamp, so that it can
//! fail. QEMU's own list is the truth, and `virsh domcapabilities` is the answer under test.
//! Libvirt's log and its cache file both count the probes, and must agree. A table at the end shows
//! the results.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use support::consumer::{self, Answer, Consumer, wait_until};
use support::deb::{self, Host, MODULES, Package, QXL, RELEASES, REPLACES, Release, module};
use support::machine::Machine;
use support::test::{Needs, Test, test};
use support::{named, rpm, run};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&[&deb::PROGRAMS[..], &rpm::PROGRAMS].concat());
    // By scenario, so that the two libvirts take turns on the processors.
    let of = |(name, scenario, release): (&'static str, Scenario, &'static Release)| {
        test(format!("{}::{name}", release.libvirt), &needs, move || {
            let mut scene = Scene::new(release);
            scenario(&mut scene);
            scene.is_well();
            let seen = ((name, release.libvirt), scene.row);
            SEEN.lock().unwrap().extend([seen]);
        })
    };
    every_trial().map(of).collect()
}

/// Each scenario with each release that it is for.
fn every_trial() -> impl Iterator<Item = (&'static str, Scenario, &'static Release)> {
    let of = |(name, scenario): &'static (&'static str, Scenario)| {
        let with = move |release| (*name, *scenario, release);
        RELEASES.iter().map(with)
    };
    let by_apt = BY_APT.iter().flat_map(of);
    let by_apt = by_apt.filter(|(_, _, release)| release.device == "qxl");
    by_apt.chain(SCENARIOS.iter().flat_map(of))
}

type Scenario = fn(&mut Scene);

const SCENARIOS: &[(&str, Scenario)] = named![
    a_module_package_that_is_installed_is_noticed,
    a_module_package_that_is_removed_is_noticed,
    a_module_package_that_is_upgraded_is_noticed,
    a_module_package_that_is_reinstalled_is_noticed,
    packages_that_come_and_go_in_one_second_are_noticed,
    the_last_module_package_that_takes_the_directory_along_is_noticed,
    a_package_that_puts_an_old_mtime_back_is_noticed,
    an_rpm_that_puts_an_old_mtime_back_is_noticed,
    a_run_of_dpkg_that_concerns_no_module_costs_no_probe,
    a_module_removed_by_hand_with_the_mtime_put_back_is_noticed,
    a_module_truncated_in_place_is_noticed,
    a_directory_that_is_gone_and_back_is_noticed,
    an_image_in_the_directorys_place_is_noticed,
    a_usr_that_is_read_only_leaves_only_what_a_daemon_has_in_memory,
    a_change_with_a_touch_of_the_stamp_is_noticed,
    a_change_during_a_probe_is_noticed,
    a_change_after_the_clock_is_set_back_is_noticed,
    a_refresh_costs_one_probe_and_no_more,
];

/// The scenario of a package whose module the domain capabilities show in one release alone.
const BY_APT: &[(&str, Scenario)] = named![the_package_of_qxl_that_apt_has_is_noticed,];

/// The state of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Fresh,
    Stale,
}
use Seen::{Fresh, Stale};

/// The worst answer of one consumer in one scenario, and the number of its probes.
#[derive(Debug, Clone, Copy, Default)]
struct Half {
    seen: Option<Seen>,
    look_ups: usize,
    probes: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    without: Half,
    with: Half,
}

type Row = [Cell; 4];

/// The results, by scenario and libvirt.
static SEEN: Mutex<BTreeMap<(&str, &str), Row>> = Mutex::new(BTreeMap::new());

/// A machine with four libvirts.
struct Scene {
    // The fields are dropped in order, so the daemons end before the machine.
    consumers: [Consumer; 4],
    host: Host,
    row: Row,
    /// The changes that dpkg finds at the beginning: libvirt's configuration.
    verified: String,
}

impl Scene {
    fn new(release: &'static Release) -> Scene {
        let host = consumer::host(release);
        let root = host.machine.root.clone();
        let other = another_system(&host.machine);
        let consumer = Consumer::new;
        Scene {
            consumers: [
                consumer("system running", true, &root, None),
                consumer("system stopped", false, &other, None),
                consumer("session running", true, &root, Some("one")),
                consumer("session stopped", false, &root, Some("two")),
            ],
            verified: host.dpkg("--verify"),
            host,
            row: Row::default(),
        }
    }

    fn sh(&self, script: &str) -> String {
        sh(&self.host, script)
    }

    /// Runs a script that brings QXL to QEMU, or takes it away.
    fn change(&self, script: &str, brings_qxl: bool) {
        assert_eq!(self.truth(), !brings_qxl, "before {script}");
        self.sh(script);
        assert_eq!(self.truth(), brings_qxl, "after {script}");
    }

    /// Whether QEMU has QXL.
    fn truth(&self) -> bool {
        self.sh("qemu-system-x86_64 -device help")
            .contains("name \"qxl\"")
    }

    /// Asks all libvirts at once.
    fn look_up(&mut self) -> [Answer; 4] {
        self.look_up_while(|_| ())
    }

    /// Like `look_up`, but runs `action` meanwhile.
    fn look_up_while(&mut self, action: impl FnOnce(&Host)) -> [Answer; 4] {
        let Scene {
            consumers, host, ..
        } = self;
        std::thread::scope(|scope| {
            let asked = consumers.each_mut();
            let asked = asked.map(|consumer| scope.spawn(|| consumer.look_up()));
            action(host);
            asked.map(|answer| {
                answer
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// Runs an action in the midst of all probes of a QEMU that has QXL. Their answers do not
    /// count.
    fn while_probing(&mut self, action: impl FnOnce(&Host)) {
        let logs = self.consumers.each_ref().map(|consumer| {
            let log = consumer.log();
            let length = std::fs::metadata(&log).map_or(0, |log| log.len());
            (log, length)
        });
        let has_qxl = |(log, from): &(PathBuf, u64)| {
            let mut file = std::fs::File::open(log).unwrap();
            file.seek(SeekFrom::Start(*from)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text.contains(r#"{"name": "qxl","#)
        };
        self.look_up_while(|host| {
            wait_until("all know of QXL", || logs.iter().all(has_qxl));
            action(host);
        });
    }

    /// Each answers rightly after one probe, and then without a probe.
    fn fill(&mut self) {
        let answers = self.look_up();
        let lists_qxl = self.truth();
        let probes = 1;
        assert_eq!(answers, [Answer { lists_qxl, probes }; 4]);
        self.is_served();
    }

    /// Each answers rightly without a probe, and no daemon was restarted.
    fn is_served(&mut self) {
        let answers = self.look_up();
        let lists_qxl = self.truth();
        let probes = 0;
        assert_eq!(answers, [Answer { lists_qxl, probes }; 4]);
        for consumer in &mut self.consumers {
            assert!(consumer.still_runs(), "{}", consumer.name);
        }
    }

    /// Checks the answers after a change, before modstamp told libvirt of it.
    fn without(&mut self, expected: Seen) {
        let answers = self.look_up();
        let truth = self.truth();
        for ((cell, answer), consumer) in self.row.iter_mut().zip(answers).zip(&self.consumers) {
            let seen = cell.without.note(answer, truth);
            assert_eq!(seen, expected, "{} without modstamp", consumer.name);
            let probes = usize::from(seen == Fresh);
            assert_eq!(answer.probes, probes, "{}", consumer.name);
        }
    }

    /// Checks that all answers are right once modstamp told libvirt, after so many probes.
    fn with(&mut self, probes: usize) {
        let answers = self.look_up();
        let truth = self.truth();
        for ((cell, answer), consumer) in self.row.iter_mut().zip(answers).zip(&self.consumers) {
            let seen = cell.with.note(answer, truth);
            assert_eq!(seen, Fresh, "{} with modstamp", consumer.name);
            assert_eq!(answer.probes, probes, "{} with modstamp", consumer.name);
        }
        self.is_served();
    }

    /// Installs modstamp. With it, libvirt notices all that it missed before.
    fn install_modstamp(&mut self) {
        self.keeps_cache_files(|scene| scene.host.install_modstamp());
        self.fill();
    }

    /// Runs `modstamp libvirt refresh`; returns the second that it gave the module directory.
    fn refresh(&self) -> i64 {
        self.keeps_cache_files(|scene| drop(scene.sh("modstamp libvirt refresh")));
        self.second()
    }

    /// The module directory's mtime in whole seconds, as libvirt sees it. 0 if there is none.
    fn second(&self) -> i64 {
        let directory = std::fs::metadata(self.host.outside(&MODULES));
        directory.map_or(0, |directory| directory.mtime())
    }

    /// Runs an action, and checks that it neither removes nor replaces a cache file.
    fn keeps_cache_files(&self, action: impl FnOnce(&Scene)) {
        let files = || self.consumers.each_ref().map(Consumer::file);
        let before = files();
        action(self);
        assert_eq!(files(), before);
    }

    /// dpkg finds nothing half done, and no file changed that was not from the first.
    fn is_well(&self) {
        assert_eq!(self.host.dpkg("--audit"), "");
        assert_eq!(self.host.dpkg("--verify"), self.verified);
    }
}

impl Half {
    fn note(&mut self, answer: Answer, truth: bool) -> Seen {
        let seen = if answer.lists_qxl == truth {
            Fresh
        } else {
            Stale
        };
        self.seen = self.seen.max(Some(seen));
        self.look_ups += 1;
        self.probes += answer.probes;
        seen
    }
}

/// The root of a second system that shares the machine's files but for what libvirt keeps.
fn another_system(machine: &Machine) -> PathBuf {
    let script = r#"
        mkdir "$2"
        # What is mounted in the machine later is to be seen in the other, too.
        mount --make-rshared "$1"
        mount --rbind "$1" "$2"
        mount --make-rslave "$2"
        for own in run/libvirt var/cache/libvirt var/lib/libvirt var/log/libvirt; do
            mkdir -p "$1/$own"
            mount -t tmpfs -o mode=755 tmpfs "$2/$own"
        done
    "#;
    let other = machine.beside("other");
    run(Command::new("sh")
        .args(["-ec", script, "sh"])
        .args([&machine.root, &other]));
    other
}

/// Runs a script in the machine; `$modules` is QEMU's module directory and `$qxl` the module under
/// test.
fn sh(host: &Host, script: &str) -> String {
    let directory = &*MODULES;
    host.sh(&format!(
        "modules={directory} qxl={directory}/{QXL}\n{script}"
    ))
}

/// The results as a table for people.
pub fn table() -> String {
    let seen = SEEN.lock().unwrap();
    let rows = every_trial().filter_map(|(name, _, release)| {
        let row = seen.get(&(name, release.libvirt))?;
        Some((name, release.libvirt, row))
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let word = |half: &Half| match half.seen {
        None => "–",
        Some(Fresh) => "fresh",
        Some(Stale) => "stale",
    };
    let mut lines = vec![
        [
            "scenario",
            "libvirt",
            "system running",
            "system stopped",
            "session running",
            "session stopped",
            "probes of look-ups",
        ]
        .map(str::to_owned),
    ];
    for (name, libvirt, row) in rows {
        let cells = row
            .each_ref()
            .map(|Cell { without, with }| format!("{} → {}", word(without), word(with)));
        let [a, b, c, d] = cells;
        // `without` and `with` hold all four to the same.
        let Cell { without, with } = row[0];
        let count = |half: Half| match half.look_ups {
            0 => "–".to_owned(),
            look_ups => format!("{} of {look_ups}", half.probes),
        };
        let probes = format!("{} → {}", count(without), count(with));
        let libvirt = libvirt.trim_start_matches("libvirt_").replace('_', ".");
        lines.push([name.replace('_', " "), libvirt, a, b, c, d, probes]);
    }
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap()
    });
    let mut text =
        "\nWhat libvirt answers after a change, without modstamp → with it:\n\n".to_owned();
    for line in lines {
        for (field, width) in line.iter().zip(widths) {
            text += &format!("{field:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text + "\n"
}

/// A change by dpkg, which moves the directory's mtime to a later second, so that libvirt notices
/// it by itself.
fn by_dpkg(scene: &mut Scene, before: &str, change: &str, brings_qxl: bool) {
    scene.sh(before);
    scene.fill();
    scene.change(change, brings_qxl);
    scene.without(Fresh);

    scene.sh(before);
    scene.install_modstamp();
    scene.change(change, brings_qxl);
    scene.with(1);
}

fn a_module_package_that_is_installed_is_noticed(scene: &mut Scene) {
    let qxl = scene.host.qxl();
    let before = format!("dpkg --install {qxl}; dpkg --remove qxl");
    by_dpkg(scene, &before, &format!("dpkg --install {qxl}"), true);
}

fn a_module_package_that_is_removed_is_noticed(scene: &mut Scene) {
    let qxl = scene.host.qxl();
    let before = format!("dpkg --install {qxl}");
    by_dpkg(scene, &before, "dpkg --remove qxl", false);
}

fn a_module_package_that_is_upgraded_is_noticed(scene: &mut Scene) {
    let broken = scene.host.build(&Package {
        name: "qxl",
        version: "0",
        files: &[&module(QXL)],
        fields: REPLACES,
        ..Package::default()
    });
    let qxl = scene.host.qxl();
    let before = format!("dpkg --install {broken}");
    by_dpkg(scene, &before, &format!("dpkg --install {qxl}"), true);
}

fn a_module_package_that_is_reinstalled_is_noticed(scene: &mut Scene) {
    let install = format!("dpkg --install {}", scene.host.qxl());
    by_dpkg(scene, &format!("{install}; rm $qxl"), &install, true);
}

/// libvirt compares whole seconds, so it misses a change in the second of a look-up.
fn packages_that_come_and_go_in_one_second_are_noticed(scene: &mut Scene) {
    let install = format!("--install {}", scene.host.qxl());
    scene.host.dpkg(&install);
    scene.fill();
    // Repeat until both fall into one second.
    for attempt in 1.. {
        scene.host.dpkg("--remove qxl");
        await_a_new_second();
        scene.host.dpkg(&install);
        let second = scene.second();
        scene.while_probing(|host| drop(host.dpkg("--remove qxl")));
        if scene.second() == second {
            break;
        }
        // A busy machine may never be so fast. libvirt compares nothing but this second.
        if attempt == 5 {
            scene.sh(&format!("touch -d @{second} $modules"));
            break;
        }
    }
    scene.without(Stale);

    scene.install_modstamp();
    for _ in 0..2 {
        await_a_new_second();
        scene.host.dpkg(&install);
        scene.while_probing(|host| drop(host.dpkg("--remove qxl")));
        scene.with(1);
    }
    await_a_new_second();
    scene.host.dpkg(&install);
    scene.while_probing(|host| {
        host.dpkg("--remove qxl");
        host.dpkg(&install);
        host.dpkg("--remove qxl");
    });
    scene.with(1);
}

fn await_a_new_second() {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let left = 1_000_000_000 - since.subsec_nanos();
    std::thread::sleep(Duration::from_nanos(left.into()));
}

/// QEMU also looks for modules in this directory during its upgrade. It needs those that emulate a
/// processor, and libvirt needs QEMU.
const KEEP_ACCELERATORS: &str = r#"
    version=$(qemu-system-x86_64 --version | sed -n '1s/.*(\(.*\))/\1/p' | tr -c 'A-Za-z0-9+.~\n-' _)
    mkdir -p /run/qemu/$version
    find $modules -name 'accel-*' -exec cp {} /run/qemu/$version \;
"#;

fn the_last_module_package_that_takes_the_directory_along_is_noticed(scene: &mut Scene) {
    let list = scene.sh("ls -d $modules/*");
    let files: Vec<&str> = list.lines().collect();
    let modules = scene.host.build(&Package {
        name: "modules",
        version: "1",
        copies: &files,
        fields: REPLACES,
        ..Package::default()
    });
    // dpkg has to forget that QEMU's other packages own the directory, too.
    scene.sh(&format!(
        "{KEEP_ACCELERATORS}
        dpkg --install {modules}
        sed -i \"\\,^$modules\\$,d\" $(ls /var/lib/dpkg/info/qemu-*.list)"
    ));
    let (install, remove) = (format!("dpkg --install {modules}"), "dpkg --remove modules");
    scene.fill();
    scene.change(remove, false);
    assert!(!scene.host.outside(&MODULES).exists());
    scene.without(Stale);

    scene.install_modstamp();
    scene.change(&install, true);
    scene.with(1);
    scene.change(remove, false);
    assert!(!scene.host.outside(&MODULES).exists());
    scene.with(1);
    scene.change(&install, true);
    scene.with(1);
}

/// dpkg leaves a directory the time of its write, so the package needs a script that puts it back.
fn a_package_that_puts_an_old_mtime_back_is_noticed(scene: &mut Scene) {
    let qxl = module(QXL);
    let script = format!("#!/bin/sh\ntouch -d @1600000000 {}\n", *MODULES);
    let broken = Package {
        name: "qxl",
        version: "0",
        files: &[&qxl],
        fields: REPLACES,
        script: Some(("postinst", &script)),
        ..Package::default()
    };
    let good = Package {
        version: "1",
        files: &[],
        copies: &[&qxl],
        ..broken
    };
    let [broken, good] = [broken, good].map(|package| scene.host.build(&package));
    let (broken, good) = (
        format!("dpkg --install {broken}"),
        format!("dpkg --install {good}"),
    );
    scene.sh(&good);
    scene.fill();
    scene.change(&broken, false);
    scene.without(Stale);

    scene.install_modstamp();
    scene.change(&good, true);
    scene.with(1);
    scene.change(&broken, false);
    scene.with(1);
}

/// The case that started the project.
fn the_package_of_qxl_that_apt_has_is_noticed(scene: &mut Scene) {
    deb::add_repository(&scene.host);
    let apt = |step: &str| format!("apt-get -qy {step} {}", scene.host.release.devices);
    let [remove, purge] = ["remove", "purge"].map(apt);
    let [install, reinstall] = ["install --no-install-recommends", "reinstall"].map(apt);
    scene.fill();
    scene.change(&remove, false);
    scene.without(Fresh);

    scene.install_modstamp();
    scene.change(&install, true);
    scene.with(1);
    scene.sh(&reinstall);
    scene.with(1);
    scene.change(&purge, false);
    scene.with(1);
}

/// rpm, too, leaves a directory the time of its write, even if the package owns the directory.
fn an_rpm_that_puts_an_old_mtime_back_is_noticed(scene: &mut Scene) {
    // Debian's libvirt watches another directory than the triggers do, so make the two one.
    scene.sh(&format!(
        "mkdir -p {0}; mount --bind $modules {0}",
        rpm::MODULES
    ));
    rpm::put(&scene.host.machine);
    let qxl = std::fs::read(scene.host.outside(&module(QXL))).unwrap();
    // A spec's digest tells whether a package was built before, so the module is kept below its
    // own.
    let kept = support::kept().join(blake3::hash(&qxl).to_hex().to_string());
    std::fs::write(&kept, qxl).unwrap();
    let build = |version, content: &str| {
        let package = rpm::Package {
            name: "qxl",
            version,
            tags: "%global _binaries_in_noarch_packages_terminate_build 0\n",
            install: &format!(
                "install -D -m 0644 {content} %{{buildroot}}{}/{QXL}\n",
                rpm::MODULES
            ),
            sections: &format!(
                "%dir {0}\n{0}/{QXL}\n%post\ntouch -d @1600000000 {0}\n",
                rpm::MODULES
            ),
            ..rpm::Package::default()
        };
        let path = format!("{}/qxl-{version}.rpm", rpm::PACKAGES);
        scene.host.machine.put(&package.build(), &path);
        format!("rpm -U --oldpackage --nodeps {path}")
    };
    let good = build("1", kept.to_str().unwrap());
    let broken = build("2", "/dev/null");

    scene.sh(&good);
    scene.fill();
    scene.change(&broken, false);
    assert_eq!(scene.second(), 1_600_000_000);
    scene.without(Stale);

    scene.sh(&format!(
        "cd {}; rpm -i modstamp-1.rpm modstamp-qemu-1.rpm",
        rpm::PACKAGES
    ));
    scene.fill();
    scene.change(&good, true);
    scene.with(1);
    scene.change(&broken, false);
    scene.with(1);
    scene.change(&good, true);
    scene.with(1);
    scene.sh("cp $qxl /srv/kept.so");
    scene.change("rpm -e qxl", false);
    scene.with(1);
    scene.sh("mv /srv/kept.so $qxl; chmod 644 $qxl; umount /usr/lib64/qemu");
}

fn a_run_of_dpkg_that_concerns_no_module_costs_no_probe(scene: &mut Scene) {
    let elsewhere = scene
        .host
        .package("elsewhere", "1", &["/usr/share/qemu/elsewhere.so"]);
    scene.install_modstamp();
    for step in [
        format!("--install {elsewhere}"),
        "--purge elsewhere".to_owned(),
    ] {
        scene.host.dpkg(&step);
        scene.with(0);
    }
}

/// Changes by hand that leave nothing by which libvirt could tell.
fn by_hand(scene: &mut Scene, changes: [(&str, bool); 2]) {
    scene.install_modstamp();
    for (change, brings_qxl) in changes {
        scene.change(change, brings_qxl);
        scene.without(Stale);
        scene.refresh();
        scene.with(1);
    }
}

/// The directory's mtime stays the same.
const REMOVE: &str = "touch -r $modules /srv/time; mv $qxl /srv; touch -r /srv/time $modules";
const PUT_BACK: &str =
    "touch -r $modules /srv/time; mv /srv/hw-display-qxl.so $qxl; touch -r /srv/time $modules";

fn a_module_removed_by_hand_with_the_mtime_put_back_is_noticed(scene: &mut Scene) {
    by_hand(scene, [(REMOVE, false), (PUT_BACK, true)]);
}

const TRUNCATE: &str = "cp $qxl /srv/kept.so; : > $qxl";
const RESTORE: &str = "cat /srv/kept.so > $qxl";

fn a_module_truncated_in_place_is_noticed(scene: &mut Scene) {
    by_hand(scene, [(TRUNCATE, false), (RESTORE, true)]);
}

fn a_directory_that_is_gone_and_back_is_noticed(scene: &mut Scene) {
    scene.sh(KEEP_ACCELERATORS);
    scene.install_modstamp();
    scene.change("mv $modules /srv", false);
    scene.without(Stale);
    scene.refresh();
    scene.with(1);

    // What has to serve instead is another time of which libvirt compares whole seconds.
    let emulator = scene.host.outside("/usr/bin/qemu-system-x86_64");
    let ctime = || {
        scene.refresh();
        std::fs::metadata(&emulator).unwrap().ctime()
    };
    let (first, second) = (ctime(), ctime());
    assert!(first < second, "{first}, {second}");
    scene.with(1);

    scene.change("mv /srv/qemu $modules", true);
    scene.without(Fresh);
    scene.refresh();
    scene.with(1);
}

/// What hosts do whose /usr is an image: all times are the same, and nothing can be written.
fn an_image_in_the_directorys_place_is_noticed(scene: &mut Scene) {
    scene.sh("cp -a $modules /srv/image; rm /srv/image/hw-display-qxl.so");
    let mount = "touch -r $modules /srv/image
        mount --bind -o ro /srv/image $modules";
    by_hand(scene, [(mount, false), ("umount $modules", true)]);
}

/// No time can be moved then. Cache files are removed, and the daemons that hold an older answer in
/// memory are named.
fn a_usr_that_is_read_only_leaves_only_what_a_daemon_has_in_memory(scene: &mut Scene) {
    scene.sh("cp -a $modules /srv/image; rm /srv/image/hw-display-qxl.so");
    scene.install_modstamp();
    let mount = "touch -r $modules /srv/image
        mount --bind /srv/image $modules
        mount --rbind /usr /usr";
    scene.change(mount, false);
    // A mount becomes read-only in one of the two systems alone. modstamp's record is of one
    // system, too.
    let read_only = "mount -o remount,bind,ro /usr; mount -o remount,bind,ro $modules";
    scene.sh(read_only);
    let own = "cp -a /var/lib/modstamp /srv
        mount -t tmpfs tmpfs /var/lib/modstamp
        cp -a /srv/modstamp /var/lib";
    let script = format!("modules={}; {read_only}; {own}", *MODULES);
    let mut other = scene.consumers[1].command("/bin/sh");
    run(other.args(["-ec", &script]));
    scene.without(Stale);

    let said = scene.consumers.each_ref().map(|consumer| {
        let verb = if consumer.user.is_none() {
            "refresh"
        } else {
            "evict"
        };
        let script = format!("exec modstamp libvirt {verb} 2>&1");
        run(consumer.command("/bin/sh").args(["-ec", &script]))
    });
    for (consumer, said) in scene.consumers.iter().zip(&said) {
        if let Some(daemon) = &consumer.daemon {
            assert!(
                said.contains(&format!("process {},", daemon.id())),
                "{said}"
            );
        }
    }
    for is_restarted in [false, true] {
        let answers = scene.look_up();
        for (cell, (answer, consumer)) in scene
            .row
            .iter_mut()
            .zip(answers.iter().zip(&mut scene.consumers))
        {
            let seen = cell.with.note(*answer, false);
            let is_left = consumer.stays && !is_restarted;
            assert_eq!(
                seen,
                if is_left { Stale } else { Fresh },
                "{}: {said:?}",
                consumer.name
            );
            let is_first = consumer.stays == is_restarted;
            assert_eq!(
                answer.probes,
                usize::from(is_first),
                "{}: {said:?}",
                consumer.name
            );
            consumer.stop();
        }
    }
    scene.sh("umount --recursive --lazy /usr");
}

fn a_change_with_a_touch_of_the_stamp_is_noticed(scene: &mut Scene) {
    let touch = "touch /var/lib/modstamp/qemu.stamp";
    let [truncate, restore] = [TRUNCATE, RESTORE].map(|change| format!("{change}; {touch}"));
    by_hand(scene, [(&truncate, false), (&restore, true)]);

    // A touch by root through modstamp also tells libvirt.
    scene.change(TRUNCATE, false);
    scene.keeps_cache_files(|scene| drop(scene.sh("modstamp touch")));
    scene.with(1);
    scene.change(RESTORE, true);
    scene.keeps_cache_files(|scene| drop(scene.sh("modstamp touch")));
    scene.with(1);
}

/// Two refreshes in one second, with a look-up between them, both count.
fn a_change_during_a_probe_is_noticed(scene: &mut Scene) {
    scene.install_modstamp();
    scene.sh("touch $modules");
    scene.while_probing(|host| drop(sh(host, REMOVE)));
    scene.without(Stale);

    scene.sh(PUT_BACK);
    let first = scene.refresh();
    scene.while_probing(|host| drop(sh(host, &format!("{REMOVE}; modstamp libvirt refresh"))));
    assert!(first < scene.second(), "{first}, {}", scene.second());
    scene.with(1);

    let seconds: Vec<i64> = (0..10).map(|_| scene.refresh()).collect();
    assert!(seconds.is_sorted_by(|a, b| a < b), "{seconds:?}");
    scene.sh(PUT_BACK);
    scene.with(1);
}

/// No clock is set here. The effect is the same: the directory's mtime was ahead, and falls back.
fn a_change_after_the_clock_is_set_back_is_noticed(scene: &mut Scene) {
    scene.install_modstamp();
    scene.sh("touch -d '1 year' $modules");
    let ahead = scene.refresh();
    scene.fill();
    scene.change(&format!("{TRUNCATE}; touch -d @{ahead} $modules"), false);
    scene.without(Stale);
    // All have seen the second that follows this one.
    scene.sh(&format!("touch -d @{} $modules", ahead - 1));
    let next = scene.refresh();
    assert!(next > ahead, "{ahead}, {next}");
    scene.with(1);

    scene.change(&format!("{RESTORE}; touch $modules"), true);
    assert!(scene.second() < ahead);
    scene.without(Fresh);
    let last = scene.refresh();
    assert!(last > next, "{next}, {last}");
    scene.with(1);
}

fn a_refresh_costs_one_probe_and_no_more(scene: &mut Scene) {
    scene.install_modstamp();
    for _ in 0..2 {
        scene.refresh();
        scene.with(1);
    }
}
