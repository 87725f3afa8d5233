//! A package manager as the scenarios use it that all of them share.
//!
//! transactions.rs and trouble.rs have these scenarios, which run for each manager and release.
//! rpm.rs, dpkg.rs and pacman.rs implement one manager each, and add scenarios of its own.
//!
//! A new manager needs a module like these. A new scenario needs a function and its name in a list.

use std::path::PathBuf;

use support::machine::Machine;
use support::test::{Needs, Test, test};

use crate::{transactions, trouble};

pub type Scenario = fn(&dyn Manager);

/// The names and the scenarios that one manager has for itself.
pub type Own<M> = &'static [(&'static str, fn(&M))];

/// The tests of a manager in one release: those of every manager, and its `own`.
///
/// `new` makes the machine of a test. Afterwards the manager must find nothing wrong there.
pub fn tests<M: Manager + 'static>(
    release: &str,
    needs: &Needs,
    new: impl Fn() -> M + Copy + Send + 'static,
    own: Own<M>,
) -> Vec<Test> {
    let test = |name: &str, scenario: Box<dyn FnOnce(&M) + Send>| {
        test(format!("{release}::{name}"), needs, move || {
            let host = new();
            scenario(&host);
            host.is_well();
        })
    };
    let shared = transactions::SCENARIOS.iter().chain(trouble::SCENARIOS);
    let shared = shared.map(|(name, scenario)| test(name, Box::new(|host| scenario(host))));
    let own = own.iter();
    let own = own.map(|(name, scenario)| test(name, Box::new(scenario)));
    shared.chain(own).collect()
}

/// What a transaction does to packages.
#[derive(Debug, Clone, Copy)]
pub enum Verb {
    Install,
    Upgrade,
    /// Installs the same version again.
    Reinstall,
    Downgrade,
    /// Installs a package in the place of another one.
    Replace,
    Remove,
    /// Removes all that belongs to a package.
    Purge,
}

/// How a package of the tests' own gets on with the package of this name.
pub enum Rival<'a> {
    None,
    /// It takes that package's place.
    Replaced(&'a str),
    /// It is refused beside that package.
    Kept(&'a str),
}

/// The arguments for these strings.
pub fn words(strings: &[String]) -> Vec<&str> {
    strings.iter().map(String::as_str).collect()
}

pub type Arguments = &'static [&'static str];

/// How a package manager is called, and how modstamp is packed for it.
pub struct Facts {
    /// The name, and the options that every call gets.
    pub command: Arguments,
    /// The option for a transaction that is only tried.
    pub only_tried: &'static str,
    /// The options for a transaction without triggers, in each way that there is.
    pub without_triggers: &'static [Arguments],
    /// The arguments that run the triggers which such a transaction put off.
    pub put_off: Option<Arguments>,
    /// The options for a transaction in the root /srv/root, in each way that there is.
    pub in_root: &'static [Arguments],
    /// The names of modstamp's own packages. The last one brings the triggers.
    pub own: Arguments,
    /// The programs that the triggers start.
    pub programs: Arguments,
    /// Directories, beside [`Manager::modules`], whose packages move the stamp.
    pub further_directories: Arguments,
}

/// A machine with modstamp and one module package, “first”, whose package manager this is.
pub trait Manager {
    fn machine(&self) -> &Machine;

    fn facts(&self) -> &'static Facts;

    /// The arguments before the packages.
    fn verb(&self, verb: Verb) -> Arguments;

    /// Whether a line that it printed is a complaint.
    fn is_complaint(&self, line: &str) -> bool;

    /// The directory of QEMU's modules.
    fn modules(&self) -> &str;

    /// Builds a package with files of these paths and contents; returns its path in the machine.
    fn build(&self, name: &str, version: &str, files: &[(&str, &str)], rival: Rival) -> String;

    /// Sets of packages, by their paths in the machine, that it refuses before it changes anything.
    fn refused(&self) -> Vec<Vec<String>> {
        let stolen = [(&*self.path_of("first.so"), "stolen")];
        let thief = self.build("thief", "1", &stolen, Rival::None);
        let both = |refused| vec![self.module("nfs", "1", "nfs.so"), refused];
        vec![both(self.rival()), both(thief)]
    }

