//! The doctor finds each fault of a package manager's triggers.

use std::fs;

use filetime::FileTime;
use support::world::STAMP;

use super::{LOG, PATH_UNIT, POSTINST, SERVICE_UNIT, STATUS, Sound, TRIGGERS, text};

/// dpkg's database without a package of modstamp's.
const NO_PACKAGE: &str = "Package: base-files\nStatus: install ok installed\n";

#[test]
fn a_remedy_that_finds_no_package_fails_and_the_reason_says_where_one_comes_from() {
    let host = Sound::new();
    host.write(TRIGGERS, "");
    let (_, remedy) = host.assert_ill("dpkg-trigger");
    let mut shell = std::process::Command::new("/bin/sh");
    shell.env("PATH", "/such/a/directory"); // No package manager starts.
    shell.args(["-c", &*remedy]);
    let output = shell.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    let why = text(&host.examine().0["findings"][0]["why"]);
    let hint = "; if no repository has the package, build it: see “Install” in the README";
    assert!(why.contains(hint), "{why}");
    let readme = fs::read_to_string(support::sources().join("README.md")).unwrap();
    assert!(readme.contains("\n## Install\n"));
}

#[test]
fn a_missing_dpkg_trigger_is_found() {
    let host = Sound::new();
    host.write(TRIGGERS, "/usr/share/man man-db/noawait\n");
    let (_, remedy) = host.assert_ill("dpkg-trigger");
    assert_eq!(remedy, "apt-get install --reinstall modstamp-qemu");
    host.write(STATUS, NO_PACKAGE);
    host.remove_units();
    let (_, remedy) = host.assert_ill("dpkg-trigger");
    assert_eq!(remedy, "apt-get install modstamp-qemu");
}

#[test]
fn a_missing_trigger_is_only_noted_while_the_units_watch() {
    let dpkg = Sound::new();
    dpkg.write(TRIGGERS, "");
    dpkg.write(STATUS, NO_PACKAGE);
    let arch = pacman();
    arch.remove("usr/share/libalpm/hooks/modstamp-qemu.hook");
    let apk = apk("lib/apk/db");
    apk.write("lib/apk/db/installed", "C:Q1a=\nP:busybox\nV:1-r0\n");
    for (host, check) in [
        (dpkg, "dpkg-trigger"),
        (arch, "pacman-hook"),
        (apk, "apk-trigger"),
    ] {
        host.assert_well();
        let why = "modstamp-update@qemu.path sees each change instead, and starts an update a second later";
        assert_eq!(host.notes(), [(check.to_owned(), why.to_owned())]);
        for unit in [PATH_UNIT, SERVICE_UNIT] {
            let target = fs::read_link(host.path(unit)).unwrap();
            host.remove(unit);
            assert_eq!(host.checks(), [check, "unit"], "{unit}");
            let remedy = text(&host.examine().0["findings"][0]["remedy"]);
            let both = "modstamp-update@qemu.service modstamp-update@qemu.path";
            assert_eq!(remedy, format!("systemctl enable {both}"));
            host.link(unit, target.to_str().unwrap());
        }
        host.remove("usr/lib/systemd/systemd");
        assert_eq!(host.checks(), [check], "nothing runs the units");
    }
}

#[test]
fn a_host_that_was_installed_from_source_becomes_well_by_following_the_remedies() {
    const LOCAL: &str = "usr/local/lib/systemd/system";
    let host = Sound::new();
    host.remove_units();
    host.remove("usr/bin/modstamp");
    host.start("usr/local/bin/modstamp", "");
    host.start("usr/lib/systemd/systemd", "");
    host.start("usr/bin/apt-get", "");
    host.install_units(LOCAL, "/usr/local/bin");
    host.write(TRIGGERS, "");
    host.write(STATUS, NO_PACKAGE);
    fs::remove_dir_all(host.path("var/lib/modstamp")).unwrap();
    assert_eq!(
        host.checks(),
        ["dpkg-trigger", "unit", "stamp", "libvirt-answers"]
    );
    for _ in 0..6 {
        let (report, _) = host.examine();
        if let Some(finding) = report["findings"].as_array().unwrap().first() {
            host.paste(&text(&finding["remedy"]));
        }
    }
    host.assert_well();
    assert_eq!(host.notes()[0].0, "dpkg-trigger");
    // The missing unit comes from the sources, although the host has apt-get.
    host.remove(&format!("{LOCAL}/modstamp-settle@.service"));
    let (_, remedy) = host.assert_ill("unit");
    assert_eq!(remedy, "make install");
}

