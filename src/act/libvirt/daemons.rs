//! The running daemons of libvirt, which may hold an older answer in memory.

use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::files::root::Root;

/// The daemons that probe QEMU: the one for all drivers, and the one for QEMU alone.
const NAMES: [&str; 2] = ["libvirtd", "virtqemud"];

/// Names the running daemons that may hold an older answer in memory, one sentence for each.
///
/// Root sees the daemons of all users, everybody else their own. A daemon of another root
/// directory, such as a container's, has other programs and is left out.
pub fn daemons(root: &Root) -> Vec<String> {
    if !root.is_system() {
        return Vec::new();
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(daemon).collect()
}

/// The sentence about one process of `/proc`. `None` if it is no such daemon.
fn daemon(process: DirEntry) -> Option<String> {
    let pid: u32 = process.file_name().to_str()?.parse().ok()?;
    let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
    let name = name.trim_end();
    NAMES.contains(&name).then_some(())?;
    let is_here = identity(&process.path().join("root")) == identity(Path::new("/"));
    is_here.then_some(())?;
    let user = process.metadata().ok()?.uid();
    let me = rustix::process::geteuid();
    (me.is_root() || me.as_raw() == user).then_some(())?;
    let user = match user {
        0 => "root".to_owned(),
        user => format!("user {user}"),
    };
    Some(format!(
        "{name} of {user}, process {pid}, may hold an older answer in memory; \
         restart it, which leaves guests running"
    ))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(path).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
