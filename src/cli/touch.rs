//! `modstamp touch`: a person or a script tells of a change.

use modstamp::trigger::Due;
use modstamp::{Owner, Stamp, Touched, caller, printable};

use super::libvirt::lines;
use super::report::Report;
use super::{ExitCode, Sync, Which, cures, end, print, say, say_left_to_first_boot};

/// Make every cached answer of a profile stale, by touching its stamp
///
/// Root, and anybody with --root, touches the system's stamp, /var/lib/modstamp/PROFILE.stamp. That
/// counts for all users. Any other user touches a stamp of their own,
/// ~/.local/state/modstamp/PROFILE.stamp, which counts for them alone.
///
/// If the profile says so, a touch also removes stale caches of other programs, and makes libvirt
/// probe again. It runs no command: “modstamp update” and “modstamp refresh” do.
///
/// While an image is built (SOURCE_DATE_EPOCH is set) and there is no stamp yet, nothing is written.
/// The first “modstamp update” on a host with that image makes the stamp.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 if touched, 1 if not, 2 if the arguments are wrong")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The reason, for people who read the stamp or the log
    #[arg(long, value_name = "TEXT", default_value = "touched by hand", value_parser = reason)]
    reason: String,
    #[command(flatten)]
    sync: Sync,
    /// Print nothing but warnings and errors
    #[arg(long, short)]
    quiet: bool,
    /// Print what was done as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.touch(), 1)
    }

    fn touch(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let by = caller();
        let stamp = Stamp::own(profile.root(), profile.name())?;
        let durability = self.sync.durability();
        let due = Due::now(profile.name(), stamp.clone(), &by, &self.reason);
        let mut warnings = Vec::new();
        let touched = profile.touch_due(&due, &[], durability, &mut warnings);
        for warning in warnings {
            say("warning: ", warning);
        }
        let touched = touched?;
        if touched.is_none() {
            say_left_to_first_boot();
        }
        let warnings: Vec<&str> = touched.iter().flat_map(Touched::warnings).collect();
        warnings
            .iter()
            .for_each(|warning| say("warning: ", warning));
        let refreshed = touched.as_ref().and_then(Touched::refreshed);
        let cures = touched.as_ref().map_or(&[][..], Touched::cures);
        let printed = match &touched {
            _ if self.quiet => Ok(()),
            _ if self.json => Report {
                profile: &profile,
                stamp: Some(&stamp),
                touched: touched.as_ref().map(|touched| touched.mtime),
                reasons: &[],
                why: Some(&self.reason),
                refreshed,
                cures,
                warnings: warnings.into_iter().map(str::to_owned).collect(),
                errors: Vec::new(),
            }
            .print(),
            None => Ok(()),
            Some(_) => {
                let text = [touch_of(&stamp, &self.which)].into_iter();
                let text = text.chain(refreshed.into_iter().flat_map(lines));
                print(text.chain(cures::lines(cures)).collect::<String>())
            }
        };
        // The exit status tells whether the stamp was touched, and it was.
        if let Err(error) = printed {
            say("warning: ", error);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a reason.
fn reason(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("a reason has at least one word; write it, or leave out “--reason”".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// One line on the touch. It tells an ordinary user whose answers it reaches.
fn touch_of(stamp: &Stamp, which: &Which) -> String {
    let path = stamp.path();
    let path = printable(&path);
    match stamp.owner() {
        Owner::System => format!("touched {path}\n"),
        Owner::User => format!(
            "touched {path}, which counts for you alone; as root, “{}” touches the system's stamp, \
             which counts for all\n",
            which.verb("touch")
        ),
    }
}
