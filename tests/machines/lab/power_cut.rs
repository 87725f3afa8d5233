//! The power is cut while packages come and go: QEMU is killed, and what the machine had not brought to its disks is lost.
//!
//! Three disks, of ext4, xfs and btrfs, each have a root of dpkg's and one of rpm's, as small as they can be. In one of
//! each disk, by turns, a transaction changes, brings and removes modules, all three at once; at one of twenty moments that
//! is the end. At the next boot the journals are replayed, and what the boot's unit starts is started; then the consumers'
//! answers from before the cut are judged. A transaction that was cut is repeated in that root's next turn, and may be cut
//! again; in the end each is repeated without a cut, and all is well.
//!
//! The machine's own root is a fresh one in each of these boots, and nothing runs in it but what takes orders, so that a
//! boot takes seconds; `cut` is what it is told. The last scenario's boots are those of a whole machine.
//!
//! Consumers that ask through modstamp's cache look at all modules. Those that remember the stamp alone, with an answer
//! from before the transaction, rely on the boot's unit. An answer from within a transaction is another matter: it may be kept
//! where it is sooner on disk than the modules that it is of, and where the power cut takes these back, the stamp with which it was
//! asked is right again. Those are counted.
//!
//! Without modstamp, consumers are told by libvirt's rule, the second of the module directory's mtime. What a cut takes back
//! it takes back with that, since both are in the same journal: the rule's holes are others (docs/libvirt.md).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::image::{Filesystem, Image};
use super::machine::{Boot, Disk, Machine};
use super::scene::{Libvirt, Scene, module};
use super::{Play, Scenario};
use support::named;
use support::{deb, rpm, run};

pub const SCENARIOS: &[(&str, Scenario)] = named![
    a_power_cut_at_any_moment_of_a_transaction_leaves_no_stale_answer,
    a_module_rewritten_right_before_a_power_cut_is_noticed_at_boot,
];

/// Of these moments, so many aim at the triggers, which take less time than the rest.
const CUTS: usize = 20;
const AT_TRIGGERS: usize = 6;
/// Without modstamp there are no triggers to aim at.
const CUTS_WITHOUT: usize = 6;

/// Packages, and the modules that each of their versions has.
const PACKAGES: [(&str, [&[&str]; 3]); 2] = [
    ("block", [&["nfs", "iscsi", "ssh"]; 3]),
    ("display", [&["qxl"], &["gtk", "qxl"], &[]]),
];

/// What modstamp leaves beside its stamp.
const BESIDE: [&str; 4] = [".qemu.lock", "qemu.libvirt", "qemu.stamp", "qemu.witness"];

/// Disks whose power is cut, and what boots beside them.
struct Disks {
    image: Image,
    packages: Disk,
    cut: [Disk; 3],
    /// What those are over.
    _empty: [Disk; 3],
}

impl Disks {
    fn new(image: Image) -> Disks {
        let packages = packages();
        let filled = ["mkfs.ext4", "-q", "-d", packages.path().to_str().unwrap()];
        let empty = [
            Disk::formatted(256, &["mkfs.ext4", "-q"]),
            Disk::formatted(320, &["mkfs.xfs", "-q"]),
            Disk::formatted(256, &["mkfs.btrfs", "-q"]),
        ];
        Disks {
            image,
            packages: Disk::formatted(64, &filled),
            cut: empty.each_ref().map(Disk::with_cache),
            _empty: empty,
        }
    }

    /// Starts a machine that replays the journals.
    fn boot(&self, scene: &mut Scene) -> Running {
        let own = Disk::over(&self.image);
        let boot = Boot::new(&self.image, &own).bare().disk(&self.packages);
        let machine = scene.start(self.cut.iter().fold(boot, Boot::disk));
        let mut running = Running { machine, _own: own };
        running.machine.put("/run/cut", include_str!("cut"));
        running.order("mount_all", &[]);
        running
    }
}

struct Running {
    machine: Machine,
    _own: Disk,
}

impl Running {
    /// Runs a script of what `cut` has, in these roots; returns what it said of them.
    #[track_caller]
    fn order(&mut self, script: &str, roots: &[&Root]) -> Said {
        Said(self.machine.sh(&Running::script(script, roots)))
    }

    fn script(script: &str, roots: &[&Root]) -> String {
        let turn = |root: &&Root| {
            let asked = root.answers.iter().map(|answer| answer.number.to_string());
            let asked = asked.collect::<Vec<_>>().join(",");
            format!("{}:{}:{asked}", root.filesystem, root.manager)
        };
        let turns = roots.iter().map(turn).collect::<Vec<_>>().join(" ");
        format!(". /run/cut\nturns='{turns}'\n{script}")
    }

