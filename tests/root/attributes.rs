//! Rights that stat does not tell, and the numbers of devices, are told where contents are read.
//!
//! These tests need root: capabilities and devices are root's to make.

use std::fs::File;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use support::mounted::Mounted;
use support::named;
use support::test::{self, Needs, Test};
use support::world::{GTK, MODULES, World, sentences};

pub fn tests() -> Vec<Test> {
    test::tests(
        &Needs::root_and(&["mkfs.ext4", "mount", "strace", "unshare"]),
        SCENARIOS,
    )
    .collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_right_that_an_acl_takes_away_is_told,
    a_right_that_a_long_acl_takes_away_is_told,
    capabilities_that_come_go_or_change_are_told,
    a_device_of_another_number_is_told,
    attributes_that_are_redeployed_are_the_same,
    attributes_that_are_unchanged_are_not_read_again,
    a_file_without_attributes_has_the_digest_of_its_bytes,
];

const ACL: &str = "system.posix_acl_access";
const CAPABILITY: &str = "security.capability";

/// The value of an ACL that gives user 99 those permissions, and all else as `mode` 0644 does.
fn acl(permissions: u8) -> Vec<u8> {
    let entry = |tag: u8, permissions: u8, id: u32| {
        [&[tag, 0, permissions, 0][..], &id.to_le_bytes()].concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(1, 6, none),
        entry(2, permissions, 99),
        entry(4, 4, none),
        entry(16, 4, none),
        entry(32, 4, none),
    ];
    [&[2, 0, 0, 0][..], &entries.concat()].concat()
}

/// The value of the permitted capabilities with that number.
fn capability(number: u32) -> Vec<u8> {
    let words = [0x0200_0001, 1 << number, 0, 0, 0];
    words
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    let file = File::open(path).unwrap();
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()).unwrap();
}

fn make_device(path: &Path, minor: u32) {
    let number = rustix::fs::makedev(1, minor);
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, number).unwrap();
}

/// Things of every kind that have attributes or a number.
fn world(disk: &Mounted) -> World {
    let world = World::on(disk.path(), |world| {
        make_device(&world.module("device"), 3);
        make_device(&world.path("usr/share/device"), 3);
        world.link(&format!("{MODULES}/to-device"), "/usr/share/device");
    });
    set(&world.path(GTK), ACL, &acl(4));
    set(&world.path(GTK), CAPABILITY, &capability(7));
    set(&world.module("below"), ACL, &acl(4));
    set(&world.path("usr/share/linked.so"), ACL, &acl(4));
    set(&world.path("usr/share/plugins"), ACL, &acl(4));
    set(&world.path("usr/bin/qemu-system-arm"), ACL, &acl(4));
    world
}

fn disks() -> [Mounted; 2] {
    [
        Mounted::tmpfs("mode=755"),
        Mounted::image(16, "mkfs.ext4", &["-q"]),
    ]
}

fn differs(world: &World, title: &str, change: impl FnOnce(&World)) {
    let before = world.observe();
    change(world);
    let said = sentences(&world.check(&before));
    let expected = format!("{title} changed: its content differs");
    assert!(said.contains(&expected), "{said:?} lacks {expected:?}");
}

fn a_right_that_an_acl_takes_away_is_told() {
    let things = [
        (GTK, "module ui-gtk.so in /usr/lib64/qemu"),
        (
            "usr/lib64/qemu/ui-sdl.so",
            "module ui-sdl.so in /usr/lib64/qemu",
        ),
        ("usr/lib64/qemu/below", "module below in /usr/lib64/qemu"),
        ("usr/share/linked.so", "module link.so in /usr/lib64/qemu"),
        ("usr/share/plugins", "module plugins in /usr/lib64/qemu"),
        (
            "usr/bin/qemu-system-arm",
            "program /usr/bin/qemu-system-arm",
        ),
        ("etc/qemu/a.conf", "file /etc/qemu/a.conf"),
    ];
    for disk in disks() {
        let world = world(&disk);
        world.settle();
        for (path, title) in things {
            world.set_permissions(path, 0o644); // So no bit of the mode tells it.
            differs(&world, title, |world| set(&world.path(path), ACL, &acl(0)));
        }
    }
}

