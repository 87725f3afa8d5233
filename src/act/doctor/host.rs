//! The host under examination: its root directory, and the profiles of which something is
//! installed.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use crate::act::doctor::names::{MODULES, PROFILE};
use crate::act::doctor::report::{Blind, Examination, Seen};
use crate::act::kept_witness::KeptWitness;
use crate::act::look::Look;
use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::ground::error::Error;
use crate::ground::text::{Printable, is_unsafe};
use crate::ground::time::Mtime;
use crate::judge::reason::Reason;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::stamp::Stamp;

/// The longest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// The longest database or log, in bytes. dpkg's status file has some megabytes.
const MOST_BYTES_OF_DATABASE: u64 = 64 << 20;

/// The most files that a check reads because another file names them.
pub(crate) const MOST_FILES: usize = 100;

/// The program that the triggers of dpkg, pacman and apk start.
pub(crate) const PROGRAM: &str = "/usr/bin/modstamp";

/// The end of the reason for a remedy that installs a package of modstamp's. There may be no
/// repository with it.
pub(crate) const UNBUILT: &str =
    "; if no repository has the package, build it: see “Install” in the README of modstamp";

/// A profile of which a module directory or a program exists.
pub(crate) struct InUse {
    pub(crate) profile: Profile,
    pub(crate) stamp: Stamp,
    /// The modules at the stamp's last touch.
    pub(crate) kept: Arc<KeptWitness>,
    pub(crate) inputs: Inputs,
    /// The paths of inputs at which nobody could look. What is below them is not known.
    hidden: Vec<PathBuf>,
}

impl InUse {
    pub(crate) fn name(&self) -> &str {
        self.profile.name()
    }

    /// The module directories that were seen, each with the names of its modules below it.
    pub(crate) fn directories(&self) -> impl Iterator<Item = (&Path, Vec<&Path>)> {
        let directories = self.inputs.module_directories();
        directories.filter(|(path, _)| !self.hidden.iter().any(|hidden| hidden == path))
    }

    /// The programs that were seen.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &Path> {
        let programs = self.inputs.programs();
        programs.filter(|path| !self.hidden.iter().any(|hidden| hidden == path))
    }

    pub(crate) fn is_all_seen(&self) -> bool {
        self.hidden.is_empty()
    }

    /// Whether something is known to have changed: a hidden input is not known to be gone.
    pub(crate) fn is_known(&self, reason: &Reason) -> bool {
        match reason {
            Reason::Removed(subject) => {
                let mut hidden = self.hidden.iter();
                !hidden.any(|hidden| subject.path.starts_with(hidden))
            }
            Reason::Unknown { .. } | Reason::UnknownStamp { .. } | Reason::NotRead(_) => false,
            _ => true,
        }
    }
}

/// The host under examination.
pub(crate) struct Host {
    pub(crate) root: Root,
    /// All profiles that could be loaded.
    pub(crate) profiles: Vec<Profile>,
    pub(crate) in_use: Vec<InUse>,
    /// The errors of the profiles that are wrong, each with its name.
    pub(crate) errors: Vec<(String, Error)>,
}

impl Host {
    /// Loads the profiles, and looks at their inputs. Reports those at which it could not look.
    pub(crate) fn of(root: &Root, looks: &[Look], report: &mut Examination) -> Host {
        let mut host = Host {
            root: root.clone(),
            profiles: Vec::new(),
            in_use: Vec::new(),
            errors: Vec::new(),
        };
        let (names, unread) = Profile::names_seen(root);
        for (directory, cause) in unread {
            let blind = host.blind("list", &directory, &cause);
            report.blind(PROFILE, blind);
        }
        for name in names {
            match Profile::load_in(&name, root) {
                Ok(profile) => {
                    let in_use = host.in_use(&profile, looks, report);
                    host.in_use.extend(in_use);
                    host.profiles.push(profile);
                }
                Err(error) => match host.blind_by(&error) {
                    Some(blind) => report.blind(PROFILE, blind),
                    None => host.errors.push((name, error)),
                },
            }
        }
        host
    }

