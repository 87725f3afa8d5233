//! The Debian packages under a real dpkg: does the stamp move exactly when it should?
//!
//! The packages are those that `debian/` builds. Throw-away machines install them, together with
//! small packages of the tests' own. After each scenario dpkg must find nothing wrong. manager.rs
//! has the scenarios that all managers share, and qemu.rs those with Debian's QEMU.

use std::path::Path;
use std::process::Command;

use support::deb::{self, Host, MODULES, Package, RELEASES, Release, module};
use support::machine::Machine;
use support::test::{Needs, Test};
use support::{named, run};

use crate::manager::Verb::{self, Install, Purge, Remove};
use crate::manager::{self, Arguments, Facts, Manager, Rival, words};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&deb::PROGRAMS);
    let of = |release: &'static Release| {
        manager::tests(release.dpkg, &needs, move || plain(release), OWN)
    };
    RELEASES.iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const OWN: &[(&str, Scenario)] = named![
    purging_a_module_package_moves_the_stamp_once,
    several_packages_in_one_run_start_the_trigger_once_at_its_end,
    a_run_in_which_a_package_fails_moves_the_stamp,
    a_run_that_dpkg_undoes_costs_one_probe_and_no_more,
    a_package_that_still_says_lib_moves_the_stamp,
    a_reader_is_protected_between_unpacking_and_the_trigger,
    a_deferred_trigger_moves_the_stamp_when_it_runs,
    a_diversion_by_hand_is_seen_without_the_stamp,
    dpkg_from_outside_the_root_moves_the_stamp_in_it,
    a_trigger_waits_until_the_program_is_configured,
    a_program_that_is_only_unpacked_makes_the_stamp,
    a_module_that_comes_while_modstamp_qemu_is_upgraded_moves_the_stamp,
    a_module_that_comes_while_modstamp_qemu_is_removed_counts_when_it_is_back,
    purging_leaves_nothing,
    purging_in_the_other_order_leaves_nothing,
    purging_a_stamp_that_is_none_leaves_nothing,
];

const FACTS: Facts = Facts {
    command: &["dpkg"],
    only_tried: "--no-act",
    without_triggers: &[&["--no-triggers"]],
    put_off: Some(&["--triggers-only", "--pending"]),
    // Without a change of root, so that a script which forgets its root is found out.
    in_root: &[&[
        "--root=/srv/root",
        "--force-script-chrootless",
        "--force-not-root",
    ]],
    own: &["modstamp", "modstamp-qemu"],
    programs: &["/usr/bin/modstamp"],
    further_directories: &[],
};

/// A machine with modstamp, modstamp-qemu and one module.
fn plain(release: &'static Release) -> Host {
    let host = Host::new(release, &[]);
    host.transact(Install, &[&host.module("first", "1", "first.so")]);
    host
}

impl Manager for Host {
    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn verb(&self, verb: Verb) -> Arguments {
        match verb {
            Remove => &["--remove"],
            Purge => &["--purge"],
            _ => &["--install"],
        }
    }

    fn is_complaint(&self, line: &str) -> bool {
        line.contains("modstamp: ") || line.starts_with("dpkg: error")
    }

    fn modules(&self) -> &str {
        &MODULES
    }

    fn build(&self, name: &str, version: &str, files: &[(&str, &str)], rival: Rival) -> String {
        let fields = match rival {
            Rival::None => String::new(),
            Rival::Kept(name) => format!("Conflicts: {name}\n"),
            Rival::Replaced(name) => format!("Conflicts: {name}\nReplaces: {name}\n"),
        };
        let package = Package {
            name,
            version,
            contents: files,
            fields: &fields,
            ..Package::default()
        };
        Host::build(self, &package)
    }

    /// dpkg refuses one package of several, and only for what its control file says.
    fn refused(&self) -> Vec<Vec<String>> {
        vec![vec![self.rival()]]
    }

    fn own_path(&self, name: &str) -> String {
        format!("/srv/{name}.deb")
    }

    fn own_later(&self) -> Vec<String> {
        let later = |name: &&str| self.rebuilt(name, "99");
        FACTS.own.iter().map(later).collect()
    }

