//! The drop-ins of libvirt's daemons, and the directories that path units watch.

use std::fs;

use support::libvirt::{FOREIGN, WATCHED};

use super::{DAEMONS, PATH_UNIT, SERVICE_UNIT, Sound, UNITS, WATCHES};

/// The administrator's drop-ins of a daemon, in the root.
fn administrators(daemon: &str) -> String {
    format!("etc/systemd/system/{daemon}.d")
}

fn drop_in(daemon: &str) -> String {
    format!("{UNITS}/{daemon}.d/modstamp.conf")
}

#[test]
fn a_daemons_drop_in_that_is_missing_is_found() {
    for daemon in DAEMONS {
        let host = Sound::new();
        host.remove(&drop_in(daemon));
        let (seen, remedy) = host.assert_ill("daemon-drop-in");
        assert_eq!(seen, format!("{daemon} has no drop-in modstamp.conf"));
        assert_eq!(remedy, "make install");
        // The whole profile of the daemon's drop-in counts, and not just any of modstamp's.
        let nbdkit = "[Service]\nExecStartPre=-modstamp update --profile nbdkit\n";
        host.put(&drop_in(daemon), nbdkit);
        host.assert_ill("daemon-drop-in");
        host.remove(&format!("{UNITS}/{daemon}"));
        host.assert_well();
    }
}

#[test]
fn a_daemons_drop_in_that_is_masked_is_found_and_the_remedy_unmasks_it() {
    for daemon in DAEMONS {
        let host = Sound::new();
        let mask = format!("{}/modstamp.conf", administrators(daemon));
        fs::create_dir_all(host.path(&administrators(daemon))).unwrap();
        host.link(&mask, "/dev/null");
        let (seen, remedy) = host.assert_ill("daemon-drop-in");
        assert!(
            seen.ends_with(&format!("masks modstamp's drop-in of {daemon}")),
            "{seen}"
        );
        assert_eq!(remedy, format!("rm /{mask}"));
        host.assert_mended("daemon-drop-in");
        host.put(&mask, "");
        host.assert_mended("daemon-drop-in");
        // A package's file is no administrator's.
        host.write(&drop_in(daemon), "");
        let (_, remedy) = host.assert_ill("daemon-drop-in");
        assert_eq!(remedy, "make install");
    }
}

#[test]
fn a_file_that_takes_the_drop_ins_place_is_found_and_the_remedy_keeps_its_settings() {
    let host = Sound::new();
    let own = format!("{}/modstamp.conf", administrators("libvirtd.service"));
    host.put(
        &own,
        "[Service]\n# modstamp update --profile qemu\nNice=5\n",
    );
    let (seen, _) = host.assert_ill("daemon-drop-in");
    let expected = "etc/systemd/system/libvirtd.service.d/modstamp.conf of libvirtd.service does \
                    not run modstamp";
    assert!(seen.ends_with(expected), "{seen}");
    host.assert_mended("daemon-drop-in");
    let kept = format!("{}/modstamp-local.conf", administrators("libvirtd.service"));
    assert!(
        fs::read_to_string(host.path(&kept))
            .unwrap()
            .contains("Nice=5")
    );
    // An administrator may have modstamp look in another way.
    for setting in [
        "ExecStartPre=-/usr/bin/modstamp \\\nupdate --profile qemu\n",
        "ExecStartPre=-/usr/bin/modstamp \\\n# look first\nupdate --profile qemu\n",
        "# C:\\\nExecStartPre=-/usr/bin/modstamp update --profile qemu\n",
    ] {
        host.put(&own, &format!("[Service]\n{setting}"));
        host.assert_well();
    }
    // systemd ignores it in another section.
    host.put(
        &own,
        "[Unit]\nExecStartPre=-/usr/bin/modstamp update --profile qemu\n",
    );
    host.assert_ill("daemon-drop-in");
}

#[test]
fn a_later_drop_in_that_empties_the_list_is_found() {
    let host = Sound::new();
    let directory = administrators("virtqemud.service");
    // An earlier one comes before modstamp's, and changes nothing.
    let emptying = "[Service]\nExecStartPre=\nExecStartPre=/bin/true\n";
    host.put(&format!("{directory}/a.conf"), emptying);
    host.assert_well();
    host.put(&format!("{directory}/override.txt"), emptying);
    host.assert_well();
    host.put(&format!("{directory}/override.conf"), emptying);
    let (seen, remedy) = host.assert_ill("daemon-drop-in");
    assert!(
        seen.ends_with("override.conf empties ExecStartPre= of virtqemud.service"),
        "{seen}"
    );
    assert_eq!(
        remedy,
        format!("\"${{EDITOR:-vi}}\" /{directory}/override.conf")
    );
    host.remove(&format!("{directory}/override.conf"));
    host.assert_well();
    // One file can be for all services, or for all whose names begin with some words.
    host.put("etc/systemd/system/service.d/zz.conf", emptying);
    assert_eq!(host.checks(), ["daemon-drop-in", "daemon-drop-in"]);
}

