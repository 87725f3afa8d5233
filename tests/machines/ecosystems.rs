//! Programs of Debian's that load plug-ins and keep what these can do, and know nothing of
//! modstamp: does each answer rightly after a change?
//!
//! Each scenario runs in two throw-away machines. In the first, which has no modstamp, it shows
//! the program's answer after the change. So a promise that needs no modstamp is seen as such. In
//! the second machine, modstamp does what its packages' triggers and units do. Then the answer must
//! be right, and the cache made once. An update after that, with nothing changed, makes no cache. A
//! table at the end shows the results.
//!
//! `ecosystems/*.sh` have the functions that ask each program. The truth is the answer without the
//! cache.

mod scenarios;

use std::collections::BTreeMap;
use std::sync::Mutex;

use scenarios::SCENARIOS;
use support::deb::{self, Host, RELEASES, Release};
use support::test::{Needs, Test, test};

/// A program with plug-ins.
struct Ecosystem {
    profile: &'static str,
    /// The functions of its file, for a shell.
    functions: &'static str,
    packages: Packages,
}

/// The packages of a machine.
#[derive(Clone, Copy)]
enum Packages {
    Desktop,
    /// QEMU and libguestfs.
    Guests,
}

macro_rules! ecosystem {
    ($name:literal, $packages:ident) => {
        Ecosystem {
            profile: $name,
            functions: include_str!(concat!("ecosystems/", $name, ".sh")),
            packages: Packages::$packages,
        }
    };
}

const PRELUDE: &str = include_str!("ecosystems/prelude.sh");
const GSTREAMER: Ecosystem = ecosystem!("gstreamer", Desktop);
const GDK_PIXBUF: Ecosystem = ecosystem!("gdk-pixbuf", Desktop);
const GTK3: Ecosystem = ecosystem!("gtk3", Desktop);
const GIO: Ecosystem = ecosystem!("gio", Desktop);
const VLC: Ecosystem = ecosystem!("vlc", Desktop);
const FONTCONFIG: Ecosystem = ecosystem!("fontconfig", Desktop);
const ENTRY_POINTS: Ecosystem = ecosystem!("entry-points", Desktop);
const LIBGUESTFS: Ecosystem = ecosystem!("libguestfs", Guests);
const NBDKIT: Ecosystem = ecosystem!("nbdkit", Desktop);
const VULKAN: Ecosystem = ecosystem!("vulkan", Desktop);

/// Who makes a change, and so who tells modstamp of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// A hand, `make install`, an image: the units look.
    Hand,
    /// dpkg, and nobody else: the triggers do it.
    Dpkg,
    /// `modstamp run` looks by itself.
    Run,
}

/// The state of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Right,
    Stale,
}
use Seen::{Right, Stale};

struct Scenario {
    ecosystem: &'static Ecosystem,
    name: &'static str,
    /// Scripts: before the first question, and the change.
    before: &'static str,
    change: &'static str,
    by: By,
    /// The answer after the change without modstamp.
    without: Seen,
    /// How often the units' next look makes the cache anew, though nothing changed since.
    again: u32,
}

const fn scenario(
    ecosystem: &'static Ecosystem,
    name: &'static str,
    [before, change]: [&'static str; 2],
    by: By,
    without: Seen,
) -> Scenario {
    Scenario {
        ecosystem,
        name,
        before,
        change,
        by,
        without,
        again: 0,
    }
}

impl Scenario {
    /// Debian's trigger for fonts makes anew only the lists that it finds stale. So modstamp makes
    /// all anew, at its next look.
    const fn made_again(self) -> Scenario {
        Scenario { again: 1, ..self }
    }
}

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&deb::PROGRAMS);
    let of = |scenario: &'static Scenario| {
        let needs = needs.clone();
        RELEASES.iter().map(move |release| {
            let Scenario {
                ecosystem, name, ..
            } = scenario;
            let name = format!("{}::{}::{name}", ecosystem.profile, release.suite);
            test(name, &needs, move || scenario.holds(release))
        })
    };
    SCENARIOS.iter().flat_map(of).collect()
}

/// The answer after a change, and how often the cache was made because of it.
#[derive(Debug, Clone, Copy)]
struct Half {
    seen: Seen,
    made: u32,
}

struct Row {
    version: String,
    without: Half,
    with: Half,
    again: u32,
}

/// The results, by the scenario's number and the release's.
static SEEN: Mutex<BTreeMap<(usize, &str), Row>> = Mutex::new(BTreeMap::new());

