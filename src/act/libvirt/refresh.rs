//! A refresh: makes every libvirt on the host probe again at its next look-up. It reaches the
//! daemons of all users, those that run now and those that start later.

use std::path::PathBuf;
use std::time::Instant;

use crate::act::libvirt::before::Before;
use crate::act::libvirt::judgement::is_outdated;
use crate::act::libvirt::last_refresh::{LastRecord, LastRefresh, LastSecond};
use crate::act::libvirt::occasion::Occasion;
use crate::act::libvirt::record::Record;
use crate::act::libvirt::refreshed::Refreshed;
use crate::act::libvirt::system_refresh::SystemRefresh;
use crate::ground::error::Result;
use crate::ground::time::Deadline;
use crate::judge::witness::Witness;
use crate::observe::inputs::Inputs;
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Durability, Stamp};
use crate::stamp::turn::{Kept, Versioned};

/// Makes every libvirt probe again for its answers about `profile`'s programs.
///
/// It moves the module directories that libvirt watches to a second that they never had. If one is
/// gone or cannot be moved, it moves the ctimes of the programs, by a chmod to the mode that each
/// has. If that fails too, as on a read-only `/usr`, it removes stale files from the system
/// daemon's cache.
///
/// # Errors
/// If the caller may do none of this, or if libvirt caches nothing of the profile's programs.
pub fn refresh(profile: &Profile, durability: Durability) -> Result<Refreshed> {
    let begun = Instant::now();
    let profile = &profile.of_packages();
    let mut done = asked_for(profile, durability)?;
    done.log(&system_stamp(profile)?, begun.elapsed());
    Ok(done)
}

/// Like [`refresh`], for a caller that writes the log.
pub(crate) fn asked_for(profile: &Profile, durability: Durability) -> Result<Refreshed> {
    // Look before any move, so that every later probe sees inputs at least as new. Look before
    // taking the turn, so that no touch waits for the look.
    let stamp = &system_stamp(profile)?;
    let look = || Before::look(profile, stamp, Occasion::Hand);
    let seen = stamp.look(Kept::LibvirtRecord, look)?;
    let deadline = Deadline::of_touch();
    let refresh = SystemRefresh::begin(Occasion::Hand, profile, stamp, durability, deadline)?;
    Ok(refresh.run(seen, &[])?.unwrap_or_default())
}

/// Like [`refresh`], for a caller that already holds the inputs and has touched the stamp.
///
/// `directories` are the module directories that changed, if a package manager named any. If not,
/// those that libvirt watches are moved. The wait for a turn ends at `deadline`.
pub(crate) fn refresh_too(
    profile: &Profile,
    inputs: Inputs,
    directories: &[PathBuf],
    durability: Durability,
    deadline: Deadline,
) -> Result<Refreshed> {
    let stamp = &system_stamp(profile)?;
    let last = stamp.look(Kept::LibvirtRecord, || Ok(LastRefresh::read(stamp)))?;
    let seen = last.map(|last| Before::of(inputs, last, Occasion::Touch));
    let refresh = SystemRefresh::begin(Occasion::Touch, profile, stamp, durability, deadline)?;
    Ok(refresh.run(seen, directories)?.unwrap_or_default())
}

/// Like [`refresh`], but does nothing and returns `None` if all is as at the last refresh.
pub(crate) fn update(
    profile: &Profile,
    inputs: Inputs,
    durability: Durability,
) -> Result<Option<Refreshed>> {
    let stamp = &system_stamp(profile)?;
    let last = stamp.look(Kept::LibvirtRecord, || Ok(LastRefresh::read(stamp)))?;
    if !is_outdated(last.value.record.known(), &inputs) {
        complete(last, profile, stamp, &inputs, durability);
        return Ok(None);
    }
    let seen = last.map(|last| Before::of(inputs, last, Occasion::Update));
    let deadline = Deadline::of_touch();
    SystemRefresh::begin(Occasion::Update, profile, stamp, durability, deadline)?.run(seen, &[])
}

/// Spares later looks a reading: keeps a witness of the same contents that has better evidence.
///
/// A failure costs only that reading.
fn complete(
    last: Versioned<LastRefresh>,
    profile: &Profile,
    stamp: &Stamp,
    inputs: &Inputs,
    durability: Durability,
) {
    let record = last.value.record.known();
    let Some(witness) = record.and_then(|record| record.witness.completed(profile, inputs)) else {
        return;
    };
    let LastSecond::Chosen(second) = last.value.second else {
        return;
    };
    let turn = stamp.take_turn_if_unchanged(&last);
    if let (Some(turn), LastRecord::Read(record)) = (turn, last.value.record) {
        let stamps = record.witness.observation.stamps;
        let observation = Observation {
            stamps,
            ..witness.observation
        };
        let record = Record {
            witness: Witness { observation },
            ..*record
        };
        let _ = record.write(&turn, Some(second), durability);
    }
}

fn system_stamp(profile: &Profile) -> Result<Stamp> {
    Stamp::system(profile.root(), profile.name())
}
