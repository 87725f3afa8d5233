//! Nothing that a refresh or an eviction leaves undone is passed over in silence.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use support::libvirt::{ARM, Host, SYSTEM, WATCHED, X86};

/// The programs of the profile `qemu`, in the root.
const PROGRAMS: [&str; 2] = ["usr/bin", "usr/libexec"];

fn without_programs() -> Host {
    let host = Host::new();
    for programs in PROGRAMS {
        fs::remove_dir_all(host.path(programs)).unwrap();
    }
    host
}

#[test]
fn a_refresh_that_moved_nothing_fails_and_says_why() {
    // Others can write the directory, and no program stands in for it.
    let host = without_programs();
    host.set_permissions(WATCHED, 0o777);
    let (out, err) = host.fail(&["libvirt", "refresh"]);
    let sentence = format!(
        "modstamp: warning: cannot make libvirt ask again by the mtime or ctime of /{WATCHED}: \
         /{WATCHED} can be written by every user; mend that, and run “modstamp libvirt refresh”\n"
    );
    assert_eq!((&*out, err), ("", sentence));
    // The next update tries again, because the record knows it.
    host.set_permissions(WATCHED, 0o755);
    let (out, err) = host.say(&["update"]);
    assert!(
        out.contains(&format!("moved the time of /{WATCHED}\n")),
        "{out}"
    );
    assert_eq!(err, "");
}

#[test]
fn a_refresh_of_which_no_record_can_be_kept_fails_and_says_why() {
    let host = Host::new();
    fs::remove_dir_all(host.path("var/lib/modstamp")).unwrap();
    host.write("var/lib/modstamp", "no directory");
    let (_, err) = host.fail(&["libvirt", "refresh"]);
    assert!(err.contains("/var/lib/modstamp"), "{err}");
    host.remove("var/lib/modstamp");
    host.refresh();
}

#[test]
fn an_eviction_removes_every_file_however_many_there_are() {
    let host = Host::new();
    for number in 0..3000 {
        host.write(&format!("{SYSTEM}/{number}.xml"), "");
    }
    host.ask(X86);
    let odd = host.path(SYSTEM).join(OsStr::from_bytes(b"\xff\x1b.xml"));
    fs::write(&odd, "").unwrap();
    let other = host.path(SYSTEM).join("a.txt");
    fs::write(&other, "").unwrap();
    assert_eq!(host.rows(&[]).len(), 3002);
    let (out, err) = host.say(&["libvirt", "evict", "--all"]);
    assert_eq!((out.lines().count(), &*err), (3002, ""));
    let left: Vec<_> = fs::read_dir(host.path(SYSTEM)).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert!(other.exists());
}

#[test]
fn an_eviction_that_leaves_some_files_removes_the_others_and_names_each_that_is_left() {
    let host = Host::new();
    for number in 0..1200 {
        fs::create_dir(host.path(&format!("{SYSTEM}/{number}.xml"))).unwrap();
    }
    let files = [X86, ARM].map(|program| host.ask(program));
    let (out, err) = host.fail(&["libvirt", "evict", "--all"]);
    assert_eq!((out.lines().count(), err.lines().count()), (2, 1200));
    for number in 0..1200 {
        let sentence = format!("cannot remove libvirt's cache file /{SYSTEM}/{number}.xml: ");
        assert!(err.contains(&sentence), "{number}");
    }
    assert!(files.iter().all(|file| !host.path(file).exists()));
}
