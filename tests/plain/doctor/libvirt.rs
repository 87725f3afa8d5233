//! libvirt's answers and module directories, and the holes of its own rule.

use std::fs;
use std::path::Path;

use support::libvirt::{DRIVER, WATCHED};

use super::Sound;

#[test]
fn a_libvirt_that_would_serve_a_stale_answer_is_found_and_a_refresh_mends_it() {
    let host = Sound::new();
    host.set_mtime(WATCHED, 1_600_000_000);
    host.assert_mended("libvirt-answers");
}

#[test]
fn a_record_of_libvirts_last_refresh_that_cannot_be_read_is_told_and_a_refresh_mends_it() {
    let host = Sound::new();
    host.put("var/lib/modstamp/qemu.libvirt", "torn");
    let (seen, _) = host.assert_ill("libvirt-answers");
    assert!(
        seen.contains("cannot read the record of the last refresh "),
        "{seen}"
    );
    host.assert_mended("libvirt-answers");
}

#[test]
fn a_module_directory_that_qemu_or_libvirt_has_and_the_profile_lacks_is_found() {
    let host = Sound::new();
    host.put("opt/qemu/lib/qemu/ui-gtk.so", "a module");
    fs::create_dir_all(host.path("opt/share/qemu")).unwrap();
    host.say(&["update"]);
    let driver = fs::read_to_string(host.path(DRIVER)).unwrap();
    host.write(DRIVER, &(driver + "/opt/qemu/lib/qemu\0/opt/share/qemu\0"));
    let (seen, _) = host.assert_ill("module-directories");
    assert!(
        seen.contains("driver_qemu.so knows the module directory /opt/qemu/lib/qemu,"),
        "{seen}"
    );
    host.write("usr/bin/qemu-system-arm", "\x7fELF\0/opt/qemu/lib/qemu\0");
    host.say(&["update"]);
    let (seen, remedy) = host.assert_ill("module-directories");
    assert!(seen.contains("qemu-system-arm knows"), "{seen}");
    assert!(remedy.contains("$QEMU_MODULE_DIR"), "{remedy}");
    host.paste(&remedy);
    host.say(&["update"]);
    host.assert_well();
    assert_eq!(
        host.notes().len(),
        1,
        "the profile is the administrator's now"
    );
}

#[test]
fn the_holes_of_libvirts_version_are_noted() {
    let host = Sound::new();
    let library = Path::new(DRIVER).ancestors().nth(3).unwrap();
    let put = |name: &str| host.put(library.join(name).to_str().unwrap(), "");
    put("libvirt.so.0.6007.0");
    let why = |host: &Sound| host.notes().pop().unwrap().1;
    assert!(why(&host).starts_with("it looks at no module directory"));
    host.remove(library.join("libvirt.so.0.6007.0").to_str().unwrap());
    put("libvirt.so.0.11003.0");
    put("libvirt.so.0");
    assert!(why(&host).starts_with("it does not notice a module that is rewritten in place"));
    assert!(why(&host).ends_with("modstamp's refresh makes up for that"));
    host.assert_well();
    host.put(
        "etc/modstamp/profiles.d/qemu.toml",
        "refresh-libvirt = false\n",
    );
    assert!(why(&host).ends_with("nothing makes up for that"));
}
