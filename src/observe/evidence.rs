//! When equal stat identities show that nothing changed, and when they do not.
//!
//! The identity is what stat(2) says of device, inode, type, permissions, owner, size, mtime and ctime. It is evidence because the kernel sets
//! the ctime by its own clock at every change, and nobody can put it back. So it is none
//!
//! - where the ctime is so near to the observation that a later change could have the same one (git's "racy" entries), or
//!   a write that set it could still be under way;
//! - where the file system does not keep ctimes in that way: over the network, in user space, on FAT;
//! - where an image was made elsewhere, with whatever ctimes its maker chose (erofs, squashfs, anything mounted
//!   read-only, an overlay of such): there only as long as the same image stays mounted in the same boot.
//!
//! Without evidence the content decides.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Stat, StatVfsMountFlags, StatxFlags};

use crate::ground::time::Mtime;
use crate::observe::tick::Tick;

/// How many seconds a single write may take, from when it sets the times until its last byte is there.
const WRITING: i64 = 3;

/// File systems whose ctimes this machine's own kernel keeps (the `*_SUPER_MAGIC` of linux/magic.h).
const LOCAL: [u32; 8] = [
    0x0000_EF53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0xF2F5_2010, // f2fs
    0xCA45_1A4E, // bcachefs
    0x2FC1_2FC1, // zfs
];

/// File systems that show what an image holds.
const IMAGES: [u32; 5] = [
    0xE0F5_E1E2, // erofs
    0x7371_7368, // squashfs
    0x794C_7630, // overlayfs
    0x0000_9660, // iso9660
    0x28CD_3D45, // cramfs
];

/// How far the stat identities on one file system go as evidence.
#[derive(Debug, Clone, Copy)]
enum Reach {
    /// For ever.
    Lasting,
    /// As long as this mount lasts, which the number stands for.
    Mount(u64),
    /// Not at all.
    None,
}

/// Makes fingerprints of stat identities, and says which are evidence.
pub(crate) struct Evidence {
    /// Of the latest times that were seen.
    pub(crate) tick: Tick,
    /// What is known of the file systems seen so far, by `st_dev`.
    reaches: Vec<(u64, Reach)>,
}

impl Evidence {
    pub(crate) fn now() -> Evidence {
        Evidence {
            tick: Tick::begin(),
            reaches: Vec::new(),
        }
    }

    /// The fingerprint of `stat`, and whether it is evidence. `place` is anything on its file system; it is asked for
    /// once for each.
    pub(crate) fn fingerprint<F: AsFd>(
        &mut self,
        stat: &Stat,
        place: impl FnOnce() -> Option<F>,
    ) -> (u64, bool) {
        let known = self
            .reaches
            .iter()
            .find(|(device, _)| *device == stat.st_dev);
        let reach = match known {
            Some((_, reach)) => *reach,
            None => {
                let reach = place().map_or(Reach::None, |place| reach(place.as_fd()));
                self.reaches.push((stat.st_dev, reach));
                reach
            }
        };
        let (mount, reaches) = match reach {
            Reach::Lasting => (0, true),
            Reach::Mount(mount) => (mount, true),
            Reach::None => (0, false),
        };
        let ctime = Mtime::of_ctime(stat);
        let begun = self.tick.begun();
        // write(2) sets both times when it begins, and may go on for a while. A package manager sets the mtime when it is done.
        let may_be_written =
            Mtime::of(stat) == ctime && ctime.seconds() >= begun.seconds() - WRITING;
        let is_settled = crate::observe::tick::end(ctime) <= begun && !may_be_written;
        if !is_settled {
            self.tick.see(ctime);
        }
        let fields = [
            stat.st_dev,
            stat.st_ino,
            u64::from(stat.st_mode),
            u64::from(stat.st_uid) << 32 | u64::from(stat.st_gid),
            stat.st_size as u64,
            stat.st_mtime as u64,
            u64::from(stat.st_mtime_nsec as u32),
            stat.st_ctime as u64,
            u64::from(stat.st_ctime_nsec as u32),
            mount,
        ];
        (hash_numbers(fields), reaches && is_settled)
    }
}

/// Bytes as one number, by XXH3: some nanoseconds, and the same in every build.
///
/// No cryptographic digest: who could choose what goes in could change the modules. That of BLAKE3 first asks the
/// processor what it can do, too, which in a virtual machine takes longer than all the rest of a check.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// The same of several numbers.
pub(crate) fn hash_numbers<const N: usize>(numbers: [u64; N]) -> u64 {
    let bytes = numbers.map(u64::to_le_bytes);
    hash(0, bytes.as_flattened())
}

/// A number for what the stat identities on the file system of `place` can be compared with: those that were seen under the
/// same number. `None` where they are no evidence.
#[cfg(feature = "libvirt")]
pub(crate) fn epoch(place: BorrowedFd<'_>) -> Option<u64> {
    let mount = match reach(place) {
        Reach::Lasting => 0,
        Reach::Mount(mount) => mount,
        Reach::None => return None,
    };
    let stat = rustix::fs::fstat(place).ok()?;
    Some(hash_numbers([mount, stat.st_dev]))
}

fn reach(place: BorrowedFd<'_>) -> Reach {
    let Ok(statfs) = rustix::fs::fstatfs(place) else {
        return Reach::None;
    };
    let kind = statfs.f_type as u32;
    let flags = StatVfsMountFlags::from_bits_retain(statfs.f_flags as u64); // statfs(2): as those of statvfs(3)
    let is_read_only = flags.contains(StatVfsMountFlags::RDONLY);
    if LOCAL.contains(&kind) && !is_read_only {
        return Reach::Lasting;
    }
    if LOCAL.contains(&kind) || IMAGES.contains(&kind) {
        return mount(place).map_or(Reach::None, Reach::Mount);
    }
    Reach::None
}

/// A number for this mount in this boot, which no other gets; `None` before Linux 6.8, which cannot tell.
fn mount(place: BorrowedFd<'_>) -> Option<u64> {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000; // statx(2)
    let wanted = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let statx = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, wanted).ok()?;
    if statx.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return None;
    }
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(hash(statx.stx_mnt_id, &boot))
}
