//! A mount, as `/proc` tells of it. No server of a file system is asked, so nobody waits for one.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use rustix::fd::{AsRawFd, BorrowedFd};

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub(crate) struct Mount(String);

impl Mount {
    /// The mount that an opened place is on. `None` if `/proc` does not tell.
    pub(crate) fn of(place: BorrowedFd<'_>) -> Option<Mount> {
        let number = number(place)?;
        let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
        let mounts = String::from_utf8_lossy(&mounts);
        let mut mounts = mounts.lines();
        let line = mounts.find(|line| line.split(' ').next() == Some(&*number))?;
        Some(Mount(line.to_owned()))
    }

    /// The user whose program serves the file system (fuse(4)). `None` if the kernel does.
    pub(crate) fn server(&self) -> Option<u32> {
        let (kind, mut options) = self.file_system()?;
        let user = options.find_map(|option| option.strip_prefix("user_id="));
        user.filter(|_| kind.starts_with("fuse"))?.parse().ok()
    }

    /// Whether the file system is read-only by all its mounts.
    pub(crate) fn is_read_only_everywhere(&self) -> bool {
        let options = self.file_system().map(|(_, options)| options);
        options.is_some_and(|mut options| options.any(|option| option == "ro"))
    }

    /// The file system's type, and its own options.
    fn file_system(&self) -> Option<(&str, impl Iterator<Item = &str>)> {
        let (_, own) = self.0.split_once(" - ")?;
        let mut words = own.split(' ');
        let (kind, options) = (words.next()?, words.nth(1)?);
        Some((kind, options.split(',')))
    }
}

/// The number of the mount that an opened place is on (proc_pid_fdinfo(5)).
pub(crate) fn number(place: BorrowedFd<'_>) -> Option<String> {
    let path = format!("/proc/self/fdinfo/{}", place.as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    Some(number.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> Mount {
        Mount(line.to_owned())
    }

    #[test]
    fn a_mount_tells_its_server_and_whether_all_its_mounts_are_read_only() {
        let served = "40 29 0:50 / /var/tmp/a\\040b rw,nosuid - fuse.sshfs h: rw,user_id=1000";
        assert_eq!(mount(served).server(), Some(1000));
        let sandboxed = mount("41 29 8:1 / /srv ro,relatime shared:1 - ext4 /dev/sda1 rw");
        assert_eq!(sandboxed.server(), None);
        assert!(!sandboxed.is_read_only_everywhere());
        assert!(mount("42 29 0:9 / /usr ro - erofs /dev/vda ro,acl").is_read_only_everywhere());
        assert!(!mount("42 29").is_read_only_everywhere());
    }

    #[test]
    fn the_mount_of_an_opened_directory_is_found() {
        let proc = std::fs::File::open("/proc").unwrap();
        let found = Mount::of(std::os::fd::AsFd::as_fd(&proc)).unwrap();
        assert_eq!(found.file_system().unwrap().0, "proc");
    }
}
