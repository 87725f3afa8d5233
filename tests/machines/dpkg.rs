//! The Debian packages under a real dpkg: does the stamp move exactly when it should?
//!
//! The packages are built from `debian/` as they are, and installed into throw-away machines, together with small
//! packages of the tests' own and with Debian's own QEMU. After each scenario dpkg must find nothing wrong.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use support::deb::{
    self, BLOCK, Host, MODULES, Package, RELEASES, Release, add_repository, module,
};
use support::test::{Needs, Test, test};
use support::{named, run};

pub fn tests() -> Vec<Test> {
    let of = |release: &'static Release| {
        let plain = scenarios(release, vec!["dpkg"], PLAIN);
        plain.chain(scenarios(release, release.qemu(), WITH_QEMU))
    };
    RELEASES.iter().flat_map(of).collect()
}

type Scenario = fn(&Host);

const PLAIN: &[(&str, Scenario)] = named![
    a_fresh_installation_makes_the_stamp_for_everybody_to_read,
    installing_a_module_package_moves_the_stamp,
    upgrading_a_module_package_moves_the_stamp,
    reinstalling_a_module_package_moves_the_stamp,
    downgrading_a_module_package_moves_the_stamp,
    removing_a_module_package_moves_the_stamp,
    purging_a_module_package_moves_the_stamp_once,
    a_module_that_goes_over_to_another_package_moves_the_stamp,
    the_last_module_moves_the_stamp_as_it_takes_the_directory_along,
    several_packages_in_one_run_start_the_trigger_once_at_its_end,
    a_run_in_which_a_package_fails_moves_the_stamp,
    a_run_that_dpkg_undoes_costs_one_probe_and_no_more,
    a_package_elsewhere_does_not_touch,
    a_directory_whose_name_only_begins_like_the_modules_does_not_touch,
    a_package_that_still_says_lib_moves_the_stamp,
    a_reader_is_protected_between_unpacking_and_the_trigger,
    a_deferred_trigger_moves_the_stamp_when_it_runs,
    the_same_package_again_without_triggers_is_fresh,
    triggers_alone_move_the_stamp,
    a_diversion_by_hand_is_seen_without_the_stamp,
    dpkg_from_outside_the_root_moves_the_stamp_in_it,
    dpkg_without_chroot_moves_the_stamp_in_the_root,
    a_read_only_stamp_directory_fails_no_run,
    a_full_stamp_directory_fails_no_run,
    a_file_in_the_stamp_directorys_place_fails_no_run,
    a_stamp_that_is_a_link_fails_no_run_and_leaves_its_target_alone,
    a_stamp_that_is_a_directory_fails_no_run,
    a_stamp_that_is_a_fifo_fails_no_run,
    a_stamp_that_is_a_device_fails_no_run,
    a_program_that_is_not_there_fails_no_run,
    a_trigger_waits_until_the_program_is_configured,
    a_program_that_is_only_unpacked_makes_the_stamp,
    a_module_that_comes_while_modstamp_qemu_is_upgraded_moves_the_stamp,
    a_module_that_comes_while_modstamp_qemu_is_removed_counts_when_it_is_back,
    removing_modstamp_qemu_leaves_modules_to_come_and_go,
    a_touch_changes_nothing_that_dpkg_verifies,
    purging_leaves_nothing,
    purging_in_the_other_order_leaves_nothing,
    purging_a_stamp_that_is_none_leaves_nothing,
];

const WITH_QEMU: &[(&str, Scenario)] = named![
    debians_block_modules_by_apt_make_qemu_answer_anew,
    debians_device_modules_by_apt_make_qemu_answer_anew,
    a_device_module_of_ones_own_makes_qemu_answer_anew,
];

/// Tests of `list` on machines of `release` with `packages`.
fn scenarios(
    release: &'static Release,
    packages: Vec<&'static str>,
    list: &'static [(&'static str, Scenario)],
) -> impl Iterator<Item = Test> {
    let needs = Needs::root_and(&deb::PROGRAMS);
    list.iter().map(move |(name, scenario)| {
        let packages = packages.clone();
        test(format!("{}::{name}", release.dpkg), &needs, move || {
            let host = Host::new(release, &packages);
            scenario(&host);
            host.is_well();
        })
    })
}

