//! The host under examination: its root directory, and the profiles of which something is
//! installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::act::doctor::report::Examination;
use crate::act::kept_witness::KeptWitness;
use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::way::Steps;
use crate::ground::error::Error;
use crate::ground::text::{Printable, is_unsafe};
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::stamp::Stamp;

/// The longest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// The longest database or log, in bytes. dpkg's status file has some megabytes.
const MOST_BYTES_OF_DATABASE: u64 = 64 << 20;

/// The most files that a check reads because another file names them.
pub(crate) const MOST_FILES: usize = 100;

/// The seconds that another program may take to answer, for timeout(1).
const PATIENCE: &str = "5";

/// The directories of the programs that are asked.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The beginning of a remedy for another root. Outside, a link in that tree could lead the command
/// to a file of this system, and chroot(1) would start programs that anybody may have made.
pub(crate) const INSIDE: &str = "inside that system: ";

/// The program that the triggers of dpkg, pacman and apk start.
pub(crate) const PROGRAM: &str = "/usr/bin/modstamp";

/// A profile of which a module directory or a program exists.
pub(crate) struct InUse {
    pub(crate) profile: Profile,
    pub(crate) stamp: Stamp,
    /// The modules at the stamp's last touch.
    pub(crate) kept: KeptWitness,
    pub(crate) inputs: Inputs,
}

impl InUse {
    /// `None` if nothing of the profile is installed.
    fn of(profile: &Profile) -> Result<Option<InUse>, Error> {
        let profile = profile.of_packages();
        let stamp = Stamp::system(profile.root(), profile.name())?;
        let kept = KeptWitness::read(&profile, &stamp);
        let inputs = Inputs::of(&profile, kept.observation())?;
        let is_in_use =
            inputs.module_directories().next().is_some() || inputs.programs().next().is_some();
        Ok(is_in_use.then_some(InUse {
            profile,
            stamp,
            kept,
            inputs,
        }))
    }

    pub(crate) fn name(&self) -> &str {
        self.profile.name()
    }
}

/// The host under examination.
pub(crate) struct Host {
    pub(crate) root: Root,
    /// All profiles that could be loaded.
    pub(crate) profiles: Vec<Profile>,
    pub(crate) in_use: Vec<InUse>,
    /// The errors of the profiles that could not be loaded, each with its name.
    pub(crate) errors: Vec<(String, Error)>,
}

impl Host {
    pub(crate) fn of(root: &Root) -> Host {
        let mut host = Host {
            root: root.clone(),
            profiles: Vec::new(),
            in_use: Vec::new(),
            errors: Vec::new(),
        };
        for name in Profile::names(root) {
            let loaded = Profile::load_in(&name, root).and_then(|profile| {
                let in_use = InUse::of(&profile)?;
                Ok((profile, in_use))
            });
            match loaded {
                Ok((profile, in_use)) => {
                    host.profiles.push(profile);
                    host.in_use.extend(in_use);
                }
                Err(error) => host.errors.push((name, error)),
            }
        }
        host
    }

    /// The profile `qemu`, for which modstamp has packages, if QEMU is installed.
    pub(crate) fn qemu(&self) -> Option<&InUse> {
        self.in_use.iter().find(|it| it.name() == "qemu")
    }

    /// A path for people, as seen from outside the root.
    pub(crate) fn shown(&self, path: &Path) -> String {
        Printable(self.root.outside(path).as_os_str()).to_string()
    }