    /// Begins a transaction in each of the roots, cuts the power, and returns what was said until then.
    fn cut(mut self, play: Play, roots: &[&Root], synced: bool, moment: Moment) -> Said {
        let ask = if play.has_modstamp() {
            "ask"
        } else {
            "ask_libvirt"
        };
        let sync = if synced { "sync" } else { "-" };
        let versions: Vec<String> = roots.iter().map(|root| root.to.to_string()).collect();
        let script = format!("begin {ask} {sync} {}", versions.join(" "));
        self.machine.begin(&Running::script(&script, roots));
        let all = roots.iter().map(|root| match root.manager {
            "dpkg" => 11,
            _ => 9,
        });
        let all: usize = all.sum();
        self.machine.wait_until(|said| {
            let of_managers = ["begin", "line", "end"];
            let lines = said.lines().filter_map(|line| line.split(' ').nth(2));
            let lines = lines.filter(|word| of_managers.contains(word)).count();
            let is_there = match moment.after {
                After::Percent(100) => false,
                After::Percent(percent) => lines > 0 && lines * 100 >= all * percent,
                After::Triggers => said.contains(" Processing triggers "),
            };
            is_there || said.contains("\nall end\n")
        });
        std::thread::sleep(moment.delay);
        let said = Said(self.machine.said());
        self.machine.cut();
        said
    }
}

/// When to cut.
struct Moment {
    after: After,
    delay: Duration,
}

enum After {
    /// This part of all that the package managers say.
    Percent(usize),
    /// The first dpkg has come to its triggers.
    Triggers,
}

impl Moment {
    fn of(cut: usize, play: Play) -> Moment {
        let spread = match play.has_modstamp() {
            true => CUTS - AT_TRIGGERS,
            false => CUTS_WITHOUT,
        };
        match cut.checked_sub(spread) {
            None => Moment {
                after: After::Percent(cut * 100 / (spread - 1)),
                delay: Duration::from_millis(cut as u64 * 70 % 200),
            },
            Some(number) => Moment {
                after: After::Triggers,
                delay: Duration::from_millis(number as u64 * 40),
            },
        }
    }
}

/// What a machine said: lines that begin with a root's file system and package manager.
struct Said(String);

impl Said {
    /// What it said of a root, as words.
    fn of(&self, root: &Root) -> Vec<Vec<&str>> {
        let lines = self.0.lines().map(|line| line.split(' ').collect());
        let own =
            lines.filter(|words: &Vec<&str>| words.starts_with(&[root.filesystem, root.manager]));
        own.map(|words| words[2..].to_vec()).collect()
    }
}

/// The words after `key` in the one line that has it.
#[track_caller]
fn fact<'a>(facts: &[Vec<&'a str>], key: &str) -> Vec<&'a str> {
    let found = facts.iter().find(|words| words[0] == key);
    found.unwrap_or_else(|| panic!("no “{key}” in {facts:#?}"))[1..].to_vec()
}

/// A root on one of the disks, and what is known of it outside.
struct Root {
    filesystem: &'static str,
    manager: &'static str,
    /// The version of the packages that it had, and the one that it is to have.
    from: usize,
    to: usize,
    /// What consumers were told since before the transaction was begun.
    answers: Vec<Answer>,
    phase: Phase,
    /// The stamp's time when all was on disk, and the latest one that anybody saw.
    synced: String,
    latest: String,
}

struct Answer {
    /// The first, 0, is from before the transaction.
    number: usize,
    /// The stamp's time, or the second of the module directory's, while it was asked.
    under: String,
    digest: String,
}

/// How far a transaction was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Begun,
    Unpacking,
    Triggers,
    Ended,
}

/// How often something was seen.
#[derive(Default)]
struct Seen(BTreeMap<String, usize>);

impl Seen {
    fn count(&mut self, what: impl std::fmt::Display) {
        *self.0.entry(what.to_string()).or_default() += 1;
    }

    #[track_caller]
    fn must_have(&self, what: &str) {
        assert!(self.0.contains_key(what), "never {what}: {:#?}", self.0);
    }
}

