//! Transactions of every package manager: do they move the stamp exactly when they should?

use std::os::unix::fs::MetadataExt;

use support::named;

use crate::manager::Verb::{Downgrade, Install, Purge, Reinstall, Remove, Replace, Upgrade};
use crate::manager::{Manager, Rival, Scenario, words};

pub const SCENARIOS: &[(&str, Scenario)] = named![
    a_fresh_installation_makes_the_stamp_for_everybody_to_read,
    installing_a_module_package_moves_the_stamp,
    upgrading_to_one_more_module_moves_the_stamp,
    upgrading_to_another_content_moves_the_stamp,
    upgrading_to_one_module_less_moves_the_stamp,
    upgrading_to_no_module_at_all_moves_the_stamp,
    reinstalling_a_module_package_moves_the_stamp,
    downgrading_a_module_package_moves_the_stamp,
    removing_a_module_package_moves_the_stamp,
    the_last_module_moves_the_stamp_as_it_takes_the_directory_along,
    a_module_in_a_directory_further_below_moves_the_stamp,
    several_packages_in_one_transaction_move_the_stamp,
    a_package_that_replaces_a_module_package_moves_the_stamp,
    a_module_that_goes_over_to_another_package_moves_the_stamp,
    thousands_of_modules_move_the_stamp,
    a_package_elsewhere_does_not_touch,
    a_directory_whose_name_only_begins_like_the_modules_does_not_touch,
    a_transaction_that_is_only_tried_does_not_touch,
    a_transaction_that_is_refused_does_not_touch,
    without_triggers_the_modules_themselves_tell,
    the_same_package_again_without_triggers_is_fresh,
    an_answer_from_before_a_transaction_is_stale_and_one_from_after_it_fresh,
    the_manager_from_outside_the_root_moves_the_stamp_in_it_alone,
    a_transaction_moves_the_directory_that_libvirt_watches_to_a_second_that_it_never_had,
    the_last_modules_removal_moves_the_programs_ctimes_for_libvirt,
    an_administrator_who_wants_libvirt_left_alone_is_heeded,
    installing_modstamp_beside_modules_moves_the_stamp,
    a_module_that_comes_with_an_upgrade_of_modstamp_moves_the_stamp,
    a_touch_changes_nothing_that_the_manager_verifies,
    removing_modstamp_leaves_modules_to_come_and_go,
    removing_modstamp_leaves_nothing,
    removing_modstamp_together_with_the_modules_leaves_nothing,
];

fn a_fresh_installation_makes_the_stamp_for_everybody_to_read(host: &dyn Manager) {
    let stat = "stat -c '%A %U:%G' /var/lib/modstamp /var/lib/modstamp/qemu.stamp";
    assert_eq!(
        host.sh(stat),
        "drwxr-xr-x root:root\n-rw-r--r-- root:root\n"
    );
}

fn installing_a_module_package_moves_the_stamp(host: &dyn Manager) {
    assert!(host.moves(Install, &[&host.module("nfs", "1", "nfs.so")]));
    let note = host.sh("cat /var/lib/modstamp/qemu.stamp");
    // dpkg tells of the directory alone, the others of each path.
    let by = format!("by: {}\nwhy: ", host.facts().command[0]);
    let (_, why) = note.split_once(&by).unwrap_or_else(|| panic!("{note}"));
    let path = why.strip_prefix("something in ").unwrap_or(why);
    assert!(
        path.starts_with(&host.modules().to_string()) && why.contains("came, went or w"),
        "{note}"
    );
}

fn upgrading_to_one_more_module_moves_the_stamp(host: &dyn Manager) {
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    let two = [host.path_of("nfs.so"), host.path_of("more.so")];
    let more = host.package("nfs", "2", &[&two[0], &two[1]]);
    assert!(host.moves(Upgrade, &[&more]));
}

fn upgrading_to_another_content_moves_the_stamp(host: &dyn Manager) {
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    host.machine().observe();
    let other = [(&*host.path_of("nfs.so"), "other")];
    let other = host.build("nfs", "2", &other, Rival::None);
    assert!(host.moves(Upgrade, &[&other]));
    host.is_stale_by(&["stamp touched", "nfs.so"]);
}

fn upgrading_to_one_module_less_moves_the_stamp(host: &dyn Manager) {
    let two = [host.path_of("nfs.so"), host.path_of("more.so")];
    host.transact(Install, &[&host.package("nfs", "1", &[&two[0], &two[1]])]);
    assert!(host.moves(Upgrade, &[&host.module("nfs", "2", "nfs.so")]));
    assert!(!host.has_module("more.so"));
}