fn a_fresh_installation_makes_the_stamp_for_everybody_to_read(host: &Host) {
    let stat = host.sh("stat -c '%A %U:%G' /var/lib/modstamp /var/lib/modstamp/qemu.stamp");
    assert_eq!(stat, "drwxr-xr-x root:root\n-rw-r--r-- root:root\n");
    let note = host.sh("cat /var/lib/modstamp/qemu.stamp");
    assert!(note.contains("why: modstamp-qemu was configured"), "{note}");
}

fn installing_a_module_package_moves_the_stamp(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    assert!(host.moves(|| host.dpkg(&format!("--install {a}"))));
    let note = host.sh("cat /var/lib/modstamp/qemu.stamp");
    assert!(note.contains("by: dpkg"), "{note}");
    assert!(note.contains(&format!("why: {} ", *MODULES)), "{note}");
}

fn upgrading_a_module_package_moves_the_stamp(host: &Host) {
    let old = host.package("a", "1", &[&module("a.so")]);
    let new = host.package("a", "2", &[&module("a.so")]);
    host.dpkg(&format!("--install {old}"));
    host.machine.observe();
    assert!(host.moves(|| host.dpkg(&format!("--install {new}"))));
    let reasons = host.machine.check().expect("stale");
    assert!(reasons.contains("a.so"), "{reasons}");
}

fn reinstalling_a_module_package_moves_the_stamp(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    assert!(host.moves(|| host.dpkg(&format!("--install {a}"))));
}

fn downgrading_a_module_package_moves_the_stamp(host: &Host) {
    let old = host.package("a", "1", &[&module("a.so")]);
    let new = host.package("a", "2", &[&module("a.so")]);
    host.dpkg(&format!("--install {new}"));
    assert!(host.moves(|| host.dpkg(&format!("--install {old}"))));
}

fn removing_a_module_package_moves_the_stamp(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    let b = host.package("b", "1", &[&module("b.so")]);
    host.dpkg(&format!("--install {a} {b}"));
    host.machine.observe();
    assert!(host.moves(|| host.dpkg("--remove a")));
    let reasons = host.machine.check().expect("stale");
    assert!(reasons.contains("a.so"), "{reasons}");
}

fn purging_a_module_package_moves_the_stamp_once(host: &Host) {
    let a = host.build(&Package {
        name: "a",
        version: "1",
        files: &[&module("a.so")],
        script: Some(("postrm", "#!/bin/sh\n")), // so that there is something to purge after the removal
        ..Package::default()
    });
    host.dpkg(&format!("--install {a}"));
    assert!(host.moves(|| host.dpkg("--purge a")));
    host.dpkg(&format!("--install {a}"));
    assert!(host.moves(|| host.dpkg("--remove a")));
    assert!(
        !host.moves(|| host.dpkg("--purge a")),
        "its modules were gone"
    );
}

fn a_module_that_goes_over_to_another_package_moves_the_stamp(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    let b = host.build(&Package {
        name: "b",
        version: "1",
        files: &[&module("a.so")],
        fields: "Replaces: a\nConflicts: a\n",
        ..Package::default()
    });
    host.dpkg(&format!("--install {a}"));
    assert!(host.moves(|| host.dpkg(&format!("--install {b}"))));
    assert_eq!(
        host.sh(&format!("cat {}", module("a.so"))),
        format!("{} of b 1\n", module("a.so"))
    );
}

fn the_last_module_moves_the_stamp_as_it_takes_the_directory_along(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    host.machine.observe();
    assert!(host.moves(|| host.dpkg("--remove a")));
    assert!(!host.outside(&MODULES).exists());
    let reasons = host.machine.check().expect("stale");
    assert!(reasons.contains(&*MODULES), "{reasons}");
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
    let packages = ["a", "b", "c"].map(build).join(" ");
    let runs = host.trigger_runs();
    let time = host.sh("stat -c %y /var/lib/modstamp/qemu.stamp");
    assert!(host.moves(|| host.dpkg(&format!("--install {packages}"))));
    assert_eq!(host.trigger_runs() - runs, 1);
    assert_eq!(host.sh("cat /srv/times"), time.repeat(3));

    assert!(host.moves(|| host.dpkg("--remove a b c")));
    assert_eq!(host.trigger_runs() - runs, 2);
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
    assert!(host.moves(|| host.sh(&format!("! dpkg --install {fails_at_its_end}"))));
    assert!(host.moves(|| host.dpkg("--purge a")));
    let fails_at_once = build("b", "preinst");
    assert!(!host.moves(|| host.sh(&format!("! dpkg --install {fails_at_once}"))));
}

