//! `modstamp trigger`: package managers start it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use modstamp::trigger::{self, Body, Due, Manager};
use modstamp::{Durability, Profile, Root, Touched, printable};

use super::{ExitCode, Sync, Which, say};

/// Touch the stamp if packages changed the profile's modules; package managers run this
///
/// If the profile says so, a touch also makes libvirt probe again. Trouble is only a warning,
/// because a package transaction must go on. The trigger waits for at most five seconds in all: for
/// the paths, for a look at the modules and for other touches. After that it touches the stamp.
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
        let (root, profiles) = (self.which.root(), [self.which.profile]);
        let durability = self.sync.durability();
        trigger(self.manager, root, &profiles, &self.directories, durability)
    }
}

/// Runs the trigger whose body is in the file `script`. rpm starts modstamp so at the end of a
/// transaction, by the name `rpm-transaction`.
pub fn rpm_transaction(script: Option<OsString>) -> ExitCode {
    let mut body = Body::read(script);
    let root = Root::system();
    let profiles = root.as_ref().map(|root| body.profiles(root));
    for warning in &body.warnings {
        say("warning: ", warning);
    }
    let profiles = profiles.unwrap_or_default();
    let directories: Vec<OsString> = body.directories.into_iter().map(OsString::from).collect();
    trigger(Manager::Rpm, root, &profiles, &directories, body.durability)
}

/// Runs a trigger, and refreshes libvirt if the profiles say so. `profiles` are names or paths.
fn trigger(
    manager: Manager,
    root: modstamp::Result<Root>,
    profiles: &[String],
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
    let watched: Vec<Watched> = profiles
        .iter()
        .map(|profile| Watched::load(profile, &root))
        .collect();
    // A directory that the trigger names counts, even if the profile lacks it.
    let is_named = |path: &Path| {
        let mut named = trigger::names(directories);
        named.any(|named| named.is_absolute() && path.starts_with(named))
    };
    let covers = |path: &Path| watched.iter().any(|it| it.covers(path)) || is_named(path);
    let touch = |due: &Due, warnings: &mut Vec<String>| {
        let mut watched = watched.iter();
        let watched = watched.find(|watched| watched.name == due.profile);
        let Some(profile) = watched.and_then(|watched| watched.or_built_in(&root)) else {
            return due.touch_stamp(durability, warnings);
        };
        let touched = touch_profile(&profile, due, directories, durability, warnings)?;
        let own = touched.iter().flat_map(Touched::warnings);
        warnings.extend(own.map(str::to_owned));
        Ok(touched.map(|touched| touched.mtime))
    };
    let names: Vec<String> = watched.iter().map(|it| it.name.clone()).collect();
    for warning in trigger::run(manager, &root, &names, covers, directories, touch) {
        say("warning: ", warning);
    }
    ExitCode::SUCCESS
}

/// Touches for a trigger. `None` while an image is built.
fn touch_profile(
    profile: &Profile,
    due: &Due,
    directories: &[OsString],
    durability: Durability,
    warnings: &mut Vec<String>,
) -> modstamp::Result<Option<Touched>> {
    let directories = trigger::names(directories).filter(|path| profile.covers(path));
    let directories: Vec<PathBuf> = directories.map(Path::to_owned).collect();
    profile.touch_due(due, &directories, durability, warnings)
}

/// A profile that a trigger watches.
struct Watched {
    name: String,
    /// `None` if it cannot be loaded.
    profile: Option<Profile>,
}

impl Watched {
    /// Loads a profile by its name or path. Tells of one that cannot be loaded.
    fn load(name: &str, root: &Root) -> Watched {
        let profile = Profile::load_in(name, root).inspect_err(|error| {
            let consequence = "so any path is taken for a module's";
            say("warning: ", format_args!("{error}; {consequence}"));
        });
        let profile = profile.ok();
        let stem = Path::new(name).file_stem().filter(|_| name.contains('/'));
        let name = stem.map_or(name.into(), OsStr::to_string_lossy);
        Watched {
            name: profile.as_ref().map_or(&*name, Profile::name).to_owned(),
            profile,
        }
    }

    fn covers(&self, path: &Path) -> bool {
        let covers = |profile: &Profile| profile.covers(path);
        self.profile.as_ref().is_none_or(covers)
    }

    /// The built-in profile stands in for one that cannot be loaded: a needless probe does less
    /// harm than a stale answer.
    fn or_built_in(&self, root: &Root) -> Option<Profile> {
        let profile = self.profile.clone();
        profile.or_else(|| Profile::built_in(&self.name, root))
    }
}
