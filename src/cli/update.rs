//! `modstamp update`: a touch where no trigger made one.

use std::process::ExitCode;

use super::libvirt::lines;
use super::{MOST_LINES, Which, end, print, say, say_left_to_first_boot, touch::durability};

/// Touch the stamp only if the modules are not what they were at its last touch: for boot, timers and “make install”
///
/// What they were then is kept beside the stamp; where it is lost, the stamp is touched. For root and below --root, libvirt is made to
/// ask again, too, where the profile says so, if anything changed since it was last made to. For everybody else, the own
/// stamp is touched where the system's does not say it already, and what is stale is removed from the own cache of
/// libvirt where root could move no time, as on a read-only /usr.
///
/// While an image is built (SOURCE_DATE_EPOCH is set) no first stamp is made, and nothing else is written: the first update on a
/// host with that image makes it.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all is as at the last touch or was touched, 1 if that failed or cannot be remembered, 2 if the arguments are wrong"
)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Leave it to the system, or to a later touch, to write it to disk
    #[arg(long)]
    no_sync: bool,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.update(), 1)
    }

    fn update(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let Some(done) = profile.update(durability(self.no_sync))? else {
            say_left_to_first_boot();
            return Ok(ExitCode::SUCCESS);
        };
        let refreshed = done.refreshed();
        done.warnings()
            .for_each(|warning| say("warning: ", warning));
        done.errors.iter().for_each(|error| say("", error));
        let is_well = done.errors.is_empty() && refreshed.is_none_or(|done| done.is_done);

        let mut text = Vec::new();
        let what = match done.touched {
            Some(_) => "touched the stamp",
            None => "not touched",
        };
        let reasons = done.verdict.reasons_for_people(MOST_LINES);
        text.extend(reasons.iter().map(|reason| format!("{what}: {reason}\n")));
        text.extend(refreshed.into_iter().flat_map(lines));
        if text.is_empty() && is_well {
            text.push("nothing changed since the last touch\n".to_owned());
        }
        print(text.concat())?;
        Ok(match is_well {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}