fn upgrading_to_no_module_at_all_moves_the_stamp(host: &dyn Manager) {
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    let none = host.package("nfs", "2", &["/usr/share/nfs/text"]);
    assert!(host.moves(Upgrade, &[&none]));
    assert!(!host.has_module("nfs.so"));
}

fn reinstalling_a_module_package_moves_the_stamp(host: &dyn Manager) {
    let nfs = host.module("nfs", "1", "nfs.so");
    host.transact(Install, &[&nfs]);
    assert!(host.moves(Reinstall, &[&nfs]));
}

fn downgrading_a_module_package_moves_the_stamp(host: &dyn Manager) {
    let [old, new] = ["1", "2"].map(|version| host.module("nfs", version, "nfs.so"));
    host.transact(Install, &[&new]);
    assert!(host.moves(Downgrade, &[&old]));
}

fn removing_a_module_package_moves_the_stamp(host: &dyn Manager) {
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    host.machine().observe();
    assert!(host.moves(Remove, &["nfs"]));
    let removed = format!("nfs.so removed from {}", host.modules());
    host.is_stale_by(&["stamp touched", &removed]);
}

fn the_last_module_moves_the_stamp_as_it_takes_the_directory_along(host: &dyn Manager) {
    host.machine().observe();
    assert!(host.moves(Remove, &["first"]));
    assert!(!host.exists(host.modules()));
    host.is_stale_by(&[host.modules()]);
}

fn a_module_in_a_directory_further_below_moves_the_stamp(host: &dyn Manager) {
    assert!(host.moves(Install, &[&host.module("nfs", "1", "9.0/a/nfs.so")]));
    assert!(host.moves(Remove, &["nfs"]));
}

fn several_packages_in_one_transaction_move_the_stamp(host: &dyn Manager) {
    let elsewhere = host.package("elsewhere", "1", &["/usr/share/elsewhere/text"]);
    let [nfs, ssh] = ["nfs", "ssh"].map(|name| host.module(name, "1", name));
    assert!(host.moves(Install, &[&elsewhere, &nfs, &ssh]));

    let [nfs, new] = ["nfs", "new"].map(|name| host.module(name, "2", name));
    assert!(host.moves(Upgrade, &[&nfs, &new]));

    assert!(host.moves(Remove, &["elsewhere", "nfs", "ssh", "new"]));
}

fn a_package_that_replaces_a_module_package_moves_the_stamp(host: &dyn Manager) {
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    assert!(host.moves(Replace, &[&heir(host, &[])]));
    assert!(!host.has_module("nfs.so"));
}

fn a_module_that_goes_over_to_another_package_moves_the_stamp(host: &dyn Manager) {
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    let module = host.path_of("nfs.so");
    assert!(host.moves(Replace, &[&heir(host, &[(&module, "inherited")])]));
    let content = std::fs::read_to_string(host.outside(&module)).unwrap();
    assert_eq!(content.trim_end(), "inherited");
}

/// A package that takes the place of “nfs”.
fn heir(host: &dyn Manager, files: &[(&str, &str)]) -> String {
    host.build("heir", "1", files, Rival::Replaced("nfs"))
}

/// A pipe holds fewer paths. Neither may a trigger be stuck, nor the manager complain of it.
fn thousands_of_modules_move_the_stamp(host: &dyn Manager) {
    let names =
        (1..=5_000).map(|number| format!("many/a-module-of-a-rather-long-name-{number}.so"));
    let paths: Vec<String> = names.map(|name| host.path_of(&name)).collect();
    assert!(host.moves(Install, &[&host.package("many", "1", &words(&paths))]));
    assert!(host.exists(paths.last().unwrap()));
    assert!(host.moves(Remove, &["many"]));
}

fn a_package_elsewhere_does_not_touch(host: &dyn Manager) {
    let modules = host.modules();
    let libraries = modules.strip_suffix("/qemu").unwrap();
    does_not_touch(
        host,
        &[
            &format!("/usr/share/elsewhere{modules}/a.so"),
            &format!("{libraries}/qem/a.so"),
            &format!("{libraries}/elsewhere.so"),
            "/usr/share/qemu/a.so",
        ],
    );
}

fn a_directory_whose_name_only_begins_like_the_modules_does_not_touch(host: &dyn Manager) {
    let modules = host.modules();
    let paths = [format!("{modules}-anything/a.so"), format!("{modules}.so")];
    does_not_touch(host, &[&paths[0], &paths[1]]);
}

/// A package with these files comes, changes and goes without a touch.
fn does_not_touch(host: &dyn Manager, paths: &[&str]) {
    host.machine().observe();
    let [old, new] = ["1", "2"].map(|version| host.package("elsewhere", version, paths));
    assert!(!host.moves(Install, &[&old]));
    assert!(!host.moves(Upgrade, &[&new]));
    assert!(!host.moves(Remove, &["elsewhere"]));
    assert_eq!(host.machine().check(), None);
}

