//! `modstamp touch`: a person or a script tells of a change.

use std::process::ExitCode;

use modstamp::Stamp;
use modstamp::trigger::Due;

use super::{Sync, Which, end, say, say_left_to_first_boot};

/// Make every cached answer of the profile stale
///
/// For root, and with --root, this touches the system's stamp, /var/lib/modstamp/PROFILE.stamp.
/// That also makes libvirt probe again, if the profile says so. Other users touch their own stamp,
/// ~/.local/state/modstamp/PROFILE.stamp.
///
/// While an image is built (SOURCE_DATE_EPOCH is set), it makes no first stamp and writes nothing
/// else. The first update on a host with that image makes the stamp.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 if touched, 1 if not, 2 if the arguments are wrong")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The reason, for people who look at the stamp later
    #[arg(long, value_name = "TEXT", default_value = "touched by hand")]
    reason: String,
    #[command(flatten)]
    sync: Sync,
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
        let durability = self.sync.durability();
        let due = Due::now(profile.name(), stamp, &by, &self.reason);
        let mut warnings = Vec::new();
        let touched = profile.touch_due(&due, &[], durability, &mut warnings);
        for warning in warnings {
            say("warning: ", warning);
        }
        match &touched? {
            Some(touched) => touched
                .warnings()
                .for_each(|warning| say("warning: ", warning)),
            None => say_left_to_first_boot(),
        }
        Ok(ExitCode::SUCCESS)
    }
}
