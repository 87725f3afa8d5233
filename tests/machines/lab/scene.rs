//! What a scenario has: machines with modstamp or without it, what libvirt answers in them, and what was seen of that.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

use super::image::{Filesystem, Image};
use super::machine::{Boot, Machine};
use support::deb::MODULES;

/// The module under test, with which QEMU can redirect USB.
pub const MODULE: &str = "hw-usb-redirect.so";

/// Its path.
pub fn module() -> String {
    format!("{}/{MODULE}", *MODULES)
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libvirt {
    System,
    /// That of the user `me`, whose manager starts at boot once [`Scene::linger`] said so.
    Session,
}
use Libvirt::System;

/// What was seen of a promise, on machines of one kind.
#[derive(Debug, Clone, Default)]
struct Half {
    boots: Vec<Duration>,
    /// The look-ups after a change, how many of them had an old answer, and the probes that they took.
    changed: usize,
    stale: usize,
    probes: usize,
    /// The look-ups where nothing had changed, and the probes that they took.
    unchanged: usize,
    needless: usize,
}

/// By promise, and by what the machines have.
static SEEN: Mutex<BTreeMap<(&str, With), Half>> = Mutex::new(BTreeMap::new());

/// Masks the drop-in of libvirt's daemon, from its next start on.
const MASK_DROP_IN: &str = "ln -sf /dev/null /etc/systemd/system/libvirtd.service.d/modstamp.conf; systemctl daemon-reload";

/// Words of the kernel's command line that mask the units.
const MASKED: [&str; 2] = [
    "systemd.mask=modstamp-update@qemu.service",
    "systemd.mask=modstamp-update@qemu.path",
];

/// What a scenario's machines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum With {
    Nothing,
    /// modstamp, with its system units and its drop-in masked.
    MaskedUnits,
    Modstamp,
}

impl With {
    /// For the names of tests, and for the table.
    pub fn words(self) -> &'static str {
        match self {
            With::Nothing => "without modstamp",
            With::MaskedUnits => "with masked units",
            With::Modstamp => "with modstamp",
        }
    }
}

/// A scenario that runs.
pub struct Scene {
    with: With,
    /// Whether the machines have modstamp, and its units.
    pub modstamp: bool,
    pub image: Image,
    /// Whether QEMU itself has what is in the module, as it was found last.
    truth: bool,
    promise: &'static str,
    seen: BTreeMap<&'static str, Half>,
}

impl Scene {
    pub fn new(promise: &'static str, with: With, filesystem: Filesystem) -> Scene {
        Scene {
            with,
            modstamp: with == With::Modstamp,
            image: Image::new(with != With::Nothing, filesystem),
            truth: true,
            promise,
            seen: BTreeMap::new(),
        }
    }

    /// Names the promise of the next boots and answers: a row of the table.
    pub fn promise(&mut self, promise: &'static str) {
        self.promise = promise;
    }

    fn seen(&mut self) -> &mut Half {
        self.seen.entry(self.promise).or_default()
    }

    /// Starts a machine.
    pub fn start(&mut self, boot: Boot) -> Machine {
        let boot = match self.with {
            With::MaskedUnits => MASKED.iter().fold(boot, |boot, word| boot.word(word)),
            With::Nothing | With::Modstamp => boot,
        };
        let mut machine = boot.start();
        if self.with == With::MaskedUnits {
            machine.sh(MASK_DROP_IN);
        }
        self.seen().boots.push(machine.boot_time);
        machine
    }

    /// Takes down how a consumer was answered after a change, and whether that is stale.
    pub fn answered_after_change(&mut self, is_stale: bool, probes: usize) {
        let seen = self.seen();
        seen.changed += 1;
        seen.stale += usize::from(is_stale);
        seen.probes += probes;
    }

    /// Takes down how a consumer was answered if nothing had changed.
    pub fn answered_without_change(&mut self, probes: usize) {
        let seen = self.seen();
        seen.unchanged += 1;
        seen.needless += probes;
    }

    /// Has `me`'s manager start at boot, and now.
    pub fn linger(&self, machine: &mut Machine) {
        machine.sh("loginctl enable-linger me");
    }

    /// The first answers: they are right, and took a probe each.
    #[track_caller]
    pub fn fill(&mut self, machine: &mut Machine, who: &[Libvirt]) {
        self.truth = truth(machine);
        for libvirt in who {
            assert_eq!(ask(machine, *libvirt), (self.truth, 1), "{libvirt:?}");
        }
    }

    /// The same, of the system's libvirt once it has forgotten what it knew.
    #[track_caller]
    pub fn fill_anew(&mut self, machine: &mut Machine) {
        machine.sh("systemctl stop libvirtd; rm /var/cache/libvirt/qemu/capabilities/*");
        self.fill(machine, &[System]);
    }

    /// The answers after a change, by which QEMU has the module or has it no more. With modstamp they are right, after a
    /// probe each; without it they are the old ones.
    #[track_caller]
    pub fn changed(&mut self, machine: &mut Machine, who: &[Libvirt], has_module: bool) {
        let probes = usize::from(self.modstamp);
        self.answers(machine, who, has_module, probes..=probes);
    }