    /// The state of what is at `path`, links followed. `None` if it cannot be reached.
    pub(crate) fn stat(&self, path: &Path) -> Option<Stat> {
        self.root.target(path)
    }

    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        let stat = self.stat(path);
        stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
    }

    /// Whether a program can be started.
    pub(crate) fn is_program(&self, path: &Path) -> bool {
        let is_program = |stat: Stat| {
            FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_mode & 0o111 != 0
        };
        self.stat(path).is_some_and(is_program)
    }

    /// The names in a directory, sorted. There are none if it is missing or cannot be read.
    pub(crate) fn names(&self, path: &Path) -> Vec<PathBuf> {
        let names = self.root.names(path).unwrap_or_default();
        let mut names: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        names.sort();
        names
    }

    /// The text of a file, for `check`. `None` if there is no such file, or if it cannot be read.
    /// The latter is reported as unseen.
    pub(crate) fn text(
        &self,
        check: &'static str,
        path: &Path,
        report: &mut Examination,
    ) -> Option<String> {
        self.text_of(MOST_BYTES, check, path, report)
    }

    /// Like `text`, for a package manager's database or log.
    pub(crate) fn database(
        &self,
        check: &'static str,
        path: &Path,
        report: &mut Examination,
    ) -> Option<String> {
        self.text_of(MOST_BYTES_OF_DATABASE, check, path, report)
    }

    fn text_of(
        &self,
        most_bytes: u64,
        check: &'static str,
        path: &Path,
        report: &mut Examination,
    ) -> Option<String> {
        let read = match self.root.read(path, Steps::Any) {
            Ok(file) => read_at_most(most_bytes, file),
            Err(stop) if stop.leads_nowhere() => return None,
            Err(stop) => Err(stop.into()),
        };
        match read {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(cause) => {
                let seen = format!("cannot read {}: {cause}", self.shown(path));
                report.unseen(check, seen, self.as_root());
                None
            }
        }
    }

    /// The command that runs the doctor as root.
    pub(crate) fn as_root(&self) -> String {
        match self.root.is_system() {
            true => "sudo modstamp doctor".to_owned(),
            false => {
                let root = self.root.outside(Path::new("/"));
                format!("sudo modstamp doctor --root {}", shell_word(root))
            }
        }
    }
}

/// Asks a program of the running system. Returns its standard output.
///
/// The program gets none of the caller's variables. rpm would run the macros in another user's
/// `$HOME/.rpmmacros`, even as root.
///
/// # Errors
/// A sentence, if the program cannot be started or takes too long. Its own exit status is no error.
pub(crate) fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    // The exit statuses by which timeout(1) says that the program did not start or end by itself.
    const NO_ANSWERS: [i32; 4] = [124, 125, 126, 127];
    let mut command = Command::new("timeout");
    command.args(["-k", "1", PATIENCE, program]).args(arguments);
    command.env_clear().stdin(Stdio::null());
    command.envs([("PATH", PATH), ("LC_ALL", "C"), ("HOME", "/")]);
    let output = command
        .output()
        .map_err(|cause| format!("timeout(1) cannot be started: {cause}"))?;
    match output.status.code() {
        // A program that SIGTERM does not end takes timeout(1) with it.
        Some(124 | 137) | None => Err(format!("{program} did not answer in {PATIENCE} seconds")),
        Some(code) if !NO_ANSWERS.contains(&code) => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        _ => Err(format!("{program} cannot be started")),
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

/// Whether the system refused because the caller lacks a right.
pub(crate) fn is_forbidden(error: &Error) -> bool {
    match error {
        Error::System { cause, .. } => cause.raw_os_error() == Some(Errno::ACCESS.raw_os_error()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

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

    #[test]
    fn the_doctor_starts_nothing_by_a_users_rpm_macros() {
        let variables = ask("env", &[]).unwrap();
        let mut variables: Vec<&str> = variables.lines().collect();
        variables.sort();
        let path = format!("PATH={PATH}");
        assert_eq!(variables, ["HOME=/", "LC_ALL=C", &path]);
    }

    #[test]
    fn a_program_that_does_not_heed_its_end_is_not_waited_for() {
        let begin = std::time::Instant::now();
        let error = ask("sh", &["-c", "trap '' TERM; sleep 60"]).unwrap_err();
        assert!(begin.elapsed().as_secs() < 30, "{error}");
        assert_eq!(error, "sh did not answer in 5 seconds");
    }
}