fn a_transaction_that_is_only_tried_does_not_touch(host: &dyn Manager) {
    let nfs = host.module("nfs", "1", "nfs.so");
    for (verb, package) in [(Install, &*nfs), (Remove, "first")] {
        assert!(!host.run_moves(&host.arguments(&[host.facts().only_tried], verb, &[package])));
    }
    assert!(!host.has_module("nfs.so") && host.has_module("first.so"));
}

fn a_transaction_that_is_refused_does_not_touch(host: &dyn Manager) {
    for packages in host.refused() {
        let refused = || {
            let (succeeded, text) = host.try_run(&host.arguments(&[], Install, &words(&packages)));
            assert!(!succeeded && text.contains("conflict"), "{text}");
        };
        assert!(!host.machine().moves(refused));
        assert!(!host.has_module("nfs.so"));
    }
}

fn without_triggers_the_modules_themselves_tell(host: &dyn Manager) {
    let nfs = host.module("nfs", "1", "nfs.so");
    for options in host.facts().without_triggers {
        for (verb, package, how) in [
            (Install, &*nfs, "added to"),
            (Remove, "nfs", "removed from"),
        ] {
            host.machine().observe();
            assert!(!host.run_moves(&host.arguments(options, verb, &[package])));
            let reason = format!("stale: module nfs.so {how} {}\n", host.modules());
            assert_eq!(host.machine().check(), Some(reason));
            catch_up(host);
        }
    }
}

/// Runs the triggers that were put off, which move the stamp.
fn catch_up(host: &dyn Manager) {
    if let Some(arguments) = host.facts().put_off {
        assert!(host.run_moves(arguments));
    }
}

/// Other inodes and times, the same modules, and no trigger that says otherwise.
fn the_same_package_again_without_triggers_is_fresh(host: &dyn Manager) {
    let nfs = host.module("nfs", "1", "nfs.so");
    host.transact(Install, &[&nfs]);
    let module = host.outside(&host.path_of("nfs.so"));
    let inode = || std::fs::metadata(&module).unwrap().ino();
    for options in host.facts().without_triggers {
        host.machine().observe();
        let before = inode();
        assert!(!host.run_moves(&host.arguments(options, Reinstall, &[&nfs])));
        assert_ne!(inode(), before);
        assert_eq!(host.machine().check(), None);
        catch_up(host);
    }
}

fn an_answer_from_before_a_transaction_is_stale_and_one_from_after_it_fresh(host: &dyn Manager) {
    host.machine().observe();
    let elsewhere = host.package("elsewhere", "1", &["/usr/share/elsewhere/text"]);
    host.transact(Install, &[&elsewhere]);
    assert_eq!(host.machine().check(), None);

    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    let added = format!("nfs.so added to {}", host.modules());
    host.is_stale_by(&["stamp touched", &added]);
    host.machine().observe();
}

/// A root with nothing in it but modstamp's own packages and what these need.
fn the_manager_from_outside_the_root_moves_the_stamp_in_it_alone(host: &dyn Manager) {
    let nfs = host.module("nfs", "1", "nfs.so");
    let own = host.own_paths();
    let directory = host.outside("/srv/root/var/lib/modstamp");
    let stamp = directory.join("qemu.stamp");
    let stamp = || stamp.metadata().ok()?.modified().ok();
    host.make_root();
    for options in host.facts().in_root {
        let transact = |verb, packages: &[&str]| {
            host.run(&host.arguments(options, verb, packages));
        };
        let all = || {
            transact(Install, &words(&own));
            let before = stamp();
            transact(Install, &[&nfs]);
            let installed = stamp();
            assert!(installed > before, "{options:?}");
            transact(Remove, &["nfs"]);
            assert!(stamp() > installed, "{options:?}");
            transact(Purge, host.facts().own);
            assert!(!directory.exists(), "{options:?}");
        };
        assert!(!host.machine().moves(all));
    }
}

/// Installs a stand-in for an emulator, and one for a libvirt.
///
/// Returns a function for the emulator's ctime, in whole seconds as libvirt compares it.
fn emulator(host: &dyn Manager) -> impl Fn() -> i64 {
    let path = "/usr/bin/qemu-system-x86_64";
    host.transact(Install, &[&host.package("emulator", "1", &[path])]);
    // A trigger leaves programs alone if there is no libvirt.
    libvirt_that_watches(host, host.modules());
    let program = host.outside(path);
    move || program.metadata().unwrap().ctime()
}

/// Installs a stand-in for a libvirt. The real one's driver has the path of the directory, too.
fn libvirt_that_watches(host: &dyn Manager, directory: &str) {
    host.sh(&format!(
        r"cd {}/..
         mkdir -p libvirt/connection-driver
         printf 'a driver\0{directory}\0' > libvirt/connection-driver/libvirt_driver_qemu.so",
        host.modules()
    ));
}