fn a_right_that_a_long_acl_takes_away_is_told() {
    // ext4 keeps no ACL that is longer than a block.
    let disk = Mounted::tmpfs("mode=755");
    let world = world(&disk);
    let long = |last: u8| {
        let (head, rest) = (acl(4)[..12].to_vec(), acl(4)[20..].to_vec());
        let users = (1..=2000_u32).flat_map(|user| {
            let permissions = if user == 2000 { last } else { 4 };
            [&[2, 0, permissions, 0][..], &user.to_le_bytes()].concat()
        });
        [head, users.collect(), rest].concat()
    };
    set(&world.path(GTK), ACL, &long(4));
    let title = "module ui-gtk.so in /usr/lib64/qemu";
    differs(&world, title, |world| set(&world.path(GTK), ACL, &long(0)));
}

fn capabilities_that_come_go_or_change_are_told() {
    let title = "module ui-gtk.so in /usr/lib64/qemu";
    for disk in disks() {
        let world = world(&disk);
        world.settle();
        differs(&world, title, |world| {
            set(&world.path(GTK), CAPABILITY, &capability(8))
        });
        differs(&world, title, |world| {
            rustix::fs::removexattr(world.path(GTK), CAPABILITY).unwrap();
        });
        differs(&world, title, |world| {
            set(&world.path(GTK), CAPABILITY, &capability(8))
        });
    }
}

fn a_device_of_another_number_is_told() {
    for disk in disks() {
        let world = world(&disk);
        for (path, title) in [
            ("usr/lib64/qemu/device", "module device in /usr/lib64/qemu"),
            ("usr/share/device", "module to-device in /usr/lib64/qemu"),
        ] {
            differs(&world, title, |world| {
                world.remove(path);
                make_device(&world.path(path), 5);
            });
        }
    }
}

fn attributes_that_are_redeployed_are_the_same() {
    for disk in disks() {
        let world = world(&disk);
        let before = world.observe();
        world.sh("cp -a usr usr.new; rm -r usr; mv usr.new usr");
        assert_eq!(sentences(&world.check(&before)), [""; 0]);
    }
}

fn attributes_that_are_unchanged_are_not_read_again() {
    for disk in disks() {
        let world = world(&disk);
        world.settle();
        let before = world.observe();
        let file = world.beside("witness");
        std::fs::write(&file, before.to_string()).unwrap();
        let trace = world.beside("trace");
        let mut strace = std::process::Command::new("strace");
        strace.args(["-f", "-e", "trace=/xattr", "-o"]).arg(&trace);
        let check = world.modstamp(&["check", file.to_str().unwrap()]);
        let output = strace
            .arg(check.get_program())
            .args(check.get_args())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let traced = std::fs::read_to_string(&trace).unwrap();
        assert!(!traced.contains("fgetxattr"), "{traced}");
    }
}

fn a_file_without_attributes_has_the_digest_of_its_bytes() {
    let disk = Mounted::tmpfs("mode=755");
    let world = world(&disk);
    let digest = blake3::hash(b"before 2").to_string();
    let line = format!(" {} ui-sdl.so\n", &digest[..32]);
    let witness = world.observe().to_string();
    assert!(witness.contains(&line), "{witness} lacks {line}");
    for name in ["below", "plugins"] {
        let line = witness
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")))
            .unwrap();
        assert!(!line.contains(" - "), "{line}: it has an ACL");
    }
    rustix::fs::removexattr(world.module("below"), ACL).unwrap();
    let witness = world.observe().to_string();
    let line = witness
        .lines()
        .find(|line| line.ends_with(" below"))
        .unwrap();
    assert!(line.ends_with(" - below"), "{line}");
}
