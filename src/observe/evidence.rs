//! When equal stat identities prove that nothing changed, and when they do not.
//!
//! A stat identity is the device, inode, type, permissions, owner, size, mtime and ctime of a file,
//! as stat(2) tells them. It is evidence because the kernel sets the ctime by its own clock at
//! every change. Nobody can put it back. It is no evidence
//!
//! - if the ctime is so near to the observation that a later change could get the same one (git
//!   calls such entries racy);
//! - if the write that set the ctime could still be under way;
//! - on file systems whose ctimes this kernel does not keep: over the network, in user space, on
//!   FAT;
//! - on an image whose maker chose all ctimes (erofs, squashfs, anything mounted read-only, an
//!   overlay of such), once it is mounted anew.
//!
//! Without evidence the content decides.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Stat, StatVfsMountFlags, Statx, StatxFlags};

use crate::ground::time::Mtime;
use crate::observe::boot;
use crate::observe::tick::{Tick, end};

/// The longest time in seconds that a single write may take after it set the times.
const WRITING: i64 = 3;

/// Asks statx(2) for a mount number that no later mount gets.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

/// File systems whose ctimes this machine's own kernel keeps, by their `*_SUPER_MAGIC` in
/// linux/magic.h.
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

/// overlayfs.
const OVERLAY: u32 = 0x794C_7630;

/// File systems that show the content of an image.
const IMAGES: [u32; 5] = [
    0xE0F5_E1E2, // erofs
    0x7371_7368, // squashfs
    OVERLAY,
    0x0000_9660, // iso9660
    0x28CD_3D45, // cramfs
];

/// A stat identity as a number, and what it proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// An equal one proves that nothing changed.
    Evidence(u64),
    /// An equal one proves nothing. A different one shows that something was touched.
    Seen(u64),
    /// A later one shows nothing: nobody could look, or the look was too near to a change.
    Unknown,
}

impl Identity {
    /// Whether this identity and the one of now prove that nothing changed.
    pub(crate) fn proves(self, now: Identity) -> bool {
        matches!(self, Identity::Evidence(_)) && self == now
    }

    /// The number, whatever it proves.
    pub(crate) fn fingerprint(self) -> Option<u64> {
        match self {
            Identity::Evidence(fingerprint) | Identity::Seen(fingerprint) => Some(fingerprint),
            Identity::Unknown => None,
        }
    }

    /// The number, if an equal one proves that nothing changed.
    pub(crate) fn evidence(self) -> Option<u64> {
        match self {
            Identity::Evidence(fingerprint) => Some(fingerprint),
            Identity::Seen(_) | Identity::Unknown => None,
        }
    }

    /// The same number, but no longer as evidence.
    pub(crate) fn merely_seen(self) -> Identity {
        self.fingerprint().map_or(Identity::Unknown, Identity::Seen)
    }

    /// Both as one: evidence if both are, and unknown if one is.
    pub(crate) fn and(self, other: Identity) -> Identity {
        let (Some(own), Some(others)) = (self.fingerprint(), other.fingerprint()) else {
            return Identity::Unknown;
        };
        let both = hash_numbers([own, others]);
        match (self, other) {
            (Identity::Evidence(_), Identity::Evidence(_)) => Identity::Evidence(both),
            _ => Identity::Seen(both),
        }
    }

    /// This identity with a text folded in.
    pub(crate) fn with(self, text: &[u8]) -> Identity {
        match self {
            Identity::Evidence(fingerprint) => Identity::Evidence(hash(fingerprint, text)),
            Identity::Seen(fingerprint) => Identity::Seen(hash(fingerprint, text)),
            Identity::Unknown => Identity::Unknown,
        }
    }
}

/// File systems in which the kernel shows its own state. Their directories have no end.
const STATE: [u32; 14] = [
    0x0000_9FA0, // proc
    0x6265_6572, // sysfs
    0x0027_E0EB, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xF97C_FF8C, // selinuxfs
    0xCAFE_4A11, // bpf
    0x0000_1CD1, // devpts
    0x4249_4E4D, // binfmt_misc
    0x6573_5543, // fusectl
    0x6759_6969, // rpc_pipefs
];

/// Whether the kernel tells by inotify(7) of every change on a file system of that kind.
///
/// Another host may change a network's. An overlay moves a file to another inode. An image changes
/// only with its mount.
pub(crate) fn is_told(kind: u32) -> bool {
    LOCAL.contains(&kind) || (IMAGES.contains(&kind) && kind != OVERLAY)
}

/// The time for which the stat identities on one file system are evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// For ever.
    Lasting,
    /// As long as this mount lasts. The number identifies it.
    Mount(u64),
    /// Not at all.
    None,
    /// Not at all: the kernel shows its own state there.
    State,
}

/// Makes identities of the results of stat(2).
#[derive(Clone)]
pub(crate) struct Evidence {
    /// The tick of the latest times that were seen.
    pub(crate) tick: Tick,
    /// The reach on each file system that was seen so far, by `st_dev`.
    reaches: Vec<(u64, Reach)>,
}

