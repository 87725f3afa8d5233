//! Whether the kernel's limits leave room for systemd's watches.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::act::doctor::host::Host;
use crate::act::doctor::names::INOTIFY;
use crate::act::doctor::report::{Checked, Examination, Seen};
use crate::act::doctor::units::{profiles, watch};

/// The instances that the units of `qemu` need, with some to spare. systemd takes an instance for
/// each path of a unit (`path_spec_watch`, core/path.c).
const INSTANCES: usize = 16;

/// The watches that these units need. Most directories of a profile are missing. systemd then
/// watches each directory on the way to the missing one.
const WATCHES: usize = 64;

/// The kernel's usual limits.
const USUAL_INSTANCES: usize = 128;
const USUAL_WATCHES: usize = 8192;

/// The most descriptors that are looked at.
const MOST_LOOKS: usize = 50_000;

/// Checks that the running kernel's limits leave room for systemd's watches.
///
/// Both limits are per user (inotify(7)). The instances run out first, because many of root's
/// programs take some. systemd's own instances do not count: systemd gives those of a unit back
/// before it takes new ones. An ordinary user sees no instances of others. For such a user, only
/// the limits are checked.
pub(crate) fn inotify(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let profiles = profiles(host)?;
    let Some(profile) = profiles.first().filter(|_| host.root.is_system()) else {
        return Ok(Checked::NothingHere);
    };
    let unit = watch(profile).whole;
    let why = format!("{unit} may not start, so nothing would watch the modules");
    let mut checked = Checked::NothingHere;
    let limits = [
        ("max_user_instances", INSTANCES, USUAL_INSTANCES),
        ("max_user_watches", WATCHES, USUAL_WATCHES),
    ];
    for (name, least, usual) in limits {
        let path = Path::new("/proc/sys/fs/inotify").join(name);
        let text = host.text(&path)?.unwrap_or_default();
        let Ok(limit) = text.trim().parse::<usize>() else {
            continue;
        };
        checked = Checked::Made;
        let used = match name {
            "max_user_instances" => instances_of_others(),
            _ => 0,
        };
        if limit.saturating_sub(used) < least {
            let in_use = match used {
                0 => String::new(),
                used => format!(", and programs other than systemd use up to {used}"),
            };
            report.finding(
                INOTIFY,
                format!("fs.inotify.{name} is {limit}{in_use}, which leaves less than {least}"),
                why.clone(),
                format!("sysctl -w fs.inotify.{name}={}", used + usual),
            );
        }
    }
    Ok(checked)
}

/// The instances that root's processes other than systemd have, as far as they can be seen. One that
/// several processes share counts for each: the kernel does not tell them apart.
fn instances_of_others() -> usize {
    let processes = names(Path::new("/proc"));
    let processes = processes.filter(|name| name.parse().is_ok_and(|number: u32| number > 1));
    let descriptors = processes.flat_map(|process| {
        let process = Path::new("/proc").join(process);
        let is_roots = std::fs::metadata(&process).is_ok_and(|it| it.uid() == 0);
        let descriptors = process.join("fd");
        let names = is_roots.then(|| names(&descriptors)).into_iter().flatten();
        let links = names
            .take(MOST_LOOKS)
            .map(|name| std::fs::read_link(descriptors.join(name)));
        links.collect::<Vec<_>>()
    });
    let instance = Path::new("anon_inode:inotify");
    let looked = descriptors.take(MOST_LOOKS).flatten();
    looked.filter(|target| target == instance).count()
}

/// The names in a directory. If it cannot be listed, there are none: its process may have ended.
fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
