//! `modstamp trigger`: package managers start it.

use std::ffi::{OsStr, OsString};
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
        // dpkg may pass the name of another trigger, which is no path.
        let is_wrong = |word: &&Path| !word.is_absolute() && !matches!(self.manager, Manager::Dpkg);
        for word in self.directories.iter().map(Path::new).filter(is_wrong) {
            let word = printable(word);
            say(
                "warning: ",
                format_args!(
                    "“{word}” is not the absolute path of a directory; \
                     a profile is named by --profile"
                ),
            );
        }
        let (root, profile) = (self.which.root(), &self.which.profile);
        let durability = self.sync.durability();
        trigger(self.manager, root, profile, &self.directories, durability)
    }
}

/// Runs the trigger whose body is in the file `script`. rpm starts modstamp so at the end of a
/// transaction, by the name `rpm-transaction`.
pub fn rpm_transaction(script: Option<OsString>) -> ExitCode {
    let body = Body::read(script);
    for warning in &body.warnings {
        say("warning: ", warning);
    }
    let (root, profile) = (Root::system(), &body.profile);
    let directories: Vec<OsString> = body.directories.into_iter().map(OsString::from).collect();
    trigger(Manager::Rpm, root, profile, &directories, body.durability)
}

/// Runs a trigger, and refreshes libvirt if the profile says so. `profile` is a name or a path.
fn trigger(
    manager: Manager,
    root: modstamp::Result<Root>,
    profile: &str,
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
    let name = Path::new(profile)
        .file_stem()
        .filter(|_| profile.contains('/'));
    let name = name.map_or(profile.into(), OsStr::to_string_lossy);
    let profile = Profile::load_in(profile, &root).inspect_err(|error| {
        let consequence = "so any path is taken for a module's";
        say("warning: ", format_args!("{error}; {consequence}"));
    });
    let profile = profile.ok();
    let name = profile.as_ref().map_or(&*name, Profile::name);
    // A directory that the trigger names counts, even if the profile lacks it.
    let is_named = |path: &Path| {
        let mut named = trigger::names(directories);
        named.any(|named| named.is_absolute() && path.starts_with(named))
    };
    let covers = |path: &Path| {
        let covers = |profile: &Profile| profile.covers(path);
        profile.as_ref().is_none_or(covers) || is_named(path)
    };
    // The built-in profile stands in for one that cannot be read: a needless probe does less harm
    // than a stale answer.
    let built_in = Profile::built_in(name, &root);
    let touch = |stamp: &Stamp, by: &str, why: &str| {
        let Some(profile) = profile.as_ref().or(built_in.as_ref()) else {
            return stamp.touch(by, why, durability);
        };
        let directories = trigger::names(directories).filter(|path| profile.covers(path));
        let directories: Vec<PathBuf> = directories.map(Path::to_owned).collect();
        let touched = profile.touch(stamp, by, why, &directories, durability)?;
        let warnings = touched.iter().flat_map(Touched::warnings);
        warnings.for_each(|warning| say("warning: ", warning));
        Ok(touched.map(|touched| touched.mtime))
    };
    for warning in trigger::run(manager, &root, name, covers, directories, touch) {
        say("warning: ", warning);
    }
    ExitCode::SUCCESS
}