impl Scenario {
    fn holds(&'static self, release: &'static Release) {
        let scene = Scene::new(self.ecosystem, release);
        let without = scene.half(self, || ());
        assert_eq!(without.seen, self.without, "without modstamp: {without:?}");
        let version = scene.sh("version");

        let scene = Scene::new(self.ecosystem, release);
        let packages = ["modstamp", "modstamp-ecosystems"];
        scene.host.install_built(&packages);
        let with = scene.half(self, || scene.look(self.by));
        assert_eq!((with.seen, with.made), (Right, 1), "with modstamp");
        let made = scene.made();
        scene.look(match self.by {
            By::Hand | By::Dpkg => By::Hand,
            By::Run => By::Run,
        });
        scene.sh("ask");
        let again = scene.made() - made;
        assert_eq!(again, self.again, "a look without a change");

        let mut scenarios = SCENARIOS.iter();
        let number = scenarios.position(|it| std::ptr::eq(it, self));
        let row = Row {
            version,
            without,
            with,
            again,
        };
        let place = (number.unwrap(), release.suite);
        SEEN.lock().unwrap().extend([(place, row)]);
    }
}

/// The file in the machine that has the functions and variables of all scripts.
const FUNCTIONS: &str = "/srv/functions.sh";

/// A machine with the program.
struct Scene {
    host: Host,
    profile: &'static str,
}

impl Scene {
    fn new(ecosystem: &Ecosystem, release: &'static Release) -> Scene {
        let Ecosystem {
            profile, functions, ..
        } = *ecosystem;
        let devices = release.devices;
        let variables = format!("profile={profile}\ndevices={devices}");
        let host = Host::bare(release, &ecosystem.packages.names(release));
        let text = format!("{PRELUDE}\n{functions}\n{variables}\n");
        std::fs::write(host.outside(FUNCTIONS), text).unwrap();
        let scene = Scene { host, profile };
        scene.sh("useradd --create-home --skel /var/empty one; prepare");
        scene
    }

    fn sh(&self, script: &str) -> String {
        self.host.sh(&format!(". {FUNCTIONS}\n{script}"))
    }

    /// How often the cache was made so far.
    fn made(&self) -> u32 {
        self.sh("made").trim().parse().unwrap()
    }

    /// The answer after the change, once `tell` told modstamp of it.
    fn half(&self, scenario: &Scenario, tell: impl Fn()) -> Half {
        self.sh(scenario.before);
        if self.host.outside("/usr/bin/modstamp").exists() {
            self.look(By::Hand);
        }
        let before = self.sh("ask");
        assert_eq!(before, self.sh("truth"), "before the change");
        assert_eq!(before, self.sh("ask"), "before the change");
        let made = self.made();
        self.sh(scenario.change);
        tell();
        let after = self.sh("ask");
        let made = self.made() - made;
        let truth = self.sh("truth");
        assert_ne!(before, truth, "the change changes nothing");
        let seen = if after == truth { Right } else { Stale };
        Half { seen, made }
    }

    /// Runs what the units run, as root and as the user whose cache it is.
    fn look(&self, by: By) {
        let update = format!("modstamp update --profile {}", self.profile);
        match by {
            By::Hand => drop(self.sh(&format!("{update}; as_one {update}"))),
            By::Dpkg => drop(self.sh(&format!("as_one {update}"))),
            By::Run => {}
        }
    }
}

impl Packages {
    fn names(self, release: &Release) -> Vec<&'static str> {
        match self {
            Packages::Desktop => DESKTOP.to_vec(),
            Packages::Guests => vec![
                "e2fsprogs",
                "guestfish",
                "qemu-system-x86",
                "qemu-utils",
                release.devices,
            ],
        }
    }
}

const DESKTOP: [&str; 15] = [
    "dconf-gsettings-backend",
    "fcitx5-frontend-gtk3",
    "fontconfig",
    "fonts-dejavu-core",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-tools",
    "libgdk-pixbuf2.0-bin",
    "libglib2.0-bin",
    "librsvg2-common",
    "mesa-vulkan-drivers",
    "nbdkit",
    "python3-stevedore",
    "vlc-bin",
    "vlc-plugin-base",
    "vulkan-tools",
];

/// The results as a table for people.
pub fn table() -> String {
    let seen = SEEN.lock().unwrap();
    if seen.is_empty() {
        return String::new();
    }
    let words = |half: &Half| {
        let word = match half.seen {
            Right => "right",
            Stale => "stale",
        };
        format!("{word}, made {}", half.made)
    };
    let titles = [
        "program",
        "Debian's",
        "change",
        "without modstamp",
        "with it",
        "at the next look",
    ];
    let mut lines = vec![titles.map(str::to_owned)];
    for (&(number, _), row) in &*seen {
        let Scenario {
            ecosystem, name, ..
        } = &SCENARIOS[number];
        lines.push([
            ecosystem.profile.to_owned(),
            row.version.clone(),
            name.replace('_', " "),
            words(&row.without),
            words(&row.with),
            format!("made {}", row.again),
        ]);
    }
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap()
    });
    let mut text = "\nWhat programs answer after a change, and how often each made its cache \
        because of it:\n\n"
        .to_owned();
    for line in lines {
        for (field, width) in line.iter().zip(widths) {
            text += &format!("{field:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text + "\n"
}