fn a_run_that_dpkg_undoes_costs_one_probe_and_no_more(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    host.machine.observe();
    // Its first module is unpacked before the second is found to be another package's.
    let b = host.package("b", "1", &[&module("Z.so"), &module("a.so")]);
    assert!(host.moves(|| host.sh(&format!("! dpkg --install {b}"))));
    assert!(!host.outside(&module("Z.so")).exists());
    let reasons = host.machine.check().expect("stale by the stamp");
    assert!(!reasons.contains(&*MODULES), "{reasons}");
    host.machine.observe();
}

fn a_package_elsewhere_does_not_touch(host: &Host) {
    let old = host.package("a", "1", &["/usr/share/qemu/a.so", "/usr/lib/qemu.so"]);
    let new = host.package("a", "2", &["/usr/share/qemu/a.so", "/usr/lib/qemu.so"]);
    host.machine.observe();
    assert!(!host.moves(|| host.dpkg(&format!("--install {old}"))));
    assert!(!host.moves(|| host.dpkg(&format!("--install {new}"))));
    assert!(!host.moves(|| host.dpkg("--remove a")));
    assert_eq!(host.machine.check(), None);
}

fn a_directory_whose_name_only_begins_like_the_modules_does_not_touch(host: &Host) {
    let anything = format!("{}-anything/a.so", *MODULES);
    let file = format!("{}.so", *MODULES);
    let a = host.package("a", "1", &[&anything, &file]);
    host.machine.observe();
    assert!(!host.moves(|| host.dpkg(&format!("--install {a}"))));
    assert!(!host.moves(|| host.dpkg("--remove a")));
    assert_eq!(host.machine.check(), None);
}

fn a_package_that_still_says_lib_moves_the_stamp(host: &Host) {
    let path = module("a.so");
    let aliased = path.strip_prefix("/usr").unwrap();
    let a = host.package("a", "1", &[aliased]);
    assert!(host.moves(|| host.dpkg(&format!("--install {a}"))));
    assert!(host.outside(&path).exists());
    assert!(host.moves(|| host.dpkg("--remove a")));
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
    assert!(host.moves(|| host.dpkg(&format!("--install {a}"))));
    assert_eq!(host.sh("cat /srv/time"), time, "the stamp had not moved");
    assert_eq!(host.sh("cat /srv/status"), "1\n");
    let reasons = host.sh("cat /srv/reasons");
    assert!(reasons.contains(&*MODULES), "{reasons}");
}

fn a_deferred_trigger_moves_the_stamp_when_it_runs(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.machine.observe();
    assert!(!host.moves(|| host.dpkg(&format!("--no-triggers --install {a}"))));
    let reasons = host
        .machine
        .check()
        .expect("stale by the fold of the directories");
    assert!(reasons.contains(&*MODULES), "{reasons}");
    // noawait: the package itself is in order already.
    let status = host.sh("dpkg-query --show --showformat '${Status}' a");
    assert_eq!(status, "install ok installed");
    assert!(host.moves(|| host.dpkg("--configure --pending")));
    assert!(!host.moves(|| host.dpkg("--configure --pending")));
}

/// Other inodes and times, the same modules, and no trigger that says otherwise until the pending ones run.
fn the_same_package_again_without_triggers_is_fresh(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    host.machine.observe();
    let inode = || {
        std::fs::metadata(host.outside(&module("a.so")))
            .unwrap()
            .ino()
    };
    let before = inode();
    assert!(!host.moves(|| host.dpkg(&format!("--no-triggers --install {a}"))));
    assert_ne!(inode(), before);
    assert_eq!(host.machine.check(), None);
    assert!(host.moves(|| host.dpkg("--triggers-only --pending")));
}

fn triggers_alone_move_the_stamp(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    host.machine.observe();
    assert!(!host.moves(|| host.dpkg("--no-triggers --remove a")));
    assert!(
        host.machine.check().is_some(),
        "stale by the fold of the directories"
    );
    assert!(host.moves(|| host.dpkg("--triggers-only --pending")));
}

fn a_diversion_by_hand_is_seen_without_the_stamp(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    host.machine.observe();
    let divert = format!(
        "dpkg-divert --local --rename --divert /srv/a.so --add {}",
        module("a.so")
    );
    assert!(
        !host.moves(|| host.sh(&divert)),
        "dpkg-divert starts no triggers"
    );
    let reasons = host.machine.check().expect("stale");
    assert!(reasons.contains("a.so"), "{reasons}");
}

