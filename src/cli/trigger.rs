//! `modstamp trigger`: package managers start it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use modstamp::trigger::{self, Body, Manager};
use modstamp::{Durability, Profile, Root, Stamp, Touched, printable};

use super::{Sync, Which, say};

/// For package managers: touch the stamp if a change concerns the profile's module directories
///
/// A touch also makes libvirt probe again, if the profile says so. Trouble is only a warning,
/// because a package transaction must go on.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: always 0, so that no transaction fails; 2 if the arguments are wrong"
)]
pub struct Arguments {
    /// The package manager: rpm and pacman send the changed paths on standard input, one a line;
    /// dpkg and apk send none
    #[arg(value_enum)]
    manager: Manager,
    /// The changed directories, if the package manager or its hook names them (dpkg, apk, pacman)
    #[arg(value_name = "DIRECTORY")]
    directories: Vec<OsString>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    sync: Sync,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let manager = self.manager;
        let root = self.which.root();
        let profile = |root: &Root| self.which.load_in(root);
        let durability = self.sync.durability();
        // dpkg may pass the name of another trigger, which is no path.
        let words = self.directories.iter().map(Path::new);
        for word in words.filter(|word| !word.is_absolute() && !matches!(manager, Manager::Dpkg)) {
            say(
                "warning: ",
                format_args!(
                    "“{}” is not the absolute path of a directory; a profile is named by --profile",
                    printable(word)
                ),
            );
        }
        trigger(
            manager,
            root,
            &self.which.name(),
            profile,
            &self.directories,
            durability,
        )
    }
}

/// Runs the trigger whose body is in the file `script`. rpm starts modstamp so at the end of a
/// transaction, by the name `rpm-transaction`.
pub fn rpm_transaction(script: Option<OsString>) -> ExitCode {
    let body = Body::read(script);
    for warning in &body.warnings {
        say("warning: ", warning);
    }
    let profile = |root: &Root| Profile::load_in(&body.profile, root);
    let directories: Vec<OsString> = body.directories.into_iter().map(OsString::from).collect();
    trigger(
        Manager::Rpm,
        Root::system(),
        &body.profile,
        profile,
        &directories,
        body.durability,
    )
}

/// Runs a trigger, and refreshes libvirt if the profile says so.
fn trigger(
    manager: Manager,
    root: modstamp::Result<Root>,
    name: &str,
    load: impl FnOnce(&Root) -> modstamp::Result<Profile>,
    directories: &[OsString],
    durability: Durability,
) -> ExitCode {
    let root = match root {
        Ok(root) => root,
        Err(error) => {
            say("warning: ", error);
            return ExitCode::SUCCESS;
        }
    };
    let profile = load(&root);
    let name = match &profile {
        Ok(profile) => profile.name(),
        Err(error) => {
            say(
                "warning: ",
                format_args!("{error}; so any path is taken for a module's"),
            );
            name
        }
    };
    // A directory that the trigger names counts, even if the profile lacks it.
    let covers = |path: &Path| {
        profile
            .as_ref()
            .map_or(true, |profile| profile.covers(path))
            || trigger::names(directories)
                .any(|named| named.is_absolute() && path.starts_with(named))
    };
    // The built-in profile stands in for one that cannot be read: a needless probe does less harm
    // than a stale answer.
    let built_in = Profile::built_in(name, &root);
    let touch = |stamp: &Stamp, by: &str, why: &str| {
        let Some(profile) = profile.as_ref().ok().or(built_in.as_ref()) else {
            return stamp.touch(by, why, durability);
        };
        let directories = trigger::names(directories).filter(|path| profile.covers(path));
        let directories: Vec<PathBuf> = directories.map(Path::to_owned).collect();
        let touched = profile.touch(stamp, by, why, &directories, durability)?;
        let warnings = touched.iter().flat_map(Touched::warnings);
        warnings.for_each(|warning| say("warning: ", warning));
        Ok(touched.map(|touched| touched.mtime))
    };
    let done = trigger::run(manager, &root, name, covers, directories, touch);
    for warning in done.warnings {
        say("warning: ", warning);
    }
    ExitCode::SUCCESS
}
