//! Caches of other programs that a profile names: whether one is stale, though it was to be kept
//! fresh.
//!
//! Profiles come for many programs, and nobody needs all of them. So a stale cache is a finding
//! only if somebody wants it fresh: it was made good once, or a unit of its profile is enabled. A
//! caller is told of caches that the caller makes good, and of each remedy that failed.

use crate::act::doctor::host::{Host, InUse};
use crate::act::doctor::names::CACHE;
use crate::act::doctor::report::{Checked, Examination, Remedy, Seen, Step};
use crate::act::doctor::units;
use crate::act::remedy::standing::{CacheStatus, Staleness};
use crate::observe::foreign_cache::Remedy as OfCache;
use crate::stamp::stamp::{Owner, Stamp};
use crate::stamp::turn::Kept;

/// Checks the caches of each profile of which something is installed.
pub(crate) fn caches(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let mut checked = Checked::NothingHere;
    for it in &host.in_use {
        let mut caches = it.profile.caches.iter();
        // `libvirt::answers` looks at libvirt's own.
        if caches.any(|cache| cache.remedy != OfCache::Libvirt) {
            checked = Checked::Made;
            let looked = check_profile(host, it, report);
            report.seen(CACHE, looked);
        }
    }
    Ok(checked)
}

fn check_profile(host: &Host, it: &InUse, report: &mut Examination) -> Seen<()> {
    if !is_record_seen(host, it)? {
        return Ok(());
    }
    let caches = it.profile.foreign_caches();
    for owner in [Owner::System, Owner::User] {
        let mut is_touched = false;
        for cache in caches.iter().filter(|cache| cache.owner == owner) {
            let Some(why) = why_wanted(host, it, cache)? else {
                continue;
            };
            is_touched |= why == Staleness::Touched;
            tell(it, cache, why, report);
        }
        if is_touched {
            units::note_if_none(host, it.name(), owner, report)?;
        }
    }
    Ok(())
}

/// Whether the stamps and the records of remedies can be judged by. If they cannot, any cache may
/// be fresh.
fn is_record_seen(host: &Host, it: &InUse) -> Seen<bool> {
    let own = Stamp::user(&host.root, it.name()).ok().flatten();
    let own = own.filter(|_| owner_of_caller(host) == Owner::User);
    for stamp in [&it.stamp].into_iter().chain(&own) {
        if let Err(error) = stamp.mtime() {
            // `stamps::exist` finds a stamp that is none.
            return host.blind_by(&error).map_or(Ok(false), Err);
        }
        let record = stamp.directory.join(Kept::RemedyRecord.name(stamp));
        let looked = stamp.find_kept(Kept::RemedyRecord);
        looked.map_err(|cause| host.blind("read", &record, &cause))?;
    }
    Ok(true)
}

/// Why a cache is stale; `None` if it is fresh, or if nobody wants it fresh now.
fn why_wanted(host: &Host, it: &InUse, cache: &CacheStatus) -> Seen<Option<Staleness>> {
    let why = cache.stale;
    let is_wanted = match why {
        None => false,
        Some(Staleness::Failed) => return Ok(why),
        _ if cache.owner != owner_of_caller(host) => false,
        // The first update of that system runs the command.
        _ if cache.is_by_command && !host.root.is_system() => false,
        Some(Staleness::Touched) => true,
        // `foreign_caches` asks the stamps alone, and other findings are about the modules.
        Some(Staleness::Changed | Staleness::Unknown) => false,
        Some(Staleness::Never) => units::is_any_enabled(host, it.name(), cache.owner)?,
    };
    if !is_wanted {
        return Ok(None);
    }
    // A profile names the places of several distributions. Where no file is, nothing is stale.
    match (cache.files.is_empty(), cache.errors.first()) {
        (false, _) => Ok(why),
        (true, None) => Ok(None),
        (true, Some(error)) => Err(host.blind_because(error)),
    }
}

/// Whose caches the caller makes good.
fn owner_of_caller(host: &Host) -> Owner {
    match rustix::process::geteuid().is_root() || !host.root.is_system() {
        true => Owner::System,
        false => Owner::User,
    }
}

fn tell(it: &InUse, cache: &CacheStatus, why: Staleness, report: &mut Examination) {
    let (name, files) = (it.name(), &cache.cache);
    let failed = cache.last.as_ref().filter(|_| why == Staleness::Failed);
    let failed = failed.map(|last| format!(": {}", last.what));
    let command = format!("modstamp refresh --stale --profile {name}");
    // An ordinary user's refresh leaves the system's caches alone.
    let remedy = Remedy::steps([match cache.owner {
        Owner::System => Step::Root(command),
        Owner::User => Step::Own(command),
    }]);
    report.finding(
        CACHE,
        format!(
            "the cache {files} of the profile {name} is stale: {why}{}",
            failed.unwrap_or_default()
        ),
        "a program that reads it may miss plug-ins, or look for some that are gone",
        remedy,
    );
}
