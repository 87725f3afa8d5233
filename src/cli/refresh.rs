//! `modstamp refresh`: makes the caches of other programs good.

use modstamp::{Profile, RefreshedCaches, Which as Caches};

use super::log::sentence;
use super::report::{Done, Report, each};
use super::update::prints_to_journal;
use super::{ExitCode, Sync, Which, cures, end, libvirt, say, say_left_to_first_boot};

/// Make the caches of other programs good that a profile names, even if nothing changed
///
/// A profile names each cache and its remedy: its files are removed, a command makes them anew, or
/// libvirt probes again. Root makes the system's caches good, and other users are told the command.
/// A cache in a user's directory is made good by that user. Another user's file, or a link, is never
/// removed.
///
/// A command gets no shell, no standard input and a minute of time, or what the profile gives it.
/// Nobody but root and you may be able to replace its program. With --root, and while an image is
/// built (SOURCE_DATE_EPOCH is set), no command runs.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all caches are good, 1 if something failed, 2 if the arguments are wrong"
)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Do so for every profile of which something is installed. The JSON is an array
    #[arg(long, conflicts_with = "profile")]
    all: bool,
    /// Leave fresh caches alone: those that were made good since the stamp was touched
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    sync: Sync,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let refresh = |profile: &Profile| self.refresh(profile);
        end(each(&self.which, self.all, self.json, refresh), 1)
    }

    fn refresh(&self, profile: &Profile) -> anyhow::Result<Done> {
        let which = match self.stale {
            true => Caches::Stale,
            false => Caches::All,
        };
        let done = profile.refresh(which, self.sync.durability())?;
        if done.is_none() {
            say_left_to_first_boot();
        }
        cures::tell_of_root(profile, which, &self.which);
        let warnings: Vec<&str> = done.iter().flat_map(RefreshedCaches::warnings).collect();
        let errors = done.iter().flat_map(|done| &done.errors);
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        let refreshed = done.as_ref().and_then(RefreshedCaches::refreshed);
        let cures = done.as_ref().map_or(&[][..], RefreshedCaches::cures);
        warnings.iter().for_each(|it| say("warning: ", it));
        errors.iter().for_each(|error| say("", error));
        let is_well = errors.is_empty() && refreshed.is_none_or(|done| done.is_done);
        let libvirt = refreshed.into_iter().flat_map(libvirt::lines);
        let mut lines: Vec<String> = libvirt.chain(cures::lines(cures)).collect();
        let event = done.as_ref().and_then(RefreshedCaches::event);
        let logged = event.filter(|_| prints_to_journal());
        lines.extend(logged.map(|event| sentence(event) + "\n"));
        // The journal needs no line for each start of the unit.
        if lines.is_empty() && is_well && done.is_some() && !prints_to_journal() {
            lines.push("there was nothing to do\n".to_owned());
        }
        let json = Report {
            profile,
            stamp: None,
            touched: None,
            reasons: &[],
            why: done.as_ref().map(|done| done.why),
            refreshed,
            cures,
            warnings: warnings.into_iter().map(str::to_owned).collect(),
            errors,
        }
        .json();
        Ok(Done {
            json,
            text: lines.concat(),
            is_well,
        })
    }
}