fn dpkg_from_outside_the_root_moves_the_stamp_in_it(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    let dpkg = |arguments: &[&str]| {
        let root = host.machine.root.display();
        let log = host.outside("/var/log/dpkg.log");
        run(Command::new("dpkg")
            .arg(format!("--root={root}"))
            .arg(format!("--log={}", log.display())) // which --root does not move
            .args(arguments))
    };
    let package = host.outside(&a);
    assert!(host.moves(|| dpkg(&["--install", package.to_str().unwrap()])));
    assert!(host.moves(|| dpkg(&["--remove", "a"])));
    let elsewhere = host.outside(&host.package("b", "1", &["/usr/share/b"]));
    assert!(!host.moves(|| dpkg(&["--install", elsewhere.to_str().unwrap()])));
}

/// In a root below the machine's own, so that a script which forgot its root would be found out.
fn dpkg_without_chroot_moves_the_stamp_in_the_root(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.sh("mkdir -p /srv/root/var/lib/dpkg/info; : > /srv/root/var/lib/dpkg/status");
    let dpkg = |arguments: &str| {
        host.dpkg(&format!(
            "--root=/srv/root --force-script-chrootless --force-not-root {arguments}"
        ))
    };
    let stamp = || host.sh("stat -c %y /srv/root/var/lib/modstamp/qemu.stamp");
    let is_unmoved = !host.moves(|| {
        dpkg("--install /srv/modstamp.deb /srv/modstamp-qemu.deb");
        let first = stamp();
        dpkg(&format!("--install {a}"));
        assert_ne!(stamp(), first);
        dpkg("--purge modstamp-qemu modstamp");
        assert!(!host.outside("/srv/root/var/lib/modstamp").exists());
    });
    assert!(is_unmoved, "the machine's own stamp");
}

/// Installs and removes a module package, which must succeed with a warning about the stamp.
fn fails_no_run(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    for arguments in [format!("--install {a}"), "--remove a".to_owned()] {
        let printed = host.dpkg(&arguments);
        assert!(printed.contains("modstamp: warning: "), "{printed}");
        assert!(printed.contains("/var/lib/modstamp"), "{printed}");
    }
    // So must what modstamp-qemu does when it is configured.
    let printed = host.dpkg("--install /srv/modstamp-qemu.deb");
    assert!(printed.contains("/var/lib/modstamp"), "{printed}");
}

fn a_read_only_stamp_directory_fails_no_run(host: &Host) {
    let directory = host.outside("/var/lib/modstamp");
    run(Command::new("mount")
        .arg("--bind")
        .args([&directory, &directory]));
    run(Command::new("mount")
        .args(["-o", "remount,bind,ro"])
        .arg(&directory));
    assert!(!host.moves(|| fails_no_run(host)));
    run(Command::new("umount").arg(&directory));
}

fn a_full_stamp_directory_fails_no_run(host: &Host) {
    let directory = host.outside("/var/lib/modstamp");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", "mode=755,size=64k", "tmpfs"])
        .arg(&directory));
    host.sh("modstamp touch; ! cat /dev/zero > /var/lib/modstamp/full");
    let a = host.package("a", "1", &[&module("a.so")]);
    assert!(
        host.moves(|| host.dpkg(&format!("--install {a}"))),
        "a time needs no room"
    );

    host.sh("rm /var/lib/modstamp/qemu.stamp; ! cat /dev/zero > /var/lib/modstamp/fuller");
    fails_no_run(host);
    run(Command::new("umount").arg(&directory));
}

fn a_file_in_the_stamp_directorys_place_fails_no_run(host: &Host) {
    host.sh("rm -r /var/lib/modstamp; echo precious > /var/lib/modstamp");
    fails_no_run(host);
    assert_eq!(host.sh("cat /var/lib/modstamp"), "precious\n");
}

