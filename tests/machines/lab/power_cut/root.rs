//! A root on a disk whose power is cut: what is known of it outside, and what is right after a boot.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::Play;
use super::super::scene::Scene;
use super::disks::{PACKAGES, Said, fact};
use support::rpm;

/// What modstamp leaves beside its stamp.
const BESIDE: [&str; 5] = [
    ".qemu.lock",
    "qemu.libvirt",
    "qemu.log",
    "qemu.stamp",
    "qemu.witness",
];

/// A root on one of the disks, and what is known of it outside.
pub struct Root {
    pub filesystem: &'static str,
    pub manager: &'static str,
    /// The version of the packages that it had, and the one that it is to have.
    from: usize,
    pub to: usize,
    /// What consumers were told since before the transaction was begun.
    pub answers: Vec<Answer>,
    phase: Phase,
    /// The stamp's time when all was on disk, and the latest one that anybody saw.
    synced: String,
    latest: String,
}

pub struct Answer {
    /// The first, 0, is from before the transaction.
    pub number: usize,
    /// The stamp's time, or the second of the module directory's, while it was asked.
    pub under: String,
    pub digest: String,
}

/// How far a transaction was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Begun,
    Unpacking,
    Triggers,
    Ended,
}

/// How often something was seen.
#[derive(Default)]
pub struct Seen(pub BTreeMap<String, usize>);

impl Seen {
    fn count(&mut self, what: impl std::fmt::Display) {
        *self.0.entry(what.to_string()).or_default() += 1;
    }

    #[track_caller]
    pub fn must_have(&self, what: &str) {
        assert!(self.0.contains_key(what), "never {what}: {:#?}", self.0);
    }
}

pub const OLD: &str = "old modules";
pub const NEW: &str = "new modules";
pub const MIXED: &str = "modules of both, or torn ones";
pub const SAVED: &str = "an old answer that the stamp would call fresh but for the boot's unit";

impl Root {
    pub fn all() -> Vec<Root> {
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
    pub fn hear(&mut self, said: &Said) {
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
    pub fn judge(
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
    pub fn is_well(&self, said: &Said, play: Play) {
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