    /// The root runs no program of its own, so it only says that it has a C library.
    fn make_root(&self) {
        self.sh("mkdir -p /srv/root/var/lib/dpkg/info
             for name in libc6 libgcc-s1; do
                 dpkg-query -s $name; echo
             done > /srv/root/var/lib/dpkg/status");
    }

    fn is_well(&self) {
        Host::is_well(self);
    }

    fn leftovers(&self) -> String {
        self.sh("find / -xdev -path /srv -prune -o -name '*modstamp*' -print
             grep -rl modstamp /var/lib/dpkg --exclude='*-old' || true")
    }
}

fn purging_a_module_package_moves_the_stamp_once(host: &Host) {
    let a = host.build(&Package {
        name: "a",
        version: "1",
        files: &[&module("a.so")],
        // It leaves something to purge after the removal.
        script: Some(("postrm", "#!/bin/sh\n")),
        ..Package::default()
    });
    host.transact(Install, &[&a]);
    assert!(host.moves(Purge, &["a"]));
    host.transact(Install, &[&a]);
    assert!(host.moves(Remove, &["a"]));
    assert!(!host.moves(Purge, &["a"]), "its modules were gone");
}

/// How often dpkg has started the trigger.
fn trigger_runs(host: &Host) -> usize {
    let log = std::fs::read_to_string(host.outside("/var/log/dpkg.log")).unwrap();
    log.matches(" trigproc modstamp-qemu").count()
}

fn several_packages_in_one_run_start_the_trigger_once_at_its_end(host: &Host) {
    // Every package's configuration notes the stamp's time: the trigger has not run yet.
    let note = "#!/bin/sh\nstat -c %y /var/lib/modstamp/qemu.stamp >> /srv/times\n";
    let build = |name| {
        host.build(&Package {
            name,
            version: "1",
            files: &[&module(name)],
            script: Some(("postinst", note)),
            ..Package::default()
        })
    };
    let packages = ["a", "b", "c"].map(build);
    let runs = trigger_runs(host);
    let time = host.sh("stat -c %y /var/lib/modstamp/qemu.stamp");
    assert!(host.moves(Install, &packages.each_ref().map(String::as_str)));
    assert_eq!(trigger_runs(host) - runs, 1);
    assert_eq!(host.sh("cat /srv/times"), time.repeat(3));

    assert!(host.moves(Remove, &["a", "b", "c"]));
    assert_eq!(trigger_runs(host) - runs, 2);
}

/// Whether the stamp moves while dpkg fails to install a package.
fn a_failure_moves(host: &Host, package: &str) -> bool {
    let fail = || assert!(!host.try_run(&["--install", package]).0);
    host.machine.moves(fail)
}

fn a_run_in_which_a_package_fails_moves_the_stamp(host: &Host) {
    let build = |name, script| {
        host.build(&Package {
            name,
            version: "1",
            files: &[&module(name)],
            script: Some((script, "#!/bin/sh\nexit 1\n")),
            ..Package::default()
        })
    };
    let fails_at_its_end = build("a", "postinst");
    assert!(a_failure_moves(host, &fails_at_its_end));
    assert!(host.moves(Purge, &["a"]));
    let fails_at_once = build("b", "preinst");
    assert!(!a_failure_moves(host, &fails_at_once));
}

fn a_run_that_dpkg_undoes_costs_one_probe_and_no_more(host: &Host) {
    host.transact(Install, &[&host.module("a", "1", "a.so")]);
    host.machine.observe();
    // Its first module is unpacked before the second is found to be another package's.
    let b = host.package("b", "1", &[&module("Z.so"), &module("a.so")]);
    assert!(a_failure_moves(host, &b));
    assert!(!host.outside(&module("Z.so")).exists());
    let reasons = host.machine.check().expect("stale by the stamp");
    assert!(!reasons.contains(&*MODULES), "{reasons}");
    host.machine.observe();
}

fn a_package_that_still_says_lib_moves_the_stamp(host: &Host) {
    let path = module("a.so");
    let aliased = path.strip_prefix("/usr").unwrap();
    let a = host.package("a", "1", &[aliased]);
    assert!(host.moves(Install, &[&a]));
    assert!(host.outside(&path).exists());
    assert!(host.moves(Remove, &["a"]));
}

fn a_reader_is_protected_between_unpacking_and_the_trigger(host: &Host) {
    let a = host.build(&Package {
        name: "a",
        version: "1",
        files: &[&module("a.so")],
        script: Some((
            "postinst",
            "#!/bin/sh\n\
             stat -c %y /var/lib/modstamp/qemu.stamp > /srv/time\n\
             modstamp check /srv/witness > /srv/reasons\n\
             echo $? > /srv/status\n",
        )),
        ..Package::default()
    });
    host.machine.observe();
    let time = host.sh("stat -c %y /var/lib/modstamp/qemu.stamp");
    assert!(host.moves(Install, &[&a]));
    assert_eq!(host.sh("cat /srv/time"), time, "the stamp had not moved");
    assert_eq!(host.sh("cat /srv/status"), "1\n");
    let reasons = host.sh("cat /srv/reasons");
    assert!(reasons.contains(&*MODULES), "{reasons}");
}

fn a_deferred_trigger_moves_the_stamp_when_it_runs(host: &Host) {
    let a = host.module("a", "1", "a.so");
    host.machine.observe();
    assert!(!host.run_moves(&["--no-triggers", "--install", &a]));
    host.is_stale_by(&[&MODULES]);
    // noawait: the package itself is in order already.
    let status = host.sh("dpkg-query --show --showformat '${Status}' a");
    assert_eq!(status, "install ok installed");
    assert!(host.run_moves(&["--configure", "--pending"]));
    assert!(!host.run_moves(&["--configure", "--pending"]));
}

fn a_diversion_by_hand_is_seen_without_the_stamp(host: &Host) {
    host.transact(Install, &[&host.module("a", "1", "a.so")]);
    host.machine.observe();
    let divert = format!(
        "dpkg-divert --local --rename --divert /srv/a.so --add {}",
        module("a.so")
    );
    // dpkg-divert starts no triggers.
    assert!(!host.machine.moves(|| host.sh(&divert)));
    host.is_stale_by(&["a.so"]);
}

fn dpkg_from_outside_the_root_moves_the_stamp_in_it(host: &Host) {
    let dpkg = |verb: &str, package: &Path| {
        let root = host.machine.root.display();
        let log = host.outside("/var/log/dpkg.log"); // which --root does not move
        let options = [format!("--root={root}"), format!("--log={}", log.display())];
        let mut command = Command::new("dpkg");
        command.args(options).arg(verb).arg(package);
        host.machine.moves(|| run(&mut command))
    };
    let package = |name, path: &str| host.outside(&host.package(name, "1", &[path]));
    assert!(dpkg("--install", &package("a", &module("a.so"))));
    assert!(dpkg("--remove", "a".as_ref()));
    assert!(!dpkg("--install", &package("b", "/usr/share/b")));
}

/// dpkg keeps a trigger for later if its package has a dependency that is not configured.
fn a_trigger_waits_until_the_program_is_configured(host: &Host) {
    host.machine.observe();
    let a = host.module("a", "1", "a.so");
    assert!(!host.run_moves(&["--unpack", "/srv/modstamp.deb", &a]));
    host.is_stale_by(&["a.so"]);
    assert!(host.run_moves(&["--configure", "--pending"]));

    host.machine.observe();
    host.dpkg("--force-depends --remove modstamp");
    let b = host.module("b", "1", "b.so");
    assert!(!host.moves(Install, &[&b]));
    host.dpkg("--install /srv/modstamp.deb");
    host.is_stale_by(&["b.so"]);
    assert!(host.run_moves(&["--configure", "--pending"]));
}

fn a_program_that_is_only_unpacked_makes_the_stamp(host: &Host) {
    host.dpkg("--purge modstamp-qemu modstamp");
    host.dpkg("--unpack /srv/modstamp.deb /srv/modstamp-qemu.deb");
    assert!(host.run_moves(&["--force-depends", "--configure", "modstamp-qemu"]));
    host.dpkg("--configure --pending");
}

fn a_module_that_comes_while_modstamp_qemu_is_upgraded_moves_the_stamp(host: &Host) {
    let (new, a) = (host.own_later(), host.module("a", "1", "a.so"));
    let new = words(&new);
    let runs = trigger_runs(host);
    assert!(host.moves(Install, &[&new[..], &[&a]].concat()));
    // dpkg forgets triggers of a package that is not configured.
    assert_eq!(trigger_runs(host), runs);

    let b = host.module("b", "1", "b.so");
    host.run(&[&["--unpack", &b], &new[..]].concat());
    assert!(host.run_moves(&["--configure", "--pending"]));
}

fn a_module_that_comes_while_modstamp_qemu_is_removed_counts_when_it_is_back(host: &Host) {
    host.transact(Remove, &["modstamp-qemu"]);
    let a = host.module("a", "1", "a.so");
    assert!(!host.moves(Install, &[&a]));
    assert!(host.moves(Install, &["/srv/modstamp-qemu.deb"]));
    let note = host.sh("cat /var/lib/modstamp/qemu.stamp");
    assert!(note.contains("why: modstamp-qemu was configured"), "{note}");
}

fn purging_leaves_nothing(host: &Host) {
    host.transact(Install, &[&host.module("a", "1", "a.so")]);
    host.sh("cd /var/lib/modstamp; test -e qemu.stamp; touch .qemu.stamp.new .qemu.stamp.new.123");
    let printed = host.dpkg("--purge modstamp-qemu");
    assert!(!printed.contains("warning"), "{printed}");
    assert_eq!(host.sh("ls -A /var/lib/modstamp"), "");
    let printed = host.dpkg("--purge modstamp");
    assert!(!printed.contains("warning"), "{printed}");
    assert_eq!(host.leftovers(), "");
}

fn purging_in_the_other_order_leaves_nothing(host: &Host) {
    host.dpkg("--remove modstamp-qemu modstamp");
    // A removed package keeps its state.
    assert!(host.machine.stamp("qemu").is_some());
    host.dpkg("--purge modstamp");
    host.dpkg("--purge modstamp-qemu");
    assert_eq!(host.leftovers(), "");
}

fn purging_a_stamp_that_is_none_leaves_nothing(host: &Host) {
    host.sh("cd /var/lib/modstamp; rm qemu.stamp; mkdir qemu.stamp; ln -s /srv .qemu.stamp.new");
    host.dpkg("--purge modstamp-qemu modstamp");
    assert_eq!(host.leftovers(), "");
    assert!(host.outside("/srv/modstamp.deb").exists());
}
