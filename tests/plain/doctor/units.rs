//! systemd's units: those of `qemu`, and those of a profile that somebody enabled.

use super::{PATH_UNIT, SERVICE_UNIT, Sound, UNITS};

#[test]
fn a_unit_that_is_not_enabled_is_found() {
    for (link, unit) in [
        (PATH_UNIT, "modstamp-update@qemu.path"),
        (SERVICE_UNIT, "modstamp-update@qemu.service"),
    ] {
        let host = Sound::new();
        host.remove(link);
        let (seen, remedy) = host.assert_ill("unit");
        assert_eq!(seen, format!("the unit {unit} is not enabled"));
        assert_eq!(remedy, format!("systemctl enable {unit}"));
        host.assert_mended("unit");
    }
}

#[test]
fn units_that_are_not_enabled_are_one_finding() {
    let host = Sound::new();
    host.remove(PATH_UNIT);
    host.remove(SERVICE_UNIT);
    let (seen, _) = host.assert_ill("unit");
    let both = "modstamp-update@qemu.service and modstamp-update@qemu.path";
    assert_eq!(seen, format!("the units {both} are not enabled"));
    host.assert_mended("unit");
}

#[test]
fn each_kind_of_wish_of_another_unit_enables_a_unit() {
    let host = Sound::new();
    for kind in ["requires", "upholds", "wants"] {
        let link = format!("usr/lib/systemd/system/x.target.{kind}/modstamp-update@qemu.path");
        host.remove(PATH_UNIT);
        host.put(&link, "");
        host.assert_well();
        host.remove(&link);
        host.assert_mended("unit");
    }
    host.remove(PATH_UNIT);
    host.put(
        "etc/systemd/system/x.target.d/modstamp-update@qemu.path",
        "",
    );
    host.assert_ill("unit");
}

#[test]
fn a_unit_that_is_masked_is_found() {
    let host = Sound::new();
    let mask = |unit: &str| format!("etc/systemd/system/modstamp-{unit}");
    for unit in ["update@qemu.service", "update@qemu.path"] {
        host.link(&mask(unit), "/dev/null");
        let (seen, remedy) = host.assert_ill("unit");
        assert!(seen.ends_with(&mask(unit)), "{seen}");
        let unmask = format!("systemctl unmask modstamp-{unit} && systemctl enable modstamp-");
        assert!(remedy.starts_with(&unmask), "{remedy}");
        host.remove(&mask(unit));
        host.write(&mask(unit), ""); // As good as a link (systemd.unit(5)).
        host.assert_ill("unit");
        host.remove(&mask(unit));
        host.assert_well();
    }
    // Nobody enables these, because the others start them.
    for unit in ["settle@qemu.service", "refresh@qemu.service"] {
        host.link(&mask(unit), "/dev/null");
        let (_, remedy) = host.assert_ill("unit");
        assert_eq!(remedy, format!("systemctl unmask modstamp-{unit}"));
        host.assert_mended("unit");
    }
}

#[test]
fn a_units_own_file_comes_before_its_templates() {
    let host = Sound::new();
    host.remove(&format!("{UNITS}/modstamp-update@.path"));
    let own = "usr/local/lib/systemd/system/modstamp-update@qemu.path";
    host.put(
        own,
        "[Path]\nPathModified=/usr/lib/qemu\nPathModified=/usr/lib64/qemu\n",
    );
    host.assert_well();
    host.remove(own);
    let (seen, _) = host.assert_ill("unit");
    assert_eq!(seen, "there is no unit modstamp-update@.path");
}

#[test]
fn units_that_are_missing_are_one_finding() {
    let host = Sound::new();
    host.put("usr/lib/toy/a.so", "a module");
    let text = "module-directories = [\"/usr/lib/toy\"]\n";
    host.put("etc/modstamp/profiles.d/toy.toml", text);
    host.enable("modstamp-update@toy.service");
    for unit in ["update@.service", "update@.path", "refresh@.service"] {
        host.remove(&format!("{UNITS}/modstamp-{unit}"));
    }
    let (seen, remedy) = host.assert_ill("unit");
    assert_eq!(
        seen,
        "there are no units modstamp-update@.service and modstamp-update@.path and \
         modstamp-refresh@.service"
    );
    assert_eq!(remedy, "make install");
    let installers = [
        ("pacman", "pacman -S"),
        ("zypper", "zypper install --force"),
        ("dnf", "dnf reinstall"),
        ("apt-get", "apt-get install --reinstall"),
    ];
    for (program, install) in installers {
        host.start(&format!("usr/bin/{program}"), "");
        let (_, remedy) = host.assert_ill("unit");
        assert_eq!(remedy, format!("{install} modstamp modstamp-qemu"));
    }
    host.install_units(UNITS, "/usr/bin");
    host.enable("modstamp-update@toy.path");
    host.put(
        "etc/systemd/system/modstamp-update@toy.path.d/toy.conf",
        "[Path]\nPathModified=/usr/lib/toy\n",
    );
    host.assert_well();
}

#[test]
fn a_host_without_systemd_needs_no_units() {
    let host = Sound::new();
    host.remove_units();
    host.assert_well();
    host.start("lib/systemd/systemd", "");
    host.assert_ill("unit");
}

#[test]
fn a_service_whose_program_is_gone_is_found() {
    let host = Sound::new();
    for start in [
        "/usr/local/bin/modstamp",
        "-/usr/local/bin/modstamp",
        "-+/usr/bin",
    ] {
        let service = format!("{UNITS}/modstamp-update@.service");
        host.write(&service, &format!("[Service]\nExecStart={start} update\n"));
        let (seen, _) = host.assert_ill("unit");
        let program = start.trim_start_matches(['-', '+']);
        assert!(seen.contains(&format!("{program}, which is not")), "{seen}");
        // systemd finds it, in a directory of its own choice.
        host.write(&service, "[Service]\nExecStart=modstamp update\n");
        host.assert_well();
    }
}

#[test]
fn a_profile_with_one_unit_enabled_needs_the_other_and_one_with_none_needs_none() {
    let host = Sound::new();
    host.put("usr/lib/toy/a.so", "a module");
    let text = "module-directories = [\"/usr/lib/toy\"]\n";
    host.put("etc/modstamp/profiles.d/toy.toml", text);
    host.assert_well();
    host.enable("modstamp-update@toy.path");
    let watch = "[Path]\nPathModified=/usr/lib/toy\n";
    host.put(
        "etc/systemd/system/modstamp-update@toy.path.d/toy.conf",
        watch,
    );
    let (seen, remedy) = host.assert_ill("unit");
    assert_eq!(seen, "the unit modstamp-update@toy.service is not enabled");
    assert_eq!(remedy, "systemctl enable modstamp-update@toy.service");
    host.assert_mended("unit");
}
