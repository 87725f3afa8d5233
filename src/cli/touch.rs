//! `modstamp touch`: a person or a script says that something changed.

use std::process::ExitCode;

use modstamp::{Durability, Stamp};

use super::{Which, end, say, say_left_to_first_boot};

/// Say that something changed: every cache of the profile is asked again
///
/// Moves the system's stamp, /var/lib/modstamp/PROFILE.stamp, for root and below --root, and your own,
/// ~/.local/state/modstamp/PROFILE.stamp, for everybody else. With the system's, libvirt is made to ask again, too, where
/// the profile says so.
///
/// While an image is built (SOURCE_DATE_EPOCH is set) no first stamp is made, and nothing else is written: the first update on a
/// host with that image makes it.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 if touched, 1 if not, 2 if the arguments are wrong")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Why, for those who look at the stamp later
    #[arg(long, value_name = "TEXT", default_value = "touched by hand")]
    reason: String,
    /// Leave it to the system, or to a later touch, to write it to disk
    #[arg(long)]
    no_sync: bool,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.touch(), 1)
    }

    fn touch(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let user = rustix::process::geteuid().as_raw();
        let by = match std::env::var("SUDO_USER") {
            Ok(name) if user == 0 => format!("user 0, as {name} by sudo"),
            _ => format!("user {user}"),
        };
        let stamp = Stamp::own(profile.root(), profile.name())?;
        let durability = durability(self.no_sync);
        let touched = profile.touch(&stamp, &by, &self.reason, &[], durability)?;
        match &touched {
            Some(touched) => touched
                .warnings()
                .for_each(|warning| say("warning: ", warning)),
            None => say_left_to_first_boot(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub fn durability(no_sync: bool) -> Durability {
    match no_sync {
        true => Durability::NotSynced,
        false => Durability::Synced,
    }
}
