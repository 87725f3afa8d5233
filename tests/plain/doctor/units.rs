//! systemd's units: those of `qemu`, and those of a profile that somebody enabled.

use super::{PATH_UNIT, Sound, UNITS};

#[test]
fn a_unit_that_is_not_enabled_is_found() {
    let host = Sound::new();
    host.remove(PATH_UNIT);
    let (seen, remedy) = host.assert_ill("unit");
    assert!(
        seen.contains("modstamp-update@qemu.path is not enabled"),
        "{seen}"
    );
    assert!(
        remedy.ends_with(" enable modstamp-update@qemu.path"),
        "{remedy}"
    );
}

#[test]
fn a_unit_that_is_masked_is_found() {
    let host = Sound::new();
    let mask = "etc/systemd/system/modstamp-update@qemu.service";
    host.link(mask, "/dev/null");
    let (seen, remedy) = host.assert_ill("unit");
    assert!(seen.ends_with("modstamp-update@qemu.service"), "{seen}");
    assert!(
        remedy.starts_with("systemctl unmask modstamp-update@qemu.service && "),
        "{remedy}"
    );
    host.remove(mask);
    host.write(mask, ""); // As good as a link (systemd.unit(5)).
    host.assert_ill("unit");
}

#[test]
fn a_unit_that_is_missing_is_found() {
    let host = Sound::new();
    host.remove(&format!("{UNITS}/modstamp-update@.path"));
    let (seen, _) = host.assert_ill("unit");
    assert_eq!(seen, "there is no unit modstamp-update@.path");
}

#[test]
fn a_profile_with_one_unit_enabled_needs_the_other_and_one_with_none_needs_none() {
    let host = Sound::new();
    host.put("usr/lib/toy/a.so", "a module");
    let text = "module-directories = [\"/usr/lib/toy\"]\n";
    host.put("etc/modstamp/profiles.d/toy.toml", text);
    host.assert_well();
    let wants = "etc/systemd/system/paths.target.wants";
    let path = format!("{wants}/modstamp-update@toy.path");
    host.link(&path, "/usr/lib/systemd/system/modstamp-update@.path");
    let (seen, remedy) = host.assert_ill("unit");
    assert_eq!(seen, "the unit modstamp-update@toy.service is not enabled");
    assert_eq!(remedy, "systemctl enable modstamp-update@toy.service");
    let service = format!("{wants}/modstamp-update@toy.service");
    host.link(&service, "/usr/lib/systemd/system/modstamp-update@.service");
    host.assert_well();
}