fn a_stamp_that_is_a_link_fails_no_run_and_leaves_its_target_alone(host: &Host) {
    host.sh("echo precious > /srv/target
         ln -sf /srv/target /var/lib/modstamp/qemu.stamp");
    let stat = || host.sh("stat -c '%i %s %y %z' /srv/target; cat /srv/target");
    let before = stat();
    fails_no_run(host);
    assert_eq!(stat(), before);
}

fn a_stamp_that_is_a_directory_fails_no_run(host: &Host) {
    host.sh(
        "cd /var/lib/modstamp; rm qemu.stamp; mkdir qemu.stamp; echo precious > qemu.stamp/file",
    );
    fails_no_run(host);
    assert_eq!(
        host.sh("cat /var/lib/modstamp/qemu.stamp/file"),
        "precious\n"
    );
}

fn a_stamp_that_is_a_fifo_fails_no_run(host: &Host) {
    host.sh("cd /var/lib/modstamp; rm qemu.stamp; mkfifo qemu.stamp");
    fails_no_run(host);
}

fn a_stamp_that_is_a_device_fails_no_run(host: &Host) {
    host.sh("cd /var/lib/modstamp; rm qemu.stamp; mknod qemu.stamp c 1 7"); // full(4)
    fails_no_run(host);
}

fn a_program_that_is_not_there_fails_no_run(host: &Host) {
    host.sh("rm /usr/bin/modstamp");
    let a = host.package("a", "1", &[&module("a.so")]);
    let printed = host.dpkg(&format!("--install {a}"));
    assert!(printed.contains("modstamp: not found"), "{printed}");
    let printed = host.dpkg("--install /srv/modstamp-qemu.deb");
    assert!(printed.contains("modstamp: not found"), "{printed}");
    host.dpkg("--install /srv/modstamp.deb");
}

/// dpkg starts no trigger of a package whose dependencies are not configured: it keeps it for later.
fn a_trigger_waits_until_the_program_is_configured(host: &Host) {
    host.machine.observe();
    let a = host.package("a", "1", &[&module("a.so")]);
    assert!(!host.moves(|| host.dpkg(&format!("--unpack /srv/modstamp.deb {a}"))));
    assert!(
        host.machine.check().is_some(),
        "stale by the fold of the directories"
    );
    assert!(host.moves(|| host.dpkg("--configure --pending")));

    host.machine.observe();
    host.dpkg("--force-depends --remove modstamp");
    let b = host.package("b", "1", &[&module("b.so")]);
    assert!(!host.moves(|| host.dpkg(&format!("--install {b}"))));
    host.dpkg("--install /srv/modstamp.deb");
    assert!(host.machine.check().is_some());
    assert!(host.moves(|| host.dpkg("--configure --pending")));
}

fn a_program_that_is_only_unpacked_makes_the_stamp(host: &Host) {
    host.dpkg("--purge modstamp-qemu modstamp");
    host.dpkg("--unpack /srv/modstamp.deb /srv/modstamp-qemu.deb");
    assert!(host.moves(|| host.dpkg("--force-depends --configure modstamp-qemu")));
    host.dpkg("--configure --pending");
}

fn a_module_that_comes_while_modstamp_qemu_is_upgraded_moves_the_stamp(host: &Host) {
    let new = ["modstamp", "modstamp-qemu"].map(|name| host.rebuilt(name, "99"));
    let new = new.join(" ");
    let a = host.package("a", "1", &[&module("a.so")]);
    let runs = host.trigger_runs();
    assert!(host.moves(|| host.dpkg(&format!("--install {new} {a}"))));
    assert_eq!(
        host.trigger_runs(),
        runs,
        "dpkg forgets triggers of what is not configured"
    );

    let b = host.package("b", "1", &[&module("b.so")]);
    host.dpkg(&format!("--unpack {b} {new}"));
    assert!(host.moves(|| host.dpkg("--configure --pending")));
}

fn a_module_that_comes_while_modstamp_qemu_is_removed_counts_when_it_is_back(host: &Host) {
    host.dpkg("--remove modstamp-qemu");
    let a = host.package("a", "1", &[&module("a.so")]);
    assert!(!host.moves(|| host.dpkg(&format!("--install {a}"))));
    assert!(host.moves(|| host.dpkg("--install /srv/modstamp-qemu.deb")));
}

fn removing_modstamp_qemu_leaves_modules_to_come_and_go(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg("--remove modstamp-qemu modstamp");
    let printed = host.dpkg(&format!("--install {a}"));
    assert!(!printed.contains("modstamp"), "{printed}");
    host.dpkg("--remove a");
}

fn a_touch_changes_nothing_that_dpkg_verifies(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    host.sh("modstamp touch; touch /var/lib/modstamp/qemu.stamp");
    for name in ["a", "modstamp", "modstamp-qemu"] {
        assert_eq!(host.dpkg(&format!("--verify {name}")), "");
    }
    assert_eq!(host.dpkg("--audit"), "");
}

fn purging_leaves_nothing(host: &Host) {
    let a = host.package("a", "1", &[&module("a.so")]);
    host.dpkg(&format!("--install {a}"));
    host.sh("cd /var/lib/modstamp; test -e qemu.stamp; touch .qemu.stamp.new .qemu.stamp.new.123");
    let printed = host.dpkg("--purge modstamp-qemu");
    assert!(!printed.contains("warning"), "{printed}");
    assert_eq!(host.sh("ls -A /var/lib/modstamp"), "");
    let printed = host.dpkg("--purge modstamp");
    assert!(!printed.contains("warning"), "{printed}");
    left_nothing(host);
}

fn purging_in_the_other_order_leaves_nothing(host: &Host) {
    host.dpkg("--remove modstamp-qemu modstamp");
    assert!(host.stamp().is_some(), "a removed package keeps its state");
    host.dpkg("--purge modstamp");
    host.dpkg("--purge modstamp-qemu");
    left_nothing(host);
}

fn purging_a_stamp_that_is_none_leaves_nothing(host: &Host) {
    host.sh("cd /var/lib/modstamp; rm qemu.stamp; mkdir qemu.stamp; ln -s /srv .qemu.stamp.new");
    host.dpkg("--purge modstamp-qemu modstamp");
    left_nothing(host);
    assert!(host.outside("/srv/modstamp.deb").exists());
}

fn left_nothing(host: &Host) {
    let find = "find / -xdev -path /proc -prune -o -path /srv -prune -o -name '*modstamp*' -print";
    assert_eq!(host.sh(find), "");
    assert_eq!(
        host.sh("grep -rl modstamp /var/lib/dpkg --exclude='*-old' || true"),
        ""
    );
}

/// A question is served while nothing changes, and asked again after each of apt's changes, with QEMU's own answer.
/// `package` brings what the answer shows as `word`.
fn by_apt(host: &Host, package: &str, question: &[&str], word: &str) {
    add_repository(host);
    let elsewhere = host.package("elsewhere", "1", &["/usr/share/elsewhere"]);
    let steps = [
        (format!("remove {package}"), false),
        (format!("install --no-install-recommends {package}"), true),
        (format!("install --reinstall {package}"), true),
        (format!("purge {package}"), false),
    ];
    host.ask(question);
    for (step, brings) in steps {
        let (is_served, before) = host.ask(question);
        assert!(is_served, "before {step}");
        assert!(!host.moves(|| host.sh(&format!("apt-get -qy reinstall {elsewhere}"))));
        assert_eq!(host.ask(question), (true, before));

        assert!(
            host.moves(|| host.sh(&format!("apt-get -qy {step}"))),
            "{step}"
        );
        let (is_served, answer) = host.ask(question);
        assert!(!is_served, "after {step}");
        assert_eq!(answer, host.truth(question), "after {step}");
        assert_eq!(answer.contains(word), brings, "after {step}: {answer}");
    }
}

fn debians_block_modules_by_apt_make_qemu_answer_anew(host: &Host) {
    // No help text of QEMU's lists the block drivers that it has as opposed to those that it knows.
    let ask_for_ssh = "qemu-system-x86_64 -M none -nodefaults -display none \
        -drive if=none,file.driver=ssh 2>&1 | grep -c 'Unknown driver' | sed 's/^0/available/'";
    by_apt(host, BLOCK, &["sh", "-c", ask_for_ssh], "available");
}

fn debians_device_modules_by_apt_make_qemu_answer_anew(host: &Host) {
    let question = ["qemu-system-x86_64", "-device", "help"];
    let device = format!("name \"{}\"", host.release.device);
    by_apt(host, host.release.devices, &question, &device);
}

fn a_device_module_of_ones_own_makes_qemu_answer_anew(host: &Host) {
    let package = host.qxl();

    let question = ["qemu-system-x86_64", "-device", "help"];
    let has_qxl = |answer: &str| answer.contains("name \"qxl\"");
    host.ask(&question);
    assert!(host.ask(&question).0);
    host.dpkg(&format!("--install {package}"));
    for step in ["--remove qxl".to_owned(), format!("--install {package}")] {
        host.ask(&question);
        assert!(host.ask(&question).0, "before {step}");
        assert!(host.moves(|| host.dpkg(&step)));
        let (is_served, answer) = host.ask(&question);
        assert!(!is_served, "after {step}");
        assert_eq!(answer, host.truth(&question));
        assert_eq!(has_qxl(&answer), step.starts_with("--install"), "{answer}");
    }
}