#[test]
fn a_dpkg_trigger_that_touches_another_stamp_is_found() {
    let host = Sound::new();
    host.start(
        POSTINST,
        "modstamp trigger dpkg --profile gstreamer \"$2\" || true\n",
    );
    host.assert_ill("dpkg-trigger");
}

#[test]
fn a_dpkg_trigger_that_is_pending_is_found() {
    let host = Sound::new();
    for (state, remedy) in [
        ("triggers-pending", "dpkg --triggers-only modstamp-qemu"),
        ("half-configured", "dpkg --configure modstamp-qemu"),
    ] {
        host.write(
            STATUS,
            &format!("Package: modstamp-qemu\nStatus: install ok {state}\n"),
        );
        let (seen, said) = host.assert_ill("dpkg-trigger");
        assert!(
            seen.contains(state) && said.ends_with(remedy),
            "{seen}: {said}"
        );
    }
}

#[test]
fn a_dpkg_trigger_whose_script_is_not_executable_is_found() {
    let host = Sound::new();
    host.set_permissions(POSTINST, 0o644);
    host.assert_mended("dpkg-trigger");
}

#[test]
fn a_trigger_whose_program_is_gone_is_found() {
    let host = Sound::new();
    host.set_permissions("usr/bin/modstamp", 0o644);
    assert_eq!(host.checks(), ["dpkg-trigger", "unit"]);
}

#[test]
fn a_package_whose_trigger_did_not_run_is_found_by_dpkgs_log() {
    let host = Sound::new();
    let log = fs::read_to_string(host.path(LOG)).unwrap();
    let line = "2099-01-01 10:00:00 upgrade qemu-system-modules-spice:amd64 1 2\n";
    host.write(LOG, &(log + line));
    let (seen, remedy) = host.assert_ill("dpkg-last-run");
    assert!(seen.contains("qemu-system-modules-spice:amd64"), "{seen}");
    assert!(
        remedy.starts_with("modstamp touch --profile qemu "),
        "{remedy}"
    );
    let trigger = "2099-01-01 10:00:00 trigproc modstamp-qemu:all 0.1.0-1 <none>\n";
    let log = fs::read_to_string(host.path(LOG)).unwrap();
    host.write(LOG, &(log + trigger));
    host.assert_well();
}

#[test]
fn a_touch_after_the_trigger_that_did_not_run_makes_up_for_it() {
    let host = Sound::new();
    let line = "2021-01-01 10:00:00 install qemu-system-modules-spice:amd64 <none> 1\n";
    host.write(LOG, line);
    host.assert_well();
    let before = FileTime::from_unix_time(1_600_000_000, 0);
    filetime::set_file_mtime(host.path(STAMP), before).unwrap();
    // libvirt was not refreshed after this touch by hand.
    assert_eq!(host.checks(), ["dpkg-last-run", "libvirt-answers"]);
}

#[test]
fn a_long_log_of_dpkgs_costs_the_doctor_few_files() {
    let host = Sound::new();
    let spice = "2099-01-01 10:00:00 install qemu-system-modules-spice:amd64 <none> 1\n";
    let others = |count: usize| -> String {
        let line = |number| format!("2099-01-01 10:00:01 install other-{number}:all <none> 1\n");
        (0..count).map(line).collect()
    };
    host.write(LOG, &(spice.to_owned() + &others(99)));
    host.assert_ill("dpkg-last-run");
    host.write(LOG, &(spice.to_owned() + &others(100)));
    host.assert_well();
}