    /// The same where others asked meanwhile.
    #[track_caller]
    pub fn changed_meanwhile(&mut self, machine: &mut Machine, who: &[Libvirt], has_module: bool) {
        self.answers(machine, who, has_module, 0..=1);
    }

    #[track_caller]
    fn answers(
        &mut self,
        machine: &mut Machine,
        who: &[Libvirt],
        has_module: bool,
        wanted: RangeInclusive<usize>,
    ) {
        self.truth = truth(machine);
        let promise = self.promise;
        assert_eq!(self.truth, has_module, "{promise}: QEMU itself");
        for libvirt in who {
            let (answer, probes) = ask(machine, *libvirt);
            self.answered_after_change(answer != has_module, probes);
            let expected = has_module == self.modstamp;
            let who = format!("{promise}: {libvirt:?}");
            assert_eq!(answer, expected, "{who}, {}", told(machine));
            assert!(
                wanted.contains(&probes),
                "{who}, {probes}, {}",
                told(machine)
            );
        }
    }

    /// The answers where nothing changed: they are right, and took no probe.
    #[track_caller]
    pub fn unchanged(&mut self, machine: &mut Machine, who: &[Libvirt]) {
        for libvirt in who {
            let (answer, probes) = ask(machine, *libvirt);
            self.answered_without_change(probes);
            assert_eq!(
                (answer, probes),
                (self.truth, 0),
                "{}: {libvirt:?}, {}",
                self.promise,
                told(machine)
            );
        }
    }

    /// Keeps a witness of now, as a program would that uses the library.
    #[track_caller]
    pub fn observe(&self, machine: &mut Machine) {
        if self.modstamp {
            machine.sh("modstamp observe > /var/lib/witness");
        }
    }

    /// Whether the kept witness is stale because of `why`, or fresh where that is `None`.
    #[track_caller]
    pub fn check(&self, machine: &mut Machine, why: Option<&str>) {
        if self.modstamp {
            let (status, said) = machine.try_sh("modstamp check /var/lib/witness");
            let promise = self.promise;
            assert_eq!(status, i32::from(why.is_some()), "{promise}: {said}");
            let names = said.contains(why.unwrap_or_default());
            assert!(names, "{promise}: {said}");
        }
    }

    /// Adds it to the table.
    pub fn end(self) {
        let rows = self.seen.into_iter();
        let rows = rows.map(|(promise, half)| ((promise, self.with), half));
        SEEN.lock().unwrap().extend(rows);
    }
}

/// Whether QEMU itself lists what is in the module.
#[track_caller]
fn truth(machine: &mut Machine) -> bool {
    let devices = machine.sh("qemu-system-x86_64 -device help");
    devices.contains("name \"usb-redir\"")
}

/// What libvirt answers, and how many probes that took.
#[track_caller]
fn ask(machine: &mut Machine, libvirt: Libvirt) -> (bool, usize) {
    let who = format!("{libvirt:?}").to_lowercase();
    let said = machine.sh(&format!("bash /usr/local/lib/lab/ask {who}"));
    let (answer, probes) = said.trim().split_once(' ').unwrap();
    (answer == "yes", probes.parse().unwrap())
}

/// What modstamp told since the machine booted, and systemd of it and of libvirt.
pub fn told(machine: &mut Machine) -> String {
    machine.sh(
        "journalctl --boot --output=cat -t modstamp -t systemd | grep 'stamp\\|libvirt' || true",
    )
}

/// What was seen, for people.
pub fn table() -> String {
    let seen = SEEN.lock().unwrap();
    if seen.is_empty() {
        return String::new();
    }
    let mut lines = vec![
        [
            "promise",
            "machines",
            "after a change",
            "probes",
            "without a change",
            "probes",
            "boots",
        ]
        .map(str::to_owned),
    ];
    for ((promise, with), half) in &*seen {
        let fresh = half.changed - half.stale;
        let answers = match (fresh, half.stale) {
            (0, 0) => "–".to_owned(),
            (fresh, 0) => format!("{fresh} noticed"),
            (0, stale) => format!("{stale} stale"),
            (fresh, stale) => format!("{fresh} noticed, {stale} stale"),
        };
        let unchanged = match half.unchanged {
            0 => ["–".to_owned(), "–".to_owned()],
            asked => [format!("{asked} asked"), half.needless.to_string()],
        };
        let [unchanged, needless] = unchanged;
        let seconds = half.boots.iter().map(|boot| boot.as_secs_f64().round());
        let seconds: Vec<f64> = seconds.collect();
        let boots = match &seconds[..] {
            [] => "–".to_owned(),
            few if few.len() < 8 => {
                let few: Vec<String> = few.iter().map(f64::to_string).collect();
                format!("{} s", few.join(", "))
            }
            many => {
                let least = many.iter().copied().fold(f64::MAX, f64::min);
                let most = many.iter().copied().fold(0.0, f64::max);
                format!("{} of {least} to {most} s", many.len())
            }
        };
        let probes = half.probes.to_string();
        let promise = promise.replace('_', " ");
        lines.push([
            promise,
            with.words().to_owned(),
            answers,
            probes,
            unchanged,
            needless,
            boots,
        ]);
    }
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap()
    });
    let mut text = "\nWhat consumers are told:\n\n".to_owned();
    for line in lines {
        for (field, width) in line.iter().zip(widths) {
            text += &format!("{field:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text + "\n"
}