fn a_power_cut_at_any_moment_of_a_transaction_leaves_no_stale_answer(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let disks = Disks::new(scene.image.clone());
    let mut running = disks.boot(&mut scene);
    let mut roots = Root::all();
    let with = if play.has_modstamp() { "modstamp" } else { "" };
    let all: Vec<&Root> = roots.iter().collect();
    running.order(&format!("each set_up {with}; sync"), &all);
    let versions = running.order("for n in 1 2 3; do expected $n; done", &[]);
    let versions: Vec<&str> = versions.0.lines().collect();

    let mut seen = Seen::default();
    let cuts = if play.has_modstamp() {
        CUTS
    } else {
        CUTS_WITHOUT
    };
    for cut in 0..cuts {
        // Of each disk, dpkg's and rpm's by turns.
        let turn = [cut % 2, 2 + (cut + 1) % 2, 4 + cut % 2];
        let of_turn: Vec<&Root> = turn.iter().map(|n| &roots[*n]).collect();
        let said = running.cut(play, &of_turn, cut % 2 == 0, Moment::of(cut, play));
        turn.iter().for_each(|n| roots[*n].hear(&said));

        running = disks.boot(&mut scene);
        let look = match play.has_modstamp() {
            true => "each look; each configure",
            false => "each look_without; each configure",
        };
        let of_turn: Vec<&Root> = turn.iter().map(|n| &roots[*n]).collect();
        let said = running.order(look, &of_turn);
        let judge = |n: &usize| roots[*n].judge(&said, &versions, &mut scene, &mut seen);
        let found: Vec<String> = turn.iter().map(judge).collect();
        println!("cut {cut}: {}", found.join("; "));
    }
    let ask = if play.has_modstamp() {
        "; each ask 0"
    } else {
        ""
    };
    for root in &roots {
        let said = running.order(&format!("each repeat {}{ask}", root.to), &[root]);
        root.is_well(&said, play);
    }

    for (what, times) in &seen.0 {
        println!("{times} × {what}");
    }
    if play.has_modstamp() {
        let phases = [
            Phase::Begun,
            Phase::Unpacking,
            Phase::Triggers,
            Phase::Ended,
        ];
        let phases = phases.map(|phase| format!("{phase:?}"));
        phases.iter().for_each(|phase| seen.must_have(phase));
        for what in [OLD, NEW, MIXED, SAVED] {
            seen.must_have(what);
        }
    }
    scene.end();
}

const OLD: &str = "old modules";
const NEW: &str = "new modules";
const MIXED: &str = "modules of both, or torn ones";
const SAVED: &str = "an old answer that the stamp would call fresh but for the boot's unit";

impl Root {
    fn all() -> Vec<Root> {
        let root = |filesystem, manager| Root {
            filesystem,
            manager,
            from: 1,
            to: 2,
            answers: Vec::new(),
            phase: Phase::Begun,
            synced: String::new(),
            latest: String::new(),
        };
        let of = |filesystem| ["dpkg", "rpm"].map(|manager| root(filesystem, manager));
        ["ext4", "xfs", "btrfs"].into_iter().flat_map(of).collect()
    }

    /// Takes down what was said until the power was cut.
    fn hear(&mut self, said: &Said) {
        self.answers.clear();
        self.phase = Phase::Begun;
        let removed = format!("-{}-1.noarch", self.from);
        let mut removals = 0;
        for words in said.of(self) {
            match words[..] {
                ["answer", number, before, how, digest, after] => {
                    if number == "0" {
                        self.synced = after.to_owned();
                    }
                    self.latest = self.latest.clone().max(after.to_owned());
                    if how != "unkept" && before == after {
                        self.answers.push(Answer {
                            number: number.parse().unwrap(),
                            under: after.to_owned(),
                            digest: digest.to_owned(),
                        });
                    }
                }
                ["begin"] => {}
                ["line", .., last] if last.ends_with(&removed) => {
                    removals += 1;
                    self.phase = match removals == PACKAGES.len() {
                        true => Phase::Triggers,
                        false => Phase::Unpacking,
                    };
                }
                ["line", "Processing", "triggers", ..] => self.phase = Phase::Triggers,
                ["line", ..] => self.phase = self.phase.max(Phase::Unpacking),
                ["end", "0"] => self.phase = Phase::Ended,
                _ => panic!("{self}: {words:?}"),
            }
        }
    }