    /// A profile's state on this host. `None` if nothing was seen of what it names.
    fn in_use(&self, profile: &Profile, looks: &[Look], report: &mut Examination) -> Option<InUse> {
        let profile = profile.of_packages();
        let look = looks.iter().find(|it| it.profile.name() == profile.name());
        let because = |error| self.blind_because(&error);
        let stamp = Stamp::system(profile.root(), profile.name()).map_err(because);
        let stamp = report.seen(MODULES, stamp)?;
        let kept = match look.map(|look| &look.kept) {
            Some(kept) if kept.observation().is_some() => Arc::clone(kept),
            _ => {
                let kept = KeptWitness::of_system(&stamp);
                let kept = kept.or_else(|error| match self.blind_by(&error) {
                    Some(blind) => Err(blind),
                    None => Ok(KeptWitness::Unknown), // Another check finds the fault.
                });
                let kept = report.seen(MODULES, kept);
                Arc::new(kept.unwrap_or(KeptWitness::Unknown))
            }
        };
        let shared = look.and_then(|look| look.inputs.as_of(&look.profile, &profile));
        let inputs = shared.map_or_else(|| Inputs::of(&profile, kept.observation()), Ok);
        let inputs = report.seen(MODULES, inputs.map_err(because))?;
        let mut hidden = inputs.shut().to_vec();
        for path in &hidden {
            report.blind(
                MODULES,
                self.blind("look into", path, &Errno::ACCESS.into()),
            );
        }
        for reason in inputs.unknown() {
            report.blind(MODULES, self.blind_to(&reason));
            if let Reason::Unknown { subject, .. } = reason {
                hidden.push(subject.path);
            }
        }
        let it = InUse {
            profile,
            stamp,
            kept,
            inputs,
            hidden,
        };
        let is_in_use = it.directories().next().is_some() || it.programs().next().is_some();
        is_in_use.then_some(it)
    }

    /// The profile `qemu`, for which modstamp has packages, if QEMU is installed.
    pub(crate) fn qemu(&self) -> Option<&InUse> {
        self.in_use.iter().find(|it| it.name() == "qemu")
    }

    /// A path for people, as seen from outside the root.
    pub(crate) fn shown(&self, path: &Path) -> String {
        Printable(self.root.outside(path).as_os_str()).to_string()
    }

    /// The state of what is at `path`, links followed. `None` if nothing is there.
    pub(crate) fn stat(&self, path: &Path) -> Seen<Option<Stat>> {
        self.look(path, self.root.look(path))
    }

    /// The state of what is at `path`, of a link itself. `None` if nothing is there.
    pub(crate) fn stat_itself(&self, path: &Path) -> Seen<Option<Stat>> {
        self.look(path, self.root.stat(path))
    }

    /// Whether two paths lead to one file, links followed.
    pub(crate) fn is_same(&self, one: &Path, other: &Path) -> Seen<bool> {
        let number = |stat: Stat| (stat.st_dev, stat.st_ino);
        let (one, other) = (self.stat_of_end(one)?, self.stat_of_end(other)?);
        Ok(one.is_some() && one.map(number) == other.map(number))
    }

