//! libvirt's answers and module directories, and the holes of its own rule.

use std::fs;
use std::path::Path;

use support::libvirt::{DRIVER, WATCHED};

use super::{Sound, text};

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
    // The watch has to know the directory, too.
    host.assert_mended("unit-directories");
    let notes: Vec<String> = host.notes().into_iter().map(|(check, _)| check).collect();
    assert_eq!(
        notes,
        ["profile-override"],
        "the profile is the administrator's now"
    );
}

/// A QEMU with such a compiled-in directory of modules.
fn install_qemu(host: &Sound, program: &str, directory: &str) {
    host.put(program, &format!("\x7fELF\0{directory}\0/usr/share/qemu\0"));
    host.set_permissions(program, 0o755);
}

#[test]
fn each_build_of_qemu_is_searched_once() {
    let host = Sound::new();
    host.put("opt/qemu/ui-gtk.so", "a module");
    host.put("opt/qemu-2/ui-gtk.so", "a module");
    // All of one build have the time of the build.
    let arm = ["usr/bin/qemu-system-arm", "usr/bin/qemu-system-x86_64"];
    for program in arm {
        host.set_mtime(program, 1_600_000_000);
    }
    install_qemu(&host, "usr/local/bin/qemu-system-x86_64", "/opt/qemu");
    host.say(&["update"]);
    let (seen, _) = host.assert_ill("module-directories");
    assert!(
        seen.contains("/usr/local/bin/qemu-system-x86_64 knows"),
        "{seen}"
    );
    install_qemu(&host, "usr/bin/qemu-system-xtensa", "/opt/qemu-2");
    host.link("usr/bin/qemu-system-xtensaeb", "qemu-system-xtensa");
    host.say(&["update"]);
    let seen = |host: &Sound| {
        let (report, _) = host.examine();
        let findings = report["findings"].as_array().unwrap().iter();
        findings.map(|it| text(&it["seen"])).collect::<Vec<_>>()
    };
    let [first, second] = &seen(&host)[..] else {
        panic!("{:?}", seen(&host));
    };
    assert!(
        first.contains("xtensa knows the module directory /opt/qemu-2,"),
        "{first}"
    );
    assert!(
        second.contains("knows the module directory /opt/qemu,"),
        "{second}"
    );
    // Programs of the same time in the same directory are of the same build.
    host.set_mtime("usr/bin/qemu-system-xtensa", 1_600_000_000);
    host.say(&["update"]);
    host.assert_ill("module-directories");
}

#[test]
fn no_more_programs_are_searched_than_time_allows_and_that_is_noted() {
    let host = Sound::new();
    let install = |name: &str, megabytes: u64, mtime: i64| {
        let program = format!("usr/bin/qemu-system-{name}");
        let file = fs::File::create(host.path(&program)).unwrap();
        file.set_len(megabytes << 20).unwrap(); // The file is a hole, and takes no room.
        host.set_permissions(&program, 0o755);
        host.set_mtime(&program, mtime);
        host.say(&["update"]);
    };
    let notes = || {
        let (report, _) = host.examine();
        let notes = report["notes"].as_array().unwrap().iter();
        notes.map(|it| text(&it["seen"])).collect::<Vec<_>>()
    };
    for (mtime, name) in ["aarch64", "alpha", "avr", "cris"].into_iter().enumerate() {
        install(name, 30, 1_600_000_001 + mtime as i64);
    }
    assert_eq!(notes(), [""; 0]);
    install("hppa", 30, 1_600_000_000);
    let note = "1 more program of QEMU was not searched for module directories";
    assert_eq!(notes(), [note]);
    host.assert_well();
}

#[test]
fn a_libvirt_that_watches_another_directory_than_qemu_loads_from_is_told() {
    let host = Sound::new();
    for program in ["usr/bin/qemu-system-arm", "usr/bin/qemu-system-x86_64"] {
        install_qemu(&host, program, &format!("/{WATCHED}"));
    }
    host.say(&["update"]);
    host.assert_well();
    assert_eq!(host.notes(), []);
    for program in ["usr/bin/qemu-system-arm", "usr/bin/qemu-system-x86_64"] {
        install_qemu(&host, program, "/usr/local/lib/qemu");
    }
    host.say(&["update"]);
    host.assert_well();
    let made_up =
        "libvirt itself notices no module that comes or goes; modstamp's refresh makes up for that";
    assert_eq!(
        host.notes(),
        [("module-directories".to_owned(), made_up.to_owned())]
    );
    // Nothing makes up for it.
    host.put(
        "etc/modstamp/profiles.d/qemu.toml",
        "refresh-libvirt = false\n",
    );
    host.say(&["update"]);
    let (seen, remedy) = host.assert_ill("module-directories");
    let expected = format!("watches /{WATCHED}, from which no installed QEMU loads modules");
    assert!(seen.ends_with(&expected), "{seen}");
    assert!(
        remedy.ends_with("/etc/modstamp/profiles.d/qemu.toml"),
        "{remedy}"
    );
    // Another path of the same directory is no other directory.
    fs::create_dir_all(host.path("usr/local/lib")).unwrap();
    host.link("usr/local/lib/qemu", &format!("/{WATCHED}"));
    host.say(&["update"]);
    host.assert_well();
    // One QEMU that agrees is enough.
    host.remove("usr/local/lib/qemu");
    install_qemu(&host, "usr/bin/qemu-system-arm", &format!("/{WATCHED}"));
    host.say(&["update"]);
    host.assert_well();
    // A QEMU without modules loads them from nowhere.
    for program in ["usr/bin/qemu-system-arm", "usr/bin/qemu-system-x86_64"] {
        install_qemu(&host, program, "/usr/share/qemu-none");
    }
    host.say(&["update"]);
    host.assert_well();
    // A libvirt before 6.8 watches none.
    for program in ["usr/bin/qemu-system-arm", "usr/bin/qemu-system-x86_64"] {
        install_qemu(&host, program, "/usr/local/lib/qemu");
    }
    host.write(DRIVER, "\x7fELF\0");
    host.say(&["update"]);
    host.assert_well();
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