    /// Judges what the machine said after the cut. Returns a few words of it.
    fn judge(
        &mut self,
        said: &Said,
        versions: &[&str],
        scene: &mut Scene,
        seen: &mut Seen,
    ) -> String {
        let facts = said.of(self);
        let truth = fact(&facts, "truth")[0];
        let [old, new] = [self.from, self.to].map(|version| truth == versions[version - 1]);
        let modules = match (old, new) {
            (true, _) => OLD,
            (_, true) => NEW,
            _ => MIXED,
        };
        seen.count(format_args!("{:?}", self.phase));
        seen.count(modules);
        let mut found = format!("{self}, {modules}");
        let mut note = |what: &str| {
            seen.count(what);
            found += &format!(", {what}");
        };
        match scene.modstamp {
            true => self.judge_modstamp(&facts, truth, scene, &mut note),
            false => {
                let second = fact(&facts, "second")[0];
                for answer in &self.answers {
                    let is_served = answer.under == second;
                    let is_old = answer.digest != truth;
                    if is_served && is_old {
                        note("an old answer that libvirt's rule calls fresh");
                    }
                    let probes = usize::from(!is_served);
                    match (answer.number, is_old) {
                        (0, true) => scene.answered_after_change(is_served, probes),
                        (0, false) => scene.answered_without_change(probes),
                        _ => {}
                    }
                }
            }
        }
        self.judge_audit(&facts, &mut note);
        if new && self.phase == Phase::Ended {
            (self.from, self.to) = (self.to, self.to % 3 + 1);
        }
        found
    }

    fn judge_modstamp(
        &mut self,
        facts: &[Vec<&str>],
        truth: &str,
        scene: &mut Scene,
        note: &mut impl FnMut(&str),
    ) {
        let [stamp, names] = fact(facts, "left")[..] else {
            panic!("{self}: {facts:#?}");
        };
        let [kind, mode, mtime] = stamp.split(':').collect::<Vec<_>>()[..] else {
            panic!("{self}: {stamp}");
        };
        assert!(
            kind.starts_with("regular_") && mode == "644",
            "{self}: {stamp}"
        );
        assert!(
            *mtime >= *self.synced,
            "{self}: the stamp was at {}, and is at {mtime}",
            self.synced
        );
        for name in names.split_terminator(',') {
            let new = name
                .strip_prefix('.')
                .and_then(|name| name.strip_suffix(".new"));
            assert!(BESIDE.contains(&new.unwrap_or(name)), "{self}: {names}");
        }
        match fact(facts, "text").join(" ") {
            text if text.is_empty() => note("a stamp without its text"),
            text => assert!(
                text.contains(";mtime: ") && text.contains(";why: ") && text.ends_with(';'),
                "{self}: {text}"
            ),
        }

        let updated = fact(facts, "updated");
        let (status, now) = (updated[0], updated[1]);
        let says = updated[2..].join(" ");
        assert!(status == "0" && !says.contains("warning"), "{self}: {says}");
        assert!(now >= mtime, "{self}: {says}");
        assert_eq!(
            now > mtime,
            says.contains("touched the stamp"),
            "{self}: {says}"
        );
        if now > mtime {
            note("touched at boot");
        }
        self.latest = self.latest.clone().max(now.to_owned());

        for answer in self.answers.iter().filter(|answer| answer.digest != truth) {
            match answer.number {
                0 => {
                    assert!(
                        answer.under != now,
                        "{self}: by the stamp, an old answer is fresh: {facts:#?}"
                    );
                    if answer.under == mtime {
                        note(SAVED);
                    }
                }
                _ if answer.under == now => {
                    note("an answer from within that the stamp calls fresh")
                }
                _ => {}
            }
        }
        for words in facts.iter().filter(|words| words[0] == "answer") {
            let [number, _, how, digest, _] = words[1..] else {
                panic!("{self}: {words:?}");
            };
            assert_eq!(
                digest, truth,
                "{self}: the answer {number} was {how}: {facts:#?}"
            );
            let is_old = |answer: &Answer| answer.number == 0 && answer.digest != truth;
            let is_old = self.answers.iter().any(is_old);
            let probes = usize::from(how != "served");
            match (number, is_old) {
                ("0", true) => scene.answered_after_change(false, probes),
                // Neither the modules nor the stamp.
                ("0", false) if now == self.synced => scene.answered_without_change(probes),
                _ => {}
            }
            if number == "0" && !is_old && self.phase == Phase::Begun {
                assert_eq!((how, now), ("served", &*self.synced), "{self}: {says}");
            }
        }
    }