    pub(crate) fn is_directory(&self, path: &Path) -> Seen<bool> {
        let stat = self.stat_of_end(path)?;
        Ok(stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()))
    }

    /// Whether a program can be started.
    pub(crate) fn is_program(&self, path: &Path) -> Seen<bool> {
        let is_program = |stat: Stat| {
            FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_mode & 0o111 != 0
        };
        Ok(self.stat_of_end(path)?.is_some_and(is_program))
    }

    /// Like `stat`, but links that form a circle lead to nothing.
    fn stat_of_end(&self, path: &Path) -> Seen<Option<Stat>> {
        match self.root.look(path) {
            Err(stop) if stop.leads_nowhere() => Ok(None),
            stat => self.look(path, stat),
        }
    }

    /// The names in a directory, sorted. There are none if it is missing.
    pub(crate) fn names(&self, path: &Path) -> Seen<Vec<PathBuf>> {
        let names = match self.root.names(path, Steps::Any) {
            Err(stop) if stop.is_missing() => Vec::new(),
            names => names.map_err(|stop| self.blind("list", path, &stop.into()))?,
        };
        let mut names: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        names.sort();
        Ok(names)
    }

    /// The text of a file. `None` if there is no such file.
    pub(crate) fn text(&self, path: &Path) -> Seen<Option<String>> {
        self.text_of(MOST_BYTES, path)
    }

    /// Like `text`, for a package manager's database or log.
    pub(crate) fn database(&self, path: &Path) -> Seen<Option<String>> {
        self.text_of(MOST_BYTES_OF_DATABASE, path)
    }

    fn text_of(&self, most_bytes: u64, path: &Path) -> Seen<Option<String>> {
        let read = match self.root.read(path, Steps::Any) {
            Ok(file) => read_at_most(most_bytes, file),
            Err(stop) if stop.is_missing() => return Ok(None),
            Err(stop) => Err(stop.into()),
        };
        match read {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(cause) => Err(self.blind("read", path, &cause)),
        }
    }

    /// The flags of the mount that `path` is on. `None` if nothing is there.
    pub(crate) fn mount_flags(&self, path: &Path) -> Seen<Option<StatVfsMountFlags>> {
        let place = match self.root.place(path, Steps::Any) {
            Err(stop) if stop.is_missing() => return Ok(None),
            place => self.look(path, place)?,
        };
        let disk = rustix::fs::fstatvfs(place).map_err(Stop::from);
        Ok(Some(self.look(path, disk)?.f_flag))
    }

    /// The mtime of a stamp. `None` if it was never touched, or is no stamp, which `stamps::exist`
    /// finds.
    pub(crate) fn touched(&self, it: &InUse) -> Seen<Option<Mtime>> {
        match it.stamp.mtime() {
            Ok(touched) => Ok(touched),
            Err(error) => self.blind_by(&error).map_or(Ok(None), Err),
        }
    }

    fn look<T>(&self, path: &Path, looked: std::result::Result<T, Stop>) -> Seen<T> {
        looked.map_err(|stop| self.blind("look at", path, &stop.into()))
    }

    /// A look that failed. `attempt` continues “cannot …”.
    pub(crate) fn blind(&self, attempt: &str, path: &Path, cause: &io::Error) -> Blind {
        Blind {
            seen: format!("cannot {attempt} {}: {cause}", self.shown(path)),
            remedy: self.again(Errno::from_io_error(cause), path),
        }
    }

    /// A look that failed by an error of the system's. `None` for any other error.
    pub(crate) fn blind_by(&self, error: &Error) -> Option<Blind> {
        let Error::System { attempt, path, .. } = error else {
            return None;
        };
        let (errno, path) = (error.errno()?, Printable(path.as_os_str()));
        Some(Blind {
            seen: format!("cannot {attempt} {path}: {}", io::Error::from(errno)),
            remedy: self.again(Some(errno), Path::new("/")),
        })
    }

    /// A look that failed by any error.
    pub(crate) fn blind_because(&self, error: &Error) -> Blind {
        self.blind_by(error).unwrap_or_else(|| Blind {
            seen: error.to_string(),
            remedy: self.again(None, Path::new("/")),
        })
    }

    /// A look at an input that failed.
    pub(crate) fn blind_to(&self, reason: &Reason) -> Blind {
        Blind {
            seen: reason.to_string(),
            remedy: self.again(Some(Errno::ACCESS), Path::new("/")),
        }
    }

    /// The command that looks again after an error, or that shows more of what is at `path`.
    pub(crate) fn again(&self, errno: Option<Errno>, path: &Path) -> String {
        let is_root = rustix::process::geteuid().is_root();
        let doctor = match self.root.is_system() {
            true => "modstamp doctor".to_owned(),
            false => {
                let root = self.root.outside(Path::new("/"));
                format!("modstamp doctor --root {}", shell_word(root))
            }
        };
        match errno {
            Some(Errno::ACCESS | Errno::PERM) if !is_root => format!("sudo {doctor}"),
            Some(Errno::MFILE) => format!("ulimit -n 1024; {doctor}"),
            Some(Errno::ISDIR | Errno::LOOP | Errno::FBIG) => {
                format!("ls -ld {}", shell_word(self.root.outside(path)))
            }
            _ => doctor,
        }
    }
}

/// A text as one word of a shell command, without characters that a terminal obeys.
pub(crate) fn shell_word(text: impl AsRef<OsStr>) -> String {
    let text = text.as_ref();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-:@%,=".contains(c);
    match text.to_str().filter(|text| !text.contains(is_unsafe)) {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        // In $'…', ksh, bash and zsh read the escapes that Printable writes. dash does not know
        // $'…', so no quote may be in it.
        None => format!("$'{}'", Printable(text).to_string().replace('\'', r"\x27")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    #[test]
    fn a_shell_reads_a_word_back_as_the_path_that_it_was() {
        for path in [
            "/a b",
            "/it's",
            "/it's\n",
            "/a\x1b[2J\n",
            "/$HOME/`id`",
            "/back\\slash",
            "/é",
            "",
        ] {
            let script = format!("printf %s {}", shell_word(path));
            let output = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(output.stdout, OsStr::new(path).as_bytes(), "{script}");
            assert!(!script.contains(|c: char| c.is_control()), "{script:?}");
        }
        for path in ["/it's;echo ran;", "/it's;echo ran;\n"] {
            let script = format!("printf '<%s>' {}", shell_word(path));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(said.starts_with('<') && said.ends_with('>'), "{said}");
        }
        assert_eq!(shell_word("/var/lib/a.stamp"), "/var/lib/a.stamp");
    }
}
