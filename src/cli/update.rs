//! `modstamp update`: touches the stamp for a change that no trigger saw.

use modstamp::{Commands, Owner, Profile, Stamp, Updated, Verdict, Which as Caches};
use serde_json::Value;

use super::libvirt::lines;
use super::log::sentence;
use super::report::{Done, Report, each};
use super::time::shown;
use super::{ExitCode, Sync, Which, cures, end, say, say_left_to_first_boot};

/// Touch the stamp if modules changed since its last touch: at boot, by a timer, or after “make
/// install”
///
/// A file beside the stamp records the modules at the last touch. If it is lost, the stamp is
/// touched.
///
/// Any user but root touches a stamp of their own, unless the change already moved the system's.
///
/// If the profile says so, an update also makes caches of other programs good that were not made
/// good since the last touch. It removes their files, runs a command, or makes libvirt probe again.
/// Root makes the system's caches good, and any other user their own. With --root no command runs.
///
/// On a read-only /usr, root cannot make users' own libvirts probe again. There, a user's update
/// removes the stale files from that user's libvirt cache.
///
/// While an image is built (SOURCE_DATE_EPOCH is set) and there is no stamp yet, nothing is written.
/// The first update on a host with that image makes the stamp.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if nothing changed or the stamp was touched, 1 if something failed or cannot be recorded, 2 if the arguments are wrong"
)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Do so for every profile of which something is installed. The JSON is an array
    #[arg(long, conflicts_with = "profile")]
    all: bool,
    #[command(flatten)]
    sync: Sync,
    /// Leave the commands of remedies to “modstamp refresh --stale”
    #[arg(long)]
    no_commands: bool,
    /// Print what was done, and why, as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let update = |profile: &Profile| self.update(profile);
        end(each(&self.which, self.all, self.json, update), 1)
    }

    fn update(&self, profile: &Profile) -> anyhow::Result<Done> {
        let commands = match self.no_commands {
            true => Commands::Leave,
            false => Commands::Run,
        };
        let Some(done) = profile.update_with(commands, self.sync.durability())? else {
            say_left_to_first_boot();
            return Ok(Done {
                json: report(profile, None)?,
                text: String::new(),
                is_well: true,
            });
        };
        cures::tell_of_root(profile, Caches::Stale, &self.which);
        let refreshed = done.refreshed();
        done.warnings()
            .for_each(|warning| say("warning: ", warning));
        done.errors.iter().for_each(|error| say("", error));
        let is_well = done.errors.is_empty() && refreshed.is_none_or(|done| done.is_done);
        let stamp = Stamp::own(profile.root(), profile.name())?;
        Ok(Done {
            json: report(profile, Some(&done))?,
            text: text(&done, stamp.owner(), is_well),
            is_well,
        })
    }
}

/// The report as JSON. `done` is `None` if an image is being built.
fn report(profile: &Profile, done: Option<&Updated>) -> anyhow::Result<Value> {
    let warnings = done.into_iter().flat_map(Updated::warnings);
    let errors = done.into_iter().flat_map(|done| &done.errors);
    let stamp = Stamp::own(profile.root(), profile.name())?;
    let report = Report {
        profile,
        stamp: Some(&stamp),
        touched: done.and_then(|done| done.touched),
        reasons: done.map_or(&[], |done| done.verdict.reasons()),
        why: done.and_then(Updated::event).map(|event| &*event.why),
        refreshed: done.and_then(Updated::refreshed),
        cures: done.map_or(&[], Updated::cures),
        warnings: warnings.map(str::to_owned).collect(),
        errors: errors.map(ToString::to_string).collect(),
    };
    Ok(report.json())
}

/// The report for people.
fn text(done: &Updated, owner: Owner, is_well: bool) -> String {
    let mut text = Vec::new();
    let what = match (done.touched, owner) {
        (Some(_), Owner::System) => "touched the stamp",
        (Some(_), Owner::User) => "touched your own stamp",
        (None, _) => "not touched",
    };
    let reasons = done.verdict.reasons_with_times(Verdict::MOST_LINES, shown);
    text.extend(reasons.iter().map(|reason| format!("{what}: {reason}\n")));
    // It can make libvirt probe again although the modules are as they were.
    let missed = done.event().filter(|_| done.verdict.is_fresh());
    text.extend(missed.map(|event| format!("{what}: {}\n", event.why)));
    text.extend(done.refreshed().into_iter().flat_map(lines));
    text.extend(cures::lines(done.cures()));
    // An update that systemd starts prints the log's line into the journal.
    let logged = done.event().filter(|_| prints_to_journal());
    text.extend(logged.map(|event| sentence(event) + "\n"));
    if text.is_empty() && is_well {
        text.push("nothing changed since the last touch\n".to_owned());
    }
    text.concat()
}

/// Whether standard output is the journal's (`JOURNAL_STREAM`, systemd.exec(5)).
pub fn prints_to_journal() -> bool {
    let Ok(stat) = rustix::fs::fstat(std::io::stdout()) else {
        return false;
    };
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
    std::env::var_os("JOURNAL_STREAM").is_some_and(|it| it == *stream)
}