impl Evidence {
    pub(crate) fn now() -> Evidence {
        Evidence {
            tick: Tick::begin(),
            reaches: Vec::new(),
        }
    }

    /// Adds the times that a part of the look saw. The part began with a clone of this evidence.
    pub(crate) fn join(&mut self, part: Evidence) {
        self.tick = self.tick.or_later(part.tick);
    }

    /// The identity that `stat` gives. `place` opens anything on its file system. It is called once
    /// for each file system.
    #[inline]
    pub(crate) fn identity<F: AsFd>(
        &mut self,
        stat: &Stat,
        place: impl FnOnce() -> Option<F>,
    ) -> Identity {
        let (mount, is_lasting) = match self.reach(stat.st_dev, place) {
            Reach::Lasting => (0, true),
            Reach::Mount(mount) => (mount, true),
            Reach::None | Reach::State => (0, false),
        };
        let fingerprint = hash_numbers([
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
        ]);
        match self.is_settled(stat) && is_lasting {
            true => Identity::Evidence(fingerprint),
            false => Identity::Seen(fingerprint),
        }
    }

    /// Whether the kernel shows its own state on the file system of `directory`.
    pub(crate) fn is_state(&mut self, stat: &Stat, directory: BorrowedFd<'_>) -> bool {
        self.reach(stat.st_dev, || Some(directory)) == Reach::State
    }

    #[inline]
    fn reach<F: AsFd>(&mut self, device: u64, place: impl FnOnce() -> Option<F>) -> Reach {
        let known = self.reaches.iter().find(|(known, _)| *known == device);
        if let Some((_, reach)) = known {
            return *reach;
        }
        let reach = place().map_or(Reach::None, |place| reach(place.as_fd()));
        self.reaches.push((device, reach));
        reach
    }

    /// Whether a later change must get another ctime than this one, and no write is under way.
    #[inline]
    fn is_settled(&mut self, stat: &Stat) -> bool {
        let ctime = Mtime::of_ctime(stat);
        let begun = self.tick.begun();
        // write(2) sets both times when it begins, and may go on for a while. A package manager
        // sets the mtime when it is done.
        let is_young = ctime.seconds() >= begun.seconds() - WRITING;
        let may_be_written = is_young && Mtime::of(stat) == ctime;
        let is_settled = end(ctime) <= begun && !may_be_written;
        if !is_settled {
            self.tick.see(ctime);
        }
        is_settled
    }
}

/// Bytes as one number, by XXH3: some nanoseconds, and the same in every build.
///
/// It need not be cryptographic: a user that can choose the bytes can change the modules. BLAKE3
/// first asks the processor for its features, which in a virtual machine takes longer than a check.
#[inline]
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// Like [`hash`], of several numbers.
#[inline]
pub(crate) fn hash_numbers<const N: usize>(numbers: [u64; N]) -> u64 {
    let bytes = numbers.map(u64::to_le_bytes);
    hash(0, bytes.as_flattened())
}

/// Identifies the mount that `place` is on. Compare stat identities only if their epochs are equal.
/// `None` if the identities there are no evidence.
#[cfg(feature = "libvirt")]
pub(crate) fn epoch(place: BorrowedFd<'_>) -> Option<u64> {
    let mount = match reach(place) {
        Reach::Lasting => 0,
        Reach::Mount(mount) => mount,
        Reach::None | Reach::State => return None,
    };
    let stat = rustix::fs::fstat(place).ok()?;
    Some(hash_numbers([mount, stat.st_dev]))
}

fn reach(place: BorrowedFd<'_>) -> Reach {
    let Ok(statfs) = rustix::fs::fstatfs(place) else {
        return Reach::None;
    };
    let kind = statfs.f_type as u32;
    // statfs(2): the flags are those of statvfs(3).
    let flags = StatVfsMountFlags::from_bits_retain(statfs.f_flags as u64);
    let is_read_only = flags.contains(StatVfsMountFlags::RDONLY);
    if LOCAL.contains(&kind) && !is_read_only {
        return Reach::Lasting;
    }
    if LOCAL.contains(&kind) || IMAGES.contains(&kind) {
        return mount(place).map_or(Reach::None, Reach::Mount);
    }
    match STATE.contains(&kind) {
        true => Reach::State,
        false => Reach::None,
    }
}

/// Identifies this mount in this boot. `None` before Linux 6.8, which has no unique mount numbers.
fn mount(place: BorrowedFd<'_>) -> Option<u64> {
    let wanted = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let statx = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, wanted).ok()?;
    let number = unique_number(&statx)?;
    Some(hash(number, &boot::identity()?))
}