    /// What dpkg and rpm find wrong is the modules' packages, and what a run of dpkg's triggers has left to do.
    fn judge_audit(&self, facts: &[Vec<&str>], note: &mut impl FnMut(&str)) {
        let audit = fact(facts, "audit").join(" ");
        if !audit.is_empty() {
            note("something that an audit finds");
        }
        let packages: Vec<&str> = PACKAGES.iter().map(|(name, _)| *name).collect();
        let parts = audit.split_terminator(';');
        if self.manager == "rpm" {
            let mut files = parts.map(|part| part.rsplit(' ').next().unwrap());
            let is_module = |file: &str| Path::new(file).parent() == Some(Path::new(rpm::MODULES));
            assert!(files.all(is_module), "{self}: {audit}");
            return;
        }
        for name in parts {
            assert!(
                name == "modstamp-qemu" || packages.contains(&name),
                "{self}: {audit}"
            );
        }
        for name in fact(facts, "configured").join(" ").split_terminator(';') {
            assert!(packages.contains(&name), "{self}: {facts:#?}");
        }
    }

    /// Judges what the machine said of a transaction that was not cut.
    fn is_well(&self, said: &Said, play: Play) {
        let facts = said.of(self);
        let repeated = fact(&facts, "repeated");
        let [expected, modules, truth, stamp] = repeated[..] else {
            panic!("{self}: {facts:#?}");
        };
        assert_eq!(modules, expected, "{self}: {facts:#?}");
        assert_eq!(fact(&facts, "audit").concat(), "", "{self}");
        if self.manager == "dpkg" {
            assert_eq!(fact(&facts, "verify").concat(), "", "{self}");
        }
        if play.has_modstamp() {
            assert!(
                *stamp > *self.latest,
                "{self}: {stamp}, after {}",
                self.latest
            );
            let [_, _, _, digest, _] = fact(&facts, "answer")[..] else {
                panic!("{self}: {facts:#?}");
            };
            assert_eq!(digest, truth, "{self}: {facts:#?}");
            let names = fact(&facts, "beside").concat();
            assert_eq!(names, BESIDE.join(",") + ",", "{self}");
        }
    }
}

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.filesystem, self.manager, self.phase)
    }
}

/// In place, so that libvirt's own rule sees nothing; and right before the cut, so that no unit does.
fn a_module_rewritten_right_before_a_power_cut_is_noticed_at_boot(play: Play) {
    let mut scene = play.scene(Filesystem::Ext4);
    let image = scene.image.clone();
    let disk = Disk::over(&image);
    let mut machine = scene.start(Boot::new(&image, &disk));
    scene.fill(&mut machine, &[Libvirt::System]);
    rewrite_and_cut(machine);

    let mut machine = scene.start(Boot::new(&image, &disk));
    scene.changed(&mut machine, &[Libvirt::System], false);
    machine.shut_down();
    scene.end();
}

pub fn rewrite_and_cut(mut machine: Machine) {
    let rewrite = "sync; tr ELF elf < $1 > /tmp/new; dd if=/tmp/new of=$1 conv=notrunc,fsync";
    machine.sh(&format!("set -- {}; {rewrite}", module()));
    machine.cut();
}

/// A directory with modstamp's packages and the modules', as dpkg and rpm take them, and the modules themselves.
fn packages() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: String| directory.path().join(name);
    for name in ["modstamp", "modstamp-qemu"] {
        let packed = rpm::built().join(format!("{name}-1.rpm"));
        std::fs::copy(deb::built(name), at(format!("{name}.deb"))).unwrap();
        std::fs::copy(packed, at(format!("{name}.rpm"))).unwrap();
    }
    for (name, versions) in PACKAGES {
        for (version, modules) in (1..).zip(versions) {
            let tree = tempfile::tempdir().unwrap();
            let mut files = Vec::new();
            for module in modules {
                let content = format!("{module}.so of {version}\n").repeat(3000);
                write(&at(format!("modules-{version}/{module}.so")), &content);
                write(
                    &tree.path().join(format!(".{}/{module}.so", *deb::MODULES)),
                    &content,
                );
                files.push((format!("{}/{module}.so", rpm::MODULES), content));
            }
            write(
                &tree.path().join("DEBIAN/control"),
                &format!(
                    "Package: {name}\nVersion: {version}\nArchitecture: all\n\
                     Maintainer: Nobody <nobody@example.org>\nDescription: a test's own package\n"
                ),
            );
            run(Command::new("dpkg-deb")
                .args(["--root-owner-group", "-Znone", "--build"])
                .args([tree.path(), &at(format!("{name}-{version}.deb"))]));
            let files = files
                .iter()
                .map(|(path, content)| (&**path, content.trim_end()));
            let package = rpm::Package {
                name,
                version: &version.to_string(),
                files: &files.collect::<Vec<_>>(),
                ..Default::default()
            };
            std::fs::copy(package.build(), at(format!("{name}-{version}.rpm"))).unwrap();
        }
    }
    directory
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