    /// The path, in the machine, of one of modstamp's own packages.
    fn own_path(&self, name: &str) -> String;

    /// Like `own_paths`, of a later version if there is one.
    fn own_later(&self) -> Vec<String> {
        self.own_paths()
    }

    /// Makes the root /srv/root of [`Facts::in_root`] inside the machine.
    fn make_root(&self);

    /// The manager must find nothing half done, and each file as it was packed.
    fn is_well(&self);

    /// What modstamp leaves outside /srv, where the packages are.
    fn leftovers(&self) -> String {
        self.sh("find / -xdev -path /srv -prune -o -name '*modstamp*' -print")
    }

    // The rest is made of the above, and no manager has its own.

    /// The arguments of a transaction.
    fn arguments<'a>(&self, options: &[&'a str], verb: Verb, packages: &[&'a str]) -> Vec<&'a str> {
        [options, self.verb(verb), packages].concat()
    }

    /// Runs the manager; returns whether it succeeded, and all that it printed.
    ///
    /// A run of minutes is stuck.
    fn try_run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.machine().command("timeout");
        command.arg("120").args(self.facts().command);
        command.args(arguments);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// Runs the manager, which must succeed; returns its complaints.
    fn complaints(&self, arguments: &[&str]) -> Vec<String> {
        let (succeeded, text) = self.try_run(arguments);
        assert!(succeeded, "{arguments:?}: {text}");
        let complaints = text.lines().filter(|line| self.is_complaint(line));
        complaints.map(str::to_owned).collect()
    }

    /// Runs the manager, which must succeed without a complaint.
    fn run(&self, arguments: &[&str]) {
        let complaints = self.complaints(arguments);
        assert!(complaints.is_empty(), "{arguments:?}: {complaints:?}");
    }

    /// Whether the stamp moves when the manager runs, which must succeed without a complaint.
    fn run_moves(&self, arguments: &[&str]) -> bool {
        self.machine().moves(|| self.run(arguments))
    }

    /// Makes a transaction, which must succeed without a complaint.
    fn transact(&self, verb: Verb, packages: &[&str]) {
        self.run(&self.arguments(&[], verb, packages));
    }

    /// Whether the stamp moves in a transaction, which must succeed without a complaint.
    fn moves(&self, verb: Verb, packages: &[&str]) -> bool {
        self.run_moves(&self.arguments(&[], verb, packages))
    }

    /// The kept witness must be stale, with each of these among its reasons.
    fn is_stale_by(&self, expected: &[&str]) {
        let reasons = self.machine().check().expect("stale");
        for reason in expected {
            assert!(reasons.contains(reason), "no “{reason}” in {reasons}");
        }
    }

    /// Builds a package with these files; returns its path in the machine.
    ///
    /// The content of each file is its path.
    fn package(&self, name: &str, version: &str, paths: &[&str]) -> String {
        let files: Vec<_> = paths.iter().map(|path| (*path, *path)).collect();
        self.build(name, version, &files, Rival::None)
    }

    /// Builds a package with one module; returns its path in the machine.
    fn module(&self, name: &str, version: &str, file: &str) -> String {
        self.package(name, version, &[&self.path_of(file)])
    }

    /// Builds a package that “first” keeps out; returns its path in the machine.
    fn rival(&self) -> String {
        self.build("rival", "1", &[], Rival::Kept("first"))
    }

    /// The paths, in the machine, of modstamp's own packages.
    fn own_paths(&self) -> Vec<String> {
        let own = self.facts().own.iter();
        own.map(|name| self.own_path(name)).collect()
    }

    /// The path, in the machine, of a module.
    fn path_of(&self, module: &str) -> String {
        format!("{}/{module}", self.modules())
    }

    /// The path, from outside, of `path` in the machine.
    fn outside(&self, path: &str) -> PathBuf {
        self.machine().root.join(path.trim_start_matches('/'))
    }

    /// Runs a shell script in the machine, which must succeed; returns what it printed.
    fn sh(&self, script: &str) -> String {
        self.machine().sh(script)
    }

    fn exists(&self, path: &str) -> bool {
        self.outside(path).symlink_metadata().is_ok()
    }

    fn has_module(&self, module: &str) -> bool {
        self.exists(&self.path_of(module))
    }
}