/// The number of a mount. `None` if a later mount may get the same number.
fn unique_number(statx: &Statx) -> Option<u64> {
    (statx.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(statx.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use rustix::fs::MemfdFlags;

    const NOWHERE: fn() -> Option<OwnedFd> = || None;

    /// A device number that no test shows to [`reach`].
    const LOCAL_DISK: u64 = 1;

    /// The result of stat for a file on the local disk, which a package manager installed long ago.
    fn settled() -> Stat {
        let mut stat = rustix::fs::stat("/").unwrap();
        stat.st_dev = LOCAL_DISK;
        (stat.st_mtime, stat.st_mtime_nsec) = (1_000_000_000, 0);
        (stat.st_ctime, stat.st_ctime_nsec) = (1_700_000_000, 123_456_789);
        stat
    }

    /// A look that knows the local disk.
    fn look() -> Evidence {
        let mut look = Evidence::now();
        look.reaches.push((LOCAL_DISK, Reach::Lasting));
        look
    }

    fn is_evidence(look: &mut Evidence, stat: &Stat) -> bool {
        look.identity(stat, NOWHERE).evidence().is_some()
    }

    fn changed_at(ctime: Mtime) -> Stat {
        let mut stat = settled();
        stat.st_ctime = ctime.seconds();
        stat.st_ctime_nsec = ctime.nanoseconds().into();
        stat
    }

    #[test]
    fn a_change_in_the_tick_of_the_look_is_no_evidence_and_the_look_is_racy() {
        let mut look = look();
        assert!(is_evidence(&mut look, &settled()));
        assert!(!look.tick.is_racy());
        let begun = look.tick.begun();
        assert!(!is_evidence(&mut look, &changed_at(begun)));
        assert!(look.tick.is_racy());
    }

    #[test]
    fn a_file_that_may_still_be_written_is_no_evidence() {
        let mut look = look();
        let begun = look.tick.begun();
        let written = |ago: i64| {
            let mut stat = changed_at(begun.plus(-ago, 1));
            (stat.st_mtime, stat.st_mtime_nsec) = (stat.st_ctime, stat.st_ctime_nsec);
            stat
        };
        for ago in [1, WRITING] {
            assert!(!is_evidence(&mut look, &written(ago)), "{ago}");
        }
        assert!(is_evidence(&mut look, &written(WRITING + 2)));
        // A package manager gave it its mtime, so it is done.
        let installed = changed_at(begun.plus(-1, 1));
        assert!(is_evidence(&mut look, &installed));
    }

    #[test]
    fn an_identity_is_no_evidence_on_an_unknown_file_system_beside_a_known_one() {
        let mut look = look();
        let mut stat = settled();
        stat.st_dev = LOCAL_DISK + 1;
        let identity = look.identity(&stat, NOWHERE);
        assert!(matches!(identity, Identity::Seen(_)), "{identity:?}");
        assert!(is_evidence(&mut look, &settled()));
    }

    #[test]
    fn an_identity_differs_with_each_number_that_stat_tells() {
        let changes: [fn(&mut Stat); 10] = [
            |stat| stat.st_dev += 1,
            |stat| stat.st_ino += 1,
            |stat| stat.st_mode ^= 0o4000,
            |stat| stat.st_uid += 1,
            |stat| stat.st_gid += 1,
            |stat| stat.st_size += 1,
            |stat| stat.st_mtime += 1,
            |stat| stat.st_mtime_nsec += 1,
            |stat| stat.st_ctime += 1,
            |stat| stat.st_ctime_nsec += 1,
        ];
        let fingerprint = |stat: &Stat| look().identity(stat, NOWHERE).fingerprint();
        for (index, change) in changes.into_iter().enumerate() {
            let mut stat = settled();
            change(&mut stat);
            assert_ne!(fingerprint(&stat), fingerprint(&settled()), "{index}");
        }
    }

    #[test]
    fn a_writable_local_file_system_lasts_and_the_kernel_s_own_state_is_no_evidence() {
        let memory = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(reach(memory.as_fd()), Reach::Lasting);
        let state = File::open("/proc").unwrap();
        assert_eq!(reach(state.as_fd()), Reach::State);
        #[cfg(feature = "libvirt")]
        {
            assert!(epoch(memory.as_fd()).is_some());
            assert_eq!(epoch(state.as_fd()), None);
        }
    }

    #[test]
    fn two_mounts_never_pass_for_one() {
        let [one, other] = ["/", "/proc"].map(|path| File::open(path).unwrap());
        if let (Some(one), Some(other)) = (mount(one.as_fd()), mount(other.as_fd())) {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_mount_number_counts_only_if_the_kernel_says_that_it_is_unique() {
        let file = File::open("/").unwrap();
        let mut statx =
            rustix::fs::statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).unwrap();
        statx.stx_mnt_id = 7;
        statx.stx_mask = !STATX_MNT_ID_UNIQUE;
        assert_eq!(unique_number(&statx), None);
        statx.stx_mask = STATX_MNT_ID_UNIQUE;
        assert_eq!(unique_number(&statx), Some(7));
    }
}