/// A pacman in the place of dpkg.
fn pacman() -> Sound {
    let host = Sound::new();
    fs::remove_dir_all(host.path("var/lib/dpkg")).unwrap();
    host.put("var/lib/pacman/local/ALPM_DB_VERSION", "9\n");
    fs::create_dir_all(host.path("var/lib/pacman/local/qemu-base-10.0-1")).unwrap();
    let hook = fs::read_to_string(support::sources().join("packaging/arch/modstamp-qemu.hook"));
    host.put("usr/share/libalpm/hooks/modstamp-qemu.hook", &hook.unwrap());
    host
}

#[test]
fn a_pacman_hook_that_is_missing_or_disabled_is_found() {
    let host = pacman();
    host.assert_well();
    fs::create_dir_all(host.path("etc/pacman.d/hooks")).unwrap();
    host.link("etc/pacman.d/hooks/modstamp-qemu.hook", "/dev/null");
    host.assert_mended("pacman-hook");
    host.remove("usr/share/libalpm/hooks/modstamp-qemu.hook");
    host.remove_units();
    let (_, remedy) = host.assert_ill("pacman-hook");
    assert_eq!(remedy, "pacman -S modstamp-qemu");
}

#[test]
fn a_program_that_is_gone_is_found_behind_pacmans_hook() {
    let host = pacman();
    host.set_permissions("usr/bin/modstamp", 0o644);
    assert_eq!(host.checks(), ["pacman-hook", "unit"]);
}

#[test]
fn a_program_that_is_gone_is_found_behind_apks_trigger() {
    let host = Sound::new();
    fs::remove_dir_all(host.path("var/lib/dpkg")).unwrap();
    host.put("lib/apk/db/installed", "P:modstamp-qemu\n");
    host.put("lib/apk/db/triggers", "Q1a= /usr/lib/qemu\n");
    host.assert_well();
    host.set_permissions("usr/bin/modstamp", 0o644);
    assert_eq!(host.checks(), ["apk-trigger", "unit"]);
}

#[test]
fn a_hook_of_pacmans_and_a_trigger_of_apks_whose_program_is_gone_are_found() {
    for (host, check) in [
        (pacman(), "pacman-hook"),
        (apk("lib/apk/db"), "apk-trigger"),
    ] {
        host.remove("usr/bin/modstamp");
        // A unit starts the same program.
        assert_eq!(host.checks(), [check, "unit"]);
    }
}

/// An apk in the place of dpkg.
fn apk(database: &str) -> Sound {
    let host = Sound::new();
    fs::remove_dir_all(host.path("var/lib/dpkg")).unwrap();
    let installed = "C:Q1a=\nP:modstamp-qemu\nV:0.1.0-r0\n";
    host.put(&format!("{database}/installed"), installed);
    let triggers = "Q1a= /usr/lib/qemu:/usr/lib/qemu/*\n";
    host.put(&format!("{database}/triggers"), triggers);
    host
}

#[test]
fn an_apk_trigger_that_is_missing_is_found() {
    for database in ["lib/apk/db", "usr/lib/apk/db"] {
        let host = apk(database);
        let triggers = format!("{database}/triggers");
        host.assert_well();
        host.write(&triggers, "Q1a= /usr/share/icons\n");
        host.assert_ill("apk-trigger");
        host.write(
            &format!("{database}/installed"),
            "C:Q1a=\nP:busybox\nV:1-r0\n",
        );
        host.remove_units();
        let (_, remedy) = host.assert_ill("apk-trigger");
        assert_eq!(remedy, "apk add modstamp-qemu");
    }
}

#[test]
fn rpm_is_not_asked_about_another_root_and_that_is_told() {
    let host = Sound::new();
    host.put("usr/lib/sysimage/rpm/rpmdb.sqlite", "");
    host.assert_well();
    fs::remove_dir_all(host.path("var/lib/dpkg")).unwrap();
    let (report, status) = host.examine();
    assert_eq!(
        (status, text(&report["unseen"][0]["check"])),
        (2, "rpm-trigger".into())
    );
}
