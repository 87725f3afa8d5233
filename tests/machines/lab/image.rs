//! The disk that machines boot from, made once for each state of what it is made of and kept.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::scene::MODULE;
use support::machine::Machine;
use support::{deb, kept, run};

/// What making the disks takes.
pub const PROGRAMS: [&str; 3] = ["losetup", "mkfs.btrfs", "mkfs.ext4"];

/// What the machine has, beside Debian's smallest set and modstamp.
const PACKAGES: [&str; 16] = [
    "btrfs-progs",
    "busybox-static",
    "dbus",
    "kmod",
    "libpam-systemd",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system",
    "linux-image-cloud-amd64",
    "polkitd",
    "qemu-system-x86",
    "rpm",
    "systemd",
    "systemd-sysv",
    "udev",
    "xfsprogs",
];

/// What makes a Debian root one that boots quickly, and what is of use in it then.
const FILES: [(&str, &str); 3] = [
    ("ask", include_str!("ask")),
    ("set-up", include_str!("set-up")),
    ("shell", include_str!("shell")),
];

/// What a machine's root is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    Ext4,
    /// All of it is in the subvolume `@`, but for `/var`, which is in `@var`, as openSUSE has it. `@updated` is a snapshot of `@`
    /// in which the module was emptied in place.
    Btrfs,
}

/// A disk to boot from, and what boots it.
#[derive(Debug, Clone)]
pub struct Image {
    directory: PathBuf,
    pub filesystem: Filesystem,
}

impl Image {
    /// The disk of a machine with modstamp and modstamp-qemu, or without them.
    pub fn new(modstamp: bool, filesystem: Filesystem) -> Image {
        let mut packages = Vec::new();
        if modstamp {
            packages.extend(["modstamp", "modstamp-qemu"].map(deb::built));
        }
        let mut state = blake3::Hasher::new();
        let made_of = format!("{FILES:?} {COPY} {PACKAGES:?} {MODULE} {filesystem:?}");
        state.update(made_of.as_bytes());
        for package in &packages {
            state.update(&std::fs::read(package).unwrap());
        }
        let state = &state.finalize().to_hex()[..16];
        let name = format!("{filesystem:?}-{state}").to_lowercase();
        let directory = kept().join("lab").join(name);
        let image = Image {
            directory,
            filesystem,
        };
        image.make(&packages);
        image
    }

    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    pub fn kernel(&self) -> PathBuf {
        self.directory.join("kernel")
    }

    pub fn initrd(&self) -> PathBuf {
        self.directory.join("initrd")
    }

    /// A directory with QEMU's modules.
    pub fn modules(&self) -> PathBuf {
        self.directory.join("modules")
    }

    /// Makes it where it is not there. One at a time, here and in other processes.
    fn make(&self, packages: &[PathBuf]) {
        let lab = kept().join("lab");
        std::fs::create_dir_all(&lab).unwrap();
        let lock = std::fs::File::create(lab.join("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        if self.directory.exists() {
            run(Command::new("touch").arg(&self.directory));
            return;
        }
        let old = "find \"$1\" -mindepth 1 -maxdepth 1 -name '*-*' -mmin +180 -exec rm -r {} +";
        run(Command::new("sh").args(["-ec", old, "sh"]).arg(&lab));

        let machine = Machine::new("trixie", &PACKAGES);
        for package in packages {
            machine.put(package, &format!("/tmp/{}", name(package)));
        }
        if !packages.is_empty() {
            machine.sh("dpkg --install /tmp/*.deb");
        }
        for (name, text) in FILES {
            let file = machine.root.join("usr/local/lib/lab").join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        machine.sh("sh /usr/local/lib/lab/set-up");
        let new = self.directory.with_extension("new");
        run(Command::new("sh")
            .args(["-ec", COPY, "sh"])
            .arg(format!("{:?}", self.filesystem).to_lowercase())
            .args([&machine.root, &machine.beside("copy"), &new])
            .args([&*deb::MODULES, MODULE]));
        std::fs::rename(new, &self.directory).unwrap();
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Makes a disk of the file system `$1` from what is below `$2` and not mounted there; `$3` is a place to mount at. What boots is
/// kept beside the disk, in `$4`, and also what is below `$5`, where QEMU has its modules. `$6` is the module under test.
const COPY: &str = r#"
    rm -rf "$4"
    mkdir "$4" "$3" "$3/from" "$3/to"
    cp "$2"/run/initrd.cpio "$4/initrd"
    cp "$2"/boot/vmlinuz-* "$4/kernel"
    cp -a "$2$5" "$4/modules"
    mount --bind "$2" "$3/from"
    truncate -s 4G "$4/disk"
    case $1 in
    ext4)
        mkfs.ext4 -q -d "$3/from" "$4/disk"
        ;;
    btrfs)
        mkfs.btrfs -q "$4/disk"
        mount -o loop "$4/disk" "$3/to"
        btrfs -q subvolume create "$3/to/@"
        btrfs -q subvolume create "$3/to/@var"
        cp -a "$3/from/." "$3/to/@"
        cp -a "$3/to/@/var/." "$3/to/@var"
        find "$3/to/@/var" -mindepth 1 -delete
        btrfs -q subvolume snapshot "$3/to/@" "$3/to/@updated"
        : > "$3/to/@updated$5/$6"
        ;;
    esac
    if mountpoint -q "$3/to"; then umount "$3/to"; fi
    umount "$3/from"
"#;
