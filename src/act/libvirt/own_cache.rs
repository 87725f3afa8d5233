//! The caller's own cache on a host where no time could be moved, as on a read-only `/usr`. Root's
//! refresh removes stale files from the system's cache alone, so each user's update does so here.

use crate::act::libvirt::cached::Cached;
use crate::act::libvirt::daemons::daemons;
use crate::act::libvirt::judgement::is_outdated;
use crate::act::libvirt::kind::Kind;
use crate::act::libvirt::moved::TimeOf;
use crate::act::libvirt::record::{Effect, Reached, Record};
use crate::act::libvirt::refresh::{Refreshed, not_kept};
use crate::ground::error::{Error, Result};
use crate::judge::witness::Witness;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Durability, Owner, Stamp};

/// Removes stale files from the caller's own cache, if times cannot tell libvirt that they are.
///
/// It keeps a record beside `stamp`, the caller's own, by which the next update tells them. `None`
/// if there is nothing to do.
pub(crate) fn update_own(
    profile: &Profile,
    inputs: Inputs,
    stamp: &Stamp,
    durability: Durability,
) -> Result<Option<Refreshed>> {
    let kind = Kind::of(profile)?;
    let system = Record::read(&Stamp::system(profile.root(), profile.name())?);
    if system.as_ref().is_some_and(Record::tells_all) {
        return Ok(None);
    }
    let own = Record::read(stamp);
    if !is_outdated(own.as_ref(), &inputs) {
        return Ok(None);
    }
    let known = own.iter().chain(&system);
    let known: Vec<_> = known.map(|known| &known.witness.observation).collect();
    let observation = inputs.read(Depth::All, &known);
    let directories = inputs.module_directories();
    let mtimes = directories.filter_map(|(path, _)| TimeOf::mtime(profile.root(), path));
    let mut record = Record {
        owner: Owner::User,
        effect: Effect {
            reached: Reached::ByEviction,
            moved: Vec::new(),
            left: mtimes.collect(),
            changed: Vec::new(),
        },
        witness: Witness { observation },
    };
    let mut done = Refreshed::default();
    let cached = Cached::of(kind, profile, system, inputs);
    record.effect.reached = evict(cached, profile, &mut done);
    match record.write(&stamp.take_turn()?, None, durability) {
        Ok(()) => done.is_done = record.effect.reached != Reached::Partly,
        Err(cause) => done.warnings.push(not_kept(stamp, cause)),
    }
    Ok(Some(done))
}

/// Removes the stale files, and names the daemons that hold their answers in memory.
fn evict(cached: Cached, profile: &Profile, done: &mut Refreshed) -> Reached {
    let (removed, errors) = cached.evict_stale_of(Owner::User);
    done.warnings.extend(errors.iter().map(Error::to_string));
    if !removed.is_empty() {
        done.warnings.extend(daemons(profile.root()));
    }
    done.evicted = removed;
    match errors.is_empty() {
        true => Reached::ByEviction,
        false => Reached::Partly,
    }
}
