//! The caller's own cache, if no time could be moved, as on a read-only `/usr`. Root's refresh then
//! removes stale files from the system's cache alone. So each user's update does it for their own.

use crate::act::libvirt::cached::Cached;
use crate::act::libvirt::daemons::daemons;
use crate::act::libvirt::judgement::is_outdated;
use crate::act::libvirt::kind::Kind;
use crate::act::libvirt::last_refresh::LastRecord;
use crate::act::libvirt::moved::TimeOf;
use crate::act::libvirt::record::{Effect, Reached, Record};
use crate::act::libvirt::refreshed::Refreshed;
use crate::ground::error::Result;
use crate::judge::witness::Witness;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Durability, Owner, Stamp};

/// Removes stale files from the caller's own cache, if no moved time makes libvirt reject them.
///
/// Keeps a record beside `stamp`, the caller's own. The next update judges by it. `None` if there
/// is nothing to do.
pub(crate) fn update_own(
    profile: &Profile,
    inputs: Inputs,
    stamp: &Stamp,
    durability: Durability,
) -> Result<Option<Refreshed>> {
    let kind = Kind::of(profile)?;
    let system = LastRecord::read(&Stamp::system(profile.root(), profile.name())?);
    if system.known().is_some_and(Record::tells_all) {
        return Ok(None);
    }
    let own = LastRecord::read(stamp);
    if !is_outdated(own.known(), &inputs) {
        return Ok(None);
    }
    let known = own.known().into_iter().chain(system.known());
    let known: Vec<_> = known.map(|known| &known.witness.observation).collect();
    let observation = inputs.clone().read(Depth::All, &known);
    let directories = inputs.module_directories();
    let mtimes = directories.filter_map(|(path, _)| TimeOf::mtime(profile.root(), path));
    let left = mtimes.collect();
    let mut done = Refreshed::default();
    let cached = Cached::of(kind, profile, system, inputs);
    let reached = match done.evict(cached, Owner::User) {
        true => Reached::ByEviction,
        false => Reached::Partly,
    };
    if !done.evicted.is_empty() {
        done.warnings.extend(daemons(profile.root()));
    }
    let record = Record {
        owner: Owner::User,
        effect: Effect {
            reached,
            moved: Vec::new(),
            left,
            changed: Vec::new(),
        },
        witness: Witness { observation },
    };
    done.keep(&record, &stamp.take_turn()?, None, durability);
    Ok(Some(done))
}