fn a_transaction_moves_the_directory_that_libvirt_watches_to_a_second_that_it_never_had(
    host: &dyn Manager,
) {
    let ctime = emulator(host);
    let before = ctime();
    for directory in [&[host.modules()], host.facts().further_directories].concat() {
        libvirt_that_watches(host, directory);
        let package = |name: &str| host.package(name, "1", &[&format!("{directory}/{name}.so")]);
        let (nfs, ssh) = (package("nfs"), package("ssh"));
        let mut latest = 0;
        // Several of these are done within a second.
        let steps = [
            (Install, &*nfs),
            (Install, &*ssh),
            (Remove, "nfs"),
            (Install, &*nfs),
        ];
        for (verb, package) in steps {
            host.transact(verb, &[package]);
            let stat = host.outside(directory).metadata().unwrap();
            assert_eq!(stat.mtime_nsec(), 0, "{verb:?} {package} refreshed");
            assert!(stat.mtime() > latest, "{verb:?} {package} after {latest}");
            latest = stat.mtime();
        }
        host.transact(Remove, &["nfs", "ssh"]);
    }
    assert_eq!(ctime(), before, "the directory was enough");
}

fn the_last_modules_removal_moves_the_programs_ctimes_for_libvirt(host: &dyn Manager) {
    let ctime = emulator(host);
    // A ctime can only become the clock's, and a transaction does not wait for the next second.
    host.sh("sleep 1.1");
    host.transact(Remove, &["first"]);
    let nfs = host.module("nfs", "1", "nfs.so");
    for _ in 0..2 {
        host.sh("sleep 1.1");
        host.transact(Install, &[&nfs]);
        let before = ctime();
        host.sh("sleep 1.1");
        host.transact(Remove, &["nfs"]);
        assert!(!host.exists(host.modules()));
        assert_ne!(ctime(), before);
    }
}

fn an_administrator_who_wants_libvirt_left_alone_is_heeded(host: &dyn Manager) {
    host.sh("mkdir -p /etc/modstamp/profiles.d
         echo 'refresh-libvirt = false' > /etc/modstamp/profiles.d/qemu.toml");
    assert!(host.moves(Install, &[&host.module("nfs", "1", "nfs.so")]));
    let stat = host.outside(host.modules()).metadata().unwrap();
    assert_ne!(stat.mtime_nsec(), 0, "the time that the manager left");
}

fn installing_modstamp_beside_modules_moves_the_stamp(host: &dyn Manager) {
    let triggers = host.facts().own.last().unwrap();
    host.transact(Purge, &[triggers]);
    assert_eq!(host.machine().stamp("qemu"), None);
    host.transact(Install, &[&host.own_path(triggers)]);
    assert!(host.machine().stamp("qemu").is_some());
}

fn a_module_that_comes_with_an_upgrade_of_modstamp_moves_the_stamp(host: &dyn Manager) {
    let mut packages = host.own_later();
    packages.push(host.module("nfs", "1", "nfs.so"));
    assert!(host.moves(Upgrade, &words(&packages)));
}

fn a_touch_changes_nothing_that_the_manager_verifies(host: &dyn Manager) {
    assert!(host.moves(Install, &[&host.module("nfs", "1", "nfs.so")]));
    host.is_well();
    host.sh("modstamp touch --reason 'a test'; touch /var/lib/modstamp/qemu.stamp");
    host.is_well();
}

fn removing_modstamp_leaves_modules_to_come_and_go(host: &dyn Manager) {
    host.transact(Remove, host.facts().own);
    let nfs = host.module("nfs", "1", "nfs.so");
    for (verb, package) in [(Install, &*nfs), (Remove, "nfs")] {
        let (succeeded, text) = host.try_run(&host.arguments(&[], verb, &[package]));
        assert!(succeeded && !text.contains("modstamp"), "{text}");
    }
}

fn removing_modstamp_leaves_nothing(host: &dyn Manager) {
    // A killed writer leaves such files.
    host.sh("cd /var/lib/modstamp; touch .qemu.stamp.new .qemu.log.new.1.2 .qemu.witness.new.3.4");
    host.transact(Purge, host.facts().own);
    assert_eq!(host.leftovers(), "");
    assert!(host.has_module("first.so"));
}

fn removing_modstamp_together_with_the_modules_leaves_nothing(host: &dyn Manager) {
    host.transact(Install, &[&host.module("nfs", "1", "nfs.so")]);
    host.transact(Purge, &[host.facts().own, &["first", "nfs"]].concat());
    assert_eq!(host.leftovers(), "");
}
