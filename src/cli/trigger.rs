//! `modstamp trigger`: what package managers start.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use modstamp::trigger::{self, Manager};

use super::{Which, say, touch::durability};

/// For package managers: touch the stamp if a change concerns the profile's module directories
///
/// Never fails once its arguments parse: trouble is a warning, because a package transaction must go on.
#[derive(clap::Args)]
pub struct Arguments {
    /// Who starts it: rpm sends the paths that changed on standard input, one a line; dpkg none
    #[arg(value_enum)]
    manager: Starter,
    /// The directories that fired, from a package manager that passes them as arguments (dpkg)
    #[arg(value_name = "DIRECTORY")]
    directories: Vec<OsString>,
    #[command(flatten)]
    which: Which,
    /// Leave it to the system, or to a later touch, to write the stamp to disk
    #[arg(long)]
    no_sync: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Starter {
    Rpm,
    Dpkg,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let manager = match self.manager {
            Starter::Rpm => Manager::Rpm,
            Starter::Dpkg => Manager::Dpkg,
        };
        let root = match self.which.root() {
            Ok(root) => root,
            Err(error) => {
                say("warning: ", error);
                return ExitCode::SUCCESS;
            }
        };
        let profile = self.which.load_in(&root);
        let name = match &profile {
            Ok(profile) => profile.name().to_owned(),
            Err(error) => {
                say(
                    "warning: ",
                    format_args!("{error}; so any path is taken for a module's"),
                );
                self.which.name()
            }
        };
        let covers = |path: &Path| {
            profile
                .as_ref()
                .map_or(true, |profile| profile.covers(path))
        };
        let sync = durability(self.no_sync);
        let done = trigger::run(manager, &root, &name, covers, &self.directories, sync);
        for warning in done.warnings {
            say("warning: ", warning);
        }
        ExitCode::SUCCESS
    }
}