#[test]
fn without_the_units_of_qemu_a_daemon_needs_no_drop_in() {
    let host = Sound::new();
    for daemon in DAEMONS {
        host.remove(&drop_in(daemon));
    }
    let directories = format!("{UNITS}/modstamp-update@qemu.path.d/directories.conf");
    let text = fs::read_to_string(host.path(&directories)).unwrap();
    host.remove(&directories);
    host.put(&format!("{WATCHES}/all.conf"), &text);
    assert_eq!(host.checks(), ["daemon-drop-in", "daemon-drop-in"]);
    host.remove(PATH_UNIT);
    assert_eq!(host.checks(), ["unit", "daemon-drop-in", "daemon-drop-in"]);
    host.remove(SERVICE_UNIT);
    assert_eq!(host.checks(), ["unit"]);
    host.put(&directories, &text);
    assert_eq!(host.checks(), ["unit", "daemon-drop-in", "daemon-drop-in"]);
    host.remove(&format!("{UNITS}/modstamp-update@.path"));
    host.remove(&format!("{UNITS}/modstamp-update@.service"));
    host.assert_ill("unit");
}

#[test]
fn a_profile_without_libvirt_needs_no_drop_in_of_its_daemons() {
    let host = Sound::new();
    host.remove(&drop_in("libvirtd.service"));
    host.put(
        "etc/modstamp/profiles.d/qemu.toml",
        "refresh-libvirt = false\n",
    );
    host.say(&["update"]);
    host.assert_well();
}

#[test]
fn a_module_directory_that_the_path_unit_does_not_watch_is_found_and_the_remedy_adds_it() {
    let host = Sound::new();
    host.remove(&format!("{WATCHES}/foreign.conf"));
    let (seen, _) = host.assert_ill("unit-directories");
    assert_eq!(
        seen,
        format!("modstamp-update@qemu.path does not watch /{FOREIGN}")
    );
    host.assert_mended("unit-directories");
    let own = format!("{WATCHES}/modstamp-local.conf");
    let text = fs::read_to_string(host.path(&own)).unwrap();
    assert_eq!(text, format!("[Path]\nPathModified=/{FOREIGN}\n"));
    // The second time, the file is there.
    host.write(&own, "");
    let (_, remedy) = host.assert_ill("unit-directories");
    assert_eq!(remedy, format!("\"${{EDITOR:-vi}}\" /{own}"));
    host.write(&own, &format!("[Path]\nPathChanged=/{FOREIGN}\n"));
    host.assert_well();
    // A path unit that is not enabled is another finding.
    host.remove(&own);
    host.remove(PATH_UNIT);
    host.assert_ill("unit");
}

#[test]
fn an_administrators_file_in_the_place_of_the_directories_is_found() {
    let host = Sound::new();
    host.put(
        &format!("{WATCHES}/directories.conf"),
        "[Path]\nPathExists=\n",
    );
    let (seen, _) = host.assert_ill("unit-directories");
    assert!(seen.contains(&format!("/{WATCHED}")), "{seen}");
    host.assert_mended("unit-directories");
}

#[test]
fn a_directory_is_watched_by_any_of_its_paths_and_one_that_comes_and_goes_by_its_parent() {
    let host = Sound::new();
    host.remove(&format!("{WATCHES}/foreign.conf"));
    host.link("srv", "/usr/lib/aarch64-linux-gnu");
    host.put(
        &format!("{WATCHES}/x.conf"),
        "[Path]\nPathModified=/srv/%i\n",
    );
    host.assert_well();
    host.put("run/qemu/Debian_1/a.so", "a module of a QEMU that runs");
    host.say(&["update"]);
    host.assert_well();
    host.remove("run/qemu/Debian_1/a.so");
}

#[test]
fn the_path_unit_of_a_profile_of_ones_own_is_told_its_directories() {
    let host = Sound::new();
    host.put("usr/lib/to y/100%/a.so", "a module");
    host.put("usr/lib/it's/a.so", "a module");
    let text = "module-directories = [\"/usr/lib/to y/100%\", \"/usr/lib/it's\"]\n";
    host.put("etc/modstamp/profiles.d/toy.toml", text);
    host.enable("modstamp-update@toy.path");
    host.enable("modstamp-update@toy.service");
    let (seen, _) = host.assert_ill("unit-directories");
    let expected = "modstamp-update@toy.path does not watch /usr/lib/it's and /usr/lib/to y/100%";
    assert_eq!(seen, expected);
    host.assert_mended("unit-directories");
    let own = "etc/systemd/system/modstamp-update@toy.path.d/modstamp-local.conf";
    let lines = "[Path]\nPathModified=/usr/lib/it's\nPathModified=/usr/lib/to y/100%%\n";
    assert_eq!(fs::read_to_string(host.path(own)).unwrap(), lines);
}
